"""The files that ship with the package, wherever this copy of the runner is installed: schemas and example playbooks."""

from __future__ import annotations

from pathlib import Path

SCHEMA_NAMES = ("playbook", "connector", "report")

# In a checkout that is not installed, runner/ has no schema/ and no playbooks/: setup.cfg maps the top-level ones in.
_CHECKOUT = Path(__file__).parent.parent


def schema_text(name: str) -> str:
    """The text of the schema called `name`, one of `SCHEMA_NAMES`."""
    return _find("schema", f"{name}.schema.json").read_text(encoding="utf-8")


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
