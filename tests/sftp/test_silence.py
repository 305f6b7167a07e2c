"""Servers that fall silent in the middle of a session: given up once, after `stall_timeout`, and not waited for again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import Runner, download, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers.mute import MuteServer, Stage


@pytest.mark.parametrize("stage", ["sftp_stat", "sftp_open", "sftp_write", "sftp_close", "sftp_rename"])
def test_an_upload_stalls(runner: Runner, tmp_path: Path, remote: Path, stage: Stage) -> None:
    (runner.folder / "source").write_bytes(b"x" * 3_000_000)
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        started = time.monotonic()
        outcome = runner.play([step(server, upload("source", "a"), stall_timeout=1)])

    assert time.monotonic() - started < 4 + BUSY_SECONDS
    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "Stalled"
    assert "stall_timeout" in outcome.step["error"]["message"]
    assert not (remote / "a").exists()


def test_a_server_that_answers_keepalives_and_nothing_else_stalls(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_bytes(b"x")
    with MuteServer("sftp_stat", tmp_path / "server", root=remote) as server:
        started = time.monotonic()
        outcome = runner.play([step(server, upload("source", "a"), stall_timeout=2, keepalive_interval=1)])

    assert time.monotonic() - started < 5 + BUSY_SECONDS
    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "Stalled"


@pytest.mark.parametrize("stage", ["sftp_stat", "sftp_open", "sftp_read"])
def test_a_download_stalls(runner: Runner, tmp_path: Path, remote: Path, stage: Stage) -> None:
    (remote / "source").write_bytes(b"x" * 3_000_000)
    local = runner.folder / "local"
    local.mkdir()
    with MuteServer(stage, tmp_path / "server", root=remote) as server:
        started = time.monotonic()
        outcome = runner.play([step(server, download("source", "local/a"), stall_timeout=1)])

    assert time.monotonic() - started < 4 + BUSY_SECONDS
    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "Stalled"
    assert list(local.iterdir()) == []
