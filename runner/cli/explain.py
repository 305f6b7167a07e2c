"""`runner explain`: where each value of a step comes from."""

from __future__ import annotations

import json
from typing import Any

import click

from runner.cli.options import extra_vars_option, vault_option
from runner.cli.standard_streams import require_written
from runner.errors import UsageError
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.report.text import printable
from runner.suggestions import nearest

MAX_SHOWN_CHARACTERS = 200


@click.command("explain", short_help="Print where each value of a step comes from.")
@click.argument("playbook", metavar="FILE")
@click.argument("step", metavar="STEP")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@extra_vars_option
@vault_option
@click.pass_obj
def command(
    redactor: Redactor, playbook: str, step: str, names: tuple[str, ...], extra_vars: dict[str, Any], vault: Vault
) -> int:
    """Print every input and variable of a step: its value, where that stands, and what it has beaten.

    STEP is a name or a number. Contacts nothing and runs no command; of a value that only the play will know it says
    what that waits for.

    \b
    Examples:
      runner explain transfers.yaml 2
      runner explain transfers.yaml "Publish the release" host version
    """
    from runner.playbook.build import explain_step

    found = explain_step(playbook, step, extra_vars=extra_vars, vault=vault)
    known = [one.name for one in found]
    for name in names:
        if name not in known:
            raise UsageError(f"the step has no input or variable {name!r}", hint=nearest(name, known))
    for one in found:
        if names and one.name not in names:
            continue
        value = json.dumps(one.value, ensure_ascii=False, default=str)
        value = value if len(value) <= MAX_SHOWN_CHARACTERS else f"{value[:MAX_SHOWN_CHARACTERS]}…"
        shown = f"(waits for {one.waits_for})" if one.waits_for else value
        click.echo(redactor.redact(printable(f"{one.name} = {shown}")))
        click.echo(f"    {one.kind}, {printable(str(one.location))}")
        for place in one.beaten:
            click.echo(f"    instead of {printable(str(place))}")
    require_written()
    return 0
