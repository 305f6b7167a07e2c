"""A mode to play on the server of each implementation, whose files lie below `remote`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer
from tests.transfer.operations import Operation


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    """Both start in the folder `remote`, which so is the login directory."""
    remote = request.getfixturevalue("remote")
    if request.param == "sshd":
        with OpenSSHServer(tmp_path / "server", login_folder=remote) as sshd:
            yield sshd
        return
    with AsyncsshServer(tmp_path / "server", root=remote) as asyncssh_server:
        yield asyncssh_server


@pytest.fixture
def play(runner: Runner, server: Endpoint, remote: Path) -> Operation:
    return Operation(runner, server, remote)
