"""What is at a path of the server, for those who cannot do without knowing: a server may refuse to tell."""

from __future__ import annotations

from runner.errors import FileRefused, PermissionRefused
from runner.remote_files import FileStatus, RemoteReader, StatusRefused


def look(remote: RemoteReader, path: str, peer: str, *, follow: bool = True, hint: str = "") -> FileStatus | None:
    """What is at a path, None if nothing is. Raises `PermissionRefused` if the server does not tell."""
    try:
        return remote.status(path, follow=follow)
    except StatusRefused as refusal:
        raise status_refused(refusal, path, peer, hint=hint) from refusal


def status_refused(refusal: StatusRefused, path: str, peer: str, *, hint: str = "") -> PermissionRefused:
    """The error for a server that does not tell what is at a path, where that must be known."""
    said = f": {refusal}" if str(refusal) else ""
    return PermissionRefused(
        f"{peer} does not tell what is at {path!r}{said}",
        hint=hint or "Check the permissions of the directories above it.",
    )


def kind_untold(path: str, peer: str) -> FileRefused:
    """The error for what may be a directory, where that decides what becomes of it."""
    return FileRefused(
        f"{peer} does not tell whether {path!r} is a directory, a link or a file, so it was left alone",
        hint="A directory is known by being listed: check that this account may list it, or name another path.",
    )


def require_kind(found: FileStatus | None, path: str, peer: str) -> None:
    """Raise `FileRefused` if something is at a path, and no request tells what it is."""
    if found is not None and not found.is_kind_told:
        raise kind_untold(path, peer)
