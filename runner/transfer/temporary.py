"""The names of files that are not published yet. They tell whose a file is, so that a later play can clear it away.

For `report.csv` a temporary file is `.report.csv.runner-1f0c77ab.5d20e8c1.1a2f.6747a1c53f9c02d1.tmp`: owner, machine,
process, and a token that begins with the time. A partial file is `.report.csv.runner-1f0c77ab-9a8b7c6d5e4f3a2b.part`: owner
and content.

Servers that allow some names only get names of the step's choice (`temporary_name`). Nothing in such a name tells whose it
is, and two plays come to the same one: it is only ever created, never written over, and only who has created one removes it.
Where it is taken, what tells the play is put behind the file's own name in it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

from runner.errors import StepError
from runner.plan import CopyFile

# File systems allow 255 bytes; our own part takes some 75 of them.
MAX_NAME_BYTES = 255
MAX_KEPT_BYTES = 180
# None takes more than four bytes.
CERTAINLY_KEPT_CHARACTERS = MAX_KEPT_BYTES // 4
# Where nothing tells one machine's process numbers from another's.
UNKNOWN_MACHINE = "00000000"
WEEK_SECONDS = 7 * 86_400
NAME_TAKEN = (
    "a file of that 'temporary_name' was there already, and the name got an addition: another play is writing it, or one "
    "that died has left it; if none is at work, remove it"
)

_OWN_NAME = re.compile(
    r"\.(?P<kept>.+)\.runner-(?P<owner>[0-9a-f]{8})(?:-(?P<content>[0-9a-f]{16}))?"
    r"(?:\.(?P<machine>[0-9a-f]{8})\.(?P<pid>[0-9a-f]{1,8}))?"
    r"(?:\.(?P<token>[0-9a-f]{16})(?:-[0-9a-f]+)?)?\.(?:tmp|part)(?P<aside>(?:\.[0-9a-f]{8})?\.old)?",
    re.DOTALL,
)

# The tokens of this process whose play, or attempt, is over: what bears them is nobody's any more.
_ended_tokens: set[str] = set()
# The partial files that this process writes to: the peer, the path, and what the name tells.
_written: dict[tuple[str, str], OwnName | None] = {}
_lock = threading.Lock()


class OwnName(NamedTuple):
    """What a name of ours tells. What it does not tell is empty.

    `kept` is the destination's name, cut if it is long; `machine` and `pid` are the process that writes to the file. With
    `is_aside` it is an old destination that was renamed to make room.
    """

    kept: str
    owner: str
    content: str
    machine: str
    pid: int
    token: str
    is_aside: bool

    @property
    def is_elsewhere(self) -> bool:
        """Whether nothing can be said about the process that wrote it: it runs, or ran, on another machine."""
        return self.machine in ("", UNKNOWN_MACHINE) or self.machine != this_machine()

    @property
    def is_of_this_process(self) -> bool:
        """Whether an attempt, or a play, of this process has written it."""
        return not self.is_elsewhere and self.pid == os.getpid()

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that wrote it is proven gone, or has given it up. False is no proof that it is alive."""
        if self.is_elsewhere:
            return False
        if self.is_of_this_process:
            with _lock:
                return self.token in _ended_tokens if self.token else self not in _written.values()
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        return False

    def was_made_before(self, moment: float) -> bool:
        """Whether the name was made before a moment by this machine's clock, as far as it tells."""
        return not self.token or int(self.token[:8], 16) < moment


def read_name(name: str) -> OwnName | None:
    """What a name tells if it is one of ours."""
    # Asked about every name of a large folder.
    found = _OWN_NAME.fullmatch(name) if ".runner-" in name else None
    if found is None:
        return None
    pid = int(found["pid"], 16) if found["pid"] else 0
    parts = (found["kept"], found["owner"], found["content"] or "", found["machine"] or "", pid, found["token"] or "")
    return OwnName(*parts, bool(found["aside"]))


