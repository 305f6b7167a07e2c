"""Turns the text of a private key into a key, whatever program wrote it, or says why it cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization

from runner.errors import CredentialUnusable

MAX_KEY_BYTES = 256 * 1024

_CLASSES: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


def read_private_key(path: str, passphrase: str | None, certificate_path: str | None) -> paramiko.PKey:
    """The private key in the file at `path`, with its certificate if one is named. Raises `CredentialUnusable`."""
    key = parse_private_key(_read(path, "private key"), passphrase, f"the private key file {path}")
    if certificate_path is not None:
        _read(certificate_path, "certificate")
        try:
            key.load_certificate(certificate_path)
        except (paramiko.SSHException, ValueError, OSError) as error:
            raise CredentialUnusable(
                f"the certificate file {certificate_path} does not fit the private key {path}: {error}",
                hint="It must be the -cert.pub file that was signed for this very key.",
            ) from error
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
    if "-----BEGIN PRIVATE KEY" in normalised or "-----BEGIN ENCRYPTED PRIVATE KEY" in normalised:
        normalised, passphrase = _convert_pkcs8(normalised, passphrase, called), None
    for key_class in _CLASSES:
        try:
            return key_class.from_private_key(io.StringIO(normalised), passphrase)
        except paramiko.PasswordRequiredException as error:
            raise _needs_passphrase(called) from error
        except (paramiko.SSHException, ValueError, IndexError, UnicodeDecodeError, TypeError) as error:
            failure = error
            if _is_wrong_passphrase(error):
                raise CredentialUnusable(
                    f"{called} cannot be decrypted: the passphrase is wrong", hint="Check 'passphrase'."
                ) from error
    raise CredentialUnusable(
        f"{called} cannot be read: no ed25519, ecdsa or rsa key in it",
        hint="It may be cut off or damaged; `ssh-keygen -y -f FILE` must print its public half.",
    ) from failure


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


def _needs_passphrase(called: str) -> CredentialUnusable:
    return CredentialUnusable(f"{called} is encrypted, and no passphrase is given", hint="Add 'passphrase'.")


def _is_wrong_passphrase(error: Exception) -> bool:
    text = str(error).lower()
    return "decrypt" in text or "checkint" in text or "bad password" in text or text == "invalid key"


def _convert_pkcs8(text: str, passphrase: str | None, called: str) -> str:
    """The same key in OpenSSH's format: paramiko does not read PKCS#8, which openssl writes."""
    try:
        key = serialization.load_pem_private_key(text.encode(), passphrase.encode() if passphrase else None)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ).decode()
    except TypeError as error:
        raise _needs_passphrase(called) from error
    except ValueError as error:
        reason = "the passphrase is wrong" if passphrase and "ENCRYPTED" in text else "it is damaged"
        raise CredentialUnusable(
            f"{called} cannot be read: {reason}", hint="Check 'passphrase' and the key."
        ) from error
