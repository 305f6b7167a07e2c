"""Reads known_hosts files as OpenSSH does: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.

A line that cannot be understood is skipped with a warning and never spoils the lines after it.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.public_keys import KEY_TYPES, PublicKey, parse_public_key

DEFAULT_PORT = 22
MAX_FILE_BYTES = 16 * 1024 * 1024
SHA1_BYTES = 20

# Only these separate words to OpenSSH; str.split() takes more for a space. A carriage return ends a line from Windows.
_WORD = re.compile(r"[^ \t\r]+")

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file: which hosts, which key, and where it stands."""

    patterns: str
    key: PublicKey
    is_revoked: bool
    file: str
    line: int

    @property
    def origin(self) -> str:
        return f"{self.file}:{self.line}"

    def matches(self, name: str) -> bool:
        """Whether the line is about the host called `name`, which is `host` or `[host]:port`, in lower case."""
        if self.patterns.startswith("|1|"):
            return _matches_hashed(self.patterns, name)
        return _matches_patterns(self.patterns, name)


@dataclass(frozen=True, slots=True)
class KnownHostsFile:
    """The understood lines of a file, and warnings about the others."""

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]


def default_files() -> list[str]:
    """The user's and the system's files that exist."""
    return [path for name in (*USER_FILES, *SYSTEM_FILES) if os.path.isfile(path := os.path.expanduser(name))]


def read_known_hosts(path: str) -> KnownHostsFile:
    """Every line of the file that says something about a host key. Raises `OSError` if the file cannot be read."""
    with Path(path).open("rb") as stream:
        text = stream.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    entries: list[Entry] = []
    warnings: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = _WORD.findall(line)
        if not words or words[0].startswith("#"):
            continue
        try:
            entry = _parse_line(words, path, number)
        except ValueError as error:
            warnings.append(f"{path}:{number}: line skipped: {error}")
            continue
        if entry is not None:
            entries.append(entry)
    return KnownHostsFile(tuple(entries), tuple(warnings))


def find_entries(entries: Iterable[Entry], host: str, port: int) -> list[Entry]:
    """The entries about `host` at `port`.

    On another port than 22 OpenSSH looks for `[host]:port`, and when that finds no key, for the bare host name
    (sshconnect.c, check_host_key). A key that is revoked under either name stays revoked.
    """
    entries = list(entries)
    names = [host.lower()] if port == DEFAULT_PORT else [f"[{host.lower()}]:{port}", host.lower()]
    found: list[Entry] = []
    for name in names:
        found += [entry for entry in entries if entry.matches(name)]
        if not all(entry.is_revoked for entry in found):
            break
    return found


def _parse_line(words: list[str], path: str, number: int) -> Entry | None:
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", "@revoked", "@cert-authority"):
        raise ValueError(f"unknown marker {marker}")
    if len(words) < 3:
        raise ValueError("expected hosts, key type and key")
    if marker == "@cert-authority":
        return None
    patterns, type_name, encoded = words[:3]
    if type_name not in KEY_TYPES:
        raise ValueError(f"unsupported key type {type_name[:40]}")
    if patterns.startswith("|"):
        _decode_hashed(patterns)
    key = parse_public_key(type_name, encoded)
    return Entry(patterns, key, marker == "@revoked", path, number)


def _decode_hashed(patterns: str) -> tuple[bytes, bytes]:
    """The salt and the HMAC of `|1|salt|hash`."""
    parts = patterns.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError("unknown kind of hashed host name")
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except binascii.Error as error:
        raise ValueError("the hashed host name is not base64") from error
    if len(salt) != SHA1_BYTES or len(digest) != SHA1_BYTES:
        raise ValueError("the hashed host name is cut off")
    return salt, digest


def _matches_hashed(patterns: str, name: str) -> bool:
    salt, expected = _decode_hashed(patterns)
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), expected)


def _matches_patterns(patterns: str, name: str) -> bool:
    """Comma-separated patterns with `*` and `?`; one that is negated by `!` and matches rules the line out."""
    is_match = False
    for pattern in patterns.lower().split(","):
        is_negated = pattern.startswith("!")
        if _matches_pattern(pattern.removeprefix("!"), name):
            if is_negated:
                return False
            is_match = True
    return is_match


def _matches_pattern(pattern: str, name: str) -> bool:
    # Only * and ? are special to OpenSSH; fnmatch also knows [sets], which would misread "[host]:port".
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
