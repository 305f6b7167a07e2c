"""Servers that send no mode, or one without type bits, and servers that say wrong things of what they remove or set."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.server_traits import SAMPLE_SIZE
from tests.conformance.oddities import Told, _with_attributes
from tests.conformance.served import Ask, ConformanceServer, Personality, accept, refuse
from tests.conftest import Outcome, Runner, snapshot, step
from tests.servers.raw_sftp import NO_SUCH_FILE, PERMISSION_DENIED, Execute, Kind

OLD_SECONDS = 1_600_000_000
EVERYTHING = (Kind.READDIR, Kind.LSTAT, Kind.STAT)


def without_mode(told: Told) -> Told:
    return dataclasses.replace(told, mode=None)


def without_type(told: Told) -> Told:
    return dataclasses.replace(told, mode=stat.S_IMODE(told.mode or 0))


untelling = pytest.mark.parametrize("tell", [without_mode, without_type])


class NoModes(Personality):
    """Leaves the mode, or its type bits, out of the answers to some requests, and refuses others."""

    def __init__(
        self, *kinds: Kind, refuses: tuple[Kind, ...] = (), tell: Callable[[Told], Told] = without_mode
    ) -> None:
        super().__init__()
        self.kinds, self.refuses, self.tell = kinds, refuses, tell

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        if ask.kind in self.refuses:
            return refuse(ask, PERMISSION_DENIED, b"Permission denied")
        return [_with_attributes(execute(), self.tell)] if ask.kind in self.kinds else [execute()]


class NoTimes(Personality):
    """Tells no times at all."""

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return [_with_attributes(execute(), lambda told: dataclasses.replace(told, times=None))]


class Answers(Personality):
    """Answers some requests with something of its own, and does nothing."""

    def __init__(self, answer: Callable[[Ask], Iterable[bytes]], *kinds: Kind) -> None:
        super().__init__()
        self.own, self.kinds = answer, kinds

    def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
        return self.own(ask) if ask.kind in self.kinds else [execute()]


@pytest.fixture(params=["", "OpenSSH_9.2p1"], ids=["other", "openssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConformanceServer]:
    """A server by either name, with a directory `sub` of one file, and one file beside it."""
    root = tmp_path / "remote"
    (root / "tree/sub").mkdir(parents=True)
    (root / "tree/sub/kept").write_bytes(b"kept")
    (root / "tree/file").write_bytes(b"file")
    served = ConformanceServer(tmp_path / "server", root=root)
    served.software = request.param
    with served:
        yield served


def play(runner: Runner, server: ConformanceServer, personality: Personality, **mode: Any) -> Outcome:
    server.personality = personality
    return runner.play([step(server, mode)])


def copy_up(runner: Runner, server: ConformanceServer, personality: Personality) -> Outcome:
    """A tree with another file in the directory, into one that it shall be like."""
    source = runner.folder / "source/sub"
    source.mkdir(parents=True)
    (source / "new").write_bytes(b"new")
    return play(
        runner,
        server,
        personality,
        mode_name="copy_directory_from_engine",
        source_directory_name=str(source.parent),
        destination_directory_name=str(server.root / "tree"),
        delete=True,
    )


@untelling
@pytest.mark.parametrize("kinds", [(Kind.READDIR,), EVERYTHING], ids=["listing", "everything"])
def test_a_directory_whose_kind_is_not_told_does_not_step_aside(
    runner: Runner, server: ConformanceServer, kinds: tuple[Kind, ...], tell: Callable[[Told], Told]
) -> None:
    outcome = copy_up(runner, server, NoModes(*kinds, tell=tell))

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(server.root) == {"tree": None, "tree/sub": None, "tree/sub/new": b"new"}
    assert outcome.step["result"]["removed"] == 2


@untelling
def test_what_may_be_a_directory_is_neither_moved_nor_removed_with_a_tree(
    runner: Runner, server: ConformanceServer, tell: Callable[[Told], Told]
) -> None:
    """The root shows by STAT; what is in it, by nothing."""

    class OnlyRoot(NoModes):
        def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
            is_root = ask.path.endswith(b"/tree") and ask.kind != Kind.READDIR
            return [execute()] if is_root else super().answer(ask, execute)

    before = snapshot(server.root)
    outcome = copy_up(runner, server, OnlyRoot(*EVERYTHING, refuses=(Kind.OPENDIR,), tell=tell))

    assert outcome.exit_code == 2, outcome.output
    assert "does not tell whether" in outcome.step["error"]["message"]
    assert snapshot(server.root) == before


def test_what_nothing_tells_is_refused_and_left_alone(runner: Runner, server: ConformanceServer) -> None:
    before = snapshot(server.root)
    personality = NoModes(*EVERYTHING, refuses=(Kind.OPENDIR,))
    outcome = play(runner, server, personality, mode_name="remove", path=str(server.root / "tree/sub"), recursive=True)

    assert outcome.exit_code == 2, outcome.output
    assert "does not tell whether" in outcome.step["error"]["message"]
    assert outcome.step["error"]["hint"]
    assert snapshot(server.root) == before


@untelling
@pytest.mark.parametrize("pattern", ["tree/**/kept", "tree/*/kept"])
def test_a_pattern_passes_no_directory_by_whose_kind_is_not_told(
    runner: Runner, server: ConformanceServer, tell: Callable[[Told], Told], pattern: str
) -> None:
    """What could not be looked into may hold what is waited for: it is not taken for absent."""

    class KeepsSub(NoModes):
        def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
            is_kept = ask.kind == Kind.OPENDIR and ask.path.endswith(b"/sub")
            return refuse(ask, PERMISSION_DENIED, b"no") if is_kept else super().answer(ask, execute)

    wait = {"mode_name": "wait_for", "path": str(server.root / pattern), "timeout": 0}
    told = play(runner, server, NoModes(*EVERYTHING, tell=tell), **wait)
    kept = play(runner, server, KeepsSub(*EVERYTHING, tell=tell), **wait, state="absent")

    assert told.exit_code == 0, told.output
    assert [entry["path"] for entry in told.step["result"]["entries"]] == [str(server.root / "tree/sub/kept")]
    assert kept.exit_code == 2, kept.output
    assert "does not tell whether" in kept.step["error"]["message"]


def test_a_link_is_not_put_where_nothing_tells_what_is_there(runner: Runner, server: ConformanceServer) -> None:
    before = snapshot(server.root)
    personality = NoModes(*EVERYTHING, refuses=(Kind.OPENDIR,))
    outcome = play(runner, server, personality, mode_name="create_link", path=str(server.root / "tree/sub"), target="x")

    assert outcome.exit_code == 2, outcome.output
    assert "does not tell whether" in outcome.step["error"]["message"]
    assert snapshot(server.root) == before


@untelling
def test_a_listing_without_kinds_is_completed(
    runner: Runner, server: ConformanceServer, tell: Callable[[Told], Told]
) -> None:
    os.symlink("file", server.root / "tree/link")
    personality = NoModes(Kind.READDIR, tell=tell)
    outcome = play(runner, server, personality, mode_name="list", path=str(server.root / "tree"))

    assert outcome.exit_code == 0, outcome.output
    types = {os.path.basename(entry["path"]): entry["type"] for entry in outcome.step["result"]["entries"]}
    assert types == {"file": "file", "link": "link", "sub": "directory"}


def test_a_listing_that_tells_the_kinds_costs_nothing_more(runner: Runner, server: ConformanceServer) -> None:
    personality = Personality()
    play(runner, server, personality, mode_name="list", path=str(server.root / "tree"))

    assert "LSTAT" not in personality.names_asked()


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_said_to_be_missing_and_is_there_was_not_removed(
    runner: Runner, server: ConformanceServer, recursive: bool
) -> None:
    before = snapshot(server.root)
    personality = Answers(lambda ask: refuse(ask, NO_SUCH_FILE, b"No such file"), Kind.REMOVE)
    path = server.root / ("tree/sub" if recursive else "tree/file")
    outcome = play(runner, server, personality, mode_name="remove", path=str(path), recursive=recursive)

    assert outcome.exit_code == 2, outcome.output
    assert "shows it all the same" in outcome.step["error"]["message"]
    assert snapshot(server.root) == before


def test_modes_that_a_directory_does_not_get_fail_where_they_were_asked_for(
    runner: Runner, server: ConformanceServer
) -> None:
    (runner.folder / "source/new").mkdir(parents=True)
    before = stat.S_IMODE((server.root / "tree").stat().st_mode)
    personality = Answers(accept, Kind.SETSTAT)
    outcome = play(
        runner,
        server,
        personality,
        mode_name="copy_directory_from_engine",
        source_directory_name=str(runner.folder / "source"),
        destination_directory_name=str(server.root / "tree"),
        permissions="0600",
    )

    assert outcome.exit_code == 2, outcome.output
    assert "said that it has set the permissions 0700" in outcome.step["error"]["message"]
    assert stat.S_IMODE((server.root / "tree").stat().st_mode) == before


def test_times_that_directories_are_said_to_have_are_one_warning(runner: Runner, server: ConformanceServer) -> None:
    for name in ("a", "b", "c"):
        folder = runner.folder / "source" / name
        folder.mkdir(parents=True)
        os.utime(folder, (OLD_SECONDS, OLD_SECONDS))
    personality = Answers(accept, Kind.SETSTAT)
    outcome = play(
        runner,
        server,
        personality,
        mode_name="copy_directory_from_engine",
        source_directory_name=str(runner.folder / "source"),
        destination_directory_name=str(server.root / "tree"),
        preserve=["times"],
    )

    assert outcome.exit_code == 0, outcome.output
    assert sum("times" in warning for warning in outcome.step["result"]["warnings"]) == 1


def test_a_source_whose_time_is_not_told_is_one_warning(runner: Runner, server: ConformanceServer) -> None:
    outcome = play(
        runner,
        server,
        NoTimes(),
        mode_name="copy_directory_to_engine",
        source_directory_name=str(server.root / "tree"),
        destination_directory_name=str(runner.folder / "copy"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(runner.folder / "copy") == snapshot(server.root / "tree")
    assert sum("time" in warning for warning in outcome.step["result"]["warnings"]) == 1


def test_permissions_that_nobody_tells_are_set_where_the_step_gives_them(
    runner: Runner, server: ConformanceServer
) -> None:
    source, there = runner.folder / "file", server.root / "tree/file"
    source.write_bytes(b"file")
    for path in (source, there):
        os.utime(path, (OLD_SECONDS, OLD_SECONDS))
    there.chmod(0o600)
    outcome = play(
        runner,
        server,
        NoModes(*EVERYTHING, Kind.FSTAT),
        mode_name="copy_file_from_engine",
        source_file_name=str(source),
        destination_file_name=str(there),
        permissions="0640",
    )

    assert outcome.exit_code == 0, outcome.output
    assert stat.S_IMODE(there.stat().st_mode) == 0o640
    assert any("permissions" in warning for warning in outcome.step["result"]["warnings"])


def test_modes_that_directories_do_not_get_are_one_warning_that_names_what_stayed(
    runner: Runner, server: ConformanceServer
) -> None:
    """Nobody asked for them: they are the source's."""
    for name in ("a", "b", "c"):
        (runner.folder / "source" / name).mkdir(parents=True)
        (runner.folder / "source" / name).chmod(0o711)
    personality = Answers(lambda ask: refuse(ask, PERMISSION_DENIED, b"no"), Kind.SETSTAT)
    outcome = play(
        runner,
        server,
        personality,
        mode_name="copy_directory_from_engine",
        source_directory_name=str(runner.folder / "source"),
        destination_directory_name=str(server.root / "tree"),
    )

    assert outcome.exit_code == 0, outcome.output
    kept = {stat.S_IMODE((server.root / "tree" / name).stat().st_mode) for name in ("a", "b", "c")}
    warnings = [warning for warning in outcome.step["result"]["warnings"] if "permissions" in warning]
    assert len(kept) == len(warnings) == 1
    assert f"{kept.pop():04o}" in warnings[0]


