"""Reads PuTTY's private keys (.ppk), versions 2 and 3: appendix C of PuTTY's manual, sshpubk.c and sshecc.c.

A key's file is a few named values, the public key as the protocol sends it, and the private numbers, encrypted or not. Its
MAC covers all of that, so that a wrong passphrase and a damaged file are noticed before anything of it is used.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from runner.public_keys import join_fields, split_fields
from runner.ssh.key_text import PUTTY_MARK

AES_KEY_BYTES, IV_BYTES, MAC_KEY_BYTES = 32, 16, 32
# What puttygen makes is 8 MiB, 13 passes or so. A key that takes more than this was made to hurt.
MAX_MEMORY_KIB = 1 << 20
MAX_PASSES = 1000
MAX_LANES = 64

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "nistp256": ec.SECP256R1,
    "nistp384": ec.SECP384R1,
    "nistp521": ec.SECP521R1,
}
# In the order in which they stand in a file; those of the key derivation in encrypted ones of version 3 only.
_NAMES = (
    *("Encryption", "Comment", "Public-Lines", "Key-Derivation", "Argon2-Memory", "Argon2-Passes"),
    *("Argon2-Parallelism", "Argon2-Salt", "Private-Lines", "Private-MAC"),
)

Secret = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyDamaged(ValueError):
    """The file is no whole key. The message says why, and quotes nothing of it."""


class WrongPassphrase(ValueError):
    """The MAC of an encrypted key does not fit: the passphrase is wrong, or the file is damaged."""


class DerivationMissing(Exception):
    """The installed `cryptography` lacks the form of Argon2 (it is the message) that makes a key of the passphrase."""


class PuttyKey(NamedTuple):
    """A key's file, taken apart. `values` are its named values."""

    version: int
    type: str
    public: bytes
    private: bytes
    values: dict[str, str]

    @property
    def is_encrypted(self) -> bool:
        return self.values["Encryption"] != "none"


def parse_putty_key(text: str) -> PuttyKey:
    """Take a key's file apart, also one that was folded into one line. Raises `KeyDamaged`."""
    words = text.strip().removeprefix(PUTTY_MARK).split(maxsplit=2)
    if len(words) < 3 or words[0] not in ("2:", "3:"):
        raise KeyDamaged("it is cut off, or of another version than 2 and 3")
    values = _read_values(words[2])
    if missing := {"Encryption", "Public-Lines", "Private-Lines", "Private-MAC"} - values.keys():
        raise KeyDamaged(f"it has no {min(missing)}")
    if values["Encryption"] not in ("none", "aes256-cbc"):
        raise KeyDamaged("it is encrypted in a way that PuTTY does not know")
    public, private = (_decode_lines(values[name]) for name in ("Public-Lines", "Private-Lines"))
    return PuttyKey(int(words[0][0]), words[1], public, private, {"Comment": "", **values})


def _read_values(text: str) -> dict[str, str]:
    """The named values, each up to the next name. That of a list of lines begins with their number."""
    values: dict[str, str] = {}
    last = ""
    for name in _NAMES:
        before, mark, behind = text.partition(f"{name}:")
        if not mark:
            continue
        if last:
            values[last] = before.strip()
        last, text = name, behind
    return {**values, last: text.strip()} if last else {}


def _decode_lines(value: str) -> bytes:
    _, *lines = value.split()
    try:
        return base64.b64decode("".join(lines), validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyDamaged("it is not base64") from error


def open_putty_key(key: PuttyKey, passphrase: bytes | None) -> Secret | None:
    """The private key; None if it is of a type that no login is made with.

    Raises `WrongPassphrase`, `KeyDamaged` or another `ValueError`, and `DerivationMissing`.
    """
    passphrase = passphrase if key.is_encrypted and passphrase else b""
    cipher_key, vector, mac_key = _derive(key, passphrase)
    private = key.private
    if key.is_encrypted:
        if not private or len(private) % IV_BYTES:
            raise KeyDamaged("it is cut off")
        decryptor = Cipher(algorithms.AES(cipher_key), modes.CBC(vector)).decryptor()
        private = decryptor.update(private) + decryptor.finalize()
    comment = key.values["Comment"].encode("utf-8", "surrogateescape")
    signed = join_fields([key.type.encode(), key.values["Encryption"].encode(), comment, key.public, private])
    expected = hmac.new(mac_key, signed, hashlib.sha1 if key.version == 2 else hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), key.values["Private-MAC"].lower().encode("utf-8", "replace")):
        raise WrongPassphrase("the MAC does not fit") if key.is_encrypted else KeyDamaged("its MAC does not fit")
    return _make_secret(key.type, split_fields(key.public), split_fields(private))


