"""A command group with a default command: `search SPEC` searches, `search status RUN` is a subcommand."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """A group that runs its first command if the first argument names no subcommand; --help shows that command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [self._default, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == self._default else name, command, rest  # the usage line shows the name of the group

    @property
    def _default(self) -> str:
        return next(iter(self.commands))
