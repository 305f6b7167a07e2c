"""Copies one file: look, decide, write under a temporary name, verify, publish. The same order in both directions.

Whatever goes wrong before `publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace

from runner.cancellation import Cancellation, CleanUpAbandoned
from runner.errors import (
    FileError,
    FileRefused,
    Interrupted,
    PermissionRefused,
    ServerLacksFeature,
    SourceMissing,
    StepError,
    UnreachableError,
)
from runner.plan import CopyFile, CopyFileFromEngine, CopyFileToEngine
from runner.remote_files import (
    NOTHING_WANTED,
    FileStatus,
    Published,
    RemoteFiles,
    Source,
    StatusRefused,
    WantedAttributes,
    Written,
)
from runner.results import Change, ChangeAction, CopyResult, Verified
from runner.transfer.backup import backup_names, free_remote_path, is_taken
from runner.transfer.changes import (
    can_be_diffed,
    diff_texts,
    explain_difference,
    explain_permissions,
    read_local,
    read_remote,
)
from runner.transfer.checksums import hash_local
from runner.transfer.decision import Decision, decide, only_hash_tells
from runner.transfer.leftovers import describe_leftovers
from runner.transfer.local_files import (
    LocalFolder,
    LocalSource,
    LocalTarget,
    explain_os_error,
    hash_file,
    look_at,
    open_folder,
    open_source,
    permissions_by_umask,
    require_regular,
    set_attributes,
    set_permissions,
    writing_to,
)
from runner.transfer.resume import (
    RESUME_FROM_BYTES,
    Claim,
    RemoteClaims,
    clear_local_leftovers,
    find_local_prefix,
    partial_of_download,
    partial_of_upload,
)
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import prove_attributes, prove_kept, prove_received, prove_same_hash, prove_sent

# How long a server gets to remove a temporary file after a failure or a signal, and to finish a rename after a signal.
# Together well below the ten seconds that containers have between SIGTERM and SIGKILL.
CLEAN_UP_SECONDS = 2.0
NEW_REMOTE_FILE_PERMISSIONS = 0o644


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a copy needs beside its own description. `on_progress` gets done and total bytes.

    `open_local_folder` opens a folder that a download writes into; without it links on the way there are followed.
    """

    remote: RemoteFiles
    peer: str
    is_check: bool
    on_progress: Callable[[int, int], None]
    cancellation: Cancellation
    # Told of every change before it is made; None if nobody wants to know. With `is_diff` small texts are compared.
    on_change: Callable[[Change], None] | None = None
    is_diff: bool = False
    # Whose the temporary files are: what one play leaves, the next one of the same owner goes on with or clears away.
    owner: str = ""
    open_local_folder: Callable[[str], LocalFolder] | None = None

    def tell(self, change: Change) -> None:
        """Something is about to be changed."""
        if self.on_change is not None:
            self.on_change(change)


def copy_file(copy: CopyFileFromEngine | CopyFileToEngine, around: Surroundings) -> CopyResult:
    """Carry out one copy. Raises a `StepError` with the destination as it was, or `Interrupted`."""
    if isinstance(copy, CopyFileFromEngine):
        return upload_file(copy, around)
    return download_file(copy, around)


