"""Checksums of many files at once, on both sides: of the server's by one command there, or by reading them back."""

from __future__ import annotations

import functools
import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple, TypeVar

from runner.cancellation import Cancellation
from runner.errors import StepError, VerificationFailed
from runner.remote_files import Batch, Digest, FileStatus, RemoteFiles
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import Check, hash_file

# So many files are asked about in one command: enough to make its start cheap, few enough to be answered soon.
HASHED_AT_ONCE = 500

T = TypeVar("T")
OnDigest = Callable[[str, Digest | None, StepError | None], None]


def hash_remotely(
    files: Sequence[tuple[str, int]], remote: RemoteFiles, batch: Batch, done: OnDigest, check: Check
) -> None:
    """Have `done` told the digest of each file, given by path and size, or why there is none.

    What the server cannot work out itself is read back through the batch, and `done` is called while it is waited for.
    `check` is asked in the transport's thread whether the work must end: `Cancellation.make_check` gives it.
    """
    digests = remote.sha256_many(files)
    for path, size_bytes in files:
        digest = digests.get(path)
        if digest is not None:
            done(path, Digest(digest, "sha256"), None)
        else:
            look = functools.partial(_hash_readback, check)
            batch.fetch(Readback(path, size_bytes, look, functools.partial(done, path)))


class Pair(NamedTuple):
    """Two files of the same size that may be the same. `follows_links` says whether the local path may be a link."""

    local_path: str
    remote_path: str
    size_bytes: int
    follows_links: bool = False


def compare_many(
    pairs: Sequence[Pair],
    remote: RemoteFiles,
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
        hash_remotely(
            [(pair.remote_path, pair.size_bytes) for pair in pairs], remote, batch, compare, cancellation.make_check()
        )


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


class Readback:
    """A file that is fetched only to be looked at; a `runner.remote_files.Fetching`.

    `look` is given the open file and its size, in the transport's thread; `done` what it has returned, or the error.
    """

    __slots__ = ("_done", "_file", "_look", "_seen", "size_bytes", "source")

    is_durable = False

    def __init__(
        self,
        path: str,
        size_bytes: int,
        look: Callable[[int, int], T],
        done: Callable[[T | None, StepError | None], None],
    ) -> None:
        self.source = path
        self.size_bytes = size_bytes
        self._look = look
        self._done: Callable[[Any, StepError | None], None] = done
        self._file: IO[bytes] | None = None
        self._seen: object = None

    def open(self) -> int:
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (discard closes it)
        except OSError as error:
            raise self.explain(error) from error
        return self._file.fileno()

    def prove(self, received_bytes: int, after: FileStatus | None) -> None:
        if received_bytes != self.size_bytes or self._file is None:
            raise VerificationFailed(
                f"{self.source!r} could not be read back: {received_bytes:,} of {self.size_bytes:,} bytes came",
                hint="Another program is writing to it, or the server's storage is damaged.",
            )
        self._seen = self._look(self._file.fileno(), self.size_bytes)

    def publish(self) -> None:
        """Nothing comes of it but what was seen."""

    def explain(self, error: OSError) -> StepError:
        return explain_os_error(error, "cannot write a temporary file in", tempfile.gettempdir())

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, error: StepError | None) -> None:
        self._done(self._seen, error)


def _hash_readback(check: Check, fd: int, size_bytes: int) -> Digest:
    return Digest(hash_file(fd, check), "readback")
