"""The play as people read it: a line for each step, the errors where they happened, a recap."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from runner.events import (
    ChangeBegun,
    Event,
    FailuresRescued,
    HostConnected,
    HostDisconnected,
    ItemsSkipped,
    ObserverFailed,
    PlayFinished,
    PlayStarted,
    StepCrashed,
    StepFinished,
    StepRetried,
    StepStarted,
    TransferProgress,
)
from runner.plan import Place, Step
from runner.problems import Location, Problem
from runner.redaction import Redactor
from runner.report.printer import ConsoleOptions, Printer
from runner.report.text import format_duration, format_fact, format_rate, format_size, format_trait, printable
from runner.results import COUNTS, STATUSES, Change, Entry, Output, PlayResult, SkippedItems, StepFailure, StepResult

if TYPE_CHECKING:
    from runner.report.live import LiveProgress

PLAIN_PROGRESS_SECONDS = 10.0
STATUS_WIDTH = 11
MAX_WARNINGS = 10
MAX_ENTRIES = 1000
MAX_CHANGES = 1000
# Of the items of one loop that are skipped one behind the other, so many have a line.
MAX_SKIPPED_ITEMS = 100
ACTION_WIDTH = 11
# How the lines of a diff are painted, by their first character.
_DIFF_STYLES = {"+": "ok", "-": "failed"}
INDENT = " " * (STATUS_WIDTH + 2)


class Console:
    """Prints a play's events as they come. Nothing a server says is printed raw, and no secret at all."""

    def __init__(self, options: ConsoleOptions, redactor: Redactor) -> None:
        self._options = options
        self._redactor = redactor
        self._step_count = 0
        self._workdir = ""
        self._step_started = 0.0
        self._last_progress = 0.0
        self._change_count = 0
        self._printer = Printer(options, redactor)
        # What has been printed of each host's server: a connection in another's place says only what is otherwise.
        self._told_traits: dict[str, tuple[tuple[str, str, str], ...]] = {}
        self._live = self._make_live_display()

    def __call__(self, event: Event) -> None:
        match event:
            case PlayStarted(play, is_check):
                self._step_count = max((step.index for step in play.steps), default=0)
                self._workdir = play.workdir
                if self._options.verbosity >= 0:
                    note = ", check: nothing will be changed" if is_check else ""
                    self._print(
                        f"{self._paint('PLAY', 'bold')}  {printable(play.name)}  ({printable(play.file)}{note})\n"
                    )
            case StepStarted():
                self._change_count = 0
                self._step_started = self._last_progress = time.monotonic()
            case HostConnected() | HostDisconnected():
                self._tell_connection(event)
            case TransferProgress():
                self._show_progress(event)
            case ChangeBegun(_, change):
                self._tell_change(change)
            case StepRetried():
                self._tell_retry(event)
            case StepCrashed() | ObserverFailed():
                # What is printed of it goes to standard error, which may be the same terminal.
                if self._live:
                    self._live.clear()
            case StepFinished(result):
                self._finish_step(result)
            case ItemsSkipped() | FailuresRescued():
                self._tell_results(event)
            case PlayFinished(result):
                self._finish_play(result)

    def _tell_connection(self, event: HostConnected | HostDisconnected) -> None:
        if isinstance(event, HostDisconnected):
            self._tell_traits(event)
            return
        if self._options.verbosity < 0 or (self._options.verbosity < 1 and not event.weaknesses):
            return
        if self._live:
            self._live.clear()
        if self._options.verbosity > 0:
            self._tell_trust(event)
        for weakness in event.weaknesses:
            self._print(f"{INDENT}{self._paint('warning:', 'changed')} {printable(weakness)}")

    def _tell_trust(self, event: HostConnected) -> None:
        host = event.jump_host or f"{event.step.endpoint} [{event.step.host_label}]"
        self._print(
            f"{'connected':<{STATUS_WIDTH}}  {printable(host)}  host key known by {printable(event.trusted_by)}"
        )
        for warning in event.warnings[:MAX_WARNINGS]:
            self._print(f"{INDENT}{self._paint('warning:', 'changed')} {printable(warning)}")
        if len(event.warnings) > MAX_WARNINGS:
            self._print(f"{INDENT}and {len(event.warnings) - MAX_WARNINGS} more warnings")

    def _tell_traits(self, event: HostDisconnected) -> None:
        """What the server is taken for, in the words of `runner doctor`."""
        host = f"{event.step.endpoint} [{event.step.host_label}]"
        if self._options.verbosity < 1 or self._told_traits.get(host) == event.traits:
            return
        self._told_traits[host] = event.traits
        if self._live:
            self._live.clear()
        self._print(f"{'server':<{STATUS_WIDTH}}  {printable(host)}  {printable(event.server_version)}")
        for label, value, reason in event.traits:
            self._print(INDENT + format_fact(label, printable(format_trait(value, reason))))

    def _tell_change(self, change: Change) -> None:
        self._change_count += 1
        if self._options.verbosity < 0 or self._change_count > MAX_CHANGES:
            return
        if self._live:
            self._live.clear()
        size = "" if change.size_bytes is None else f"  {format_size(change.size_bytes)}"
        why = f"  {printable(change.why)}" if change.why.startswith("→") else f"  ({printable(change.why)})"
        why = why if change.why else ""
        self._print(f"{INDENT}{change.action:<{ACTION_WIDTH}}  {printable(change.path)}{size}{why}")
        for line in change.diff.splitlines():
            shown = f"{INDENT}  {printable(line)}"
            self._print(self._paint(shown, _DIFF_STYLES[line[0]]) if line[:1] in _DIFF_STYLES else shown)

    def _tell_retry(self, event: StepRetried) -> None:
        if self._live:
            self._live.clear()
        word = self._paint(f"{'retrying':<{STATUS_WIDTH}}", "changed")
        attempt = f"attempt {event.failed_attempts} of {event.step.retries + 1} failed"
        name = (
            f"{event.step.index}/{self._step_count}  {printable(event.step.name)} [{printable(event.step.host_label)}]"
        )
        self._print(f"{word}  {name}  {attempt}, again in {format_duration(event.pause_seconds)}")
        self._print(f"{INDENT}{printable(event.message)}")

    def _finish_step(self, result: StepResult) -> None:
        if self._live:
            self._live.clear()
        if self._options.verbosity < 0 and result.failure is None:
            return
        if self._change_count > MAX_CHANGES:
            self._print(f"{INDENT}and {self._change_count - MAX_CHANGES:,} more changes")
        self._print(self._step_line(result))
        output = result.output
        if (
            output
            and not output.is_unknown
            and result.step.endpoint
            and (output.bytes_transferred or self._options.verbosity > 0)
        ):
            self._print(INDENT + self._describe_output(result, output))
            self._list(output.entries)
        for warning in output.warnings if output else ():
            self._print(f"{INDENT}{self._paint('warning:', 'changed')} {printable(warning)}")
        if result.failure:
            self._tell_failure(result.failure, result.step.location)

    def _tell_results(self, event: ItemsSkipped | FailuresRescued) -> None:
        if self._options.verbosity < 0:
            return
        if isinstance(event, ItemsSkipped):
            self._tell_skipped(event.results)
        else:
            self._tell_rescue(event.results)

    def _tell_skipped(self, results: SkippedItems) -> None:
        """Items of a loop that were skipped: a line for each, as far as anybody reads them."""
        for result in results[:MAX_SKIPPED_ITEMS]:
            self._finish_step(result)
        left = len(results) - MAX_SKIPPED_ITEMS
        if left > 0:
            self._print(f"{INDENT}and {left:,} more items were skipped, which the report of --json holds")

    def _tell_failure(self, failure: StepFailure, location: Location) -> None:
        """What failed, where it stands in the playbook, and what to do."""
        problems = failure.problems or (Problem(location, failure.message, failure.hint),)
        for problem in problems:
            for line in format_problem(problem).splitlines():
                self._print(f"{INDENT}{line.strip()}")

    def _tell_rescue(self, results: tuple[StepResult, ...]) -> None:
        steps = ", ".join(dict.fromkeys(f"{one.step.index} ({printable(one.step.name)})" for one in results))
        word = self._paint(f"{'rescued':<{STATUS_WIDTH}}", "ok")
        self._print(f"{word}  step {steps}: the failure has been made up for")

    def _step_line(self, result: StepResult) -> str:
        """`changed  1/2  Publish the release [partner]  created, 8.0 MiB`."""
        step = result.step
        word = result.status.upper() if result.failure else result.status
        status = self._paint(f"{word:<{STATUS_WIDTH}}", result.status)
        line = f"{status}  {step.index}/{self._step_count}  {printable(step.name)} [{printable(step.host_label)}]"
        if result.item is not None:
            line = f"{line} ({printable(result.item)})"
        if result.failure:
            return f"{line}  ignored" if result.is_ignored else line
        size_bytes = result.output.size_bytes if result.output else None
        size = f", {format_size(size_bytes)}" if size_bytes is not None else ""
        return f"{line}  {printable(result.message)}{size}"

    def _describe_output(self, result: StepResult, output: Output) -> str:
        """`release.tar → partner.example:22:/incoming/release.tar, 8.0 MiB in 0.06 s (135 MiB/s)`."""
        endpoint = str(result.step.endpoint)
        places = result.step.mode.places if isinstance(result.step, Step) else ()
        parts = [printable(" → ".join(self._name(place, endpoint) for place in places))]
        if output.bytes_transferred:
            rate = format_rate(output.bytes_transferred, result.duration_seconds)
            parts.append(f"{format_duration(result.duration_seconds)}, {rate}")
        if output.proof and self._options.verbosity > 0:
            parts.append(f"verified: {output.proof}")
        return ", ".join(parts)

    def _name(self, place: Place, endpoint: str) -> str:
        return self._local(place.path) if place.is_local else f"{endpoint}:{place.path}"

    def _list(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries[:MAX_ENTRIES]:
            self._print(f"{INDENT}{format_entry(entry)}")
        if len(entries) > MAX_ENTRIES:
            self._print(f"{INDENT}and {len(entries) - MAX_ENTRIES:,} more entries, which the report of --json holds")

    def _local(self, path: str) -> str:
        """A local path as the playbook writes it."""
        return path.removeprefix(self._workdir.rstrip("/") + "/")

    def _finish_play(self, result: PlayResult) -> None:
        if self._live:
            self._live.close()
        if self._options.verbosity < 0 and result.exit_code == 0:
            return
        width = max((len(printable(host)) for host in result.recap), default=0)
        self._print("")
        for host, counts in result.recap.items():
            numbers = "  ".join(
                self._paint(f"{status}={counts[status]}", status) if counts[status] else f"{status}=0"
                for status in COUNTS
                # A play without blocks and exceptions has none of the last two.
                if counts[status] or status in STATUSES
            )
            self._print(f"{self._paint('RECAP', 'bold')}  {printable(host):<{width}}  {numbers}")
        ending = {"ok": "done", "failed": "failed", "interrupted": "interrupted"}[result.status]
        duration = format_duration(result.duration_seconds)
        self._print(f"{ending} in {duration}" + (f", exit code {result.exit_code}" if result.exit_code else ""))

    def _show_progress(self, event: TransferProgress) -> None:
        if self._options.verbosity < 0:
            return
        if self._live:
            self._live.update(event)
            return
        now = time.monotonic()
        if self._options.progress == "never" or now - self._last_progress < PLAIN_PROGRESS_SECONDS:
            return
        self._last_progress = now
        elapsed = now - self._step_started
        done, total = event.done_bytes, max(event.total_bytes, event.done_bytes, 1)
        left = format_duration((total - done) * elapsed / max(done, 1))
        self._print(
            f"{INDENT}{format_size(done)} of {format_size(total)} ({100 * done // total} %), "
            f"{format_rate(done, elapsed)}, {left} left"
        )

    def _make_live_display(self) -> LiveProgress | None:
        wants = self._options.progress == "auto" and self._options.verbosity >= 0 and self._options.is_terminal
        if not wants:
            return None
        from runner.report.live import LiveProgress

        return LiveProgress(self._options.stream, self._redactor)

    def _paint(self, text: str, colour: str) -> str:
        return self._printer.paint(text, colour)

    def _print(self, line: str) -> None:
        self._printer.print(line)


def format_entry(entry: Entry) -> str:
    """`0644   12.3 KiB  2026-11-24 12:05:01  inbox/report.csv`; folders end in '/', links show where they lead."""
    permissions = "?" if entry.permissions is None else f"{entry.permissions:04o}"
    size = "-" if entry.size_bytes is None else format_size(entry.size_bytes)
    moment = "?" if entry.modified_at is None else f"{entry.modified_at:%Y-%m-%d %H:%M:%S}"
    mark = {"directory": "/", "link": f" → {entry.target or '?'}"}.get(entry.type, "")
    return f"{permissions:<4}  {size:>10}  {moment:<19}  {printable(entry.path + mark)}"


def format_problem(problem: Problem) -> str:
    """A playbook's problem as linters print it, ready for an editor or a CI log to link."""
    text = f"{printable(str(problem.location))}: {printable(problem.message)}"
    return f"{text}\n  hint: {printable(problem.hint)}" if problem.hint else text


def print_warning(warning: Problem) -> None:
    """What is no problem and may still surprise, on standard error. Secrets must be masked in it already."""
    sys.stderr.write(format_problem(replace(warning, message=f"warning: {warning.message}")) + "\n")


def print_error(message: str, hint: str = "", stream: TextIO | None = None) -> None:
    """An error of the command itself, on standard error."""
    stream = stream or sys.stderr
    stream.write(f"error: {printable(message)}\n")
    if hint:
        stream.write(f"hint: {printable(hint)}\n")
