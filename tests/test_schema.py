"""The JSON Schemas: valid, described throughout, resolved without a network, and as strict as they say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from runner.operation_results import FolderCreation, Listing, Removal, Renaming, Stats
from runner.plan import CopyFileToEngine, Endpoint, KnownHosts, SshAgent, Step
from runner.playbook.document import PositionedList, parse
from runner.playbook.validation import validate_playbook
from runner.problems import Location, Problem
from runner.redaction import Redactor
from runner.report.json_report import describe_failure, describe_play, describe_problems, to_json
from runner.resources import SCHEMA_NAMES, bundled_schema, schema_text
from runner.results import CopyResult, Entry, Output, PlayResult, StepFailure, StepResult
from tests.conftest import Runner
from tests.servers.keys import shared_key_pair

SCHEMAS: dict[str, Any] = {name: json.loads(schema_text(name)) for name in SCHEMA_NAMES}
BASE = "https://ssh-transfer-runner.invalid/schema"
PLAIN_TYPES = {"string", "integer", "number", "boolean", "array", "null"}


def refuse_to_fetch(uri: str) -> Resource[Any]:
    raise AssertionError(f"{uri} would be fetched")


REGISTRY: Registry[Any] = Registry(retrieve=refuse_to_fetch).with_resources(  # type: ignore[call-arg]
    (schema["$id"], DRAFT202012.create_resource(schema)) for schema in SCHEMAS.values()
)
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_moment(value: object) -> bool:
    """RFC 3339: a date, a time, and an offset. A format says nothing of what is no text."""
    return not isinstance(value, str) or (datetime.fromisoformat(value).utcoffset() is not None and "T" in value)


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], registry=REGISTRY, format_checker=FORMATS)


def walk(schema: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every subschema below `schema`, with its path."""
    if isinstance(schema, dict):
        yield path, schema
        for keyword in ("properties", "$defs"):
            for name, inner in schema.get(keyword, {}).items():
                yield from walk(inner, f"{path}/{keyword}/{name}")
        for keyword in ("items", "additionalProperties", "propertyNames"):
            yield from walk(schema.get(keyword), f"{path}/{keyword}")
        for index, inner in enumerate(schema.get("anyOf", ())):
            yield from walk(inner, f"{path}/anyOf/{index}")
        for keyword in ("if", "then", "else"):
            yield from walk(schema.get(keyword), f"{path}/{keyword}")


SUBSCHEMAS = [(name, path, inner) for name, schema in SCHEMAS.items() for path, inner in walk(schema)]