def upload_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file to the server. Raises as `copy_file` does."""
    with open_source(copy.source) as source:
        destination, is_known = _look_at_remote(copy.destination, around)
        if not is_known and (copy.if_exists != "replace" or copy.backup):
            option, other = ("backup: true", "false") if copy.backup else (f"if_exists: {copy.if_exists}", "replace")
            raise ServerLacksFeature(
                f"{around.peer} does not tell whether {copy.destination!r} exists, so '{option}' cannot be kept",
                hint=f"Set '{option.partition(':')[0]}: {other}' for this server.",
            )
        sha256 = None
        if only_hash_tells(copy, source.status, destination):
            sha256 = _same_hash(copy.destination, source.opened_as.st_size, hash_file(source.fd), around)
        decision = decide(
            copy,
            source.status,
            destination,
            where=f"on {around.peer}",
            new_file_permissions=NEW_REMOTE_FILE_PERMISSIONS,
            has_same_hash=sha256 is not None,
        )
        if not is_known:
            decision = replace(decision, warnings=(*decision.warnings, "the server does not tell what is there"))
        _tell_change(copy, decision, source.status, destination, around)
        if around.is_check or decision.action in ("nothing", "leave"):
            return _summarise(copy, decision, source.status, around, sha256)
        if decision.action == "chmod":
            return _change_remote_permissions(copy, decision, source.status, around)
        if destination is not None or not copy.create_parents:
            return _send(copy, decision, source, around, [])
        return _send_with_parents(copy, decision, source, around)


def _send_with_parents(copy: CopyFile, decision: Decision, source: LocalSource, around: Surroundings) -> CopyResult:
    """Send the source, and make the folders above the destination where they are missing."""
    remote = around.remote
    if remote.tells_made_folders and source.opened_as.st_size < RESUME_FROM_BYTES:
        # Nearly always they are there: looking first would cost a round trip for each file.
        try:
            return _send(copy, decision, source, around, [])
        except FileError:
            made = remote.create_parents(copy.destination)
            if not made:
                raise
    else:
        made = remote.create_parents(copy.destination)
    try:
        return _send(copy, decision, source, around, made)
    except FileError:
        # Another play that had made the folder, and failed, may have removed it before anything was in it.
        again = remote.create_parents(copy.destination)
        if not again:
            raise
    return _send(copy, decision, source, around, again)


def _send(
    copy: CopyFile, decision: Decision, source: LocalSource, around: Surroundings, made_folders: list[str]
) -> CopyResult:
    """Write the source to the server and publish it. `made_folders` are new, and go again if that fails."""
    remote, size = around.remote, source.opened_as.st_size
    given = Source(source.fd, size, hashlib.sha256() if copy.verify == "checksum" else None)
    warnings = list(decision.warnings)

    def report(done_bytes: int) -> None:
        around.on_progress(done_bytes, size)

    is_atomic = copy.atomic and remote.can_rename
    backup: str | None = None
    cleared = 0
    if not is_atomic:
        if copy.backup:
            raise ServerLacksFeature(
                f"{around.peer} offers no way to rename a file, so the old {copy.destination!r} cannot be kept",
                hint="Remove 'backup', or use connector_type: SFTP.",
            )
        if copy.atomic:
            warnings.append("written in place, not atomically: the server offers no way to rename a file")
        with _naming_what_is_left(copy.destination):
            written = remote.write_in_place(copy.destination, given, decision.wanted, report)
            verified = _verify_sent(copy, copy.destination, source, written, given, around, warnings)
    else:
        partial = partial_of_upload(copy, source, around.owner) if remote.can_resume else None
        temporary = TemporaryNames(around.owner).path_beside(copy.destination)
        claims = RemoteClaims(remote, around.peer, around.cancellation.check)
        with claims.claim(partial, source, temporary) as claim, _tidying_up(claim, made_folders, around):
            given, cleared = _go_on(given, claim, around), claim.cleared
            # What goes on must be resumable until it is proven: only then it gets the permissions that others may use.
            is_set_later = claim.is_kept and given.hasher is not None
            write = remote.write_on if claim.exists else remote.write_new
            written = write(claim.path, given, NOTHING_WANTED if is_set_later else decision.wanted, report)
            verified = _verify_sent(copy, claim.path, source, written, given, around, warnings)
            if is_set_later:
                refused = _set_remote_attributes(claim.path, decision.wanted, remote)
                prove_attributes(copy, copy.destination, refused, around.peer, warnings)
            # This is where the temporary file becomes the destination. A signal between two renames would lose both.
            is_atomic, backup = _publish(copy, claim.path, around)
        if not is_atomic:
            why = "gives no file two names" if backup else "cannot replace a file in one (no posix-rename)"
            warnings.append(f"replaced in two steps: the server {why}")
    return CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=size,
        files_changed=1,
        bytes_transferred=size - given.offset,
        message=_message(decision, given.offset, backup, cleared),
        backup=backup,
        resumed_at_bytes=given.offset,
        verified=verified,
        sha256=given.hasher.hexdigest() if given.hasher else None,
        atomic=is_atomic,
        warnings=tuple(warnings),
    )


def _go_on(given: Source, claim: Claim, around: Surroundings) -> Source:
    """The source from where an earlier attempt's partial file ends.

    What is put together of two attempts is proven as a whole where that costs no transfer, whatever the step asks for.
    """
    if not claim.offset:
        return given
    is_hashed = given.hasher is not None or around.remote.can_hash
    return given._replace(offset=claim.offset, hasher=claim.hasher if is_hashed else None)


def _publish(copy: CopyFile, temporary: str, around: Surroundings) -> Published:
    """Rename the temporary file over the destination; the old one is kept under a name that is free, if it is to be."""
    remote = around.remote
    while True:
        kept_as = free_remote_path(copy.destination, remote) if copy.backup else None
        try:
            with around.cancellation.deferred(CLEAN_UP_SECONDS):
                return remote.publish(temporary, copy.destination, kept_as)
        except FileError:
            # Another play may have kept the old file under that very name a moment ago.
            if kept_as is None or not is_taken(kept_as, remote):
                raise


def _set_remote_attributes(path: str, wanted: WantedAttributes, remote: RemoteFiles) -> str:
    """Set what is wanted, one by one where the server refuses both together. Says in words what it refused."""
    singles = {
        "permissions": WantedAttributes(wanted.permissions, None),
        "times": WantedAttributes(None, wanted.modified_at_seconds),
    }
    try:
        if wanted != NOTHING_WANTED:
            remote.set_attributes(path, wanted)
        return ""
    except (FileError, ServerLacksFeature) as both:
        reason = both.message
    refused = []
    for name, single in singles.items():
        try:
            if single != NOTHING_WANTED:
                remote.set_attributes(path, single)
        except (FileError, ServerLacksFeature):
            refused.append(name)
    return f"{' and '.join(refused)} ({reason})" if refused else ""


def _message(decision: Decision, offset: int, backup: str | None, cleared: int = 0) -> str:
    done = "created" if decision.action == "create" else "replaced"
    if backup is not None:
        done = f"{done}, the old one kept as {backup.rpartition('/')[2]}"
    told = [done, f"resumed at byte {offset:,}" if offset else "", describe_leftovers(cleared)]
    return ", ".join(part for part in told if part)


def _verify_sent(
    copy: CopyFile,
    path: str,
    source: LocalSource,
    written: Written,
    given: Source,
    around: Surroundings,
    warnings: list[str],
) -> Verified | None:
    """Prove as far as the server allows that `path` is the source. Raises `VerificationFailed`, `SourceChanged`."""
    source.check_unchanged()
    size_bytes = source.opened_as.st_size
    if written.size_bytes is None:
        found, _ = _look_at_remote(path, around)
        written = written._replace(size_bytes=found.size_bytes if found else None)
    verified = prove_sent(copy, copy.destination, size_bytes, written, around.peer, warnings)
    if given.hasher is None:
        return verified
    found_hash = around.remote.sha256(path, size_bytes)
    prove_same_hash(found_hash.sha256, given.hasher.hexdigest(), around.peer)
    return found_hash.how


def _verify_received_checksum(copy: CopyFile, target: LocalTarget, around: Surroundings) -> tuple[Verified, str]:
    """Prove that what is on the disk here has the hash of the source. Raises `VerificationFailed`."""
    # Both sides at the same time: hashing lets other threads run.
    with ThreadPoolExecutor(1) as hashing:
        local = hashing.submit(hash_file, target.fd)
        found = around.remote.sha256(copy.source, os.fstat(target.fd).st_size)
        kept = local.result()
    return prove_kept(copy.source, kept, found, around.peer), kept


def download_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file from the server. Raises as `copy_file` does."""
    source, is_known = _look_at_remote(copy.source, around)
    if is_known and source is None:
        raise SourceMissing(
            f"the source {copy.source!r} does not exist on {around.peer}",
            hint="Relative remote paths start at the login directory; servers do not expand '~'.",
        )
    source = source or FileStatus(False, True, None, None, None)
    require_regular(source, copy.source, f"on {around.peer}")
    destination = look_at(copy.destination)
    sha256 = None
    if only_hash_tells(copy, source, destination):
        sha256 = _same_hash(
            copy.source, source.size_bytes or 0, hash_local(copy.destination, follows_links=True), around
        )
    decision = decide(
        copy,
        source,
        destination,
        where="on this machine",
        new_file_permissions=permissions_by_umask(),
        has_same_hash=sha256 is not None,
    )
    _tell_change(copy, decision, source, destination, around)
    if around.is_check or decision.action in ("nothing", "leave"):
        return _summarise(copy, decision, source, around, sha256)
    if decision.action == "chmod":
        _change_local_permissions(copy, decision, around)
        return _summarise(copy, decision, source, around)
    return _fetch(copy, decision, source, around)


