"""An sshd that runs a program of the test's in place of every command: it speaks SCP as it likes."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.openssh import OpenSSHServer

_HEAD = """
import os, shlex, sys

command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
say, hear = sys.stdout.buffer, sys.stdin.buffer


def send(data):
    say.write(data)
    say.flush()


def run():
    os.execvp("sh", ["sh", "-c", command])


is_scp = command.startswith("scp ")
is_source = is_scp and " -f " in command
path = shlex.split(command)[-1] if is_scp else ""
"""


class ForcedServer(OpenSSHServer):
    """Each command runs the `program`, Python text that may use `command`, `send`, `hear`, `run` (the honest command),

    `is_scp`, `is_source` (a download) and `path`.
    """

    def __init__(self, folder: Path, program: str) -> None:
        super().__init__(folder, sftp=False)
        script = folder / "program.py"
        script.write_text(_HEAD + program, encoding="utf-8")
        self.extra_config = (f"ForceCommand exec {sys.executable} -I {script}",)
