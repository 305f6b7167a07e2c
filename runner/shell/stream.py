"""A command's output as a stream to read from, and its input to write to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from runner.cancellation import Deadline
from runner.errors import ConnectionLost

MAX_LINE_BYTES = 8192


class CommandChannel(Protocol):
    """What a stream needs of the channel below it."""

    @property
    def has_ended(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_cut_off(self) -> bool: ...
    def check(self) -> None: ...
    @property
    def exit_status(self) -> int | None: ...
    @property
    def stderr_text(self) -> str: ...
    @property
    def piece_bytes(self) -> int: ...
    def listen(self, on_data: Callable[[memoryview], bool], unread_bytes: Callable[[], int] | None = None) -> None: ...
    def note_read(self) -> None: ...
    def send(self, data: bytes | memoryview) -> None: ...
    def wait_until(self, is_ready: Callable[[], bool], deadline: Deadline | None = None) -> None: ...
    def finish_sending(self) -> None: ...
    def close(self) -> None: ...
    def lost(self) -> ConnectionLost: ...


class Unanswered(Exception):
    """The server did not answer the request to start a command in the time that it was given."""


class OutputEnded(Exception):
    """The command ended, or closed its output, before it had said what it should."""


class Stream:
    """Reads a command's standard output. Create it before the command is started.

    Memory is bounded by the channel's window: the server may send no more than that until what came has been read.
    """

    def __init__(self, channel: CommandChannel, deadline: Deadline | None = None) -> None:
        """With a `deadline` every wait ends then, by `ConnectTimedOut`; otherwise by the channel's own rules."""
        self.channel = channel
        self._deadline = deadline
        self._buffer = bytearray()
        self._lock = threading.Lock()
        channel.listen(self._keep, lambda: len(self._buffer))

    @contextmanager
    def ending_at(self, deadline: Deadline) -> Iterator[None]:
        """Have every wait inside the block end then, by `ConnectTimedOut`."""
        before, self._deadline = self._deadline, deadline
        try:
            yield
        finally:
            self._deadline = before

    def send(self, data: bytes) -> None:
        """Send to the command's input. Raises `OutputEnded` if the command has ended meanwhile."""
        try:
            self.channel.send(data)
        except ConnectionLost as error:
            if self.channel.has_ended:
                raise OutputEnded from error
            raise

    @property
    def has_unread(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._buffer)

    def read_some(self, limit_bytes: int) -> bytearray:
        """At least one byte and at most `limit_bytes`. Raises `OutputEnded` at the end."""
        # The reader may be slower than the server, and then never waits.
        self.channel.check()
        if not self._buffer:
            self._wait_for_data()
        with self._lock:
            if len(self._buffer) <= limit_bytes:
                data, self._buffer = self._buffer, bytearray()
            else:
                data = self._buffer[:limit_bytes]
                del self._buffer[:limit_bytes]
        self.channel.note_read()
        return data

    def read_line(self) -> bytes:
        """The next line without its end. Raises `OutputEnded` at the end, `ConnectionLost` for an endless line."""
        line = bytearray()
        while True:
            byte = self.read_some(1)
            if byte == b"\n":
                return bytes(line)
            line += byte
            if len(line) > MAX_LINE_BYTES:
                raise ConnectionLost("the server sent an endless line where a short one is due")

    def read_to_end(self, limit_bytes: int) -> bytes:
        """Everything up to the end of the output. Raises `ConnectionLost` if that is more than `limit_bytes`."""
        output = bytearray()
        while len(output) <= limit_bytes:
            try:
                output += self.read_some(limit_bytes)
            except OutputEnded:
                return bytes(output)
        raise ConnectionLost(
            f"the server sent more than {limit_bytes:,} bytes where a command's few words are due",
            hint="The account may print something at login; it must not for commands.",
        )

    def await_exit(self) -> int | None:
        """The command's exit status, once it has ended; None if the server does not tell it."""
        self.channel.wait_until(lambda: self.channel.is_closed, self._deadline)
        return self.channel.exit_status

    def _keep(self, data: memoryview) -> bool:
        """Called in the transport's thread."""
        with self._lock:
            # Whoever reads waits only while there is nothing at all.
            is_news = not self._buffer
            self._buffer += data
        return is_news

    def _wait_for_data(self) -> None:
        self.channel.wait_until(lambda: bool(self._buffer) or self.channel.has_ended, self._deadline)
        if not self._buffer:
            raise OutputEnded
