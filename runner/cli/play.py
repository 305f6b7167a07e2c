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
from runner.cli.prompt import Prompt
from runner.cli.report_file import deliver_report, require_report_writable
from runner.cli.signals import cancelling_on_signals, interrupting_at_once
from runner.cli.ssh_log import logging_ssh
from runner.errors import Interrupted, PlaybookInvalid, RunnerError, UsageError
from runner.events import Observer
from runner.execution.login_check import look_at_logins
from runner.execution.own_files import find_own_files
from runner.logins import Selection, trust_logins
from runner.plan import PlayOptions
from runner.play import play, select_steps
from runner.playbook.vault_password import Vault
from runner.program import Confirm, Play, steps_of
from runner.redaction import Redactor
from runner.report.bugs import BugPrinter
from runner.report.console import Console, print_error
from runner.report.json_report import describe_error, describe_failure, describe_play, to_json
from runner.report.printer import ConsoleOptions, ProgressMode
from runner.report.text import printable
from runner.results import PlayResult, combine_codes
from runner.tags import ANY_TAG, EVERY_TAG, TagFilter, read_tags
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
def command(
    redactor: Redactor,
    playbooks: tuple[str, ...],
    is_check: bool,
    is_diff: bool,
    extra_vars: dict[str, Any],
    limit: str | None,
    start_at_step: str | None,
    asks: bool,
    tags: tuple[str, ...],
    skip_tags: tuple[str, ...],
    list_tags: bool,
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
    confirm = Prompt(redactor).ask if asks else None
    require_report_writable(json_path, playbooks)
    reporter = _JsonReporter(json_path, is_check, redactor, is_list=len(playbooks) > 1)
    names = tuple(name.strip() for name in limit.split(",")) if limit is not None else ()
    is_listing = list_steps or list_hosts or list_tags
    look_at = trust_logins if is_listing else look_at_logins
    tag_filter = (
        ANY_TAG if list_tags else TagFilter(read_tags(",".join(tags)) or EVERY_TAG.only, read_tags(",".join(skip_tags)))
    )
    selection = Selection(names, start_at_step, tag_filter)
    cancellation = Cancellation()
    with cancelling_on_signals(cancellation):
        try:
            with interrupting_at_once(cancellation):
                if syntax_check and not is_listing:
                    check_all(playbooks, extra_vars, workdir, vault)
                    return 0
                plans = load_all(
                    playbooks,
                    extra_vars,
                    workdir,
                    vault,
                    is_quiet=quiet,
                    look_at=look_at,
                    selection=selection,
                    is_check=is_check,
                )
            plans = [select_steps(plan, selection) for plan in plans]
        except RunnerError as error:
            reporter.report_error(playbooks, error)
            raise
        except Interrupted as signalled:
            print_error(describe_error(signalled)["message"])
            return reporter.report_error(playbooks, signalled)
        if is_listing:
            _list(plans, redactor, with_steps=list_steps, with_hosts=list_hosts, with_tags=list_tags)
            return 0
        stream = sys.stderr if json_path == "-" else sys.stdout
        console_options = ConsoleOptions(stream, -1 if quiet else verbose, progress)
        options = PlayOptions(is_check, is_check or is_diff or verbose > 0, is_diff)
        return _play_all(plans, options, console_options, reporter, redactor, cancellation, confirm)


def _play_all(
    plans: list[Play],
    options: PlayOptions,
    console_options: ConsoleOptions,
    reporter: _JsonReporter,
    redactor: Redactor,
    cancellation: Cancellation,
    confirm: Confirm | None,
) -> int:
    memory = Memory.of_command(find_own_files(plans), is_check=options.is_check)
    results: list[PlayResult] = []
    log = logging_ssh(redactor) if console_options.verbosity >= 3 else nullcontext()
    with log:
        try:
            for plan in plans:
                observers: list[Observer] = [Console(console_options, redactor), BugPrinter(redactor)]
                result = play(
                    plan,
                    options=options,
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

    def __init__(self, path: str | None, is_check: bool, redactor: Redactor, *, is_list: bool) -> None:
        self._path = path
        self._redactor = redactor
        self._is_list = is_list
        self._is_check = is_check

    def report_plays(self, results: list[PlayResult], exit_code: int) -> int:
        """One object for one playbook, a list of objects for several. Returns the command's exit code."""
        if self._path is None:
            # What nobody asked for takes as much memory as all that came of the steps.
            return exit_code
        return self._write([describe_play(result, self._redactor.redact) for result in results], exit_code)

    def report_error(self, playbooks: tuple[str, ...], error: RunnerError | Interrupted) -> int:
        """The report on a playbook that is not played. Returns the command's exit code."""
        file = playbooks[0]
        if isinstance(error, PlaybookInvalid):
            # A problem may stand in a file that the playbook names.
            file = next((one.location.file for one in error.problems if one.location.file in playbooks), file)
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
        text = to_json(reports if self._is_list else reports[0], self._redactor)
        return deliver_report(self._path, text, exit_code, self._redactor)


def _list(plans: list[Play], redactor: Redactor, *, with_steps: bool, with_hosts: bool, with_tags: bool) -> None:
    for plan in plans:
        click.echo(tell_valid(plan.file, len({step.index for step in plan.steps})))
        if with_hosts:
            hosts = dict.fromkeys((step.host_label, str(step.endpoint)) for step in plan.calls)
            for label, endpoint in hosts:
                line = f"  {label}  {endpoint}" if label != endpoint else f"  {label}"
                click.echo(redactor.redact(printable(line)))
        if with_tags:
            tags = sorted(frozenset().union(*(one.keywords.tags for one in steps_of(plan.program.nodes))))
            click.echo(redactor.redact(printable(f"  tags: {', '.join(tags) or 'none'}")))
        if with_steps:
            for step in plan.steps:
                line = f"  {step.index}  {step.name} [{step.host_label}]  {step.kind}"
                click.echo(redactor.redact(printable(line)))
