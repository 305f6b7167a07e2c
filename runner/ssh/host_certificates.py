"""Takes OpenSSH certificates apart and verifies those of hosts: PROTOCOL.certkeys of OpenSSH.

A certificate is a host's public key, the names it is good for and the time, signed by an authority. Whether the authority
is to be trusted is not decided here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from runner.public_keys import CERTIFICATE_SUFFIX, FIELD_COUNTS, KEY_TYPES, PublicKey, make_public_key, read_public_key

# Which signature algorithms prove possession of a key of each type (RFC 8332 for RSA; SHA-1 is not accepted).
ALGORITHMS = {name: (name,) for name in KEY_TYPES} | {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

HOST_CERTIFICATE = 2
MAX_PRINCIPALS = 256
# RFC 5656 section 3.1.2: r and s
ECDSA_NUMBERS = 2
MAX_NAMES_SHOWN = 3
FOREVER = 2**64 - 1


class CertificateFault(NamedTuple):
    """Why a certificate does not count, and whether it was signed by an authority that is known for the host."""

    reason: str
    is_from_known_authority: bool = False


class HostCertificate(NamedTuple):
    """What a certificate says, before anything of it is verified. Times are seconds since 1970."""

    key: PublicKey
    type: int
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: tuple[str, ...]
    authority_type: str
    authority_blob: bytes
    algorithm: str
    signed: bytes
    signature: bytes

    @property
    def authority(self) -> PublicKey | None:
        """The key that is said to have signed it; None if it is of a type that cannot be verified."""
        if self.authority_type not in KEY_TYPES:
            return None
        return PublicKey(self.authority_type, self.authority_blob)

    @property
    def is_verifiable(self) -> bool:
        """Whether the signature is of a kind that can be verified and is accepted: SHA-1 is not."""
        return self.algorithm in ALGORITHMS.get(self.authority_type, ())

    def find_fault(self, name: str, now: float) -> str:
        """Why this is no valid certificate for the host called `name`; empty if it is one. Its signature is not looked at.

        The name is the one that is looked up in known_hosts, without port. As in OpenSSH before 10.3 it must be among the
        principals letter by letter: a `*` in them is no wildcard. A certificate without principals is good for nothing.
        """
        if self.type != HOST_CERTIFICATE:
            return "it is a certificate for users, not for hosts"
        if now < self.valid_after:
            return f"it is not valid before {format_time(self.valid_after)}"
        if now >= self.valid_before:
            return f"it has expired ({format_time(self.valid_before)})"
        if name not in self.principals:
            return f"it is for {self.describe_principals()}, not for {name}"
        if self.critical_options:
            return f"it has critical options, and none is defined for hosts: {', '.join(self.critical_options)}"
        return ""

    def is_signed(self) -> bool:
        """Whether the authority has signed it, with an algorithm that is accepted."""
        # Whoever has been shown a certificate has loaded them.
        import paramiko
        from cryptography.exceptions import UnsupportedAlgorithm

        classes: dict[str, type[paramiko.PKey]] = {"ssh-ed25519": paramiko.Ed25519Key, "ssh-rsa": paramiko.RSAKey}
        try:
            # paramiko takes signatures that end too early or too late: their strings are counted here.
            _, inner = _Reader(self.signature).read_all_strings()
            if self.authority_type.startswith("ecdsa-") and len(_Reader(inner).read_all_strings()) != ECDSA_NUMBERS:
                return False
            key = classes.get(self.authority_type, paramiko.ECDSAKey)(paramiko.Message(self.authority_blob))
            return self.is_verifiable and bool(key.verify_ssh_sig(self.signed, paramiko.Message(self.signature)))
        except (paramiko.SSHException, ValueError, LookupError, TypeError, OverflowError, UnsupportedAlgorithm):
            # Whatever the libraries think of a signature that is none.
            return False

    def describe_principals(self) -> str:
        """The names that it is good for, or the first of them."""
        more = len(self.principals) - MAX_NAMES_SHOWN
        names = ", ".join(self.principals[:MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        return names or "no host at all"


def parse_certificate(blob: bytes) -> HostCertificate:
    """The certificate in a key's blob. Raises `ValueError` if it is none of a type that is supported, or damaged."""
    reader = _Reader(blob)
    key = _read_certified_key(reader)
    reader.skip(8)  # serial number
    type_number = reader.read_number(4)
    key_id = reader.read_text()
    principals = _Reader(reader.read_string()).read_all_texts()
    valid_after, valid_before = reader.read_number(8), reader.read_number(8)
    options = _Reader(reader.read_string()).read_all_texts()
    # None is defined for hosts, and unknown ones are to be ignored.
    extensions = _Reader(reader.read_string()).read_all_strings()
    reader.read_string()  # reserved
    authority_blob = reader.read_string()
    signed = blob[: reader.offset]
    signature = reader.read_string()
    if reader.offset != len(blob) or len(options) % 2 or len(extensions) % 2:
        raise ValueError("the certificate is damaged")
    if len(principals) > MAX_PRINCIPALS or any("\0" in text for text in (key_id, *principals)):
        raise ValueError("the certificate has principals that no certificate has")
    authority_type, authority_blob = _read_authority(authority_blob)
    return HostCertificate(
        key=key,
        type=type_number,
        principals=tuple(principals),
        valid_after=valid_after,
        valid_before=valid_before,
        critical_options=tuple(options[::2]),
        authority_type=authority_type,
        authority_blob=authority_blob,
        algorithm=_Reader(signature).read_text(),
        signed=signed,
        signature=signature,
    )


def _read_authority(blob: bytes) -> tuple[str, bytes]:
    """The type of the authority's key, and its blob in its one normal form."""
    type_name = _Reader(blob).read_text()
    return type_name, read_public_key(type_name, blob).blob if type_name in KEY_TYPES else blob


def parse_certified_key(blob: bytes) -> PublicKey:
    """The key in a certificate, of which no more is looked at. Raises `ValueError`."""
    return _read_certified_key(_Reader(blob))


def _read_certified_key(reader: _Reader) -> PublicKey:
    type_name = reader.read_text()
    plain_type = type_name.removesuffix(CERTIFICATE_SUFFIX)
    if plain_type == type_name or plain_type not in KEY_TYPES:
        raise ValueError(f"not a certificate of a supported type: {type_name[:60]}")
    reader.read_string()  # nonce
    return make_public_key(plain_type, [reader.read_string() for _ in range(FIELD_COUNTS[plain_type] - 1)])


class _Reader:
    """Reads a blob from front to back (RFC 4251 section 5). Every method raises `ValueError` when it ends too early."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self.offset = 0

    def skip(self, count: int) -> bytes:
        start, self.offset = self.offset, self.offset + count
        if self.offset > len(self._blob):
            raise ValueError("the certificate is cut off")
        return self._blob[start : self.offset]

    def read_number(self, size_bytes: int) -> int:
        return int.from_bytes(self.skip(size_bytes), "big")

    def read_string(self) -> bytes:
        return self.skip(self.read_number(4))

    def read_all_strings(self) -> list[bytes]:
        strings = []
        while self.offset < len(self._blob):
            strings.append(self.read_string())
        return strings

    def read_text(self) -> str:
        return _as_text(self.read_string())

    def read_all_texts(self) -> list[str]:
        return [_as_text(string) for string in self.read_all_strings()]


def _as_text(string: bytes) -> str:
    """Bytes that are no UTF-8 stay distinct from any that are."""
    return string.decode("utf-8", "surrogateescape")


def format_time(seconds: int) -> str:
    """A moment in a certificate, in words."""
    if seconds == FOREVER:
        return "the end of time"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"
