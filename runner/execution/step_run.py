"""Carries out one step: its attempts, the pauses between them, and what comes of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from runner.cancellation import POLL_SECONDS, Cancellation, Deadline
from runner.errors import (
    ConditionFailed,
    FileError,
    InternalError,
    Interrupted,
    InvalidInput,
    StepError,
    StepTimedOut,
    UnreachableError,
)
from runner.events import Observer, StepCrashed, StepRetried, TransferProgress
from runner.execution.attempt import StepChanges
from runner.execution.sessions import Sessions
from runner.plan import PlayOptions, Step
from runner.remote_files import RemoteFiles
from runner.results import CopyResult, Output, Status, StepFailure, StepResult
from runner.transfer.journal import Journal
from runner.transfer.left_behind import LeftBehind
from runner.transfer.memory import Memory

if TYPE_CHECKING:
    from runner.execution.modes import Attempt

MAX_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class Clock:
    """When something began, on the calendar and on the monotonic clock."""

    started_at: datetime
    started_seconds: float

    @classmethod
    def start(cls) -> Clock:
        """Something begins now."""
        return cls(datetime.now(UTC), time.monotonic())

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self.started_seconds


class PlayContext(NamedTuple):
    """What all steps of a play share."""

    sessions: Sessions
    options: PlayOptions
    observer: Observer
    cancellation: Cancellation
    memory: Memory


class StepRun:
    """One step with its retries. `run` it once."""

    def __init__(self, step: Step, play: PlayContext, until: Callable[[StepResult], str] | None = None) -> None:
        """`until` says what is still lacking when an attempt has come to its end; empty if nothing is."""
        self._step = step
        self._play = play
        self._until = until
        self._clock = Clock.start()
        self._attempts = 0
        # Those that count for no retry.
        self._free_attempts = 0
        self._status: Status = "failed"
        self._output: Output | None = None
        self._failure: StepFailure | None = None
        self._changes = StepChanges(step, play.observer)
        # With --check nothing is changed, and a step without retries has nothing to remember.
        self._left = LeftBehind()
        self._journal = Journal(self._left) if step.retries and not play.options.is_check else None
        # What the first attempt came to, if it was made together with those at other steps.
        self._ending: Output | BaseException | None = None
        self._left_by_others: LeftBehind | None = None

    @property
    def step(self) -> Step:
        return self._step

    @property
    def left(self) -> LeftBehind:
        """What the step may leave behind."""
        return self._left

    def be_followed_by(self, left: LeftBehind) -> None:
        """If the step fails, tell as well what may be left of those that were begun with it."""
        self._left_by_others = left

    @property
    def journal(self) -> Journal | None:
        """What has been changed so far; None if there is only one attempt."""
        return self._journal

    @journal.setter
    def journal(self, journal: Journal) -> None:
        self._journal = journal

    def describe_attempt(self) -> Attempt:
        """What an attempt needs that is made together with those at other steps."""
        # Loaded while the login waited for the server.
        from runner.execution.modes import Attempt

        play = self._play
        return Attempt(
            play.options,
            self._report_progress,
            self._changes.report,
            play.cancellation,
            play.memory,
            self._journal,
            self._left,
            lambda: play.sessions.reopen(self._step),
        )

    def begin_clock(self) -> None:
        """The step begins now, whatever was done for it before."""
        self._clock = Clock.start()

    def run_on(self, ending: Output | BaseException) -> tuple[StepResult, Interrupted | None]:
        """The result of a step whose first attempt came to this: a result, or what was raised."""
        self._ending = ending
        return self.run()

    def run(self) -> tuple[StepResult, Interrupted | None]:
        """The result, whatever goes wrong, and the signal that ended the step if one did."""
        interruption: Interrupted | None = None
        try:
            while not self._attempt():
                pass
        except Exception as error:
            # Nobody has foreseen it. What else the play does, and what it reports, must not be lost for that.
            self._play.observer(StepCrashed(self._step, error))
            self._status, self._output = "failed", None
            self._failure = describe_failure(InternalError(error))
            with suppress(Exception):
                self._play.sessions.drop(self._step.endpoint)
        except Interrupted as signalled:
            interruption = signalled
            message = ". ".join((str(signalled), *self._left.describe("")))
            self._failure = StepFailure("Interrupted", message, "Play again to finish.", signalled.exit_code)
        return self._make_result(), interruption

    def _attempt(self) -> bool:
        """Try once. False if another attempt is to follow, after the pause that is over then."""
        step, play = self._step, self._play
        self._attempts += 1
        self._changes.begin_attempt()
        if self._journal is not None:
            self._journal.begin_attempt(self._attempts, step.retries + 1 + self._free_attempts)
        try:
            with play.cancellation.limited(step.timeout_seconds, lambda: time_is_up(step)):
                self._output = self._take_ending() or self._try()
        except StepError as error:
            # After a failure the session's state is unknown: the next one starts afresh.
            play.sessions.drop(step.endpoint)
            if play.sessions.has_lost_by_command(step):
                # It is no failure of the step's: it goes on at once, knowing that the host has no shell.
                self._free_attempts += 1
                play.observer(StepRetried(step, self._attempts, error.message, 0.0))
                return False
            # With `until` the step is there to be tried until something is so.
            may_pass = error.may_pass or (self._until is not None and isinstance(error, FileError))
            if not self._has_attempts_left or not may_pass:
                self._left.add_to(error)
                self._status = "unreachable" if isinstance(error, UnreachableError) else "failed"
                self._failure = describe_failure(error)
                return True
            self._pause(error.message)
            return False
        warning = play.sessions.take_warning(step)
        if warning and isinstance(self._output, CopyResult):
            self._output = replace(self._output, warnings=(*self._output.warnings, warning))
        self._output = self._left.warn(self._output)
        self._status = _status_of(self._output)
        return self._until is None or self._is_enough(self._until)

    @property
    def _has_attempts_left(self) -> bool:
        return self._attempts - self._free_attempts <= self._step.retries

    def _is_enough(self, until: Callable[[StepResult], str]) -> bool:
        """Whether the attempt that has just ended is the last one."""
        try:
            lacking = until(self._make_result())
        except StepError as error:
            # Trying again does not make another expression of it.
            self._status, self._failure = "failed", describe_failure(error)
            return True
        if not lacking:
            return True
        if self._has_attempts_left:
            # The next attempt does all of it once more.
            self._journal = Journal(self._left) if self._journal is not None else None
            self._pause(f"until: {lacking}")
            return False
        hint = "Raise 'retries' or 'delay', or look at what the step reports."
        self._status = "failed"
        self._failure = describe_failure(
            ConditionFailed(f"after {self._attempts} attempts not yet: {lacking}", hint=hint)
        )
        return True

    def _pause(self, message: str) -> None:
        """Wait before the next attempt. With `until` always as long: nothing is to be spared."""
        step, play = self._step, self._play
        seconds = step.delay_seconds if self._until is not None else choose_pause(step.delay_seconds, self._attempts)
        play.observer(StepRetried(step, self._attempts, message, seconds))
        sleep(seconds, play.cancellation)

    def _try(self) -> Output:
        self._play.cancellation.check()
        return self._play.sessions.use(self._step, self._execute)

    def _take_ending(self) -> Output | None:
        """What an attempt came to that is made already. Raises what it has raised."""
        ending, self._ending = self._ending, None
        if isinstance(ending, BaseException):
            raise ending
        return ending

    def _execute(self, remote: RemoteFiles) -> Output:
        # Loaded while the login waited for the server.
        from runner.execution.modes import run_mode

        return run_mode(self._step, remote, self.describe_attempt())

    def _report_progress(self, done_bytes: int, total_bytes: int) -> None:
        self._play.cancellation.check()
        self._play.observer(TransferProgress(self._step, done_bytes, total_bytes))

    def _make_result(self) -> StepResult:
        output, failure = self._output, self._failure
        if failure is not None and self._left_by_others is not None:
            message = ". ".join((failure.message, *self._left_by_others.describe(failure.message)))
            failure = failure._replace(message=message)
        return StepResult(
            step=self._step,
            status=self._status,
            started_at=self._clock.started_at,
            duration_seconds=self._clock.elapsed_seconds,
            message=failure.message if failure else output.message if output else "",
            attempts=self._attempts,
            output=output,
            changes=self._changes.kept if self._play.options.tells_changes else None,
            changes_total=self._changes.total,
            failure=failure,
            is_foretold=self._play.options.is_check and self._status == "changed",
        )


def describe_failure(error: StepError) -> StepFailure:
    """An error as the result of a step or a play has it."""
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return StepFailure(type(error).__name__, error.message, error.hint, error.exit_code, problems)


def time_is_up(step: Step) -> StepTimedOut:
    """What an attempt fails with when it has taken its `timeout`."""
    return StepTimedOut(
        f"step {step.index} ({step.name}) took longer than its timeout of {step.timeout_seconds:g} s on {step.endpoint}",
        hint="The line or the server is slower than expected. Raise 'timeout', or remove it: 'stall_timeout' alone ends a "
        "transfer that makes no progress.",
    )


def choose_pause(delay_seconds: float, failed_attempts: int) -> float:
    """Seconds before the next attempt: doubled each time, capped, and varied by a fifth either way."""
    pause: float = min(delay_seconds * 2 ** min(failed_attempts - 1, 16), MAX_PAUSE_SECONDS)
    return min(pause * random.uniform(0.8, 1.2), MAX_PAUSE_SECONDS)  # noqa: S311  (nothing secret depends on it)


def sleep(seconds: float, cancellation: Cancellation) -> None:
    """Wait; raises what the cancellation has to say."""
    deadline = Deadline.after(seconds)
    while not deadline.has_passed:
        cancellation.check()
        time.sleep(min(POLL_SECONDS, deadline.remaining_seconds))


def _status_of(output: Output) -> Status:
    if output.skipped:
        return "skipped"
    return "changed" if output.is_change else "ok"
