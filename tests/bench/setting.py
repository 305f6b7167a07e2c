"""Where it happens: one server for all tools of a case, a folder in memory, a HOME that nobody has configured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.cases import Case, Server, Shape
from tests.bench.servers import Address, start_servers

_RESERVE_BYTES = 1024**3  # what the tools and everybody else may need


@dataclass(frozen=True, slots=True)
class Setting:
    """What a tool needs to know to copy something here."""

    folder: Path
    home: Path
    servers: Mapping[Server, Address]
    known_hosts_path: Path
    runner: Path
    ansible_playbook: str | None
    connector_schema: Mapping[str, Any]
    # On a disk, for copies that are synced; everything else is in memory.
    disk_folder: Path
    # Another version of ours, to be compared with.
    runner_before: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """All that a tool finds in its environment."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.home), "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Job:
    """One copy. `destination` does not exist, unless a copy is made again; `scratch` is for what a tool must write."""

    direction: str
    shape: Shape
    source: Path
    destination: Path
    address: Address
    round_trip_ms: int
    scratch: Path

    @property
    def port(self) -> int:
        return self.address.ports[self.round_trip_ms]

    @property
    def is_up(self) -> bool:
        return self.direction == "up"

    @property
    def is_folder(self) -> bool:
        """Whether a tool other than ours sees a folder."""
        return self.shape != "file"


class NotPossible(Exception):
    """The benchmark cannot be run here; the message says why."""


@contextmanager
def open_setting(
    memory_folder: Path,
    runner: Path,
    ansible_playbook: str | None,
    disk_folder: Path,
    runner_before: Path | None = None,
    cases: Iterable[Case] = (),
) -> Iterator[Setting]:
    """Start the servers that cases need, with everything in a new folder below `memory_folder`; remove it after.

    Copies that are synced go into one below `disk_folder`.

    Raises:
        NotPossible: there is no such folder, or no `runner` command at one of the paths given.
    """
    if runner_before is not None:
        read_connector_schema(
            runner_before
        )  # that it works: a comparison with nothing would look like none was asked for
    for place in (memory_folder, disk_folder):
        if not place.is_dir():
            raise NotPossible(f"{place} is no folder")
    on_disk = Path(tempfile.mkdtemp(prefix="runner-bench-", dir=disk_folder))
    folder = Path(tempfile.mkdtemp(prefix="runner-bench-", dir=memory_folder))
    try:
        with start_servers(folder, cases) as servers:
            known_hosts_path = folder / "known_hosts"
            known_hosts_path.write_text("".join(one.known_hosts for one in servers.values()), encoding="ascii")
            (folder / "home").mkdir()
            yield Setting(
                folder,
                folder / "home",
                servers,
                known_hosts_path,
                runner,
                ansible_playbook,
                read_connector_schema(runner),
                on_disk,
                runner_before,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(on_disk, ignore_errors=True)


def read_connector_schema(runner: Path) -> dict[str, Any]:
    """The inputs of a step, as the installed command prints them: what the product can do."""
    try:
        done = subprocess.run([runner, "schema", "connector"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotPossible(f"the command {runner} does not work: {error}") from error
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def read_free_bytes(folder: Path) -> int:
    """What may still be put into a folder in memory without driving the machine into swapping."""
    statistics = os.statvfs(folder)
    return min(statistics.f_bavail * statistics.f_frsize, read_memory_bytes("MemAvailable")) - _RESERVE_BYTES


def read_memory_bytes(key: str) -> int:
    """A line of /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
