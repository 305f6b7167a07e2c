"""Copies one file from the server: look, decide, hand it to a batch of one, describe what came of it.

Whatever goes wrong before `LocalTarget.publish`, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import closing, nullcontext

from runner.errors import SourceMissing
from runner.plan import CopyFile
from runner.remote_files import FileStatus
from runner.results import CopyResult
from runner.transfer.batch import BatchSettings, Download, HeldDownload, Outcome, Pending, running_batch
from runner.transfer.checksums import hash_local
from runner.transfer.context import CopyContext
from runner.transfer.copy_results import (
    confirm,
    describe_copied,
    find_done,
    look_at_remote,
    naming_what_is_left,
    same_hash,
    summarise,
    tell_change,
)
from runner.transfer.decision import Decision, decide, only_hash_tells
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import look_at, permissions_by_umask
from runner.transfer.local_folders import LocalFolder, open_folder, set_permissions
from runner.transfer.local_sources import require_regular
from runner.transfer.local_targets import LocalTarget, writing_to
from runner.transfer.requirements import require_local_place
from runner.transfer.resume import Partial, clear_local_leftovers, find_local_prefix, partial_of_download
from runner.transfer.temporary import TemporaryNames


def download_file(copy: CopyFile, context: CopyContext) -> CopyResult:
    """Copy one file from the server. Raises as `copy_file` does."""
    source, is_known = look_at_remote(copy.source, context)
    if is_known and source is None:
        raise SourceMissing(
            f"the source {copy.source!r} does not exist on {context.peer}",
            hint="Relative remote paths start at the login directory; servers do not expand '~'.",
        )
    source = source or FileStatus(False, True, None, None, None)
    require_regular(source, copy.source, f"on {context.peer}")
    destination = _look_at_destination(copy.destination, context)
    done = find_done(copy, source, destination, context)
    if done is not None:
        if done.durable:
            # The attempt that published it was cut off before the turn of the directory.
            _sync_folder(copy, context)
        return done
    sha256 = None
    if context.journal is not None and context.journal.owns(copy.destination):
        destination = context.journal.before(copy.destination, destination)
    elif only_hash_tells(copy, source, destination):
        sha256 = _compare_content(copy, source.size_bytes or 0, context)
    decision = decide(
        copy,
        source,
        destination,
        where="on this machine",
        new_file_permissions=permissions_by_umask(),
        has_same_hash=sha256 is not None,
    )
    if decision.action in ("create", "replace"):
        if context.open_local_folder is None:
            require_local_place(copy, destination, context)
        if context.is_check:
            context.remote.require_readable(copy.source)
    tell_change(copy, decision, source, destination, context)
    if context.is_check or decision.action in ("nothing", "leave"):
        return summarise(copy, decision, source, context, sha256)
    if decision.action == "chmod":
        _change_local_permissions(copy, decision, context)
        return summarise(copy, decision, source, context)
    if context.journal is not None and not copy.atomic:
        context.journal.replaced.setdefault(copy.destination, destination)
    return _fetch(copy, decision, source, destination, context)


def _look_at_destination(path: str, context: CopyContext) -> FileStatus | None:
    # A link in the file's own place is replaced, or refused: it is those above it that would be followed.
    above = os.path.dirname(path)
    context.memory.links.require_none_on(above)
    if context.disk is None:
        return look_at(path)
    context.disk.require_no_received_link(above)
    return context.disk.look_at(path)


def _compare_content(copy: CopyFile, size_bytes: int, context: CopyContext) -> str | None:
    """The SHA-256 that source and destination have, None if they differ."""
    if context.effects is not None and not context.effects.is_all_real:
        return context.effects.find_same_hash(copy.destination, copy.source, size_bytes)
    here = hash_local(copy.destination, context.cancellation.check, follows_links=True)
    return same_hash(copy.source, size_bytes, here, context)


def _fetch(
    copy: CopyFile, decision: Decision, source: FileStatus, destination: FileStatus | None, context: CopyContext
) -> CopyResult:
    """Read the source from the server and publish it."""
    partial = partial_of_download(copy, source, context.owner) if context.remote.can_resume else None
    target_of_copy = writing_to(
        lambda: _open_local_folder(copy, context),
        copy.destination,
        is_atomic=copy.atomic,
        names=TemporaryNames(context.owner),
        partial_name=partial.name if partial else None,
        permissions=decision.wanted.permissions,
    )
    in_place = nullcontext() if copy.atomic else naming_what_is_left(copy.destination)
    with in_place, target_of_copy as target:
        try:
            offset, cleared = _go_on(target, copy, partial, context)
        except OSError as error:
            raise explain_os_error(error, "cannot write", copy.destination) from error
        file = Pending(copy.source, copy.destination, source, destination)
        describe = functools.partial(describe_copied, copy, decision, offset=offset, cleared=cleared)
        outcome = _receive(copy, file, target, offset, context, describe)
        if outcome.is_synced:
            try:
                target.folder.sync()
            except OSError as error:
                raise explain_os_error(error, "cannot sync the folder of", copy.destination) from error
    return confirm(describe(outcome), context)


def _go_on(target: LocalTarget, copy: CopyFile, partial: Partial | None, context: CopyContext) -> tuple[int, int]:
    """How much of the source an earlier attempt has left here, and how many leftovers were cleared away."""
    offset = 0
    if target.is_partial:
        offset = find_local_prefix(target, copy, context.writer, context.peer, context.cancellation.check)
    if partial is not None and not offset:
        return 0, clear_local_leftovers(target.folder, partial, target.fd)
    return offset, 0


def _receive(
    copy: CopyFile,
    file: Pending,
    target: LocalTarget,
    offset: int,
    context: CopyContext,
    describe: Callable[[Outcome], CopyResult],
) -> Outcome:
    """Read what is missing, verify and publish it. Raises what that fails with."""
    outcomes: list[Outcome] = []
    settings = BatchSettings(copy, context, outcomes.append, permissions_by_umask())

    def report(done_bytes: int) -> None:
        context.on_progress(offset + done_bytes, file.source.size_bytes or offset + done_bytes)

    # What is put together of two attempts is proven as a whole.
    proof = HeldDownload(context.remote) if copy.verify == "checksum" or offset else None
    download = Download(
        file,
        settings,
        None,
        target=target,
        offset=offset,
        keep=proof.keep if proof is not None else None,
        describe_output=describe,
    )
    with running_batch(context, report) as batch:
        batch.fetch(download)
        while batch.wait() or (proof is not None and proof.settle(batch)):
            pass
    (outcome,) = outcomes
    if outcome.error is not None:
        raise outcome.error
    return outcome


def _open_local_folder(copy: CopyFile, context: CopyContext) -> LocalFolder:
    """The folder that the destination is in, made if need be. Raises `FileError`."""
    folder = os.path.dirname(copy.destination)
    if context.open_local_folder is not None:
        return context.open_local_folder(folder)
    return open_folder(folder, copy.destination, create_parents=copy.create_parents)


def _sync_folder(copy: CopyFile, context: CopyContext) -> None:
    """Sync the directory that the destination is in, in which it has got its name. Raises `FileError`."""
    with closing(_open_local_folder(copy, context)) as folder:
        try:
            folder.sync()
        except OSError as error:
            raise explain_os_error(error, "cannot sync the folder of", copy.destination) from error


def _change_local_permissions(copy: CopyFile, decision: Decision, context: CopyContext) -> None:
    """The content is right, the permissions are not."""
    with closing(_open_local_folder(copy, context)) as folder:
        try:
            if decision.wanted.permissions is not None:
                set_permissions(folder, os.path.basename(copy.destination), decision.wanted.permissions)
        except OSError as error:
            raise explain_os_error(error, "cannot set the permissions of", copy.destination) from error
