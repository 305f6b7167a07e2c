"""Goes on with a large copy that was interrupted.

Its bytes go to a partial file. The name says whose it is and which content it is to have: the next play of the same owner
knows it by that, on whatever machine. What a partial file holds is used only after its hash has been proven to be that of
the source's beginning, piece by piece. Whatever goes wrong with the proof, the copy starts afresh.

No two plays write to one partial file. Here a lock sees to that. SFTP knows none: on a server the name also says which
process writes, and who goes on with another process's file renames it, which only one can do.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.cancellation import POLL_SECONDS, Deadline
from runner.errors import FileRefused, StepError, UnreachableError
from runner.plan import CopyFile
from runner.remote_files import FileStatus, Hasher, RemoteFiles, StatusRefused
from runner.transfer.decision import PRIVATE_PERMISSIONS, asks_for_permissions
from runner.transfer.leftovers import MAX_LISTED_NAMES, RemoteLeftovers, clear_local
from runner.transfer.local_files import Check
from runner.transfer.local_folders import LocalFolder
from runner.transfer.local_sources import LocalSource
from runner.transfer.local_targets import LocalTarget
from runner.transfer.proof import close_answers, piece_sizes, prove_prefix, proving
from runner.transfer.temporary import TemporaryNames, partial_name, read_name, this_process, writing_alone

# Below it, starting afresh is quicker than proving that one need not.
RESUME_FROM_BYTES = 8 * 1024 * 1024
# A source is known again by samples: its first and last bytes, and some in between.
SAMPLE_COUNT = 32
SAMPLE_BYTES = 64 * 1024
# A partial file of another machine is nobody's if it does not change for so long.
QUIET_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Partial:
    """Under which names a copy may find what an earlier attempt left; `folder` ends with its slash, or is empty."""

    folder: str
    destination: str
    owner: str
    content: str

    @property
    def name(self) -> str:
        """The name that every play knows. Where a lock protects it, no other is needed."""
        return partial_name(self.destination, self.owner, self.content)

    @property
    def own_name(self) -> str:
        """The name that this process alone writes to."""
        return partial_name(self.destination, self.owner, self.content, this_process())

    def is_one(self, name: str) -> bool:
        """Whether a name is that of such a partial file, of whichever process."""
        own, same = read_name(name), read_name(self.name)
        return own is not None and same is not None and own[:3] == same[:3] and not own.is_aside


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a large file is written on the server, and how much of it is proven to be there, with the hash so far.

    `is_kept` says whether a later attempt can go on with it, `exists` whether it is there already, `cleared` how many
    leftovers of earlier plays were removed beside it.
    """

    path: str
    offset: int = 0
    hasher: Hasher | None = None
    is_kept: bool = True
    exists: bool = False
    cleared: int = 0


def partial_of_upload(copy: CopyFile, source: LocalSource, owner: str) -> Partial | None:
    """The partial of an upload; None if it is not worth one. Raises `OSError`."""
    size_bytes = source.opened_as.st_size
    # A partial file must be private to be found again. Where no permissions are sent, it would stay so.
    if not _can_resume(copy) or not asks_for_permissions(copy) or size_bytes < RESUME_FROM_BYTES:
        return None
    if copy.temporary_name is not None:
        # Which content a file has must stand in its name, and on whose behalf it is written.
        return None
    folder, slash, name = copy.destination.rpartition("/")
    if copy.temporary_directory is not None:
        folder, slash = copy.temporary_directory.rstrip("/"), "/"
    # Times and inodes are new in each job of a CI system. The content is not.
    return Partial(folder + slash, name, owner, _digest(size_bytes, _sample(source.fd, size_bytes)))


def partial_of_download(copy: CopyFile, source: FileStatus, owner: str) -> Partial | None:
    """The partial of a download; None if it is not worth one, or if the server does not tell what the source is."""
    size_bytes, modified_at = source.size_bytes, source.modified_at_seconds
    if not _can_resume(copy) or size_bytes is None or modified_at is None:
        return None
    if size_bytes < RESUME_FROM_BYTES:
        return None
    folder, slash, name = copy.destination.rpartition("/")
    # Not the server's address, which may be another next time: what is not the source's beginning is found out.
    return Partial(folder + slash, name, owner, _digest(copy.source, size_bytes, modified_at))


