"""What `--check` is given of a server: it has no way to change anything there, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable

from runner.errors import StepError
from runner.remote_files import Batch, Fetching, Listing, Progress, RemoteRequest, Sending
from runner.transfer.foretold.server import ServerView
from runner.transfer.foretold.server_batch import ForetoldBatch, require_reading


class ForetoldReader(ServerView):
    """The files of one host as earlier steps would have left them; a `runner.remote_files.RemoteReader`."""

    def start_batch(self, on_progress: Progress | None = None, must_end: Callable[[], bool] = lambda: False) -> Batch:
        def start() -> Batch:
            return self.remote.start_batch(on_progress, must_end)

        return ReadingBatch(start()) if self.is_empty else ForetoldBatch(self, start)


class ReadingBatch:
    """A batch of the server's own, that sends nothing; a `runner.remote_files.Batch`."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @property
    def done_bytes(self) -> int:
        return self._batch.done_bytes

    def send(self, upload: Sending) -> None:
        raise AssertionError("--check must change nothing, but was to send a file")

    def release(self, copy: Sending | Fetching, error: StepError | None) -> None:
        raise AssertionError("--check must change nothing, but was to publish a file")

    def fetch(self, download: Fetching) -> None:
        self._batch.fetch(download)

    def list(self, folder: Listing) -> None:
        self._batch.list(folder)

    def run(self, request: RemoteRequest) -> None:
        require_reading(request)
        self._batch.run(request)

    def wait(self) -> bool:
        return self._batch.wait()

    def complete(self) -> None:
        self._batch.complete()

    def abandon(self) -> None:
        self._batch.abandon()
