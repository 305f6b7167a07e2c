"""What a copy must have proven before it is published."""

from __future__ import annotations

from runner.errors import PermissionRefused, SourceChanged, VerificationFailed
from runner.plan import CopyFile
from runner.remote_files import Digest, FileStatus, ReadFile, Written
from runner.results import Verified

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
NOT_SYNCED_HERE = "not synced to disk before it was published: the file system here does not do that"


def prove_sent(
    copy: CopyFile, destination: str, expected_bytes: int, written: Written, peer: str, warnings: list[str]
) -> Verified | None:
    """How far it is proven that what was written is the source. What the server refused and may refuse is warned of.

    Raises what `prove_attributes` does, and `VerificationFailed` if the size is another, or if the server does not tell
    it and the step does not allow that.
    """
    prove_attributes(copy, destination, written.refused_attributes, peer, warnings)
    if written.is_synced is False:
        warnings.append(NOT_SYNCED)
    if written.size_bytes is not None:
        if written.size_bytes != expected_bytes:
            raise VerificationFailed(
                f"the copy on {peer} has {written.size_bytes:,} bytes, the source {expected_bytes:,}: every write was "
                "acknowledged, but not everything was kept",
                hint="A quota or a full disk on the server is the usual cause.",
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


def prove_received(source: str, read: ReadFile, kept_bytes: int, peer: str) -> None:
    """Raise unless the whole file came, all of one version, and is kept. `VerificationFailed`, `SourceChanged`."""
    source_before = read.before or UNTOLD
    expected, received = source_before.size_bytes, read.received_bytes
    before = (source_before.size_bytes, source_before.modified_at_seconds)
    after = (read.after.size_bytes, read.after.modified_at_seconds) if read.after else before
    if before != after or (expected is not None and received > expected):
        raise SourceChanged(
            f"the source {source!r} on {peer} was written to while it was copied",
            hint="Play again when whatever writes it has finished.",
        )
    if expected is not None and received != expected:
        raise VerificationFailed(
            f"{peer} sent {received:,} of the {expected:,} bytes of {source!r}",
            hint="The server ended the file early although nothing changed it; its storage may be damaged.",
        )
    if kept_bytes != received:
        raise VerificationFailed(f"{received:,} bytes of {source!r} came, but {kept_bytes:,} are on the disk")
