"""Valid connector inputs to the values of `runner.plan`: the server and the login. `modes.py` reads what to do there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, TypeVar

from runner.one_time_codes import parse_totp_secret
from runner.plan import (
    Answers,
    Authentication,
    Endpoint,
    Fingerprints,
    Hop,
    HostKeyPolicy,
    KnownHosts,
    PinnedKeys,
    Proxy,
    SshAgent,
    SshKey,
    SshKeyFile,
    UsernamePassword,
)
from runner.playbook.document import PositionedList, PositionedMap, Unfilled, is_encodable
from runner.playbook.validation import BANDWIDTH_HINT, show
from runner.problems import Location, Problem
from runner.public_keys import find_user_key, is_fingerprint, parse_pinned_key

DEFAULT_PORT = 22
DEFAULT_KEEPALIVE_INTERVAL_SECONDS = 15
MIN_BANDWIDTH_BYTES = 1024
MAX_BANDWIDTH_BYTES = 1 << 40

_BANDWIDTH = re.compile(r"([0-9]{1,15}(?:[.][0-9]{1,9})?)([KMG]?)")

# RFC 1929 section 2: each has one byte for its length.
MAX_SOCKS_LOGIN_BYTES = 255

# What a host is reached through that is to be reached directly, whatever the defaults say.
DIRECT = Proxy("none", "", 0)

Value = TypeVar("Value")
Tell = Callable[[Problem], None]


class InputProblem(Exception):
    """An input that the schema admits and that still means nothing."""

    def __init__(self, location: Location, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(location, message, hint)


def attempt(tell: Tell, read: Callable[..., Value], *arguments: Any) -> Value | None:
    """What `read` gives; None if it finds a problem, which is told."""
    try:
        return read(*arguments)
    except InputProblem as error:
        tell(error.problem)
        return None


def text_at(given: PositionedMap, key: str) -> str | None:
    """The text of a key; None if there is none, if the schema refuses it, or if it could not be filled in."""
    value = given.get(key)
    return value if isinstance(value, str) and value and not isinstance(value, Unfilled) else None


def read_endpoint(
    inputs: PositionedMap, authentication: Authentication | None, policy: HostKeyPolicy | None, tell: Tell
) -> Endpoint | None:
    """The server and the way to log in. None if something in it means nothing; what the schema has not found is told."""
    host = attempt(tell, _read_host, inputs, "the user belongs into 'authentication', the port into 'port'")
    proxy = attempt(tell, _read_proxy, inputs)
    alias = attempt(tell, _read_host_key_alias, inputs)
    limit = attempt(tell, _read_bandwidth_limit, inputs)
    if host is None or authentication is None or policy is None:
        return None
    return Endpoint(
        host=host,
        port=_read_port(inputs),
        authentication=authentication,
        host_key_policy=policy,
        keepalive_interval_seconds=read_seconds(inputs, "keepalive_interval", DEFAULT_KEEPALIVE_INTERVAL_SECONDS),
        host_key_alias=alias,
        bandwidth_limit_bytes_per_second=limit,
        proxy=proxy,
        runs_commands=inputs.get("commands") != "never",
        legacy_algorithms=tuple(name for name, _ in _strings(inputs, "legacy_algorithms")),
    )


def lead_through(endpoint: Endpoint, hops: Sequence[Hop]) -> Endpoint:
    """The endpoint behind its jump hosts. What the first of all proxies is, counts for the whole way.

    A jump host that says how it is reached is reached so; otherwise the host that it leads to says it.
    """
    said = [one.proxy for one in (*(hop.endpoint for hop in hops), endpoint) if one.proxy is not None]
    proxy = said[0] if said and said[0] != DIRECT else None
    if not hops:
        return replace(endpoint, proxy=proxy)
    way = [replace(hop, endpoint=replace(hop.endpoint, proxy=None)) for hop in hops]
    way[0] = replace(way[0], endpoint=replace(way[0].endpoint, proxy=proxy))
    return replace(endpoint, proxy=None, proxy_jump=tuple(way))


def _read_proxy(inputs: PositionedMap) -> Proxy | None:
    given = inputs.get("proxy")
    if not isinstance(given, PositionedMap):
        return None
    for key, value in given.items():
        _refuse_no_text(key, value, given.value_locations[key])
    kind = given.get("type")
    if kind == "none":
        return DIRECT
    host = _read_host(given, "the port belongs into 'port', a login into 'username' and 'password'")
    port, username, password = given.get("port"), _given_text(given, "username"), _given_text(given, "password")
    if host is None or kind not in ("socks5", "http") or not isinstance(port, int | float):
        return None
    _check_proxy_login(given, kind, username, password)
    return Proxy(kind, host, int(port), username, password)


def _check_proxy_login(given: PositionedMap, kind: str, username: str | None, password: str | None) -> None:
    """Raise `InputProblem` for what the protocol cannot carry."""
    if password is not None and username is None:
        hint = "Set 'username' as well."
        raise InputProblem(given.value_locations["password"], "the proxy has a 'password' and no 'username'", hint)
    for key, text in (("username", username), ("password", password)):
        if kind == "socks5" and text is not None and len(text.encode()) > MAX_SOCKS_LOGIN_BYTES:
            message = f"'{key}' is longer than the {MAX_SOCKS_LOGIN_BYTES} bytes that SOCKS5 can carry"
            raise InputProblem(given.value_locations[key], message)
    if kind == "http" and username is not None and ":" in username:
        message = f"a username with a ':' cannot be sent to an HTTP proxy: {show(username)}"
        raise InputProblem(given.value_locations["username"], message, "HTTP ends it there (RFC 7617).")


def _read_host(inputs: PositionedMap, others: str) -> str | None:
    """The name or address under 'host'. `others` says where what does not belong there belongs."""
    host = text_at(inputs, "host")
    if host is None:
        return None
    is_odd = host.startswith("-") or any(character.isspace() or not character.isprintable() for character in host)
    if is_odd or "/" in host or "@" in host or host.count(":") == 1:
        hint = f"Only the name or address stands here: {others}."
        raise InputProblem(inputs.value_locations["host"], f"{show(host)} is not a host name or IP address", hint)
    return host.removeprefix("[").removesuffix("]")


def read_seconds(inputs: PositionedMap, key: str, default: int) -> int:
    """A length of time. JSON Schema counts 30.0 among the integers, the plan does not. What is no number is the schema's."""
    given = inputs.get(key, default)
    return int(given) if isinstance(given, int | float) else default


