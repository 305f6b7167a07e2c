"""Checks data against the JSON Schemas and says what is wrong in the playbook's own words. The only user of jsonschema,
which is loaded when something is: of what fits, `schema_fit.py` says so.

jsonschema tells of an `anyOf` only that no branch fits. Every `anyOf` of our schemas is decided by a discriminator (a
key whose value is a constant in each branch) or by the value's type, so we pick the branch that was meant and report
that branch's errors.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, KeysView, Mapping
from dataclasses import replace
from functools import lru_cache, reduce
from itertools import islice
from typing import TYPE_CHECKING, Any

from runner.playbook.document import (
    Decrypted,
    PositionedList,
    PositionedMap,
    Unfilled,
    describe_type,
    locate,
    shorten,
)
from runner.playbook.durations import DURATION_HINT, DURATION_PATTERN
from runner.playbook.schema_fit import Fit, make_fit
from runner.problems import MAX_PROBLEMS, Location, Problem
from runner.resources import schema_text
from runner.suggestions import find_meant, nearest

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

_CONNECTOR = "connector.schema.json"
_PLAYBOOK = "playbook.schema.json"
_TEMPLATE_REF = "#/$defs/template"
# The server decides about them.
SERVERS_PERMISSIONS = "server"
_JUMP_HINT = "The list is the way: write the jump host that comes first in front of this one."
# Of the vendor's newest page: each stands beside the name that is one of this machine's.
_LOCATIONS = frozenset(("source_location", "destination_location"))
BANDWIDTH_HINT = "K, M and G are powers of 1024: 10M is 10 MiB per second. A number alone is bytes per second."

_TOO_EARLY = "It is read before any template is filled in: write it out."

_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_NAME_HINT = "Use letters, digits and '_', not beginning with a digit."

# YAML 1.1 has these booleans, and Ansible with it.
_OLD_BOOLEANS = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}

# Inputs that hold secrets, and that one template may give as a whole.
HOLDERS_OF_SECRETS = ("authentication", "proxy")

Data = PositionedMap | PositionedList


@lru_cache(maxsize=1)
def _schemas() -> dict[str, Any]:
    """What a playbook is held to, by file name."""
    return {name: json.loads(schema_text(name.removesuffix(".schema.json"))) for name in (_CONNECTOR, _PLAYBOOK)}


@lru_cache(maxsize=16)
def _fit(reference: str, *, templates_allowed: bool) -> Fit:
    """Whether data fits the schema that `reference` names."""
    return make_fit(_inline({"$ref": reference}, "", templates_allowed=templates_allowed))


def _find_errors(reference: str, data: Data, *, templates_allowed: bool) -> Iterator[ValidationError]:
    """What jsonschema finds wrong with data that does not fit the schema which `reference` names."""
    if not _fit(reference, templates_allowed=templates_allowed)(data):
        yield from _validator(reference, templates_allowed=templates_allowed).iter_errors(data)


@lru_cache(maxsize=16)
def _validator(reference: str, *, templates_allowed: bool) -> Draft202012Validator:
    """For the schema that `reference` names.

    Its references are put in place beforehand: resolving them for every value takes jsonschema half its time, and so
    nothing is left that could be fetched from a network.
    """
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_inline({"$ref": reference}, "", templates_allowed=templates_allowed))


# What references name, by reference and whether templates are allowed.
_followed: dict[tuple[str, bool], dict[str, Any]] = {}


def _follow(reference: str, *, templates_allowed: bool) -> dict[str, Any]:
    """What a whole reference names, in one piece. Most of it is named by many others; steps in a block name themselves."""
    key = reference, templates_allowed
    if key not in _followed:
        # Inside of what is being put together it stands for itself.
        whole = _followed[key] = {}
        file_name, _, pointer = reference.partition("#")
        target = reduce(lambda here, part: here[part], pointer.split("/")[1:], _schemas()[file_name])
        whole.update(_inline(target, file_name, templates_allowed=templates_allowed))
    return _followed[key]


# What a validation does without. Beside the variants of an `anyOf`, `properties` says again what each of them does.
_FOR_EDITORS = frozenset(("$ref", "$defs", "$id", "$schema", "examples", "enumDescriptions"))


def _constant_of(schema: Mapping[str, Any]) -> Any:
    """The one value that a property may have, if it is there to tell variants apart."""
    return next((one["const"] for one in schema.get("anyOf", ()) if "const" in one), None)


def _inline(schema: Any, file_name: str, *, templates_allowed: bool) -> Any:
    """A schema of `file_name` with every reference replaced by what it refers to.

    Once templates are filled in, text that looks like one is text, and no longer stands for a number or a mapping.
    """
    if isinstance(schema, list):
        kept = [item for item in schema if templates_allowed or item != {"$ref": _TEMPLATE_REF}]
        return [_inline(item, file_name, templates_allowed=templates_allowed) for item in kept]
    if not isinstance(schema, dict):
        return schema
    own = {
        key: _inline(value, file_name, templates_allowed=templates_allowed)
        for key, value in schema.items()
        if key not in _FOR_EDITORS and not (key == "properties" and "anyOf" in schema)
    }
    if (constant := _constant_of(schema)) is not None:
        # A template in its place is told by its instance.
        own["const"] = constant
        del own["anyOf"]
    if "$ref" not in schema:
        return own
    reference = schema["$ref"]
    followed = _follow(file_name + reference if reference[0] == "#" else reference, templates_allowed=templates_allowed)
    return {**followed, **own} if own else followed


@lru_cache(maxsize=1)
def connector_keys() -> frozenset[str]:
    """The names of all connector inputs."""
    return frozenset(_schemas()[_CONNECTOR]["properties"])


@lru_cache(maxsize=1)
def play_keys() -> frozenset[str]:
    """The names of everything that stands beside the steps, and theirs."""
    return frozenset(_schemas()[_PLAYBOOK]["$defs"]["play"]["properties"])


@lru_cache(maxsize=1)
def step_keys() -> frozenset[str]:
    """The names of all that stands in a step."""
    return frozenset(_schemas()[_PLAYBOOK]["$defs"]["step"]["properties"])


@lru_cache(maxsize=1)
def _mode_keys() -> dict[str, frozenset[str]]:
    """The names of all modes, with the keys of each."""
    sections = (one.get("properties", {}) for one in _schemas()[_CONNECTOR]["$defs"].values())
    named = ((_constant_of(section.get("mode_name", {})), section) for section in sections)
    return {name: frozenset(section) for name, section in named if name}


def mode_names() -> KeysView[str]:
    """The names of all modes."""
    return _mode_keys().keys()


def is_of_mode(key: str) -> bool:
    """Whether a key of this name stands in a mode, or is a mode's name."""
    return key in _mode_keys() or any(key in keys for keys in _mode_keys().values())


