"""Servers whose LSTAT tells of what a link leads to, and whose RENAME moves that: ProFTPD does both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, snapshot, step
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer

to_anything = pytest.mark.parametrize("target", ["file", "directory", "nowhere"])


class FollowsWhenLooking(FileServer):
    """LSTAT is STAT, where a link leads somewhere."""

    def lstat(self, path: bytes) -> Any:
        return super().stat(path) if os.path.exists(self.map_path(path)) else super().lstat(path)


class FollowsWhenRenaming(FollowsWhenLooking):
    """RENAME renames what a link leads to as well."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(os.path.realpath(self.map_path(oldpath)), newpath)

    posix_rename = rename


def play(runner: Runner, folder: Path, remote: Path, factory: Any, mode: dict[str, Any], target: str) -> Outcome:
    """Play one mode, where a link beside two files leads to one of them, or nowhere."""
    (remote / "directory").mkdir()
    for path in (remote / "file", remote / "directory" / "file"):
        path.write_bytes(b"precious")
    (remote / "link").symlink_to(target)
    with AsyncsshServer(folder, root=remote, sftp_factory=factory) as server:
        return runner.play([step(server, mode)])


def assert_left(remote: Path, link: str | None, target: str) -> None:
    """What the link may lead to is untouched, and nothing else is there but the link, under this name."""
    left = {"directory", "directory/file", "file", *([link] if link else [])}
    assert set(snapshot(remote)) | {"directory"} | ({link} if link else set()) == left
    assert sorted(os.listdir(remote)) == sorted(left - {"directory/file"})
    for path in (remote / "file", remote / "directory" / "file"):
        assert path.read_bytes() == b"precious"
    assert link is None or os.readlink(remote / link) == target


@to_anything
@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("factory", [FileServer, FollowsWhenLooking, FollowsWhenRenaming])
def test_a_link_is_removed_and_never_what_it_leads_to(
    runner: Runner, tmp_path: Path, remote: Path, factory: Any, recursive: bool, target: str
) -> None:
    mode = {"mode_name": "remove", "path": "link", "recursive": recursive}

    outcome = play(runner, tmp_path / "server", remote, factory, mode, target)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["removed"] == 1
    assert_left(remote, None, target)


@to_anything
def test_a_link_that_cannot_be_seen_at_once_is_told(runner: Runner, tmp_path: Path, remote: Path, target: str) -> None:
    outcome = play(
        runner, tmp_path / "server", remote, FollowsWhenLooking, {"mode_name": "stats", "path": "link"}, target
    )

    result = outcome.step["result"]
    assert (result["type"], result["target"]) == ("link", target), outcome.output


@to_anything
@pytest.mark.parametrize("factory", [FileServer, FollowsWhenLooking])
def test_a_link_is_renamed_itself(runner: Runner, tmp_path: Path, remote: Path, factory: Any, target: str) -> None:
    mode = {"mode_name": "rename", "source_path": "link", "destination_path": "renamed"}

    outcome = play(runner, tmp_path / "server", remote, factory, mode, target)

    assert outcome.exit_code == 0, outcome.output
    assert_left(remote, "renamed", target)


@to_anything
def test_what_a_link_leads_to_is_not_renamed(runner: Runner, tmp_path: Path, remote: Path, target: str) -> None:
    mode = {"mode_name": "rename", "source_path": "link", "destination_path": "renamed"}

    outcome = play(runner, tmp_path / "server", remote, FollowsWhenRenaming, mode, target)

    assert outcome.exit_code == 2, outcome.output
    error = outcome.step["error"]
    assert error["type"] == "FileRefused"
    assert "is not known to rename the link 'link' itself" in error["message"]
    assert "create_link" in error["hint"]
    assert_left(remote, "link", target)
