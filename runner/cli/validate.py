"""`runner validate`: is the playbook right? Contacts nothing and imports nothing that could."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.options import check_all, extra_vars_option, playbook_arguments, vault_option, workdir_option
from runner.playbook.vault_password import Vault


@click.command("validate", short_help="Check playbooks without contacting anything.")
@playbook_arguments
@extra_vars_option
@vault_option
@workdir_option
def command(playbooks: tuple[str, ...], extra_vars: dict[str, Any], vault: Vault, workdir: str | None) -> int:
    """Check playbooks without contacting anything.

    Reports all problems of all files as FILE:LINE:COLUMN: message, and exits with 3 if there is one. Runs none of the
    commands that a playbook looks up: what depends on their output is checked as far as it can be.

    \b
    Examples:
      runner validate transfers.yaml
      runner validate playbooks/*.yaml
    """
    check_all(playbooks, extra_vars, workdir, vault)
    return 0
