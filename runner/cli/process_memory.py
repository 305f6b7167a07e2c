"""Keeps what this process has in its memory from other programs of the same user."""

from __future__ import annotations

import resource
import sys

# prctl(2) of Linux.
_PR_SET_DUMPABLE = 4


def protect_memory() -> None:
    """From now on a crash leaves no core file, and only root may look into this process: ptrace, /proc/PID/mem, environ.

    What the process starts has the limit on core files as well, and is otherwise as open as ever. Where the system cannot
    do one of the two, it is left out; never raises.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (OSError, ValueError):
        pass
    if sys.platform == "linux":
        _forbid_dumps()


def _forbid_dumps() -> None:
    try:
        # It takes two milliseconds to import, and a command without secrets does without it.
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass
