"""Working out the checksum of a large local file takes minutes: a signal and a `timeout` are obeyed all the same, and soon.

The files have holes, so that they are hashed for long and take no room.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.transfer import local_files, proof, resume
from runner.transfer.checksums import hash_local
from runner.transfer.local_files import HASHED_AT_ONCE_BYTES, hash_file
from tests.cli.processes import RUNNER, started, write_playbook
from tests.conftest import Runner, download, snapshot, step, upload
from tests.servers.openssh import OpenSSHServer

GIB = 1024**3
# The fastest processor needs many seconds for it.
ENDLESS_BYTES = 64 * GIB
TIMEOUT_SECONDS = 1
# What a busy machine adds; the whole file would take a minute.
LATE_SECONDS = 5

Ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


def make_holes(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def make_sides(runner: Runner, remote: Path, count: int, size: int) -> None:
    """The same files on both sides, of other times: only a checksum tells that they are right."""
    local = runner.folder / "local"
    local.mkdir()
    for number in range(count):
        for folder in (local, remote):
            os.utime(make_holes(folder / f"a{number}", size), (1_000_000, 1_000_000 if folder == local else 2_000_000))


def single(remote: Path, is_upload: bool) -> dict[str, Any]:
    here, there = "local/a0", remote / "a0"
    return upload(here, there, compare="checksum") if is_upload else download(there, here, compare="checksum")


def tree(remote: Path, is_upload: bool) -> dict[str, Any]:
    name = "copy_directory_from_engine" if is_upload else "copy_directory_to_engine"
    source, target = ("local", str(remote)) if is_upload else (str(remote), "local")
    sides = {"source_directory_name": source, "destination_directory_name": target}
    return {"mode_name": name, **sides, "compare": "checksum"}


@Ways
@pytest.mark.parametrize(
    ("make_mode", "count", "size"),
    # A tree's large files are compared one by one; hundreds of small ones at once, by a thread of their own.
    [(single, 1, ENDLESS_BYTES), (tree, 1, ENDLESS_BYTES), (tree, 500, 8_000_000)],
    ids=["file", "large_file_of_a_tree", "small_files_of_a_tree"],
)
def test_a_timeout_is_obeyed(
    runner: Runner,
    sshd: OpenSSHServer,
    remote: Path,
    is_upload: bool,
    make_mode: Callable[[Path, bool], dict[str, Any]],
    count: int,
    size: int,
) -> None:
    make_sides(runner, remote, count, size)
    # The login has its time; it is the hashing that is to be cut short.
    warm_up = step(sshd, {"mode_name": "stats", "path": "."})
    started_at = time.monotonic()

    outcome = runner.play([warm_up, step(sshd, make_mode(remote, is_upload), timeout=TIMEOUT_SECONDS)])

    last = outcome.report["steps"][1]
    assert last["error"]["type"] == "StepTimedOut", outcome.output
    assert outcome.exit_code == 4
    assert TIMEOUT_SECONDS <= last["duration_seconds"] < TIMEOUT_SECONDS + LATE_SECONDS
    assert time.monotonic() - started_at < 4 * LATE_SECONDS
    assert sorted(os.listdir(remote)) == sorted(f"a{number}" for number in range(count))


@Ways
def test_a_signal_is_obeyed(runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool) -> None:
    make_sides(runner, remote, 1, ENDLESS_BYTES)
    report = runner.folder / "report.json"
    playbook = write_playbook(runner.folder, [step(sshd, single(remote, is_upload))])
    with started(*RUNNER, "play", "-v", playbook, "--json", report) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("connected"):
            assert process.poll() is None
        # It opens a session and looks at the file; all the rest is hashing.
        time.sleep(1)
        signalled_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    assert time.monotonic() - signalled_at < LATE_SECONDS
    assert process.returncode == 143
    assert json.loads(report.read_text())["status"] == "interrupted"
    assert os.listdir(remote) == ["a0"]


class Enough(Exception):
    """What the check of a test raises."""


class Check:
    """Raises when it is called for the third time."""

    def __init__(self) -> None:
        self.call_count = 0

    def __call__(self) -> None:
        self.call_count += 1
        if self.call_count == 3:
            raise Enough


class FakeRemote:
    """All that `find_local_prefix` asks of a server."""

    can_hash = True

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        holes = hashlib.sha256(bytes(sizes[0])).hexdigest()
        for _ in sizes:
            yield holes


@pytest.mark.parametrize("hash_it", ["file", "path", "partial"])
def test_every_loop_over_a_file_s_bytes_asks(tmp_path: Path, hash_it: str) -> None:
    path = make_holes(tmp_path / "a", ENDLESS_BYTES)
    check = Check()
    fd = os.open(path, os.O_RDWR)
    target: Any = type("Target", (), {"fd": fd})
    copy: Any = type("Copy", (), {"source": "a", "destination": "a"})
    remote: Any = FakeRemote()
    work: dict[str, Callable[[], object]] = {
        "file": lambda: hash_file(fd, check),
        "path": lambda: hash_local(str(path), check, follows_links=False),
        "partial": lambda: resume.find_local_prefix(target, copy, remote, "a server", check),
    }
    try:
        with pytest.raises(Enough):
            work[hash_it]()
    finally:
        os.close(fd)

    assert check.call_count == 3
    # What is there stays there.
    assert path.stat().st_size == ENDLESS_BYTES


def test_nobody_can_forget_to_ask() -> None:
    for function in (hash_file, hash_local, resume.find_local_prefix, resume.RemoteClaims, proof.prove_prefix):
        parameter = inspect.signature(function).parameters["check"]
        assert parameter.default is inspect.Parameter.empty
    source = inspect.getsource(local_files)
    assert source.count("hashlib.sha256()") == 1


def test_the_hash_is_that_of_all_bytes(tmp_path: Path) -> None:
    content = os.urandom(2 * HASHED_AT_ONCE_BYTES + 17)
    path = tmp_path / "a"
    path.write_bytes(content)

    with path.open("rb") as file:
        assert hash_file(file.fileno(), lambda: None) == hashlib.sha256(content).hexdigest()
    assert snapshot(tmp_path) == {"a": content}
