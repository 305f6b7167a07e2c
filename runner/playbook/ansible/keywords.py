"""The keywords of Ansible's plays and tasks that this language does not have, and what is written for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from runner.playbook.ansible.arguments import FREE_FORM, is_true, read_arguments, texts_of
from runner.playbook.ansible.writing import LEFT_OPEN, is_secret_name, write, write_pair

THIS_MACHINE = frozenset(("localhost", "127.0.0.1", "::1"))

Explain = Callable[[Any, Mapping[str, Any]], str]


class Keyword(NamedTuple):
    """What to say about a keyword's value. Keywords of one `topic` are one thing, told once in a mapping."""

    explain: Explain
    topic: str = ""


def _say(text: str) -> Explain:
    return lambda value, section: text


def explain_hosts(value: Any, section: Mapping[str, Any]) -> str:
    """`hosts` as connections."""
    del section
    names = [name for text in texts_of(value) for name in re.split(r":(?=[\w.-]+$)", text) if name]
    if len(names) == 1 and names[0] in THIS_MACHINE:
        return (
            "A play runs on this machine and moves files to and from a host: each step names it, as in "
            "`connection: NAME`, and 'connections' say how NAME is reached."
        )
    if not names or names == ["all"] or not all(re.fullmatch(r"[\w.-]+", name) for name in names):
        return "Each step names its host, as in `connection: NAME`; 'connections' beside 'steps' say how it is reached."
    connections = ", ".join(f"{write(name)}: {{host: …, authentication: …}}" for name in names)
    first = f"Write `connection: {write(names[0])}` in each step"
    if len(names) > 1:
        first = f"Each step names one of them, such as `connection: {write(names[0])}`"
    return f"{first}, and beside 'steps' `connections: {{{connections}}}`."


def _explain_tasks(value: Any, section: Mapping[str, Any]) -> str:
    del value
    others = [key for key in ("pre_tasks", "tasks", "post_tasks") if key in section]
    order = f", in the order {', '.join(others)}" if len(others) > 1 else ""
    return (
        f"Write `steps` in its place{order}. A playbook is one mapping with 'connections' and 'steps', without the '-' "
        "of a list of plays."
    )


def _explain_roles(value: Any, section: Mapping[str, Any]) -> str:
    del section
    names = [one.get("role", one.get("name")) if isinstance(one, dict) else one for one in value or ()]
    included = ", ".join(f"{{include_steps: {write(f'{name}.yaml')}}}" for name in names if isinstance(name, str))
    return f"There are no roles: put the steps of each into a file, and write `steps: [{included or LEFT_OPEN}]`."


def _explain_become(value: Any, section: Mapping[str, Any]) -> str:
    del value
    user = section.get("become_user", section.get("sudo_user", "root"))
    login = write_pair("authentication", {"authentication_method": "ssh_agent", "username": user})
    return (
        "SFTP knows no other user than the one who logs in: files are written as this one. Remove it, and let a user log in "
        f"who may write there, as in `{login}`."
    )


def _explain_user(value: Any, section: Mapping[str, Any]) -> str:
    del section
    login = write_pair("authentication", {"authentication_method": "ssh_agent", "username": value})
    return f"As whom to log in is a part of the login: write `{login}` in the connection."


def _explain_way(value: Any, section: Mapping[str, Any]) -> str:
    del section
    if str(value).endswith("local"):
        return (
            "Here 'connection' names the host that files are moved to or from, one of 'connections'. Steps run on this "
            "machine anyway: remove it, or name the host."
        )
    return (
        "Here 'connection' names a host, one of 'connections'. All are reached over SSH: remove it, or name the host."
    )


def _explain_prompts(value: Any, section: Mapping[str, Any]) -> str:
    del section
    inputs: dict[str, Any] = {}
    for one in value if isinstance(value, list) else ():
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            continue
        made: dict[str, Any] = {"type": "string"}
        if "prompt" in one:
            made["description"] = one["prompt"]
        is_secret = is_true(one.get("private", True)) and is_secret_name(one["name"])
        if is_secret:
            made |= {"secret": True, "env": one["name"].upper()}
        if "default" in one and not is_secret:
            made["default"] = one["default"]
        else:
            made["required"] = True
        inputs[one["name"]] = _NotSecret(made)
    name = next(iter(inputs), "NAME")
    written = write_pair("inputs", inputs or {name: LEFT_OPEN})
    return f"Nothing is asked for: write `{written}`, and give values with `-e {name}=…`."


