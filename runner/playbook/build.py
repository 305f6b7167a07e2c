"""From a playbook's file to a `Play`: the stages in order, all problems of the file collected on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import PlaybookInvalid, UsageError
from runner.logins import Login, LookAtLogins, Selection, StepHead, trust_logins
from runner.plan import Authentication, ConnectorType, Endpoint, Hop, HostKeyPolicy, Play, Step, Target
from runner.playbook.ansible.detection import may_be_ansible
from runner.playbook.document import PositionedList, PositionedMap, Unfilled, is_unfilled, parse, read_text
from runner.playbook.inputs import (
    Filled,
    InputProblem,
    attempt,
    lead_through,
    read_authentication,
    read_endpoint,
    read_host_key_policy,
    read_seconds,
    read_ssh_config,
    read_workdir,
)
from runner.playbook.jump_hosts import MAX_HOPS, JumpHost, JumpHosts
from runner.playbook.lookups import HiddenNames
from runner.playbook.modes import check_mode, read_mode
from runner.playbook.rendering import Rendering
from runner.playbook.secret_names import find_secret_names
from runner.playbook.secrets import note_variables, redact_problems
from runner.playbook.targets import ANY_MODE, gather_targets, target_of
from runner.playbook.templating import COMMAND_LINE, Scope, Templates
from runner.playbook.validation import (
    connector_keys,
    find_misspelt,
    play_keys,
    show,
    step_keys,
    validate_connector,
    validate_jump_host,
    validate_playbook,
)
from runner.playbook.vault_password import Vault
from runner.problems import MAX_PROBLEMS, Location, Problem, collect_problems
from runner.redaction import Redactor
from runner.suggestions import nearest

if TYPE_CHECKING:
    from runner.findings import Survey
    from runner.playbook.ssh_config import SshConfig

DEFAULT_CONNECT_TIMEOUT_SECONDS = 30
DEFAULT_STALL_TIMEOUT_SECONDS = 60
DEFAULT_DELAY_SECONDS = 5.0
DEFAULT_TRANSFERS = 256
MAX_TIMEOUT_SECONDS = 604_800
MAX_OWNER_CHARACTERS = 200

_NUMBER_RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "retries": ("a whole number from 0 to 1,000", lambda value: 0 <= value <= 1000 and value % 1 == 0),
    "delay": ("a number of seconds from 0 to 86,400", lambda value: 0 <= value <= 86_400),
    "timeout": (
        f"a number of seconds above 0 and at most {MAX_TIMEOUT_SECONDS:,}",
        lambda value: 0 < value <= MAX_TIMEOUT_SECONDS,
    ),
}

# What an SSH configuration is asked about, and what may decide there.
LOOKED_UP_BY = ("host", "port", "host_key_alias", "ssh_config")
EVERYTHING = Selection()

Warn = Callable[[Problem], None]


def ignore_warning(warning: Problem) -> None:
    """No one listens."""


def load_play(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
    look_at: LookAtLogins = trust_logins,
    selection: Selection = EVERYTHING,
) -> Play:
    """Read, validate and build the playbook at `path`; no network.

    `extra_vars` win over every variable of the playbook; `workdir` replaces the playbook's own and is relative to the
    current folder; `vault` decrypts, and its redactor is told of every secret as soon as it is known; `warn` is told what
    is no problem and may still surprise; `look_at` looks at what the steps of `selection` log in with.

    Raises `PlaybookInvalid` with all problems, `UsageError` when the file cannot be read at all.
    """
    return _start(
        path, extra_vars, workdir, vault, warn, runs_commands=True, look_at=look_at, selection=selection
    ).build()


def check_play(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
    look_at: LookAtLogins = trust_logins,
) -> int:
    """Validate the playbook as `load_play` does, but run no command that it looks up. The number of its steps.

    What depends on a command's output is checked as far as it can be without it. Raises as `load_play` does.
    """
    return _start(path, extra_vars, workdir, vault, warn, runs_commands=False, look_at=look_at).check()


def load_survey(
    path: str,
    *,
    extra_vars: Mapping[str, Any] | None = None,
    workdir: str | None = None,
    vault: Vault | None = None,
    warn: Warn = ignore_warning,
) -> Survey:
    """The servers that the playbook's steps and its connections name. Otherwise as `load_play`."""
    return _start(path, extra_vars, workdir, vault, warn, runs_commands=True).survey()


