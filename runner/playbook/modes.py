"""A step's valid `mode` to one of the values of `runner.plan.Mode`. A new mode, and a new key of one, is read here."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from runner.plan import (
    Copy,
    CopyDirectory,
    CopyDirectoryFromEngine,
    CopyDirectoryToEngine,
    CopyFileFromEngine,
    CopyFileToEngine,
    Mode,
    WriteContent,
)
from runner.playbook.document import PositionedMap, Unfilled
from runner.playbook.durations import read_duration
from runner.playbook.inputs import InputProblem, Tell, attempt, check_path, local_path, text_at
from runner.playbook.operation_modes import check_operation, read_operation
from runner.playbook.path_inputs import (
    read_directory_name,
    read_file_name,
    refuse_empty_part,
    refuse_no_name,
    refuse_remote_tilde,
)
from runner.playbook.paths import PATH_KEYS
from runner.playbook.validation import SERVERS_PERMISSIONS, show

_COPIES: dict[str, type[Copy]] = {
    kind.mode_name: kind
    for kind in (CopyFileFromEngine, CopyFileToEngine, CopyDirectoryFromEngine, CopyDirectoryToEngine)
}
MAX_WINDOW_SECONDS = 7 * 86_400
MAX_TEMPLATE_BYTES = 64
_NAME = "{name}"

_LIST_OPTIONS = ("include", "exclude")
_PLAIN_OPTIONS = (
    *("compare", "if_exists", "verify", "atomic", "resume", "create_parents", "backup", "durable"),
    *("links", "delete", "max_delete", "temporary_directory"),
)


def check_mode(mode: Any, tell: Tell) -> None:
    """Tell everything that means nothing in a mode, but for what the schema finds. Parts of it may be missing or wrong."""
    if not isinstance(mode, PositionedMap):
        return
    name = mode.get("mode_name")
    if not isinstance(name, str):
        return
    paths = [key for key in mode if key in PATH_KEYS and text_at(mode, key) is not None]
    if name not in _COPIES and name != WriteContent.mode_name:
        check_operation(name, mode, paths, tell)
        return
    remote_sides = ("source_",) if name.endswith("_to_engine") else ("destination_", "temporary_")
    for key in paths:
        attempt(tell, read_directory_name if "directory" in key else read_file_name, mode, key)
        if key.startswith(remote_sides):
            attempt(tell, refuse_remote_tilde, mode, key)
    for refuse in _CONTRADICTIONS:
        attempt(tell, refuse, mode)
    attempt(tell, _read_modify_window, mode)
    attempt(tell, _read_temporary_name, mode)


def read_mode(inputs: PositionedMap, workdir: str) -> Mode:
    """What to do. Raises `InputProblem`."""
    mode = inputs["mode"]
    name = mode["mode_name"]
    if name == WriteContent.mode_name:
        return _read_write(inputs, mode)
    return _read_copy(inputs, mode, workdir) if name in _COPIES else read_operation(mode)


def _read_copy(inputs: PositionedMap, mode: PositionedMap, workdir: str) -> Mode:
    kind = _COPIES[mode["mode_name"]]
    if inputs.get("connector_type") == "SCP":
        _refuse_over_scp(mode)
    is_tree = issubclass(kind, CopyDirectory)
    what = "directory" if is_tree else "file"
    source_key, destination_key = f"source_{what}_name", f"destination_{what}_name"
    source, destination = (read_directory_name if is_tree else read_file_name)(mode, source_key), mode[destination_key]
    (read_directory_name if is_tree else read_file_name)(mode, destination_key)
    is_upload = kind in (CopyFileFromEngine, CopyDirectoryFromEngine)
    refuse_remote_tilde(mode, destination_key if is_upload else source_key)
    options = _read_options(mode)
    for refuse in _CONTRADICTIONS:
        refuse(mode)
    if options.get("delete"):
        refuse_no_name(mode, destination_key)
        refuse_empty_part(mode, destination_key, destination.removesuffix("/"), "a copy with 'delete: true'")
        if not is_upload:
            _refuse_surroundings(mode, destination_key, workdir)
    if is_upload:
        return kind(source=local_path(source, workdir), destination=destination, **options)
    return kind(source=source, destination=local_path(destination, workdir), **options)


def _read_write(inputs: PositionedMap, mode: PositionedMap) -> WriteContent:
    if inputs.get("connector_type") == "SCP":
        _refuse_over_scp(mode)
    destination = read_file_name(mode, "destination_file_name")
    refuse_remote_tilde(mode, "destination_file_name")
    options = _read_options(mode)
    for refuse in _CONTRADICTIONS:
        refuse(mode)
    return WriteContent(
        source="", destination=destination, content=mode["content"].encode("utf-8", "surrogateescape"), **options
    )


def _refuse_backup_in_place(mode: PositionedMap) -> None:
    if mode.get("backup") is True and mode.get("atomic") is False:
        raise InputProblem(
            mode.value_locations["backup"],
            "'backup: true' cannot be kept with 'atomic: false'",
            "Written in place, the old file becomes the new one: there is nothing left to keep. Remove one of them.",
        )


def _refuse_window_without_times(mode: PositionedMap) -> None:
    compare = mode.get("compare")
    if "modify_window" in mode and compare in ("size", "checksum", "always"):
        raise InputProblem(
            mode.value_locations["modify_window"],
            f"'modify_window' means nothing with 'compare: {compare}'",
            "It says which times are equal, and only 'compare: size_mtime' looks at times. Remove one of them.",
        )


def _refuse_temporary_in_place(mode: PositionedMap) -> None:
    key = next((key for key in ("temporary_name", "temporary_directory") if key in mode), None)
    if key is not None and mode.get("atomic") is False:
        raise InputProblem(
            mode.value_locations[key],
            f"{show(key)} means nothing with 'atomic: false'",
            "Written in place, a file has its final name from the beginning. Remove one of them.",
        )


def _refuse_staging_in_destination(mode: PositionedMap) -> None:
    """What is written in a directory that the copy makes, or empties, would come in its own way."""
    staging, key = text_at(mode, "temporary_directory"), "destination_directory_name"
    destination = text_at(mode, key) or text_at(mode, "destination_file_name")
    if staging is None or destination is None:
        return
    staged, final = posixpath.normpath(staging), posixpath.normpath(destination)
    if mode.get("delete") is True and key in mode and f"{staged}/".startswith(f"{final}/"):
        raise InputProblem(
            mode.value_locations["temporary_directory"],
            f"'temporary_directory' is in the destination, and 'delete: true' would remove it: {show(staging)}",
            "Name a directory beside the destination, on the same file system.",
        )
    if text_at(mode, "temporary_name") != _NAME:
        return
    if f"{staged}/".startswith(f"{final}/") if key in mode else staged == (posixpath.dirname(final) or "."):
        raise InputProblem(
            mode.value_locations["temporary_directory"],
            f"'temporary_directory' is the destination's own, and 'temporary_name: {_NAME}' gives a file its final name",
            "Name another directory, or add something to the name, such as '{name}.filepart'.",
        )


def _refuse_over_scp(mode: PositionedMap) -> None:
    why = {
        "permissions": "the protocol sends a mode with every file",
        "temporary_name": "the protocol cannot make sure that no other play writes to a file of that name",
        "temporary_directory": "a rename by its shell may be a copy, which is not done in one step",
    }
    for key, reason in why.items():
        if key in mode and (key != "permissions" or mode[key] == SERVERS_PERMISSIONS):
            what = f"'permissions: {SERVERS_PERMISSIONS}'" if key == "permissions" else show(key)
            raise InputProblem(mode.value_locations[key], f"{what} cannot be kept over SCP: {reason}", "Use SFTP.")


# What two options of a copy cannot both ask for.
_CONTRADICTIONS = (
    *(_refuse_backup_in_place, _refuse_window_without_times),
    *(_refuse_temporary_in_place, _refuse_staging_in_destination),
)


def _read_temporary_name(mode: PositionedMap) -> str | None:
    """What a file is called until it is published, with `{name}` for its own name."""
    key = "temporary_name"
    given = text_at(mode, key)
    if given is None:
        return None
    location = mode.value_locations[key]
    check_path(key, given, location)
    rest = given.replace(_NAME, "", 1)
    example = f"For example '{_NAME}.filepart'."
    if "/" in given:
        hint = "'temporary_directory' says where the file is."
        raise InputProblem(location, f"'{key}' must be a name, without '/': {show(given)}", hint)
    if rest == given or "{" in rest or "}" in rest:
        message = f"'{key}' must hold {_NAME} once, and no other braces: {show(given)}"
        raise InputProblem(location, message, f"{_NAME} stands for the file's own name. {example}")
    if not rest and "temporary_directory" not in mode:
        message = f"'{key}' is the file's final name: {show(given)}"
        raise InputProblem(location, message, f"Add something, or name a 'temporary_directory'. {example}")
    if len(os.fsencode(rest)) > MAX_TEMPLATE_BYTES:
        message = f"'{key}' adds more than {MAX_TEMPLATE_BYTES} bytes to a file's name: {show(given)}"
        raise InputProblem(location, message, "Names have at most 255 bytes on most file systems.")
    return given


def _read_modify_window(mode: PositionedMap) -> int:
    """The seconds that two times may differ by and still be equal."""
    given = mode.get("modify_window", 0)
    seconds = 0 if isinstance(given, Unfilled) else read_duration(given) or 0
    # A number is the schema's to refuse.
    if isinstance(given, str) and seconds > MAX_WINDOW_SECONDS:
        raise InputProblem(
            mode.value_locations["modify_window"],
            f"'modify_window' must be at most {MAX_WINDOW_SECONDS // 86_400}d, not {show(given)}",
            "It is for clocks that are off, and for times that are rounded.",
        )
    return seconds


def _read_options(mode: PositionedMap) -> dict[str, Any]:
    options: dict[str, Any] = {key: mode[key] for key in _PLAIN_OPTIONS if key in mode}
    options |= {key: tuple(mode[key]) for key in _LIST_OPTIONS if key in mode}
    if mode.get("permissions") == SERVERS_PERMISSIONS:
        options["leaves_permissions"] = True
    elif "permissions" in mode:
        options["permissions"] = int(mode["permissions"].removeprefix("0o"), 8)
    if "temporary_name" in mode:
        options["temporary_name"] = _read_temporary_name(mode)
    if "modify_window" in mode:
        options["modify_window_seconds"] = _read_modify_window(mode)
    if "channels" in mode:
        options["most_channels"] = int(mode["channels"])
    if "preserve" in mode:
        options["preserve"] = frozenset(mode["preserve"])
    return options


def _refuse_surroundings(mode: PositionedMap, key: str, workdir: str) -> None:
    """A download with `delete: true` must not empty a home, nor what the playbook itself is in."""
    location, name = mode.value_locations[key], mode[key]
    destination = os.path.realpath(local_path(name, workdir))
    kept = {
        "the home directory": os.path.expanduser("~"),
        "workdir": workdir,
        "the playbook's directory": os.path.dirname(os.path.abspath(location.file)),
    }
    if name.startswith("~") and "/" not in name.rstrip("/"):
        what = "a home directory"
    else:
        above = (what for what, path in kept.items() if _is_within(os.path.realpath(path), destination))
        what = next(above, "")
    if what:
        raise InputProblem(
            location,
            f"'{key}' is {what}, or above it, and 'delete: true' would empty it: {show(name)}",
            "Copy into a directory of its own, for example 'mirror', or without 'delete: true'.",
        )


def _is_within(path: str, folder: str) -> bool:
    """Whether a resolved path is a directory or below it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
