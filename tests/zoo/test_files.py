"""One file, up and down, on every server of the zoo."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tests.privacy import watching
from tests.servers.latency import LatencyProxy
from tests.servers.proxy import Cut, FaultProxy
from tests.zoo.capabilities import Capability
from tests.zoo.scene import PERMISSION_WORDS, TIME, TIME_WORDS, Copy, Scene, make_bytes, mentions, write

MIB = 1024 * 1024
BACKUP_SECONDS = 3600

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@both_ways
@pytest.mark.parametrize("size", [0, 1, 700_001], ids=["empty", "byte", "many-requests"])
def test_a_new_file(scene: Scene, is_upload: bool, size: int) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(size))

    step = scene.play_well(scene.copy(is_upload))

    assert step["status"] == "changed"
    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_file_is_replaced(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(40_000))
    write(destination / "file", make_bytes(90_000, 2), mode=0o600, time=TIME - 5)

    step = scene.play_well(scene.copy(is_upload))

    assert step["status"] == "changed"
    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    assert step["result"]["atomic"] is (not is_upload or scene.has(Capability.REPLACE))
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_second_play_has_nothing_to_do(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(5_000))
    scene.play_well(scene.copy(is_upload))

    step = scene.play_well(scene.copy(is_upload))

    if not is_upload or scene.has(Capability.TIMES):
        assert (step["status"], step["result"]["bytes_transferred"]) == ("ok", 0)
    assert (destination / "file").read_bytes() == wanted.data
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_content_is_compared(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(5_000))
    write(destination / "file", wanted.data, time=TIME - 100)

    same = scene.play_well(scene.copy(is_upload, compare="checksum", preserve=[]))
    write(destination / "file", make_bytes(5_000, 2))
    other = scene.play_well(scene.copy(is_upload, compare="checksum"))

    assert (same["status"], other["status"]) == ("ok", "changed")
    scene.assert_copied(other, destination / "file", wanted, is_upload=is_upload)
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_file_is_always_copied_where_that_is_asked(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(5_000))
    write(destination / "file", wanted.data)

    step = scene.play_well(scene.copy(is_upload, compare="always"))

    assert step["status"] == "changed"
    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    scene.assert_only({"file"}, {"file"})


@both_ways
@pytest.mark.parametrize("choice", ["skip", "fail"])
def test_an_existing_file_is_left_alone(scene: Scene, is_upload: bool, choice: str) -> None:
    source, destination = scene.ends(is_upload)
    write(source / "file", make_bytes(3_000))
    old = write(destination / "file", b"old", time=TIME - 5)

    outcome = scene.play(scene.copy(is_upload, if_exists=choice))

    assert outcome.step["status"] == ("skipped" if choice == "skip" else "failed"), outcome.output
    assert (destination / "file").read_bytes() == old.data
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_where_nothing_exists_the_file_is_copied(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(3_000))

    step = scene.play_well(scene.copy(is_upload, if_exists="fail"))

    assert step["status"] == "changed"
    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_backup_is_kept(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(3_000))
    write(destination / "file", b"the old one", time=TIME - 5)

    step = scene.play_well(scene.copy(is_upload, backup=True))

    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    backup = Path(step["result"]["backup"]).name
    assert (destination / backup).read_bytes() == b"the old one"
    is_in_one_step = not is_upload or (scene.has(Capability.REPLACE) and scene.has(Capability.HARD_LINKS))
    assert step["result"]["atomic"] is is_in_one_step
    names = ({"file", backup}, {"file"}) if is_upload else ({"file"}, {"file", backup})
    scene.assert_only(*names)


def test_what_the_server_does_not_keep_is_spoken_of(scene: Scene) -> None:
    wanted = write(scene.here / "file", make_bytes(3_000))

    step = scene.play_well(scene.upload(preserve=["permissions", "times"]))

    scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
    warnings = step["result"].get("warnings", [])
    assert mentions(warnings, PERMISSION_WORDS) is not scene.has(Capability.PERMISSIONS), warnings
    assert mentions(warnings, TIME_WORDS) is not scene.has(Capability.TIMES), warnings
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_permissions_that_are_asked_for(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(3_000))

    outcome = scene.play(scene.copy(is_upload, permissions="0604"))

    if is_upload and not scene.has(Capability.PERMISSIONS):
        assert outcome.exit_code != 0, "permissions were asked for, and not set"
        assert mentions([outcome.step["error"]["message"]], ("permission",))
        scene.assert_only(set(), {"file"})
    else:
        assert outcome.exit_code == 0, outcome.output
        scene.assert_copied(outcome.step, destination / "file", Copy(wanted.data, 0o604), is_upload=is_upload)
        scene.assert_only({"file"}, {"file"})


@both_ways
def test_nothing_is_preserved_that_is_not_asked_for(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(3_000), mode=0o751)

    step = scene.play_well(scene.copy(is_upload, preserve=[]))

    scene.assert_copied(step, destination / "file", Copy(wanted.data, None, None), is_upload=is_upload)
    status = (destination / "file").stat()
    assert abs(status.st_mtime - time.time()) < BACKUP_SECONDS
    # The server's own choice; Conch's is 0777 less its umask.
    assert status.st_mode & 0o777 in (0o644, 0o600, 0o640, 0o755)
    assert not step["result"].get("warnings")
    scene.assert_only({"file"}, {"file"})


def test_a_file_is_written_in_place(scene: Scene) -> None:
    wanted = write(scene.here / "file", make_bytes(40_000))
    write(scene.there / "file", make_bytes(90_000, 2), time=TIME - 5)
    node = (scene.there / "file").stat().st_ino

    step = scene.play_well(scene.upload(atomic=False))

    scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
    assert step["result"]["atomic"] is False
    assert (scene.there / "file").stat().st_ino == node
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_checksum_is_verified(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(MIB + 7))

    step = scene.play_well(scene.copy(is_upload, verify="checksum"))

    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    assert step["result"]["verified"] == ("sha256" if scene.has(Capability.SHELL) else "readback")
    assert step["result"]["sha256"] == hashlib.sha256(wanted.data).hexdigest()
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_a_large_file_over_a_long_line(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(20 * MIB))
    server = scene.running.server

    with LatencyProxy(server.host, server.port, round_trip_seconds=0.03) as line:
        scene.line = (line.host, line.port)
        step = scene.play_well(scene.copy(is_upload))

    scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
    scene.assert_only({"file"}, {"file"})


@both_ways
def test_an_interrupted_file_is_resumed(scene: Scene, is_upload: bool) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(12 * MIB))
    server = scene.running.server
    cut = Cut("up" if is_upload else "down", 9 * MIB)

    with FaultProxy(server.host, server.port, cut, faulty_connections=1) as line:
        scene.line = (line.host, line.port)
        outcome = scene.play(scene.copy(is_upload), retries=1, delay=0)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == 2
    scene.assert_copied(outcome.step, destination / "file", wanted, is_upload=is_upload)
    if is_upload and scene.has(Capability.APPEND):
        assert outcome.step["result"]["resumed_at_bytes"] > 0
    scene.assert_only({"file"}, {"file"})


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-place"])
@pytest.mark.parametrize("is_old", [False, True], ids=["new", "over-an-open-one"])
def test_a_private_file_is_private_all_the_time(scene: Scene, atomic: bool, is_old: bool) -> None:
    """Also where OPEN's mode is not kept: nothing is written before the file is closed off."""
    wanted = write(scene.here / "file", make_bytes(2 * MIB), mode=0o600)
    if is_old:
        write(scene.there / "file", b"", mode=0o666)

    with watching(scene.there) as seen:
        step = scene.play_well(scene.upload(atomic=atomic), bandwidth_limit="4M")

    scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
    assert not scene.has(Capability.PERMISSIONS) or not seen, seen[:3]
    scene.assert_only({"file"}, {"file"})


