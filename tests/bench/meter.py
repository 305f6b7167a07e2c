"""Runs one command and writes down what it cost: `python -I -S meter.py REPORT COMMAND…`.

A process of its own, with next to nothing imported: Linux counts the memory of the process that starts a command
towards the command's peak. What the meter itself takes is in the report as the floor, below which no peak can be told.
"""

from __future__ import annotations

import json
import os
import sys
import time

_KIB = 1024


def measure(command: list[str]) -> dict[str, float]:
    """Run a command to its end. Its children count as far as it waits for them, as `ssh` does for `scp`."""
    began_at = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    return {
        "wall_seconds": time.perf_counter() - began_at,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * _KIB,
        "exit_code": os.waitstatus_to_exitcode(status),
    }


def read_own_peak() -> int:
    """The most memory, in bytes, that this process has taken."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * _KIB for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    report_path, *command = sys.argv[1:]
    report = {**measure(command), "floor_bytes": read_own_peak()}
    with open(report_path, "w", encoding="ascii") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
