"""What is at a path of the server, for those who cannot do without knowing: a server may refuse to tell."""

from __future__ import annotations

from runner.errors import PermissionRefused
from runner.remote_files import FileStatus, RemoteFiles, StatusRefused


def look(remote: RemoteFiles, path: str, peer: str, *, follow: bool = True, hint: str = "") -> FileStatus | None:
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
