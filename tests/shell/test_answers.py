"""Who answers an account's commands: no shell, one of Windows' shells, silence, or the end of the connection."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.shell.shell import _POSIX_ANSWER, _QUESTION
from tests.conftest import Outcome, Runner, download, require_sshd, snapshot, step, upload
from tests.patience import ends_within
from tests.servers.commands import CommandServer, OnCommand, cmd, posix_shell, powershell, strict_powershell
from tests.servers.openssh import OpenSSHServer

CONTENT = b"content\n" * 10_000
# The first one is everywhere.
POSIX_SHELLS = ("sh", "bash", "dash", "busybox sh", "zsh", "ksh", "mksh", "yash")

windows = pytest.mark.parametrize("shell", [powershell, strict_powershell, cmd], ids=lambda shell: shell.__name__)


@pytest.fixture
def source(runner: Runner) -> Path:
    (runner.folder / "source").write_bytes(CONTENT)
    return runner.folder / "source"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell is waited for less long, but still as many times as long as the login took."""
    monkeypatch.setattr("runner.execution.protocols.TRIAL_SECONDS", 1.0)
    monkeypatch.setattr("runner.execution.protocols.TRIAL_LOGINS", 1)


def doctor(runner: Runner, server: Any, **inputs: Any) -> tuple[Outcome, dict[str, Any]]:
    path, report = runner.folder / "doctor.yaml", runner.folder / "doctor.json"
    path.write_text(json.dumps([step(server, upload("source", "a"), **inputs)]))
    outcome = runner("doctor", str(path), "--json", str(report))
    return outcome, json.loads(report.read_text())["connections"][0]


# --- commands: never ---


def test_no_command_is_ever_started_where_the_playbook_says_so(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    modes = [
        upload("source", remote / "a", verify="checksum"),
        upload("source", remote / "a", compare="checksum"),
        download(remote / "a", "copy", verify="checksum"),
        {
            "mode_name": "copy_directory_to_engine",
            "source_directory_name": str(remote),
            "destination_directory_name": "tree",
            "verify": "checksum",
            "compare": "checksum",
        },
    ]
    with CommandServer(tmp_path / "server", root=remote, on_command=posix_shell) as server:
        outcome = runner.play([step(server, mode, commands="never") for mode in modes])
        never = list(server.requests)
        (remote / "a").unlink()
        runner.play([step(server, modes[0])])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "ok", "changed", "changed"]
    assert never == ["sftp"]
    assert outcome.step["result"]["verified"] == "readback"
    assert (runner.folder / "copy").read_bytes() == CONTENT
    # Without it there are some.
    assert server.commands


def test_doctor_starts_no_command_either(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command=posix_shell) as server:
        outcome, found = doctor(runner, server, commands="never")

    assert outcome.exit_code == 0, outcome.output
    assert server.requests == ["sftp"]
    assert found["commands"]["answered_by"] == "never"
    assert "commands         never started ('commands: never')" in outcome.stdout


def test_scp_without_commands_is_a_contradiction(runner: Runner, asyncssh_server: Any) -> None:
    outcome = runner.play([step(asyncssh_server, upload("a", "b"), connector_type="SCP", commands="never")])

    assert outcome.exit_code == 3, outcome.output
    (problem,) = outcome.report["error"]["problems"]
    assert "scp is one that is started on the host" in problem["message"]
    assert "SFTP" in problem["hint"]
    assert asyncssh_server.connection_count == 0


