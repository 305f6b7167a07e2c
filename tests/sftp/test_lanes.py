"""Large uploads over a long line use several channels of one connection, as many as the server allows."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import asyncssh
import pytest

from tests.conftest import Runner, require_sshd, snapshot, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer
from tests.servers.latency import LatencyProxy
from tests.servers.openssh import OpenSSHServer

SIZE = 20_000_000


class Counting(FileServer):
    """Notes every handle of a file that is asked for."""

    opened: ClassVar[list[bytes]] = []

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self.opened.append(os.path.basename(path))
        return super().open(path, pflags, attrs)


def play_far_away(runner: Runner, server: Any, mode: dict[str, Any]) -> Any:
    """The step over a line with 50 ms round trip."""
    with LatencyProxy(server.host, server.port, round_trip_seconds=0.05) as proxy:
        return runner.play([{**step(server, mode), "host": "127.0.0.1", "port": proxy.port}])


@pytest.mark.parametrize(("config", "sessions"), [((), 6), (("MaxSessions 3",), 3), (("MaxSessions 1",), 1)])
def test_as_many_channels_as_the_server_allows(
    runner: Runner, tmp_path: Path, remote: Path, config: tuple[str, ...], sessions: int
) -> None:
    require_sshd()
    content = os.urandom(SIZE)
    (runner.folder / "source").write_bytes(content)
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server:
        outcome = play_far_away(
            runner, server, upload("source", remote / "a", verify="checksum" if not config else "auto")
        )
        started = server.log_text().count("Starting session: subsystem 'sftp'")

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": content}
    assert started == sessions
    if not config:
        assert outcome.step["result"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_failure_on_one_channel_fails_the_copy(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_bytes(os.urandom(SIZE))
    (remote / "a").write_bytes(b"older")
    factory = partial(misbehaving.FailingWrite, number=5)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_far_away(runner, server, upload("source", "a"))

    assert outcome.exit_code == 2, outcome.output
    assert snapshot(remote) == {"a": b"older"}


def test_a_short_line_needs_one(runner: Runner, tmp_path: Path, remote: Path) -> None:
    require_sshd()
    (runner.folder / "source").write_bytes(os.urandom(SIZE))
    with OpenSSHServer(tmp_path / "server") as server:
        outcome = runner.play([step(server, upload("source", remote / "a"))])
        started = server.log_text().count("Starting session: subsystem 'sftp'")

    assert outcome.exit_code == 0
    assert started == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_no_more_channels_than_the_step_allows(runner: Runner, tmp_path: Path, remote: Path, channels: int) -> None:
    require_sshd()
    content = os.urandom(SIZE)
    (runner.folder / "source").write_bytes(content)
    with OpenSSHServer(tmp_path / "server") as server:
        outcome = play_far_away(runner, server, upload("source", remote / "a", channels=channels))
        started = server.log_text().count("Starting session: subsystem 'sftp'")

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": content}
    assert started == channels


def test_channels_that_an_earlier_step_has_opened_are_not_used_beyond_the_limit(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "opened", [])
    (runner.folder / "source").write_bytes(os.urandom(SIZE))
    modes = [
        upload("source", name, resume=False, **more) for name, more in (("a", {"channels": 6}), ("b", {"channels": 2}))
    ]
    with (
        AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Counting) as server,
        LatencyProxy(server.host, server.port, round_trip_seconds=0.05) as proxy,
    ):
        steps = [{**step(server, mode), "host": "127.0.0.1", "port": proxy.port} for mode in modes]
        outcome = runner.play(steps)

    assert outcome.exit_code == 0, outcome.output
    assert [sum(name.startswith(b".%s.runner-" % final) for name in Counting.opened) for final in (b"a", b"b")] == [
        # A handle on each channel, and one to read it back: nobody knows whether they are one file there.
        6 + 1,
        2 + 1,
    ]
