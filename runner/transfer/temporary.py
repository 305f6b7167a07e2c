"""The name a file has until it is published."""

from __future__ import annotations

import os
import secrets

# File systems allow 255 bytes; our own part takes some 25 of them.
MAX_KEPT_BYTES = 200


def temporary_name(name: str) -> str:
    """A hidden name that nobody else uses, recognisable by the beginning of `name`.

    For `report.csv` it is `.report.csv.runner-3f9c02d15ac0.tmp`.
    """
    kept = os.fsencode(name)[:MAX_KEPT_BYTES].decode("utf-8", "ignore")
    return f".{kept}.runner-{secrets.token_hex(6)}.tmp"


def temporary_path(path: str) -> str:
    """The same in the folder of a remote `path`, so that renaming stays within one file system."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + temporary_name(name)