def test_steps_that_may_and_may_not_start_commands_share_no_connection(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    mode = upload("source", remote / "a", verify="checksum")
    other = upload("source", remote / "b", verify="checksum")
    with CommandServer(tmp_path / "server", root=remote, on_command=posix_shell) as server:
        outcome = runner.play([step(server, mode, commands="never"), step(server, other, commands="auto")])

    assert outcome.exit_code == 0, outcome.output
    assert [one["result"]["verified"] for one in outcome.report["steps"]] == ["readback", "sha256"]


# --- Windows ---


@windows
def test_scp_to_windows_writes_in_place_and_says_so(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, shell: OnCommand
) -> None:
    with CommandServer(tmp_path / "server", root=remote, sftp=False, on_command=shell) as server:
        inputs: dict[str, Any] = {"connector_type": "SCP"}
        modes = [upload("source", remote / "a", verify="checksum"), download(remote / "a", "copy")]
        outcome = runner.play([step(server, mode, **inputs) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}
    assert (runner.folder / "copy").read_bytes() == CONTENT
    assert outcome.step["result"]["atomic"] is False
    assert outcome.step["result"]["verified"] == "readback"
    assert any("not atomically" in warning for warning in outcome.step["result"]["warnings"])
    assert len(server.commands) == 1


@windows
def test_sftp_to_windows_is_as_anywhere(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, shell: OnCommand
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command=shell) as server:
        outcome = runner.play([step(server, upload("source", remote / "a", verify="checksum"))])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}
    assert outcome.step["result"]["atomic"] is True
    assert outcome.step["result"]["verified"] == "readback"
    # It is asked who it is, and nothing that it would not understand.
    assert len(server.commands) == 1


@windows
@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_doctor_knows_windows_shells(
    runner: Runner, tmp_path: Path, remote: Path, shell: OnCommand, connector_type: str
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command=shell) as server:
        outcome, found = doctor(runner, server, connector_type=connector_type)

    assert outcome.exit_code == 0, outcome.output
    name = "cmd" if shell is cmd else "powershell"
    assert found["commands"]["answered_by"] == name
    assert f"run by {'cmd.exe' if shell is cmd else 'PowerShell'}, which is no POSIX shell" in outcome.stdout
    assert "use connector_type: SFTP" in outcome.stdout


@windows
def test_windows_without_scp_is_told(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, shell: OnCommand
) -> None:
    with CommandServer(tmp_path / "server", root=remote, scp=False, on_command=shell) as server:
        outcome = runner.play([step(server, upload("source", remote / "a"), connector_type="SCP")])

    assert outcome.exit_code == 2, outcome.output
    error = outcome.step["error"]
    assert error["type"] == "ServerLacksFeature"
    assert "cannot run scp" in error["message"]
    assert "SFTP" in error["hint"]
    assert snapshot(remote) == {}


@pytest.mark.parametrize("shell", [one for one in POSIX_SHELLS if shutil.which(one.split()[0])])
def test_the_question_is_understood_by_every_posix_shell_at_hand(shell: str) -> None:
    done = subprocess.run([*shell.split(), "-c", _QUESTION.decode()], capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, _POSIX_ANSWER, b"")


# --- silence ---


@pytest.mark.parametrize("silence", ["ignore", "hang"])
def test_a_server_that_never_answers_a_command_is_waited_for_once(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, silence: OnCommand, impatient: None
) -> None:
    modes = [upload("source", remote / name, verify="checksum") for name in ("a", "b", "c")]
    with CommandServer(tmp_path / "server", root=remote, on_command=silence) as server, ends_within(10):
        outcome = runner.play([step(server, mode, connect_timeout=60) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT, "b": CONTENT, "c": CONTENT}
    assert len(server.commands) == 1
    # The connection has not been given up for it.
    assert server.connection_count == 1
    warnings = [one["result"]["warnings"] for one in outcome.report["steps"]]
    assert "'commands: never' saves the try" in warnings[0][-1]
    assert warnings[1:] == [[], []]


def test_five_seconds_are_what_a_shell_gets(runner: Runner, tmp_path: Path, remote: Path, source: Path) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command="ignore") as server, ends_within(5 + 10):
        outcome = runner.play([step(server, upload("source", remote / "a", verify="checksum"), connect_timeout=60)])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["result"]["verified"] == "readback"
    assert outcome.step["duration_seconds"] >= 5


def test_scp_goes_on_without_a_shell_that_never_answers(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command="hang") as server:
        outcome = runner.play([step(server, upload("source", remote / "a"), connector_type="SCP", connect_timeout=3)])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}
    assert outcome.step["result"]["atomic"] is False


