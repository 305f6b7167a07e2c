"""A TCP proxy that damages the line between client and server, at a byte which the test chooses.

with FaultProxy(server.host, server.port, Cut("up", 100_000), faulty_connections=1) as proxy:
    ...  # the first connection to proxy.host, proxy.port breaks off, the later ones are honest
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from tests.servers.endpoint import LOOPBACK
from tests.servers.server_thread import close_all

Direction = Literal["up", "down"]
"""`up` is from the client to the server."""

_PIECE_BYTES = 64 * 1024
_SLOW_LINE_BYTES = 16 * 1024
_SLOW_LINE_SEGMENT_BYTES = 1400
_THROTTLE_SECONDS = 0.02  # a limited rate is kept over spans of this length
_START_SECONDS = 40.0
_STOP_SECONDS = 20.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """After so many bytes in a direction both sides are cut off: by a reset, or by an orderly end."""

    direction: Direction
    after_bytes: int
    abrupt: bool = True


@dataclass(frozen=True, slots=True)
class BlackHole:
    """After so many bytes in a direction nothing passes any more, neither way; the connections stay open."""

    direction: Direction
    after_bytes: int


@dataclass(frozen=True, slots=True)
class Corrupt:
    """The byte at this offset arrives changed: the bits of the mask are flipped."""

    direction: Direction
    after_bytes: int
    mask: int = 0xFF


@dataclass(frozen=True, slots=True)
class Trigger:
    """Something is done after so many bytes in a direction; nothing passes meanwhile."""

    direction: Direction
    after_bytes: int
    action: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Drip:
    """So many bytes at a time, in each direction, with a pause after each."""

    count: int
    interval_seconds: float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many bytes in a second, in each direction."""

    bytes_per_second: int


Event = Cut | BlackHole | Corrupt | Trigger
Fault = Event | Drip | RateLimit


class FaultProxy:
    """Forwards connections on a loopback port to a server, with faults.

    The faults hold for each connection, or with `faulty_connections` for the first ones only.
    """

    host = LOOPBACK

    def __init__(
        self, target_host: str, target_port: int, *faults: Fault, faulty_connections: int | None = None
    ) -> None:
        self.port = 0
        self.connection_count = self.open_count = 0
        self.bytes_up = self.bytes_down = 0
        self._target = (target_host, target_port)
        self._faults = faults
        self._faulty_connections = faulty_connections
        self._lines: list[_Line] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_STOP_SECONDS)

    def count(self, direction: Direction, count: int) -> None:
        """Note bytes that are on their way."""
        if direction == "up":
            self.bytes_up += count
        else:
            self.bytes_down += count

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        is_slow = any(isinstance(fault, Drip | RateLimit) for fault in self._faults)
        server = await asyncio.start_server(
            self._accept, LOOPBACK, 0, limit=_SLOW_LINE_SEGMENT_BYTES if is_slow else _PIECE_BYTES
        )
        listener = server.sockets[0]
        if is_slow:
            # What a slow line has not taken yet waits in its sender's kernel, not in the middle of the line.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_LINE_BYTES)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SLOW_LINE_SEGMENT_BYTES)
        self.port = listener.getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        await close_all(server.sockets, server.close, self._abandon_lines)

    def _abandon_lines(self) -> None:
        for line in self._lines:
            line.abandon()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        is_faulty = self._faulty_connections is None or self.connection_count <= self._faulty_connections
        line = _Line(self._faults if is_faulty else (), self.count, writer)
        self._lines.append(line)
        self.open_count += 1
        with contextlib.suppress(OSError):
            await line.run(reader, *self._target)
        line.cut(abrupt=False)
        self.open_count -= 1


class _Line:
    """One connection: two sockets and what happens between them."""

    def __init__(
        self, faults: tuple[Fault, ...], count: Callable[[Direction, int], None], client: asyncio.StreamWriter
    ) -> None:
        self._faults = faults
        self._count = count
        self._writers = [client]
        self._is_black_hole = False
        self._masks: dict[Direction, int] = {}
        self._pumps: list[asyncio.Task[None]] = []

    async def run(self, from_client: asyncio.StreamReader, host: str, port: int) -> None:
        from_server, to_server = await asyncio.open_connection(host, port)
        self._writers.append(to_server)
        for writer in self._writers:
            writer.transport.set_write_buffer_limits(0)  # `drain` then waits until the kernel has everything
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pumps = [
            asyncio.create_task(self._pump("up", from_client, to_server)),
            asyncio.create_task(self._pump("down", from_server, self._writers[0])),
        ]
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def abandon(self) -> None:
        """End everything at once."""
        self.cut(abrupt=True)
        for pump in self._pumps:
            pump.cancel()

    def cut(self, *, abrupt: bool) -> None:
        """End both connections."""
        for writer in self._writers:
            if abrupt and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                writer.transport.abort()
            else:
                writer.transport.close()

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction to its end. A reset on one side is passed on to the other."""
        try:
            await self._forward(direction, reader, writer)
        except OSError:
            self.cut(abrupt=True)

    async def _forward(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = sorted(
            (fault for fault in self._faults if isinstance(fault, Event) and fault.direction == direction),
            key=lambda event: event.after_bytes,
        )
        passed = 0
        while True:
            while events and events[0].after_bytes <= passed:
                self._strike(events.pop(0))
            data = await reader.read(_PIECE_BYTES)
            if not data:
                await self._wait_if_black_hole()
                if writer.can_write_eof():
                    writer.write_eof()
                return
            while data:
                size = min(len(data), self._piece_bytes, events[0].after_bytes - passed if events else len(data))
                await self._send(direction, writer, data[:size])
                passed += size
                data = data[size:]
                while events and events[0].after_bytes <= passed:
                    self._strike(events.pop(0))

    @property
    def _piece_bytes(self) -> int:
        sizes = [_PIECE_BYTES]
        sizes += [fault.count for fault in self._faults if isinstance(fault, Drip)]
        sizes += [
            max(1, int(fault.bytes_per_second * _THROTTLE_SECONDS))
            for fault in self._faults
            if isinstance(fault, RateLimit)
        ]
        return min(sizes)

    async def _send(self, direction: Direction, writer: asyncio.StreamWriter, piece: bytes) -> None:
        await self._wait_if_black_hole()
        mask = self._masks.pop(direction, 0)
        piece = bytes([piece[0] ^ mask]) + piece[1:]
        if writer.transport.is_closing():
            raise ConnectionResetError
        self._count(direction, len(piece))
        writer.write(piece)
        await writer.drain()
        for fault in self._faults:
            if isinstance(fault, Drip):
                await asyncio.sleep(fault.interval_seconds)
            elif isinstance(fault, RateLimit):
                await asyncio.sleep(len(piece) / fault.bytes_per_second)

    async def _wait_if_black_hole(self) -> None:
        if self._is_black_hole:
            await asyncio.Event().wait()

    def _strike(self, event: Event) -> None:
        match event:
            case Cut():
                self.cut(abrupt=event.abrupt)
                raise ConnectionResetError
            case BlackHole():
                self._is_black_hole = True
            case Corrupt():
                self._masks[event.direction] = event.mask
            case Trigger():
                event.action()