@dataclass(slots=True)
class FilledInputs:
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
    if not isinstance(given, str) or not given or isinstance(given, Unfilled):
        return False
    return _local_path(inputs, "ssh_config", workdir) or False


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
    return int(port) if isinstance(port, int | float) else DEFAULT_PORT


def _read_host_key_alias(inputs: PositionedMap) -> str | None:
    alias = text_at(inputs, "host_key_alias")
    if alias is None:
        return None
    if any(character.isspace() or not character.isprintable() or character == "," for character in alias):
        hint = "Expected one name, as it stands in known_hosts or in the host's certificate."
        raise InputProblem(inputs.value_locations["host_key_alias"], f"{show(alias)} is not a host's name", hint)
    return alias


def _read_bandwidth_limit(inputs: PositionedMap) -> int | None:
    """Bytes per second of a number, or of text such as `1.5M`."""
    given = inputs.get("bandwidth_limit")
    if not isinstance(given, str):
        return int(given) if isinstance(given, int | float) else None
    written = _BANDWIDTH.fullmatch(given.strip().upper())
    if written is None:
        return None
    rate = int(Decimal(written[1]) * 1024 ** " KMG".index(written[2] or " "))
    if not MIN_BANDWIDTH_BYTES <= rate <= MAX_BANDWIDTH_BYTES:
        message = f"'bandwidth_limit' must be from 1K to 1024G bytes per second, not {show(given)}"
        raise InputProblem(inputs.value_locations["bandwidth_limit"], message, BANDWIDTH_HINT)
    return rate


def read_authentication(given: Any, workdir: str, tell: Tell) -> Authentication | None:
    """The login. None if it cannot be told; everything that means nothing is told, but for what the schema finds.

    What could not be filled in is left as it is written: a step with it is not carried out.
    """
    if not isinstance(given, PositionedMap):
        return None
    for key, value in given.items():
        attempt(tell, _refuse_no_text, key, value, given.value_locations[key])
    path = attempt(tell, _local_path, given, "ssh_key_file", workdir)
    certificate_path = attempt(tell, _local_path, given, "certificate_file", workdir)
    username, password, passphrase = (_given_text(given, key) for key in ("username", "password", "passphrase"))
    answers = _read_answers(given, tell)
    match given.get("authentication_method"):
        case "username_password":
            return UsernamePassword(username or "", password or "", answers)
        case "ssh_key" if text := _given_text(given, "ssh_key"):
            return SshKey(username or "", text, passphrase, password, answers)
        case "ssh_key_file" if path is not None:
            return SshKeyFile(username or "", path, passphrase, certificate_path, password, answers)
        case "ssh_agent":
            public_key = text_at(given, "public_key")
            if public_key:
                hint = "Expected what stands in the key's .pub file; `ssh-add -L` prints the agent's."
                attempt(tell, _check_key, find_user_key, public_key, given.value_locations["public_key"], hint)
            return SshAgent(username or "", public_key, password, answers)
    return None


