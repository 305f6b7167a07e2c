"""SFTP's attributes of a file as the transfer policy sees them, and the other way round."""

from __future__ import annotations

import stat

from runner.remote_files import SPECIAL_BITS, FileStatus, WantedAttributes
from runner.sftp.packets import Attributes

_TYPE_BITS = stat.S_IFMT(0xFFFF)
# The nine bits, each number once: there are few, and a listing has very many.
_PERMISSIONS = tuple(range(0o1000))
_REGULAR, _DIRECTORY, _LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK


def encode_wanted(wanted: WantedAttributes) -> bytes:
    """What SETSTAT and FSETSTAT carry."""
    return Attributes(None, wanted.permissions, None, wanted.modified_at_seconds).encode()


def to_status(attributes: Attributes) -> FileStatus:
    """What a server tells of a path. One that tells no kind is taken to speak of a plain file, and that is marked."""
    size_bytes, mode, _, modified_at = attributes
    if mode is None:
        return FileStatus(False, True, size_bytes, None, modified_at, is_kind_told=False)
    kind = mode & _TYPE_BITS
    # By position: this is made for every file of a tree.
    if kind == _REGULAR:
        return FileStatus(False, True, size_bytes, _PERMISSIONS[mode & 0o777], modified_at)
    if kind == _DIRECTORY:
        return FileStatus(True, False, size_bytes, _PERMISSIONS[mode & 0o777], modified_at, False, mode & SPECIAL_BITS)
    return FileStatus(
        False, not kind, size_bytes, _PERMISSIONS[mode & 0o777], modified_at, kind == _LINK, 0, bool(kind)
    )
