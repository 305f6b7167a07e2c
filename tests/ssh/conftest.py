"""Fixtures of the SSH tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_sshd
from tests.servers.openssh import OpenSSHServer


@pytest.fixture
def home(_isolated_environment: None) -> Path:
    """The test's own HOME, empty."""
    return Path(os.environ["HOME"])


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """An sshd whose authorized_keys tests may add to."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("keyring")) as server:
        yield server
