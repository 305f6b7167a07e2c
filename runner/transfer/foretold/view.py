"""One file system as a step of `--check` finds it, and what such a step would change in it: on a server, or here."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod

from runner.errors import StepError
from runner.foretold import Unforetold
from runner.remote_files import FileStatus, ForetoldStatus, WantedAttributes
from runner.transfer.foretold.contents import Content, Stored
from runner.transfer.foretold.files import (
    MAX_TARGETS,
    Directory,
    ForetoldFiles,
    MadeFile,
    MadeLink,
    Node,
    OnLink,
    Resolution,
    Spot,
    Untold,
    join,
)


class View(ABC):
    """A file system under what earlier steps would have done to it."""

    def __init__(self, files: ForetoldFiles) -> None:
        self.files = files

    # What each side knows.

    @abstractmethod
    def ask_target(self, path: str) -> str | None:
        """Where the link really leads that is at a path; None if none is, or nothing tells."""

    @abstractmethod
    def ask_home(self) -> str:
        """Where relative paths begin, without links; `.` where nothing tells."""

    @abstractmethod
    def ask_status(self, path: str) -> FileStatus | None:
        """What really is at a path, a link itself. Raises a `StepError` if that is not told."""

    @abstractmethod
    def store(self, path: str) -> Stored:
        """What the file holds that is really there."""

    # What is there.

    @property
    def is_empty(self) -> bool:
        """Whether everything is as it really is."""
        return self.files.is_empty

    def resolve(self, path: str, *, follow: bool, on_link: OnLink | None = None) -> Spot:
        """Where a path leads. Raises `Unforetold` if that is not known."""
        self.learn_home()
        resolution = self.files.resolve(path, follow=follow, on_link=on_link)
        answer: str | None = None
        while True:
            question = advance(resolution, answer)
            if isinstance(question, Spot):
                return question
            answer = self._target_of(question)

    def learn_home(self) -> None:
        """Have it known where relative paths begin."""
        if not self.files.is_home_known:
            self.files.home, self.files.is_home_known = self.ask_home(), True

    def note_target(self, path: str, target: str | None) -> None:
        """It was asked where a link leads."""
        targets = self.files.targets
        if len(targets) >= MAX_TARGETS:
            targets.clear()
        targets[path] = target

    def _target_of(self, path: str) -> str | None:
        if path not in self.files.targets:
            self.note_target(path, self.ask_target(path))
        return self.files.targets[path]

    def find_status(self, spot: Spot) -> FileStatus | None:
        """What is where a path leads that was resolved without following a link at its end."""
        node = spot.node
        if isinstance(node, MadeFile):
            return node.status
        if isinstance(node, MadeLink):
            return ForetoldStatus(False, False, len(node.target), None, None, True)
        if isinstance(node, Directory):
            found = self.ask_status(node.origin) if node.origin is not None else None
            return node.amend(found)
        return self.ask_status(spot.origin) if spot.origin is not None else None

    def find_content(self, path: str, *, follow: bool = True) -> Content | None:
        """What the file holds that a path leads to; None if nobody can read it before the play."""
        if self.is_empty:
            return self.store(path)
        return self.content_of(self.resolve(path, follow=follow), path)

    def content_of(self, spot: Spot, path: str) -> Content | None:
        """What the file holds that is where a path leads."""
        if isinstance(spot.node, MadeFile):
            return spot.node.content
        if not spot.is_real:
            return None
        assert spot.origin is not None
        return self.store(path if spot.is_plain else spot.origin)

    # What a step would change.

    def put_file(self, path: str, node: MadeFile, *, follow: bool, touches: bool) -> None:
        """A file would be written. A link at its path is replaced, or followed; its directory gets a new time, or not."""
        self.files.put(self.resolve(path, follow=follow).path, node, touches=touches)

    def put_link(self, path: str, target: str, received_by: str = "") -> None:
        """A link would be made."""
        self.files.put(self.resolve(path, follow=False).path, MadeLink(target, received_by))

    def make_directory(self, path: str) -> None:
        """A directory would be made, unless one is there."""
        spot = self.resolve(path, follow=True)
        if not isinstance(spot.node, Directory):
            self.files.make_directory(spot.path)

    def set_directory(self, path: str, mode: int) -> None:
        """A directory would get this mode."""
        self.files.set_directory(self.resolve(path, follow=True).path, WantedAttributes(mode, None))

    def set_permissions(self, path: str, permissions: int, found: FileStatus, step: str) -> None:
        """A file would get these permissions; `found` is what it has."""
        spot = self.resolve(path, follow=True)
        status = ForetoldStatus(*found)._replace(permissions=permissions)
        self.files.put(spot.path, MadeFile(status, self.content_of(spot, path), step), touches=False)

    def remove(self, path: str) -> None:
        """What is at a path would be removed, with everything below it."""
        self.files.remove(self.resolve(path, follow=False).path)

    def move(self, source: str, destination: str, step: str) -> None:
        """What is at a path would get another one, with everything below it."""
        old, new = (self.resolve(path, follow=False) for path in (source, destination))
        node = self._take(old, source, step)
        self.files.remove(old.path)
        self.files.put(new.path, node)

    def _take(self, spot: Spot, path: str, step: str) -> Node:
        if spot.node is not None:
            return spot.node
        status = self.find_status(spot)
        assert spot.origin is not None
        if status is not None and status.is_link:
            target = self._target_of(spot.origin)
            return MadeLink(target) if target is not None else Untold(step)
        if status is None or status.is_directory or not status.is_kind_told:
            return Directory(spot.origin)
        return MadeFile(status, self.content_of(spot, path), step)

    def keep_old(self, path: str, step: str) -> None:
        """What is at a path would be kept beside it, under a name that only the play will choose."""
        spot = self.resolve(path, follow=False)
        self.files.enter(spot.path.rpartition("/")[0] or "/").unlisted_step = step

    def lose(self, path: str, step: str) -> None:
        """A step that could not be foretold would have seen to what is at a path, and made the directories above it."""
        spot = self.resolve(path, follow=False)
        above, lost = spot.path.rpartition("/")[0], spot.path
        while above not in ("", "."):
            here = self.files.find(above)
            if isinstance(here.node, Directory) or self.find_status(here) is not None:
                break
            lost, above = above, above.rpartition("/")[0]
        self.files.put(lost, Untold(step))

    def forget(self, path: str) -> None:
        """A step has really been carried out there."""
        self.files.targets.clear()
        if self.is_empty:
            return
        try:
            place = self.resolve(path, follow=False).path
        except (Unforetold, StepError):
            # Below something that is not known, or the session has ended: as it is written.
            place = path if path.startswith("/") else join(self.files.home, posixpath.normpath(path))
        self.files.forget(place)


def advance(resolution: Resolution, answer: str | None) -> str | Spot:
    """The next question of a resolution, or where the path leads."""
    try:
        return resolution.send(answer)
    except StopIteration as end:
        spot: Spot = end.value
        return spot
