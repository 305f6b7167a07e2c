"""Runs the steps of a play in order and tells about it in events."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import InternalError, Interrupted, StepError, StepTimedOut, UnreachableError
from runner.events import (
    HostConnected,
    Observer,
    PlayFinished,
    PlayStarted,
    StepCrashed,
    StepFinished,
    StepRetried,
    StepStarted,
    TransferProgress,
)
from runner.execution.attempt import StepChanges
from runner.execution.sessions import Sessions
from runner.plan import Play, PlayOptions, Step
from runner.remote_files import RemoteFiles
from runner.results import Output, PlayResult, Status, StepFailure, StepResult, combine_exit_codes
from runner.transfer.journal import Journal
from runner.transfer.memory import Memory

if TYPE_CHECKING:
    from runner.ssh.connection import Connection

MAX_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Clock:
    """When something began, on the calendar and on the monotonic clock."""

    started_at: datetime
    started_seconds: float

    @classmethod
    def start(cls) -> _Clock:
        return cls(datetime.now(UTC), time.monotonic())

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self.started_seconds


def run_play(
    play: Play, *, options: PlayOptions, observer: Observer, cancellation: Cancellation, memory: Memory
) -> PlayResult:
    """Run every step, in order. A failed step ends the later steps of its host, not those of other hosts.

    `memory` is what the steps of earlier plays of the same command line have left to be remembered.

    Never raises for what a step does wrong, nor on a signal, nor for a bug met on the way: the result tells. All
    connections are closed in the end.
    """
    clock = _Clock.start()

    def tell_connected(step: Step, connection: Connection) -> None:
        jump_host = "" if connection.endpoint is step.endpoint else connection.name
        observer(HostConnected(step, connection.trusted_by, connection.known_hosts_warnings, jump_host))

    sessions = Sessions(cancellation, tell_connected, play.steps)
    results: list[StepResult] = []
    failed_hosts: dict[str, str] = {}
    interruption: Interrupted | None = None
    crash: StepFailure | None = None
    observer(PlayStarted(play, options.is_check))
    try:
        for position, step in enumerate(play.steps):
            reason = "the play was interrupted" if interruption else failed_hosts.get(step.host_label, "")
            if reason:
                result = _skipped(step, reason)
            else:
                observer(StepStarted(step))
                result, interruption = _run_step(step, sessions, options, observer, cancellation, memory)
                sessions.finish(step)
                if result.failure is not None:
                    failed_hosts[step.host_label] = f"step {step.index} ({step.name}) failed on this host"
                    for other in play.steps[position + 1 :]:
                        if other.host_label == step.host_label:
                            sessions.finish(other)
            results.append(result)
            observer(StepFinished(result))
    finally:
        try:
            sessions.close()
        except Exception as error:
            observer(StepCrashed(None, error))
            crash = _describe(InternalError(error))
    failures = [*(result.failure for result in results), crash]
    finished = PlayResult(
        file=play.file,
        name=play.name,
        is_check=options.is_check,
        started_at=clock.started_at,
        finished_at=datetime.now(UTC),
        duration_seconds=clock.elapsed_seconds,
        exit_code=interruption.exit_code if interruption else combine_exit_codes(failures),
        interrupted_by=interruption.signal_number if interruption else None,
        steps=tuple(results),
        failure=crash,
    )
    observer(PlayFinished(finished))
    return finished


def _run_step(
    step: Step,
    sessions: Sessions,
    options: PlayOptions,
    observer: Observer,
    cancellation: Cancellation,
    memory: Memory,
) -> tuple[StepResult, Interrupted | None]:
    """One step with its retries, and the signal that ended it if one did."""
    clock = _Clock.start()
    attempts = 0
    output: Output | None = None
    failure: StepFailure | None = None
    interruption: Interrupted | None = None
    status: Status = "failed"

    changes = StepChanges(step, observer)
    # With --check nothing is changed, and a step without retries has nothing to remember.
    journal = Journal() if step.retries and not options.is_check else None

    def report(done_bytes: int, total_bytes: int) -> None:
        cancellation.check()
        observer(TransferProgress(step, done_bytes, total_bytes))

    def work(remote: RemoteFiles) -> Output:
        # Loaded while the login waited for the server.
        from runner.execution.modes import carry_out

        return carry_out(step, remote, options, report, changes.report, cancellation, memory, journal)

    try:
        while True:
            attempts += 1
            changes.begin_attempt()
            if journal is not None:
                journal.begin_attempt(attempts, step.retries + 1)
            try:
                with cancellation.limited(step.timeout_seconds, lambda: _time_is_up(step)):
                    cancellation.check()
                    output = sessions.use(step, work)
                status = _status_of(output)
                break
            except StepError as error:
                # After a failure the session's state is unknown: whoever comes next starts afresh.
                sessions.drop(step.endpoint)
                if attempts > step.retries or not error.may_pass:
                    status = "unreachable" if isinstance(error, UnreachableError) else "failed"
                    failure = _describe(error)
                    break
                pause_seconds = choose_pause(step.delay_seconds, attempts)
                observer(StepRetried(step, attempts, error.message, pause_seconds))
                _sleep(pause_seconds, cancellation)
    except Exception as error:
        # Nobody has foreseen it. What else the play does, and what it reports, must not be lost for that.
        observer(StepCrashed(step, error))
        failure, status, output = _describe(InternalError(error)), "failed", None
        with suppress(Exception):
            sessions.drop(step.endpoint)
    except Interrupted as signalled:
        interruption = signalled
        failure = StepFailure("Interrupted", str(signalled), "Play again to finish.", signalled.exit_code)
    result = StepResult(
        step=step,
        status=status,
        started_at=clock.started_at,
        duration_seconds=clock.elapsed_seconds,
        message=failure.message if failure else output.message if output else "",
        attempts=attempts,
        output=output,
        changes=changes.kept if options.tells_changes else None,
        changes_total=changes.total,
        failure=failure,
    )
    return result, interruption


def _describe(error: StepError) -> StepFailure:
    return StepFailure(type(error).__name__, error.message, error.hint, error.exit_code)


def _time_is_up(step: Step) -> StepTimedOut:
    return StepTimedOut(
        f"step {step.index} ({step.name}) took longer than its timeout of {step.timeout_seconds:g} s on {step.endpoint}",
        hint="The line or the server is slower than expected. Raise 'timeout', or remove it: 'stall_timeout' alone ends a "
        "transfer that makes no progress.",
    )


def choose_pause(delay_seconds: float, failed_attempts: int) -> float:
    """Seconds before the next attempt: doubled each time, capped, and varied by a fifth either way."""
    pause: float = min(delay_seconds * 2 ** min(failed_attempts - 1, 16), MAX_PAUSE_SECONDS)
    return min(pause * random.uniform(0.8, 1.2), MAX_PAUSE_SECONDS)  # noqa: S311  (nothing secret depends on it)


def _sleep(seconds: float, cancellation: Cancellation) -> None:
    deadline = Deadline.after(seconds)
    while not deadline.has_passed:
        cancellation.check()
        time.sleep(min(POLL_SECONDS, deadline.remaining_seconds))


def _status_of(output: Output) -> Status:
    if output.skipped:
        return "skipped"
    return "changed" if output.is_change else "ok"


def _skipped(step: Step, reason: str) -> StepResult:
    return StepResult(
        step=step,
        status="skipped",
        started_at=datetime.now(UTC),
        duration_seconds=0.0,
        message=reason,
        attempts=0,
    )
