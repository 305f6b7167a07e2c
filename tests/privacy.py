"""Looks whether what is being written lies open to others."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watching(*folders: Path, find: Callable[[Path], list[str]] | None = None) -> Iterator[list[str]]:
    """Inside the block: whatever lies open to others in these folders and is not empty, as often as one can look."""
    find_some = find or find_open
    seen: list[str] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            for folder in folders:
                seen.extend(find_some(folder))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join(10)


def find_open(folder: Path) -> list[str]:
    """The files in a folder that others may read and that are not empty."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077 and status.st_size:
                found.append(f"{entry.name}: {stat.S_IMODE(status.st_mode):04o}, {status.st_size} bytes")
    return found


def find_open_folders(folder: Path) -> list[str]:
    """The directories below a folder that others may look into, and that have something in them."""
    found = []
    for path, names, files in os.walk(folder):
        try:
            mode = stat.S_IMODE(os.lstat(path).st_mode)
        except FileNotFoundError:
            continue
        if path != str(folder) and mode & 0o077 and (names or files):
            found.append(f"{path}: {mode:04o}")
    return found
