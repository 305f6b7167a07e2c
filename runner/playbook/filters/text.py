"""Filters that make text of text: paths, base64, checksums, quotes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os.path
import shlex
from typing import Any

from runner.playbook.document import shorten
from runner.playbook.filters.misuse import Misuse, need_text, refuse
from runner.playbook.lazy_lists import LISTS
from runner.playbook.provenance import concatenate, find_outside, mark_mixed

_HASH_TYPES = tuple(sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake_")))


def basename(path: Any) -> str:
    """What stands behind the last `/`; empty if the path ends in one."""
    return os.path.basename(need_text(path, "basename"))


def dirname(path: Any) -> str:
    """What stands before the last `/`; empty if there is none."""
    return os.path.dirname(need_text(path, "dirname"))


def splitext(path: Any) -> tuple[str, str]:
    """The path without its extension, and the extension with its dot."""
    return os.path.splitext(need_text(path, "splitext"))


def path_join(paths: Any) -> str:
    """The parts put together with one `/` between two. A part that begins with `/` takes the place of those before it.

    Each part is still whose it was. One from outside that takes the place of others counts as put together from both, so
    that it does not lead away from where the playbook has written. Raises `Misuse` for one from outside that is empty.
    """
    if isinstance(paths, str):
        return paths
    if not isinstance(paths, LISTS):
        raise refuse("path_join", "a list of names", paths, "Write ['out', name] | path_join.")
    made = ""
    for index, part in enumerate(need_text(one, "path_join") for one in paths):
        source = find_outside(part)
        if source and not part:
            raise Misuse(f"'path_join': {source} is empty", "Give it a value, or leave it out: … | select | path_join.")
        if part.startswith("/") or not index:
            made = mark_mixed(str(part), source, has_written=True, is_rooted=False) if made and source else part
        else:
            made = concatenate([made, part] if not made or made.endswith("/") else [made, "/", part])
    return made


def split(text: Any, separator: str | None = None, maxsplit: int = -1) -> list[str]:
    """The parts between the separators; between white space if none is named."""
    if separator == "":
        raise Misuse("'split' needs a separator that is not empty", "Write … | list for the single characters.")
    if separator is not None:
        need_text(separator, "split")
    return str(need_text(text, "split")).split(separator, maxsplit)


def quote(value: Any) -> str:
    """The value as one word of a POSIX shell."""
    return shlex.quote("" if value is None else str(value))


def b64encode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text's bytes as base64."""
    try:
        raw = _to_text(value, "b64encode").encode(need_text(encoding, "b64encode"), "surrogateescape")
    except (LookupError, UnicodeError) as error:
        raise Misuse(f"'b64encode': {error}") from error
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(raw).decode("ascii")


def b64decode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text that is encoded in base64."""
    text = _to_text(value, "b64decode")
    try:
        return (base64.urlsafe_b64decode if urlsafe else base64.b64decode)(text).decode(encoding, "surrogateescape")
    except (binascii.Error, ValueError, LookupError) as error:
        hint = "Only text can be decoded, not any bytes." if isinstance(error, UnicodeDecodeError) else ""
        raise Misuse(f"'b64decode': the value is no text in base64: {_explain(error)}", hint) from error


def hash_text(value: Any, hashtype: str = "sha1") -> str:
    """The checksum of the text's UTF-8, in hexadecimal."""
    if hashtype not in _HASH_TYPES:
        raise Misuse(f"'hash' knows no {shorten(repr(hashtype))}", f"Known: {', '.join(_HASH_TYPES)}.")
    raw = _to_text(value, "hash").encode("utf-8", "surrogateescape")
    return hashlib.new(hashtype, raw, usedforsecurity=False).hexdigest()


def _to_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | int | float):
        return str(value)
    raise refuse(name, "text", value, "Write … | to_json before it.")


def _explain(error: Exception) -> str:
    # What was decoded may be a secret.
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {error.encoding}"
    return str(error) if isinstance(error, binascii.Error | LookupError) else "it has characters that are not ASCII"
