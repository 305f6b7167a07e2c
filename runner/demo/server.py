"""The embedded SSH server. The only user of asyncssh."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import asyncssh

START_SECONDS = 10


@dataclass(frozen=True, slots=True)
class DemoKeys:
    """A host key and a client key, made for one demo and forgotten after it."""

    host_key: asyncssh.SSHKey
    client_key: asyncssh.SSHKey

    @classmethod
    def generate(cls) -> DemoKeys:
        return cls(asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519"))

    def write_client_key(self, path: Path) -> None:
        """Write the private key where only this user can read it."""
        path.touch(mode=0o600)
        self.client_key.write_private_key(str(path))

    def known_hosts_line(self, port: int) -> str:
        """The line that pins the server on this port."""
        public = self.host_key.export_public_key().decode().strip()
        return f"[127.0.0.1]:{port} {public}\n"


class _Visitor(asyncssh.SSHServer):
    """Keeps account of an open connection."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._connection)


class DemoServer:
    """Serves one folder over SFTP and SCP on 127.0.0.1, to the holder of one key, while the block lasts."""

    def __init__(self, root: Path, keys: DemoKeys, port: int = 0) -> None:
        self._root = root
        self._keys = keys
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo server", daemon=True)
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def __enter__(self) -> DemoServer:
        self._thread.start()
        self._acceptor = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(START_SECONDS)
        self.port = self._acceptor.get_port()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        authorized = asyncssh.import_authorized_keys(self._keys.client_key.export_public_key().decode())
        return await asyncssh.listen(
            "127.0.0.1",
            self.port,
            # The second server of the demo takes the place of the first. Older versions of asyncssh do not ask for it.
            reuse_address=True,
            server_factory=lambda: _Visitor(self._connections),
            server_host_keys=[self._keys.host_key],
            authorized_client_keys=authorized,
            sftp_factory=self._open_root,
            allow_scp=True,
        )

    def _open_root(self, channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        """The served folder, which clients see as `/`."""
        return asyncssh.SFTPServer(channel, chroot=str(self._root).encode())

    async def _stop(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        for connection in list(self._connections):
            connection.abort()
            await connection.wait_closed()
        # What still serves a connection would be destroyed in mid-wait with the loop.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
