"""A server that is a program of its own: started in the foreground on a free port, killed with all its children."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.servers.endpoint import LOOPBACK, Endpoint, find_free_port
from tests.servers.processes import kill_tree

_START_SECONDS = 40.0
_PORT_ATTEMPTS = 5
_LOOK_SECONDS = 0.02


class ProgramServer(Endpoint):
    """Runs what `_make_command` gives, until it greets as an SSH server does. Its output goes to `log_path`."""

    def __init__(self, folder: Path, *, host_key_types: Sequence[str] = ("ed25519",)) -> None:
        super().__init__(folder, host_key_types=host_key_types)
        self.log_path = self.user_key_path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def _make_command(self) -> list[str]:
        """The command line of a server on `port`. It may write files below `folder` first."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it on a free port, trying another port when someone else was faster."""
        for _ in range(_PORT_ATTEMPTS):
            self.port = find_free_port()
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    self._make_command(), cwd=self.folder, env=self._make_environment(),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            if self._wait_until_ready(self._process):
                return
            self.stop()
            if "in use" not in self.log_text():
                break
        raise RuntimeError(f"{type(self).__name__} did not start:\n{self.log_text()}")

    def stop(self) -> None:
        """Kill it and all its sessions."""
        if self._process is not None:
            kill_tree(self._process)
            self._process = None

    def log_text(self) -> str:
        """What it has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def _make_environment(self) -> dict[str, str]:
        """That of the tests, with a HOME that belongs to the server."""
        return {**os.environ, "HOME": str(self.folder)}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection((LOOPBACK, self.port), timeout=_START_SECONDS) as probe:
                    if probe.recv(4) == b"SSH-":
                        return True
            except OSError:
                pass
            time.sleep(_LOOK_SECONDS)
        return False
