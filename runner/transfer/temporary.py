"""The name a file has until it is published."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import socket

# File systems allow 255 bytes; our own part takes some 35 of them.
MAX_KEPT_BYTES = 190
# None takes more than four bytes.
CERTAINLY_KEPT_CHARACTERS = MAX_KEPT_BYTES // 4
PARTIAL_SUFFIX = ".part"


class TemporaryNames:
    """Hidden names that nobody else uses, recognisable by the beginning of the final name.

    For `report.csv` the first is `.report.csv.runner-3f9c02d15ac0.tmp`, the second `.report.csv.runner-3f9c02d15ac0-1.tmp`.
    """

    def __init__(self, owner: str = "") -> None:
        self._token = f"{owner}{secrets.token_hex(6)}"
        self._numbers = itertools.count()

    @property
    def token(self) -> str:
        """What all these names have in common, and no others."""
        return self._token

    def of(self, name: str) -> str:
        """The next name for a file that shall be called `name`."""
        kept = name if len(name) <= CERTAINLY_KEPT_CHARACTERS else _cut(name)
        number = next(self._numbers)
        return f".{kept}.runner-{self._token}-{number:x}.tmp" if number else f".{kept}.runner-{self._token}.tmp"

    def path_beside(self, path: str) -> str:
        """The same in the folder of a remote `path`, so that renaming stays within one file system."""
        folder, slash, name = path.rpartition("/")
        return folder + slash + self.of(name)


class TreeNames(TemporaryNames):
    """The names for a whole tree. They tell which play made them, so that a later one can clear away what it left."""

    def __init__(self, peer: str, destination: str) -> None:
        owner = owner_of_tree(peer, destination)
        super().__init__(f"{owner}.{os.getpid():x}.")
        self._stale = re.compile(rf"\..*\.runner-{re.escape(owner)}\.([0-9a-f]+)\.[0-9a-f-]+\.tmp")

    def is_stale(self, name: str) -> bool:
        """Whether a name is that of a temporary file of an earlier play of the same tree, whose process is gone."""
        found = self._stale.fullmatch(name)
        return found is not None and not _is_running(int(found[1], 16))


def owner_of_tree(peer: str, destination: str) -> str:
    """What binds temporary files to this machine, its user and this destination."""
    parts = (socket.gethostname(), os.getuid(), peer, destination)
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def partial_prefix(name: str, owner: str) -> str:
    """How the names of all partials begin that `owner` makes for a file called `name`."""
    kept = name if len(name) <= CERTAINLY_KEPT_CHARACTERS else _cut(name)
    return f".{kept}.runner-{owner}-"


def _cut(name: str) -> str:
    return os.fsencode(name)[:MAX_KEPT_BYTES].decode("utf-8", "ignore")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    # This process itself: an earlier attempt of the same play has left it.
    return pid != os.getpid()
