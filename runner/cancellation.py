"""How a play is asked to end, and how long anything may take.

A signal handler calls `Cancellation.cancel`; every wait of the program polls it, so that the waiting code unwinds by an
ordinary exception at a place where it can clean up. Clean-up itself runs inside `shield()`, under a deadline of its own.

A `timeout` works the same way, but for one thread alone: inside `limited()` the same waits end when its time is up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from runner.errors import Interrupted, StepError

# How often a wait looks up to see whether it should end. Short enough to feel immediate, long enough to cost nothing.
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    at_seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_seconds(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_seconds - time.monotonic())

    @property
    def has_passed(self) -> bool:
        return time.monotonic() >= self.at_seconds


class CleanUpAbandoned(Exception):
    """Clean-up did not end within the time that `shield` gave it."""


@dataclass(slots=True)
class _Shield:
    """Holds off the end in one thread, for a time that begins at once or, for a deferral, when the end is due."""

    seconds: float
    is_deferral: bool
    deadline: Deadline | None = None


@dataclass(slots=True)
class Limit:
    """How long the work of one thread may take. Without a deadline it was kept, and nothing has to end any more."""

    deadline: Deadline | None
    make_error: Callable[[], StepError]

    @property
    def has_passed(self) -> bool:
        return self.deadline is not None and self.deadline.has_passed

    def begin_again(self, seconds: float) -> None:
        """What is done from now on may take so long."""
        self.deadline = Deadline.after(seconds)


class Cancellation:
    """A one-way switch, thrown by a signal and seen by every wait in every thread; and limits, each of one thread."""

    def __init__(self) -> None:
        self._signal_number: int | None = None
        self._is_urgent = False
        self._local = threading.local()

    def cancel(self, signal_number: int) -> None:
        """Ask the play to end; called again, to wait for no clean-up any more. Safe in a signal handler."""
        if self._signal_number is None:
            self._signal_number = signal_number
        else:
            self._is_urgent = True

    @property
    def exit_code(self) -> int:
        """The exit code of what a signal has ended; 0 as long as none has come."""
        return Interrupted(self._signal_number).exit_code if self._signal_number is not None else 0

    @property
    def is_urgent(self) -> bool:
        """Whether a second signal has come: its sender does not want to wait for clean-up."""
        return self._is_urgent

    @property
    def is_requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal_number is not None

    @property
    def is_due(self) -> bool:
        """Whether a signal has come, or the time of this thread's limit is up; a shield only holds that off."""
        return self._is_due(self._limit)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come, the limit's error if its time is up.

        Inside `shield` it raises only `CleanUpAbandoned`, once the shield's own time is over or a second signal has come.
        """
        shield, limit = self._shield, self._limit
        if not self._is_over(shield, limit):
            return
        if shield is not None and not shield.is_deferral:
            raise CleanUpAbandoned
        if self._signal_number is not None:
            raise Interrupted(self._signal_number)
        if limit is not None:
            raise limit.make_error()

    def make_check(self) -> Callable[[], None]:
        """A `check` for a thread that works for the calling one.

        There a signal raises a `StepError` too: the calling thread raises `Interrupted` itself, as soon as it looks.
        """
        alarm, limit = self.make_alarm(), self._limit

        def check() -> None:
            if alarm():
                raise StepError("the play is over") if limit is None or self.is_requested else limit.make_error()

        return check

    def make_alarm(self) -> Callable[[], bool]:
        """A question that another thread may ask: must what the calling thread is doing be cut short by now?"""
        shield, limit = self._shield, self._limit
        if shield is None and limit is None:
            # Asked several times for each of many files.
            return lambda: self._signal_number is not None
        return lambda: self._is_over(shield, limit)

    @property
    def _shield(self) -> _Shield | None:
        return getattr(self._local, "shield", None)

    @property
    def _limit(self) -> Limit | None:
        return getattr(self._local, "limit", None)

    def _is_due(self, limit: Limit | None) -> bool:
        return self.is_requested or (limit is not None and limit.has_passed)

    def _is_over(self, shield: _Shield | None, limit: Limit | None) -> bool:
        is_due = self._is_due(limit)
        if shield is None:
            return is_due
        if shield.is_deferral and not is_due:
            return False
        # What must not be torn apart keeps its time.
        if self._is_urgent and not shield.is_deferral:
            return True
        if shield.deadline is None:
            shield.deadline = Deadline.after(shield.seconds)
        return shield.deadline.has_passed

    @contextmanager
    def limited(self, seconds: float | None, make_error: Callable[[], StepError]) -> Iterator[Limit]:
        """Have this thread's waits raise the error once the block has taken `seconds`; None sets no limit."""
        limit = Limit(None if seconds is None else Deadline.after(seconds), make_error)
        if seconds is None:
            yield limit
            return
        with self._limit_by(limit):
            yield limit
        # Kept. An alarm that was made under it must not go off later.
        limit.deadline = None

    def lend_limit(self) -> Callable[[], AbstractContextManager[None]]:
        """The calling thread's limit, for threads that work for it: what they do inside `with lent():` has to keep it."""
        limit = self._limit
        return lambda: self._limit_by(limit)

    @contextmanager
    def _limit_by(self, limit: Limit | None) -> Iterator[None]:
        self._local.limit = limit
        try:
            yield
        finally:
            self._local.limit = None

    @contextmanager
    def shield(self, seconds: float) -> Iterator[None]:
        """Let this thread's waits go on when they should end, but no longer than `seconds` in all: for clean-up.

        A second signal ends them at once.
        """
        with self._hold_off(_Shield(seconds, False, Deadline.after(seconds))):
            yield

    @contextmanager
    def deferred(self, seconds: float) -> Iterator[None]:
        """Obey a signal after the block, or `seconds` after it came: for what must not be torn apart.

        A limit that passes inside holds `seconds` later as well. A block that comes to its end by then is no failure.
        """
        with self._hold_off(_Shield(seconds, True)):
            yield
        if self._signal_number is not None:
            raise Interrupted(self._signal_number)

    @contextmanager
    def _hold_off(self, shield: _Shield) -> Iterator[None]:
        self._local.shield = shield
        try:
            yield
        finally:
            self._local.shield = None
