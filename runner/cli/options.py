"""What several commands share: their playbook arguments, and how these are loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runner.errors import PlaybookInvalid, UsageError
from runner.logins import LookAtLogins, Selection, trust_logins
from runner.playbook.vault_password import ENVIRONMENT_NAMES, OPTION, Vault
from runner.problems import Problem
from runner.program import Play
from runner.redaction import Redactor
from runner.report.console import print_warning
from runner.report.text import printable

_VAULT = "runner.vault"

Value = TypeVar("Value")


class _ExtraVars(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`name=value`, `{name: value, …}` as YAML or JSON, or `@file` with such a mapping."""

    name = "k=v|@file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if not isinstance(value, str):
            return dict(value)
        # The vault's option is eager: it is there already, wherever on the command line it stands.
        vault = ctx.meta.get(_VAULT) if ctx else None
        vault = vault or Vault(None, Redactor())
        if value.startswith("@"):
            return _read_file(value[1:], vault)
        if value.lstrip().startswith("{"):
            return _read_mapping(value, "--extra-vars", vault)
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r} is not name=value, a mapping or @file", param, ctx)
        return {name: text}


def _read_mapping(text: str, shown_as: str, vault: Vault) -> dict[str, Any]:
    from runner.playbook.document import PositionedMap, parse

    try:
        data = parse(text, shown_as, vault)
    except PlaybookInvalid as error:
        raise _not_a_mapping(error) from error
    if not isinstance(data, PositionedMap):
        raise UsageError(f"{shown_as}: extra vars must be a mapping of names to values")
    return data


def _read_file(path: str, vault: Vault) -> dict[str, Any]:
    """The mapping in a file. What stands in one that is encrypted as a whole is secret."""
    from pathlib import Path

    from runner.playbook.document import read_text
    from runner.playbook.secrets import note_values

    try:
        text, was_encrypted = read_text(Path(path), path, vault)
    except PlaybookInvalid as error:
        raise _not_a_mapping(error) from error
    except OSError as error:
        raise UsageError(f"cannot read the extra vars file {path}: {error.strerror}") from error
    mapping = _read_mapping(text, f"@{path}", vault)
    if was_encrypted:
        note_values(mapping, vault.redactor)
    return mapping


def _not_a_mapping(error: PlaybookInvalid) -> UsageError:
    """The first problem of extra vars: these stand on the command line, so they are no problem of the playbook."""
    first = error.problems[0]
    return UsageError(f"{first.location}: {first.message}", hint=first.hint)


def _merge(ctx: click.Context, param: click.Parameter, values: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        merged |= value
    return merged


def _make_vault(ctx: click.Context, param: click.Parameter, path: str | None) -> Vault:
    vault = Vault(path or None, ctx.ensure_object(Redactor))
    ctx.meta[_VAULT] = vault
    return vault


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
vault_option = click.option(
    OPTION,
    "vault",
    metavar="FILE",
    envvar=ENVIRONMENT_NAMES,
    show_envvar=True,
    is_eager=True,
    callback=_make_vault,
    help="The file that holds the vault password; one that is executable is run, and prints it.",
)


def load_all(
    playbooks: tuple[str, ...],
    extra_vars: dict[str, Any],
    workdir: str | None,
    vault: Vault,
    *,
    is_quiet: bool = False,
    look_at: LookAtLogins = trust_logins,
    selection: Selection | None = None,
    is_check: bool | None = None,
) -> list[Play]:
    """Every playbook, loaded; warnings go to standard error. Raises `PlaybookInvalid` with the problems of all of them.

    `look_at` looks at what the steps of `selection` log in with; `is_check` says whether they are loaded for a `--check`.
    """
    from runner.playbook.build import ignore_warning, load_play
    from runner.received_files import ReceivedFiles

    received = ReceivedFiles()
    warn = ignore_warning if is_quiet else print_warning
    chosen = selection or Selection()
    return _for_each(
        playbooks,
        lambda path: load_play(
            path,
            extra_vars=extra_vars,
            workdir=workdir,
            vault=vault,
            warn=warn,
            look_at=look_at,
            selection=chosen,
            is_check=is_check,
            received=received,
        ),
    )


def check_all(playbooks: tuple[str, ...], extra_vars: dict[str, Any], workdir: str | None, vault: Vault) -> None:
    """Every playbook, validated without running a command, and a line about each. Raises as `load_all` does."""
    from runner.execution.login_check import look_at_logins
    from runner.playbook.build import check_play

    def check(path: str) -> int:
        return check_play(
            path, extra_vars=extra_vars, workdir=workdir, vault=vault, warn=print_warning, look_at=look_at_logins
        )

    counts = _for_each(playbooks, check)
    for path, count in zip(playbooks, counts, strict=True):
        click.echo(tell_valid(path, count))


def tell_valid(path: str, step_count: int) -> str:
    """`transfers.yaml: valid, 2 steps`."""
    return f"{printable(path)}: valid, {step_count} step{'s' if step_count != 1 else ''}"


def _for_each(playbooks: tuple[str, ...], load: Callable[[str], Value]) -> list[Value]:
    values: list[Value] = []
    problems: list[Problem] = []
    for path in playbooks:
        try:
            values.append(load(path))
        except PlaybookInvalid as error:
            problems += error.problems
    if problems:
        raise PlaybookInvalid(problems)
    return values
