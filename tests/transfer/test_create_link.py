"""create_link: switched in one step, ok if it is right; nothing but a link is ever replaced, and nothing else is left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, connection
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.raw_sftp import (
    OK,
    PERMISSION_DENIED,
    Execute,
    Hangup,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
    version,
)
from tests.transfer.operations import Operation
from tests.transfer.trees import picture


def links(folder: Path) -> dict[str, str]:
    """Every name in a directory, and where it leads if it is a link."""
    return {path.name: os.readlink(path) if path.is_symlink() else "" for path in folder.iterdir()}


def test_a_link_is_created_and_switched(play: Operation) -> None:
    """Its target is written as it stands, and need not be there."""
    status_, result = play.foretold("create_link", path="current", target="releases/1.3")
    assert (status_, result["target"], result["previous_target"]) == ("changed", "releases/1.3", None)
    status_, result = play.foretold("create_link", path="current", target="releases/1.4")
    assert (status_, result["previous_target"], result["warnings"]) == ("changed", "releases/1.3", [])
    assert play.well("create_link", path="current", target="../up", overwrite=True)[1]["atomic"] is True
    assert links(play.remote) == {"current": "../up"}
    assert play.well("create_link", path="current", target="../up")[1] == {
        "path": "current",
        "target": "../up",
        "previous_target": "../up",
        "atomic": None,
        "warnings": [],
    }


def test_what_a_link_leads_to_is_never_touched(play: Operation) -> None:
    """A link to a directory, too: it is the link that is replaced, and nothing is made inside."""
    for name in ("old", "new"):
        (play.remote / name).mkdir()
        (play.remote / name / "file").write_text(name)
    (play.remote / "current").symlink_to("old")

    assert play.foretold("create_link", path="current/", target="new")[0] == "changed"

    assert links(play.remote) == {"old": "", "new": "", "current": "new"}
    assert [os.listdir(play.remote / name) for name in ("old", "new")] == [["file"], ["file"]]


def test_without_overwrite_another_link_is_an_error(play: Operation) -> None:
    (play.remote / "current").symlink_to("old")

    play.failed(
        "DestinationExists", "'old'", "overwrite", name="create_link", path="current", target="new", overwrite=False
    )
    assert play.well("create_link", path="current", target="old", overwrite=False)[0] == "ok"
    assert play.well("create_link", path="fresh", target="new", overwrite=False)[0] == "changed"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_or_a_directory_is_never_replaced(play: Operation, overwrite: bool) -> None:
    (play.remote / "file").write_text("precious")
    (play.remote / "folder").mkdir()
    fields: dict[str, Any] = {"name": "create_link", "target": "new", "overwrite": overwrite}

    play.failed("DestinationExists", "is no link", path="file", **fields)
    play.failed("DestinationIsDirectory", "is a directory", path="folder", **fields)


def test_a_missing_directory_is_named(play: Operation) -> None:
    play.failed("FileRefused", "'a/b'", "create_directory", name="create_link", path="a/b/current", target="x")


def test_names_that_are_not_utf_8_and_long_targets(play: Operation) -> None:
    name, target = "caf\udce9", "/".join(["x" * 200] * 20)
    assert play.foretold("create_link", path=name, target=name)[0] == "changed"
    assert os.readlink(os.fsencode(play.remote) + b"/caf\xe9") == b"caf\xe9"
    assert play.foretold("create_link", path="long", target=target)[0] == "changed"
    (play.remote / os.fsdecode(b"caf\xe9")).unlink()


def test_somebody_who_reads_always_finds_a_link(play: Operation) -> None:
    (play.remote / "current").symlink_to("0")
    missed: list[str] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            try:
                os.readlink(play.remote / "current")
            except OSError as error:
                missed.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        modes = [{"mode_name": "create_link", "path": "current", "target": str(number)} for number in range(1, 20)]
        outcome = play.runner.play([{**connection(play.server), "mode": mode} for mode in modes])
    finally:
        is_over.set()
        reader.join()

    assert outcome.exit_code == 0, outcome.output
    assert missed == []
    assert links(play.remote) == {"current": "19"}


# --- servers -----------------------------------------------------------------------------------------------------------


def test_without_posix_rename_there_are_two_steps_and_a_warning(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "current").symlink_to("old")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.PlainRenameOnly) as server:
        play = Operation(runner, server, remote)
        fresh = play.well("create_link", path="fresh", target="x")[1]
        status_, result = play.well("create_link", path="current", target="new")
        assert play.well("create_link", path="current", target="new")[0] == "ok"

    assert (fresh["atomic"], fresh["warnings"]) == (True, [])
    assert (status_, result["atomic"]) == ("changed", False)
    assert "two steps" in " ".join(result["warnings"])
    assert links(remote) == {"current": "new", "fresh": "x"}


class _Refusing(Script):
    """Refuses one kind of request."""

    refused = Kind.SYMLINK

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, 4, b"no")] if request.kind == self.refused else [execute()]


class _Lying(_Refusing):
    """Says OK to links, and makes none."""

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, 0)] if request.kind == self.refused else [execute()]


class _Silent(Script):
    """Ends the session when a link is to be made."""

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        if request.kind == Kind.SYMLINK:
            raise Hangup
        return [execute()]


@pytest.mark.parametrize(("script", "exit_code"), [(_Refusing, 2), (_Lying, None), (_Silent, 4)])
def test_a_failure_leaves_the_old_link(
    runner: Runner, tmp_path: Path, remote: Path, script: type[Script], exit_code: int | None
) -> None:
    (remote / "current").symlink_to("old")
    before = picture(remote)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        outcome = Operation(runner, server, remote)("create_link", path="current", target="new")

    assert outcome.exit_code == exit_code if exit_code else outcome.exit_code in (2, 6), outcome.output
    hint = outcome.step["error"]["hint"]
    assert hint
    # Nothing that this mode does not have is recommended for it.
    assert "create_parents" not in hint and not hint.startswith("'links")
    assert {name: entry for name, entry in picture(remote).items() if name != "."} == {
        name: entry for name, entry in before.items() if name != "."
    }


class _LostOnce:
    """Servers of which the first one ends the session behind a rename that it has carried out."""

    def __init__(self) -> None:
        self.is_first = True

    def __call__(self) -> Script:
        outer = self

        class Lost(Script):
            def version(self) -> Iterable[bytes]:
                return [version(3, (b"posix-rename@openssh.com", b"1"))]

            def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
                answer = execute()
                is_rename = request.kind == Kind.EXTENDED and request.name == b"posix-rename@openssh.com"
                if is_rename and outer.is_first and os.readlink(outer.path) == "new":
                    outer.is_first = False
                    raise Hangup
                return [answer]

        return Lost()

    path: Path = Path()


def test_a_lost_reply_is_made_up_for_by_a_retry(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "current").symlink_to("old")
    script = _LostOnce()
    script.path = remote / "current"
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        mode = {"mode_name": "create_link", "path": "current", "target": "new"}
        outcome = runner.play([{**connection(server), "mode": mode, "retries": 1, "delay": 0}])

    assert outcome.exit_code == 0, outcome.output
    assert not script.is_first
    assert (outcome.step["status"], outcome.step["attempts"]) == ("changed", 2)
    assert outcome.step["result"]["previous_target"] == "old"
    assert links(remote) == {"current": "new"}


# --- what is left behind is named ---


class _KeepsAll(Script):
    """Removes nothing, and knows no posix-rename: what a link is tried out with stays, and so does what stepped aside."""

    code = PERMISSION_DENIED

    def version(self) -> Iterable[bytes]:
        return [version(3)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        return [status(request.id, self.code)] if request.kind == Kind.REMOVE else [execute()]


@pytest.mark.parametrize("code", [PERMISSION_DENIED, OK], ids=["refused", "said-to-be-done"])
@pytest.mark.parametrize("is_new", [True, False], ids=["new", "switched"])
def test_what_the_server_does_not_remove_is_a_warning(
    runner: Runner, tmp_path: Path, remote: Path, is_new: bool, code: int
) -> None:
    if not is_new:
        (remote / "current").symlink_to("old")
    script: Any = type("Keeps", (_KeepsAll,), {"code": code})
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        outcome = Operation(runner, server, remote)("create_link", path="current", target="new")

    assert outcome.exit_code == 0, outcome.output
    left = sorted(os.listdir(remote))
    left.remove("current")
    assert os.readlink(remote / "current") == "new"
    assert left
    (warning,) = [one for one in outcome.step["result"]["warnings"] if "Left behind on the server" in one]
    assert sorted(part for part in warning.split("'") if part in left) == left


class _EndsBehind(Script):
    """Ends the session when it has carried out so many requests that make or move a link, and lets nobody in again."""

    requests = 1
    is_over = False

    def version(self) -> Iterable[bytes]:
        return [version(3)]

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        answer = execute()
        kind = type(self)
        kind.requests -= request.kind in (Kind.SYMLINK, Kind.RENAME)
        if kind.requests <= 0 and request.kind in (Kind.SYMLINK, Kind.RENAME):
            raise Hangup
        return [answer]


@pytest.mark.parametrize("count", range(1, 7))
def test_what_a_lost_session_may_have_left_is_named(runner: Runner, tmp_path: Path, remote: Path, count: int) -> None:
    """Wherever the line breaks, whatever is there is the old link, the new one, or named in the error."""
    (remote / "current").symlink_to("old")
    script: Any = type("Ends", (_EndsBehind,), {"requests": count})
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        outcome = Operation(runner, server, remote)("create_link", path="current", target="new")

    found = links(remote)
    if script.requests > 0:
        # It needed fewer.
        assert (outcome.exit_code, found) == (0, {"current": "new"}), outcome.output
        return
    assert outcome.exit_code == 4, outcome.output
    message = outcome.step["error"]["message"]
    assert all(name in message for name in found if name != "current"), (found, message)
    if "current" in found:
        assert found["current"] in ("old", "new")
    else:
        (aside,) = [name for name, target in found.items() if target == "old"]
        assert f"The old 'current' may be called '{aside}' by now" in message


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({"path": "a"}, "missing key 'target'"),
        ({"target": "a"}, "missing key 'path'"),
        ({"path": "a", "target": ""}, "'target' must not be empty"),
        ({"path": "a/..", "target": "b"}, "'path' must end in a name"),
        ({"path": "/", "target": "b"}, "'path' must end in a name"),
        ({"path": "a", "target": "~/b"}, "'~' is not expanded"),
        ({"path": "a", "target": "b\0"}, "'target' contains a character"),
        ({"path": "a", "target": "x" * 5000}, "'target' has more than 4,095 bytes"),
        ({"path": "a", "target": "b", "overwrite": "yes"}, "'overwrite' must be"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_contacted(
    runner: Runner, remote: Path, asyncssh_server: AsyncsshServer, mode: dict[str, Any], words: str
) -> None:
    outcome = runner.play([{**connection(asyncssh_server), "mode": {"mode_name": "create_link", **mode}}])

    assert outcome.exit_code == 3, outcome.output
    assert words in outcome.stderr
    assert outcome.report["steps"] == []


def test_a_value_from_outside_leads_to_names_below_what_is_written(
    runner: Runner, remote: Path, asyncssh_server: AsyncsshServer
) -> None:
    mode = {"mode_name": "create_link", "path": "current", "target": "releases/{{ version }}"}
    step = {**connection(asyncssh_server), "mode": mode}

    assert runner.play([step], "-e", "version=1.4").exit_code == 0
    assert links(remote) == {"current": "releases/1.4"}
    outcome = runner.play([step], "-e", "version=../../etc")
    assert outcome.exit_code == 3
    assert "'target': the extra variable 'version' brings '..'" in outcome.stderr
