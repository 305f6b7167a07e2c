"""What was probably meant where a step is not of the form that it must have. Loaded when something is wrong."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from runner.playbook.ansible.writing import write_pair

# What a step can be. A connector call is one by its mode.
KINDS = ("mode", "block", "include_steps", "assert", "set_fact", "debug", "fail", "pause")
KINDS_HINT = f"A step has one of {', '.join(KINDS[:-1])} and {KINDS[-1]}, which says what it does."
KEYWORDS_HINT = (
    "Besides what it does, a step has connector inputs, and keywords such as name, connection, vars, when, loop, register, "
    "until, retries, timeout, ignore_errors and tags."
)

# The key under which text stands that is written in the place of a whole step kind.
_ONLY_KEYS = {"assert": "that", "debug": "msg", "fail": "msg"}
_LISTS_OF_STEPS = ("block", "rescue", "always", "steps")
# What to write for a value of this type under a key.
_HINTS: dict[tuple[str, type], str] = {
    ("assert", list): "Put the list into 'that': `assert: {that: […]}`.",
    ("mode", list): "A step does one thing: make a step of each.",
    ("connection", list): "A step has one: make a step for each connection.",
    ("include_steps", list): "Make a step for each file.",
    ("include_steps", dict): "Name the file alone, and give variables in the step's 'vars'.",
    ("loop", dict): 'Each of its keys is an item with `loop: "{{ NAME | dict2items }}"`, where NAME is a variable.',
    ("msg", list): "Write one text; 'debug' shows a whole list with `var: NAME`.",
    ("var", dict): "Name the variables: `var: NAME`, or a list of names.",
    ("set_fact", list): "Write `set_fact: {NAME: VALUE}`.",
    ("vars", list): "Write `vars: {NAME: VALUE}`.",
    **{(key, dict): "It is a list of steps: begin each with '- '." for key in _LISTS_OF_STEPS},
}


def hint_at_value(key: str | int, value: Any, modes: Collection[str]) -> str:
    """What to write for a value of the wrong kind under a key, or in a list; empty if that cannot be said.

    `modes` are the names of all modes.
    """
    if isinstance(key, int):
        return KINDS_HINT if isinstance(value, str) else ""
    kind = next((one for one in (dict, list) if isinstance(value, one)), type(value))
    if hint := _HINTS.get((key, kind)):
        return hint
    if isinstance(value, list) and key.endswith(("path", "_name")):
        return 'It is one: use a loop, such as `loop: [a, b]` and "{{ item }}" here.'
    if key == "pause" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"Write `{write_pair(key, {'seconds': _read_seconds(value)})}`."
    return _hint_at_text(key, value, modes) if isinstance(value, str) and value.strip() else ""


def _hint_at_text(key: str, text: str, modes: Collection[str]) -> str:
    if key in _ONLY_KEYS:
        return f"Write `{write_pair(key, {_ONLY_KEYS[key]: text})}`."
    if key == "seconds":
        return f"Write the seconds alone: {_read_seconds(text)}."
    if key in _LISTS_OF_STEPS:
        return f"It is a list of steps. A file of steps is a step of its own: `{write_pair('include_steps', text)}`."
    if key == "mode" and text in modes:
        return f"Write `mode: {{mode_name: {text}, …}}`, and what it needs beside 'mode_name'."
    return ""


def hint_at_key(
    key: str, owner: str, known: Collection[str], steps: Collection[str], modes: Mapping[str, Collection[str]]
) -> str:
    """Where an unknown key belongs; empty if it is none that stands elsewhere.

    `owner` is the key whose mapping it stands in, `known` are those that may. `steps` are the keys of steps, and `modes`
    the names of the modes with the keys of each.
    """
    is_step = "block" in known
    if is_step and key in modes:
        return f"It is a mode: write `mode: {{mode_name: {key}, …}}`."
    if is_step and key == "mode_name":
        return "It belongs into the mode: write `mode: {mode_name: …}`."
    if is_step and any(key in keys for keys in modes.values()):
        return f"It belongs into the mode: write `mode: {{mode_name: …, {key}: …}}`."
    if not is_step and key in modes and "mode_name" in known:
        return f"Write `mode_name: {key}`."
    if not is_step and key in steps and key not in KINDS and owner in ("mode", *KINDS, "loop_control"):
        return f"It is the step's: write it beside '{owner}', and not in it."
    return ""


def _read_seconds(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    digits = str(value).strip().lower().rstrip("smhd ")
    factor = {"m": 60, "h": 3600, "d": 86400}.get(str(value).strip().lower()[-1:], 1)
    return int(digits) * factor if digits.isdecimal() and len(digits) < 7 else 30
