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


class Cancellation:
    """A one-way switch, thrown by a signal and seen by every wait in every thread."""

    def __init__(self) -> None:
        self._signal_number: int | None = None
        self._shields = threading.local()

    def cancel(self, signal_number: int) -> None:
        """Ask the play to end. Only the first call counts. Safe in a signal handler."""
        if self._signal_number is None:
            self._signal_number = signal_number

    @property
    def is_requested(self) -> bool:
        """Whether a signal has come."""
        return self._signal_number is not None

    def make_alarm(self) -> Callable[[], bool]:
        """A question that another thread may ask: must what the calling thread is doing be cut short by now?"""
        shield: Deadline | None = getattr(self._shields, "deadline", None)
        return (lambda: self.is_requested) if shield is None else (lambda: shield.has_passed)

    def check(self) -> None:
        """Raise `Interrupted` if a signal has come; inside `shield`, `CleanUpAbandoned` if its time is over."""
        shield: Deadline | None = getattr(self._shields, "deadline", None)
        if shield is not None:
            if shield.has_passed:
                raise CleanUpAbandoned
        elif self._signal_number is not None:
            raise Interrupted(self._signal_number)

    @contextmanager
    def shield(self, seconds: float) -> Iterator[None]:
        """Let this thread's waits go on after a signal, but no longer than `seconds` in all: for clean-up."""
        self._shields.deadline = Deadline.after(seconds)
        try:
            yield
        finally:
            self._shields.deadline = None
