"""What servers say before SFTP or scp begins is quoted, with where it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import Outcome, Runner, download, require_sshd, snapshot, step, upload
from tests.patience import ends_within
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileSession
from tests.servers.hostile_scp import HostileScp, Talk, header, say, say_and_hang
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import RawSftpServer, Script, version

banners = pytest.mark.parametrize("software", ["", "OpenSSH_9.2p1"], ids=["any", "as OpenSSH"])


@pytest.fixture
def source(runner: Runner) -> Path:
    (runner.folder / "source").write_bytes(b"content")
    return runner.folder / "source"


def assert_quoted(outcome: Outcome, remote: Path, *words: str) -> None:
    assert outcome.exit_code == 2, outcome.output
    error = outcome.step["error"]
    assert error["type"] == "ServerLacksFeature"
    for word in words:
        assert word in error["message"], error
    assert "start-up files" in error["hint"]
    assert snapshot(remote) == {}


class Noisy(Script):
    """Says something, in pieces, before its answer to the greeting."""

    pieces: tuple[bytes, ...] = ()

    def version(self) -> Iterable[bytes]:
        return [*self.pieces, version(3)]


@banners
@pytest.mark.parametrize(
    ("pieces", "quoted"),
    [
        ((b"Welcome to the bank!\n",), "'Welcome to the bank!'"),
        ((b"Welc", b"ome to", b" the bank!\r\n", b"Bye.\n"), "'Welcome to the bank!"),
        ((b"\r\n\r\n", b"Last login: today\r\n"), "'Last login: today'"),
        ((b"W", b"e", b"l", b"c", b"o", b"m", b"e", b"\n"), "'Welcome'"),
        ((b"\x1b[1;31mKeep out\x1b[0m \x07now\n",), "'[1;31mKeep out [0m now'"),
        ((b"M\xfcnchen\n",), "'M\ufffdnchen'"),
        ((b"x" * 100_000,), f"'{'x' * 200}…'"),
    ],
    ids=["a line", "in pieces", "blank lines first", "letter by letter", "escapes", "another encoding", "a flood"],
)
def test_what_is_said_before_sftp_begins_is_quoted(
    runner: Runner,
    tmp_path: Path,
    remote: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    software: str,
    pieces: tuple[bytes, ...],
    quoted: str,
) -> None:
    monkeypatch.setattr(AsyncsshServer, "software", software)
    monkeypatch.setattr(Noisy, "pieces", pieces)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=Noisy) as server, ends_within(5):
        outcome = runner.play([step(server, upload("source", remote / "a"), retries=2)])

    assert_quoted(outcome, remote, "says something before SFTP begins", quoted)
    assert "\x1b" not in outcome.output
    # It will say the same again.
    assert outcome.step["attempts"] == 1


@banners
def test_a_number_that_is_no_text_is_not_taken_for_some(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, monkeypatch: pytest.MonkeyPatch, software: str
) -> None:
    """Once SFTP has begun, what makes no sense is no greeting."""

    class Late(Script):
        def reply(self, request: object, execute: object) -> Iterable[bytes]:
            return [b"Welcome to the bank!\n"]

    monkeypatch.setattr(AsyncsshServer, "software", software)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=Late) as server:
        outcome = runner.play([step(server, upload("source", remote / "a"))])

    assert outcome.exit_code == 4, outcome.output
    assert "broke the SFTP protocol" in outcome.step["error"]["message"]


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        ("echo Welcome to the bank, acme", "'Welcome to the bank, acme'"),
        ("printf 'No.'; exec cat", "'No.'"),
        ("echo No; exit 1", "'No'"),
    ],
)
def test_an_sshd_whose_start_up_files_print_is_told_so(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, command: str, quoted: str
) -> None:
    require_sshd()
    with (
        OpenSSHServer(tmp_path / "server", sftp=False, extra_config=(f"Subsystem sftp {command}",)) as server,
        ends_within(5),
    ):
        outcome = runner.play([step(server, upload("source", remote / "a"))])

    assert outcome.exit_code == 2, outcome.output
    assert quoted in outcome.step["error"]["message"]
    assert outcome.step["error"]["hint"]
    assert snapshot(remote) == {}


def test_what_a_server_complains_of_on_standard_error_is_quoted_as_well(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    class Missing(FileSession):
        async def _serve_sftp(self, channel: Channel) -> None:
            channel.write_stderr(b"sh: exec: \x1b[2Jsftp-server: not found\n")
            channel.exit(127)

    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        server.session_class = Missing
        outcome = runner.play([step(server, upload("source", remote / "a"))])

    assert outcome.exit_code == 2, outcome.output
    assert "ended before it said a word: sh: exec: " in outcome.step["error"]["message"]
    assert "sftp-server: not found" in outcome.step["error"]["message"]
    assert "\x1b" not in outcome.output


# --- scp ---


async def dribble(talk: Talk) -> None:
    for byte in b"Welcome to the bank!\n":
        await talk.say(bytes([byte]))
        await asyncio.sleep(0.005)
    await talk.say(header(7))


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    ("act", "quoted"),
    [
        (say(b"Welcome to the bank!\n" + header(7)), "'Welcome to the bank!"),
        (say_and_hang(b"Welcome to the bank!\n"), "'Welcome to the bank!'"),
        (say(b"This account is currently not available.\n", status=1), "'This account is currently not available.'"),
        (dribble, "'Welcome to the bank!"),
    ],
    ids=["a line", "and nothing more", "a refusal", "letter by letter"],
)
def test_what_is_said_before_scp_begins_is_quoted(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, act: object, quoted: str, is_upload: bool
) -> None:
    mode = upload("source", remote / "a", compare="always") if is_upload else download("a", "copy")
    with HostileScp(tmp_path / "server", [act]) as server, ends_within(8):  # type: ignore[list-item]
        outcome = runner.play([step(server, mode, connector_type="SCP")])

    assert_quoted(outcome, remote, "says something before scp begins", quoted)
    assert not (runner.folder / "copy").exists()


def test_an_sshd_that_greets_in_front_of_scp_is_told_so(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    require_sshd()
    config = ('ForceCommand echo Welcome to the bank; eval "$SSH_ORIGINAL_COMMAND"',)
    with OpenSSHServer(tmp_path / "server", sftp=False, extra_config=config) as server:
        outcome = runner.play([step(server, upload("source", remote / "a"), connector_type="SCP")])

    assert_quoted(outcome, remote, "'Welcome to the bank'")
