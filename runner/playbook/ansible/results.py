"""The fields of what Ansible registers, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from runner.playbook.ansible.names import map_templates, split_templates

# Of what a file is: `NAME.stat.…` there.
_STATS = {
    "exists": "{name}.result.exists",
    "isdir": "{name}.result.type == 'directory'",
    "isreg": "{name}.result.type == 'file'",
    "islnk": "{name}.result.type == 'link'",
    "size": "{name}.result.size_bytes",
    "mode": "{name}.result.permissions",
    "mtime": "{name}.result.modified_at",
    "path": "{name}.result.path",
    "lnk_source": "{name}.result.target",
    "lnk_target": "{name}.result.target",
}
_FIELDS = {
    "files": "{name}.result.entries",
    "matched": "{name}.result.entries | length",
    "content": "{name}.result.content",
    "msg": "{name}.message",
    "src": "{name}.result.source",
    "dest": "{name}.result.destination",
    "size": "{name}.result.size_bytes",
    "checksum": "{name}.result.sha256",
    "backup_file": "{name}.result.backup",
}
_OF_COMMANDS = {"stdout", "stdout_lines", "stderr", "stderr_lines", "rc", "cmd"}
# With what follows a field it is one name; in a text it counts in templates alone.
_FIELD = re.compile(r"(?<![\w.])(?P<name>[A-Za-z_]\w*)\.(?P<field>[a-z_]+)(?:\.(?P<inner>[a-z_]+))?")


class Field(NamedTuple):
    """A field as it is written, the expression that it is here if there is one, and what to say about it."""

    written: str
    expression: str
    hint: str


def find_fields(text: str, registered: Collection[str], *, is_expression: bool = False) -> Iterator[Field]:
    """The fields of Ansible's in the templates of a text, or in an expression. `registered` are the results' names."""
    for piece in split_templates(text, is_expression=is_expression):
        for found in _FIELD.finditer(piece):
            if found["name"] in registered and (field := _read(found)):
                yield field


def replace_fields(text: str, registered: Collection[str], *, is_expression: bool = False) -> str:
    """The text with every field of Ansible's that has a counterpart replaced by it."""

    def replace(found: re.Match[str]) -> str:
        field = _read(found) if found["name"] in registered else None
        if field is None or not field.expression:
            return found[0]
        expression = f"({field.expression})" if " " in field.expression else field.expression
        return expression + found[0].removeprefix(field.written)

    return map_templates(text, lambda piece: _FIELD.sub(replace, piece), is_expression=is_expression)


def _read(found: re.Match[str]) -> Field | None:
    name, field, inner = found["name"], found["field"], found["inner"] or ""
    hint = explain_field(name, field, inner)
    if not hint:
        return None
    is_stat = field == "stat" and inner
    meant = _FIELDS.get(field, "") if field != "stat" else _STATS.get(inner, "") if inner else "{name}.result"
    written = f"{name}.{field}.{inner}" if is_stat else f"{name}.{field}"
    return Field(written, meant.format(name=name), hint)


def explain_field(name: str, field: str, inner: str = "", shape: Mapping[str, Any] | None = None) -> str:
    """The hint for `name.field` of a registered result, `name.stat.inner` included; empty for what is not Ansible's.

    With a `shape`, that of the result, it is empty as well where the result has no such thing under another name.
    """
    if field in _OF_COMMANDS:
        return "No command is run on a host, and so nothing is printed there."
    if field == "stat" and not _has(shape, _STATS["exists"]):
        return ""
    meant = _STATS.get(inner, "{name}.result") if field == "stat" else _FIELDS.get(field, "")
    return f"Write `{meant.format(name=name)}`." if meant and _has(shape, meant) else ""


def _has(shape: Mapping[str, Any] | None, meant: str) -> bool:
    """Whether there is what an expression asks of a result."""
    for part in re.findall(r"\.(\w+)", meant.partition(" ")[0]):
        if shape is None:
            return True
        if part not in shape:
            return False
        shape = shape[part]
    return True
