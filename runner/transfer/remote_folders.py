"""Remote folders, listed through a batch. A server may list anything, without an end: what is taken in is bounded."""

from __future__ import annotations

from collections.abc import Callable

from runner.errors import FileRefused, StepError
from runner.remote_files import FileStatus

# In all the folders of one step. Half a million entries take some 400 MB here, and as much again as a report.
MAX_ENTRIES = 500_000
MAX_NAME_CHARACTERS = 64 * 1024 * 1024

# Is told the entries of a folder, which are its own from then on, or why there are none.
OnEntries = Callable[[dict[str, FileStatus], StepError | None], None]


class Allowance:
    """How much more a step takes in."""

    def __init__(self, root: str, peer: str) -> None:
        self._where = f"{root!r} on {peer}"
        self._entries = MAX_ENTRIES
        self._characters = MAX_NAME_CHARACTERS

    def spend(self, characters: int) -> None:
        """One entry more, whose path has so many characters. Raises `FileRefused` when it is too much."""
        self._entries -= 1
        self._characters -= characters
        if self._entries < 0 or self._characters < 0:
            raise FileRefused(
                f"there are more than {MAX_ENTRIES:,} entries in {self._where}, or their names are endless",
                hint="Name a folder further below; a server that lists without an end is broken, or means harm.",
            )


class FolderEntries:
    """A folder being listed; a `runner.remote_files.Listing`."""

    __slots__ = ("_allowance", "_entries", "_on_entries", "path")

    def __init__(self, path: str, allowance: Allowance, on_entries: OnEntries) -> None:
        self.path = path
        self._allowance = allowance
        self._on_entries = on_entries
        self._entries: dict[str, FileStatus] = {}

    def take(self, name: str, status: FileStatus) -> None:
        # What is raised here ends the session, and with it the listing.
        self._allowance.spend(len(self.path) + len(name))
        self._entries[name] = status

    def amend(self, name: str, status: FileStatus | None) -> None:
        amend_entry(self._entries, name, status)

    def finish(self, error: StepError | None) -> None:
        self._on_entries(self._entries, error)


def amend_entry(entries: dict[str, FileStatus], name: str, status: FileStatus | None) -> None:
    """Take in what a closer look at an entry has found; None if it is gone."""
    if status is None:
        entries.pop(name, None)
    else:
        entries[name] = status
