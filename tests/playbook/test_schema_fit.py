"""Whether data fits a schema is what jsonschema says of it: for the playbooks there are, and for what is made of them."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.playbook import validation
from runner.playbook.document import Awaited, PositionedList, PositionedMap, Unfilled, parse
from runner.playbook.schema_fit import make_fit
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.resources import playbook_path, schema_text

PLAYBOOKS = sorted(playbook_path("demo.yaml").parent.glob("*.yaml"))
SEEDS = range(12)
CHANGES_PER_SEED = 60
CONNECTOR = json.loads(schema_text("connector"))
# What may come to stand anywhere.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 22, 2.0, 2.5, 65536, 10**30, float("nan"), float("inf"), ""),
    *("0640", "10M", "server", "{{ x }}", "2s", "SFTP", "SCP", "ssh-rsa", "copy_file_from_engine", "known_host"),
    *([], {}, ["a", "a"], [1, 1.0], [True, 1], [[]], {"a": 1}, {"1": 2}, ["ssh-rsa", "ssh-dss"], [{}] * 9),
]


def read(path: Path) -> Any:
    return parse(path.read_text(encoding="utf-8"), str(path), Vault(None, Redactor()), lambda problem: None)


def reference_for(data: Any) -> str:
    return f"{validation._PLAYBOOK}#/$defs/{'list' if isinstance(data, list) else 'play'}"


def is_valid(reference: str, data: Any, *, templates_allowed: bool) -> bool:
    """What jsonschema says."""
    validator = validation._validator(reference, templates_allowed=templates_allowed)
    return next(validator.iter_errors(data), None) is None


def fits(reference: str, data: Any, *, templates_allowed: bool) -> bool:
    return validation._fit(reference, templates_allowed=templates_allowed)(data)


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what holds it, and its key or position there."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from parts_of(value[key])


def change(data: Any, chance: random.Random, values: list[Any]) -> None:
    """Put something else somewhere, take something away, or add something."""
    holder, key = chance.choice(list(parts_of(data)))
    what = chance.randrange(5)
    if what == 0 and isinstance(holder, dict):
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[chance.choice(["host", "mode", "when", "loop", "unheard_of", "known_host"])] = chance.choice(values)
    elif what == 2:
        _, other = chance.choice(list(parts_of(data)))
        if isinstance(holder, dict) and isinstance(other, str):
            holder[other] = holder[key]
    else:
        new = chance.choice(values)
        holder[key] = new if isinstance(new, str) else copy.deepcopy(new)


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_example_fits(path: Path) -> None:
    data = read(path)

    assert fits(reference_for(data), data, templates_allowed=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_made_of_them_fits_if_it_is_valid(seed: int) -> None:
    chance, answers = random.Random(seed), []
    for path in chance.sample(PLAYBOOKS, 4):
        data = json.loads(json.dumps(read(path)))
        reference = reference_for(data)
        for _ in range(CHANGES_PER_SEED // 4):
            changed = copy.deepcopy(data)
            for _ in range(chance.randint(1, 3)):
                change(changed, chance, VALUES)
            valid = is_valid(reference, changed, templates_allowed=True)
            assert fits(reference, changed, templates_allowed=True) == valid, json.dumps(changed)
            answers.append(valid)
    assert {True, False} == set(answers)


def constant_of(rule: dict[str, Any]) -> Any:
    """The one value that a discriminator has in a variant, beside a template; None for any other input."""
    return next((one["const"] for one in rule.get("anyOf", [rule]) if "const" in one), None)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_s_inputs_fit_if_they_are_valid(seed: int) -> None:
    chance = random.Random(seed)
    modes = [one for one in CONNECTOR["$defs"].values() if "mode_name" in one.get("properties", {})]
    for _ in range(CHANGES_PER_SEED):
        mode = chance.choice(modes)
        data: dict[str, Any] = {
            "host": "h",
            "port": 22,
            "authentication": {"authentication_method": "ssh_agent", "username": "u"},
            "mode": {key: chance.choice([constant_of(rule), *VALUES]) for key, rule in mode["properties"].items()},
            "connector_type": chance.choice(["SFTP", "SFTP", "SCP", 1]),
        }
        data["mode"] = {key: value for key, value in data["mode"].items() if value is not None}
        if chance.random() < 0.7:
            data["mode"]["mode_name"] = constant_of(mode["properties"]["mode_name"])
        change(data, chance, VALUES)
        valid = is_valid(validation._CONNECTOR, data, templates_allowed=False)
        assert fits(validation._CONNECTOR, data, templates_allowed=False) == valid, json.dumps(data)


def with_positions(value: Any) -> Any:
    """The value as a playbook holds it."""
    here = read(PLAYBOOKS[0]).location
    if isinstance(value, dict):
        mapping = PositionedMap(here)
        for key, item in value.items():
            mapping.put(key, with_positions(item), here, here)
        return mapping
    if isinstance(value, list):
        items = PositionedList(here)
        for item in value:
            items.add(with_positions(item), here)
        return items
    return value


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_unknown_hides_no_mistake_beside_it(seed: int) -> None:
    chance, fitting = random.Random(seed), 0
    unknown = [Unfilled("{{ x }}"), Awaited("{{ x }}", "a step"), Unfilled("")]
    for path in chance.sample(PLAYBOOKS, 8):
        data = read(path)
        steps = data if isinstance(data, list) else data["steps"]
        for step in [step for step in json.loads(json.dumps(steps)) if "mode" in step]:
            inputs = {key: value for key, value in step.items() if key in validation.connector_keys()}
            inputs |= {"host": "h", "authentication": {"authentication_method": "ssh_agent", "username": "u"}}
            for _ in range(3):
                changed = copy.deepcopy(inputs)
                change(changed, chance, unknown)
                change(changed, chance, [*unknown, *VALUES])
                positioned = with_positions(changed)
                if fits(validation._CONNECTOR, positioned, templates_allowed=False):
                    fitting += 1
                    errors = validation._validator(validation._CONNECTOR, templates_allowed=False)
                    told = [
                        problem
                        for error in errors.iter_errors(positioned)
                        for problem in validation._explain(error, positioned, templates_allowed=False)
                    ]
                    assert told == [], changed
    assert fitting


@pytest.mark.parametrize(
    "schema",
    [
        {"multipleOf": 2},
        {"properties": {"a": {"oneOf": [{}]}}},
        {"const": 1},
        {"enum": ["a", 1.5]},
    ],
)
def test_a_keyword_that_it_does_not_know_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"keyword|choice"):
        make_fit(schema)({"a": 1})


def test_every_keyword_of_our_schemas_is_known() -> None:
    for name in (validation._CONNECTOR, validation._PLAYBOOK):
        for definition in validation._schemas()[name]["$defs"]:
            for templates_allowed in (True, False):
                _look_at_all(f"{name}#/$defs/{definition}", templates_allowed)
        _look_at_all(name, True)


def _look_at_all(reference: str, templates_allowed: bool) -> None:
    """Make the checks of a schema and of every one in it."""
    seen: set[int] = set()
    waiting = [validation._inline({"$ref": reference}, "", templates_allowed=templates_allowed)]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, dict) and id(schema) not in seen:
            seen.add(id(schema))
            make_fit(schema)(None)
            for keyword in ("properties", "items", "additionalProperties", "propertyNames", "if", "then", "else"):
                inner = schema.get(keyword, {})
                waiting += inner.values() if keyword == "properties" else [inner]
            waiting += [*schema.get("anyOf", ()), *schema.get("allOf", ())]


def test_jsonschema_is_loaded_for_what_does_not_fit_only(tmp_path: Path) -> None:
    code = (
        "import sys; from runner.cli.main import run\n"
        "code = run(['validate', sys.argv[1]])\n"
        "print(code, 'jsonschema' in sys.modules)"
    )
    path = tmp_path / "play.yaml"
    told = []
    for text in ("[{debug: {msg: x}}]", "[{debug: {message: x}}]"):
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        told.append(done.stdout.splitlines()[-1])

    assert told == ["0 False", "3 True"]
