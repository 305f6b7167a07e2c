"""What a copy must have proven before it is published."""

from __future__ import annotations

from runner.errors import PermissionRefused, SourceChanged, StepError, VerificationFailed
from runner.plan import CopyFile
from runner.remote_files import AttributesSet, Digest, FileStatus, ReadFile, WantedAttributes, Written
from runner.results import Verified
from runner.transfer.decision import is_same_time, looks_at_times

UNTOLD = FileStatus(False, True, None, None, None)
NOT_SYNCED = "not synced to disk before it was published: the server cannot be asked for that"
FOLDER_NOT_SYNCED = (
    "synced to disk, but not the folder it is in: after a power cut the old file, or none, may be there; "
    "the server syncs no folders"
)
GONE_WHEN_READ = (
    "the source was there no more as soon as its last byte had come: the server hands each file out once, so this is the "
    "only copy"
)
GONE_WHEN_HASHED = "not verified by checksum: the source is gone, and its checksum cannot be asked for any more"
SIZE_UNTOLD = "the server does not tell the source's size; it was read to where the server says that it ends"
TIMES_UNTOLD = "the copy has the time of the copying: the server does not tell the source's"
PERMISSIONS_UNTOLD = (
    "the copy has the permissions of what it replaces, or of what is new: the server does not tell the source's"
)
NOT_SYNCED_HERE = "not synced to disk before it was published: the file system here does not do that"
NOTHING_VERIFIED = (
    "nothing is verified: with 'verify: none' the server's word that every byte was taken or sent is enough"
)

_OTHER_SIZE_HINT = "If its sizes are not those of the contents (record files, mailboxes), set 'verify: none'."
_QUARTER_SECONDS = 900
# Time zones are whole quarters of an hour apart, and at most so much.
_MOST_ZONES_APART_SECONDS = 26 * 3600


def warn_of_options(copy: CopyFile) -> tuple[str, ...]:
    """What every play of a step has to say about its options, whatever comes of it."""
    return (NOTHING_VERIFIED,) if copy.verify == "none" else ()


def prove_sent(
    copy: CopyFile, destination: str, expected_bytes: int, written: Written, peer: str, warnings: list[str]
) -> Verified | None:
    """How far it is proven that what was written is the source. What the server refused and may refuse is warned of.

    Raises what `prove_attributes` does, and `VerificationFailed` if the size is another, or if the server does not tell
    it, and the step does not allow that.
    """
    prove_attributes(copy, destination, written.refused_permissions, peer, warnings)
    if written.is_synced is False:
        warnings.append(NOT_SYNCED)
    if copy.verify == "none":
        return None
    if written.size_bytes is not None:
        if written.size_bytes != expected_bytes:
            raise VerificationFailed(
                f"the copy on {peer} has {written.size_bytes:,} bytes, the source {expected_bytes:,}: every write was "
                "acknowledged, but not everything was kept",
                hint=f"A quota or a full disk on the server is the usual cause. {_OTHER_SIZE_HINT}",
            )
        return "size"
    if copy.verify == "size":
        warnings.append("the server does not tell the copy's size; every byte was acknowledged")
        return None
    raise VerificationFailed(
        f"{peer} does not tell the size of what was just written, so the copy cannot be verified",
        hint="Set 'verify: size' in the mode to accept the server's acknowledgement of every byte instead.",
    )


def prove_attributes(copy: CopyFile, destination: str, refused: str, peer: str, warnings: list[str]) -> None:
    """Warn of attributes that the server refused. Raises `PermissionRefused` if the step itself gives the permissions."""
    if refused and copy.permissions is not None and "permissions" in refused:
        raise PermissionRefused(
            f"{peer} refused to set the permissions {copy.permissions:04o} of {destination!r}: {refused}",
            hint="Remove 'permissions' from the mode if the server's own choice will do.",
        )
    if refused:
        warnings.append(f"the server refused to preserve {refused}")


