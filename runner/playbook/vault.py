"""Ansible Vault's format, read and written: versions 1.1 and 1.2, AES256.

A header line, then hexadecimal digits in lines of 80. They spell three lines, hexadecimal again: the salt, an HMAC-SHA256
over the ciphertext, and the ciphertext. The keys come from the password by PBKDF2; the text is padded (PKCS#7) and
encrypted with AES-256 in counter mode. https://docs.ansible.com/ansible/latest/vault_guide/vault_using_encrypted_content.html
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from binascii import Error as BadHexadecimal
from binascii import hexlify, unhexlify

from runner.values import dataclass

# What may be encrypted. The format takes four characters for a byte.
MAX_PLAIN_BYTES = 16 * 1024 * 1024
CHARACTERS_PER_BYTE = 4.2
MAX_ENCRYPTED_BYTES = int(MAX_PLAIN_BYTES * CHARACTERS_PER_BYTE)

_MAGIC = "$ANSIBLE_VAULT"
_CIPHER = "AES256"
_ITERATIONS = 10_000
_KEY_BYTES = 32
_BLOCK_BYTES = 16
_SALT_BYTES = 32
_LINE_LENGTH = 80

_LABEL = re.compile(r"[^\s;]{1,100}")
_BROKEN_HINT = "Copy it again, whole: the line with $ANSIBLE_VAULT, and every line of digits after it."


class VaultProblem(Exception):
    """An encrypted text that cannot be decrypted, or a text that cannot be encrypted."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What an encrypted text consists of. The label (vault id) tells people which password it was."""

    label: str
    salt: bytes
    signature: bytes
    ciphertext: bytes


def is_encrypted(content: bytes | str) -> bool:
    """Whether a whole file, or a value, claims to be in the format."""
    return content.startswith(_MAGIC) if isinstance(content, str) else content.startswith(_MAGIC.encode())


def encrypt(plain: bytes, password: bytes, label: str = "") -> str:
    """`plain` in the format: version 1.1, or 1.2 with a label. Raises `VaultProblem`."""
    if len(plain) > MAX_PLAIN_BYTES:
        raise VaultProblem(f"more than {MAX_PLAIN_BYTES // 2**20} MiB cannot be encrypted", "A vault is for secrets.")
    if label and not _LABEL.fullmatch(label):
        raise VaultProblem("a label has neither white space nor ';'", "For example 'prod'.")
    salt = os.urandom(_SALT_BYTES)
    cipher_key, signing_key, counter = _derive_keys(password, salt)
    padding = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
    ciphertext = _apply_cipher(plain + bytes([padding]) * padding, cipher_key, counter)
    signature = hmac.digest(signing_key, ciphertext, "sha256")
    digits = hexlify(b"\n".join(hexlify(part) for part in (salt, signature, ciphertext))).decode("ascii")
    header = f"{_MAGIC};1.2;{_CIPHER};{label}" if label else f"{_MAGIC};1.1;{_CIPHER}"
    lines = [digits[start : start + _LINE_LENGTH] for start in range(0, len(digits), _LINE_LENGTH)]
    return "\n".join([header, *lines]) + "\n"


def decrypt(text: str, password: bytes) -> bytes:
    """What was encrypted. Nothing is decrypted before the signature is found right. Raises `VaultProblem`."""
    envelope = _open_envelope(text)
    cipher_key, signing_key, counter = _derive_keys(password, envelope.salt)
    if not hmac.compare_digest(hmac.digest(signing_key, envelope.ciphertext, "sha256"), envelope.signature):
        label = f" for the label '{envelope.label}'" if envelope.label else ""
        raise VaultProblem(
            f"the vault password is not the right one{label}, or the encrypted text was altered",
            "Check which password file is used: --vault-password-file wins over the environment.",
        )
    padded = _apply_cipher(envelope.ciphertext, cipher_key, counter)
    padding = padded[-1]
    if not 1 <= padding <= _BLOCK_BYTES or padded[-padding:] != bytes([padding]) * padding:
        raise VaultProblem("the encrypted text is broken: its padding is wrong", "Encrypt it again.")
    return padded[:-padding]


def check_format(text: str) -> None:
    """Raise `VaultProblem` unless the text is in the format. Needs no password."""
    _open_envelope(text)


def _open_envelope(text: str) -> _Envelope:
    if len(text) > MAX_ENCRYPTED_BYTES:
        raise VaultProblem(f"the encrypted text is larger than {MAX_ENCRYPTED_BYTES // 2**20} MiB")
    header, _, body = text.strip().partition("\n")
    label = _read_header(header)
    try:
        # Values in a playbook are indented, files may have Windows line ends.
        parts = unhexlify("".join(body.split())).split(b"\n")
        salt, signature, ciphertext = (unhexlify(part) for part in parts)
    except (BadHexadecimal, ValueError) as error:
        raise VaultProblem(
            "the encrypted text is broken: it is cut off or has other characters in it", _BROKEN_HINT
        ) from (error)
    if not salt or len(signature) != hashlib.sha256().digest_size or not ciphertext or len(ciphertext) % _BLOCK_BYTES:
        raise VaultProblem("the encrypted text is broken: a part of it is missing", _BROKEN_HINT)
    return _Envelope(label, salt, signature, ciphertext)


def _read_header(header: str) -> str:
    """The label in `$ANSIBLE_VAULT;1.2;AES256;label`, "" in version 1.1."""
    magic, *fields = (field.strip() for field in header.split(";"))
    if magic != _MAGIC or len(fields) < 2:
        raise VaultProblem("not an encrypted text: it does not begin with '$ANSIBLE_VAULT;1.1;AES256'", _BROKEN_HINT)
    version, cipher, *more = fields
    if version not in ("1.1", "1.2"):
        hint = "Versions 1.1 and 1.2 are read. `ansible-vault rekey` writes older ones anew."
        raise VaultProblem("the encrypted text has an unknown version of the format", hint)
    if cipher != _CIPHER:
        raise VaultProblem("the encrypted text uses an unknown cipher", f"Only {_CIPHER} is read.")
    return more[0] if more else ""


def _derive_keys(password: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """The key of the cipher, the key of the signature, and the first counter block."""
    length = 2 * _KEY_BYTES + _BLOCK_BYTES
    derived = hashlib.pbkdf2_hmac("sha256", password, salt, _ITERATIONS, length)
    return derived[:_KEY_BYTES], derived[_KEY_BYTES : 2 * _KEY_BYTES], derived[2 * _KEY_BYTES :]


def _apply_cipher(content: bytes, key: bytes, counter: bytes) -> bytes:
    """AES-256-CTR, which is the same in both directions."""
    # Only who has something to decrypt pays for this import.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    return encryptor.update(content) + encryptor.finalize()
