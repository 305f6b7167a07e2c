"""Fixtures: a HOME of its own for every test, real servers, and the `runner` command in this process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.cli.main import run
from runner.playbook.vault_password import ENVIRONMENT_NAMES
from tests.servers.accounts import PasswordServer, can_make_accounts
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer, find_sshd
from tests.skips import pytest_runtest_makereport

__all__ = ["pytest_runtest_makereport"]

WORKERS_PER_CORE = 3
MAX_WORKERS = 24
OUTSIDE_NAMES = ("SSH_AUTH_SOCK", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS")


# Under `nohup`, in the background of a shell and in some CI systems they are ignored, and the runner keeps that up. Tests of
# signals begin as in the foreground of a shell.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Several workers for each core (`-n auto`): three quarters of the tests' time are spent waiting for an end."""
    return min(WORKERS_PER_CORE * len(os.sched_getaffinity(0)), MAX_WORKERS)


@pytest.fixture(autouse=True)
def _isolated_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's ~/.ssh, talks to the user's agent, or depends on the shell it runs in."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in (*OUTSIDE_NAMES, *ENVIRONMENT_NAMES):
        monkeypatch.delenv(name, raising=False)


def require_sshd() -> None:
    """Skip a test that needs sshd on a machine without one; in CI that is a failure."""
    if find_sshd() is None:
        pytest.skip("openssh-server is not installed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the command left: exit code, output, and the JSON report if one was asked for."""

    exit_code: int
    stdout: str
    stderr: str
    report: dict[str, Any]

    @property
    def step(self) -> dict[str, Any]:
        """The report on the first step."""
        step: dict[str, Any] = self.report["steps"][0]
        return step

    @property
    def statuses(self) -> list[str]:
        return [step["status"] for step in self.report["steps"]]

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Runner:
    """Runs `runner` in this process, in a working folder of the test's own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Outcome:
        self._capsys.readouterr()
        exit_code = run(list(arguments))
        captured = self._capsys.readouterr()
        return Outcome(exit_code, captured.out, captured.err, {})

    def play(self, playbook: str | list[Any] | dict[str, Any], *arguments: str) -> Outcome:
        """Write the playbook to `play.yaml` (JSON is YAML) and play it, with a report."""
        path = self.folder / "play.yaml"
        text = playbook if isinstance(playbook, str) else json.dumps(playbook, indent=2)
        path.write_text(text, encoding="utf-8")
        report_path = self.folder / "report.json"
        report_path.unlink(missing_ok=True)
        outcome = self("play", str(path), "--json", str(report_path), *arguments)
        report = json.loads(report_path.read_text(encoding="utf-8")) if report_path.exists() else {}
        return Outcome(outcome.exit_code, outcome.stdout, outcome.stderr, report)


@pytest.fixture
def runner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(tmp_path, capsys)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """One OpenSSH server for all tests of a worker that do not change it."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def sshd_without_sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """One OpenSSH server that has a shell and scp, but no SFTP subsystem."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("sshd-scp"), sftp=False) as server:
        yield server


@pytest.fixture(scope="session")
def sshd_with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PasswordServer]:
    """One OpenSSH server that lets in by password. Only root can have one: elsewhere asyncssh alone speaks for it."""
    require_sshd()
    if not can_make_accounts():
        pytest.skip("only root can give sshd an account with a password")
    with PasswordServer(tmp_path_factory.mktemp("sshd-password")) as server:
        yield server


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """The folder that stands for the server's disk."""
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


@pytest.fixture
def asyncssh_server(tmp_path: Path, remote: Path) -> Iterator[AsyncsshServer]:
    """The second implementation, without a shell, with a password as well as a key."""
    with AsyncsshServer(tmp_path / "asyncssh", root=remote, password="correct horse") as server:
        yield server


def connection(server: Endpoint, **inputs: Any) -> dict[str, Any]:
    """Connector inputs for a test server: key file, pinned host key. `inputs` replace or add to them."""
    return {
        "host": server.host,
        "port": server.port,
        "authentication": {
            "authentication_method": "ssh_key_file",
            "username": server.username,
            "ssh_key_file": str(server.user_key_path),
        },
        "hostkey": {"hostkey_mode": "known_host", "known_host": server.known_host_line()},
        **inputs,
    }


def upload(source: str | Path, destination: str | Path, **options: Any) -> dict[str, Any]:
    """The mode that copies a file to the server."""
    return _mode("copy_file_from_engine", source, destination, options)


def download(source: str | Path, destination: str | Path, **options: Any) -> dict[str, Any]:
    """The mode that copies a file from the server."""
    return _mode("copy_file_to_engine", source, destination, options)


def _mode(name: str, source: str | Path, destination: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    return {"mode_name": name, "source_file_name": str(source), "destination_file_name": str(destination), **options}


def step(server: Endpoint, mode: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """A step with everything inline."""
    return {**connection(server, **inputs), "mode": mode}


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder and its bytes (None for folders): to prove that nothing was lost or left behind."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
