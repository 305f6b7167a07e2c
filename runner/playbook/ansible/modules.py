"""What Ansible's modules are written as here: for each the hint, filled in from the arguments that stand there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from runner.playbook.ansible.arguments import (
    FREE_FORM,
    TEMPLATE,
    is_false,
    is_true,
    join_path,
    last_name,
    read_permissions,
    read_template,
    text_of,
    texts_of,
)
from runner.playbook.ansible.commands import translate_command
from runner.playbook.ansible.writing import LEFT_OPEN, join_names, write, write_pair

OWNER_NOTE = "Owner and group are those of the user who logs in"
NOTHING_RUNS = "No command is run on a host: files are moved and nothing else."
_OWNERS = {"owner", "group", "uid", "gid"}
# What changes nothing about the translation.
_SILENT = {
    *("_raw_params", "unsafe_writes", "follow", "local_follow", "selevel", "serole", "setype", "seuser", "decrypt"),
    *("get_checksum", "checksum_algorithm", "get_mime", "get_attributes", "get_md5", "validate_checksum", "quiet"),
    *("newline_sequence", "trim_blocks", "lstrip_blocks", "output_encoding", "fail_on_missing"),
    *("block_end_string", "block_start_string", "variable_end_string", "variable_start_string"),
}


class Task(NamedTuple):
    """A module's call: the arguments by name, and the name that its result is registered under."""

    module: str
    arguments: dict[str, Any]
    register: str = ""


class _Reading:
    """The arguments of a module, and which of them have been made use of."""

    def __init__(self, task: Task) -> None:
        self._arguments = task.arguments
        self._used = set(_SILENT)
        self.notes: list[str] = []

    def text(self, *names: str) -> str | None:
        self._used.update(names)
        return text_of(self._arguments, *names)

    def path(self, *names: str) -> str:
        """A path, or what stands for one that is missing. A home directory is where relative remote paths start."""
        return self.text(*names) or LEFT_OPEN

    def remote_path(self, *names: str) -> str:
        return _to_remote(self.path(*names))

    def value(self, *names: str) -> Any:
        self._used.update(names)
        return next((self._arguments[name] for name in names if name in self._arguments), None)

    def has(self, *names: str) -> bool:
        self._used.update(names)
        return any(is_true(self._arguments.get(name)) for name in names)

    def lacks(self, name: str) -> bool:
        """Whether it says no."""
        self._used.add(name)
        return is_false(self._arguments.get(name))

    def permissions(self, mode: dict[str, Any], name: str = "mode") -> None:
        digits, note = read_permissions(self.value(name))
        if digits:
            mode["permissions"] = digits
        if note:
            self.notes.append(note)

    def finish(self, mode: dict[str, Any]) -> str:
        """The hint: the whole mode, then what of the module has no counterpart."""
        left = [name for name in self._arguments if name not in self._used]
        if _OWNERS & set(left):
            self.notes.append(OWNER_NOTE)
        if others := [name for name in left if name not in _OWNERS]:
            verb = "has" if len(others) == 1 else "have"
            self.notes.append(f"{join_names(others)} {verb} no counterpart here")
        return " ".join([f"Write `{write_pair('mode', mode)}`.", *(f"{note}." for note in self.notes)])


def explain_module(task: Task) -> str:
    """The hint that says what to write for a module's call."""
    name = task.module.rpartition(".")[2]
    translate = _TRANSLATIONS.get(name) or _TRANSLATIONS.get(name.removeprefix("win_"))
    return translate(task) if translate else _explain_other(task)


def is_module(key: str) -> bool:
    """Whether a key is the name of an Ansible module: a bare one that is known, or any with its collection."""
    bare = key.removeprefix("win_")
    return bare in _TRANSLATIONS or bare in _OTHER_MODULES or bool(re.fullmatch(r"[a-z]\w*(\.[a-z]\w*){2,}", key))


def _to_remote(path: str) -> str:
    if re.match(r"[A-Za-z]:[\\/]", path):
        path = "/" + path
    if "\\" in path and "{{" not in path:
        path = path.replace("\\", "/")
    return path.removeprefix("~/")


