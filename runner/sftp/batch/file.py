"""What everything in a batch shares: one file on its way, from its first request to its last reply.

Each kind of work is a generator that reads from top to bottom: it asks for what can be under way together, and `yield`
waits until all of that is answered.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from runner.errors import StepError
from runner.sftp.lanes import WriteSpace
from runner.sftp.packets import (
    Attributes,
    MalformedPacket,
    Reader,
    StatusCode,
    Type,
    encode_path,
    encode_string,
    encoded_handle,
)
from runner.sftp.session import Refusal, SftpSession, TakeAnswer

T = TypeVar("T")

# Requests in order; each `yield` waits until all that were made so far are answered.
Stages = Generator[None, None, T]


class Batcher(Protocol):
    """What a file needs of the batch it belongs to. All of it is used under the batch's lock."""

    session: SftpSession
    bytes_in_flight: int
    done_bytes: int

    def request(self, kind: int, body: bytes, file: BatchFile, take: TakeAnswer) -> None:
        """Have a request sent, whose reply is the file's."""
        ...

    def must_end(self) -> bool:
        """Whether the play is to end, so that nothing more is begun or published."""
        ...

    def move(self, file: BatchFile) -> None:
        """Have `take_turn` called in the file's turn, until it returns False."""
        ...

    def hold(self, file: BatchFile) -> None:
        """The file waits until it is released."""
        ...

    def run_aside(self, work: Callable[[], None], then: Callable[[StepError | None], None]) -> None:
        """Have something done that waits for the disk, and the file go on behind it; the network does not wait."""
        ...

    def rejoin(self, work: Callable[[], None]) -> None:
        """Have something done under the lock, from whichever thread, and send what came of it."""
        ...

    def retreat(self, file: BatchFile) -> bool:
        """A handle was refused: have the file begin again when fewer are open. False if that cannot be the reason."""
        ...

    def open_more_channels(self, count: int) -> list[SftpSession]:
        """Up to so many further sessions; may wait, and is not called under the lock."""
        ...

    def part(self, file: BatchFile) -> None:
        """The file has sent its last request, if that goes well."""
        ...

    def finish(self, file: BatchFile, error: Exception | None) -> None:
        """The file is over."""
        ...


