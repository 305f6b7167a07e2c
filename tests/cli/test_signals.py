"""Signals to a process: what is ignored stays so, a loading playbook ends at once, and the third signal always works."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runner.cancellation import Cancellation
from runner.cli.signals import interrupting_at_once
from runner.errors import Interrupted
from runner.playbook.vault import encrypt
from tests.cli.processes import ROOT, RUNNER, SECONDS, started, wait_for, write_playbook, write_unreachable
from tests.servers.mute import MuteServer

# Time enough for a signal to be obeyed on a busy machine, and much less than what is waited for.
PROMPT_SECONDS = 8


def has_ended(pid: int) -> bool:
    """Whether a process is no more, or only waits to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def ignoring(*numbers: int) -> Callable[[], None]:
    """For `preexec_fn`: what `nohup` does, and a shell to a job in its background."""

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return ignore


class TestWhileConnecting:
    @pytest.fixture
    def playbook(self, tmp_path: Path) -> Iterator[Path]:
        """A play that waits for a server's first word."""
        with MuteServer("banner", tmp_path / "server") as server:
            self.server = server
            only = json.loads(write_unreachable(tmp_path).read_text())[0]
            yield write_playbook(tmp_path, [{**only, "port": server.port, "connect_timeout": 60}])

    def play(self, playbook: Path, **options: Any) -> Any:
        return started(*RUNNER, "play", playbook, "--json", playbook.parent / "report.json", **options)

    def wait_until_connected(self) -> None:
        """The handlers are in their place long before."""
        wait_for(lambda: self.server.connection_count)

    @pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
    def test_an_ignored_signal_stays_ignored(self, playbook: Path, ignored: int) -> None:
        with self.play(playbook, preexec_fn=ignoring(ignored)) as process:
            self.wait_until_connected()
            process.send_signal(ignored)
            time.sleep(0.7)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PROMPT_SECONDS)

        assert process.returncode == 143
        assert json.loads((playbook.parent / "report.json").read_text())["exit_code"] == 143

    def test_one_that_is_not_ends_it_with_its_number(self, playbook: Path) -> None:
        with self.play(playbook) as process:
            self.wait_until_connected()
            process.send_signal(signal.SIGHUP)
            process.communicate(timeout=PROMPT_SECONDS)

        assert process.returncode == 129
        report = json.loads((playbook.parent / "report.json").read_text())
        assert (report["status"], report["exit_code"]) == ("interrupted", 129)
        assert report["steps"][0]["error"]["message"] == "interrupted by SIGHUP"


class TestWhileAPlaybookLoads:
    @pytest.fixture
    def pids(self, tmp_path: Path) -> Path:
        """Where the command that is run notes its own pid, and that of a child which it has started."""
        return tmp_path / "pids"

    def command(self, pids: Path) -> str:
        return f"sleep 300 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; sleep 300"

    def wait_for_command(self, pids: Path) -> list[int]:
        wait_for(pids.exists)
        return [int(word) for word in pids.read_text().split()]

    @pytest.fixture(autouse=True)
    def _leave_nothing_running(self, pids: Path) -> Iterator[None]:
        yield
        for word in pids.read_text().split() if pids.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(word), signal.SIGKILL)

    @pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_command_that_a_template_runs_ends_with_it(
        self, tmp_path: Path, pids: Path, number: int, exit_code: int
    ) -> None:
        playbook = json.loads(write_unreachable(tmp_path).read_text())
        playbook[0]["mode"]["destination_file_name"] = f"{{{{ lookup('pipe', {self.command(pids)!r}) }}}}"
        report = tmp_path / "report.json"
        with started(*RUNNER, "play", write_playbook(tmp_path, playbook), "--json", report) as process:
            running = self.wait_for_command(pids)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=PROMPT_SECONDS)

        assert process.returncode == exit_code
        wait_for(lambda: all(has_ended(pid) for pid in running))
        assert json.loads(report.read_text())["status"] == "interrupted"
        assert "before anything was contacted" in stderr
        assert "Traceback" not in stdout + stderr

    @pytest.mark.parametrize("command", [("doctor",), ("validate",)])
    def test_so_does_one_that_prints_a_password(self, tmp_path: Path, pids: Path, command: tuple[str, ...]) -> None:
        """Whatever becomes of the signal then: `validate` has nothing to report, and just dies of it."""
        program = tmp_path / "password"
        program.write_text(f"#!/bin/sh\n{self.command(pids)}\n")
        program.chmod(0o700)
        encrypted = tmp_path / "play.yaml"
        encrypted.write_text(encrypt(b"- host: a\n", b"password"))
        with started(*RUNNER, *command, encrypted, "--vault-password-file", program) as process:
            running = self.wait_for_command(pids)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PROMPT_SECONDS)

        assert process.returncode == (143 if command == ("doctor",) else -signal.SIGTERM)
        wait_for(lambda: all(has_ended(pid) for pid in running))

    def test_a_template_that_computes_is_interrupted_too(self, tmp_path: Path) -> None:
        playbook = json.loads(write_unreachable(tmp_path).read_text())
        busy = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}x"
        playbook[0]["mode"]["destination_file_name"] = busy
        started_at = time.monotonic()
        with started(*RUNNER, "play", write_playbook(tmp_path, playbook)) as process:
            # Loading takes a moment, the template a second at least.
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PROMPT_SECONDS)

        assert time.monotonic() - started_at < PROMPT_SECONDS
        # It may have come before anything of ours was loaded, or when the template was given up.
        assert process.returncode in (130, 3, -signal.SIGINT)


