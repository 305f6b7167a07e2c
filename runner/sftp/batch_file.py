"""What the two state machines of a batch share: one file on its way, from its first request to its last reply."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from runner.errors import StepError
from runner.sftp.packets import MalformedPacket, Reader, StatusCode, Type
from runner.sftp.session import OnReply, Refusal, SftpSession

MAX_HANDLE_BYTES = 256


class Engine(Protocol):
    """What a file needs of the batch it belongs to. All of it is used under the batch's lock."""

    session: SftpSession
    bytes_in_flight: int
    done_bytes: int

    def request(self, kind: Type, body: bytes, take: OnReply) -> None:
        """Have a request sent, and its reply handed to `take`."""
        ...

    def move(self, file: BatchFile) -> None:
        """Have `move_some` called in the file's turn, until it returns False."""
        ...

    def finish(self, file: BatchFile, error: Exception | None) -> None:
        """The file is over."""
        ...


class BatchFile(ABC):
    """One file of a batch. The first thing that goes wrong is kept, whatever it leads to."""

    __slots__ = ("_awaited", "_engine", "_handle", "_then", "doing", "error", "job")

    def __init__(self, engine: Engine, job: Any) -> None:
        self.job = job
        self._engine = engine
        self._handle = b""
        self._awaited = 0
        self._then: Callable[[], None] = lambda: None
        self.error: Exception | None = None
        self.doing = ""

    @property
    @abstractmethod
    def path(self) -> str:
        """The remote file, for messages."""

    @abstractmethod
    def begin(self) -> None:
        """Send the first request."""

    @abstractmethod
    def move_some(self) -> bool:
        """Send the next bytes, or ask for them. False when there are no more."""

    @abstractmethod
    def forget(self) -> None:
        """The session is lost: let go of everything local."""

    def give_up(self) -> None:
        """Go no further than what tidies up."""
        self.error = self.error or StepError("the play is over")

    def fail(self, error: Exception, doing: str = "") -> None:
        """Keep the first thing that goes wrong."""
        if self.error is None:
            self.error, self.doing = error, doing

    def ask(self, kind: Type, body: bytes, take: Callable[[int, memoryview], None]) -> None:
        """Send a request whose reply `take` gets; a `Refusal` that it raises fails the file. Then the next stage."""
        self._awaited += 1
        self._engine.request(kind, body, functools.partial(self._answered, take))

    def _answered(self, take: Callable[[int, memoryview], None], kind: int, body: memoryview) -> bool:
        self._awaited -= 1
        try:
            take(kind, body)
        except MalformedPacket as error:
            raise self._engine.session.malformed_field(error) from error
        if self._awaited == 0:
            self._then()
        return False

    def take_status(self, doing: str, kind: int, body: memoryview) -> None:
        """A status: fails the file unless it is OK."""
        # Nearly every reply is this one.
        if kind == Type.STATUS and int.from_bytes(body[:4], "big") == StatusCode.OK and len(body) >= 4:
            return
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
        handle = Reader(body).take_string()
        if not 0 < len(handle) <= MAX_HANDLE_BYTES:
            raise MalformedPacket(f"a handle of {len(handle)} bytes")
        self._handle = bytes(body[: 4 + len(handle)])

    def finish(self) -> None:
        """The file is over, well or not."""
        self._engine.finish(self, self.error)


def ignore(kind: int, body: memoryview) -> None:
    """The answer changes nothing."""
