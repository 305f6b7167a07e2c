"""What a copy of a tree must come to, worked out on its own from both sides' pictures and the options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.transfer.trees import Picture, stays_inside

Entry = tuple[str, int, int, bytes]


@dataclass
class Expectation:
    """The destination afterwards, the paths that cannot be copied, and the folders that have lost only some of what was in
    them: their time is that of the loss.
    """

    picture: Picture
    failures: set[str]
    restless: set[str]


class Model:
    """One copy of `source`, as it lies on the disk, over a destination that looks like `before`."""

    def __init__(self, source: Path, before: Picture, options: dict[str, Any], *, is_upload: bool) -> None:
        self._is_upload = is_upload
        self._root = source
        self._before = before
        self._links = options.get("links", "preserve")
        self._compare = options.get("compare", "size_mtime")
        self._deletes = options.get("delete", False)
        self._include = options.get("include", [])
        self._exclude = options.get("exclude", [])
        self._after: Picture = dict(before)
        self._failures: set[str] = set()
        self._restless: set[str] = set()

    def expect(self) -> Expectation:
        """Carry the copy out on paper."""
        self._enter("", self._root, [os.path.realpath(self._root)], is_there="." in self._before)
        return Expectation(self._after, self._failures, self._restless)

    def _enter(self, path: str, source: Path, chain: list[str], *, is_there: bool) -> bool:
        """One folder; whether it is there afterwards."""
        names = sorted(os.listdir(source))
        admitted = [name for name in names if self._admits(_join(path, name), is_folder=False)]
        has_wanted = any((source / name).is_symlink() or not (source / name).is_dir() for name in admitted)
        is_wanted = not self._include or has_wanted
        below = [self._copy(_join(path, name), source / name, chain) for name in names]
        is_there = is_there or is_wanted or any(below)
        if is_there:
            self._after[path or "."] = self._folder(path, source.stat())
        if self._deletes:
            for old in [old for old in self._before if _parent(old) == path and old != "."]:
                if old.rpartition("/")[2] not in names:
                    self._remove(old)
        return is_there

    def _folder(self, path: str, source: os.stat_result) -> Entry:
        """A folder afterwards. An old root stays as it is; where the sticky bit is not, not everybody may write."""
        old = self._before.get(path or ".")
        if not path and old is not None:
            self._restless.add(".")
            return old
        bits = self._special_bits(path)
        permissions = source.st_mode & 0o777
        if not bits & 0o1000:
            permissions &= ~0o002
        return "folder", permissions | bits, int(source.st_mtime), b""

    def _special_bits(self, path: str) -> int:
        """An old folder keeps what it has; to a new one the system passes on the set-gid bit of the one above it."""
        old = self._before.get(path or ".")
        if old is not None and old[0] == "folder":
            return old[1] & 0o7000
        return self._special_bits(_parent(path)) & 0o2000 if path else 0

    def _copy(self, path: str, source: Path, chain: list[str]) -> bool:
        """One entry of the source; whether a folder was made of it, which makes those above it."""
        if source.is_symlink():
            if self._admits(path, is_folder=False):
                return self._copy_link(path, source, chain)
            return False
        if not self._admits(path, is_folder=source.is_dir()):
            return False
        if source.is_dir():
            return self._copy_folder(path, source, [*chain, f"{chain[-1]}/{source.name}"])
        self._copy_file(path, source)
        return False

    def _copy_link(self, path: str, source: Path, chain: list[str]) -> bool:
        old = self._before.get(path)
        if self._links == "preserve":
            if not self._is_upload and not self._stays_inside(path, os.readlink(source)):
                # Left out, with a warning.
                return False
            if self._makes_way(path, old):
                self._after[path] = ("link", 0, 0, os.fsencode(os.readlink(source)))
        elif self._links == "error":
            self._failures.add(path)
        elif self._links == "follow":
            return self._follow(path, source, chain)
        return False

    def _stays_inside(self, path: str, target: str) -> bool:
        """Whether a link may be made here. One of the destination's own that leads out is no way for it, unless it goes."""
        here, names, links_left = path.split("/")[:-1], target.split("/"), 40
        if not stays_inside(path, target):
            return False
        while names and links_left:
            name = names.pop(0)
            if name in ("", ".", ".."):
                here = here[:-1] if name == ".." else here
                continue
            place = "/".join([*here, name])
            source, old = self._root / place, self._before.get(place)
            if old is None or old[0] != "link":
                here.append(name)
                continue
            links_left -= 1
            found = os.fsdecode(old[3])
            if os.path.lexists(source) and self._admits(place, is_folder=source.is_dir() and not source.is_symlink()):
                if not source.is_symlink() and not source.is_dir():
                    here.append(name)
                    continue
                if source.is_symlink() and stays_inside(place, os.readlink(source)):
                    found = os.readlink(source)
            if not stays_inside(place, found):
                return False
            names = [*found.split("/"), *names]
        return True

    def _follow(self, path: str, source: Path, chain: list[str]) -> bool:
        try:
            real = os.path.realpath(source, strict=True)
        except OSError:
            self._failures.add(path)
            return False
        if real != chain[0] and not real.startswith(f"{chain[0]}/"):
            self._failures.add(path)
            return False
        if not self._admits(path, is_folder=os.path.isdir(real)):
            return False
        if not os.path.isdir(real):
            self._copy_file(path, source)
            return False
        if any(f"{one}/".startswith(f"{real}/") for one in chain):
            self._failures.add(path)
            return False
        return self._copy_folder(path, source, [*chain, real])

    def _copy_folder(self, path: str, source: Path, chain: list[str]) -> bool:
        old = self._before.get(path)
        is_in_the_way = old is not None and old[0] != "folder"
        if is_in_the_way and not self._deletes:
            self._failures.add(path)
            return False
        return self._enter(path, source, chain, is_there=old is not None and not is_in_the_way)

    def _copy_file(self, path: str, source: Path) -> None:
        status, content, old = source.stat(), source.read_bytes(), self._before.get(path)
        mode, time = status.st_mode & 0o777, int(status.st_mtime)
        if not self._makes_way(path, old):
            return
        if old is not None and old[0] == "file" and self._is_right(old, content, time):
            self._after[path] = ("file", mode, old[2], old[3])
            return
        self._after[path] = ("file", mode, time, content)

    def _makes_way(self, path: str, old: Entry | None) -> bool:
        """Whether a file or link can have this path: a folder goes for it with `delete`, but not what is spared in it."""
        if old is None or old[0] != "folder":
            return True
        inside = [one for one in self._before if one.startswith(f"{path}/")]
        if not self._deletes or any(self._is_spared(one) for one in inside):
            self._failures.add(path)
            return False
        for one in inside:
            del self._after[one]
        return True

    def _is_right(self, old: Entry, content: bytes, time: int) -> bool:
        if self._compare == "checksum":
            return old[3] == content
        if self._compare == "size":
            return len(old[3]) == len(content)
        return self._compare == "size_mtime" and (len(old[3]), old[2]) == (len(content), time)

    def _remove(self, path: str) -> bool:
        """Remove what the source lacks, but not what the patterns spare; whether it is gone."""
        if self._is_spared(path):
            return False
        below = [old for old in self._before if _parent(old) == path]
        gone = [self._remove(old) for old in below]
        if not all(gone):
            self._restless.add(path)
            return False
        del self._after[path]
        return True

    def _admits(self, path: str, *, is_folder: bool) -> bool:
        if self._is_excluded(path, is_folder=is_folder):
            return False
        return is_folder or not self._include or any(_matches(one, path, is_folder=False) for one in self._include)

    def _is_spared(self, path: str) -> bool:
        is_folder = self._before[path][0] == "folder"
        return self._is_excluded(path, is_folder=True) if is_folder else not self._admits(path, is_folder=False)

    def _is_excluded(self, path: str, *, is_folder: bool) -> bool:
        return any(_matches(pattern, path, is_folder=is_folder) for pattern in self._exclude)


def _matches(pattern: str, path: str, *, is_folder: bool) -> bool:
    """Patterns as .gitignore has them, as far as the tests use them: a name, anywhere; with a slash before it, at the
    root; with one behind it, a folder's. What is below a match is matched too.
    """
    name = pattern.strip("/")
    parts = path.split("/")
    for depth, part in enumerate(parts):
        is_last = depth == len(parts) - 1
        if pattern.startswith("/") and depth:
            return False
        if fnmatchcase(part, name) and (not pattern.endswith("/") or not is_last or is_folder):
            return True
    return False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
