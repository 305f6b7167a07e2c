"""Ansible's modules that copy, or make a file anew, as modes."""

from __future__ import annotations

import re
from typing import Any

from runner.playbook.ansible.arguments import (
    TEMPLATE,
    is_true,
    join_path,
    last_name,
    read_permissions,
    read_template,
    text_of,
)
from runner.playbook.ansible.reading import NOTHING_RUNS, Reading, Task, have, list_of, place_in, to_remote
from runner.playbook.ansible.writing import LEFT_OPEN, join_names, write_pair


def translate_copy(task: Task) -> str:
    """The hint for `copy`, `win_copy`, `net_put`."""
    reading = Reading(task)
    destination = reading.remote_path("dest")
    if "content" in task.arguments:
        mode: dict[str, Any] = {
            "mode_name": "write_file",
            "content": reading.value("content"),
            "destination_file_name": destination,
        }
        if isinstance(mode["content"], dict | list):
            mode["content"] = LEFT_OPEN
            reading.notes.append("'content' is text: give a mapping as \"{{ … | to_nice_json }}\"")
        return _finish_copy(reading, mode)
    source = reading.path("src")
    if reading.has("remote_src"):
        return _copy_on_host(reading, source, destination)
    if source.endswith("/"):
        mode = {
            "mode_name": "copy_directory_from_engine",
            "source_directory_name": source.rstrip("/") or "/",
            "destination_directory_name": destination.rstrip("/") or "/",
        }
    else:
        mode = {
            "mode_name": "copy_file_from_engine",
            "source_file_name": source,
            "destination_file_name": place_in(destination, source),
        }
    return _finish_copy(reading, mode)


def _copy_on_host(reading: Reading, source: str, destination: str) -> str:
    del reading
    moved = {"mode_name": "rename", "source_path": to_remote(source), "destination_path": destination}
    return (
        "Nothing is copied from one place of a host to another. To move it there, write "
        f"`{write_pair('mode', moved)}`; to keep both, copy it to this machine and back."
    )


def _finish_copy(reading: Reading, mode: dict[str, Any]) -> str:
    reading.permissions(mode)
    if reading.has("backup"):
        mode["backup"] = True
    if reading.lacks("force"):
        mode["if_exists"] = "skip"
    if reading.value("validate") is not None:
        reading.notes.append("'validate' would run a command on the host, which is not done")
    return reading.finish(mode)


def translate_template(task: Task) -> str:
    """The hint for `template`."""
    reading = Reading(task)
    source = reading.path("src")
    mode = {
        "mode_name": "write_file",
        "content": f"{{{{ lookup('template', {_quote_in_template(source)}) }}}}",
        "destination_file_name": place_in(reading.remote_path("dest"), source.removesuffix(".j2")),
    }
    return _finish_copy(reading, mode)


def _quote_in_template(path: str) -> str:
    if inside := read_template(path):
        return inside
    parts = re.split(rf"({TEMPLATE})", path)
    return " ~ ".join(
        f"({one[2:-2].strip()})" if one.startswith("{{") else "'" + one.replace("'", "\\'") + "'"
        for one in parts
        if one
    )


def translate_fetch(task: Task) -> str:
    """The hint for `fetch`."""
    reading = Reading(task)
    source, destination = reading.remote_path("src"), reading.path("dest")
    if reading.has("flat"):
        destination = place_in(destination, source)
    else:
        destination = f"{destination.rstrip('/')}/{{{{ connection_name }}}}/{source.lstrip('/')}"
    mode = {
        "mode_name": "copy_file_to_engine",
        "source_file_name": source,
        "destination_file_name": destination,
    }
    return reading.finish(mode)


def translate_net_get(task: Task) -> str:
    """The hint for `net_get`."""
    return translate_fetch(task._replace(arguments={"flat": True, **task.arguments}))


_RSYNC_SILENT = (
    *("archive", "recursive", "compress", "dest_port", "dirs", "partial", "owner", "group", "set_remote_user"),
    *("rsync_path", "rsync_timeout", "use_ssh_args", "ssh_args", "ssh_connection_multiplexing", "private_key"),
    *("verify_host", "delay_updates", "existing_only", "_local_rsync_path", "_substitute_controller"),
)