def find_misspelt(section: Mapping[str, Any], known: frozenset[str]) -> frozenset[str]:
    """The known keys that are there under a wrong name, and not under the right one."""
    unknown = [other for other in section if other not in known]
    return frozenset(key for other in unknown for key in find_meant(other, known) if key not in section)


@lru_cache(maxsize=1)
def jump_host_keys() -> frozenset[str]:
    """The names of the inputs of a jump host."""
    return frozenset(_schemas()[_CONNECTOR]["$defs"]["jump_host"]["properties"])


@lru_cache(maxsize=1)
def secret_keys() -> frozenset[str]:
    """The names of the inputs whose values must never be shown: those that the schema marks `writeOnly`."""
    definitions = _schemas()[_CONNECTOR]["$defs"]
    named = {name for name, definition in definitions.items() if definition.get("writeOnly")}
    return frozenset(
        key
        for definition in definitions.values()
        for key, value in definition.get("properties", {}).items()
        if value.get("writeOnly") or value.get("$ref", "").removeprefix("#/$defs/") in named
    )


def validate_playbook(data: Data) -> list[Problem]:
    """What is wrong with the playbook as it is written. Strings that hold templates are taken on trust until filled in."""
    kind = "list" if isinstance(data, PositionedList) else "play"
    errors = _find_errors(f"{_PLAYBOOK}#/$defs/{kind}", data, templates_allowed=True)
    problems = (problem for error in errors for problem in _explain(error, data, templates_allowed=True))
    return list(islice(problems, MAX_PROBLEMS + 1))


