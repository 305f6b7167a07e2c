"""Runs `runner` in a process of its own, under limits, and says what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Beyond these the kernel ends the process: a playbook that gets there has already won.
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024
PROCESSOR_SECONDS = 10

# The kernel's own record of the most memory counts what the process was before it became this program: the test's.
_PROGRAM = f"""
import atexit, pathlib, re, resource, sys
peak_path = pathlib.Path(sys.argv.pop(1))
find_peak = lambda: re.search("VmHWM:\\\\s*(\\\\d+)", pathlib.Path("/proc/self/status").read_text())[1]
atexit.register(lambda: peak_path.write_text(find_peak()))
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE_BYTES}, {ADDRESS_SPACE_BYTES}))
resource.setrlimit(resource.RLIMIT_CPU, ({PROCESSOR_SECONDS}, {PROCESSOR_SECONDS}))
from runner.cli.main import main
main(sys.argv[1:])
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process ended, what it printed, and what it took."""

    exit_code: int
    output: str
    processor_seconds: float
    peak_bytes: int


def run_bounded(folder: Path, *arguments: str) -> Ending:
    """Run `runner` with these arguments."""
    output_path, peak_path = folder / "output.txt", folder / "peak.txt"
    peak_path.unlink(missing_ok=True)
    with output_path.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(peak_path), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ending(
        exit_code=process.returncode,
        output=output_path.read_text(encoding="utf-8"),
        processor_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=1024 * (int(peak_path.read_text()) if peak_path.exists() else usage.ru_maxrss),
    )


def is_gone(pid: int) -> bool:
    """Whether the process has ended, within a moment: a signal takes its time."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