def test_modes_that_are_refused_and_set_all_the_same_are_right(runner: Runner, server: ConformanceServer) -> None:
    (runner.folder / "source/new").mkdir(parents=True)

    class Contradicts(Personality):
        def answer(self, ask: Ask, execute: Execute) -> Iterable[bytes]:
            reply = execute()
            return refuse(ask, PERMISSION_DENIED, b"no") if ask.kind == Kind.SETSTAT else [reply]

    outcome = play(
        runner,
        server,
        Contradicts(),
        mode_name="copy_directory_from_engine",
        source_directory_name=str(runner.folder / "source"),
        destination_directory_name=str(server.root / "tree"),
        permissions="0640",
    )

    assert outcome.exit_code == 0, outcome.output
    assert stat.S_IMODE((server.root / "tree/new").stat().st_mode) == 0o750


def test_directories_of_a_server_that_sets_what_it_says_are_looked_at_a_few_times_only(
    runner: Runner, server: ConformanceServer
) -> None:
    """A server that is not known to carry requests out in order is looked at each time."""
    for number in range(40):
        (runner.folder / f"source/{number}").mkdir(parents=True)
    personality = Personality()
    outcome = play(
        runner,
        server,
        personality,
        mode_name="copy_directory_from_engine",
        source_directory_name=str(runner.folder / "source"),
        destination_directory_name=str(server.root / "tree"),
    )

    assert outcome.exit_code == 0, outcome.output
    looks, known = personality.names_asked().count("STAT"), bool(server.software)
    assert SAMPLE_SIZE <= looks < 2 * SAMPLE_SIZE if known else looks >= 40


