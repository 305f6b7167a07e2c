"""`runner schema`: prints the contracts, for editors and for other programs."""

from __future__ import annotations

import click

from runner.cli.standard_streams import require_written
from runner.resources import SCHEMA_NAMES, schema_text


@click.command("schema", short_help="Print a JSON Schema.")
@click.argument("name", type=click.Choice(SCHEMA_NAMES), default="playbook")
def command(name: str) -> int:
    """Print a JSON Schema: of playbooks (the default), of the connector's input, or of the --json report.

    \b
    Examples:
      runner schema > playbook.schema.json
      runner schema report
    """
    click.echo(schema_text(name), nl=False)
    require_written()
    return 0
