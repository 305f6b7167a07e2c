"""Uploads over SFTP against a real sshd: what arrives, under which name, with which attributes, how often."""

from __future__ import annotations

import os
from pathlib import Path

from tests.conftest import Runner, step, upload
from tests.servers.openssh import OpenSSHServer


def test_a_new_file_arrives_with_bytes_mode_and_time(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    source = runner.folder / "report.csv"
    source.write_bytes(os.urandom(1_000_000))
    source.chmod(0o640)
    os.utime(source, (1_600_000_000, 1_500_000_000))

    outcome = runner.play([step(sshd, upload("report.csv", remote / "inbox/2024/report.csv"))])

    target = remote / "inbox/2024/report.csv"
    assert outcome.exit_code == 0, outcome.output
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o7777 == 0o640
    assert target.stat().st_mtime == 1_500_000_000
    assert os.listdir(target.parent) == ["report.csv"]
    assert outcome.statuses == ["changed"]
    assert outcome.step["result"]["verified"] == "size"
    assert outcome.step["result"]["bytes_transferred"] == 1_000_000


def test_the_second_play_is_ok_and_writes_nothing(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "a").write_text("x")
    playbook = [step(sshd, upload("a", remote / "a"))]
    runner.play(playbook)
    inode = (remote / "a").stat().st_ino

    outcome = runner.play(playbook)

    assert outcome.statuses == ["ok"]
    assert outcome.step["result"]["bytes_transferred"] == 0
    assert (remote / "a").stat().st_ino == inode
