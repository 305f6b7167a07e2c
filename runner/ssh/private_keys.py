"""Turns the text of a private key into a key, whatever program wrote it, or says why it cannot be used."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import stat
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from runner.errors import CredentialUnusable
from runner.public_keys import MIN_RSA_BITS, PublicKey, decode_key_text, read_user_key, split_fields
from runner.ssh.key_text import PRIVATE_KEY, PUTTY_MARK, decode_file, is_private_key, restore
from runner.ssh.named_files import read_named_file

MAX_KEY_BYTES = 256 * 1024
MAX_PATH_LENGTH = 1024
INLINE_KEY = "the private key in 'ssh_key'"

_OPENSSH_MAGIC = b"openssh-key-v1\0"
PUTTYGEN = "`puttygen KEY.ppk -O private-openssh -o KEY`"
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_CURVES = ("secp256r1", "secp384r1", "secp521r1")


class PrivateKey(NamedTuple):
    """A private key, its public half, and the certificate that is shown in place of that if there is one."""

    secret: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    public: PublicKey
    certificate: PublicKey | None = None


def read_private_key(path: str, passphrase: str | None, certificate_path: str | None) -> PrivateKey:
    """The private key in the file at `path`, with its certificate if one is named.

    Raises `CredentialUnusable`, also for a key of our own that others may read: as `ssh` does, and before it is used.
    """
    text, status = _read(path, "private key")
    if is_private_key(restore(text)):
        _refuse_open_permissions(path, status)
    key = parse_private_key(text, passphrase, f"the private key file {path}")
    if certificate_path is not None:
        key = key._replace(certificate=read_certificate(certificate_path, key.public, path))
    return key


def parse_private_key(text: str, passphrase: str | None, called: str) -> PrivateKey:
    """The private key in `text`, whatever has been done to it on its way here (`key_text.py`).

    `called` names the key in errors, which never quote it. Raises `CredentialUnusable`.
    """
    text = restore(text)
    _refuse_what_is_no_private_key(text, called)
    _refuse_what_no_file_can_hold(text, called)
    is_encrypted = _is_encrypted(text)
    if is_encrypted and not passphrase:
        raise CredentialUnusable(
            f"{called} is encrypted, and no passphrase is given", hint="Add 'passphrase'.", about="passphrase"
        )
    # A passphrase for a key that needs none is no reason to refuse it.
    given = passphrase.encode() if passphrase and is_encrypted else None
    is_putty_key = text.startswith(PUTTY_MARK)
    failure: Exception | None = None
    try:
        key = _load_putty_key(text, given, called) if is_putty_key else _load(text, given)
        if key is not None:
            _refuse_short_key(key, called)
            return key
    except UnsupportedAlgorithm as error:
        failure = error
    except (ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError) as error:
        failure = error
        if is_encrypted:
            tool = "`puttygen FILE -L`" if is_putty_key else "`ssh-keygen -y -f FILE`"
            raise CredentialUnusable(
                f"{called} cannot be decrypted: the passphrase is wrong",
                hint=f"Check 'passphrase'; if it is right, the key is damaged: {tool} tells.",
                about="passphrase",
            ) from error
    check = (
        f"{PUTTYGEN} must be able to read it" if is_putty_key else "`ssh-keygen -y -f FILE` must print its public half"
    )
    raise CredentialUnusable(
        f"{called} cannot be read: no ed25519, ecdsa or rsa key in it",
        hint=f"It may be cut off or damaged, or have lost its line ends; {check}.",
    ) from failure


@lru_cache(maxsize=64)
def _load(text: str, passphrase: bytes | None) -> PrivateKey | None:
    """The key, in OpenSSH's format or PKCS#8 or what came before; None for a kind of key that no login is made with.

    It is kept: decrypting is made to be slow, and is done when the playbook is checked, and for each connection.
    """
    _refuse_damaged_header(text)
    load = serialization.load_ssh_private_key if "BEGIN OPENSSH" in text else serialization.load_pem_private_key
    return _with_public_half(load(text.encode(), passphrase))


def _refuse_damaged_header(text: str) -> None:
    """RFC 1421 section 4.6.1.3: the cipher, and its vector in hexadecimal. `cryptography` (50) panics if that is short."""
    header = re.search(r"^DEK-Info: *([A-Za-z0-9-]+),([^\n]*)$", text, re.MULTILINE)
    if header is None:
        return
    digits = 32 if header[1].upper().startswith("AES") else 16
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{digits}}}", header[2].strip()):
        raise ValueError("the header of the encrypted key is damaged")


@lru_cache(maxsize=64)
def _load_putty_key(text: str, passphrase: bytes | None, called: str) -> PrivateKey | None:
    """The same of a PuTTY key. Raises `CredentialUnusable` if it is damaged, or the passphrase cannot be used here."""
    # Few keys are of this kind.
    from runner.ssh.putty_keys import DerivationMissing, KeyDamaged, open_putty_key, parse_putty_key

    try:
        return _with_public_half(open_putty_key(parse_putty_key(text), passphrase))
    except KeyDamaged as error:
        raise CredentialUnusable(
            f"{called} is a PuTTY key that cannot be read: {error}",
            hint=f"It may have been cut off or changed on its way; {PUTTYGEN} must be able to read it.",
        ) from error
    except DerivationMissing as error:
        raise CredentialUnusable(
            f"{called} is a PuTTY key of version 3, whose passphrase the installed 'cryptography' cannot use: it has no "
            f"{error}",
            hint=f"Install a newer one (cryptography 44 has Argon2id); or convert the key: {PUTTYGEN}.",
        ) from error


def _with_public_half(secret: object) -> PrivateKey | None:
    if not isinstance(secret, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return None
    if isinstance(secret, ec.EllipticCurvePrivateKey) and secret.curve.name not in _CURVES:
        return None
    formats = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    type_name, encoded = secret.public_key().public_bytes(*formats).split()[:2]
    return PrivateKey(secret, PublicKey(type_name.decode(), base64.b64decode(encoded)))


def _is_encrypted(text: str) -> bool:
    """Whether a passphrase is needed: PEM and PKCS#8 say so in words, OpenSSH's format by naming a cipher, as PuTTY's."""
    if text.startswith(PUTTY_MARK):
        return text.partition("Encryption:")[2].split(maxsplit=1)[:1] not in ([], ["none"])
    if "BEGIN OPENSSH" not in text:
        return "ENCRYPTED" in text
    head = _decode_openssh(text)
    return head.startswith(_OPENSSH_MAGIC) and not head[len(_OPENSSH_MAGIC) :].startswith(b"\0\0\0\4none")


