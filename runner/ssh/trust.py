"""What is known about a host before it is asked: which keys it may show, who may vouch for it, and where that is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from itertools import zip_longest
from typing import NamedTuple

from runner.errors import HostKeyRefused
from runner.plan import Endpoint, Fingerprints, KnownHosts, PinnedKeys
from runner.problems import Location
from runner.public_keys import KEY_TYPES, PublicKey, parse_pinned_key
from runner.ssh.known_hosts import Entry, default_files, find_entries, lower, read_known_hosts
from runner.values import dataclass

PLAYBOOK = "the playbook's hostkey"


class Expectation(NamedTuple):
    """A key that counts for the host, and where that is written: in a file's line, or at a place of the playbook."""

    key: PublicKey
    origin: str
    place: Location | None = None

    @property
    def trusted_by(self) -> str:
        """What to say when the host has shown this key."""
        return tell_place(self.origin, self.place)


@dataclass(frozen=True, slots=True)
class Trust:
    """Everything that is known about a host.

    `keys` and `authorities` hold no revoked key. `foreign_types` are those of keys that are known and cannot be verified.
    `elsewhere` are the lines of the same files that are about other names.
    """

    keys: tuple[Expectation, ...] = ()
    authorities: tuple[Expectation, ...] = ()
    revoked: tuple[Expectation, ...] = ()
    fingerprints: tuple[str, ...] = ()
    fingerprint_places: tuple[Location, ...] = ()
    sources: tuple[str, ...] = (PLAYBOOK,)
    warnings: tuple[str, ...] = ()
    foreign_types: tuple[str, ...] = ()
    elsewhere: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def types(self) -> frozenset[str]:
        """The types of the host's keys."""
        return frozenset(one.key.type for one in self.keys)

    def find_revocation(self, key: PublicKey) -> Expectation | None:
        return next((one for one in self.revoked if one.key == key), None)

    def find_key(self, key: PublicKey) -> Expectation | None:
        return next((one for one in self.keys if one.key == key), None)

    def find_fingerprint(self, fingerprint: str) -> str:
        """What to say when the host has shown a key with this fingerprint; nothing if it is not expected."""
        expected = zip_longest(self.fingerprints, self.fingerprint_places)
        return next((tell_place(PLAYBOOK, place) for one, place in expected if one == fingerprint), "")

    def find_authority(self, key: PublicKey) -> Expectation | None:
        return next((one for one in self.authorities if one.key == key), None)


def tell_place(origin: str, place: Location | None) -> str:
    """`the playbook's hostkey, play.yaml:12:7`; a line of a known_hosts file has its place in its name."""
    return f"{origin}, {place}" if place else origin


def known_name(endpoint: Endpoint) -> str:
    """The name that a certificate must be for: the host's, without port, or its alias."""
    return lower(endpoint.host if endpoint.host_key_alias is None else endpoint.host_key_alias)


def gather_trust(endpoint: Endpoint, scan_command: str) -> Trust:
    """What the endpoint's policy says. Raises `HostKeyRefused` for a known_hosts file that cannot be read.

    `scan_command` is what the error advises to run.
    """
    match endpoint.host_key_policy:
        case PinnedKeys(lines, places):
            pinned = [(parse_pinned_key(line), place) for line, place in zip_longest(lines, places)]
            return Trust(
                keys=tuple(Expectation(one.key, PLAYBOOK, place) for one, place in pinned if not one.is_authority),
                authorities=tuple(Expectation(one.key, PLAYBOOK, place) for one, place in pinned if one.is_authority),
            )
        case Fingerprints(fingerprints, places):
            return Trust(fingerprints=fingerprints, fingerprint_places=places)
        case KnownHosts(paths=paths):
            return _read_files(endpoint, list(paths) or default_files(), scan_command)


def _read_files(endpoint: Endpoint, files: list[str], scan_command: str) -> Trust:
    entries: list[Entry] = []
    warnings: list[str] = []
    for file in files:
        try:
            content = read_known_hosts(file)
        except OSError as error:
            raise HostKeyRefused(
                f"cannot read the known_hosts file {file}: {error.strerror}",
                hint=f"Create it with the lines that {scan_command} prints, once they are checked.",
            ) from error
        entries += content.entries
        warnings += content.warnings
    found = find_entries(entries, endpoint.host, endpoint.port, endpoint.host_key_alias)
    revoked = {entry.key for entry in found if entry.is_revoked}
    # As in OpenSSH a revoked key is not even asked for, so that the server may prove itself by another one.
    usable = [entry for entry in found if entry.key not in revoked and entry.key.type in KEY_TYPES]
    return Trust(
        keys=_expect(entry for entry in usable if not entry.marker),
        authorities=_expect(entry for entry in usable if entry.is_authority),
        revoked=_expect(entry for entry in found if entry.is_revoked),
        sources=tuple(files) or ("~/.ssh/known_hosts",),
        warnings=tuple(warnings),
        foreign_types=tuple(dict.fromkeys(entry.key.type for entry in found if entry.key.type not in KEY_TYPES)),
        elsewhere=tuple(entry for entry in entries if not entry.marker and entry not in found),
    )


def _expect(entries: Iterable[Entry]) -> tuple[Expectation, ...]:
    return tuple(Expectation(entry.key, entry.origin) for entry in entries)
