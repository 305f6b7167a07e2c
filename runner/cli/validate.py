"""`runner validate`: is the playbook right? Contacts nothing and imports nothing that could."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import extra_vars_option, load_all, playbook_arguments, workdir_option
from runner.report.text import printable


@click.command("validate", short_help="Check playbooks without contacting anything.")
@playbook_arguments
@extra_vars_option
@workdir_option
def command(playbooks: tuple[str, ...], extra_vars: dict[str, Any], workdir: str | None) -> int:
    """Check playbooks without contacting anything.

    Reports all problems of all files as FILE:LINE:COLUMN: message, and exits with 3 if there is one.

    \b
    Examples:
      runner validate transfers.yaml
      runner validate playbooks/*.yaml
    """
    for play in load_all(playbooks, extra_vars, workdir):
        count = len(play.steps)
        click.echo(f"{printable(play.file)}: valid, {count} step{'s' if count != 1 else ''}")
    return 0
