"""How a play is asked to end, and how long anything may take.

A signal handler calls `Cancellation.cancel`; every wait of the program polls it, so that the waiting code unwinds by an
ordinary exception at a place where it can clean up. Clean-up itself runs inside `shield()`, under a deadline of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.errors import Interrupted

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
    """Holds off a signal in one thread, for a time that begins at once or, for a deferral, with the signal."""

    seconds: float
    is_deferral: bool
    deadline: Deadline | None = None


class Cancellation:
    """A one-way switch, thrown by a signal and seen by every wait in every thread."""

    def __init__(self) -> None:
        self._signal_number: int | None = None
        self._local = threading.local()

    def cancel(self, signal_number: int) -> None:
        """Ask the play to end. Only the first call counts. Safe in a signal handler."""
        if self._signal_number is None:
            self._signal_number = signal_number

    @property
    def is_requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal_number is not None

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come; inside `shield`, `CleanUpAbandoned` if its time is over."""
        shield: _Shield | None = getattr(self._local, "shield", None)
        if not self._is_over(shield):
            return
        if self._signal_number is not None and (shield is None or shield.is_deferral):
            raise Interrupted(self._signal_number)
        raise CleanUpAbandoned

    def make_alarm(self) -> Callable[[], bool]:
        """A question that another thread may ask: must what the calling thread is doing be cut short by now?"""
        shield: _Shield | None = getattr(self._local, "shield", None)
        return lambda: self._is_over(shield)

    def _is_over(self, shield: _Shield | None) -> bool:
        if shield is None:
            return self.is_requested
        if shield.is_deferral and not self.is_requested:
            return False
        if shield.deadline is None:
            shield.deadline = Deadline.after(shield.seconds)
        return shield.deadline.has_passed

    @contextmanager
    def shield(self, seconds: float) -> Iterator[None]:
        """Let this thread's waits go on after a signal, but no longer than `seconds` in all: for clean-up."""
        with self._hold_off(_Shield(seconds, False, Deadline.after(seconds))):
            yield

    @contextmanager
    def deferred(self, seconds: float) -> Iterator[None]:
        """Obey a signal after the block, or `seconds` after it came: for what must not be torn apart."""
        with self._hold_off(_Shield(seconds, True)):
            yield
        self.check()

    @contextmanager
    def _hold_off(self, shield: _Shield) -> Iterator[None]:
        self._local.shield = shield
        try:
            yield
        finally:
            self._local.shield = None