def validate_included(data: Data) -> list[Problem]:
    """What is wrong with a file of steps that a playbook includes."""
    kind = "steps" if isinstance(data, PositionedList) else "included"
    errors = _find_errors(f"{_PLAYBOOK}#/$defs/{kind}", data, templates_allowed=True)
    problems = (problem for error in errors for problem in _explain(error, data, templates_allowed=True))
    return list(islice(problems, MAX_PROBLEMS + 1))


def validate_variables(data: Data) -> list[Problem]:
    """What is wrong with a file of variables."""
    errors = _find_errors(f"{_PLAYBOOK}#/$defs/vars", data, templates_allowed=True)
    problems = (problem for error in errors for problem in _explain(error, data, templates_allowed=True))
    return list(islice(problems, MAX_PROBLEMS + 1))


def validate_connector(
    inputs: PositionedMap,
    step_location: Location,
    *,
    templates_allowed: bool = False,
    hints: Mapping[str, str] | None = None,
    forgiven: Collection[str] = (),
    written: PositionedMap | None = None,
) -> list[Problem]:
    """What is wrong with a step's merged connector inputs, all templates filled in (unless they are allowed).

    `hints` say what to do about a missing key, by its name, where that is something else than usual. `forgiven` are keys
    that may be missing, for a reason that has been told. `written` are the inputs with their templates: what came of one
    is shown.
    """
    hints = hints or {}
    problems: list[Problem] = []
    for error in _find_errors(_CONNECTOR, inputs, templates_allowed=templates_allowed):
        if error.validator == "required" and not error.absolute_path:
            key = _missing_key(error)
            if key in forgiven:
                continue
            hint = hints.get(key) or "Set it in the step, in the connection it names, or in the playbook's defaults."
            problems.append(Problem(step_location, f"the step has no '{key}'", hint))
        else:
            problems += _explain_with(hints, error, inputs, templates_allowed=templates_allowed)
    return problems if written is None else [_show_what_came(one, inputs, written) for one in problems]


def _show_what_came(problem: Problem, inputs: PositionedMap, written: PositionedMap) -> Problem:
    """The problem with the value that a template gave, where that is of another kind, and not to be kept from anybody."""
    for value, location in _pairs(inputs, written):
        if location == problem.location and problem.message.endswith(f", not {describe_type(value)}"):
            return replace(problem, message=f"{problem.message}: {show(value)}")
    return problem


def _pairs(inputs: PositionedMap, written: PositionedMap) -> Iterator[tuple[Any, Location]]:
    """What came of each template in the inputs, and where that stands; nothing that is secret."""
    for key, value in inputs.items():
        place = written.get(key)
        if isinstance(value, PositionedMap) and isinstance(place, PositionedMap) and key not in HOLDERS_OF_SECRETS:
            yield from _pairs(value, place)
        elif isinstance(value, str | int | float) and is_template(place) and key not in secret_keys():
            yield value, written.value_locations[key]


def _explain_with(
    hints: Mapping[str, str], error: ValidationError, data: Data, *, templates_allowed: bool
) -> Iterator[Problem]:
    hint = hints.get(_missing_key(error), "") if error.validator == "required" else ""
    for one in _explain(error, data, templates_allowed=templates_allowed):
        yield replace(one, hint=hint or one.hint)


