"""Whatever a server says, and wherever it says it: nothing of it drives the terminal, the CI system or the report."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.ssh.ciphers import PlainOutbound
from tests.conftest import Outcome, Runner, connection, download, require_sshd, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.forced import ForcedServer
from tests.servers.keys import shared_key_pair
from tests.servers.listeners import Listener
from tests.servers.login import Login
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import FAILURE, Execute, Kind, RawSftpServer, Request, Script, status

# A new title, a cleared screen, colours in both spellings, a line written over, text turned round and hidden, and commands
# for GitHub Actions in its two forms, Azure Pipelines and TeamCity: at a line's beginning, after spaces, and in its middle.
EVIL = (
    "MARK\x1b]0;owned\x07\x1b[2J\x1b[31m\u009b31m\x7f\x08\rrewritten\n::add-mask::a\r\n  ::set-output name=a::b\n"
    "::error file=x::y\u2028::stop-commands::t\u0085::debug::z ##[add-mask]c ##vso[task.setvariable variable=d]e "
    "##teamcity[buildStatus text='f'] \u202egpj.exe\u2066\u200b\ufeff\U000e0041 MARK"
)
COMMAND_ANYWHERE = re.compile(r"##\w*\[")


def assert_harmless(text: str, *, is_json: bool = False) -> None:
    """No character that a terminal obeys or hides, no line that a CI system obeys."""
    hidden = sorted({hex(ord(c)) for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")})
    assert not hidden, f"{hidden} in {text!r}"
    assert not COMMAND_ANYWHERE.search(text), text
    if not is_json:
        commands = [line for line in text.split("\n") if line.lstrip().startswith("::")]
        assert not commands, commands


def assert_nothing_obeys(runner: Runner, outcome: Outcome) -> None:
    assert_harmless(outcome.stdout)
    assert_harmless(outcome.stderr)
    report = (runner.folder / "report.json").read_text(encoding="utf-8")
    assert_harmless(report, is_json=True)
    json.loads(report)


def play_loudly(runner: Runner, server: Any, mode: dict[str, Any], **inputs: Any) -> Outcome:
    """At the highest verbosity, as GitHub Actions would run it."""
    (runner.folder / "source").write_text("content")
    one = step(server, mode, **inputs) if isinstance(server, Endpoint) else {**pretend(server), "mode": mode, **inputs}
    outcome = runner.play([one], "-vvv", "--progress", "plain")
    assert_nothing_obeys(runner, outcome)
    return outcome


def pretend(server: Listener) -> dict[str, Any]:
    """Inputs for what is no SSH server."""
    key = shared_key_pair()
    login = {"authentication_method": "ssh_key_file", "username": "u", "ssh_key_file": str(key.path)}
    known = {"hostkey_mode": "known_host", "known_host": key.public_line}
    return {"host": server.host, "port": server.port, "authentication": login, "hostkey": known}


@pytest.fixture(autouse=True)
def _in_github_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


# --- before the login ---


def disconnecting(text: bytes) -> bytes:
    """DISCONNECT (RFC 4253 section 11.1) before any key exchange."""
    body = b"\x01\0\0\0\x02" + len(text).to_bytes(4, "big") + text + bytes(4)
    return PlainOutbound().seal((body,), 0)


def debugging(text: bytes) -> bytes:
    """DEBUG with always_display (RFC 4253 section 11.3)."""
    body = b"\x04\x01" + len(text).to_bytes(4, "big") + text + bytes(4)
    return PlainOutbound().seal((body,), 0)


RAW = EVIL.encode()
ONE_LINE = EVIL.replace("\n", " ").encode()
GREETINGS = {
    "lines before the version": RAW + b"\r\nSSH-2.0-x\r\n",
    "the version line": b"SSH-2.0-" + ONE_LINE + b"\r\n",
    "a version that is none": b"SSH-1.1-" + ONE_LINE + b"\r\n",
    "no version at all": RAW + b"\n" * 100,
    "a disconnect": b"SSH-2.0-x\r\n" + disconnecting(RAW),
    "a debug message": b"SSH-2.0-x\r\n" + debugging(RAW) + disconnecting(b"x"),
    "bytes that are no text": b"SSH-2.0-\xff\xfe\x9b2J\xc2\x9b2J\x1b[2J\r\n" + disconnecting(b"\xff\x9b2J\n::error::x"),
}


class Hanging(Listener):
    """Hangs up after its greeting."""

    def greet(self, connection: Any) -> None:
        super().greet(connection)
        connection.shutdown(1)


@pytest.mark.parametrize("name", GREETINGS)
def test_a_greeting(runner: Runner, name: str) -> None:
    with Hanging(GREETINGS[name]) as server:
        outcome = play_loudly(runner, server, upload("source", "a"), connect_timeout=5)
        hostkey = runner("hostkey", f"{server.host}:{server.port}", "--connect-timeout", "2")
    assert outcome.exit_code == 4
    assert hostkey.exit_code == 4
    assert_harmless(hostkey.output)


# --- during the login ---


def test_the_banner_of_sshd(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """sshd sends the file as it is."""
    require_sshd()
    (tmp_path / "banner").write_bytes(RAW)
    with OpenSSHServer(tmp_path / "server", extra_config=(f"Banner {tmp_path / 'banner'}",)) as server:
        outcome = play_loudly(runner, server, upload("source", remote / "a"))
    assert outcome.exit_code == 0, outcome.output
    assert "MARK" in outcome.stderr, "the banner was not even looked at"


class Disconnecting(Login):
    def begin_auth(self, username: str) -> bool:
        self._conn.disconnect(2, EVIL)
        return True


class Asking(Login):
    """Its questions are commands."""

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        return EVIL, EVIL, "", [(EVIL, False)]


class Bannering(Login):
    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:  # type: ignore[override]
        self._conn.send_auth_banner(EVIL, EVIL)
        self._conn.send_debug(EVIL, EVIL, always_display=True)
        await asyncio.sleep(0)
        self._conn.disconnect(2, EVIL)
        return "", "", "", [("Password: ", False)]


@pytest.mark.parametrize("login_class", [Disconnecting, Asking, Bannering])
def test_words_of_the_login(runner: Runner, tmp_path: Path, remote: Path, login_class: type[Login]) -> None:
    server = AsyncsshServer(tmp_path / "server", root=remote, keyboard_interactive=(("unused", "x"),))
    server.login_class = login_class
    login = {"authentication_method": "username_password", "username": server.username, "password": "hunter two"}
    with server:
        outcome = play_loudly(runner, server, upload("source", "a"), authentication=login)
    assert outcome.exit_code == 4, outcome.output


# --- SFTP ---


class Saying(Script):
    """Refuses one kind of request with these words."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, FAILURE, RAW)] if request.kind == self.kind else [execute()]


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    "kind", [Kind.STAT, Kind.OPEN, Kind.WRITE, Kind.READ, Kind.FSETSTAT, Kind.CLOSE, Kind.EXTENDED]
)
def test_words_of_an_sftp_server(runner: Runner, tmp_path: Path, remote: Path, kind: Kind, is_upload: bool) -> None:
    (remote / "there").write_text("content")
    mode = upload("source", remote / "a") if is_upload else download(remote / "there", "here")
    with RawSftpServer(tmp_path / "server", root=remote, make_script=partial(Saying, kind)) as server:
        outcome = play_loudly(runner, server, mode)
    is_said = "MARK" in outcome.output
    # -vvv says why the server was taken for one that cannot do something.
    is_reason = "it refused posix-rename" in outcome.output
    is_expected = outcome.exit_code != 0 or bool(outcome.step["result"]["warnings"]) or is_reason
    assert is_said == is_expected, outcome.output


