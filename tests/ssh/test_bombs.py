"""Packets, floods and compression: memory stays bounded before the login and after it, and nothing is ever unpacked."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.cancellation import Cancellation, Deadline
from runner.shell.stream import Stream
from runner.ssh.ciphers import PlainOutbound
from runner.ssh.window import RECEIVE_WINDOW_BYTES
from tests.conftest import Runner, download, require_sshd, step, upload
from tests.patience import BUSY_SECONDS, EVENT_SECONDS
from tests.playbook.bounded_process import Ending, run_bounded
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileSession
from tests.servers.forced import ForcedServer
from tests.servers.keys import shared_key_pair
from tests.servers.listeners import Listener
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import connect_knowing

MIB = 1024 * 1024
# What a play of one small file takes is some 60 MiB.
ALLOWED_BYTES = 150 * MIB
VERSION = b"SSH-2.0-x\r\n"
LONG_STRING = struct.pack(">I", 30_000) + b"x" * 30_000


def seal(payload: bytes) -> bytes:
    """A packet before the first key exchange."""
    return PlainOutbound().seal((payload,), 0)


def play_bounded(runner: Runner, *steps: dict[str, Any]) -> Ending:
    """In a process of its own, which must neither take much memory nor fail as by a bug."""
    (runner.folder / "source").write_text("content")
    playbook = runner.folder / "alone.yaml"
    playbook.write_text(json.dumps(steps))
    ending = run_bounded(runner.folder, "play", str(playbook))
    assert "bug" not in ending.output, ending.output
    assert ending.peak_bytes < ALLOWED_BYTES, f"{ending.peak_bytes / MIB:.0f} MiB\n{ending.output}"
    return ending


# --- compression ---


class Eavesdropper(Listener):
    """Keeps what the client says after its version."""

    heard = b""

    def greet(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        connection.sendall(VERSION)
        with connection.makefile("rb") as stream:
            stream.readline()
            head = stream.read(4)
            self.heard = head + stream.read(int.from_bytes(head, "big"))
        connection.shutdown(socket.SHUT_RDWR)


def take_name_lists(kexinit: bytes) -> list[list[str]]:
    """The ten lists of KEXINIT (RFC 4253 section 7.1), out of a packet in clear."""
    assert kexinit[5] == 20
    data, lists = kexinit[6 + 16 :], []
    for _ in range(10):
        length = int.from_bytes(data[:4], "big")
        lists.append(data[4 : 4 + length].decode().split(","))
        data = data[4 + length :]
    return lists


def raw_step(server: Listener, **inputs: Any) -> dict[str, Any]:
    """A step for what is no SSH server."""
    key = shared_key_pair()
    login = {"authentication_method": "ssh_key_file", "username": "u", "ssh_key_file": str(key.path)}
    known = {"hostkey_mode": "known_host", "known_host": key.public_line}
    where = {"host": server.host, "port": server.port, "authentication": login, "hostkey": known}
    return {**where, "mode": upload("source", "a"), **inputs}


def test_compression_is_not_offered(runner: Runner) -> None:
    """A few kilobytes can unpack to gigabytes: what is not offered cannot be agreed on."""
    (runner.folder / "source").write_text("content")
    with Eavesdropper() as server:
        assert runner.play([raw_step(server, connect_timeout=3)]).exit_code == 4
    lists = take_name_lists(server.heard)
    assert lists[6:8] == [["none"], ["none"]]


def test_a_server_that_insists_on_compression_is_refused(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = asyncssh.listen
    monkeypatch.setattr(asyncssh, "listen", lambda *given, **more: listen(*given, compression_algs=["zlib"], **more))
    (runner.folder / "source").write_text("content")
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = runner.play([step(server, upload("source", "a"))])
    assert outcome.exit_code == 4, outcome.output
    assert "compression" in outcome.step["error"]["message"]


def test_sshd_agrees_on_no_compression(runner: Runner, tmp_path: Path, remote: Path) -> None:
    require_sshd()
    (runner.folder / "source").write_text("content")
    with OpenSSHServer(tmp_path / "server", extra_config=("Compression yes",)) as server:
        assert runner.play([step(server, upload("source", remote / "a"))]).exit_code == 0
        assert server.wait_for_log("compression: none")
        assert "compression: zlib" not in server.log_text()


# --- before the login ---

PREFIXES: dict[str, bytes] = {
    "a packet of 2 GiB": VERSION + struct.pack(">I", 0x7FFFFFFF) + b"x" * 100_000,
    "a packet of 4 GiB": VERSION + struct.pack(">I", 0xFFFFFFFF) + b"x" * 100_000,
    "a packet of 64 KiB": VERSION + struct.pack(">I", 65_536) + b"x" * 65_536,
    "a packet of nothing": VERSION + struct.pack(">I", 0) + b"x" * 100,
    "padding only": VERSION + struct.pack(">IB", 12, 255) + b"x" * 100,
    "an algorithm list of 30,000 bytes": VERSION + seal(b"\x14" + bytes(16) + LONG_STRING),
    "noise": VERSION + bytes(range(256)) * 400,
}  # fmt: skip


@pytest.mark.parametrize("name", PREFIXES)
def test_a_packet_before_the_login(runner: Runner, name: str) -> None:
    with Listener(PREFIXES[name]) as server:
        ending = play_bounded(runner, raw_step(server, connect_timeout=2))
    assert ending.exit_code == 4, ending.output


class Endless(Listener):
    """Greets, and then says the same for ever."""

    def __init__(self, greeting: bytes, refrain: bytes) -> None:
        super().__init__(greeting)
        self.refrain = refrain

    def greet(self, connection: socket.socket) -> None:
        super().greet(connection)
        connection.settimeout(20)
        while True:
            connection.sendall(self.refrain)


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "lines before the version": (b"", b"hello\r\n" * 1000),
    "a line without end": (b"", b"x" * 65_536),
    "IGNORE": (VERSION, seal(b"\x02" + LONG_STRING)),
    "DEBUG": (VERSION, seal(b"\x04\x01" + LONG_STRING + bytes(4))),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_before_the_login_is_ended_by_the_deadline(runner: Runner, name: str) -> None:
    with Endless(*FLOODS[name]) as server:
        started = time.monotonic()
        ending = play_bounded(runner, raw_step(server, connect_timeout=1))
    assert ending.exit_code == 4, ending.output
    # The flood itself has no end.
    assert time.monotonic() - started < EVENT_SECONDS


# --- after it ---


def hostile_session(say: Callable[[Any], None]) -> type[FileSession]:
    """A session that says something of its own when the subsystem is started."""

    class Hostile(FileSession):
        def session_started(self) -> None:
            say(self._chan)

    return Hostile


def pour_without_room(channel: Any) -> None:
    """Channel data far beyond the window that the client has opened."""
    for _ in range(3000):
        channel.send_packet(94, struct.pack(">I", 32_000) + b"x" * 32_000)


def huge_packet(channel: Any) -> None:
    """One packet larger than any that may be sent."""
    channel.send_packet(94, struct.pack(">I", 400_000) + b"x" * 400_000)


@pytest.mark.parametrize("say", [pour_without_room, huge_packet], ids=lambda say: say.__name__)
@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
def test_a_packet_after_the_login(
    runner: Runner, tmp_path: Path, remote: Path, kind: str, say: Callable[[Any], None]
) -> None:
    server = AsyncsshServer(tmp_path / "server", root=remote)
    server.session_class = hostile_session(say)
    with server:
        one = step(server, upload("source", "a"), connector_type=kind, connect_timeout=5, stall_timeout=1)
        ending = play_bounded(runner, one)
    assert ending.exit_code in (2, 4), ending.output


def test_a_server_that_sends_more_than_it_was_given_room_for(tmp_path: Path, remote: Path) -> None:
    known = tmp_path / "known_hosts"
    server = AsyncsshServer(tmp_path / "server", root=remote)
    server.session_class = hostile_session(pour_without_room)
    cancellation = Cancellation()
    with server:
        known.write_text(server.known_hosts_line() + "\n")
        connection = connect_knowing(server, known, cancellation)
        try:
            channel = connection.open_channel(5, Deadline.after(5), cancellation)
            stream = Stream(channel)
            connection.start_command(channel, b"scp -f nothing", Deadline.after(5), cancellation)
            ends_at = time.monotonic() + EVENT_SECONDS
            while not channel.has_ended and time.monotonic() < ends_at:
                time.sleep(0.01)
            assert "more than it had been given room for" in channel.lost().message
            assert len(stream._buffer) <= RECEIVE_WINDOW_BYTES
        finally:
            connection.close()


SCP_FLOODS = {
    "the shell": "while True: send(b'x' * 65536)",
    "the end": "if not is_scp: run()\nsend(bytes(3))\nwhile True: send(b'x' * 65536)",
    "standard error": "if not is_scp: run()\nwhile True: sys.stderr.buffer.write(b'x' * 65536)",
}


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", SCP_FLOODS)
def test_a_command_that_prints_without_end(
    runner: Runner, tmp_path: Path, remote: Path, name: str, is_upload: bool
) -> None:
    require_sshd()
    mode = upload("source", remote / "a") if is_upload else download("there", "here")
    with ForcedServer(tmp_path / "server", SCP_FLOODS[name]) as server:
        started = time.monotonic()
        ending = play_bounded(runner, step(server, mode, connector_type="SCP", stall_timeout=1))
    assert ending.exit_code != 0, ending.output
    assert time.monotonic() - started < 15 + BUSY_SECONDS


def test_what_nobody_reads_is_not_sent_for(sshd: OpenSSHServer, tmp_path: Path) -> None:
    """A reader that is slower than the server, as one with a slow disk is, holds it up: no more piles up than the window."""
    known = tmp_path / "known_hosts"
    known.write_text(sshd.known_hosts_line() + "\n")
    cancellation = Cancellation()
    connection = connect_knowing(sshd, known, cancellation)
    try:
        channel = connection.open_channel(5, Deadline.after(5), cancellation)
        stream = Stream(channel)
        connection.start_command(channel, b"cat /dev/zero", Deadline.after(5), cancellation)
        most = taken = 0
        ends_at = time.monotonic() + EVENT_SECONDS
        while most < RECEIVE_WINDOW_BYTES // 2 and time.monotonic() < ends_at:
            time.sleep(0.01)
            taken += len(stream.read_some(1000))
            most = max(most, len(stream._buffer))
        for _ in range(20):
            time.sleep(0.02)
            taken += len(stream.read_some(1000))
            most = max(most, len(stream._buffer))
        assert RECEIVE_WINDOW_BYTES // 2 <= most <= RECEIVE_WINDOW_BYTES
        # And it goes on as soon as it is read.
        while taken < 3 * RECEIVE_WINDOW_BYTES:
            taken += len(stream.read_some(1 << 20))
    finally:
        connection.close()
