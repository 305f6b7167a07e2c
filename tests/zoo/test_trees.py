"""Whole directories, up and down, on every server of the zoo."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.privacy import find_open_folders, watching
from tests.servers.proxy import Cut, FaultProxy
from tests.zoo.capabilities import Capability
from tests.zoo.scene import PERMISSION_WORDS, TIME, TIME_WORDS, Scene, make_bytes, mentions, write

FILES, DIRECTORIES = 300, 10
# Names that every server of the zoo can hold; those that are not UTF-8 are a capability.
ODD_NAMES = (
    "with space", "-dash", "--", "new\nline", "tab\there", "quo'te\"", "semi;colon", "$HOME", "*", "[a]", "#hash", "!bang",
    ".hidden", "~", "back\\slash", "ünï", "cafe\u0301", "x" * 200, "%41", "a:b", "trailing ", "{a}", "日本語",
)  # fmt: skip
COUNTS = ("files_changed", "folders_changed", "links_changed", "removed")

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


def make_tree(root: Path, count: int = FILES) -> None:
    """Small files in ten directories, and one that is empty."""
    for number in range(count):
        path = root / f"directory {number % DIRECTORIES}" / f"file {number}"
        write(path, make_bytes(number * 37 % 9_000, number), mode=0o600 + number % 8 * 8, time=TIME + number)
    (root / "empty").mkdir()
    settle(root)


def settle(root: Path) -> None:
    """Modes and times of directories, innermost first: writing into one changes its own."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.chmod(folder, 0o750)
        os.utime(folder, (TIME - 50, TIME - 50))


def picture(root: Path, *, modes: bool, times: bool, directory_modes: bool, directory_times: bool) -> dict[str, Any]:
    """Everything below a directory: what it is, and of its mode and time what is compared."""
    found: dict[str, Any] = {}
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            status, key = path.lstat(), os.path.relpath(path, root)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                mode = status.st_mode & 0o777 if directory_modes else None
                found[key] = ("directory", mode, int(status.st_mtime) if directory_times else None)
            else:
                mode = status.st_mode & 0o777 if modes else None
                found[key] = ("file", mode, int(status.st_mtime) if times else None, path.read_bytes())
    return found


def assert_same(scene: Scene, name: str = "tree", *, is_upload: bool) -> None:
    """Both trees are the same, as far as the server can keep it."""
    kept = {
        "modes": scene.has(Capability.PERMISSIONS if is_upload else Capability.TELLS_PERMISSIONS),
        "times": not is_upload or scene.has(Capability.TIMES),
        "directory_modes": scene.has(Capability.DIRECTORY_PERMISSIONS if is_upload else Capability.TELLS_PERMISSIONS),
        "directory_times": not is_upload or scene.has(Capability.DIRECTORY_TIMES),
    }
    assert picture(scene.there / name, **kept) == picture(scene.here / name, **kept)


def counts(step: dict[str, Any]) -> dict[str, int]:
    return {name: step["result"][name] for name in COUNTS}


@both_ways
def test_a_tree(scene: Scene, is_upload: bool) -> None:
    source, _ = scene.ends(is_upload)
    make_tree(source / "tree")

    step = scene.play_well(scene.copy_tree(is_upload))

    assert_same(scene, is_upload=is_upload)
    assert step["result"]["files_total"] == step["result"]["files_changed"] == FILES
    scene.assert_only({"tree"}, {"tree"})


@both_ways
def test_a_second_play_of_a_tree_has_nothing_to_do(scene: Scene, is_upload: bool) -> None:
    source, _ = scene.ends(is_upload)
    make_tree(source / "tree", 60)
    scene.play_well(scene.copy_tree(is_upload))

    step = scene.play_well(scene.copy_tree(is_upload))

    if not is_upload or scene.has(Capability.TIMES):
        assert (step["status"], step["result"]["bytes_transferred"]) == ("ok", 0), step["result"]
    assert_same(scene, is_upload=is_upload)
    by_content = scene.play_well(scene.copy_tree(is_upload, compare="checksum"))
    assert by_content["result"]["files_changed"] == 0
    scene.assert_only({"tree"}, {"tree"})


