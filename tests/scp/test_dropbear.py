"""Dropbear, where it is installed: the commonest server without SFTP."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cancellation import Cancellation, Deadline
from runner.execution.protocols import make_command_starter
from runner.plan import PinnedKeys
from runner.scp.files import ScpFiles
from runner.ssh.opening import open_connection
from tests.conftest import Runner, connection, download, snapshot, step, upload
from tests.servers.accounts import can_make_accounts
from tests.servers.dropbear import DropbearServer, has_dropbear
from tests.ssh.endpoints import make_endpoint


@pytest.fixture(scope="module")
def dropbear(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DropbearServer]:
    if not can_make_accounts():
        pytest.skip("only root can give dropbear an account")
    if not has_dropbear():
        pytest.skip("dropbear is not installed")
    with DropbearServer(tmp_path_factory.mktemp("dropbear")) as server:
        yield server


def make_file(path: Path, size: int) -> bytes:
    content = os.urandom(size)
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    return content


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_an_upload_is_atomic_and_verified(runner: Runner, dropbear: DropbearServer, remote: Path, size: int) -> None:
    content = make_file(runner.folder / "source", size)
    (remote / "a").write_text("older")
    mode = upload("source", remote / "a", verify="checksum")

    first = runner.play([step(dropbear, mode, connector_type="SCP")])
    again = runner.play([step(dropbear, upload("source", remote / "a"), connector_type="SCP")])

    assert (first.statuses, again.statuses) == (["changed"], ["ok"]), first.output + again.output
    assert first.step["result"]["atomic"] is True
    assert first.step["result"]["verified"] == "sha256"
    assert first.step["result"]["warnings"] == []
    assert snapshot(remote) == {"a": content}
    assert (remote / "a").stat().st_mode & 0o7777 == 0o640
    assert (remote / "a").stat().st_mtime == 1_500_000_000


@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_download_and_again(runner: Runner, dropbear: DropbearServer, remote: Path, size: int) -> None:
    content = make_file(remote / "source", size)
    mode = download(remote / "source", "local/a", verify="checksum")

    first = runner.play([step(dropbear, mode, connector_type="SCP")])
    again = runner.play([step(dropbear, download(remote / "source", "local/a"), connector_type="SCP")])

    assert (first.statuses, again.statuses) == (["changed"], ["ok"]), first.output + again.output
    assert snapshot(runner.folder / "local") == {"a": content}


def test_one_command_after_another(dropbear: DropbearServer, remote: Path) -> None:
    """Dropbear would close the next one's channel while the program of the one before ends: we wait for that."""
    make_file(remote / "source", 10)
    cancellation = Cancellation()
    endpoint = make_endpoint(dropbear, PinnedKeys((dropbear.known_host_line(),)))
    connection = open_connection(endpoint, Deadline.after(10), cancellation)
    files = ScpFiles(make_command_starter(connection, 10, 10, cancellation), str(endpoint))

    found = [files.status(str(remote / "source")) for _ in range(20)]
    connection.close()

    assert {one.size_bytes for one in found if one is not None} == {10}


def test_missing_and_unfit(runner: Runner, dropbear: DropbearServer, remote: Path) -> None:
    make_file(runner.folder / "source", 10)
    (remote / "folder").mkdir()

    missing = runner.play([step(dropbear, download(remote / "missing", "a"), connector_type="SCP")])
    folder = runner.play([step(dropbear, upload("source", remote / "folder"), connector_type="SCP")])

    assert missing.step["error"]["type"] == "SourceMissing", missing.output
    assert folder.step["error"]["type"] == "DestinationIsDirectory", folder.output
    assert snapshot(remote) == {"folder": None}


def test_the_doctor(runner: Runner, dropbear: DropbearServer) -> None:
    connections = {"scp": connection(dropbear, connector_type="SCP"), "sftp": connection(dropbear)}
    steps = [{"connection": "scp", "mode": upload("a", "b")}]
    (runner.folder / "play.yaml").write_text(json.dumps({"connections": connections, "steps": steps}))

    outcome = runner("doctor", str(runner.folder / "play.yaml"))

    assert outcome.exit_code in (0, 2), outcome.output
    assert "server           SSH-2.0-dropbear" in outcome.stdout
    assert "commands         run by a POSIX shell\n  scp              answers" in outcome.stdout
    # An sftp-server that is installed serves dropbear too.
    assert outcome.exit_code == 0 or "connector_type: SCP" in outcome.stdout
