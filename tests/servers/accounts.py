"""An OpenSSH server that knows a password, without touching the accounts of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.openssh import OpenSSHServer

PASSWORD = "correct horse"
# What crypt(3) makes of it.
_HASH = "$6$runnertest$YGZnhsGbu/269AC/Dq9doQTpa6bsXmEIK8MJHrv3qFypitL5B/zFU.ihXRmgGVFCHqlXadzcP224tpcrTYjYM."
ACCOUNT = "partner"

# Runs "$3" … with the two files in the place of the system's own. Nobody outside the mount namespace sees them.
_WITH_ACCOUNTS = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/shadow && shift 2 && exec "$@"'


class PasswordServer(OpenSSHServer):
    """sshd lets `username` in by PASSWORD: sshd without PAM checks the account's own, and here it sees one that we made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, extra_config=("PasswordAuthentication yes", "PermitRootLogin yes"))
        self.username = ACCOUNT

    def _command(self, command: list[str]) -> list[str]:
        return with_account(command, self.folder)


def with_account(command: list[str], home: Path) -> list[str]:
    """A command that sees ACCOUNT, which is at home in that folder, among this machine's accounts."""
    passwd, shadow = home / "passwd", home / "shadow"
    # The user is root by another name, so that it may write where the test may.
    passwd.write_text(f"{Path('/etc/passwd').read_text()}{ACCOUNT}:x:0:0::{home}:/bin/sh\n")
    shadow.write_text(f"{ACCOUNT}:{_HASH}:19000:0:99999:7:::\n")
    return ["unshare", "--mount", "sh", "-c", _WITH_ACCOUNTS, "sh", str(passwd), str(shadow), *command]


def can_make_accounts() -> bool:
    """Whether this process may give a server accounts of its own: only root, where mounting is allowed."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    attempt = ["unshare", "--mount", "mount", "--bind", "/etc/passwd", "/etc/passwd"]
    return subprocess.run(attempt, capture_output=True, timeout=60, check=False).returncode == 0
