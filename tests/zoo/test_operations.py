"""The modes that copy nothing, on every server of the zoo."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.zoo.capabilities import Capability
from tests.zoo.scene import TIME, Scene, write


def test_list(scene: Scene) -> None:
    write(scene.there / "file", b"content")
    write(scene.there / "directory" / "other", b"more", mode=0o600)
    write(scene.there / ".hidden", b"")

    step = scene.play_well({"mode_name": "list", "path": scene.name, "recursive": True})

    assert step["status"] == "ok"
    entries = {entry["path"].removeprefix(f"{scene.name}/"): entry for entry in step["result"]["entries"]}
    assert set(entries) == {".hidden", "directory", "directory/other", "file"}
    assert entries["directory"]["type"] == "directory"
    assert (entries["file"]["type"], entries["file"]["size_bytes"]) == ("file", 7)
    assert entries["file"]["modified_at"] == "2023-11-14T22:13:20+00:00"
    assert (scene.there / "file").stat().st_mtime == TIME


def test_list_of_what_is_not_there(scene: Scene) -> None:
    outcome = scene.play({"mode_name": "list", "path": f"{scene.name}/nowhere"})

    assert outcome.step["error"]["type"] == "SourceMissing", outcome.output


def test_stats(scene: Scene) -> None:
    write(scene.there / "file", b"content")

    there = scene.play_well({"mode_name": "stats", "path": f"{scene.name}/file"})["result"]
    missing = scene.play_well({"mode_name": "stats", "path": f"{scene.name}/nowhere"})["result"]

    assert (there["exists"], there["type"], there["size_bytes"]) == (True, "file", 7)
    assert missing["exists"] is False


@pytest.mark.parametrize("what", ["file", "directory", "tree"])
def test_remove(scene: Scene, what: str) -> None:
    write(scene.there / "stays", b"content")
    if what == "file":
        write(scene.there / what, b"content")
    else:
        (scene.there / what).mkdir()
    if what == "tree":
        write(scene.there / what / "deep" / "file", b"content")
    mode = {"mode_name": "remove", "path": f"{scene.name}/{what}", "recursive": what == "tree"}

    step = scene.play_well(mode)
    again = scene.play_well(mode)

    assert (step["status"], again["status"]) == ("changed", "ok")
    assert step["result"]["removed"] == (3 if what == "tree" else 1)
    scene.assert_only({"stays"}, set())


def test_a_directory_with_something_in_it_is_not_removed(scene: Scene) -> None:
    write(scene.there / "directory" / "file", b"content")

    outcome = scene.play({"mode_name": "remove", "path": f"{scene.name}/directory"})

    assert outcome.exit_code != 0
    assert (scene.there / "directory" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("target", ["directory", "nowhere", "directory/file"])
def test_a_link_is_removed_and_not_what_it_leads_to(scene: Scene, target: str) -> None:
    if not scene.has(Capability.FOLLOWS_LINKS):
        return  # for such a server there are none
    write(scene.there / "directory" / "file", b"content")
    (scene.there / "link").symlink_to(target)

    step = scene.play_well({"mode_name": "remove", "path": f"{scene.name}/link", "recursive": True})

    assert step["result"]["removed"] == 1
    assert (scene.there / "directory" / "file").read_bytes() == b"content"
    scene.assert_only({"directory"}, set())


@pytest.mark.parametrize("overwrite", [True, False], ids=["over", "not-over"])
@pytest.mark.parametrize("is_taken", [True, False], ids=["taken", "free"])
def test_rename(scene: Scene, overwrite: bool, is_taken: bool) -> None:
    write(scene.there / "old", b"moved")
    if is_taken:
        write(scene.there / "new", b"was there")
    names = {"source_path": f"{scene.name}/old", "destination_path": f"{scene.name}/new"}

    outcome = scene.play({"mode_name": "rename", **names, "overwrite": overwrite})

    if is_taken and not overwrite:
        assert outcome.step["error"]["type"] == "DestinationExists", outcome.output
        assert (scene.there / "new").read_bytes() == b"was there"
        scene.assert_only({"old", "new"}, set())
    else:
        assert outcome.exit_code == 0, outcome.output
        assert outcome.step["status"] == "changed"
        assert (scene.there / "new").read_bytes() == b"moved"
        scene.assert_only({"new"}, set())


def test_a_directory_is_renamed(scene: Scene) -> None:
    write(scene.there / "old" / "file", b"content")

    step = scene.play_well(
        {"mode_name": "rename", "source_path": f"{scene.name}/old", "destination_path": f"{scene.name}/new"}
    )

    assert step["status"] == "changed"
    assert (scene.there / "new" / "file").read_bytes() == b"content"
    scene.assert_only({"new"}, set())


def test_create_directory(scene: Scene) -> None:
    mode = {"mode_name": "create_directory", "path": f"{scene.name}/a/b", "parents": True}

    step = scene.play_well(mode)
    again = scene.play_well(mode)

    assert (step["status"], again["status"]) == ("changed", "ok")
    assert [os.path.basename(path) for path in step["result"]["created"]] == ["a", "b"]
    assert (scene.there / "a" / "b").is_dir()
    scene.assert_only({"a"}, set())


def test_create_directory_with_permissions(scene: Scene) -> None:
    mode = {"mode_name": "create_directory", "path": f"{scene.name}/a", "permissions": "0705"}

    outcome = scene.play(mode)

    if scene.has(Capability.DIRECTORY_PERMISSIONS):
        assert outcome.exit_code == 0, outcome.output
        assert (scene.there / "a").stat().st_mode & 0o777 == 0o705
    else:
        assert outcome.exit_code != 0, "permissions were asked for, and not set"


def test_a_file_where_a_directory_is_wanted(scene: Scene) -> None:
    write(scene.there / "a", b"a file")

    outcome = scene.play({"mode_name": "create_directory", "path": f"{scene.name}/a"})

    assert outcome.exit_code != 0, outcome.output
    assert (scene.there / "a").read_bytes() == b"a file"
    scene.assert_only({"a"}, set())


def test_a_probe_tells_what_to_set_and_leaves_nothing(scene: Scene) -> None:
    """With the lines that it prints, a second play of a copy finds nothing to do."""
    playbook = scene.runner.folder / "probe.json"
    step = scene.make_step({"mode_name": "stats", "path": scene.name})
    playbook.write_text(json.dumps([step]))
    report = scene.runner.folder / "doctor.json"

    outcome = scene.runner("doctor", str(playbook), "--probe", scene.name, "--json", str(report))

    assert outcome.exit_code == 0, outcome.output
    found = json.loads(report.read_text())["connections"][0]["probe"]
    trials = {trial["name"]: trial for trial in found["trials"]}
    assert trials["write"]["ok"], trials
    assert trials["remove"]["ok"], trials
    assert "left behind" not in trials, trials
    scene.assert_only(set(), set())
    write(scene.here / "file", b"content", time=TIME + 1)
    lines = dict(line.split(": ") for line in found["lines"])
    words: dict[str, Any] = {"false": False, "[]": []}
    options: dict[str, Any] = {key: words.get(value, value) for key, value in lines.items()}
    scene.play_well(scene.upload(**options))
    assert scene.play_well(scene.upload(**options))["status"] == "ok"
    scene.assert_only({"file"}, {"file"})
