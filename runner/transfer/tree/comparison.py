"""Files of a tree that nothing but a checksum tells apart: gathered, so that one command works out hundreds of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.transfer.checksums import HASHED_AT_ONCE, Pair, compare_many
from runner.transfer.tree.changes import Walk

if TYPE_CHECKING:
    from runner.transfer.foretold.effects import StepEffects

# Told whether both sides have the same content.
Weigh = Callable[[bool], None]


class Comparison:
    """What one walk compares by checksum."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        # By the path on the server.
        self._waiting: dict[str, tuple[Pair, Weigh]] = {}

    def add(self, path: str, size_bytes: int, weigh: Weigh) -> None:
        """Have `weigh` told whether both files of this path are the same, by the next `settle` at the latest."""
        walk = self._walk
        here, there = walk.source_path(path), walk.destination_path(path)
        if not walk.is_upload:
            here, there = there, here
        follows_links = walk.is_upload and walk.copy.links == "follow"
        self._waiting[there] = Pair(here, there, size_bytes, follows_links), weigh
        if len(self._waiting) >= HASHED_AT_ONCE:
            self.settle()

    def settle(self) -> bool:
        """Work out the checksums that are waited for; whether there were any."""
        waiting, self._waiting = self._waiting, {}

        def compared(pair: Pair, is_same: bool) -> None:
            waiting[pair.remote_path][1](is_same)

        pairs, context = [pair for pair, _ in waiting.values()], self._walk.context
        if context.effects is not None and not context.effects.is_all_real:
            pairs = [pair for pair in pairs if not _compare_foretold(pair, context.effects, compared)]
        if pairs:
            compare_many(pairs, context.remote, self._walk.batch, compared, context.cancellation)
        return bool(waiting)


def _compare_foretold(pair: Pair, effects: StepEffects, compared: Callable[[Pair, bool], None]) -> bool:
    """Compare two files of which an earlier step of a check would have made one; False for other ones."""
    here, there = pair.local_path, pair.remote_path
    if effects.are_real(here, there):
        return False
    compared(pair, effects.are_same(here, there, pair.size_bytes))
    return True
