"""A command that holds secrets cannot be looked into by other programs of its user, and leaves no core file."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Root may look into everything, so these play the part of an ordinary user.
NOBODY = 65534
SECRET = "a-secret-of-some-length"

# Everything is imported before: an ordinary user may not be able to read this checkout. A change of the user protects the
# memory by itself, so that is undone: what the runner does must make the difference.
_AS_ORDINARY_USER = f"""
import ctypes, os, sys
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
"""
_RUNNER = f"""
import sys, ctypes, encodings.idna, runner.cli.main, runner.cli.play, runner.cli.process_memory, runner.playbook.commands
import runner.execution.run, runner.ssh.handshake, runner.execution.modes, runner.execution.protocols
assert runner.cli.main.run(["validate", sys.argv[-1]]) == 0
{_AS_ORDINARY_USER}
runner.cli.main.main(sys.argv[1:])
"""
_ATTACKER = f"""
{_AS_ORDINARY_USER}
pid = int(sys.argv[1])
def attempt(act):
    try:
        act()
        return "0"
    except OSError as error:
        return str(error.errno)
def attach():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(pid, 0x40000000)
    libc.ptrace(17, pid, 0, 0)
print(attempt(attach), attempt(lambda: open(f"/proc/{{pid}}/environ").read()), attempt(lambda: open(f"/proc/{{pid}}/mem")))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory is protected on Linux")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an ordinary user may write to, also if this test runs as root."""
    made = Path(tempfile.mkdtemp(prefix="runner-memory-"))
    made.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def write_playbook(folder: Path, name: str, *, with_secret: bool) -> Path:
    login = "authentication_method: username_password, username: u, password: \"{{ lookup('env', 'THE_SECRET') }}\""
    if not with_secret:
        login = "authentication_method: ssh_agent, username: u"
    path = folder / "play.yaml"
    path.write_text(
        f'- name: "{name}"\n  host: 127.0.0.1\n  port: 1\n  connect_timeout: 1\n  authentication: {{{login}}}\n'
        "  hostkey: {hostkey_mode: fingerprint, fingerprint: 'SHA256:" + "A" * 43 + "'}\n"
        "  mode: {mode_name: list, path: .}\n"
    )
    return path


@contextmanager
def waiting_runner(folder: Path, playbook: Path) -> Iterator[subprocess.Popen[str]]:
    """A runner whose playbook has come to the command that waits for the file `go`."""
    with subprocess.Popen(
        [sys.executable, "-c", _RUNNER, "play", str(playbook)],
        cwd=folder,
        env={**os.environ, "THE_SECRET": SECRET, "HOME": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (folder / "started").exists():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield process
        finally:
            (folder / "go").touch()
            process.wait(60)


WAIT = "touch started; i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i + 1)); done"


def attack(pid: int) -> list[str]:
    """What ptrace, reading the environment and opening the memory came to: error numbers, or 0."""
    words = [sys.executable, "-c", _ATTACKER, str(pid)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.split()


@pytest.mark.parametrize("with_secret", [True, False])
def test_nobody_but_root_looks_into_a_command_that_may_hold_secrets(folder: Path, with_secret: bool) -> None:
    """It holds one, or it runs a command that could look into its environment, where others may be."""
    playbook = write_playbook(folder, f"{{{{ lookup('pipe', '{WAIT}') }}}}", with_secret=with_secret)

    with waiting_runner(folder, playbook) as process:
        assert os.stat(f"/proc/{process.pid}/environ").st_uid == 0
        limits = Path(f"/proc/{process.pid}/limits").read_text() if os.geteuid() == 0 else ""
        attach, environ, memory = attack(process.pid)
        assert int(attach) in (errno.EPERM, errno.EACCES)
        assert int(environ) == errno.EACCES
        assert int(memory) == errno.EACCES
        assert not limits or "Max core file size        0 " in limits


def test_the_attack_works_on_a_process_that_is_not_protected(folder: Path) -> None:
    program = f"{_AS_ORDINARY_USER}\nopen(sys.argv[1], 'w').close()\nsys.stdin.read()"
    words = [sys.executable, "-c", program, str(folder / "started")]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        while not (folder / "started").exists():
            time.sleep(0.01)
        attach, environ, _ = attack(process.pid)
        assert process.stdin
        process.stdin.close()

    assert environ == "0"
    # Some systems let nobody attach to what they have not started.
    assert int(attach) in (0, errno.EPERM)


def test_what_a_command_starts_is_open_but_leaves_no_core_file(folder: Path) -> None:
    """The programs of the user's choosing work as ever."""
    look = "touch started; ulimit -Sc > limit; cat /proc/self/environ > own; "
    look += "cat /proc/$PPID/environ > other 2> refused; true"
    playbook = write_playbook(folder, f"{{{{ lookup('pipe', '{look}') }}}}", with_secret=True)

    with waiting_runner(folder, playbook) as process:
        output = process.communicate(timeout=60)[0]

    assert process.returncode == 4, output
    assert (folder / "limit").read_text() == "0\n"
    assert "PATH=" in (folder / "own").read_text()
    assert SECRET not in (folder / "own").read_text()
    assert (folder / "other").read_text() == ""
    assert "ermission denied" in (folder / "refused").read_text()


def test_a_system_that_cannot_do_it_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    from runner.cli.process_memory import protect_memory

    def refuse(*arguments: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setitem(sys.modules, "ctypes", None)

    protect_memory()


def test_a_command_without_secrets_does_not_pay_for_it(folder: Path) -> None:
    playbook = write_playbook(folder, "plain", with_secret=False)
    words = [sys.executable, "-X", "importtime", "-m", "runner", "validate", str(playbook)]

    outcome = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)

    assert "runner.playbook.build" in outcome.stderr
    assert "ctypes" not in outcome.stderr and "process_memory" not in outcome.stderr
