"""Fills in one step, in the same way before the play, when some names may not have a value yet, and when its turn comes.

What needs nothing that only the play will know is a whole `Step` before anything is contacted. Of a step that needs more,
everything else is checked then: where it goes, what kind of thing it does, and all values beside those that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from runner.logins import StepHead
from runner.plan import NO_HOST, ConnectorType, ControlStep, Endpoint, LaterMode, Mode, Step
from runner.playbook.document import Awaited, PositionedList, PositionedMap, Unfilled, is_unfilled
from runner.playbook.endpoints import (
    DEFAULT_CONNECT_TIMEOUT_SECONDS,
    Endpoints,
    Notes,
    find_all_misspelt,
)
from runner.playbook.inputs import attempt, read_seconds
from runner.playbook.modes import check_mode, read_mode
from runner.playbook.rebinding import Rebinding, find_dependent, unknown
from runner.playbook.rendering import Rendering
from runner.playbook.scopes import NO_NAMES, OF_HOSTS, Scopes, merge_layers
from runner.playbook.sections import Sections, as_map
from runner.playbook.templating import Scope
from runner.playbook.validation import (
    connector_keys,
    find_misspelt,
    is_of_mode,
    is_template,
    play_keys,
    show,
    step_keys,
    validate_connector,
)
from runner.problems import Location, Problem
from runner.program import Bound, Node, StepOptions, StepTemplate
from runner.suggestions import find_meant, nearest

DEFAULT_STALL_TIMEOUT_SECONDS = 60
DEFAULT_DELAY_SECONDS = 5.0
DEFAULT_TRANSFERS = 256
MAX_TIMEOUT_SECONDS = 604_800
# Of a step with `until`, which is there to be tried again.
DEFAULT_UNTIL_RETRIES = 3
MAX_PAUSE_SECONDS = 604_800

_NUMBER_RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "retries": ("a whole number from 0 to 1,000", lambda value: 0 <= value <= 1000 and value % 1 == 0),
    "delay": ("a number of seconds from 0 to 86,400", lambda value: 0 <= value <= 86_400),
    "timeout": (
        f"a number of seconds above 0 and at most {MAX_TIMEOUT_SECONDS:,}",
        lambda value: 0 < value <= MAX_TIMEOUT_SECONDS,
    ),
    "seconds": (
        f"a number of seconds from 0 to {MAX_PAUSE_SECONDS:,}",
        lambda value: 0 <= value <= MAX_PAUSE_SECONDS,
    ),
}

# Every server, every secret and every safety switch is known before the first packet.
FENCED_INPUTS = (
    *("host", "port", "authentication", "hostkey", "host_key_alias", "proxy", "proxy_jump", "ssh_config"),
    *("connector_type", "commands", "legacy_algorithms"),
)
FENCED_SWITCHES = ("mode_name", "delete", "max_delete", "atomic", "verify", "backup")
FENCE_HINT = "Servers, secrets and safety switches are known before the first packet: use a variable or an input."


class Binder:
    """Fills in the steps of one playbook. What is wrong is added to `notes`."""

    def __init__(
        self,
        sections: Sections,
        rendering: Rendering,
        scopes: Scopes,
        endpoints: Endpoints,
        notes: Notes,
    ) -> None:
        self._sections = sections
        self._rendering = rendering
        self._scopes = scopes
        self._endpoints = endpoints
        self._notes = notes
        self.owner: str | None = None
        self.heads: dict[int, StepHead] = {}
        # Whether variables of a step are missing for a reason that is told, by its `origins`.
        self._lacking: dict[int, bool] = {}
        # The steps of loops of which another item makes nothing else but other file names, by their numbers.
        self._rebindings: dict[int, Rebinding] = {}
        self._bind_counts: dict[int, int] = {}

    def scope_of(self, node: Node, names: Scope = NO_NAMES) -> Scope:
        """The names that the templates and expressions of a step, or of a block's loop, see."""
        connection_name, connection = self._find_connection(node.origins)
        # What another mistake takes away is no mistake of its own.
        self._rendering.lacks_variables = self._lacks_variables(node.origins, connection_name, connection)
        merged = self.merge(node.location, self._sections.defaults, connection, *node.origins)
        return self._scopes.of(node.origins, connection_name, merged, names)

    def bind(self, template: StepTemplate, names: Scope = NO_NAMES) -> Bound | None:
        """The step, everything filled in; None, with a problem, if that cannot be.

        Where `names` has values that only the play will know, its mode is a `LaterMode`.
        """
        before, known = self._rendering.awaited_count, len(self._notes.problems)
        rebinding = self._rebindings.get(template.index)
        if rebinding is not None:
            bound = rebinding.rebind(names, self._rendering)
            if bound is not None and self._rendering.awaited_count == before and len(self._notes.problems) == known:
                return bound
            # Bound whole it tells the same once more, and all that is wrong besides.
            del self._notes.problems[known:]
        bind = self._bind_call if template.kind == "mode" else self._bind_control
        bound = bind(template, names)
        return bound if bound is None else bound._replace(is_final=self._rendering.awaited_count == before)

    def look_at_names(self, template: StepTemplate, names: Scope) -> None:
        """Note what is wrong with the names in a step that will not be carried out."""
        scope = dict(self.scope_of(template, names))
        # Whether they are there is what the condition asks.
        later = Awaited("", "a name that may be missing")
        for condition in template.keywords.when:
            guarded = self._rendering.guarded_names(condition.value) if isinstance(condition.value, str) else ()
            scope |= dict.fromkeys(guarded, (later, condition.location))
        for key, value in template.item.items():
            if key not in ("vars", "when"):
                self._notes.problems += self._rendering.find_unknown_names(
                    value, template.item.value_locations[key], scope
                )

    # Connector calls.

    def _bind_call(self, template: StepTemplate, names: Scope) -> Bound | None:
        origins, item, index = template.origins, template.item, template.index
        before = len(self._notes.problems)
        connection_name, connection = self._find_connection(origins)
        lacks_inputs = self._lacks_inputs(origins, connection_name, connection)
        self._rendering.lacks_variables = self._lacks_variables(origins, connection_name, connection)
        merged = self.merge(item.location, self._sections.defaults, connection, *origins)
        lacks_inputs = lacks_inputs or ("mode" not in merged and _is_told(item))
        scope = self._scopes.of(origins, connection_name, merged, names)
        has_way = "proxy_jump" in merged
        if has_way:
            self._hold_fence_on_way(merged, scope)
        with self._endpoints.gathering_logins(index):
            hops = self._endpoints.build_hops(origins, connection_name, merged)
            inputs = self._rendering.inputs(merged, scope)
            self._hold_fence(inputs)
            filled = self._endpoints.fill_in(inputs, has_way=has_way, has_proxy="proxy" in merged)
            misspelt = find_all_misspelt(*origins, connection, self._sections.defaults)
            hints, forgiven = filled.hints, connector_keys() if lacks_inputs else misspelt
            if not merged:
                # It says nothing at all: that it does nothing comes first.
                from runner.playbook.step_hints import KINDS_HINT

                hints, forgiven = {"mode": KINDS_HINT}, forgiven | connector_keys() - {"mode"}
            self._notes.problems += validate_connector(
                filled.inputs, item.location, hints=hints, forgiven=forgiven, written=merged
            )
            endpoint, _ = self._endpoints.read(filled, hops)
        check_mode(filled.inputs.get("mode"), self._notes.problems.append)
        name = self._rendering.key(item, "name", scope)
        numbers = self._read_numbers(template, scope)
        options = self._read_options(template, scope)
        self.heads[index] = StepHead(
            index, name if isinstance(name, str) else "", connection_name or "", template.keywords.tags
        )
        is_open = _is_awaited(filled.inputs)
        is_whole = endpoint is not None and not (
            misspelt or lacks_inputs or (is_unfilled(filled.inputs) and not is_open)
        )
        if endpoint is None or not is_whole or len(self._notes.problems) > before:
            return None
        mode = self._make_mode(filled.inputs, is_open=is_open)
        if mode is None:
            return None
        label = connection_name or str(endpoint)
        step = self._make_step(template, name, label, filled.inputs, endpoint, mode)
        self.heads[index] = StepHead(index, step.name, step.host_label, template.keywords.tags)
        retries, delay_seconds, timeout_seconds = numbers
        step = replace(step, retries=int(retries), delay_seconds=delay_seconds, timeout_seconds=timeout_seconds)
        bound = Bound(step, options)
        if not is_open:
            self._prepare_rebinding(template, bound, merged, filled.inputs, connection_name, names)
        return bound

    def _prepare_rebinding(
        self,
        template: StepTemplate,
        bound: Bound,
        merged: PositionedMap,
        inputs: PositionedMap,
        connection_name: str | None,
        names: Scope,
    ) -> None:
        """See what is to be filled in for another item, when a step is bound for the second time."""
        count = self._bind_counts[template.index] = self._bind_counts.get(template.index, 0) + 1
        if count != 2 or not names:
            return
        layers = list(self._scopes.layers(template.origins, connection_name, merged))
        below, above = merge_layers(layers[:-2]), layers[-1]
        if not below.keys().isdisjoint(OF_HOSTS):
            # Variables of the playbook's own, which win over some of `names`.
            return
        before, known = self._rendering.awaited_count, len(self._notes.problems)
        scope = {**below, **unknown(names), **above}
        keys = find_dependent(self._rendering.inputs(merged, scope))
        asked = self._rendering.awaited_count
        self._read_numbers(template, scope)
        self._read_options(template, scope)
        is_simple = keys is not None and asked == self._rendering.awaited_count and len(self._notes.problems) == known
        self._rendering.awaited_count = before
        del self._notes.problems[known:]
        if is_simple and keys is not None:
            written = merged["mode"]
            scopes = (below, above)
            self._rebindings[template.index] = Rebinding(
                bound, template, inputs, written, keys, scopes, self._endpoints.workdir
            )

    def _make_mode(self, inputs: PositionedMap, *, is_open: bool) -> Mode | LaterMode | None:
        if is_open:
            mode = inputs.get("mode")
            return LaterMode(str(mode["mode_name"]) if isinstance(mode, PositionedMap) else "")
        return attempt(self._notes.problems.append, read_mode, inputs, self._endpoints.workdir)

    def _make_step(
        self,
        template: StepTemplate,
        name: Any,
        label: str,
        inputs: PositionedMap,
        endpoint: Endpoint,
        mode: Mode | LaterMode,
    ) -> Step:
        connector_type: ConnectorType = inputs.get("connector_type", "SFTP")
        connect_timeout_seconds, stall_timeout_seconds = self.read_limits(inputs)
        return Step(
            index=template.index,
            name=name
            if isinstance(name, str) and not isinstance(name, Unfilled)
            else (template.name or f"{mode.mode_name} {mode.subject}".rstrip()),
            host_label=label,
            connector_type=connector_type,
            endpoint=endpoint,
            mode=mode,
            connect_timeout_seconds=connect_timeout_seconds,
            stall_timeout_seconds=stall_timeout_seconds,
            transfers=int(inputs.get("transfers", DEFAULT_TRANSFERS)),
            location=template.location,
            owner=self.owner,
        )

    def read_limits(self, inputs: PositionedMap) -> tuple[int, int]:
        """`connect_timeout` and `stall_timeout`."""
        return (
            read_seconds(inputs, "connect_timeout", DEFAULT_CONNECT_TIMEOUT_SECONDS),
            read_seconds(inputs, "stall_timeout", DEFAULT_STALL_TIMEOUT_SECONDS),
        )

    def merge(self, place: Location, *origins: PositionedMap | None) -> PositionedMap:
        """The connector inputs of all origins; a later one wins."""
        merged = PositionedMap(place)
        for origin in origins:
            for key in origin or ():
                if origin is not None and key in connector_keys():
                    merged.take(key, origin)
        return merged

    def _hold_fence(self, inputs: PositionedMap) -> None:
        """Note what depends on a result and must not."""
        self._refuse_awaited(inputs, FENCED_INPUTS)
        mode = inputs.get("mode")
        if isinstance(mode, Awaited):
            self._refuse_awaited(inputs, ("mode",))
        elif isinstance(mode, PositionedMap):
            self._refuse_awaited(mode, FENCED_SWITCHES)

    def _hold_fence_on_way(self, merged: PositionedMap, scope: Scope) -> None:
        """Note what of the jump hosts depends on a result, and leave them out then: they see no such names."""
        key, problems, awaited = "proxy_jump", self._notes.problems, self._rendering.awaited_count
        before, place = len(problems), merged.value_locations["proxy_jump"]
        found = _find_awaited(self._rendering.input(key, merged[key], place, scope))
        # They are filled in where they are built, each with the names of its own connection.
        del problems[before:]
        self._rendering.awaited_count = awaited
        if found is not None:
            self._note_fence(key, found, place)
            del merged[key]

    def _note_fence(self, key: str, found: Awaited, location: Location) -> None:
        message = f"'{key}' must not depend on {found.reason}"
        self._notes.problems.append(Problem(location, message, FENCE_HINT))

    def _refuse_awaited(self, section: PositionedMap, keys: Collection[str]) -> None:
        for key in keys:
            found = _find_awaited(section.get(key))
            if found is not None:
                self._note_fence(key, found, section.value_locations[key])

    # Steps that decide or say something.

    def _bind_control(self, template: StepTemplate, names: Scope) -> Bound | None:
        before = len(self._notes.problems)
        connection_name, _ = self._find_connection(template.origins)
        scope = self.scope_of(template, names)
        name = self._rendering.key(template.item, "name", scope)
        label = connection_name or NO_HOST
        shown = name if isinstance(name, str) and not isinstance(name, Unfilled) else (template.name or template.kind)
        options = self._read_options(template, scope)
        arguments = self._read_arguments(template, scope)
        self.heads[template.index] = StepHead(template.index, shown, connection_name or "", template.keywords.tags)
        if len(self._notes.problems) > before:
            return None
        step = ControlStep(template.index, shown, label, template.kind, template.location)
        return Bound(step, options, arguments)

    def _read_arguments(self, template: StepTemplate, scope: Scope) -> Any:
        """What an `assert`, a `set_fact`, … is given, filled in. Conditions are left to be judged."""
        written, place = template.item[template.kind], template.item.value_locations[template.kind]
        if not isinstance(written, PositionedMap):
            # The schema has told.
            return {}
        match template.kind:
            case "set_fact":
                # What a variable may hold, a fact may.
                return self._rendering.value(written, place, scope)
            case "pause":
                return self._read_number(written, "seconds", scope, 0.0)
            case "assert":
                return {
                    key: self._rendering.key(written, key, scope)
                    for key in ("fail_msg", "success_msg")
                    if key in written
                }
            case "debug" if "var" in written:
                return self._read_names(written, scope)
        return {"msg": self._rendering.key(written, "msg", scope)} if "msg" in written else {}

    def _read_names(self, written: PositionedMap, scope: Scope) -> Any:
        """The values of the variables that `debug` names."""
        given = written["var"]
        place = written.value_locations["var"]
        items = (
            list(zip(given, given.item_locations, strict=True))
            if isinstance(given, PositionedList)
            else [(given, place)]
        )
        # `r.result` is as good as `r`. What is no text at all, the schema has told.
        items = [(text, where) for text, where in items if isinstance(text, str) and self._is_bare(text, where)]
        return {text: self._rendering.expression(text, where, scope) for text, where in items}

    def _is_bare(self, text: str, location: Location) -> bool:
        """Whether a text names a variable, and is no template; one that is, is told."""
        if not is_template(text):
            return True
        bare = text.strip().removeprefix("{{").removesuffix("}}").strip()
        self._notes.problems.append(Problem(location, "'var' names variables, without braces", f"Write {bare}"))
        return False

    # Keywords.

    def _read_options(self, template: StepTemplate, scope: Scope) -> StepOptions:
        keys = ("ignore_errors", "ignore_unreachable", "no_log", "check_mode", "diff")
        errors, unreachable, no_log, is_check, is_diff = (self._read_switch(template, key, scope) for key in keys)
        return StepOptions(errors is True, unreachable is True, no_log is True, is_check, is_diff)

    def _read_switch(self, template: StepTemplate, key: str, scope: Scope) -> bool | None:
        """A switch of the step's own, or of the innermost block that has it; None where nobody says it."""
        origin = next((one for one in reversed(template.origins) if key in one), None)
        if origin is None:
            return None
        location = origin.value_locations[key]
        value = self._rendering.input(key, origin[key], location, scope)
        if isinstance(value, Unfilled):
            return None
        if isinstance(value, bool):
            return value
        self._note_once(Problem(location, f"'{key}' must be true or false, not {show(value)}"))
        return None

    def _read_numbers(self, template: StepTemplate, scope: Scope) -> tuple[float, float, float | None]:
        """`retries`, `delay` and `timeout`."""
        item = template.item
        tries = DEFAULT_UNTIL_RETRIES if template.keywords.until else 0
        retries = self._read_number(item, "retries", scope, tries)
        delay_seconds = self._read_number(item, "delay", scope, DEFAULT_DELAY_SECONDS)
        timeout_seconds = self._read_number(item, "timeout", scope, 0.0) if "timeout" in item else None
        return retries, delay_seconds, timeout_seconds

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
        self._note_once(Problem(location, f"'{key}' must be {wanted}, not {show(value)}"))
        return default

    def _note_once(self, problem: Problem) -> None:
        """Note a problem, unless the schema has found one at the same place."""
        if all(other.location != problem.location for other in self._notes.problems):
            self._notes.problems.append(problem)

    # What another mistake takes away.

    def _find_connection(self, origins: tuple[PositionedMap, ...]) -> tuple[str | None, PositionedMap | None]:
        """The connection of the step, or of the innermost block that names one."""
        item = next((one for one in reversed(origins) if "connection" in one), None)
        name = item.get("connection") if item is not None else None
        if item is None or not isinstance(name, str) or isinstance(name, Unfilled):
            return None, None
        connections: dict[str, Any] = self._sections.connections or {}
        if name in connections:
            return name, as_map(connections[name])
        if "connections" not in find_misspelt(self._sections.top, play_keys()):
            hint = nearest(name, connections) or "The playbook has no 'connections'."
            self._note_once(Problem(item.value_locations["connection"], f"no connection is called '{name}'", hint))
        return name, None

    def _lacks_inputs(
        self, origins: tuple[PositionedMap, ...], connection_name: str | None, connection: PositionedMap | None
    ) -> bool:
        """Whether inputs of the step are where they cannot be found, for a reason that is told."""
        top = self._sections.top
        sections = (top, play_keys()), *((one, step_keys()) for one in origins)
        misspelt = {key for section, known in sections for key in find_misspelt(section, known)}
        return (
            not misspelt.isdisjoint(("connection", "connections", "defaults"))
            or (connection_name is not None and connection is None)
            or (any("connection" in one for one in origins) and connection_name is None)
            or ("defaults" in top and self._sections.defaults is None)
        )

    def _lacks_variables(
        self, origins: tuple[PositionedMap, ...], connection_name: str | None, connection: PositionedMap | None
    ) -> bool:
        """Whether variables of the step are where they cannot be found, for a reason that is told."""
        if id(origins) not in self._lacking:
            self._lacking[id(origins)] = self._lacks_inputs(
                origins, connection_name, connection
            ) or self._lacks_sections(origins, connection)
        return self._lacking[id(origins)] or self._scopes.lacks_variables

    def _lacks_sections(self, origins: tuple[PositionedMap, ...], connection: PositionedMap | None) -> bool:
        """Whether one of the places where variables stand is misspelt, or no mapping."""
        sections = (self._sections.top, play_keys()), *((one, step_keys()) for one in (*origins, connection))
        for section, known in sections:
            if section is not None and (
                "vars" in find_misspelt(section, known) or ("vars" in section and as_map(section["vars"]) is None)
            ):
                return True
        return False


