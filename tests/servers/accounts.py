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


class PamServer(PasswordServer):
    """sshd asks for the password of `username` by keyboard-interactive, which it does through PAM alone."""

    _RULES = "auth required pam_unix.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
    # Nobody outside the mount namespace sees the file either.
    _WITH_RULES = 'mount --bind "$1" /etc/pam.d/sshd && shift && exec "$@"'

    def __init__(self, folder: Path, *extra_config: str) -> None:
        super().__init__(folder)
        self.extra_config = (*extra_config, "UsePAM yes", "KbdInteractiveAuthentication yes", "PermitRootLogin yes")

    def _command(self, command: list[str]) -> list[str]:
        rules = self.folder / "pam_rules"
        rules.write_text(self._RULES)
        return ["unshare", "--mount", "sh", "-c", self._WITH_RULES, "sh", str(rules), *super()._command(command)]


def knows_pam() -> bool:
    """Whether there is a file that the rules of a `PamServer` can stand in for."""
    return can_make_accounts() and Path("/etc/pam.d/sshd").is_file()


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