@pytest.mark.parametrize("name", ["new", "new/deep/deeper"])
def test_a_folder_that_cannot_be_made_because_something_is_always_missing_is_given_up(
    runner: Runner, server: ConformanceServer, name: str
) -> None:
    """Every directory above is there, and the server says each time that one is missing."""
    before = snapshot(server.root)
    personality = Answers(lambda ask: refuse(ask, NO_SUCH_FILE, b"No such file"), Kind.MKDIR)
    outcome = play(runner, server, personality, mode_name="create_directory", path=str(server.root / "tree" / name))

    assert outcome.exit_code == 2, outcome.output
    assert "cannot create the folder" in outcome.step["error"]["message"]
    assert snapshot(server.root) == before
    assert personality.names_asked().count("MKDIR") < 30


@pytest.mark.parametrize("kind", [Kind.OPENDIR, Kind.READDIR])
@pytest.mark.parametrize("path", ["tree", "tree/sub"])
def test_a_directory_that_is_said_to_be_missing_and_is_there_was_not_removed(
    runner: Runner, server: ConformanceServer, kind: Kind, path: str
) -> None:
    before = snapshot(server.root)
    personality = Answers(lambda ask: refuse(ask, NO_SUCH_FILE, b"No such file"), kind)
    outcome = play(runner, server, personality, mode_name="remove", path=str(server.root / path), recursive=True)

    assert outcome.exit_code == 2, outcome.output
    assert "shows it all the same" in outcome.step["error"]["message"]
    assert snapshot(server.root) == before
