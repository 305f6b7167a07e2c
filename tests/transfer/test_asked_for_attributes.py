"""Nothing is sent about permissions and times that was not asked for: some servers discard what they refuse to change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, snapshot, step, upload
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import PERMISSION_DENIED, Execute, Fields, Kind, RawSftpServer, Request, Script, status

NOTHING: dict[str, Any] = {"preserve": []}
SERVERS: dict[str, Any] = {"preserve": [], "permissions": "server"}
# More than one request, and more than is written at once.
CONTENT = os.urandom(700_000)


class Unforgiving(Script):
    """Refuses every request for attributes, and discards the file that it was about; notes what it is asked for."""

    def __init__(self, root: Path, asked: list[tuple[str, str, dict[str, int]]]) -> None:
        self._root = root
        self._asked = asked
        self._paths: dict[bytes, Path] = {}

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        fields = Fields(request.body)
        match request.kind:
            case Kind.OPEN | Kind.MKDIR:
                path = self._root / os.fsdecode(fields.string())
                if request.kind == Kind.OPEN:
                    fields.uint32()
                self._note("OPEN" if request.kind == Kind.OPEN else "MKDIR", path, fields.attributes())
                packet = execute()
                if packet[4] == Kind.HANDLE:
                    self._paths[Fields(packet[9:]).string()] = path
                return [packet]
            case Kind.SETSTAT | Kind.FSETSTAT:
                name = fields.string()
                path = self._paths[name] if request.kind == Kind.FSETSTAT else self._root / os.fsdecode(name)
                self._note("SETSTAT", path, fields.attributes())
                if path.is_file():
                    path.unlink()
                return [status(request.id, PERMISSION_DENIED, b"not allowed here")]
        return [execute()]

    def _note(self, kind: str, path: Path, attributes: dict[str, int]) -> None:
        self._asked.append((kind, path.name, attributes))


class Recorded:
    """Such a server, and what it was asked for."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.asked: list[tuple[str, str, dict[str, int]]] = []
        self.server = RawSftpServer(folder, root=root, make_script=partial(Unforgiving, root, self.asked))

    def attributes(self, kind: str) -> list[dict[str, int]]:
        """Those of all requests of a kind."""
        return [attributes for asked, _, attributes in self.asked if asked == kind]


@pytest.fixture
def recorded(tmp_path: Path, remote: Path) -> Iterator[Recorded]:
    old_umask = os.umask(0o022)
    try:
        one = Recorded(tmp_path / "server", remote)
        with one.server:
            yield one
    finally:
        os.umask(old_umask)


def play_file(runner: Runner, recorded: Recorded, size: int = len(CONTENT), **options: Any) -> Outcome:
    (runner.folder / "a").write_bytes(CONTENT[:size])
    (runner.folder / "a").chmod(0o640)
    return runner.play([step(recorded.server, upload("a", "a", **options))])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_server_is_as_unforgiving_as_it_says(runner: Runner, recorded: Recorded, remote: Path) -> None:
    """Without the options the file is lost, and sent once more as such a server takes it: what follows proves something."""
    outcome = play_file(runner, recorded)

    assert [opened["mode"] for opened in recorded.attributes("OPEN")] == [0o600, 0o640]
    assert recorded.attributes("SETSTAT")[0].keys() == {"mode", "accessed", "modified"}
    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}


@pytest.mark.parametrize("size", [0, 1000, len(CONTENT)])
@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in place"])
@pytest.mark.parametrize("options", [NOTHING, SERVERS], ids=["nothing", "server"])
def test_a_new_file_is_created_without_attributes(
    runner: Runner, recorded: Recorded, remote: Path, options: dict[str, Any], atomic: bool, size: int
) -> None:
    outcome = play_file(runner, recorded, size, atomic=atomic, **options)

    assert outcome.exit_code == 0, outcome.output
    assert (recorded.attributes("OPEN"), recorded.attributes("SETSTAT")) == ([{}], [])
    assert snapshot(remote) == {"a": CONTENT[:size]}
    assert mode_of(remote / "a") == 0o644
    assert outcome.step["result"]["warnings"] == []


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in place"])
@pytest.mark.parametrize(
    ("options", "opening", "mode"), [(NOTHING, {"mode": 0o600}, 0o600), (SERVERS, {}, 0o644)], ids=["nothing", "server"]
)
def test_a_replaced_file_is_followed_by_one_that_is_no_more_open_unless_the_server_decides(
    runner: Runner,
    recorded: Recorded,
    remote: Path,
    options: dict[str, Any],
    opening: dict[str, int],
    mode: int,
    atomic: bool,
) -> None:
    (remote / "a").write_bytes(b"old")
    (remote / "a").chmod(0o600)

    outcome = play_file(runner, recorded, atomic=atomic, **options)

    assert outcome.exit_code == 0, outcome.output
    assert (recorded.attributes("OPEN"), recorded.attributes("SETSTAT")) == ([opening], [])
    assert snapshot(remote) == {"a": CONTENT}
    # Written in place, the file is the same as before.
    assert mode_of(remote / "a") == (mode if atomic else 0o600)


