"""The cases: what is copied, over which line, and by whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["up", "down"]
"""`up` is to the server."""

Shape = Literal["file", "steps", "loop", "folder", "list", "list-and-loop", "validate"]
"""One file; many files, for us by a playbook with a step for each, or by one step with a loop; many files as one folder.

Or nothing is copied: a folder's names are listed, and looped over; a playbook with many steps is validated.
"""

Kind = Literal["time", "memory"]

Server = Literal["sshd", "rclone", "pkg-sftp"]
"""`rclone` is `rclone serve sftp`, `pkg-sftp` a server on Go's pkg/sftp. Both carry out several requests at once."""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SMALL_FILE_BYTES = 4 * KIB
_SCALED_FROM_BYTES = MIB  # a smaller file stays as it is when a run is scaled down


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool that takes part in a case; the slow ones in fewer rounds, and unrehearsed if in one only."""

    tool: str
    rounds_at_most: int = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to copy. `is_again` measures the second copy, when nothing has changed, or only `changed_files` have.

    `is_on_disk` puts the copy on a disk instead of into memory, where to sync it costs nothing.
    """

    name: str
    title: str
    direction: Direction
    shape: Shape
    entries: tuple[Entry, ...]
    file_bytes: int
    file_count: int = 1
    round_trip_ms: int = 0
    server: Server = "sshd"
    kind: Kind = "time"
    is_again: bool = False
    changed_files: int = 0
    is_on_disk: bool = False
    rounds_at_most: int = 1000

    @property
    def total_bytes(self) -> int:
        return self.file_bytes * self.file_count

    @property
    def has_copy(self) -> bool:
        """Whether anything is copied."""
        return self.shape not in ("list", "list-and-loop", "validate")

    @property
    def is_sparse(self) -> bool:
        """Whether the source is all holes: it is big, and only memory is looked at."""
        return self.kind == "memory" and self.shape == "file"

    @property
    def payload_name(self) -> str:
        """The name of the source: the same for cases that can share one."""
        shape = "sparse" if self.is_sparse else "file" if self.shape == "file" else "folder"
        return f"{shape}-{self.file_count}x{self.file_bytes}"

    @property
    def room_bytes(self) -> int:
        """The memory that source and copy take together; a small file takes a page at least, and an inode."""
        copies = (
            1
            if self.is_sparse or not self.has_copy
            else 2
            if self.shape == "file" or not self.is_again
            else 1 + len(self.entries)
        )
        return copies * (self.total_bytes + self.file_count * 8 * KIB)

    def scale(self, factor: float) -> Case:
        """The same case with smaller files, or with fewer of them."""
        if self.shape != "file":
            return replace(self, file_count=max(2, round(self.file_count * factor)))
        if self.file_bytes < _SCALED_FROM_BYTES:
            return self
        return replace(self, file_bytes=max(_SCALED_FROM_BYTES, round(self.file_bytes * factor)))


def _entries(names: str, **rounds_at_most: int) -> tuple[Entry, ...]:
    names_in_turn = [*names.split(), *rounds_at_most]
    return tuple(Entry(name, rounds_at_most.get(name, 1000)) for name in names_in_turn)


def _small(name: str, title: str, direction: Direction, shape: Shape, count: int, by: tuple[Entry, ...]) -> Case:
    return Case(name, title, direction, shape, by, SMALL_FILE_BYTES, count)


_BULK = _entries("runner scp-gcm scp sftp rsync rclone lftp pipe", **{"runner-checksum": 3, "runner-scp": 3})
_FAR = _entries("runner scp-gcm rsync", sftp=2, rclone=2, lftp=2)
_TINY = _entries("runner scp-gcm scp sftp rsync rclone lftp", ansible=3)
_MEMORY = _entries("runner scp-gcm rsync")
# rclone takes a minute for a thousand files: it is not kept waiting for more than one round, nor for ten thousand.
_MANY = _entries("runner rsync scp-gcm sftp lftp", rclone=1)
_VERY_MANY = _entries("runner rsync scp-gcm sftp lftp")
_MANY_FAR = _entries("runner rsync", **{"scp-gcm": 2, "rclone": 2})
_STEPS_FAR = _entries("runner runner-folder rsync", **{"scp-gcm": 2, "rclone": 2})
_MANY_AND_ANSIBLE = _entries("runner rsync scp-gcm sftp lftp", rclone=2, ansible=1)
_AGAIN = _entries("runner rsync")
# rclone takes minutes for five thousand files on a long line.
_CONCURRENT = _entries("runner", rclone=1)
_DURABLE = _entries("runner runner-durable rsync rsync-fsync")
# Against ourselves: the same files as one folder, the list without the loop.
_LIKE_FOLDER = _entries("runner runner-folder")
_LIKE_LIST = _entries("runner runner-list")
_ALONE = _entries("runner")