def _fetch(copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings) -> CopyResult:
    """Read the source from the server and publish it."""

    def report(done_bytes: int) -> None:
        around.on_progress(done_bytes, source.size_bytes or done_bytes)

    verified: Verified | None = None
    sha256: str | None = None
    in_place = nullcontext() if copy.atomic else _naming_what_is_left(copy.destination)
    remote, cleared = around.remote, 0
    partial = partial_of_download(copy, source, around.owner) if remote.can_resume else None
    target_of_copy = writing_to(
        lambda: _open_local_folder(copy, around),
        copy.destination,
        is_atomic=copy.atomic,
        names=TemporaryNames(around.owner),
        partial_name=partial.name if partial else None,
        permissions=decision.wanted.permissions,
    )
    with in_place, target_of_copy as target:
        try:
            offset = 0
            if target.is_partial:
                offset = find_local_prefix(target, copy, remote, around.peer, around.cancellation.check)
            if partial is not None and not offset:
                cleared = clear_local_leftovers(target.folder, partial, target.fd)
            read = remote.read(copy.source, target.fd, report, offset)
            if offset:
                # What is here already is the beginning of the source that was looked at, and of no other.
                read = read._replace(before=source)
            prove_received(copy.source, read, os.fstat(target.fd).st_size, around.peer)
            if copy.verify == "checksum" or offset:
                # What is put together of two attempts is proven as a whole.
                verified, sha256 = _verify_received_checksum(copy, target, around)
            elif read.before.size_bytes is not None:
                verified = "size"
            set_attributes(target.fd, decision.wanted)
        except OSError as error:
            raise explain_os_error(error, "cannot write", copy.destination) from error
        is_atomic, backup = target.publish(keeps_old=copy.backup)
    warnings = decision.warnings
    if copy.atomic and not is_atomic:
        warnings = (*warnings, "replaced in two steps: the file system here gives no file two names")
    return CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=read.received_bytes,
        files_changed=1,
        bytes_transferred=read.received_bytes - offset,
        message=_message(decision, offset, backup, cleared),
        backup=backup,
        resumed_at_bytes=offset,
        verified=verified,
        sha256=sha256,
        atomic=is_atomic,
        warnings=warnings,
    )


