"""An interrupted copy of a large file goes on from what has arrived, if that is proven to be the source's beginning."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.remote_files import Written
from runner.transfer import proof, resume
from runner.transfer.batch import Upload as Sent
from tests.conftest import Outcome, Runner, download, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import Cut, Event, FaultProxy, Trigger

SIZE = 12_000_000
MIDDLE = 9_000_000
CONTENT = random.Random("resume").randbytes(SIZE)

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as large, and as under way at once, in sizes that suit a test."""
    monkeypatch.setattr(resume, "RESUME_FROM_BYTES", 1_000_000)
    monkeypatch.setattr(proof, "MARGIN_BYTES", 2_000_000)
    monkeypatch.setattr(proof, "PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(proof, "FINE_PIECE_BYTES", 1 << 18)
    monkeypatch.setattr(resume, "QUIET_SECONDS", 0.3)


class Copy:
    """One file, to be copied over an older one, through a line of which the first connection may be bad."""

    def __init__(self, runner: Runner, remote: Path, server: Endpoint, is_upload: bool, *faults: Event) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        local = runner.folder / "local"
        local.mkdir()
        folders = (local, remote) if is_upload else (remote, local)
        self.source, self.folder = folders[0] / "source", folders[1]
        self.destination = self.folder / "a"
        self.source.write_bytes(CONTENT)
        self.destination.write_bytes(b"older")
        self.proxy = FaultProxy(server.host, server.port, *faults, faulty_connections=1)

    def __enter__(self) -> Copy:
        self.proxy.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.proxy.__exit__(*error)

    def step(self, retries: int = 0, **options: Any) -> dict[str, Any]:
        mode = (upload if self.is_upload else download)(self.source, self.destination, **options)
        place = {"host": self.proxy.host, "port": self.proxy.port}
        return {**step(self.server, mode), **place, "retries": retries, "delay": 0.01, "stall_timeout": 5}

    def play(self, retries: int = 0, **options: Any) -> Outcome:
        outcome = self.runner.play([self.step(retries, **options)])
        if isinstance(self.server, OpenSSHServer):
            self.server.wait_until_idle()  # or what was cut off would write into what the test does next
        return outcome

    @property
    def payload_bytes(self) -> int:
        """How much has gone the way of the copy."""
        return self.proxy.bytes_up if self.is_upload else self.proxy.bytes_down

    def partials(self) -> list[Path]:
        """What is beside the destination."""
        return sorted(path for path in self.folder.iterdir() if path != self.destination)


Start = Callable[..., Copy]


@pytest.fixture
def start(runner: Runner, remote: Path, sshd: OpenSSHServer) -> Iterator[Start]:
    """Makes the copy of a test, against sshd unless another server is given."""
    copies: list[Copy] = []

    def make(is_upload: bool, *faults: Event, server: Endpoint | None = None) -> Copy:
        copies.append(Copy(runner, remote, server or sshd, is_upload, *faults).__enter__())
        return copies[-1]

    yield make
    for copy in copies:
        copy.__exit__(None, None, None)


def end_play() -> None:
    """Have the play end, in a thread that holds it up until the main thread has seen the signal."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)


def cut(is_upload: bool) -> Cut:
    return Cut("up" if is_upload else "down", MIDDLE)


def assert_whole(copy: Copy, outcome: Outcome) -> int:
    """The copy is there and nothing else; where it went on."""
    assert outcome.exit_code == 0, outcome.output
    assert copy.destination.read_bytes() == copy.source.read_bytes()
    assert copy.partials() == []
    result = outcome.step["result"]
    assert result["bytes_transferred"] == result["size_bytes"] - result["resumed_at_bytes"]
    return int(result["resumed_at_bytes"])


@both_ways
def test_the_next_play_goes_on(start: Start, is_upload: bool) -> None:
    copy = start(is_upload, cut(is_upload))
    broken = copy.play()
    (left,) = copy.partials()

    assert broken.exit_code == 4
    assert "the next attempt goes on from there" in broken.step["error"]["message"]
    assert copy.destination.read_bytes() == b"older"
    assert left.stat().st_mode & 0o777 == 0o600
    assert left.name.startswith(".a.runner-")
    before = copy.payload_bytes

    resumed_at = assert_whole(copy, copy.play())

    assert 1_000_000 < resumed_at < MIDDLE
    assert copy.payload_bytes - before < SIZE - resumed_at + 200_000


@both_ways
@pytest.mark.parametrize("verify", ["auto", "checksum"])
def test_a_retry_goes_on(start: Start, is_upload: bool, verify: str) -> None:
    copy = start(is_upload, cut(is_upload))

    outcome = copy.play(retries=1, verify=verify)

    assert assert_whole(copy, outcome) > 1_000_000
    assert outcome.step["attempts"] == 2
    assert "resumed at byte" in outcome.stdout
    if verify == "checksum":
        assert outcome.step["result"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert outcome.step["result"]["verified"] == "sha256"


@both_ways
def test_without_a_shell_an_upload_is_proven_by_reading_back(
    start: Start, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    """A download would have to read again what it proves: it starts afresh."""
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        copy = start(is_upload, cut(is_upload), server=server)
        copy.play()
        assert len(copy.partials()) == 1
        resumed_at = assert_whole(copy, copy.play())

    assert (resumed_at > 1_000_000) == is_upload


@both_ways
def test_a_signal_keeps_what_has_arrived(start: Start, is_upload: bool) -> None:
    way: Any = "up" if is_upload else "down"
    copy = start(is_upload, Trigger(way, MIDDLE, end_play))
    interrupted = copy.play()

    assert interrupted.exit_code == 143, interrupted.output
    assert len(copy.partials()) == 1
    assert assert_whole(copy, copy.play()) > 500_000


def test_a_signal_before_the_rename_keeps_a_private_file(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload has its final mode already when the play is to end."""
    copy = start(True)
    copy.source.chmod(0o644)
    prove = Sent.prove

    def prove_and_end(upload: Sent, written: Written) -> None:
        prove(upload, written)
        end_play()

    with monkeypatch.context() as patch:
        patch.setattr(Sent, "prove", prove_and_end)
        interrupted = copy.play()
    (left,) = copy.partials()

    assert interrupted.exit_code == 143, interrupted.output
    assert copy.destination.read_bytes() == b"older"
    assert left.stat().st_mode & 0o777 == 0o600
    assert assert_whole(copy, copy.play()) == SIZE


def test_a_partial_of_the_final_mode_is_not_left_behind(start: Start) -> None:
    """What a line that breaks between the last two requests leaves: others may have opened it."""
    copy = start(True, cut(True))
    copy.play()
    (left,) = copy.partials()
    left.chmod(0o644)

    assert assert_whole(copy, copy.play()) == 0


@both_ways
def test_a_kill_keeps_what_has_arrived(start: Start, runner: Runner, is_upload: bool) -> None:
    started: list[subprocess.Popen[bytes]] = []
    way: Any = "up" if is_upload else "down"
    copy = start(is_upload, Trigger(way, MIDDLE, lambda: started[0].kill()))
    program = (
        "from runner.transfer import proof, resume; resume.RESUME_FROM_BYTES = 1_000_000; "
        "from runner.cli.main import main; main()"
    )
    playbook = runner.folder / "killed.yaml"
    playbook.write_text(json.dumps([copy.step()]))
    started.append(subprocess.Popen([sys.executable, "-c", program, "play", str(playbook)], stdout=subprocess.DEVNULL))
    assert started[0].wait(20) == -signal.SIGKILL
    assert len(copy.partials()) == 1
    assert copy.destination.read_bytes() == b"older"

    assert assert_whole(copy, copy.play()) > 500_000


@both_ways
def test_a_source_that_has_changed_is_copied_afresh_and_its_partial_goes(start: Start, is_upload: bool) -> None:
    copy = start(is_upload, cut(is_upload))
    copy.play()
    copy.source.write_bytes(CONTENT[::-1])
    os.utime(copy.source, (1, 1))

    assert assert_whole(copy, copy.play()) == 0


@both_ways
def test_a_partial_that_was_tampered_with_is_not_used(start: Start, is_upload: bool) -> None:
    copy = start(is_upload, cut(is_upload))
    copy.play()
    (left,) = copy.partials()
    content = bytearray(left.read_bytes())
    content[100] ^= 1
    left.write_bytes(content)

    assert assert_whole(copy, copy.play()) == 0


@both_ways
def test_a_gap_near_the_end_costs_no_more_than_what_follows_it(start: Start, is_upload: bool) -> None:
    """What is under way at once is written in any order."""
    copy = start(is_upload, cut(is_upload))
    copy.play()
    (left,) = copy.partials()
    content = CONTENT[:5_000_000] + b"\0" * 500_000 + b"x"
    left.write_bytes(content)

    resumed_at = assert_whole(copy, copy.play())

    assert 5_000_000 - proof.FINE_PIECE_BYTES < resumed_at <= 5_000_000


@both_ways
def test_a_partial_that_is_complete_needs_no_byte_more(start: Start, is_upload: bool) -> None:
    copy = start(is_upload, cut(is_upload))
    copy.play()
    (left,) = copy.partials()
    left.write_bytes(CONTENT)

    assert assert_whole(copy, copy.play()) == SIZE


@both_ways
def test_resume_false_leaves_nothing_to_go_on_with(start: Start, is_upload: bool) -> None:
    way: Any = "up" if is_upload else "down"
    copy = start(is_upload, Trigger(way, MIDDLE, end_play))

    assert copy.play(resume=False).exit_code == 143
    assert copy.partials() == []
    assert assert_whole(copy, copy.play()) == 0


@both_ways
def test_what_others_have_left_stays(start: Start, is_upload: bool) -> None:
    """Another machine's partial of the same file, and a file that only looks like one."""
    copy = start(is_upload)
    others = [copy.folder / name for name in (".a.runner-00000000-1.part", ".b.runner-1.part", "a.part", ".a.part")]
    for path in others:
        path.write_bytes(b"not yours")

    outcome = copy.play()

    assert outcome.exit_code == 0, outcome.output
    assert copy.destination.read_bytes() == CONTENT
    assert copy.partials() == sorted(others)


@both_ways
@pytest.mark.parametrize("plant", ["link", "folder", "readable"])
def test_what_is_planted_under_the_partials_name_is_not_written_to(start: Start, is_upload: bool, plant: str) -> None:
    copy = start(is_upload, cut(is_upload))
    copy.play()
    (left,) = copy.partials()
    left.unlink()
    victim = copy.folder.parent / "victim"
    victim.write_bytes(CONTENT[:2_000_000])
    match plant:
        case "link":
            left.symlink_to(victim)
        case "folder":
            left.mkdir()
        case "readable":
            os.link(victim, left)
            left.chmod(0o666)

    outcome = copy.play()

    assert victim.read_bytes() == CONTENT[:2_000_000]
    if outcome.exit_code == 0:
        assert copy.destination.read_bytes() == CONTENT
        assert not copy.destination.is_symlink()
    else:
        assert copy.destination.read_bytes() == b"older"
        assert plant == "folder"


def test_a_partial_that_another_play_writes_to_is_left_alone(start: Start) -> None:
    copy = start(False, cut(False))
    copy.play()
    (left,) = copy.partials()
    with left.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        outcome = copy.play()

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["resumed_at_bytes"] == 0
    assert copy.destination.read_bytes() == CONTENT
    assert copy.partials() == [left]


@both_ways
def test_other_failures_keep_nothing(runner: Runner, tmp_path: Path, remote: Path, is_upload: bool) -> None:
    factory: Any = (
        partial(misbehaving.FailingWrite, number=10) if is_upload else partial(misbehaving.EarlyEnd, length=MIDDLE)
    )
    with (
        AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server,
        Copy(runner, remote, server, is_upload) as copy,
    ):
        outcome = copy.play()

        assert outcome.exit_code in (2, 6)
        assert copy.partials() == []


def test_a_listing_without_an_end_does_not_hold_up_a_copy(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with (
        AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=misbehaving.EndlessListing) as server,
        Copy(runner, remote, server, is_upload=True) as copy,
    ):
        started = time.monotonic()
        outcome = copy.play()

        assert assert_whole(copy, outcome) == 0
        assert time.monotonic() - started < 20 + BUSY_SECONDS
