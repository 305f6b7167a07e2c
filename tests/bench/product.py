"""Ours: the installed `runner`, playing a playbook that is written for the case.

A variant adds inputs to the step or options to its mode. What the installed version can do is in its schema: a case or
variant that needs more is refused here, with the reason, and runs as soon as the schema has what it needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.cases import Case, Direction, Shape
from tests.bench.measurement import Command
from tests.bench.programs import list_lines, loop_lines, program_lines
from tests.bench.setting import Job, Setting
from tests.servers.endpoint import LOOPBACK


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to play a case: what every step has beside the usual, or another way to write it."""

    name: str
    label: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    # How the same is written otherwise: many files as one folder, a list without a loop over it.
    shape: Shape | None = None


VARIANTS = (
    Variant("runner", "runner"),
    Variant("runner-checksum", "runner, verify: checksum", options={"verify": "checksum"}),
    Variant("runner-durable", "runner, durable: true", options={"durable": True}),
    Variant("runner-folder", "runner, as one folder", shape="folder"),
    Variant("runner-list", "runner, the list alone", shape="list"),
    Variant("runner-scp", "runner, connector_type: SCP", inputs={"connector_type": "SCP"}),
)


def find_refusal(variant: Variant, schema: Mapping[str, Any], case: Case) -> str:
    """Why the installed version cannot play this, or nothing."""
    mode_name = _mode_name(case.direction, variant.shape or case.shape)
    mode = schema["$defs"].get(mode_name)
    if mode is None:
        return f"this version has no mode {mode_name}"
    lists = case.shape in ("list", "list-and-loop", "validate") or (case.shape == "loop" and case.direction == "down")
    if lists and variant.inputs.get("connector_type") == "SCP":
        return "SCP lists nothing"
    for properties, wanted in ((schema["properties"], variant.inputs), (mode["properties"], variant.options)):
        for key, value in wanted.items():
            if not _allows(schema, properties.get(key), value):
                return f"this version has no {key}: {value}"
    return ""


def before_command(setting: Setting, job: Job) -> Command:
    """The same play by another version, which is given with `--before`."""
    command = play_command(VARIANTS[0], setting, job)
    return replace(command, arguments=(str(setting.runner_before), *command.arguments[1:]))


def play_command(variant: Variant, setting: Setting, job: Job) -> Command:
    """`runner play` with a playbook in the job's scratch folder."""
    playbook_path = job.scratch / "playbook.yaml"
    with playbook_path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in playbook_lines(variant, setting, job))
    return Command((str(setting.runner), "validate" if job.shape == "validate" else "play", str(playbook_path)))


def command_of(variant: Variant) -> Callable[[Setting, Job], Command]:
    """`play_command` for one variant."""
    return partial(play_command, variant)


def playbook_lines(variant: Variant, setting: Setting, job: Job) -> Iterator[str]:
    """The playbook as somebody would write it: a connection, and steps in block style."""
    inputs = {
        "host": LOOPBACK,
        "port": job.port,
        "authentication": {
            "authentication_method": "ssh_key_file",
            "username": job.address.username,
            "ssh_key_file": str(job.address.key_path),
        },
        "hostkey": {"hostkey_mode": "known_host", "known_host": job.address.host_key},
        **variant.inputs,
    }
    shape = variant.shape or job.shape
    if shape == "validate":
        yield "vars: {stage: live, outbox: outbox}"
    yield "connections:"
    yield "  server:"
    yield from (f"    {key}: {json.dumps(value)}" for key, value in inputs.items())
    yield "steps:"
    match shape:
        case "loop":
            yield from loop_lines(job.source, job.destination, is_up=job.is_up)
        case "list" | "list-and-loop":
            yield from list_lines(job.source, loops=shape == "list-and-loop")
        case "validate":
            yield from program_lines(len(os.listdir(job.source)))
        case _:
            yield from _copy_steps(variant, replace(job, shape=shape))


def _copy_steps(variant: Variant, job: Job) -> Iterator[str]:
    kind = "directory" if job.shape == "folder" else "file"
    for source, destination in _pairs(job):
        yield "  - connection: server"
        yield "    mode:"
        yield f"      mode_name: {_mode_name('up' if job.is_up else 'down', job.shape)}"
        yield f"      source_{kind}_name: {json.dumps(str(source))}"
        yield f"      destination_{kind}_name: {json.dumps(str(destination))}"
        yield from (f"      {key}: {json.dumps(value)}" for key, value in variant.options.items())


def _pairs(job: Job) -> Iterator[tuple[Path, Path]]:
    if job.shape != "steps":
        yield job.source, job.destination
        return
    for name in sorted(os.listdir(job.source)):
        yield job.source / name, job.destination / name


def _mode_name(direction: Direction, shape: Shape) -> str:
    if shape in ("list", "list-and-loop"):
        return "list"
    return f"copy_{'directory' if shape == 'folder' else 'file'}_{'from' if direction == 'up' else 'to'}_engine"


def _allows(schema: Mapping[str, Any], rule: Mapping[str, Any] | None, value: object) -> bool:
    """Whether a property exists and does not exclude a value by an enumeration."""
    if rule is None:
        return False
    reference = rule.get("$ref", "")
    if reference.startswith("#/$defs/"):
        return _allows(schema, schema["$defs"].get(reference.removeprefix("#/$defs/")), value)
    # A template may stand beside what is enumerated.
    rules = [rule, *rule.get("anyOf", ())]
    return all("enum" not in one or value in one["enum"] for one in rules)
