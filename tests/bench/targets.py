"""What must be reached. A target that is missed is shown as missed; it fails no run."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024
PRODUCT = "runner"


@dataclass(frozen=True, slots=True)
class RatioTarget:
    """Our time divided by that of a peer, at most, in a case."""

    case: str
    peer: str
    at_most: float


@dataclass(frozen=True, slots=True)
class MemoryTarget:
    """Our peak of resident memory, at most, in a case."""

    case: str
    at_most_bytes: int


@dataclass(frozen=True, slots=True)
class TimeTarget:
    """Our time, at most, in a case."""

    case: str
    at_most_seconds: float


Target = RatioTarget | MemoryTarget | TimeTarget

TARGETS: tuple[Target, ...] = (
    RatioTarget("1gib-up", "scp-gcm", 0.95),
    RatioTarget("1gib-up", "scp", 0.6),
    RatioTarget("1gib-down", "scp-gcm", 0.75),
    RatioTarget("256mib-up-50ms", "scp-gcm", 0.4),
    RatioTarget("256mib-down-50ms", "scp-gcm", 0.3),
    RatioTarget("tiny", "scp-gcm", 1.3),
    RatioTarget("tiny", "ansible", 0.2),
    RatioTarget("tiny", "before", 1.05),
    RatioTarget("200-steps-50ms", "runner-folder", 4),
    RatioTarget("200-steps-again", "runner-folder", 2),
    RatioTarget("1000-loop", "runner-folder", 1.5),
    RatioTarget("1000-loop-50ms", "runner-folder", 1.5),
    TimeTarget("2000-validate", 3),
    RatioTarget("200000-list", "runner-list", 1.5),
    MemoryTarget("200000-list", 150 * MIB),
    RatioTarget("200-files", "ansible", 0.01),
    RatioTarget("200-files-50ms", "rsync", 0.85),
    RatioTarget("200-files-50ms", "rclone", 0.05),
    RatioTarget("1000-files-up", "rsync", 1.0),
    RatioTarget("10000-files-up", "rsync", 1.2),
    RatioTarget("10000-files-up", "scp-gcm", 0.3),
    RatioTarget("10000-files-down", "rsync", 1.2),
    RatioTarget("10000-files-down", "scp-gcm", 0.3),
    RatioTarget("10000-unchanged", "rsync", 1.3),
    RatioTarget("10000-one-changed", "rsync", 1.3),
    RatioTarget("5000-files-up-rclone", "rclone", 0.25),
    RatioTarget("5000-files-down-rclone", "rclone", 0.25),
    RatioTarget("5000-files-up-pkg-sftp", "rclone", 0.25),
    RatioTarget("5000-files-down-pkg-sftp", "rclone", 0.25),
    MemoryTarget("memory-1gib-up", 90 * MIB),
    MemoryTarget("memory-1gib-down", 90 * MIB),
    MemoryTarget("memory-8gib-up", 90 * MIB),
    MemoryTarget("memory-8gib-down", 90 * MIB),
    MemoryTarget("memory-1000-files", 90 * MIB),
    MemoryTarget("memory-50000-files", 90 * MIB),
    MemoryTarget("memory-100000-files", 120 * MIB),
)
