"""`rclone serve sftp`: Go's pkg/sftp on a virtual file system, as SFTP in front of object stores often is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tests.servers.endpoint import LOOPBACK
from tests.servers.program import ProgramServer

Cache = Literal["off", "full"]


class RcloneServer(ProgramServer):
    """It serves the folder `root` as `/`. Without a cache it writes as files come, with one after they are closed.

    What changes on the disk is seen at once; with `is_listed_once`, as it is set by default, minutes later.
    """

    def __init__(self, folder: Path, *, root: Path, cache: Cache = "off", is_listed_once: bool = False) -> None:
        super().__init__(folder)
        self.is_listed_once = is_listed_once
        self.root = root
        self.cache = cache

    def _make_command(self) -> list[str]:
        known = self.folder / "authorized_keys"
        known.write_text(self.user_key.public_line + "\n", encoding="ascii")
        config = self.folder / "rclone.conf"
        config.touch()
        return [
            "rclone", "serve", "sftp", str(self.root), "--addr", f"{LOOPBACK}:{self.port}", "--user", self.username,
            "--authorized-keys", str(known), "--key", str(self.host_keys[0].path), "--config", str(config),
            "--cache-dir", str(self.folder / "cache"), "--vfs-cache-mode", self.cache,
            # What the server writes is on the disk at once.
            "--dir-cache-time", "5m" if self.is_listed_once else "0s", "--vfs-write-back", "0s",
        ]  # fmt: skip
