"""What the two state machines of a batch share: one file on its way, from its first request to its last reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from runner.errors import StepError
from runner.sftp.packets import MalformedPacket, Type, encoded_handle
from runner.sftp.session import Refusal, SftpSession, TakeAnswer


class Engine(Protocol):
    """What a file needs of the batch it belongs to. All of it is used under the batch's lock."""

    session: SftpSession
    bytes_in_flight: int
    done_bytes: int

    def request(self, kind: int, body: bytes, file: BatchFile, take: TakeAnswer) -> None:
        """Have a request sent, whose reply is the file's."""
        ...

    def move(self, file: BatchFile) -> None:
        """Have `move_some` called in the file's turn, until it returns False."""
        ...

    def hold(self, file: BatchFile) -> None:
        """The file waits until it is released."""
        ...

    def part(self, file: BatchFile) -> None:
        """The file has sent its last request, if that goes well."""
        ...

    def finish(self, file: BatchFile, error: Exception | None) -> None:
        """The file is over."""
        ...


class BatchFile:
    """One file of a batch. The first thing that goes wrong is kept, whatever it leads to."""

    # Whether somebody waits for this one's end to go on, and not only for the end of all.
    is_urgent = False
    # Whether it asks for names.
    is_listing = False
    # Whether it has written something that must not stay if it goes no further.
    is_written = False

    __slots__ = (
        "_awaited",
        "_engine",
        "_handle",
        "_in_flight_bytes",
        "_then",
        "doing",
        "error",
        "is_parting",
        "job",
    )

    def __init__(self, engine: Engine, job: Any) -> None:
        self.job = job
        self._engine = engine
        self._handle = b""
        self._awaited = 0
        # Bytes that were sent and are not acknowledged.
        self._in_flight_bytes = 0
        self._then: Callable[[], None] = _nothing
        self.error: Exception | None = None
        # Whether it has sent its last request, behind which others may go.
        self.is_parting = False
        self.doing = ""

    @property
    def path(self) -> str:
        """The remote file, for messages."""
        raise NotImplementedError

    def begin(self) -> None:
        """Send the first request."""
        raise NotImplementedError

    def move_some(self) -> bool:
        """Send the next bytes, or ask for them. False when there are no more."""
        return False

    def forget(self) -> None:
        """The session is lost: let go of everything local."""

    def give_up(self) -> None:
        """Go no further than what tidies up."""
        self.error = self.error or StepError("the play is over")

    def fail(self, error: Exception, doing: str = "") -> None:
        """Keep the first thing that goes wrong."""
        if self.error is None:
            self.error, self.doing = error, doing

    def ask(self, kind: int, body: bytes, take: TakeAnswer) -> None:
        """Send a request. `take` gets any answer but OK; the next stage begins when all requests are answered."""
        self._awaited += 1
        self._engine.request(kind, body, self, take)

    def acknowledge(self) -> None:
        if self._in_flight_bytes:
            # All pieces but the last are of this size, and each is answered: the sum comes out right.
            count = min(self._engine.session.write_bytes, self._in_flight_bytes)
            self._in_flight_bytes -= count
            self._engine.bytes_in_flight -= count
            self._engine.done_bytes += count
        self._awaited -= 1
        if not self._awaited:
            self._then()

    def take_status(self, doing: str, kind: int, body: memoryview) -> None:
        """A status: fails the file unless it is OK."""
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            self.fail(refusal, doing)

    def take_handle(self, doing: str, kind: int, body: memoryview) -> None:
        """A handle, kept as it is put into requests; a refusal fails the file."""
        if kind != Type.HANDLE:
            self.take_status(doing, kind, body)
            if self.error is None:
                raise MalformedPacket("the status OK where a handle is due")
            return
        self._handle = encoded_handle(body)

    def finish(self) -> None:
        """The file is over, well or not."""
        # Its own method, kept here, would keep it alive until the garbage collector comes round.
        self._then = _nothing
        self._engine.finish(self, self.error)


def _nothing() -> None:
    """No stage follows."""


def ignore(kind: int, body: memoryview) -> None:
    """The answer changes nothing."""
