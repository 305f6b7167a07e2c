"""What is said to be weak, where no server at hand is that weak."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.execution.weaknesses import find_notes
from runner.findings import Algorithms, CommandFacts, Login, SftpFacts
from runner.plan import Endpoint, KnownHosts, SshAgent, Target
from runner.problems import Location
from runner.public_keys import PublicKey

GOOD = Login(
    address="127.0.0.1:22",
    seconds=0.1,
    server_version="SSH-2.0-OpenSSH_9.2p1",
    host_key=PublicKey("ssh-ed25519", b""),
    authority=None,
    trusted_by="known_hosts:1",
    lax_files=(),
    algorithms=Algorithms(
        key_exchange="curve25519-sha256@libssh.org",
        host_key="ssh-ed25519",
        ciphers=("aes128-gcm@openssh.com", "aes128-gcm@openssh.com"),
        macs=("", ""),
        compressions=("none", "none"),
        is_strict=True,
    ),
    method="publickey",
)
SFTP = SftpFacts(3, 0.001, (("posix-rename@openssh.com", b"1"),), None, 32768, 32768)
SHELL = CommandFacts("shell", ("sha256sum",), "/home/acme")
TARGET = Target(
    ("bank",),
    "SFTP",
    Endpoint("bank.example", 22, SshAgent("acme"), KnownHosts()),
    connect_timeout_seconds=30,
    stall_timeout_seconds=60,
    location=Location("play.yaml", 1, 1),
)


def notes_on(login: Login) -> str:
    return "\n".join(note.message for note in find_notes(TARGET, login, SFTP, SHELL))


def test_a_good_server_has_no_weakness() -> None:
    assert find_notes(TARGET, GOOD, SFTP, SHELL) == ()


def test_what_was_not_found_out_is_not_weak() -> None:
    assert find_notes(TARGET, None, None, None) == ()


@pytest.mark.parametrize(
    ("banner", "told"),
    [
        ("SSH-2.0-OpenSSH_7.4", "OpenSSH 7.4, which is older than 2019"),
        ("SSH-2.0-OpenSSH_7.9p1 Debian-10", "OpenSSH 7.9, which is older than 2019"),
        ("SSH-1.99-OpenSSH_5.3", "OpenSSH 5.3"),
        ("SSH-2.0-dropbear_2019.78", "dropbear 2019.78, which is older than 2020"),
        ("SSH-2.0-OpenSSH_8.0", ""),
        ("SSH-2.0-OpenSSH_10.0p2", ""),
        ("SSH-2.0-OpenSSH_for_Windows_8.1", ""),
        ("SSH-2.0-dropbear_2022.83", ""),
        ("SSH-2.0-dropbear", ""),
        ("SSH-2.0-mod_sftp", ""),
        ("", ""),
    ],
)
def test_old_software(banner: str, told: str) -> None:
    said = notes_on(replace(GOOD, server_version=banner))

    assert told in said
    assert bool(said) == bool(told)


@pytest.mark.parametrize(
    ("cipher", "mac", "is_strict", "is_open"),
    [
        ("aes128-ctr", "hmac-sha2-256-etm@openssh.com", False, True),
        ("aes128-ctr", "hmac-sha2-256-etm@openssh.com", True, False),
        ("aes128-ctr", "hmac-sha2-256", False, False),
        ("aes128-gcm@openssh.com", "", False, False),
        ("chacha20-poly1305@openssh.com", "", False, True),
        ("chacha20-poly1305@openssh.com", "", True, False),
    ],
)
def test_the_terrapin_attack(cipher: str, mac: str, is_strict: bool, is_open: bool) -> None:
    used = replace(GOOD.algorithms, ciphers=(cipher, cipher), macs=(mac, mac), is_strict=is_strict)

    assert ("Terrapin" in notes_on(replace(GOOD, algorithms=used))) == is_open


@pytest.mark.parametrize(
    ("method", "is_weak"),
    [
        ("password", True),
        ("keyboard-interactive", True),
        ("publickey", False),
        ("publickey+password", False),
    ],
)
def test_a_password_alone_is_weak(method: str, is_weak: bool) -> None:
    assert bool(notes_on(replace(GOOD, method=method))) == is_weak
