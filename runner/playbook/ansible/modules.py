"""What Ansible's modules are written as here: for each the hint, filled in from the arguments that stand there."""

from __future__ import annotations

import re
from collections.abc import Callable

from runner.playbook.ansible.arguments import FREE_FORM, text_of
from runner.playbook.ansible.commands import translate_command
from runner.playbook.ansible.copies import (
    translate_archive,
    translate_copy,
    translate_edit,
    translate_fetch,
    translate_get_url,
    translate_net_get,
    translate_synchronize,
    translate_template,
    translate_unarchive,
)
from runner.playbook.ansible.files import (
    translate_file,
    translate_find,
    translate_slurp,
    translate_stat,
    translate_wait_for,
)
from runner.playbook.ansible.reading import NOTHING_RUNS, Task, list_of
from runner.playbook.ansible.writing import LEFT_OPEN, write, write_pair


def explain_module(task: Task) -> str:
    """The hint that says what to write for a module's call."""
    name = task.module.rpartition(".")[2]
    translate = _TRANSLATIONS.get(name) or _TRANSLATIONS.get(name.removeprefix("win_"))
    return translate(task) if translate else _explain_other(task)


def is_module(key: str) -> bool:
    """Whether a key is the name of an Ansible module: a bare one that is known, or any with its collection."""
    bare = key.removeprefix("win_")
    return bare in _TRANSLATIONS or bare in _OTHER_MODULES or bool(re.fullmatch(r"[a-z]\w*(\.[a-z]\w*){2,}", key))


def _command(task: Task) -> str:
    if is_script(task):
        return f"{NOTHING_RUNS} Run it on this machine before or after `runner play`, or over ssh."
    line = text_of(task.arguments, "cmd", "_raw_params") or " ".join(map(str, list_of(task.arguments.get("argv"))))
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
    "copy": translate_copy,
    "net_put": translate_copy,
    "template": translate_template,
    "fetch": translate_fetch,
    "net_get": translate_net_get,
    "synchronize": translate_synchronize,
    "file": translate_file,
    "stat": translate_stat,
    "find": translate_find,
    "slurp": translate_slurp,
    "get_url": translate_get_url,
    "unarchive": translate_unarchive,
    "archive": translate_archive,
    **dict.fromkeys(("lineinfile", "blockinfile", "replace", "ini_file", "xml", "assemble"), translate_edit),
    "wait_for": translate_wait_for,
    "wait_for_connection": translate_wait_for,
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