def resolve(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What a schema stands for, references followed; its own keywords win."""
    while "$ref" in schema:
        resolver = REGISTRY.resolver(base_uri=SCHEMAS[name]["$id"])
        resolved = resolver.lookup(schema["$ref"])
        name = resolved.resolver._base_uri.rpartition("/")[2].removesuffix(".schema.json")
        schema = {**resolved.contents, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_a_schema_is_valid_json_schema_2020_12(name: str) -> None:
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMAS[name], format_checker=FORMATS)


def test_its_name_is_absolute_and_has_the_version_of_what_it_describes() -> None:
    """The name that the project is distributed under, in a domain that nobody can ever own (RFC 6761)."""
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
    assert f"https://{setup['metadata']['name']}.invalid/schema" == BASE
    for name, schema in SCHEMAS.items():
        versions = {
            "playbook": SCHEMAS["playbook"]["$defs"]["play"]["properties"]["schema_version"]["enum"],
            "report": [SCHEMAS["report"]["properties"]["schema_version"]["const"]],
        }
        (version,) = versions.get(name, versions["playbook"])
        assert schema["$id"] == f"{BASE}/{version}/{name}.schema.json"


def test_no_keyword_is_misspelt() -> None:
    known = {
        *("$schema", "$id", "$ref", "$defs", "title", "description", "examples", "default", "writeOnly", "format"),
        *("type", "enum", "const", "pattern", "minLength", "minimum", "exclusiveMinimum", "maximum"),
        *(
            "properties",
            "required",
            "additionalProperties",
            "propertyNames",
            "items",
            "minItems",
            "maxItems",
            "uniqueItems",
            "anyOf",
            *("allOf", "if", "then", "else", "$comment"),
            # Of editors: a sentence for each value.
            "enumDescriptions",
        ),
    }
    assert {key for _, _, schema in SUBSCHEMAS for key in schema} <= known


def test_every_reference_resolves_and_none_is_fetched() -> None:
    references = [(name, schema) for name, _, schema in SUBSCHEMAS if "$ref" in schema]

    assert len(references) > 50
    for name, schema in references:
        assert resolve(name, schema)


def test_a_reference_that_is_not_ours_would_be_noticed() -> None:
    with pytest.raises(Unresolvable):
        resolve("playbook", {"$ref": "https://example.com/other.schema.json"})


# What is there to narrow a schema down has nothing of its own to say.
NARROWING = ("without_ssh_config", "login_with_username", "with_username")


def properties() -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Every key of every mapping: the schema's name, the key's place, what it is, and the mapping that has it."""
    for name, path, schema in SUBSCHEMAS:
        if not any(f"/$defs/{one}" in path for one in NARROWING) and "/if" not in path:
            for key, inner in schema.get("properties", {}).items():
                yield name, f"{name}{path}/{key}", resolve(name, inner), schema


def constants_of(schema: dict[str, Any]) -> list[Any]:
    """The one value that it may have besides a template, if there is one."""
    return [one["const"] for one in (schema, *schema.get("anyOf", ())) if "const" in one]


def test_every_key_is_described() -> None:
    assert [place for _, place, inner, _ in properties() if not inner.get("description")] == []


def test_every_key_has_examples() -> None:
    lacking = [place for _, place, inner, _ in properties() if not inner.get("examples") and not constants_of(inner)]

    assert lacking == []


# What these are when they are left out, nothing that stands there would say: they are absent, or their description tells.
WITHOUT_DEFAULT = {
    # Where it goes, and what it does.
    *(
        "authentication",
        "host",
        "host_key_alias",
        "mode",
        "username",
        "connection",
        "schema_version",
        "bandwidth_limit",
    ),
    *("passphrase", "password", "totp_secret", "answers", "certificate_file", "public_key", "known_hosts_file"),
    # Options without which a copy is as it is.
    *("modify_window", "permissions", "temporary_name", "temporary_directory", "channels", "include", "exclude"),
    # Names, and what a step is.
    *("name", "owner", "register", "index_var", "label", "loop", "loop_control", "timeout", "vars_files", "inputs"),
    *("defaults", "connections", "block", "rescue", "always", "include_steps", "assert", "set_fact", "debug", "fail"),
    *("pause", "until", "failed_when", "changed_when", "check_mode", "fail_msg", "success_msg", "msg", "var"),
    # Of inputs.
    *("description", "default", "enum", "pattern", "env"),
}


def test_every_key_that_may_be_left_out_has_a_default_or_none_is_there_to_have() -> None:
    without = {
        place.rpartition("/")[2]
        for name, place, inner, owner in properties()
        if name != "report" and "default" not in inner and not constants_of(inner)
        if place.rpartition("/")[2] not in owner.get("required", ())
    }

    # The discriminators of variants are named in what each of them requires.
    chosen = {"authentication_method", "hostkey_mode", "port_mode", "mode_name", "type"}
    assert without - chosen == WITHOUT_DEFAULT


def test_every_value_that_can_be_chosen_has_a_sentence() -> None:
    checked = 0
    for name, path, schema in SUBSCHEMAS:
        if name == "report" or len(schema.get("enum", ())) < 2:
            continue
        sentences = schema["enumDescriptions"]
        assert len(sentences) == len(schema["enum"]), path
        assert all(one.endswith(".") and " " in one for one in sentences), (path, sentences)
        assert len(set(sentences)) == len(sentences), path
        checked += 1
    assert checked > 15


@pytest.mark.parametrize("key", ["authentication", "hostkey", "port", "mode", "proxy"])
def test_the_values_of_a_discriminator_stand_beside_its_variants_as_well(key: str) -> None:
    """There an editor finds them all, whichever of the variants it holds for the right one."""
    schema = SCHEMAS["connector"]["properties"][key]
    ((discriminator, beside),) = schema["properties"].items()
    variants = [resolve("connector", one) for one in schema["anyOf"]]
    constants = [one["properties"][discriminator] for one in variants if one.get("type") == "object"]

    choice = beside["anyOf"][0]
    assert choice["enum"] == [constants_of(one)[0] for one in constants]
    assert choice["enumDescriptions"] == [one["description"] for one in constants]


def takes_templates(schema: dict[str, Any]) -> bool:
    """Whether any text that holds a template fits."""
    return Draft202012Validator({**schema}, registry=REGISTRY).is_valid("{{ x }}")


# Names, and what must be known before anything is filled in.
WRITTEN_OUT = {
    *("playbook/play/schema_version", "playbook/play/vars", "playbook/play/defaults", "playbook/play/connections"),
    *("playbook/play/steps", "playbook/play/inputs", "playbook/connection/vars", "playbook/step/vars"),
    *("playbook/step/loop_control", "playbook/step/register", "playbook/step/block", "playbook/step/rescue"),
    *("playbook/step/always", "playbook/step/assert", "playbook/step/set_fact", "playbook/step/debug"),
    *("playbook/step/fail", "playbook/step/pause", "playbook/loop_control/loop_var", "playbook/loop_control/index_var"),
    *("playbook/loop_control/extended", "playbook/included/vars", "playbook/included/steps"),
    *(f"playbook/input/{key}" for key in ("type", "required", "enum", "secret")),
}


def test_a_template_may_stand_for_every_value_that_it_can_give() -> None:
    refusing = set()
    for name, path, schema in SUBSCHEMAS:
        if name != "report" and not any(f"/$defs/{one}" in path for one in NARROWING) and "/if" not in path:
            for key in schema.get("properties", {}):
                pointer = f"{path.removeprefix('#')}/properties/{key}"
                if not takes_templates({"$ref": f"{SCHEMAS[name]['$id']}#{pointer}"}):
                    owner = path.rpartition("/")[2].removeprefix("#")
                    refusing.add("/".join(part for part in (name, owner, key) if part))

    assert refusing == WRITTEN_OUT


def test_extensions_are_told_apart_from_the_documented_inputs() -> None:
    properties = SCHEMAS["connector"]["properties"]
    documented = {key for key, inner in properties.items() if not inner["description"].startswith("Extension")}
    variants = {
        key
        for key, inner in SCHEMAS["connector"]["$defs"].items()
        if inner.get("type") == "object" and not inner["description"].startswith("Extension")
    }

    assert documented == {
        *("connector_type", "schema_version", "authentication", "host", "hostkey", "port", "mode", "connect_timeout")
    }
    assert variants == {
        *("username_password", "ssh_key", "known_host", "port_number", "copy_file_to_engine", "copy_file_from_engine"),
        # Operations that the vendor's newer page names without their fields.
        *("copy_directory_to_engine", "copy_directory_from_engine"),
        *("list", "stats", "remove", "rename", "create_directory"),
        # Of the newer page's example.
        "inherit_from_execution",
    }


def test_every_object_is_closed() -> None:
    open_objects = [
        f"{name}{path}"
        for name, path, schema in SUBSCHEMAS
        if schema.get("type") == "object"
        and schema.get("additionalProperties") is not False
        and not isinstance(schema.get("additionalProperties"), dict)
        and "propertyNames" not in schema
    ]
    assert open_objects == []


def test_the_branches_of_every_any_of_are_told_apart_by_a_constant_or_by_their_type() -> None:
    choices = [(f"{name}{path}", name, schema["anyOf"]) for name, path, schema in SUBSCHEMAS if "anyOf" in schema]
    assert len(choices) > 10
    for place, name, branches in choices:
        resolved = [resolve(name, branch) for branch in branches]
        objects = [branch for branch in resolved if branch.get("type") == "object"]
        others = [branch for branch in resolved if branch.get("type") != "object"]
        assert all(branch.get("type") in PLAIN_TYPES for branch in others), place
        assert all("additionalProperties" in branch for branch in objects), place
        if len(objects) > 1:
            assert all(branch["additionalProperties"] is False for branch in objects), place
            discriminators = [
                {
                    (key, constants_of(inner)[0])
                    for key, inner in branch["properties"].items()
                    if constants_of(inner) and key in branch["required"]
                }
                for branch in objects
            ]
            assert all(len(one) == 1 for one in discriminators), place
            assert len({next(iter(one))[0] for one in discriminators}) == 1, place
            assert len(set.union(*discriminators)) == len(objects), place


def test_defaults_and_examples_fit_their_own_schemas() -> None:
    checked = 0
    for name, path, schema in SUBSCHEMAS:
        for value in [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else ())]:
            pointer = path.removeprefix("#")
            fitting = Draft202012Validator({"$ref": f"{SCHEMAS[name]['$id']}#{pointer}"}, registry=REGISTRY)
            fitting.validate(value)
            checked += 1
    assert checked > 20


