"""Reads known_hosts files as OpenSSH does: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT, and its source, hostfile.c.

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
from typing import Literal, NamedTuple

from runner.public_keys import (
    AUTHORITY_MARKER,
    CERTIFICATE_SUFFIX,
    KEY_TYPES,
    PublicKey,
    decode_key_text,
    read_public_key,
)
from runner.ssh.host_certificates import parse_certified_key
from runner.ssh.named_files import read_named_file
from runner.values import dataclass

Marker = Literal["", "@revoked", "@cert-authority"]

DEFAULT_PORT = 22
MAX_FILE_BYTES = 16 * 1024 * 1024
SHA1_BYTES = 20
REVOKED_MARKER = "@revoked"
# OpenSSH gives up on a list of patterns at one that is longer (match.c, match_pattern_list).
MAX_PATTERN_BYTES = 1022

# OpenSSH takes the names of RSA's signature algorithms for names of the key's type.
_TYPE_ALIASES = {"rsa-sha2-256": "ssh-rsa", "rsa-sha2-512": "ssh-rsa"}

# Types that OpenSSH knows and we cannot verify. They are read because a line with one still says that this is not a host
# of which nothing is known.
_FOREIGN_TYPES = ("ssh-dss", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")

# Only these separate words to OpenSSH; str.split() takes more for a space.
_GAP = re.compile(r"[ \t]+")
# Its base64 decoder passes over white space, such as the carriage return of a line from Windows.
_WHITE_SPACE = re.compile(r"[\r\v\f]+")

USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


class Entry(NamedTuple):
    """One line of a known_hosts file: which hosts, which key, what is said about it, and where it stands.

    The key may be of a type that cannot be verified.
    """

    patterns: str
    key: PublicKey
    marker: Marker
    file: str
    line: int

    @property
    def is_revoked(self) -> bool:
        return self.marker == REVOKED_MARKER

    @property
    def is_authority(self) -> bool:
        return self.marker == AUTHORITY_MARKER

    @property
    def is_hashed(self) -> bool:
        return self.patterns.startswith("|")

    @property
    def origin(self) -> str:
        return f"{self.file}:{self.line}"

    def matches(self, name: str) -> bool:
        """Whether the line is about the host called `name`, which is `host` or `[host]:port`, in lower case."""
        if self.is_hashed:
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
    text = read_named_file(path, MAX_FILE_BYTES)[0].decode("utf-8", "surrogateescape")
    entries: list[Entry] = []
    warnings: list[str] = []
    for number, whole_line in enumerate(text.split("\n"), start=1):
        # To OpenSSH, which is written in C, a line ends at a NUL.
        line = whole_line.partition("\0")[0].strip(" \t")
        if not line or line == "\r" or line.startswith("#"):
            continue
        try:
            entry = _parse_line(line, path, number)
        except ValueError as error:
            warnings.append(f"{path}:{number}: line skipped: {error}")
            continue
        if entry.key.type not in KEY_TYPES:
            warnings.append(f"{path}:{number}: line skipped: unsupported key type {entry.key.type}")
        entries.append(entry)
    return KnownHostsFile(tuple(entries), tuple(warnings))


def lower(name: str) -> str:
    """The name in lower case as OpenSSH has it: only ASCII letters change."""
    return _as_bytes(name).lower().decode("utf-8", "surrogateescape")


def find_entries(entries: Iterable[Entry], host: str, port: int, alias: str | None = None) -> list[Entry]:
    """The entries about `host` at `port`, or about `alias` if there is one: an alias is looked for alone, without a port.

    On another port than 22 OpenSSH looks for `[host]:port`, and when that finds no key, for the bare host name
    (sshconnect.c, check_host_key). Authorities count under both names, as there, and so do revoked keys: there, those of
    the bare name count only if it is looked for.
    """
    entries = list(entries)
    found: list[Entry] = []
    for name in _names(host, port, alias):
        knows_key = any(not entry.marker for entry in found)
        matching = [entry for entry in entries if entry.matches(name) and (entry.marker or not knows_key)]
        found += [entry for entry in matching if entry not in found]
    return found


def _names(host: str, port: int, alias: str | None) -> list[str]:
    if alias is not None:
        return [lower(alias)]
    return [lower(host)] if port == DEFAULT_PORT else [f"[{lower(host)}]:{port}", lower(host)]


def _parse_line(line: str, path: str, number: int) -> Entry:
    marker, rest = _split_marker(line)
    words = _GAP.split(rest, maxsplit=3)
    if len(words) < 3:
        raise ValueError("expected hosts, key type and key")
    patterns, type_name, encoded = words[:3]
    if patterns.startswith("|"):
        _decode_hashed(patterns)
    return Entry(patterns, _read_key(marker, type_name, encoded), marker, path, number)


def _split_marker(line: str) -> tuple[Marker, str]:
    """The marker at the beginning, and what follows it.

    To OpenSSH a marker ends at a space, and at a tab only if the line has no space. So it skips '@revoked<TAB>host type
    key'. Somebody revoked that key: the line counts here.
    """
    if not line.startswith("@"):
        return "", line
    text, _, rest = line.partition(" " if " " in line else "\t")
    if text.startswith(REVOKED_MARKER + "\t"):
        text, _, rest = line.partition("\t")
    rest = rest.lstrip(" \t")
    if rest.startswith("@"):
        raise ValueError("only one marker is allowed")
    if text == REVOKED_MARKER:
        return "@revoked", rest
    if text == AUTHORITY_MARKER:
        return "@cert-authority", rest
    if text.startswith(AUTHORITY_MARKER + "\t"):
        raise ValueError(f"a space must follow {AUTHORITY_MARKER}")
    raise ValueError(f"unknown marker {text.split()[0][:40]}")


def _read_key(marker: Marker, type_name: str, encoded: str) -> PublicKey:
    encoded = _WHITE_SPACE.sub("", encoded)
    plain_type = _TYPE_ALIASES.get(type_name, type_name)
    if plain_type in KEY_TYPES:
        return read_public_key(plain_type, decode_key_text(plain_type, encoded))
    is_certificate = type_name.endswith(CERTIFICATE_SUFFIX)
    if not is_certificate and type_name not in _FOREIGN_TYPES:
        raise ValueError(f"unsupported key type {type_name[:40]}")
    blob = decode_key_text(type_name, encoded)
    if is_certificate and marker == REVOKED_MARKER:
        # OpenSSH looks at the key in it: to revoke a certificate is to revoke the key.
        return parse_certified_key(blob)
    if is_certificate and marker == AUTHORITY_MARKER:
        raise ValueError("an authority is named by its key, not by a certificate")
    return PublicKey(type_name, blob)


def _decode_hashed(patterns: str) -> bytes:
    """The salt of `|1|salt|hash`."""
    parts = patterns.split("|")
    if len(parts) != 4 or parts[1] != "1":
        raise ValueError("unknown kind of hashed host name")
    try:
        salt, digest = base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except binascii.Error as error:
        raise ValueError("the hashed host name is not base64") from error
    if len(salt) != SHA1_BYTES or len(digest) != SHA1_BYTES:
        raise ValueError("the hashed host name is cut off")
    return salt


def _matches_hashed(patterns: str, name: str) -> bool:
    salt = _decode_hashed(patterns)
    digest = hmac.new(salt, _as_bytes(name), hashlib.sha1).digest()
    # OpenSSH compares the texts, of which only one is base64's normal form.
    return patterns == f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _matches_patterns(patterns: str, name: str) -> bool:
    """Comma-separated patterns with `*` and `?`; one that is negated by `!` and matches rules the line out."""
    is_match = False
    # Bytes, because a `?` of OpenSSH stands for one of them.
    for written in _as_bytes(patterns).lower().split(b","):
        is_negated = written.startswith(b"!")
        pattern = written.removeprefix(b"!")
        if len(pattern) > MAX_PATTERN_BYTES:
            return False
        if _matches_pattern(pattern, _as_bytes(name)):
            if is_negated:
                return False
            is_match = True
    return is_match


def _matches_pattern(pattern: bytes, name: bytes) -> bool:
    # Only * and ? are special to OpenSSH; fnmatch also knows [sets], which would misread "[host]:port".
    return fnmatch.fnmatchcase(name, pattern.replace(b"[", b"[[]"))


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