def validate_jump_host(
    inputs: PositionedMap,
    location: Location,
    *,
    templates_allowed: bool = False,
    hints: Mapping[str, str] | None = None,
    forgiven: Collection[str] = (),
) -> list[Problem]:
    """What is wrong with a jump host's merged inputs; `location` is where the jump host is named. Otherwise as above."""
    hints = hints or {}
    problems: list[Problem] = []
    reference = f"{_CONNECTOR}#/$defs/whole_jump_host"
    for error in _find_errors(reference, inputs, templates_allowed=templates_allowed):
        if error.validator == "required" and not error.absolute_path:
            key = _missing_key(error)
            if key in forgiven:
                continue
            hint = hints.get(key) or "Set it there, in the connection that is named, or in the playbook's defaults."
            problems.append(Problem(location, f"the jump host has no '{key}'", hint))
        else:
            problems += _explain_with(hints, error, inputs, templates_allowed=templates_allowed)
    return problems


def is_template(value: object) -> bool:
    """Whether a value is text that Jinja2 would change. What was encrypted is taken as it is."""
    return (
        isinstance(value, str)
        and not isinstance(value, Decrypted)
        and ("{{" in value or "{%" in value or "{#" in value)
    )


def hint_for_old_boolean(text: str) -> str:
    """What to write for `yes`, `no` and the other booleans of YAML 1.1; empty for any other text."""
    meant = _OLD_BOOLEANS.get(text.strip().lower())
    return "" if meant is None else f"YAML 1.2 reads {text.strip()} as text: write {str(meant).lower()}."


def show(value: object) -> str:
    """A value as an error message quotes it: one line, bounded."""
    return shorten(json.dumps(value, ensure_ascii=True, default=str) if not isinstance(value, str) else repr(value))


def _explain(error: ValidationError, data: Data, *, templates_allowed: bool) -> Iterator[Problem]:
    """Turn one jsonschema error into the problems a reader can act on."""
    if isinstance(error.instance, Unfilled):
        return
    if templates_allowed and (isinstance(error.instance, Decrypted) or _may_fit_later(error)):
        return
    location = locate(data, list(error.absolute_path))
    if "propertyNames" in error.absolute_schema_path:
        yield _explain_bad_name(error, data)
        return
    match error.validator:
        case "anyOf":
            yield from _explain_any_of(error, data, location, templates_allowed=templates_allowed)
        case "additionalProperties":
            yield from _explain_unknown_keys(error)
        case "required":
            key, instance = _missing_key(error), _mapping(error)
            known = frozenset(error.schema.get("properties", {})) if isinstance(error.schema, dict) else frozenset()
            # It is there under a wrong name, which is told.
            if key not in find_misspelt(instance, known | {key}):
                yield Problem(location, f"missing key '{key}'", f"Add '{key}' to this mapping.")
        case _:
            yield _explain_value(error, location)


def _may_fit_later(error: ValidationError) -> bool:
    """Whether a template stands in place of one of several words: which of them, is seen when it is filled in."""
    return error.validator in ("enum", "const") and is_template(error.instance)


def _explain_value(error: ValidationError, location: Location) -> Problem:
    """An error of one value on its own."""
    limit, value, name = error.validator_value, error.instance, _name_of(error)
    match error.validator:
        case "type":
            return Problem(
                location, f"{name} must be {_type_name(limit)}, not {describe_type(value)}", _type_hint(error)
            )
        case "const" if name == "'commands'":
            return Problem(
                location,
                "with 'connector_type: SCP' commands cannot be left out: scp is one that is started on the host",
                "Use connector_type: SFTP, or remove 'commands'.",
            )
        case "enum" | "const":
            return _explain_choice(name, limit if isinstance(limit, list) else [limit], value, location)
        case "minLength":
            return Problem(location, f"{name} must not be empty", "")
        case "minItems":
            return Problem(location, f"{name} must not be empty", "Add at least one entry.")
        case "maxItems":
            return Problem(location, f"{name} must have at most {limit} entries", "")
        case "minimum" | "maximum":
            bound = "at least" if error.validator == "minimum" else "at most"
            return Problem(location, f"{name} must be {bound} {limit}, not {show(value)}", "")
        case "exclusiveMinimum":
            return Problem(location, f"{name} must be more than {limit}, not {show(value)}", "")
        case "uniqueItems":
            return Problem(location, f"{name} lists an entry twice", "Remove the second one.")
        case "pattern":
            return _explain_pattern(error, name, location)
    return Problem(location, f"{name}: {shorten(error.message)}", "")


