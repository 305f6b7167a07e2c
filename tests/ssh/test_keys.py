"""Which private keys are used, and which are refused: the real `ssh` is the measure. (Types and formats given as file and as
text: `test_authentication.py`.)"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Runner, require_sshd
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import KeyPair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent
from tests.ssh.fake_agents import make_security_key
from tests.ssh.logins import (
    agent,
    assert_failed,
    assert_let_in,
    authorize,
    count_offers,
    key_file,
    key_text,
    play,
    write_key,
)
from tests.ssh.security_key_file import write_key_file_text
from tests.ssh.test_authentication import FORMATS, KINDS, make_key

NOBODY = 65534


# --- in the agent ---


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_type_and_format_of_key_lets_in_through_the_agent(
    runner: Runner,
    keyring: OpenSSHServer,
    remote: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    form: str,
) -> None:
    key = make_key(tmp_path / "key", kind, form, "")
    authorize(keyring, key)
    with running_agent() as running, count_offers(keyring) as offers:
        running.add(key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        assert_let_in(play(runner, keyring, remote, agent(public_key=key.public_line)), remote)
        assert offers() == ["publickey"]


# --- RSA ---


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("rsa") / "key", "rsa 3072", "openssh", "")


@pytest.mark.parametrize("way", ["file", "text", "agent"])
@pytest.mark.parametrize("algorithm", ["rsa-sha2-512", "ssh-rsa"])
def test_rsa_keys_sign_with_sha2_and_nothing_else(
    runner: Runner,
    tmp_path: Path,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    rsa_key: KeyPair,
    algorithm: str,
    way: str,
) -> None:
    """sshd takes one algorithm only. `ssh-rsa` is SHA-1: there is no way in then."""
    require_sshd()
    config = (f"PubkeyAcceptedAlgorithms {algorithm}",)
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server, running_agent() as running:
        authorize(server, rsa_key)
        running.add(rsa_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        given = {"file": key_file(rsa_key.path), "text": key_text(rsa_key.private_text), "agent": agent()}
        outcome = play(runner, server, remote, given[way])
    if algorithm == "ssh-rsa":
        assert_failed(outcome, remote, 4, "AuthenticationRefused", rsa_key.fingerprint)
    else:
        assert_let_in(outcome, remote)


def ssh_says(key: Path, *options: str) -> str:
    """What `ssh-keygen` makes of a private key: empty if it can be used."""
    command = ["ssh-keygen", "-y", *options, "-f", str(key)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    return done.stderr if done.returncode else ""


def test_the_shortest_rsa_key_is_that_of_ssh(
    runner: Runner, keyring: OpenSSHServer, tmp_path: Path, remote: Path
) -> None:
    enough = make_key(tmp_path / "enough", "rsa 1024", "pem", "")
    authorize(keyring, enough)
    assert ssh_says(enough.path) == ""
    assert_let_in(play(runner, keyring, remote, key_file(enough.path)), remote)
    (remote / "file").unlink()

    # No current tool makes a shorter one: this one is of openssl's making.
    short = write_key(tmp_path / "short", SHORT_RSA_KEY)
    assert "Invalid key length" in ssh_says(short)
    for given in (key_file(short), key_text(SHORT_RSA_KEY)):
        outcome = play(runner, keyring, remote, given)
        assert_failed(outcome, remote, 2, "CredentialUnusable", "an RSA key of 768 bits", "ed25519")


# `openssl genrsa -traditional 768`
SHORT_RSA_KEY = """\
-----BEGIN RSA PRIVATE KEY-----
MIIBygIBAAJhAMBfpkYCXUvp4Uoiftuw3pffMh+D0UYUEeBfxlcn5pudXpC70SBD
MlhDq5uMZa6xmeCAwQ2P+Ae+MSRBAE9aH4UOoRJHS+vk7iOjF0/kqh7LEBNpvXWC
o6wiyTcQcOXP+wIDAQABAmBXq3+QSkWQch7c9UmQ/1MCLZKfMCiwYjcfZSZz09hR
tO9C0IVmyZjpBrXvZpV0frUR61pzC8frhmzK5T/twH/0e5Kl6XqK8981yppC8vw+
cKzLJ0tX3hI+KoJ32sHO9vECMQDv6Mvu9CRTC39hmvsisV+lJqrZ4qI09lur7PaY
qVUzB2vrCT0M2WhVxU8VMMQdC8MCMQDNRqwhmR5k0Z31M64di1OebNeQprFOGdjv
eMGwcO9oMejQySc/mc+ekEhSOQIdP2kCMQCBV6wjHyM6VpeNguXktWZQfsFcCRDU
pwGTdoUYlyqlAVpQdEGi3M+gdmkFjq4czssCMHlkZb6oshSk8Whj23+VOSni68eb
DBdHqcZT/xa8cpeHjEqL6i3uY509bcdR9zIcoQIwRjN5EoibYLyxxAYq23vu1uSu
ksFI8sgtgzVvBDZQWeQAh3kLGtD+nNYJqhDpkPH+
-----END RSA PRIVATE KEY-----
"""


# --- what no file can hold ---


@pytest.mark.parametrize("passphrase", ["", "open sesame 42"], ids=["plain", "encrypted"])
def test_a_dsa_key_of_openssh_is_told_from_a_damaged_one(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, passphrase: str
) -> None:
    command = ["ssh-keygen", "-q", "-t", "dsa", "-N", passphrase, "-f", str(tmp_path / "key")]
    if subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode:
        pytest.skip("this ssh-keygen makes no DSA keys any more")
    outcome = play(runner, asyncssh_server, remote, key_file(tmp_path / "key", passphrase="open sesame 42"))
    assert_failed(outcome, remote, 2, "CredentialUnusable", "is a DSA key", "ed25519")
    assert asyncssh_server.connection_count == 0


@pytest.mark.parametrize("kind", ["ed25519-sk", "ecdsa-sk"])
def test_the_file_of_a_fido_key_leads_to_the_agent(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path, kind: str
) -> None:
    key = make_security_key(kind)
    path = write_key(tmp_path / "key", write_key_file_text(key))
    assert ssh_says(path) == "", "the test's file is not what ssh-keygen writes"
    outcome = play(runner, asyncssh_server, remote, key_file(path))
    assert_failed(outcome, remote, 2, "CredentialUnusable", "belongs to a FIDO token", "ssh_agent")
    assert asyncssh_server.connection_count == 0


# --- who may read it ---


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o604, 0o640, 0o644, 0o660, 0o610, 0o601, 0o4600, 0o777])
def test_a_key_that_others_may_read_is_refused_as_ssh_refuses_it(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path, mode: int
) -> None:
    path = write_key(tmp_path / "key", sshd.user_key_text)
    path.chmod(mode)
    is_refused = "too open" in ssh_says(path)
    outcome = play(runner, sshd, remote, key_file(path))
    if is_refused:
        words = (str(path), f"{mode:04o}", "open to others", f"chmod 600 {path}")
        assert_failed(outcome, remote, 2, "CredentialUnusable", *words)
    else:
        assert_let_in(outcome, remote)
    assert is_refused == bool(mode & 0o077)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_somebody_else_is_used_as_ssh_uses_it(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path
) -> None:
    """A key that the administrator has put there for a group."""
    path = write_key(tmp_path / "key", sshd.user_key_text)
    path.chmod(0o640)
    os.chown(path, NOBODY, -1)
    assert ssh_says(path) == ""
    assert_let_in(play(runner, sshd, remote, key_file(path)), remote)


def test_an_open_key_is_not_even_decrypted(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path
) -> None:
    key = make_key(tmp_path / "key", "ed25519", "openssh", "open sesame 42")
    key.path.chmod(0o644)
    for more in ({}, {"passphrase": "wrong"}, {"passphrase": "open sesame 42"}):
        outcome = play(runner, asyncssh_server, remote, key_file(key.path, **more))
        assert_failed(outcome, remote, 2, "CredentialUnusable", "open to others")
    assert asyncssh_server.connection_count == 0
