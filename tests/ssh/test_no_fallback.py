"""What a step names is tried, once, and nothing else: sshd's own log tells what was. Everything else would let in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, require_sshd
from tests.servers.accounts import PASSWORD, PasswordServer, can_make_accounts
from tests.servers.endpoint import Endpoint
from tests.servers.keys import generate_key_pair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent
from tests.ssh.logins import (
    agent,
    assert_failed,
    assert_refused_at_once,
    authorize,
    count_offers,
    key_file,
    key_text,
    password,
    play,
)

STRANGER = shared_key_pair("ed25519")

# The four kinds of `authentication`, each with a credential that is refused, and the methods that may be tried.
GIVEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "username_password": (password("hunter two"), ["password"]),
    "ssh_key": (key_text(STRANGER.private_text), ["publickey"]),
    "ssh_key with the right password": (key_text(STRANGER.private_text, password=PASSWORD), ["publickey"]),
    "ssh_key_file": (key_file(STRANGER.path), ["publickey"]),
    "ssh_key_file with the right password": (key_file(STRANGER.path, password=PASSWORD), ["publickey"]),
    "ssh_agent": (agent(public_key=STRANGER.public_line), ["publickey"]),
}


@pytest.fixture(scope="module")
def generous(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """An sshd that takes keys, and where it can a password."""
    require_sshd()
    folder = tmp_path_factory.mktemp("generous")
    if can_make_accounts():
        with PasswordServer(folder) as with_password:
            yield with_password
        return
    with OpenSSHServer(folder, extra_config=("PasswordAuthentication yes",)) as server:
        yield server


@pytest.fixture
def rich_home(home: Path, generous: Endpoint) -> Path:
    """A HOME whose default keys would all let in."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    for name in ("id_ed25519", "id_rsa", "id_ecdsa"):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(generous.user_key_text)
        (folder / f"{name}.pub").write_text(generous.user_key.public_line)
    return home


@pytest.mark.parametrize("kind", GIVEN)
def test_a_refusal_is_the_end(
    runner: Runner,
    generous: OpenSSHServer,
    rich_home: Path,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """Neither a default key, nor one of the agent's, nor the password that is meant for a second step, nor a prompt."""
    given, methods = GIVEN[kind]
    askpass = tmp_path / "askpass"
    askpass.write_text(f"#!/bin/sh\ntouch {tmp_path / 'asked'}\necho '{PASSWORD}'\n")
    askpass.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(askpass))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("DISPLAY", ":0")
    with running_agent() as running, count_offers(generous) as offers:
        running.add(STRANGER, generous.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, generous, remote, given)
        assert offers() == methods
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "was refused")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("kind", [kind for kind in GIVEN if kind != "username_password"])
def test_what_cannot_be_used_reaches_no_server(
    runner: Runner, generous: OpenSSHServer, rich_home: Path, remote: Path, tmp_path: Path, kind: str
) -> None:
    """A key that is missing, damaged or not in the agent is no reason to try another way in."""
    given = dict(GIVEN[kind][0])
    damaged = {"ssh_key": STRANGER.private_text[:99], "ssh_key_file": str(tmp_path / "missing")}
    given |= {key: damaged[key] for key in given if key in damaged}
    before = len(generous.log_text())
    with count_offers(generous) as offers:
        outcome = play(runner, generous, remote, given)
        assert offers() == []
    assert "Connection from" not in generous.log_text()[before:]
    if damaged.keys() & given.keys():
        assert_refused_at_once(outcome, remote)
    else:
        assert_failed(outcome, remote, 2, "CredentialUnusable")


def test_the_right_credentials_are_tried_once_as_well(
    runner: Runner, generous: OpenSSHServer, remote: Path, tmp_path: Path
) -> None:
    """Nothing is asked for before, not even what methods there are."""
    for given in (key_file(generous.user_key_path), key_text(generous.user_key_text)):
        with count_offers(generous) as offers:
            assert play(runner, generous, remote, given).exit_code == 0
            assert offers() == ["publickey"]
    if isinstance(generous, PasswordServer):
        with count_offers(generous) as offers:
            assert play(runner, generous, remote, password()).exit_code == 0
            assert offers() == ["password"]


def test_a_key_and_a_password_are_two_steps_of_one_login(
    runner: Runner, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a real sshd with AuthenticationMethods; a wrong password is tried once."""
    require_sshd()
    if not can_make_accounts():
        pytest.skip("only root can give sshd an account with a password")
    server = PasswordServer(tmp_path / "server")
    server.extra_config += ("AuthenticationMethods publickey,password",)
    with server:
        authorize(server, generate_key_pair(tmp_path / "other"))
        with count_offers(server) as offers:
            outcome = play(runner, server, remote, key_file(server.user_key_path, password=PASSWORD))
            assert outcome.exit_code == 0, outcome.output
            assert offers() == ["publickey", "password"]
        with count_offers(server) as offers:
            (remote / "file").unlink()
            outcome = play(runner, server, remote, key_file(server.user_key_path, password="hunter two"))
            assert offers() == ["publickey", "password"]
    assert_failed(outcome, remote, 4, "AuthenticationRefused", "the password was refused")
