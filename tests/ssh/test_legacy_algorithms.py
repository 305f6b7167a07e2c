"""Servers with nothing but broken algorithms: refused with what would be needed, and accepted by name, with a warning."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from paramiko.ssh_exception import SSHException

from runner.ssh import legacy
from runner.ssh.ciphers import make_inbound, make_outbound
from tests.conftest import Outcome, Runner, connection, download, require_sshd, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.forwarding import ForwardingServer
from tests.servers.keys import KeyPair, shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.agents import running_agent
from tests.ssh.logins import agent, assert_failed, assert_let_in, authorize, key_file, key_text, play
from tests.ssh.test_authentication import make_key

# asyncssh asks cryptography for Diffie-Hellman; the runner does not.
pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "connector.schema.json").read_text(encoding="utf-8"))
# What asyncssh is restricted to, by the option that does it; a MAC counts only beside a cipher that needs one.
RESTRICTED: dict[str, dict[str, list[str]]] = {
    **{name: {"kex_algs": [name]} for name in legacy.KEX},
    **{name: {"encryption_algs": [name], "mac_algs": ["hmac-sha2-256"]} for name in legacy.CIPHERS},
    **{name: {"encryption_algs": ["aes128-ctr"], "mac_algs": [name]} for name in legacy.MACS},
}
KINDS = {
    **dict.fromkeys(legacy.KEX, "key exchange"),
    **dict.fromkeys(legacy.CIPHERS, "cipher"),
    **dict.fromkeys(legacy.MACS, "MAC"),
    "ssh-rsa": "host key",
}
CONTENT = os.urandom(300_000)


@pytest.fixture
def restrict(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, list[str]]], None]:
    """Have asyncssh servers offer nothing else."""
    listen: Any = asyncssh.listen

    def restrict(options: dict[str, list[str]]) -> None:
        monkeypatch.setattr(asyncssh, "listen", lambda *given, **more: listen(*given, **more, **options))

    return restrict


def copy_both_ways(runner: Runner, server: Endpoint, remote: Path, *options: str, **inputs: Any) -> Outcome:
    (runner.folder / "up").write_bytes(CONTENT)
    modes_ = [upload("up", remote / "a"), download(remote / "a", "down")]
    return runner.play([step(server, mode, **inputs) for mode in modes_], *options)


@pytest.mark.parametrize("name", sorted(legacy.NAMES))
def test_each_is_refused_with_what_would_be_needed_and_accepted_by_name(
    runner: Runner, tmp_path: Path, remote: Path, restrict: Callable[[dict[str, list[str]]], None], name: str
) -> None:
    server: Endpoint
    if name == "ssh-rsa":
        # asyncssh cannot be kept from SHA-2.
        require_sshd()
        config = ("HostKeyAlgorithms ssh-rsa",)
        server = OpenSSHServer(tmp_path / "server", host_key_types=("rsa",), extra_config=config)
    else:
        restrict(RESTRICTED[name])
        server = AsyncsshServer(tmp_path / "server", root=remote, host_key_types=("rsa",))
    with server:
        refused = copy_both_ways(runner, server, remote)
        words = (f"no {KINDS[name]} in common", f"{KINDS[name]}: the server has {name}", f"legacy_algorithms: [{name}]")
        assert_failed(refused, remote, 4, "NoCommonAlgorithm", *words)
        assert "no credential was sent" in refused.step["error"]["message"]
        assert not isinstance(server, AsyncsshServer) or server.login_events == []

        outcome = copy_both_ways(runner, server, remote, legacy_algorithms=[name])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == (runner.folder / "down").read_bytes() == CONTENT
    warning = f"rests on {name}, which is broken or weak"
    assert outcome.stdout.count(warning) == 1
    for one in outcome.report["steps"]:
        assert [warning in text for text in one["warnings"]] == [True]


@pytest.fixture
def old_sshd(tmp_path: Path) -> Iterator[OpenSSHServer]:
    """An sshd as it was long ago: each kind has one algorithm, and all of them are broken."""
    require_sshd()
    config = (
        "Ciphers aes256-cbc",
        "MACs hmac-sha1",
        "KexAlgorithms diffie-hellman-group14-sha1",
        "HostKeyAlgorithms ssh-rsa",
        "RekeyLimit 1M",
    )
    with OpenSSHServer(tmp_path / "old", host_key_types=("rsa",), extra_config=config) as server:
        yield server


ALL_OF_THEM = ["diffie-hellman-group14-sha1", "ssh-rsa", "aes256-cbc", "hmac-sha1"]


def test_an_old_sshd_is_refused_with_all_that_it_would_need(
    runner: Runner, old_sshd: OpenSSHServer, remote: Path
) -> None:
    outcome = copy_both_ways(runner, old_sshd, remote)
    words = (
        "no key exchange and host key and cipher and MAC in common",
        # The first that the runner has depends on paramiko's version.
        "key exchange: the server has diffie-hellman-group14-sha1, the runner ",
        "curve25519-sha256",
        "host key: the server has ssh-rsa, the runner rsa-sha2-512, rsa-sha2-256",
        "cipher: the server has aes256-cbc, the runner aes128-gcm@openssh.com",
        "MAC: the server has hmac-sha1, the runner hmac-sha2-256-etm@openssh.com",
        f"legacy_algorithms: [{', '.join(ALL_OF_THEM)}]",
    )
    assert_failed(outcome, remote, 4, "NoCommonAlgorithm", *words)


def test_an_old_sshd_is_accepted_by_names_with_a_warning_in_every_place(
    runner: Runner, old_sshd: OpenSSHServer, remote: Path
) -> None:
    names = [*reversed(ALL_OF_THEM), "hmac-md5"]
    outcome = copy_both_ways(runner, old_sshd, remote, legacy_algorithms=names)
    assert outcome.exit_code == 0, outcome.output
    assert (runner.folder / "down").read_bytes() == CONTENT
    warnings = outcome.step["warnings"]
    assert f"rests on {', '.join(reversed(ALL_OF_THEM))}, which are broken or weak" in warnings[0]
    assert "allows hmac-md5" in warnings[1] and "remove it" in warnings[1]
    quiet = copy_both_ways(runner, old_sshd, remote, "-q", legacy_algorithms=names)
    assert quiet.stdout == "" and quiet.step["warnings"] == warnings

    doctor = runner("doctor", str(runner.folder / "play.yaml"))

    assert doctor.exit_code == 0, doctor.output
    assert f"warning: {warnings[0]}" in doctor.stdout
    assert "'legacy_algorithms'" in doctor.stdout


def test_a_name_that_is_not_enough_leads_to_the_next_ones(
    runner: Runner, old_sshd: OpenSSHServer, remote: Path
) -> None:
    outcome = copy_both_ways(runner, old_sshd, remote, legacy_algorithms=["hmac-sha1", "aes256-cbc"])
    words = ("no key exchange and host key in common", "[hmac-sha1, aes256-cbc, diffie-hellman-group14-sha1, ssh-rsa]")
    assert_failed(outcome, remote, 4, "NoCommonAlgorithm", *words)


def test_what_is_better_is_used_where_it_is_there(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    outcome = copy_both_ways(runner, sshd, remote, legacy_algorithms=sorted(legacy.NAMES))
    assert outcome.exit_code == 0, outcome.output
    (warning,) = outcome.step["warnings"]
    assert "without need" in warning and "rests on" not in warning


def test_a_jump_host_has_names_of_its_own(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path, restrict: Callable[[dict[str, list[str]]], None]
) -> None:
    restrict({"kex_algs": ["diffie-hellman-group14-sha1"]})
    (runner.folder / "up").write_bytes(CONTENT)
    with ForwardingServer(tmp_path / "gateway") as gateway:
        way = connection(gateway)
        mode = upload("up", remote / "a")
        outcome = runner.play([step(sshd, mode, proxy_jump=[way], legacy_algorithms=["diffie-hellman-group14-sha1"])])
        assert_failed(outcome, remote, 4, "NoCommonAlgorithm", "jump host 1 of 1", "no key exchange in common")
        way["legacy_algorithms"] = ["diffie-hellman-group14-sha1"]
        outcome = runner.play([step(sshd, mode, proxy_jump=[way])])
    assert outcome.exit_code == 0, outcome.output
    (warning,) = outcome.step["warnings"]
    assert warning.startswith("the connection to jump host 1 of 1") and warning in outcome.stdout


def test_what_nothing_helps_against_is_told(
    runner: Runner, tmp_path: Path, remote: Path, restrict: Callable[[dict[str, list[str]]], None]
) -> None:
    restrict({"kex_algs": ["curve448-sha512"], "encryption_algs": ["aes128-cbc"]})
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = copy_both_ways(runner, server, remote)
    words = ("the server has curve448-sha512", "No name under 'legacy_algorithms' helps", "for the key exchange")
    assert_failed(outcome, remote, 4, "NoCommonAlgorithm", *words)


def test_a_failed_negotiation_is_not_tried_again(
    runner: Runner, tmp_path: Path, remote: Path, restrict: Callable[[dict[str, list[str]]], None]
) -> None:
    restrict({"kex_algs": ["diffie-hellman-group1-sha1"]})
    (runner.folder / "up").write_bytes(CONTENT)
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = runner.play([{**step(server, upload("up", remote / "a")), "retries": 3, "delay": 0.1}])
    assert outcome.step["attempts"] == 1
    assert_failed(outcome, remote, 4, "NoCommonAlgorithm")


def test_the_newer_name_of_a_key_exchange_is_known_as_well(
    runner: Runner, tmp_path: Path, remote: Path, restrict: Callable[[dict[str, list[str]]], None]
) -> None:
    restrict({"kex_algs": ["curve25519-sha256"]})
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        outcome = copy_both_ways(runner, server, remote)
    assert outcome.exit_code == 0, outcome.output
    assert "warnings" not in outcome.step


def test_the_host_keys_of_an_old_server_are_printed_for_its_names(runner: Runner, old_sshd: OpenSSHServer) -> None:
    address = f"{old_sshd.host}:{old_sshd.port}"
    refused = runner("hostkey", address)
    assert refused.exit_code == 4, refused.output
    assert "no key exchange and cipher and MAC in common" in refused.stderr
    needed = "diffie-hellman-group14-sha1,aes256-cbc,hmac-sha1"
    assert f"`--legacy-algorithms {needed}`" in refused.stderr
    refused = runner("hostkey", "--legacy-algorithms", needed, address)
    assert refused.exit_code == 4 and "`--legacy-algorithms ssh-rsa`" in refused.stderr
    outcome = runner("hostkey", "--legacy-algorithms", f"{needed},ssh-rsa", address)
    assert outcome.exit_code == 0, outcome.output
    assert old_sshd.known_hosts_line() in outcome.stdout
    wrong = runner("hostkey", "--legacy-algorithms", "rot13", address)
    assert wrong.exit_code == 64 and "'rot13'" in wrong.stderr and "hmac-md5" in wrong.stderr


# --- which key is trusted ---


@pytest.mark.parametrize("policy", ["known_host", "fingerprint"])
def test_another_rsa_key_is_refused_however_it_is_proven(
    runner: Runner, old_sshd: OpenSSHServer, remote: Path, policy: str
) -> None:
    other = shared_key_pair("rsa")
    given = {"known_host": other.public_line, "fingerprint": other.fingerprint}[policy]
    hostkey = {"hostkey_mode": policy, policy: given}
    outcome = copy_both_ways(runner, old_sshd, remote, legacy_algorithms=ALL_OF_THEM, hostkey=hostkey)
    words = ("is not the expected one", old_sshd.fingerprint(), other.fingerprint)
    assert_failed(outcome, remote, 5, "HostKeyRefused", *words)


def test_a_fingerprint_is_proven_by_sha1_where_that_is_named(
    runner: Runner, old_sshd: OpenSSHServer, remote: Path
) -> None:
    hostkey = {"hostkey_mode": "fingerprint", "fingerprint": old_sshd.fingerprint()}
    outcome = copy_both_ways(runner, old_sshd, remote, legacy_algorithms=ALL_OF_THEM, hostkey=hostkey)
    assert outcome.exit_code == 0, outcome.output


def test_a_key_of_another_type_is_still_a_matter_of_trust(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """The server could prove an RSA key; an ed25519 key is known."""
    require_sshd()
    config = ("HostKeyAlgorithms ssh-rsa",)
    hostkey = {"hostkey_mode": "known_host", "known_host": shared_key_pair().public_line}
    with OpenSSHServer(tmp_path / "server", host_key_types=("rsa",), extra_config=config) as server:
        outcome = copy_both_ways(runner, server, remote, hostkey=hostkey)
        assert_failed(outcome, remote, 5, "HostKeyRefused", "no host key of an expected type (it offers ssh-rsa)")
        outcome = copy_both_ways(runner, server, remote, hostkey=hostkey, legacy_algorithms=["ssh-rsa"])
    assert_failed(outcome, remote, 5, "HostKeyRefused")


# --- the user's own key ---


@pytest.fixture(scope="module")
def rsa_key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("rsa") / "key", "rsa 2048", "openssh", "")


@pytest.mark.parametrize("way", ["file", "text", "agent"])
def test_an_rsa_key_signs_with_sha1_for_a_server_that_takes_nothing_else(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, rsa_key: KeyPair, way: str
) -> None:
    require_sshd()
    config = ("PubkeyAcceptedAlgorithms ssh-rsa",)
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server, running_agent() as running:
        authorize(server, rsa_key)
        running.add(rsa_key)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(running.path))
        given = {"file": key_file(rsa_key.path), "text": key_text(rsa_key.private_text), "agent": agent()}[way]
        refused = play(runner, server, remote, given)
        words = (rsa_key.fingerprint, "takes only SHA-1 signatures", "legacy_algorithms: [ssh-rsa]")
        assert_failed(refused, remote, 4, "AuthenticationRefused", *words)
        outcome = play(runner, server, remote, given, legacy_algorithms=["ssh-rsa"])
    assert_let_in(outcome, remote)
    assert "rests on ssh-rsa" in outcome.step["warnings"][0]


@contextmanager
def saying_what_it_takes(folder: Path, root: Path, restrict: Any, taken: list[str]) -> Iterator[AsyncsshServer]:
    restrict({"signature_algs": taken})
    with AsyncsshServer(folder, root=root) as server:
        yield server


def test_a_server_that_says_it_takes_sha1_only_is_sent_nothing_else(
    runner: Runner, tmp_path: Path, remote: Path, rsa_key: KeyPair, restrict: Any
) -> None:
    with saying_what_it_takes(tmp_path / "server", remote, restrict, ["ssh-rsa", "ssh-ed25519"]) as server:
        object.__setattr__(server.rules, "public_key", rsa_key.public_line)
        refused = play(runner, server, remote, key_file(rsa_key.path))
        assert_failed(refused, remote, 4, "AuthenticationRefused", "it takes ssh-rsa", "legacy_algorithms: [ssh-rsa]")
        assert server.login_events == []
        outcome = play(runner, server, remote, key_file(rsa_key.path), legacy_algorithms=["ssh-rsa"])
    assert_let_in(outcome, remote)
    assert [event.method for event in server.login_events] == ["publickey"]


def test_sha1_is_not_used_where_sha2_is_taken(
    runner: Runner, keyring: OpenSSHServer, remote: Path, rsa_key: KeyPair
) -> None:
    authorize(keyring, rsa_key)
    outcome = play(runner, keyring, remote, key_file(rsa_key.path), legacy_algorithms=["ssh-rsa"])
    assert_let_in(outcome, remote)
    (warning,) = outcome.step["warnings"]
    assert "without need" in warning


# --- the list ---


def test_the_schema_has_the_names_of_the_code() -> None:
    (listed, _) = SCHEMA["properties"]["legacy_algorithms"]["anyOf"]
    assert set(listed["items"]["enum"]) == legacy.NAMES


def test_an_unknown_name_is_told_with_the_known_ones(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    outcome = copy_both_ways(runner, asyncssh_server, remote, legacy_algorithms=["hmac-sha256"])
    assert outcome.exit_code == 3, outcome.output
    (problem, _) = outcome.report["error"]["problems"]
    assert "'hmac-sha256'" in problem["message"] and "legacy_algorithms" in problem["message"]
    assert all(name in problem["message"] for name in legacy.NAMES)
    assert asyncssh_server.connection_count == 0


def test_the_names_may_come_from_a_variable(runner: Runner, old_sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "up").write_bytes(CONTENT)
    one = step(old_sshd, upload("up", remote / "a"), legacy_algorithms="{{ names }}")
    outcome = runner.play({"vars": {"names": ALL_OF_THEM}, "steps": [one]})
    assert outcome.exit_code == 0, outcome.output


# --- CBC ---


def make_cbc_pair(*, etm: bool = False) -> tuple[Any, Any]:
    key, vector, mac_key = os.urandom(16), os.urandom(16), os.urandom(20)
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector))
    shared: dict[str, Any] = {"block_size": 16, "mac_engine": hashlib.sha1, "mac_size": 20, "mac_key": mac_key}
    inbound = make_inbound(cipher.decryptor(), **shared, etm=etm, is_cbc=True)
    return make_outbound(cipher.encryptor(), **shared, etm=etm), inbound


@pytest.mark.parametrize("etm", [False, True])
def test_packets_in_cbc_mode_of_every_size_are_opened_as_they_were_sealed(etm: bool) -> None:
    outbound, inbound = make_cbc_pair(etm=etm)
    for sequence, size in enumerate([*range(1, 70), 32768]):
        payload = os.urandom(size)
        packet = outbound.seal((payload,), sequence)
        assert inbound.open(memoryview(packet[:15]), sequence, 40_000) is None
        opened = inbound.open(memoryview(packet + b"next"), sequence, 40_000)
        assert opened is not None and (bytes(opened[0]), opened[1]) == (payload, len(packet))


def test_the_padding_in_cbc_mode_is_random() -> None:
    key = os.urandom(16)
    shared: dict[str, Any] = {"block_size": 16, "mac_engine": hashlib.sha1, "mac_size": 20, "mac_key": b"x" * 20}

    def seal() -> bytes:
        encryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(16))).encryptor()
        return bytes(make_outbound(encryptor, **shared).seal((b"x",), 0))

    assert seal() != seal()


@pytest.mark.parametrize("position", [0, 3, 16, 40, -1])
def test_a_changed_packet_in_cbc_mode_is_told_only_at_the_longest_length(position: int) -> None:
    """Whatever the first block says when it is decrypted: as much must have come as the longest packet has."""
    outbound, inbound = make_cbc_pair()
    packet = bytearray(outbound.seal((b"x" * 100,), 0))
    packet[position] ^= 1
    limit = 40_000
    for count in (len(packet), len(packet) + 100, limit - 1):
        padded = memoryview(bytes(packet) + bytes(count - len(packet)))
        assert inbound.open(padded, 0, limit) is None
    with pytest.raises(SSHException):
        inbound.open(memoryview(bytes(packet) + bytes(limit - len(packet))), 0, limit)
