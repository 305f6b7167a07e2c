"""Throw-away SSH key pairs, made by `ssh-keygen`."""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The smallest sizes every current client and server still accepts: tests pay for each generated bit.
_SIZES = {"rsa": "2048", "ecdsa": "256"}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key file with its public half beside it (`.pub`)."""

    path: Path
    passphrase: str = ""

    @property
    def private_text(self) -> str:
        """The private key file's content."""
        return self.path.read_text(encoding="ascii")

    @property
    def public_line(self) -> str:
        """`ssh-ed25519 AAAA…`, without the comment."""
        text = self.path.with_name(self.path.name + ".pub").read_text(encoding="utf-8")
        return " ".join(text.split()[:2])

    @property
    def algorithm(self) -> str:
        """The name in front of the public key, for instance `ssh-ed25519`."""
        return self.public_line.split()[0]

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as OpenSSH prints it (base64 without padding)."""
        blob = base64.b64decode(self.public_line.split()[1])
        digest = base64.b64encode(hashlib.sha256(blob).digest())
        return "SHA256:" + digest.decode("ascii").rstrip("=")


def generate_key_pair(path: Path, key_type: str = "ed25519", *, comment: str = "test", passphrase: str = "") -> KeyPair:
    """Make a new key pair at `path`; the key type is ed25519, rsa or ecdsa."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", key_type, "-C", comment, "-N", passphrase, "-f", str(path)]
    if key_type in _SIZES:
        command += ["-b", _SIZES[key_type]]
    if passphrase:
        command += ["-a", "1"]  # one KDF round: the file need not resist anybody
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    return KeyPair(path, passphrase)


def sign_host_key(
    authority: KeyPair,
    key: KeyPair,
    path: Path,
    principals: Sequence[str],
    *,
    validity: str = "-1h:+1h",
    options: Sequence[str] = (),
    is_for_users: bool = False,
    algorithm: str = "",
) -> Path:
    """Make a certificate for a key: a copy of its public half at `path`, the certificate beside it. Gives its path.

    `algorithm` is the signature's, for RSA authorities. Every argument but the first four takes a word of `ssh-keygen`.
    """
    path.write_text(key.public_line + "\n", encoding="ascii")
    command = ["ssh-keygen", "-q", "-s", str(authority.path), "-I", path.name, "-V", validity]
    command += [] if is_for_users else ["-h"]
    command += ["-n", ",".join(principals)] if principals else []
    command += ["-t", algorithm] if algorithm else []
    command += [word for option in options for word in ("-O", option)]
    subprocess.run([*command, str(path)], check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    return path.with_name(f"{path.name}-cert.pub")


def shared_key_pair(key_type: str = "ed25519", *, passphrase: str = "") -> KeyPair:
    """The same key pair for the whole process: for tests that need *a* key, not a fresh one."""
    return _generate_once(key_type, passphrase)


@functools.cache
def _generate_once(key_type: str, passphrase: str) -> KeyPair:
    folder = Path(tempfile.mkdtemp(prefix="test-key-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return generate_key_pair(folder / "key", key_type, passphrase=passphrase)
