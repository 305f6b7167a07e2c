"""What interrupted plays leave: the next job of the pipeline goes on with it; old things go, living ones never."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runner.transfer import proof, resume, temporary
from tests.conftest import Outcome, Runner, download, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import Cut, FaultProxy
from tests.transfer.test_tree import RefusedRemove

SIZE = 6_000_000
MIDDLE = 4_000_000
CONTENT = random.Random("leftovers").randbytes(SIZE)
DAY = 86_400
# A process that there never is: above Linux's limit.
NO_PID = 0x7FFFFFF

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "RESUME_FROM_BYTES", 1_000_000)
    monkeypatch.setattr(proof, "MARGIN_BYTES", 2_000_000)
    monkeypatch.setattr(proof, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(proof, "FINE_PIECE_BYTES", 1 << 18)
    monkeypatch.setattr(resume, "QUIET_SECONDS", 0.5)


class Pipeline:
    """Jobs of one pipeline: each in a container of its own, with a fresh checkout."""

    def __init__(self, runner: Runner, remote: Path, server: Endpoint, is_upload: bool) -> None:
        self.runner, self.remote, self.server, self.is_upload = runner, remote, server, is_upload
        self.local = runner.folder / "local"
        self.local.mkdir()
        self.folder = remote if is_upload else self.local
        self.destination = self.folder / "a"
        self.job = 0
        self.checkout = self.local if is_upload else remote

    @contextmanager
    def new_job(self, monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT) -> Iterator[None]:
        self.job += 1
        number = self.job
        source = self.checkout / "source"
        if self.is_upload:
            # Another inode, and another time.
            source.unlink(missing_ok=True)
            self.checkout = self.local / f"job {number}"
            self.checkout.mkdir()
            source = self.checkout / "source"
        if not source.exists():
            source.write_bytes(content)
            os.utime(source, (1_600_000_000 + number, 1_600_000_000 + number))
        with monkeypatch.context() as patch:
            patch.setattr("socket.gethostname", lambda: f"container-{number}")
            patch.setattr(temporary, "this_machine", lambda: f"{number:08x}")
            patch.delenv("GITHUB_REPOSITORY", raising=False)
            patch.setenv("CI_PROJECT_PATH", "acme/shop")
            patch.setenv("CI_JOB_NAME", "upload")
            yield

    def play(self, port: int | None = None, playbook: dict[str, Any] | None = None, **options: Any) -> Outcome:
        mode = (upload if self.is_upload else download)(self.checkout / "source", self.destination, **options)
        one = {**step(self.server, mode), **({"port": port} if port else {})}
        return self.runner.play({**(playbook or {}), "steps": [one]})

    def break_off(self, **playbook: Any) -> Path:
        fault, before = Cut("up" if self.is_upload else "down", MIDDLE), self.beside()
        # Where the processor is busy, all of it may still be on its way when the line is reset, and is lost with it.
        for _ in range(20):
            with FaultProxy(self.server.host, self.server.port, fault) as proxy:
                assert self.play(port=proxy.port, playbook=playbook).exit_code == 4
            if self.beside() != before:
                break
        (left,) = self.beside()
        left.write_bytes(CONTENT[:MIDDLE])
        return left

    def beside(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file() and path != self.destination)

    def leave(self, tail: str, *, days: float, owner: str = "gitlab\0acme/shop\0upload") -> Path:
        """A file as an earlier play leaves it."""
        path = self.folder / f".old.bin.runner-{temporary.owner_tag(owner)}{tail}"
        path.write_bytes(b"half")
        path.chmod(0o600)
        moment = time.time() - days * DAY
        os.utime(path, (moment, moment))
        return path

    def assert_whole(self, outcome: Outcome) -> int:
        assert outcome.exit_code == 0, outcome.output
        assert self.destination.read_bytes() == (self.checkout / "source").read_bytes()
        return int(outcome.step["result"]["resumed_at_bytes"])


@pytest.fixture(params=[True, False], ids=["up", "down"])
def pipeline(runner: Runner, remote: Path, sshd: OpenSSHServer, request: pytest.FixtureRequest) -> Pipeline:
    return Pipeline(runner, remote, sshd, request.param)


def token(days_ago: float) -> str:
    """A name's token, made so many days ago."""
    return f"{int(time.time() - days_ago * DAY):08x}01234567"