@both_ways
def test_a_tree_with_delete_and_what_check_says_of_it(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    for root in (source, destination):
        for name in ("a", "b", "deep/c", "deep/deeper/d"):
            write(root / "tree" / name, make_bytes(1_000))
    (source / "tree" / "b").unlink()
    write(source / "tree" / "a", make_bytes(2_000, 3))
    write(source / "tree" / "new" / "e", make_bytes(3_000, 4))
    write(destination / "tree" / "stray" / "f", b"stray")
    settle(source / "tree")
    settle(destination / "tree")
    mode = scene.copy_tree(is_upload, delete=True)

    foretold = scene.play_well(mode, arguments=("--check",))
    assert (destination / "tree" / "b").exists()
    step = scene.play_well(mode, arguments=("--diff",))

    assert_same(scene, is_upload=is_upload)
    assert counts(step) == counts(foretold)
    assert _changes(step) == _changes(foretold)
    assert step["result"]["removed"] == 3
    scene.assert_only({"tree"}, {"tree"})


def _changes(step: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((one["action"], one["path"]) for one in step["changes"])


def _can_have(scene: Scene, name: str) -> bool:
    is_plain = not any(ord(letter) < 32 for letter in name)
    return (name.isascii() or scene.has(Capability.UNICODE_NAMES)) and (is_plain or scene.has(Capability.CONTROL_NAMES))


def test_what_the_server_does_not_keep_of_a_tree_is_spoken_of(scene: Scene) -> None:
    make_tree(scene.here / "tree", 30)

    step = scene.play_well(scene.upload_tree(preserve=["permissions", "times"]))

    assert_same(scene, is_upload=True)
    warnings = step["result"].get("warnings", [])
    assert mentions(warnings, PERMISSION_WORDS) is not scene.has(Capability.PERMISSIONS), warnings
    assert mentions(warnings, TIME_WORDS) is not scene.has(Capability.TIMES), warnings
    scene.assert_only({"tree"}, {"tree"})


def test_private_directories_are_private_all_the_time(scene: Scene) -> None:
    """Also where MKDIR's mode is not kept: nothing is in them before they are closed off."""
    for number in range(12):
        write(scene.here / "tree" / "secret" / f"{number}", make_bytes(100_000), mode=0o644)
    for folder in (scene.here / "tree", scene.here / "tree" / "secret"):
        folder.chmod(0o700)

    with watching(scene.there, find=find_open_folders) as seen:
        scene.play_well(scene.upload_tree(), bandwidth_limit="3M")

    assert sorted(os.listdir(scene.there / "tree" / "secret")) == sorted(map(str, range(12)))
    assert not scene.has(Capability.DIRECTORY_PERMISSIONS) or not seen, seen[:3]
    scene.assert_only({"tree"}, {"tree"})


@both_ways
def test_odd_names(scene: Scene, is_upload: bool) -> None:
    source, _ = scene.ends(is_upload)
    names = [name for name in ODD_NAMES if _can_have(scene, name)]
    for number, name in enumerate(names):
        write(source / "tree" / name, make_bytes(100, number))
        write(source / "tree" / f"directory {name}"[:200] / name, make_bytes(100, number))
    settle(source / "tree")

    step = scene.play_well(scene.copy_tree(is_upload))

    assert_same(scene, is_upload=is_upload)
    assert step["result"]["files_changed"] == 2 * len(names)
    scene.assert_only({"tree"}, {"tree"})


def test_names_that_are_not_utf_8(scene: Scene) -> None:
    name = os.fsdecode(b"b\xfd")
    write(scene.here / "tree" / name, make_bytes(100))
    write(scene.here / "tree" / "plain", make_bytes(200))
    settle(scene.here / "tree")

    outcome = scene.play(scene.upload_tree())

    if scene.has(Capability.BYTE_NAMES):
        assert outcome.exit_code == 0, outcome.output
        assert_same(scene, is_upload=True)
    elif outcome.exit_code == 0:
        # The server has taken the name for another one, and says so to nobody.
        assert len(os.listdir(scene.there / "tree")) == 2
        assert (scene.there / "tree" / "plain").read_bytes() == make_bytes(200)
    else:
        assert outcome.step["error"]["type"] == "TreeIncomplete", outcome.output
        assert os.listdir(scene.there / "tree") == ["plain"]
    scene.assert_only({"tree"}, {"tree"})


@both_ways
def test_links(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    write(source / "tree" / "file", b"content")
    write(source / "tree" / "deep" / "other", b"other")
    for path, target in (("link", "file"), ("deep/up", "../file"), ("dangling", "nowhere"), ("to directory", "deep")):
        (source / "tree" / path).symlink_to(target)
    settle(source / "tree")

    outcome = scene.play(scene.copy_tree(is_upload))

    if not is_upload and not scene.has(Capability.READS_LINKS):
        # What cannot be made as it is there is left out, or was never listed; the files are there.
        assert outcome.exit_code == 0, outcome.output
        assert (destination / "tree" / "file").read_bytes() == b"content"
        assert (destination / "tree" / "deep" / "other").read_bytes() == b"other"
        return
    if is_upload and not scene.has(Capability.LINKS):
        assert outcome.step["error"]["type"] == "TreeIncomplete", outcome.output
        assert (destination / "tree" / "file").read_bytes() == b"content"
        assert not any(path.is_symlink() for path in destination.rglob("*"))
    else:
        assert outcome.exit_code == 0, outcome.output
        assert_same(scene, is_upload=is_upload)
        assert outcome.step["result"]["links_changed"] == 4
        again = scene.play_well(scene.copy_tree(is_upload))
        assert again["result"]["links_changed"] == (0 if scene.has(Capability.READS_LINKS) else 4)
    scene.assert_only({"tree"}, {"tree"})


def test_a_link_that_leads_elsewhere_is_replaced(scene: Scene) -> None:
    if not scene.has(Capability.LINKS):
        return
    write(scene.here / "tree" / "file", b"content")
    (scene.here / "tree" / "link").symlink_to("file")
    old = write(scene.there / "old target", b"of the old link")
    (scene.there / "tree").mkdir()
    (scene.there / "tree" / "link").symlink_to("../old target")

    scene.play_well(scene.upload_tree())

    assert os.readlink(scene.there / "tree" / "link") == "file"
    assert (scene.there / "old target").read_bytes() == old.data
    assert set(os.listdir(scene.there / "tree")) == {"file", "link"}
    scene.assert_only({"tree", "old target"}, {"tree"})


@both_ways
@pytest.mark.parametrize("choice", ["skip", "fail"])
def test_existing_files_of_a_tree_are_left_alone(scene: Scene, is_upload: bool, choice: str) -> None:
    source, destination = scene.ends(is_upload)
    write(source / "tree" / "old", make_bytes(3_000))
    write(source / "tree" / "new", make_bytes(3_000))
    write(destination / "tree" / "old", b"old", time=TIME - 5)

    outcome = scene.play(scene.copy_tree(is_upload, if_exists=choice))

    assert outcome.exit_code == 0 if choice == "skip" else outcome.exit_code != 0, outcome.output
    assert (destination / "tree" / "old").read_bytes() == b"old"
    assert (destination / "tree" / "new").read_bytes() == make_bytes(3_000)
    assert set(os.listdir(destination / "tree")) == {"old", "new"}
    scene.assert_only({"tree"}, {"tree"})


@both_ways
def test_backups_in_a_tree(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    for number in range(5):
        write(source / "tree" / f"{number}", make_bytes(3_000, number))
        write(destination / "tree" / f"{number}", f"old {number}".encode(), time=TIME - 5)

    step = scene.play_well(scene.copy_tree(is_upload, backup=True))

    assert step["result"]["backups_total"] == 5
    kept = {Path(name).name for name in step["result"]["backups"]}
    assert {(destination / "tree" / name).read_bytes() for name in kept} == {f"old {n}".encode() for n in range(5)}
    assert set(os.listdir(destination / "tree")) == {str(number) for number in range(5)} | kept
    for number in range(5):
        assert (destination / "tree" / str(number)).read_bytes() == make_bytes(3_000, number)


@both_ways
def test_a_tree_over_a_line_that_is_cut(scene: Scene, is_upload: bool) -> None:
    source, _ = scene.ends(is_upload)
    for number in range(100):
        write(source / "tree" / f"{number}", make_bytes(20_000, number))
    settle(source / "tree")
    server = scene.running.server
    cut = Cut("up" if is_upload else "down", 1_000_000)

    with FaultProxy(server.host, server.port, cut, faulty_connections=1) as line:
        scene.line = (line.host, line.port)
        # What had reached the server when the line was cut, it still carries out: it is given time for that.
        step = scene.play_well(scene.copy_tree(is_upload), retries=1, delay=1)

    assert step["attempts"] == 2
    assert step["result"]["files_changed"] == 100
    assert_same(scene, is_upload=is_upload)
    scene.assert_only({"tree"}, {"tree"})
