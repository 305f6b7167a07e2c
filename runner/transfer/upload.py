"""Copies one file to the server: look, decide, hand it to a batch of one, and describe what came of it.

Whatever goes wrong before it is published, the old destination stays as it was and the temporary file is removed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace

from runner.cancellation import CleanUpAbandoned
from runner.errors import FileError, PermissionRefused, ServerLacksFeature, StepError, StepTimedOut, UnreachableError
from runner.plan import CopyFile, WriteContent
from runner.remote_files import FileStatus, Made, RemoteFiles, WantedAttributes
from runner.results import CopyResult
from runner.transfer.backup import free_remote_path
from runner.transfer.batch import BatchSettings, Outcome, Pending, Upload, Uploads, running_batch
from runner.transfer.context import CLEAN_UP_SECONDS, CopyContext
from runner.transfer.copy_results import (
    as_first_decided,
    confirm,
    describe_copied,
    find_done,
    look_at_remote,
    same_content,
    same_hash,
    summarise,
    tell_change,
)
from runner.transfer.decision import Decision, decide, only_hash_tells
from runner.transfer.local_files import hash_file
from runner.transfer.local_sources import LocalSource, hold_content, open_source
from runner.transfer.requirements import (
    explained_by,
    require_backup,
    require_remote_folder,
    require_settable_permissions,
    require_temporary_directory,
)
from runner.transfer.resume import RESUME_FROM_BYTES, Claim, RemoteClaims, partial_of_upload
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import FOLDER_NOT_SYNCED, prove_permissions


def upload_file(copy: CopyFile, context: CopyContext) -> CopyResult:
    """Copy one file to the server. Raises as `copy_file` does."""
    with _open_source(copy, context) as source:
        destination, is_known = look_at_remote(copy.destination, context)
        if not is_known and (copy.if_exists != "replace" or copy.backup):
            option, other = ("backup: true", "false") if copy.backup else (f"if_exists: {copy.if_exists}", "replace")
            raise ServerLacksFeature(
                f"{context.peer} does not tell whether {copy.destination!r} exists, so '{option}' cannot be kept",
                hint=f"Set '{option.partition(':')[0]}: {other}' for this server.",
            )
        done = find_done(copy, source.status, destination, context)
        if done is not None:
            return _make_durable(copy, done, context)
        sha256 = None
        if context.journal is not None and context.journal.owns(copy.destination):
            destination = context.journal.before(copy.destination, destination)
        elif only_hash_tells(copy, source.status, destination):
            sha256 = _compare_content(copy, source, context)
        decision = decide(
            copy,
            source.status,
            destination,
            where=f"on {context.peer}",
            has_same_hash=sha256 is not None,
        )
        if not is_known:
            decision = replace(decision, warnings=(*decision.warnings, "the server does not tell what is there"))
        is_copied = decision.action in ("create", "replace")
        if is_copied:
            require_backup(copy, context)
            require_temporary_directory(copy, context)
        if is_copied and destination is None and context.is_check:
            require_remote_folder(copy.destination, context, is_made=copy.create_parents)
        tell_change(copy, decision, source.status, destination, context)
        if decision.action == "chmod":
            return _change_remote_permissions(copy, decision, source.status, context)
        if context.is_check or not is_copied:
            return summarise(copy, as_first_decided(copy, decision, context), source.status, context, sha256)
        if destination is not None:
            return _send(copy, decision, source, destination, context, {})
        with explained_by(lambda: require_remote_folder(copy.destination, context, is_made=copy.create_parents)):
            if not copy.create_parents:
                return _send(copy, decision, source, None, context, {})
            return _send_with_parents(copy, decision, source, context)


def _make_durable(copy: CopyFile, done: CopyResult, context: CopyContext) -> CopyResult:
    """The result of an earlier attempt, which was cut off before the turn of the directories."""
    if not done.durable or context.journal is None:
        return done
    if _sync_folders([copy.destination, *context.journal.made], context.writer) or FOLDER_NOT_SYNCED in done.warnings:
        return done
    return replace(done, warnings=(FOLDER_NOT_SYNCED, *done.warnings))


def _open_source(copy: CopyFile, context: CopyContext) -> AbstractContextManager[LocalSource]:
    if isinstance(copy, WriteContent):
        return hold_content(copy.content)
    context.memory.links.require_none_on(copy.source)
    if context.disk is not None:
        context.disk.require_no_received_link(copy.source)
        return context.disk.open_source(copy.source)
    return open_source(copy.source)


def _compare_content(copy: CopyFile, source: LocalSource, context: CopyContext) -> str | None:
    """The SHA-256 that source and destination have, None if they differ."""
    if isinstance(copy, WriteContent):
        return same_content(copy.destination, copy.content, context)
    if context.effects is not None and not context.effects.is_all_real:
        return context.effects.find_same_hash(copy.source, copy.destination, source.status.size_bytes or 0)
    here = hash_file(source.fd, context.cancellation.check)
    return same_hash(copy.destination, source.opened_as.st_size, here, context)


def _send_with_parents(copy: CopyFile, decision: Decision, source: LocalSource, context: CopyContext) -> CopyResult:
    """Send the source, and make the folders above the destination where they are missing."""
    remote = context.writer
    made: Made = {} if context.journal is None else context.journal.made
    if remote.tells_made_folders and source.opened_as.st_size < RESUME_FROM_BYTES:
        # Nearly always they are there: looking first would cost a round trip for each file.
        try:
            return _send(copy, decision, source, None, context, made)
        except FileError as error:
            if not error.has_created_nothing or not remote.create_parents(copy.destination, made):
                raise
    else:
        remote.create_parents(copy.destination, made)
    try:
        return _send(copy, decision, source, None, context, made)
    except FileError as error:
        # Another play that had made the folder, and failed, may have removed it before anything was in it.
        if not error.has_created_nothing or not remote.create_parents(copy.destination, made):
            raise
    return _send(copy, decision, source, None, context, made)


def _send(
    copy: CopyFile,
    decision: Decision,
    source: LocalSource,
    destination: FileStatus | None,
    context: CopyContext,
    made_folders: Made,
) -> CopyResult:
    """Write the source to the server and publish it. `made_folders` are new, and go again if that fails."""
    is_beside = copy.atomic and context.remote.can_rename
    sending = _Sending(copy, decision, source, destination, context, is_beside=is_beside)
    with _removing_folders(made_folders, context, copy.destination):
        outcome = sending.send_beside() if is_beside else sending.send(None)
    warnings = sending.warnings
    if outcome.is_synced and not _sync_published(copy, outcome, made_folders, context):
        warnings = (*warnings, FOLDER_NOT_SYNCED)
    return confirm(sending.describe(outcome, warnings), context)


class _Sending:
    """One upload under way: what is to be sent, and what comes of it."""

    def __init__(
        self,
        copy: CopyFile,
        decision: Decision,
        source: LocalSource,
        destination: FileStatus | None,
        context: CopyContext,
        *,
        is_beside: bool,
    ) -> None:
        self._copy = copy
        self._decision = decision
        self._source = source
        self._destination = destination
        self._around = context
        self._claim: Claim | None = None
        self._outcomes: list[Outcome] = []
        self.warnings = decision.warnings
        if copy.atomic and not is_beside:
            self.warnings += ("written in place, not atomically: the server offers no way to rename a file",)
        names = TemporaryNames.for_copy(copy, context.owner)
        self._settings = BatchSettings(copy, context, self._outcomes.append, None, names)

    def send_beside(self) -> Outcome:
        """Write under a temporary name, verify, and rename over what is there."""
        copy, context = self._copy, self._around
        partial = partial_of_upload(copy, self._source, context.owner) if context.remote.can_resume else None
        temporary = self._settings.names.path_beside(copy.destination)
        claims = RemoteClaims(context.writer, context.peer, context.cancellation.check)
        with claims.claim(partial, self._source, temporary) as claim:
            try:
                return self.send(claim)
            except UnreachableError:
                raise
            except StepError:
                # A server that does not let a file be written on must not make the copy impossible.
                if not claim.offset:
                    raise
            with suppress(FileError, ServerLacksFeature):
                context.writer.remove(claim.path)
            return self.send(Claim(temporary, is_kept=False))

    def _is_left_open(self, error: StepError) -> bool:
        journal = self._around.journal
        return journal is not None and journal.is_left_open(self._copy.destination, error)

    def send(self, claim: Claim | None) -> Outcome:
        """Send it, under the claim's name or in place. Raises what it fails with."""
        copy, context, source = self._copy, self._around, self._source
        self._claim = claim
        if claim is None and context.journal is not None:
            context.journal.replaced.setdefault(copy.destination, self._destination)
        file = Pending(copy.source, copy.destination, source.status, self._destination, self._choose_backup())
        upload = Upload(file, self._settings, source=source, claim=claim, describe_output=self.describe)
        if claim is None:
            upload.temporary = None
        is_certain = context.writer.keeps_what_is_there and copy.verify != "checksum"
        if claim is not None and claim.hasher is not None and not context.remote.can_hash and is_certain:
            # To read it back would cost more than it saves; the beginning was proven, and the rest is acknowledged.
            upload.is_held = upload.sets_attributes_late = False
        offset = claim.offset if claim is not None else 0
        self._outcomes.clear()
        size_bytes = source.opened_as.st_size
        try:
            with running_batch(
                context, lambda done_bytes: context.on_progress(offset + done_bytes, size_bytes)
            ) as batch:
                uploads = Uploads(self._settings, context.remote)
                uploads.begin_upload(upload, batch)
                while batch.wait() or uploads.settle(batch):
                    pass
        except UnreachableError as error:
            is_done = upload.is_published or any(outcome.error is None for outcome in self._outcomes)
            if isinstance(error, StepTimedOut) and is_done:
                # The rename was under way, and is no failure because its answer came a moment late.
                return upload.describe(None)
            self._name_what_is_left(upload, error)
            raise
        (outcome,) = self._outcomes
        if outcome.error is not None:
            context.cancellation.check()
            raise outcome.error
        return outcome

    def _name_what_is_left(self, upload: Upload, error: StepError) -> None:
        """The session has ended, or the step's time is over: say what is not simply left behind."""
        if upload.temporary is None:
            error.add(f"It was being written in place: {upload.destination!r} may be incomplete")
        elif upload.is_kept and not upload.is_published and not self._is_left_open(error):
            error.add(f"What has arrived is kept as {upload.temporary!r}: the next attempt goes on from there")

    def _choose_backup(self) -> str | None:
        """Where the old file is to be kept, if it is. What an earlier attempt has published is not old."""
        copy, journal = self._copy, self._around.journal
        is_ours = journal is not None and copy.destination in journal.published
        if not copy.backup or self._destination is None or is_ours:
            return None
        return free_remote_path(copy.destination, self._around.remote)

    def describe(self, outcome: Outcome, warnings: tuple[str, ...] | None = None) -> CopyResult:
        """The result, if the file is published so."""
        copy, claim, context = self._copy, self._claim, self._around
        offset, cleared = (claim.offset, claim.cleared) if claim is not None else (0, 0)
        # The source may have changed since an earlier attempt published it and kept what was there before.
        earlier = context.journal.published.get(copy.destination) if context.journal is not None else None
        return describe_copied(
            copy,
            self._decision,
            outcome,
            offset=offset,
            cleared=cleared,
            backup=earlier.backup if earlier is not None else None,
            warnings=self.warnings if warnings is None else warnings,
        )


