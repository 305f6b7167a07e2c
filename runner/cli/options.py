"""What several commands share: their playbook arguments, and how these are loaded."""

from __future__ import annotations

from typing import Any

import click

from runner.errors import PlaybookInvalid, UsageError
from runner.plan import Play
from runner.problems import Problem


class _ExtraVars(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`name=value`, `{name: value, …}` as YAML or JSON, or `@file` with such a mapping."""

    name = "k=v|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if not isinstance(value, str):
            return dict(value)
        if value.startswith("@"):
            return self._read_mapping(_read(value[1:]), value)
        if value.lstrip().startswith("{"):
            return self._read_mapping(value, "--extra-vars")
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r} is not name=value, a mapping or @file", param, ctx)
        return {name: text}

    def _read_mapping(self, text: str, shown_as: str) -> dict[str, Any]:
        from runner.playbook.document import PositionedMap, parse

        try:
            data = parse(text, shown_as)
        except PlaybookInvalid as error:
            raise _not_a_mapping(error) from error
        if not isinstance(data, PositionedMap):
            raise UsageError(f"{shown_as}: extra vars must be a mapping of names to values")
        return data


def _read(path: str) -> str:
    from pathlib import Path

    from runner.playbook.document import read_text

    try:
        return read_text(Path(path), path)
    except PlaybookInvalid as error:
        raise _not_a_mapping(error) from error
    except OSError as error:
        raise UsageError(f"cannot read the extra vars file {path}: {error.strerror}") from error


def _not_a_mapping(error: PlaybookInvalid) -> UsageError:
    """The first problem of extra vars: these stand on the command line, so they are no problem of the playbook."""
    first = error.problems[0]
    return UsageError(f"{first.location}: {first.message}", hint=first.hint)


def _merge(ctx: click.Context, param: click.Parameter, values: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        merged |= value
    return merged


playbook_arguments = click.argument("playbooks", metavar="FILE...", nargs=-1, required=True)
extra_vars_option = click.option(
    "-e",
    "--extra-vars",
    "extra_vars",
    type=_ExtraVars(),
    multiple=True,
    callback=_merge,
    help="Set a variable, taken literally; wins over the playbook's. May be given several times.",
)
workdir_option = click.option(
    "--workdir", metavar="DIR", help="The folder that local paths are relative to. Default: the playbook's own."
)


def load_all(playbooks: tuple[str, ...], extra_vars: dict[str, Any], workdir: str | None) -> list[Play]:
    """Every playbook, loaded. Raises `PlaybookInvalid` with the problems of all of them together."""
    from runner.playbook.build import load_play

    plays: list[Play] = []
    problems: list[Problem] = []
    for path in playbooks:
        try:
            plays.append(load_play(path, extra_vars=extra_vars, workdir=workdir))
        except PlaybookInvalid as error:
            problems += error.problems
    if problems:
        raise PlaybookInvalid(problems)
    return plays
