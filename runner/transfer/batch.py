"""Copies many files at once, each as `copy.py` copies one: under a temporary name, verified, published.

The order of the steps lies in the batch (`runner.remote_files.Batch`), which runs hundreds of files side by side; what
may be published is decided here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.cancellation import CleanUpAbandoned
from runner.errors import StepError
from runner.plan import CopyFile
from runner.remote_files import Batch, FileStatus, ReadFile, Source, WantedAttributes, Written
from runner.results import CopyResult, Verified
from runner.transfer.copy import CLEAN_UP_SECONDS, NEW_REMOTE_FILE_PERMISSIONS, Surroundings
from runner.transfer.decision import wanted_attributes
from runner.transfer.local_files import LocalSource, LocalTarget, explain_os_error, open_local_source, set_attributes
from runner.transfer.temporary import temporary_path
from runner.transfer.verification import prove_received, prove_sent

# What became of one file.
OnResult = Callable[[CopyFile, CopyResult | StepError], None]


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that has to be copied, and what is known of both sides."""

    copy: CopyFile
    source: FileStatus
    destination: FileStatus | None
    new_file_permissions: int = NEW_REMOTE_FILE_PERMISSIONS


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
            pass  # the session is gone, or does not answer: the next play clears away what is left
        raise


def upload_many(files: Iterable[Pending], around: Surroundings, on_result: OnResult) -> None:
    """Upload all `files`. What fails for one of them goes to `on_result`; raises when the session ends."""
    with running_batch(around) as batch:
        for file in files:
            batch.send(_Upload(file, around.peer, on_result))


def download_many(files: Iterable[Pending], around: Surroundings, on_result: OnResult) -> None:
    """Download all `files`, whose sources must tell their size. What fails for one of them goes to `on_result`."""
    with running_batch(around) as batch:
        for file in files:
            batch.fetch(_Download(file, around.peer, on_result))


class _Upload:
    """One upload; a `runner.remote_files.Sending`."""

    __slots__ = (
        "_file",
        "_on_result",
        "_peer",
        "_source",
        "_verified",
        "destination",
        "is_new",
        "temporary",
        "warnings",
    )

    def __init__(self, file: Pending, peer: str, on_result: OnResult) -> None:
        self._file = file
        self._peer = peer
        self._on_result = on_result
        self._source: LocalSource | None = None
        self._verified: Verified | None = None
        self.destination = file.copy.destination
        self.temporary = temporary_path(self.destination) if file.copy.atomic else None
        self.is_new = file.destination is None
        self.warnings: list[str] = []

    def open(self) -> tuple[Source, WantedAttributes]:
        file = self._file
        source = self._source = open_local_source(file.copy.source)
        # The file may be another than when it was looked at: what it is now is what is copied.
        wanted, warnings = wanted_attributes(file.copy, source.status, file.destination, file.new_file_permissions)
        self.warnings += warnings
        return Source(source.fd, source.opened_as.st_size), wanted

    def close(self) -> None:
        source = self._source
        if source is not None and source.fd >= 0:
            try:
                source.check_unchanged()
            finally:
                source.close()

    def prove(self, written: Written) -> None:
        expected_bytes = self._source.opened_as.st_size if self._source else 0
        self._verified = prove_sent(self._file.copy, expected_bytes, written, self._peer, self.warnings)

    def finish(self, error: StepError | None) -> None:
        copy = self._file.copy
        self._on_result(
            copy,
            error
            or _result(
                self._file,
                self._source.opened_as.st_size if self._source else 0,
                self._verified,
                is_atomic=copy.atomic,
                warnings=self.warnings,
            ),
        )


class _Download:
    """One download; a `runner.remote_files.Fetching`."""

    __slots__ = ("_file", "_on_result", "_peer", "_target", "_verified", "size_bytes", "source")

    def __init__(self, file: Pending, peer: str, on_result: OnResult) -> None:
        self._file = file
        self._peer = peer
        self._on_result = on_result
        self._target: LocalTarget | None = None
        self._verified: Verified | None = None
        self.source = file.copy.source
        self.size_bytes = file.source.size_bytes or 0

    def open(self) -> int:
        copy = self._file.copy
        target = LocalTarget(copy.destination, is_atomic=copy.atomic, create_parents=copy.create_parents)
        target.__enter__()
        self._target = target
        return target.fd

    def prove(self, received_bytes: int, after: FileStatus | None) -> None:
        kept_bytes = os.fstat(self._target.fd).st_size if self._target else 0
        prove_received(self.source, ReadFile(received_bytes, self._file.source, after), kept_bytes, self._peer)
        self._verified = "size"

    def publish(self) -> None:
        file, target = self._file, self._target
        if target is None:
            return
        wanted, _ = wanted_attributes(file.copy, file.source, file.destination, file.new_file_permissions)
        try:
            set_attributes(target.fd, wanted)
        except OSError as error:
            raise explain_os_error(error, "cannot write", file.copy.destination) from error
        target.publish()

    def discard(self) -> None:
        if self._target is not None:
            self._target.__exit__(None, None, None)
            self._target = None

    def finish(self, error: StepError | None) -> None:
        copy = self._file.copy
        result = _result(self._file, self.size_bytes, self._verified, is_atomic=copy.atomic, warnings=[])
        self._on_result(copy, error or result)


def _result(
    file: Pending, size_bytes: int, verified: Verified | None, *, is_atomic: bool, warnings: list[str]
) -> CopyResult:
    return CopyResult(
        source=file.copy.source,
        destination=file.copy.destination,
        size_bytes=size_bytes,
        files_changed=1,
        bytes_transferred=size_bytes,
        message="created" if file.destination is None else "replaced",
        verified=verified,
        atomic=is_atomic,
        warnings=tuple(warnings),
    )
