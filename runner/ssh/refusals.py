"""What a refused host key means, in words: what was shown, what was expected, from where, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runner.errors import HostKeyRefused
from runner.plan import Endpoint
from runner.public_keys import PublicKey
from runner.ssh.host_certificates import CertificateFault
from runner.ssh.prompts import clean_prompt
from runner.ssh.trust import Expectation, Trust

MAX_WARNINGS_SHOWN = 3
MAX_NAMES_SHOWN = 10


def scan_command(endpoint: Endpoint, hop: str = "") -> str:
    """The command that prints the lines to pin for an endpoint; it is to be run on the jump host `hop` if there is one."""
    if hop:
        return f"`ssh-keyscan -p {endpoint.port} {shlex.quote(endpoint.host)}` on {hop}"
    alias = "" if endpoint.host_key_alias is None else f"--host-key-alias {shlex.quote(endpoint.host_key_alias)} "
    port = "" if endpoint.port == 22 else f":{endpoint.port}"
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"`runner hostkey {alias}{host}{port}`"


class Refusals:
    """The errors for one endpoint, of which certain keys are known."""

    def __init__(self, endpoint: Endpoint, trust: Trust, scan_command: str) -> None:
        self._endpoint = endpoint
        self._trust = trust
        alias = endpoint.host_key_alias
        self._host = str(endpoint) if alias is None else f"{endpoint} (known as {alias})"
        self._scan_command = scan_command

    def unknown_host(self) -> HostKeyRefused:
        """No key that could be asked for."""
        notes = [f"{len(self._trust.revoked)} marked @revoked"] if self._trust.revoked else []
        notes += [f"{name} keys cannot be verified" for name in self._trust.foreign_types]
        described = f" ({'; '.join(notes)})" if notes else ""
        return HostKeyRefused(
            f"the host {self._host} is not known: no {'usable ' if notes else ''}key for it in "
            f"{', '.join(self._trust.sources)}{described}{self._describe_warnings()}; nothing was sent to it",
            hint=f"Get its keys with {self._scan_command}, check them with the server's operator, and pin them "
            "under 'hostkey' or in the known_hosts file.",
        )

    def revoked_key(self, shown: PublicKey) -> HostKeyRefused:
        return HostKeyRefused(
            f"{self._host} showed a revoked host key: {describe(shown)}{self._revoked_where(shown)}; "
            "no credential was sent",
            hint="The key is marked @revoked in known_hosts: do not connect before its owner has explained why.",
        )

    def revoked_authority(self, shown: PublicKey, authority: PublicKey) -> HostKeyRefused:
        return HostKeyRefused(
            f"{self._host} showed a certificate of a revoked authority: {describe(shown)} (unverified), signed by "
            f"{describe(authority)}{self._revoked_where(authority)}; no credential was sent",
            hint="The authority is marked @revoked in known_hosts: the host needs a certificate of another one.",
        )

    def broken_certificate(self, shown: PublicKey, reason: str) -> HostKeyRefused:
        return HostKeyRefused(
            f"{self._host} showed {describe(shown)} (unverified) with a certificate that is damaged or forged: {reason}; "
            "no credential was sent",
            hint="Tell the server's operator: no server shows such a certificate by itself.",
        )

    def no_common_type(self, algorithms: Sequence[str]) -> HostKeyRefused:
        """The server has no key of a type that was asked for; it offers those for `algorithms`."""
        names = ", ".join(clean_prompt(name) for name in algorithms[:MAX_NAMES_SHOWN])
        has = f" (it offers {names})" if names else ""
        return HostKeyRefused(
            f"{self._host} has no host key of an expected type{has}; no credential was sent. "
            f"Expected {self._describe_expected()}{self._describe_warnings()}",
            hint=self._mismatch_hint,
        )

    def wrong_key(self, shown: PublicKey, fault: CertificateFault | None) -> HostKeyRefused:
        """The server has proven to hold a key that is not known, whose certificate, if it has one, does not count."""
        certificate = f" with a certificate that does not count: {fault.reason}" if fault else ""
        return HostKeyRefused(
            f"the host key of {self._host} is not the expected one; no credential was sent. "
            f"The server showed {describe(shown)} (unverified){certificate}; expected {self._describe_expected()}. "
            f"{self._diagnose(shown, fault)}{self._describe_warnings()}",
            hint=self._mismatch_hint,
        )

    def _diagnose(self, shown: PublicKey, fault: CertificateFault | None) -> str:
        """What it looks like. It proves nothing: whoever sits in between may make it look like anything."""
        lines = [entry for entry in self._trust.elsewhere if entry.key == shown]
        if lines:
            names = "a hashed name" if lines[0].is_hashed else lines[0].patterns
            return f"It looks like another machine: this key is known for {names} ({lines[0].origin})"
        if fault and fault.is_from_known_authority:
            return "It looks like a host of this authority that needs another certificate"
        if shown.type in self._trust.types:
            return f"It looks like a rotated key, or another machine: the {shown.type} key that is known is another one"
        if not self._trust.types:
            return "It looks like a rotated key, or another machine"
        known = " or ".join(sorted(self._trust.types))
        return f"It looks like another type of key, or another machine: {known} is known, and {shown.type} is not"

    def _describe_expected(self) -> str:
        if self._trust.fingerprints:
            return f"{' or '.join(self._trust.fingerprints)} ({self._trust.sources[0]})"
        signed = [f"a certificate signed by {_with_origin(one)}" for one in self._trust.authorities]
        return " or ".join([*signed, *(_with_origin(one) for one in self._trust.keys)])

    def _revoked_where(self, key: PublicKey) -> str:
        revocation = self._trust.find_revocation(key)
        return f" ({revocation.origin})" if revocation else ""

    def _describe_warnings(self) -> str:
        """The lines that could not be read: the missing key may stand in one of them."""
        warnings = self._trust.warnings
        if not warnings:
            return ""
        shown = "; ".join(warnings[:MAX_WARNINGS_SHOWN])
        more = len(warnings) - MAX_WARNINGS_SHOWN
        return f" ({shown}{f'; and {more} more' if more > 0 else ''})"

    @property
    def _mismatch_hint(self) -> str:
        return (
            "Either the key was changed on purpose, or this is another machine, or somebody is in between. Ask the "
            f"server's operator for the new fingerprint, compare it with what {self._scan_command} prints, and only then "
            "change the pinned key."
        )


def describe(key: PublicKey) -> str:
    """The key's type and fingerprint."""
    return f"{key.type} {key.fingerprint}"


def _with_origin(expectation: Expectation) -> str:
    return f"{describe(expectation.key)} ({expectation.origin})"