@pytest.mark.parametrize("silence", ["ignore", "hang"])
def test_doctor_tells_of_silence(
    runner: Runner, tmp_path: Path, remote: Path, silence: OnCommand, impatient: None
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command=silence) as server:
        outcome, found = doctor(runner, server)

    assert outcome.exit_code == 0, outcome.output
    assert found["commands"]["answered_by"] == "silent"
    assert found["sftp"]["login_directory"]
    assert "'commands: never'" in outcome.stdout


def test_a_shell_that_never_answers_may_be_interrupted_by_timeout(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command="ignore") as server, ends_within(2 + 3):
        outcome = runner.play([step(server, upload("source", remote / "a", verify="checksum"), timeout=2)])

    assert outcome.exit_code == 4, outcome.output
    assert outcome.step["error"]["type"] == "StepTimedOut"
    assert snapshot(remote) == {}


# --- the end of the connection ---


@pytest.mark.parametrize("software", ["", "OpenSSH_9.2p1"], ids=["any", "as OpenSSH"])
def test_a_server_that_ends_the_connection_for_a_command_is_logged_in_to_once_more(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, software: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CommandServer, "software", software)
    modes = [upload("source", remote / name, verify="checksum") for name in ("a", "b")]
    with CommandServer(tmp_path / "server", root=remote, on_command="disconnect") as server:
        outcome = runner.play([step(server, mode) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "changed"]
    assert {name: (remote / name).read_bytes() for name in "ab"} == {"a": CONTENT, "b": CONTENT}
    if not software:
        assert len(snapshot(remote)) == 2
    assert len(server.commands) == 1
    assert server.connection_count == 2
    warnings = outcome.step["result"]["warnings"]
    assert any("'commands: never' saves the try" in warning for warning in warnings)
    # What the first try has left, if it did, is named.
    left = sorted(str(path) for path in remote.iterdir() if path.name not in "ab")
    assert all(any(repr(path) in warning for warning in warnings) for path in left)
    assert outcome.report["steps"][1]["result"]["warnings"] == []


def test_a_tree_goes_on_as_well(runner: Runner, tmp_path: Path, remote: Path) -> None:
    folder = runner.folder / "tree"
    folder.mkdir()
    for number in range(50):
        (folder / str(number)).write_bytes(b"%d" % number * 1000)
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": "tree",
        "destination_directory_name": str(remote / "tree"),
        "verify": "checksum",
    }
    with CommandServer(tmp_path / "server", root=remote, on_command="disconnect") as server:
        outcome = runner.play([step(server, mode)])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote / "tree") == snapshot(folder)
    assert server.connection_count == 2


def test_scp_begins_in_place_only_when_the_connection_has_ended_twice(
    runner: Runner, tmp_path: Path, remote: Path, source: Path
) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command="disconnect") as server:
        outcome = runner.play([step(server, upload("source", remote / "a"), connector_type="SCP")])

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(remote) == {"a": CONTENT}
    assert len(server.commands) == 2
    assert outcome.step["result"]["atomic"] is False


def test_doctor_tells_of_it(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with CommandServer(tmp_path / "server", root=remote, on_command="disconnect") as server:
        outcome, found = doctor(runner, server)

    assert outcome.exit_code == 0, outcome.output
    assert found["commands"]["answered_by"] == "hangup"
    assert "Set 'commands: never' for this connection." in outcome.stdout


# --- accounts of OpenSSH that are odd ---


@pytest.mark.parametrize(
    ("config", "answered_by"),
    [
        (("ForceCommand internal-sftp",), "program"),
        (("ForceCommand echo This account is for SFTP only.; exit 1",), "program"),
        (("PermitTTY no", "AllowTcpForwarding no", "X11Forwarding no"), "shell"),
        (('ForceCommand echo Welcome; eval "$SSH_ORIGINAL_COMMAND"',), "program"),
    ],
    ids=["internal-sftp", "a refusal", "no terminal", "a noisy shell"],
)
def test_odd_accounts_of_openssh_are_no_failure(
    runner: Runner, tmp_path: Path, remote: Path, source: Path, config: tuple[str, ...], answered_by: str
) -> None:
    require_sshd()
    with OpenSSHServer(tmp_path / "server", extra_config=config) as server:
        _, found = doctor(runner, server, connector_type="SCP")

    assert found["commands"]["answered_by"] == answered_by
