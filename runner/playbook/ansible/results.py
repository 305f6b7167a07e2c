"""The fields of what Ansible registers, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

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
_FIELD = re.compile(r"(?<![\w.])(?P<name>[A-Za-z_]\w*)\.(?P<field>[a-z_]+)(?:\.(?P<inner>[a-z_]+))?")


class Field(NamedTuple):
    """A field as it is written, and what to write for it."""

    written: str
    hint: str


def find_fields(text: str, registered: Collection[str]) -> Iterator[Field]:
    """The fields of Ansible's in an expression or a template that are none of ours. `registered` are the results' names."""
    for found in _FIELD.finditer(text):
        if found["name"] in registered and (hint := explain_field(found["name"], found["field"], found["inner"] or "")):
            written = f"{found['name']}.{found['field']}"
            is_stat = found["field"] == "stat" and found["inner"]
            yield Field(f"{written}.{found['inner']}" if is_stat else written, hint)


def explain_field(name: str, field: str, inner: str = "", shape: Mapping[str, Any] | None = None) -> str:
    """The hint for `name.field` of a registered result, `name.stat.inner` included; empty for what is not Ansible's.

    With a `shape`, that of the result, it is empty as well where the result has no such thing under another name.
    """
    if field in _OF_COMMANDS:
        return "No command is run on a host, and so nothing is printed there."
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
