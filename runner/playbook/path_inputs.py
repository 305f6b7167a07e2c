"""Paths of a mode, as the playbook gives them: what can be none, and what nobody can mean."""

from __future__ import annotations

from runner.playbook.document import PositionedMap
from runner.playbook.inputs import InputProblem, check_path
from runner.playbook.validation import show


def refuse_empty_part(mode: PositionedMap, key: str, path: str, what: str) -> None:
    """What an empty variable leaves of `/data/{{ day }}` is `/data/`, which must not be removed, or emptied."""
    if "" in path.removeprefix("/").split("/"):
        raise InputProblem(
            mode.value_locations[key],
            f"'{key}' of {what} has an empty part: {show(mode[key])}",
            "It is what an empty variable leaves. Write the path without '//' and without '/' at its end.",
        )


def refuse_no_name(mode: PositionedMap, key: str) -> None:
    """`/`, `.` and `..` name folders that nobody may take away or empty, and so does what ends in one of them."""
    path: str = mode[key]
    if path.rstrip("/").rpartition("/")[2] in ("", ".", ".."):
        raise InputProblem(
            mode.value_locations[key],
            f"'{key}' must end in a name, not in '/', '.' or '..': {show(path)}",
            "The root, the login directory and what is above it are neither removed, nor renamed, nor emptied by 'delete'.",
        )


def read_directory_name(mode: PositionedMap, key: str) -> str:
    """A folder's name; it means the same with a slash at its end."""
    name: str = mode[key]
    check_path(key, name, mode.value_locations[key])
    return name


def read_file_name(mode: PositionedMap, key: str) -> str:
    name: str = mode[key]
    location = mode.value_locations[key]
    check_path(key, name, location)
    if name.endswith("/"):
        hint = "Write the file's full name, for example 'inbox/report.csv'."
        raise InputProblem(location, f"'{key}' names a directory: {show(name)}", hint)
    return name


def read_remote_path(mode: PositionedMap, key: str) -> str:
    check_path(key, mode[key], mode.value_locations[key])
    refuse_remote_tilde(mode, key)
    path: str = mode[key]
    return path


def refuse_remote_tilde(mode: PositionedMap, key: str) -> None:
    """Servers take `~/x` for a folder called `~`: nobody means that."""
    name: str = mode[key]
    if name == "~" or name.startswith("~/"):
        raise InputProblem(
            mode.value_locations[key],
            f"'~' is not expanded in a remote path: {show(name)}",
            f"Remote paths start at the login directory: write {show(name[2:] or '.')}; "
            f"for a folder that is really called '~', write {show('./' + name)}.",
        )
