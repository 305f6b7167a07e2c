"""A server as a step of `--check` finds it: what earlier steps would have made is looked up first, then the server is asked.

There is nothing in it that could change anything on the server.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Generator, Sequence

from runner.errors import FileRefused, SourceMissing, StepError, UnreachableError
from runner.foretold import NOT_CARRIED_OUT, Unforetold
from runner.plan import Endpoint
from runner.remote_files import Digest, FileStatus, RemoteReader, StatusRefused
from runner.transfer.foretold.contents import Content, Stored, Written
from runner.transfer.foretold.files import Directory, ForetoldFiles, Gone, MadeLink, Spot
from runner.transfer.foretold.view import View
from runner.transfer.local_files import Check, hash_file
from runner.transfer.local_sources import open_source


class ServerView(View):
    """The files of one host, asked for one thing after the other; `reader.py` asks for many at once."""

    def __init__(self, remote: RemoteReader, host: Endpoint, files: ForetoldFiles, check: Check) -> None:
        """`check` is called now and then while a local file is hashed, and raises if the play is to end."""
        super().__init__(files)
        self.remote = remote
        self.host = host
        self.peer = str(host)
        self.check = check

    # As every view.

    def ask_target(self, path: str) -> str | None:
        # Asked first, since ProFTPD's LSTAT tells of what a link leads to.
        try:
            return self.remote.read_link(path)
        except UnreachableError:
            raise
        except StepError:
            return None

    def ask_home(self) -> str:
        try:
            home = self.remote.real_path(".")
        except UnreachableError:
            raise
        except StepError:
            return "."
        return home if home.startswith("/") else "."

    def ask_status(self, path: str) -> FileStatus | None:
        return self.remote.status(path, follow=False)

    def store(self, path: str) -> Stored:
        return Stored(self.host, path)

    # What the server can do.

    @property
    def can_rename(self) -> bool:
        return self.remote.can_rename

    @property
    def can_replace(self) -> bool:
        return self.remote.can_replace

    @property
    def renames_links(self) -> bool:
        return self.remote.renames_links

    @property
    def can_create_folders(self) -> bool:
        return self.remote.can_create_folders

    @property
    def can_set_permissions(self) -> bool:
        return self.remote.can_set_permissions

    @property
    def can_resume(self) -> bool:
        return self.remote.can_resume

    @property
    def can_hash(self) -> bool:
        return self.remote.can_hash

    # What is there.

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None:
        if self.is_empty or posixpath.normpath(path) in self.files.refused:
            return self._look_there(path, follow=follow)
        spot = self.resolve(path, follow=False)
        if follow and spot.is_real and spot.origin is not None:
            # Nearly always it is no link, and one request has told all there is to know.
            found = self._look_there(self.real(spot, path), follow=False)
            if found is None or (found.is_kind_told and not found.is_link):
                self.note_target(spot.origin, None)
                return found
        if follow and (spot.is_real or isinstance(spot.node, MadeLink)):
            spot = self.resolve(path, follow=True)
        if spot.is_real and spot.is_plain:
            return self._look_there(path, follow=follow)
        return self.find_status(spot)

    def _look_there(self, path: str, *, follow: bool) -> FileStatus | None:
        try:
            return self.remote.status(path, follow=follow)
        except StatusRefused:
            # Nor will it tell in the play what is there, when a step has made something.
            self.files.refused.add(posixpath.normpath(path))
            raise

    def names_in(self, folder: str) -> Generator[str, None, None]:
        if self.is_empty:
            yield from self.remote.names_in(folder)
            return
        spot = self.resolve(folder, follow=True)
        if isinstance(spot.node, Directory):
            yield from self._names_in(spot.node)
        elif spot.is_real:
            yield from self.remote.names_in(self.real(spot, folder))
        else:
            raise self.not_listed(spot, folder)

    def _names_in(self, directory: Directory) -> Generator[str, None, None]:
        for name in require_listed(directory).children:
            if not isinstance(directory.children[name], Gone):
                yield name
        if directory.origin is not None:
            for name in self.remote.names_in(directory.origin):
                if name not in directory.children:
                    yield name

    def real(self, spot: Spot, path: str) -> str:
        """What to call a real thing when the server is asked about it."""
        assert spot.origin is not None
        return path if spot.is_plain else spot.origin

    def real_path(self, path: str) -> str:
        if self.is_empty:
            return self.remote.real_path(path)
        spot = self.resolve(path, follow=True)
        if (spot.is_real and spot.is_plain) or spot.path.startswith("."):
            return self.remote.real_path(path)
        return spot.path

    def ask_real_paths(self, *paths: str) -> Callable[[], list[str]]:
        if self.is_empty:
            return self.remote.ask_real_paths(*paths)
        return lambda: [self.real_path(path) for path in paths]

    def read_link(self, path: str) -> str:
        if self.is_empty:
            return self.remote.read_link(path)
        spot = self.resolve(path, follow=False)
        if isinstance(spot.node, MadeLink):
            return spot.node.target
        if spot.is_real:
            return self.remote.read_link(self.real(spot, path))
        raise self.no_link(path)

    def no_link(self, path: str) -> FileRefused:
        """The error for something that is no link, or nothing."""
        return FileRefused(f"{path!r} on {self.peer} is no symbolic link")

    def missing(self, path: str) -> SourceMissing:
        """The error for a path at which nothing would be."""
        return SourceMissing(f"{path!r} does not exist on {self.peer}")

    def not_listed(self, spot: Spot, path: str) -> StepError:
        """Why something that is not a directory cannot be listed."""
        if spot.node is None:
            return self.missing(path)
        return FileRefused(f"cannot list {path!r} on {self.peer}: it is not a directory")

    # What files hold.

    def require_readable(self, path: str) -> None:
        content = self.find_content(path)
        if isinstance(content, Stored) and content.host == self.host:
            self.remote.require_readable(content.path)

    def is_readable(self, path: str) -> bool:
        """Whether what a file holds can be read before the play."""
        # Where that is in a tree its directories have been met, so that nothing is asked while a batch is under way.
        content = self.find_content(path, follow=False)
        return content is not None and not (isinstance(content, Stored) and content.host not in (None, self.host))

    def sha256(self, path: str, size_bytes: int | None = None) -> Digest:
        return self.hash(self.find_content(path), size_bytes)

    def hash(self, content: Content | None, size_bytes: int | None = None) -> Digest:
        """The SHA-256 of what a file holds. Raises `Unforetold` if nobody can read it now, and a `StepError`."""
        if isinstance(content, Written):
            return Digest(hashlib.sha256(content.data).hexdigest(), "readback")
        if content is None or content.host not in (None, self.host):
            raise unreadable(content)
        if content.host is not None:
            return self.remote.sha256(content.path, size_bytes)
        with open_source(content.path) as source:
            return Digest(hash_file(source.fd, self.check), "readback")

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        if self.is_empty:
            return self.remote.sha256_many(files)
        real: dict[str, str] = {}
        for path, _ in files:
            content = self.find_content(path)
            if isinstance(content, Stored) and content.host == self.host:
                real[path] = content.path
        sizes = dict(files)
        digests = self.remote.sha256_many([(there, sizes[path]) for path, there in real.items()])
        return {path: digests[there] for path, there in real.items() if there in digests}


def require_listed(directory: Directory) -> Directory:
    """Raise `Unforetold` if not all names in a directory are known."""
    if directory.unlisted_step:
        raise Unforetold(
            f"it needs the names in a directory where {directory.unlisted_step} would have kept an old file, "
            f"{NOT_CARRIED_OUT}"
        )
    return directory


def unreadable(content: Content | None) -> Unforetold:
    """The reason for a step that needs what a file holds that has not been copied yet."""
    where = f" from {content.host}" if isinstance(content, Stored) and content.host is not None else ""
    return Unforetold(f"it needs what a file holds that an earlier step would have copied{where}, {NOT_CARRIED_OUT}")
