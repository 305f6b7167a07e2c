"""What a local file is, and what is set of it: status, attributes, hash, and syncing to disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable

from runner.remote_files import SPECIAL_BITS, FileStatus, WantedAttributes
from runner.transfer.local_errors import explain_os_error

HASHED_AT_ONCE_BYTES = 1024 * 1024


# Raises what ends the work at hand: `Cancellation.check`, or for another thread what `Cancellation.make_check` gives.
Check = Callable[[], None]


def look_at(path: str) -> FileStatus | None:
    """What is at a local path; None if nothing is. Raises `FileError` if that cannot be told.

    A link is a link, since it is replaced and not followed; only one that leads to a folder counts as that folder.
    """
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            # What is behind it may be anybody's: its permissions must not be taken over, nor changed.
            return FileStatus(os.path.isdir(path), False, None, None, None, True)
        return to_status(found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os_error(error, "cannot look at", path) from error


def look_at_entries(folder: str | int) -> dict[str, FileStatus]:
    """What is in a local directory, given by path or descriptor, links not followed. Raises `OSError`.

    What vanishes before it has been looked at is not there.
    """
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found[entry.name] = to_status(entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
    return found


def to_status(found: os.stat_result) -> FileStatus:
    """What the system says of a file."""
    mode = found.st_mode
    kind = stat.S_IFMT(mode)
    # By position: this is made for every file of a tree.
    if kind == stat.S_IFDIR:
        modified_at = found.st_mtime_ns // 1_000_000_000
        return FileStatus(True, False, found.st_size, mode & 0o777, modified_at, False, mode & SPECIAL_BITS)
    return FileStatus(
        False,
        kind == stat.S_IFREG,
        found.st_size,
        mode & 0o777,
        found.st_mtime_ns // 1_000_000_000,
        kind == stat.S_IFLNK,
    )


def set_attributes(path_or_fd: str | int, wanted: WantedAttributes) -> None:
    """Set permissions and modification time of a local file. Raises `OSError`."""
    if wanted.permissions is not None:
        os.chmod(path_or_fd, wanted.permissions)
    if wanted.modified_at_seconds is not None:
        os.utime(path_or_fd, (wanted.modified_at_seconds, wanted.modified_at_seconds))


def sync_file(fd: int) -> bool:
    """Put an open file, or folder, to disk. False if its file system does not do that. Raises `OSError`."""
    try:
        if hasattr(fcntl, "F_FULLFSYNC"):
            # On macOS fsync leaves it in the drive's cache.
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise
    return True


def sync_folder(path: str) -> None:
    """Put a folder to disk, and so the names that were given in it. Raises `OSError`."""
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


def hash_file(fd: int, check: Check) -> str:
    """The SHA-256 of what an open local file holds, in hexadecimal.

    `check` is called for each MiB, and raises if the work must end: a large file takes minutes. Raises `OSError`.
    """
    hasher = hashlib.sha256()
    space = memoryview(bytearray(HASHED_AT_ONCE_BYTES))
    offset = 0
    while True:
        check()
        count = os.preadv(fd, [space], offset)
        if count == 0:
            return hasher.hexdigest()
        hasher.update(space[:count])
        offset += count


def permissions_by_umask() -> int:
    """What a new file of this process gets."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` to the local file at `offset`. This is where a received byte is written. Raises `OSError`."""
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