def test_every_input_of_the_connector_may_stand_in_defaults_a_connection_and_a_step() -> None:
    inputs = set(SCHEMAS["connector"]["properties"])
    definitions = SCHEMAS["playbook"]["$defs"]

    assert set(definitions["defaults"]["properties"]) == inputs
    assert set(definitions["connection"]["properties"]) - inputs == {"vars"}
    assert set(definitions["step"]["properties"]) - inputs == {
        "name",
        "connection",
        "vars",
        "retries",
        "delay",
        "timeout",
        *("when", "loop", "loop_control", "register", "until", "failed_when", "changed_when", "tags"),
        *("ignore_errors", "ignore_unreachable", "no_log", "check_mode", "diff"),
        *("block", "rescue", "always", "include_steps", "assert", "set_fact", "debug", "fail", "pause"),
    }


class TestBundle:
    """`runner schema --bundle`."""

    @pytest.mark.parametrize("name", SCHEMA_NAMES)
    def test_it_refers_to_nothing_outside_of_itself(self, name: str) -> None:
        text = json.dumps(bundled_schema(name))
        alone = Draft202012Validator(json.loads(text), registry=Registry(retrieve=refuse_to_fetch))  # type: ignore[call-arg]

        assert re.findall(r'"\$ref": "([^#][^"]*)', text) == []
        assert text.count('"$id"') == text.count('"$schema"') == 1
        Draft202012Validator.check_schema(alone.schema)
        for reference in set(re.findall(r'"\$ref": "(#[^"]*)"', text)):
            found: Any = alone.schema
            for part in reference.split("/")[1:]:
                found = found[part]
            assert isinstance(found, dict), reference

    def test_it_judges_as_the_three_do(self) -> None:
        bundle = bundled_schema("playbook")
        alone = Draft202012Validator(bundle, registry=Registry(retrieve=refuse_to_fetch))  # type: ignore[call-arg]

        for inputs in VALID:
            assert alone.is_valid([inputs]), inputs
        for inputs in INVALID:
            assert alone.is_valid([inputs]) == validator("playbook").is_valid([inputs]), inputs
        inner = Draft202012Validator({**bundle, "if": True, "then": {"$ref": "#/$defs/report"}}, format_checker=FORMATS)
        report = json.loads(to_json(describe_play(PLAY), Redactor()))
        assert inner.is_valid(report)
        assert not inner.is_valid({**report, "status": "fine"})

    def test_the_command_prints_it(self, runner: Runner) -> None:
        outcome = runner("schema", "--bundle")

        assert outcome.exit_code == 0
        assert json.loads(outcome.stdout) == bundled_schema("playbook")
        assert json.loads(runner("schema", "--bundle", "report").stdout)["$id"] == f"{BASE}/1/report.bundle.schema.json"


