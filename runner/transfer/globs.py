"""Shell patterns for paths of the server: which of them are there.

As in a shell, `*`, `?` and `[…]` stand for characters of one name, and none of them for a dot at its beginning; `**` alone
between slashes stands for any number of directories, and links are not followed there.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable

from runner.errors import SourceMissing, StepError
from runner.remote_files import FileStatus, RemoteRequest
from runner.transfer.batch import running_batch
from runner.transfer.context import CopyContext
from runner.transfer.remote_folders import Allowance, FolderEntries
from runner.transfer.remote_status import look, require_kind
from runner.transfer.tree.names import Entries, improper_name, is_proper_name

_ANY_DEPTH = "**"
_WILD = re.compile(r"[*?[]")

# What is there, by path. None for what is not looked at yet.
Found = dict[str, FileStatus]
_Named = dict[str, FileStatus | None]


def is_glob(path: str) -> bool:
    """Whether a path is a pattern."""
    return _WILD.search(path) is not None


def find_matching(pattern: str, context: CopyContext, *, follow: bool) -> Found:
    """What is there that a path or a pattern names, links followed or not, in the order of the paths' bytes.

    With `follow` a link that leads nowhere is not there. Raises a `StepError` if a directory that is there cannot be
    listed, and `FileRefused` if there is more than can be listed, or nothing tells whether something is a directory that
    would have to be.
    """
    if not is_glob(pattern):
        found = look(context.remote, pattern, context.peer, follow=follow)
        return {} if found is None else {pattern: found}
    named = _Search(pattern, context).find()
    statuses = _look(named, context, follow=follow)
    return {path: statuses[path] for path in sorted(statuses, key=os.fsencode)}


class _Search:
    """One search: part by part of the pattern, and all directories of one depth at once."""

    def __init__(self, pattern: str, context: CopyContext) -> None:
        self._parts = [part for part in pattern.split("/") if part]
        self._are_directories = pattern.endswith("/")
        self._root = "/" if pattern.startswith("/") else ""
        self._around = context
        self._allowance = Allowance(pattern, context.peer)

    def find(self) -> _Named:
        """The paths that the pattern names. What was listed has been seen; the others need not be there."""
        named: _Named = {self._root: None}
        for index, part in enumerate(self._parts):
            is_last = index == len(self._parts) - 1
            if part == _ANY_DEPTH:
                named = self._descend(named, with_files=is_last)
            elif is_glob(part):
                named = self._list_matching(part, named)
            else:
                named = {_append(path, part): None for path in named}
            if self._are_directories if is_last else is_glob(part):
                named = self._directories(named)
        return named

    def _directories(self, named: _Named) -> _Named:
        """Those that are directories, links to one included."""
        kept = {path: status for path, status in named.items() if path == self._root or _is_seen_directory(status)}
        unsure = {path: status for path, status in named.items() if path not in kept and not _is_seen_file(status)}
        looked = _look(unsure, self._around, follow=True)
        for path, status in looked.items():
            require_kind(status, path, self._around.peer)
        return kept | {path: status for path, status in looked.items() if status.is_directory}

    def _list_matching(self, part: str, named: _Named) -> _Named:
        matches = _compile(part)
        listed = self._list(named)
        return {
            _append(folder, name): status
            for folder, entries in listed.items()
            for name, status in entries.items()
            if matches(name)
        }

    def _descend(self, named: _Named, *, with_files: bool) -> _Named:
        """These directories and all below them; `with_files`, what is in them, and not they themselves."""
        found: _Named = {} if with_files else dict(named)
        level = named
        while level:
            listed = self._list(level)
            level = {}
            for folder, entries in listed.items():
                for name, status in entries.items():
                    path = _append(folder, name)
                    if name.startswith("."):
                        continue
                    require_kind(status, path, self._around.peer)
                    if status.is_directory:
                        level[path] = status
                    if status.is_directory or with_files:
                        found[path] = status
        return found

    def _list(self, folders: Iterable[str]) -> dict[str, Entries]:
        """What is in each directory; nothing for one that is not there."""
        listed: dict[str, Entries] = {}
        errors: list[StepError] = []

        def see(path: str, entries: Entries, error: StepError | None) -> None:
            if error is None:
                listed[path] = entries
            elif not isinstance(error, SourceMissing):
                errors.append(error)

        with running_batch(self._around) as batch:
            for path in folders:
                batch.list(FolderEntries(path or ".", self._allowance, functools.partial(see, path)))
            while batch.wait():
                self._around.cancellation.check()
        if errors:
            raise errors[0]
        hostile = next((name for entries in listed.values() for name in entries if not is_proper_name(name)), None)
        if hostile is not None:
            raise improper_name(hostile)
        return listed


def _look(named: _Named, context: CopyContext, *, follow: bool) -> Found:
    """What is at these paths, as far as anything is."""
    found: Found = {}
    errors: list[StepError] = []

    def see(request: RemoteRequest, error: StepError | None) -> None:
        if request.status is not None:
            found[request.path] = request.status
        elif error is not None and not request.is_missing:
            errors.append(error)

    with running_batch(context) as batch:
        for path, status in named.items():
            if status is not None and status.is_kind_told and not (follow and status.is_link):
                found[path] = status
            else:
                batch.run(RemoteRequest("look" if follow else "look closely", path, see))
        while batch.wait():
            context.cancellation.check()
    if errors:
        raise errors[0]
    return found


def _compile(part: str) -> Callable[[str], bool]:
    matches = re.compile(fnmatch.translate(part)).match
    shows_hidden = part.startswith(".")
    return lambda name: (shows_hidden or not name.startswith(".")) and matches(name) is not None


def _append(folder: str, name: str) -> str:
    return f"{folder}{name}" if folder in ("", "/") else f"{folder}/{name}"


def _is_seen_directory(status: FileStatus | None) -> bool:
    return status is not None and status.is_directory


def _is_seen_file(status: FileStatus | None) -> bool:
    return status is not None and status.is_kind_told and not status.is_link and not status.is_directory
