"""Clears away what earlier plays of one owner have left in a directory that is looked at anyway.

What a process left that is proven gone goes at once, unless a later play can go on with it. Everything else goes when it is
older than a week, by the clock of the side that it is on: of another machine nobody here can tell whether it still works.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from runner.errors import StepError, UnreachableError
from runner.remote_files import FileStatus, RemoteFiles, StatusRefused
from runner.transfer.temporary import WEEK_SECONDS, OwnName, TemporaryNames, keep_name, owner_tag, read_name

# How many names of a folder are looked through. A server sends some hundred at a time: on a long line a full folder must
# not cost more than the copy.
MAX_LISTED_NAMES = 2_000
# So many are looked at one by one in one play; the next play finds the rest.
MAX_LOOKED_AT = 50


def describe_leftovers(count: int) -> str:
    """What the result says of them; empty if there were none."""
    return f"{count:,} old temporary file{'s' if count > 1 else ''} of earlier plays cleared away" if count else ""


def may_be_left_over(own: OwnName, modified_at_seconds: float | None) -> bool:
    """Whether a file may be older than a week, by this machine's clock. That of the other side decides."""
    if not own.is_elsewhere and not own.is_abandoned:
        return False
    moment = time.time() - WEEK_SECONDS
    return own.was_made_before(moment) and modified_at_seconds is not None and modified_at_seconds < moment


class RemoteLeftovers:
    """Removes what is left over in a folder of the server; `folder` ends with its slash, and is empty for the login's."""

    def __init__(self, folder: str, owner: str, remote: RemoteFiles) -> None:
        self._folder = folder
        self._owner = owner
        self._remote = remote
        self._now: float | None = None
        # Those of earlier plays; what an earlier attempt has left is nothing to report.
        self.removed = 0

    def clear(self, names: Collection[str], destination: str, spared: str) -> None:
        """Remove what is left over among the names; `spared` is in use. Best effort: raises only when the session ends.

        Partial files for `destination` whose process is gone go at once: there is a better one now.
        """
        looked_at = 0
        for name, own in _own_names(names, self._owner):
            if name == spared or (own.is_aside and own.kept not in names):
                continue
            if own.is_abandoned and not own.is_aside and (not own.content or own.kept == keep_name(destination)):
                self._remove(name)
            elif looked_at < MAX_LOOKED_AT:
                looked_at += 1
                self.remove_old(name)

    def remove_old(self, path: str) -> None:
        """Remove one, whose path is relative to the folder, if it is older than a week."""
        own, found = read_name(path.rpartition("/")[2]), self._look_at(path)
        if own is None or found is None or not found.is_regular or not may_be_left_over(own, found.modified_at_seconds):
            return
        if self._now is None:
            self._now = self._ask_for_time() or 0.0
        # Its time may have been set just before it is published: it is still there, long afterwards.
        if (found.modified_at_seconds or 0) < self._now - WEEK_SECONDS and self._look_at(path) == found:
            self._remove(path)

    def _ask_for_time(self) -> float | None:
        """The server's time, as it dates a file that is written now."""
        path = TemporaryNames(self._owner).path_beside(f"{self._folder}clock")
        try:
            self._remote.create_empty(path, None)
            found = self._remote.status(path, follow=False)
            self._remote.remove(path)
        except StatusRefused:
            return None
        except StepError as error:
            _ignore(error)
            return None
        return found.modified_at_seconds if found else None

    def _look_at(self, name: str) -> FileStatus | None:
        try:
            return self._remote.status(self._folder + name, follow=False)
        except StatusRefused:
            return None
        except StepError as error:
            _ignore(error)
            return None

    def _remove(self, name: str) -> None:
        try:
            self._remote.remove(self._folder + name)
            own = read_name(name.rpartition("/")[2])
            self.removed += own is None or not own.is_of_this_process
        except StepError as error:
            _ignore(error)


def clear_local(
    folder_fd: int,
    names: Collection[str],
    owner: str,
    destination: str,
    now: float,
    remove_partial: Callable[[str], bool],
) -> int:
    """The same in a folder of this machine, whose disk says that it is `now`. How many were removed.

    `remove_partial` removes a partial file if nobody holds its lock, which is the proof for them.
    """
    removed = 0
    for name, own in _own_names(names, owner):
        if own.is_aside and own.kept not in names:
            continue
        is_partial = bool(own.content) and not own.is_aside
        if is_partial and own.kept == keep_name(destination):
            removed += remove_partial(name) and not own.is_of_this_process
        elif own.is_abandoned and not own.content:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder_fd)
                removed += not own.is_of_this_process
        else:
            removed += clear_old_local(folder_fd, name, now, remove_partial)
    return removed


def clear_old_local(folder_fd: int, name: str, now: float, remove_partial: Callable[[str], bool]) -> bool:
    """Remove a file that earlier plays have left, if it is older than a week. Whether it was removed."""
    own = read_name(name)
    with suppress(OSError):
        found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        is_old = own is not None and may_be_left_over(own, found.st_mtime) and found.st_mtime < now - WEEK_SECONDS
        if own is None or not is_old or not stat.S_ISREG(found.st_mode):
            return False
        if own.content and not own.is_aside:
            return remove_partial(name)
        os.unlink(name, dir_fd=folder_fd)
        return True
    return False


def _own_names(names: Iterable[str], owner: str) -> Iterable[tuple[str, OwnName]]:
    tag = owner_tag(owner)
    for name in names:
        own = read_name(name)
        if own is not None and own.owner == tag:
            yield name, own


def _ignore(error: StepError) -> None:
    """Servers that let nobody look, or remove, have nothing to clear away that we could."""
    if isinstance(error, UnreachableError):
        raise error