def prove_same_hash(found: str, expected: str, peer: str) -> None:
    """Raise `VerificationFailed` unless the copy on the server has the hash of what was sent."""
    if found != expected:
        raise VerificationFailed(
            f"the copy on {peer} is not what was sent: its SHA-256 is {found}, expected {expected}",
            hint="The server acknowledged every byte and kept others: its storage or something on the way is broken.",
        )


def prove_kept(source: str, kept_sha256: str, found: Digest, peer: str) -> Verified:
    """How it is proven that what is on the disk here has the hash of the source. Raises `VerificationFailed`."""
    if found.sha256 != kept_sha256:
        raise VerificationFailed(
            f"the copy is not what {peer} has: its SHA-256 is {kept_sha256}, that of {source!r} is {found.sha256}",
            hint="The source was written to meanwhile, or a disk is broken. Play again.",
        )
    return found.how


def prove_received(copy: CopyFile, source: str, read: ReadFile, kept_bytes: int, peer: str) -> Verified | None:
    """How far it is proven that the whole file came, all of one version. Raises `VerificationFailed`, `SourceChanged`.

    With `verify: none` it is only looked whether what came is kept: what the server says of the source counts for nothing.
    """
    source_before = read.before or UNTOLD
    expected, received = source_before.size_bytes, read.received_bytes
    if kept_bytes != received:
        raise VerificationFailed(
            f"{received:,} bytes of {source!r} came, but {kept_bytes:,} are on the disk",
            hint="The server sent a part twice, or left one out, or the disk here lost some. Play again.",
        )
    if copy.verify == "none":
        return None
    before = (source_before.size_bytes, source_before.modified_at_seconds)
    after = (read.after.size_bytes, read.after.modified_at_seconds) if read.after else before
    if (before != after and _differ(before, after)) or (expected is not None and received > expected):
        raise SourceChanged(
            f"the source {source!r} on {peer} was written to while it was copied",
            hint="Play again when whatever writes it has finished.",
        )
    if expected is not None and received != expected:
        raise VerificationFailed(
            f"{peer} sent {received:,} of the {expected:,} bytes of {source!r}",
            hint=f"The server ended the file early although nothing changed it; its storage may be damaged. "
            f"{_OTHER_SIZE_HINT}",
        )
    return None if expected is None else "size"


def _differ(before: tuple[int | None, ...], after: tuple[int | None, ...]) -> bool:
    """Whether something is otherwise of what was told both times."""
    return any(None not in pair and pair[0] != pair[1] for pair in zip(before, after, strict=True))


def warn_of_times(
    copy: CopyFile, wanted: WantedAttributes, found: FileStatus | None, *, are_refused: bool = False
) -> str | None:
    """What to warn of if a server has not set the modification times that it was asked for; or None.

    `found` is the status of a copy after the last request about it, None if the server tells none; `are_refused` that it
    said so itself. The text names no file: those of many files are one warning, as long as the server is wrong in the same
    way.
    """
    asked, kept = wanted.modified_at_seconds, found.modified_at_seconds if found is not None else None
    if asked is None or (kept is not None and is_same_time(copy, asked, kept)) or (kept is None and not are_refused):
        return None
    window = None
    if are_refused or kept is None:
        what = "the server refused to preserve times"
    else:
        what, window = _explain_times(asked, kept)
    if not looks_at_times(copy):
        return f"{what}; 'preserve: [permissions]' does not ask for them"
    if copy.compare == "always":
        return what
    others = "'compare: size' or 'compare: checksum' does not look at them"
    if window is None:
        return f"{what}, so that every play copies again: {others}, 'modify_window' takes near ones for equal"
    return f"{what}, so that every play copies again: 'modify_window: {window}' takes them for equal, {others}"


def find_window(asked: int, kept: int) -> str | None:
    """The `modify_window` in which a server's times are those that it was asked for; None if there is no reasonable one."""
    return _explain_times(asked, kept)[1]


