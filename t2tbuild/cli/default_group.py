"""A command that is also a group: `search SPEC` searches, `search status RUN` looks at a run."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """Takes what names none of its commands as the arguments of its first, whose help is the group's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [self._first, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == self._first else name, command, rest  # usage shows the group's own name

    @property
    def _first(self) -> str:
        return next(iter(self.commands))
