"""Public keys as text: `<type> <base64> [comment]`, and their fingerprints. RFC 4253 section 6.6 and OpenSSH's sshd(8)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

from runner.values import dataclass

KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)

# Keys on FIDO tokens (PROTOCOL.u2f of OpenSSH). They log users in, through an agent; no host has one.
SECURITY_KEY_TYPES = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")

CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
AUTHORITY_MARKER = "@cert-authority"

# OpenSSH refuses shorter ones (SSH_RSA_MINIMUM_MODULUS_SIZE).
MIN_RSA_BITS = 1024

# RFC 4253 section 6.6: type, e, n; RFC 5656 section 3.1: type, curve, point; RFC 8709 section 4: type, point.
FIELD_COUNTS = dict.fromkeys(KEY_TYPES, 3) | {"ssh-ed25519": 2}
# PROTOCOL.u2f: type, point, application; type, curve, point, application.
_USER_FIELD_COUNTS = FIELD_COUNTS | dict(zip(SECURITY_KEY_TYPES, (3, 4), strict=True))

# From the type of each key, and of each certificate, that logs a user in to the type of the key.
_PLAIN_TYPES = {name: name for name in _USER_FIELD_COUNTS} | {
    name.removesuffix("@openssh.com") + CERTIFICATE_SUFFIX: name for name in _USER_FIELD_COUNTS
}

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

    @property
    def rsa_bits(self) -> int | None:
        """The length of an RSA key's modulus; None for a key of another type."""
        if self.type != "ssh-rsa":
            return None
        modulus = split_fields(self.blob)[-1] or b""
        return int.from_bytes(modulus, "big").bit_length()

    def __str__(self) -> str:
        return f"{self.type} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A key that is pinned for a host: the host's own, or that of an authority that signs the host's certificate."""

    key: PublicKey
    is_authority: bool


def parse_public_key(type_name: str, encoded: str) -> PublicKey:
    """The key of `<type> <base64>`. Raises `ValueError` saying what is wrong with it."""
    return read_public_key(type_name, decode_key_text(type_name, encoded))


def read_public_key(type_name: str, blob: bytes) -> PublicKey:
    """The key of that type that a blob holds. Raises `ValueError` saying what is wrong with it."""
    fields = split_fields(blob)
    if not fields or fields[0] != type_name.encode():
        raise ValueError(f"the text after {type_name} is not a key of that type (cut off while copying?)")
    if None in fields or len(fields) != FIELD_COUNTS[type_name]:
        raise ValueError(f"the {type_name} key is cut off or damaged")
    return make_public_key(type_name, [field for field in fields[1:] if field is not None])


def decode_key_text(type_name: str, encoded: str) -> bytes:
    """The blob that a key's text stands for. Raises `ValueError`."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the {type_name} key's text is not base64 (cut off while copying?)") from error
    if base64.b64encode(blob).decode() != encoded:
        # The last character holds bits that no byte takes up; OpenSSH accepts none either.
        raise ValueError(f"the {type_name} key's text is not base64 (damaged at its end?)")
    return blob


def make_public_key(type_name: str, fields: list[bytes]) -> PublicKey:
    """The key with these fields after its type, each number in its one normal form. Raises `ValueError`."""
    if type_name == "ssh-rsa":
        exponent, modulus = (_normalise_number(field) for field in fields)
        if int.from_bytes(modulus, "big").bit_length() < MIN_RSA_BITS:
            raise ValueError(f"the ssh-rsa key has less than {MIN_RSA_BITS} bits")
        fields = [exponent, modulus]
    return PublicKey(type_name, join_fields([type_name.encode(), *fields]))


def join_fields(fields: Iterable[bytes]) -> bytes:
    """Length-prefixed strings, one after the other (RFC 4251 section 5)."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _normalise_number(field: bytes) -> bytes:
    """An mpint without needless zeros (RFC 4251 section 5): OpenSSH takes a key for the same with and without them."""
    if field[:1] >= b"\x80":
        raise ValueError("the ssh-rsa key is cut off or damaged")
    digits = field.lstrip(b"\0")
    return b"\0" + digits if digits[:1] >= b"\x80" else digits


