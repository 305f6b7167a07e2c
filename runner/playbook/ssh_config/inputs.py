"""Connector inputs that a playbook leaves open, filled in from an SSH configuration. What it gives is not touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace

from runner.playbook.document import PositionedList, PositionedMap, shorten
from runner.playbook.inputs import DEFAULT_PORT, FilledInputs, InputProblem
from runner.playbook.jump_hosts import MAX_HOPS
from runner.playbook.ssh_config.config import SshConfig
from runner.playbook.ssh_config.hops import WrittenHop, parse_jump
from runner.playbook.ssh_config.limits import find_warnings, refuse
from runner.playbook.ssh_config.settings import HostSettings, Query, Setting
from runner.problems import Location

# What ssh reads where one of UserKnownHostsFile and GlobalKnownHostsFile is not set.
USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
# What a jump host of the configuration takes over from the host that it leads to.
SHARED_WITH_HOPS = ("connect_timeout", "keepalive_interval")


def fill_in(
    inputs: PositionedMap, config: SshConfig, workdir: str, *, has_way: bool, has_proxy: bool = False
) -> FilledInputs:
    """The inputs with what they leave open taken from `config`, in which the given `host` is looked up.

    `has_way`: the playbook says itself which jump hosts lead there. `has_proxy`: and what proxy the way begins with. Every
    value from the configuration knows its file and line. Raises `InputProblem` where going on would mean something else
    than what the configuration says.
    """
    query = Query(
        alias=_text(inputs.get("host")) or "",
        username=_given_username(inputs),
        port=_given_port(inputs),
        host_key_alias=_text(inputs.get("host_key_alias")),
        has_jump=has_way,
    )
    if not query.alias:
        return FilledInputs(inputs)
    filled = FilledInputs(PositionedMap(inputs.location))
    for key in inputs:
        if key != "ssh_config":
            filled.inputs.take(key, inputs)
    _fill(filled, query, config, workdir, (), has_proxy=has_proxy)
    return filled


def _fill(
    filled: FilledInputs, query: Query, config: SshConfig, workdir: str, behind: tuple[str, ...], *, has_proxy: bool
) -> None:
    """Take everything that is open from `config`. `behind` are the hosts that this one leads to.

    `has_proxy`: the playbook says what proxy the way begins with, if any.
    """
    answer = config.look_up(query)
    settings = answer.settings
    if query.username:
        settings = replace(settings, username=Setting(query.username, filled.inputs.location))
    refuse(settings, query.alias, filled.inputs, has_proxy=has_proxy)
    filled.warnings += [*answer.warnings, *find_warnings(settings, query.alias, filled.inputs)]
    _fill_address(filled.inputs, settings)
    _fill_login(filled.inputs, settings, workdir)
    _fill_host_key(filled.inputs, settings, workdir)
    if settings.proxy_jump:
        _fill_way(filled, settings.proxy_jump, config, workdir, (*behind, query.alias), has_proxy=has_proxy)
    where = f"for '{shorten(query.alias)}' in {config.shown}"
    filled.hints = {
        "authentication": f"There is no IdentityFile {where}. Set one there, or 'authentication' in the playbook.",
        "username": f"There is no User {where}. Set one there, or 'username' under 'authentication' in the playbook.",
    }


# --- what is given ---


def _text(value: object) -> str | None:
    """A value that is text. Anything else is the schema's business."""
    return value if isinstance(value, str) else None


def _given_username(inputs: PositionedMap) -> str | None:
    authentication = inputs.get("authentication")
    return _text(authentication.get("username")) if isinstance(authentication, PositionedMap) else None


def _given_port(inputs: PositionedMap) -> int | None:
    if "port" not in inputs:
        return None
    port = inputs["port"]
    if isinstance(port, PositionedMap):
        port = port.get("port_number")
    return port if isinstance(port, int) else DEFAULT_PORT


# --- what is filled in ---


def _put(target: PositionedMap, key: str, value: object, location: Location) -> None:
    if key not in target:
        target.put(key, value, location, location)


def _fill_address(inputs: PositionedMap, settings: HostSettings) -> None:
    if settings.host:
        inputs.put("host", settings.host.value, inputs.key_locations["host"], settings.host.location)
    if settings.port:
        _put(inputs, "port", int(settings.port.value), settings.port.location)
    if settings.host_key_alias:
        _put(inputs, "host_key_alias", settings.host_key_alias.value, settings.host_key_alias.location)


