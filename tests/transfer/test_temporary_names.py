"""Temporary names and a directory of the step's choice: what the server sees, and that two plays never harm each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.plan import CopyFileFromEngine
from runner.transfer.temporary import NAME_TAKEN, TemporaryNames
from tests.conftest import Outcome, Runner, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.cutting import Cuts
from tests.servers.file_session import Channel, FileServer
from tests.servers.misbehaving import BrokenConnection, FailingWrite, fail_first_sessions
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import Cut, FaultProxy

PART: dict[str, Any] = {"temporary_name": "{name}.filepart"}
STAGED: dict[str, Any] = {"temporary_directory": "staging"}
BOTH: dict[str, Any] = {**PART, **STAGED}
THEIRS = b"what another play is writing"
CONTENT = os.urandom(300_000)
LARGE_BYTES = 9_000_000


class Noting(FileServer):
    """Notes which files are created, and what is renamed to what."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, notes: list[str]) -> None:
        super().__init__(channel, root, chroot)
        self.notes = notes

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_CREAT:
            self.notes.append(os.fsdecode(path))
        return super().open(path, pflags, attrs)

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        self.notes.append(os.fsdecode(newpath))
        super().symlink(oldpath, newpath)


class OnlyParts(FileServer):
    """Allows only names that end in `.filepart` to be created, and exactly that of the file if it is `strict`."""

    def __init__(self, channel: Channel, root: Path, chroot: bool = False, *, strict: bool = False) -> None:
        super().__init__(channel, root, chroot)
        self.strict = strict

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        is_allowed = path.endswith(b".filepart") and not (self.strict and b".runner-" in path)
        if pflags & asyncssh.FXF_CREAT and not is_allowed:
            raise asyncssh.SFTPPermissionDenied("only NAME.filepart")
        return super().open(path, pflags, attrs)


class OtherFileSystem(FileServer):
    """Between directories nothing can be renamed."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if os.path.dirname(oldpath) != os.path.dirname(newpath):
            raise asyncssh.SFTPFailure("Failure")
        super().rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        if os.path.dirname(oldpath) != os.path.dirname(newpath):
            raise asyncssh.SFTPFailure("Failure")
        super().posix_rename(oldpath, newpath)


class HidesParts(FileServer):
    """Says of a temporary file that there is none, as if another play had created it a moment after the question."""

    def lstat(self, path: bytes) -> Any:
        if path.endswith(b".filepart"):
            raise asyncssh.SFTPNoSuchFile("No such file")
        return super().lstat(path)


class CutAtOpen(HidesParts):
    """Breaks off when a temporary file is to be created, before anything is said of it."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_CREAT:
            self.connection.abort()
            raise asyncssh.SFTPFailure("unheard")
        return super().open(path, pflags, attrs)


def prepare(runner: Runner, remote: Path) -> None:
    """A source with two files of one name, and a link; a staging directory, and what is to be replaced."""
    source = runner.folder / "source"
    (source / "below").mkdir(parents=True)
    (source / "a").write_bytes(CONTENT)
    (source / "below/a").write_bytes(CONTENT[1:])
    (source / "link").symlink_to("a")
    (remote / "staging").mkdir()
    (remote / "in").mkdir()
    (remote / "in/a").write_bytes(b"old")


def play_file(
    runner: Runner, server: Any, *arguments: str, inputs: dict[str, Any] | None = None, **options: Any
) -> Outcome:
    return runner.play([step(server, upload("source/a", "in/a", **options), **(inputs or {}))], *arguments)


def play_tree(
    runner: Runner, server: Any, *arguments: str, inputs: dict[str, Any] | None = None, **options: Any
) -> Outcome:
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "source",
        "destination_directory_name": "in",
        **options,
    }
    return runner.play([step(server, mode, **(inputs or {}))], *arguments)


PLAYS: dict[str, Callable[..., Outcome]] = {"file": play_file, "tree": play_tree}
every_play = pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS)


def is_there(remote: Path, play: Callable[..., Outcome]) -> bool:
    """Whether everything has arrived, and nothing else is left."""
    expected = {"in": None, "in/a": CONTENT, "staging": None}
    if play is play_tree:
        expected |= {"in/below": None, "in/below/a": CONTENT[1:], "in/link": CONTENT}
    return snapshot(remote) == expected