def _open_local_folder(copy: CopyFile, around: Surroundings) -> LocalFolder:
    """The folder that the destination is in, made if need be. Raises `FileError`."""
    folder = os.path.dirname(copy.destination)
    if around.open_local_folder is not None:
        return around.open_local_folder(folder)
    return open_folder(folder, copy.destination, create_parents=copy.create_parents)


def _change_local_permissions(copy: CopyFile, decision: Decision, around: Surroundings) -> None:
    """The content is right, the permissions are not."""
    with closing(_open_local_folder(copy, around)) as folder:
        try:
            if decision.wanted.permissions is not None:
                set_permissions(folder, os.path.basename(copy.destination), decision.wanted.permissions)
        except OSError as error:
            raise explain_os_error(error, "cannot set the permissions of", copy.destination) from error


def _change_remote_permissions(
    copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings
) -> CopyResult:
    """The content is right, the permissions are not."""
    try:
        around.remote.set_attributes(copy.destination, WantedAttributes(decision.wanted.permissions, None))
    except (PermissionRefused, ServerLacksFeature):
        if copy.permissions is not None:
            raise
        unchanged = Decision("nothing", decision.wanted, ("the server refused to preserve permissions",))
        return _summarise(copy, unchanged, source, around)
    return _summarise(copy, decision, source, around)


