"""`verify: checksum`: the hash of what was sent is the hash of what is there, worked out there or read back."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, download, require_sshd, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer


@pytest.fixture(
    params=[("sshd", "SFTP"), ("asyncssh_server", "SFTP"), ("sshd_without_sftp", "SCP"), ("asyncssh_server", "SCP")]
)
def case(request: pytest.FixtureRequest) -> tuple[Any, str, str]:
    """A server, the protocol, and how its hash can be had: OpenSSH has a shell here, asyncssh has none."""
    name, connector_type = request.param
    return request.getfixturevalue(name), connector_type, "sha256" if name.startswith("sshd") else "readback"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_the_level_reached_is_told(runner: Runner, case: tuple[Any, str, str], remote: Path, size: int) -> None:
    server, connector_type, how = case
    content = os.urandom(size)
    name = "it's a 'name'"
    (runner.folder / "up").write_bytes(content)

    outcome = runner.play(
        [
            step(server, upload("up", remote / name, verify="checksum"), connector_type=connector_type),
            step(server, download(remote / name, "down", verify="checksum"), connector_type=connector_type),
        ]
    )

    assert outcome.exit_code == 0, outcome.output
    results = [one["result"] for one in outcome.report["steps"]]
    assert [result["verified"] for result in results] == [how, how]
    assert {result["sha256"] for result in results} == {hashlib.sha256(content).hexdigest()}
    assert (runner.folder / "down").read_bytes() == content


@pytest.mark.parametrize(("program", "how"), [("openssl", "sha256"), ("sha256sum", "sha256"), ("cat", "readback")])
def test_any_program_on_the_server_will_do(
    runner: Runner, tmp_path: Path, remote: Path, program: str, how: str
) -> None:
    require_sshd()
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program} on this machine")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / program).symlink_to(found)
    content = os.urandom(1_000_000)
    (runner.folder / "up").write_bytes(content)

    with OpenSSHServer(tmp_path / "server", extra_config=(f"SetEnv PATH={programs}",)) as server:
        outcome = runner.play([step(server, upload("up", remote / "a", verify="checksum"))])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["verified"] == how
    assert outcome.step["result"]["sha256"] == hashlib.sha256(content).hexdigest()


class _Corrupting(FileServer):
    """Keeps the size and flips a bit: what no status and no size can show."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        changed = bytes([data[0] ^ 1]) + data[1:]
        result: Any = super().write(file_obj, offset, changed)
        return int(result)


def test_a_flipped_bit_is_noticed_and_not_published(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "up").write_bytes(os.urandom(1_000_000))
    (remote / "a").write_bytes(b"older")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=_Corrupting) as server:
        outcome = runner.play([step(server, upload("up", "a", verify="checksum"))])

    assert outcome.exit_code == 6, outcome.output
    assert outcome.step["error"]["type"] == "VerificationFailed"
    assert "SHA-256" in outcome.step["error"]["message"]
    assert snapshot(remote) == {"a": b"older"}


def test_without_checksum_no_hash_is_told(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    (runner.folder / "up").write_bytes(b"x")

    outcome = runner.play([step(asyncssh_server, upload("up", "a"))])

    assert outcome.step["result"]["sha256"] is None
    assert outcome.step["result"]["verified"] == "size"
