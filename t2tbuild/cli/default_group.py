"""A command that is also a group: `search SPEC` searches, `search status RUN` looks at a run."""

from __future__ import annotations

import click
from typer.core import TyperGroup


class DefaultGroup(TyperGroup):
    """Takes what names none of its commands as the arguments of its first, whose help is the group's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)
