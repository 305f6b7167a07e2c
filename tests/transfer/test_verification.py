"""What a copy must have proven; servers whose sizes are not those of the contents; attributes that are not what was set."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PermissionRefused
from runner.plan import CopyFileFromEngine
from runner.remote_files import FileStatus, WantedAttributes
from runner.transfer.verification import NOTHING_VERIFIED, prove_permissions, warn_of_times
from tests.conftest import Outcome, Runner, connection, download, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.misbehaving import OtherSizes
from tests.transfer.test_tree import both_ways

# Most of it is sent in several requests.
CONTENT = os.urandom(300_000)
KEPT = b"kept"
AT = 1_500_000_041


def serve(folder: Path, remote: Path, more: int) -> AsyncsshServer:
    return AsyncsshServer(folder, root=remote, sftp_factory=partial(OtherSizes, more=more))


def prepare(runner: Runner, remote: Path, *, is_upload: bool) -> tuple[Path, Path]:
    """The source's directory and the copy's, in which there is an older one."""
    here = runner.folder / "here"
    here.mkdir()
    source, copy = (here, remote) if is_upload else (remote, here)
    (source / "a").write_bytes(CONTENT)
    (copy / "a").write_bytes(KEPT)
    return source, copy


def play_file(runner: Runner, server: AsyncsshServer, *arguments: str, is_upload: bool, **options: Any) -> Outcome:
    mode = upload("here/a", "a", **options) if is_upload else download("a", "here/a", **options)
    return runner.play([step(server, mode)], *arguments)


def play_tree(runner: Runner, server: AsyncsshServer, *, is_upload: bool, **options: Any) -> Outcome:
    source, copy = ("here", ".") if is_upload else (".", "here")
    mode = {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": source,
        "destination_directory_name": copy,
        **options,
    }
    return runner.play([{**connection(server), "mode": mode}])


@both_ways
@pytest.mark.parametrize("more", [-100, 100])
def test_another_size_fails_and_the_hint_says_what_helps(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool, more: int
) -> None:
    _, copy = prepare(runner, remote, is_upload=is_upload)
    with serve(tmp_path / "server", remote, more) as server:
        outcome = play_file(runner, server, is_upload=is_upload)

    assert outcome.exit_code == 6
    assert snapshot(copy) == {"a": KEPT}
    if is_upload or more > 0:
        assert "'verify: none'" in outcome.step["error"]["hint"]


@both_ways
@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("more", [-100, 100, -len(CONTENT)])
def test_verify_none_takes_the_servers_word(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool, more: int, atomic: bool
) -> None:
    _, copy = prepare(runner, remote, is_upload=is_upload)
    with serve(tmp_path / "server", remote, more) as server:
        outcome = play_file(runner, server, is_upload=is_upload, atomic=atomic, verify="none")

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(copy) == {"a": CONTENT}
    assert outcome.step["result"]["verified"] is None
    assert outcome.step["result"]["warnings"] == [NOTHING_VERIFIED]


@both_ways
@pytest.mark.parametrize("more", [-100, 100])
def test_verify_none_for_a_tree(runner: Runner, tmp_path: Path, remote: Path, is_upload: bool, more: int) -> None:
    source, copy = prepare(runner, remote, is_upload=is_upload)
    (source / "below").mkdir()
    for number in range(5):
        (source / f"below/{number}").write_bytes(CONTENT[number * 200 :])
    with serve(tmp_path / "server", remote, more) as server:
        outcome = play_tree(runner, server, is_upload=is_upload, verify="none")

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(copy) == snapshot(source)
    assert outcome.step["result"]["verified"] is None
    assert outcome.step["result"]["warnings"] == [NOTHING_VERIFIED]


def test_verify_none_warns_on_every_play(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """Also where nothing is to be done: what is there was not verified by the play before."""
    prepare(runner, remote, is_upload=True)
    with serve(tmp_path / "server", remote, 0) as server:
        outcomes = [
            play_file(runner, server, *arguments, is_upload=True, verify="none")
            for arguments in (("--check",), (), (), ("--check",))
        ]

    assert [outcome.statuses for outcome in outcomes] == [["changed"], ["changed"], ["ok"], ["ok"]]
    assert [outcome.step["result"]["warnings"] for outcome in outcomes] == [[NOTHING_VERIFIED]] * 4


def test_what_is_not_verified_is_not_resumed(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """What has arrived could not be proven: nothing of it is kept under a name that a later play would trust."""
    (runner.folder / "here").mkdir()
    (runner.folder / "here/a").write_bytes(os.urandom(9_000_000))
    with serve(tmp_path / "server", remote, -7) as server:
        outcome = play_file(runner, server, is_upload=True, verify="none")

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["resumed_at_bytes"] == 0
    assert (remote / "a").read_bytes() == (runner.folder / "here/a").read_bytes()


def copying(**options: Any) -> CopyFileFromEngine:
    return CopyFileFromEngine("a", "b", **options)


def found(modified_at: int | None = AT, permissions: int | None = 0o640) -> FileStatus:
    return FileStatus(False, True, 5, permissions, modified_at)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (AT - 1, "rounds modification times to two seconds, so that every play copies again: 'modify_window: 2s'"),
        (AT + 1, "'modify_window: 2s'"),
        (AT // 60 * 60, "rounds modification times to minutes, so that every play copies again: 'modify_window: 1m'"),
        (AT + 3600, "are off by 1h, so that every play copies again: 'modify_window: 1h'"),
        (AT - 2 * 3600, "'modify_window: 2h'"),
        (AT + 19_800, "'modify_window: 330m'"),
        (AT + 1_234_567, "sets other modification times than it is asked for"),
        (AT + 100 * 3600, "sets other modification times than it is asked for"),
        (0, "sets other modification times than it is asked for"),
    ],
)
def test_times_that_are_not_those_that_were_set_are_warned_of_with_what_helps(kept: int, words: str) -> None:
    warning = warn_of_times(copying(), WantedAttributes(0o640, AT), found(kept))

    assert warning is not None
    assert words in warning
    assert "'compare: size' or 'compare: checksum'" in warning


def test_the_advice_helps() -> None:
    """With the window that the warning names there is none."""
    for kept in (AT - 1, AT // 60 * 60, AT + 3600, AT + 19_800):
        warning = warn_of_times(copying(), WantedAttributes(None, AT), found(kept))
        assert warning is not None
        number = warning.partition("modify_window: ")[2].partition("'")[0]
        unit = {"s": 1, "m": 60, "h": 3600}[number[-1]]
        window = int(number[:-1]) * unit
        assert warn_of_times(copying(modify_window_seconds=window), WantedAttributes(None, AT), found(kept)) is None


def test_a_warning_of_many_files_is_one() -> None:
    later = [warn_of_times(copying(), WantedAttributes(None, AT + n), found(AT + n + 3600)) for n in range(5)]
    own = [warn_of_times(copying(), WantedAttributes(None, AT + n), found(99 + n)) for n in range(5)]

    assert (len(set(later)), len(set(own))) == (1, 1)


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (WantedAttributes(0o640, AT), found(AT)),
        (WantedAttributes(0o640, None), found(AT + 5)),
        (WantedAttributes(0o640, AT), found(None)),
        (WantedAttributes(0o640, AT), None),
    ],
    ids=["right", "not asked for", "not told", "no status"],
)
def test_times_that_are_right_or_not_known_are_not_warned_of(
    wanted: WantedAttributes, status: FileStatus | None
) -> None:
    assert warn_of_times(copying(), wanted, status) is None


@pytest.mark.parametrize("compare", ["size", "checksum"])
def test_where_times_have_no_say_the_warning_says_how_not_to_ask_for_them(compare: Any) -> None:
    warning = warn_of_times(copying(compare=compare), WantedAttributes(None, AT), found(AT + 3600))

    assert warning is not None
    assert "every play" not in warning
    assert "'preserve: [permissions]'" in warning


def test_permissions_that_were_asked_for_and_are_not_there_fail() -> None:
    with pytest.raises(PermissionRefused) as caught:
        prove_permissions(copying(permissions=0o640), "/in/b", WantedAttributes(0o640, None), found(AT, 0o600), "srv")

    assert caught.value.message == "srv said that it has set the permissions 0640 of '/in/b', and keeps 0600"
    assert "'permissions'" in caught.value.hint


def test_permissions_that_are_the_sources_and_are_not_there_are_warned_of_by_the_mode_that_stayed() -> None:
    warnings = {
        prove_permissions(copying(), name, WantedAttributes(wanted, None), found(AT, 0o600), "srv")
        for name, wanted in (("/in/b", 0o640), ("/in/c", 0o755))
    }

    assert warnings == {"the server says that it sets permissions, and leaves them at 0600"}


@pytest.mark.parametrize(
    ("wanted", "status"),
    [(0o640, found()), (None, found(AT, 0o600)), (0o640, found(AT, None)), (0o640, None)],
    ids=["right", "not asked for", "not told", "no status"],
)
def test_permissions_that_are_right_or_not_known_are_neither(wanted: int | None, status: FileStatus | None) -> None:
    given = copying(permissions=wanted)

    assert prove_permissions(given, "/in/b", WantedAttributes(wanted, None), status, "srv") is None
