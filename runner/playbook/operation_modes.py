"""The modes that copy nothing: a valid `mode` to one of the values of `runner.plan.Operation`."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Collection
from typing import Any

from runner.plan import (
    CreateFolder,
    CreateLink,
    ListFolder,
    LookAtPath,
    Operation,
    ReadContent,
    RemovePath,
    RenamePath,
    WaitForPath,
)
from runner.playbook.document import PositionedMap, Unfilled
from runner.playbook.durations import read_seconds
from runner.playbook.inputs import InputProblem, Tell, attempt, text_at
from runner.playbook.path_inputs import (
    read_file_name,
    read_remote_path,
    refuse_empty_part,
    refuse_no_name,
    refuse_remote_tilde,
)
from runner.playbook.validation import show

# What a link may lead to, as long as it may be on Linux (PATH_MAX, without the NUL at its end).
MAX_TARGET_BYTES = 4095
MIN_EVERY_SECONDS = 0.1

_PLAIN_OPTIONS = (
    *("recursive", "missing_ok", "overwrite", "parents"),
    *("max_bytes", "encoding", "state", "min_files"),
)
_LENGTHS_OF_TIME = ("timeout", "every", "settle")
_USUAL_WAIT = WaitForPath("")
# In which states a key of `wait_for` means something.
_STATES = {"min_files": ("present", "settled"), "min_size": ("present", "settled"), "settle": ("settled",)}


def check_operation(name: str, mode: PositionedMap, paths: Collection[str], tell: Tell) -> None:
    """Tell everything that means nothing in a mode, but for what the schema finds. `paths` are the keys of its paths."""
    for key in paths:
        attempt(tell, _READ_PATH.get(key, read_remote_path), mode, key)
    if name == RemovePath.mode_name and paths:
        attempt(tell, _read_remove_path, mode)
    elif name == CreateLink.mode_name and "path" in paths:
        attempt(tell, refuse_no_name, mode, "path")
    elif name == RenamePath.mode_name:
        for key in paths:
            attempt(tell, refuse_no_name, mode, key)
        if len(paths) > 1:
            attempt(tell, _refuse_rename_into_itself, mode)
    elif name == WaitForPath.mode_name:
        attempt(tell, _refuse_idle_words, mode)
        attempt(tell, _refuse_endless_settling, mode)
        for key in _LENGTHS_OF_TIME:
            attempt(tell, _read_seconds, mode, key)


def read_operation(mode: PositionedMap) -> Operation:
    """What to do. Raises `InputProblem`."""
    return _READ_OPERATION[mode["mode_name"]](mode)


def _read_options(mode: PositionedMap) -> dict[str, Any]:
    options: dict[str, Any] = {key: mode[key] for key in _PLAIN_OPTIONS if key in mode}
    if "permissions" in mode:
        options["permissions"] = int(mode["permissions"].removeprefix("0o"), 8)
    return options


def _read_remove(mode: PositionedMap) -> RemovePath:
    return RemovePath(_read_remove_path(mode), **_read_options(mode))


def _read_remove_path(mode: PositionedMap) -> str:
    path = read_remote_path(mode, "path")
    refuse_no_name(mode, "path")
    refuse_empty_part(mode, "path", path, "a removal")
    return path


def _read_rename(mode: PositionedMap) -> RenamePath:
    source, destination = (read_remote_path(mode, key) for key in ("source_path", "destination_path"))
    for key in ("source_path", "destination_path"):
        refuse_no_name(mode, key)
    _refuse_rename_into_itself(mode)
    return RenamePath(source.rstrip("/"), destination.rstrip("/"), **_read_options(mode))


def _refuse_rename_into_itself(mode: PositionedMap) -> None:
    source, destination = mode["source_path"], mode["destination_path"]
    old, new = posixpath.normpath(source), posixpath.normpath(destination)
    # What '..' leads to only the server knows.
    is_plain = ".." not in f"{source}/{destination}".split("/")
    if is_plain and (old == new or new.startswith(f"{old}/")):
        what = "the path itself" if old == new else "inside of what is renamed"
        raise InputProblem(
            mode.value_locations["destination_path"],
            f"'destination_path' is {what}: {show(destination)}",
            "Give another path.",
        )


def _read_content(mode: PositionedMap) -> ReadContent:
    return ReadContent(_read_remote_file_name(mode, "source_file_name"), **_read_options(mode))


def _read_remote_file_name(mode: PositionedMap, key: str) -> str:
    path = read_file_name(mode, key)
    refuse_remote_tilde(mode, key)
    return path


def _read_link(mode: PositionedMap) -> CreateLink:
    path = read_remote_path(mode, "path")
    refuse_no_name(mode, "path")
    return CreateLink(path.rstrip("/"), target=_read_target(mode, "target"), **_read_options(mode))


def _read_target(mode: PositionedMap, key: str) -> str:
    """Where a link is to lead. It need not be there."""
    target = read_remote_path(mode, key)
    if len(os.fsencode(target)) > MAX_TARGET_BYTES:
        message = f"'{key}' has more than {MAX_TARGET_BYTES:,} bytes: {show(target)}"
        raise InputProblem(mode.value_locations[key], message, "No link can lead so far.")
    return target


def _read_wait(mode: PositionedMap) -> WaitForPath:
    path = read_remote_path(mode, "path")
    _refuse_idle_words(mode)
    _refuse_endless_settling(mode)
    options = _read_options(mode)
    options |= {f"{key}_seconds": _read_seconds(mode, key) for key in _LENGTHS_OF_TIME if key in mode}
    if "min_size" in mode:
        options["min_size_bytes"] = int(mode["min_size"])
    return WaitForPath(path, **options)


def _read_seconds(mode: PositionedMap, key: str) -> float:
    """A length of time. What is none is the schema's to refuse."""
    given = mode.get(key, 0)
    if isinstance(given, Unfilled):
        return 0.0
    seconds = read_seconds(given) or 0.0
    if key == "every" and isinstance(given, str) and seconds < MIN_EVERY_SECONDS:
        message = f"'every' must be at least {MIN_EVERY_SECONDS:g} s, not {show(given)}"
        raise InputProblem(mode.value_locations[key], message, "Every look is a request to the server.")
    return seconds


