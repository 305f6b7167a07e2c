"""Runs a command of the user's choosing for its output: a password manager, mostly. Bounded in time and in size."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runner.cancellation import POLL_SECONDS

TIMEOUT_SECONDS = 30.0
MAX_OUTPUT_BYTES = 1024 * 1024
MAX_ERROR_BYTES = 4096
_CHUNK_BYTES = 64 * 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CommandFailed(Exception):
    """The command could not be started, did not end in time, said too much, or failed. The message says which."""


@dataclass(slots=True)
class _Capture:
    """What one of the command's streams has said, as far as it is of interest."""

    limit_bytes: int
    content: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes) -> None:
        self.content += data[: self.limit_bytes + 1 - len(self.content)]

    @property
    def is_full(self) -> bool:
        return len(self.content) > self.limit_bytes


def run_command(
    arguments: Sequence[str],
    *,
    folder: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> bytes:
    """What the command writes to its standard output. It has no standard input, and no shell unless it is one.

    In every ending the command and what it has started are gone. A signal ends it, and is obeyed when that is done.
    Raises `CommandFailed`.
    """
    with _held_signals() as was_signalled:
        return _run(arguments, folder, environment, timeout_seconds, was_signalled)


@contextmanager
def _held_signals() -> Iterator[Callable[[], bool]]:
    """Inside the block a signal interrupts nothing; it is obeyed behind it. Given is whether one has come.

    A handler may raise wherever the main thread is: between starting a command and noting that there is one, say, and then
    nobody would end it. Elsewhere than in the main thread nothing is held, since no handler runs there.
    """
    numbers: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        handlers = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    for number in handlers:
        signal.signal(number, lambda number, frame: numbers.append(number))
    try:
        yield lambda: bool(numbers)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if numbers:
            _obey(numbers[0], handlers[numbers[0]])


def _obey(number: int, handler: Any) -> None:
    """Do what the signal would have done at once."""
    if callable(handler):
        handler(number, None)
    else:
        signal.raise_signal(number)


def _run(
    arguments: Sequence[str],
    folder: str | None,
    environment: Mapping[str, str] | None,
    timeout_seconds: float,
    was_signalled: Callable[[], bool],
) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: S603  (running it is what we were asked for)
            arguments,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of its own, so that what it has started can be ended with it.
            process_group=0,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CommandFailed(f"it cannot be started: {reason}") from error
    with process:
        try:
            return _collect(process, time.monotonic() + timeout_seconds, timeout_seconds, was_signalled)
        finally:
            _end_group(process)


def _collect(
    process: subprocess.Popen[bytes], deadline: float, timeout_seconds: float, was_signalled: Callable[[], bool]
) -> bytes:
    def check() -> None:
        if was_signalled():
            raise CommandFailed("a signal has come")
        if time.monotonic() > deadline:
            raise CommandFailed(f"it did not end within {timeout_seconds:g} s")

    output, errors = _Capture(MAX_OUTPUT_BYTES), _Capture(MAX_ERROR_BYTES)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout or 0, selectors.EVENT_READ, output)
        selector.register(process.stderr or 0, selectors.EVENT_READ, errors)
        while selector.get_map() and not output.is_full:
            # What it leaves running in the background may hold the streams open for ever.
            ready = selector.select(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            if not ready and process.poll() is not None:
                break
            check()
            for key, _ in ready:
                if data := os.read(key.fd, _CHUNK_BYTES):
                    key.data.take(data)
                else:
                    selector.unregister(key.fileobj)
    if output.is_full:
        raise CommandFailed(f"it wrote more than {MAX_OUTPUT_BYTES // 2**20} MiB")
    while (status := _wait_a_moment(process)) is None:
        check()
    if status:
        raise CommandFailed(_describe_status(status, bytes(errors.content[:MAX_ERROR_BYTES])))
    return bytes(output.content)


def _wait_a_moment(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _describe_status(status: int, errors: bytes) -> str:
    ending = f"it was ended by signal {-status}" if status < 0 else f"it failed with status {status}"
    said = " ".join(errors.decode("utf-8", "replace").split())
    return f"{ending}: {said}" if said else f"{ending} and said nothing"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass  # everything in the group has ended by itself
