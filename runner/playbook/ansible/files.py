"""Ansible's modules that look at files on the host, or change what they are, as modes."""

from __future__ import annotations

from typing import Any

from runner.playbook.ansible.arguments import read_permissions
from runner.playbook.ansible.reading import OWNER_NOTE, Reading, Task, list_of, to_remote
from runner.playbook.ansible.writing import LEFT_OPEN, write, write_pair


def translate_file(task: Task) -> str:
    """The hint for `file`."""
    reading = Reading(task)
    path, state = reading.remote_path("path", "dest", "name"), reading.text("state") or "file"
    mode: dict[str, Any]
    if state == "directory":
        mode = {"mode_name": "create_directory", "path": path.rstrip("/") or "/"}
        reading.permissions(mode)
        if reading.has("recurse"):
            reading.notes.append("What is in it is left as it is")
        return reading.finish(mode)
    if state == "absent":
        reading.value("mode", "force")
        return reading.finish({"mode_name": "remove", "path": path.rstrip("/") or "/", "recursive": True})
    if state == "link":
        reading.value("mode", "force")
        return reading.finish({"mode_name": "create_link", "path": path, "target": reading.path("src")})
    if state == "touch":
        mode = {"mode_name": "write_file", "content": "", "destination_file_name": path, "if_exists": "skip"}
        reading.permissions(mode)
        reading.value("modification_time", "access_time")
        return reading.finish(mode)
    if state == "hard":
        created = {"mode_name": "create_link", "path": path, "target": reading.path("src")}
        return f"There are no hard links over SFTP; for a symbolic one write `{write_pair('mode', created)}`."
    digits, _ = read_permissions(reading.value("mode"))
    kept = f"`permissions: {write(digits)}`" if digits else "`permissions`"
    return (
        f"Attributes of what is there already are not set by themselves: give {kept} to the step that copies "
        f"{path} or creates it. {OWNER_NOTE}."
    )


def translate_stat(task: Task) -> str:
    """The hint for `stat`."""
    reading = Reading(task)
    hint = reading.finish({"mode_name": "stats", "path": reading.remote_path("path", "dest", "name")})
    if task.register:
        hint += f" What `{task.register}.stat.exists` was is `{task.register}.result.exists`."
    return hint


def translate_find(task: Task) -> str:
    """The hint for `find`."""
    reading = Reading(task)
    paths = list_of(reading.value("paths", "path", "name"))
    mode: dict[str, Any] = {"mode_name": "list", "path": to_remote(str(paths[0])) if paths else LEFT_OPEN}
    if reading.has("recurse"):
        mode["recursive"] = True
    name = task.register or "found"
    chosen = f'`loop: "{{{{ {name}.result.entries }}}}"`'
    if len(paths) > 1:
        reading.notes.append("One step for each directory")
    if reading.value("patterns", "pattern", "file_type", "age", "size", "excludes", "use_regex", "hidden") is not None:
        reading.notes.append(f"Choose of its entries by a condition, in a later step with {chosen} and `when`")
    return reading.finish(mode)


def translate_slurp(task: Task) -> str:
    """The hint for `slurp`."""
    reading = Reading(task)
    hint = reading.finish({"mode_name": "read_file", "source_file_name": reading.remote_path("src", "path")})
    name = task.register or "NAME"
    return f"{hint} Its text is `{name}.result.content`, without b64decode."


def translate_wait_for(task: Task) -> str:
    """The hint for `wait_for`."""
    reading = Reading(task)
    if "path" not in task.arguments:
        return (
            "Each step connects by itself. For a host that does not answer yet write `retries: 10` and `delay: 5` in "
            "the first step that uses it."
        )
    state = reading.text("state")
    mode: dict[str, Any] = {"mode_name": "wait_for", "path": reading.remote_path("path")}
    if state == "absent":
        mode["state"] = "absent"
    for theirs, ours in (("timeout", "timeout"), ("sleep", "every")):
        value = reading.value(theirs)
        if value is not None:
            mode[ours] = int(value) if str(value).isdigit() else value
    return reading.finish(mode)
