"""Copies one file from the server: look, decide, read into a temporary file, verify, publish.

Whatever goes wrong before `LocalTarget.publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext

from runner.errors import (
    SourceMissing,
)
from runner.plan import CopyFile
from runner.remote_files import (
    FileStatus,
)
from runner.results import CopyResult, Verified
from runner.transfer.checksums import hash_local
from runner.transfer.context import Surroundings
from runner.transfer.copy_results import (
    confirm,
    find_done,
    format_message,
    look_at_remote,
    naming_what_is_left,
    same_hash,
    summarise,
    tell_change,
)
from runner.transfer.decision import Decision, decide, only_hash_tells
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import hash_file, look_at, permissions_by_umask, set_attributes, sync_file
from runner.transfer.local_folders import LocalFolder, open_folder, set_permissions
from runner.transfer.local_sources import require_regular
from runner.transfer.local_targets import LocalTarget, writing_to
from runner.transfer.requirements import (
    require_local_place,
)
from runner.transfer.resume import (
    clear_local_leftovers,
    find_local_prefix,
    partial_of_download,
)
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import (
    NOT_SYNCED_HERE,
    prove_kept,
    prove_received,
)


def download_file(copy: CopyFile, around: Surroundings) -> CopyResult:
    """Copy one file from the server. Raises as `copy_file` does."""
    source, is_known = look_at_remote(copy.source, around)
    if is_known and source is None:
        raise SourceMissing(
            f"the source {copy.source!r} does not exist on {around.peer}",
            hint="Relative remote paths start at the login directory; servers do not expand '~'.",
        )
    source = source or FileStatus(False, True, None, None, None)
    require_regular(source, copy.source, f"on {around.peer}")
    # A link in the file's own place is replaced, or refused: it is those above it that would be followed.
    around.memory.links.require_none_on(os.path.dirname(copy.destination))
    destination = look_at(copy.destination)
    done = find_done(copy, source, destination, around)
    if done is not None:
        return done
    sha256 = None
    if around.journal is not None and around.journal.owns(copy.destination):
        destination = around.journal.before(copy.destination, destination)
    elif only_hash_tells(copy, source, destination):
        here = hash_local(copy.destination, around.cancellation.check, follows_links=True)
        sha256 = same_hash(copy.source, source.size_bytes or 0, here, around)
    decision = decide(
        copy,
        source,
        destination,
        where="on this machine",
        new_file_permissions=permissions_by_umask(),
        has_same_hash=sha256 is not None,
    )
    if decision.action in ("create", "replace"):
        if around.open_local_folder is None:
            require_local_place(copy, destination, around)
        if around.is_check:
            around.remote.require_readable(copy.source)
    tell_change(copy, decision, source, destination, around)
    if around.is_check or decision.action in ("nothing", "leave"):
        return summarise(copy, decision, source, around, sha256)
    if decision.action == "chmod":
        _change_local_permissions(copy, decision, around)
        return summarise(copy, decision, source, around)
    if around.journal is not None and not copy.atomic:
        around.journal.replaced.setdefault(copy.destination, destination)
    return _fetch(copy, decision, source, around)


def _fetch(copy: CopyFile, decision: Decision, source: FileStatus, around: Surroundings) -> CopyResult:
    """Read the source from the server and publish it."""

    def report(done_bytes: int) -> None:
        around.on_progress(done_bytes, source.size_bytes or done_bytes)

    verified: Verified | None = None
    sha256: str | None = None
    is_synced: bool | None = None
    in_place = nullcontext() if copy.atomic else naming_what_is_left(copy.destination)
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
            read = remote.read(copy.source, target.fd, report, offset, trusts_size=copy.verify != "none")
            if offset:
                # What is here already is the beginning of the source that was looked at, and of no other.
                read = read._replace(before=source)
            verified = prove_received(copy, copy.source, read, os.fstat(target.fd).st_size, around.peer)
            if copy.verify == "checksum" or offset:
                # What is put together of two attempts is proven as a whole.
                verified, sha256 = _verify_received_checksum(copy, target, around)
            set_attributes(target.fd, decision.wanted)
            if copy.durable:
                is_synced = sync_file(target.fd)
        except OSError as error:
            raise explain_os_error(error, "cannot write", copy.destination) from error
        is_atomic, backup, _ = target.publish(keeps_old=copy.backup)
        if is_synced:
            try:
                target.folder.sync()
            except OSError as error:
                raise explain_os_error(error, "cannot sync the folder of", copy.destination) from error
    warnings = decision.warnings
    if is_synced is False:
        warnings = (*warnings, NOT_SYNCED_HERE)
    if copy.atomic and not is_atomic:
        warnings = (*warnings, "replaced in two steps: the file system here gives no file two names")
    result = CopyResult(
        source=copy.source,
        destination=copy.destination,
        size_bytes=read.received_bytes,
        files_changed=1,
        bytes_transferred=read.received_bytes - offset,
        message=format_message(decision, offset, backup, cleared),
        backup=backup,
        resumed_at_bytes=offset,
        verified=verified,
        sha256=sha256,
        atomic=is_atomic,
        asks_durable=copy.durable,
        durable=is_synced,
        warnings=warnings,
    )
    return confirm(result, around)


def _verify_received_checksum(copy: CopyFile, target: LocalTarget, around: Surroundings) -> tuple[Verified, str]:
    """Prove that what is on the disk here has the hash of the source. Raises `VerificationFailed`."""
    # Both sides at the same time: hashing lets other threads run.
    with ThreadPoolExecutor(1) as hashing:
        local = hashing.submit(hash_file, target.fd, around.cancellation.make_check())
        found = around.remote.sha256(copy.source, os.fstat(target.fd).st_size)
        kept = local.result()
    return prove_kept(copy.source, kept, found, around.peer), kept


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