def _can_resume(copy: CopyFile) -> bool:
    """Whether what is left of an attempt is of use to the next one: it must be known how far it is right."""
    return copy.resume and copy.atomic and copy.verify != "none"


class RemoteClaims:
    """Finds the partial file of an upload, and makes sure that nobody else writes to it."""

    def __init__(self, remote: RemoteFiles, peer: str, check: Check) -> None:
        """`check` is called now and then, and raises when the step must end."""
        self._remote = remote
        self._peer = peer
        self._check = check

    @contextmanager
    def claim(self, partial: Partial | None, source: LocalSource, temporary: str) -> Iterator[Claim]:
        """A name that no other play writes to, with what an earlier attempt left there as far as that is proven right.

        Without a partial file, or where none can be had, it is the `temporary` name. What is left over in the folder is
        cleared away. Raises a `StepError` if the session ends, and what `check` raises.
        """
        if partial is None:
            yield Claim(temporary, is_kept=False)
            return
        with writing_alone(self._peer, partial.folder + partial.own_name) as is_free:
            yield (self._find(partial, source) if is_free else None) or Claim(temporary, is_kept=False)

    def _find(self, partial: Partial, source: LocalSource) -> Claim | None:
        """The claim; None where the server does not let us have one."""
        names, is_complete, is_refused = self._list(partial.folder)
        # Where not all names can be looked through, only one that needs no looking for will be found again.
        name = partial.own_name if is_complete else partial.name
        path = partial.folder + name
        try:
            found = self._take_over(partial, names, name, source.opened_as.st_size)
            offset, hasher = self._prove(path, found, source) if found else (0, None)
            if found is not None and not offset:
                self._remote.remove(path)
            leftovers = RemoteLeftovers(partial.folder, partial.owner, self._remote)
            leftovers.clear(names, partial.destination, spared=name)
            # A name that other processes use as well is taken before the first byte. Servers that let nobody list a
            # directory may let nobody open a file a second time either.
            is_reserved = not is_complete and not is_refused
            if is_reserved and not offset:
                self._remote.create_empty(path, PRIVATE_PERMISSIONS)
        except UnreachableError:
            raise
        except StepError:
            # It is taken, or the server refuses something that an ordinary temporary file does without.
            return None
        return Claim(path, offset, hasher, exists=offset > 0 or is_reserved, cleared=leftovers.removed)

    def _list(self, folder: str) -> tuple[set[str], bool, bool]:
        """The names in a folder, whether these are all, and whether the server refuses to tell.

        Raises only when the session ends.
        """
        names: set[str] = set()
        listing = self._remote.names_in(folder or ".")
        try:
            names.update(itertools.islice(listing, MAX_LISTED_NAMES + 1))
            close_answers(listing)
        except UnreachableError:
            raise
        except StepError:
            return names, False, True
        return names, len(names) <= MAX_LISTED_NAMES, False

    def _take_over(self, partial: Partial, names: set[str], ours: str, most_bytes: int) -> FileStatus | None:
        """Have the largest partial file that is nobody's under our name, and tell what it is; None if there is none."""
        found = self._look_at(partial.folder + ours) if ours in names or ours == partial.name else None
        if found is not None and found.is_regular and ours == partial.own_name and not _is_usable(found, most_bytes):
            # Only this process gives that name: the line broke when the file had its final mode, and not yet its name.
            self._remote.remove(partial.folder + ours)
            return None
        if (found is None and ours in names) or (found is not None and not _is_usable(found, most_bytes)):
            raise FileRefused(f"something else has the name {ours!r}")
        if found is not None and ours == partial.own_name:
            return found
        others = {name: self._look_at(partial.folder + name) for name in names if partial.is_one(name)}
        usable = {name: status for name, status in others.items() if status and _is_usable(status, most_bytes)}
        if found is not None:
            usable = {ours: found}
        for name in sorted(
            self._leave_out_busy(partial.folder, usable), key=lambda name: -(usable[name].size_bytes or 0)
        ):
            if self._rename(partial, name, ours):
                return usable[name]
        if found is not None:
            raise FileRefused(f"another play writes to {ours!r}")
        return None

    def _leave_out_busy(self, folder: str, usable: dict[str, FileStatus]) -> list[str]:
        """Those that no process writes to any more: here the name tells, for others it is waited whether they change."""
        owns = {name: own for name in usable if (own := read_name(name)) is not None}
        free = [name for name, own in owns.items() if own.is_abandoned]
        doubtful = [name for name, own in owns.items() if own.is_elsewhere]
        if doubtful:
            _pause(QUIET_SECONDS, self._check)
        return free + [name for name in doubtful if self._look_at(folder + name) == usable[name]]

    def _rename(self, partial: Partial, name: str, ours: str) -> bool:
        """Take a file by renaming it: of several plays that try, only one finds it under its old name."""
        steps = [name, ours] if name != ours else [name, TemporaryNames(partial.owner).of(partial.destination), ours]
        try:
            for old, new in itertools.pairwise(steps):
                self._remote.rename(partial.folder + old, partial.folder + new)
        except UnreachableError:
            raise
        except StepError:
            return False
        return True

    def _look_at(self, path: str) -> FileStatus | None:
        try:
            return self._remote.status(path, follow=False)
        except StatusRefused:
            return None

    def _prove(self, path: str, found: FileStatus, source: LocalSource) -> tuple[int, Hasher | None]:
        sizes = piece_sizes(found.size_bytes or 0)
        with proving((self._peer, path)) as may_prove:
            if may_prove:
                return prove_prefix(source.fd, sizes, self._remote.sha256_pieces(path, sizes), self._check)
        return 0, None


