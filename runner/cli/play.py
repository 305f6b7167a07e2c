"""`runner play`: carries out playbooks."""

from __future__ import annotations

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
from runner.cli.play_arguments import PlayArguments
from runner.cli.prompt import Prompt
from runner.cli.report_file import deliver_report, require_report_writable
from runner.cli.signals import cancelling_on_signals, interrupting_at_once
from runner.cli.ssh_log import logging_ssh
from runner.errors import Interrupted, PlaybookInvalid, RunnerError
from runner.events import Observer
from runner.execution.login_check import look_at_logins
from runner.execution.own_files import find_own_files
from runner.logins import Selection, trust_logins
from runner.play import play, select_steps
from runner.program import Play, steps_of
from runner.redaction import Redactor
from runner.report.bugs import BugPrinter
from runner.report.console import Console, print_error
from runner.report.json_report import describe_error, describe_failure, describe_play, to_json
from runner.report.text import printable
from runner.results import PlayResult, combine_codes
from runner.transfer.memory import Memory


@click.command("play", short_help="Carry out the steps of a playbook.")
@playbook_arguments
@click.option(
    "-C", "--check", "is_check", is_flag=True, help="Connect, compare and say what would change; change nothing."
)
@click.option(
    "-D", "--diff", "is_diff", is_flag=True, help="Show what changes, and the differences of small text files."
)
@extra_vars_option
@click.option("-l", "--limit", metavar="NAMES", help="Only the steps of these connections, separated by commas.")
@click.option("--start-at-step", metavar="STEP", help="Begin with this step: its name or its number.")
@click.option("--step", "asks", is_flag=True, help="Ask before each step.")
@click.option("-t", "--tags", multiple=True, metavar="TAGS", help="Only the steps with one of these tags (a,b).")
@click.option("--skip-tags", multiple=True, metavar="TAGS", help="Not the steps with one of these tags.")
@click.option("--list-tags", is_flag=True, help="Print the tags and stop.")
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
def command(redactor: Redactor, /, **given: Any) -> int:
    """Carry out the steps of a playbook, in order.

    Nothing is contacted before the whole playbook is valid. Each file is written under a temporary name, verified,
    and renamed into place: a failure leaves the old file as it was.

    \b
    Examples:
      runner play transfers.yaml
      runner play --check transfers.yaml
      runner play transfers.yaml -e day=2024-05-01 --json report.json
    """
    asked = PlayArguments(**given)
    asked.require_consistent()
    selection = asked.selection
    require_report_writable(asked.json_path, asked.playbooks)
    reporter = _JsonReporter(asked, redactor)
    cancellation = Cancellation()
    with cancelling_on_signals(cancellation):
        try:
            with interrupting_at_once(cancellation):
                if asked.syntax_check and not asked.is_listing:
                    check_all(asked.playbooks, asked.extra_vars, asked.workdir, asked.vault)
                    return 0
                plans = _load(asked, selection)
            plans = [select_steps(plan, selection) for plan in plans]
        except RunnerError as error:
            reporter.report_error(error)
            raise
        except Interrupted as signalled:
            print_error(describe_error(signalled)["message"])
            return reporter.report_error(signalled)
        if asked.is_listing:
            _list(plans, redactor, asked)
            return 0
        return _play_all(plans, asked, reporter, redactor, cancellation)


def _load(asked: PlayArguments, selection: Selection) -> list[Play]:
    return load_all(
        asked.playbooks,
        asked.extra_vars,
        asked.workdir,
        asked.vault,
        is_quiet=asked.quiet,
        look_at=trust_logins if asked.is_listing else look_at_logins,
        selection=selection,
        is_check=asked.is_check,
    )


def _play_all(
    plans: list[Play],
    asked: PlayArguments,
    reporter: _JsonReporter,
    redactor: Redactor,
    cancellation: Cancellation,
) -> int:
    confirm = Prompt(redactor).ask if asked.asks else None
    memory = Memory.of_command(find_own_files(plans), is_check=asked.is_check)
    results: list[PlayResult] = []
    log = logging_ssh(redactor) if asked.console_options.verbosity >= 3 else nullcontext()
    with log:
        try:
            for plan in plans:
                observers: list[Observer] = [Console(asked.console_options, redactor), BugPrinter(redactor)]
                result = play(
                    plan,
                    options=asked.options,
                    observers=observers,
                    cancellation=cancellation,
                    memory=memory,
                    confirm=confirm,
                )
                results.append(result)
                if cancellation.is_requested:
                    break
        finally:
            # A signal that came when a play was just over has ended only those that were to follow.
            is_cut_short = cancellation.is_requested and len(results) < len(plans)
            exit_code = reporter.report_plays(results, cancellation.exit_code if is_cut_short else _combine(results))
    return exit_code


def _combine(results: list[PlayResult]) -> int:
    """The exit code of several plays: a signal's, if one has ended them."""
    interrupted = [result.exit_code for result in results if result.interrupted_by is not None]
    return interrupted[0] if interrupted else combine_codes(result.exit_code for result in results)


class _JsonReporter:
    """Writes the report of `--json`, in every ending."""

    def __init__(self, asked: PlayArguments, redactor: Redactor) -> None:
        self._playbooks = asked.playbooks
        self._path = asked.json_path
        self._is_check = asked.is_check
        self._redactor = redactor

    def report_plays(self, results: list[PlayResult], exit_code: int) -> int:
        """One object for one playbook, a list of objects for several. Returns the command's exit code."""
        if self._path is None:
            # What nobody asked for takes as much memory as all that came of the steps.
            return exit_code
        return self._write([describe_play(result, self._redactor.redact) for result in results], exit_code)

    def report_error(self, error: RunnerError | Interrupted) -> int:
        """The report on a playbook that is not played. Returns the command's exit code."""
        file = self._playbooks[0]
        if isinstance(error, PlaybookInvalid):
            # A problem may stand in a file that the playbook names.
            file = next((one.location.file for one in error.problems if one.location.file in self._playbooks), file)
        report = describe_failure(
            file,
            is_check=self._is_check,
            at=datetime.now(UTC),
            exit_code=error.exit_code,
            error=describe_error(error),
            is_interrupted=isinstance(error, Interrupted),
        )
        return self._write([report], error.exit_code)

    def _write(self, reports: list[dict[str, Any]], exit_code: int) -> int:
        if self._path is None or not reports:
            return exit_code
        text = to_json(reports if len(self._playbooks) > 1 else reports[0], self._redactor)
        return deliver_report(self._path, text, exit_code, self._redactor)


def _list(plans: list[Play], redactor: Redactor, asked: PlayArguments) -> None:
    for plan in plans:
        click.echo(tell_valid(plan.file, len({step.index for step in plan.steps})))
        if asked.list_hosts:
            hosts = dict.fromkeys((step.host_label, str(step.endpoint)) for step in plan.calls)
            for label, endpoint in hosts:
                line = f"  {label}  {endpoint}" if label != endpoint else f"  {label}"
                click.echo(redactor.redact(printable(line)))
        if asked.list_tags:
            tags = sorted(frozenset().union(*(one.keywords.tags for one in steps_of(plan.program.nodes))))
            click.echo(redactor.redact(printable(f"  tags: {', '.join(tags) or 'none'}")))
        if asked.list_steps:
            for step in plan.steps:
                line = f"  {step.index}  {step.name} [{step.host_label}]  {step.kind}"
                click.echo(redactor.redact(printable(line)))
