"""From a step's inputs, filled in, to the server and the way there: SSH configurations, jump hosts, logins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.logins import Login
from runner.plan import Authentication, Endpoint, Hop, HostKeyPolicy
from runner.playbook.document import PositionedMap, is_unfilled
from runner.playbook.inputs import (
    FilledInputs,
    InputProblem,
    lead_through,
    read_authentication,
    read_endpoint,
    read_host_key_policy,
    read_seconds,
    read_ssh_config,
)
from runner.playbook.jump_hosts import MAX_HOPS, JumpHost, JumpHosts
from runner.playbook.rendering import Rendering
from runner.playbook.scopes import Scopes
from runner.playbook.sections import Sections
from runner.playbook.validation import find_misspelt, step_keys, validate_jump_host
from runner.problems import Location, Problem

if TYPE_CHECKING:
    from runner.playbook.ssh_config.config import SshConfig

DEFAULT_CONNECT_TIMEOUT_SECONDS = 30

# What an SSH configuration is asked about, and what may decide there.
LOOKED_UP_BY = ("host", "port", "host_key_alias", "ssh_config")


@dataclass(slots=True)
class Notes:
    """What comes up about a playbook while it is read: what is wrong, what may be, and what steps log in with."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    logins: list[Login] = field(default_factory=list)


