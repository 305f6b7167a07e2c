"""The names under which files are kept that a copy replaces: `report.csv.2026-11-24T120501Z~`, beside the new one."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from runner.errors import FileRefused
from runner.remote_files import Published, RemoteReader, StatusRefused

# File systems allow 255 bytes; the date and a number take some 25 of them.
MAX_KEPT_BYTES = 225

# Of one file in one second; who finds more is lied to.
MAX_NUMBER = 100

_BACKUP = re.compile(r"(.+\.[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z)(?:\.([0-9]+))?~", re.DOTALL)


def is_backup(name: str) -> bool:
    """Whether a name is one that a replaced file was given."""
    return _BACKUP.fullmatch(name) is not None


def backup_names(name: str) -> Iterator[str]:
    """The names for the file called `name`, the best one first, without an end. All tell the moment, in UTC."""
    is_long = len(os.fsencode(name)) > MAX_KEPT_BYTES
    kept = os.fsencode(name)[:MAX_KEPT_BYTES].decode("utf-8", "ignore") if is_long else name
    backup = f"{kept}.{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}~"
    while True:
        yield backup
        backup = next_name(backup)


def next_name(backup: str) -> str:
    """The name to try when that one is taken."""
    found = _BACKUP.fullmatch(backup)
    assert found is not None, backup
    return f"{found[1]}.{int(found[2] or 0) + 1}~"


def is_last(backup: str) -> bool:
    """Whether no further name is tried."""
    return backup.endswith(f".{MAX_NUMBER}~")


def free_name(name: str, taken: Collection[str]) -> str:
    """The first of the names that is not taken."""
    return next(candidate for candidate in backup_names(name) if candidate not in taken)


def free_remote_path(path: str, remote: RemoteReader) -> str:
    """Where the remote file at `path` can be kept. Raises a `StepError`."""
    folder, slash, name = path.rpartition("/")
    for candidate in backup_names(name):
        if not is_taken(folder + slash + candidate, remote):
            return folder + slash + candidate
        if is_last(candidate):
            break
    raise FileRefused(
        f"no name is free under which the old {path!r} could be kept, up to {candidate!r}",
        hint="The server says so of each of them, which is hardly true.",
    )


def is_taken(path: str, remote: RemoteReader) -> bool:
    """Whether something is at a remote path, as far as the server tells."""
    try:
        return remote.status(path, follow=False) is not None
    except StatusRefused:
        # It would be a strange coincidence, and the server then refuses to use the name again.
        return False


def keep_old(folder_fd: int, path: str) -> Published:
    """Give the file at `path` a dated name as well, or instead, where a file can have only one. Raises `OSError`."""
    folder, slash, name = path.rpartition("/")
    for backup in backup_names(name):
        try:
            os.link(name, backup, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return Published(True)
        except OSError:
            # FAT, and some network file systems, know no hard links.
            if _exists(backup, folder_fd):
                continue
            os.rename(name, backup, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
            return Published(False, folder + slash + backup)
        return Published(True, folder + slash + backup)
    raise AssertionError("the names have no end")


def give_back(folder_fd: int, name: str, kept: Published) -> None:
    """Undo `keep_old`, since nothing was replaced."""
    if kept.backup is None:
        return
    backup = kept.backup.rpartition("/")[2]
    with suppress(OSError):
        if kept.in_one_step:
            os.unlink(backup, dir_fd=folder_fd)
        else:
            os.rename(backup, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)


def _exists(name: str, folder_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
