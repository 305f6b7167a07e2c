"""Every cipher and MAC on offer carries data both ways; what is broken is not on offer; packets are what they claim."""

from __future__ import annotations

import hashlib
import os
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.ssh_exception import SSHException

from runner.ssh.chacha import ChaChaKeys
from runner.ssh.ciphers import Inbound, Outbound, PlainInbound, PlainOutbound, make_inbound, make_outbound
from runner.ssh.transport import AUTHENTICATED_CIPHERS, CIPHERS, MACS
from tests.conftest import Runner, download, require_sshd, step, upload
from tests.patience import BUSY_SECONDS
from tests.servers.listeners import Listener
from tests.servers.openssh import OpenSSHServer
from tests.servers.processes import list_descendants
from tests.servers.proxy import FaultProxy, Trigger

CTR = [name for name in CIPHERS if "ctr" in name]


@pytest.mark.parametrize(
    ("cipher", "mac"),
    [*((name, None) for name in AUTHENTICATED_CIPHERS), *((CTR[0], mac) for mac in MACS), (CTR[2], MACS[0])],
)
def test_each_protection_carries_data_both_ways(
    runner: Runner, tmp_path: Path, remote: Path, cipher: str, mac: str | None
) -> None:
    require_sshd()
    content = os.urandom(3_000_000)
    (runner.folder / "up").write_bytes(content)
    config = (f"Ciphers {cipher}", *([f"MACs {mac}"] if mac else []), "RekeyLimit 1M")
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server:
        outcome = runner.play([step(server, upload("up", remote / "a")), step(server, download(remote / "a", "down"))])

    assert outcome.exit_code == 0, outcome.output
    assert (runner.folder / "down").read_bytes() == content


@pytest.mark.parametrize("cipher", AUTHENTICATED_CIPHERS)
def test_no_mac_in_common_is_needed_where_the_cipher_authenticates(
    runner: Runner, tmp_path: Path, remote: Path, cipher: str
) -> None:
    require_sshd()
    (runner.folder / "up").write_bytes(b"x")
    config = (f"Ciphers {cipher}", "MACs umac-64@openssh.com")
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server:
        outcome = runner.play([step(server, upload("up", remote / "a"))])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "config", ["Ciphers aes128-cbc", "Ciphers aes128-ctr\nMACs hmac-sha1", "HostKeyAlgorithms ssh-rsa"]
)
def test_a_server_with_nothing_but_broken_algorithms_is_refused(
    runner: Runner, tmp_path: Path, remote: Path, config: str
) -> None:
    require_sshd()
    (runner.folder / "up").write_bytes(b"x")
    lines = tuple(config.split("\n"))
    with OpenSSHServer(tmp_path / "server", host_key_types=("rsa",), extra_config=lines) as server:
        outcome = runner.play([step(server, upload("up", remote / "a"))])

    assert outcome.exit_code in (4, 5), outcome.output
    assert list(remote.iterdir()) == []


