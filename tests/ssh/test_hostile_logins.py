"""Servers that ask for nonsense during the login: questions without end, extensions without end, another password."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.conftest import Runner
from tests.patience import BUSY_SECONDS
from tests.playbook.bounded_process import run_bounded
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import generate_key_pair
from tests.servers.login import Login
from tests.ssh.agents import running_agent
from tests.ssh.logins import PASSWORD, assert_failed, assert_not_told, key_file, password, play, write_playbook

MIB = 1024 * 1024
SERVICE_ACCEPT, EXT_INFO, USERAUTH_FAILURE, USERAUTH_BANNER, INFO_REQUEST = 6, 7, 51, 53, 60
NOTHING = bytes(4)
WITHOUT_END = b"\xff\xff\xff\xff"


def hostile_server(folder: Path, remote: Path, login_class: type[Login]) -> AsyncsshServer:
    server = AsyncsshServer(folder, root=remote, password=PASSWORD, keyboard_interactive=(("unused", ""),))
    server.login_class = login_class
    return server


def sending(*packets: tuple[int, bytes]) -> type[Login]:
    """A login that answers the request to be asked questions with raw packets, and then with silence."""

    class Sending(Login):
        async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:  # type: ignore[override]
            for number, body in packets:
                self._conn.send_packet(number, body)
            await asyncio.sleep(30)

    return Sending


BOMBS: dict[str, tuple[list[tuple[int, bytes]], str]] = {
    "questions without end": ([(INFO_REQUEST, NOTHING * 3 + WITHOUT_END)], "asks 4,294,967,295 questions"),
    "more questions than anybody asks": ([(INFO_REQUEST, NOTHING * 3 + bytes(3) + b"\xff")], "asks 255 questions"),
    "extensions without end": ([(EXT_INFO, WITHOUT_END)], "announces 4,294,967,295 extensions"),
    "a question that is no text": (
        [(INFO_REQUEST, b"\0\0\0\2\xff\xfe" + NOTHING * 2 + bytes(3) + b"\1" + b"\0\0\0\1\xff\0")],
        "cannot be read",
    ),
    "methods that are no text": ([(USERAUTH_FAILURE, b"\0\0\0\2\xff\xfe\0")], "cannot be read"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_the_login_at_once_and_costs_nothing(
    runner: Runner, tmp_path: Path, remote: Path, name: str
) -> None:
    packets, complaint = BOMBS[name]
    with hostile_server(tmp_path / "server", remote, sending(*packets)) as server:
        playbook = write_playbook(runner, server, remote, password())
        started = time.monotonic()
        ending = run_bounded(runner.folder, "play", str(playbook))
    assert time.monotonic() - started < 5 + BUSY_SECONDS
    assert ending.exit_code == 4, ending.output
    assert complaint in ending.output
    assert PASSWORD not in ending.output
    assert ending.peak_bytes < 150 * MIB


def test_extensions_that_are_no_text_are_the_servers_fault(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """A key's algorithm is chosen by what the server says it takes."""

    class Mumbling(Login):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            super().connection_made(conn)
            send = conn.send_packet

            def send_packet(number: int, *parts: bytes, **more: Any) -> None:
                if number == SERVICE_ACCEPT:
                    send(EXT_INFO, b"\0\0\0\1\0\0\0\x0fserver-sig-algs\0\0\0\2\xff\xfe")
                send(number, *parts, **more)

            conn.send_packet = send_packet  # type: ignore[method-assign,assignment]

    key = generate_key_pair(tmp_path / "rsa", "rsa")
    with hostile_server(tmp_path / "server", remote, Mumbling) as server:
        outcome = play(runner, server, remote, key_file(key.path))
    assert outcome.exit_code == 4, outcome.output
    assert "in no text which signatures it takes" in outcome.step["error"]["message"]


def test_a_flood_of_banners_is_ended_by_the_deadline(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Flooding(Login):
        async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:  # type: ignore[override]
            banner = b"\0\0\x75\x30" + b"x" * 30_000 + NOTHING
            while True:
                self._conn.send_packet(USERAUTH_BANNER, banner)
                await asyncio.sleep(0)

    with hostile_server(tmp_path / "server", remote, Flooding) as server:
        playbook = write_playbook(runner, server, remote, password(), connect_timeout=1)
        started = time.monotonic()
        ending = run_bounded(runner.folder, "play", str(playbook))
    assert time.monotonic() - started < 6 + BUSY_SECONDS
    assert ending.exit_code == 4, ending.output
    assert ending.peak_bytes < 150 * MIB


def test_a_password_that_has_expired_is_told_and_not_answered(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Expired(Login):
        def validate_password(self, username: str, password: str) -> bool:
            raise asyncssh.PasswordChangeRequired("Your password has expired. New one, please:")

    server = AsyncsshServer(tmp_path / "server", root=remote, password=PASSWORD)
    server.login_class = Expired
    with server:
        outcome = play(runner, server, remote, password())
    words = ("which the server wants to be changed first", "Log in once by hand")
    assert_failed(outcome, remote, 4, "AuthenticationRefused", *words)
    assert_not_told(outcome, PASSWORD)
    assert [event.method for event in server.login_events] == ["password"]


def test_a_server_that_wants_to_reach_through_us_reaches_nothing(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens channels back to the client: the agent, forwarded ports, X11. None was asked for, none is granted."""
    kinds = (b"auth-agent@openssh.com", b"x11", b"forwarded-tcpip", b"session")
    refused: list[bytes] = []

    class Reaching(Login):
        def auth_completed(self) -> None:
            self._conn.create_task(self.reach())

        async def reach(self) -> None:
            for kind in kinds:
                loop = asyncio.get_running_loop()
                channel = asyncssh.channel.SSHForwardChannel(self._conn, loop, None, "strict", 1 << 20, 1 << 15)
                with contextlib.suppress(asyncssh.ConnectionLost):
                    try:
                        await channel._open(kind)
                    except asyncssh.ChannelOpenError:
                        refused.append(kind)

    server = AsyncsshServer(tmp_path / "server", root=remote, password=PASSWORD)
    server.login_class = Reaching
    with server, running_agent() as running:
        running.add(server.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, server, remote, password())
    assert outcome.exit_code == 0, outcome.output
    assert refused == list(kinds)