# The documented examples, key for key; what stands as '...' there is filled in.
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ8z5Zp0vV0nWjZ0g8c6f4V0oQXhZkq3rC3o2rT9s0x"
COPY_TO_ENGINE = f"""\
- connector_type: SCP
  authentication:
    authentication_method: ssh_key
    username: acme
    ssh_key: "{{{{ lookup('env', 'BANK_KEY') }}}}"
  host: sftp.bank.example
  hostkey:
    hostkey_mode: known_host
    known_host: {KEY}
  mode:
    mode_name: copy_file_to_engine
    source_file_name: /outbox/report.csv
    destination_file_name: report.csv
"""
COPY_FROM_ENGINE = f"""\
- connector_type: SCP
  authentication:
    authentication_method: username_password
    username: acme
    password: "{{{{ lookup('env', 'BANK_KEY') }}}}"
  host: sftp.bank.example
  port:
    port_mode: port_number
    port_number: 2022 # non-standard port
  hostkey:
    hostkey_mode: known_host
    known_host: {KEY}
  mode:
    mode_name: copy_file_from_engine
    source_file_name: report.csv
    destination_file_name: /inbox/report.csv
"""
# That of the newest page, and the same in the other direction.
NEWEST, NEWEST_UPLOAD = (
    f"{example}    {name}:\n      location_mode: inherit_from_execution\n"
    for example, name in ((COPY_TO_ENGINE, "destination_location"), (COPY_FROM_ENGINE, "source_location"))
)


