"""Copies files, one or many at once: each under a temporary name, verified, published.

The order of the requests lies in the batch (`runner.remote_files.Batch`), which runs hundreds of files side by side; what
may be published is decided here. A single file is a batch of one (`upload.py`, `download.py`).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from runner.cancellation import CleanUpAbandoned
from runner.errors import FileError, StepError, VerificationFailed
from runner.plan import CopyFile
from runner.remote_files import (
    REPLACED_IN_ONE_STEP,
    UNPUBLISHED,
    Batch,
    Digest,
    FileStatus,
    Hasher,
    Progress,
    Published,
    ReadFile,
    RemoteReader,
    SendingStage,
    Source,
    TakeBytes,
    WantedAttributes,
    Written,
)
from runner.results import Output, Verified
from runner.transfer.backup import is_last, next_name
from runner.transfer.checksums import HASHED_AT_ONCE, hash_remotely
from runner.transfer.context import CLEAN_UP_SECONDS, CopyContext
from runner.transfer.decision import (
    PRIVATE_PERMISSIONS,
    asks_for_permissions,
    opening_permissions,
    wanted_attributes,
)
from runner.transfer.journal import Done, Unanswered
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import hash_file, set_attributes, sync_file, write_at
from runner.transfer.local_folders import LocalFolder, LocalFolders
from runner.transfer.local_sources import LocalSource, open_local_source
from runner.transfer.local_targets import LocalTarget
from runner.transfer.resume import Claim
from runner.transfer.temporary import NAME_TAKEN, TemporaryNames
from runner.transfer.verification import (
    GONE_WHEN_HASHED,
    GONE_WHEN_READ,
    NOT_SYNCED_HERE,
    PERMISSIONS_UNTOLD,
    SIZE_UNTOLD,
    TIMES_UNTOLD,
    prove_attributes,
    prove_kept,
    prove_received,
    prove_same_hash,
    prove_sent,
    warn_of_times,
)


class Pending(NamedTuple):
    """A file that has to be copied, and what is known of both sides."""

    source_path: str
    destination_path: str
    source: FileStatus
    destination: FileStatus | None
    # Where what is replaced is to be kept, if it is.
    backup_path: str | None = None


class Outcome(NamedTuple):
    """What became of one file. `error` is None for a copy that was published."""

    file: Pending
    size_bytes: int
    verified: Verified | None
    warnings: list[str]
    error: StepError | None
    published: Published
    # Whether it was synced to disk before it was published; None if that was not asked for.
    is_synced: bool | None = None
    # What went through a hash on the way, if anything did.
    sha256: str | None = None

    @property
    def backup(self) -> str | None:
        """Where what was replaced is kept, if it is."""
        return self.published.backup


OnOutcome = Callable[[Outcome], None]
# The whole result of a step that copies this one file, if it ends so.
DescribeOutput = Callable[[Outcome], Output]


@contextmanager
def running_batch(context: CopyContext, on_progress: Progress | None = None) -> Iterator[Batch]:
    """A batch on the server. If the block fails, what is under way ends and leaves nothing behind."""
    batch = context.remote.start_batch(on_progress, context.cancellation.make_alarm())
    try:
        yield batch
        batch.complete()
    except BaseException:
        try:
            with context.cancellation.shield(CLEAN_UP_SECONDS):
                batch.abandon()
        except (StepError, CleanUpAbandoned):
            pass  # the session is gone, or does not answer: a later play clears away what is left
        raise


class BatchSettings:
    """What all files of a batch share."""

    __slots__ = (
        "are_names_shared",
        "check",
        "journal",
        "left",
        "names",
        "new_file_permissions",
        "on_outcome",
        "opens_privately",
        "options",
        "peer",
    )

    def __init__(
        self,
        options: CopyFile,
        context: CopyContext,
        on_outcome: OnOutcome,
        new_file_permissions: int | None,
        names: TemporaryNames | None = None,
    ) -> None:
        self.journal = context.journal
        self.options = options
        self.peer = context.peer
        # Asked in the transport's thread, on behalf of the one that carries out the step.
        self.check = context.cancellation.make_check()
        self.on_outcome = on_outcome
        self.left = context.left
        self.new_file_permissions = new_file_permissions
        self.names = names or TemporaryNames.for_copy(options)
        # What every file would ask for.
        self.are_names_shared = self.names.are_shared
        self.opens_privately = asks_for_permissions(options)


class Uploads:
    """Begins uploads. With `verify: checksum` what is written is held, until one command has told many checksums."""

    def __init__(self, settings: BatchSettings, remote: RemoteReader) -> None:
        self._settings = settings
        self._remote = remote
        self._held: list[Upload] = []

    def begin(self, file: Pending, batch: Batch) -> None:
        """Hand a file to the batch."""
        self.begin_upload(Upload(file, self._settings), batch)

    def begin_upload(self, upload: Upload, batch: Batch) -> None:
        """The same for one that is described already."""
        upload.keep = self._held.append
        batch.send(upload)
        if len(self._held) >= HASHED_AT_ONCE:
            self.settle(batch)

    def settle(self, batch: Batch) -> bool:
        """Prove what is held by its checksum, and let it go on; whether there was anything."""
        held = {upload.written_path: upload for upload in self._held}
        self._held.clear()

        def compare(path: str, digest: Digest | None, error: StepError | None) -> None:
            batch.release(held[path], error or held[path].prove_hash(digest))

        if held:
            sizes = [(path, upload.size_bytes) for path, upload in held.items()]
            hash_remotely(sizes, self._remote, batch, compare)
        return bool(held)


class Downloads:
    """Begins downloads. With `verify: checksum` it is first asked what many of them must hash to, in one command."""

    def __init__(self, settings: BatchSettings, remote: RemoteReader, folders: LocalFolders) -> None:
        self._settings = settings
        self._remote = remote
        self._folders = folders
        self._unasked: dict[str, Pending] = {}

    def begin(self, file: Pending, batch: Batch) -> None:
        """Hand a file to the batch, now or with the next `settle`."""
        if self._settings.options.verify != "checksum":
            batch.fetch(Download(file, self._settings, self._folders))
            return
        self._unasked[file.source_path] = file
        if len(self._unasked) >= HASHED_AT_ONCE:
            self.settle(batch)

    def settle(self, batch: Batch) -> bool:
        """Ask for the checksums of what waits for them, and begin it; whether there was anything."""
        asked, self._unasked = self._unasked, {}

        def begin(path: str, digest: Digest | None, error: StepError | None) -> None:
            file = asked[path]
            if error is not None:
                self._settings.on_outcome(Outcome(file, file.source.size_bytes or 0, None, [], error, Published(False)))
            else:
                batch.fetch(Download(file, self._settings, self._folders, expected=digest))

        if asked:
            sizes = [(path, file.source.size_bytes or 0) for path, file in asked.items()]
            hash_remotely(sizes, self._remote, batch, begin)
        return bool(asked)


class Upload:
    """One upload; a `runner.remote_files.Sending`."""

    __slots__ = (
        "_claim",
        "_describe_output",
        "_file",
        "_given",
        "_hasher",
        "_is_renamed",
        "_is_shared",
        "_is_synced",
        "_settings",
        "_source",
        "_verified",
        "_wanted",
        "_warnings",
        "aside",
        "backup",
        "continues",
        "destination",
        "is_durable",
        "is_held",
        "is_kept",
        "is_left",
        "is_new",
        "is_published",
        "keep",
        "max_channels",
        "opening_permissions",
        "owns_temporary",
        "published",
        "sets_attributes_late",
        "temporary",
    )

    def __init__(
        self,
        file: Pending,
        settings: BatchSettings,
        *,
        source: LocalSource | None = None,
        claim: Claim | None = None,
        describe_output: DescribeOutput | None = None,
    ) -> None:
        """`source` is the file if it is open already, `claim` where it is written and what is there of it."""
        options = settings.options
        self._file = file
        self._settings = settings
        self._given = source
        self._source: LocalSource | None = None
        self._claim = claim
        self._describe_output = describe_output
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self._is_synced: bool | None = None
        self._is_renamed = False
        self._hasher: Hasher | None = None
        self._wanted: WantedAttributes | None = None
        # Told when it is written and held.
        self.keep: Callable[[Upload], None] = _ignore
        self.destination = file.destination_path
        if claim is not None:
            self.temporary: str | None = claim.path
        else:
            self.temporary = settings.names.path_beside(self.destination) if options.atomic else None
        # Whether somebody else may have a file of the temporary name.
        self._is_shared = settings.are_names_shared and self.temporary == settings.names.path_beside(self.destination)
        self.owns_temporary = not self._is_shared
        self.opening_permissions = (
            PRIVATE_PERMISSIONS if settings.opens_privately else opening_permissions(options, file.destination)
        )
        self.aside = f"{self.temporary}.old" if claim is None else f"{claim.path}.{os.urandom(4).hex()}.old"
        self.continues = claim is not None and claim.exists
        self.is_kept = claim is not None and claim.is_kept
        self.is_new = file.destination is None
        self.backup = file.backup_path
        # What is put together of two attempts is proven as a whole, where the prefix was hashed.
        self.is_held = options.verify == "checksum" or (claim is not None and claim.hasher is not None)
        self.sets_attributes_late = self.is_kept and self.is_held
        self.is_durable = options.durable
        self.max_channels = options.most_channels
        self.published = UNPUBLISHED
        # Whether it was published although nobody was there any more to be told; whether something of it may be left.
        self.is_published = self.is_left = False

    @property
    def was_published(self) -> bool:
        """Whether the batch was given up when it had its final name already."""
        return self.is_published

    def rename_temporary(self) -> bool:
        if not self._is_shared:
            return False
        self._is_shared, self.owns_temporary = False, True
        self.temporary = self._settings.names.path_of(self.destination)
        self.aside = f"{self.temporary}.old"
        self._is_renamed = True
        return True

    def rename_backup(self) -> bool:
        if self.backup is None or is_last(self.backup):
            return False
        self.backup = next_name(self.backup)
        return True

    @property
    def written_path(self) -> str:
        """Where the bytes are until the upload is published."""
        return self.temporary or self.destination

    def open(self) -> tuple[Source, WantedAttributes]:
        file, settings = self._file, self._settings
        source = self._source = self._given or open_local_source(file.source_path)
        offset = self._claim.offset if self._claim is not None else 0
        if self.is_held or self.max_channels not in (None, 1):
            self._hasher = (self._claim.hasher if self._claim is not None else None) or hashlib.sha256()
        # The file may be another than when it was looked at: what it is now is what is copied.
        wanted, warnings = wanted_attributes(
            settings.options, source.status, file.destination, settings.new_file_permissions
        )
        self._warnings[:] = (*warnings, NAME_TAKEN) if self._is_renamed else warnings
        self._wanted = wanted
        return Source(source.fd, source.opened_as.st_size, self._hasher, offset), wanted

    def close(self) -> None:
        source = self._source
        if source is None or source.fd < 0:
            return
        try:
            source.check_unchanged()
        finally:
            if self._given is None:
                source.close()

    def prove(self, written: Written) -> None:
        options, peer = self._settings.options, self._settings.peer
        self._is_synced = written.is_synced
        self._verified = prove_sent(options, self.destination, self.size_bytes, written, peer, self._warnings)
        if written.found is not None or written.are_times_refused:
            self._warn_of_times(written.found, are_refused=written.are_times_refused)
        # What went over several handles of a server that may keep one object for each.
        self.is_held = self.is_held or written.needs_hash

    def prove_attributes(self, refused_permissions: str, *, are_times_refused: bool) -> None:
        options, peer = self._settings.options, self._settings.peer
        prove_attributes(options, self.destination, refused_permissions, peer, self._warnings)
        self._warn_of_times(None, are_refused=are_times_refused)

    def _warn_of_times(self, found: FileStatus | None, *, are_refused: bool) -> None:
        is_late = self.sets_attributes_late and found is not None
        if self._wanted is not None and not is_late:
            warning = warn_of_times(self._settings.options, self._wanted, found, are_refused=are_refused)
            self._warnings += () if warning is None else (warning,)

    def hold(self) -> None:
        self.keep(self)

    def prove_hash(self, digest: Digest | None) -> StepError | None:
        """What is wrong with the hash of what was written."""
        if digest is None or self._hasher is None:
            return VerificationFailed(f"no checksum of {self.written_path!r} on {self._settings.peer} could be had")
        try:
            prove_same_hash(digest.sha256, self._hasher.hexdigest(), self._settings.peer)
        except VerificationFailed as error:
            return error
        self._verified = digest.how
        return None

    def finish(self, error: StepError | None) -> None:
        journal = self._settings.journal
        left, published = self._settings.left, self.published
        if published.left:
            left.leave(*published.left)
        if error is None and published.backup is not None:
            left.keep(published.backup)
        if error is not None:
            self._settings.names.explain(error, self.destination)
        if journal is not None:
            if error is None:
                journal.published[self.destination] = self._describe_done()
            elif self.temporary is None:
                self.lose("writing")
        self._settings.on_outcome(self.describe(error))

    def lose(self, stage: SendingStage) -> None:
        self.is_published, self.is_left = stage == "published", stage != "published"
        self._note_left()
        journal = self._settings.journal
        if journal is None:
            return
        if stage == "published":
            journal.published[self.destination] = self._describe_done()
        elif self.temporary is None:
            journal.replaced.setdefault(self.destination, self._file.destination)
        elif stage == "publishing":
            journal.leftovers.update(self.published.probes)
            aside = self.published.backup or self.published.aside
            journal.unanswered[self.destination] = Unanswered(
                self._describe_done(),
                self.temporary,
                aside,
                self.size_bytes,
                is_source=self.is_kept or self._is_shared,
                before=self._file.destination,
            )
        elif not self.is_kept and (self._source is not None or not self._is_shared):
            # Before it is opened, what bears a name that others may have is theirs.
            journal.leftovers.add(self.temporary)

    def _note_left(self) -> None:
        """Nobody hears any more what became of it: note what it may leave behind."""
        left, published = self._settings.left, self.published
        left.leave(*published.left)
        if self.is_published:
            if published.backup is not None:
                left.keep(published.backup)
            return
        # Before it is opened, what bears a name that others may have is theirs.
        if self.temporary is not None and not self.is_kept and (self._source is not None or not self._is_shared):
            left.write(self.temporary)
        left.write(*published.probes)
        aside = published.backup or published.aside
        if aside is not None:
            left.move_aside(self.destination, aside)

    def _describe_done(self) -> Done:
        outcome = self.describe(None)
        output = self._describe_output(outcome) if self._describe_output is not None else None
        published = self.published
        warnings = tuple(outcome.warnings)
        return Done(self._verified, published.backup, warnings, output, published.in_one_step, self._is_synced)

    def describe(self, error: StepError | None) -> Outcome:
        """What has become of it."""
        sha256 = self._hasher.hexdigest() if self._hasher is not None and error is None else None
        warnings = self._warnings
        if error is None and self.published is not REPLACED_IN_ONE_STEP:
            warnings = [*warnings, *self._warn_of_publication()]
        return Outcome(
            self._file, self.size_bytes, self._verified, warnings, error, self.published, self._is_synced, sha256
        )

    def _warn_of_publication(self) -> Iterator[str]:
        published = self.published
        if self.temporary is not None and not published.in_one_step:
            why = "gives no file two names" if published.backup else "cannot replace a file in one (no posix-rename)"
            yield f"replaced in two steps: the server {why}"

    @property
    def size_bytes(self) -> int:
        """How many bytes the source had when it was opened."""
        source = self._source or self._given
        return source.opened_as.st_size if source else 0


def _ignore(upload: Upload) -> None:
    """Nobody looks at it more closely."""


class Download:
    """One download; a `runner.remote_files.Fetching`."""

    __slots__ = (
        "_describe_output",
        "_expected",
        "_file",
        "_folder",
        "_folders",
        "_is_synced",
        "_keep",
        "_published",
        "_settings",
        "_sha256",
        "_target",
        "_verified",
        "_warnings",
        "is_durable",
        "is_gone",
        "is_held",
        "is_looked_at",
        "offset",
        "size_bytes",
        "source",
        "trusts_size",
    )

    def __init__(
        self,
        file: Pending,
        settings: BatchSettings,
        folders: LocalFolders | None,
        *,
        expected: Digest | None = None,
        target: LocalTarget | None = None,
        offset: int = 0,
        keep: Callable[[Download], None] | None = None,
        describe_output: DescribeOutput | None = None,
    ) -> None:
        """`expected` is what the server says that the file hashes to.

        `target` is where it is written if that is open already, and is closed by its owner; `offset` how much is there.
        `keep` is told when all bytes are here and held, if they are to be proven further.
        """
        self._describe_output = describe_output
        self._expected = expected
        self._file = file
        self._settings = settings
        self._folders = folders
        self._folder: LocalFolder | None = None
        self._target = target
        self._keep = keep
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self._published = UNPUBLISHED
        self._is_synced: bool | None = None
        self._sha256: str | None = None
        self.is_durable = settings.options.durable
        self.is_gone = False
        self.is_held = keep is not None
        self.is_looked_at = target is not None
        self.offset = offset
        self.source = file.source_path
        self.trusts_size = settings.options.verify != "none"
        self.size_bytes = file.source.size_bytes if self.trusts_size else None

    def open(self) -> TakeBytes:
        if self._target is None:
            self._target = self._open_target()
        return functools.partial(write_at, self._target.fd)

    def _open_target(self) -> LocalTarget:
        settings, destination, folders = self._settings, self._file.destination_path, self._folders
        assert folders is not None, "either the target or its folder is given"
        folder = self._folder = folders.enter(os.path.dirname(destination))
        wanted = None if settings.options.atomic else self._wanted()[0].permissions
        target = LocalTarget(
            folder, destination, is_atomic=settings.options.atomic, names=settings.names, permissions=wanted
        )
        if settings.journal is not None and not settings.options.atomic:
            settings.journal.replaced.setdefault(destination, self._file.destination)
        target.open()
        return target

    def prove(self, read: ReadFile) -> None:
        # What is here already is the beginning of the source that was looked at, and of no other.
        received, found, after, is_gone = read
        kept_bytes = received
        source = self._file.source
        if self.is_looked_at or source.modified_at_seconds is None or source.permissions is None:
            self._learn_source(found, after)
        if self.is_looked_at and self._target is not None:
            kept_bytes = os.fstat(self._target.fd).st_size
        before = self._file.source if self.offset or found is None else found
        read = ReadFile(received, before, after, is_gone)
        self._verified = prove_received(self._settings.options, self.source, read, kept_bytes, self._settings.peer)
        self.size_bytes = received
        if before.size_bytes is None and self.trusts_size and self._expected is None:
            # As many bytes came as the server says that there are before its end.
            self._verified = "size"
            self._warnings.append(SIZE_UNTOLD)
        self.is_gone = read.is_gone
        if read.is_gone:
            self._warnings.append(GONE_WHEN_READ)
        if self._expected is not None and self._target is not None:
            kept = hash_file(self._target.fd, self._settings.check)
            self._verified, self._sha256 = prove_kept(self.source, kept, self._expected, self._settings.peer), kept

    def _learn_source(self, *looks: FileStatus | None) -> None:
        """Where too little is told of a name, the open file may tell what the copy shall carry."""
        source, options = self._file.source, self._settings.options
        for found in looks:
            if found is not None and None in (source.permissions, source.modified_at_seconds):
                source = source._replace(
                    permissions=found.permissions if source.permissions is None else source.permissions,
                    modified_at_seconds=(
                        found.modified_at_seconds if source.modified_at_seconds is None else source.modified_at_seconds
                    ),
                )
        self._file = self._file._replace(source=source)
        if "times" in options.preserve and source.modified_at_seconds is None:
            self._warnings.append(TIMES_UNTOLD)
        if options.permissions is None and asks_for_permissions(options) and source.permissions is None:
            self._warnings.append(PERMISSIONS_UNTOLD)

    def hold(self) -> None:
        if self._keep is not None:
            self._keep(self)

    def hash_kept(self) -> str:
        """The SHA-256 of what is on the disk here. Raises `OSError`, and what the play's end raises."""
        assert self._target is not None
        return hash_file(self._target.fd, self._settings.check)

    def prove_hash(self, digest: Digest | None, error: StepError | None, kept_sha256: str) -> StepError | None:
        """What is wrong with the hash of what has come; `error` is why the server's could not be had."""
        self._sha256 = kept_sha256
        if digest is not None:
            try:
                self._verified = prove_kept(self.source, kept_sha256, digest, self._settings.peer)
            except VerificationFailed as failure:
                return failure
        elif self.is_gone and isinstance(error, FileError):
            # There is no other copy: to remove this one would lose the file on both sides.
            self._warnings.append(GONE_WHEN_HASHED)
        else:
            return error or VerificationFailed(f"no checksum of {self.source!r} on {self._settings.peer} could be had")
        return None

    def publish(self) -> None:
        target = self._target
        if target is None:
            return
        wanted, warnings = self._wanted()
        self._warnings += warnings
        try:
            set_attributes(target.fd, wanted)
            if self.is_durable:
                self._is_synced = sync_file(target.fd)
                self._warnings += () if self._is_synced else (NOT_SYNCED_HERE,)
        except OSError as error:
            raise self.explain(error) from error
        journal, path = self._settings.journal, self._file.destination_path
        # What an earlier attempt has put there is not old.
        is_ours = journal is not None and path in journal.published
        self._published = target.publish(keeps_old=self._settings.options.backup and not is_ours)
        if self._published.backup is not None:
            self._settings.left.keep(self._published.backup)
        if self._settings.options.atomic and not self._published.in_one_step:
            self._warnings.append("replaced in two steps: the file system here gives no file two names")
        if journal is not None:
            # Also where the line breaks before anybody hears of it.
            journal.published[path] = self._describe_done()

    def _describe_done(self) -> Done:
        outcome = self.describe(None)
        output = self._describe_output(outcome) if self._describe_output is not None else None
        published = self._published
        warnings = tuple(self._warnings)
        return Done(self._verified, published.backup, warnings, output, published.in_one_step, self._is_synced)

    def _wanted(self) -> tuple[WantedAttributes, tuple[str, ...]]:
        file, settings = self._file, self._settings
        return wanted_attributes(settings.options, file.source, file.destination, settings.new_file_permissions)

    def explain(self, error: OSError) -> StepError:
        return explain_os_error(error, "cannot write", self._file.destination_path)

    def discard(self) -> None:
        if self._folders is None:
            return
        if self._target is not None:
            self._target.close()
            self._target = None
        if self._folder is not None:
            self._folders.leave(self._folder)
            self._folder = None

    def finish(self, error: StepError | None) -> None:
        self._settings.on_outcome(self.describe(error))

    @property
    def was_published(self) -> bool:
        """Whether it has its final name."""
        return self._published is not UNPUBLISHED

    def describe(self, error: StepError | None) -> Outcome:
        """What has become of it."""
        return Outcome(
            self._file,
            self.size_bytes or 0,
            self._verified,
            self._warnings,
            error,
            self._published,
            self._is_synced,
            self._sha256,
        )


class HeldDownload:
    """The proof of one download that is held: the hashes of both sides, worked out at the same time."""

    def __init__(self, remote: RemoteReader) -> None:
        self._remote = remote
        self._held: list[Download] = []

    def keep(self, download: Download) -> None:
        """All bytes are here."""
        self._held.append(download)

    def settle(self, batch: Batch) -> bool:
        """Prove what is held, and let it be published; whether there was anything."""
        held, self._held = self._held, []
        for download in held:
            self._prove(download, batch)
        return bool(held)

    def _prove(self, download: Download, batch: Batch) -> None:
        # Hashing lets other threads run.
        with ThreadPoolExecutor(1) as hashing:
            local: Future[str] = hashing.submit(download.hash_kept)

            def compare(path: str, digest: Digest | None, error: StepError | None) -> None:
                try:
                    failure = download.prove_hash(digest, error, local.result())
                except OSError as problem:
                    failure = download.explain(problem)
                batch.release(download, failure)

            hash_remotely([(download.source, download.size_bytes or 0)], self._remote, batch, compare)
