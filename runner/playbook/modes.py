"""A step's valid `mode` to one of the values of `runner.plan.Mode`. A new mode, and a new key of one, is read here."""

from __future__ import annotations

from typing import Any

from runner.plan import (
    Copy,
    CopyDirectory,
    CopyDirectoryFromEngine,
    CopyDirectoryToEngine,
    CopyFileFromEngine,
    CopyFileToEngine,
    Mode,
)
from runner.playbook.document import PositionedMap
from runner.playbook.inputs import InputProblem, check_path, local_path
from runner.playbook.validation import show

_COPIES: dict[str, type[Copy]] = {
    kind.mode_name: kind
    for kind in (CopyFileFromEngine, CopyFileToEngine, CopyDirectoryFromEngine, CopyDirectoryToEngine)
}
_LIST_OPTIONS = ("include", "exclude")
_PLAIN_OPTIONS = (
    *("compare", "if_exists", "verify", "atomic", "resume", "create_parents", "backup"),
    *("links", "delete", "max_delete"),
)


def read_mode(inputs: PositionedMap, workdir: str) -> Mode:
    """What to do. Raises `InputProblem`."""
    mode = inputs["mode"]
    kind = _COPIES[mode["mode_name"]]
    is_tree = issubclass(kind, CopyDirectory)
    what = "directory" if is_tree else "file"
    source_key, destination_key = f"source_{what}_name", f"destination_{what}_name"
    source, destination = (_directory_name if is_tree else _file_name)(mode, source_key), mode[destination_key]
    (_directory_name if is_tree else _file_name)(mode, destination_key)
    is_upload = kind in (CopyFileFromEngine, CopyDirectoryFromEngine)
    _refuse_remote_tilde(mode, destination_key if is_upload else source_key)
    options = _read_options(mode)
    if options.get("backup") and not options.get("atomic", True):
        raise InputProblem(
            mode.value_locations["backup"],
            "'backup: true' cannot be kept with 'atomic: false'",
            "Written in place, the old file becomes the new one: there is nothing left to keep. Remove one of them.",
        )
    if is_upload:
        return kind(source=local_path(source, workdir), destination=destination, **options)
    return kind(source=source, destination=local_path(destination, workdir), **options)


def _read_options(mode: PositionedMap) -> dict[str, Any]:
    options: dict[str, Any] = {key: mode[key] for key in _PLAIN_OPTIONS if key in mode}
    options |= {key: tuple(mode[key]) for key in _LIST_OPTIONS if key in mode}
    if "permissions" in mode:
        options["permissions"] = int(mode["permissions"].removeprefix("0o"), 8)
    if "preserve" in mode:
        options["preserve"] = frozenset(mode["preserve"])
    return options


def _directory_name(mode: PositionedMap, key: str) -> str:
    """A folder's name; it means the same with a slash at its end."""
    name: str = mode[key]
    check_path(key, name, mode.value_locations[key])
    return name


def _file_name(mode: PositionedMap, key: str) -> str:
    name: str = mode[key]
    location = mode.value_locations[key]
    check_path(key, name, location)
    if name.endswith("/"):
        hint = "Write the file's full name, for example 'inbox/report.csv'."
        raise InputProblem(location, f"'{key}' names a directory: {show(name)}", hint)
    return name


def _refuse_remote_tilde(mode: PositionedMap, key: str) -> None:
    """Servers take `~/x` for a folder called `~`: nobody means that."""
    name: str = mode[key]
    if name == "~" or name.startswith("~/"):
        raise InputProblem(
            mode.value_locations[key],
            f"'~' is not expanded in a remote path: {show(name)}",
            f"Remote paths start at the login directory: write {show(name[2:] or '.')}; "
            f"for a folder that is really called '~', write {show('./' + name)}.",
        )