def test_the_next_job_of_a_pipeline_goes_on(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pipeline.new_job(monkeypatch):
        pipeline.break_off()
    with pipeline.new_job(monkeypatch):
        outcome = pipeline.play()

    assert pipeline.assert_whole(outcome) > MIDDLE - (1 << 18)
    assert outcome.step["result"]["verified"] == "sha256"
    assert pipeline.beside() == []


def test_an_owner_that_the_playbook_names(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with pipeline.new_job(monkeypatch):
        pipeline.break_off(owner="nightly {{ 1 + 1 }}")
    monkeypatch.setattr("socket.gethostname", lambda: "a desk")

    assert pipeline.assert_whole(pipeline.play(playbook={"owner": "hourly"})) == 0
    assert len(pipeline.beside()) == 1
    pipeline.destination.unlink()
    assert pipeline.assert_whole(pipeline.play(playbook={"owner": "nightly 2"})) > MIDDLE - (1 << 18)


def test_another_content_that_looks_the_same_is_found_out(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All samples agree, the names are the same, one byte is another."""
    monkeypatch.setattr(resume, "SAMPLE_COUNT", 2)
    pipeline = Pipeline(runner, remote, sshd, is_upload=True)
    other = bytearray(CONTENT)
    other[2_500_000] ^= 1
    with pipeline.new_job(monkeypatch):
        pipeline.break_off()
    with pipeline.new_job(monkeypatch, bytes(other)):
        resumed_at = pipeline.assert_whole(pipeline.play())

    assert 2_000_000 < resumed_at <= 2_500_000


def test_a_file_that_another_job_writes_to_is_left_to_it(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is on another machine: that it grows is all that shows."""
    with pipeline.new_job(monkeypatch):
        left = pipeline.break_off()
    is_over = threading.Event()

    def write_on() -> None:
        with left.open("r+b") as file:
            if not pipeline.is_upload:
                fcntl.flock(file, fcntl.LOCK_EX)
            at = 1_000_000
            while not is_over.wait(0.02):
                # Coarse clocks: the size says so as well.
                file.truncate(MIDDLE + (at := at + 1))

    writing = threading.Thread(target=write_on)
    writing.start()
    time.sleep(0.1)
    try:
        with pipeline.new_job(monkeypatch):
            outcome = pipeline.play()
    finally:
        is_over.set()
        writing.join()

    assert pipeline.assert_whole(outcome) == 0
    assert pipeline.beside() == [left]


def test_what_is_older_than_a_week_is_cleared_away(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    tails = [f".00000009.{NO_PID:x}.{token(9)}.tmp", f".00000009.{NO_PID:x}.{token(9)}-a3.tmp"]
    tails += ["-0123456789abcdef.part", f"-0123456789abcdef.00000009.{NO_PID:x}.part"]
    old = [pipeline.leave(tail, days=8) for tail in tails]
    with pipeline.new_job(monkeypatch):
        outcome = pipeline.play()

    assert pipeline.assert_whole(outcome) == 0
    assert pipeline.beside() == [], old
    assert "4 old temporary files of earlier plays cleared away" in outcome.stdout


def test_what_may_be_alive_or_is_anothers_stays(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another container has the same process numbers: that ours says it is gone proves nothing."""
    kept = [
        pipeline.leave(f".00000009.{NO_PID:x}.{token(0)}.tmp", days=0),
        pipeline.leave(f".00000009.{os.getpid():x}.{token(1)}.tmp", days=6),
        pipeline.leave("-0123456789abcdef.part", days=6),
        # Its time is the source's already, and it is about to be published.
        pipeline.leave(f".00000009.{NO_PID:x}.{token(0)}-1.tmp", days=3000),
        pipeline.leave(f".00000001.{os.getpid():x}.{token(9)}.tmp", days=9),
        pipeline.leave(f".00000009.{NO_PID:x}.{token(9)}-2.tmp", days=9, owner="somebody else"),
        # The only copy of an old destination that is not there any more.
        pipeline.leave(f".00000009.{NO_PID:x}.{token(9)}-3.tmp.01234567.old", days=9),
    ]
    with pipeline.new_job(monkeypatch):
        outcome = pipeline.play()

    assert pipeline.assert_whole(outcome) == 0
    assert pipeline.beside() == sorted(kept)


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = pipeline.leave(f".00000001.{ended.pid:x}.{token(0)}.tmp", days=0)
    alive = pipeline.leave(f".00000001.{os.getppid():x}.{token(9)}.tmp", days=9)
    with pipeline.new_job(monkeypatch):
        outcome = pipeline.play()

    assert pipeline.assert_whole(outcome) == 0
    assert pipeline.beside() == [alive], gone


def test_it_is_the_servers_clock_that_counts(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is two weeks ahead: what the server dates yesterday is no week old."""
    pipeline = Pipeline(runner, remote, sshd, is_upload=True)
    left = pipeline.leave("-0123456789abcdef.part", days=1)
    now = time.time
    monkeypatch.setattr("runner.transfer.leftovers.time.time", lambda: now() + 14 * DAY)
    with pipeline.new_job(monkeypatch):
        assert pipeline.assert_whole(pipeline.play()) == 0
    assert pipeline.beside() == [left]


def test_a_server_that_refuses_to_clear_away_fails_nothing(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=RefusedRemove) as server:
        pipeline = Pipeline(runner, remote, server, is_upload=True)
        left = pipeline.leave("-0123456789abcdef.part", days=9)
        with pipeline.new_job(monkeypatch):
            assert pipeline.assert_whole(pipeline.play()) == 0
        assert left in pipeline.beside()


def test_a_large_folder_is_not_listed_for_it_and_still_resumed(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not every name can be looked at, the partial file has one that needs no looking for."""
    monkeypatch.setattr(resume, "MAX_LISTED_NAMES", 20)
    for number in range(100):
        (remote / f"other {number}").touch()
    pipeline = Pipeline(runner, remote, sshd, is_upload=True)
    beside = pipeline.beside()
    with FaultProxy(sshd.host, sshd.port, Cut("up", MIDDLE)) as proxy, pipeline.new_job(monkeypatch):
        assert pipeline.play(port=proxy.port).exit_code == 4
    (left,) = set(pipeline.beside()) - set(beside)
    left.write_bytes(CONTENT[:MIDDLE])
    with pipeline.new_job(monkeypatch):
        resumed_at = pipeline.assert_whole(pipeline.play())

    assert resumed_at > MIDDLE - (1 << 18)
    assert pipeline.beside() == beside


@both_ways
@pytest.mark.parametrize("delete", [False, True])
def test_temporary_files_in_a_tree(
    runner: Runner, remote: Path, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch, is_upload: bool, delete: bool
) -> None:
    """Not even `delete` takes away what another play may be writing; what is old goes in every folder of the tree."""
    local = runner.folder / "local"
    source, destination = (local, remote) if is_upload else (remote, local)
    for root in (source / "tree" / "sub", destination / "tree" / "sub"):
        root.mkdir(parents=True)
    (source / "tree" / "sub" / "a").write_text("new")
    (destination / "tree" / "extra").write_text("extra")
    pipeline = Pipeline.__new__(Pipeline)
    pipeline.folder = destination / "tree" / "sub"
    mine = "owner:nightly"
    kept = {
        pipeline.leave(f".00000009.{NO_PID:x}.{token(0)}.tmp", days=0, owner=mine),
        pipeline.leave(f".00000009.{NO_PID:x}.{token(0)}-1.tmp", days=3000, owner=mine),
        pipeline.leave(f".00000009.{NO_PID:x}.{token(0)}-2.tmp", days=0, owner="somebody else"),
        pipeline.leave("-0123456789abcdef.part", days=2, owner=mine),
    }
    old = {
        pipeline.leave(f".00000009.{NO_PID:x}.{token(9)}-3.tmp", days=9, owner=mine),
        pipeline.leave("-1123456789abcdef.part", days=9, owner=mine),
    }
    others = pipeline.leave(f".00000009.{NO_PID:x}.{token(9)}-4.tmp", days=9, owner="somebody else")
    mode = {
        "mode_name": "copy_directory_from_engine" if is_upload else "copy_directory_to_engine",
        "source_directory_name": str(source / "tree"),
        "destination_directory_name": str(destination / "tree"),
        "delete": delete,
    }
    outcome = runner.play({"owner": "nightly", "steps": [step(sshd, mode)]})

    assert outcome.exit_code == 0, outcome.output
    assert (pipeline.folder / "a").read_text() == "new"
    expected = kept if delete else {*kept, others}
    assert {path for path in pipeline.folder.iterdir() if path.name != "a"} == expected, old
    assert (destination / "tree" / "extra").exists() != delete
    assert outcome.step["result"]["removed"] == int(delete)
