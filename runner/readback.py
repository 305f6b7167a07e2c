"""A remote file that is read to be looked at, and not kept: hashed, or shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from runner.cancellation import CleanUpAbandoned
from runner.errors import FileRefused, StepError, VerificationFailed
from runner.remote_files import Batch, ReadFile, TakeBytes


class TakesInOrder(Protocol):
    """What is given a file's bytes in order."""

    def update(self, data: memoryview, /) -> None: ...


class Readback:
    """One such file; a `runner.remote_files.Fetching`.

    `taker` gets its bytes, the first `size_bytes` if that is not None; `done` is called when it has them all, or with what
    is wrong. With `is_exact` it is an error if there are fewer, or if the server then says that there are more.
    """

    __slots__ = ("_done", "_is_exact", "_taker", "size_bytes", "source")

    offset = 0
    is_held = is_looked_at = is_durable = False
    trusts_size = True

    def __init__(
        self,
        source: str,
        size_bytes: int | None,
        taker: TakesInOrder,
        done: Callable[[StepError | None], None],
        *,
        is_exact: bool = True,
    ) -> None:
        self.source = source
        self.size_bytes = size_bytes
        self._taker = taker
        self._done = done
        self._is_exact = is_exact

    def open(self) -> TakeBytes:
        return InOrder(self._taker, self.size_bytes).take

    def prove(self, read: ReadFile) -> None:
        if self._is_exact and self.size_bytes not in (None, read.received_bytes):
            raise VerificationFailed(
                f"{self.source!r} could not be read back: {read.received_bytes:,} of {self.size_bytes:,} bytes came",
                hint="Another program is writing to it, or the server's storage is damaged.",
            )
        told_bytes = read.after.size_bytes if read.after is not None else None
        if not self._is_exact or told_bytes is None or self.size_bytes is None:
            return
        if told_bytes > self.size_bytes:
            raise VerificationFailed(
                f"{self.source!r} was said to have {self.size_bytes:,} bytes, and has {told_bytes:,}",
                hint="Another program is writing to it, or the server does not tell sizes as they are.",
            )

    def hold(self) -> None:
        """Nothing is proven further."""

    def publish(self) -> None:
        """Nothing comes of it but what was seen."""

    def explain(self, error: OSError) -> StepError:
        return FileRefused(f"cannot take what {self.source!r} holds: {error.strerror}")

    def discard(self) -> None:
        """Nothing was kept."""

    def finish(self, error: StepError | None) -> None:
        self._done(error)


class Content:
    """Keeps the bytes themselves, of a small file."""

    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, data: memoryview, /) -> None:
        self.data += data


class InOrder:
    """Hands on pieces that may come in another order, up to a limit; what comes early is kept until its turn."""

    def __init__(self, taker: TakesInOrder, limit_bytes: int | None = None) -> None:
        self._taker = taker
        self._limit_bytes = limit_bytes
        self._offset = 0
        self._early: dict[int, bytes] = {}

    def take(self, data: memoryview, offset: int) -> None:
        """The next piece, or a later one."""
        if self._limit_bytes is not None:
            data = data[: max(0, self._limit_bytes - offset)]
        if offset != self._offset:
            self._early[offset] = bytes(data)
            return
        self._taker.update(data)
        self._offset += len(data)
        while self._offset in self._early:
            piece = self._early.pop(self._offset)
            self._taker.update(memoryview(piece))
            self._offset += len(piece)


class PieceHasher:
    """Hashes a file's pieces, one after the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = iter(sizes)
        self._hasher = hashlib.sha256()
        self._left_bytes = next(self._sizes, 0)
        self.digests: list[str] = []

    def update(self, data: memoryview, /) -> None:
        """The next bytes of the file. What follows the last piece is not hashed."""
        while data and self._left_bytes:
            self._hasher.update(data[: self._left_bytes])
            taken_bytes = min(len(data), self._left_bytes)
            data = data[taken_bytes:]
            self._left_bytes -= taken_bytes
            if not self._left_bytes:
                self.digests.append(self._hasher.hexdigest())
                self._hasher = hashlib.sha256()
                self._left_bytes = next(self._sizes, 0)


def complete(batch: Batch) -> None:
    """Wait until everything in a batch is over; raises when the session ends, with nothing left under way."""
    try:
        batch.complete()
    except BaseException:
        with suppress(StepError, CleanUpAbandoned):
            batch.abandon()
        raise