def _is_told(item: PositionedMap) -> bool:
    """Whether what a step does is there under a key that means nothing in it, which is told."""
    if not {"rescue", "always"}.isdisjoint(item):
        return True
    unknown = [key for key in item if key not in step_keys()]
    if not unknown:
        return False
    # Few steps have such a key.
    from runner.playbook.step_hints import KINDS

    meant = [() if is_of_mode(key) else find_meant(key, step_keys()) for key in unknown]
    return any(not one or not set(KINDS).isdisjoint(one) for one in meant)


def _find_awaited(value: Any) -> Awaited | None:
    """The first part of a value that only the play will know."""
    if isinstance(value, Awaited):
        return value
    parts = value.values() if isinstance(value, PositionedMap) else value if isinstance(value, PositionedList) else ()
    return next((found for part in parts if (found := _find_awaited(part)) is not None), None)


def _is_awaited(value: Any) -> bool:
    """Whether something in the value is open, and nothing is so for another reason."""
    return _find_awaited(value) is not None and not _is_unknown(value)


def _is_unknown(value: Any) -> bool:
    parts = value.values() if isinstance(value, PositionedMap) else value if isinstance(value, PositionedList) else None
    if parts is not None:
        return any(map(_is_unknown, parts))
    return isinstance(value, Unfilled) and not isinstance(value, Awaited)