@every_play
@pytest.mark.parametrize("options", [PART, STAGED, BOTH, {**STAGED, "temporary_name": "{name}"}], ids=str)
def test_files_are_written_under_the_names_of_the_step_s_choice(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], options: dict[str, str]
) -> None:
    prepare(runner, remote)
    notes: list[str] = []
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=partial(Noting, notes=notes)) as server:
        outcome = play(runner, server, **options)

    assert outcome.exit_code == 0, outcome.output
    assert is_there(remote, play)
    above = "staging/" if "temporary_directory" in options else "in/"
    files = [name for name in notes if ".runner-" not in name]
    if "temporary_name" in options:
        assert f"{above}{options['temporary_name'].replace('{name}', 'a')}" in files
        behind = options["temporary_name"].removeprefix("{name}")
        assert all(name.endswith(behind) and not os.path.basename(name).startswith(".") for name in notes)
    else:
        assert files == []
    if "temporary_directory" in options:
        assert {os.path.dirname(name) for name in notes} == {"staging"}
    assert outcome.step["result"]["atomic"] is True


@every_play
@pytest.mark.parametrize("strict", [False, True])
def test_a_server_that_allows_only_some_names(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], strict: bool
) -> None:
    prepare(runner, remote)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=partial(OnlyParts, strict=strict)) as server:
        refused = play(runner, server)
        assert refused.exit_code == 2
        assert (remote / "in/a").read_bytes() == b"old"
        outcome = play(runner, server, **PART)

    assert outcome.exit_code == 0, outcome.output
    assert is_there(remote, play)
    assert outcome.step["result"]["warnings"] == []


@every_play
@pytest.mark.parametrize("options", [PART, BOTH], ids=["beside", "staged"])
def test_a_file_of_another_play_is_left_alone(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], options: dict[str, str]
) -> None:
    prepare(runner, remote)
    taken = remote / ("staging" if options is BOTH else "in") / "a.filepart"
    taken.write_bytes(THEIRS)
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = play(runner, server, **options)

    assert outcome.exit_code == 0, outcome.output
    assert taken.read_bytes() == THEIRS
    assert outcome.step["result"]["warnings"] == [NAME_TAKEN]
    taken.unlink()
    assert is_there(remote, play)


@every_play
def test_where_no_other_name_is_allowed_the_copy_fails_and_says_what_to_remove(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome]
) -> None:
    prepare(runner, remote)
    (remote / "in/a.filepart").write_bytes(THEIRS)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=partial(OnlyParts, strict=True)) as server:
        outcome = play(runner, server, **PART)

    assert outcome.exit_code == 2
    assert "If 'in/a.filepart' is there" in outcome.step["error"]["hint"]
    assert "remove it if none is at work" in outcome.step["error"]["hint"]
    assert (remote / "in/a").read_bytes() == b"old"
    assert (remote / "in/a.filepart").read_bytes() == THEIRS
    assert not [name for name in os.listdir(remote / "in") if ".runner-" in name]


def test_a_file_that_another_play_creates_at_the_last_moment_is_left_alone(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    prepare(runner, remote)
    (remote / "in/a.filepart").write_bytes(THEIRS)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=HidesParts) as server:
        play_file(runner, server, **PART)

    assert (remote / "in/a.filepart").read_bytes() == THEIRS
    assert (remote / "in/a").read_bytes() in (b"old", CONTENT)


@every_play
@pytest.mark.parametrize("options", [PART, STAGED, BOTH], ids=["name", "directory", "both"])
def test_a_failure_leaves_nothing(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], options: dict[str, str]
) -> None:
    prepare(runner, remote)
    (runner.folder / "source/below/a").unlink()
    (runner.folder / "source/below").rmdir()
    (runner.folder / "source/link").unlink()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=FailingWrite) as server:
        outcome = play(runner, server, **options)

    assert outcome.exit_code == 2
    assert snapshot(remote) == {"in": None, "in/a": b"old", "staging": None}


@every_play
@pytest.mark.parametrize("options", [PART, STAGED, BOTH], ids=["name", "directory", "both"])
def test_another_attempt_gets_through_whatever_the_first_has_left(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], options: dict[str, str]
) -> None:
    prepare(runner, remote)
    factory = fail_first_sessions(1, BrokenConnection)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play(runner, server, inputs={"retries": 1, "delay": 0}, **options)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == 2
    left = {name for name in snapshot(remote) if name.endswith(".filepart")}
    for name in left:
        # It is told, and no more than one for each name.
        assert "temporary_name" in options and ".runner-" not in name
        assert NAME_TAKEN in outcome.step["result"]["warnings"]
        (remote / name).unlink()
    assert is_there(remote, play)


