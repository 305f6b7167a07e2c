"""Checks that fail because of the runner, not because of the server: each with its row in the table of issue 13.

An entry is a strict expected failure. When the runner is right there, the check passes, the run fails, and the entry goes.
Those that depend on time or chance are not strict: `is_certain` is false, and they go with the others of their row.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """`check` is a test's name, with `[…]` for its parameters but the server. `row` is 0 for what has none."""

    server: str
    check: str
    row: int
    seen: str
    is_certain: bool = True


def _list(server: str, row: int, seen: str, *checks: str, is_certain: bool = True) -> tuple[Fault, ...]:
    return tuple(Fault(server, check, row, seen, is_certain) for check in checks)


_RCLONE = ("rclone-off", "rclone-full")

KNOWN_FAULTS: tuple[Fault, ...] = (
)  # fmt: skip