def find_local_prefix(target: LocalTarget, copy: CopyFile, remote: RemoteFiles, peer: str, check: Check) -> int:
    """How many bytes of the source's beginning the partial at hand is proven to hold. What follows them is cut off.

    Raises `OSError`, what `check` raises, and a `StepError` if the session ends.
    """
    offset = 0
    size_bytes = os.fstat(target.fd).st_size
    # Where the hash could only be got by reading the source, it is read into its place instead.
    if size_bytes and remote.can_hash:
        sizes = piece_sizes(size_bytes)
        with proving((peer, copy.destination)) as may_prove:
            if may_prove:
                offset, _ = prove_prefix(target.fd, sizes, remote.sha256_pieces(copy.source, sizes), check)
        if not offset:
            # Before all is thrown away: if the session is gone, the next attempt may still prove it.
            remote.status(copy.source)
    os.ftruncate(target.fd, offset)
    return offset


def clear_local_leftovers(folder: LocalFolder, partial: Partial, fd: int) -> int:
    """Clear away what earlier plays have left in the folder of the new file `fd`. How many there were."""
    with os.scandir(folder.fd) as entries:
        names = {entry.name for entry in itertools.islice(entries, MAX_LISTED_NAMES)}
    names.discard(partial.name)
    # The disk's own time: it may be another machine's.
    os.utime(fd)
    now = os.fstat(fd).st_mtime
    return clear_local(folder.fd, names, partial.owner, partial.destination, now, folder.remove_unused)


def _pause(seconds: float, check: Check) -> None:
    deadline = Deadline.after(seconds)
    while not deadline.has_passed:
        check()
        time.sleep(min(POLL_SECONDS, deadline.remaining_seconds))


def _is_usable(found: FileStatus, most_bytes: int) -> bool:
    """Whether what bears a partial's name can be one: somebody else may have put a link there, or a file of theirs."""
    is_private = found.permissions is not None and not found.permissions & 0o077
    return found.is_regular and is_private and (found.size_bytes or 0) <= most_bytes


def _sample(fd: int, size_bytes: int) -> str:
    """A hash of some of a file's bytes: the first ones, the last ones, and what lies evenly between. Raises `OSError`."""
    hasher = hashlib.sha256()
    last = max(0, size_bytes - SAMPLE_BYTES)
    for number in range(SAMPLE_COUNT):
        hasher.update(os.pread(fd, SAMPLE_BYTES, last * number // (SAMPLE_COUNT - 1)))
    return hasher.hexdigest()


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]
