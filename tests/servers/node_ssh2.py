"""A server on node's `ssh2`, whose files are asynchronous: `tests/servers/node/server.js` says what that brings."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.servers.program import ProgramServer

_SCRIPT = Path(__file__).resolve().parent / "node" / "server.js"
# Where `make test-zoo` lets npm install it.
_MODULES = Path(__file__).resolve().parents[2] / "build" / "zoo" / "node"


class NodeServer(ProgramServer):
    """`node server.js` for the current user, whose sessions start in `login_folder`.

    Without `any_flags` it knows only the combinations of OPEN's flags that `ssh2` has a name for.
    """

    def __init__(self, folder: Path, *, login_folder: Path, any_flags: bool = False) -> None:
        super().__init__(folder)
        self.login_folder = login_folder
        self.any_flags = any_flags

    def _make_command(self) -> list[str]:
        keys = [str(self.host_keys[0].path), f"{self.user_key_path}.pub"]
        return ["node", str(_SCRIPT), str(_MODULES), str(self.port), *keys, str(self.login_folder), self.username]

    def _make_environment(self) -> dict[str, str]:
        return {**super()._make_environment(), "ANY_FLAGS": "1" if self.any_flags else ""}


def has_node_ssh2() -> bool:
    """Whether node is installed, and `ssh2` in the folder of this checkout."""
    return shutil.which("node") is not None and (_MODULES / "node_modules" / "ssh2").is_dir()