_WAYS: tuple[Direction, ...] = ("up", "down")
_CONCURRENT_SERVERS: tuple[tuple[Server, str], ...] = (("rclone", "rclone serve sftp"), ("pkg-sftp", "pkg/sftp"))

CASES = (
    Case("1gib-up", "1 GiB up", "up", "file", _BULK, GIB),
    Case("1gib-down", "1 GiB down", "down", "file", _BULK, GIB),
    Case("1gib-up-durable", "1 GiB up, synced to disk", "up", "file", _DURABLE, GIB, is_on_disk=True),
    Case("1gib-down-durable", "1 GiB down, synced to disk", "down", "file", _DURABLE, GIB, is_on_disk=True),
    Case("256mib-up-50ms", "256 MiB up, 50 ms round trip", "up", "file", _FAR, 256 * MIB, round_trip_ms=50),
    Case("256mib-down-50ms", "256 MiB down, 50 ms round trip", "down", "file", _FAR, 256 * MIB, round_trip_ms=50),
    Case("tiny", "One tiny file up: the start-up", "up", "file", _TINY, KIB),
    _small("200-steps", "200 small files up, one step each", "up", "steps", 200, _MANY_AND_ANSIBLE),
    replace(
        _small("200-steps-50ms", "200 small files up, one step each, 50 ms round trip", "up", "steps", 200, _STEPS_FAR),
        round_trip_ms=50,
        rounds_at_most=3,
    ),
    replace(
        _small("200-steps-again", "200 steps, all right already, 50 ms round trip", "up", "steps", 200, _LIKE_FOLDER),
        round_trip_ms=50,
        is_again=True,
        rounds_at_most=3,
    ),
    _small("1000-loop", "1,000 small files up, one loop", "up", "loop", 1000, _LIKE_FOLDER),
    replace(
        _small("1000-loop-50ms", "1,000 small files up, one loop, 50 ms round trip", "up", "loop", 1000, _LIKE_FOLDER),
        round_trip_ms=50,
        rounds_at_most=3,
    ),
    Case("2000-validate", "2,000 steps with conditions and loops, validated", "up", "validate", _ALONE, 0, 2000),
    Case("200000-list", "200,000 names listed and looped over", "down", "list-and-loop", _LIKE_LIST, 0, 200_000),
    _small("1000-steps-up", "1,000 small files up, one step each", "up", "steps", 1000, _MANY),
    _small("1000-steps-down", "1,000 small files down, one step each", "down", "steps", 1000, _MANY),
    _small("200-files", "200 small files up, one folder", "up", "folder", 200, _MANY_AND_ANSIBLE),
    replace(
        _small("200-files-50ms", "200 small files up, one folder, 50 ms round trip", "up", "folder", 200, _MANY_FAR),
        round_trip_ms=50,
    ),
    _small("1000-files-up", "1,000 small files up, one folder", "up", "folder", 1000, _MANY),
    _small("1000-files-down", "1,000 small files down, one folder", "down", "folder", 1000, _MANY),
    *(
        replace(
            _small(
                f"1000-files-{way}-durable", f"1,000 small files {way}, synced to disk", way, "folder", 1000, _DURABLE
            ),
            is_on_disk=True,
        )
        for way in ("up", "down")
    ),
    _small("10000-files-up", "10,000 small files up, one folder", "up", "folder", 10_000, _VERY_MANY),
    _small("10000-files-down", "10,000 small files down, one folder", "down", "folder", 10_000, _VERY_MANY),
    replace(
        _small("10000-unchanged", "10,000 small files up, nothing changed", "up", "folder", 10_000, _AGAIN),
        is_again=True,
    ),
    replace(
        _small("10000-one-changed", "10,000 small files up, one changed", "up", "folder", 10_000, _AGAIN),
        is_again=True,
        changed_files=1,
    ),
    *(
        replace(
            _small(
                f"5000-files-{way}-{server}",
                f"5,000 small files {way}, {name}, 20 ms round trip",
                way,
                "folder",
                5000,
                _CONCURRENT,
            ),
            round_trip_ms=20,
            server=server,
        )
        for server, name in _CONCURRENT_SERVERS
        for way in _WAYS
    ),
    *(
        Case(f"memory-{size}gib-{way}", f"Memory: {size} GiB {way}", way, "file", _MEMORY, size * GIB, kind="memory")
        for size in (1, 8)
        for way in ("up", "down")
    ),
    *(
        replace(
            _small(f"memory-{count}-files", f"Memory: {count:,} small files up", "up", "folder", count, _MEMORY),
            kind="memory",
        )
        for count in (1000, 50_000, 100_000)
    ),
)
