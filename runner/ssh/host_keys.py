"""Decides whether a server's host key is the expected one. This is where a connection is refused.

The check runs after key exchange and before authentication: a refused server has seen no credential.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.errors import HostKeyRefused
from runner.plan import Endpoint
from runner.public_keys import CERTIFICATE_SUFFIX, KEY_TYPES, PublicKey
from runner.ssh.host_certificates import ALGORITHMS, CertificateFault, parse_certificate
from runner.ssh.refusals import Refusals, describe, scan_command
from runner.ssh.trust import gather_trust, known_name

if TYPE_CHECKING:
    import paramiko

ALL_ALGORITHMS = tuple(algorithm for name in KEY_TYPES for algorithm in ALGORITHMS[name])
RSA = "ssh-rsa"
CERTIFICATE_ALGORITHMS = tuple(algorithm + CERTIFICATE_SUFFIX for algorithm in ALL_ALGORITHMS)


class HostKeyCheck:
    """Accepts the host keys that an endpoint's policy names, and no other.

    It is installed as the client's policy for missing keys; the client itself is given no known hosts, so every key is
    missing to it and comes here.
    """

    def __init__(self, endpoint: Endpoint, hop: str = "") -> None:
        """`hop` is the jump host that the endpoint is reached through, for advice. Raises `HostKeyRefused`."""
        advice = scan_command(endpoint, hop)
        # SHA-1 is another way for the server to prove a key, behind all others; which key is trusted stays the same.
        self._sha1 = tuple(name for name in endpoint.legacy_algorithms if name == RSA)
        self._name = known_name(endpoint)
        self._trust = gather_trust(endpoint, advice)
        self._refusals = Refusals(endpoint, self._trust, advice)
        self.warnings = self._trust.warnings
        self.sources = self._trust.sources
        self.trusted_by = ""
        self.shown: PublicKey | None = None
        # Who has signed the certificate that the key is trusted for.
        self.authority: PublicKey | None = None

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The host key algorithms to offer: exactly those of the known keys, so that the server shows one of them.

        Those of certificates come first where an authority is known, as in OpenSSH (sshconnect2.c, order_hostkeyalgs). A
        fingerprint does not tell the type, so all are offered. Raises `HostKeyRefused` if no key is known at all: there
        is no point in connecting then.
        """
        if self._trust.fingerprints:
            return self.every_algorithm
        types = self._trust.types
        plain = tuple(algorithm for name in KEY_TYPES if name in types for algorithm in ALGORITHMS[name])
        offered = (CERTIFICATE_ALGORITHMS if self._trust.authorities else ()) + plain
        if not offered:
            raise self._refusals.unknown_host()
        return offered + (self._sha1 if RSA in types else ())

    @property
    def every_algorithm(self) -> tuple[str, ...]:
        """The algorithms of keys of all types."""
        return ALL_ALGORITHMS + self._sha1

    def algorithms_of(self, key_type: str) -> tuple[str, ...]:
        """The algorithms by which a key of a type is proven."""
        return ALGORITHMS[key_type] + (self._sha1 if key_type == RSA else ())

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        """Called by the client with the key that the server has proven to hold. Returns only if it is trusted."""
        shown = PublicKey(key.get_name(), key.asbytes())
        self.shown = shown
        if self._trust.find_revocation(shown):
            raise self._refusals.revoked_key(shown)
        fault = self._look_at_certificate(key.public_blob.key_blob, shown) if key.public_blob else None
        if self.trusted_by:
            return
        # As in OpenSSH a certificate that does not do leaves the key in it, which may be known by itself.
        known = self._trust.find_key(shown)
        if known is not None:
            self.trusted_by = known.trusted_by
            return
        self.trusted_by = self._trust.find_fingerprint(shown.fingerprint)
        if not self.trusted_by:
            raise self._refusals.wrong_key(shown, fault)

    def refuse_negotiation(self, algorithms: Sequence[str]) -> HostKeyRefused:
        """The error for a server that has no key of the expected types at all, and offers those for `algorithms`."""
        return self._refusals.no_common_type(algorithms)

    def _look_at_certificate(self, blob: bytes, shown: PublicKey) -> CertificateFault | None:
        """What is wrong with the certificate that came with a key. If nothing is, `trusted_by` is set.

        Raises `HostKeyRefused` if it is damaged or forged, whatever key is in it, or if its authority is revoked.
        """
        try:
            certificate = parse_certificate(blob)
        except ValueError as error:
            raise self._refusals.broken_certificate(shown, str(error)) from error
        # What was signed during the key exchange is the key as paramiko has read it: it must be what we have read.
        if certificate.key != shown or (certificate.is_verifiable and not certificate.is_signed()):
            raise self._refusals.broken_certificate(shown, "its signature is wrong")
        authority = certificate.authority
        if authority is None:
            return CertificateFault(
                f"its authority has a key of type {certificate.authority_type}, which is not supported"
            )
        if self._trust.find_revocation(authority):
            raise self._refusals.revoked_authority(shown, authority)
        known = self._trust.find_authority(authority)
        if known is None:
            return CertificateFault(f"it is signed by {describe(authority)}, which is no known authority for this host")
        if not certificate.is_verifiable:
            return CertificateFault(f"it is signed with {certificate.algorithm}, which is not accepted")
        fault = certificate.find_fault(self._name, time.time())
        if fault:
            return CertificateFault(fault, is_from_known_authority=True)
        self.trusted_by = known.trusted_by
        self.authority = authority
        return None
