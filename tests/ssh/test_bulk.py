"""Much data on one connection: more than the window, more than one set of keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Runner, download, require_sshd, step, upload
from tests.servers.openssh import OpenSSHServer

SIZE = 100_000_000


@pytest.fixture(scope="module")
def rekeying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """A server that asks for new keys after every mebibyte."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("rekeying"), extra_config=("RekeyLimit 1M",)) as server:
        yield server


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
@pytest.mark.parametrize("is_upload", [True, False])
def test_more_than_a_window(
    runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    """A hundred megabytes are many windows, whichever side has to open them."""
    check(runner, sshd, remote, is_upload, connector_type, SIZE)


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
@pytest.mark.parametrize("is_upload", [True, False])
def test_new_keys_in_the_middle(
    runner: Runner, rekeying: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str
) -> None:
    check(runner, rekeying, remote, is_upload, connector_type, 20_000_000)


def check(runner: Runner, server: OpenSSHServer, remote: Path, is_upload: bool, connector_type: str, size: int) -> None:
    block = os.urandom(1_000_000)
    content = block * (size // len(block))
    (runner.folder / "local").write_bytes(content if is_upload else b"")
    (remote / "a").write_bytes(b"" if is_upload else content)
    mode = upload("local", remote / "a") if is_upload else download(remote / "a", "local")

    outcome = runner.play([step(server, mode, connector_type=connector_type, stall_timeout=10)])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == content
    assert (runner.folder / "local").read_bytes() == content
