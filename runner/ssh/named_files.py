"""Local files that a login names: keys, certificates, known_hosts. Read within bounds, also where they are no files."""

from __future__ import annotations

import errno
import os
import stat
import time

# A shell's `<(pass show key)` is a pipe, and somebody may have to unlock what writes to it.
PIPE_SECONDS = 20.0
# Before anything has come, one that nobody has open for writing.
EMPTY_PIPE_SECONDS = 2.0
_PAUSE_SECONDS = 0.02
_PIECE_BYTES = 1 << 16

# What has come through pipes, by device and inode: it comes once, and is wanted by the look beforehand and by each login.
_come: dict[tuple[int, int], bytes] = {}


def read_named_file(path: str, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """The first `limit_bytes` of it, and what the system says of the very file that was read.

    What comes through a pipe or from a device is waited for, `PIPE_SECONDS` at most; what a pipe has given it gives again.
    Raises `OSError`.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it, for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISFIFO(status.st_mode):
            return _read(descriptor, limit_bytes, is_pipe=False), status
        pipe = status.st_dev, status.st_ino
        if pipe not in _come:
            _come[pipe] = _read(descriptor, limit_bytes, is_pipe=True)
        return _come[pipe], status
    finally:
        os.close(descriptor)


def _read(descriptor: int, limit_bytes: int, *, is_pipe: bool) -> bytes:
    started = time.monotonic()
    content = bytearray()
    while len(content) < limit_bytes:
        try:
            piece = os.read(descriptor, min(_PIECE_BYTES, limit_bytes - len(content)))
            patience_seconds = EMPTY_PIPE_SECONDS
        except BlockingIOError:
            piece, patience_seconds = None, PIPE_SECONDS
        content += piece or b""
        # A pipe that was empty all the time may have had no writer yet.
        if piece == b"" and (content or not is_pipe):
            break
        if time.monotonic() - started > (PIPE_SECONDS if content else patience_seconds):
            raise TimeoutError(errno.ETIMEDOUT, "it is a pipe or a device, and what it gives does not come to an end")
        if not piece:
            time.sleep(_PAUSE_SECONDS)
    return bytes(content)
