"""Commands that consist of commands."""

from __future__ import annotations

import click


class HelpWanted(click.UsageError):
    """Nothing was asked for, so the help is shown: wrong usage all the same, since a script has left its command out."""

    def __init__(self, ctx: click.Context) -> None:
        super().__init__(ctx.get_help(), ctx)


class CommandGroup(click.Group):
    """A group that shows its help when it is called without a command, in every version of click the same way."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise HelpWanted(ctx)
        return super().parse_args(ctx, args)
