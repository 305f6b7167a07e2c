"""Shell patterns over the server's files agree with the shell's own."""

from __future__ import annotations

import glob
import os
from functools import partial
from pathlib import Path

import pytest

from runner.transfer import remote_folders
from tests.conftest import Runner
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.transfer.operations import Operation
from tests.transfer.test_operations import EndlessDepth

PATTERNS = [
    *(
        "*",
        "*.csv",
        "in/*.csv",
        "in/?.csv",
        "in/[ab].csv",
        "in/[!ab].csv",
        "*/a.csv",
        "*/*",
        "in*/**",
        "**",
        "**/*.csv",
    ),
    *(
        "in/**/c.csv",
        ".*",
        "in/.*",
        "nowhere/*",
        "a.csv/*",
        "link/*",
        "*/deep/*",
        "in/deep/../*.csv",
        "no*",
        "in/[[]x]",
        *("*/", "in/*/", "in/*.csv/", "**/"),
    ),
]


@pytest.fixture
def tree(remote: Path) -> Path:
    for name in (
        *("a.csv", "b.txt", "in/a.csv", "in/b.csv", "in/c.csv", "in/.hidden.csv", "in/deep/c.csv", "in/deep/er/c.csv"),
        *("inner/a.csv", ".dotted/a.csv", "in/[x]", "in/new\nline.csv"),
    ):
        path = remote / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (remote / "link").symlink_to("in")
    (remote / "in/dangling.csv").symlink_to("nowhere")
    return remote


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_in_a_shell(play: Operation, tree: Path, pattern: str) -> None:
    """Python's glob is the oracle, but for links to directories below `**`, and links that lead nowhere."""
    found = glob.glob(pattern, root_dir=tree, recursive=True)
    expected = sorted({path.rstrip("/") for path in found if (tree / path).exists()} - {""})
    if "**" in pattern:
        expected = [path for path in expected if not path.startswith("link/")]

    outcome = play("wait_for", "--check", path=pattern)

    assert outcome.exit_code == 0, outcome.output
    told = [entry["path"] for entry in outcome.step["result"]["entries"]]
    assert told == sorted(told, key=os.fsencode)
    if pattern == "in*/**":
        expected = [path for path in expected if path not in ("in", "inner")]
    assert sorted(told) == expected


def test_an_absolute_pattern(play: Operation, tree: Path) -> None:
    outcome = play("wait_for", "--check", path=f"{tree}/in/*.csv")

    assert {os.path.basename(entry["path"]) for entry in outcome.step["result"]["entries"]} == {
        *("a.csv", "b.csv", "c.csv", "new\nline.csv")
    }


# --- servers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"../escaped.csv", b"a/b.csv", b"nul\0byte.csv", b"..", b""])
@pytest.mark.parametrize("pattern", ["folder/*.csv", "fol*/*", "folder/**"])
def test_a_hostile_name_is_no_path(runner: Runner, tmp_path: Path, remote: Path, pattern: str, name: bytes) -> None:
    (remote / "folder").mkdir()
    factory = partial(misbehaving.HostileListing, name=name)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = Operation(runner, server, remote)("wait_for", path=pattern, timeout=0)

    assert outcome.exit_code == 2, outcome.output
    assert outcome.step["error"]["type"] in ("FileRefused", "WaitTimedOut")
    assert outcome.step["result"] == {}


@pytest.mark.parametrize("pattern", ["folder/*", "folder/**", "fol*/nothing*"])
def test_a_listing_without_an_end_is_given_up(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(remote_folders, "MAX_ENTRIES", 5_000)
    (remote / "folder").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.EndlessListing) as server:
        play = Operation(runner, server, remote)
        play.failed("FileRefused", "more than 5,000 entries", name="wait_for", path=pattern)


def test_a_depth_without_an_end_is_given_up(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folders, "MAX_NAME_CHARACTERS", 100_000)
    (remote / "folder").mkdir()
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=EndlessDepth) as server:
        play = Operation(runner, server, remote)
        play.failed("FileRefused", "their names are endless", name="wait_for", path="folder/**/nothing")
