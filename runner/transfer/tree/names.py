"""Names in a tree: which of them can be names at all, and which a disk may take for one another."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from runner.errors import FileRefused
from runner.remote_files import FileStatus

# What is in a folder. A local one's statuses may be asked for only when they are looked up.
Entries = Mapping[str, FileStatus]

# What no program can name (Linux's PATH_MAX).
MAX_PATH_CHARACTERS = 4096
HARM_HINT = "Exclude what is too much. Without a reason for it, the server is broken or means harm."


def check_name(name: str, path: str, destination_root: str) -> FileRefused | None:
    """What is wrong with an entry of the source by that name, with this path relative to the root."""
    if not is_proper_name(name):
        return improper_name(name)
    if len(destination_root) + len(path) >= MAX_PATH_CHARACTERS:
        return FileRefused(f"a path of {len(path):,} characters is too long: {path[:100]!r}…", hint=HARM_HINT)
    return None


def improper_name(name: str) -> FileRefused:
    """The error for an entry that a server lists by a name that leads out of its directory, or to nothing."""
    return FileRefused(f"the name {name!r} cannot be that of a file", hint="The server is broken, or means harm.")


def with_slash(root: str) -> str:
    """What the paths below a root begin with."""
    return root if root.endswith("/") else f"{root}/"


def join(root: str, path: str) -> str:
    """A path below a root; the root itself for none."""
    return f"{with_slash(root)}{path}" if path else root


def is_proper_name(name: str) -> bool:
    """Whether this can be the name of an entry: a hostile server may list a way out of the folder."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def find_doubtful(entries: Entries, destination: Entries) -> set[str]:
    """The names that may come to lie on another one's file, on a disk that takes them for the same.

    All those that differ in case or in Unicode's form only, but for what the destination has by that very name, and for
    the first of several of which it has none.
    """
    if len(set(map(fold, entries))) == len(entries):
        return set()
    groups: dict[str, list[str]] = {}
    for name in sorted(entries):
        groups.setdefault(fold(name), []).append(name)
    doubtful = set()
    for names in groups.values():
        missing = [name for name in names if name not in destination]
        doubtful.update(missing if len(missing) < len(names) else missing[1:])
    return doubtful


def find_twins(source: Entries, destination: Entries) -> dict[str, str]:
    """What the source lacks, and the name of the source that is new and may be the same file."""
    missing = {fold(name): name for name in source if name not in destination}
    if not missing:
        return {}
    extras = (name for name in destination if name not in source)
    return {name: missing[fold(name)] for name in extras if fold(name) in missing}


def fold(name: str) -> str:
    """The same for all names that some file system takes for one: APFS, HFS+, NTFS, ext4 with casefold, and SMB."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def same_name(path: str, where: str) -> FileRefused:
    return FileRefused(
        f"{path!r} would take the place of a file whose name differs in case or accents only: the disk {where} takes both "
        "for the same",
        hint="Rename one of them in the source, or exclude it.",
    )
