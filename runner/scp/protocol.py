"""The SCP protocol's two sides as a client plays them: what is said on a running `scp -t` or `scp -f`.

There is no standard. The messages are those of OpenSSH's scp.c, functions sink() and source(): every line is answered by
one byte, 0 for yes, 1 for an error with a text, 2 for a fatal one. Each answer takes a round trip, so what can be said
beforehand is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from runner.cancellation import Deadline
from runner.errors import ConnectionLost, ConnectTimedOut, ServerLacksFeature, SourceChanged
from runner.remote_files import Progress, Source
from runner.shell.noise import MAX_NOISE_BYTES, NOISE_HINT, has_whole_line, quote_noise
from runner.shell.stream import OutputEnded, Stream

CHUNK_BYTES = 255 * 1024
YES = b"\0"
# The second one ends the server's scp.
ERRORS = (b"\x01", b"\x02")
# How much of what makes no sense an error quotes.
SHOWN_BYTES = 80
MAX_SIZE_DIGITS = 19
# How long the end of a line is waited for that stands where scp should begin.
NOISE_SECONDS = 0.5
_BROKEN_HINT = (
    "The server's scp is damaged, or something prints into what it sends. Use connector_type: SFTP if there is one."
)

_MESSAGE = re.compile(rb"[CDT][0-9-]|E$")
_COPY_LINE = re.compile(rb"C([0-7]{4,5}) ([0-9]{1,%d}) (.*)" % MAX_SIZE_DIGITS)
_TIME_LINE = re.compile(rb"T([0-9]{1,12}) [0-9]{1,12} ([0-9]{1,12}) [0-9]{1,12}")


class Refusal(Exception):
    """The server's scp answered with an error text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Header:
    """What a server says of a file before it sends it."""

    mode: int
    size_bytes: int
    modified_at_seconds: int | None


def send_file(stream: Stream, source: Source, mode: int, modified_at_seconds: int | None, progress: Progress) -> None:
    """Play the source to a running `scp -p -t PATH`. Raises `Refusal` with the server's words."""
    lines = []
    if modified_at_seconds is not None:
        lines.append(b"T%d 0 %d 0\n" % (modified_at_seconds, modified_at_seconds))
    # The name counts only when PATH is a directory, which the caller has ruled out as far as the server tells.
    lines.append(b"C%04o %d file\n" % (mode, source.size_bytes))
    _send(stream, b"".join(lines))
    # One for the start, one for each line. The content waits for all of them: a server that has refused the file would take
    # its bytes for further lines.
    _expect_yes(stream, is_first=True)
    for _ in lines:
        _expect_yes(stream)
    offset, chunk_bytes = 0, min(CHUNK_BYTES, stream.channel.piece_bytes)
    while offset < source.size_bytes:
        chunk = os.pread(source.fd, min(chunk_bytes, source.size_bytes - offset), offset)
        if not chunk:
            raise SourceChanged(
                f"the source became shorter while it was read: {source.size_bytes:,} bytes expected, {offset:,} found",
                hint="Something still writes to it. Play again when it is finished.",
            )
        if source.hasher is not None:
            source.hasher.update(memoryview(chunk))
        _send(stream, chunk)
        offset += len(chunk)
        progress(offset)
    _send(stream, YES)
    stream.channel.finish_sending()
    _expect_yes(stream)


def ask_for_header(stream: Stream) -> Header:
    """Play the sink to a running `scp -p -f PATH` up to the file's header. Raises `Refusal` with the server's words."""
    # To the start, and to the times.
    _say_yes(stream, 2)
    return _read_header(stream)


def ask_for_file(stream: Stream) -> Header:
    """The same, and have the content sent: `receive_file` takes it."""
    _say_yes(stream, 3)
    return _read_header(stream)


def _read_header(stream: Stream) -> Header:
    first = line = _read_line(stream)
    modified_at: int | None = None
    if times := _TIME_LINE.fullmatch(line):
        modified_at = int(times[1])
        line = _read_line(stream)
    header = _COPY_LINE.fullmatch(line)
    if not header and line is first and not _MESSAGE.match(line):
        raise _noise(line + b"\n", stream)
    if not header:
        raise ConnectionLost(
            f"the server broke the SCP protocol: {line[:SHOWN_BYTES]!r} where a file's header is due",
            hint=_BROKEN_HINT,
        )
    return Header(int(header[1], 8), int(header[2]), modified_at)


