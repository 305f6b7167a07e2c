"""What the pages claim of every server, where no other check holds it to that. Where it does not hold, the table says so."""

from __future__ import annotations

import os
import stat

import pytest

from tests.zoo.capabilities import Capability
from tests.zoo.scene import Scene, make_bytes, write

to_anything = pytest.mark.parametrize("target", ["file", "directory", "nowhere"])


def make_link(scene: Scene, target: str) -> str:
    """A link, and two things that it may lead to: what the server calls it. What each holds shows whether it was touched."""
    write(scene.there / "file", b"precious")
    write(scene.there / "directory" / "file", b"precious")
    (scene.there / "link").symlink_to(target)
    return f"{scene.name}/link"


def assert_targets_are_there(scene: Scene) -> None:
    for path in (scene.there / "file", scene.there / "directory" / "file"):
        assert path.read_bytes() == b"precious"


def shows_links(scene: Scene) -> bool:
    """Whether the server does not treat links as if nothing were there."""
    return scene.has(Capability.FOLLOWS_LINKS)


@to_anything
def test_of_a_link_it_is_told_that_it_is_one(scene: Scene, target: str) -> None:
    path = make_link(scene, target)

    result = scene.play_well({"mode_name": "stats", "path": path})["result"]

    if not shows_links(scene):
        assert result == {"path": path, "exists": False}
        return
    assert (result["type"], result["size_bytes"]) == ("link", None)
    assert os.path.basename(result["target"]) == target


def test_a_link_that_leads_nowhere_is_not_absent(scene: Scene) -> None:
    path = make_link(scene, "nowhere")

    outcome = scene.play({"mode_name": "wait_for", "path": path, "state": "absent", "timeout": 0})

    assert outcome.exit_code == (2 if shows_links(scene) else 0), outcome.output


@to_anything
def test_a_link_is_renamed_and_not_what_it_leads_to(scene: Scene, target: str) -> None:
    path = make_link(scene, target)

    outcome = scene.play({"mode_name": "rename", "source_path": path, "destination_path": f"{scene.name}/renamed"})

    is_possible = scene.has(Capability.RENAMES_LINKS)
    assert outcome.exit_code == (0 if is_possible else 2), outcome.output
    name = "renamed" if is_possible else "link"
    assert os.readlink(scene.there / name) == target
    scene.assert_only({"file", "directory", name}, set())
    assert_targets_are_there(scene)
    if not is_possible:
        error = outcome.step["error"]
        assert error["type"] == ("FileRefused" if shows_links(scene) else "SourceMissing")
        assert error["hint"]


def test_by_default_a_second_play_changes_nothing(scene: Scene) -> None:
    """Also where the server does not keep what is asked of it: a warning says so each time."""
    write(scene.here / "file", make_bytes(5_000))
    names = {"source_file_name": str(scene.here / "file"), "destination_file_name": f"{scene.name}/file"}
    mode = {"mode_name": "copy_file_from_engine", **names}

    outcomes = [scene.play(mode), scene.play(mode)]

    assert [outcome.statuses for outcome in outcomes] == [["changed"], ["ok"]], outcomes[1].output
    for outcome in outcomes:
        assert scene.has(Capability.PERMISSIONS) or "permissions" in " ".join(outcome.step["result"]["warnings"])
    scene.assert_only({"file"}, {"file"})


def test_a_file_whose_text_is_replaced_keeps_its_permissions(scene: Scene) -> None:
    write(scene.there / "file", b"x", mode=0o640)
    mode = {"mode_name": "write_file", "content": "new", "destination_file_name": f"{scene.name}/file"}

    scene.play_well(mode)

    assert (scene.there / "file").read_bytes() == b"new"
    is_kept = stat.S_IMODE((scene.there / "file").stat().st_mode) == 0o640
    assert is_kept is scene.has(Capability.OPENING_PERMISSIONS)
    scene.assert_only({"file"}, set())
