"""`connector_type: SCP`: against sshd with and without SFTP, and against asyncssh, which has no shell."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.openssh import OpenSSHServer


@pytest.fixture(params=["sshd", "sshd_without_sftp", "asyncssh_server"])
def server(request: pytest.FixtureRequest) -> Any:
    """Three servers that speak SCP."""
    return request.getfixturevalue(request.param)


def make_file(path: Path, size: int = 700_000) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    return content


def play_scp(runner: Runner, server: Any, mode: dict[str, Any], *arguments: str) -> Outcome:
    return runner.play([step(server, mode, connector_type="SCP")], *arguments)


def assert_arrived(path: Path, content: bytes) -> None:
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.stat().st_mtime == 1_500_000_000


@pytest.mark.parametrize("size", [0, 1, 700_000, 5_000_000])
def test_upload_and_again(runner: Runner, server: Any, remote: Path, size: int) -> None:
    content = make_file(runner.folder / "source", size)

    first = play_scp(runner, server, upload("source", remote / "a"))
    again = play_scp(runner, server, upload("source", remote / "a"))

    assert (first.statuses, again.statuses) == (["changed"], ["ok"]), first.output + again.output
    assert_arrived(remote / "a", content)
    assert snapshot(remote) == {"a": content}
    assert first.step["result"]["verified"] == "size"


@pytest.mark.parametrize("size", [0, 1, 700_000, 5_000_000])
def test_download_and_again(runner: Runner, server: Any, remote: Path, size: int) -> None:
    content = make_file(remote / "source", size)

    first = play_scp(runner, server, download(remote / "source", "local/a"))
    again = play_scp(runner, server, download(remote / "source", "local/a"))

    assert (first.statuses, again.statuses) == (["changed"], ["ok"]), first.output + again.output
    assert_arrived(runner.folder / "local/a", content)
    assert os.listdir(runner.folder / "local") == ["a"]


def test_with_a_shell_an_upload_is_atomic(runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path) -> None:
    content = make_file(runner.folder / "source")
    (remote / "deep").mkdir()
    (remote / "deep/a").write_text("older")
    with (remote / "deep/a").open() as reader:
        outcome = play_scp(runner, sshd_without_sftp, upload("source", remote / "deep/a"))
        assert reader.read() == "older"

    assert outcome.step["result"]["atomic"] is True
    assert outcome.step["result"]["warnings"] == []
    assert snapshot(remote / "deep") == {"a": content}


def test_without_a_shell_an_upload_is_in_place_and_says_so(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    make_file(runner.folder / "source")

    outcome = play_scp(runner, asyncssh_server, upload("source", remote / "a"))

    assert outcome.step["result"]["atomic"] is False
    assert "in place" in outcome.step["result"]["warnings"][0]
    assert "warning:" in outcome.stdout


def test_missing_folders_are_made_with_a_shell(runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path) -> None:
    content = make_file(runner.folder / "source")

    outcome = play_scp(runner, sshd_without_sftp, upload("source", remote / "new/deep/a"))

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "new/deep/a").read_bytes() == content


def test_explicit_permissions(runner: Runner, server: Any, remote: Path) -> None:
    make_file(runner.folder / "source")

    outcome = play_scp(runner, server, upload("source", remote / "a", permissions="0604"))

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").stat().st_mode & 0o7777 == 0o604


def test_check_changes_nothing(runner: Runner, server: Any, remote: Path) -> None:
    make_file(runner.folder / "source")

    outcome = play_scp(runner, server, upload("source", remote / "a"), "--check")

    assert outcome.step["message"] == "would be created"
    assert snapshot(remote) == {}


@pytest.mark.parametrize(
    "name", ["with space", "quo'te", 'dou"ble', "-dash", "ümlaut", "$(touch pwned)", "`id`", "a;b"]
)
def test_names_are_quoted(runner: Runner, sshd_without_sftp: OpenSSHServer, remote: Path, name: str) -> None:
    content = make_file(runner.folder / name)

    up = play_scp(runner, sshd_without_sftp, upload(name, remote / name))
    down = play_scp(runner, sshd_without_sftp, download(remote / name, f"local/{name}"))

    assert (up.exit_code, down.exit_code) == (0, 0), up.output + down.output
    assert snapshot(remote) == {name: content}
    assert snapshot(runner.folder / "local") == {name: content}


def test_missing_source(runner: Runner, server: Any, remote: Path) -> None:
    outcome = play_scp(runner, server, download(remote / "missing", "a"))

    assert outcome.exit_code == 2
    assert outcome.step["error"]["type"] == "SourceMissing", outcome.output
    assert not (runner.folder / "a").exists()


def test_directories_are_refused(runner: Runner, server: Any, remote: Path) -> None:
    make_file(runner.folder / "source")
    (remote / "folder").mkdir()

    up = play_scp(runner, server, upload("source", remote / "folder"))
    down = play_scp(runner, server, download(remote / "folder", "a"))

    assert up.step["error"]["type"] == "DestinationIsDirectory", up.output
    assert down.step["error"]["type"] == "NotARegularFile", down.output
    assert snapshot(remote) == {"folder": None}


def test_no_scp_program(runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path) -> None:
    """The account runs commands, but not this one."""
    make_file(runner.folder / "source")
    config = ("ForceCommand echo scp: command not found >&2; exit 127",)
    with OpenSSHServer(tmp_path / "forced", extra_config=config) as server:
        outcome = play_scp(runner, server, upload("source", remote / "a"))

    assert outcome.exit_code == 2
    assert outcome.step["error"]["type"] == "ServerLacksFeature", outcome.output
    assert "connector_type: SFTP" in outcome.step["error"]["hint"]


def test_an_account_that_talks_at_login(runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path) -> None:
    make_file(runner.folder / "source")
    with OpenSSHServer(tmp_path / "forced", extra_config=("ForceCommand echo Welcome; cat",)) as server:
        outcome = play_scp(runner, server, upload("source", remote / "a"))

    assert outcome.exit_code == 2, outcome.output
    assert "says something before scp begins: 'Welcome'" in outcome.step["error"]["message"]
    assert "start-up files" in outcome.step["error"]["hint"]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (partial(misbehaving.FullDisk, capacity=100_000), "space"),
        (misbehaving.FailingClose, "a"),
    ],
)
def test_a_server_that_fails(runner: Runner, tmp_path: Path, remote: Path, factory: Any, words: str) -> None:
    make_file(runner.folder / "source")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_scp(runner, server, upload("source", remote / "a"))

    assert outcome.exit_code == 2, outcome.output
    assert words in outcome.step["error"]["message"].lower()
    assert "may be incomplete" in outcome.step["error"]["message"]


def test_a_source_that_ends_early(runner: Runner, tmp_path: Path, remote: Path) -> None:
    make_file(remote / "source")
    factory = partial(misbehaving.EarlyEnd, length=100_000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = play_scp(runner, server, download(remote / "source", "local/a"))

    assert outcome.exit_code != 0, outcome.output
    assert snapshot(runner.folder / "local") == {}
