"""Process trees, read from `/proc`: sshd's sessions leave its process group, so a group kill misses them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path


def list_descendants(pid: int) -> list[int]:
    """The living children of a process, their children, and so on."""
    children = _children_by_parent()
    found: list[int] = []
    waiting = [pid]
    while waiting:
        offspring = children.get(waiting.pop(), [])
        found += offspring
        waiting += offspring
    return found


def kill_descendants(pid: int) -> int:
    """Kill everything below a process, not the process itself; say how many were killed."""
    descendants = list_descendants(pid)
    for descendant in descendants:
        with contextlib.suppress(ProcessLookupError):
            os.kill(descendant, signal.SIGKILL)
    return len(descendants)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process which leads its own group, the group, and all descendants; then reap it."""
    # Stopped, it cannot fork a child between the listing and the kill.
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGSTOP)
    kill_descendants(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=40)


def _children_by_parent() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                children.setdefault(_read_parent(entry), []).append(int(entry.name))
    return children


def _read_parent(entry: Path) -> int:
    # The command name before the last ")" may itself hold spaces and parentheses.
    after_name = (entry / "stat").read_text(errors="replace").rpartition(")")[2]
    return int(after_name.split()[1])