def _explain_pattern(error: ValidationError, name: str, location: Location) -> Problem:
    """Text that is not of the form that it must have."""
    limit, value = error.validator_value, error.instance
    if limit == _NAME_PATTERN and is_template(value):
        return Problem(location, f"{name} must be a name, not a template: {show(value)}", _TOO_EARLY)
    if limit == _NAME_PATTERN:
        return Problem(location, f"{name} must be a variable's name, not {show(value)}", _NAME_HINT)
    if name == "'permissions'":
        return _explain_permissions(location, value, may_be_servers=SERVERS_PERMISSIONS in str(limit))
    if name == "'bandwidth_limit'":
        message = f"'bandwidth_limit' must be a rate such as 10M or 1.5M, not {show(value)}"
        return Problem(location, message, BANDWIDTH_HINT)
    if limit == DURATION_PATTERN:
        return Problem(location, f"{name} must be a length of time such as 2s or 1h, not {show(value)}", DURATION_HINT)
    return Problem(location, f"{name}: {shorten(error.message)}", "")


def _explain_choice(name: str, limit: list[Any], value: object, location: Location) -> Problem:
    choices = [str(choice) for choice in limit]
    if name == "'mode_name'" and isinstance(value, str) and value in mode_names():
        # What it may be depends on the protocol, and on nothing else.
        message = f"{show(value)} needs SFTP: over SCP 'mode_name' must be {_join_or(choices)}"
        return Problem(location, message, "Use connector_type: SFTP.")
    message = f"{name} must be {' or '.join(choices)}, not {show(value)}"
    return Problem(location, message, nearest(str(value), choices) if len(choices) > 1 else "")


def _explain_permissions(location: Location, value: object, *, may_be_servers: bool) -> Problem:
    if value == SERVERS_PERMISSIONS:
        hint = "It is for uploads: leave 'permissions' out."
        return Problem(location, f"'permissions: {value}' means nothing here", hint)
    more = f", or {SERVERS_PERMISSIONS}" if may_be_servers else ""
    message = f"'permissions' must be three octal digits such as \"0640\"{more}, not {show(value)}"
    return Problem(location, message, "Set-uid, set-gid and sticky bits are never set.")


def _explain_unknown_keys(error: ValidationError) -> Iterator[Problem]:
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    instance = _mapping(error)
    is_jump_host = known.keys() == jump_host_keys()
    for key in instance:
        if key in known:
            continue
        location = instance.key_locations[key]
        if is_jump_host and key in connector_keys():
            hint = _JUMP_HINT if key == "proxy_jump" else f"It only passes bytes on. Known: {', '.join(sorted(known))}."
            yield Problem(location, f"{show(key)} means nothing in a jump host", hint)
        elif key in _LOCATIONS and not known.keys().isdisjoint(_LOCATIONS):
            (fitting,) = known.keys() & _LOCATIONS
            hint = f"It goes with a name on this machine: here that is {show(fitting)}, which may also be left out."
            yield Problem(location, f"{show(key)} means nothing in this direction", hint)
        elif key in _other_direction_keys(instance):
            hint = "It says how an upload is written on the host: remove it."
            yield Problem(location, f"{show(key)} means nothing in a download", hint)
        else:
            yield Problem(location, f"unknown key {show(key)}", _hint_at_key(error, key, known))


