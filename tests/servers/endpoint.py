"""What every test server has: an address, host keys and a client key that belongs to it."""

from __future__ import annotations

import itertools
import os
import pwd
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.keys import KeyPair, generate_key_pair

LOOPBACK = "127.0.0.1"


class Endpoint:
    """A server on a loopback port, with its own host keys and client key below `folder`.

    Subclasses start in `start` (which sets `port`) and stop in `stop`.
    """

    host = LOOPBACK

    def __init__(
        self,
        folder: Path,
        *,
        host_key_types: Sequence[str] = ("ed25519",),
        host_key_files: Sequence[Path] | None = None,
    ) -> None:
        self.folder = folder
        self.port = 0
        self.username = current_username()
        self.user_key = generate_key_pair(_unused(folder / "user_key"))
        self.host_keys = _load_host_keys(folder, host_key_types, host_key_files)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to listen, and set `port`."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close everything. Harmless when the server never started."""
        raise NotImplementedError

    @property
    def user_key_path(self) -> Path:
        """The private key file this server lets in."""
        return self.user_key.path

    @property
    def user_key_text(self) -> str:
        """The content of `user_key_path`."""
        return self.user_key.private_text

    def host_key(self, key_type: str | None = None) -> KeyPair:
        """The host key of a type (`ed25519` or `ssh-ed25519`), or the first one."""
        for key in self.host_keys:
            if key_type is None or key_type in key.algorithm:
                return key
        raise LookupError(f"no host key of type {key_type}")

    def known_host_line(self, key_type: str | None = None) -> str:
        """`ssh-ed25519 AAAA…`: the host key without the host."""
        return self.host_key(key_type).public_line

    def known_hosts_line(self, key_type: str | None = None) -> str:
        """`[127.0.0.1]:PORT ssh-ed25519 AAAA…`: one line of a known_hosts file."""
        return f"[{self.host}]:{self.port} {self.known_host_line(key_type)}"

    def fingerprint(self, key_type: str | None = None) -> str:
        """`SHA256:…` of a host key."""
        return self.host_key(key_type).fingerprint


def current_username() -> str:
    """The account this process runs under, whatever the environment variables say."""
    return pwd.getpwuid(os.geteuid()).pw_name


def find_free_port() -> int:
    """A port that was free a moment ago. Another process may take it: be ready to try again."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _load_host_keys(folder: Path, key_types: Sequence[str], files: Sequence[Path] | None) -> tuple[KeyPair, ...]:
    if files is not None:
        return tuple(KeyPair(path) for path in files)
    return tuple(generate_key_pair(_unused(folder / f"host_key_{kind}"), kind) for kind in key_types)


def _unused(path: Path) -> Path:
    """`path`, or `path-2`, `path-3`…: several servers may share one folder."""
    names = itertools.chain([path.name], (f"{path.name}-{number}" for number in itertools.count(2)))
    return next(candidate for name in names if not (candidate := path.with_name(name)).exists())
