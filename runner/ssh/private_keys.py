"""Turns the text of a private key into a key, whatever program wrote it, or says why it cannot be used."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from runner.errors import CredentialUnusable

MAX_KEY_BYTES = 256 * 1024

_OPENSSH_MAGIC = b"openssh-key-v1\0"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


def read_private_key(path: str, passphrase: str | None, certificate_path: str | None) -> paramiko.PKey:
    """The private key in the file at `path`, with its certificate if one is named. Raises `CredentialUnusable`."""
    key = parse_private_key(_read(path, "private key"), passphrase, f"the private key file {path}")
    if certificate_path is not None:
        _load_certificate(key, path, certificate_path)
    return key


def parse_private_key(text: str, passphrase: str | None, called: str) -> paramiko.PKey:
    """The private key in `text`. Windows line ends and a missing last newline do no harm.

    `called` names the key in errors, which never quote it. Raises `CredentialUnusable`.
    """
    text = text.strip()
    if "\n" not in text:
        # CI systems that keep variables on one line hold the line ends as the two characters '\' and 'n'.
        text = text.replace("\\n", "\n")
    normalised = "\n".join(line.strip() for line in text.splitlines()) + "\n"
    _refuse_what_is_no_private_key(normalised, called)
    is_encrypted = _is_encrypted(normalised)
    if is_encrypted and not passphrase:
        raise CredentialUnusable(f"{called} is encrypted, and no passphrase is given", hint="Add 'passphrase'.")
    failure: Exception | None = None
    try:
        # A passphrase for a key that needs none is no reason to refuse it.
        key = _load(normalised, passphrase.encode() if passphrase and is_encrypted else None)
        if key is not None:
            return key
    except UnsupportedAlgorithm as error:
        failure = error
    except (ValueError, TypeError) as error:
        failure = error
        if is_encrypted:
            raise CredentialUnusable(
                f"{called} cannot be decrypted: the passphrase is wrong",
                hint="Check 'passphrase'; if it is right, the key is damaged: `ssh-keygen -y -f FILE` tells.",
            ) from error
    raise CredentialUnusable(
        f"{called} cannot be read: no ed25519, ecdsa or rsa key in it",
        hint="It may be cut off or damaged, or have lost its line ends; `ssh-keygen -y -f FILE` must print its public "
        "half.",
    ) from failure


def _load(text: str, passphrase: bytes | None) -> paramiko.PKey | None:
    """The key as paramiko wants it, None for a kind of key it has no class for.

    paramiko's own readers know no PKCS#8, which openssl writes, and read OpenSSH's format for the class's own type only.
    """
    load = serialization.load_ssh_private_key if "BEGIN OPENSSH" in text else serialization.load_pem_private_key
    key = load(text.encode(), passphrase)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        return paramiko.Ed25519Key.from_private_key(io.StringIO(key.private_bytes(*formats).decode()))
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return paramiko.ECDSAKey(vals=(key, key.public_key()))
    if isinstance(key, rsa.RSAPrivateKey):
        return paramiko.RSAKey(key=key)
    return None


def _is_encrypted(text: str) -> bool:
    """Whether a passphrase is needed: PEM and PKCS#8 say so in words, OpenSSH's format by naming a cipher."""
    if "BEGIN OPENSSH" not in text:
        return "ENCRYPTED" in text
    body = text.partition("PRIVATE KEY-----")[2].partition("-----END")[0]
    try:
        head = base64.b64decode("".join(body.split())[:64])
    except binascii.Error:
        return False
    return head.startswith(_OPENSSH_MAGIC) and not head[len(_OPENSSH_MAGIC) :].startswith(b"\0\0\0\4none")


def _load_certificate(key: paramiko.PKey, path: str, certificate_path: str) -> None:
    text = _read(certificate_path, "certificate")
    try:
        key.load_certificate(text)
        # A certificate repeats, after its type and a nonce, the fields of the key it was made for.
        if not _skip_strings(key.public_blob.key_blob, 2).startswith(_skip_strings(key.asbytes(), 1)):
            raise ValueError("it was signed for another key")
    except (paramiko.SSHException, ValueError, OSError) as error:
        raise CredentialUnusable(
            f"the certificate file {certificate_path} does not fit the private key {path}: {error}",
            hint="It must be the -cert.pub file that was signed for this very key.",
        ) from error


def _skip_strings(blob: bytes, count: int) -> bytes:
    for _ in range(count):
        blob = blob[4 + int.from_bytes(blob[:4], "big") :]
    return blob


def _read(path: str, what: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(MAX_KEY_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise CredentialUnusable(
            f"cannot read the {what} file {path}: {error.strerror}",
            hint="Check the path (it is relative to workdir) and that this user may read it.",
        ) from error


def _refuse_what_is_no_private_key(text: str, called: str) -> None:
    if text.startswith("PuTTY-User-Key-File"):
        raise CredentialUnusable(
            f"{called} is a PuTTY key", hint="Convert it: puttygen KEY.ppk -O private-openssh -o KEY."
        )
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise CredentialUnusable(f"{called} is a public key", hint="Name the private half: the file without '.pub'.")
    if "-----BEGIN" not in text or "PRIVATE KEY-----" not in text:
        raise CredentialUnusable(
            f"{called} is not a private key: it has no '-----BEGIN … PRIVATE KEY-----' line",
            hint="Pass the whole text of the key file, its first and last line included.",
        )
    if "BEGIN DSA" in text:
        raise CredentialUnusable(f"{called} is a DSA key, which no current server accepts", hint="Make an ed25519 key.")
