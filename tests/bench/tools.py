"""Who takes part: for each tool its name, its version here, and the command that does a job."""

from __future__ import annotations

import functools
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import ansible, peers, product
from tests.bench.cases import Case
from tests.bench.measurement import Command
from tests.bench.setting import Job, Setting
from tests.bench.targets import PRODUCT

_PIPE = Path(__file__).with_name("pipe.py")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `find_refusal` says why it cannot do a case, beyond not being installed."""

    name: str
    label: str
    find_version: Callable[[Setting], str | None]
    build_command: Callable[[Setting, Job], Command]
    find_refusal: Callable[[Setting, Case], str] = lambda setting, case: ""

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(PRODUCT)


def find_absence(tool: Tool, setting: Setting, case: Case) -> str:
    """Why a tool does not take part in a case here, or nothing."""
    if tool.find_version(setting) is None:
        return "not installed"
    return tool.find_refusal(setting, case)


@functools.cache
def first_number(*command: str | Path) -> str | None:
    """The version that a program states, or None where it is missing or does not work."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return found[0] if found else None


def _program(*command: str) -> Callable[[Setting], str | None]:
    return lambda setting: first_number(*command)


def _runner_version(setting: Setting) -> str | None:
    return first_number(setting.runner, "--version")


def _before_version(setting: Setting) -> str | None:
    return first_number(setting.runner_before, "--version") if setting.runner_before else None


def _ansible_version(setting: Setting) -> str | None:
    return first_number(setting.ansible_playbook, "--version") if setting.ansible_playbook else None


def _rsync_fsync_version(setting: Setting) -> str | None:
    """rsync's, if it knows the option: 3.2.4 and later do."""
    found = first_number("rsync", "--version")
    return found if found is not None and _knows_fsync() else None


@functools.cache
def _knows_fsync() -> bool:
    done = subprocess.run(["rsync", "--help"], capture_output=True, text=True, timeout=60, check=False)
    return "--fsync" in done.stdout


def _pipe_command(setting: Setting, job: Job) -> Command:
    return Command((sys.executable, "-I", "-S", str(_PIPE), str(job.source), str(job.destination)))


def _ours(variant: product.Variant) -> Tool:
    def find_refusal(setting: Setting, case: Case) -> str:
        return product.find_refusal(variant, setting.connector_schema, case)

    return Tool(variant.name, variant.label, _runner_version, product.command_of(variant), find_refusal)


_SSH_VERSION = _program("ssh", "-V")

TOOLS = {
    tool.name: tool
    for tool in (
        *(_ours(variant) for variant in product.VARIANTS),
        Tool("before", "runner, before", _before_version, product.before_command),
        Tool("scp-gcm", "scp, AES-GCM", _SSH_VERSION, peers.scp_gcm_command),
        Tool("scp", "scp, default cipher", _SSH_VERSION, peers.scp_command),
        Tool("sftp", "sftp -b, AES-GCM", _SSH_VERSION, peers.sftp_command),
        Tool("rsync", "rsync -a, AES-GCM", _program("rsync", "--version"), peers.rsync_command),
        Tool("rsync-fsync", "rsync -a --fsync, AES-GCM", _rsync_fsync_version, peers.rsync_fsync_command),
        Tool("rclone", "rclone", _program("rclone", "version"), peers.rclone_command),
        Tool("lftp", "lftp, AES-GCM", _program("lftp", "--version"), peers.lftp_command),
        Tool("ansible", "Ansible copy", _ansible_version, ansible.ansible_command),
        Tool("pipe", "bare TCP pipe", lambda setting: platform.python_version(), _pipe_command),
    )
}
