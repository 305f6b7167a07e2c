"""Signals while something is connected: they do not kill, they ask for an end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from runner.cancellation import Cancellation

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def cancelling_on_signals(cancellation: Cancellation) -> Iterator[None]:
    """Inside the block a signal does not kill: it asks for an end at the next moment where there can be a clean one."""

    def cancel(number: int, frame: object) -> None:
        cancellation.cancel(number)

    old = {number: signal.signal(number, cancel) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