@pytest.mark.parametrize("connector_type", ["SCP", "SFTP"])
@pytest.mark.parametrize("example", [COPY_TO_ENGINE, COPY_FROM_ENGINE, NEWEST, NEWEST_UPLOAD])
def test_the_documented_examples_are_valid_key_for_key(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, example: str, connector_type: str
) -> None:
    # One of the examples takes it for a password.
    monkeypatch.setenv("BANK_KEY", shared_key_pair().private_text)
    text = example.replace("connector_type: SCP", f"connector_type: {connector_type}")
    (runner.folder / "play.yaml").write_text(text, encoding="utf-8")
    steps = parse(text, "play.yaml")

    validator("playbook").validate(steps)
    validator("connector").validate(steps[0] if isinstance(steps, PositionedList) else None)
    outcome = runner("validate", str(runner.folder / "play.yaml"))

    assert outcome.exit_code == 0, outcome.output


def connector(**inputs: Any) -> dict[str, Any]:
    """A connector's input; None takes an input away."""
    example: dict[str, Any] = SCHEMAS["connector"]["examples"][0]
    return {key: value for key, value in {**example, **inputs}.items() if value is not None}


def copy(**options: Any) -> dict[str, Any]:
    return {
        "mode_name": "copy_file_to_engine",
        "source_file_name": "a",
        "destination_file_name": "b",
        **options,
    }


def send(**options: Any) -> dict[str, Any]:
    return copy(**{"mode_name": "copy_file_from_engine", **options})


NAMELESS = {"authentication_method": "ssh_agent"}

VALID = [
    connector(),
    connector(connector_type=None, port=None, hostkey=None),
    connector(port=22),
    connector(port="{{ port }}"),
    connector(port={"port_mode": "default_port"}),
    connector(port={"port_mode": "port_number", "port_number": "{{ port }}"}),
    connector(schema_version="1", connect_timeout=1, keepalive_interval=0, stall_timeout=1),
    connector(bandwidth_limit="10M"),
    connector(bandwidth_limit="1.5k"),
    connector(bandwidth_limit=1024),
    connector(bandwidth_limit="{{ limit }}"),
    connector(authentication={"authentication_method": "ssh_agent", "username": "u"}),
    connector(authentication={"authentication_method": "ssh_key", "username": "u", "ssh_key": "k", "passphrase": "p"}),
    connector(authentication={"authentication_method": "ssh_key_file", "username": "u", "ssh_key_file": "k"}),
    connector(authentication="{{ login }}"),
    connector(hostkey={"hostkey_mode": "known_host", "known_host": ["a", "b"]}),
    connector(hostkey={"hostkey_mode": "fingerprint", "fingerprint": "SHA256:x"}),
    connector(hostkey={"hostkey_mode": "known_hosts_file"}),
    connector(hostkey={"hostkey_mode": "known_hosts_file", "known_hosts_file": ["a", "b"]}),
    connector(host_key_alias="bank"),
    connector(ssh_config=False),
    connector(ssh_config="ci/ssh_config", authentication=None),
    connector(ssh_config=True, authentication=NAMELESS),
    connector(ssh_config="{{ config }}", authentication=NAMELESS),
    connector(mode=copy()),
    connector(mode=copy(permissions="0640", preserve=[], compare="always", if_exists="skip", verify="size")),
    connector(mode=copy(permissions="{{ permissions }}", atomic=False, create_parents="{{ yes }}")),
    connector(mode=copy(backup=True)),
    connector(mode=copy(durable="{{ durable }}")),
    connector(mode=copy(compare="size", verify="none", channels=8)),
    connector(mode=send(permissions="server")),
    connector(mode=send(temporary_name="{name}.filepart", temporary_directory="/staging", permissions="0640")),
    connector(mode=send(temporary_name="{{ name }}", permissions="{{ permissions }}")),
    connector(mode=copy(modify_window="2s")),
    connector(mode=copy(modify_window=3600, channels="{{ channels }}")),
    connector(mode=copy(modify_window="{{ window }}")),
    connector(connector_type="SFTP", mode={"mode_name": "list", "path": "a", "recursive": "{{ deep }}"}),
    connector(connector_type="SFTP", mode={"mode_name": "stats", "path": "/"}),
    connector(connector_type="SFTP", mode={"mode_name": "remove", "path": "a", "recursive": True, "missing_ok": False}),
    connector(
        connector_type="SFTP",
        mode={"mode_name": "rename", "source_path": "a", "destination_path": "b", "overwrite": True},
    ),
    connector(
        connector_type="SFTP",
        mode={"mode_name": "create_directory", "path": "a", "permissions": "0750", "parents": False},
    ),
]

