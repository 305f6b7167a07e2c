"""Algorithms that are broken or weak, for servers that have nothing better: offered by name only, and behind all others.

SHA-1 signatures can be forged by whoever makes two messages collide; 1024-bit Diffie-Hellman is within reach of large
attackers (Logjam); CBC leaks text to whoever changes packets (CPNI-957037); 3DES has 64-bit blocks (Sweet32).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1

import paramiko
from cryptography.hazmat.primitives import hashes
from paramiko.kex_gex import KexGexSHA256
from paramiko.kex_group14 import KexGroup14SHA256

from runner.public_keys import CERTIFICATE_SUFFIX

SHA1_SIGNATURE = "ssh-rsa"

# Each kind in the order in which they are offered.
KEX = (
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group1-sha1",
)
CIPHERS = ("aes256-cbc", "aes192-cbc", "aes128-cbc", "3des-cbc")
MACS = ("hmac-sha1-etm@openssh.com", "hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96")
SIGNATURES = (SHA1_SIGNATURE,)

NAMES = frozenset((*KEX, *CIPHERS, *MACS, *SIGNATURES))


def choose(known: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Those of the known algorithms that are allowed, in the order in which they are offered."""
    wanted = frozenset(allowed)
    return tuple(name for name in known if name in wanted)


class KexGroup14SHA1(KexGroup14SHA256):
    """RFC 4253 section 8.2."""

    name = "diffie-hellman-group14-sha1"
    hash_algo = sha1


class KexGroup1SHA1(KexGroup14SHA256):
    """RFC 4253 section 8.1: the second Oakley group of RFC 2409, 1024 bits."""

    name = "diffie-hellman-group1-sha1"
    hash_algo = sha1
    P = int(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        16,
    )


class KexGexSHA1(KexGexSHA256):
    """RFC 4419 section 4."""

    name = "diffie-hellman-group-exchange-sha1"
    hash_algo = sha1


class Sha1HostKey(paramiko.RSAKey):
    """An RSA host key whose signature is made with SHA-1, and with nothing else: that is what was agreed on."""

    HASHES = {SHA1_SIGNATURE: hashes.SHA1}


class Sha1UserKey(paramiko.RSAKey):
    """An RSA key of the user's, that signs with SHA-1 as well when it is asked to."""

    HASHES = {
        **paramiko.RSAKey.HASHES,
        SHA1_SIGNATURE: hashes.SHA1,
        SHA1_SIGNATURE + CERTIFICATE_SUFFIX: hashes.SHA1,
    }