def test_a_file_is_synced(scene: Scene) -> None:
    wanted = write(scene.here / "file", make_bytes(9_000))

    step = scene.play_well(scene.upload(durable=True))

    scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
    assert step["result"]["durable"] is scene.has(Capability.SYNC)
    assert scene.has(Capability.SYNC) or mentions(step["result"]["warnings"], ("sync",))
    scene.assert_only({"file"}, {"file"})


def test_parents_are_made(scene: Scene) -> None:
    wanted = write(scene.here / "file", make_bytes(9_000))
    mode = {**scene.upload(), "destination_file_name": f"{scene.name}/new/newer/file"}

    step = scene.play_well(mode)

    scene.assert_copied(step, scene.there / "new" / "newer" / "file", wanted, is_upload=True)
    assert os.listdir(scene.there / "new") == ["newer"]
    scene.assert_only({"new"}, {"file"})


def test_a_link_at_the_destination_is_replaced_and_not_followed(scene: Scene) -> None:
    wanted = write(scene.here / "file", make_bytes(9_000))
    target = write(scene.there / "target", b"of the link")
    (scene.there / "file").symlink_to("target")

    step = scene.play_well(scene.upload())

    assert (scene.there / "target").read_bytes() == target.data
    assert not (scene.there / "file").is_symlink()
    scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
    scene.assert_only({"file", "target"}, {"file"})


def test_a_link_at_the_source_is_followed(scene: Scene) -> None:
    wanted = write(scene.there / "target", make_bytes(9_000))
    (scene.there / "file").symlink_to("target")

    if not scene.has(Capability.FOLLOWS_LINKS):
        assert scene.play(scene.download()).step["error"]["type"] == "SourceMissing"
        return
    step = scene.play_well(scene.download())

    assert not (scene.here / "file").is_symlink()
    scene.assert_copied(step, scene.here / "file", wanted, is_upload=False)
    scene.assert_only({"file", "target"}, {"file"})


@both_ways
def test_a_missing_source_is_an_error(scene: Scene, is_upload: bool) -> None:
    _, destination = scene.ends(is_upload)
    write(destination / "file", b"old")

    outcome = scene.play(scene.copy(is_upload))

    assert outcome.step["error"]["type"] == "SourceMissing", outcome.output
    scene.assert_only(*(({"file"}, set()) if is_upload else (set(), {"file"})))
    assert (destination / "file").read_bytes() == b"old"


@both_ways
@pytest.mark.parametrize("before", ["missing", "same", "other"])
def test_check_says_what_the_play_does(scene: Scene, is_upload: bool, before: str) -> None:
    source, destination = scene.ends(is_upload)
    wanted = write(source / "file", make_bytes(3_000))
    if before != "missing":
        write(destination / "file", wanted.data if before == "same" else b"old")

    foretold = scene.play_well(scene.copy(is_upload), arguments=("--check",))
    assert os.listdir(destination) == ([] if before == "missing" else ["file"])
    step = scene.play_well(scene.copy(is_upload))

    assert foretold["status"] == step["status"]
    actions = {"missing": ["create"], "same": [], "other": ["replace"]}[before]
    if is_upload or scene.has(Capability.TELLS_PERMISSIONS):
        assert [one["action"] for one in foretold["changes"]] == actions
    scene.assert_only({"file"}, {"file"})