def receive_file(stream: Stream, header: Header, take: Callable[[memoryview], None], progress: Progress) -> int:
    """Take the file's bytes in order, exactly as many as announced. Returns how many came; fewer if the server stopped."""
    received = 0
    while received < header.size_bytes:
        try:
            data = stream.read_some(min(CHUNK_BYTES, header.size_bytes - received))
        except OutputEnded:
            return received
        take(memoryview(data))
        received += len(data)
        progress(received)
    _expect_yes(stream)
    _say_yes(stream, 1)
    return received


def _say_yes(stream: Stream, count: int) -> None:
    """Agree to what the server says next. If it has ended, what it has said already counts."""
    try:
        stream.send(YES * count)
    except OutputEnded:
        pass


def _send(stream: Stream, data: bytes) -> None:
    """Send to the server's scp. If it has ended, what it said last tells why."""
    try:
        stream.send(data)
    except OutputEnded as error:
        if stream.has_unread:
            _expect_yes(stream)
        raise _ended(stream) from error


def _read_line(stream: Stream) -> bytes:
    """The next line; an error line raises `Refusal`."""
    try:
        line = stream.read_line()
    except OutputEnded as error:
        raise _ended(stream) from error
    if line[:1] in ERRORS:
        raise Refusal(_clean(line[1:]))
    return line


def _expect_yes(stream: Stream, *, is_first: bool = False) -> None:
    try:
        answer = bytes(stream.read_some(1))
        if answer == YES:
            return
        text = stream.read_line() if answer in ERRORS else b""
    except OutputEnded as error:
        raise _ended(stream) from error
    if answer in ERRORS:
        raise Refusal(_clean(text))
    if is_first:
        raise _noise(answer, stream)
    rest = bytes(stream.read_some(SHOWN_BYTES)) if stream.has_unread else b""
    raise ConnectionLost(
        f"the server broke the SCP protocol: {(answer + rest)[:SHOWN_BYTES]!r} where an answer is due",
        hint=_BROKEN_HINT,
    )


def _noise(begun: bytes, stream: Stream) -> ServerLacksFeature:
    """The error for what is said where scp's first answer is due."""
    said = bytearray(begun)
    try:
        with stream.ending_at(Deadline.after(NOISE_SECONDS)):
            while not has_whole_line(said):
                said += stream.read_some(MAX_NOISE_BYTES)
    except (OutputEnded, ConnectTimedOut, ConnectionLost):
        pass  # that was all
    if _is_missing(said.decode("utf-8", "replace")):
        return _missing_scp(quote_noise(bytes(said)))
    return ServerLacksFeature(
        f"the server says something before scp begins: {quote_noise(bytes(said))}", hint=NOISE_HINT
    )


def _ended(stream: Stream) -> Exception:
    """Why the server's scp ended before it answered."""
    status, said = stream.await_exit(), stream.channel.stderr_text
    detail = f": {said}" if said else ""
    if status is None:
        lost = stream.channel.lost()
        return ConnectionLost(lost.message + detail, hint=lost.hint)
    if status == 127 or _is_missing(said):
        return _missing_scp(said)
    return Refusal(f"scp ended with status {status}{detail}")


def _is_missing(said: str) -> bool:
    """Whether a shell says that it knows no scp: a POSIX one, cmd.exe, PowerShell (whose line may be broken anywhere)."""
    words = " ".join(said.split())
    return any(text in words for text in ("not found", "is not recognized as", "CommandNotFoundException"))


def _missing_scp(said: str) -> ServerLacksFeature:
    return ServerLacksFeature(
        f"the server cannot run scp{f': {said}' if said else ''}",
        hint="The scp program is not installed there; if the server has an SFTP subsystem, use connector_type: SFTP.",
    )


def _clean(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip().removeprefix("scp: ")[:300]