@every_play
@pytest.mark.parametrize("is_taken", [False, True], ids=["free", "taken"])
def test_wherever_the_connection_breaks_only_files_of_our_own_are_removed(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome], is_taken: bool
) -> None:
    prepare(runner, remote)
    (runner.folder / "source/below/a").unlink()
    (runner.folder / "source/below").rmdir()
    (runner.folder / "source/link").unlink()
    taken = remote / "in/a.filepart"
    # Each request that changes something, from the first one that creates a file to the last one that publishes it.
    for number in range(1, 7):
        (remote / "in/a").write_bytes(b"old")
        if is_taken:
            taken.write_bytes(THEIRS)
        cuts = Cuts(number)
        with AsyncsshServer(tmp_path / f"server {number}", root=remote, sftp_factory=cuts.serve()) as server:
            outcome = play(runner, server, inputs={"retries": 2, "delay": 0}, **PART)

        assert outcome.exit_code == 0, f"{number}: {outcome.output}"
        assert (remote / "in/a").read_bytes() == CONTENT, cuts.requests
        if is_taken:
            assert taken.read_bytes() == THEIRS, cuts.requests
        taken.unlink(missing_ok=True)
        assert os.listdir(remote / "in") == ["a"], cuts.requests


@every_play
def test_whose_a_file_is_that_could_not_be_created_is_not_known_to_the_next_attempt(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome]
) -> None:
    prepare(runner, remote)
    (remote / "in/a.filepart").write_bytes(THEIRS)
    factory = fail_first_sessions(1, CutAtOpen)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play(runner, server, inputs={"retries": 1, "delay": 0}, **PART)

    assert outcome.exit_code == 0, outcome.output
    assert (outcome.step["attempts"], outcome.step["result"]["warnings"]) == (2, [NAME_TAKEN])
    assert (remote / "in/a.filepart").read_bytes() == THEIRS
    (remote / "in/a.filepart").unlink()
    assert is_there(remote, play)


@every_play
@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["play", "check"])
@pytest.mark.parametrize("there", ["missing", "a file"])
def test_a_staging_directory_that_is_none_is_told(
    runner: Runner,
    tmp_path: Path,
    remote: Path,
    play: Callable[..., Outcome],
    arguments: tuple[str, ...],
    there: str,
) -> None:
    prepare(runner, remote)
    (remote / "staging").rmdir()
    if there == "a file":
        (remote / "staging").write_bytes(b"")
    before = snapshot(remote)
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = play(runner, server, *arguments, **STAGED)

    assert outcome.exit_code == 2
    what = "does not exist" if there == "missing" else "is not a directory"
    assert f"the 'temporary_directory' 'staging' {what}" in outcome.step["error"]["message"]
    assert "Make it there" in outcome.step["error"]["hint"]
    assert snapshot(remote) == before


def test_a_staging_directory_that_an_earlier_step_makes_is_there_for_check(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    prepare(runner, remote)
    (remote / "staging").rmdir()
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        making = step(server, {"mode_name": "create_directory", "path": "staging"})
        outcomes = [
            runner.play([making, step(server, upload("source/a", "in/a", **STAGED))], *arguments)
            for arguments in (("--check",), ())
        ]

    assert [outcome.exit_code for outcome in outcomes] == [0, 0], outcomes[0].output
    assert is_there(remote, play_file)


@every_play
def test_a_staging_directory_on_another_file_system_is_told_and_loses_nothing(
    runner: Runner, tmp_path: Path, remote: Path, play: Callable[..., Outcome]
) -> None:
    prepare(runner, remote)
    (runner.folder / "source/link").unlink()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=OtherFileSystem) as server:
        outcome = play(runner, server, **STAGED)

    assert outcome.exit_code == 2
    assert "on one file system only: name a 'temporary_directory'" in outcome.step["error"]["hint"]
    assert (remote / "in/a").read_bytes() == b"old"
    assert os.listdir(remote / "staging") == []
    assert {path.name for path in (remote / "in").rglob("*")} <= {"a", "below"}


