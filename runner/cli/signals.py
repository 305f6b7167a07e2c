"""Signals while a command loads or is connected: the first asks for an end, the second for haste, the third has it.

Python runs a handler in the main thread only, between two of its instructions. What cannot be interrupted there, a file
system that hangs for instance, would hold off every signal: so the last one is noticed by a thread, which the system tells
of each signal through a pipe.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from runner.cancellation import Cancellation
from runner.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# So many signals, and the process ends, whatever it is at.
LAST_SIGNAL = 3
SHOW_CURSOR = b"\x1b[?25h"

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def cancelling_on_signals(cancellation: Cancellation) -> Iterator[None]:
    """Inside the block a signal does not kill: it asks for an end at the next moment where there can be a clean one.

    A second one cuts clean-up short; a third ends the process. An ignored signal stays ignored (`nohup`, a background job).
    """

    def cancel(number: int, frame: FrameType | None) -> None:
        cancellation.cancel(number)

    with _ending_at_last(), _handling(cancel):
        yield


@contextmanager
def interrupting_at_once(cancellation: Cancellation) -> Iterator[None]:
    """Inside the block the first signal raises `Interrupted` wherever the main thread is: there is nothing to clean up."""
    numbers: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        is_first = not cancellation.is_requested
        numbers.append(number)
        # Should what is raised be swallowed where it comes up, in a finalizer say, then the play ends before its first step.
        cancellation.cancel(number)
        if is_first:
            raise Interrupted(number)

    with _handling(interrupt):
        try:
            yield
        except Interrupted:
            raise
        except BaseException as error:
            # A library may make something else of what was raised in it: cryptography's does while it is loaded.
            if numbers:
                raise Interrupted(numbers[0]) from error
            raise


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    # None: somebody has installed a handler outside of Python, which could not be put back.
    numbers = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


@contextmanager
def _ending_at_last() -> Iterator[None]:
    """Inside the block the last of so many signals ends the process with the exit code of the first."""
    terminal = _remember_terminal()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def count() -> None:
        seen: list[int] = []
        while numbers := os.read(read_end, 64):
            seen += (number for number in numbers if number in SIGNALS)
            if len(seen) >= LAST_SIGNAL:
                restore_terminal(terminal)
                os._exit(128 + seen[0])

    watcher = threading.Thread(target=count, name="signals", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write_end)
        watcher.join()
        os.close(read_end)


def _remember_terminal() -> tuple[int, list[object]] | None:
    """The terminal that we may have to put in order again, and how it is now; None without one."""
    for descriptor in (0, 1, 2):
        with suppress(OSError, termios.error):
            if os.isatty(descriptor):
                return descriptor, list(termios.tcgetattr(descriptor))
    return None


def restore_terminal(terminal: tuple[int, list[object]] | None) -> None:
    """Undo what a progress line, or a program that asks for a password, has done to the terminal. Waits for nothing."""
    if terminal is None:
        return
    descriptor, attributes = terminal
    with suppress(OSError, termios.error):
        # In the background, the terminal is somebody else's.
        if os.tcgetpgrp(descriptor) == os.getpgrp():
            termios.tcsetattr(descriptor, termios.TCSANOW, attributes)  # type: ignore[arg-type]
            for shown in (1, 2):
                if os.isatty(shown) and select.select([], [shown], [], 0)[1]:
                    os.write(shown, SHOW_CURSOR)
