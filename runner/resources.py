"""The files that ship with the package: the JSON Schemas, wherever this copy of the runner is installed."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SCHEMA_NAMES = ("playbook", "connector", "report")


def schema_text(name: str) -> str:
    """The text of the schema called `name`, one of `SCHEMA_NAMES`."""
    file_name = f"{name}.schema.json"
    # In a checkout that is not installed, runner/ has no schema/ of its own yet: setup.cfg maps the top-level one in.
    checkout = Path(__file__).parent.parent / "schema" / file_name
    if checkout.is_file():
        return checkout.read_text(encoding="utf-8")
    return resources.files("runner.schema").joinpath(file_name).read_text(encoding="utf-8")
