"""A real OpenSSH server: the judge of what the product does on the wire."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.servers.endpoint import LOOPBACK, Endpoint, find_free_port
from tests.servers.keys import generate_key_pair
from tests.servers.processes import kill_descendants, kill_tree, list_descendants

_START_SECONDS = 40.0
_IDLE_SECONDS = 40.0
_PORT_ATTEMPTS = 5
_SET_ENVIRONMENT = "SetEnv "


class ServerFailure(RuntimeError):
    """sshd did not start; the message holds its log."""


class OpenSSHServer(Endpoint):
    """`sshd -D -e` in the foreground, letting the current user in with one key.

    `extra_config` lines win over the ones made here (sshd obeys the first of two equal keywords);
    lines from the first `Match` on go to the end, because a Match block has no other end.
    `login_folder` is where SFTP sessions start; without it that is the user's home.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host_key_types: Sequence[str] = ("ed25519",),
        sftp: bool = True,
        extra_config: tuple[str, ...] = (),
        host_key_files: Sequence[Path] | None = None,
        login_folder: Path | None = None,
    ) -> None:
        super().__init__(folder, host_key_types=host_key_types, host_key_files=host_key_files)
        self.sftp = sftp
        self.extra_config = extra_config
        self.login_folder = login_folder
        self.log_path = self.user_key_path.with_suffix(".sshd_log")
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start sshd on a free port, trying another port when someone else was faster."""
        sshd = find_sshd()
        if sshd is None:
            raise ServerFailure("no sshd on this machine")
        _make_privilege_separation_folder()
        for _ in range(_PORT_ATTEMPTS):
            self.port = find_free_port()
            self._launch(sshd)
            if self._wait_until_ready():
                return
            self.stop()
            if "already in use" not in self._read_log():
                break
        raise ServerFailure(f"sshd did not start:\n{self._read_log()}")

    def stop(self) -> None:
        """Kill sshd and all its sessions."""
        if self._process is not None:
            kill_tree(self._process)
            self._process = None

    def kill_sessions(self) -> int:
        """Kill the processes of all sessions, as a crash would; sshd still listens. Count them."""
        return 0 if self._process is None else kill_descendants(self._process.pid)

    def wait_until_idle(self) -> None:
        """Wait until every session has ended: one that was cut off still carries out what had reached it."""
        process = self._process
        assert process is None or _wait_until(lambda: not list_descendants(process.pid), _IDLE_SECONDS)

    def log_text(self) -> str:
        """What sshd logged since it was ready (its DEBUG1 log: 'Accepted', 'Failed', 'userauth-request')."""
        return self._read_log()[self._log_start :]

    def wait_for_log(self, substring: str, timeout_seconds: float = 40.0) -> bool:
        """Whether `substring` is in the log, now or within the time given (sshd logs a little late)."""
        return _wait_until(lambda: substring in self.log_text(), timeout_seconds)

    def _launch(self, sshd: str) -> None:
        config = self.log_path.with_suffix(".sshd_config")
        config.write_text("\n".join(self._config_lines(sshd)) + "\n", encoding="utf-8")
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command([sshd, "-D", "-e", "-f", str(config)]),  # sshd demands its absolute path
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _command(self, command: list[str]) -> list[str]:
        return command

    def _config_lines(self, sshd: str) -> list[str]:
        authorized = self.user_key_path.with_suffix(".authorized_keys")
        authorized.write_text(self.user_key.public_line + "\n", encoding="ascii")
        leading, trailing = _split_at_match(self.extra_config)
        return [
            *(line for line in leading if not line.startswith(_SET_ENVIRONMENT)),
            f"ListenAddress {LOOPBACK}:{self.port}",
            *(f"HostKey {key.path}" for key in self.host_keys),
            f"AuthorizedKeysFile {authorized}",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",  # the folder of a test run is not as private as a home
            "PermitUserRC no",  # keeps sshd out of ~/.ssh
            self._environment_line(leading),
            "PidFile none",
            "LogLevel DEBUG1",
            "MaxStartups 100",
            *_penalty_lines(sshd),
            *self._subsystem_lines(),
            *trailing,
        ]

    def _environment_line(self, lines: Sequence[str]) -> str:
        """One line for all variables, because sshd obeys only the first.

        A HOME of the server's own keeps the shell from the start-up files of the account, which belong to the machine
        and can take a second for each command.
        """
        variables = [line.removeprefix(_SET_ENVIRONMENT) for line in lines if line.startswith(_SET_ENVIRONMENT)]
        return _SET_ENVIRONMENT + " ".join([*variables, f"HOME={self.folder}"])

    def _subsystem_lines(self) -> list[str]:
        start = f" -d {self.login_folder}" if self.login_folder else ""
        return [f"Subsystem sftp internal-sftp{start}"] if self.sftp else []

    def _wait_until_ready(self) -> bool:
        """Whether a connection gets a banner; `log_text` then begins after that connection's lines."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._is_running():
            probe_port = _probe_banner(self.port)
            if probe_port is not None:
                self._skip_probe(probe_port)
                return True
            time.sleep(0.02)
        return False

    def _skip_probe(self, probe_port: int) -> None:
        ended = f"by {LOOPBACK} port {probe_port}"  # "Connection closed by …" (or "reset")
        _wait_until(lambda: ended in self._read_log(), _START_SECONDS)
        self._log_start = len(self._read_log())

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _read_log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""


def find_sshd() -> str | None:
    """The absolute path of sshd, which is seldom on an ordinary user's PATH."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))
    found = shutil.which("sshd", path=places)
    return os.path.realpath(found) if found else None


def _make_privilege_separation_folder() -> None:
    if os.geteuid() == 0:  # only root's sshd separates privileges, and refuses to start without it
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)


@functools.cache
def _penalty_lines(sshd: str) -> tuple[str, ...]:
    """Switch off PerSourcePenalties (OpenSSH 9.8): failed logins would soon block loopback itself."""
    line = "PerSourcePenalties no"
    _make_privilege_separation_folder()
    with tempfile.TemporaryDirectory() as folder:
        key = generate_key_pair(Path(folder) / "key")
        command = [sshd, "-t", "-f", os.devnull, "-h", str(key.path), "-o", line]
        result = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    return (line,) if result.returncode == 0 else ()


def _split_at_match(lines: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for index, line in enumerate(lines):
        if line.split()[:1] and line.split()[0].lower() == "match":
            return lines[:index], lines[index:]
    return lines, ()


def _probe_banner(port: int) -> int | None:
    """Connect and read the banner; the own port number when there was one."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_START_SECONDS) as probe:
            answered = probe.recv(64).startswith(b"SSH-")
            return int(probe.getsockname()[1]) if answered else None
    except OSError:
        return None


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met
