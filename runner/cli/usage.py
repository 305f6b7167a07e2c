"""What is wrong with a command line that click refuses, and what to do about it."""

from __future__ import annotations

import re

import click

from runner.suggestions import find_meant

_NO_COMMAND = re.compile(r"No such command '(.*)'\.?", re.DOTALL)


def explain_usage(error: click.ClickException) -> tuple[str, str]:
    """The message and the hint. What was probably meant is ours to say: click goes by the letters alone."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return error.format_message(), ""
    where = f"`{error.ctx.command_path} --help` shows how it is used."
    found: tuple[str, ...] | None = None
    if isinstance(error, click.NoSuchOption):
        options = {name for one in error.ctx.command.get_params(error.ctx) for name in (*one.opts, *one.secondary_opts)}
        found = find_meant(error.option_name, (name for name in options if name.startswith("--")))
    elif (unknown := _NO_COMMAND.fullmatch(error.message)) and isinstance(error.ctx.command, click.Group):
        found = find_meant(unknown[1], error.ctx.command.list_commands(error.ctx))
    if found is None:
        return error.format_message(), where
    meant = f"Did you mean {' or '.join(repr(name) for name in found)}? " if found else ""
    return error.message, meant + where
