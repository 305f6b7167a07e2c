"""SSH agents: a real one on a socket of its own, and one that accepts and never answers."""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.keys import KeyPair

_SECONDS = 60
_IDENTITIES_REQUEST = 11
_IDENTITIES_ANSWER = 12


class Agent:
    """A running `ssh-agent`."""

    def __init__(self, path: Path, pid: int) -> None:
        self.path = path
        self._pid = pid

    def add(self, *keys: KeyPair, confirm: bool = False) -> None:
        """Give it keys; with `confirm` it asks somebody before it signs, and there is nobody to ask."""
        option = ["-c"] if confirm else []
        paths = [str(key.path) for key in keys]
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.path)}
        subprocess.run(
            ["ssh-add", "-q", *option, *paths], env=environment, check=True, capture_output=True, timeout=_SECONDS
        )

    def pause(self) -> None:
        """Stop it: its socket takes connections, and nothing is answered."""
        os.kill(self._pid, signal.SIGSTOP)


@contextmanager
def running_agent() -> Iterator[Agent]:
    """A real agent without keys."""
    with _socket_path() as path:
        yield from _run_agent(path)


def _run_agent(path: Path) -> Iterator[Agent]:
    environment = {**os.environ, "SSH_ASKPASS": "/bin/false", "SSH_ASKPASS_REQUIRE": "never"}
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it prints where it listens
        yield Agent(path, process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate(timeout=_SECONDS)


@contextmanager
def stale_agent() -> Iterator[Path]:
    """The socket of an agent that is gone."""
    with _socket_path() as path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(path))
        yield path


@contextmanager
def silent_agent(key: KeyPair | None = None) -> Iterator[Path]:
    """A socket that never answers; with a key it lists that one first, and falls silent when asked to sign."""
    connections: list[socket.socket] = []
    with _socket_path() as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=_accept_all, args=(server, connections, key), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(_SECONDS)
            for connection in connections:
                connection.close()


@contextmanager
def _socket_path() -> Iterator[Path]:
    """A short path: the kernel takes about a hundred characters, and pytest's own folders have long names."""
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        yield Path(folder) / "agent"


def _accept_all(server: socket.socket, connections: list[socket.socket], key: KeyPair | None) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connections.append(connection)
        if key is not None and connection.recv(5)[4:] == bytes([_IDENTITIES_REQUEST]):
            connection.sendall(_list_one(key))


def _list_one(key: KeyPair) -> bytes:
    fields = (
        bytes([_IDENTITIES_ANSWER])
        + struct.pack(">I", 1)
        + _string(base64.b64decode(key.public_line.split()[1]))
        + _string(b"comment")
    )
    return _string(fields)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
