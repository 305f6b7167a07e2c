"""ProFTPD with mod_sftp: SFTP of its own, no shell, and no OpenSSH anywhere in it."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from tests.servers.endpoint import LOOPBACK
from tests.servers.program import ProgramServer

_COMMAND_SECONDS = 60.0
_MODULE_FOLDERS = ("/usr/lib/proftpd", "/usr/libexec/proftpd", "/usr/lib64/proftpd")


class ProftpdServer(ProgramServer):
    """`proftpd --nodaemon` for the current user, whose sessions start in `login_folder`."""

    def __init__(self, folder: Path, *, login_folder: Path) -> None:
        super().__init__(folder)
        self.login_folder = login_folder

    def _make_command(self) -> list[str]:
        config = self.folder / "proftpd.conf"
        config.write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        return [find_proftpd() or "proftpd", "--nodaemon", "--config", str(config)]

    def _config_lines(self) -> list[str]:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(os.getegid())
        # mod_sftp reads a key only from a file that nobody else may read.
        host_key = self._write("host_key", self.host_keys[0].private_text)
        users = self._write("users", f"{self.username}:*:{user.pw_uid}:{user.pw_gid}::{self.login_folder}:/bin/sh\n")
        groups = self._write("groups", f"{group.gr_name}:*:{group.gr_gid}:{self.username}\n")
        return [
            "LoadModule mod_sftp.c",
            'ServerName "zoo"',
            "ServerType standalone",
            "<IfModule mod_ctrls.c>",  # its socket would be the system's
            "ControlsEngine off",
            "</IfModule>",
            f"DefaultAddress {LOOPBACK}",
            f"Port {self.port}",
            f"User {user.pw_name}",
            f"Group {group.gr_name}",
            "UseIPv6 off",
            "UseReverseDNS off",
            "DelayEngine off",
            "WtmpLog off",
            "TransferLog none",
            f"SystemLog {self.folder}/system.log",
            f"PidFile {self.folder}/pid",
            "ScoreboardFile none",
            "RootLogin on",
            "UseFtpUsers off",  # the file of those who may not log in, root among them
            "RequireValidShell off",
            "AllowOverwrite on",
            f"AuthUserFile {users}",
            f"AuthGroupFile {groups}",
            "AuthOrder mod_auth_file.c",
            "SFTPEngine on",
            f"SFTPHostKey {host_key}",
            f"SFTPAuthorizedUserKeys file:{self._write('authorized_keys', self._convert_user_key())}",
            "SFTPAuthMethods publickey",
        ]

    def _write(self, name: str, content: str) -> Path:
        path = self.folder / f"proftpd_{name}"
        path.write_text(content, encoding="utf-8")
        path.chmod(0o600)
        return path

    def _convert_user_key(self) -> str:
        """The public key in the form of RFC 4716, the only one that mod_sftp knows."""
        command = ["ssh-keygen", "-e", "-m", "RFC4716", "-f", f"{self.user_key_path}.pub"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
        return done.stdout


def find_proftpd() -> str | None:
    """The absolute path of proftpd, which is seldom on an ordinary user's PATH."""
    return shutil.which("proftpd") or shutil.which("proftpd", path="/usr/sbin:/usr/local/sbin")


def has_proftpd() -> bool:
    """Whether it is installed together with mod_sftp, which Debian has in a package of its own."""
    return find_proftpd() is not None and any(os.path.exists(f"{place}/mod_sftp.so") for place in _MODULE_FOLDERS)