def _derive(key: PuttyKey, passphrase: bytes) -> tuple[bytes, bytes, bytes]:
    """The cipher's key, its first vector, and the MAC's key."""
    if key.version == 2:
        cipher_key = b"".join(hashlib.sha1(bytes([0, 0, 0, count]) + passphrase).digest() for count in (0, 1))
        mac_key = hashlib.sha1(b"putty-private-key-file-mac-key" + passphrase).digest()
        return cipher_key[:AES_KEY_BYTES], bytes(IV_BYTES), mac_key
    if not key.is_encrypted:
        return b"", b"", b""
    made = _stretch(key.values, passphrase)
    return made[:AES_KEY_BYTES], made[AES_KEY_BYTES : AES_KEY_BYTES + IV_BYTES], made[-MAC_KEY_BYTES:]


def _stretch(values: dict[str, str], passphrase: bytes) -> bytes:
    """Argon2 of the passphrase (RFC 9106), as the file says."""
    numbers = [values.get(f"Argon2-{name}", "") for name in ("Memory", "Passes", "Parallelism")]
    if not all(number.isascii() and number.isdecimal() and len(number) < 10 for number in numbers):
        raise KeyDamaged("its key derivation cannot be read")
    memory, passes, lanes = (int(number) for number in numbers)
    if not (memory <= MAX_MEMORY_KIB and 1 <= passes <= MAX_PASSES and 1 <= lanes <= MAX_LANES):
        raise KeyDamaged("its key derivation takes more memory or time than any key needs")
    length = AES_KEY_BYTES + IV_BYTES + MAC_KEY_BYTES
    salt = bytes.fromhex(values.get("Argon2-Salt", ""))
    make = _find_derivation(values.get("Key-Derivation", ""))
    try:
        derivation = make(salt=salt, length=length, iterations=passes, lanes=lanes, memory_cost=memory)
        made: bytes = derivation.derive(passphrase)
    except UnsupportedAlgorithm as error:
        raise DerivationMissing(values["Key-Derivation"]) from error
    return made


def _find_derivation(name: str) -> Callable[..., Any]:
    """One of Argon2's three forms. `cryptography` has the usual one since 44, the others since later."""
    if name not in ("Argon2id", "Argon2i", "Argon2d"):
        raise KeyDamaged("its key derivation cannot be read")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module("cryptography.hazmat.primitives.kdf.argon2"), name)
    except (ImportError, AttributeError) as error:
        raise DerivationMissing(name) from error
    return found


def _make_secret(key_type: str, public: list[bytes | None], private: list[bytes | None]) -> Secret | None:
    fields = [field for field in public if field is not None]
    # Behind the private numbers of an encrypted key stands what fills its last block.
    numbers = [field for field in private if field is not None]
    if not fields or fields[0] != key_type.encode():
        raise KeyDamaged("its public half is damaged")
    needed = {"ssh-rsa": (3, 4), "ssh-ed25519": (2, 1)}.get(key_type, (3, 1))
    if len(fields) < needed[0] or len(numbers) < needed[1]:
        raise KeyDamaged("it is cut off")
    if key_type == "ssh-rsa":
        return _make_rsa(fields, numbers)
    if key_type == "ssh-ed25519":
        # sshecc.c, eddsa_private_blob: the number with its lowest byte first, as many bytes as it takes.
        secret = ed25519.Ed25519PrivateKey.from_private_bytes(numbers[0].ljust(32, b"\0"))
        if secret.public_key().public_bytes_raw() != fields[1]:
            raise KeyDamaged("its halves do not fit")
        return secret
    if key_type.startswith("ecdsa-sha2-") and (curve := _CURVES.get(fields[1].decode("ascii", "replace"))):
        key = ec.derive_private_key(int.from_bytes(numbers[0], "big"), curve())
        public_numbers = ec.EllipticCurvePublicKey.from_encoded_point(curve(), fields[2]).public_numbers()
        if key.public_key().public_numbers() != public_numbers:
            raise KeyDamaged("its halves do not fit")
        return key
    return None


def _make_rsa(fields: list[bytes], numbers: list[bytes]) -> rsa.RSAPrivateKey:
    exponent, modulus = (int.from_bytes(field, "big") for field in fields[1:3])
    d, p, q, inverse = (int.from_bytes(field, "big") for field in numbers[:4])
    if p < 2 or q < 2:
        raise KeyDamaged("its numbers cannot be")
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=d % (p - 1),
        dmq1=d % (q - 1),
        iqmp=inverse,
        public_numbers=rsa.RSAPublicNumbers(exponent, modulus),
    ).private_key()
