"""Looks at what a play logs in with, and at what tells it the hosts, before anything is contacted.

Keys are read and decrypted, certificates and known_hosts files read: what could not be used later is a problem of the
playbook now. What an agent holds, and whether a server accepts any of it, only the play can tell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runner.errors import CredentialUnusable
from runner.logins import Login, LoginReport
from runner.plan import KnownHosts, SshKey, SshKeyFile
from runner.problems import Location, Problem

if TYPE_CHECKING:
    from runner.ssh.private_keys import PrivateKey


def look_at_logins(logins: Sequence[Login]) -> LoginReport:
    """What is wrong with these logins. The keys that were decrypted are not decrypted again by what connects."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    seen = set[object]()
    for login in logins:
        # Many steps share one.
        places = tuple(login.places.items())
        for given, look in ((login.authentication, _look_at_keys), (login.host_key_policy, _look_at_known_hosts)):
            mark = (given, places, login.unknown)
            if given is not None and mark not in seen:
                seen.add(mark)
                for found in look(login):
                    (problems if found.is_certain else warnings).append(found.problem)
    return LoginReport(tuple(problems), tuple(warnings))


class _Finding(NamedTuple):
    """What is wrong, or may be."""

    problem: Problem
    is_certain: bool = True


# --- keys ---


def _look_at_keys(login: Login) -> Iterator[_Finding]:
    """What is wrong with a key and its certificate."""
    match login.authentication:
        case SshKey() if not login.unknown & {"ssh_key"}:
            yield from _look_at_key(login, "ssh_key", lambda: _parse(login))
        case SshKeyFile() if login.knows_workdir and not login.unknown & {"ssh_key_file"}:
            yield from _look_at_key(login, "ssh_key_file", lambda: _read(login))
            if login.authentication.certificate_path is not None and not login.unknown & {"certificate_file"}:
                yield from _look_at_certificate(login, login.authentication)


def _look_at_key(login: Login, key: str, load: Callable[[], PrivateKey]) -> Iterator[_Finding]:
    try:
        load()
    except CredentialUnusable as error:
        about = error.about or key
        # A passphrase that is not known yet may be the right one.
        if about != "passphrase" or "passphrase" not in login.unknown:
            yield _Finding(Problem(_place(login, about, key), error.message, error.hint))


def _parse(login: Login) -> PrivateKey:
    from runner.ssh.private_keys import INLINE_KEY, parse_private_key

    given = login.authentication
    assert isinstance(given, SshKey)
    return parse_private_key(given.ssh_key, given.passphrase, INLINE_KEY)


def _read(login: Login) -> PrivateKey:
    from runner.ssh.private_keys import read_private_key

    given = login.authentication
    assert isinstance(given, SshKeyFile)
    return read_private_key(given.key_path, given.passphrase, None)


def _look_at_certificate(login: Login, given: SshKeyFile) -> Iterator[_Finding]:
    """A certificate is looked at on its own where the key cannot be used."""
    from runner.ssh.private_keys import read_certificate
    from runner.ssh.user_certificates import find_faults

    assert given.certificate_path is not None
    place = _place(login, "certificate_file", "ssh_key_file")
    try:
        key = _read(login).public
    except CredentialUnusable:
        key = None
    try:
        certificate = read_certificate(given.certificate_path, key, given.key_path)
    except CredentialUnusable as error:
        yield _Finding(Problem(place, error.message, error.hint))
        return
    username = "" if "username" in login.unknown else given.username
    for fault in find_faults(certificate, username, time.time()):
        if fault.is_certain:
            message = f"the certificate file {given.certificate_path} cannot be used: {fault.reason}"
            yield _Finding(Problem(place, message, "Have a new one signed, or name another file."))
        else:
            message = (
                f"the certificate file {given.certificate_path} may not let {username or 'the user'} in: {fault.reason}"
            )
            yield _Finding(Problem(place, message), is_certain=False)


# --- known hosts ---


def _look_at_known_hosts(login: Login) -> Iterator[_Finding]:
    """Files that are named must be there. That no line is about the host is found when it is to be contacted."""
    policy = login.host_key_policy
    if not isinstance(policy, KnownHosts) or not login.knows_workdir:
        return
    for path, place in zip(policy.paths, policy.places, strict=False):
        if path == os.devnull:
            continue
        try:
            _read_some(path)
        except OSError as error:
            hint = "Create it with the lines that `runner hostkey HOST` prints, once they are checked; or correct the path."
            yield _Finding(Problem(place, f"cannot read the known_hosts file {path}: {error.strerror}", hint))


def _read_some(path: str) -> None:
    """Raises `OSError` if a known_hosts file cannot be read."""
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            stream.read(1)
    else:
        from runner.ssh.known_hosts import read_known_hosts

        read_known_hosts(path)


def _place(login: Login, key: str, otherwise: str) -> Location:
    return login.places.get(key) or login.places[otherwise]
