"""One download of a batch: OPEN; READs; FSTAT behind the last one proves the source unchanged; then CLOSE and publish."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

from runner.errors import ConnectionLost, StepError
from runner.remote_files import Fetching, FileStatus
from runner.sftp.attributes import to_status
from runner.sftp.batch_file import BatchFile, Engine, ignore
from runner.sftp.packets import Attributes, OpenFlag, Reader, StatusCode, Type, encode_path
from runner.sftp.pipelines import write_at
from runner.sftp.session import Refusal

_READ_FILE = struct.pack(">I", OpenFlag.READ) + Attributes().encode()


class Download(BatchFile):
    """One download. Every method runs under the batch's lock."""

    __slots__ = ("_after", "_asked", "_fd", "_received", "_rests", "job")

    job: Fetching

    def __init__(self, engine: Engine, job: Fetching) -> None:
        super().__init__(engine, job)
        self._fd = -1
        self._asked = self._received = 0
        # Ranges that a short reply left open.
        self._rests: list[tuple[int, int]] = []
        self._after: FileStatus | None = None

    @property
    def path(self) -> str:
        return self.job.source

    def run(self) -> Iterator[None]:
        self.ask(Type.OPEN, encode_path(self.job.source) + _READ_FILE, self._take_handle)
        yield
        if not self._handle:
            return
        while self.error is None and self._has_more:
            self.wait_for_turn()
            yield
            if self._awaited:
                yield
        if self.error is None:
            self.ask(Type.FSTAT, self._handle, self._looked)
        self.ask(Type.CLOSE, self._handle, ignore)
        yield
        try:
            if self.error is None:
                self.job.prove(self._received, self._after)
                if not self.job.is_durable:
                    self._publish()
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self.fail(self.job.explain(error))
        if self.error is None and self.job.is_durable:
            self._engine.run_aside(self._publish, self._after_publishing)
            yield
        self._discard()

    def _publish(self) -> None:
        try:
            self.job.publish()
        except OSError as error:
            raise self.job.explain(error) from error

    def _after_publishing(self, error: StepError | None) -> None:
        """What had to wait for the disk is done."""
        if error is not None:
            self.fail(error)
        self.proceed()

    @property
    def _has_more(self) -> bool:
        return self._fd < 0 or bool(self._rests) or self._asked < self.job.size_bytes

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot read", kind, body)

    def move_some(self) -> bool:
        if self.error is None and self._fd < 0:
            try:
                self._fd = self.job.open()
            except StepError as error:
                self.fail(error)
            except OSError as error:
                self.fail(self.job.explain(error))
        return self.error is None and self._ask_for_some()

    def _ask_for_some(self) -> bool:
        """Ask for the next piece. False when there is no more to ask for."""
        if self._rests:
            offset, count = self._rests.pop()
        else:
            offset = self._asked
            count = min(self._engine.session.read_bytes, self.job.size_bytes - offset)
            self._asked += max(count, 0)
        if count <= 0:
            return False
        self._engine.bytes_in_flight += count
        take = functools.partial(self._take_data, offset, count)
        self.ask(Type.READ, self._handle + struct.pack(">QI", offset, count), take)
        return bool(self._rests) or self._asked < self.job.size_bytes

    def _take_data(self, offset: int, count: int, kind: int, body: memoryview) -> None:
        self._engine.bytes_in_flight -= count
        if kind != Type.DATA:
            self._take_end(kind, body)
            return
        data = Reader(body).take_string()
        if not 0 < len(data) <= count:
            raise ConnectionLost(
                f"{self._engine.session.peer} broke the SFTP protocol: {len(data):,} bytes of data where {count:,} were "
                "asked for",
                hint="The session cannot be trusted on.",
            )
        self._received += len(data)
        self._engine.done_bytes += len(data)
        if len(data) < count:
            self._rests.append((offset + len(data), count - len(data)))
        if self.error is None:
            try:
                write_at(self._fd, data, offset)
            except OSError as error:
                self.fail(self.job.explain(error))

    def _take_end(self, kind: int, body: memoryview) -> None:
        """An end of file that comes too early shows in the count of what was received."""
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            if refusal.code != StatusCode.EOF:
                self.fail(refusal, "cannot read")

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            self._after = to_status(Reader(body).take_attributes())

    def _discard(self) -> None:
        try:
            self.job.discard()
        except OSError as error:
            self.fail(self.job.explain(error))

    def forget(self) -> None:
        self._discard()
