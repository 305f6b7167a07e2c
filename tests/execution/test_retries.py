"""`retries` and `delay`: what may pass is tried again on a fresh connection, nothing else is."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest

from runner.execution.step_run import MAX_PAUSE_SECONDS, choose_pause
from tests.conftest import Runner, download, snapshot, step, upload
from tests.patience import BUSY_SECONDS, wait_for
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import Channel, FileServer, FileSession
from tests.servers.listeners import closed_port
from tests.servers.login import Login
from tests.servers.misbehaving import fail_first_sessions
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    PERMISSION_DENIED,
    Execute,
    Hangup,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
    version,
)


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_connection_that_breaks_twice_is_made_three_times(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    content = os.urandom(3_000_000)
    (runner.folder / "local").write_bytes(content if is_upload else b"")
    (remote / "a").write_bytes(b"" if is_upload else content)
    faulty: Any = partial(misbehaving.BrokenConnection, number=2) if is_upload else _BrokenRead
    factory = fail_first_sessions(2, faulty)
    mode = upload("local", "a") if is_upload else download("a", "local")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = runner.play([{**step(server, mode), "retries": 3, "delay": 0.01}])
        connections = server.connection_count

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == connections == 3
    assert (remote / "a").read_bytes() == (runner.folder / "local").read_bytes() == content
    assert outcome.stdout.count("retrying") == 2
    assert "attempt 1 of 4 failed" in outcome.stdout


class _BrokenRead(FileServer):
    """Cuts the connection at the first read."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        self.channel.get_connection().abort()
        return b""


