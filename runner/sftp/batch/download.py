"""One download: open, read, look, close; and once all is proven, publish. A single file is a batch of one.

What was announced is asked for at once; behind it the server is asked what the file is like now, which proves that nobody
wrote to it meanwhile.
"""

from __future__ import annotations

import functools
import struct

from runner.errors import ConnectionLost, StepError, VerificationFailed
from runner.remote_files import Fetching, FileStatus, ReadFile, TakeBytes
from runner.sftp.attributes import to_status
from runner.sftp.batch.file import Batcher, BatchFile, Stages, ignore
from runner.sftp.packets import Attributes, MalformedPacket, OpenFlag, Reader, StatusCode, Type, encode_path
from runner.sftp.session import Refusal

_READ_FILE = struct.pack(">I", OpenFlag.READ) + Attributes().encode()
_READ_START = struct.Struct(">QI").pack


class Download(BatchFile):
    """One download. Every method runs under the batch's lock."""

    __slots__ = (
        "_after",
        "_asked",
        "_asked_bytes",
        "_before",
        "_end_at",
        "_has_asked_for_end",
        "_is_gone",
        "_received",
        "_rests",
        "_size_bytes",
        "_take",
        "job",
    )

    job: Fetching

    def __init__(self, batcher: Batcher, job: Fetching) -> None:
        super().__init__(batcher, job)
        self._take: TakeBytes | None = None
        self._size_bytes = job.size_bytes
        self._asked = self._received = job.offset
        # Ranges that a short reply left open.
        self._rests: list[tuple[int, int]] = []
        self._before: FileStatus | None = None
        self._after: FileStatus | None = None
        # Where the server says that the file ends.
        self._end_at: int | None = None
        self._has_asked_for_end = not self._must_ask_for_end
        self._is_gone = False
        # Asked for and not answered, or not by data.
        self._asked_bytes = 0

    @property
    def path(self) -> str:
        return self.job.source

    @property
    def _must_ask_for_end(self) -> bool:
        """Whether it is asked for a byte beyond the announced size, so that the answer proves where the file ends."""
        return self.job.is_looked_at or not self.session.traits.is_sequential

    def run(self) -> Stages[None]:
        self.ask(Type.OPEN, encode_path(self.job.source) + _READ_FILE, self._take_handle)
        yield
        if not self._handle:
            self.miss("a handle")
            if self._batcher.retreat(self):
                yield from self.begin_again()
            return
        if self.job.is_looked_at:
            yield from self._look_before()
        while self.error is None and self._has_more:
            self.wait_for_turn()
            yield
            if self._awaited:
                yield
        # What was answered with the status OK in the place of data.
        self._batcher.bytes_in_flight -= self._asked_bytes
        self._asked_bytes = 0
        if self.error is None:
            self.ask(Type.FSTAT, self._handle, self._looked)
            if not self.session.traits.is_sequential:
                yield
        self.ask(Type.CLOSE, self._handle, ignore)
        yield
        self._handle = b""
        if self.error is None:
            self._prove()
        if self.error is None:
            yield from self._conclude()
        self._discard()

    def _look_before(self) -> Stages[None]:
        self.ask(Type.FSTAT, self._handle, self._looked_before)
        if not self.session.traits.is_sequential:
            # Some servers answer in any order: that it is the status before is certain only before the first byte.
            yield

    def _conclude(self) -> Stages[None]:
        """All bytes are here, and are those of the source as far as the server tells."""
        if self.job.is_held:
            self._batcher.hold(self)
            yield
        if self._batcher.must_end():
            # Nothing gets its name any more when the play is to end.
            self.give_up()
        elif self.error is None and self.job.is_durable:
            yield from self.work_aside(self._publish)
        elif self.error is None:
            try:
                self._publish()
            except StepError as error:
                self.fail(error)

    def _prove(self) -> None:
        if self._size_bytes is None and self._end_at is not None and self._received != self._end_at:
            self.fail(
                VerificationFailed(
                    f"{self.session.peer} sent a file with a gap: it ends at byte {self._end_at:,}, "
                    f"{self._received:,} bytes came",
                    hint="Another program is writing to the source, or the server is broken.",
                )
            )
            return
        try:
            self.job.prove(ReadFile(self._received, self._before, self._after, self._is_gone))
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self.fail(self.job.explain(error))

    def _publish(self) -> None:
        try:
            self.job.publish()
        except OSError as error:
            raise self.job.explain(error) from error

    @property
    def _has_more(self) -> bool:
        if self._take is None or self._rests:
            return True
        if self._end_at is not None:
            return False
        return self._size_bytes is None or self._asked < self._size_bytes or not self._has_asked_for_end

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot read", kind, body)

    def move_some(self) -> bool:
        if self._batcher.must_end():
            self.give_up()
        if self.error is None and self._take is None:
            try:
                self._take = self.job.open()
            except StepError as error:
                self.fail(error)
            except OSError as error:
                self.fail(self.job.explain(error))
        return self.error is None and self._ask_for_some()

    def _ask_for_some(self) -> bool:
        """Ask for the next piece. False when there is no more to ask for."""
        read_bytes = self.session.read_bytes
        if self._rests:
            offset, count = self._rests.pop()
        elif self._end_at is not None:
            return False
        elif self._size_bytes is None:
            offset, count = self._asked, read_bytes
            self._asked += count
        elif self._asked < self._size_bytes:
            offset = self._asked
            count = min(read_bytes, self._size_bytes - offset)
            self._asked += count
        elif not self._has_asked_for_end:
            self._has_asked_for_end = True
            offset, count = self._size_bytes, 1
        else:
            return False
        self._batcher.bytes_in_flight += count
        self._asked_bytes += count
        take = functools.partial(self._take_data, offset, count)
        self.ask(Type.READ, self._handle + _READ_START(offset, count), take)
        return self._has_more

    def _take_data(self, offset: int, count: int, kind: int, body: memoryview) -> None:
        self._batcher.bytes_in_flight -= count
        self._asked_bytes -= count
        if kind != Type.DATA:
            self._take_end(offset, kind, body)
            return
        data = Reader(body).take_string()
        if not 0 < len(data) <= count:
            raise ConnectionLost(
                f"{self.session.peer} broke the SFTP protocol: {len(data):,} bytes of data where {count:,} were asked for",
                hint="The session cannot be trusted on.",
            )
        self._received += len(data)
        self._batcher.done_bytes += len(data)
        if len(data) < count:
            # A short reply is no end of file.
            self._rests.append((offset + len(data), count - len(data)))
        if self.error is None and self._take is not None:
            try:
                self._take(data, offset)
            except OSError as error:
                self.fail(self.job.explain(error))

    def _take_end(self, offset: int, kind: int, body: memoryview) -> None:
        """An end of file that comes too early shows in the count of what was received."""
        refusal = self.find_refusal(kind, body)
        if refusal is None:
            raise MalformedPacket("the status OK where data is due")
        if refusal.code == StatusCode.EOF:
            self._end_at = offset if self._end_at is None else min(self._end_at, offset)
        elif self._size_bytes is not None and offset >= self._size_bytes:
            # All that was announced is asked for: some servers hand a file out once, and then it is gone.
            self._note_gone(refusal)
        else:
            self.fail(refusal, "cannot read")

    def _looked_before(self, kind: int, body: memoryview) -> None:
        if kind != Type.ATTRS:
            self.find_refusal(kind, body)
            return
        self._before = to_status(Reader(body).take_attributes())
        if self._before.size_bytes is not None and self.job.trusts_size:
            # It may be another file by now than the one that was looked at.
            self._size_bytes = self._before.size_bytes

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            self._after = to_status(Reader(body).take_attributes())
            return
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self._note_gone(refusal)

    def _note_gone(self, refusal: Refusal) -> None:
        self._is_gone = self._is_gone or refusal.code == StatusCode.NO_SUCH_FILE

    def _discard(self) -> None:
        try:
            self.job.discard()
        except OSError as error:
            self.fail(self.job.explain(error))

    def forget(self) -> None:
        self._discard()
