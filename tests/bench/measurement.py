"""The cost of one command: whole-process time, CPU and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.processes import kill_tree

_METER = Path(__file__).with_name("meter.py")
_SHOWN_LINES = 3


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and what its environment holds beside the setting's."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """From the start of a command to its end. CPU and memory are the client's, not the server's.

    `peak_bytes` is that of the largest process among the command and its children. At or below `floor_bytes` it says
    only that the command needed no more than that.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    floor_bytes: int


class CommandFailed(Exception):
    """The command ended badly, or not in time; the message holds its last words."""


def measure(command: Command, *, folder: Path, environment: Mapping[str, str], timeout_seconds: float) -> Measurement:
    """Run a command in `folder`, without a terminal, its output in a file there.

    Raises:
        CommandFailed: it ended with another code than 0, or not within the time, and was killed with its children.
    """
    report_path, log_path = folder / "meter.json", folder / "output.log"
    report_path.unlink(missing_ok=True)
    meter = [sys.executable, "-I", "-S", str(_METER), str(report_path), *command.arguments]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            meter, cwd=folder, env={**environment, **command.environment},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"not done in {timeout_seconds:g} s") from error
        finally:
            if process.poll() is None:
                kill_tree(process)
    if not report_path.exists():
        raise CommandFailed(f"did not start: {_last_words(log_path)}")
    report: dict[str, Any] = json.loads(report_path.read_text(encoding="ascii"))
    if (exit_code := report.pop("exit_code")) != 0:
        raise CommandFailed(f"ended with {exit_code}: {_last_words(log_path)}")
    return Measurement(**report)


def _last_words(log_path: Path) -> str:
    lines = [line.strip() for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines()]
    return " / ".join([line for line in lines if line][-_SHOWN_LINES:])