def _hint_at_key(error: ValidationError, key: str, known: Collection[str]) -> str:
    # Loaded when a key is wrong.
    from runner.playbook.step_hints import KEYWORDS_HINT, KINDS, KINDS_HINT, hint_at_key

    owner = next((part for part in reversed(error.absolute_path) if isinstance(part, str)), "")
    if hint := hint_at_key(key, owner, known, step_keys(), _mode_keys()):
        return hint
    hint = nearest(key, known)
    if "block" not in known or not hint.startswith("Known:"):
        return hint
    return KINDS_HINT if set(KINDS).isdisjoint(_mapping(error)) else KEYWORDS_HINT


def _other_direction_keys(mode: PositionedMap) -> Collection[str]:
    """The keys that a mode would have if it went the other way, for one that copies to this machine."""
    name = mode.get("mode_name")
    if not isinstance(name, str) or not name.endswith("_to_engine"):
        return ()
    other = _schemas()[_CONNECTOR]["$defs"].get(name.replace("_to_engine", "_from_engine"), {})
    return frozenset(other.get("properties", {}))


def _explain_bad_name(error: ValidationError, data: Data) -> Problem:
    owner: Any = data
    for part in error.absolute_path:
        owner = owner[part]
    message = f"{show(error.instance)} cannot be a variable's name"
    return Problem(owner.key_locations[error.instance], message, _NAME_HINT)


def _explain_any_of(
    error: ValidationError, data: Data, location: Location, *, templates_allowed: bool
) -> Iterator[Problem]:
    branches = [(index, branch) for index, branch in enumerate(_keyword(error)) if not _is_template(branch)]
    value = error.instance
    discriminators = {key for _, branch in branches if (key := _discriminator(branch))}
    if isinstance(value, PositionedMap) and discriminators:
        chosen = _choose_variant(branches, value, discriminators, location, templates_allowed=templates_allowed)
        if isinstance(chosen, Problem):
            yield chosen
            return
    else:
        chosen = next((index for index, branch in branches if _type_fits(branch, value)), None)
        if chosen is None:
            yield _explain_no_type(error, branches, location)
            return
    for inner in error.context or ():
        if inner.relative_schema_path[0] == chosen:
            yield from _explain(inner, data, templates_allowed=templates_allowed)


def _choose_variant(
    branches: list[tuple[int, Any]],
    value: PositionedMap,
    discriminators: set[str],
    location: Location,
    *,
    templates_allowed: bool,
) -> int | Problem | None:
    """The index of the branch that the value's discriminator names; None to say nothing; or what is wrong with it."""
    key = sorted(discriminators)[0]
    choices = {branch["properties"][key]["const"]: index for index, branch in branches if _discriminator(branch)}
    if key not in value:
        misspelt = next((other for other in value if find_meant(other, [key], cutoff=0.8)), None)
        if misspelt is not None:
            return Problem(value.key_locations[misspelt], f"unknown key '{misspelt}'", nearest(misspelt, [key]))
        meant = next((other for other in value if other in choices), None)
        hint = f"Write `{key}: {meant}`." if meant else f"It chooses the variant: {', '.join(choices)}."
        return Problem(location, f"missing key '{key}'", hint)
    if isinstance(value[key], Unfilled) or (templates_allowed and is_template(value[key])):
        return None
    if isinstance(value[key], str) and value[key] in choices:
        return choices[value[key]]
    message = f"'{key}' must be {_join_or(list(choices))}, not {show(value[key])}"
    return Problem(value.value_locations[key], message, nearest(str(value[key]), choices))


def _explain_no_type(error: ValidationError, branches: list[tuple[int, Any]], location: Location) -> Problem:
    expected = []
    for _, branch in branches:
        key = _discriminator(branch)
        wanted = [f"a mapping with '{key}'"] if key else branch.get("enum") or [_type_name(branch.get("type"))]
        expected += [one for one in wanted if one not in expected]
    message = f"{_name_of(error)} must be {_join_or(expected)}, not {describe_type(error.instance)}"
    return Problem(location, message, _type_hint(error))


def _keyword(error: ValidationError) -> Any:
    """The schema keyword's value that the error is about; jsonschema's types call it possibly unset."""
    return error.validator_value


