"""`runner play`: carries out playbooks."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import click

from runner.cancellation import Cancellation
from runner.cli.options import (
    check_all,
    extra_vars_option,
    load_all,
    playbook_arguments,
    tell_valid,
    vault_option,
    workdir_option,
)
from runner.cli.report_file import require_writable, write_report
from runner.cli.signals import cancelling_on_signals
from runner.cli.ssh_log import logging_ssh
from runner.errors import PlaybookInvalid, RunnerError, UsageError
from runner.execution.login_check import look_at_logins
from runner.logins import Selection, trust_logins
from runner.plan import Play, PlayOptions
from runner.play import play, select_steps
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.report.console import Console
from runner.report.json_report import describe_failure, describe_play, describe_problems, to_json
from runner.report.printer import ConsoleOptions, ProgressMode
from runner.report.text import printable
from runner.results import PlayResult


@click.command("play", short_help="Carry out the steps of a playbook.")
@playbook_arguments
@click.option(
    "-C", "--check", "is_check", is_flag=True, help="Connect, compare and say what would change; change nothing."
)
@click.option(
    "-D", "--diff", "is_diff", is_flag=True, help="Show what changes, and the differences of small text files."
)
@extra_vars_option
@click.option("--limit", metavar="NAMES", help="Only the steps of these connections, separated by commas.")
@click.option("--start-at-step", metavar="STEP", help="Begin with this step: its name or its number.")
@click.option("--list-steps", is_flag=True, help="Print the steps and stop.")
@click.option("--list-hosts", is_flag=True, help="Print the hosts and stop.")
@click.option("--syntax-check", is_flag=True, help="Validate the playbook and stop.")
@click.option("-v", "--verbose", count=True, help="Print more; -vvv prints the SSH library's log as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option(
    "--progress",
    type=click.Choice(["auto", "plain", "never"]),
    default="auto",
    show_default=True,
    help="How a long copy shows that it goes on.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write a report; '-' is standard output.")
@vault_option
@workdir_option
@click.pass_obj
def command(
    redactor: Redactor,
    playbooks: tuple[str, ...],
    is_check: bool,
    is_diff: bool,
    extra_vars: dict[str, Any],
    limit: str | None,
    start_at_step: str | None,
    list_steps: bool,
    list_hosts: bool,
    syntax_check: bool,
    verbose: int,
    quiet: bool,
    progress: ProgressMode,
    json_path: str | None,
    vault: Vault,
    workdir: str | None,
) -> int:
    """Carry out the steps of a playbook, in order.

    Nothing is contacted before the whole playbook is valid. Each file is written under a temporary name, verified,
    and renamed into place: a failure leaves the old file as it was.

    \b
    Examples:
      runner play transfers.yaml
      runner play --check transfers.yaml
      runner play transfers.yaml -e day=2024-05-01 --json report.json
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other")
    reporter = _JsonReporter(json_path, is_check, redactor, is_list=len(playbooks) > 1)
    try:
        if syntax_check and not (list_steps or list_hosts):
            check_all(playbooks, extra_vars, workdir, vault)
            return 0
        names = tuple(name.strip() for name in limit.split(",")) if limit is not None else ()
        look_at = trust_logins if list_steps or list_hosts else look_at_logins
        selection = Selection(names, start_at_step)
        plans = load_all(playbooks, extra_vars, workdir, vault, is_quiet=quiet, look_at=look_at, selection=selection)
        plans = [select_steps(plan, limit=names, start_at=start_at_step) for plan in plans]
    except RunnerError as error:
        reporter.report_error(playbooks, error)
        raise
    if list_steps or list_hosts:
        _list(plans, redactor, with_steps=list_steps, with_hosts=list_hosts)
        return 0
    stream = sys.stderr if json_path == "-" else sys.stdout
    console_options = ConsoleOptions(stream, -1 if quiet else verbose, progress)
    options = PlayOptions(is_check, is_check or is_diff or verbose > 0, is_diff)
    return _play_all(plans, options, console_options, reporter, redactor)


def _play_all(
    plans: list[Play],
    options: PlayOptions,
    console_options: ConsoleOptions,
    reporter: _JsonReporter,
    redactor: Redactor,
) -> int:
    cancellation = Cancellation()
    results: list[PlayResult] = []
    log = logging_ssh(redactor) if console_options.verbosity >= 3 else nullcontext()
    with log, cancelling_on_signals(cancellation):
        try:
            for plan in plans:
                console = Console(console_options, redactor)
                results.append(play(plan, options=options, observers=[console], cancellation=cancellation))
                if cancellation.is_requested:
                    break
        finally:
            reporter.report_plays(results)
    codes = {result.exit_code for result in results if result.exit_code}
    if cancellation.is_requested or len(codes) == 1:
        return results[-1].exit_code or max(codes, default=0)
    return 2 if codes else 0


class _JsonReporter:
    """Writes the report of `--json`, in every ending."""

    def __init__(self, path: str | None, is_check: bool, redactor: Redactor, *, is_list: bool) -> None:
        self._path = path
        self._redactor = redactor
        self._is_list = is_list
        self._is_check = is_check
        # A play whose report cannot be written is better not begun.
        require_writable(path)

    def report_plays(self, results: list[PlayResult]) -> None:
        """One object for one playbook, a list of objects for several."""
        self._write([describe_play(result, self._redactor.redact) for result in results])

    def report_error(self, playbooks: tuple[str, ...], error: RunnerError) -> None:
        """The report on a playbook that is not played."""
        file = playbooks[0]
        told: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        if isinstance(error, PlaybookInvalid):
            told["problems"] = describe_problems(error.problems)
            # A problem may stand in a file that the playbook names.
            file = next((one.location.file for one in error.problems if one.location.file in playbooks), file)
        now = datetime.now(UTC)
        report = describe_failure(file, is_check=self._is_check, at=now, exit_code=error.exit_code, error=told)
        self._write([report])

    def _write(self, reports: list[dict[str, Any]]) -> None:
        if self._path is None or not reports:
            return
        write_report(self._path, to_json(reports if self._is_list else reports[0], self._redactor))


def _list(plans: list[Play], redactor: Redactor, *, with_steps: bool, with_hosts: bool) -> None:
    for plan in plans:
        click.echo(tell_valid(plan.file, len(plan.steps)))
        if with_hosts:
            hosts = dict.fromkeys((step.host_label, str(step.endpoint)) for step in plan.steps)
            for label, endpoint in hosts:
                line = f"  {label}  {endpoint}" if label != endpoint else f"  {label}"
                click.echo(redactor.redact(printable(line)))
        if with_steps:
            for step in plan.steps:
                line = f"  {step.index}  {step.name} [{step.host_label}]  {step.mode.mode_name}"
                click.echo(redactor.redact(printable(line)))
