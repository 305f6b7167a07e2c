"""What a test may say about time: it waits for events, not for moments, and leaves a busy machine time to answer.

Lower bounds are exact: nothing ends early because a machine is busy. Upper bounds are there to tell an end that was
asked for from one that comes by itself, 15 seconds later or more (the runner's own keepalives and timeouts).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a machine may add whose every core is taken several times over. It costs nothing where all is well.
BUSY_SECONDS = 12.0
# How long an event is waited for that is sure to come, and how long a process is that is sure to end.
EVENT_SECONDS = 40.0

_LOOK_SECONDS = 0.01


def wait_for(condition: Callable[[], object], seconds: float = EVENT_SECONDS) -> None:
    """Wait until something is so. It fails the test when that does not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(_LOOK_SECONDS)


@contextmanager
def ends_within(seconds: float) -> Iterator[None]:
    """Fail the test unless the block ends in this time, and what a busy machine adds to it."""
    started = time.monotonic()
    yield
    took_seconds = time.monotonic() - started
    assert took_seconds < seconds + BUSY_SECONDS, f"took {took_seconds:.1f} s"