def _place_in(destination: str, source: str) -> str:
    """The full name that a file gets: Ansible puts it into a destination that ends with a slash."""
    return join_path(destination, last_name(source)) if destination.endswith("/") else destination


def _copy(task: Task) -> str:
    reading = _Reading(task)
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
            "destination_file_name": _place_in(destination, source),
        }
    return _finish_copy(reading, mode)


def _copy_on_host(reading: _Reading, source: str, destination: str) -> str:
    del reading
    moved = {"mode_name": "rename", "source_path": _to_remote(source), "destination_path": destination}
    return (
        "Nothing is copied from one place of a host to another. To move it there, write "
        f"`{write_pair('mode', moved)}`; to keep both, copy it to this machine and back."
    )


def _finish_copy(reading: _Reading, mode: dict[str, Any]) -> str:
    reading.permissions(mode)
    if reading.has("backup"):
        mode["backup"] = True
    if reading.lacks("force"):
        mode["if_exists"] = "skip"
    if reading.value("validate") is not None:
        reading.notes.append("'validate' would run a command on the host, which is not done")
    return reading.finish(mode)


def _template(task: Task) -> str:
    reading = _Reading(task)
    source = reading.path("src")
    mode = {
        "mode_name": "write_file",
        "content": f"{{{{ lookup('template', {_quote_in_template(source)}) }}}}",
        "destination_file_name": _place_in(reading.remote_path("dest"), source.removesuffix(".j2")),
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


def _fetch(task: Task) -> str:
    reading = _Reading(task)
    source, destination = reading.remote_path("src"), reading.path("dest")
    if reading.has("flat"):
        destination = _place_in(destination, source)
    else:
        destination = f"{destination.rstrip('/')}/{{{{ connection_name }}}}/{source.lstrip('/')}"
    mode = {
        "mode_name": "copy_file_to_engine",
        "source_file_name": source,
        "destination_file_name": destination,
    }
    return reading.finish(mode)


def _net_get(task: Task) -> str:
    return _fetch(task._replace(arguments={"flat": True, **task.arguments}))


_RSYNC_SILENT = (
    *("archive", "recursive", "compress", "dest_port", "dirs", "partial", "owner", "group", "set_remote_user"),
    *("rsync_path", "rsync_timeout", "use_ssh_args", "ssh_args", "ssh_connection_multiplexing", "private_key"),
    *("verify_host", "delay_updates", "existing_only", "_local_rsync_path", "_substitute_controller"),
)


def _synchronize(task: Task) -> str:
    reading = _Reading(task)
    pulls = reading.text("mode") == "pull"
    source, destination = reading.path("src"), reading.path("dest")
    if not source.endswith("/"):
        # As rsync reads it: without the slash the directory itself goes into the destination.
        destination = join_path(destination, last_name(source))
    source, destination = source.rstrip("/") or "/", destination.rstrip("/") or "/"
    source, destination = (_to_remote(source), destination) if pulls else (source, _to_remote(destination))
    mode: dict[str, Any] = {
        "mode_name": "copy_directory_to_engine" if pulls else "copy_directory_from_engine",
        "source_directory_name": source,
        "destination_directory_name": destination,
    }
    options = [str(one) for one in _list(reading.value("rsync_opts"))]
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
        reading.notes.append(f"Of 'rsync_opts', {join_names(others)} {_have(others)} no counterpart")
    return reading.finish(mode)


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else list(texts_of(value))


def _file(task: Task) -> str:
    reading = _Reading(task)
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


def _stat(task: Task) -> str:
    reading = _Reading(task)
    hint = reading.finish({"mode_name": "stats", "path": reading.remote_path("path", "dest", "name")})
    if task.register:
        hint += f" What `{task.register}.stat.exists` was is `{task.register}.result.exists`."
    return hint


def _find(task: Task) -> str:
    reading = _Reading(task)
    paths = _list(reading.value("paths", "path", "name"))
    mode: dict[str, Any] = {"mode_name": "list", "path": _to_remote(str(paths[0])) if paths else LEFT_OPEN}
    if reading.has("recurse"):
        mode["recursive"] = True
    name = task.register or "found"
    chosen = f'`loop: "{{{{ {name}.result.entries }}}}"`'
    if len(paths) > 1:
        reading.notes.append("One step for each directory")
    if reading.value("patterns", "pattern", "file_type", "age", "size", "excludes", "use_regex", "hidden") is not None:
        reading.notes.append(f"Choose of its entries by a condition, in a later step with {chosen} and `when`")
    return reading.finish(mode)


def _slurp(task: Task) -> str:
    reading = _Reading(task)
    hint = reading.finish({"mode_name": "read_file", "source_file_name": reading.remote_path("src", "path")})
    name = task.register or "NAME"
    return f"{hint} Its text is `{name}.result.content`, without b64decode."


def _get_url(task: Task) -> str:
    url, destination = text_of(task.arguments, "url") or LEFT_OPEN, text_of(task.arguments, "dest") or LEFT_OPEN
    name = last_name(url.partition("?")[0])
    mode: dict[str, Any] = {
        "mode_name": "copy_file_from_engine",
        "source_file_name": name,
        "destination_file_name": _place_in(_to_remote(destination), url.partition("?")[0]),
    }
    if digits := read_permissions(task.arguments.get("mode"))[0]:
        mode["permissions"] = digits
    return f"Nothing is fetched over HTTP: fetch it to this machine beforehand, and write `{write_pair('mode', mode)}`."


def _unarchive(task: Task) -> str:
    source, destination = text_of(task.arguments, "src") or LEFT_OPEN, text_of(task.arguments, "dest") or LEFT_OPEN
    folder = re.sub(r"(\.tar)?\.(gz|tgz|bz2|xz|zst|zip|tar)$", "", source)
    if is_true(task.arguments.get("remote_src")):
        return f"{NOTHING_RUNS} An archive on the host stays one: copy what it holds with copy_directory_from_engine."
    mode = {
        "mode_name": "copy_directory_from_engine",
        "source_directory_name": folder,
        "destination_directory_name": _to_remote(destination).rstrip("/") or "/",
    }
    return f"Nothing is unpacked: unpack it on this machine beforehand, and write `{write_pair('mode', mode)}`."


def _archive(task: Task) -> str:
    paths = _list(task.arguments.get("path"))
    path = _to_remote(str(paths[0])).rstrip("/*") if paths else LEFT_OPEN
    mode = {
        "mode_name": "copy_directory_to_engine",
        "source_directory_name": path,
        "destination_directory_name": last_name(path),
    }
    return f"Nothing is packed on a host. To bring it here write `{write_pair('mode', mode)}`."


def _edit(task: Task) -> str:
    path = _to_remote(text_of(task.arguments, "path", "dest", "destfile", "name") or LEFT_OPEN)
    mode = {
        "mode_name": "copy_file_from_engine",
        "source_file_name": last_name(path),
        "destination_file_name": path,
    }
    return (
        f"No part of a file is edited in its place. Keep the whole file beside the playbook, and write "
        f"`{write_pair('mode', mode)}`."
    )


def _wait_for(task: Task) -> str:
    reading = _Reading(task)
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


def _command(task: Task) -> str:
    if is_script(task):
        return f"{NOTHING_RUNS} Run it on this machine before or after `runner play`, or over ssh."
    line = text_of(task.arguments, "cmd", "_raw_params") or " ".join(map(str, _list(task.arguments.get("argv"))))
    translated = translate_command(line, text_of(task.arguments, "chdir") or "")
    if translated is None:
        return (
            f"{NOTHING_RUNS} Run it over ssh after the play; its output on this machine is `lookup('pipe', '…')` "
            "in a template."
        )
    return f"{NOTHING_RUNS} What this one does is `{write_pair('mode', translated)}`."


def is_script(task: Task) -> bool:
    """Whether the module copies a local program to the host and runs it there."""
    return task.module.rpartition(".")[2] == "script"


def _include_vars(task: Task) -> str:
    path = text_of(task.arguments, "file", FREE_FORM) or LEFT_OPEN
    return f"Variables of a file are the playbook's: write `vars_files: [{write(path)}]` beside 'steps'."


def _include_tasks(task: Task) -> str:
    path = text_of(task.arguments, "file", FREE_FORM) or LEFT_OPEN
    return f"Write `include_steps: {write(path)}`, a file that holds steps."


def _include_role(task: Task) -> str:
    name = text_of(task.arguments, "name", "role") or LEFT_OPEN
    return f"There are no roles: put the steps of it into a file, and write `include_steps: {write(name + '.yaml')}`."


def _facts(task: Task) -> str:
    del task
    return "Nothing is gathered about hosts: remove it. `runner doctor` shows what a server is."


def _ping(task: Task) -> str:
    del task
    return "Each step connects and logs in by itself: remove it. `runner doctor` tries the connections of a playbook."


def _meta(task: Task) -> str:
    what = text_of(task.arguments, FREE_FORM) or ""
    if what == "flush_handlers":
        return "There are no handlers to run: remove it. A step that waits for a change has `when: NAME is changed`."
    if what.startswith("end_"):
        return "Nothing ends a play in its middle: give the later steps a `when`, in one block."
    return "There is nothing of the kind here: remove it."


def _hosts(task: Task) -> str:
    name = text_of(task.arguments, "name", "hostname", "host") or "NAME"
    host = text_of(task.arguments, "ansible_host", "ansible_ssh_host") or name
    return (
        "Hosts are known before a play begins: write "
        f"`connections: {{{write(name)}: {{host: {write(host)}}}}}` beside 'steps'."
    )


def _known_hosts(task: Task) -> str:
    key = text_of(task.arguments, "key") or LEFT_OPEN
    return f"The host's key is a part of its connection: `hostkey: {{hostkey_mode: known_host, known_host: {write(key)}}}`."


def _tempfile(task: Task) -> str:
    del task
    return "Files are written under a temporary name and renamed when they are whole by themselves: remove it."


def _explain_other(task: Task) -> str:
    if task.module.rpartition(".")[2] in ("uri", "win_uri"):
        return "Nothing is sent over HTTP: do it on this machine, before or after `runner play`."
    return f"{NOTHING_RUNS} Leave it to Ansible, which runs programs on the host."


_Translate = Callable[[Task], str]

_TRANSLATIONS: dict[str, _Translate] = {
    "copy": _copy,
    "net_put": _copy,
    "template": _template,
    "fetch": _fetch,
    "net_get": _net_get,
    "synchronize": _synchronize,
    "file": _file,
    "stat": _stat,
    "find": _find,
    "slurp": _slurp,
    "get_url": _get_url,
    "unarchive": _unarchive,
    "archive": _archive,
    **dict.fromkeys(("lineinfile", "blockinfile", "replace", "ini_file", "xml", "assemble"), _edit),
    "wait_for": _wait_for,
    "wait_for_connection": _wait_for,
    **dict.fromkeys(("command", "shell", "raw", "script", "expect", "powershell"), _command),
    "include_vars": _include_vars,
    **dict.fromkeys(("include_tasks", "import_tasks", "include"), _include_tasks),
    **dict.fromkeys(("include_role", "import_role"), _include_role),
    **dict.fromkeys(("setup", "gather_facts", "package_facts", "service_facts", "mount_facts"), _facts),
    "ping": _ping,
    "meta": _meta,
    **dict.fromkeys(("add_host", "group_by"), _hosts),
    "known_hosts": _known_hosts,
    "tempfile": _tempfile,
}

# They are answered, with one sentence for all.
_OTHER_MODULES = {
    *("acl", "alternatives", "apk", "apt", "apt_key", "apt_repository", "async_status", "authorized_key"),
    *("cron", "deb822_repository", "debconf", "dnf", "dnf5", "docker_compose", "docker_compose_v2"),
    *("docker_container", "docker_image", "domain", "dpkg_selections", "feature", "firewalld", "getent"),
    *("git", "group", "homebrew", "hostname", "htpasswd", "iis_website", "iptables", "k8s", "lvg", "lvol"),
    *("make", "mount", "mysql_db", "mysql_user", "npm", "openssl_privatekey", "package", "pacman", "pip"),
    *("postgresql_db", "postgresql_user", "reboot", "regedit", "rpm_key", "seboolean", "selinux", "service"),
    *("set_stats", "snap", "subversion", "supervisorctl", "sysctl", "systemd", "systemd_service", "sysvinit"),
    *("timezone", "ufw", "updates", "uri", "user", "validate_argument_spec", "yum", "yum_repository"),
    *("zypper",),
}
