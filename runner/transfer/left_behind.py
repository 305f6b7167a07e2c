"""What a step may leave behind: collected in one place, over all of its attempts, and told by name when the step has ended.

Nothing stays without a word. What the server may not remove, and what an old file is called for a moment, is noted by the
code that asks for it, and forgotten when its end is known. `runner/execution/step_run.py` tells what is left of that: in the
error of a step that has failed, else in a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.results import CopyResult, Output

if TYPE_CHECKING:
    from runner.errors import StepError

# So many names are put into one sentence.
MAX_NAMED = 20
# So many of a kind are kept: a server may refuse to remove anything, and every file of a tree may have a backup.
MAX_KEPT = 1000


class LeftBehind:
    """What one step may leave on the destination's side, each thing by its path there."""

    __slots__ = ("_asides", "_backups", "_stuck", "_written")

    def __init__(self) -> None:
        # Of no use to anybody: temporary files, and what links are tried out with.
        self._written: dict[str, None] = {}
        # What of it the server did not remove.
        self._stuck: dict[str, None] = {}
        # From what old files may be called by now to what they were called.
        self._asides: dict[str, str] = {}
        # Where old files are kept of what was published.
        self._backups: dict[str, None] = {}

    def write(self, *paths: str) -> None:
        """These may be there, and are to go again."""
        _note(self._written, paths)

    def move_aside(self, path: str, aside: str) -> None:
        """What is at a path may have another name by now, or a second one."""
        self._asides[aside] = path

    def keep(self, backup: str) -> None:
        """An old file is kept under this name; the result says so, if there is one."""
        _note(self._backups, (backup,))

    def leave(self, *paths: str) -> None:
        """The server did not remove these, or it has made them although it refused to."""
        _note(self._stuck, paths)

    def forget(self, *paths: str) -> None:
        """What was to become of these has become of them."""
        for path in paths:
            self._written.pop(path, None)
            self._asides.pop(path, None)

    def add_all(self, other: LeftBehind) -> None:
        """What another step may leave is this one's to tell."""
        _note(self._written, other._written)
        _note(self._stuck, other._stuck)
        _note(self._backups, other._backups)
        self._asides |= other._asides

    @property
    def open_paths(self) -> tuple[str, ...]:
        """What is not known to be there, nor to be gone."""
        return (*self._written, *self._asides)

    @property
    def stuck_paths(self) -> tuple[str, ...]:
        """What the server did not remove, or has made although it refused to."""
        return tuple(self._stuck)

    def warn(self, output: Output) -> Output:
        """The result of a step that went well, with a warning of what is left all the same."""
        warnings = tuple(self._tell(lambda path: path in self._backups))
        if not warnings:
            return output
        # Whatever a step gives is one of them; loaded by those who need it.
        from runner.operation_results import OperationResult

        assert isinstance(output, CopyResult | OperationResult)
        return replace(output, warnings=(*output.warnings, *warnings))

    def add_to(self, error: StepError) -> None:
        """Add to the error of a step that has failed all that it does not name itself."""
        backups = [path for path in self._backups if repr(path) not in error.message]
        if backups:
            error.add(f"Old files are kept as {name_some(backups)}", *backups)
        for sentence in self.describe(error.message):
            error.add(sentence)

    def describe(self, message: str) -> list[str]:
        """What may be left, in sentences, but for what a message names already."""
        return list(self._tell(lambda path: repr(path) in message))

    def _tell(self, is_told: Callable[[str], bool]) -> Iterator[str]:
        """A sentence for each kind of what is left, but for what is told of elsewhere."""
        asides = {aside: path for aside, path in self._asides.items() if not is_told(aside)}
        if asides:
            yield tell_moved_aside(asides)
        stuck = [path for path in self._stuck if not is_told(path)]
        if stuck:
            yield tell_left(stuck)
        written = [path for path in self._written if path not in self._stuck and not is_told(path)]
        if written:
            yield f"What may be left: {name_some(written)}"


def _note(kind: dict[str, None], paths: Iterable[str]) -> None:
    for path in paths:
        if len(kind) < MAX_KEPT:
            kind[path] = None


def name_some(paths: Sequence[str]) -> str:
    """Paths for a message, and how many more there are. What lies in one directory is named together."""
    by_folder: dict[str, list[str]] = {}
    for path in paths[:MAX_NAMED]:
        by_folder.setdefault(path.rpartition("/")[0], []).append(path)
    named = "; ".join(_name_in_folder(folder, some) for folder, some in by_folder.items())
    more = len(paths) - MAX_NAMED
    return f"{named} and {more:,} more" if more > 0 else named


def _name_in_folder(folder: str, paths: list[str]) -> str:
    if len(paths) == 1 or not folder:
        return ", ".join(map(repr, paths))
    return f"{', '.join(repr(path.rpartition('/')[2]) for path in paths)} in {folder!r}"


def tell_left(names: Sequence[str]) -> str:
    """What the server was asked to remove and did not, or refused to make and has made."""
    return f"Left behind on the server: {name_some(names)}"


def tell_moved_aside(old_names: Mapping[str, str]) -> str:
    """Where old files may be, and how to have them back: from what they may be called by now to what they were called."""
    if len(old_names) == 1:
        (aside, path), *_ = old_names.items()
        return f"The old {path!r} may be called {aside!r} by now: if nothing is at its place, rename it back"
    return f"Old files may have other names by now: {name_some([*old_names])}. Where one is missing, rename it back"