def _fill_login(inputs: PositionedMap, settings: HostSettings, workdir: str) -> None:
    """The user's name, and the key that the configuration names if the playbook names no way to log in."""
    if "authentication" not in inputs and settings.identity_files:
        key = _first_that_exists(settings.identity_files, workdir)
        login = PositionedMap(key.location)
        _put(login, "authentication_method", "ssh_key_file", key.location)
        _put(login, "ssh_key_file", key.value, key.location)
        if settings.certificate_files:
            certificate = _first_that_exists(settings.certificate_files, workdir)
            _put(login, "certificate_file", certificate.value, certificate.location)
        _put(inputs, "authentication", login, key.location)
    given = inputs.get("authentication")
    if isinstance(given, PositionedMap) and settings.username:
        named = PositionedMap(given.location)
        for part in given:
            named.take(part, given)
        _put(named, "username", settings.username.value, settings.username.location)
        inputs["authentication"] = named


def _first_that_exists(files: Sequence[Setting], workdir: str) -> Setting:
    """The first of the files that is there, else the first: the error about it is then the usual one."""
    found = [replace(one, value=os.path.join(workdir, one.value)) for one in files]
    return next((one for one in found if os.path.exists(one.value)), found[0])


def _fill_host_key(inputs: PositionedMap, settings: HostSettings, workdir: str) -> None:
    """The known_hosts files, the user's and the system's, if the configuration names some of them."""
    users, systems = settings.user_known_hosts_files, settings.system_known_hosts_files
    if "hostkey" in inputs or (users is None and systems is None):
        return
    place = next((one.location for one in (*(users or ()), *(systems or ()))), inputs.value_locations["host"])
    named = [
        *([Setting(name, place) for name in USER_KNOWN_HOSTS] if users is None else users),
        *([Setting(name, place) for name in SYSTEM_KNOWN_HOSTS] if systems is None else systems),
    ]
    files = [replace(one, value=os.path.join(workdir, os.path.expanduser(one.value))) for one in named]
    # As for ssh, one that is missing says nothing. If all are, the refusal names what was looked for.
    existing = [one for one in files if _exists(one)]
    names = PositionedList(place)
    for one in existing or files[: len(users or ())] or [Setting(os.devnull, place)]:
        names.add(one.value, one.location)
    hostkey = PositionedMap(place)
    _put(hostkey, "hostkey_mode", "known_hosts_file", place)
    _put(hostkey, "known_hosts_file", names, place)
    _put(inputs, "hostkey", hostkey, place)


def _exists(file: Setting) -> bool:
    """Whether a file is there. Raises `InputProblem` for a pipe or a device, which need not end; /dev/null does."""
    try:
        mode = os.stat(file.value).st_mode
    except OSError:
        return False
    if not stat.S_ISREG(mode) and file.value != os.devnull:
        raise InputProblem(file.location, f"the known_hosts file {shorten(file.value)} is not a file")
    return True


# --- the way ---


def _fill_way(
    filled: FilledInputs, jump: Setting, config: SshConfig, workdir: str, behind: tuple[str, ...], *, has_proxy: bool
) -> None:
    """The jump hosts, each looked up in the same configuration."""
    for index, hop in enumerate(parse_jump(jump)):
        if hop.alias in behind:
            circle = " → ".join([*behind[behind.index(hop.alias) :], hop.alias])
            hint = "A host that needs no jump host, whatever other blocks say, has 'ProxyJump none' before them."
            raise InputProblem(jump.location, f"'ProxyJump' leads in a circle: {shorten(circle)}", hint)
        # The first one may need others. ssh reaches a later one from the one before it, whatever its own block says.
        reached = _fill_hop(
            filled.inputs, hop, jump, config, workdir, behind, has_way=index > 0, has_proxy=has_proxy and index == 0
        )
        filled.way += [*reached.way, (hop.alias, reached.inputs)]
        filled.warnings += reached.warnings
        if len(filled.way) > MAX_HOPS:
            raise InputProblem(jump.location, f"'ProxyJump' leads through more than {MAX_HOPS} jump hosts")


def _fill_hop(
    target: PositionedMap,
    hop: WrittenHop,
    jump: Setting,
    config: SshConfig,
    workdir: str,
    behind: tuple[str, ...],
    *,
    has_way: bool,
    has_proxy: bool,
) -> FilledInputs:
    reached = FilledInputs(PositionedMap(jump.location))
    _put(reached.inputs, "host", hop.alias, jump.location)
    if hop.port is not None:
        _put(reached.inputs, "port", hop.port, jump.location)
    for key in SHARED_WITH_HOPS:
        if key in target:
            reached.inputs.take(key, target)
    query = Query(hop.alias, hop.username, hop.port, has_jump=has_way)
    _fill(reached, query, config, workdir, behind, has_proxy=has_proxy)
    login = reached.inputs.get("authentication")
    if login is None or "username" not in login:
        # Here only the configuration can say it.
        lacking = "IdentityFile" if login is None else "User"
        hint = "Set it there, or name the jump hosts in the playbook: 'proxy_jump'."
        raise InputProblem(
            jump.location, f"the jump host '{shorten(hop.alias)}' has no {lacking} in {config.shown}", hint
        )
    return reached
