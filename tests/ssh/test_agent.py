"""The agent: FIDO keys and certificates pass through it unchanged, only the named key is offered, and none can do harm."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.patience import BUSY_SECONDS
from tests.playbook.bounded_process import run_bounded
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.keys import generate_key_pair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent
from tests.ssh.fake_agents import (
    IDENTITIES_ANSWER,
    REQUEST_IDENTITIES,
    SIGN_RESPONSE,
    SecurityKey,
    blob_of,
    fake_agent,
    listing,
    make_security_key,
    packet,
    string,
)
from tests.ssh.logins import agent, assert_failed, assert_let_in, count_offers, play, write_playbook

MIB = 1024 * 1024


# --- FIDO keys ---


def authorize_security_key(server: OpenSSHServer, key: SecurityKey) -> None:
    with server.user_key_path.with_suffix(".authorized_keys").open("a") as file:
        file.write(f"{key.public_line}\n")


@pytest.mark.parametrize("is_named", [False, True], ids=["any", "named"])
@pytest.mark.parametrize("kind", ["ed25519-sk", "ecdsa-sk"])
def test_a_fido_key_in_the_agent_lets_in(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_named: bool
) -> None:
    """sshd itself verifies the signature: it must arrive as the agent made it."""
    key = make_security_key(kind)
    authorize_security_key(keyring, key)
    with fake_agent(key.answer) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        given = agent(public_key=f"{key.public_line} me@token") if is_named else agent()
        assert_let_in(play(runner, keyring, remote, given), remote)


def test_a_fido_key_that_is_not_touched_costs_no_more_than_connect_timeout(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_security_key("ed25519-sk")
    with fake_agent(lambda kind, fields: listing(key.blob) if kind == REQUEST_IDENTITIES else None) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        started = time.monotonic()
        outcome = play(runner, keyring, remote, agent(), connect_timeout=1)
        assert time.monotonic() - started < 1 + BUSY_SECONDS
    assert_failed(outcome, remote, 2, "CredentialUnusable", "did not sign", "does the key wait for a touch?")


# --- only the named key ---


def test_sshd_counts_one_offer_for_the_named_key_among_many(
    runner: Runner, keyring: OpenSSHServer, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [generate_key_pair(tmp_path / f"key{number}") for number in range(9)]
    with running_agent() as running, count_offers(keyring) as offers:
        running.add(*others, keyring.user_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        outcome = play(runner, keyring, remote, agent(public_key=keyring.user_key.public_line))
        assert_let_in(outcome, remote)
        assert offers() == ["publickey"]


def test_keys_that_no_server_takes_are_not_offered(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would count against MaxAuthTries: DSA keys, keys of unknown types, and what is no key at all."""
    junk = [
        string(b"ssh-dss") + string(b"x") * 4,
        string(b"ssh-unheard-of") + string(b"x"),
        b"",
        b"\xff\xff",
        b"x" * 99,
    ]
    with fake_agent(lambda kind, fields: listing(*junk)) as path, count_offers(keyring) as offers:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        outcome = play(runner, keyring, remote, agent())
        assert offers() == []
    assert_failed(outcome, remote, 2, "CredentialUnusable", "holds no key that a server could accept")


