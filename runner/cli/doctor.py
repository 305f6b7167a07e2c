"""`runner doctor`: what can the servers of a playbook do? Connects, asks and prints; transfers nothing."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click

from runner.cancellation import Cancellation
from runner.cli.options import extra_vars_option, vault_option, workdir_option
from runner.cli.report_file import deliver_report, require_report_writable
from runner.cli.signals import cancelling_on_signals, interrupting_at_once
from runner.cli.ssh_log import logging_ssh
from runner.errors import Interrupted, RunnerError, UsageError
from runner.findings import Findings, Survey, Visit
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.report.bugs import print_bug
from runner.report.console import print_error, print_warning
from runner.report.findings import FindingsConsole
from runner.report.findings_json import describe_invalid, describe_visit
from runner.report.json_report import to_json
from runner.report.printer import ConsoleOptions
from runner.results import combine_exit_codes


@click.command("doctor", short_help="Print what the servers of a playbook can do.")
@click.argument("playbook", metavar="FILE")
@extra_vars_option
@click.option("--limit", metavar="NAMES", help="Only these connections, separated by commas.")
@click.option("--probe", "probed_folder", metavar="PATH", help="Also write, rename and remove a test file there.")
@click.option("-v", "--verbose", count=True, help="Print more; -vvv prints the SSH library's log as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option("--json", "json_path", metavar="FILE", help="Write a report; '-' is standard output.")
@vault_option
@workdir_option
@click.pass_obj
def command(
    redactor: Redactor,
    playbook: str,
    extra_vars: dict[str, Any],
    limit: str | None,
    probed_folder: str | None,
    verbose: int,
    quiet: bool,
    json_path: str | None,
    vault: Vault,
    workdir: str | None,
) -> int:
    """Print what the servers of a playbook can do.

    Connects to each of them as a play would, under the same host key check and with the same login, asks what it offers,
    and leaves. Nothing is transferred or changed there. Says what is weak, and what to do about it.

    With --probe it also tries out in a directory of theirs what only a try can tell, with a file that it removes again,
    and prints the lines that a mode needs for this server.

    \b
    Examples:
      runner doctor transfers.yaml
      runner doctor transfers.yaml --limit bank
      runner doctor transfers.yaml --limit bank --probe inbox
      runner doctor transfers.yaml --json doctor.json
    """
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other")
    require_report_writable(json_path, [playbook])
    cancellation = Cancellation()
    from runner.playbook.build import ignore_warning, load_survey

    with cancelling_on_signals(cancellation):
        try:
            warn = ignore_warning if quiet else print_warning
            with interrupting_at_once(cancellation):
                survey = load_survey(playbook, extra_vars=extra_vars, workdir=workdir, vault=vault, warn=warn)
            survey = _select(survey, limit)
        except RunnerError as error:
            _deliver(json_path, describe_invalid(playbook, error, datetime.now(UTC)), error.exit_code, redactor)
            raise
        except Interrupted as signalled:
            report = describe_invalid(playbook, signalled, datetime.now(UTC))
            print_error(report["error"]["message"])
            return _deliver(json_path, report, signalled.exit_code, redactor)
        stream = sys.stderr if json_path == "-" else sys.stdout
        options = ConsoleOptions(stream, -1 if quiet else verbose)
        visit = _visit_all(survey, options, redactor, cancellation, probed_folder)
        return _deliver(json_path, describe_visit(visit, redactor.redact), visit.exit_code, redactor)


def _visit_all(
    survey: Survey,
    options: ConsoleOptions,
    redactor: Redactor,
    cancellation: Cancellation,
    probed_folder: str | None,
) -> Visit:
    """Look at one server after the other, telling about each at once. A failure does not stop it, a signal does."""
    # fabric's import is only paid for here, where something is contacted.
    from runner.execution.examination import examine

    console = FindingsConsole(options, redactor)
    started_at, started = datetime.now(UTC), time.monotonic()
    found: list[Findings] = []
    interruption: Interrupted | None = None
    console.start(survey, probed_folder)
    log = logging_ssh(redactor) if options.verbosity >= 3 else nullcontext()
    with log:
        try:
            for target in survey.targets:
                found.append(examine(target, cancellation, lambda error: print_bug(error, redactor), probed_folder))
                console.tell(found[-1])
        except Interrupted as error:
            interruption = error
    exit_code = interruption.exit_code if interruption else combine_exit_codes(one.failure for one in found)
    for name, problem in survey.left_out:
        console.tell_left_out(name, problem)
    duration_seconds = time.monotonic() - started
    console.finish(duration_seconds, exit_code, is_interrupted=interruption is not None)
    return Visit(survey, tuple(found), started_at, duration_seconds, exit_code, interruption is not None)


def _select(survey: Survey, limit: str | None) -> Survey:
    """The survey of the connections that `--limit` names. Raises `UsageError` when one of them is not there."""
    if limit is None:
        return survey
    names = {name.strip() for name in limit.split(",")}
    known = [name for target in survey.targets for name in target.names] + [name for name, _ in survey.left_out]
    for name in sorted(names):
        if name not in known:
            hint = f"Connections of this playbook: {', '.join(dict.fromkeys(known))}."
            raise UsageError(f"--limit {name}: there is no such connection", hint=hint)
    return replace(
        survey,
        targets=tuple(target for target in survey.targets if names & set(target.names)),
        left_out=tuple(one for one in survey.left_out if one[0] in names),
    )


def _deliver(path: str | None, report: dict[str, Any], exit_code: int, redactor: Redactor) -> int:
    """Write the report, if one is asked for. Returns the command's exit code."""
    return exit_code if path is None else deliver_report(path, to_json(report, redactor), exit_code, redactor)