class _NotSecret(dict[str, Any]):
    """The declaration of an input, which holds none of its value."""


def _explain_delegation(value: Any, section: Mapping[str, Any]) -> str:
    del section
    if value in THIS_MACHINE:
        return "Steps run on this machine anyway, and name the host that they move files to or from: remove it."
    return f"Write `connection: {write(value)}`, which is one of the playbook's 'connections'."


def _explain_notify(value: Any, section: Mapping[str, Any]) -> str:
    handlers = [str(one) for one in value] if isinstance(value, list) else [str(value)]
    name = section.get("register")
    name = (
        name if isinstance(name, str) else re.sub(r"\W+", "_", str(section.get("name") or "copied").lower()).strip("_")
    )
    if not re.fullmatch(r"[A-Za-z_]\w{0,39}", name):
        name = "copied"
    return (
        f"There are no handlers: write `register: {name}` here, and `when: {name} is changed` in a later step in the "
        f"place of {', '.join(write(one) for one in handlers)}."
    )


def _explain_environment(value: Any, section: Mapping[str, Any]) -> str:
    del section
    given = {str(key).lower(): one for key, one in value.items()} if isinstance(value, dict) else {}
    proxy = next((str(given[key]) for key in ("https_proxy", "http_proxy", "all_proxy") if key in given), "")
    found = re.fullmatch(r"(https?|socks5h?)://([\w.-]+):(\d+)/?", proxy)
    if found:
        kind = "http" if found[1].startswith("http") else "socks5"
        written = write_pair("proxy", {"type": kind, "host": found[2], "port": int(found[3])})
        return (
            f"No command is run on a host, so that it has no environment. A connection through a proxy has `{written}`."
        )
    return "No command is run on a host, so that it has no environment: remove it. Templates have 'vars'."


def _explain_async(value: Any, section: Mapping[str, Any]) -> str:
    del value
    seconds = section.get("async")
    limit = f": write `timeout: {write(seconds)}` for the limit" if isinstance(seconds, int) and seconds > 0 else ""
    return f"A step is over before the next begins, and files of one step are under way together{limit}."


def _explain_playbook(value: Any, section: Mapping[str, Any]) -> str:
    del section
    path = read_arguments(value).get(FREE_FORM, value)
    return (
        "A playbook is played by itself: `runner play` takes several. To share its steps, put them into a file, and "
        f"write `include_steps: {write(path)}`."
    )


def _explain_defaults(value: Any, section: Mapping[str, Any]) -> str:
    del value, section
    return "What all steps have in common is written once in 'defaults', or in their connection."


def _explain_port(value: Any, section: Mapping[str, Any]) -> str:
    hosts = section.get("hosts")
    name = hosts if isinstance(hosts, str) and re.fullmatch(r"[\w.-]+", hosts) else "NAME"
    return f"The port is a part of the connection: `connections: {{{write(name)}: {{port: {write(value)}}}}}`."


_BECOME = Keyword(_explain_become, "become")
_GATHERING = Keyword(_say("Nothing is gathered about hosts: remove it."), "gather")
_ASYNC = Keyword(_explain_async, "async")
_ORDER = Keyword(
    _say("Steps are carried out one after the other, and a failure ends the steps of its host alone: remove it."),
    "order",
)
_DELEGATION = Keyword(_explain_delegation, "delegate")
_TASKS = Keyword(_explain_tasks)
_HANDLERS = Keyword(
    _say(
        "There are no handlers: a step that waits for another's change stands behind it, and has "
        "`when: NAME is changed`, where the other has `register: NAME`."
    )
)
_REMOVED = Keyword(_say("There is nothing of the kind here: remove it."))

