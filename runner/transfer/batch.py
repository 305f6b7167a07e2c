"""Copies many files at once, each as `copy.py` copies one: under a temporary name, verified, published.

The order of the steps lies in the batch (`runner.remote_files.Batch`), which runs hundreds of files side by side; what
may be published is decided here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from runner.cancellation import CleanUpAbandoned
from runner.errors import StepError, VerificationFailed
from runner.plan import CopyFile
from runner.remote_files import (
    Batch,
    Digest,
    FileStatus,
    ReadFile,
    RemoteFiles,
    SendingStage,
    Source,
    WantedAttributes,
    Written,
)
from runner.results import Verified
from runner.transfer.backup import is_last, next_name
from runner.transfer.checksums import HASHED_AT_ONCE, hash_remotely
from runner.transfer.context import CLEAN_UP_SECONDS, Surroundings
from runner.transfer.decision import opening_permissions, wanted_attributes
from runner.transfer.journal import Done, Unanswered
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import hash_file, permissions_by_umask, set_attributes, sync_file
from runner.transfer.local_folders import LocalFolder, LocalFolders, open_folder
from runner.transfer.local_sources import LocalSource, open_local_source
from runner.transfer.local_targets import LocalTarget
from runner.transfer.temporary import NAME_TAKEN, TemporaryNames
from runner.transfer.verification import NOT_SYNCED_HERE, prove_kept, prove_received, prove_same_hash, prove_sent


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
    backup: str | None = None
    # Whether it was synced to disk before it was published; None if that was not asked for.
    is_synced: bool | None = None


OnOutcome = Callable[[Outcome], None]


@contextmanager
def running_batch(around: Surroundings) -> Iterator[Batch]:
    """A batch on the server. If the block fails, what is under way ends and leaves nothing behind."""
    batch = around.remote.start_batch()
    try:
        yield batch
        batch.complete()
    except BaseException:
        try:
            with around.cancellation.shield(CLEAN_UP_SECONDS):
                batch.abandon()
        except (StepError, CleanUpAbandoned):
            pass  # the session is gone, or does not answer: a later play clears away what is left
        raise


def upload_many(files: Iterable[Pending], options: CopyFile, around: Surroundings, on_outcome: OnOutcome) -> None:
    """Upload all `files` as `options` say. What fails for one of them is told; raises when the session ends."""
    uploads = Uploads(Common(options, around, on_outcome, None), around.remote)
    with running_batch(around) as batch:
        for file in files:
            uploads.begin(file, batch)
        while batch.wait() or uploads.settle(batch):
            pass


def download_many(files: Iterable[Pending], options: CopyFile, around: Surroundings, on_outcome: OnOutcome) -> None:
    """Download all `files`, whose sources must tell their size. What fails for one of them is told."""
    folders = LocalFolders(lambda path: open_folder(path, path, create_parents=options.create_parents))
    downloads = Downloads(Common(options, around, on_outcome, permissions_by_umask()), around.remote, folders)
    try:
        with running_batch(around) as batch:
            for file in files:
                downloads.begin(file, batch)
            while batch.wait() or downloads.settle(batch):
                pass
    finally:
        folders.close()


class Common:
    """What all files of a batch share."""

    __slots__ = ("check", "journal", "names", "new_file_permissions", "on_outcome", "options", "peer")

    def __init__(
        self,
        options: CopyFile,
        around: Surroundings,
        on_outcome: OnOutcome,
        new_file_permissions: int | None,
        names: TemporaryNames | None = None,
    ) -> None:
        self.journal = around.journal
        self.options = options
        self.peer = around.peer
        # Asked in the transport's thread, on behalf of the one that carries out the step.
        self.check = around.cancellation.make_check()
        self.on_outcome = on_outcome
        self.new_file_permissions = new_file_permissions
        self.names = names or TemporaryNames.for_copy(options)


class Uploads:
    """Begins uploads. With `verify: checksum` what is written is held, until one command has told many checksums."""

    def __init__(self, common: Common, remote: RemoteFiles) -> None:
        self._common = common
        self._remote = remote
        self._held: list[Upload] = []

    def begin(self, file: Pending, batch: Batch) -> None:
        """Hand a file to the batch."""
        batch.send(Upload(file, self._common, self._held.append))
        if len(self._held) >= HASHED_AT_ONCE:
            self.settle(batch)

    def settle(self, batch: Batch) -> bool:
        """Prove what is held by its checksum, and let it go on; whether there was anything."""
        held = {upload.written_path: upload for upload in self._held}
        self._held.clear()

        def compare(path: str, digest: Digest | None, error: StepError | None) -> None:
            batch.release(held[path], error or held[path].prove_hash(digest))

        if held:
            hash_remotely(
                [(path, upload.size_bytes) for path, upload in held.items()],
                self._remote,
                batch,
                compare,
                self._common.check,
            )
        return bool(held)


class Downloads:
    """Begins downloads. With `verify: checksum` it is first asked what many of them must hash to, in one command."""

    def __init__(self, common: Common, remote: RemoteFiles, folders: LocalFolders) -> None:
        self._common = common
        self._remote = remote
        self._folders = folders
        self._unasked: dict[str, Pending] = {}

    def begin(self, file: Pending, batch: Batch) -> None:
        """Hand a file to the batch, now or with the next `settle`."""
        if self._common.options.verify != "checksum":
            batch.fetch(Download(file, self._common, self._folders))
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
                self._common.on_outcome(Outcome(file, file.source.size_bytes or 0, None, [], error))
            else:
                batch.fetch(Download(file, self._common, self._folders, digest))

        if asked:
            sizes = [(path, file.source.size_bytes or 0) for path, file in asked.items()]
            hash_remotely(sizes, self._remote, batch, begin, self._common.check)
        return bool(asked)


class Upload:
    """One upload; a `runner.remote_files.Sending`."""

    __slots__ = (
        "_common",
        "_file",
        "_hasher",
        "_is_shared",
        "_is_synced",
        "_keep",
        "_source",
        "_verified",
        "_warnings",
        "backup",
        "destination",
        "is_durable",
        "is_held",
        "is_new",
        "opening_permissions",
        "temporary",
    )

    def __init__(self, file: Pending, common: Common, keep: Callable[[Upload], None]) -> None:
        """`keep` is told when it is written and held, if it is to be proven by its checksum."""
        self._keep = keep
        self._file = file
        self._common = common
        self._source: LocalSource | None = None
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self.destination = file.destination_path
        self.temporary = common.names.path_beside(self.destination) if common.options.atomic else None
        # Whether somebody else may have a file of the temporary name.
        self._is_shared = self.temporary is not None and common.names.are_shared
        self.opening_permissions = opening_permissions(common.options, file.destination)
        self.is_new = file.destination is None
        self.backup = file.backup_path
        self.is_held = common.options.verify == "checksum"
        self.is_durable = common.options.durable
        self._is_synced: bool | None = None
        self._hasher = hashlib.sha256() if self.is_held else None

    def rename_temporary(self) -> bool:
        if not self._is_shared:
            return False
        self._is_shared = False
        self.temporary = self._common.names.path_of(self.destination)
        self._warnings.append(NAME_TAKEN)
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
        file, common = self._file, self._common
        source = self._source = open_local_source(file.source_path)
        # The file may be another than when it was looked at: what it is now is what is copied.
        wanted, warnings = wanted_attributes(
            common.options, source.status, file.destination, common.new_file_permissions
        )
        self._warnings += warnings
        return Source(source.fd, source.opened_as.st_size, self._hasher), wanted

    def close(self) -> None:
        source = self._source
        if source is not None and source.fd >= 0:
            try:
                source.check_unchanged()
            finally:
                source.close()

    def prove(self, written: Written) -> None:
        options, peer = self._common.options, self._common.peer
        self._is_synced = written.is_synced
        self._verified = prove_sent(options, self.destination, self.size_bytes, written, peer, self._warnings)

    def hold(self) -> None:
        self._keep(self)

    def prove_hash(self, digest: Digest | None) -> StepError | None:
        """What is wrong with the hash of what was written."""
        if digest is None or self._hasher is None:
            return VerificationFailed(f"no checksum of {self.written_path!r} on {self._common.peer} could be had")
        try:
            prove_same_hash(digest.sha256, self._hasher.hexdigest(), self._common.peer)
        except VerificationFailed as error:
            return error
        self._verified = digest.how
        return None

    def finish(self, error: StepError | None) -> None:
        journal = self._common.journal
        if error is not None:
            self._common.names.explain(error, self.destination)
        if journal is not None:
            if error is None:
                journal.published[self.destination] = self._describe_done()
            elif self.temporary is None:
                self.lose("writing")
        self._common.on_outcome(
            Outcome(self._file, self.size_bytes, self._verified, self._warnings, error, self.backup, self._is_synced)
        )

    def lose(self, stage: SendingStage) -> None:
        journal = self._common.journal
        if journal is None:
            return
        if stage == "published":
            journal.published[self.destination] = self._describe_done()
        elif self.temporary is None:
            journal.replaced.setdefault(self.destination, self._file.destination)
        elif stage == "publishing":
            aside = self.backup or f"{self.temporary}.old"
            journal.unanswered[self.destination] = Unanswered(
                self._describe_done(),
                self.temporary,
                aside,
                self.size_bytes,
                is_source=self._is_shared,
                before=self._file.destination,
            )
        elif self._source is not None or not self._is_shared:
            # Before it is opened, what bears a name that others may have is theirs.
            journal.leftovers.add(self.temporary)

    def _describe_done(self) -> Done:
        return Done(self._verified, self.backup, tuple(self._warnings))

    @property
    def size_bytes(self) -> int:
        """How many bytes the source had when it was opened."""
        return self._source.opened_as.st_size if self._source else 0


class Download:
    """One download; a `runner.remote_files.Fetching`."""

    __slots__ = (
        "_backup",
        "_common",
        "_expected",
        "_file",
        "_folder",
        "_folders",
        "_is_synced",
        "_target",
        "_verified",
        "_warnings",
        "is_durable",
        "size_bytes",
        "source",
    )

    def __init__(self, file: Pending, common: Common, folders: LocalFolders, expected: Digest | None = None) -> None:
        """`expected` is what the server says that the file hashes to."""
        self._expected = expected
        self._file = file
        self._common = common
        self._folders = folders
        self._folder: LocalFolder | None = None
        self._target: LocalTarget | None = None
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self._backup: str | None = None
        self._is_synced: bool | None = None
        self.is_durable = common.options.durable
        self.source = file.source_path
        self.size_bytes = file.source.size_bytes or 0

    def open(self) -> int:
        common, destination = self._common, self._file.destination_path
        folder = self._folder = self._folders.enter(os.path.dirname(destination))
        wanted = None if common.options.atomic else self._wanted()[0].permissions
        self._target = LocalTarget(
            folder, destination, is_atomic=common.options.atomic, names=common.names, permissions=wanted
        )
        if common.journal is not None and not common.options.atomic:
            common.journal.replaced.setdefault(destination, self._file.destination)
        self._target.open()
        return self._target.fd

    def prove(self, received_bytes: int, after: FileStatus | None) -> None:
        read = ReadFile(received_bytes, self._file.source, after)
        # The system has said of each byte that it took it.
        self._verified = prove_received(self._common.options, self.source, read, received_bytes, self._common.peer)
        if self._expected is not None and self._target is not None:
            kept = hash_file(self._target.fd, self._common.check)
            self._verified = prove_kept(self.source, kept, self._expected, self._common.peer)

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
        journal, path = self._common.journal, self._file.destination_path
        # What an earlier attempt has put there is not old.
        is_ours = journal is not None and path in journal.published
        self._backup = target.publish(keeps_old=self._common.options.backup and not is_ours).backup
        if journal is not None:
            journal.published[path] = Done(self._verified, self._backup, tuple(self._warnings))

    def _wanted(self) -> tuple[WantedAttributes, tuple[str, ...]]:
        file, common = self._file, self._common
        return wanted_attributes(common.options, file.source, file.destination, common.new_file_permissions)

    def explain(self, error: OSError) -> StepError:
        return explain_os_error(error, "cannot write", self._file.destination_path)

    def discard(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None
        if self._folder is not None:
            self._folders.leave(self._folder)
            self._folder = None

    def finish(self, error: StepError | None) -> None:
        self._common.on_outcome(
            Outcome(self._file, self.size_bytes, self._verified, self._warnings, error, self._backup, self._is_synced)
        )