INVALID = [
    connector(host=None),
    connector(mode=None),
    connector(authentication=None),
    connector(host=""),
    connector(hosts="x"),
    connector(host_key_alias=""),
    connector(host_key_alias=["bank"]),
    connector(connector_type="sftp"),
    connector(connector_type="FTP"),
    connector(port="22"),
    connector(port=0),
    connector(port=65536),
    connector(port={"port_mode": "default_port", "port_number": 22}),
    connector(port={"port_number": 22}),
    connector(bandwidth_limit=1023),
    connector(bandwidth_limit="10MB"),
    connector(bandwidth_limit="10 M"),
    connector(bandwidth_limit=1.5),
    connector(connect_timeout=0),
    connector(connect_timeout=1.5),
    connector(connect_timeout=True),
    connector(authentication="secret"),
    connector(authentication={"username": "u", "password": "p"}),
    connector(authentication={"authentication_method": "username_password", "username": "u"}),
    connector(authentication={"authentication_method": "ssh_agent", "username": "u", "passphrase": "p"}),
    connector(authentication={"authentication_method": "none", "username": "u"}),
    connector(authentication=NAMELESS),
    connector(ssh_config=False, authentication=NAMELESS),
    connector(ssh_config=False, authentication=None),
    connector(ssh_config=1),
    connector(ssh_config=""),
    connector(ssh_config=["a"]),
    connector(proxy_jump=[{"host": "h", "authentication": NAMELESS}]),
    connector(proxy_jump={"host": "h", "authentication": NAMELESS}),
    connector(hostkey={"hostkey_mode": "none"}),
    connector(hostkey={"hostkey_mode": "known_host"}),
    connector(hostkey={"hostkey_mode": "known_host", "known_host": []}),
    connector(hostkey="x"),
    connector(hostkey=False),
    connector(mode={"mode_name": "chown", "path": "/"}),
    connector(connector_type="SFTP", mode={"mode_name": "list"}),
    connector(connector_type="SFTP", mode={"mode_name": "list", "path": "/", "parents": True}),
    connector(
        connector_type="SFTP",
        mode={
            "mode_name": "stats",
            "path": "",
        },
    ),
    connector(connector_type="SFTP", mode={"mode_name": "stats", "path": "a", "recursive": True}),
    connector(connector_type="SFTP", mode={"mode_name": "remove", "path": ""}),
    connector(connector_type="SFTP", mode={"mode_name": "remove", "path": "a", "recursive": "yes"}),
    connector(connector_type="SFTP", mode={"mode_name": "rename", "source_path": "a"}),
    connector(connector_type="SFTP", mode={"mode_name": "create_directory", "path": "a", "permissions": 750}),
    connector(connector_type="SFTP", mode={"mode_name": "create_directory", "path": "a", "permissions": "1777"}),
    connector(mode={"mode_name": "copy_directory_to_engine"}),
    connector(mode=copy(backup="yes")),
    connector(mode=copy(durable="disk")),
    connector(mode=copy(modify_window="2 seconds")),
    connector(mode=copy(modify_window=-1)),
    connector(mode=copy(modify_window=604801)),
    connector(mode=copy(permissions="server")),
    connector(mode=copy(temporary_name="{name}.filepart")),
    connector(mode=copy(temporary_directory="/staging")),
    connector(mode=send(permissions="servers")),
    connector(mode=send(temporary_name="")),
    connector(mode=send(temporary_directory=["/staging"])),
    connector(mode=copy(channels=0)),
    connector(mode=copy(channels="1")),
    connector(mode=copy(source_file_name="")),
    connector(mode=copy(permissions=640)),
    connector(mode=copy(permissions="4755")),
    connector(mode=copy(permissions="648")),
    connector(mode=copy(preserve=["owner"])),
    connector(mode=copy(preserve=["times", "times"])),
    connector(mode=copy(compare="hash")),
    connector(mode=copy(overwrite=True)),
    connector(mode=copy(atomic="no")),
]


