"""write_file, read_file, create_link and wait_for, on every server of the zoo."""

from __future__ import annotations

import os

import pytest

from tests.zoo.capabilities import Capability
from tests.zoo.scene import Scene, write

TEXT = "version: 1.4\nname: Bücher\n"


def test_text_is_written_once(scene: Scene) -> None:
    mode = {"mode_name": "write_file", "content": TEXT, "destination_file_name": f"{scene.name}/a/VERSION"}

    first, second = scene.play_well(mode), scene.play_well(mode)

    assert (first["status"], second["status"]) == ("changed", "ok")
    assert (scene.there / "a" / "VERSION").read_bytes() == TEXT.encode()
    assert os.listdir(scene.there / "a") == ["VERSION"]
    scene.assert_only({"a"}, set())


def test_text_that_differs_is_replaced_also_if_it_is_as_long(scene: Scene) -> None:
    write(scene.there / "VERSION", TEXT.replace("4", "3").encode())

    step = scene.play_well(
        {"mode_name": "write_file", "content": TEXT, "destination_file_name": f"{scene.name}/VERSION"}
    )

    assert step["status"] == "changed"
    assert (scene.there / "VERSION").read_bytes() == TEXT.encode()
    scene.assert_only({"VERSION"}, set())


def test_what_was_written_is_read(scene: Scene) -> None:
    write(scene.there / "manifest", TEXT.encode())

    for content, encoding in ((TEXT, "utf-8"), ("dmVyc2lvbjogMS40Cm5hbWU6IELDvGNoZXIK", "base64")):
        step = scene.play_well(
            {"mode_name": "read_file", "source_file_name": f"{scene.name}/manifest", "encoding": encoding}
        )
        assert (step["status"], step["result"]["content"]) == ("ok", content)


def test_a_file_that_is_too_large_is_not_read(scene: Scene) -> None:
    write(scene.there / "large", b"x" * 5000)

    outcome = scene.play({"mode_name": "read_file", "source_file_name": f"{scene.name}/large", "max_bytes": 4999})

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "FileRefused"), outcome.output


def test_a_link_is_made_and_switched(scene: Scene) -> None:
    """Or, where there are no links, refused in words; what is there is never another link than one of the two."""
    for name in ("old", "new"):
        write(scene.there / name / "file", name.encode())
    modes = [
        {"mode_name": "create_link", "path": f"{scene.name}/current", "target": target} for target in ("old", "new")
    ]
    for mode in modes:
        outcome = scene.play(mode)
        if not scene.has(Capability.LINKS):
            assert outcome.exit_code != 0, outcome.output
            assert outcome.step["error"]["hint"]
            scene.assert_only({"old", "new"}, set())
            return
        assert (outcome.exit_code, outcome.statuses) == (0, ["changed"]), outcome.output
        assert (scene.there / "current" / "file").read_text() == mode["target"]
    scene.assert_only({"old", "new", "current"}, set())
    assert sorted(os.listdir(scene.there / "old") + os.listdir(scene.there / "new")) == ["file", "file"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_link_never_replaces_anything_else(scene: Scene, kind: str) -> None:
    write(scene.there / ("current" if kind == "file" else "current/file"), b"precious")

    outcome = scene.play({"mode_name": "create_link", "path": f"{scene.name}/current", "target": "new"})

    assert outcome.exit_code == 2, outcome.output
    assert not (scene.there / "current").is_symlink()
    path = scene.there / ("current" if kind == "file" else "current/file")
    assert path.read_bytes() == b"precious"
    scene.assert_only({"current"}, set())


def test_what_is_there_is_found(scene: Scene) -> None:
    for number in range(3):
        write(scene.there / "out" / f"{number}.csv", b"x")
    write(scene.there / "out" / "0.txt", b"x")
    pattern = f"{scene.name}/o*/*.csv"

    step = scene.play_well({"mode_name": "wait_for", "path": pattern, "min_files": 3, "min_size": 1, "timeout": 0})
    settled = scene.play_well(
        {"mode_name": "wait_for", "path": pattern, "state": "settled", "settle": 0.2, "every": 0.1, "timeout": 30}
    )

    names = [os.path.basename(entry["path"]) for entry in step["result"]["entries"]]
    assert names == ["0.csv", "1.csv", "2.csv"]
    assert len(settled["result"]["entries"]) == 3


def test_what_is_not_there_is_absent_and_not_present(scene: Scene) -> None:
    for path in ("nowhere", "no*", "nowhere/*"):
        mode = {"mode_name": "wait_for", "path": f"{scene.name}/{path}", "timeout": 0}
        assert scene.play_well({**mode, "state": "absent"})["result"]["entries"] == []
        outcome = scene.play(mode)
        assert outcome.exit_code == 2, outcome.output
        assert outcome.step["error"]["type"] == "WaitTimedOut", outcome.output
