"""Whole trees: identical on both sides, played twice for free, and what --check says is what play does."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.errors import Interrupted
from runner.shell.shell import Shell
from runner.transfer.owner import find_owner
from runner.transfer.temporary import owner_tag, this_machine
from tests.conftest import Outcome, Runner, connection, snapshot
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import FaultProxy, Trigger
from tests.transfer.trees import Picture, below, change_tree, make_tree, picture, without_links_out

TREE_TRIALS = int(os.environ.get("TREE_TRIALS", "3"))

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


class Tree:
    """A folder to be copied, and the folder that becomes its copy."""

    def __init__(self, runner: Runner, server: Endpoint, *, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        self.source, self.destination = runner.folder / "from here", runner.folder / "to/there"

    def step(self, **options: Any) -> dict[str, Any]:
        mode = {
            "mode_name": f"copy_directory_{'from' if self.is_upload else 'to'}_engine",
            "source_directory_name": str(self.source),
            "destination_directory_name": str(self.destination),
            **options,
        }
        return {**connection(self.server), "mode": mode}

    def expected(self) -> Picture:
        """What the destination must look like: the source, but for links that a server must not make here."""
        return picture(self.source) if self.is_upload else without_links_out(picture(self.source))

    def play(self, *arguments: str, **options: Any) -> Outcome:
        return self.runner.play([self.step(**options)], *arguments)

    def changes(self, *arguments: str, **options: Any) -> list[dict[str, Any]]:
        """What a play says that it changes, or would change."""
        outcome = self.play(*arguments, **options)
        assert outcome.exit_code == 0, outcome.output
        assert outcome.step["changes_total"] == len(outcome.step["changes"])
        return sorted(outcome.step["changes"], key=lambda change: (change["path"], change["action"]))

    def play_well(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Play, which must succeed: status and counts."""
        outcome = self.play(*arguments, **options)
        assert outcome.exit_code == 0, outcome.output
        result = outcome.step["result"]
        counts = ("files_total", "files_changed", "folders_changed", "links_changed", "removed")
        return {"status": outcome.step["status"], **{name: result[name] for name in counts}}


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


