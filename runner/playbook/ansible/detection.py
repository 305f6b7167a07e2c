"""Whether a playbook may hold something of Ansible's: a look at its keys, all that a valid playbook pays for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runner.playbook.document import PositionedList, PositionedMap

LISTS_OF_STEPS = ("block", "rescue", "always")
# Kinds of steps that both have, and the arguments that only Ansible's take.
FOREIGN_ARGUMENTS = {
    "assert": frozenset(("msg", "quiet")),
    "debug": frozenset(("verbosity",)),
    "fail": frozenset[str](),
    "pause": frozenset(("minutes", "prompt", "echo")),
    "set_fact": frozenset(("cacheable",)),
}
# Ansible's `connection` names a way to connect, and not a host.
WAYS_TO_CONNECT = {
    *("local", "ssh", "smart", "paramiko", "paramiko_ssh", "winrm", "psrp", "docker", "podman"),
    *("network_cli", "httpapi", "netconf", "ansible.builtin.ssh", "ansible.builtin.local"),
    *("ansible.netcommon.network_cli",),
}
_SHORT_FORM = re.compile(r"\s*\w+=")


def may_be_ansible(data: PositionedMap | PositionedList, play_keys: frozenset[str], step_keys: frozenset[str]) -> bool:
    """Whether a key of the playbook, or of a step, is none of ours, or is used as only Ansible uses it."""
    if isinstance(data, PositionedMap) and not data.keys() <= play_keys:
        return True
    steps = data.get("steps") if isinstance(data, PositionedMap) else data
    return _any_foreign(steps, step_keys)


def _any_foreign(steps: Any, known: frozenset[str]) -> bool:
    if not isinstance(steps, PositionedList):
        return False
    for step in steps:
        if not isinstance(step, PositionedMap):
            continue
        if not step.keys() <= known or is_way_to_connect(step.get("connection")):
            return True
        if any(key in step and is_foreign_statement(key, step[key]) for key in FOREIGN_ARGUMENTS):
            return True
        if any(_any_foreign(step[key], known) for key in LISTS_OF_STEPS if key in step):
            return True
    return False


def is_way_to_connect(value: Any) -> bool:
    """Whether the value of a `connection` is what Ansible calls one."""
    return isinstance(value, str) and value in WAYS_TO_CONNECT


def is_foreign_statement(name: str, value: Any) -> bool:
    """Whether a step of the kind `name` has Ansible's shape, and not ours."""
    if isinstance(value, Mapping):
        return not FOREIGN_ARGUMENTS[name].isdisjoint(value)
    return (name == "pause" and value is None) or (isinstance(value, str) and bool(_SHORT_FORM.match(value)))