def _sync_published(copy: CopyFile, outcome: Outcome, made_folders: Made, context: CopyContext) -> bool:
    """Sync the names that a copy has been given; whether the server does that. A failure says what is there all the same."""
    try:
        return _sync_folders([copy.destination, *made_folders], context.writer)
    except StepError as error:
        kept = f", the old file is kept as {outcome.backup!r}" if outcome.backup is not None else ""
        error.add(f"{copy.destination!r} is published{kept}; it is not known whether its name survives a power cut")
        raise


def _sync_folders(paths: list[str], remote: RemoteFiles) -> bool:
    """Sync the folders that these are in, in which they have got their names; whether the server does that."""
    return all(remote.sync_folder(folder) for folder in dict.fromkeys(map(posixpath.dirname, paths)))


@contextmanager
def _removing_folders(made_folders: Made, context: CopyContext, path: str) -> Iterator[None]:
    """If the block fails, remove the folders made for the copy, unless another attempt finds out what became of it."""
    try:
        yield
        # Also those that an earlier attempt has made.
        context.left.forget(*made_folders)
    except BaseException as error:
        journal = context.journal
        if journal is not None and journal.is_left_open(path, error):
            raise
        try:
            if made_folders:
                with context.cancellation.shield(CLEAN_UP_SECONDS):
                    context.writer.remove_folders(list(made_folders))
                made_folders.clear()
        except (StepError, CleanUpAbandoned):
            # The session is gone, or does not answer.
            context.left.write(*made_folders)
        raise


def _change_remote_permissions(
    copy: CopyFile, decision: Decision, source: FileStatus, context: CopyContext
) -> CopyResult:
    """The content is right, the permissions are not."""
    if context.journal is not None:
        context.journal.attributes_set.add(copy.destination)
    try:
        require_settable_permissions(copy.destination, context)
        if not context.is_check:
            context.writer.set_attributes(copy.destination, WantedAttributes(decision.wanted.permissions, None))
            found, _ = look_at_remote(copy.destination, context)
            refused = prove_permissions(copy, copy.destination, decision.wanted, found, context.peer)
            if refused is not None:
                return summarise(copy, Decision("nothing", decision.wanted, (refused,)), source, context)
    except (PermissionRefused, ServerLacksFeature):
        if copy.permissions is not None:
            raise
        unchanged = Decision("nothing", decision.wanted, ("the server refused to preserve permissions",))
        return summarise(copy, unchanged, source, context)
    return summarise(copy, decision, source, context)
