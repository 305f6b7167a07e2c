"""Standard output and standard error that may break at any moment without ending the command.

A reader that goes away (`| head`), a full disk and a closed descriptor (`>&-`) all show in the write that meets them. That
must neither change what the command does nor its exit code: what cannot be written is dropped, and the first reason kept.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from runner.errors import UsageError

_STANDARD_DESCRIPTORS = (0, 1, 2)


class _Unbreakable(io.RawIOBase):
    """A descriptor that takes everything: once a write has failed, what follows is dropped."""

    def __init__(self, descriptor: int, failure: OSError | None) -> None:
        self._descriptor = descriptor
        self.failure = failure
        # Whether anything was lost: a closed stream that nobody writes to is no trouble.
        self.has_lost = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if self.failure is None:
            try:
                return write_some(self._descriptor, view)
            except OSError as error:
                self.failure = error
        self.has_lost = self.has_lost or bool(view)
        return len(view)


def protect_standard_streams() -> None:
    """Put streams in place of `sys.stdout` and `sys.stderr` that never raise when what they lead to breaks.

    Descriptors that are closed are opened on the null device, so that no file or socket of ours gets their number.
    """
    closed = {number for number in _STANDARD_DESCRIPTORS if not _is_open(number)}
    for number in sorted(closed):
        # The lowest free number is the one that is missing.
        os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.set_inheritable(number, True)
    if 0 in closed:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (it lives as long as the process)
    sys.stdout = _protect(sys.stdout, 1, 1 in closed)
    sys.stderr = _protect(sys.stderr, 2, 2 in closed)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _protect(stream: TextIO | None, descriptor: int, is_closed: bool) -> TextIO:
    if stream is not None:
        stream.flush()
    failure = OSError(errno.EBADF, "it is closed") if is_closed else None
    buffer = io.BufferedWriter(_Unbreakable(descriptor, failure))
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding if stream is not None else "utf-8",
        # File names may hold bytes that no encoding covers; printing them must not fail.
        errors="backslashreplace",
        line_buffering=os.isatty(descriptor) or descriptor == 2,
    )


def write_some(descriptor: int, data: memoryview) -> int:
    """Write as much as can be written at once, but something, and return how much. Raises `OSError`."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            # Somebody else has made the descriptor non-blocking: node does that to the pipes of its children.
            select.select([], [descriptor], [])


def take_loss(stream: TextIO) -> str:
    """Why some of what was written to a protected stream is lost, once; empty if nothing is, or if its reader has gone."""
    stream.flush()
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if not isinstance(raw, _Unbreakable) or raw.failure is None or not raw.has_lost:
        return ""
    # It is said once.
    raw.has_lost = False
    if raw.failure.errno in (errno.EPIPE, errno.ECONNRESET):
        return ""
    return raw.failure.strerror or str(raw.failure)


def require_written() -> None:
    """Raise `UsageError` if standard output did not take everything: for commands whose whole purpose is their output."""
    if reason := take_loss(sys.stdout):
        raise UsageError(cannot_write(reason))


def cannot_write(reason: str) -> str:
    """The message for output that is lost."""
    return f"cannot write to standard output: {reason}"