class TemporaryNames:
    """Hidden names that nobody else uses, recognisable by the beginning of the final name; or those of a step's choice.

    A `template` has `{name}` for the final name; `directory` is where the files are, None for beside their destinations.
    """

    def __init__(self, owner: str = "", template: str | None = None, directory: str | None = None) -> None:
        self.owner = owner_tag(owner)
        self._template = template
        self._before, _, self._behind = (template or "").partition("{name}")
        self._above = None if directory is None else f"{directory.rstrip('/')}/"
        self._token = f"{int(time.time()):08x}{secrets.token_hex(4)}"
        self._middle = f".runner-{self.owner}.{this_process()}.{self._token}"
        self._numbers = itertools.count()

    @classmethod
    def for_copy(cls, copy: CopyFile, owner: str = "") -> Self:
        """The names of a copy's choice."""
        return cls(owner, copy.temporary_name, copy.temporary_directory)

    @property
    def token(self) -> str:
        """What all these names have in common, and no others."""
        return self._token

    def of(self, name: str) -> str:
        """The next name for a file that shall be called `name`; nobody else comes to it."""
        number = next(self._numbers)
        end = f"-{number:x}" if number else ""
        own = f"{keep_name(name)}{self._middle}{end}"
        return f".{own}.tmp" if self._template is None else self._fill(own)

    def path_of(self, path: str) -> str:
        """The same for a remote `path`: in its folder, so that renaming stays within one file system, or in the step's."""
        folder, slash, name = path.rpartition("/")
        return (folder + slash if self._above is None else self._above) + self.of(name)

    def path_beside(self, path: str) -> str:
        """What the file for a remote `path` is called first. With `are_shared` others may come to the same."""
        if self._template is None:
            return self.path_of(path)
        folder, slash, name = path.rpartition("/")
        return (folder + slash if self._above is None else self._above) + self._fill(name)

    @property
    def are_shared(self) -> bool:
        """Whether others may come to what `path_beside` gives: such a file is nobody's but who has created it."""
        return self._template is not None

    def may_be_one(self, name: str) -> bool:
        """Whether a name may be a file's that a play with the same template is writing."""
        is_long_enough = len(name) > len(self._before) + len(self._behind)
        return self.are_shared and is_long_enough and name.startswith(self._before) and name.endswith(self._behind)

    def explain(self, error: BaseException, path: str) -> None:
        """Say what may be in the way if the file for a remote `path` could not be created."""
        if self.are_shared and isinstance(error, StepError) and error.has_created_nothing:
            error.hint = (
                f"If {self.path_beside(path)!r} is there, another play is writing it, or one that died has left it: remove "
                "it if none is at work. Otherwise this server does not allow the name, or nobody may write there."
            )

    def read(self, name: str) -> OwnName | None:
        """What a name tells if it is one of ours."""
        if self.may_be_one(name):
            return read_name(f".{name[len(self._before) : len(name) - len(self._behind)]}.tmp")
        return read_name(name)

    def _fill(self, name: str) -> str:
        """The template with a name in it; a long one is cut, and still another than that of any other file."""
        filled = f"{self._before}{name}{self._behind}"
        if len(os.fsencode(filled)) <= MAX_NAME_BYTES:
            return filled
        mark = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
        room = MAX_NAME_BYTES - len(os.fsencode(f"{self._before}-{mark}{self._behind}"))
        return f"{self._before}{os.fsencode(name)[:room].decode('utf-8', 'ignore')}-{mark}{self._behind}"

    def close(self) -> None:
        """Nothing is written under these names any more: what is left of them may be cleared away."""
        _ended_tokens.add(self._token)


@contextmanager
def writing_alone(peer: str, path: str) -> Iterator[bool]:
    """Whether no other thread of this process writes to a partial file already; until the block ends none does."""
    key = (peer, path)
    with _lock:
        is_free = key not in _written
        _written.setdefault(key, read_name(path.rpartition("/")[2]))
    try:
        yield is_free
    finally:
        if is_free:
            with _lock:
                del _written[key]


def partial_name(name: str, owner: str, content: str, process: str = "") -> str:
    """The name of the partial file with this content for a file called `name`; `process` is who writes to it."""
    writer = f".{process}" if process else ""
    return f".{keep_name(name)}.runner-{owner_tag(owner)}-{content}{writer}.part"


def keep_name(name: str) -> str:
    """The part of a name that names of ours begin with."""
    return name if len(name) <= CERTAINLY_KEPT_CHARACTERS else _cut(name)


@functools.cache
def owner_tag(owner: str) -> str:
    """What an owner's names have in common."""
    return hashlib.sha256(owner.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def this_process() -> str:
    """What tells this process from all others, on this machine and elsewhere, while it runs."""
    return f"{this_machine()}.{os.getpid():x}"


@functools.cache
def this_machine() -> str:
    """What tells this machine, since it started, from others, and this container from others on it.

    Two containers may have one host name and the same process numbers: only within one namespace of one running kernel
    does a process number mean anything.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except (OSError, ValueError):
        return UNKNOWN_MACHINE
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:8]


def _cut(name: str) -> str:
    return os.fsencode(name)[:MAX_KEPT_BYTES].decode("utf-8", "ignore")
