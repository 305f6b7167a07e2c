"""Dropbear, the SSH server of routers and other appliances: a shell and scp, and no SFTP of its own.

For SFTP it starts OpenSSH's `sftp-server`, where that is installed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.servers.accounts import ACCOUNT, with_account
from tests.servers.endpoint import LOOPBACK
from tests.servers.program import ProgramServer

_COMMAND_SECONDS = 60.0


class DropbearServer(ProgramServer):
    """`dropbear -F` in the foreground. It reads keys in the user's home only: `username` is at home in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.username = ACCOUNT

    def _make_command(self) -> list[str]:
        known = self.folder / ".ssh" / "authorized_keys"
        known.parent.mkdir(mode=0o700, exist_ok=True)
        known.write_text(self.user_key.public_line + "\n")
        known.chmod(0o600)
        key = self.folder / "dropbear_host_key"
        _run(["dropbearconvert", "openssh", "dropbear", str(self.host_keys[0].path), str(key)])
        # -F: in the foreground, -E: log to standard error, -s: no passwords, -m: no message of the day
        command = [find_dropbear() or "dropbear", "-F", "-E", "-s", "-m", "-r", str(key), "-P", "", "-p"]
        return with_account([*command, f"{LOOPBACK}:{self.port}"], self.folder)


def find_dropbear() -> str | None:
    """The absolute path of dropbear, which is seldom on an ordinary user's PATH."""
    return shutil.which("dropbear") or shutil.which("dropbear", path="/usr/sbin:/usr/local/sbin:/sbin")


def has_dropbear() -> bool:
    """Whether it is installed. It needs `can_make_accounts`, too."""
    return find_dropbear() is not None and shutil.which("dropbearconvert") is not None


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_COMMAND_SECONDS, check=True)