def test_a_comment_may_be_anything(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_security_key("ed25519-sk")
    authorize_security_key(keyring, key)

    def answer(kind: int, fields: bytes) -> bytes:
        is_list = kind == REQUEST_IDENTITIES
        return listing(key.blob, comment=b"\xff\x1b[31m\n\0") if is_list else key.answer(kind, fields)

    with fake_agent(answer) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        assert_let_in(play(runner, keyring, remote, agent()), remote)


# --- an agent that means harm, or is broken ---

LISTS: dict[str, tuple[bytes, str]] = {
    "a huge answer": (b"\xff\xff\xff\xff" + b"x" * 1000, "an answer of 4,294,967,295 bytes"),
    "a large answer": (struct.pack(">I", 300_000) + b"x" * 1000, "an answer of 300,000 bytes"),
    "an empty answer": (bytes(4), "an answer of 0 bytes"),
    "keys without end": (packet(IDENTITIES_ANSWER, b"\xff\xff\xff\xff"), "cannot be read"),
    "more keys than announced": (packet(IDENTITIES_ANSWER, struct.pack(">I", 1), string(b"") * 4), "cannot be read"),
    "too many keys": (listing(*[string(b"ssh-rsa")] * 3000), "3,000 keys"),
    "a list cut short": (packet(IDENTITIES_ANSWER, struct.pack(">I", 1), b"\0\0\0\x20ssh"), "cannot be read"),
    "no count": (packet(IDENTITIES_ANSWER), "cannot be read"),
    "a failure": (packet(5), "it refuses"),
    "another answer": (packet(SIGN_RESPONSE, b"x"), "it answers with 14"),
    "a text": (b"HTTP/1.0 400 Bad Request\r\n\r\n", "an answer of 1,213,486,160 bytes"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_cannot_be_is_told_at_once_and_costs_nothing(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    raw, complaint = LISTS[name]
    with fake_agent(lambda kind, fields: raw) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        started = time.monotonic()
        outcome = play(runner, asyncssh_server, remote, agent())
        assert time.monotonic() - started < BUSY_SECONDS
    assert_failed(outcome, remote, 2, "CredentialUnusable", str(path), complaint, "SSH_AUTH_SOCK")
    assert asyncssh_server.connection_count == 0


def test_an_agent_cannot_fill_the_memory(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the length that it announces nor by how many keys it lists."""
    playbook = write_playbook(runner, asyncssh_server, remote, agent())
    for raw in (LISTS["a huge answer"][0], LISTS["keys without end"][0]):
        with fake_agent(lambda kind, fields, raw=raw: raw) as path:  # type: ignore[misc]
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            ending = run_bounded(runner.folder, "play", str(playbook))
        assert ending.exit_code == 2, ending.output
        assert ending.peak_bytes < 150 * MIB


def test_an_agent_that_hangs_up_is_told(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(kind: int, fields: bytes) -> bytes:
        raise OSError

    with fake_agent(hang_up) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        outcome = play(runner, asyncssh_server, remote, agent())
    assert_failed(outcome, remote, 2, "CredentialUnusable", "it hangs up")


SIGNATURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a failure": (lambda: packet(5), "it refuses"),
    "a list": (lambda: listing(b"x"), "it answers with 12"),
    "nothing": (lambda: packet(SIGN_RESPONSE), "its answer is no signature"),
    "noise": (lambda: packet(SIGN_RESPONSE, b"\xff" * 50), "its answer is no signature"),
    "two signatures": (lambda: packet(SIGN_RESPONSE, string(b"x") * 2), "its answer is no signature"),
    "SHA-1": (
        lambda: packet(SIGN_RESPONSE, string(string(b"ssh-rsa") + string(b"x" * 256))),
        "it signs with b'ssh-rsa', where rsa-sha2-512 is wanted",
    ),
    "a huge answer": (lambda: b"\x7f\xff\xff\xff", "an answer of 2,147,483,647 bytes"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_that_is_none_is_blamed_on_the_agent(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make, complaint = SIGNATURES[name]
    key = shared_key_pair("rsa")
    with (
        fake_agent(lambda kind, fields: listing(blob_of(key)) if kind == REQUEST_IDENTITIES else make()) as path,
        count_offers(keyring) as offers,
    ):
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        outcome = play(runner, keyring, remote, agent())
        assert offers() == []
    assert_failed(outcome, remote, 2, "CredentialUnusable", "the SSH agent did not sign", complaint)


def test_a_signature_over_something_else_is_the_servers_to_refuse(
    runner: Runner, keyring: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_security_key("ed25519-sk")
    authorize_security_key(keyring, key)

    def answer(kind: int, fields: bytes) -> bytes:
        if kind == REQUEST_IDENTITIES:
            return listing(key.blob)
        return packet(SIGN_RESPONSE, string(key.sign(b"something else")))

    with fake_agent(answer) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        outcome = play(runner, keyring, remote, agent())
    assert_failed(outcome, remote, 4, "AuthenticationRefused", key.type, "was refused")
