"""Proves how much of a partial file is the source's beginning: both sides hash it at the same time, piece by piece."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from runner.cancellation import POLL_SECONDS
from runner.errors import ConnectionLost, StepError, StepTimedOut
from runner.remote_files import Hasher
from runner.transfer.local_files import HASHED_AT_ONCE_BYTES, Check

# So much is under way at once, at most, and may be written in any order: before the last bytes there may be gaps.
MARGIN_BYTES = 32 * 1024 * 1024
# What is hashed at once: much where all will be right, little where there may be gaps. Each piece costs the server two
# processes, and the end of each is its sign of life.
PIECE_BYTES = 64 * 1024 * 1024
FINE_PIECE_BYTES = 4 * 1024 * 1024
MAX_FAILED_PROOFS = 2

T = TypeVar("T")

# How often this process could not prove something: by the peer and the path.
_lock = threading.Lock()
_failed_proofs: Counter[tuple[str, str]] = Counter()


def piece_sizes(size_bytes: int) -> list[int]:
    """The pieces that a partial file of this size is proven in: large ones, and small ones where there may be gaps."""
    count = max(0, size_bytes - MARGIN_BYTES) // PIECE_BYTES
    fine_count, rest_bytes = divmod(size_bytes - count * PIECE_BYTES, FINE_PIECE_BYTES)
    return [PIECE_BYTES] * count + [FINE_PIECE_BYTES] * fine_count + ([rest_bytes] if rest_bytes else [])


def prove_prefix(fd: int, sizes: Sequence[int], theirs: Iterator[str], check: Check) -> tuple[int, Hasher | None]:
    """The longest beginning, in whole pieces, that both sides hash alike, and its hash to be gone on with; 0 for none.

    Both hash at the same time: the server for `theirs`, a thread here for the local file `fd`. Raises what either does.
    """
    offset, proven = 0, None
    stop = threading.Event()
    hashing = ThreadPoolExecutor(1)
    try:
        ours = _Pieces(fd, stop)
        futures = [hashing.submit(ours.hash_next, size) for size in sizes]
        for size, future, digest in zip(sizes, futures, theirs, strict=False):
            found, whole = _result_of(future, check)
            if found != digest:
                break
            offset, proven = offset + size, whole
    finally:
        stop.set()
        hashing.shutdown(cancel_futures=True)
        close_answers(theirs)
    return offset, proven


class _Pieces:
    """Hashes a local file piece by piece, and all of it so far."""

    def __init__(self, fd: int, stop: threading.Event) -> None:
        self._fd = fd
        self._stop = stop
        self._offset = 0
        self._whole = hashlib.sha256()
        self._space = memoryview(bytearray(HASHED_AT_ONCE_BYTES))

    def hash_next(self, size_bytes: int) -> tuple[str, Hasher]:
        """The hash of the next piece, and of everything up to its end. Raises `OSError`."""
        piece = hashlib.sha256()
        end = self._offset + size_bytes
        while self._offset < end and not self._stop.is_set():
            count = os.preadv(self._fd, [self._space[: end - self._offset]], self._offset)
            if count == 0:
                break
            piece.update(self._space[:count])
            self._whole.update(self._space[:count])
            self._offset += count
        return piece.hexdigest(), self._whole.copy()


def _result_of(future: Future[T], check: Check) -> T:
    """What a thread comes to."""
    while not future.done():
        check()
        wait([future], POLL_SECONDS)
    return future.result()


def close_answers(answers: Iterator[str]) -> None:
    """No more of a server's answers are wanted: the listing is closed, the command ends with its channel."""
    if isinstance(answers, Generator):
        answers.close()


@contextmanager
def proving(key: tuple[str, str]) -> Iterator[bool]:
    """Whether a proof is worth trying. What goes wrong with it is no failure, unless the step must end.

    A server that fell silent over it once does so again: the next attempt does without. A broken line may be a chance.
    """
    with _lock:
        may_prove = _failed_proofs[key] < MAX_FAILED_PROOFS
    try:
        yield may_prove
    except (StepError, OSError) as error:
        with _lock:
            _failed_proofs[key] += 1 if isinstance(error, ConnectionLost) else MAX_FAILED_PROOFS
        # If the session is gone as well, the next request tells.
        if isinstance(error, StepTimedOut):
            raise
