"""Steps that have one name here and in Ansible, but another shape there: `debug`, `assert`, `pause`, `set_fact`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runner.playbook.ansible.arguments import FREE_FORM, read_arguments
from runner.playbook.ansible.detection import FOREIGN_ARGUMENTS
from runner.playbook.ansible.writing import LEFT_OPEN, join_names, write_pair


class Statement(NamedTuple):
    """A step as it is written here, and what to say about how it was written."""

    value: dict[str, Any] | None
    message: str
    hint: str


def explain_statement(name: str, value: Any, key: str) -> Statement:
    """What to write in the place of a step of this kind. `key` is its name as it is written."""
    arguments = read_arguments(value)
    arguments.pop(FREE_FORM, None)
    dropped = sorted(FOREIGN_ARGUMENTS[name] & arguments.keys())
    if name == "pause" and ("prompt" in dropped or not arguments):
        message = f"{name!r} asks nobody"
        seconds = _seconds(arguments)
        hint = (
            f"Write `pause: {{seconds: {seconds}}}`."
            if seconds
            else "Remove the step, or write `pause: {seconds: 10}`."
        )
        return Statement({"seconds": seconds} if seconds else None, message, hint)
    ours = {one: item for one, item in arguments.items() if one not in dropped}
    notes = []
    if name == "assert" and "msg" in dropped:
        ours.setdefault("fail_msg", arguments["msg"])
        dropped.remove("msg")
    if name == "pause" and "minutes" in dropped:
        ours = {"seconds": _seconds(arguments)}
        dropped.remove("minutes")
    if dropped:
        verb = "has" if len(dropped) == 1 else "have"
        notes.append(f"{join_names(dropped)} {verb} no counterpart here.")
    hint = " ".join([f"Write `{write_pair(name, ours)}`.", *notes])
    if key != name:
        return Statement(ours, f"'{key}' is an Ansible module", hint)
    if isinstance(value, str):
        return Statement(ours, f"'{name}' is a mapping, not 'key=value' in one line", hint)
    return Statement(ours, f"'{name}' is written as in Ansible", hint)


def _seconds(arguments: Mapping[str, Any]) -> Any:
    if "minutes" in arguments:
        minutes = arguments["minutes"]
        if isinstance(minutes, int | float) or str(minutes).isdigit():
            return int(float(minutes) * 60)
        return LEFT_OPEN
    seconds = arguments.get("seconds")
    return int(seconds) if isinstance(seconds, str) and seconds.isdigit() else seconds
