"""Which requests a play cannot do without: what sshd's `internal-sftp -P` may deny, and the play must go on all the same.

The names are those of `sftp-server -Q requests`.
"""

from __future__ import annotations

from enum import Enum


class Play(Enum):
    """A copy of one file, or of a directory."""

    UPLOAD = "upload"
    REPLACE = "replace"
    DOWNLOAD = "download"
    UPLOAD_TREE = "upload-tree"
    DOWNLOAD_TREE = "download-tree"


PLAYS = tuple(Play)
DENIABLE = (
    "open", "close", "read", "write", "lstat", "fstat", "setstat", "fsetstat", "opendir", "readdir", "remove", "mkdir",
    "rmdir", "realpath", "stat", "rename", "readlink", "symlink", "posix-rename", "statvfs", "hardlink", "fsync",
    "limits",
)  # fmt: skip

_ANY_FILE = frozenset({"open", "close"})
NEEDED: dict[Play, frozenset[str]] = {
    # A file can be written in place where RENAME is denied, but not unasked: the hint says `atomic: false`.
    Play.UPLOAD: _ANY_FILE | {"write"},
    Play.REPLACE: _ANY_FILE | {"write"},
    Play.DOWNLOAD: _ANY_FILE | {"read"},
    Play.UPLOAD_TREE: _ANY_FILE | {"write", "mkdir"},
    Play.DOWNLOAD_TREE: _ANY_FILE | {"read", "opendir", "readdir"},
}
# What a hardened server leaves.
FEW_REQUESTS = (
    "open", "close", "write", "stat", "lstat", "fstat", "setstat", "fsetstat", "mkdir", "rename", "realpath", "remove",
)  # fmt: skip
# What one leaves into which things are only put.
DROP_BOX = ("open", "close", "write", "mkdir", "rename", "realpath")