@both_ways
@pytest.mark.parametrize("seed", range(TREE_TRIALS))
def test_random_trees_come_out_identical_and_check_foretold_it(
    runner: Runner, server: Endpoint, is_upload: bool, seed: int
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make_tree(tree.source, f"{seed}")
    for round_number in range(3):
        before = picture(tree.destination) if tree.destination.exists() else {}
        foretold = tree.play_well("--check", delete=True, max_delete=1000)
        assert (picture(tree.destination) if tree.destination.exists() else {}) == before

        assert tree.play_well(delete=True, max_delete=1000) == foretold
        assert below(picture(tree.destination)) == below(tree.expected())
        assert round_number or picture(tree.destination) == tree.expected()

        again = tree.play_well(delete=True, max_delete=1000)
        assert (again["status"], again["files_changed"], again["removed"]) == ("ok", 0, 0)
        change_tree(tree.source, f"{seed} {round_number}")


@both_ways
@pytest.mark.parametrize("seed", range(TREE_TRIALS))
@pytest.mark.parametrize("compare", ["size_mtime", "checksum"])
def test_check_names_everything_that_play_changes_and_nothing_else(
    runner: Runner, server: Endpoint, is_upload: bool, compare: str, seed: int
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    options = {"delete": True, "max_delete": 1000, "compare": compare}
    make_tree(tree.source, f"plan {seed}")
    (tree.source / "large").write_bytes(bytes(9_000_000))
    for round_number in range(3):
        before = picture(tree.destination) if tree.destination.exists() else {}
        foretold = tree.changes("--check", "--diff", **options)
        assert (picture(tree.destination) if tree.destination.exists() else {}) == before

        assert tree.changes("-v", **options) == foretold
        after = picture(tree.destination)
        assert {change["path"].rstrip("/") for change in foretold} >= differing(before, after)
        assert sorted(action_of(before, after, change["path"]) for change in foretold) == sorted(
            change["action"] for change in foretold
        )

        assert tree.changes("--check", **options) == []
        change_tree(tree.source, f"plan {seed} {round_number}")
        (tree.source / "large").write_bytes(b"%d" % round_number + bytes(9_000_000))


@both_ways
def test_diff_shows_how_small_texts_differ_and_nothing_else(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    for folder in (tree.source, tree.destination):
        folder.mkdir(parents=True)
    contents: dict[str, tuple[bytes | None, bytes]] = {
        "text": (b"alpha\nbeta\n", b"alpha\nBETA"),
        "escape": (b"", b"\x1b[2J\n"),
        "binary": (b"\0one", b"\0two!"),
        "latin": (b"caf\xe9", b"th\xe9!"),
        "large": (b"x\n" * 40_000, b"y\n" * 40_001),
        "new": (None, b"first line\n"),
    }
    for name, (old, new) in contents.items():
        (tree.source / name).write_bytes(new)
        if old is not None:
            (tree.destination / name).write_bytes(old)
            os.utime(tree.destination / name, (1, 1))

    checked = tree.play("--check", "--diff")
    played = tree.play("--diff")

    assert below(picture(tree.destination)) == below(tree.expected())
    for outcome in (checked, played):
        assert outcome.exit_code == 0, outcome.output
        shown = [line.strip() for line in outcome.stdout.splitlines()]
        at = shown.index("--- old text")
        assert shown[at : at + 7] == [
            *("--- old text", "+++ new text", "@@ -1,2 +1,2 @@", "alpha", "-beta", "+BETA"),
            "\\ No newline at end of file",
        ]
        assert "+first line" in shown
        assert "+\\x1b[2J" in shown
        assert len([line for line in shown if line.startswith("--- old")]) == 3
        assert "diff" not in outcome.step["changes"][0]


@pytest.mark.parametrize(
    ("view", "told"), [("remote", "has no attribute 'claim_folder'"), ("writer", "--check must change nothing")]
)
def test_check_cannot_change_anything_even_by_mistake(
    runner: Runner, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch, view: str, told: str
) -> None:
    tree = Tree(runner, sshd, is_upload=True)
    make_tree(tree.source, "mistake", entries=5)
    monkeypatch.setattr(
        "runner.transfer.tree.up.TreeUp._claim_root",
        lambda walk, permissions: getattr(walk.context, view).claim_folder(walk.destination_root),
    )

    outcome = tree.play("--check")

    assert outcome.exit_code == 1, outcome.output
    assert told in outcome.output
    assert not tree.destination.exists()


def differing(before: Picture, after: Picture) -> set[str]:
    """Paths whose kind, content or mode differs; a folder's time changes with what is in it."""

    def shown(entry: tuple[str, int, int, bytes] | None) -> object:
        return entry and (entry[0], entry[1], entry[3])

    return {path for path in before.keys() | after.keys() if shown(before.get(path)) != shown(after.get(path))}


def action_of(before: Picture, after: Picture, path: str) -> str:
    """What has happened to a path, to judge by its looks before and after."""
    old, new = before.get(path.rstrip("/")), after.get(path.rstrip("/"))
    if new is None:
        return "delete"
    if new[0] == "link":
        return "link"
    if new[0] == "folder":
        return "mkdir" if old is None else "chmod"
    if old is None:
        return "create"
    return "replace" if old[0] == "link" or (old[2], old[3]) != (new[2], new[3]) else "chmod"


@both_ways
def test_without_delete_what_the_source_lacks_stays(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "stays")
    make_tree(tree.destination, "other", entries=5, links=False)
    (tree.destination / "kept").write_text("kept")
    kept = {name for name in picture(tree.destination) if not os.path.lexists(tree.source / name)}
    assert kept

    tree.play_well()

    found = picture(tree.destination)
    assert kept <= found.keys()
    assert {name: entry for name, entry in below(found).items() if name not in kept} == below(tree.expected())


@both_ways
@pytest.mark.parametrize(("count", "limit"), [(5, 4), (5, 5)])
def test_more_than_max_delete_is_refused_whole(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, count: int, limit: int
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "limit", entries=5)
    extra = tree.destination / "extra"
    extra.mkdir(parents=True)
    for number in range(count - 1):
        (extra / f"{number}").write_text("x")

    outcome = tree.play(delete=True, max_delete=limit)

    if limit < count:
        assert outcome.exit_code == 6, outcome.output
        assert outcome.step["error"]["type"] == "SafetyLimitHeld"
        assert len(list(extra.iterdir())) == count - 1
    else:
        assert outcome.exit_code == 0, outcome.output
        assert outcome.step["result"]["removed"] == count
        assert below(picture(tree.destination)) == below(tree.expected())


@both_ways
def test_an_empty_source_empties_nothing(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    tree.source.mkdir()
    make_tree(tree.destination, "full")
    before = picture(tree.destination)

    outcome = tree.play(delete=True)

    assert outcome.exit_code == 6
    assert "is empty" in outcome.step["error"]["message"]
    assert picture(tree.destination) == before


@both_ways
def test_patterns_choose_what_is_copied_and_protect_what_is_removed(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    for name in ("a.xml", "a.tmp", "sub/b.xml", "sub/deep/c.xml", "sub/b.txt", "cache/d.xml", "none/e.txt"):
        path = tree.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in ("cache/kept", "old.tmp", "gone.xml", "lost/kept.tmp", "lost/gone.xml"):
        path = tree.destination / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    result = tree.play_well(include=["*.xml"], exclude=["/cache/", "*.tmp"], delete=True)

    assert snapshot(tree.destination).keys() == {
        "a.xml", "sub", "sub/b.xml", "sub/deep", "sub/deep/c.xml", "cache", "cache/kept", "old.tmp", "lost", "lost/kept.tmp",
    }  # fmt: skip
    assert result["files_changed"] == 3
    assert tree.play_well(include=["*.xml"], exclude=["/cache/", "*.tmp"], delete=True)["status"] == "ok"


@both_ways
@pytest.mark.parametrize("include", [["*.xml"], ["/sub/**"]], ids=["kind", "folder"])
def test_delete_leaves_alone_what_is_not_included(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, include: list[str]
) -> None:
    """As with rsync and rclone, which mean by it what the copy is about. It would go with all that others keep there."""
    tree = Tree(runner, sshd, is_upload=is_upload)
    for root, names in (
        (tree.source, ("sub/a.xml", "logo.png")),
        (
            tree.destination,
            ("logo.png", "upload.csv", "sub/gone.xml", "sub/deep/gone.xml", "users/photo.png", "users/a/b"),
        ),
    ):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(f"{name} of {root.name}")

    foretold = tree.play("--check", include=include, delete=True)
    result = tree.play_well(include=include, delete=True)

    assert snapshot(tree.destination) == {
        **dict.fromkeys(("sub", "users", "users/a")),
        "sub/a.xml": b"sub/a.xml of " + tree.source.name.encode(),
        **{
            name: f"{name} of {tree.destination.name}".encode()
            for name in ("logo.png", "upload.csv", "users/photo.png", "users/a/b")
        },
    }
    assert (foretold.step["result"]["removed"], result["removed"]) == (3, 3)


@both_ways
@pytest.mark.parametrize("links", ["preserve", "follow", "skip", "error"])
def test_links(runner: Runner, server: Endpoint, is_upload: bool, links: str) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    (tree.source / "sub").mkdir(parents=True)
    (tree.source / "file").write_text("content")
    (tree.source / "sub/inner").write_text("inner")
    outside = runner.folder / "secret"
    outside.write_text("outside")
    (tree.source / "to file").symlink_to("file")
    (tree.source / "to folder").symlink_to("sub")
    (tree.source / "sub/loop").symlink_to("..")
    (tree.source / "out").symlink_to(outside)

    outcome = tree.play(links=links)

    found = picture(tree.destination)
    match links:
        case "preserve":
            assert outcome.exit_code == 0, outcome.output
            assert found == tree.expected()
        case "skip":
            assert outcome.exit_code == 0, outcome.output
            assert found.keys() == {".", "file", "sub", "sub/inner"}
        case "error":
            assert outcome.exit_code == 2
            assert "4 of what is in" in outcome.step["error"]["message"]
            assert found.keys() == {".", "file", "sub", "sub/inner"}
        case "follow":
            assert outcome.exit_code == 2
            message = outcome.step["error"]["message"]
            assert "leads out of the tree" in message
            assert "leads back to a folder" in message
            assert found["to file"][3] == b"content"
            assert found["to folder/inner"][3] == b"inner"
            assert "out" not in found
            assert b"outside" not in [content for *_, content in found.values()]


@both_ways
def test_permissions_of_files_make_those_of_folders(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "modes", links=False)

    tree.play_well(permissions="0640")

    modes = {(kind, mode) for kind, mode, _, _ in picture(tree.destination).values()}
    assert modes == {("file", 0o640), ("folder", 0o750)}
    assert tree.play_well(permissions="0640")["status"] == "ok"


@both_ways
def test_what_fails_is_told_one_by_one_and_the_rest_is_there(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "partial", links=False)
    (tree.source / "is folder").mkdir()
    (tree.source / "is folder/lost").write_text("x")
    (tree.source / "is file").write_text("x")
    os.mkfifo(tree.source / "pipe")
    (tree.destination / "is file").mkdir(parents=True)
    (tree.destination / "is folder").write_text("in the way")

    outcome = tree.play()

    assert outcome.exit_code == 2
    error = outcome.step["error"]
    assert error["type"] == "TreeIncomplete"
    assert "2 of what is in" in error["message"]
    assert "is not a directory" in error["message"]
    assert "is a directory" in error["message"]
    expected = {name: entry[3] for name, entry in tree.expected().items() if not name.startswith(("is f", "pipe"))}
    found = {name: entry[3] for name, entry in picture(tree.destination).items() if not name.startswith("is f")}
    assert found == expected


@pytest.mark.parametrize("when", [-(2**31), -1, 0, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33])
def test_any_time_is_carried_as_well_as_it_can_be(runner: Runner, server: Endpoint, when: int) -> None:
    tree = Tree(runner, server, is_upload=True)
    (tree.source / "sub").mkdir(parents=True)
    (tree.source / "sub/file").write_text("old or new")
    try:
        for path in (tree.source / "sub/file", tree.source / "sub", tree.source):
            os.utime(path, (when, when))
    except OverflowError:
        pytest.skip("this file system has no such time")
    if int((tree.source / "sub").stat().st_mtime) != when:
        pytest.skip("this file system has no such time")

    outcome = tree.play()

    assert outcome.exit_code == 0, outcome.output
    nearest = min(max(when, 0), 2**32 - 1)
    assert {entry[2] for entry in picture(tree.destination).values()} == {nearest}
    assert bool(outcome.step["result"]["warnings"]) == (when != nearest)
    assert tree.play_well()["status"] == "ok"


@both_ways
def test_names_of_any_length_that_a_disk_takes(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    tree.source.mkdir()
    for name in (b"x" * 255, b"\xfc" * 255, "ü".encode() * 127, b"-" * 255, b"\n" * 200, b"y" * 254):
        with open(os.path.join(os.fsencode(tree.source), name), "wb") as file:
            file.write(name)
    deep = tree.source
    for _ in range(60):
        deep = deep / ("d" * 50)
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep")

    assert tree.play_well()["files_changed"] == 7
    assert picture(tree.destination) == tree.expected()
    assert tree.play_well()["status"] == "ok"


@both_ways
def test_links_that_lead_to_each_other_are_not_followed_for_ever(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    for name, other in (("one", "two"), ("two", "one")):
        (tree.source / name).mkdir(parents=True)
        (tree.source / name / "file").write_text(name)
        (tree.source / name / "other").symlink_to(f"../{other}")

    outcome = tree.play(links="follow")

    assert outcome.exit_code == 2, outcome.output
    assert "leads back to a folder that it is in" in outcome.step["error"]["message"]
    assert {name for name, entry in picture(tree.destination).items() if entry[0] == "file"} == {
        *("one/file", "one/other/file", "two/file", "two/other/file")
    }


@both_ways
def test_large_files_of_a_tree_are_copied_too(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "large", entries=5)
    (tree.source / "large").write_bytes(random.Random(1).randbytes(9_000_000))
    (tree.source / "sub folder").mkdir()
    (tree.source / "sub folder/large").write_bytes(random.Random(2).randbytes(8_500_000))

    assert tree.play_well()["status"] == "changed"
    assert {k: v[3] for k, v in picture(tree.destination).items()} == {k: v[3] for k, v in tree.expected().items()}
    assert tree.play_well(verify="checksum")["status"] == "ok"


@both_ways
def test_every_file_is_verified_by_checksum_where_it_is_asked_for(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make_tree(tree.source, "sums", entries=40)

    outcome = tree.play(verify="checksum")

    assert outcome.exit_code == 0, outcome.output
    assert picture(tree.destination) == tree.expected()
    # One of the names has a line break in it, which checksum programs do not write as it is: that file is read back.
    assert any("\n" in name for name in tree.expected())
    assert outcome.step["result"]["verified"] == "readback"


@both_ways
def test_checksums_of_many_files_are_worked_out_together(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[bytes] = []
    run = Shell._run

    def note(shell: Shell, command: bytes, *others: Any) -> Any:
        commands.append(command)
        return run(shell, command, *others)

    monkeypatch.setattr(Shell, "_run", note)
    monkeypatch.setattr("runner.transfer.batch.HASHED_AT_ONCE", 100)
    tree = Tree(runner, sshd, is_upload=is_upload)
    tree.source.mkdir()
    for number in range(250):
        (tree.source / f"-{number} \\").write_bytes(b"%d" % number)
        (tree.source / f"-{number} *'").write_bytes(b"%d" % number)

    outcome = tree.play(verify="checksum")

    assert outcome.exit_code == 0, outcome.output
    assert picture(tree.destination) == tree.expected()
    assert outcome.step["result"]["verified"] == "readback"
    assert len(commands) <= 1 + 6

    for path in tree.source.glob("*\\"):
        path.unlink()
    shutil.rmtree(tree.destination)
    outcome = tree.play(verify="checksum")
    assert outcome.step["result"]["verified"] == "sha256"


@both_ways
@pytest.mark.parametrize("seed", range(TREE_TRIALS))
def test_compared_by_checksum_only_other_contents_are_copied(
    runner: Runner, server: Endpoint, is_upload: bool, seed: int
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make_tree(tree.source, f"compare {seed}")
    (tree.source / "large").write_bytes(bytes(9_000_000))
    tree.play_well(compare="checksum")
    assert picture(tree.destination) == tree.expected()
    before = picture(tree.destination)

    # A fresh checkout: the same contents, and all times are new.
    for path in (tree.source, *tree.source.rglob("*")):
        os.utime(path, follow_symlinks=False)
    foretold = tree.play_well("--check", compare="checksum")
    assert tree.play_well(compare="checksum") == foretold
    assert foretold["status"] == "ok"
    assert picture(tree.destination) == before

    # Other contents of the same size and time, which nothing but a checksum tells.
    files = sorted(path for path in tree.source.rglob("*") if path.is_file() and not path.is_symlink())
    changed = [path for path in files if path.stat().st_size][::2]
    for path in changed:
        where = tree.destination / path.relative_to(tree.source)
        path.write_bytes(path.read_bytes()[::-1][:-1] + b"#")
        os.utime(path, (where.stat().st_mtime,) * 2)
    foretold = tree.play_well("--check", compare="checksum")
    assert picture(tree.destination) == before
    assert foretold["files_changed"] == len(changed)
    assert tree.play_well(compare="checksum") == foretold
    assert {name: entry[3] for name, entry in picture(tree.destination).items()} == {
        name: entry[3] for name, entry in tree.expected().items()
    }
    assert tree.play_well(compare="checksum")["status"] == "ok"


class _KeepingOthers(FileServer):
    """Keeps another bit than it was sent."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        result: Any = super().write(file_obj, offset, bytes([data[0] ^ 1]) + data[1:])
        return int(result)


class _SendingOthers(FileServer):
    """Sends another bit than the time before."""

    reads = 0

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data: Any = super().read(file_obj, offset, size)
        _SendingOthers.reads += bool(data)
        return bytes([data[0] ^ (_SendingOthers.reads & 1)]) + data[1:] if data else b""


@both_ways
def test_a_flipped_bit_in_a_tree_is_noticed_and_not_published(runner: Runner, tmp_path: Path, is_upload: bool) -> None:
    with AsyncsshServer(
        tmp_path / "server", root=Path("/"), sftp_factory=_KeepingOthers if is_upload else _SendingOthers
    ) as server:
        tree = Tree(runner, server, is_upload=is_upload)
        for number in range(3):
            (tree.source / f"{number}").parent.mkdir(exist_ok=True)
            (tree.source / f"{number}").write_bytes(b"%d" % number * 50)
        tree.destination.mkdir(parents=True)
        (tree.destination / "1").write_bytes(b"old")

        outcome = tree.play(verify="checksum")

        assert outcome.exit_code == 6, outcome.output
        assert "its SHA-256 is" in outcome.step["error"]["message"]
        assert {path.name: path.read_bytes() for path in tree.destination.iterdir()} == {"1": b"old"}


def test_a_tree_that_is_interrupted_before_its_checksums_leaves_nothing(
    runner: Runner, sshd: OpenSSHServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(runner, sshd, is_upload=True)
    make_tree(tree.source, "held", links=False)

    def interrupt(shell: Shell, paths: Any) -> Any:
        raise Interrupted(15)

    monkeypatch.setattr(Shell, "sha256_many", interrupt)
    outcome = tree.play(verify="checksum")

    assert outcome.exit_code == 143, outcome.output
    assert not [path for path in tree.destination.rglob("*") if path.is_file()]


def test_a_source_that_is_no_folder_or_not_there(runner: Runner, sshd: OpenSSHServer) -> None:
    for is_upload in (True, False):
        tree = Tree(runner, sshd, is_upload=is_upload)
        assert tree.play().step["error"]["type"] == "SourceMissing"
        tree.source.write_text("x")
        assert tree.play().step["error"]["type"] == "NotARegularFile"
        tree.source.unlink()


@both_ways
def test_a_destination_that_is_a_file(runner: Runner, sshd: OpenSSHServer, is_upload: bool) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "x")
    tree.destination.parent.mkdir()
    tree.destination.write_text("precious")

    assert "is not a directory" in tree.play().step["error"]["message"]
    assert tree.destination.read_text() == "precious"


@pytest.mark.parametrize("transfers", [1, 3])
def test_no_more_files_are_open_at_once_than_asked_for(runner: Runner, tmp_path: Path, transfers: int) -> None:
    open_now, most = 0, 0

    class Counting(FileServer):
        def open(self, path: bytes, pflags: int, attrs: object) -> object:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            return super().open(path, pflags, attrs)  # type: ignore[arg-type]

        def close(self, file_obj: object) -> None:
            nonlocal open_now
            open_now -= 1
            super().close(file_obj)

    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Counting) as server:
        tree = Tree(runner, server, is_upload=True)
        make_tree(tree.source, "few", entries=60)
        outcome = runner.play([{**tree.step(), "transfers": transfers}])

    assert outcome.exit_code == 0, outcome.output
    assert picture(tree.destination) == tree.expected()
    assert most <= transfers


def test_scp_has_no_trees(runner: Runner, sshd: OpenSSHServer) -> None:
    one = {**Tree(runner, sshd, is_upload=True).step(), "connector_type": "SCP"}

    outcome = runner.play([one])

    assert outcome.exit_code == 3
    assert "copy_file_from_engine" in outcome.stderr


def test_a_server_that_refuses_modes_and_times_is_warned_of(runner: Runner, tmp_path: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=misbehaving.RefusedSetstat) as server:
        tree = Tree(runner, server, is_upload=True)
        make_tree(tree.source, "refused", links=False)
        outcome = tree.play()

    assert outcome.exit_code == 0, outcome.output
    assert any("refused" in warning for warning in outcome.step["result"]["warnings"])
    assert {k: v[3] for k, v in picture(tree.destination).items()} == {k: v[3] for k, v in tree.expected().items()}


def test_a_planted_link_leads_nothing_out_of_the_destination(runner: Runner, sshd: OpenSSHServer) -> None:
    """Neither a link where a folder of the source goes, nor one where a file goes."""
    tree = Tree(runner, sshd, is_upload=False)
    (tree.source / "folder").mkdir(parents=True)
    (tree.source / "folder/file").write_text("new")
    (tree.source / "file").write_text("new")
    outside = runner.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    tree.destination.mkdir(parents=True)
    (tree.destination / "folder").symlink_to(outside)
    (tree.destination / "file").symlink_to(outside / "file")

    for delete in (False, True):
        outcome = tree.play(delete=delete)

        # With `delete` the folder takes the link's place.
        assert outcome.exit_code == (0 if delete else 2), outcome.output
        assert snapshot(outside) == {"file": b"precious"}
        assert not (tree.destination / "file").is_symlink()
        assert (tree.destination / "file").read_text() == "new"
        assert (tree.destination / "folder").is_symlink() != delete


@pytest.mark.parametrize("name", [b"../escaped", b"..", b"a/b", b"", b"nul\0byte"])
def test_a_hostile_name_is_refused(runner: Runner, tmp_path: Path, name: bytes) -> None:
    factory = partial(misbehaving.HostileListing, name=name)
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote/good").write_text("good")
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=False)
        tree.source = tmp_path / "remote"
        outcome = tree.play()

    if name == b"..":
        assert outcome.exit_code == 0, outcome.output
    else:
        assert outcome.exit_code == 2, outcome.output
        assert "cannot be that of a file" in outcome.step["error"]["message"]
    assert snapshot(tree.destination) == {"good": b"good"}
    assert not (runner.folder / "to/escaped").exists()


@both_ways
@pytest.mark.parametrize("moment", range(max(5, TREE_TRIALS)))
def test_a_killed_play_leaves_each_file_old_or_new_and_the_next_converges(
    runner: Runner, sshd: OpenSSHServer, is_upload: bool, moment: int
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make_tree(tree.source, "killed", entries=150)
    make_tree(tree.destination, "killed", entries=150)
    if not is_upload:
        # An earlier play would not have made them.
        for name in picture(tree.destination).keys() - without_links_out(picture(tree.destination)).keys():
            (tree.destination / name).unlink()
    change_tree(tree.source, "changes")
    old, new = picture(tree.destination), tree.expected()
    started: list[subprocess.Popen[bytes]] = []
    chance = random.Random(f"{is_upload} {moment}")
    at_byte = Trigger("up" if is_upload else "down", chance.randint(2_000, 600_000), lambda: started[0].kill())
    with FaultProxy(sshd.host, sshd.port, at_byte, faulty_connections=1) as proxy:
        one = {**tree.step(delete=True, max_delete=1000), "host": proxy.host, "port": proxy.port}
        playbook = runner.folder / "killed.yaml"
        playbook.write_text(json.dumps([one]))
        started.append(
            subprocess.Popen([sys.executable, "-m", "runner", "play", str(playbook)], stdout=subprocess.DEVNULL)
        )
        started[0].wait(30)
        left = picture(tree.destination)
        for name, entry in left.items():
            temporary = ".runner-" in name
            assert temporary or entry[3] in (old.get(name, entry)[3], new.get(name, entry)[3]), name
        outcome = runner.play([{**one}])

    assert outcome.exit_code == 0, outcome.output
    assert below(picture(tree.destination)) == below(tree.expected())


def test_a_signal_ends_a_tree_cleanly(runner: Runner, tmp_path: Path) -> None:
    factory = partial(misbehaving.SlowServer, seconds=0.01)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=True)
        make_tree(tree.source, "signal", entries=300)
        playbook = runner.folder / "play.yaml"
        playbook.write_text(json.dumps([tree.step()]))
        process = subprocess.Popen([sys.executable, "-m", "runner", "play", str(playbook)], stdout=subprocess.DEVNULL)
        while not (tree.destination.is_dir() and any(tree.destination.iterdir())):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143

    assert [name for name in snapshot(tree.destination) if ".runner-" in name] == []


@pytest.mark.parametrize("is_removable", [True, False])
def test_a_dead_plays_temporary_file_goes_or_is_warned_of(runner: Runner, tmp_path: Path, is_removable: bool) -> None:
    """It is neither counted as removed nor, if it must stay, a failure of the copy."""
    factory: Any = FileServer if is_removable else RefusedRemove
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        tree = Tree(runner, server, is_upload=True)
        (tree.source).mkdir()
        (tree.source / "a").write_text("new")
        ended = subprocess.Popen(["true"])
        ended.wait()
        owner = owner_tag(find_owner(None))
        tree.destination.mkdir(parents=True)
        left = tree.destination / f".a.runner-{owner}.{this_machine()}.{ended.pid:x}.0123456789abcdef.tmp"
        left.write_text("half")
        outcome = tree.play(delete=True)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["removed"] == 0
    assert left.exists() != is_removable
    assert any("could not be removed" in one for one in outcome.step["result"]["warnings"]) != is_removable


class RefusedRemove(FileServer):
    """Nothing can be removed."""

    def remove(self, path: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")
