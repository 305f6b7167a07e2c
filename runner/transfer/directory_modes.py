"""Which mode a directory is given: its special bits stay, and nobody is let write into it who could remove others' files."""

from __future__ import annotations

from runner.plan import CopyDirectory
from runner.remote_files import FileStatus
from runner.transfer.decision import asks_for_permissions

SET_GID = 0o2000
STICKY = 0o1000
WRITABLE_BY_ALL = 0o002
OWNERS = 0o700


def keep_special_bits(permissions: int, special_bits: int) -> int:
    """The mode for a directory that has these special bits and shall have the permissions of a source.

    CI checkouts and mounted volumes have 0777 throughout. Without the sticky bit everybody could replace every file in such
    a directory, and sshd refuses a key below it: it is given 0775.
    """
    if not special_bits & STICKY:
        permissions &= ~WRITABLE_BY_ALL
    return permissions | special_bits


def asked_for_mode(permissions: int, special_bits: int) -> int:
    """The same where the playbook asks for the permissions of this very directory: all may write, with the sticky bit."""
    return permissions | special_bits | (STICKY if permissions & WRITABLE_BY_ALL else 0)


def permissions_for_folders(copy: CopyDirectory, source: FileStatus) -> int | None:
    """What a directory shall have, by the step or its source; None if neither says."""
    if copy.permissions is not None:
        return copy.permissions | (copy.permissions & 0o444) >> 2
    return source.permissions if asks_for_permissions(copy) else None


def first_permissions(copy: CopyDirectory, source: FileStatus) -> int | None:
    """What a new destination has while it is filled. It is never more open than in the end, should the play be killed."""
    permissions = permissions_for_folders(copy, source)
    return None if permissions is None else keep_special_bits(permissions, 0) | OWNERS


def mode_of(status: FileStatus) -> int | None:
    """Permissions and special bits of a directory; None if the server does not tell."""
    return None if status.permissions is None else status.permissions | status.special_bits
