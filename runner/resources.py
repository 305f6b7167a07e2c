"""The files that ship with the package, wherever this copy of the runner is installed: schemas and example playbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCHEMA_NAMES = ("playbook", "connector", "report")

# Keywords of JSON Schema whose values are no schemas, and those whose values hold schemas under any names.
_DATA = ("default", "examples", "enum", "const")
_MAPS = ("properties", "$defs")

# In a checkout that is not installed, runner/ has no schema/ and no playbooks/: setup.cfg maps the top-level ones in.
_CHECKOUT = Path(__file__).parent.parent


def schema_text(name: str) -> str:
    """The text of the schema called `name`, one of `SCHEMA_NAMES`."""
    return _find("schema", f"{name}.schema.json").read_text(encoding="utf-8")


def bundled_schema(name: str) -> dict[str, Any]:
    """The schema called `name` with all others under its `$defs`, so that it refers to nothing outside of itself.

    The others have no `$id` of their own there: every reference is a JSON pointer from the root, which the plainest
    reader of JSON Schema can follow.
    """
    # Few commands need it.
    import json

    schemas = {one: json.loads(schema_text(one)) for one in SCHEMA_NAMES}
    whole: dict[str, Any] = _point(schemas[name], name, root=name)
    whole["$id"] = whole["$id"].replace(f"/{name}.", f"/{name}.bundle.")
    for other in SCHEMA_NAMES:
        if other != name:
            inner = _point(schemas[other], other, root=name)
            whole["$defs"][other] = {key: value for key, value in inner.items() if key not in ("$schema", "$id")}
    return whole


def _point(schema: Any, owner: str, *, root: str) -> Any:
    """A part of `owner`'s schema with its references as they are from the root of the bundle."""
    if isinstance(schema, list):
        return [_point(item, owner, root=root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS:
            found[key] = {name: _point(inner, owner, root=root) for name, inner in value.items()}
        else:
            found[key] = value if key in _DATA else _point(value, owner, root=root)
    if isinstance(reference := found.get("$ref"), str):
        file_name, _, pointer = reference.partition("#")
        target = file_name.removesuffix(".schema.json") or owner
        found["$ref"] = f"#{pointer}" if target == root else f"#/$defs/{target}{pointer}"
    return found


def playbook_path(file_name: str) -> Path:
    """Where an example playbook stands."""
    return _find("playbooks", file_name)


def _find(folder: str, file_name: str) -> Path:
    in_checkout = _CHECKOUT / folder / file_name
    if (_CHECKOUT / "setup.cfg").is_file() and in_checkout.is_file():
        return in_checkout
    installed = Path(__file__).parent / folder / file_name
    if installed.is_file():
        return installed
    # Wherever else an installer has put the package.
    from importlib import resources

    return Path(str(resources.files(f"runner.{folder}").joinpath(file_name)))