def _explain_times(asked: int, kept: int) -> tuple[str, str | None]:
    """What a server does with times, and the window in which it is right, if there is one."""
    apart = abs(asked - kept)
    if apart <= 2 and kept % 2 == 0:
        return "the server rounds modification times to two seconds", "2s"
    if apart < 60 and kept % 60 == 0:
        return "the server rounds modification times to minutes", "1m"
    if apart % _QUARTER_SECONDS == 0 and apart <= _MOST_ZONES_APART_SECONDS:
        hours, minutes = divmod(apart // 60, 60)
        window = f"{apart // 60}m" if minutes else f"{hours}h"
        return f"the server's modification times are off by {window}", window
    return "the server sets other modification times than it is asked for, and says that all is well", None


def prove_permissions(
    copy: CopyFile, destination: str, wanted: WantedAttributes, found: FileStatus | None, peer: str
) -> str | None:
    """What to warn of if a server keeps other permissions than those that it has said to have set; or None.

    Otherwise as `warn_of_times`. Raises `PermissionRefused` if the step itself gives the permissions.
    """
    asked, kept = wanted.permissions, found.permissions if found is not None else None
    if asked is None or kept is None or asked == kept:
        return None
    if copy.permissions is not None:
        raise PermissionRefused(
            f"{peer} said that it has set the permissions {asked:04o} of {destination!r}, and keeps {kept:04o}",
            hint="Remove 'permissions' from the mode if the server's own choice will do.",
        )
    return f"the server says that it sets permissions, and leaves them at {kept:04o}"


def prove_directory(
    copy: CopyFile, path: str, wanted: WantedAttributes, done: AttributesSet, refusal: StepError | None, peer: str
) -> list[str]:
    """What to warn of if a directory has not got the modes or times that it was to have.

    `refusal` says that none of them was set. Raises it, or `PermissionRefused`, if the step itself gives the permissions.
    The texts name no path: those of many directories are one warning, as long as they have the same mode.
    """
    if refusal is not None and copy.permissions is not None and wanted.permissions is not None:
        refusal.hint = f"{refusal.hint} Without 'permissions' in the mode this is a warning.".lstrip()
        raise refusal
    warnings: list[str] = []
    if done.refused_permissions and copy.permissions is not None:
        raise PermissionRefused(
            f"{peer} refused to set the permissions {wanted.permissions or 0:04o} of {path!r}: "
            f"{describe_kept_permissions('directories', done)}",
            hint="Remove 'permissions' from the mode if the server's own choice will do.",
        )
    if done.refused_permissions:
        warnings.append(f"the server refused to preserve {describe_kept_permissions('directories', done)}")
    elif wanted.permissions is not None and refusal is None:
        # The special bits are the server's to keep or to drop.
        nine_bits = WantedAttributes(wanted.permissions & 0o777, None)
        warnings += filter(None, (prove_permissions(copy, path, nine_bits, done.found, peer),))
    warnings += filter(None, (_warn_of_directory_times(copy, wanted, done),))
    if refusal is not None and not warnings:
        warnings.append("the server refused to set modes or times of directories")
    return warnings


def describe_kept_permissions(of_what: str, done: AttributesSet) -> str:
    """Permissions that a server has refused to set, with its reason and those that stay, if it tells."""
    kept = done.found.permissions if done.found is not None else None
    stay = "" if kept is None else f"; they stay at {kept:04o}"
    return f"permissions of {of_what} ({done.refused_permissions}){stay}"


def _warn_of_directory_times(copy: CopyFile, wanted: WantedAttributes, done: AttributesSet) -> str | None:
    asked, kept = wanted.modified_at_seconds, done.found.modified_at_seconds if done.found is not None else None
    if asked is None or (kept is not None and is_same_time(copy, asked, kept)):
        return None
    if done.are_times_refused:
        return "the server refused to preserve times"
    return None if kept is None else _explain_times(asked, kept)[0]