def _decode_openssh(text: str) -> bytes:
    """What stands between the first and the last line of a key in OpenSSH's format; empty if it cannot be decoded."""
    body = text.partition(PRIVATE_KEY)[2].partition("-----END")[0]
    try:
        return base64.b64decode("".join(body.split()))
    except (binascii.Error, ValueError):
        return b""


def _looks_like_path(text: str) -> bool:
    """Whether somebody has taken a file's name for what is in it: CI systems have variables of both kinds."""
    name = text.strip()
    if not name or "\n" in name or "\0" in name or len(name) > MAX_PATH_LENGTH:
        return False
    return name.startswith(("/", "~/", "./", "../")) or _WINDOWS_PATH.match(name) is not None or os.path.isfile(name)


def _find_type(text: str) -> bytes:
    """The type of a key in OpenSSH's format, which names it in clear even if it is encrypted; empty if it is damaged.

    PROTOCOL.key: magic, cipher, KDF, its options, the number of keys, the public key.
    """
    data = _decode_openssh(text).removeprefix(_OPENSSH_MAGIC)
    cipher_and_kdf = split_fields(data)[:3]
    if len(cipher_and_kdf) < 3 or None in cipher_and_kdf:
        return b""
    start = sum(4 + len(field or b"") for field in cipher_and_kdf) + 4
    public_key = split_fields(data[start:])[:1]
    return (split_fields(public_key[0])[0] or b"") if public_key and public_key[0] else b""