def _missing_key(error: ValidationError) -> str:
    """jsonschema reports each missing key in an error of its own; this one's is the one its message quotes."""
    missing = [str(key) for key in _keyword(error) if key not in _mapping(error)]
    return next(key for key in missing if error.message.startswith(repr(key)))


def _mapping(error: ValidationError) -> PositionedMap:
    """The mapping that the error is about."""
    assert isinstance(error.instance, PositionedMap)
    return error.instance


def _join_or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]


def _name_of(error: ValidationError) -> str:
    """What the failing value is called: its key, or its place in a list."""
    path = list(error.absolute_path)
    if not path:
        return "the playbook"
    if isinstance(path[-1], str):
        return show(path[-1])
    owner = next((part for part in reversed(path) if isinstance(part, str)), None)
    return f"entry {path[-1] + 1} of '{owner}'" if owner and owner != "steps" else f"step {path[-1] + 1}"


def _type_name(wanted: Any) -> str:
    names = {
        "object": "a mapping",
        "array": "a list",
        "string": "a string",
        "integer": "an integer",
        "number": "a number",
        "boolean": "true or false",
    }
    return names.get(str(wanted), str(wanted))


def _type_hint(error: ValidationError) -> str:
    # Loaded when a value is wrong.
    from runner.playbook.step_hints import hint_at_value

    path, value = list(error.absolute_path), error.instance
    own = "" if value is None or is_template(value) else hint_at_value(path[-1] if path else "", value, mode_names())
    if own and not (isinstance(value, str) and "object" in _wanted_types(error) and "=" in value.split(" ")[0]):
        return own
    if path and path[-1] == "permissions" and isinstance(value, int):
        # What was written can no longer be told: 420 may have been 420 or 0o644.
        return (
            'Put the octal digits in quotes, as in "0644": YAML 1.2 reads an unquoted 0644 as the decimal number 644.'
        )
    if value is None:
        return "Nothing is written after the ':'. Give a value, or remove the key."
    if is_template(value):
        return _TOO_EARLY
    if isinstance(value, str) and "boolean" in _wanted_types(error) and (hint := hint_for_old_boolean(value)):
        return hint
    if isinstance(value, str) and "object" in _wanted_types(error) and "=" in value:
        return _mapping_hint(error, value)
    if isinstance(value, bool | int | float) and error.validator_value == "string":
        return "Put it in quotes; in a template, add '| string'."
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return "Remove the quotes."
    return ""


def _wanted_types(error: ValidationError) -> set[str]:
    """The JSON types that would have fitted."""
    wanted = _keyword(error)
    return {str(branch.get("type")) for branch in wanted} if isinstance(wanted, list) else {str(wanted)}


def _mapping_hint(error: ValidationError, text: str) -> str:
    """What to write for a mapping that is written as `key=value` in one line, as Ansible has it."""
    # Few playbooks have anything of it.
    from runner.playbook.ansible.arguments import read_pairs
    from runner.playbook.ansible.writing import write_pair

    pairs, name = read_pairs(text), error.absolute_path[-1] if error.absolute_path else None
    if pairs is None or not isinstance(name, str):
        return ""
    # None of its values is shown that no message may show.
    shown = {key: "…" if key in secret_keys() else value for key, value in pairs.items()}
    return f"'key=value' in one line is text: write `{write_pair(name, shown)}`."


def _is_template(branch: Any) -> bool:
    return bool(branch == _schemas()[_CONNECTOR]["$defs"]["template"])


def _discriminator(branch: dict[str, Any]) -> str | None:
    """The key whose constant tells this branch from its siblings."""
    properties = branch.get("properties", {})
    return next((key for key, value in properties.items() if "const" in value), None)


def _type_fits(branch: dict[str, Any], value: object) -> bool:
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
    }
    wanted = kinds.get(str(branch.get("type")))
    if wanted is None or (wanted is not bool and isinstance(value, bool)):
        return False
    return isinstance(value, wanted)