def split_fields(blob: bytes) -> list[bytes | None]:
    """The length-prefixed strings that a blob consists of; None in place of one that ends too early."""
    fields: list[bytes | None] = []
    start = 0
    while start < len(blob):
        end = start + 4 + int.from_bytes(blob[start : start + 4], "big")
        if end > len(blob) or start + 4 > len(blob):
            return [*fields, None]
        fields.append(blob[start + 4 : end])
        start = end
    return fields


def find_public_key(line: str) -> PublicKey:
    """The key in `<type> <base64> [comment]` or in a known_hosts line `<host> <type> <base64> [comment]`.

    The host name of a known_hosts line is not looked at: the line was pinned for this connection.
    Raises `ValueError` saying what is wrong.
    """
    words = line.split()
    if words and words[0].startswith("@"):
        raise ValueError(f"a pinned host key takes no {words[0]} marker; use hostkey_mode: known_hosts_file for that")
    if any(word.endswith(CERTIFICATE_SUFFIX) for word in words[:2]):
        raise ValueError(
            f"this is a certificate; expected the plain key, or '{AUTHORITY_MARKER} <hosts> <type> <base64>' with the key "
            "of the authority that signed it"
        )
    for position in (0, 1):
        if len(words) > position + 1 and words[position] in KEY_TYPES:
            return parse_public_key(words[position], words[position + 1])
    if any("PRIVATE KEY" in word for word in words) or "PRIVATE KEY" in line:
        raise ValueError("this is a private key; a host is pinned by its public key")
    raise ValueError("not a public key: expected '<type> <base64>', with a type such as ssh-ed25519")


def find_user_key(line: str) -> PublicKey:
    """The key that shall log a user in, in `<type> <base64> [comment]`: also one of a FIDO token, or a certificate.

    Raises `ValueError` saying what is wrong.
    """
    type_name, _, rest = line.strip().partition(" ")
    if type_name in _PLAIN_TYPES and type_name not in KEY_TYPES and rest.split():
        found = read_user_key(decode_key_text(type_name, rest.split()[0]))
        if found is None or found[0].type != type_name:
            raise ValueError(f"the {type_name} key is cut off or damaged")
        return found[0]
    return find_public_key(line)


def read_user_key(blob: bytes) -> tuple[PublicKey, PublicKey] | None:
    """The key that a blob holds, as it is and without its certificate if it has one.

    None if it is damaged, or of a type that no server lets anybody in with. No signature is looked at: that is the server's.
    """
    fields = split_fields(blob)
    name = (fields[0] or b"").decode("ascii", "replace") if fields else ""
    plain_name = _PLAIN_TYPES.get(name)
    if plain_name is None:
        return None
    if name == plain_name:
        is_whole = None not in fields and len(fields) == _USER_FIELD_COUNTS[name]
        return (PublicKey(name, blob), PublicKey(name, blob)) if is_whole else None
    # PROTOCOL.certkeys: type, nonce, the fields of the key, and much that is the server's to judge.
    certified = fields[2 : 1 + _USER_FIELD_COUNTS[plain_name]]
    if len(certified) + 1 < _USER_FIELD_COUNTS[plain_name] or None in certified:
        return None
    plain = join_fields([plain_name.encode(), *(field for field in certified if field is not None)])
    return PublicKey(name, blob), PublicKey(plain_name, plain)


def parse_pinned_key(line: str) -> PinnedKey:
    """The key in a line that is pinned for a host: as for `find_public_key`, or after `@cert-authority`.

    Raises `ValueError` saying what is wrong.
    """
    words = line.split(maxsplit=1)
    if len(words) > 1 and words[0] == AUTHORITY_MARKER:
        return PinnedKey(find_public_key(words[1]), is_authority=True)
    return PinnedKey(find_public_key(line), is_authority=False)


def is_fingerprint(text: str) -> bool:
    """Whether the text is a SHA256 fingerprint as OpenSSH prints it."""
    return _FINGERPRINT.fullmatch(text) is not None
