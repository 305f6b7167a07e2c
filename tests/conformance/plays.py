"""One play against a scripted server: what is on both sides, what is asked for, and the ending to judge."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.conformance.oracle import Ending, Entry, Promise, Sides, Snapshot, Violation, judge, look
from tests.conformance.served import ConformanceServer, Personality
from tests.conftest import Runner, step
from tests.patience import BUSY_SECONDS

Direction = Literal["up", "down"]
# Every play's source is below `out/` on one side, its destination below `in/` on the other.
SOURCE, DESTINATION = "out", "in"
NAME = "report.csv"

STALL_SECONDS = 2
CONNECT_SECONDS = 10
STEP_SECONDS = 30
_PATIENCE = {"connect_timeout": CONNECT_SECONDS, "stall_timeout": STALL_SECONDS, "timeout": STEP_SECONDS}
# A stall, and as long again for cleaning up.
LIMIT_SECONDS = 2 * STALL_SECONDS + BUSY_SECONDS
PATIENT_SECONDS = 60 + BUSY_SECONDS
# Old and new times are even and full hours apart from what a clock could say now.
OLD_SECONDS, NEW_SECONDS = 1_600_000_001, 1_700_000_001


def content_of(name: str, size: int) -> bytes:
    """Bytes that are like no others, and the same in every run."""
    seed = (f"{name} " * 8).encode()
    return (seed * (size // len(seed) + 1))[:size]


@dataclass(slots=True)
class Stage:
    """Two empty directories, one on each side, and a server for the second."""

    folder: Path
    runner: Runner
    server: ConformanceServer

    @property
    def local(self) -> Path:
        return self.folder / "local"

    @property
    def remote(self) -> Path:
        return self.folder / "remote"

    def clear(self) -> None:
        """Make both sides empty."""
        for side in (self.local, self.remote):
            shutil.rmtree(side, ignore_errors=True)
            side.mkdir(parents=True)

    def source(self, direction: Direction) -> Path:
        """Where the source is."""
        return (self.local if direction == "up" else self.remote) / SOURCE

    def destination(self, direction: Direction) -> Path:
        """Where it is copied to."""
        return (self.remote if direction == "up" else self.local) / DESTINATION

    def look(self) -> Sides:
        """Both sides as they are now."""
        return Sides(look(self.local), look(self.remote))

    def play(
        self,
        personality: Personality,
        mode: dict[str, Any],
        promise: Promise,
        *arguments: str,
        place: Mapping[str, Any] | None = None,
        limit_seconds: float = LIMIT_SECONDS,
        **inputs: Any,
    ) -> Ending:
        """Play one step against a server of this personality; the play's login directory is `remote`."""
        before = self.look()
        self.server.root = self.remote
        self.server.personality = personality
        whole = {
            **step(self.server, mode, **_PATIENCE),
            **(place or {}),
            **inputs,
        }
        started = time.monotonic()
        outcome = self.runner.play([whole], *arguments)
        seconds = time.monotonic() - started
        if personality.fault is not None:
            raise AssertionError("the scripted server itself has failed") from personality.fault
        return Ending(promise, before, self.look(), outcome, seconds, limit_seconds)


def write(path: Path, content: bytes, *, mode: int = 0o644, seconds: int = NEW_SECONDS) -> None:
    """A file, with all directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (seconds, seconds))


def copy_file(
    stage: Stage, direction: Direction, *, name: str = NAME, source_exists: bool = True, **options: Any
) -> tuple[dict[str, Any], Promise]:
    """The mode that copies `out/NAME` to `in/NAME`, and what it promises; nothing of a name that is a template."""
    source, destination = stage.source(direction) / name, stage.destination(direction) / name
    mode = {
        "mode_name": "copy_file_from_engine" if direction == "up" else "copy_file_to_engine",
        "source_file_name": str(source),
        "destination_file_name": str(destination),
        **options,
    }
    return mode, _promise(stage, direction, [f"{SOURCE}/{name}"] if source_exists else [], options)


def copy_tree(stage: Stage, direction: Direction, **options: Any) -> tuple[dict[str, Any], Promise]:
    """The mode that copies what is below `out/` to `in/`, and what it promises."""
    mode = {
        "mode_name": "copy_directory_from_engine" if direction == "up" else "copy_directory_to_engine",
        "source_directory_name": str(stage.source(direction)),
        "destination_directory_name": str(stage.destination(direction)),
        **options,
    }
    source = look(stage.source(direction).parent)
    paths = [path for path in source if path == SOURCE or path.startswith(f"{SOURCE}/")]
    return mode, _promise(stage, direction, paths, options)


def _promise(stage: Stage, direction: Direction, paths: list[str], options: Mapping[str, Any]) -> Promise:
    source = look(stage.source(direction).parent)
    old = look(stage.destination(direction).parent)
    wanted: dict[str, Entry | None] = {DESTINATION: Entry("directory")}
    for path in paths:
        if path != SOURCE:
            new = _wanted_entry(_followed(source, path, options), options)
            wanted[_renamed(path)] = _after_policy(old.get(_renamed(path)), new, options)
    if options.get("delete"):
        wanted.update({path: None for path in old if path.startswith(f"{DESTINATION}/") and path not in wanted})
    return Promise(
        side="remote" if direction == "up" else "local",
        wanted=wanted,
        demands_mode="permissions" in options,
        verify=options.get("verify", "auto"),
        backup=options.get("backup", False),
        atomic=options.get("atomic", True),
    )


def _followed(source: Snapshot, path: str, options: Mapping[str, Any]) -> Entry:
    """What is copied for a path: with `links: follow`, what a link leads to."""
    entry = source[path]
    if entry.kind == "link" and options.get("links") == "follow":
        return source[os.path.join(os.path.dirname(path), os.fsdecode(entry.content))]
    return entry


def _renamed(path: str) -> str:
    return DESTINATION + path.removeprefix(SOURCE)


def _after_policy(old: Entry | None, new: Entry, options: Mapping[str, Any]) -> Entry:
    """What `if_exists` and `compare` leave: an existing file may have to stay as it is."""
    if old is None or new.kind != "file":
        return new
    if old.is_same(new) and options.get("compare") == "checksum":
        return Entry(new.kind, new.content, new.mode)
    if not old.is_same(new) and options.get("if_exists") in ("skip", "fail"):
        return old
    return new


def _wanted_entry(source: Entry, options: Mapping[str, Any]) -> Entry:
    preserve = options.get("preserve", ["permissions", "times"])
    mode: int | None = None
    if options.get("permissions", "server") != "server":
        mode = int(options["permissions"], 8)
        if source.kind == "directory":
            mode |= (mode & 0o444) >> 2
    elif "permissions" in preserve and source.mode is not None and "permissions" not in options:
        mode = source.mode & 0o777
    return Entry(source.kind, source.content, mode, source.modified if "times" in preserve else None)


def require_none(violations: list[Violation]) -> None:
    """Fail the test with everything that was found."""
    assert not violations, "\n".join(f"{kind}: {detail}" for kind, detail in violations)


def require_right(ending: Ending) -> None:
    """The play ended well, and it is true."""
    require_none(judge(ending))
    assert ending.is_good, ending.outcome.output


def require_refusal(ending: Ending, *words: str) -> None:
    """The play failed clearly, nothing is lost, and what was said has these words."""
    require_none(judge(ending))
    assert ending.outcome.exit_code != 0, ending.outcome.output
    for word in words:
        assert word in ending.said, (word, ending.outcome.output)


def destination_of(ending: Ending) -> Snapshot:
    """The destination's side afterwards."""
    return ending.after.local if ending.promise.side == "local" else ending.after.remote
