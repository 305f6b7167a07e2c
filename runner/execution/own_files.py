"""The local files that plays rest on themselves: what comes from a server must not take their place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from runner.plan import Endpoint, KnownHosts, SshKeyFile
from runner.program import Play

# The files of a policy that names none (`runner.ssh.known_hosts`, which few commands import).
_DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts"


def find_own_files(plays: Iterable[Play]) -> frozenset[str]:
    """What was read to load the plays, and what their hosts are trusted and logged in to by; absolute paths."""
    files: set[str] = set()
    for play in plays:
        files |= play.files
        for endpoint in {step.endpoint for step in play.calls}:
            files.update(_files_of(endpoint))
    return frozenset(map(os.path.abspath, files))


def _files_of(endpoint: Endpoint) -> Iterator[str]:
    match endpoint.host_key_policy:
        case KnownHosts(paths):
            yield from paths or (os.path.expanduser(_DEFAULT_KNOWN_HOSTS),)
    match endpoint.authentication:
        case SshKeyFile(key_path=key, certificate_path=certificate):
            yield key
            if certificate is not None:
                yield certificate
    for hop in endpoint.proxy_jump:
        yield from _files_of(hop.endpoint)
