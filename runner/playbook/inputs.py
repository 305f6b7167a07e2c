"""Valid connector inputs to the values of `runner.plan`: the server and the login. `modes.py` reads what to do there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from runner.plan import (
    Authentication,
    Endpoint,
    Fingerprints,
    HostKeyPolicy,
    KnownHosts,
    PinnedKeys,
    SshAgent,
    SshKey,
    SshKeyFile,
    UsernamePassword,
)
from runner.playbook.document import PositionedList, PositionedMap, is_encodable
from runner.playbook.validation import BANDWIDTH_HINT, show
from runner.problems import Location, Problem
from runner.public_keys import find_user_key, is_fingerprint, parse_pinned_key

DEFAULT_PORT = 22
DEFAULT_KEEPALIVE_INTERVAL_SECONDS = 15
MIN_BANDWIDTH_BYTES = 1024
MAX_BANDWIDTH_BYTES = 1 << 40


class InputProblem(Exception):
    """An input that the schema admits and that still means nothing."""

    def __init__(self, location: Location, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(location, message, hint)


def read_endpoint(inputs: PositionedMap, workdir: str) -> Endpoint:
    """The server and the way to log in. Raises `InputProblem`."""
    host = inputs["host"]
    is_odd = host.startswith("-") or any(character.isspace() or not character.isprintable() for character in host)
    if is_odd or "/" in host or "@" in host or host.count(":") == 1:
        hint = "Only the name or address stands here: the user belongs into 'authentication', the port into 'port'."
        raise InputProblem(inputs.value_locations["host"], f"{show(host)} is not a host name or IP address", hint)
    return Endpoint(
        host=host.removeprefix("[").removesuffix("]"),
        port=_read_port(inputs),
        authentication=_read_authentication(inputs["authentication"], workdir),
        host_key_policy=_read_host_key_policy(inputs.get("hostkey"), workdir),
        keepalive_interval_seconds=read_seconds(inputs, "keepalive_interval", DEFAULT_KEEPALIVE_INTERVAL_SECONDS),
        host_key_alias=_read_host_key_alias(inputs),
        bandwidth_limit_bytes_per_second=_read_bandwidth_limit(inputs),
    )


def read_seconds(inputs: PositionedMap, key: str, default: int) -> int:
    """A length of time. JSON Schema counts 30.0 among the integers, the plan does not."""
    return int(inputs.get(key, default))


@dataclass(slots=True)
class Filled:
    """Inputs without `ssh_config`, what to advise where a required one is still missing, and warnings.

    `way` are the jump hosts that the configuration names, each with its name there and its inputs.
    """

    inputs: PositionedMap
    way: list[tuple[str, PositionedMap]] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)


def read_ssh_config(inputs: PositionedMap, workdir: str) -> str | Literal[False] | None:
    """The SSH configuration to look the host up in: a file's path, None for the user's and the system's files, or False.

    False is also what the schema refuses. Raises `InputProblem`.
    """
    given = inputs.get("ssh_config", False)
    if given is True:
        return None
    if not isinstance(given, str) or not given:
        return False
    return _local_path(inputs, "ssh_config", workdir)


def read_workdir(value: Any, location: Location, playbook_folder: str) -> str:
    """The folder that local paths are relative to. Raises `InputProblem`."""
    name = str(value)
    check_path("workdir", name, location)
    return local_path(name, playbook_folder)


def local_path(name: str, workdir: str) -> str:
    """A local path as the playbook means it: `~` expanded, relative to `workdir`."""
    return os.path.join(workdir, os.path.expanduser(name))


def _read_port(inputs: PositionedMap) -> int:
    port = inputs.get("port", DEFAULT_PORT)
    if isinstance(port, PositionedMap):
        port = port.get("port_number", DEFAULT_PORT)
    return int(port)


def _read_host_key_alias(inputs: PositionedMap) -> str | None:
    alias: str | None = inputs.get("host_key_alias")
    if alias is None:
        return None
    if any(character.isspace() or not character.isprintable() or character == "," for character in alias):
        hint = "Expected one name, as it stands in known_hosts or in the host's certificate."
        raise InputProblem(inputs.value_locations["host_key_alias"], f"{show(alias)} is not a host's name", hint)
    return alias


def _read_bandwidth_limit(inputs: PositionedMap) -> int | None:
    """Bytes per second of a number, or of text such as `1.5M`, which the schema has found to be well formed."""
    given = inputs.get("bandwidth_limit")
    if not isinstance(given, str):
        return None if given is None else int(given)
    text = given.strip().upper()
    number = text.rstrip("KMG")
    rate = int(Decimal(number) * 1024 ** " KMG".index(text[len(number) :] or " "))
    if not MIN_BANDWIDTH_BYTES <= rate <= MAX_BANDWIDTH_BYTES:
        message = f"'bandwidth_limit' must be from 1K to 1024G bytes per second, not {show(given)}"
        raise InputProblem(inputs.value_locations["bandwidth_limit"], message, BANDWIDTH_HINT)
    return rate


def _read_authentication(given: PositionedMap, workdir: str) -> Authentication:
    for key, value in given.items():
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            hint = "Store it as UTF-8; the environment and files are read as such."
            raise InputProblem(given.value_locations[key], f"'{key}' is not UTF-8 text", hint)
    username = given["username"]
    match given["authentication_method"]:
        case "username_password":
            return UsernamePassword(username, given["password"])
        case "ssh_key":
            return SshKey(username, given["ssh_key"], given.get("passphrase"), given.get("password"))
        case "ssh_key_file":
            return SshKeyFile(
                username,
                _local_path(given, "ssh_key_file", workdir),
                given.get("passphrase"),
                _local_path(given, "certificate_file", workdir) if "certificate_file" in given else None,
                given.get("password"),
            )
        case _:
            public_key = given.get("public_key")
            if public_key:
                hint = "Expected what stands in the key's .pub file; `ssh-add -L` prints the agent's."
                _check_key(find_user_key, public_key, given.value_locations["public_key"], hint)
            return SshAgent(username, public_key)


def _read_host_key_policy(given: PositionedMap | None, workdir: str) -> HostKeyPolicy:
    if given is None:
        return KnownHosts()
    match given["hostkey_mode"]:
        case "known_host":
            return PinnedKeys(*_read_pinned_lines(given))
        case "fingerprint":
            return Fingerprints(*_read_fingerprints(given))
        case _:
            return KnownHosts(_read_known_hosts_files(given, workdir))


def _read_known_hosts_files(given: PositionedMap, workdir: str) -> tuple[str, ...]:
    if "known_hosts_file" not in given:
        return ()
    names = _strings(given, "known_hosts_file")
    for name, location in names:
        check_path("known_hosts_file", name, location)
    return tuple(local_path(name, workdir) for name, _ in names)


def _read_pinned_lines(given: PositionedMap) -> tuple[tuple[str, ...], tuple[Location, ...]]:
    lines, places = [], []
    for text, location in _strings(given, "known_host"):
        for line in text.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                _check_key(parse_pinned_key, line, location, _HOSTKEY_HINT)
                lines.append(line.strip())
                places.append(location)
    if not lines:
        raise InputProblem(given.value_locations["known_host"], "'known_host' holds no key", _HOSTKEY_HINT)
    return tuple(lines), tuple(places)


def _read_fingerprints(given: PositionedMap) -> tuple[tuple[str, ...], tuple[Location, ...]]:
    fingerprints, places = [], []
    for text, location in _strings(given, "fingerprint"):
        if not is_fingerprint(text.strip()):
            hint = "Expected 'SHA256:' and 43 characters, as `ssh-keygen -lf KEY.pub` prints it; MD5 is not accepted."
            raise InputProblem(location, f"{show(text)} is not a SHA256 fingerprint", hint)
        fingerprints.append(text.strip())
        places.append(location)
    return tuple(fingerprints), tuple(places)


_HOSTKEY_HINT = "`runner hostkey HOST:PORT` prints the lines of a server, to be checked before they are pinned."


def _check_key(parse: Callable[[str], object], line: str, location: Location, hint: str) -> None:
    try:
        parse(line)
    except ValueError as error:
        raise InputProblem(location, str(error), hint) from error


def _strings(given: PositionedMap, key: str) -> list[tuple[str, Location]]:
    value = given[key]
    if isinstance(value, PositionedList):
        return list(zip(value, value.item_locations, strict=True))
    return [(value, given.value_locations[key])]


def _local_path(given: PositionedMap, key: str, workdir: str) -> str:
    check_path(key, given[key], given.value_locations[key])
    return local_path(given[key], workdir)


def check_path(key: str, name: str, location: Location) -> None:
    """Raise `InputProblem` for what can be no path anywhere."""
    if "\0" in name or not is_encodable(name):
        raise InputProblem(location, f"'{key}' contains a character that no path can contain: {show(name)}")
