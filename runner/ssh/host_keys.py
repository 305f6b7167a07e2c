"""Decides whether a server's host key is the expected one. This is where a connection is refused.

The check runs after key exchange and before authentication: a refused server has seen no credential.
"""

from __future__ import annotations

from dataclasses import dataclass

import paramiko

from runner.errors import HostKeyRefused
from runner.plan import Endpoint, Fingerprints, KnownHosts, PinnedKeys
from runner.public_keys import KEY_TYPES, PublicKey, find_public_key
from runner.ssh.known_hosts import Entry, default_files, find_entries, read_known_hosts

# Which signature algorithms prove possession of a key of each type (RFC 8332 for RSA; SHA-1 is not accepted).
ALGORITHMS = {name: (name,) for name in KEY_TYPES} | {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}

ALL_ALGORITHMS = tuple(algorithm for name in KEY_TYPES for algorithm in ALGORITHMS[name])
MAX_WARNINGS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Expectation:
    """A key that the server may show, and where that is written."""

    key: PublicKey
    origin: str


class HostKeyCheck(paramiko.MissingHostKeyPolicy):
    """Accepts the host keys that an endpoint's policy names, and no other.

    It is installed as the client's policy for missing keys; the client itself is given no known hosts, so every key is
    missing to it and comes here.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.trusted_by = ""
        self.shown: PublicKey | None = None
        self.warnings: tuple[str, ...] = ()
        self._revoked: frozenset[bytes] = frozenset()
        self._fingerprints: tuple[str, ...] = ()
        self._expected: list[Expectation] = []
        self._sources: list[str] = []
        match endpoint.host_key_policy:
            case PinnedKeys(lines):
                self._expected = [Expectation(find_public_key(line), "the playbook's hostkey") for line in lines]
                self._sources = ["the playbook's hostkey"]
            case Fingerprints(fingerprints):
                self._fingerprints = fingerprints
                self._sources = ["the playbook's hostkey"]
            case KnownHosts(path):
                self._read_known_hosts(path)

    def _read_known_hosts(self, path: str | None) -> None:
        files = default_files() if path is None else [path]
        entries: list[Entry] = []
        for file in files:
            try:
                content = read_known_hosts(file)
            except OSError as error:
                raise HostKeyRefused(
                    f"cannot read the known_hosts file {file}: {error.strerror}",
                    hint=f"Create it with the lines that {self._scan_command} prints, once they are checked.",
                ) from error
            entries += content.entries
            self.warnings += content.warnings
        found = find_entries(entries, self._endpoint.host, self._endpoint.port)
        self._revoked = frozenset(entry.key.blob for entry in found if entry.is_revoked)
        # As in OpenSSH a revoked key is not even asked for, so that the server may prove itself by another one.
        self._expected = [
            Expectation(entry.key, entry.origin) for entry in found if entry.key.blob not in self._revoked
        ]
        self._sources = files or ["~/.ssh/known_hosts"]

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The host key algorithms to offer: exactly those of the known keys, so that the server shows one of them.

        A fingerprint does not tell the type, so all are offered. Raises `HostKeyRefused` if no key is known at all:
        there is no point in connecting then.
        """
        if self._fingerprints:
            return ALL_ALGORITHMS
        types = {expectation.key.type for expectation in self._expected}
        if not types:
            raise HostKeyRefused(
                f"the host {self._endpoint} is not known: no {'valid ' if self._revoked else ''}key for it in "
                f"{', '.join(self._sources)}{self._describe_revoked()}{self._describe_warnings()}; nothing was sent to it",
                hint=f"Get its keys with {self._scan_command}, check them with the server's operator, and pin them "
                "under 'hostkey' or in the known_hosts file.",
            )
        return tuple(algorithm for name in KEY_TYPES if name in types for algorithm in ALGORITHMS[name])

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        """Called by the client with the key that the server has proven to hold. Returns only if it is trusted."""
        shown = PublicKey(key.get_name(), key.asbytes())
        self.shown = shown
        if shown.blob in self._revoked:
            raise HostKeyRefused(
                f"{self._endpoint} showed a revoked host key: {_describe(shown)}",
                hint="The key is marked @revoked in known_hosts: do not connect before its owner has explained why.",
            )
        for expectation in self._expected:
            if expectation.key.blob == shown.blob:
                self.trusted_by = expectation.origin
                return
        if shown.fingerprint in self._fingerprints:
            self.trusted_by = "the playbook's hostkey"
            return
        raise self._refusal(shown)

    def refuse_negotiation(self) -> HostKeyRefused:
        """The error for a server that has no key of the expected types at all."""
        return HostKeyRefused(
            f"{self._endpoint} has no host key of an expected type; no credential was sent. "
            f"Expected {self._describe_expected()}{self._describe_warnings()}",
            hint=self._mismatch_hint,
        )

    def _refusal(self, shown: PublicKey) -> HostKeyRefused:
        return HostKeyRefused(
            f"the host key of {self._endpoint} is not the expected one; no credential was sent. "
            f"The server showed {_describe(shown)} (unverified); expected {self._describe_expected()}"
            f"{self._describe_warnings()}",
            hint=self._mismatch_hint,
        )

    def _describe_expected(self) -> str:
        if self._fingerprints:
            return f"{' or '.join(self._fingerprints)} ({self._sources[0]})"
        return " or ".join(f"{_describe(one.key)} ({one.origin})" for one in self._expected)

    def _describe_revoked(self) -> str:
        count = len(self._revoked)
        return f" ({count} marked @revoked)" if count else ""

    def _describe_warnings(self) -> str:
        """The lines that could not be read: the missing key may stand in one of them."""
        if not self.warnings:
            return ""
        shown = "; ".join(self.warnings[:MAX_WARNINGS_SHOWN])
        more = len(self.warnings) - MAX_WARNINGS_SHOWN
        return f" ({shown}{f'; and {more} more' if more > 0 else ''})"

    @property
    def _mismatch_hint(self) -> str:
        return (
            "Either the key was changed on purpose, or this is another machine, or somebody is in between. Ask the "
            f"server's operator for the new fingerprint, compare it with what {self._scan_command} prints, and only then "
            "change the pinned key."
        )

    @property
    def _scan_command(self) -> str:
        port = "" if self._endpoint.port == 22 else f":{self._endpoint.port}"
        host = f"[{self._endpoint.host}]" if ":" in self._endpoint.host else self._endpoint.host
        return f"`runner hostkey {host}{port}`"


def _describe(key: PublicKey) -> str:
    return f"{key.type} {key.fingerprint}"
