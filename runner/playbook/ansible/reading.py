"""The arguments of a module while it is translated: what has been made use of, and what has no counterpart here."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from runner.playbook.ansible.arguments import (
    is_false,
    is_true,
    join_path,
    last_name,
    read_permissions,
    text_of,
    texts_of,
)
from runner.playbook.ansible.writing import LEFT_OPEN, join_names, write_pair

OWNER_NOTE = "Owner and group are those of the user who logs in"
NOTHING_RUNS = "No command is run on a host: files are moved and nothing else."
_OWNERS = {"owner", "group", "uid", "gid"}
# What changes nothing about the translation.
_SILENT = {
    *("_raw_params", "unsafe_writes", "follow", "local_follow", "selevel", "serole", "setype", "seuser", "decrypt"),
    *("get_checksum", "checksum_algorithm", "get_mime", "get_attributes", "get_md5", "validate_checksum", "quiet"),
    *("newline_sequence", "trim_blocks", "lstrip_blocks", "output_encoding", "fail_on_missing"),
    *("block_end_string", "block_start_string", "variable_end_string", "variable_start_string"),
}


class Task(NamedTuple):
    """A module's call: the arguments by name, and the name that its result is registered under."""

    module: str
    arguments: dict[str, Any]
    register: str = ""


class Reading:
    """The arguments of a module, and which of them have been made use of."""

    def __init__(self, task: Task) -> None:
        self._arguments = task.arguments
        self._used = set(_SILENT)
        self.notes: list[str] = []

    def text(self, *names: str) -> str | None:
        self._used.update(names)
        return text_of(self._arguments, *names)

    def path(self, *names: str) -> str:
        """A path, or what stands for one that is missing. A home directory is where relative remote paths start."""
        return self.text(*names) or LEFT_OPEN

    def remote_path(self, *names: str) -> str:
        return to_remote(self.path(*names))

    def value(self, *names: str) -> Any:
        self._used.update(names)
        return next((self._arguments[name] for name in names if name in self._arguments), None)

    def has(self, *names: str) -> bool:
        self._used.update(names)
        return any(is_true(self._arguments.get(name)) for name in names)

    def lacks(self, name: str) -> bool:
        """Whether it says no."""
        self._used.add(name)
        return is_false(self._arguments.get(name))

    def permissions(self, mode: dict[str, Any], name: str = "mode") -> None:
        digits, note = read_permissions(self.value(name))
        if digits:
            mode["permissions"] = digits
        if note:
            self.notes.append(note)

    def finish(self, mode: dict[str, Any]) -> str:
        """The hint: the whole mode, then what of the module has no counterpart."""
        left = [name for name in self._arguments if name not in self._used]
        if _OWNERS & set(left):
            self.notes.append(OWNER_NOTE)
        if others := [name for name in left if name not in _OWNERS]:
            verb = "has" if len(others) == 1 else "have"
            self.notes.append(f"{join_names(others)} {verb} no counterpart here")
        return " ".join([f"Write `{write_pair('mode', mode)}`.", *(f"{note}." for note in self.notes)])


def to_remote(path: str) -> str:
    if re.match(r"[A-Za-z]:[\\/]", path):
        path = "/" + path
    if "\\" in path and "{{" not in path:
        path = path.replace("\\", "/")
    return path.removeprefix("~/")


def place_in(destination: str, source: str) -> str:
    """The full name that a file gets: Ansible puts it into a destination that ends with a slash."""
    return join_path(destination, last_name(source)) if destination.endswith("/") else destination


def list_of(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else list(texts_of(value))


def have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"
