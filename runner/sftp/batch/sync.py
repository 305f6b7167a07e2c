"""A folder that a batch syncs to disk, and with it the names that were given in it: OPEN; fsync and CLOSE together."""

from __future__ import annotations

import struct

from runner.remote_files import RemoteRequest
from runner.sftp.batch.file import Batcher, BatchFile, Stages, ignore
from runner.sftp.batch.upload import FSYNC_START
from runner.sftp.packets import FSYNC, Attributes, OpenFlag, StatusCode, Type, encode_path
from runner.sftp.session import Refusal

# OpenSSH's server opens a folder like a file, and syncs what is behind any handle of OPEN.
_READ_FOLDER = struct.pack(">I", OpenFlag.READ) + Attributes().encode()


class FolderSync(BatchFile):
    """One folder. Every method runs under the batch's lock."""

    __slots__ = ("job",)

    job: RemoteRequest
    is_urgent = True

    def __init__(self, batcher: Batcher, job: RemoteRequest) -> None:
        super().__init__(batcher, job)

    @property
    def path(self) -> str:
        return self.job.path

    def run(self) -> Stages[None]:
        if FSYNC not in self.session.extensions:
            self.fail(Refusal(StatusCode.OP_UNSUPPORTED, ""), "cannot sync to disk")
            return
        self.ask(Type.OPEN, encode_path(self.path) + _READ_FOLDER, self._take_handle)
        yield
        if not self._handle:
            self.miss("a handle")
        else:
            self.ask(Type.EXTENDED, FSYNC_START + self._handle, self._refuse)
            self.ask(Type.CLOSE, self._handle, ignore)
            yield

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot sync to disk", kind, body)

    def _refuse(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot sync to disk", kind, body)
