"""What comes in small packets is handed over together, and nothing of it out of its order."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runner.ssh.ciphers import GcmInbound, GcmOutbound
from runner.ssh.packetizer import SMALL_DATA_BYTES, BulkPacketizer

NONCE = bytes(12)
DATA, EOF, WINDOW_ADJUST = 94, 96, 93
LARGE = b"L" * (SMALL_DATA_BYTES + 1)


class Pieces:
    """A socket on which one piece after the other arrives, and then the end."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)

    def recv_into(self, space: memoryview) -> int:
        piece = self._pieces.pop(0) if self._pieces else b""
        space[: len(piece)] = piece
        return len(piece)


class Log:
    """A sink that notes what it is told, in a log that several may share."""

    def __init__(self, name: str, log: list[tuple[str, str, Any]]) -> None:
        self._name, self._log = name, log

    def take_data(self, data: memoryview) -> None:
        self._log.append((self._name, "data", bytes(data)))

    def take_window(self, count_bytes: int) -> None:
        self._log.append((self._name, "window", count_bytes))

    def take_pause(self) -> bool:
        self._log.append((self._name, "pause", None))
        return False


def data(channel: int, content: bytes) -> bytes:
    return struct.pack(">BII", DATA, channel, len(content)) + content


def receive(*pieces: Sequence[bytes], damaged: int | None = None) -> tuple[list[tuple[str, str, Any]], Any]:
    """Have the packets of each piece arrive together. What channels 0 (`a`) and 1 (`b`) are told, and how it ended."""
    outbound = GcmOutbound(AESGCM(bytes(16)), NONCE, 16)
    sealed = [[bytearray(outbound.seal([payload], 0)) for payload in piece] for piece in pieces]
    if damaged is not None:
        [packet for piece in sealed for packet in piece][damaged][-1] ^= 1
    packetizer = BulkPacketizer(Pieces([b"".join(piece) for piece in sealed]))
    packetizer._inbound = GcmInbound(AESGCM(bytes(16)), NONCE)
    packetizer._initial_kex_done = packetizer.is_logged_in = True
    log: list[tuple[str, str, Any]] = []
    packetizer.divert(0, Log("a", log))
    packetizer.divert(1, Log("b", log))
    try:
        ending: Any = packetizer.read_message()[0]
    except (EOFError, paramiko.SSHException) as error:
        ending = error
    return log, ending


def test_small_packets_that_came_together_are_one() -> None:
    log, ending = receive([data(0, b"one"), data(0, b"two")], [data(0, b"three")])
    assert log == [("a", "data", b"onetwo"), ("a", "pause", None), ("a", "data", b"three"), ("a", "pause", None)]
    assert isinstance(ending, EOFError)


def test_a_large_packet_comes_behind_the_small_ones_before_it() -> None:
    log, _ = receive([data(0, b"one"), data(0, LARGE), data(0, b"two")])
    assert log == [("a", "data", b"one"), ("a", "data", LARGE), ("a", "data", b"two"), ("a", "pause", None)]


def test_two_channels_keep_the_order_between_them() -> None:
    log, _ = receive([data(0, b"1"), data(1, b"2"), data(1, b"3"), data(0, b"4")])
    assert log[:3] == [("a", "data", b"1"), ("b", "data", b"23"), ("a", "data", b"4")]
    assert sorted(log[3:]) == [("a", "pause", None), ("b", "pause", None)]


def test_room_that_the_server_makes_is_told_at_once() -> None:
    log, _ = receive([data(0, b"one"), struct.pack(">BII", WINDOW_ADJUST, 0, 77), data(0, b"two")])
    assert sorted(log[:2]) == [("a", "data", b"onetwo"), ("a", "window", 77)]


def test_the_end_of_a_channel_comes_behind_its_data() -> None:
    log, ending = receive([data(0, b"last"), struct.pack(">BI", EOF, 0)])
    assert (log, ending) == ([("a", "data", b"last")], EOF)


def test_what_came_before_a_mangled_packet_is_handed_over() -> None:
    log, ending = receive([data(0, b"good"), data(0, b"bad"), data(0, b"never")], damaged=1)
    assert log == [("a", "data", b"good")]
    assert "fails authentication" in str(ending)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack(">BII", DATA, 0, 5) + b"four",
        struct.pack(">BII", DATA, 0, 3) + b"four",
        struct.pack(">BIH", DATA, 0, 4),
        struct.pack(">BI", WINDOW_ADJUST, 0),
    ],
)
def test_a_packet_whose_lengths_do_not_agree(content: bytes) -> None:
    log, ending = receive([data(0, b"good"), content])
    assert "lengths do not agree" in str(ending) or "too short" in str(ending)
    assert log == [("a", "data", b"good")]


def test_what_has_left_a_connection_that_is_closed_may_be_asked() -> None:
    """The thread that waits asks while another one closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
    packetizer = BulkPacketizer(ours)

    ours.close()

    assert packetizer.departed_bytes == 0
