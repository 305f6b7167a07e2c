"""`runner hostkey`: the lines it prints, that they are said to be unverified, and how it fails."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from runner.cli.hostkey import parse_address
from tests.conftest import Runner, require_sshd
from tests.patience import BUSY_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.listeners import GarbageServer, closed_port
from tests.servers.mute import MuteServer, Stage
from tests.servers.openssh import OpenSSHServer
from tests.ssh.certified import CertifiedServer, generate_authorities

ALL_TYPES = ("rsa", "ecdsa", "ed25519")


def test_every_host_key_is_printed_with_its_fingerprint_and_as_a_known_hosts_line(
    runner: Runner, tmp_path: Path
) -> None:
    require_sshd()
    with OpenSSHServer(tmp_path / "sshd", host_key_types=ALL_TYPES) as server:
        outcome = runner("hostkey", f"{server.host}:{server.port}")
        assert outcome.exit_code == 0, outcome.output
        lines = outcome.stdout.splitlines()
        for kind in ALL_TYPES:
            assert server.known_hosts_line(kind) in lines
            assert f"# {server.known_host_line(kind).split()[0]} {server.fingerprint(kind)}" in lines
        assert len([line for line in lines if not line.startswith("#")]) == 3
        assert not server.wait_for_log("userauth", timeout_seconds=0.2)


def test_the_output_is_a_known_hosts_file_for_ssh_and_for_the_runner(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(runner("hostkey", f"{sshd.host}:{sshd.port}").stdout)
    command = ["ssh-keygen", "-F", f"[{sshd.host}]:{sshd.port}", "-f", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sshd.known_hosts_line() in found.stdout


def test_the_keys_are_said_to_be_unverified_on_both_streams(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = runner("hostkey", f"{asyncssh_server.host}:{asyncssh_server.port}")
    assert outcome.stdout.startswith(f"# [{asyncssh_server.host}]:{asyncssh_server.port}: UNVERIFIED")
    assert "unverified" in outcome.stderr
    assert asyncssh_server.login_events == []


def test_the_authority_of_a_certificate_is_printed_as_a_comment(runner: Runner, tmp_path: Path) -> None:
    require_sshd()
    (tmp_path / "sshd").mkdir()
    with CertifiedServer(tmp_path / "sshd", "good", generate_authorities(tmp_path)) as server:
        lines = runner("hostkey", f"{server.host}:{server.port}").stdout.splitlines()
        authority = server.authority
        assert f"# certificate signed by ssh-ed25519 {authority.fingerprint}; its authority is" in lines
        assert f"# @cert-authority [{server.host}]:{server.port} {authority.public_line}" in lines
        assert [line for line in lines if not line.startswith("#")] == [server.known_hosts_line()]
        assert not server.wait_for_log("userauth", timeout_seconds=0.1)


def test_the_lines_are_for_the_alias_if_there_is_one(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = runner("hostkey", "--host-key-alias", "bank", f"{asyncssh_server.host}:{asyncssh_server.port}")
    assert outcome.stdout.startswith("# bank: UNVERIFIED")
    assert f"bank {asyncssh_server.known_host_line()}" in outcome.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("bank.example", ("bank.example", 22)),
        ("bank.example:2022", ("bank.example", 2022)),
        ("bank_1", ("bank_1", 22)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("::1", ("::1", 22)),
        ("2001:db8::10", ("2001:db8::10", 22)),
        ("[2001:db8::10]", ("2001:db8::10", 22)),
        ("[2001:db8::10]:2022", ("2001:db8::10", 2022)),
        ("fe80::1%eth0", ("fe80::1%eth0", 22)),
    ],
)
def test_an_address_is_understood(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "me@bank.example",
        "sftp://bank.example",
        "bank.example/inbox",
        "bank.example:",
        "bank.example:0",
        "bank.example:65536",
        "bank.example:ssh",
        "bank.example:-1",
        "bank.example:२२",
        ":22",
        "1:2:3",
        "[::1",
        "[::1]22",
        "[::1]:",
        "[]:22",
        "bank\n.example",
        "bank.example\n",
    ],
)
def test_nonsense_is_a_usage_error(runner: Runner, text: str) -> None:
    outcome = runner("hostkey", "--", text)
    assert outcome.exit_code == 64, outcome.output
    assert "is not HOST[:PORT]" in outcome.stderr
    assert "hint: " in outcome.stderr
    assert outcome.stdout == ""


def test_no_host_an_option_and_a_timeout_of_nothing_are_usage_errors(runner: Runner) -> None:
    for arguments in ((), ("-p",), ("bank.example", "--connect-timeout", "0"), ("one", "two")):
        assert runner("hostkey", *arguments).exit_code == 64


def test_a_closed_port_is_unreachable(runner: Runner) -> None:
    port = closed_port()
    outcome = runner("hostkey", f"127.0.0.1:{port}")
    assert outcome.exit_code == 4
    assert f"127.0.0.1:{port}" in outcome.stderr
    assert "refused" in outcome.stderr
    assert outcome.stdout == ""


def test_an_ipv6_address_is_contacted_as_one(runner: Runner) -> None:
    outcome = runner("hostkey", "[::1]:1")
    assert outcome.exit_code == 4
    assert "cannot connect to [::1]:1" in outcome.stderr


def test_an_unknown_name_is_unreachable(runner: Runner) -> None:
    outcome = runner("hostkey", "no-such-host.invalid", "--connect-timeout", "2")
    assert outcome.exit_code == 4
    assert "no-such-host.invalid" in outcome.stderr


@pytest.mark.parametrize(
    ("stage", "words"),
    [("tcp", "connection was not accepted"), ("banner", "SSH banner"), ("key_exchange", "key exchange")],
)
def test_silence_ends_at_the_timeout(runner: Runner, tmp_path: Path, stage: Stage, words: str) -> None:
    with MuteServer(stage, tmp_path / "server") as server:
        started = time.monotonic()
        outcome = runner("hostkey", f"{server.host}:{server.port}", "--connect-timeout", "1")
        assert 1 <= time.monotonic() - started < 1 + BUSY_SECONDS
    assert outcome.exit_code == 4, outcome.output
    assert words in outcome.stderr
    assert outcome.stdout == ""


def test_what_speaks_no_ssh_is_told(runner: Runner) -> None:
    for greeting in (b"HTTP/1.0 400 Bad Request\r\n\r\n", b"SSH-1.5-old\r\n"):
        with GarbageServer(greeting) as server:
            outcome = runner("hostkey", f"127.0.0.1:{server.port}")
        assert outcome.exit_code == 4, outcome.output
        assert "does not answer as an SSH server" in outcome.stderr
        assert server.connection_count == 1