class BatchFile:
    """One file of a batch. The first thing that goes wrong is kept, whatever it leads to.

    Every method runs under the batch's lock.
    """

    # Whether somebody waits for this one's end to go on, and not only for the end of all.
    is_urgent = False
    # Whether it asks for names.
    is_listing = False
    # Whether it has written something that must not stay if it goes no further.
    is_written = False

    __slots__ = (
        "_awaited",
        "_batcher",
        "_handle",
        "_in_flight_bytes",
        "_is_busy",
        "_stages",
        "doing",
        "error",
        "has_retreated",
        "is_parting",
        "job",
        "may_stream",
        "session",
        "was_given_up",
    )

    def __init__(self, batcher: Batcher, job: Any) -> None:
        self.job = job
        self._batcher = batcher
        # What the file's requests go through.
        self.session = batcher.session
        self._handle = b""
        self._awaited = 0
        # Bytes that were sent and are not acknowledged.
        self._in_flight_bytes = 0
        # While it has bytes to move, or something is done for it in another thread, an answer is no reason to go on.
        self._is_busy = False
        self._stages: Stages[None] | None = None
        self.error: Exception | None = None
        # Whether it has sent its last request, behind which others may go.
        self.is_parting = False
        self.doing = ""
        # Whether it ends because the play does, and not for a reason of its own.
        self.was_given_up = False
        # Whether it may have so much to send that it does so by itself.
        self.may_stream = False
        # Whether it was refused a handle while others were open, and began again.
        self.has_retreated = False

    @property
    def has_failed(self) -> bool:
        """Whether something has gone wrong, so that only cleaning up is left."""
        return self.error is not None

    @property
    def path(self) -> str:
        """The remote file, for messages."""
        raise NotImplementedError

    def run(self) -> Stages[None]:
        """All requests of the file, in order. Each `yield` waits until those made so far are answered."""
        raise NotImplementedError

    def move_some(self) -> bool:
        """Send the next bytes, or ask for them. False when there are no more."""
        return False

    @property
    def is_streaming(self) -> bool:
        """Whether the next bytes are so many that they are sent by themselves: `next_piece` has them."""
        return False

    def stream_piece(self, space: WriteSpace) -> memoryview:
        """The next request, built in this space; empty if there is none after all."""
        return memoryview(b"")

    def look_after(self) -> None:
        """Called now and then by the thread that waits, for what no answer will set going."""

    def begin(self) -> None:
        """Send the first requests, or go on after having been held."""
        if self._stages is None:
            self._stages = self.run()
        self.proceed()

    def proceed(self) -> None:
        """Everything asked for is answered: the next stage begins."""
        stages = self._stages
        if stages is None:
            return
        try:
            next(stages)
        except StopIteration:
            # A generator that is kept would keep the file alive until the garbage collector comes round.
            self._stages = None
            self._batcher.finish(self, self.error)

    def take_turn(self) -> bool:
        """Move some bytes. False when there are no more: then the next stage begins, whatever is still unanswered."""
        if self.move_some():
            return True
        self._is_busy = False
        self.proceed()
        return False

    def wait_for_turn(self) -> None:
        """Have `move_some` called in turn with other files until it returns False."""
        self._is_busy = True
        self._batcher.move(self)

    def work_aside(self, work: Callable[[], None]) -> Stages[None]:
        """Have something done in another thread, because it waits; a `StepError` of it fails the file."""
        self._is_busy = True
        self._batcher.run_aside(work, self._rejoin)
        yield

    def _rejoin(self, error: StepError | None) -> None:
        if error is not None:
            self.fail(error)
        self._is_busy = False
        self.proceed()

    @property
    def holds_handle(self) -> bool:
        """Whether the server has a file or a folder open for it."""
        return bool(self._handle)

    def begin_again(self) -> Stages[None]:
        """What was refused is tried once more, from the beginning, when its turn comes."""
        yield
        self.error = None
        yield from self.run()

    def refine(self, error: StepError) -> None:
        """Add to the hint of what a refusal was explained by; in the thread that waits."""

    def forget(self) -> None:
        """The session is lost: let go of everything local."""

    def lose(self) -> None:
        """The batch is given up, and nobody is told any more that this one is over."""

    def give_up(self) -> None:
        """Go no further than what tidies up."""
        if self.error is None:
            self.error, self.was_given_up = StepError("the play is over"), True

    def fail(self, error: Exception, doing: str = "") -> None:
        """Keep the first thing that goes wrong."""
        if self.error is None:
            self.error, self.doing = error, doing

    def ask(self, kind: int, body: bytes, take: TakeAnswer) -> None:
        """Send a request. `take` gets any answer but OK; the next stage begins when all requests are answered."""
        self._awaited += 1
        self._batcher.request(kind, body, self, take)

    def expect(self, take: TakeAnswer) -> int:
        """The id of a request that the file sends by itself; `take` is as in `ask`."""
        self._awaited += 1
        return self.session.expect_later((self, take))

    def acknowledge(self) -> None:
        if self._in_flight_bytes:
            # All pieces but the last are of this size, and each is answered: the sum comes out right.
            count = min(self._batcher.session.write_bytes, self._in_flight_bytes)
            self._in_flight_bytes -= count
            self._batcher.bytes_in_flight -= count
            self._batcher.done_bytes += count
        self._awaited -= 1
        if not self._awaited and not self._is_busy:
            self.proceed()

    def part(self) -> None:
        """The file has sent its last request, if that goes well."""
        self._batcher.part(self)

    def find_refusal(self, kind: int, body: memoryview) -> Refusal | None:
        """What a status refuses; None for OK."""
        try:
            self._batcher.session.check_status(kind, body)
        except Refusal as refusal:
            return refusal
        return None

    def take_status(self, doing: str, kind: int, body: memoryview) -> None:
        """A status: fails the file unless it is OK."""
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self.fail(refusal, doing)

    def miss(self, what: str) -> None:
        """OK was answered where something else is due: fails the file, unless it has failed already."""
        if self.error is None:
            self.fail(self.session.malformed_field(MalformedPacket(f"the status OK where {what} is due")))

    def take_handle(self, doing: str, kind: int, body: memoryview) -> None:
        """A handle, kept as it is put into requests; a refusal fails the file."""
        if kind != Type.HANDLE:
            self.take_status(doing, kind, body)
            if self.error is None:
                raise MalformedPacket("the status OK where a handle is due")
            return
        self._handle = encoded_handle(body)


_NO_HANDLE = encode_string(b"none")


class Answer:
    """What one request is answered with: a refusal, what a file is, a name or a handle; nothing of that for OK."""

    __slots__ = ("_file", "attributes", "handle", "mode", "name", "refusal")

    def __init__(self, file: BatchFile) -> None:
        self._file = file
        self.refusal: Refusal | None = None
        self.attributes: Attributes | None = None
        # With the kind of file, if the server tells it.
        self.mode: int | None = None
        self.name: str | None = None
        # As requests carry it; without one it is a handle that no server has.
        self.handle = _NO_HANDLE

    def take(self, kind: int, body: memoryview) -> None:
        """The answer, unless it is OK. Raises `MalformedPacket`."""
        if kind == Type.ATTRS:
            self.attributes = Reader(body).take_attributes()
            self.mode = self.attributes.mode or 0
        elif kind == Type.HANDLE:
            self.handle = encoded_handle(body)
        elif kind == Type.NAME:
            self.name = Reader(body).take_names()[0][0]
        else:
            self.refusal = self._file.find_refusal(kind, body)

    def is_like(self, other: Answer) -> bool:
        """Whether both are told to be files of the same size, mode and time: perhaps two names of one."""
        ours, theirs = self.attributes, other.attributes
        if ours is None or theirs is None:
            return False
        return ours._replace(accessed_at_seconds=None) == theirs._replace(accessed_at_seconds=None)

    @property
    def is_missing(self) -> bool:
        """Whether the server says that nothing is there."""
        return self.refusal is not None and self.refusal.code == StatusCode.NO_SUCH_FILE

    @property
    def is_link(self) -> bool:
        return self.mode is not None and stat.S_ISLNK(self.mode)

    @property
    def is_directory(self) -> bool:
        return self.mode is not None and stat.S_ISDIR(self.mode)


def look(file: BatchFile, path: str) -> Stages[Answer]:
    """What is at a path, links not followed."""
    answer = Answer(file)
    file.ask(Type.LSTAT, encode_path(path), answer.take)
    yield
    return answer


def ignore(kind: int, body: memoryview) -> None:
    """The answer changes nothing."""
