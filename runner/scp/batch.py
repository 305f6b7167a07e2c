"""Copies files over SCP, one after the other: SCP knows no more. To the transfer policy it is a batch like any other."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from runner.errors import FileError, ServerLacksFeature, StepError, UnreachableError
from runner.remote_files import (
    Fetching,
    FileStatus,
    Listing,
    Progress,
    Published,
    ReadFile,
    RemoteRequest,
    Sending,
    SendingStage,
    Source,
    StatusRefused,
    TakeBytes,
    WantedAttributes,
    Written,
)


class Files(Protocol):
    """What a copy over SCP consists of; `ScpFiles` has it."""

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None: ...
    def write(
        self,
        path: str,
        source: Source,
        wanted: WantedAttributes,
        opening_permissions: int | None,
        progress: Progress,
        *,
        is_new: bool,
    ) -> None: ...
    def read(self, path: str, take: TakeBytes, progress: Progress) -> tuple[int, FileStatus]: ...
    def publish(self, temporary: str, path: str, backup: str | None) -> Published: ...
    def sync(self, path: str) -> bool: ...
    def remove(self, path: str) -> bool: ...


class ScpBatch:
    """A `runner.remote_files.Batch`: each copy is made when it is handed over."""

    def __init__(self, files: Files, on_progress: Progress | None) -> None:
        self._files = files
        self._on_progress = on_progress
        self.done_bytes = 0
        self._held: list[Sending | Fetching] = []
        # Uploads that have begun and not ended, and how far they are; downloads that are open.
        self._stages: dict[Sending, SendingStage] = {}
        self._open: set[Fetching] = set()

    def send(self, upload: Sending) -> None:
        """Write the file, and publish it unless it is held."""
        try:
            self._write(upload)
        except UnreachableError:
            raise
        except StepError as error:
            self._give_up(upload, error)
            return
        if upload.is_held:
            self._held.append(upload)
        else:
            self._publish(upload)

    def _write(self, upload: Sending) -> None:
        source, wanted = upload.open()
        self._stages[upload] = "writing"
        path = upload.temporary or upload.destination
        opening = upload.opening_permissions
        self._files.write(path, source, wanted, opening, self._report, is_new=upload.temporary is not None)
        self.done_bytes += source.size_bytes
        is_synced = self._files.sync(path) if upload.is_durable else None
        upload.close()
        found = self._look(path)
        upload.prove(Written(found.size_bytes if found else None, is_synced=is_synced, found=found))

    def _publish(self, upload: Sending) -> None:
        self._stages[upload] = "publishing"
        try:
            if upload.temporary is not None:
                upload.published = self._rename(upload, upload.temporary)
        except UnreachableError:
            raise
        except StepError as error:
            self._give_up(upload, error)
            return
        del self._stages[upload]
        upload.finish(None)

    def _rename(self, upload: Sending, temporary: str) -> Published:
        while True:
            upload.published = Published(True, upload.backup)
            try:
                return self._files.publish(temporary, upload.destination, upload.backup)
            except FileError:
                # Another play may have kept the old file under that very name a moment ago.
                is_taken = upload.backup is not None and self._look(upload.backup) is not None
                if not is_taken or not upload.rename_backup():
                    raise

    def _give_up(self, upload: Sending, error: StepError) -> None:
        """The upload has failed: nothing of it stays, or the error says what does."""
        self._stages.pop(upload, None)
        with suppress(StepError):
            upload.close()
        if upload.temporary is None:
            error.add(f"It was being written in place: {upload.destination!r} may be incomplete")
        else:
            try:
                self._files.remove(upload.temporary)
            except UnreachableError:
                raise
            except StepError:
                error.add(f"The temporary file {upload.temporary!r} could not be removed")
        upload.finish(error)

    def fetch(self, download: Fetching) -> None:
        """Read the file, and publish it unless it is held."""
        self._open.add(download)
        try:
            self._read(download)
        except UnreachableError:
            raise
        except StepError as error:
            self._end(download, error)
            return
        if download.is_held:
            self._held.append(download)
        else:
            self._keep(download)

    def _read(self, download: Fetching) -> None:
        try:
            received_bytes, before = self._files.read(download.source, download.open(), self._report)
            self.done_bytes += received_bytes
            download.prove(ReadFile(received_bytes, before, self._look(download.source)))
        except OSError as error:
            raise download.explain(error) from error

    def _keep(self, download: Fetching) -> None:
        failure: StepError | None = None
        try:
            download.publish()
        except OSError as error:
            failure = download.explain(error)
        except StepError as error:
            failure = error
        self._end(download, failure)

    def _end(self, download: Fetching, error: StepError | None) -> None:
        self._open.discard(download)
        download.discard()
        download.finish(error)

    def release(self, copy: Sending | Fetching, error: StepError | None) -> None:
        """Publish what is held, or give it up."""
        if copy in self._open:
            self._release_download(copy, error)
        else:
            self._release_upload(copy, error)

    def _release_download(self, download: Sending | Fetching, error: StepError | None) -> None:
        held = next(one for one in self._open if one is download)
        if error is not None:
            self._end(held, error)
        else:
            self._keep(held)

    def _release_upload(self, upload: Sending | Fetching, error: StepError | None) -> None:
        held = next(one for one in self._stages if one is upload)
        if error is not None:
            self._give_up(held, error)
        else:
            self._publish(held)

    def list(self, folder: Listing) -> None:
        """SCP lists nothing. Raises `ServerLacksFeature`."""
        raise copies_single_files_only()

    def run(self, request: RemoteRequest) -> None:
        """SCP carries out no single requests. Raises `ServerLacksFeature`."""
        raise copies_single_files_only()

    def wait(self) -> bool:
        """Hand over what is held. There is never more to send."""
        held, self._held = self._held, []
        for copy in held:
            copy.hold()
        return False

    def complete(self) -> None:
        """Everything is over when it has been handed over."""

    def abandon(self) -> None:
        """Remove what has been written in part."""
        for download in tuple(self._open):
            self._open.discard(download)
            download.discard()
        for upload, stage in tuple(self._stages.items()):
            del self._stages[upload]
            with suppress(StepError):
                upload.close()
            try:
                if upload.temporary is not None and stage == "writing":
                    self._files.remove(upload.temporary)
            finally:
                upload.lose(stage)

    def _look(self, path: str) -> FileStatus | None:
        try:
            return self._files.status(path)
        except StatusRefused:
            return None

    def _report(self, done_bytes: int) -> None:
        if self._on_progress is not None:
            self._on_progress(self.done_bytes + done_bytes)


def copies_single_files_only() -> ServerLacksFeature:
    """The error for everything else."""
    return ServerLacksFeature("SCP copies single files only", hint="Use connector_type: SFTP.")
