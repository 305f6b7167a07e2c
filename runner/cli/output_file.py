"""A file that a command writes: there whole or not at all, and what was there before keeps its nature.

A regular file is replaced in one step, with its permissions; a symbolic link stays one, and what it leads to is replaced. A
pipe, a device or an open descriptor (`/dev/stdout`, `/dev/fd/3`, a shell's `>(…)`) is written to as it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from pathlib import Path

from runner.cli.standard_streams import write_some

MAX_LINKS = 40

_DESCRIPTOR = re.compile(
    r"/dev/(?:fd/(?P<number>[0-9]{1,9})|std(?P<name>in|out|err))|/proc/[^/]+/fd/(?P<other>[0-9]{1,9})"
)
_NAMED = {"in": 0, "out": 1, "err": 2}


def require_writable(path: str) -> None:
    """Raise the `OSError` that `write_file` would most likely meet. Opens nothing, so that a pipe's reader sees nothing."""
    descriptor = _find_descriptor(path)
    if descriptor is not None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "it is open for reading only")
        return
    target = os.path.realpath(path)
    if _is_special(path):
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"the directory {folder} cannot be written to")


def write_file(path: str, content: bytes, *, new_permissions: int, is_synced: bool = False) -> None:
    """Write the file, in one step unless it is a pipe, a device or an open descriptor. Raises `OSError`.

    `new_permissions`, less the umask, are those of a file that was not there. With `is_synced` it is on the disk, whatever
    happens to the machine, before what was there goes.
    """
    descriptor = _find_descriptor(path)
    if descriptor is not None:
        _write_straight(os.dup(descriptor), content)
    elif _is_special(path):
        _write_straight(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY), content)
    else:
        _replace(Path(os.path.realpath(path)), content, new_permissions, is_synced=is_synced)


def _find_descriptor(path: str) -> int | None:
    """The descriptor of ours that a path means. Opened by its path, a file behind it would be written from its beginning."""
    for _ in range(MAX_LINKS):
        found = _DESCRIPTOR.fullmatch(os.path.normpath(path))
        if found:
            number = int(found["number"] or found["other"] or _NAMED[found["name"] or "out"])
            os.fstat(number)
            return number
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except OSError:
            return None
    return None


def _is_special(path: str) -> bool:
    """Whether there is a pipe, a device or a socket. Raises `OSError` for a directory, and what cannot be looked at."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(mode)


def _write_straight(descriptor: int, content: bytes) -> None:
    try:
        view = memoryview(content)
        while view:
            view = view[write_some(descriptor, view) :]
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes, new_permissions: int, *, is_synced: bool) -> None:
    """It keeps its permissions and, as far as we may, its owner."""
    old = path.stat() if path.exists() else None
    # Nobody can know the name beforehand, nor put a link in its place.
    temporary = path.with_name(f".runner-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # Nobody may read on the way what they must not read in the end.
    descriptor = os.open(temporary, flags, new_permissions if old is None else 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            if old is not None:
                _take_over(old, descriptor)
            stream.flush()
            if is_synced:
                os.fsync(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _take_over(old: os.stat_result, descriptor: int) -> None:
    try:
        os.fchown(descriptor, old.st_uid, old.st_gid)
    except PermissionError:
        pass  # only root may give files away
    os.fchmod(descriptor, old.st_mode & 0o777)
