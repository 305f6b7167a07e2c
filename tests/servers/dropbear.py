"""Dropbear, the SSH server of routers and other appliances: a shell and scp, and no SFTP of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.servers.accounts import ACCOUNT, with_account
from tests.servers.endpoint import LOOPBACK, Endpoint, find_free_port
from tests.servers.processes import kill_tree

_START_SECONDS = 40.0
_COMMAND_SECONDS = 60.0


class DropbearServer(Endpoint):
    """`dropbear -F` in the foreground. It reads keys in the user's home only: `username` is at home in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.username = ACCOUNT
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Listen on a free port."""
        known = self.folder / ".ssh" / "authorized_keys"
        known.parent.mkdir(mode=0o700)
        known.write_text(self.user_key.public_line + "\n")
        known.chmod(0o600)
        key = self.folder / "dropbear_host_key"
        _run(["dropbearconvert", "openssh", "dropbear", str(self.host_keys[0].path), str(key)])
        self.port = find_free_port()
        # -F: in the foreground, -E: log to standard error, -s: no passwords, -m: no message of the day
        command = [find_dropbear() or "dropbear", "-F", "-E", "-s", "-m", "-r", str(key), "-P", "", "-p"]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                with_account([*command, f"{LOOPBACK}:{self.port}"], self.folder),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """Kill it and all its sessions."""
        if self._process is not None:
            kill_tree(self._process)
            self._process = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection((LOOPBACK, self.port), timeout=_START_SECONDS) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError(f"dropbear did not start:\n{(self.folder / 'log').read_text(errors='replace')}")


def find_dropbear() -> str | None:
    """The absolute path of dropbear, which is seldom on an ordinary user's PATH."""
    return shutil.which("dropbear") or shutil.which("dropbear", path="/usr/sbin:/usr/local/sbin:/sbin")


def has_dropbear() -> bool:
    """Whether it is installed. It needs `can_make_accounts`, too."""
    return find_dropbear() is not None and shutil.which("dropbearconvert") is not None


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS, check=True)
