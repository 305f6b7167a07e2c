"""Plays whose host is an alias of an SSH configuration, against real servers; and a HOME in which much would run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, snapshot, step, upload
from tests.servers.endpoint import Endpoint
from tests.servers.keys import shared_key_pair
from tests.servers.openssh import OpenSSHServer
from tests.ssh.logins import write_key


def host_block(alias: str, server: Endpoint, folder: Path, *lines: str) -> str:
    """All that is needed to reach a server, whose key stands in a known_hosts file under another name."""
    known_hosts = folder / f"known_hosts_{alias}"
    known_hosts.write_text(f"{alias}-key {server.known_host_line()}\n")
    return "\n  ".join(
        (
            f"Host {alias}",
            f"HostName {server.host}",
            f"Port {server.port}",
            f"User {server.username}",
            f"IdentityFile {server.user_key_path}",
            f"UserKnownHostsFile {folder}/none {known_hosts}",
            f"HostKeyAlias {alias}-key",
            *lines,
            "",
        )
    )


def alias_step(alias: str, remote: Path, config: str | bool = "config", **inputs: Any) -> dict[str, Any]:
    return {"host": alias, "ssh_config": config, "mode": upload("file", remote / "file"), **inputs}


@pytest.fixture
def file(runner: Runner) -> Path:
    path = runner.folder / "file"
    path.write_text("content")
    return path


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
def test_an_alias_is_enough(runner: Runner, sshd: OpenSSHServer, remote: Path, kind: str) -> None:
    (runner.folder / "config").write_text(host_block("bank", sshd, runner.folder))

    outcome = runner.play([alias_step("bank", remote, connector_type=kind)], "-v")

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_text() == "content"
    assert f"known by {runner.folder}/known_hosts_bank:1" in outcome.stdout
    assert (outcome.step["host"], outcome.step["port"]) == (sshd.host, sshd.port)


@pytest.mark.usefixtures("file")
def test_another_key_than_the_known_one_is_refused_whatever_the_configuration_wishes(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    block = host_block("bank", sshd, runner.folder, "StrictHostKeyChecking no", "CheckHostIP no")
    (runner.folder / "config").write_text(block)
    (runner.folder / "known_hosts_bank").write_text(f"bank-key {shared_key_pair().public_line}\n")

    outcome = runner.play([alias_step("bank", remote)])

    assert outcome.exit_code == 5
    assert list(remote.iterdir()) == []
    assert "config:8:3: warning: 'StrictHostKeyChecking no' has no effect for 'bank'" in outcome.stderr


@pytest.mark.usefixtures("file")
def test_no_known_hosts_at_all_is_a_refusal(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    block = host_block("bank", sshd, runner.folder).replace(str(runner.folder / "none"), "/dev/null")
    (runner.folder / "config").write_text(block)
    (runner.folder / "known_hosts_bank").unlink()

    outcome = runner.play([alias_step("bank", remote)])

    assert outcome.exit_code == 5
    assert "no key for it in /dev/null" in outcome.stdout


@pytest.mark.usefixtures("file")
def test_the_way_leads_over_the_jump_hosts_of_the_configuration(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path
) -> None:
    with OpenSSHServer(tmp_path / "gate") as gate:
        blocks = host_block("bank", sshd, runner.folder, "ProxyJump gate"), host_block("gate", gate, runner.folder)
        (runner.folder / "config").write_text("".join(blocks))

        outcome = runner.play([alias_step("bank", remote)])

        assert outcome.exit_code == 0, outcome.output
        assert (remote / "file").read_text() == "content"
        assert gate.wait_for_log(f"target {sshd.host} port {sshd.port}")


def test_listing_and_validating_contact_nothing(runner: Runner, tmp_path: Path) -> None:
    (runner.folder / "config").write_text(
        "Host bank\n  HostName sftp.bank.example\n  Port 2022\n  User u\n  IdentityFile k\nMatch exec true\n"
    )
    write_key(runner.folder / "k", shared_key_pair().private_text)
    playbook = runner.folder / "play.yaml"
    playbook.write_text("- {host: bank, ssh_config: config, mode: MODE}".replace("MODE", str(upload("a", "b"))))
    warning = f"{tmp_path}/config:6:1: warning: the block 'Match exec' for 'bank' does not apply: nothing is executed\n"

    listed = runner("play", "--list-hosts", str(playbook))
    validated = runner("validate", str(playbook))
    quiet = runner("play", "-q", "--list-hosts", str(playbook))

    assert listed.stdout == f"{playbook}: valid, 1 step\n  sftp.bank.example:2022\n"
    assert validated.stdout == f"{playbook}: valid, 1 step\n"
    assert listed.stderr == validated.stderr
    assert listed.stderr.startswith(warning)
    assert quiet.stderr == ""


def test_the_report_on_a_wrong_configuration_is_about_the_playbook(runner: Runner) -> None:
    (runner.folder / "config").write_text("Port 0\n")

    outcome = runner.play([{"host": "bank", "ssh_config": "config", "mode": upload("a", "b")}])

    assert outcome.exit_code == 3
    assert outcome.stderr.startswith(f"{runner.folder}/config:1:1: 'port' must be a number")
    assert outcome.report["playbook"] == str(runner.folder / "play.yaml")
    assert outcome.report["error"]["problems"][0]["location"]["file"] == str(runner.folder / "config")


# --- a HOME full of traps ---


def set_traps(lines: str) -> Path:
    """A HOME in which everything that ssh, paramiko or fabric would run writes `trap`; the trap."""
    home = Path(os.environ["HOME"])
    trap = home / "trap"
    (home / ".ssh").mkdir(mode=0o700)
    config = home / ".ssh/config"
    config.write_text(
        f'Match exec "touch {trap}"\n  Port 1\n'
        f"Host *\n  KnownHostsCommand /usr/bin/touch {trap}\n  LocalCommand touch {trap}\n  PermitLocalCommand yes\n"
        f"  IdentityAgent {trap}\n  PKCS11Provider {trap}\n  SecurityKeyProvider {trap}\n  ControlMaster auto\n"
        f"  ControlPath {trap}\n  XAuthLocation {trap}\n  ForwardX11 yes\n{lines}"
    )
    config.chmod(0o600)
    code = f"open({str(trap)!r}, 'w').close()\nuser = 'nobody'\nport = 1\n"
    for name in (".fabric.py", ".invoke.py", ".ssh/rc"):
        (home / name).write_text(code)
    return trap


@pytest.mark.usefixtures("file")
def test_nothing_of_a_home_full_of_traps_runs(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    trap = set_traps(host_block("bank", sshd, runner.folder) + f"Host other\n  ProxyCommand touch {trap_name()}\n")
    before = snapshot(trap.parent)

    outcome = runner.play([alias_step("bank", remote, config=True)])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(trap.parent) == before
    assert "warning: the block 'Match exec' for 'bank' does not apply: nothing is executed" in outcome.stderr
    assert "has no effect for 'bank': nothing is executed" in outcome.stderr


def trap_name() -> Path:
    return Path(os.environ["HOME"]) / "trap"


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("config", [None, True])
def test_a_configuration_that_cannot_be_followed_matters_only_to_who_asks_for_it(
    runner: Runner, sshd: OpenSSHServer, remote: Path, config: bool | None
) -> None:
    """A command to connect by, and a pipe that would never end."""
    trap = set_traps(f"Host *\n  ProxyCommand touch {trap_name()}\n  HostName 192.0.2.1\nInclude pipe\n")
    os.mkfifo(trap.parent / ".ssh/pipe")
    before = snapshot(trap.parent)
    inputs = {} if config is None else {"ssh_config": config}

    outcome = runner.play([step(sshd, upload("file", remote / "file"), **inputs)])

    assert snapshot(trap.parent) == before
    assert outcome.exit_code == (0 if config is None else 3), outcome.output
    if config:
        assert (
            f"{trap.parent}/.ssh/config:17:1: cannot read the SSH configuration {trap.parent}/.ssh/pipe"
            in outcome.stderr
        )
        assert list(remote.iterdir()) == []


@pytest.mark.usefixtures("file")
def test_a_command_to_connect_by_is_an_error(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    trap = set_traps(f"Host *\n  ProxyCommand touch {trap_name()}\n")

    outcome = runner.play([step(sshd, upload("file", remote / "file"), ssh_config=True)])

    assert outcome.exit_code == 3
    assert f"{trap.parent}/.ssh/config:15:3: 'ProxyCommand' is not executed" in outcome.stderr
    assert not trap.exists()
