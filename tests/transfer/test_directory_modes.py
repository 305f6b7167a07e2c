"""Set-uid, set-gid and sticky bits of directories stay, and no directory is opened to everybody without the sticky bit."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def make(path: Path, mode: int) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


class Tree:
    """A source and its copy, which is there already."""

    def __init__(self, runner: Runner, server: Endpoint, *, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        self.source, self.copy = make(runner.folder / "from", 0o755), make(runner.folder / "copy", 0o755)

    def play(self, *arguments: str, **options: Any) -> Outcome:
        mode = {
            "mode_name": f"copy_directory_{'from' if self.is_upload else 'to'}_engine",
            "source_directory_name": str(self.source),
            "destination_directory_name": str(self.copy),
            **options,
        }
        outcome = self.runner.play([{**connection(self.server), "mode": mode}], *arguments)
        assert outcome.exit_code == 0, outcome.output
        return outcome

    def foretold(self, **options: Any) -> list[dict[str, Any]]:
        """What --check tells, which is what a play does, after which there is nothing to do."""
        told = _sorted(self.play("--check", "--diff", **options))
        assert _sorted(self.play("-v", **options)) == told
        assert self.play(**options).statuses == ["ok"]
        return told


def _sorted(outcome: Outcome) -> list[dict[str, Any]]:
    return sorted(outcome.step["changes"], key=lambda change: str(change["path"]))


# The mode that is there, the source's, and what comes of them.
CASES = [
    (0o2775, 0o755, 0o2755),
    (0o2755, 0o775, 0o2775),
    (0o2770, 0o1770, 0o2770),
    (0o1777, 0o777, 0o1777),
    (0o1777, 0o755, 0o1755),
    (0o3777, 0o700, 0o3700),
    (0o4755, 0o750, 0o4750),
    (0o755, 0o1777, 0o775),
    (0o755, 0o777, 0o775),
    (0o755, 0o2750, 0o750),
    (0o777, 0o777, 0o775),
    (0o2755, 0o777, 0o2775),
]


@both_ways
def test_a_directory_that_is_there_keeps_its_special_bits(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    for found, source, _ in CASES:
        make(tree.source / f"{found:o} {source:o}", source)
        make(tree.copy / f"{found:o} {source:o}", found)

    told = {change["path"]: change["why"] for change in tree.foretold(preserve=["permissions"])}

    for found, source, becomes in CASES:
        name = f"{found:o} {source:o}"
        assert mode_of(tree.copy / name) == becomes, name
        why = f"permissions {found:04o} → {becomes:04o}" if found != becomes else None
        assert told.get(f"{name}/") == why, name


@both_ways
@pytest.mark.parametrize("source", [0o777, 0o7777])
def test_a_new_directory_takes_over_no_special_bit_and_is_not_open_to_all(
    runner: Runner, server: Endpoint, is_upload: bool, source: int
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, source)
    make(tree.source / "below/deep", source)
    make(tree.source / "below", source)
    tree.copy.rmdir()

    tree.foretold()

    assert {mode_of(path) for path in (tree.copy, tree.copy / "below", tree.copy / "below/deep")} == {0o775}


@both_ways
@pytest.mark.parametrize("is_new", [False, True], ids=["below an old one", "new altogether"])
def test_a_new_directory_keeps_the_set_gid_bit_that_it_was_made_with(
    runner: Runner, server: Endpoint, is_upload: bool, is_new: bool
) -> None:
    """The system passes it on from the directory above: who shares one with a group depends on it."""
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source / "a/b", 0o750)
    make(tree.source / "a", 0o755)
    (tree.source / "file").write_text("x")
    make(tree.copy, 0o2775)
    if is_new:
        tree.copy = tree.copy / "new"
        tree.source.chmod(0o750)

    tree.foretold()

    assert [mode_of(tree.copy / path) for path in ("a", "a/b")] == [0o2755, 0o2750]
    assert mode_of(tree.copy) == (0o2750 if is_new else 0o2775)


@both_ways
def test_permissions_that_are_asked_for_leave_special_bits_too(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source / "below", 0o700)
    make(tree.source / "new", 0o700)
    make(tree.copy / "below", 0o2711)
    make(tree.copy, 0o1711)

    tree.foretold(permissions="0666")

    modes = [mode_of(path) for path in (tree.copy, tree.copy / "below", tree.copy / "new")]
    assert modes == [0o1777, 0o2775, 0o775]


@pytest.mark.parametrize(
    ("found", "permissions", "becomes"),
    [
        (0o2775, "0750", 0o2750),
        (0o1777, "0777", 0o1777),
        (0o755, "0777", 0o1777),
        (0o777, "0777", 0o1777),
        (None, "0777", 0o1777),
        (None, "0750", 0o750),
    ],
    ids=str,
)
def test_create_directory_keeps_them_and_opens_none_to_all_without_the_sticky_bit(
    runner: Runner, server: Endpoint, found: int | None, permissions: str, becomes: int
) -> None:
    folder = runner.folder / "shared"
    if found is not None:
        make(folder, found)
    mode = {"mode_name": "create_directory", "path": str(folder), "permissions": permissions}

    def play(*arguments: str) -> str:
        outcome = runner.play([{**connection(server), "mode": mode}], *arguments)
        assert outcome.exit_code == 0, outcome.output
        status: str = outcome.statuses[0]
        return status

    expected = "ok" if found == becomes else "changed"
    assert (play("--check"), play(), play()) == (expected, expected, "ok")
    assert mode_of(folder) == becomes


def test_create_directory_leaves_a_new_one_the_set_gid_bit(runner: Runner, server: Endpoint) -> None:
    above = make(runner.folder / "shared", 0o2775)
    mode = {"mode_name": "create_directory", "path": str(above / "new"), "permissions": "0770"}

    outcomes = [runner.play([{**connection(server), "mode": mode}]).statuses for _ in range(2)]

    assert (outcomes, mode_of(above / "new")) == ([["changed"], ["ok"]], 0o2770)


@both_ways
def test_files_keep_none(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    """Neither a new content nor new permissions leave a program with somebody else's rights."""
    tree = Tree(runner, server, is_upload=is_upload)
    for name in ("same", "other"):
        for folder, mode in ((tree.source, 0o755), (tree.copy, 0o6711)):
            (folder / name).write_text("x" if name == "same" else str(folder))
            os.utime(folder / name, (10**9, 10**9 if name == "same" else 10**9 + mode))
            (folder / name).chmod(mode)

    tree.foretold()

    assert [mode_of(tree.copy / name) for name in ("same", "other")] == [0o755, 0o755]
