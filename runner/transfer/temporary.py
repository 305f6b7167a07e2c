"""The name a file has until it is published."""

from __future__ import annotations

import itertools
import os
import secrets

# File systems allow 255 bytes; our own part takes some 35 of them.
MAX_KEPT_BYTES = 190
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
        kept = name if len(name) <= MAX_KEPT_BYTES // 4 else _cut(name)
        number = next(self._numbers)
        return f".{kept}.runner-{self._token}-{number:x}.tmp" if number else f".{kept}.runner-{self._token}.tmp"

    def path_beside(self, path: str) -> str:
        """The same in the folder of a remote `path`, so that renaming stays within one file system."""
        folder, slash, name = path.rpartition("/")
        return folder + slash + self.of(name)


def partial_prefix(name: str, owner: str) -> str:
    """How the names of all partials begin that `owner` makes for a file called `name`."""
    kept = name if len(name) <= MAX_KEPT_BYTES // 4 else _cut(name)
    return f".{kept}.runner-{owner}-"


def _cut(name: str) -> str:
    return os.fsencode(name)[:MAX_KEPT_BYTES].decode("utf-8", "ignore")
