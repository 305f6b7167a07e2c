"""What has to be done to a destination: the one place where `compare`, `if_exists` and `preserve` are interpreted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from runner.errors import DestinationExists, DestinationIsDirectory, NotARegularFile
from runner.foretold import NOT_CARRIED_OUT, Unforetold
from runner.plan import CopyDirectory, CopyFile
from runner.remote_files import FileStatus, ForetoldStatus, WantedAttributes

Action = Literal["create", "replace", "chmod", "leave", "nothing"]

# SFTP version 3 and SCP carry times as unsigned 32-bit seconds.
MAX_TIME_SECONDS = 2**32 - 1
# Until it has the permissions that it shall have, a file on the server is its owner's alone.
PRIVATE_PERMISSIONS = 0o600
DESTINATION_UNTOLD = "the server does not tell the permissions of what is there: whether they are right is not known"
SET_UNTOLD = "the server does not tell permissions: every play sets them again"
UNCARRIED_TIME = (
    "a modification time before 1970 or after 2106 cannot be carried: the copy has the nearest one that can"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, the attributes the destination shall have, and what was asked for and cannot be."""

    action: Action
    wanted: WantedAttributes
    warnings: tuple[str, ...] = ()


def decide(
    copy: CopyFile,
    source: FileStatus,
    destination: FileStatus | None,
    *,
    where: str,
    new_file_permissions: int | None = None,
    path: str | None = None,
    has_same_hash: bool = False,
) -> Decision:
    """Compare source and destination as the step says.

    `where` says on which side the destination is, `path` which one it is if it is one of many. `has_same_hash` is what
    came of the question that `only_hash_tells` asks for. Raises `DestinationIsDirectory`, `NotARegularFile` and
    `DestinationExists`.
    """
    if destination is not None and destination.is_directory:
        name = copy.source.rstrip("/").rpartition("/")[2] or "NAME"
        raise DestinationIsDirectory(
            f"the destination {path or copy.destination!r} {where} is a directory",
            hint=f"Name the file in it: {copy.destination.rstrip('/')}/{name}"
            if path is None
            else "The source has a file there. Remove or rename one of them; 'delete: true' replaces the folder.",
        )
    if destination is not None and _is_special(destination) and not (isinstance(copy, CopyDirectory) and copy.delete):
        raise NotARegularFile(
            f"the destination {path or copy.destination!r} {where} is a device, pipe or socket",
            # As root a copy to /dev/null would take it away from everybody.
            hint="Whatever reads or writes there would lose it: "
            + ("name another destination." if path is None else "remove or rename it; 'delete: true' replaces it."),
        )
    wanted, warnings = wanted_attributes(copy, source, destination, new_file_permissions)
    if destination is None:
        return Decision("create", wanted, warnings)
    if has_same_hash or _is_same_content(copy, source, destination):
        asked_for = copy.if_exists == "replace" and (copy.permissions is not None or "permissions" in copy.preserve)
        if asked_for and copy.permissions is None:
            require_known(source.permissions, source, "the permissions")
        if asked_for and destination.permissions is None and wanted.permissions is not None:
            require_known(None, destination, "the permissions")
            # Those that the step itself gives are set; to set others would change something on every play.
            if copy.permissions is not None:
                return Decision("chmod", wanted, (SET_UNTOLD,))
            return Decision("nothing", wanted, (DESTINATION_UNTOLD,))
        differs = (
            None not in (wanted.permissions, destination.permissions) and wanted.permissions != destination.permissions
        )
        return Decision("chmod" if asked_for and differs else "nothing", wanted)
    if copy.if_exists == "skip":
        return Decision("leave", wanted)
    if copy.if_exists == "fail":
        raise DestinationExists(
            f"the destination {path or copy.destination!r} {where} exists and differs from the source",
            hint="'if_exists: fail' is set; 'replace' would overwrite it, 'skip' would leave it.",
        )
    return Decision("replace", wanted, warnings)


