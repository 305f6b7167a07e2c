"""Sees that what is written is private from its first byte on: not every server keeps the modes of OPEN and MKDIR."""

from __future__ import annotations

import stat

from runner.remote_files import SPECIAL_BITS, WantedAttributes
from runner.server_traits import PrivateBy
from runner.sftp.attributes import encode_wanted
from runner.sftp.batch.file import Answer, BatchFile, Stages, ignore
from runner.sftp.packets import Type, encode_path

PRIVATE_MODE = 0o600
_REQUESTS: dict[PrivateBy, int] = {"handle": Type.FSETSTAT, "path": Type.SETSTAT}
_WHY: dict[PrivateBy, str] = {
    "opening": "a new file had the mode that it was opened with",
    "handle": "a new file did not have the mode that it was opened with",
    "path": "a new file had neither the mode that it was opened with, nor the one that FSETSTAT set",
    "nothing": "a new file was open to others, whatever was asked for",
}


def make_private(file: BatchFile, handle: bytes, path: bytes) -> Stages[None]:
    """Have an empty file, which OPEN was to make private, so indeed, as far as the server lets that be had.

    Go's pkg/sftp (1.13.5, server.go) gives every new file the mode 0644. What the first files show is enough for the others.
    `handle` and `path` are as requests carry them.
    """
    by = file.session.traits.makes_private_by
    if by is None:
        by = yield from close_off(file, handle, path, PRIVATE_MODE)
        if file.session.traits.makes_private_by is None and not file.has_failed:
            file.session.traits.saw("makes_private_by", by, _WHY[by])
    elif by in _REQUESTS:
        yield from _set_mode(file, by, handle, path, PRIVATE_MODE)


def close_off(file: BatchFile, handle: bytes, path: bytes, permissions: int) -> Stages[PrivateBy]:
    """Have a file that is still empty, and may be an old one, no more open than this. What that took.

    Each request is waited for, as a WRITE behind it could overtake it.
    """
    if (yield from _is_closed(file, handle, permissions)):
        return "opening"
    for by in _REQUESTS:
        if file.has_failed:
            break
        is_set = yield from _set_mode(file, by, handle, path, permissions)
        if is_set and (yield from _is_closed(file, handle, permissions)) is not False:
            return by
    return "nothing"


def close_off_folder(file: BatchFile, path: str, found: Answer, permissions: int | None) -> Stages[None]:
    """Have a directory that was just made no more open than it was asked to be, before anything is in it.

    `found` is what is seen at its path. Go's pkg/sftp (1.13.5, server.go) gives every new directory the mode 0755.
    """
    closed = closed_mode(found.mode, permissions)
    if closed is not None:
        file.ask(Type.SETSTAT, encode_path(path) + encode_wanted(WantedAttributes(closed, None)), ignore)
        yield


def closed_mode(mode: int | None, permissions: int | None) -> int | None:
    """What a directory of this mode must be given to be no more open than asked for; None if it is not, or is none.

    It keeps the set-gid bit that a system passes on, or whatever else it has by itself.
    """
    if mode is None or permissions is None or not stat.S_ISDIR(mode) or not mode & 0o777 & ~permissions:
        return None
    return permissions | mode & SPECIAL_BITS


def _set_mode(file: BatchFile, by: PrivateBy, handle: bytes, path: bytes, permissions: int) -> Stages[bool]:
    """Whether it was not refused."""
    setting = Answer(file)
    wanted = encode_wanted(WantedAttributes(permissions, None))
    file.ask(_REQUESTS[by], (handle if by == "handle" else path) + wanted, setting.take)
    yield
    return setting.refusal is None


def _is_closed(file: BatchFile, handle: bytes, permissions: int) -> Stages[bool | None]:
    """Whether a file is no more open than that; None if the server does not tell."""
    looked = Answer(file)
    file.ask(Type.FSTAT, handle, looked.take)
    yield
    mode = looked.attributes.mode if looked.attributes is not None else None
    return None if mode is None else not mode & 0o777 & ~permissions
