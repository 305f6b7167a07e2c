"""How often a copy of a small file waits for the server: on a long line that is all it costs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from runner.server_traits import SAMPLE_SIZE
from tests.conftest import Runner, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.raw_sftp import Execute, Kind, RawSftpServer, Request, Script

POSIX_RENAME = b"posix-rename@openssh.com"
TOGETHER = (Kind.WRITE, Kind.FSETSTAT, Kind.FSTAT, Kind.CLOSE)


@pytest.fixture(autouse=True)
def _as_openssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that is known to carry out in order what it is sent."""
    monkeypatch.setattr(AsyncsshServer, "software", "OpenSSH_9.2p1")


class AllOrNothing(Script):
    """Answers nothing about a file before everything that is to be done with it has been asked.

    Nor what is looked at, before it has been.
    """

    asked: list[int]

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.asked.append(request.kind)
        self.kept.append(execute())
        is_looked_at = request.kind == Kind.MKDIR or (request.kind == Kind.EXTENDED and request.name == POSIX_RENAME)
        if is_looked_at or (request.kind in TOGETHER and request.kind != Kind.CLOSE):
            return []
        packets, self.kept = self.kept, []
        return packets


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_a_small_file_is_written_in_four_round_trips(runner: Runner, tmp_path: Path, remote: Path, size: int) -> None:
    """Look, open, write and close, rename. The folder that it goes into is not looked at.

    Whether the rename has happened is looked at in the same flight.
    """
    (runner.folder / "file").write_bytes(b"x" * size)
    AllOrNothing.asked = []
    with RawSftpServer(tmp_path / "server", root=remote, make_script=AllOrNothing) as server:
        outcome = runner.play([step(server, upload("file", remote / "file"), stall_timeout=2)])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_bytes() == b"x" * size
    limits, look, opening, *writing, renaming, look_behind = AllOrNothing.asked
    assert (limits, look, opening) == (Kind.EXTENDED, Kind.STAT, Kind.OPEN)
    assert (renaming, look_behind) == (Kind.EXTENDED, Kind.LSTAT)
    assert tuple(writing) == (TOGETHER if size else TOGETHER[1:])


def test_a_folder_that_is_missing_is_made_when_the_file_cannot_be_opened(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    AllOrNothing.asked = []
    with RawSftpServer(tmp_path / "server", root=remote, make_script=AllOrNothing) as server:
        outcome = runner.play([step(server, upload("file", remote / "new/deep/file"), stall_timeout=2)])
        again = runner.play([step(server, upload("file", remote / "new/deep/other"), stall_timeout=2)])

    assert (outcome.exit_code, again.exit_code) == (0, 0), outcome.output
    assert [path.name for path in sorted((remote / "new/deep").iterdir())] == ["file", "other"]
    assert AllOrNothing.asked.count(Kind.MKDIR) >= 2
    assert AllOrNothing.asked.count(Kind.OPEN) == 3


class Counting(Script):
    """Does what it is asked to, and counts."""

    asked: list[int]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        self.asked.append(request.kind)
        return [execute()]


def test_of_many_small_files_only_the_first_renames_are_looked_at(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """A banner is a claim, and a look at every file would be a request more for each."""
    (runner.folder / "tree").mkdir()
    for number in range(3 * SAMPLE_SIZE):
        (runner.folder / f"tree/{number}").write_text("content")
    Counting.asked = []
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "tree",
        "destination_directory_name": str(remote / "tree"),
    }
    with RawSftpServer(tmp_path / "server", root=remote, make_script=Counting) as server:
        outcome = runner.play([step(server, mode)])

    assert outcome.exit_code == 0, outcome.output
    assert len(list((remote / "tree").iterdir())) == 3 * SAMPLE_SIZE
    # And one behind the directory that is made.
    assert Counting.asked.count(Kind.LSTAT) == SAMPLE_SIZE + 1