def _start(
    path: str,
    extra_vars: Mapping[str, Any] | None,
    workdir: str | None,
    vault: Vault | None,
    warn: Warn,
    *,
    runs_commands: bool,
    look_at: LookAtLogins = trust_logins,
    selection: Selection = EVERYTHING,
) -> _Builder:
    """The playbook, read and parsed."""
    vault = vault or Vault(None, Redactor())
    problems: list[Problem] = []
    try:
        text, was_encrypted = read_text(Path(path), path, vault)
        data = parse(text, path, vault, problems.append)
    except OSError as error:
        raise UsageError(f"cannot read the playbook {path}: {error.strerror}", hint="Check the path.") from error
    except PlaybookInvalid as error:
        raise PlaybookInvalid(redact_problems(error.problems, vault.redactor)) from error
    if was_encrypted:
        note_variables(data, vault.redactor)
    may_run_commands = "pipe" in text
    return _Builder(
        path,
        data,
        problems,
        extra_vars or {},
        workdir,
        vault,
        warn,
        runs_commands=runs_commands,
        may_run_commands=may_run_commands,
        look_at=look_at,
        selection=selection,
    )


class _Builder:
    """One playbook on its way to a `Play`; lives as long as its problems are being collected."""

    def __init__(
        self,
        path: str,
        data: PositionedMap | PositionedList,
        problems: list[Problem],
        extra_vars: Mapping[str, Any],
        workdir: str | None,
        vault: Vault,
        warn: Warn,
        *,
        runs_commands: bool,
        may_run_commands: bool,
        look_at: LookAtLogins,
        selection: Selection,
    ) -> None:
        self._path = path
        self._warn = warn
        self._warnings: list[Problem] = []
        self._look_at = look_at
        self._selection = selection
        self._logins: list[Login] = []
        self._heads: dict[int, StepHead] = {}
        # The step that logins are noted for; 0 for none.
        self._step_index = 0
        self._knows_workdir = True
        self._hidden: HiddenNames | None = None
        self._ssh_configs: dict[str | None, SshConfig] = {}
        self._folder = Path(path).absolute().parent
        if may_be_ansible(data, play_keys(), step_keys()):
            # Few playbooks have anything of it.
            from runner.playbook.ansible.answers import answer_ansible

            data, answers = answer_ansible(data, play_keys(), step_keys())
            problems = [*problems, *answers]
        self._problems = [*problems, *validate_playbook(data)]
        self._redactor = vault.redactor
        self._password_file = vault.password_file
        templates = Templates(self._folder, vault, runs_commands=runs_commands, find_hidden=self._find_hidden)
        self._templates, self._data = templates, data
        self._rendering = Rendering(templates, vault.redactor, lambda problem: self._problems.append(problem))
        self._start = Location(path, 1, 1)
        sections = data if isinstance(data, PositionedMap) else PositionedMap(data.location)
        self._sections = sections
        self._steps = data if isinstance(data, PositionedList) else _list(sections.get("steps"))
        self._defaults = _map(sections.get("defaults"))
        self._connections = _map(sections.get("connections"))
        self._extra_vars: Scope = {name: (value, COMMAND_LINE) for name, value in extra_vars.items()}
        self._play_scope: dict[str, tuple[Any, Location]] = {
            "playbook_dir": (str(self._folder), self._start),
            **_variables(_map(sections.get("vars"))),
        }
        if runs_commands and may_run_commands:
            # Here it does not count as the time that filling in a template takes.
            self._find_hidden()
        self._workdir = self._resolve_workdir(sections, workdir)
        self._owner = self._find_owner(sections)

    def _find_hidden(self) -> HiddenNames:
        """What commands must not be given: all that is looked up for a secret, now or later."""
        if self._hidden is None:
            extra_vars = {name: value for name, (value, _) in self._extra_vars.items()}
            self._hidden = find_secret_names(self._data, extra_vars, self._templates.look_into)
        return self._hidden

    def build(self) -> Play:
        """The play, or `PlaybookInvalid` with everything that is wrong."""
        steps = self._build_steps()
        self._look_at_logins()
        name = self._rendering.key(self._sections, "name", {**self._play_scope, **self._extra_vars})
        for warning in redact_problems(collect_problems(self._warnings), self._redactor):
            self._warn(warning)
        if self._problems:
            raise PlaybookInvalid(redact_problems(collect_problems(self._problems), self._redactor))
        shown_name = name if isinstance(name, str) and not isinstance(name, Unfilled) else Path(self._path).name
        return Play(
            self._path, shown_name, self._workdir, tuple(steps), self._redactor.secrets, frozenset(self._files_read())
        )

    def _files_read(self) -> Iterator[str]:
        """The local files that have a say in what the play does."""
        yield from (self._path, *self._templates.files_read)
        # Without a path it is the user's own.
        yield from (os.path.expanduser(path or "~/.ssh/config") for path in self._ssh_configs)
        if self._password_file is not None:
            yield self._password_file

    def _look_at_logins(self) -> None:
        """What the steps hold to log in with; that of steps which the command line leaves out need not be there."""
        chosen = self._selection.choose(list(self._heads.values()))
        report = self._look_at([login for login in self._logins if login.step_index in chosen])
        self._problems += report.problems
        self._warnings += report.warnings

    @contextmanager
    def _gathering_logins(self, index: int) -> Iterator[None]:
        """What is noted inside the block belongs to the step."""
        self._step_index = index
        try:
            yield
        finally:
            self._step_index = 0

    def _note_login(
        self, inputs: PositionedMap, authentication: Authentication | None, policy: HostKeyPolicy | None
    ) -> None:
        given = [one for one in (inputs.get("authentication"), inputs.get("hostkey")) if isinstance(one, PositionedMap)]
        places = {key: place for one in given for key, place in one.value_locations.items()}
        unknown = frozenset(key for one in given for key, value in one.items() if is_unfilled(value))
        if self._step_index:
            login = Login(self._step_index, authentication, policy, places, unknown, self._knows_workdir)
            self._logins.append(login)

    def check(self) -> int:
        """The number of steps, or `PlaybookInvalid` with everything that is wrong."""
        self.build()
        return len(self._steps or [])

    def survey(self) -> Survey:
        """The servers that are named, or `PlaybookInvalid`. A connection that no step uses may need one to mean anything."""
        # A play does without it.
        from runner.findings import Survey

        play = self.build()
        connections = self._connections or PositionedMap(self._start)
        places = connections.key_locations
        found = [target_of(step, places.get(step.host_label, step.location)) for step in play.steps]
        left_out: list[tuple[str, Problem]] = []
        for name in connections:
            if any(step.host_label == name for step in play.steps):
                continue
            target = self._build_unused(name, _map(connections[name]), places[name])
            if target is not None:
                found.append(target)
            else:
                left_out.append((name, redact_problems(collect_problems(self._problems), self._redactor)[0]))
                self._problems = []
        return Survey(self._path, play.name, gather_targets(found), tuple(left_out))

    def _build_unused(self, name: str, section: PositionedMap | None, place: Location) -> Target | None:
        """The server of a connection that no step uses; None, with a problem, if it takes a step's inputs to reach it."""
        merged = self._merge(place, self._defaults, section)
        needed = ("host",) if "ssh_config" in merged else ("host", "authentication")
        missing = [key for key in needed if key not in merged]
        if missing:
            self._problems.append(Problem(place, f"no step uses it, and it has no '{missing[0]}' of its own"))
            return None
        # It says where to connect to, not what to do there.
        merged.put("mode", ANY_MODE, place, place)
        item, has_way = PositionedMap(place), "proxy_jump" in merged
        hops = self._build_hops(item, name, merged)
        inputs = self._rendering.inputs(merged, self._step_scope(item, section, name, merged))
        filled = self._fill_in(inputs, has_way=has_way, has_proxy="proxy" in merged)
        self._problems += validate_connector(filled.inputs, place, hints=filled.hints)
        hops = (*self._build_way(filled), *hops)
        endpoint = self._read_endpoint(filled.inputs)
        if endpoint is None or self._problems:
            return None
        connector_type: ConnectorType = filled.inputs.get("connector_type", "SFTP")
        endpoint = lead_through(endpoint, hops)
        return Target((name,), connector_type, endpoint, *self._read_limits(filled.inputs), place)

    def _merge(self, place: Location, *origins: PositionedMap | None) -> PositionedMap:
        """The connector inputs of all origins; a later one wins."""
        merged = PositionedMap(place)
        for origin in origins:
            for key in origin or ():
                if origin is not None and key in connector_keys():
                    merged.take(key, origin)
        return merged

    def _read_limits(self, inputs: PositionedMap) -> tuple[int, int]:
        """`connect_timeout` and `stall_timeout`."""
        return (
            read_seconds(inputs, "connect_timeout", DEFAULT_CONNECT_TIMEOUT_SECONDS),
            read_seconds(inputs, "stall_timeout", DEFAULT_STALL_TIMEOUT_SECONDS),
        )

    def _build_steps(self) -> list[Step]:
        steps = []
        for index, item in enumerate(self._steps or [], start=1):
            if isinstance(item, PositionedMap) and (step := self._build_step(index, item)):
                steps.append(step)
            if len(self._problems) > MAX_PROBLEMS:
                # A mistake in what the steps share is found again in each of them.
                self._problems = list(dict.fromkeys(self._problems))
            if len(self._problems) > MAX_PROBLEMS:
                break
        return steps

    def _resolve_workdir(self, sections: PositionedMap, option: str | None) -> str:
        if option is not None:
            return os.path.abspath(option)
        if "workdir" not in sections:
            return str(self._folder)
        location = sections.value_locations["workdir"]
        value = self._rendering.key(sections, "workdir", {**self._play_scope, **self._extra_vars})
        if isinstance(value, Unfilled):
            found = None
        else:
            found = attempt(self._problems.append, read_workdir, value, location, str(self._folder))
        # Where it is not known, no local path is looked at.
        self._knows_workdir = found is not None
        return found or str(self._folder)

    def _find_owner(self, sections: PositionedMap) -> str | None:
        """Whose temporary files this playbook's are, if it says so."""
        value = self._rendering.key(sections, "owner", {**self._play_scope, **self._extra_vars})
        if value is None or isinstance(value, Unfilled):
            return None
        location = sections.value_locations["owner"]
        if isinstance(value, str) and 0 < len(value) <= MAX_OWNER_CHARACTERS:
            return value
        # What the schema has found already is not told twice.
        if all(problem.location != location for problem in self._problems):
            wanted = f"a text of 1 to {MAX_OWNER_CHARACTERS} characters"
            self._problems.append(Problem(location, f"'owner' must be {wanted}, not {show(value)}"))
        return None

    def _build_step(self, index: int, item: PositionedMap) -> Step | None:
        before = len(self._problems)
        connection_name, connection = self._find_connection(item)
        lacks_inputs = self._lacks_inputs(item, connection_name, connection)
        # What another mistake takes away is no mistake of its own.
        self._rendering.lacks_variables = lacks_inputs or self._lacks_variables(item, connection)
        merged = self._merge(item.location, self._defaults, connection, item)
        scope = self._step_scope(item, connection, connection_name, merged)
        has_way = "proxy_jump" in merged
        with self._gathering_logins(index):
            hops = self._build_hops(item, connection_name, merged)
            inputs = self._rendering.inputs(merged, scope)
            filled = self._fill_in(inputs, has_way=has_way, has_proxy="proxy" in merged)
            misspelt = self._find_misspelt(item, connection, self._defaults)
            self._problems += validate_connector(
                filled.inputs,
                item.location,
                hints=filled.hints,
                forgiven=connector_keys() if lacks_inputs else misspelt,
            )
            hops = (*self._build_way(filled), *hops)
            endpoint = self._read_endpoint(filled.inputs)
        check_mode(filled.inputs.get("mode"), self._problems.append)
        name = self._rendering.key(item, "name", scope)
        retries = self._read_number(item, "retries", scope, 0)
        delay_seconds = self._read_number(item, "delay", scope, DEFAULT_DELAY_SECONDS)
        timeout_seconds = self._read_number(item, "timeout", scope, 0.0) if "timeout" in item else None
        self._heads[index] = StepHead(index, name if isinstance(name, str) else "", connection_name or "")
        is_whole = endpoint is not None and not (misspelt or lacks_inputs or is_unfilled(filled.inputs))
        if endpoint is None or not is_whole or len(self._problems) > before:
            return None
        step = self._make_step(index, item, name, connection_name, filled.inputs, lead_through(endpoint, hops))
        if step is None:
            return None
        self._heads[index] = StepHead(index, step.name, step.host_label)
        return replace(step, retries=int(retries), delay_seconds=delay_seconds, timeout_seconds=timeout_seconds)

    def _lacks_inputs(self, item: PositionedMap, connection_name: str | None, connection: PositionedMap | None) -> bool:
        """Whether inputs of the step are where they cannot be found, for a reason that is told."""
        sections = (self._sections, play_keys()), (item, step_keys())
        misspelt = {key for section, known in sections for key in find_misspelt(section, known)}
        return (
            not misspelt.isdisjoint(("connection", "connections", "defaults"))
            or (connection_name is not None and connection is None)
            or ("connection" in item and connection_name is None)
            or ("defaults" in self._sections and self._defaults is None)
        )

    def _lacks_variables(self, item: PositionedMap, connection: PositionedMap | None) -> bool:
        """Whether variables of the step are where they cannot be found, for a reason that is told."""
        for section, known in ((self._sections, play_keys()), (item, step_keys()), (connection, step_keys())):
            if section is not None and (
                "vars" in find_misspelt(section, known) or ("vars" in section and _map(section["vars"]) is None)
            ):
                return True
        return False

    def _find_misspelt(self, *sections: PositionedMap | None) -> frozenset[str]:
        """The inputs that are there under a wrong name, which is told."""
        return frozenset(key for section in sections if section for key in find_misspelt(section, step_keys()))

    def _read_endpoint(self, inputs: PositionedMap) -> Endpoint | None:
        """The server and the login; what they hold is noted, to be looked at before anything is contacted."""
        tell = self._problems.append
        authentication = read_authentication(inputs.get("authentication"), self._workdir, tell)
        policy = read_host_key_policy(inputs.get("hostkey"), self._workdir, tell)
        self._note_login(inputs, authentication, policy)
        return read_endpoint(inputs, authentication, policy, tell)

    def _fill_in(self, inputs: PositionedMap, *, has_way: bool, has_proxy: bool) -> Filled:
        """The inputs, what they leave open taken from the SSH configuration if they name one.

        `has_way`: the playbook says itself which jump hosts lead there. `has_proxy`: and what proxy the way begins with.
        """
        try:
            path = read_ssh_config(inputs, self._workdir)
            if path is False or any(is_unfilled(inputs.get(key)) for key in LOOKED_UP_BY) or _lacks_username(inputs):
                return Filled(inputs)
            # Few playbooks have one.
            from runner.playbook.ssh_config import SshConfig
            from runner.playbook.ssh_config_inputs import fill_in

            if path not in self._ssh_configs:
                self._ssh_configs[path] = SshConfig(path, inputs.value_locations["ssh_config"])
            filled = fill_in(inputs, self._ssh_configs[path], self._workdir, has_way=has_way, has_proxy=has_proxy)
        except InputProblem as error:
            self._problems.append(error.problem)
            return Filled(inputs)
        self._warnings += filled.warnings
        return filled

    def _read_number(self, item: PositionedMap, key: str, scope: Scope, default: float) -> float:
        """A step's keyword that is a number, checked again once it is filled in."""
        if key not in item:
            return default
        location = item.value_locations[key]
        value = self._rendering.input(key, item[key], location, scope)
        if isinstance(value, Unfilled):
            return default
        wanted, is_right = _NUMBER_RULES[key]
        if isinstance(value, int | float) and not isinstance(value, bool) and is_right(value):
            return float(value)
        # What the schema has found already is not told twice.
        if all(problem.location != location for problem in self._problems):
            self._problems.append(Problem(location, f"'{key}' must be {wanted}, not {show(value)}"))
        return default

    def _build_hops(self, item: PositionedMap, connection_name: str | None, merged: PositionedMap) -> tuple[Hop, ...]:
        """The jump hosts of a step, which are taken out of its merged inputs."""
        value = merged.pop("proxy_jump", None)
        if value is None:
            return ()

        def fill_in(template: str, location: Location, owner: str | None) -> Any:
            return self._rendering.value(
                template, location, self._step_scope(item, self._connection(owner), owner, merged)
            )

        jump_hosts = JumpHosts(self._defaults, self._connections, fill_in)
        found = jump_hosts.find(value, merged.value_locations["proxy_jump"], connection_name)
        self._problems += jump_hosts.problems
        # A list is the way: only the first one's configuration can lead further.
        has_proxy = any("proxy" in one for one in (*(hop.inputs for hop in found), merged))
        hops = [
            hop
            for index, one in enumerate(found)
            for hop in self._build_hop(item, one, is_first=index == 0, has_proxy=has_proxy)
        ]
        if len(hops) > MAX_HOPS >= len(found):
            message = f"the way leads through {len(hops)} jump hosts, and {MAX_HOPS} are the most"
            self._problems.append(
                Problem(found[0].location, message, "The first one's SSH configuration has a way, too.")
            )
        return tuple(hops)

    def _build_hop(self, item: PositionedMap, found: JumpHost, *, is_first: bool, has_proxy: bool) -> tuple[Hop, ...]:
        """A jump host, behind those that lead to it by its SSH configuration. `has_proxy`: the way begins with one."""
        before = len(self._problems)
        connection = self._connection(found.owner)
        scope = self._step_scope(item, connection, found.owner, found.inputs)
        inputs = self._rendering.inputs(found.inputs, scope)
        has_way = bool(found.name and connection and "proxy_jump" in connection)
        filled = self._fill_in(inputs, has_way=has_way or not is_first, has_proxy=has_proxy and is_first)
        misspelt = self._find_misspelt(connection if found.name else None, self._defaults)
        self._problems += validate_jump_host(filled.inputs, found.location, hints=filled.hints, forgiven=misspelt)
        hops = self._build_way(filled)
        hop = self._make_hop(filled.inputs, found.name)
        return (*hops, hop) if hop and len(self._problems) == before else ()

    def _build_way(self, filled: Filled) -> tuple[Hop, ...]:
        """The jump hosts that an SSH configuration names."""
        hops = []
        for name, inputs in filled.way:
            self._problems += validate_jump_host(inputs, inputs.location)
            if hop := self._make_hop(inputs, name):
                hops.append(hop)
        return tuple(hops)

    def _make_hop(self, inputs: PositionedMap, name: str) -> Hop | None:
        endpoint = self._read_endpoint(inputs)
        seconds = read_seconds(inputs, "connect_timeout", DEFAULT_CONNECT_TIMEOUT_SECONDS)
        return Hop(endpoint, seconds, name) if endpoint and not is_unfilled(inputs) else None

    def _connection(self, name: str | None) -> PositionedMap | None:
        return _map(self._connections.get(name)) if self._connections is not None and name is not None else None

    def _make_step(
        self,
        index: int,
        item: PositionedMap,
        name: Any,
        connection_name: str | None,
        inputs: PositionedMap,
        endpoint: Endpoint,
    ) -> Step | None:
        mode = attempt(self._problems.append, read_mode, inputs, self._workdir)
        if mode is None:
            return None
        connector_type: ConnectorType = inputs.get("connector_type", "SFTP")
        connect_timeout_seconds, stall_timeout_seconds = self._read_limits(inputs)
        return Step(
            index=index,
            name=name
            if isinstance(name, str) and not isinstance(name, Unfilled)
            else f"{mode.mode_name} {mode.subject}",
            host_label=connection_name or str(endpoint),
            connector_type=connector_type,
            endpoint=endpoint,
            mode=mode,
            connect_timeout_seconds=connect_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
            transfers=int(inputs.get("transfers", DEFAULT_TRANSFERS)),
            location=item.location,
            owner=self._owner,
        )

    def _find_connection(self, item: PositionedMap) -> tuple[str | None, PositionedMap | None]:
        name = item.get("connection")
        if not isinstance(name, str) or isinstance(name, Unfilled):
            return None, None
        connections: dict[str, Any] = self._connections or {}
        if name in connections:
            return name, _map(connections[name])
        if "connections" in find_misspelt(self._sections, play_keys()):
            return name, None
        location = item.value_locations["connection"]
        hint = nearest(name, connections) or "The playbook has no 'connections'."
        self._problems.append(Problem(location, f"no connection is called '{name}'", hint))
        return name, None

    def _step_scope(
        self, item: PositionedMap, connection: PositionedMap | None, connection_name: str | None, merged: PositionedMap
    ) -> Scope:
        # A variable of the playbook's own wins over the names that are there by themselves.
        scope: dict[str, tuple[Any, Location]] = {}
        if connection_name:
            scope["connection_name"] = (connection_name, item.location)
        if "host" in merged:
            scope["host"] = (merged["host"], merged.value_locations["host"])
        scope |= self._play_scope
        scope |= _variables(_map(connection.get("vars") if connection else None))
        scope |= _variables(_map(item.get("vars")))
        return {**scope, **self._extra_vars}


def _lacks_username(inputs: PositionedMap) -> bool:
    """Whether it cannot be told as whom to log in, since that could not be filled in."""
    login = inputs.get("authentication")
    return is_unfilled(login.get("username") if isinstance(login, PositionedMap) else login)


def _variables(section: PositionedMap | None) -> dict[str, tuple[Any, Location]]:
    return {name: (value, section.value_locations[name]) for name, value in section.items()} if section else {}


def _map(value: Any) -> PositionedMap | None:
    return value if isinstance(value, PositionedMap) else None


def _list(value: Any) -> PositionedList | None:
    return value if isinstance(value, PositionedList) else None
