"""A reply that is still being made use of is not done: whoever waits must not go on before its verdict."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from runner.sftp.batch.download import Download
from runner.sftp.batch.upload import Upload
from tests.conftest import Runner, download, snapshot, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport's thread is held up for longer than the waiting one sleeps."""
    monkeypatch.setattr(Download, "_take_data", _make_late(Download._take_data))
    monkeypatch.setattr(Upload, "_refuse_write", _make_late(Upload._refuse_write))


def _make_late(digest: Any) -> Any:
    def digest_late(*arguments: Any) -> None:
        time.sleep(0.25)
        digest(*arguments)

    return digest_late


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_download_waits_for_the_last_reply(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, size: int
) -> None:
    (remote / "source").write_bytes(os.urandom(size))

    outcome = runner.play([step(asyncssh_server, download("source", "local/a"))])

    assert outcome.exit_code == 0, outcome.output
    assert (runner.folder / "local/a").read_bytes() == (remote / "source").read_bytes()


def test_an_upload_waits_for_the_last_status(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "source").write_bytes(b"x" * 1000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.FailingWrite) as server:
        outcome = runner.play([step(server, upload("source", "a"))])

    assert outcome.exit_code == 2, outcome.output
    assert outcome.step["error"]["type"] == "FileRefused"
    assert snapshot(remote) == {}