class Endpoints:
    """Reads where steps go to. What means nothing is noted."""

    def __init__(self, sections: Sections, rendering: Rendering, scopes: Scopes, notes: Notes) -> None:
        self._sections = sections
        self._rendering = rendering
        self._scopes = scopes
        self._notes = notes
        self._ssh_configs: dict[str | None, SshConfig] = {}
        # The step that logins are noted for; 0 for none.
        self._step_index = 0
        self.workdir = ""
        # Where it is not known, no local path is looked at.
        self.knows_workdir = True

    @property
    def ssh_configs(self) -> list[str | None]:
        """The SSH configurations that were read; None is the user's own."""
        return list(self._ssh_configs)

    @contextmanager
    def gathering_logins(self, index: int) -> Iterator[None]:
        """What is noted inside the block belongs to the step."""
        self._step_index = index
        try:
            yield
        finally:
            self._step_index = 0

    def read(self, filled: FilledInputs, hops: tuple[Hop, ...]) -> tuple[Endpoint | None, tuple[Hop, ...]]:
        """The server and the login, and the whole way. What they hold is noted, to be looked at before the play."""
        hops = (*self._build_way(filled), *hops)
        endpoint = self._read_endpoint(filled.inputs)
        return (None if endpoint is None else lead_through(endpoint, hops)), hops

    def fill_in(self, inputs: PositionedMap, *, has_way: bool, has_proxy: bool) -> FilledInputs:
        """The inputs, what they leave open taken from the SSH configuration if they name one.

        `has_way`: the playbook says itself which jump hosts lead there. `has_proxy`: and what proxy the way begins with.
        """
        try:
            path = read_ssh_config(inputs, self.workdir)
            if path is False or any(is_unfilled(inputs.get(key)) for key in LOOKED_UP_BY) or _lacks_username(inputs):
                return FilledInputs(inputs)
            # Few playbooks have one.
            from runner.playbook.ssh_config.config import SshConfig
            from runner.playbook.ssh_config.inputs import fill_in

            if path not in self._ssh_configs:
                self._ssh_configs[path] = SshConfig(path, inputs.value_locations["ssh_config"])
            filled = fill_in(inputs, self._ssh_configs[path], self.workdir, has_way=has_way, has_proxy=has_proxy)
        except InputProblem as error:
            self._notes.problems.append(error.problem)
            return FilledInputs(inputs)
        self._notes.warnings += filled.warnings
        return filled

    def build_hops(
        self, origins: tuple[PositionedMap, ...], connection_name: str | None, merged: PositionedMap
    ) -> tuple[Hop, ...]:
        """The jump hosts of a step, which are taken out of its merged inputs."""
        value = merged.pop("proxy_jump", None)
        if value is None:
            return ()

        def fill_in(template: str, location: Location, owner: str | None) -> Any:
            scope = self._scopes.of(origins, owner, merged)
            return self._rendering.value(template, location, scope)

        jump_hosts = JumpHosts(self._sections.defaults, self._sections.connections, fill_in)
        found = jump_hosts.find(value, merged.value_locations["proxy_jump"], connection_name)
        self._notes.problems += jump_hosts.problems
        # A list is the way: only the first one's configuration can lead further.
        has_proxy = any("proxy" in one for one in (*(hop.inputs for hop in found), merged))
        hops = [
            hop
            for index, one in enumerate(found)
            for hop in self._build_hop(origins, one, is_first=index == 0, has_proxy=has_proxy)
        ]
        if len(hops) > MAX_HOPS >= len(found):
            message = f"the way leads through {len(hops)} jump hosts, and {MAX_HOPS} are the most"
            hint = "The first one's SSH configuration has a way, too."
            self._notes.problems.append(Problem(found[0].location, message, hint))
        return tuple(hops)

    def _build_hop(
        self, origins: tuple[PositionedMap, ...], found: JumpHost, *, is_first: bool, has_proxy: bool
    ) -> tuple[Hop, ...]:
        """A jump host, behind those that lead to it by its SSH configuration. `has_proxy`: the way begins with one."""
        problems = self._notes.problems
        before = len(problems)
        connection = self._sections.connection(found.owner)
        inputs = self._rendering.inputs(found.inputs, self._scopes.of(origins, found.owner, found.inputs))
        has_way = bool(found.name and connection and "proxy_jump" in connection)
        filled = self.fill_in(inputs, has_way=has_way or not is_first, has_proxy=has_proxy and is_first)
        misspelt = find_all_misspelt(connection if found.name else None, self._sections.defaults)
        problems += validate_jump_host(filled.inputs, found.location, hints=filled.hints, forgiven=misspelt)
        hops = self._build_way(filled)
        hop = self._make_hop(filled.inputs, found.name)
        return (*hops, hop) if hop and len(problems) == before else ()

    def _build_way(self, filled: FilledInputs) -> tuple[Hop, ...]:
        """The jump hosts that an SSH configuration names."""
        hops = []
        for name, inputs in filled.way:
            self._notes.problems += validate_jump_host(inputs, inputs.location)
            if hop := self._make_hop(inputs, name):
                hops.append(hop)
        return tuple(hops)

    def _make_hop(self, inputs: PositionedMap, name: str) -> Hop | None:
        endpoint = self._read_endpoint(inputs)
        seconds = read_seconds(inputs, "connect_timeout", DEFAULT_CONNECT_TIMEOUT_SECONDS)
        return Hop(endpoint, seconds, name) if endpoint and not is_unfilled(inputs) else None

    def _read_endpoint(self, inputs: PositionedMap) -> Endpoint | None:
        tell = self._notes.problems.append
        authentication = read_authentication(inputs.get("authentication"), self.workdir, tell)
        policy = read_host_key_policy(inputs.get("hostkey"), self.workdir, tell)
        self._note_login(inputs, authentication, policy)
        return read_endpoint(inputs, authentication, policy, tell)

    def _note_login(
        self, inputs: PositionedMap, authentication: Authentication | None, policy: HostKeyPolicy | None
    ) -> None:
        given = [one for one in (inputs.get("authentication"), inputs.get("hostkey")) if isinstance(one, PositionedMap)]
        places = {key: place for one in given for key, place in one.value_locations.items()}
        unknown = frozenset(key for one in given for key, value in one.items() if is_unfilled(value))
        if self._step_index:
            login = Login(self._step_index, authentication, policy, places, unknown, self.knows_workdir)
            self._notes.logins.append(login)


def find_all_misspelt(*sections: PositionedMap | None) -> frozenset[str]:
    """The inputs that are there under a wrong name, which is told."""
    return frozenset(key for section in sections if section for key in find_misspelt(section, step_keys()))


def _lacks_username(inputs: PositionedMap) -> bool:
    """Whether it cannot be told as whom to log in, since that could not be filled in."""
    login = inputs.get("authentication")
    return is_unfilled(login.get("username") if isinstance(login, PositionedMap) else login)
