"""Goes on with a large copy that was interrupted.

Its bytes go to a partial file whose name binds it to the destination, to this machine, and to the source as it is: another
source, a source that has changed, and another machine all have partials of their own, so that no two copies ever write
different bytes into one. What a partial holds is used only after its hash has been proven to be that of the source's
beginning; otherwise the copy starts afresh.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from runner.errors import StepError
from runner.plan import CopyFile
from runner.remote_files import FileStatus, Hasher, RemoteFiles, StatusRefused
from runner.transfer.local_files import Check, LocalFolder, LocalSource, LocalTarget, hash_prefix
from runner.transfer.temporary import PARTIAL_SUFFIX, partial_prefix

# Below it, starting afresh is quicker than proving that one need not.
RESUME_FROM_BYTES = 8 * 1024 * 1024
# So much is under way at once, at most, and may be written in any order: before the last bytes there may be gaps.
MARGIN_BYTES = 32 * 1024 * 1024
# How many names of a folder are looked through for partials that nobody needs any more. A server sends some hundred at
# a time: on a long line a full folder must not cost more than the copy.
MAX_LISTED_NAMES = 2_000


@dataclass(frozen=True, slots=True)
class Partial:
    """The name under which a large copy collects its bytes, and what names of earlier attempts look like."""

    prefix: str
    name: str

    def is_stale(self, name: str) -> bool:
        """Whether `name` is a partial of the same destination from this machine, of a source that is no more."""
        return name.startswith(self.prefix) and name.endswith(PARTIAL_SUFFIX) and name != self.name


def partial_of_upload(copy: CopyFile, source: LocalSource, peer: str) -> Partial | None:
    """The partial of an upload; None if it is not worth one."""
    if not copy.resume or not copy.atomic or source.opened_as.st_size < RESUME_FROM_BYTES:
        return None
    found = source.opened_as
    identity = (source.path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return _name_partial(copy.destination.rpartition("/")[2], (peer, copy.destination), identity)


def partial_of_download(copy: CopyFile, source: FileStatus, peer: str) -> Partial | None:
    """The partial of a download; None if it is not worth one, or if the server does not tell what the source is."""
    size_bytes, modified_at = source.size_bytes, source.modified_at_seconds
    if (
        not copy.resume
        or not copy.atomic
        or size_bytes is None
        or modified_at is None
        or size_bytes < RESUME_FROM_BYTES
    ):
        return None
    identity = (peer, copy.source, size_bytes, modified_at)
    return _name_partial(os.path.basename(copy.destination), (os.path.abspath(copy.destination),), identity)


def find_remote_prefix(
    path: str, partial: Partial, source: LocalSource, remote: RemoteFiles, check: Check
) -> tuple[int, Hasher | None]:
    """How many bytes of the source's beginning the server's partial at `path` is proven to hold, and their hash so far.

    A partial that cannot be used is removed, and so are stale ones. Raises a `StepError` if the session ends.
    """
    try:
        found = remote.status(path, follow=False)
    except StatusRefused:
        return 0, None
    if found is not None and found.size_bytes and _is_ours(found, source):
        offset, hasher = _prove(
            found.size_bytes,
            lambda count: hash_prefix(source.fd, count, check),
            lambda count: remote.sha256(path, count).sha256,
        )
        if offset:
            return offset, hasher
    if found is not None:
        remote.remove(path)
    folder = path.rpartition("/")
    _remove_stale(
        remote.names_in(folder[0] or folder[1] or "."),
        partial,
        lambda name: remote.remove(folder[0] + folder[1] + name),
    )
    return 0, None


def find_local_prefix(target: LocalTarget, copy: CopyFile, remote: RemoteFiles, check: Check) -> int:
    """How many bytes of the source's beginning the partial at hand is proven to hold. What follows them is cut off."""
    offset = 0
    size_bytes = os.fstat(target.fd).st_size
    # Where the hash could only be got by reading the source, it is read into its place instead.
    if size_bytes and remote.can_hash:
        offset, _ = _prove(
            size_bytes,
            lambda count: hash_prefix(target.fd, count, check),
            lambda count: remote.sha256(copy.source, count).sha256,
        )
    os.ftruncate(target.fd, offset)
    return offset


def remove_stale_local(folder: LocalFolder, partial: Partial) -> None:
    """Remove partials of the same destination whose source is no more, unless somebody is writing to them."""
    _remove_stale(os.listdir(folder.fd), partial, folder.remove_unused)


def _is_ours(found: FileStatus, source: LocalSource) -> bool:
    """Whether what bears the partial's name can be one: somebody else may have put a link there, or a file of theirs."""
    is_private = found.permissions is not None and not found.permissions & 0o077
    return found.is_regular and is_private and (found.size_bytes or 0) <= source.opened_as.st_size


def _prove(size_bytes: int, ours: Callable[[int], Hasher], theirs: Callable[[int], str]) -> tuple[int, Hasher | None]:
    """The longest prefix of a partial that both sides hash alike, and its hash; 0 if there is none."""
    for count in (size_bytes, size_bytes - MARGIN_BYTES):
        if count <= 0:
            break
        hasher = ours(count)
        if hasher.hexdigest() == theirs(count):
            return count, hasher
    return 0, None


def _remove_stale(names: Iterable[str], partial: Partial, remove: Callable[[str], object]) -> None:
    try:
        for number, name in enumerate(names):
            if number >= MAX_LISTED_NAMES:
                return
            if partial.is_stale(name):
                remove(name)
    except StepError as error:
        if error.exit_code == 4:
            raise
        # Servers that let nobody look, or remove, have nothing to clear away that we could.


def _name_partial(name: str, place: tuple[str, ...], identity: tuple[object, ...]) -> Partial:
    prefix = partial_prefix(name, _digest(socket.gethostname(), os.getuid(), *place)[:8])
    return Partial(prefix, f"{prefix}{_digest(*identity)[:16]}{PARTIAL_SUFFIX}")


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
