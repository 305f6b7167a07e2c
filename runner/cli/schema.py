"""`runner schema`: prints the contracts, for editors and for other programs."""

from __future__ import annotations

import json

import click

from runner.cli.standard_streams import require_written
from runner.resources import SCHEMA_NAMES, bundled_schema, schema_text


@click.command("schema", short_help="Print a JSON Schema.")
@click.argument("name", type=click.Choice(SCHEMA_NAMES), default="playbook")
@click.option("--bundle", is_flag=True, help="All schemas in one document that refers to nothing outside of itself.")
def command(name: str, bundle: bool) -> int:
    """Print a JSON Schema: of playbooks (the default), of the connector's input, or of the --json report.

    \b
    Examples:
      runner schema --bundle > playbook.schema.json
      runner schema report
    """
    text = json.dumps(bundled_schema(name), indent=2, ensure_ascii=False) + "\n" if bundle else schema_text(name)
    click.echo(text, nl=False)
    require_written()
    return 0
