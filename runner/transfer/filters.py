"""Which files of a tree are copied: `include` and `exclude`, as .gitignore has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# The library's expressions end at a line's end: for them a newline in a name is another character, which nobody uses.
_NEWLINE = "\ue00a"


class Filter:
    """Judges paths relative to the tree's root, with '/' between their parts."""

    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._include = _compile(include)
        self._exclude = _compile(exclude)

    @property
    def is_selective(self) -> bool:
        """Whether only some files are wanted, so that a folder is made only if one of them is in it."""
        return self._include is not None

    def excludes(self, path: str, *, is_folder: bool) -> bool:
        """Whether a path, and all that is below it, is left alone on both sides."""
        return self._exclude is not None and _matches(self._exclude, path + "/" if is_folder else path)

    def protects(self, path: str, *, is_folder: bool) -> bool:
        """Whether `delete` leaves a path alone: the step is not about it.

        A folder is looked into all the same: what is in it may be included.
        """
        if is_folder or self._include is None:
            return self.excludes(path, is_folder=is_folder)
        return not self.admits(path, is_folder=False)

    def admits(self, path: str, *, is_folder: bool) -> bool:
        """Whether a path is copied; for a folder, whether it is entered."""
        if self.excludes(path, is_folder=is_folder):
            return False
        return is_folder or self._include is None or _matches(self._include, path)


def _compile(patterns: tuple[str, ...]) -> GitIgnoreSpec | None:
    if not patterns:
        return None
    # Only a step that filters pays for it.
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(pattern.replace("\n", _NEWLINE) for pattern in patterns)


def _matches(spec: GitIgnoreSpec, path: str) -> bool:
    return bool(spec.match_file(path.replace("\n", _NEWLINE)))
