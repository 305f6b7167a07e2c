"""What an error of this machine's file system means for the user."""

from __future__ import annotations

import errno

from runner.errors import (
    DiskFull,
    FileError,
    FileRefused,
    PermissionRefused,
)


def explain_writing_in_place(path: str, *, is_link: bool) -> FileRefused:
    """The error for a destination that cannot be written in place: a link, or else a device, pipe or socket."""
    if is_link:
        return FileRefused(
            f"the destination {path!r} on this machine is a symbolic link, and is to be written in place",
            hint="Name the file that it leads to; or remove 'atomic: false', and the link is replaced.",
        )
    return FileRefused(
        f"the destination {path!r} on this machine is a device, pipe or socket",
        hint="Only regular files can be written in place.",
    )


def no_folder_above(path: str, folder: str) -> FileRefused:
    """The error for a destination whose directory is missing."""
    return FileRefused(
        f"cannot create {path!r}: the directory {folder!r} does not exist",
        hint="'create_parents: true' makes it.",
    )


def explain_os_error(error: OSError, doing: str, path: str) -> FileError:
    """What an error of the local file system means for the user."""
    reason = error.strerror or str(error)
    message = f"{doing} {path!r} on this machine: {reason}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(message, hint="Make room, then play again; the old destination is untouched.")
        case errno.EFBIG:
            return FileRefused(
                message, hint="The file system, or this process (`ulimit -f`), allows no file of that size."
            )
        case errno.EACCES | errno.EPERM:
            return PermissionRefused(
                message, hint="Check owner and permissions of the file and of the folders above it."
            )
        case errno.ENAMETOOLONG:
            return FileRefused(message, hint="A name may have 255 bytes on most file systems.")
        case errno.ENOTDIR:
            return FileRefused(message, hint="Something on the way to it is a file where a folder is needed.")
        case errno.ELOOP:
            return FileRefused(message, hint="Symbolic links on the way to it lead in a circle.")
    return FileRefused(message, hint="Check the path and the folder it is in.")
