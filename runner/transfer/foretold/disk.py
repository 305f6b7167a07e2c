"""This machine's files as a step of `--check` finds them: what earlier steps would have made, over what is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.foretold import needs_what_step_makes
from runner.remote_files import FileStatus
from runner.transfer.changes import read_local
from runner.transfer.foretold.contents import Stored, Written
from runner.transfer.foretold.files import Directory, ForetoldFiles, MadeFile, MadeLink, Spot, Untold, join
from runner.transfer.foretold.server import require_listed
from runner.transfer.foretold.view import View
from runner.transfer.local_errors import explain_os_error
from runner.transfer.local_files import look_at_entries, to_status
from runner.transfer.local_sources import LocalSource, open_source, require_regular, source_missing
from runner.transfer.memory import refuse_received_link
from runner.transfer.tree.names import Entries


class ForetoldDisk(View):
    """The local files. What is asked here is for steps of a check whose earlier steps would have changed something."""

    def __init__(self, files: ForetoldFiles) -> None:
        super().__init__(files)

    def ask_target(self, path: str) -> str | None:
        try:
            return os.readlink(path)
        except OSError:
            return None

    def ask_home(self) -> str:
        return os.getcwd()

    def ask_status(self, path: str) -> FileStatus | None:
        try:
            return to_status(os.lstat(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain_os_error(error, "cannot look at", path) from error

    def store(self, path: str) -> Stored:
        return Stored(None, path)

    def status(self, path: str, *, follow: bool) -> FileStatus | None:
        """What is at a path. Raises `FileError` if that cannot be told."""
        return self.find_status(self.resolve(path, follow=follow))

    def look_at(self, path: str) -> FileStatus | None:
        """The same as `runner.transfer.local_files.look_at` finds it."""
        found = self.status(path, follow=False)
        if found is None or not found.is_link:
            return found
        behind = self.status(path, follow=True)
        return FileStatus(behind is not None and behind.is_directory, False, None, None, None, True)

    def entries(self, path: str) -> Entries:
        """What is in a directory. Raises `FileError` if it is none."""
        spot = self.resolve(path, follow=True)
        if isinstance(spot.node, Directory):
            return self._entries_of(spot.node)
        try:
            return look_at_entries(spot.origin or path)
        except OSError as error:
            raise explain_os_error(error, "cannot list", path) from error

    def _entries_of(self, directory: Directory) -> Entries:
        origin = require_listed(directory).origin
        found = look_at_entries(origin) if origin is not None else {}
        for name, node in directory.children.items():
            old = found.pop(name, None)
            if isinstance(node, Untold):
                raise needs_what_step_makes(node.step)
            if isinstance(node, Directory) and origin is not None and node.origin == join(origin, name):
                status: FileStatus | None = node.amend(old)
            else:
                status = self.find_status(Spot(name, node, None))
            if status is not None:
                found[name] = status
        return found

    def read_link(self, path: str) -> str | None:
        """Where a link leads; None for what is none."""
        spot = self.resolve(path, follow=False)
        if isinstance(spot.node, MadeLink):
            return spot.node.target
        return self.ask_target(spot.origin) if spot.is_real and spot.origin is not None else None

    def read_link_at(self, path: str) -> str:
        """Where a link leads. Raises `OSError` for anything else."""
        target = self.read_link(path)
        if target is not None:
            return target
        is_there = self.status(path, follow=False) is not None
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) if is_there else FileNotFoundError(path)

    def read(self, path: str) -> bytes | None:
        """A small file's content; None if it cannot be read before the play."""
        content = self.find_content(path)
        if isinstance(content, Written):
            return content.data
        return read_local(content.path, follows_links=True) if content is not None and content.host is None else None

    def real_path(self, path: str) -> str:
        """A path without links."""
        return self.resolve(path, follow=True).path

    def find_real(self, path: str) -> str | None:
        """The path under which a thing really is there; None for what would have been made."""
        spot = self.resolve(path, follow=True)
        return spot.node.origin if isinstance(spot.node, Directory) else spot.origin

    def require_no_received_link(self, path: str) -> None:
        """Raise `FileRefused` if a path leads over a link that an earlier step would have had from a server."""

        def refuse(link: str, made: MadeLink) -> None:
            if made.received_by:
                raise refuse_received_link(path, link, made.received_by)

        self.resolve(path, follow=True, on_link=refuse)

    @contextmanager
    def open_source(self, path: str) -> Iterator[LocalSource]:
        """A local file that shall be sent. Raises as `runner.transfer.local_sources.open_source` does."""
        spot = self.resolve(path, follow=True)
        if isinstance(spot.node, MadeFile):
            yield ForetoldSource(path, -1, os.stat_result((0,) * 10), spot.node.status)
        elif isinstance(spot.node, Directory):
            require_regular(spot.node.amend(None), path, "on this machine")
        elif spot.origin is None:
            raise source_missing(path)
        else:
            with open_source(path if spot.is_plain else spot.origin) as source:
                yield source


@dataclass(slots=True)
class ForetoldSource(LocalSource):
    """A local file that an earlier step would have made."""

    foretold: FileStatus

    @property
    def status(self) -> FileStatus:
        return self.foretold