def _read_answers(given: PositionedMap, tell: Tell) -> Answers:
    """What the server's questions are answered with besides the password."""
    secret = text_at(given, "totp_secret")
    if secret is not None:
        attempt(tell, _check_totp_secret, secret, given.value_locations["totp_secret"])
    written = given.get("answers")
    patterns: list[tuple[str, str]] = []
    if not isinstance(written, PositionedMap):
        return Answers(secret)
    for pattern, answer in written.items():
        if not isinstance(answer, str):
            continue
        attempt(tell, _refuse_no_text, "answers", answer, written.value_locations[pattern])
        if not pattern.strip():
            message = "an empty pattern in 'answers' fits no question"
            tell(
                Problem(
                    written.key_locations[pattern], message, "'*' fits every question, '*pin*' those with that word."
                )
            )
        patterns.append((pattern, answer))
    return Answers(secret, tuple(patterns))


def _check_totp_secret(secret: str, location: Location) -> None:
    try:
        parse_totp_secret(secret)
    except ValueError as error:
        hint = (
            "Expected what the server showed beside the QR code, such as JBSWY3DPEHPK3PXP, or its otpauth:// address."
        )
        raise InputProblem(location, f"'totp_secret' cannot be used: {error}", hint) from error


def _given_text(given: PositionedMap, key: str) -> str | None:
    value = given.get(key)
    return value if isinstance(value, str) else None


def _refuse_no_text(key: str, value: object, location: Location) -> None:
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        hint = "Store it as UTF-8; the environment and files are read as such."
        raise InputProblem(location, f"'{key}' is not UTF-8 text", hint)


def read_host_key_policy(given: Any, workdir: str, tell: Tell) -> HostKeyPolicy | None:
    """What says which key the host must show. Otherwise as `read_authentication`."""
    if given is None:
        return KnownHosts()
    if not isinstance(given, PositionedMap):
        return None
    match given.get("hostkey_mode"):
        case "known_host":
            return PinnedKeys(*_read_pinned_lines(given, tell))
        case "fingerprint":
            return Fingerprints(*_read_fingerprints(given, tell))
        case "known_hosts_file":
            return KnownHosts(*_read_known_hosts_files(given, workdir, tell))
    return None


def _read_known_hosts_files(
    given: PositionedMap, workdir: str, tell: Tell
) -> tuple[tuple[str, ...], tuple[Location, ...]]:
    paths, places = [], []
    for name, location in _strings(given, "known_hosts_file"):
        attempt(tell, check_path, "known_hosts_file", name, location)
        paths.append(local_path(name, workdir))
        places.append(location)
    return tuple(paths), tuple(places)


def _read_pinned_lines(given: PositionedMap, tell: Tell) -> tuple[tuple[str, ...], tuple[Location, ...]]:
    lines, places = [], []
    texts = _strings(given, "known_host")
    for text, location in texts:
        for line in text.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                attempt(tell, _check_key, parse_pinned_key, line, location, _HOSTKEY_HINT)
                lines.append(line.strip())
                places.append(location)
    if texts and not lines:
        tell(Problem(given.value_locations["known_host"], "'known_host' holds no key", _HOSTKEY_HINT))
    return tuple(lines), tuple(places)


def _read_fingerprints(given: PositionedMap, tell: Tell) -> tuple[tuple[str, ...], tuple[Location, ...]]:
    fingerprints, places = [], []
    for text, location in _strings(given, "fingerprint"):
        if not is_fingerprint(text.strip()):
            hint = "Expected 'SHA256:' and 43 characters, as `ssh-keygen -lf KEY.pub` prints it; MD5 is not accepted."
            tell(Problem(location, f"{show(text)} is not a SHA256 fingerprint", hint))
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
    """The texts of a key, without what the schema refuses and what could not be filled in."""
    value = given.get(key)
    if isinstance(value, PositionedList):
        found = list(zip(value, value.item_locations, strict=True))
    else:
        found = [(value, given.value_locations[key])] if key in given else []
    return [(text, place) for text, place in found if isinstance(text, str) and text and not isinstance(text, Unfilled)]


def _local_path(given: PositionedMap, key: str, workdir: str) -> str | None:
    name = text_at(given, key)
    if name is None:
        return None
    check_path(key, name, given.value_locations[key])
    return local_path(name, workdir)


def check_path(key: str, name: str, location: Location) -> None:
    """Raise `InputProblem` for what can be no path anywhere."""
    if "\0" in name or not is_encodable(name):
        raise InputProblem(location, f"'{key}' contains a character that no path can contain: {show(name)}")
