"""SFTP's attributes of a file as the transfer policy sees them, and the other way round."""

from __future__ import annotations

import stat

from runner.remote_files import FileStatus, WantedAttributes
from runner.sftp.packets import Attributes


def encode_wanted(wanted: WantedAttributes) -> bytes:
    """What SETSTAT and FSETSTAT carry."""
    return Attributes(mode=wanted.permissions, modified_at_seconds=wanted.modified_at_seconds).encode()


def to_status(attributes: Attributes) -> FileStatus:
    """What a server tells of a file. One that tells no mode is taken to speak of a plain file."""
    mode = attributes.mode
    return FileStatus(
        is_directory=mode is not None and stat.S_ISDIR(mode),
        is_regular=mode is None or stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0,
        size_bytes=attributes.size_bytes,
        permissions=None if mode is None else mode & 0o777,
        modified_at_seconds=attributes.modified_at_seconds,
        is_link=mode is not None and stat.S_ISLNK(mode),
    )