def _is_special(status: FileStatus) -> bool:
    """Whether it is known to be none of what a file may take the place of."""
    return status.is_kind_told and not (status.is_directory or status.is_regular or status.is_link)


def require_known(value: int | None, status: FileStatus, what: str) -> None:
    """Raise `Unforetold` if a decision rests on what is not known of something that an earlier step would have made."""
    if value is None and isinstance(status, ForetoldStatus):
        raise Unforetold(f"it needs {what} of what an earlier step would have made, {NOT_CARRIED_OUT}")


def only_hash_tells(copy: CopyFile, source: FileStatus, destination: FileStatus | None) -> bool:
    """Whether a checksum is wanted, and nothing else has shown yet that the two differ."""
    return (
        copy.compare == "checksum"
        and destination is not None
        and destination.is_regular
        and source.size_bytes is not None
        and source.size_bytes == destination.size_bytes
    )


def _is_same_content(copy: CopyFile, source: FileStatus, destination: FileStatus) -> bool:
    if copy.compare not in ("size_mtime", "size") or not destination.is_regular:
        return False
    same_size = source.size_bytes is not None and source.size_bytes == destination.size_bytes
    if same_size and copy.compare == "size_mtime" and source.modified_at_seconds is None:
        # With --check, one that is only written in the play may be as old as another one.
        require_known(destination.modified_at_seconds, destination, "the time")
    return same_size and (
        copy.compare == "size" or is_same_time(copy, source.modified_at_seconds, destination.modified_at_seconds)
    )


def is_same_time(copy: CopyFile, source_seconds: int | None, destination_seconds: int | None) -> bool:
    """Whether a destination has the modification time of its source, as near as the step's `modify_window` asks for."""
    carried = carried_time(source_seconds)
    if carried is None or destination_seconds is None:
        return False
    return abs(carried - destination_seconds) <= copy.modify_window_seconds


def looks_at_times(copy: CopyFile) -> bool:
    """Whether a modification time has a say in what is copied: if not, that of what is right already stays as it is."""
    return copy.compare in ("size_mtime", "always")


def wanted_attributes(
    copy: CopyFile, source: FileStatus, destination: FileStatus | None, new_file_permissions: int | None = None
) -> tuple[WantedAttributes, tuple[str, ...]]:
    """What the destination shall carry, and what was asked for and cannot be.

    Without `new_file_permissions` it is a server's: what was not asked for is not sent, since some servers discard a file if
    any request about it was refused (`opening_permissions`).
    """
    permissions: int | None
    if copy.permissions is not None:
        permissions = copy.permissions
    elif asks_for_permissions(copy) and source.permissions is not None:
        permissions = source.permissions
    elif new_file_permissions is None:
        permissions = None
    elif destination is not None and destination.permissions is not None:
        permissions = destination.permissions
    else:
        permissions = new_file_permissions
    if "times" not in copy.preserve:
        return WantedAttributes(permissions, None), ()
    modified_at = carried_time(source.modified_at_seconds)
    warnings = () if modified_at == source.modified_at_seconds else (UNCARRIED_TIME,)
    return WantedAttributes(permissions, modified_at), warnings


def asks_for_permissions(copy: CopyFile) -> bool:
    """Whether a copy shall have certain permissions: those that the step gives, or the source's."""
    return copy.permissions is not None or ("permissions" in copy.preserve and not copy.leaves_permissions)


def opening_permissions(copy: CopyFile, replaced: FileStatus | None) -> int | None:
    """What the request that creates a file on the server carries; None for nothing.

    Where the step asks for no permissions, none are sent afterwards. Then a new file has what the server gives it, and one
    that replaces another is never more open than that was: it is created with its permissions.
    """
    if asks_for_permissions(copy):
        return PRIVATE_PERMISSIONS
    if copy.leaves_permissions or replaced is None or replaced.is_link:
        return None
    return replaced.permissions


def carried_time(seconds: int | None) -> int | None:
    """The time that the protocols carry for this one: the nearest that they can, so that a second play finds it right."""
    return None if seconds is None else min(max(seconds, 0), MAX_TIME_SECONDS)
