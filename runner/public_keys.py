"""Public keys as text: `<type> <base64> [comment]`, and their fingerprints. RFC 4253 section 6.6 and OpenSSH's sshd(8)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)

# RFC 4253 section 6.6: type, e, n; RFC 5656 section 3.1: type, curve, point; RFC 8709 section 4: type, point.
_FIELD_COUNTS = dict.fromkeys(KEY_TYPES, 3) | {"ssh-ed25519": 2}

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its type, and its blob as the protocol sends it."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


def parse_public_key(type_name: str, encoded: str) -> PublicKey:
    """The key of `<type> <base64>`. Raises `ValueError` saying what is wrong with it."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the {type_name} key's text is not base64 (cut off while copying?)") from error
    fields = _split_fields(blob)
    if not fields or fields[0] != type_name.encode():
        raise ValueError(f"the text after {type_name} is not a key of that type (cut off while copying?)")
    if fields[-1] is None or len(fields) != _FIELD_COUNTS[type_name]:
        raise ValueError(f"the {type_name} key is cut off or damaged")
    return PublicKey(type_name, blob)


def _is_whole(blob: bytes) -> bool:
    """Whether the blob is a sequence of length-prefixed strings (RFC 4251 section 5), at least two, and nothing else."""
    offset = count = 0
    while offset + 4 <= len(blob):
        offset += 4 + int.from_bytes(blob[offset : offset + 4], "big")
        count += 1
    return offset == len(blob) and count >= 2


def _split_fields(blob: bytes) -> list[bytes | None]:
    """The length-prefixed strings that a key's blob consists of; None in place of one that ends too early."""
    fields: list[bytes | None] = []
    while blob:
        end = 4 + int.from_bytes(blob[:4], "big")
        if end > len(blob):
            return [*fields, None]
        fields.append(blob[4:end])
        blob = blob[end:]
    return fields


def find_public_key(line: str) -> PublicKey:
    """The key in `<type> <base64> [comment]` or in a known_hosts line `<host> <type> <base64> [comment]`.

    The host name of a known_hosts line is not looked at: the line was pinned for this connection.
    Raises `ValueError` saying what is wrong.
    """
    words = line.split()
    if words and words[0].startswith("@"):
        raise ValueError(f"a pinned host key takes no {words[0]} marker; use hostkey_mode: known_hosts_file for that")
    for position in (0, 1):
        if len(words) > position + 1 and words[position] in KEY_TYPES:
            return parse_public_key(words[position], words[position + 1])
    if any("PRIVATE KEY" in word for word in words) or "PRIVATE KEY" in line:
        raise ValueError("this is a private key; a host is pinned by its public key")
    raise ValueError("not a public key: expected '<type> <base64>', with a type such as ssh-ed25519")


def is_fingerprint(text: str) -> bool:
    """Whether the text is a SHA256 fingerprint as OpenSSH prints it."""
    return _FINGERPRINT.fullmatch(text) is not None