class _BrokenStart(FileSession):
    """Cuts the connection when a command or a subsystem is asked for."""

    def _break(self) -> bool:
        cast(Channel, self._chan).get_connection().abort()
        return True

    def exec_requested(self, command: str) -> bool:
        return self._break()

    def subsystem_requested(self, subsystem: str) -> bool:
        return self._break()


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_a_connection_that_breaks_when_a_program_is_asked_for_is_no_refusal(
    runner: Runner, tmp_path: Path, remote: Path, connector_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both end the channel; which one it was is known only a moment later."""
    (runner.folder / "local").write_bytes(b"x")
    unlink = paramiko.Channel._unlink

    def unlink_slowly(channel: paramiko.Channel) -> None:
        unlink(channel)
        time.sleep(0.05)

    monkeypatch.setattr(paramiko.Channel, "_unlink", unlink_slowly)

    class Server(AsyncsshServer):
        session_class = _BrokenStart

    with Server(tmp_path / "server", root=remote) as server:
        one = {**step(server, upload("local", "a")), "connector_type": connector_type, "retries": 1, "delay": 0}
        outcome = runner.play([one])

    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["attempts"] == 2
    assert outcome.step["error"]["type"] == "ConnectionLost"


def test_when_all_attempts_fail_the_last_failure_is_told(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "local").write_bytes(b"x" * 1_000_000)
    factory = partial(misbehaving.BrokenConnection, number=1)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = runner.play([{**step(server, upload("local", "a")), "retries": 2, "delay": 0.01}])

    assert outcome.exit_code == 4
    assert outcome.step["attempts"] == 3
    assert outcome.step["error"]["type"] == "ConnectionLost"


@pytest.mark.parametrize("method", ["ssh_key_file", "username_password"])
def test_a_line_that_breaks_during_the_login_is_no_refusal(
    runner: Runner, tmp_path: Path, remote: Path, method: str
) -> None:
    (runner.folder / "local").write_bytes(b"x")
    with AsyncsshServer(tmp_path / "server", root=remote, password="right") as server:
        server.login_class = _CutLogin
        one: dict[str, Any] = {**step(server, upload("local", "a")), "retries": 2, "delay": 0.01}
        if method == "username_password":
            one["authentication"] = {"authentication_method": method, "username": server.username, "password": "right"}
        outcome = runner.play([one])

    assert outcome.exit_code == 4
    assert outcome.step["attempts"] == 3, outcome.output
    assert outcome.step["error"]["type"] == "ConnectionLost"
    assert "broke off during the login" in outcome.output


class _CutLogin(Login):
    """Cuts the connection where it should judge a credential."""

    def validate_public_key(self, username: str, key: object) -> bool:
        self._conn.abort()
        return False

    def validate_password(self, username: str, password: str) -> bool:
        self._conn.abort()
        return False


def test_a_host_that_comes_up_late_is_waited_for(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "local").write_bytes(b"x")
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        late = {**step(server, upload("local", "a")), "port": closed_port(), "retries": 1, "delay": 0.01}
        outcome = runner.play([late])

    assert outcome.step["attempts"] == 2
    assert outcome.statuses == ["unreachable"]


@pytest.mark.parametrize("what", ["password", "host key", "source", "permission"])
def test_what_cannot_pass_is_tried_once(runner: Runner, tmp_path: Path, remote: Path, what: str) -> None:
    (runner.folder / "local").write_bytes(b"x")
    (remote / "folder").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, password="right") as server:
        one: dict[str, Any] = {**step(server, upload("local", "a")), "retries": 5, "delay": 0.01}
        match what:
            case "password":
                one["authentication"] = {
                    "authentication_method": "username_password",
                    "username": server.username,
                    "password": "wrong",
                }
            case "host key":
                fingerprint = "SHA256:" + "A" * 43
                one["hostkey"] = {"hostkey_mode": "fingerprint", "fingerprint": fingerprint}
            case "source":
                one["mode"] = upload("missing", "a")
            case "permission":
                one["mode"] = upload("local", "folder")
        outcome = runner.play([one])

    assert outcome.exit_code != 0
    assert outcome.step["attempts"] == 1, outcome.output
    assert "retrying" not in outcome.stdout


def test_a_full_disk_may_be_emptied_meanwhile(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "local").write_bytes(b"x" * 1_000_000)
    factory = fail_first_sessions(1, partial(misbehaving.FullDisk, capacity=1000))
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = runner.play([{**step(server, upload("local", "a")), "retries": 1, "delay": 0.01}])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": b"x" * 1_000_000}


def test_a_signal_ends_the_pause(runner: Runner, tmp_path: Path) -> None:
    import signal

    (runner.folder / "local").write_bytes(b"x")
    with AsyncsshServer(tmp_path / "server", root=tmp_path) as server:
        one = {**step(server, upload("local", "a")), "port": closed_port(), "retries": 1, "delay": 60}
        # Before the play listens for it, the signal would end the tests.
        handler = signal.getsignal(signal.SIGTERM)

        def interrupt() -> None:
            wait_for(lambda: signal.getsignal(signal.SIGTERM) is not handler)
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)

        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        started = time.monotonic()
        outcome = runner.play([one])
        interrupting.join()

    assert outcome.exit_code == 143
    assert time.monotonic() - started < 5 + BUSY_SECONDS


def test_pauses_double_up_to_a_minute_and_vary() -> None:
    assert {round(choose_pause(1, 1), 3) for _ in range(50)} != {1.0}
    for failed_attempts, expected in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (50, 60)]:
        pause = choose_pause(5, failed_attempts)
        assert expected * 0.8 <= pause <= min(expected * 1.2, MAX_PAUSE_SECONDS)
    assert choose_pause(0, 7) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("retries", -1), ("retries", 1.5), ("retries", "{{ 'x' }}"), ("delay", "soon")]
)
def test_nonsense_is_found_before_anything_is_contacted(runner: Runner, key: str, value: object) -> None:
    outcome = runner.play([{"name": "x", "host": "h.example", key: value}])

    assert outcome.exit_code == 3
    assert f"'{key}' must be" in outcome.stderr


# --- what the step remembers where `until` wants another attempt ---


def test_an_attempt_that_was_not_enough_is_not_taken_for_a_retried_one(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    """Each copies anew, and reports what it has found: nothing of an earlier one is counted, or taken for this one's."""
    (runner.folder / "file").write_text("content")
    mode = upload("file", remote / "file", compare="always", backup=True)
    keywords = {"until": "r.attempts == 3", "register": "r", "retries": 3, "delay": 0}
    outcome = runner.play([{**step(sshd, mode), **keywords}])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == 3
    assert outcome.step["message"].startswith("replaced")
    names = sorted(snapshot(remote))
    assert len(names) == 3, "the second and the third attempt have each kept what they found"
    assert outcome.step["result"]["backup"] in [str(remote / name) for name in names]


def test_what_an_attempt_that_was_not_enough_has_removed_is_missing_for_the_next(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    (remote / "flag").write_text("")
    mode = {"mode_name": "remove", "path": str(remote / "flag"), "missing_ok": False}
    keywords = {"until": "r.attempts == 2", "register": "r", "retries": 2, "delay": 0}
    outcome = runner.play([{**step(sshd, mode), **keywords}])

    assert outcome.exit_code == 2, outcome.output
    assert outcome.step["error"]["type"] == "SourceMissing"
    assert outcome.step["attempts"] == 3
    assert snapshot(remote) == {}


class _LosesReply(Script):
    """Ends the session behind rename number `number` of all, which it has carried out, and removes nothing of ours."""

    number = 2
    removes = True

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        kind = type(self)
        if request.kind == Kind.REMOVE and not self.removes:
            return [status(request.id, PERMISSION_DENIED)]
        answer = execute()
        if request.kind in (Kind.RENAME, Kind.EXTENDED) and b"rename" in (request.name or b"rename"):
            kind.number -= 1
            if kind.number == 0:
                raise Hangup
        return [answer]


def test_a_reply_that_was_lost_is_made_up_for_also_with_until(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """The second attempt is cut off behind its rename: the third one finds that, and does not replace its own file."""
    (runner.folder / "file").write_text("content")
    script: Any = type("Loses", (_LosesReply,), {})
    keywords = {"until": "r.attempts >= 2", "register": "r", "retries": 3, "delay": 0}
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        mode = upload("file", remote / "file", compare="always", backup=True)
        outcome = runner.play([{**step(server, mode), **keywords}])

    assert outcome.exit_code == 0, outcome.output
    assert script.number <= 0
    assert outcome.step["attempts"] == 3
    assert outcome.step["message"].startswith("replaced")
    assert len(snapshot(remote)) == 2, "the file, and what the second attempt found"


def test_what_an_attempt_that_was_not_enough_has_left_is_named_in_the_end(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    (remote / "file").write_text("old")
    script = type("Keeps", (_Bare,), {})
    keywords = {"until": "r.attempts == 2", "register": "r", "retries": 3, "delay": 0}
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        outcome = runner.play([{**step(server, upload("file", remote / "file")), **keywords}])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == 2
    assert outcome.step["message"] == "already right"
    (left,) = [name for name in os.listdir(remote) if name != "file"]
    assert left in " ".join(outcome.step["result"]["warnings"])


class _Bare(Script):
    """Knows no posix-rename, and does not remove what has stepped aside."""

    def version(self) -> Iterable[bytes]:
        return [version(3)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, PERMISSION_DENIED)] if request.kind == Kind.REMOVE else [execute()]
