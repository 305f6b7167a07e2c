"""Copies many files at once, each as `copy.py` copies one: under a temporary name, verified, published.

The order of the steps lies in the batch (`runner.remote_files.Batch`), which runs hundreds of files side by side; what
may be published is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from runner.cancellation import CleanUpAbandoned
from runner.errors import StepError
from runner.plan import CopyFile
from runner.remote_files import Batch, FileStatus, ReadFile, Source, WantedAttributes, Written
from runner.results import Verified
from runner.transfer.copy import CLEAN_UP_SECONDS, NEW_REMOTE_FILE_PERMISSIONS, Surroundings
from runner.transfer.decision import wanted_attributes
from runner.transfer.local_files import (
    LocalFolder,
    LocalFolders,
    LocalSource,
    LocalTarget,
    explain_os_error,
    open_folder,
    open_local_source,
    permissions_by_umask,
    set_attributes,
)
from runner.transfer.temporary import TemporaryNames
from runner.transfer.verification import prove_received, prove_sent


class Pending(NamedTuple):
    """A file that has to be copied, and what is known of both sides."""

    source_path: str
    destination_path: str
    source: FileStatus
    destination: FileStatus | None


class Outcome(NamedTuple):
    """What became of one file. `error` is None for a copy that was published."""

    file: Pending
    size_bytes: int
    verified: Verified | None
    warnings: list[str]
    error: StepError | None


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
    common = Common(options, around.peer, on_outcome, NEW_REMOTE_FILE_PERMISSIONS)
    with running_batch(around) as batch:
        for file in files:
            batch.send(Upload(file, common))


def download_many(files: Iterable[Pending], options: CopyFile, around: Surroundings, on_outcome: OnOutcome) -> None:
    """Download all `files`, whose sources must tell their size. What fails for one of them is told."""
    common = Common(options, around.peer, on_outcome, permissions_by_umask())
    folders = LocalFolders(lambda path: open_folder(path, path, create_parents=options.create_parents))
    try:
        with running_batch(around) as batch:
            for file in files:
                batch.fetch(Download(file, common, folders))
    finally:
        folders.close()


class Common:
    """What all files of a batch share."""

    __slots__ = ("names", "new_file_permissions", "on_outcome", "options", "peer")

    def __init__(
        self,
        options: CopyFile,
        peer: str,
        on_outcome: OnOutcome,
        new_file_permissions: int,
        names: TemporaryNames | None = None,
    ) -> None:
        self.options = options
        self.peer = peer
        self.on_outcome = on_outcome
        self.new_file_permissions = new_file_permissions
        self.names = names or TemporaryNames()


class Upload:
    """One upload; a `runner.remote_files.Sending`."""

    __slots__ = ("_common", "_file", "_source", "_verified", "_warnings", "destination", "is_new", "temporary")

    def __init__(self, file: Pending, common: Common) -> None:
        self._file = file
        self._common = common
        self._source: LocalSource | None = None
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self.destination = file.destination_path
        self.temporary = common.names.path_beside(self.destination) if common.options.atomic else None
        self.is_new = file.destination is None

    def open(self) -> tuple[Source, WantedAttributes]:
        file, common = self._file, self._common
        source = self._source = open_local_source(file.source_path)
        # The file may be another than when it was looked at: what it is now is what is copied.
        wanted, warnings = wanted_attributes(
            common.options, source.status, file.destination, common.new_file_permissions
        )
        self._warnings += warnings
        return Source(source.fd, source.opened_as.st_size), wanted

    def close(self) -> None:
        source = self._source
        if source is not None and source.fd >= 0:
            try:
                source.check_unchanged()
            finally:
                source.close()

    def prove(self, written: Written) -> None:
        options, peer = self._common.options, self._common.peer
        self._verified = prove_sent(options, self.destination, self._size_bytes, written, peer, self._warnings)

    def finish(self, error: StepError | None) -> None:
        self._common.on_outcome(Outcome(self._file, self._size_bytes, self._verified, self._warnings, error))

    @property
    def _size_bytes(self) -> int:
        return self._source.opened_as.st_size if self._source else 0


class Download:
    """One download; a `runner.remote_files.Fetching`."""

    __slots__ = ("_common", "_file", "_folder", "_folders", "_target", "_verified", "_warnings", "size_bytes", "source")

    def __init__(self, file: Pending, common: Common, folders: LocalFolders) -> None:
        self._file = file
        self._common = common
        self._folders = folders
        self._folder: LocalFolder | None = None
        self._target: LocalTarget | None = None
        self._verified: Verified | None = None
        self._warnings: list[str] = []
        self.source = file.source_path
        self.size_bytes = file.source.size_bytes or 0

    def open(self) -> int:
        common, destination = self._common, self._file.destination_path
        folder = self._folder = self._folders.enter(os.path.dirname(destination))
        self._target = LocalTarget(folder, destination, is_atomic=common.options.atomic, names=common.names)
        self._target.open()
        return self._target.fd

    def prove(self, received_bytes: int, after: FileStatus | None) -> None:
        read = ReadFile(received_bytes, self._file.source, after)
        # The system has said of each byte that it took it.
        prove_received(self.source, read, received_bytes, self._common.peer)
        self._verified = "size"

    def publish(self) -> None:
        file, common, target = self._file, self._common, self._target
        if target is None:
            return
        wanted, warnings = wanted_attributes(common.options, file.source, file.destination, common.new_file_permissions)
        self._warnings += warnings
        try:
            set_attributes(target.fd, wanted)
        except OSError as error:
            raise explain_os_error(error, "cannot write", file.destination_path) from error
        target.publish()

    def discard(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None
        if self._folder is not None:
            self._folders.leave(self._folder)
            self._folder = None

    def finish(self, error: StepError | None) -> None:
        self._common.on_outcome(Outcome(self._file, self.size_bytes, self._verified, self._warnings, error))
