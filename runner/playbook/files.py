"""Local files that a playbook names, read within bounds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path


def accept_any(status: os.stat_result) -> None:
    """Whoever owns the file, and whoever may write to it."""


def read_bytes(path: str | Path, limit_bytes: int, check: Callable[[os.stat_result], None] = accept_any) -> bytes:
    """The first `limit_bytes` of a regular file. Raises `OSError`, also for a pipe or a device: these need not end.

    `check` looks at the opened file's owner and permissions before it is read, and raises what it likes.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
        check(status)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit_bytes)
    finally:
        os.close(descriptor)
