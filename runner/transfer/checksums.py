"""Checksums of many files at once, on both sides: of the server's by one command there, or by reading them back."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from runner.cancellation import Cancellation
from runner.errors import StepError
from runner.readback import Readback
from runner.remote_files import Batch, Digest, Hasher, RemoteReader
from runner.transfer.local_files import Check, hash_file

# So many files are asked about in one command: enough to make its start cheap, few enough to be answered soon.
HASHED_AT_ONCE = 500

OnDigest = Callable[[str, Digest | None, StepError | None], None]


def hash_remotely(files: Sequence[tuple[str, int]], remote: RemoteReader, batch: Batch, done: OnDigest) -> None:
    """Have `done` called with the digest of each file, given by path and size, or why there is none.

    What the server cannot work out itself is read back through the batch, and `done` is called while it is waited for.
    """
    digests = remote.sha256_many(files)
    for path, size_bytes in files:
        digest = digests.get(path)
        if digest is not None:
            done(path, Digest(digest, "sha256"), None)
        else:
            hasher = hashlib.sha256()
            batch.fetch(Readback(path, size_bytes, hasher, functools.partial(_read_back, path, hasher, done)))


def _read_back(path: str, hasher: Hasher, done: OnDigest, error: StepError | None) -> None:
    done(path, None if error is not None else Digest(hasher.hexdigest(), "readback"), error)


class Pair(NamedTuple):
    """Two files of the same size that may be the same. `follows_links` says whether the local path may be a link."""

    local_path: str
    remote_path: str
    size_bytes: int
    follows_links: bool = False


def compare_many(
    pairs: Sequence[Pair],
    remote: RemoteReader,
    batch: Batch,
    done: Callable[[Pair, bool], None],
    cancellation: Cancellation,
) -> None:
    """Have `done` told of each pair whether the contents are the same; what cannot be read is not."""
    by_path = {pair.remote_path: pair for pair in pairs}
    here: dict[str, str | None] = {}

    lent_limit = cancellation.lend_limit()

    def hash_local_files() -> None:
        with lent_limit():
            for pair in pairs:
                here[pair.local_path] = hash_local(
                    pair.local_path, cancellation.check, follows_links=pair.follows_links
                )

    def compare(path: str, digest: Digest | None, error: StepError | None) -> None:
        local.result()
        pair = by_path[path]
        done(pair, digest is not None and digest.sha256 == here[pair.local_path])

    # Both sides at the same time: hashing lets other threads run.
    with ThreadPoolExecutor(1) as hashing:
        local = hashing.submit(hash_local_files)
        hash_remotely([(pair.remote_path, pair.size_bytes) for pair in pairs], remote, batch, compare)


def hash_local(path: str, check: Check, *, follows_links: bool) -> str | None:
    """The SHA-256 of a regular local file, None if it cannot be read. Raises whatever `check` raises."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows_links else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        return hash_file(fd, check) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)
