"""`runner hostkey`: the lines it prints, that they are said to be unverified, and how it fails."""

from __future__ import annotations

import json
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from runner.cli.hostkey import parse_address
from runner.ssh.scan import scan_host_keys
from tests.cli.processes import run_in_shell
from tests.conftest import Runner, require_sshd
from tests.patience import BUSY_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
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


class TestWhatIsPasted:
    """README, step 1: the keys go from the terminal into a playbook."""

    def playbook(self, server: Endpoint, hostkey: str, *, host: str | None = None) -> str:
        """A playbook as somebody writes it, with the block in its place."""
        return f"""\
connections:
  bank:
    host: {json.dumps(host or server.host)}
    port: {server.port}
    authentication:
      authentication_method: ssh_key_file
      username: {server.username}
      ssh_key_file: {server.user_key_path}
{textwrap.indent(hostkey, "    ")}
steps:
  - connection: bank
    mode: {{mode_name: stats, path: .}}
"""

    def test_the_block_can_be_played_with(self, runner: Runner, asyncssh_server: AsyncsshServer) -> None:
        block = runner("hostkey", "--yaml", f"{asyncssh_server.host}:{asyncssh_server.port}").stdout

        outcome = runner.play(self.playbook(asyncssh_server, block))

        assert outcome.exit_code == 0, outcome.output
        assert asyncssh_server.login_events

    def test_a_line_in_quotes_can_be_played_with(self, runner: Runner, asyncssh_server: AsyncsshServer) -> None:
        lines = runner("hostkey", f"{asyncssh_server.host}:{asyncssh_server.port}").stdout.splitlines()
        [line] = [line for line in lines if not line.startswith("#")]
        block = f"hostkey:\n  hostkey_mode: known_host\n  known_host: '{line}'\n"

        assert runner.play(self.playbook(asyncssh_server, block)).exit_code == 0

    def test_another_server_is_refused_with_it(
        self, runner: Runner, asyncssh_server: AsyncsshServer, sshd: OpenSSHServer
    ) -> None:
        block = runner("hostkey", "--yaml", f"{sshd.host}:{sshd.port}").stdout

        assert runner.play(self.playbook(asyncssh_server, block)).exit_code == 5
        assert asyncssh_server.login_events == []

    @pytest.mark.parametrize("kinds", [("ed25519",), ALL_TYPES])
    def test_it_has_every_key_and_says_that_none_is_verified(
        self, runner: Runner, tmp_path: Path, kinds: tuple[str, ...]
    ) -> None:
        require_sshd()
        with OpenSSHServer(tmp_path / "sshd", host_key_types=kinds) as server:
            outcome = runner("hostkey", "--yaml", f"{server.host}:{server.port}")
            playbook = runner.folder / "play.yaml"
            playbook.write_text(self.playbook(server, outcome.stdout))
            assert runner("validate", str(playbook)).exit_code == 0
            lines = outcome.stdout.splitlines()
            assert lines[0].startswith(f"# [{server.host}]:{server.port}: UNVERIFIED")
            assert lines[1:4] == ["hostkey:", "  hostkey_mode: known_host", "  known_host:"]
            for kind in kinds:
                at = lines.index(f'    - "{server.known_hosts_line(kind)}"')
                assert lines[at - 1] == f"    # {server.known_host_line(kind).split()[0]} {server.fingerprint(kind)}"
            assert "unverified" in outcome.stderr

    @pytest.mark.parametrize(
        ("address", "known_as"),
        [
            ("sftp.bank.example", "sftp.bank.example"),
            ("sftp.bank.example:2022", "[sftp.bank.example]:2022"),
            ("::1", "::1"),
            ("[::1]:2022", "[::1]:2022"),
            ("fe80::1%eth0", "fe80::1%eth0"),
        ],
    )
    def test_it_is_valid_for_every_kind_of_address(
        self,
        runner: Runner,
        asyncssh_server: AsyncsshServer,
        monkeypatch: pytest.MonkeyPatch,
        address: str,
        known_as: str,
    ) -> None:
        """Nobody can listen on all of these in a test: the key is one that was asked for elsewhere."""
        found = scan_host_keys(asyncssh_server.host, asyncssh_server.port, 10)
        monkeypatch.setattr("runner.ssh.scan.scan_host_keys", lambda *given: found)
        playbook = runner.folder / "play.yaml"

        block = runner("hostkey", "--yaml", address).stdout
        [line] = [one for one in runner("hostkey", address).stdout.splitlines() if not one.startswith("#")]

        assert f'    - "{known_as} {asyncssh_server.known_host_line()}"' in block.splitlines()
        assert line == f"{known_as} {asyncssh_server.known_host_line()}"
        host, port = parse_address(address)
        for hostkey in (block, f"hostkey:\n  hostkey_mode: known_host\n  known_host: '{line}'\n"):
            text = self.playbook(asyncssh_server, hostkey, host=host).replace(f"{asyncssh_server.port}", str(port))
            playbook.write_text(text)
            outcome = runner("validate", str(playbook))
            assert outcome.exit_code == 0, outcome.output

    def test_an_authority_stays_a_comment(self, runner: Runner, tmp_path: Path) -> None:
        require_sshd()
        (tmp_path / "sshd").mkdir()
        with CertifiedServer(tmp_path / "sshd", "good", generate_authorities(tmp_path)) as server:
            block = runner("hostkey", "--yaml", f"{server.host}:{server.port}").stdout
            known_as = f"[{server.host}]:{server.port}"
            commented = f'    # - "@cert-authority {known_as} {server.authority.public_line}"'
            assert commented in block.splitlines()
            playbook = runner.folder / "play.yaml"
            # What is behind the mark is valid, once somebody has looked at it.
            for text in (block, block.replace("# - ", "- ")):
                playbook.write_text(self.playbook(server, text))
                assert runner("validate", str(playbook)).exit_code == 0


def test_the_ssh_library_prints_nothing(sshd: OpenSSHServer) -> None:
    """It logs a key type that the server lacks as an error, with a traceback; in a process of its own nobody listens."""
    done = run_in_shell('"$@"', ["hostkey", f"{sshd.host}:{sshd.port}"])

    assert done.returncode == 0
    assert done.stderr == ("warning: these keys are unverified; compare their fingerprints before you trust them\n")
    assert sshd.known_hosts_line() in done.stdout


def test_nor_does_it_about_a_server_that_speaks_no_ssh() -> None:
    with GarbageServer(b"HTTP/1.0 400 Bad Request\r\n\r\n") as server:
        done = run_in_shell('"$@"', ["hostkey", f"127.0.0.1:{server.port}"])

    assert done.returncode == 4
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error", "hint"]


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
