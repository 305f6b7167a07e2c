"""A server on Go's pkg/sftp, as the package has one for real files: `tests/servers/go/main.go` says what that brings."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.program import ProgramServer

# Where `make test-zoo` has Go put it.
_PROGRAM = Path(__file__).resolve().parents[2] / "build" / "zoo" / "pkg-sftp"


class PkgSftpServer(ProgramServer):
    """`pkg-sftp` for the current user, whose sessions start in `login_folder`."""

    def __init__(self, folder: Path, *, login_folder: Path) -> None:
        super().__init__(folder)
        self.login_folder = login_folder

    def _make_command(self) -> list[str]:
        keys = [str(self.host_keys[0].path), f"{self.user_key_path}.pub"]
        return [str(_PROGRAM), str(self.port), *keys, str(self.login_folder), self.username]


def has_pkg_sftp() -> bool:
    """Whether it was built in this checkout."""
    return os.access(_PROGRAM, os.X_OK)