def translate_synchronize(task: Task) -> str:
    """The hint for `synchronize`."""
    reading = Reading(task)
    pulls = reading.text("mode") == "pull"
    source, destination = reading.path("src"), reading.path("dest")
    if not source.endswith("/"):
        # As rsync reads it: without the slash the directory itself goes into the destination.
        destination = join_path(destination, last_name(source))
    source, destination = source.rstrip("/") or "/", destination.rstrip("/") or "/"
    source, destination = (to_remote(source), destination) if pulls else (source, to_remote(destination))
    mode: dict[str, Any] = {
        "mode_name": "copy_directory_to_engine" if pulls else "copy_directory_from_engine",
        "source_directory_name": source,
        "destination_directory_name": destination,
    }
    options = [str(one) for one in list_of(reading.value("rsync_opts"))]
    for key in ("exclude", "include"):
        patterns = [one.partition("=")[2] for one in options if one.startswith(f"--{key}=")]
        if patterns:
            mode[key] = patterns
    if reading.has("delete") or any(one.startswith("--delete") for one in options):
        mode["delete"] = True
    if reading.has("checksum") or "--checksum" in options:
        mode["compare"] = "checksum"
    if reading.has("copy_links"):
        mode["links"] = "follow"
    elif reading.lacks("links"):
        mode["links"] = "skip"
    kept = [name for key, name in (("perms", "permissions"), ("times", "times")) if not reading.lacks(key)]
    if len(kept) < 2:
        mode["preserve"] = kept
    known = re.compile(r"--(exclude|include)=|--delete|--checksum$|--bwlimit=")
    reading.value(*_RSYNC_SILENT)
    rates = [one.partition("=")[2] for one in options if one.startswith("--bwlimit=")]
    if rates and rates[0].isdigit():
        reading.notes.append(f"Beside it `bandwidth_limit: {rates[0]}K`")
    if others := [one for one in options if not known.match(one)]:
        reading.notes.append(f"Of 'rsync_opts', {join_names(others)} {have(others)} no counterpart")
    return reading.finish(mode)


def translate_get_url(task: Task) -> str:
    """The hint for `get_url`."""
    url, destination = text_of(task.arguments, "url") or LEFT_OPEN, text_of(task.arguments, "dest") or LEFT_OPEN
    name = last_name(url.partition("?")[0])
    mode: dict[str, Any] = {
        "mode_name": "copy_file_from_engine",
        "source_file_name": name,
        "destination_file_name": place_in(to_remote(destination), url.partition("?")[0]),
    }
    if digits := read_permissions(task.arguments.get("mode"))[0]:
        mode["permissions"] = digits
    return f"Nothing is fetched over HTTP: fetch it to this machine beforehand, and write `{write_pair('mode', mode)}`."


def translate_unarchive(task: Task) -> str:
    """The hint for `unarchive`."""
    source, destination = text_of(task.arguments, "src") or LEFT_OPEN, text_of(task.arguments, "dest") or LEFT_OPEN
    folder = re.sub(r"(\.tar)?\.(gz|tgz|bz2|xz|zst|zip|tar)$", "", source)
    if is_true(task.arguments.get("remote_src")):
        return f"{NOTHING_RUNS} An archive on the host stays one: copy what it holds with copy_directory_from_engine."
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": folder,
        "destination_directory_name": to_remote(destination).rstrip("/") or "/",
    }
    return f"Nothing is unpacked: unpack it on this machine beforehand, and write `{write_pair('mode', mode)}`."


def translate_archive(task: Task) -> str:
    """The hint for `archive`."""
    paths = list_of(task.arguments.get("path"))
    path = to_remote(str(paths[0])).rstrip("/*") if paths else LEFT_OPEN
    mode = {
        "mode_name": "copy_directory_to_engine",
        "source_directory_name": path,
        "destination_directory_name": last_name(path),
    }
    return f"Nothing is packed on a host. To bring it here write `{write_pair('mode', mode)}`."


def translate_edit(task: Task) -> str:
    """The hint for modules that edit a part of a file."""
    path = to_remote(text_of(task.arguments, "path", "dest", "destfile", "name") or LEFT_OPEN)
    mode = {
        "mode_name": "copy_file_from_engine",
        "source_file_name": last_name(path),
        "destination_file_name": path,
    }
    return (
        f"No part of a file is edited in its place. Keep the whole file beside the playbook, and write "
        f"`{write_pair('mode', mode)}`."
    )