def _refuse_idle_words(mode: PositionedMap) -> None:
    """What says something about files that are there means nothing where there shall be none; one path is not several."""
    state = mode.get("state", "present")
    for key, states in _STATES.items():
        if key in mode and state in ("present", "absent", "settled") and state not in states:
            goes_with = " and ".join(f"'state: {one}'" for one in states)
            raise InputProblem(
                mode.value_locations[key],
                f"'{key}' means nothing with 'state: {state}'",
                f"It goes with {goes_with}. Remove one of them.",
            )
    least, path = mode.get("min_files"), text_at(mode, "path")
    if isinstance(least, int) and least > 1 and path is not None and not any(sign in path for sign in "*?["):
        raise InputProblem(
            mode.value_locations["min_files"],
            f"'min_files: {least}' can never be, since 'path' names one path: {show(path)}",
            "A pattern such as 'in/*.csv' names several.",
        )


def _refuse_endless_settling(mode: PositionedMap) -> None:
    """What has to stay as it is for as long as the step waits, or longer, is never seen to have done so."""
    if mode.get("state") != "settled":
        return
    limit_seconds = read_seconds(mode.get("timeout", _USUAL_WAIT.timeout_seconds))
    settle_seconds = read_seconds(mode.get("settle", _USUAL_WAIT.settle_seconds))
    if limit_seconds is None or settle_seconds is None or settle_seconds == 0 or settle_seconds < limit_seconds:
        return
    key = "settle" if "settle" in mode else "timeout" if "timeout" in mode else "state"
    raise InputProblem(
        mode.value_locations[key],
        f"'settle' ({settle_seconds:g} s) is not shorter than 'timeout' ({limit_seconds:g} s): it can never be seen",
        "Raise 'timeout', which is how long the step waits at most.",
    )


_READ_OPERATION: dict[str, Callable[[PositionedMap], Operation]] = {
    ListFolder.mode_name: lambda mode: ListFolder(read_remote_path(mode, "path"), **_read_options(mode)),
    LookAtPath.mode_name: lambda mode: LookAtPath(read_remote_path(mode, "path")),
    RemovePath.mode_name: _read_remove,
    RenamePath.mode_name: _read_rename,
    ReadContent.mode_name: _read_content,
    CreateLink.mode_name: _read_link,
    WaitForPath.mode_name: _read_wait,
    CreateFolder.mode_name: lambda mode: CreateFolder(read_remote_path(mode, "path"), **_read_options(mode)),
}
_READ_PATH: dict[str, Callable[[PositionedMap, str], str]] = {
    "source_file_name": _read_remote_file_name,
    "target": _read_target,
}
