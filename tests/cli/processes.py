"""`runner` as a process of its own: for what depends on its descriptors, its signals and its user."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.listeners import closed_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60

RUNNER = (sys.executable, "-m", "runner")


def write_unreachable(folder: Path) -> Path:
    """A playbook whose play ends with 4 at once: nothing listens there."""
    only = {
        "host": "127.0.0.1",
        "port": closed_port(),
        "authentication": {"authentication_method": "username_password", "username": "me", "password": "swordfish"},
        "hostkey": {"hostkey_mode": "fingerprint", "fingerprint": f"SHA256:{'A' * 43}"},
        "mode": {"mode_name": "copy_file_from_engine", "source_file_name": "source", "destination_file_name": "a"},
    }
    (folder / "source").write_text("x")
    return write_playbook(folder, [only])


def write_playbook(folder: Path, playbook: Any) -> Path:
    """The playbook as a file (JSON is YAML)."""
    path = folder / "play.yaml"
    path.write_text(json.dumps(playbook), encoding="utf-8")
    return path


def run_in_shell(script: str, arguments: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
    """A bash script in which `"$@"` is `runner` with these arguments."""
    words = [*RUNNER, *map(str, arguments)]
    return subprocess.run(
        ["bash", "-c", script, "-", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        **{"cwd": ROOT, **options},
    )


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
    return value


@contextmanager
def started(*command: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process, which is gone in the end."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*map(str, command)], cwd=ROOT, text=True, **{**streams, **options})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
