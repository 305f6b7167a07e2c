"""`runner describe`: what a playbook is, what it takes and what it does."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from runner.cli.options import vault_option
from runner.cli.standard_streams import require_written
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.report.text import printable


@click.command("describe", short_help="Print a playbook's inputs, connections, steps and tags.")
@click.argument("playbook", metavar="FILE")
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
@vault_option
@click.pass_obj
def command(redactor: Redactor, playbook: str, is_json: bool, vault: Vault) -> int:
    """Print what a playbook takes and does: its inputs, connections, steps and tags, as they are written.

    Contacts nothing, runs no command, and needs no input.

    \b
    Examples:
      runner describe transfers.yaml
    """
    from runner.playbook.build import load_description

    found = load_description(playbook, vault=vault)
    inputs = [one._asdict() for one in found.inputs]
    steps = [asdict(one) for one in found.steps]
    if is_json:
        told: dict[str, Any] = {"playbook": found.file, "name": found.name, "inputs": inputs}
        told |= {"connections": dict(found.connections), "steps": steps, "tags": list(found.tags)}
        click.echo(redactor.redact(json.dumps(told, indent=2)))
        require_written()
        return 0
    lines = [f"{found.name}  ({found.file})"]
    lines += ["", "inputs:", *map(_tell_input, inputs)] if inputs else []
    hosts = [f"  {name}  {host}".rstrip() for name, host in found.connections]
    lines += ["", "connections:", *hosts] if hosts else []
    lines += ["", "steps:", *map(_tell_step, steps)]
    lines += ["", f"tags: {', '.join(found.tags)}"] if found.tags else []
    for line in lines:
        click.echo(redactor.redact(printable(line)))
    require_written()
    return 0


def _tell_input(one: dict[str, Any]) -> str:
    facts = [one["type"], *(["required"] if one["is_required"] else []), *(["secret"] if one["is_secret"] else [])]
    facts += [f"one of {', '.join(map(str, one['choices']))}"] if one["choices"] else []
    facts += [f"default {one['default']}"] if one["default"] is not None else []
    facts += [f"from {one['environment_name']}"] if one["environment_name"] else []
    text = f"  {one['name']}  {', '.join(facts)}"
    return f"{text}: {one['description']}" if one["description"] else text


def _tell_step(one: dict[str, Any]) -> str:
    host = f" [{one['connection']}]" if one["connection"] else ""
    tags = f"  tags: {', '.join(one['tags'])}" if one["tags"] else ""
    name = f"{one['name']}  " if one["name"] else ""
    return f"  {one['index']}  {name}{one['kind']}{host}{tags}"
