"""Servers that open one channel at a time, and are slow to count one less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, download, require_sshd, snapshot, step, upload
from tests.patience import ends_within
from tests.servers.commands import CommandServer, posix_shell
from tests.servers.openssh import OpenSSHServer

CONTENT = b"content\n" * 10_000
SCP: dict[str, Any] = {"connector_type": "SCP"}


@pytest.fixture
def source(runner: Runner) -> Path:
    (runner.folder / "source").write_bytes(CONTENT)
    return runner.folder / "source"


def test_scp_waits_until_the_channel_before_is_closed(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    modes = [upload("source", remote / "a", verify="checksum"), download(remote / "a", "copy")]
    with CommandServer(
        tmp_path / "server", root=remote, sftp=False, on_command=posix_shell, max_sessions=1, closing_seconds=0.3
    ) as server:
        outcome = runner.play([step(server, mode, **SCP) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}
    assert (runner.folder / "copy").read_bytes() == CONTENT
    assert server.connection_count == 1
    assert outcome.step["result"]["atomic"] is True


def test_sftp_gives_its_channel_to_the_scp_of_a_later_step_and_takes_it_back(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    with CommandServer(
        tmp_path / "server", root=remote, on_command=posix_shell, max_sessions=1, closing_seconds=0.3
    ) as server:
        outcome = runner.play(
            [
                step(server, upload("source", remote / "a")),
                step(server, upload("source", remote / "b"), **SCP),
                step(server, upload("source", remote / "c")),
                step(server, upload("source", remote / "d"), transfers=8),
            ]
        )

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == dict.fromkeys("abcd", CONTENT)
    assert server.connection_count == 1


def test_without_room_for_a_command_the_copy_is_read_back(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command=posix_shell, max_sessions=1) as server:
        with ends_within(5):
            outcome = runner.play([step(server, upload("source", remote / "a", verify="checksum"))])
        # That was for want of a channel, and says nothing of the account.
        over_scp = runner.play([step(server, upload("source", remote / "b"), **SCP)])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["verified"] == "readback"
    assert over_scp.exit_code == 0, over_scp.output
    assert over_scp.step["result"]["atomic"] is True
    assert snapshot(remote) == {"a": CONTENT, "b": CONTENT}


def test_a_server_that_opens_none_is_not_waited_for(runner: Runner, tmp_path: Path, remote: Path, source: Path) -> None:
    with CommandServer(tmp_path / "server", root=remote, max_sessions=0) as server, ends_within(3):
        outcome = runner.play([step(server, upload("source", remote / "a"))])

    assert outcome.exit_code == 2, outcome.output
    assert outcome.step["error"]["type"] == "ChannelRefused"
    assert "refuses to open a session" in outcome.step["error"]["message"]


def test_a_channel_that_never_becomes_free_is_waited_for_a_while(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.ssh.connection.ROOM_SECONDS", 1.0)
    with (
        CommandServer(
            tmp_path / "server", root=remote, on_command=posix_shell, max_sessions=1, closing_seconds=600
        ) as server,
        ends_within(1 + 3),
    ):
        outcome = runner.play([step(server, upload("source", remote / "a"), **SCP)])

    assert outcome.exit_code == 2, outcome.output
    assert outcome.step["error"]["type"] == "ChannelRefused"
    assert snapshot(remote) == {}


def test_openssh_with_one_session(runner: Runner, tmp_path: Path, remote: Path, source: Path) -> None:
    require_sshd()
    with OpenSSHServer(tmp_path / "server", extra_config=("MaxSessions 1",)) as server:
        outcome = runner.play(
            [
                *(step(server, upload("source", remote / f"a{at}", verify="checksum"), **SCP) for at in range(5)),
                step(server, upload("source", remote / "b", verify="checksum")),
                step(server, download(remote / "a0", "copy"), **SCP),
            ]
        )

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == dict.fromkeys(("a0", "a1", "a2", "a3", "a4", "b"), CONTENT)
    assert all(one["result"]["atomic"] for one in outcome.report["steps"][:6])
