"""An asyncio server in a thread of its own, started and stopped from the test's thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable

import asyncssh

_START_SECONDS = 40.0
_STOP_SECONDS = 20.0
_SETTLE_ROUNDS = 100
_SETTLE_SECONDS = 0.02


class ServerThread:
    """An event loop in a daemon thread, which listens until told to stop."""

    def __init__(
        self, listen: Callable[[], Awaitable[asyncssh.SSHAcceptor]], close_connections: Callable[[], None]
    ) -> None:
        self._listen = listen
        self._close_connections = close_connections
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._port = 0
        self._error: BaseException | None = None

    def start(self) -> int:
        """Start to listen; the port."""
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or self._error is not None:
            raise RuntimeError("the asyncssh server did not start") from self._error
        return self._port

    def stop(self) -> None:
        """End the loop, bounded in time. Harmless when it never ran."""
        if self._thread.is_alive():
            self.call(self._stopped.set)
            self._thread.join(_STOP_SECONDS)

    def call(self, action: Callable[[], None]) -> None:
        """Run something in the loop's thread, and wait for it a while."""
        done = threading.Event()
        if self._loop is not None and not self._loop.is_closed():
            # One callback for both: the action may end the loop before it would take a second one.
            self._loop.call_soon_threadsafe(_run_and_tell, action, done)
            done.wait(_STOP_SECONDS)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            acceptor = await self._listen()
        except (OSError, ValueError, asyncssh.Error) as error:
            self._error = error
            self._ready.set()
            return
        self._port = acceptor.get_port()
        self._ready.set()
        await self._stopped.wait()
        await close_all(acceptor.sockets, acceptor.close, self._close_connections)


async def close_all(
    listeners: Iterable[socket.socket], close_server: Callable[[], None], close_connections: Callable[[], None]
) -> None:
    """Close a server of this loop, and all its connections, so that the loop can end and leaves no socket behind."""
    # asyncio forgets to close a connection whose acceptance (a task) is not over yet when the server closes.
    for listener in listeners:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    await asyncio.sleep(_SETTLE_SECONDS)
    close_server()
    # The transports have to close before the loop does, which takes a few turns of it.
    for _ in range(_SETTLE_ROUNDS):
        close_connections()
        await asyncio.sleep(_SETTLE_SECONDS)
        if asyncio.all_tasks() == {asyncio.current_task()}:
            break


def _run_and_tell(action: Callable[[], None], done: threading.Event) -> None:
    try:
        action()
    finally:
        done.set()