def tree(server: Endpoint, source: Path, destination: Path) -> dict[str, Any]:
    mode = {
        "mode_name": "copy_directory_to_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
    }
    return {**connection(server), "mode": mode}


@pytest.mark.parametrize("name", [EVIL.encode(), b"../" + EVIL.encode(), EVIL.encode()[:200].replace(b"/", b"")])
def test_names_in_a_listing(runner: Runner, tmp_path: Path, remote: Path, name: bytes) -> None:
    """They do not exist on the server: each is a failure that names them."""
    factory = partial(misbehaving.HostileListing, name=name)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        outcome = runner.play([tree(server, remote, tmp_path / "copy")], "-vvv")
    assert outcome.exit_code == 2, outcome.output
    assert_nothing_obeys(runner, outcome)


# --- SCP ---

ERROR_LINE = "b'\\x01scp: ' + EVIL.replace(b'\\n', b' ') + b'\\n'"
SCP_WORDS = {
    "an error line": f"send({ERROR_LINE})",
    "a fatal line": f"send(b'\\x02' + {ERROR_LINE}[1:])",
    "what is no line of the protocol": "send(EVIL + b'\\n')",
    "a file's name": "hear.read(1); send(b'C0644 3 ' + EVIL.replace(b'\\n', b' ') + b'\\n'); hear.read(1); send(b'x')",
    "standard error": "sys.stderr.buffer.write(EVIL); sys.exit(1)",
    "a line after the content": f"hear.read(1); send(b'C0644 1 a\\n'); hear.read(1); send(b'x' + {ERROR_LINE})",
}


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", SCP_WORDS)
def test_words_of_an_scp_server(runner: Runner, tmp_path: Path, remote: Path, name: str, is_upload: bool) -> None:
    require_sshd()
    program = f"EVIL = {RAW!r}\nif not is_scp: run()\n{SCP_WORDS[name]}\n"
    mode = upload("source", remote / "a") if is_upload else download("there", "here")
    with ForcedServer(tmp_path / "server", program) as server:
        outcome = play_loudly(runner, server, mode, connector_type="SCP", stall_timeout=1)
    assert outcome.exit_code != 0, outcome.output


# --- the runner's own faults ---


def test_the_traceback_of_a_bug(runner: Runner, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception's text may be a server's."""

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError(EVIL) from ValueError(f"\n{EVIL}")

    monkeypatch.setattr("runner.execution.modes.copy_file", fail)
    outcome = runner.play([step(sshd, upload("source", "a"))])
    assert outcome.exit_code == 1
    assert "MARK" in outcome.stderr
    assert_harmless(outcome.output)