def test_a_large_file_is_resumed_from_the_staging_directory(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    prepare(runner, remote)
    content = os.urandom(2 * LARGE_BYTES)
    (runner.folder / "source/a").write_bytes(content)
    mode = upload("source/a", remote / "in/a", temporary_directory=str(remote / "staging"))
    with FaultProxy(sshd.host, sshd.port, Cut("up", LARGE_BYTES)) as proxy:
        broken = runner.play([{**step(sshd, mode), "port": proxy.port}])
    sshd.wait_until_idle()
    left = os.listdir(remote / "staging")

    outcome = runner.play([step(sshd, mode)])

    assert broken.exit_code == 4, broken.output
    assert [name.endswith(".part") for name in left] == [True]
    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["resumed_at_bytes"] > 0
    assert (remote / "in/a").read_bytes() == content
    assert os.listdir(remote / "staging") == []


def test_a_large_file_with_a_name_of_its_own_starts_afresh(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    prepare(runner, remote)
    content = os.urandom(2 * LARGE_BYTES)
    (runner.folder / "source/a").write_bytes(content)
    mode = upload("source/a", remote / "in/a", **PART)
    with FaultProxy(sshd.host, sshd.port, Cut("up", LARGE_BYTES)) as proxy:
        broken = runner.play([{**step(sshd, mode), "port": proxy.port}])
    sshd.wait_until_idle()
    left = os.listdir(remote / "in")

    outcome = runner.play([step(sshd, mode)])

    assert broken.exit_code == 4, broken.output
    assert sorted(left) == ["a", "a.filepart"]
    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["resumed_at_bytes"] == 0
    assert outcome.step["result"]["warnings"] == [NAME_TAKEN]
    assert (remote / "in/a").read_bytes() == content
    # It may be another play's: it is left alone.
    assert sorted(os.listdir(remote / "in")) == ["a", "a.filepart"]


def test_delete_leaves_alone_what_another_play_may_be_writing(runner: Runner, tmp_path: Path, remote: Path) -> None:
    prepare(runner, remote)
    for name in ("x.filepart", "x", ".filepart"):
        (remote / "in" / name).write_bytes(THEIRS)
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        foretold = play_tree(runner, server, "--check", delete=True, **PART)
        outcome = play_tree(runner, server, delete=True, **PART)

    assert outcome.exit_code == 0, outcome.output
    assert foretold.step["result"]["removed"] == outcome.step["result"]["removed"] == 2
    assert sorted(os.listdir(remote / "in")) == ["a", "below", "link", "x.filepart"]


def test_a_file_takes_the_place_of_a_directory_under_allowed_names(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    prepare(runner, remote)
    (remote / "in/a").unlink()
    (remote / "in/a/deep").mkdir(parents=True)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=OnlyParts) as server:
        outcome = play_tree(runner, server, delete=True, **PART)

    assert outcome.exit_code == 0, outcome.output
    assert is_there(remote, play_tree)


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127], ids=["ascii", "two bytes"])
def test_a_long_name_is_cut(runner: Runner, sshd: OpenSSHServer, remote: Path, name: str) -> None:
    (runner.folder / "a").write_bytes(CONTENT)

    outcome = runner.play([step(sshd, upload("a", remote / name, **PART))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {name: CONTENT}


@pytest.mark.parametrize("name", ["a", "n" * 255, "ü" * 127, "\udcff" * 255, "a\nb"])
@pytest.mark.parametrize("template", ["{name}.filepart", "up-{name}", "up-{name}.tmp"])
def test_names_fit_the_template_and_the_file_system(name: str, template: str) -> None:
    names = TemporaryNames("owner", template)
    before, _, behind = template.partition("{name}")
    made = [names.path_beside(f"/in/{name}"), *(names.path_of(f"/in/{name}") for _ in range(3))]

    for path in made:
        folder, _, last = path.rpartition("/")
        assert (folder, last.startswith(before), last.endswith(behind)) == ("/in", True, True)
        assert len(os.fsencode(last)) <= 255
        assert names.may_be_one(last)
    assert len(set(made)) == 4
    assert made[0] == TemporaryNames("other", template).path_beside(f"/in/{name}")


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = TemporaryNames("owner", "{name}.filepart")

    assert names.path_beside("x" * 254 + "a") != names.path_beside("x" * 254 + "b")


def test_what_tells_the_play_can_be_read_again() -> None:
    names = TemporaryNames("owner", "up-{name}.filepart")

    own = names.read(names.of("report.csv"))

    assert own is not None
    assert (own.kept, own.owner, own.token, own.is_of_this_process) == ("report.csv", names.owner, names.token, True)
    assert names.read("up-report.csv.filepart") is None
    assert names.read("report.csv") is None


@pytest.mark.parametrize(
    ("directory", "path"),
    [(None, "/in/a.part"), ("/staging", "/staging/a.part"), ("/staging/", "/staging/a.part"), ("/", "/a.part")],
)
def test_the_directory_is_the_step_s(directory: str | None, path: str) -> None:
    copy = CopyFileFromEngine("a", "/in/a", temporary_name="{name}.part", temporary_directory=directory)

    assert TemporaryNames.for_copy(copy).path_beside(copy.destination) == path
