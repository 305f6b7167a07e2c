"""Downloads over SFTP from a real sshd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import Runner, download, snapshot, step
from tests.servers.openssh import OpenSSHServer


@pytest.fixture
def local(runner: Runner) -> Path:
    """The folder that downloads go to."""
    folder = runner.folder / "local"
    folder.mkdir()
    return folder


def make_source(remote: Path, content: bytes = b"new", mode: int = 0o644) -> Path:
    source = remote / "source"
    source.write_bytes(content)
    source.chmod(mode)
    os.utime(source, (1_600_000_000, 1_500_000_000))
    return source


@pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1, 20_000_000])
def test_a_new_file_arrives_with_bytes_mode_and_time(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path, size: int
) -> None:
    source = make_source(remote, os.urandom(size), 0o640)

    outcome = runner.play([step(sshd, download(source, "local/deep/copy"))])

    copy = local / "deep/copy"
    assert outcome.exit_code == 0, outcome.output
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_mode & 0o7777 == 0o640
    assert copy.stat().st_mtime == 1_500_000_000
    assert os.listdir(copy.parent) == ["copy"]
    assert outcome.step["result"]["verified"] == "size"


def test_the_second_play_is_ok_and_writes_nothing(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path
) -> None:
    playbook = [step(sshd, download(make_source(remote), "local/copy"))]
    runner.play(playbook)
    before = (local / "copy").stat()

    outcome = runner.play(playbook)

    after = (local / "copy").stat()
    assert outcome.statuses == ["ok"]
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_a_replaced_file_is_another_inode(runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path) -> None:
    (local / "copy").write_text("old")
    with (local / "copy").open() as reader:
        outcome = runner.play([step(sshd, download(make_source(remote), "local/copy"))])
        assert reader.read() == "old"

    assert outcome.step["message"] == "replaced"
    assert snapshot(local) == {"copy": b"new"}


def test_a_link_planted_at_the_destination_is_replaced_not_followed(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path
) -> None:
    victim = runner.folder / "victim"
    victim.write_text("precious")
    (local / "copy").symlink_to(victim)

    outcome = runner.play([step(sshd, download(make_source(remote), "local/copy"))])

    assert outcome.exit_code == 0, outcome.output
    assert victim.read_text() == "precious"
    assert not (local / "copy").is_symlink()


def test_a_file_is_private_while_it_is_written(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    real_pwrite = os.pwrite

    def spy(fd: int, data: bytes, offset: int) -> int:
        modes.append(os.fstat(fd).st_mode & 0o7777)
        return real_pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", spy)
    old_umask = os.umask(0)
    try:
        runner.play([step(sshd, download(make_source(remote, b"x" * 1000, 0o644), "local/copy"))])
    finally:
        os.umask(old_umask)

    assert set(modes) == {0o600}
    assert (local / "copy").stat().st_mode & 0o7777 == 0o644


def test_without_preserved_permissions_the_umask_decides(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path
) -> None:
    old_umask = os.umask(0o027)
    try:
        runner.play([step(sshd, download(make_source(remote, mode=0o777), "local/copy", preserve=["times"]))])
    finally:
        os.umask(old_umask)

    assert (local / "copy").stat().st_mode & 0o7777 == 0o640


def test_check_changes_nothing(runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path) -> None:
    outcome = runner.play([step(sshd, download(make_source(remote), "local/copy"))], "--check")

    assert outcome.step["message"] == "would be created"
    assert snapshot(local) == {}


def test_only_permissions_differ(runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path) -> None:
    playbook = [step(sshd, download(make_source(remote), "local/copy"))]
    runner.play(playbook)
    (local / "copy").chmod(0o600)

    outcome = runner.play(playbook)

    assert outcome.step["message"] == "permissions set to 0644"
    assert (local / "copy").stat().st_mode & 0o7777 == 0o644


def test_a_failure_is_told_and_ends_only_its_host(
    runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path
) -> None:
    source = make_source(remote)
    playbook = {
        "connections": {name: step(sshd, download(source, f"local/{name}")) for name in ("one", "two")},
        "steps": [
            {"connection": "one", "mode": download(remote / "missing", "local/missing")},
            {"connection": "one", "name": "never"},
            {"connection": "two"},
        ],
    }

    outcome = runner.play(playbook)

    assert outcome.exit_code == 2
    assert outcome.statuses == ["failed", "skipped", "changed"]
    assert "step 1" in outcome.report["steps"][1]["message"]
    counts = {"ok": 0, "changed": 0, "skipped": 1, "failed": 1, "unreachable": 0, "rescued": 0, "ignored": 0}
    assert outcome.report["recap"]["one"] == counts
    assert snapshot(local) == {"two": b"new"}


def test_odd_times_are_told(runner: Runner, sshd: OpenSSHServer, remote: Path, local: Path) -> None:
    source = make_source(remote)
    os.utime(source, (2**31 + 5, 2**31 + 5))

    outcome = runner.play([step(sshd, download(source, "local/copy"))])

    assert outcome.exit_code == 0
    assert (local / "copy").stat().st_mtime == 2**31 + 5
