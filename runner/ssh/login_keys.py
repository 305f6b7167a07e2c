"""Makes what paramiko logs in with out of the keys that were found."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runner.public_keys import PublicKey
from runner.ssh.agent import AgentKey
from runner.ssh.legacy import Sha1UserKey

if TYPE_CHECKING:
    from runner.ssh.credentials import Credential
    from runner.ssh.private_keys import PrivateKey


class _Certificate(NamedTuple):
    """What paramiko's authentication sends in place of a key."""

    key_type: str
    key_blob: bytes


class _SigningAgent(paramiko.PKey):
    """A key that the agent holds. It is offered as the agent lists it, and signs by asking the agent again."""

    def __init__(self, key: AgentKey) -> None:
        self._key = key
        self.public_blob = _show(key.listed) if key.listed != key.plain else None

    def get_name(self) -> str:
        return self._key.listed.type

    def asbytes(self) -> bytes:
        return self._key.plain.blob

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> bytes:
        """The agent's signature, as it comes. Raises `AgentFailure`."""
        return self._key.sign(data, algorithm)


def make_login_key(credential: Credential) -> paramiko.PKey:
    """The key as paramiko wants it."""
    if isinstance(credential, AgentKey):
        return _SigningAgent(credential)
    key = _convert(credential)
    if credential.certificate is not None:
        key.public_blob = _show(credential.certificate)
    return key


def _convert(key: PrivateKey) -> paramiko.PKey:
    secret = key.secret
    if isinstance(secret, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey(vals=(secret, secret.public_key()))
    if isinstance(secret, rsa.RSAPrivateKey):
        return Sha1UserKey(key=secret)
    # paramiko makes this kind out of nothing but a file.
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    return paramiko.Ed25519Key.from_private_key(io.StringIO(secret.private_bytes(*formats).decode()))


def _show(certificate: PublicKey) -> _Certificate:
    return _Certificate(certificate.type, certificate.blob)
