"""A file system as earlier steps would have left it: what they would have made, moved and removed, over what is there.

It is a tree of names. What it does not name is as it really is, at its `origin`: below a directory that would have been
renamed that is another path than its own. There is no I/O in it: where a link may be on the way, the caller is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

from runner.foretold import needs_what_step_makes
from runner.plan import Endpoint
from runner.remote_files import SPECIAL_BITS, FileStatus, ForetoldStatus, WantedAttributes
from runner.transfer.foretold.contents import Content

# What Linux follows on the way of one path.
MAX_LINKS_ON_THE_WAY = 40
# Of what trees would make no more is kept, some 25 MB; what is in a larger tree is not known to later steps.
MAX_NODES = 50_000
# Links that were asked for, and where they lead.
MAX_TARGETS = 100_000


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is there any more."""


@dataclass(frozen=True, slots=True)
class MadeFile:
    """A file that would be there; None for content that nobody can read before the play."""

    status: FileStatus
    content: Content | None
    step: str


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A symbolic link that would be there. `received_by` is the step that would have it from a server, or empty."""

    target: str
    received_by: str = ""


@dataclass(frozen=True, slots=True)
class Untold:
    """Something, or nothing: a step that could not be foretold would have seen to it."""

    step: str


@dataclass(eq=False, slots=True)
class Directory:
    """A directory. What `children` do not name is as it is at `origin`; without one there is nothing else in it."""

    origin: str | None
    children: dict[str, Node] = field(default_factory=dict)
    # What a step would have set, with the special bits; None for what was not set.
    mode: int | None = None
    modified_at_seconds: int | None = None
    # Whether something in it would have changed, and with it its time.
    is_touched: bool = False
    # The step that would have put something into it under a name that only the play will choose.
    unlisted_step: str = ""

    def amend(self, found: FileStatus | None) -> FileStatus:
        """Its status, with what was `found` at its origin."""
        mode, time = self.mode, self.modified_at_seconds
        if found is not None:
            mode = found.permissions if mode is None else mode
            time = found.modified_at_seconds if time is None and not self.is_touched else time
        permissions = None if mode is None else mode & 0o777
        special_bits = (found.special_bits if found is not None else 0) if self.mode is None else mode_bits(self.mode)
        return ForetoldStatus(True, False, None, permissions, time, False, special_bits)


def mode_bits(mode: int) -> int:
    """The special bits of a mode."""
    return mode & SPECIAL_BITS


Node = Gone | MadeFile | MadeLink | Untold | Directory


class Spot(NamedTuple):
    """Where a path leads, over whatever links. `path` has none of them.

    With a `node`, that is there. Without, it is what really is at `origin`, and nothing if there is none. `is_plain` says
    that the path as it was given leads there in reality as well.
    """

    path: str
    node: Node | None
    origin: str | None
    is_plain: bool = True

    @property
    def is_real(self) -> bool:
        """Whether what is there is for the real file system to tell."""
        return self.node is None and self.origin is not None


# Asks where the link at a path leads, None if there is none, and returns where a path leads in the end.
Resolution = Generator[str, str | None, Spot]
# Told of a link on the way that would have been made: its path, and what it is.
OnLink = Callable[[str, MadeLink], None]


class ForetoldFiles:
    """The files of one host, or of this machine, as earlier steps would have left them."""

    def __init__(self) -> None:
        self._roots = {"/": Directory("/"), ".": Directory(".")}
        self._count = 0
        # Where relative paths begin, without links; "." where nobody tells.
        self.home = "."
        self.is_home_known = False
        # The real links that were met, None for what is none: no step of a check changes them.
        self.targets: dict[str, str | None] = {}
        # Paths of which the server does not tell what is there.
        self.refused: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether everything is as it really is."""
        return not self._count

    def has_room_for(self, count: int) -> bool:
        """Whether so many paths of a tree may be kept."""
        return self._count + count <= MAX_NODES

    # Where a path leads.

    def resolve(self, path: str, *, follow: bool, on_link: OnLink | None = None) -> Resolution:
        """Find out where a path leads. Raises `Unforetold` if that depends on what is not known."""
        trail = self._trail("/" if path.startswith("/") else self.home)
        names = path.split("/")[::-1]
        links_left = MAX_LINKS_ON_THE_WAY
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            here = self._step(trail[-1], name)
            if isinstance(here.node, Untold):
                raise needs_what_step_makes(here.node.step)
            is_followed = follow or any(one not in ("", ".") for one in names)
            target: str | None = None
            if is_followed and isinstance(here.node, MadeLink):
                if on_link is not None:
                    on_link(here.path, here.node)
                target = here.node.target
            elif is_followed and here.is_real:
                assert here.origin is not None
                target = yield here.origin
            if target is None:
                trail.append(here)
                continue
            is_plain = here.is_plain and here.is_real
            links_left -= 1
            if not links_left:
                return Spot(here.path, None, None, False)
            names += target.split("/")[::-1]
            if target.startswith("/"):
                trail = self._trail("/")
            if not is_plain:
                trail = [one._replace(is_plain=False) for one in trail]
        return trail[-1]

    def find(self, path: str) -> Spot:
        """What is at a path without links."""
        return self._trail(path)[-1]

    def _trail(self, path: str) -> list[Spot]:
        """The way to a path without links, from its root on."""
        root, names = split(path)
        trail = [Spot(root, self._roots[root], root)]
        for name in names:
            trail.append(self._step(trail[-1], name))
        return trail

    def _step(self, here: Spot, name: str) -> Spot:
        path = join(here.path, name)
        if isinstance(here.node, Directory):
            child = here.node.children.get(name)
            if isinstance(child, Gone):
                return Spot(path, None, None, False)
            if child is not None:
                is_plain = here.is_plain and isinstance(child, Directory) and child.origin == path
                return Spot(path, child, None, is_plain)
            origin = None if here.node.origin is None else join(here.node.origin, name)
            return Spot(path, None, origin, here.is_plain and origin == path)
        if here.node is None and here.origin is not None:
            origin = join(here.origin, name)
            return Spot(path, None, origin, here.is_plain)
        return Spot(path, None, None, False)

    # What steps would do. All paths are without links.

    def put(self, path: str, node: Node, *, touches: bool = True) -> None:
        """Something would be at a path, in the place of whatever is there. `touches`: its directory gets a new time."""
        directory, name = self._enter_above(path)
        directory.children[name] = node
        self._count += 1
        if touches:
            self._touch(directory)

    def remove(self, path: str) -> None:
        """Nothing would be at a path any more."""
        directory, name = self._enter_above(path)
        if directory.origin is None:
            directory.children.pop(name, None)
        else:
            directory.children[name] = Gone()
        self._count += 1
        self._touch(directory)

    def make_directory(self, path: str) -> None:
        """A new directory would be at a path."""
        self.put(path, Directory(None))

    def set_directory(self, path: str, wanted: WantedAttributes) -> None:
        """A directory would have these attributes."""
        directory = self.enter(path)
        if wanted.permissions is not None:
            directory.mode = wanted.permissions
        if wanted.modified_at_seconds is not None:
            directory.modified_at_seconds, directory.is_touched = wanted.modified_at_seconds, False

    def enter(self, path: str) -> Directory:
        """The directory at a path, which is or would be there."""
        root, names = split(path)
        here = self._roots[root]
        for name in names:
            below = here.children.get(name)
            if not isinstance(below, Directory):
                is_there = below is None and here.origin is not None
                below = here.children[name] = Directory(join(here.origin or "", name) if is_there else None)
                self._count += 1
            here = below
        return here

    def forget(self, path: str) -> None:
        """What is at a path is as it really is: a step was carried out there although it is a check."""
        root, names = split(path)
        here = above = self._roots[root]
        for name in names:
            below, origin = here.children.get(name), join(here.origin or "", name)
            if isinstance(below, Directory) and below.origin is None:
                # Now it has really been made.
                below.origin = origin
            if not isinstance(below, Directory) or below.origin != origin:
                # It has become true, or is contradicted by what is there now.
                here.children.pop(name, None)
                return
            above, here = here, below
        if names:
            above.children.pop(names[-1], None)

    def _enter_above(self, path: str) -> tuple[Directory, str]:
        above, _, name = path.rpartition("/")
        return self.enter(above or "/"), name

    def _touch(self, directory: Directory) -> None:
        directory.is_touched, directory.modified_at_seconds = True, None


@dataclass(slots=True)
class Foretold:
    """What the steps of a check so far would have changed, on each host and here."""

    hosts: dict[Endpoint, ForetoldFiles] = field(default_factory=dict)
    disk: ForetoldFiles = field(default_factory=ForetoldFiles)
    # The last step of which not even the paths are known; empty if there is none.
    pathless_step: str = ""

    def files_of(self, host: Endpoint) -> ForetoldFiles:
        """Those of a host."""
        return self.hosts.setdefault(host, ForetoldFiles())


def split(path: str) -> tuple[str, list[str]]:
    """The root of a path without links, and the names below it."""
    root = "/" if path.startswith("/") else "."
    return root, [name for name in path.split("/") if name not in ("", ".")]


def join(directory: str, name: str) -> str:
    """The path of a name in a directory."""
    return f"{directory}{name}" if directory.endswith("/") else f"{directory}/{name}"