# What plays and tasks have in common.
_BOTH: dict[str, Keyword] = {
    **dict.fromkeys(("become", "become_user", "become_method", "become_flags", "become_exe"), _BECOME),
    **dict.fromkeys(("sudo", "sudo_user", "su", "su_user"), _BECOME),
    "remote_user": Keyword(_explain_user),
    "environment": Keyword(_explain_environment),
    "module_defaults": Keyword(_explain_defaults),
    **dict.fromkeys(("any_errors_fatal", "max_fail_percentage", "run_once", "throttle"), _ORDER),
    **dict.fromkeys(("collections", "debugger"), _REMOVED),
}

PLAY_KEYWORDS: dict[str, Keyword] = {
    **_BOTH,
    "hosts": Keyword(explain_hosts),
    **dict.fromkeys(("tasks", "pre_tasks", "post_tasks"), _TASKS),
    "handlers": _HANDLERS,
    "roles": Keyword(_explain_roles),
    **dict.fromkeys(("gather_facts", "gather_subset", "gather_timeout", "fact_path"), _GATHERING),
    "vars_prompt": Keyword(_explain_prompts),
    **dict.fromkeys(("serial", "strategy", "order", "force_handlers"), _ORDER),
    "import_playbook": Keyword(_explain_playbook),
    "ansible.builtin.import_playbook": Keyword(_explain_playbook),
    "connection": Keyword(_explain_way),
    "user": Keyword(_explain_user),
    "port": Keyword(_explain_port),
    **dict.fromkeys(
        ("tags", "no_log", "ignore_errors", "ignore_unreachable", "check_mode", "diff", "timeout", "when"),
        Keyword(_say("It is written in each step, or once in a block around them: `block: […]`.")),
    ),
}

TASK_KEYWORDS: dict[str, Keyword] = {
    **_BOTH,
    "hosts": Keyword(explain_hosts),
    "connection": Keyword(_explain_way),
    **dict.fromkeys(("delegate_to", "delegate_facts"), _DELEGATION),
    **dict.fromkeys(("async", "poll"), _ASYNC),
    "notify": Keyword(_explain_notify),
    "listen": _HANDLERS,
    "always_run": Keyword(_say("Write `check_mode: false`.")),
    "gather_facts": _GATHERING,
    "import_playbook": Keyword(_explain_playbook),
    "ansible.builtin.import_playbook": Keyword(_explain_playbook),
    "args": _REMOVED,
    "first_available_file": _REMOVED,
}

# What makes a mapping a play, wherever it stands.
PLAY_MARKS = {
    *("tasks", "pre_tasks", "post_tasks", "roles", "handlers", "vars_prompt", "gather_facts", "strategy", "serial"),
    *("import_playbook", "ansible.builtin.import_playbook"),
}


def explain_variable(name: str, value: Any) -> str:
    """The hint for a variable by which Ansible is told how to reach a host; empty for any other."""
    login: dict[str, Any] = {"authentication_method": "ssh_agent", "username": LEFT_OPEN}
    match name.replace("ansible_ssh_", "ansible_"):
        case "ansible_host":
            return _in_connection("host", value)
        case "ansible_port":
            return _in_connection("port", value)
        case "ansible_user":
            return _in_connection("authentication", {**login, "username": value})
        case "ansible_password" | "ansible_pass":
            login |= {"authentication_method": "username_password", "password": "{{ lookup('env', 'PASSWORD') }}"}
            return _in_connection("authentication", login)
        case "ansible_private_key_file":
            login |= {"authentication_method": "ssh_key_file", "ssh_key_file": value}
            return _in_connection("authentication", login)
        case "ansible_common_args" | "ansible_args" | "ansible_extra_args":
            found = re.search(r"-J\s*([^\s\"']+)|ProxyJump[= ]([^\s\"']+)", str(value))
            if found:
                return _in_connection("proxy_jump", [(found[1] or found[2]).rpartition("@")[2]])
            return "ssh is not started, and takes no options. What ~/.ssh/config says is used with `ssh_config: true`."
        case "ansible_host_key_checking" | "ansible_connection" | "ansible_python_interpreter" | "ansible_shell_type":
            return "It means nothing here: remove it."
    return "It means nothing here: remove it." if name.startswith("ansible_become") else ""


def _in_connection(key: str, value: Any) -> str:
    return f"A variable of this name does nothing. Write `{write_pair(key, value)}` in the connection."