@pytest.mark.parametrize("options", [NOTHING, SERVERS], ids=["nothing", "server"])
def test_a_large_file_is_not_resumed_for_it_would_stay_private(
    runner: Runner, recorded: Recorded, remote: Path, options: dict[str, Any]
) -> None:
    content = os.urandom(9_000_000)
    (runner.folder / "a").write_bytes(content)

    outcome = runner.play([step(recorded.server, upload("a", "a", **options))])

    assert outcome.exit_code == 0, outcome.output
    assert (recorded.attributes("OPEN"), recorded.attributes("SETSTAT")) == ([{}], [])
    assert snapshot(remote) == {"a": content}
    assert mode_of(remote / "a") == 0o644


@pytest.mark.parametrize("options", [NOTHING, SERVERS], ids=["nothing", "server"])
def test_a_tree_is_made_without_attributes(
    runner: Runner, recorded: Recorded, remote: Path, options: dict[str, Any]
) -> None:
    source = runner.folder / "source"
    (source / "below/deep").mkdir(parents=True)
    for folder in (source / "below/deep", source / "below"):
        folder.chmod(0o700)
    for name in ("a", "below/b", "below/deep/c"):
        (source / name).write_bytes(CONTENT[: len(name) * 1000])
    (source / "below/large").write_bytes(os.urandom(9_000_000))
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "source",
        "destination_directory_name": "copy",
        **options,
    }

    outcome = runner.play([{**connection(recorded.server), "mode": mode}])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote / "copy") == snapshot(source)
    assert recorded.attributes("SETSTAT") == []
    assert recorded.attributes("OPEN") == [{}] * 4
    assert recorded.attributes("MKDIR") == [{}] * len(recorded.attributes("MKDIR"))
    assert {mode_of(path) for path in (remote / "copy").rglob("*") if path.is_file()} == {0o644}
    assert mode_of(remote / "copy/below/deep") == 0o755


@pytest.mark.parametrize("options", [{"permissions": "server"}, {"preserve": ["times"]}], ids=str)
def test_times_alone_are_sent_without_permissions(runner: Runner, recorded: Recorded, options: dict[str, Any]) -> None:
    play_file(runner, recorded, **options)

    assert recorded.attributes("OPEN") == [{}]
    assert {frozenset(asked) for asked in recorded.attributes("SETSTAT")} == {frozenset(("accessed", "modified"))}


@pytest.mark.parametrize(
    ("options", "mode"),
    [(NOTHING, 0o640), (SERVERS, 0o644), ({"preserve": ["times"]}, 0o640), ({"permissions": "server"}, 0o644)],
    ids=str,
)
def test_openssh_leaves_what_it_was_not_asked_to_change(
    runner: Runner, sshd: OpenSSHServer, remote: Path, options: dict[str, Any], mode: int
) -> None:
    """In a tree too, whose files are new or replaced; a second play finds nothing to do but for the times."""
    source, copy = runner.folder / "source", remote / "copy"
    (source / "below").mkdir(parents=True)
    (copy / "below").mkdir(parents=True)
    (copy / "below").chmod(0o750)
    for name in ("old", "below/old", "new", "below/new"):
        (source / name).write_bytes(b"content")
        (source / name).chmod(0o755)
    for name in ("old", "below/old"):
        (copy / name).write_bytes(b"older")
        (copy / name).chmod(0o640)
    tree = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "source",
        "destination_directory_name": str(copy),
        "compare": "size",
        **options,
    }

    outcomes = [runner.play([{**connection(sshd), "mode": tree}]) for _ in range(2)]

    assert [outcome.exit_code for outcome in outcomes] == [0, 0], outcomes[0].output
    assert outcomes[1].statuses == ["ok"]
    assert snapshot(copy) == snapshot(source)
    assert {name: mode_of(copy / name) for name in ("old", "below/old")} == {"old": mode, "below/old": mode}
    assert {mode_of(copy / name) for name in ("new", "below/new")} == {0o644}
    assert mode_of(copy / "below") == 0o750


@pytest.mark.parametrize("options", [{"permissions": "server"}, NOTHING], ids=str)
def test_permissions_that_nobody_asked_for_are_no_difference(
    runner: Runner, sshd: OpenSSHServer, remote: Path, options: dict[str, Any]
) -> None:
    for path, mode in ((runner.folder / "a", 0o644), (remote / "a", 0o600)):
        path.write_bytes(b"same")
        path.chmod(mode)

    outcome = runner.play([step(sshd, upload("a", remote / "a", compare="checksum", **options))])

    assert outcome.statuses == ["ok"], outcome.output
    assert mode_of(remote / "a") == 0o600


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in place"])
def test_scp_which_must_send_a_mode_sends_that_of_the_old_file(
    runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path, atomic: bool
) -> None:
    (runner.folder / "a").write_bytes(CONTENT)
    (remote / "old").write_bytes(b"old")
    (remote / "old").chmod(0o600)
    steps = [
        step(sshd_without_sftp, upload("a", remote / name, atomic=atomic, **NOTHING), connector_type="SCP")
        for name in ("old", "new")
    ]

    outcome = runner.play(steps)

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"old": CONTENT, "new": CONTENT}
    assert (mode_of(remote / "old"), mode_of(remote / "new")) == (0o600, 0o644)