@pytest.mark.parametrize("inputs", VALID, ids=str)
def test_a_right_input_is_accepted(inputs: dict[str, Any]) -> None:
    validator("connector").validate(inputs)
    validator("playbook").validate([inputs])
    assert validate_playbook(parse(json.dumps([inputs]), "f")) == []


@pytest.mark.parametrize("inputs", INVALID, ids=str)
def test_a_wrong_input_is_refused_and_explained(inputs: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validator("connector").validate(inputs)

    # A step may leave out what its connection has; everything else is refused there too, in words.
    if {"host", "mode", "authentication"} <= inputs.keys():
        with pytest.raises(ValidationError):
            validator("playbook").validate([inputs])
        assert validate_playbook(parse(json.dumps([inputs]), "f"))


@pytest.mark.parametrize(
    "playbook",
    [
        [{}],
        {"steps": [{}]},
        {
            "name": "x",
            "schema_version": "1",
            "vars": {"a": [1, None]},
            "defaults": {},
            "connections": {},
            "steps": [{}],
        },
        {"connections": {"bank": {"vars": {"x": 1}, "host": "h"}}, "steps": [{"connection": "bank"}], "workdir": "~"},
        {"defaults": {"ssh_config": True}, "steps": [{"authentication": NAMELESS}]},
        {"connections": {"bank": {"ssh_config": "x"}}, "steps": [{"authentication": NAMELESS}]},
        {"defaults": {"authentication": NAMELESS}, "steps": [{"ssh_config": True}]},
        {"steps": [{"proxy_jump": [{"ssh_config": True, "authentication": NAMELESS}]}]},
    ],
    ids=str,
)
def test_both_shapes_of_a_playbook_are_accepted(playbook: Any) -> None:
    validator("playbook").validate(playbook)


@pytest.mark.parametrize(
    "playbook",
    [
        [],
        {},
        "x",
        None,
        {"steps": []},
        {"steps": {}},
        {"step": [{}]},
        {"steps": [{}], "hosts": "x"},
        {"steps": [{}], "vars": {"a-b": 1}},
        {"steps": [{}], "schema_version": 1},
        {"steps": [{}], "workdir": ""},
        {"steps": [{"authentication": NAMELESS}]},
        {"steps": [{}], "defaults": {"authentication": NAMELESS}},
        {"steps": [{}], "connections": {"bank": {"authentication": NAMELESS}}},
        {"steps": [{"ssh_config": False, "authentication": NAMELESS}], "defaults": {"ssh_config": False}},
        {"steps": [{}], "connections": {"bank": None}},
        {"steps": [{}], "defaults": {"connection": "x"}},
        [{"connection": ""}],
        [{"name": ""}],
        [None],
    ],
    ids=str,
)
def test_what_is_no_playbook_is_refused(playbook: Any) -> None:
    with pytest.raises(ValidationError):
        validator("playbook").validate(playbook)


STARTED = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
STEP = Step(
    index=1,
    name="Fetch",
    host_label="bank",
    connector_type="SFTP",
    endpoint=Endpoint("sftp.bank.example", 22, SshAgent("acme"), KnownHosts()),
    mode=CopyFileToEngine("/outbox/a", "/data/a"),
    connect_timeout_seconds=30,
    stall_timeout_seconds=60,
    location=Location("play.yaml", 3, 5),
)
COPY = CopyResult("/outbox/a", "/data/a", 10, 1, 10, "copied", verified="size", atomic=True, warnings=("a warning",))
CHANGED = StepResult(STEP, "changed", STARTED, 0.5, "copied", output=COPY)
FAILED = StepResult(
    STEP, "failed", STARTED, 0.0, "no such file", failure=StepFailure("SourceMissing", "no such file", "hint", 2)
)
SKIPPED = StepResult(STEP, "skipped", STARTED, 0.0, "an earlier step failed", attempts=0)
PLAY = PlayResult("play.yaml", "Nightly", False, STARTED, STARTED + timedelta(seconds=1), 1.0, 0, steps=(CHANGED,))


ENTRIES = (
    Entry("in/a", "file", 10, 0o640, 1_500_000_000),
    Entry("in/caf\udce9", "link", None, 0o777, 0, "../a"),
    Entry("in/c", "other", None, None, None),
    Entry("in/d", "link", None, None, 2**32 - 1, None),
)
OUTPUTS: list[Output] = [
    replace(COPY, backup="/data/a.2026-11-24T120501Z~"),
    replace(COPY, backups=("/data/a.2026-11-24T120501Z~",), backups_total=1),
    replace(COPY, asks_durable=True, durable=False),
    replace(COPY, asks_durable=True, durable=None),
    Listing(message="", path="in", entries=ENTRIES),
    *(Stats(message="", path=entry.path, entry=entry) for entry in ENTRIES),
    Stats(message="", path="in/e", entry=None),
    Removal(message="", path="in", removed=3),
    Renaming(message="", source="a", destination="b", atomic=True),
    FolderCreation(message="", path="a/b", created=("a", "a/b")),
]


@pytest.mark.parametrize(
    "result",
    [
        PLAY,
        PLAY._replace(steps=()),
        PLAY._replace(exit_code=2, steps=(CHANGED, FAILED, SKIPPED)),
        PLAY._replace(exit_code=130, interrupted_by=2, is_check=True),
        PLAY._replace(steps=(CHANGED._replace(output=replace(COPY, verified=None, atomic=None, skipped=True)),)),
        PLAY._replace(name="caf\udce9", file="caf\udce9.yaml"),
        *(PLAY._replace(steps=(CHANGED._replace(output=output),)) for output in OUTPUTS),
    ],
)
def test_the_report_on_a_play_fits_its_schema(result: PlayResult) -> None:
    validator("report").validate(json.loads(to_json(describe_play(result), Redactor())))


def test_the_report_on_an_invalid_playbook_fits_its_schema() -> None:
    problems = describe_problems((Problem(Location("play.yaml", 1, 1), "wrong", "mend it"),))
    error = {"type": "PlaybookInvalid", "message": "1 problem", "hint": "", "problems": problems}

    report = describe_failure("play.yaml", is_check=False, at=STARTED, exit_code=3, error=error)

    validator("report").validate(report)


def test_the_report_schema_refuses_what_the_report_never_says() -> None:
    report = describe_play(PLAY)
    wrong = [
        {**report, "status": "fine"},
        {**report, "started_at": "yesterday"},
        {**report, "started_at": "2024-05-01T12:00:00"},
        {**report, "finished_at": None},
        {**report, "extra": 1},
        {**report, "duration_seconds": -1},
        {**report, "recap": {"bank": {"ok": 1}}},
        {**report, "steps": [{**report["steps"][0], "status": "running"}]},
        {**report, "steps": [{**report["steps"][0], "location": {"file": "f", "line": 0, "column": 1}}]},
        {key: value for key, value in report.items() if key != "exit_code"},
    ]
    for one in wrong:
        assert not validator("report").is_valid(one), one


def test_moments_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert describe_play(PLAY)["started_at"] == "2024-05-01T12:00:00.123+00:00"