def test_a_dead_server_is_noticed_by_its_silence(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """Long before `stall_timeout`, and although its kernel still holds the connection."""
    require_sshd()
    (runner.folder / "up").write_bytes(b"x" * 50_000_000)
    with OpenSSHServer(tmp_path / "server") as server:

        def stop() -> None:
            for pid in list_descendants(server._process.pid if server._process else 0):
                os.kill(pid, signal.SIGSTOP)

        with FaultProxy(server.host, server.port, Trigger("up", 5_000_000, stop)) as proxy:
            one = step(server, upload("up", remote / "a"), keepalive_interval=1, stall_timeout=60)
            started = time.monotonic()
            outcome = runner.play([{**one, "port": proxy.port}])

    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "ConnectionLost"
    assert time.monotonic() - started < 20 + BUSY_SECONDS


def test_an_endless_greeting_is_given_up(runner: Runner, remote: Path, sshd: OpenSSHServer) -> None:
    with Listener(b"x" * 100_000) as server:
        outcome = runner.play([{**step(sshd, upload("up", "a")), "host": server.host, "port": server.port}])

    assert outcome.exit_code == 4
    assert "does not speak SSH" in outcome.step["error"]["message"] or "greeting" in outcome.step["error"]["message"]


def test_a_huge_packet_is_refused_by_its_length(runner: Runner, sshd: OpenSSHServer) -> None:
    """Nothing is allocated for it: the length is checked before the packet is waited for."""
    huge = b"SSH-2.0-huge\r\n" + struct.pack(">I", 0x7FFFFFFF) + b"x" * 100
    with Listener(huge) as server:
        outcome = runner.play([{**step(sshd, upload("up", "a")), "host": server.host, "port": server.port}])

    assert outcome.exit_code == 4
    assert "2,147,483,647 bytes" in outcome.step["error"]["message"]


def make_pair(kind: str) -> tuple[Outbound, Inbound]:
    """Both ends of one kind of protection, under fresh keys."""
    key, nonce, mac_key = os.urandom(16), os.urandom(12), os.urandom(32)
    if kind == "plain":
        return PlainOutbound(), PlainInbound()
    if kind == "gcm":
        shared: dict[str, Any] = {"block_size": 16, "mac_engine": None, "mac_size": 16, "mac_key": None, "aead": True}
        return make_outbound(AESGCM(key), iv_out=nonce, **shared), make_inbound(AESGCM(key), iv_in=nonce, **shared)
    if kind == "chacha":
        keys = ChaChaKeys(os.urandom(64))
        shared = {"block_size": 8, "mac_engine": None, "mac_size": 16, "mac_key": None, "aead": True}
        return make_outbound(keys, iv_out=b"", **shared), make_inbound(keys, iv_in=b"", **shared)
    cipher = Cipher(algorithms.AES(key), modes.CTR(os.urandom(16)))
    shared = {"block_size": 16, "mac_engine": hashlib.sha256, "mac_size": 32, "mac_key": mac_key, "etm": kind == "etm"}
    return make_outbound(cipher.encryptor(), **shared), make_inbound(cipher.decryptor(), **shared)


@pytest.mark.parametrize("kind", ["plain", "gcm", "chacha", "etm", "mac"])
def test_packets_of_every_size_are_opened_as_they_were_sealed(kind: str) -> None:
    outbound, inbound = make_pair(kind)
    for sequence, size in enumerate([*range(1, 70), 1000, 32768, 32768 + 9]):
        payload = os.urandom(size)
        packet = outbound.seal((payload[:1], payload[1:]), sequence)
        assert inbound.open(memoryview(packet[:3]), sequence, 40_000) is None

        opened = inbound.open(memoryview(packet + b"next"), sequence, 40_000)

        assert opened is not None
        assert (bytes(opened[0]), opened[1]) == (payload, len(packet))


@pytest.mark.parametrize("kind", ["gcm", "chacha", "etm", "mac"])
@pytest.mark.parametrize("position", [0, 3, 4, 5, 20, -1])
def test_a_changed_bit_is_noticed(kind: str, position: int) -> None:
    outbound, inbound = make_pair(kind)
    packet = bytearray(outbound.seal((b"x" * 100,), 0))
    packet[position] ^= 1
    padded = memoryview(bytes(packet) + bytes(70_000))

    with pytest.raises(SSHException):
        assert inbound.open(padded, 0, 40_000) is not None, "it waits for more"


@pytest.mark.parametrize("kind", ["chacha", "etm", "mac"])
def test_a_packet_of_another_place_is_noticed(kind: str) -> None:
    outbound, inbound = make_pair(kind)
    packet = outbound.seal((b"x" * 100,), 7)

    # ChaCha20 encrypts the length too: decrypted for another place it is out of bounds, or leads to a wrong tag.
    with pytest.raises(SSHException, match=r"authentication|announced"):
        assert inbound.open(memoryview(packet + bytes(70_000)), 8, 40_000) is not None, "it waits for more"