def _tell_change(
    copy: CopyFile, decision: Decision, source: FileStatus, destination: FileStatus | None, around: Surroundings
) -> None:
    """Say what is about to be changed, and why, if somebody wants to know."""
    action = decision.action
    if around.on_change is None or action in ("nothing", "leave"):
        return
    if action == "chmod":
        why = explain_permissions(destination.permissions if destination else None, decision.wanted.permissions)
        around.tell(Change("chmod", copy.destination, why))
        return
    diff = ""
    if around.is_diff and can_be_diffed(source, destination):
        is_upload = isinstance(copy, CopyFileFromEngine)
        here = copy.source if is_upload else copy.destination
        there = copy.destination if is_upload else copy.source
        local = b"" if destination is None and not is_upload else read_local(here, follows_links=True)
        remote = b"" if destination is None and is_upload else read_remote(around.remote, there)
        old, new = (remote, local) if is_upload else (local, remote)
        diff = diff_texts(old, new, copy.destination)
    kind: ChangeAction = "create" if action == "create" else "replace"
    around.tell(Change(kind, copy.destination, explain_difference(copy, source, destination), source.size_bytes, diff))


def _same_hash(remote_path: str, size_bytes: int, local_sha256: str | None, around: Surroundings) -> str | None:
    """The SHA-256 that both sides have, None if they differ or one cannot be read: then it is copied, and told there."""
    try:
        return local_sha256 if around.remote.sha256(remote_path, size_bytes).sha256 == local_sha256 else None
    except (PermissionRefused, FileRefused, SourceMissing):
        return None


def _look_at_remote(path: str, around: Surroundings) -> tuple[FileStatus | None, bool]:
    """What is at a remote path, and whether the server tells at all."""
    try:
        return around.remote.status(path), True
    except StatusRefused:
        return None, False


def _summarise(
    copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings, sha256: str | None = None
) -> CopyResult:
    """The result of a copy that moved no bytes."""
    is_change = decision.action in ("create", "replace", "chmod")
    becomes = "would become" if around.is_check else "set to"
    done = {
        "create": "would be created",
        "replace": "would be replaced",
        "chmod": f"permissions {becomes} {decision.wanted.permissions or 0:04o}",
        "leave": "exists and differs, left alone (if_exists: skip)",
        "nothing": "already right",
    }
    message, backup = done[decision.action], None
    if copy.backup and decision.action == "replace":
        folder, slash, name = copy.destination.rpartition("/")
        backup = folder + slash + next(backup_names(name))
        message = f"{message}, the old one kept under a dated name"
    return CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=source.size_bytes or 0,
        files_changed=int(is_change),
        bytes_transferred=0,
        message=message,
        backup=backup,
        sha256=sha256,
        skipped=decision.action == "leave",
        warnings=decision.warnings,
    )


@contextmanager
def _tidying_up(claim: Claim, made_folders: list[str], around: Surroundings) -> Iterator[None]:
    """If the block fails, remove temporary file and new folders, and say so if that fails too.

    A partial file stays for the next attempt when the session has ended or the play was interrupted.
    """
    try:
        yield
    except (UnreachableError, Interrupted) as error:
        if not claim.is_kept:
            _remove(claim.path, made_folders, error, around)
        elif isinstance(error, StepError):
            error.add(f"What has arrived is kept as {claim.path!r}: the next attempt goes on from there")
        raise
    except BaseException as error:
        _remove(claim.path, made_folders, error, around)
        raise


def _remove(temporary: str, made_folders: list[str], error: BaseException, around: Surroundings) -> None:
    try:
        with around.cancellation.shield(CLEAN_UP_SECONDS):
            around.remote.remove(temporary)
            around.remote.remove_folders(made_folders)
    except (StepError, CleanUpAbandoned):
        if isinstance(error, StepError):
            error.add(f"The temporary file {temporary!r} on {around.peer} could not be removed")


@contextmanager
def _naming_what_is_left(path: str) -> Iterator[None]:
    """Without a temporary file a failure leaves what has been written so far."""
    try:
        yield
    except StepError as error:
        error.add(f"It was being written in place: {path!r} may be incomplete")
        raise