STUCK = """
import ctypes, sys, termios
from runner.cancellation import Cancellation
from runner.cli.signals import cancelling_on_signals

with cancelling_on_signals(Cancellation()):
    if sys.stdin.isatty():
        # As a program does that asks for a password, and a progress line.
        attributes = termios.tcgetattr(0)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSANOW, attributes)
        print("\\x1b[?25l", end="")
    print("ready", flush=True)
    lock = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    # Never returns, and no signal interrupts it: no handler of Python's will run.
    libc.pthread_mutex_lock(lock)
"""


class TestTheThirdSignal:
    def test_it_ends_what_nothing_else_can(self) -> None:
        with started(sys.executable, "-c", STUCK) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGTERM, signal.SIGINT):
                process.send_signal(number)
                time.sleep(0.3)
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            process.wait(PROMPT_SECONDS)

        # Of which it would have died in order.
        assert process.returncode == 143

    def test_it_ends_a_play_whose_report_nobody_takes(self, tmp_path: Path) -> None:
        pipe = tmp_path / "report.json"
        os.mkfifo(pipe)
        with started(*RUNNER, "play", write_unreachable(tmp_path), "--json", pipe) as process:
            assert process.stdout is not None
            wait_for(lambda: "exit code 4" in (process.stdout.readline() if process.stdout else ""))
            for _ in range(3):
                assert process.poll() is None
                process.send_signal(signal.SIGTERM)
                time.sleep(0.3)
            process.wait(PROMPT_SECONDS)

        assert process.returncode == 143

    def test_the_terminal_is_put_in_order(self) -> None:
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execv(sys.executable, [sys.executable, "-c", STUCK])
        shown = bytearray()

        def read() -> None:
            try:
                while piece := os.read(terminal, 1024):
                    shown.extend(piece)
            except OSError:
                pass  # its other side is closed

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            wait_for(lambda: b"ready" in shown)
            assert not termios.tcgetattr(terminal)[3] & termios.ECHO
            for _ in range(3):
                time.sleep(0.2)
                os.kill(pid, signal.SIGTERM)
            wait_for(lambda: has_ended(pid))
            assert termios.tcgetattr(terminal)[3] & termios.ECHO
            wait_for(lambda: shown.endswith(b"\x1b[?25h"))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
        finally:
            if not has_ended(pid):
                os.kill(pid, signal.SIGKILL)
            os.close(terminal)
            reader.join(SECONDS)


class Panic(BaseException):
    """What an extension module may make of an exception that it does not expect."""


def test_what_a_library_makes_of_a_signal_is_a_signal_all_the_same() -> None:
    def load() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Interrupted as error:
            raise Panic from error

    with pytest.raises(Interrupted, match="SIGTERM"), interrupting_at_once(Cancellation()):
        load()


def test_without_a_signal_it_stays_what_it_is() -> None:
    with pytest.raises(Panic), interrupting_at_once(Cancellation()):
        raise Panic