def read_certificate(certificate_path: str, key: PublicKey | None, key_path: str) -> PublicKey:
    """The certificate in a file, signed for `key`; for any key if that is None, since it cannot be used itself.

    Raises `CredentialUnusable`.
    """
    text, _ = _read(certificate_path, "certificate")
    try:
        words = text.split(maxsplit=2)
        if len(words) < 2:
            raise ValueError("there is nothing in it but the type of a key" if words else "it is empty")
        found = read_user_key(decode_key_text(*words[:2]))
        if found is None or found[0].type != words[0]:
            raise ValueError("it holds no key that anybody logs in with")
        certificate, certified = found
        if certificate == certified:
            raise ValueError("it is a public key, not a certificate")
        if key is not None and certified != key:
            raise ValueError("it was signed for another key")
    except ValueError as error:
        raise CredentialUnusable(
            f"the certificate file {certificate_path} does not fit the private key {key_path}: {error}",
            hint="It must be the -cert.pub file that was signed for this very key.",
            about="certificate_file",
        ) from error
    return certificate


def _read(path: str, what: str) -> tuple[str, os.stat_result]:
    """A file's text, and what the system says of the very file that was read."""
    try:
        content, status = read_named_file(path, MAX_KEY_BYTES)
        return decode_file(content), status
    except OSError as error:
        raise CredentialUnusable(
            f"cannot read the {what} file {path}: {error.strerror}",
            hint="Check the path (it is relative to workdir) and that this user may read it.",
            about="certificate_file" if what == "certificate" else "",
        ) from error


def _refuse_open_permissions(path: str, status: os.stat_result) -> None:
    """As OpenSSH does (sshkey_perm_ok): a key of somebody else's is their business, and a group's may be meant."""
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == os.getuid() and mode & 0o077:
        raise CredentialUnusable(
            f"the private key file {path} is open to others (its mode is {mode:04o}): it is not used",
            hint=f"`chmod 600 {shlex.quote(path)}`, and consider whether somebody has read it already.",
        )


def _refuse_what_is_no_private_key(text: str, called: str) -> None:
    if text.startswith(PUTTY_MARK):
        return
    if text.startswith(("ssh-", "ecdsa-", "sk-")):
        raise CredentialUnusable(f"{called} is a public key", hint="Name the private half: the file without '.pub'.")
    if _looks_like_path(text):
        raise CredentialUnusable(
            f"{called} is a path, not a key",
            hint="Use 'authentication_method: ssh_key_file' with 'ssh_key_file', or pass the text of the file.",
        )
    if "-----BEGIN" not in text or PRIVATE_KEY not in text:
        raise CredentialUnusable(
            f"{called} is not a private key: it has no '-----BEGIN … PRIVATE KEY-----' line",
            hint="Pass the whole text of the key file, its first and last line included.",
        )


def _refuse_what_no_file_can_hold(text: str, called: str) -> None:
    """Keys that are of no use, or not here."""
    type_name = _find_type(text) if "BEGIN OPENSSH" in text else b""
    if "BEGIN DSA" in text or type_name == b"ssh-dss" or re.match(rf"{PUTTY_MARK}\d: ssh-dss\b", text):
        raise CredentialUnusable(f"{called} is a DSA key, which no current server accepts", hint="Make an ed25519 key.")
    if type_name.startswith(b"sk-"):
        raise CredentialUnusable(
            f"{called} belongs to a FIDO token, which holds the key itself",
            hint="Give it to the agent (ssh-add FILE), which asks the token, and use 'authentication_method: ssh_agent'.",
        )


def _refuse_short_key(key: PrivateKey, called: str) -> None:
    bits = key.public.rsa_bits
    if bits is not None and bits < MIN_RSA_BITS:
        raise CredentialUnusable(
            f"{called} is an RSA key of {bits} bits: it can be broken, and OpenSSH refuses it as well",
            hint="Make an ed25519 key, or an RSA key of 3072 bits.",
        )
