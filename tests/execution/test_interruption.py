"""SIGINT and SIGTERM, at any moment: nothing is left behind, the report is written, the exit code tells."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import download, snapshot, step, upload
from tests.patience import BUSY_SECONDS, EVENT_SECONDS, wait_for
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.openssh import OpenSSHServer


class Process:
    """`runner play` in a process of its own, to be sent signals."""

    def __init__(self, folder: Path, playbook: list[Any]) -> None:
        self.report_path = folder / "report.json"
        path = folder / "play.yaml"
        path.write_text(json.dumps(playbook), encoding="utf-8")
        command = [sys.executable, "-m", "runner", "play", str(path), "--json", str(self.report_path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def interrupt(self, number: int, within_seconds: float = 8 + BUSY_SECONDS) -> tuple[int, dict[str, Any], str]:
        """Send the signal; return exit code, report and output."""
        self._process.send_signal(number)
        stdout, stderr = self._process.communicate(timeout=within_seconds)
        report = json.loads(self.report_path.read_text(encoding="utf-8"))
        return self._process.returncode, report, stdout + stderr


def has_temporary(folder: Path) -> bool:
    return any(name.endswith((".tmp", ".part")) for name in os.listdir(folder))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("is_upload", [True, False])
@pytest.mark.parametrize("resume", [True, False])
def test_in_the_middle_of_a_copy(
    tmp_path: Path, remote: Path, number: int, exit_code: int, is_upload: bool, resume: bool
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "a").write_bytes(b"x" * 20_000_000 if is_upload else b"older")
    (remote / "a").write_bytes(b"older" if is_upload else b"x" * 20_000_000)
    mode = upload("local/a", "a", resume=resume) if is_upload else download("a", "local/a", resume=resume)
    written_to = remote if is_upload else local
    with AsyncsshServer(
        tmp_path / "server", root=remote, sftp_factory=partial(misbehaving.SlowServer, seconds=0.1)
    ) as server:
        process = Process(tmp_path, [step(server, mode), step(server, mode)])
        wait_for(lambda: has_temporary(written_to))
        code, report, output = process.interrupt(number)

    assert code == exit_code, output
    assert report["status"] == "interrupted"
    assert report["exit_code"] == exit_code
    assert [one["status"] for one in report["steps"]] == ["failed", "skipped"]
    assert report["steps"][0]["error"]["type"] == "Interrupted"
    left = snapshot(written_to)
    partials = [name for name in left if name.endswith(".part")]
    assert len(partials) <= resume
    assert left == {"a": b"older", **{name: left[name] for name in partials}}
    assert "Traceback" not in output


@pytest.mark.parametrize("moment", range(10))
def test_at_any_moment(tmp_path: Path, sshd: OpenSSHServer, remote: Path, moment: int) -> None:
    """From the start of the process to the end of the copy: either all of it happened, or nothing is left."""
    source = tmp_path / "source"
    source.write_bytes(b"x" * 50_000_000)
    process = Process(tmp_path, [step(sshd, upload("source", remote / "a", resume=False))])
    time.sleep(0.12 * moment)
    process._process.send_signal(signal.SIGTERM)
    stdout, stderr = process._process.communicate(timeout=EVENT_SECONDS)

    left = snapshot(remote)
    assert process._process.returncode in (0, 143, -signal.SIGTERM), stdout + stderr
    assert left in ({}, {"a": source.read_bytes()}), list(left)
    # The oldest cryptography that is allowed prints a panic of its own if a signal comes while its Rust code is loaded.
    assert "Traceback" not in stdout + stderr or "panicked at" in stderr


def test_a_play_that_ends_while_modules_are_loaded_ends_well(tmp_path: Path, sshd: OpenSSHServer, remote: Path) -> None:
    """Nothing listens: there is time for half of what is loaded while a server is waited for."""
    (tmp_path / "source").write_text("x")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        only = {**step(sshd, upload("source", remote / "a")), "port": unused.getsockname()[1]}
        process = Process(tmp_path, [only])
        stdout, stderr = process._process.communicate(timeout=EVENT_SECONDS)

    assert process._process.returncode == 4, stdout + stderr
    assert "Connection refused" in stdout
    assert "Traceback" not in stdout + stderr


def test_a_reader_that_goes_away_does_not_end_the_play(tmp_path: Path, sshd: OpenSSHServer, remote: Path) -> None:
    (tmp_path / "source").write_text("x")
    playbook = tmp_path / "play.yaml"
    playbook.write_text(json.dumps([step(sshd, upload("source", remote / f"a{i}")) for i in range(20)]))
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(
        [sys.executable, "-m", "runner", "play", str(playbook)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=EVENT_SECONDS,
        check=False,
    )
    os.close(write_end)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(snapshot(remote)) == 20


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.3, 0.45])
def test_between_the_two_renames_of_a_server_that_needs_two(tmp_path: Path, remote: Path, delay: float) -> None:
    """Either the old file or the new one is there, never none."""
    (tmp_path / "source").write_bytes(b"newer")
    (remote / "a").write_bytes(b"older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_SlowRename) as server:
        process = Process(tmp_path, [step(server, upload("source", "a", compare="always"))])
        wait_for(lambda: has_temporary(remote))
        time.sleep(delay)
        process.interrupt(signal.SIGTERM)

    assert snapshot(remote) in ({"a": b"older"}, {"a": b"newer"})


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.3, 0.45])
@pytest.mark.parametrize("mode_name", ["write_file", "create_link"])
def test_small_modes_leave_the_old_or_the_new(tmp_path: Path, remote: Path, mode_name: str, delay: float) -> None:
    """On a server that needs two renames, and whatever of it is under way: nothing else is left."""
    (remote / "a").write_text("older")
    (remote / "link").symlink_to("older")
    mode = {
        "write_file": {"content": "newer", "destination_file_name": "a"},
        "create_link": {"path": "link", "target": "newer"},
    }[mode_name]
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_SlowRename) as server:
        process = Process(tmp_path, [step(server, {"mode_name": mode_name, **mode})])
        wait_for(lambda: has_temporary(remote))
        time.sleep(delay)
        _, report, output = process.interrupt(signal.SIGTERM)

    assert "Traceback" not in output
    assert report["steps"]
    assert sorted(os.listdir(remote)) == ["a", "link"]
    assert (remote / "a").read_text() in ("older", "newer")
    assert os.readlink(remote / "link") in ("older", "newer")


class _SlowRename(misbehaving.PlainRenameOnly):
    """Takes its time before and after each rename."""

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        import asyncio

        await asyncio.sleep(0.2)
        result: Any = super().rename(oldpath, newpath)
        if result is not None:
            await result
        await asyncio.sleep(0.2)
