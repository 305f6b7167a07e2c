"""Uploads over SFTP against a real sshd: what arrives, under which name, with which attributes, how often."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, snapshot, step, upload
from tests.servers.openssh import OpenSSHServer


def make_source(runner: Runner, content: bytes = b"new", mode: int = 0o644) -> Path:
    source = runner.folder / "report.csv"
    source.write_bytes(content)
    source.chmod(mode)
    os.utime(source, (1_600_000_000, 1_500_000_000))
    return source


def test_a_new_file_arrives_with_bytes_mode_and_time(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    source = make_source(runner, os.urandom(1_000_000), 0o640)

    outcome = runner.play([step(sshd, upload("report.csv", remote / "inbox/2024/report.csv"))])

    target = remote / "inbox/2024/report.csv"
    assert outcome.exit_code == 0, outcome.output
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o7777 == 0o640
    assert target.stat().st_mtime == 1_500_000_000
    assert os.listdir(target.parent) == ["report.csv"]
    assert outcome.statuses == ["changed"]
    assert outcome.step["message"] == "created"
    assert outcome.step["result"]["verified"] == "size"
    assert outcome.step["result"]["atomic"] is True
    assert outcome.step["result"]["bytes_transferred"] == 1_000_000


def test_the_second_play_is_ok_and_writes_nothing(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner)
    playbook = [step(sshd, upload("report.csv", remote / "a"))]
    runner.play(playbook)
    before = (remote / "a").stat()

    outcome = runner.play(playbook)

    after = (remote / "a").stat()
    assert outcome.statuses == ["ok"]
    assert outcome.step["result"]["bytes_transferred"] == 0
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("size", [0, 1, 255 * 1024, 255 * 1024 + 1, 5_000_000])
def test_every_size_arrives_whole(runner: Runner, sshd: OpenSSHServer, remote: Path, size: int) -> None:
    source = make_source(runner, os.urandom(size))

    outcome = runner.play([step(sshd, upload("report.csv", remote / "a"))])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == source.read_bytes()


def test_a_replaced_file_is_another_inode(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    """Whoever has the old file open goes on reading the old bytes: it was replaced, not written over."""
    make_source(runner)
    (remote / "a").write_text("old")
    with (remote / "a").open() as reader:
        outcome = runner.play([step(sshd, upload("report.csv", remote / "a"))])
        assert reader.read() == "old"

    assert outcome.step["message"] == "replaced"
    assert snapshot(remote) == {"a": b"new"}


@pytest.mark.parametrize(
    ("options", "statuses", "content", "exit_code"),
    [
        ({"if_exists": "replace"}, ["changed"], b"new", 0),
        ({"if_exists": "skip"}, ["skipped"], b"old", 0),
        ({"if_exists": "fail"}, ["failed"], b"old", 2),
        ({"atomic": False}, ["changed"], b"new", 0),
    ],
)
def test_a_destination_that_differs(
    runner: Runner,
    sshd: OpenSSHServer,
    remote: Path,
    options: dict[str, Any],
    statuses: list[str],
    content: bytes,
    exit_code: int,
) -> None:
    make_source(runner)
    (remote / "a").write_text("old")

    outcome = runner.play([step(sshd, upload("report.csv", remote / "a", **options))])

    assert (outcome.statuses, outcome.exit_code) == (statuses, exit_code), outcome.output
    assert snapshot(remote) == {"a": content}


def test_explicit_permissions_win_over_the_source(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner, mode=0o644)

    runner.play([step(sshd, upload("report.csv", remote / "a", permissions="0600"))])

    assert (remote / "a").stat().st_mode & 0o7777 == 0o600


def test_changed_permissions_alone_move_no_bytes(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    source = make_source(runner, mode=0o644)
    playbook = [step(sshd, upload("report.csv", remote / "a"))]
    runner.play(playbook)
    source.chmod(0o600)

    first, second = runner.play(playbook), runner.play(playbook)

    assert (first.statuses, second.statuses) == (["changed"], ["ok"])
    assert first.step["result"]["bytes_transferred"] == 0
    assert first.step["message"] == "permissions set to 0600"
    assert (remote / "a").stat().st_mode & 0o7777 == 0o600


def test_special_mode_bits_are_never_copied(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner, mode=0o6755)

    runner.play([step(sshd, upload("report.csv", remote / "a"))])

    assert (remote / "a").stat().st_mode & 0o7777 == 0o755


def test_preserving_nothing_keeps_what_the_old_file_had(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner, mode=0o600)
    (remote / "a").write_text("old")
    (remote / "a").chmod(0o640)

    runner.play([step(sshd, upload("report.csv", remote / "a", preserve=[]))])

    assert (remote / "a").stat().st_mode & 0o7777 == 0o640
    assert (remote / "a").stat().st_mtime > 1_600_000_000


def test_compare_always_copies_again(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner)
    playbook = [step(sshd, upload("report.csv", remote / "a", compare="always"))]
    runner.play(playbook)

    assert runner.play(playbook).statuses == ["changed"]


def test_check_compares_and_changes_nothing(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    source = make_source(runner)
    (remote / "differs").write_text("old")
    playbook = [step(sshd, upload("report.csv", remote / name)) for name in ("deep/missing", "differs")]
    before = snapshot(remote)

    outcome = runner.play(playbook, "--check")

    assert outcome.statuses == ["changed", "changed"]
    assert [one["message"] for one in outcome.report["steps"]] == ["would be created", "would be replaced"]
    assert outcome.report["check"] is True
    assert snapshot(remote) == before
    assert source.exists()


def test_a_missing_folder_is_made_only_where_asked(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    make_source(runner)

    outcome = runner.play([step(sshd, upload("report.csv", remote / "no/such/a", create_parents=False))])

    assert outcome.exit_code == 2
    assert "create_parents" in outcome.step["error"]["hint"]
    assert snapshot(remote) == {}


@pytest.mark.parametrize(
    "name",
    [
        "with space",
        "quo'te",
        'dou"ble',
        "new\nline",
        "-dash",
        "ümlaut",
        "back\\slash",
        "$HOME",
        "{braces}",
        "~tilde",
        "*",
    ],
)
def test_names_are_taken_literally(runner: Runner, sshd: OpenSSHServer, remote: Path, name: str) -> None:
    (runner.folder / name).write_text("x")

    outcome = runner.play([step(sshd, upload(name, remote / name))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {name: b"x"}


def test_names_that_are_not_utf8_survive(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    name = b"latin-\xe9.txt".decode("utf-8", "surrogateescape")
    (runner.folder / name).write_text("x")

    outcome = runner.play([step(sshd, upload(name, f"{remote}/{name}"))])

    assert outcome.exit_code == 0, outcome.output
    assert os.listdir(os.fsencode(remote)) == [b"latin-\xe9.txt"]
    assert "\\udce9" in outcome.stdout


def test_a_name_as_long_as_names_get(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    name = "ä" * 127 + "x"
    (runner.folder / name).write_text("x")

    outcome = runner.play([step(sshd, upload(name, remote / name))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {name: b"x"}


def test_tilde_is_the_local_home(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (Path.home() / "mine").write_text("x")

    outcome = runner.play([step(sshd, upload("~/mine", remote / "a"))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": b"x"}
