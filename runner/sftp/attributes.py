"""SFTP's attributes of a file as the transfer policy sees them, and the other way round."""

from __future__ import annotations

import stat

from runner.remote_files import SPECIAL_BITS, FileStatus, WantedAttributes
from runner.sftp.packets import Attributes


def encode_wanted(wanted: WantedAttributes) -> bytes:
    """What SETSTAT and FSETSTAT carry."""
    return Attributes(None, wanted.permissions, None, wanted.modified_at_seconds).encode()


def to_status(attributes: Attributes) -> FileStatus:
    """What a server tells of a file. One that tells no mode is taken to speak of a plain file."""
    mode = attributes.mode
    if mode is None:
        return FileStatus(False, True, attributes.size_bytes, None, attributes.modified_at_seconds)
    kind = stat.S_IFMT(mode)
    # By position: this is made for every file of a tree.
    if kind == stat.S_IFDIR:
        size_bytes, modified_at = attributes.size_bytes, attributes.modified_at_seconds
        return FileStatus(True, False, size_bytes, mode & 0o777, modified_at, False, mode & SPECIAL_BITS)
    return FileStatus(
        False,
        kind in (stat.S_IFREG, 0),
        attributes.size_bytes,
        mode & 0o777,
        attributes.modified_at_seconds,
        kind == stat.S_IFLNK,
    )
