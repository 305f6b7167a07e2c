"""When a destination is already right: by size alone, and by times that differ a little, in both directions."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, download, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.misbehaving import OtherTimes
from tests.transfer.test_tree import Tree, both_ways

HOUR = 3600
# Far from each other, and from now.
SOURCE_TIME, OTHER_TIME = 1_500_000_001, 1_400_000_000
Change = Callable[[int], int]


def serve(folder: Path, change: Change) -> AsyncsshServer:
    return AsyncsshServer(folder, root=Path("/"), sftp_factory=partial(OtherTimes, change=change))


def write(path: Path, content: bytes, time: int, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (time, time))


def play_file(runner: Runner, server: AsyncsshServer, *arguments: str, is_upload: bool, **options: Any) -> Outcome:
    source, copy = places(runner, is_upload=is_upload)
    mode = upload(source, copy, **options) if is_upload else download(source, copy, **options)
    return runner.play([step(server, mode)], *arguments)


def places(runner: Runner, *, is_upload: bool) -> tuple[Path, Path]:
    here, there = runner.folder / "here/a", runner.folder / "there/a"
    return (here, there) if is_upload else (there, here)


def state(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), int(path.stat().st_mtime)


@both_ways
@pytest.mark.parametrize("compare", ["size", "size_mtime"])
def test_by_size_a_file_with_another_time_is_right(
    runner: Runner, tmp_path: Path, is_upload: bool, compare: str
) -> None:
    source, copy = places(runner, is_upload=is_upload)
    write(source, b"new", SOURCE_TIME, 0o640)
    write(copy, b"old", OTHER_TIME, 0o600)
    with serve(tmp_path / "server", lambda time: time) as server:
        play = partial(play_file, runner, server, is_upload=is_upload, compare=compare)
        foretold, outcome = play("--check"), play()

    assert (foretold.exit_code, outcome.exit_code) == (0, 0), outcome.output
    # The permissions are not the size's to judge.
    assert (foretold.statuses, outcome.statuses) == (["changed"], ["changed"])
    assert copy.stat().st_mode & 0o777 == 0o640
    if compare == "size":
        assert foretold.step["message"] == "permissions would become 0640"
        assert state(copy) == (b"old", OTHER_TIME)
    else:
        assert foretold.step["message"] == "would be replaced"
        assert state(copy) == (b"new", SOURCE_TIME)


@both_ways
def test_by_size_a_file_of_another_size_is_copied(runner: Runner, tmp_path: Path, is_upload: bool) -> None:
    source, copy = places(runner, is_upload=is_upload)
    write(source, b"newer", SOURCE_TIME)
    write(copy, b"old", SOURCE_TIME)
    with serve(tmp_path / "server", lambda time: time) as server:
        outcome = play_file(runner, server, "--check", is_upload=is_upload, compare="size")
        assert state(copy) == (b"old", SOURCE_TIME)
        assert [change["why"] for change in outcome.step["changes"]] == ["size 3 → 5"]
        play_file(runner, server, is_upload=is_upload, compare="size")

    assert state(copy) == (b"newer", SOURCE_TIME)


@pytest.mark.parametrize(
    ("options", "again"),
    [
        ({}, "changed"),
        ({"compare": "size"}, "ok"),
        ({"compare": "checksum"}, "ok"),
        ({"modify_window": "1h"}, "changed"),
    ],
    ids=str,
)
def test_a_server_that_sets_times_of_its_own(
    runner: Runner, tmp_path: Path, options: dict[str, Any], again: str
) -> None:
    write(places(runner, is_upload=True)[0], b"new", SOURCE_TIME)
    places(runner, is_upload=True)[1].parent.mkdir()
    with serve(tmp_path / "server", lambda time: OTHER_TIME) as server:
        outcomes = [play_file(runner, server, is_upload=True, **options) for _ in range(2)]

    assert [outcome.statuses for outcome in outcomes] == [["changed"], [again]], outcomes[0].output


@pytest.mark.parametrize(
    ("change", "window", "again"),
    [
        (lambda time: time // 2 * 2, "2s", "ok"),
        (lambda time: time // 2 * 2, "1s", "ok"),
        (lambda time: time // 2 * 2, 0, "changed"),
        (lambda time: time + HOUR, "1h", "ok"),
        (lambda time: time - HOUR, 3600, "ok"),
        (lambda time: time - HOUR, "59m", "changed"),
    ],
    ids=["rounded", "just", "not", "later", "earlier", "too far"],
)
def test_a_window_makes_times_equal(
    runner: Runner, tmp_path: Path, change: Change, window: str | int, again: str
) -> None:
    source, copy = places(runner, is_upload=True)
    write(source, b"new", SOURCE_TIME)
    copy.parent.mkdir()
    with serve(tmp_path / "server", change) as server:
        play = partial(play_file, runner, server, is_upload=True, modify_window=window)
        play()
        kept = state(copy)
        foretold, outcome = play("--check"), play()

    assert foretold.exit_code == 0, foretold.output
    assert (foretold.statuses, outcome.statuses) == ([again], [again])
    assert kept == state(copy) == (b"new", change(SOURCE_TIME))
    if again == "changed" and window:
        assert foretold.step["changes"][0]["why"].endswith("further apart than modify_window")


@both_ways
@pytest.mark.parametrize(("apart", "is_right"), [(2, True), (-2, True), (3, False), (-3, False)])
def test_a_window_in_both_directions(
    runner: Runner, tmp_path: Path, is_upload: bool, apart: int, is_right: bool
) -> None:
    source, copy = places(runner, is_upload=is_upload)
    write(source, b"new", SOURCE_TIME)
    write(copy, b"old", SOURCE_TIME + apart)
    with serve(tmp_path / "server", lambda time: time) as server:
        play_file(runner, server, is_upload=is_upload, modify_window="2s")

    assert state(copy) == ((b"old", SOURCE_TIME + apart) if is_right else (b"new", SOURCE_TIME))


@both_ways
@pytest.mark.parametrize("options", [{"compare": "size"}, {"modify_window": "1h"}], ids=str)
def test_a_tree_whose_times_are_off_is_right(
    runner: Runner, tmp_path: Path, is_upload: bool, options: dict[str, Any]
) -> None:
    """Its directories, too: nothing at all is changed by a second play."""
    with serve(tmp_path / "server", lambda time: time) as server:
        tree = Tree(runner, server, is_upload=is_upload)
        for name in ("a", "below/b", "below/deep/c"):
            write(tree.source / name, name.encode(), SOURCE_TIME)
        for folder in (tree.source / "below/deep", tree.source / "below"):
            os.utime(folder, (SOURCE_TIME, SOURCE_TIME))
        tree.play_well()
        for path in tree.destination.rglob("*"):
            os.utime(path, (SOURCE_TIME + HOUR, SOURCE_TIME + HOUR))
        foretold = tree.play_well("--check", **options)
        outcome = tree.play_well(**options)
        times = {int(path.stat().st_mtime) for path in tree.destination.rglob("*")}
        files = tree.play_well("--check")["files_changed"]
        for path in tree.destination.rglob("*"):
            os.utime(path, (SOURCE_TIME, SOURCE_TIME) if path.is_file() else (OTHER_TIME, OTHER_TIME))
        folders = tree.play_well("--check")["folders_changed"]

    assert foretold == outcome
    assert (outcome["status"], outcome["files_changed"], outcome["folders_changed"]) == ("ok", 0, 0)
    assert times == {SOURCE_TIME + HOUR}
    # Without the options there is a change: the test can fail.
    assert (files, folders) == (3, 2)
