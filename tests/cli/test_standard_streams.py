"""Whatever becomes of standard output, the exit code is that of what was done, and nothing ends in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.cli.processes import RUNNER, SECONDS, run_in_shell, write_playbook, write_unreachable
from tests.conftest import snapshot, step, upload
from tests.servers.openssh import OpenSSHServer

# What may become of it, as bash says it; `"$@"` is the runner. The exit code is the last line.
GONE = '"$@" | true; echo ${PIPESTATUS[0]}'
FULL = '"$@" >/dev/full; echo $?'
CLOSED = '"$@" >&-; echo $?'
ENDINGS = pytest.mark.parametrize("script", [GONE, FULL, CLOSED], ids=["gone", "full", "closed"])

REASONS = {GONE: "", FULL: "No space left on device", CLOSED: "it is closed"}


def assert_told(script: str, stderr: str) -> None:
    """One clear line says that output was lost, unless whoever read it has left."""
    lines = [line for line in stderr.splitlines() if "standard output" in line]
    reason = REASONS[script]
    assert lines == ([f"error: cannot write to standard output: {reason}"] if reason else [])
    assert "Traceback" not in stderr
    assert "bug" not in stderr


@ENDINGS
@pytest.mark.parametrize("options", [("-vvv",), ("--json", "-")])
def test_a_failed_play_keeps_its_exit_code(tmp_path: Path, script: str, options: tuple[str, ...]) -> None:
    done = run_in_shell(script, ["play", write_unreachable(tmp_path), *options])

    assert done.stdout == "4\n", done.stderr
    assert_told(script, done.stderr)


@pytest.mark.parametrize("script", [FULL, CLOSED], ids=["full", "closed"])
@pytest.mark.parametrize("options", [(), ("--json", "-")])
def test_a_good_play_keeps_its_exit_code(
    tmp_path: Path, sshd: OpenSSHServer, remote: Path, script: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "source").write_text("x")
    playbook = write_playbook(tmp_path, [step(sshd, upload("source", remote / "a"))])

    done = run_in_shell(script, ["play", playbook, *options])

    assert done.stdout == "0\n", done.stderr
    assert snapshot(remote) == {"a": b"x"}
    assert_told(script, done.stderr)


@ENDINGS
@pytest.mark.parametrize("options", [("--list-steps", "--list-hosts"), ("--syntax-check",)])
def test_listings_keep_their_exit_code(tmp_path: Path, script: str, options: tuple[str, ...]) -> None:
    done = run_in_shell(script, ["play", write_unreachable(tmp_path), *options])

    assert done.stdout == "0\n", done.stderr
    assert_told(script, done.stderr)


@ENDINGS
def test_doctor_keeps_its_exit_code(tmp_path: Path, script: str) -> None:
    done = run_in_shell(script, ["doctor", write_unreachable(tmp_path)])

    assert done.stdout == "4\n", done.stderr
    assert_told(script, done.stderr)


@ENDINGS
@pytest.mark.parametrize(
    "command", [["schema"], ["describe", "@"], ["describe", "--json", "@"], ["explain", "@", "1"]], ids=" ".join
)
def test_a_command_that_is_nothing_but_its_output_fails_without_it(
    tmp_path: Path, script: str, command: list[str]
) -> None:
    """Half a schema, or half a secret, must not pass for a whole one."""
    playbook = str(write_unreachable(tmp_path))

    done = run_in_shell(script, [playbook if word == "@" else word for word in command])

    assert done.stdout == ("0\n" if script == GONE else "64\n")
    assert_told(script, done.stderr)


@pytest.mark.parametrize("broken", ["2>/dev/full", "2>&-", "2>&1"])
def test_standard_error_may_break_as_well(tmp_path: Path, broken: str) -> None:
    done = run_in_shell(f'"$@" >/dev/full {broken}; echo $?', ["play", write_unreachable(tmp_path)])

    assert (done.stdout, done.stderr) == ("4\n", "")


def test_no_file_of_ours_gets_the_number_of_a_descriptor_that_is_closed(
    tmp_path: Path, sshd: OpenSSHServer, remote: Path
) -> None:
    """Whatever prints to it would write into a connection, or into somebody's data."""
    content = os.urandom(300_000)
    (remote / "source").write_bytes(content)
    only = {"mode_name": "copy_file_to_engine", "source_file_name": str(remote / "source")}
    playbook = write_playbook(tmp_path, [step(sshd, {**only, "destination_file_name": "a"})])

    done = run_in_shell('"$@" <&- >&- 2>&-; code=$?; echo $code', ["play", playbook, "-vvv"])

    assert done.stdout == "0\n"
    assert (tmp_path / "a").read_bytes() == content


def test_a_slow_reader_of_a_pipe_that_never_waits_gets_everything(tmp_path: Path) -> None:
    """Some CI systems give their children pipes that refuse what does not fit."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    process = subprocess.Popen([*RUNNER, "schema", "connector"], stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    received = bytearray()

    def read() -> None:
        threading.Event().wait(0.5)
        while piece := os.read(read_end, 1000):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    _, stderr = process.communicate(timeout=SECONDS)
    reader.join(SECONDS)
    os.close(read_end)

    assert (process.returncode, stderr) == (0, b"")
    assert json.loads(received)["$id"].endswith("/connector.schema.json")
