"""What one command line remembers from step to step, in whichever of its playbooks they stand."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING

from runner.errors import FileRefused
from runner.values import dataclass

if TYPE_CHECKING:
    from runner.transfer.foretold.files import Foretold

# What Linux follows on the way of one path.
MAX_LINKS_ON_THE_WAY = 40
# macOS has no O_PATH; there a directory must be readable to be walked through.
_WALK = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)


class ReceivedLinks:
    """The symbolic links that downloads have made, or found to be there as the server has them. No step follows one.

    Where such a link leads is what a server says: following it means to read or write what the server has chosen.
    """

    def __init__(self) -> None:
        # By device and inode, so that it does not matter by which path a link is met, nor how often it was renamed.
        self._steps: dict[tuple[int, int], str] = {}

    def note(self, link: os.stat_result, step: str) -> None:
        """A link has come from a server; `step` says by which step, for messages."""
        self._steps[link.st_dev, link.st_ino] = step

    def require_none_on(self, path: str) -> None:
        """Raise `FileRefused` if opening a local path would follow one of the links. Costs nothing without any."""
        if not self._steps:
            return
        try:
            found = self._find_on(path)
        except OSError:
            # What cannot be looked at cannot be followed either: the step finds out itself.
            return
        if found is not None:
            raise refuse_received_link(path, *found)

    def _find_on(self, path: str) -> tuple[str, str] | None:
        """The first of the links on the way of a path, and the step that has brought it. Raises `OSError`.

        Every directory is opened before the next name is looked at, as the system itself does it.
        """
        walked = "/" if path.startswith("/") else ""
        fd = os.open(walked or ".", _WALK)
        try:
            names = path.split("/")[::-1]
            links_left = MAX_LINKS_ON_THE_WAY
            while names:
                name = names.pop()
                if name in ("", "."):
                    continue
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                walked = posixpath.join(walked, name)
                if stat.S_ISLNK(found.st_mode):
                    step = self._steps.get((found.st_dev, found.st_ino))
                    if step is not None:
                        return walked, step
                    links_left -= 1
                    target = os.readlink(name, dir_fd=fd)
                    if not links_left:
                        return None
                    names += target.split("/")[::-1]
                    walked = "/" if target.startswith("/") else posixpath.dirname(walked)
                    if target.startswith("/"):
                        fd = _step_into("/", fd)
                elif not stat.S_ISDIR(found.st_mode):
                    return None
                else:
                    fd = _step_into(name, fd)
            return None
        finally:
            os.close(fd)


def refuse_received_link(path: str, link: str, step: str) -> FileRefused:
    """The error for a local path that leads over a link from a server."""
    return FileRefused(
        f"{path!r} leads through the symbolic link {link!r}, which {step} has received from its server",
        hint="Links that a server has sent are not followed: name the path that is meant without the link.",
    )


def _step_into(name: str, fd: int) -> int:
    """The directory of that name below an open one, which is closed. Raises `OSError`, and leaves it open then."""
    below = os.open(name, _WALK, dir_fd=fd)
    os.close(fd)
    return below


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered. `own_files` are local files that the playbooks themselves rest on, as absolute paths.

    `foretold` is what the steps of a check would have changed; None in a play that changes it.
    """

    links: ReceivedLinks = field(default_factory=ReceivedLinks)
    own_files: frozenset[str] = frozenset()
    foretold: Foretold | None = None

    @classmethod
    def of_command(cls, own_files: frozenset[str], *, is_check: bool) -> Memory:
        """What a command line begins with."""
        if not is_check:
            return cls(own_files=own_files)
        from runner.transfer.foretold.files import Foretold

        return cls(own_files=own_files, foretold=Foretold())

    def own_files_below(self, folder: str) -> frozenset[str]:
        """Those of the own files that lie in a local directory or below it, relative to it."""
        if not self.own_files:
            return frozenset()
        root = os.path.realpath(folder)
        above = root.rstrip("/") + "/"
        return frozenset(path[len(above) :] for path in _all_names(self.own_files) if path.startswith(above))


def _all_names(paths: Iterable[str]) -> Iterable[str]:
    """Where the files really are, and where a link to them lies that may be replaced as well."""
    for path in paths:
        folder, name = os.path.split(path)
        yield os.path.join(os.path.realpath(folder), name)
        yield os.path.realpath(path)
