"""Moves a file's bytes with several requests under way. This is where a byte is written, on either side."""

from __future__ import annotations

import os
import struct
from collections import deque

from runner.errors import ConnectionLost, SourceChanged, VerificationFailed
from runner.remote_files import Progress
from runner.sftp.packets import MalformedPacket, StatusCode, Type, encode_string
from runner.sftp.session import Refusal, Reply, SftpSession

# 255 KiB each where the server allows it: enough to fill a line of 4 MiB, few enough to stop quickly.
WRITES_IN_FLIGHT = 16
READS_IN_FLIGHT = 32


def write_whole(session: SftpSession, handle: bytes, source_fd: int, size_bytes: int, progress: Progress) -> None:
    """Write the first `size_bytes` of the local file to the handle; every status is checked.

    Raises `Refusal` for the first write that is refused, `SourceChanged` if the local file ends too early.
    """
    prefix = encode_string(handle)
    in_flight: deque[tuple[Reply, int]] = deque()
    offset = 0
    while offset < size_bytes or in_flight:
        while offset < size_bytes and len(in_flight) < WRITES_IN_FLIGHT:
            chunk = os.pread(source_fd, min(session.write_bytes, size_bytes - offset), offset)
            if not chunk:
                raise SourceChanged(
                    f"the source became shorter while it was read: {size_bytes:,} bytes expected, {offset:,} found",
                    hint="Something still writes to it. Play again when it is finished.",
                )
            header = struct.pack(">QI", offset, len(chunk))
            offset += len(chunk)
            in_flight.append((session.submit(Type.WRITE, prefix, header, chunk), offset))
        reply, written_to = in_flight.popleft()
        session.expect_status(reply)
        progress(written_to)


def read_whole(session: SftpSession, handle: bytes, size_bytes: int | None, target_fd: int, progress: Progress) -> int:
    """Read the handle to its end into the local file. Returns how many bytes came.

    `size_bytes` is what the server announced, None if it announced nothing. One byte more is asked for, so that the
    answer proves where the file ends.

    Raises `Refusal` for the first read that is refused, `VerificationFailed` if the file has a gap, `OSError` if the
    local file cannot be written.
    """
    prefix = encode_string(handle)
    in_flight: deque[tuple[Reply, int, int]] = deque()
    limit = None if size_bytes is None else size_bytes + 1
    asked = received = 0
    end_at: int | None = None

    def request(offset: int, count: int) -> None:
        in_flight.append((session.submit(Type.READ, prefix, struct.pack(">QI", offset, count)), offset, count))

    while True:
        while len(in_flight) < READS_IN_FLIGHT and end_at is None and (limit is None or asked < limit):
            count = session.read_bytes if limit is None else min(session.read_bytes, limit - asked)
            request(asked, count)
            asked += count
        if not in_flight:
            break
        reply, offset, count = in_flight.popleft()
        data = _expect_data(session, reply, count)
        if data is None:
            end_at = offset if end_at is None else min(end_at, offset)
            continue
        _write_at(target_fd, data, offset)
        received += len(data)
        progress(received)
        if len(data) < count:
            # A short reply is no end of file: ask for the rest.
            request(offset + len(data), count - len(data))
    if end_at is not None and received != end_at:
        raise VerificationFailed(
            f"{session.peer} sent a file with a gap: it ends at byte {end_at:,}, {received:,} bytes came",
            hint="Another program is writing to the source, or the server is broken.",
        )
    return received


def _expect_data(session: SftpSession, reply: Reply, count: int) -> memoryview | None:
    """The bytes of a READ's reply, None at the end of the file."""
    try:
        data = session.expect(reply, Type.DATA).take_string()
    except Refusal as refusal:
        if refusal.code == StatusCode.EOF:
            return None
        raise
    except MalformedPacket as error:
        raise session.malformed_field(error) from error
    if not 0 < len(data) <= count:
        raise ConnectionLost(
            f"{session.peer} broke the SFTP protocol: {len(data):,} bytes of data where {count:,} were asked for",
            hint="The session cannot be trusted on.",
        )
    return data


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
