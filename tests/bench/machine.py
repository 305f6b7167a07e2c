"""The facts without which a number says nothing: the machine, the system, and everybody's version."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.setting import Setting, read_memory_bytes
from tests.bench.tools import TOOLS, first_number
from tests.servers.openssh import find_sshd

_CHECKOUT = Path(__file__).resolve().parents[2]
_SAME_PROGRAM = ("runner-", "scp-gcm", "pipe")  # variants of a tool that is named already


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when it was measured. `load` is the machine's at the beginning: what others were doing."""

    processor: str
    core_count: int
    memory_bytes: int
    system: str
    kernel: str
    python: str
    load: float
    date: str
    revision: str
    versions: dict[str, str]


def describe_machine(setting: Setting) -> Machine:
    """Look at this machine and ask every tool for its version."""
    versions = {"sshd": first_number(find_sshd() or "sshd", "-V") or "unknown"}
    for tool in TOOLS.values():
        if not tool.name.startswith(_SAME_PROGRAM):
            versions[tool.name] = tool.find_version(setting) or "not installed"
    return Machine(
        processor=_read_processor(),
        core_count=len(os.sched_getaffinity(0)),
        memory_bytes=read_memory_bytes("MemTotal"),
        system=_read_system(),
        kernel=platform.release(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        revision=_read_revision(),
        versions=versions,
    )


def _read_processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()


def _read_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _read_revision() -> str:
    """The commit that is measured, marked when files differ from it."""
    command = ("git", "describe", "--always", "--dirty")
    try:
        done = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
