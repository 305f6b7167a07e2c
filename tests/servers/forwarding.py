"""An asyncssh server that is a jump host: it alone knows the names of the hosts behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.login import Login


class ForwardingServer(AsyncsshServer):
    """Forwards connections to everywhere, and to the `names` it knows. `destinations` are what it was asked for."""

    def __init__(self, folder: Path, *, names: Mapping[str, str] | None = None, password: str | None = None) -> None:
        super().__init__(folder, root=folder, password=password, sftp=False, scp=False)
        self.destinations: list[tuple[str, int]] = []
        server, known = self, names or {}

        class ForwardingLogin(Login):
            def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
                server.destinations.append((dest_host, dest_port))
                return self._conn.forward_connection(known.get(dest_host, dest_host), dest_port)

        self.login_class = ForwardingLogin
