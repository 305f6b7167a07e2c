"""Checks that fail because of the runner, not because of the server: each with its row in the table of issue 13.

An entry is a strict expected failure. When the runner is right there, the check passes, the run fails, and the entry goes.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """`check` is a test's name, with `[…]` for one of its parameters, without the server. `row` is 0 for what no row has."""

    server: str
    check: str
    row: int
    seen: str
    is_certain: bool = True


KNOWN_FAULTS: tuple[Fault, ...] = ()
