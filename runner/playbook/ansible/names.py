"""The variables that Ansible has by itself, and what is written for them here."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from runner.playbook.ansible.arguments import TEMPLATE

_DATE_FORMATS = {
    "date": "now(fmt='%Y-%m-%d')",
    "time": "now(fmt='%H:%M:%S')",
    "year": "now(fmt='%Y')",
    "month": "now(fmt='%m')",
    "day": "now(fmt='%d')",
    "hour": "now(fmt='%H')",
    "minute": "now(fmt='%M')",
    "second": "now(fmt='%S')",
    "weekday": "now(fmt='%A')",
    "weekday_number": "now(fmt='%w')",
    "weeknumber": "now(fmt='%W')",
    "epoch": "now(fmt='%s')",
    "epoch_int": "now(fmt='%s') | int",
    "tz": "now(fmt='%Z')",
    "tz_offset": "now(fmt='%z')",
    "iso8601": "now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ')",
    "iso8601_micro": "now(utc=true, fmt='%Y-%m-%dT%H:%M:%S.%fZ')",
    "iso8601_basic": "now(fmt='%Y%m%dT%H%M%S%f')",
    "iso8601_basic_short": "now(fmt='%Y%m%dT%H%M%S')",
}

# What the name means here, whatever is asked of it.
_SAME = {
    "inventory_hostname": "connection_name",
    "inventory_hostname_short": "connection_name",
    **dict.fromkeys(
        ("ansible_host", "ansible_ssh_host", "ansible_fqdn", "ansible_hostname", "ansible_nodename"), "host"
    ),
    "ansible_version": "runner_version",
    "ansible_check_mode": "runner_check_mode",
    **dict.fromkeys(("ansible_play_hosts", "ansible_play_batch"), "play_hosts"),
    "ansible_play_hosts_all": "groups.all",
    **dict.fromkeys(("role_path", "inventory_dir", "ansible_config_file_dir"), "playbook_dir"),
}

# A name that begins another one: what follows it is kept.
_BEGINNINGS = {"ansible_loop": "loop", "ansible_failed_task": "failed_step", "ansible_failed_result": "failed_step"}

_LOGIN = "how a host is reached is written in its connection, and a value that templates need in its 'vars'"
_NO_COUNTERPART = {
    **dict.fromkeys(
        (
            *("ansible_user", "ansible_ssh_user", "ansible_user_id", "ansible_real_user_id", "ansible_remote_user"),
            *("ansible_port", "ansible_ssh_port", "ansible_connection", "ansible_ssh_private_key_file"),
        ),
        f"There is no such variable: {_LOGIN}, such as `vars: {{user: acme}}` and `{{{{ user }}}}`.",
    ),
    **dict.fromkeys(
        ("ansible_password", "ansible_ssh_pass", "ansible_become_password", "ansible_become_pass"),
        "A secret stands in 'authentication' alone, as in `password: \"{{ lookup('env', 'PASSWORD') }}\"`.",
    ),
    "omit": "There is no 'omit': leave the key out, or write two steps with opposite conditions.",
    "inventory_file": "There is no inventory: hosts are the playbook's 'connections'.",
    "role_name": "There are no roles: shared steps are a file, named by 'include_steps'.",
    "ansible_run_tags": "Which tags were asked for is no variable; a step's 'tags' decide whether it runs.",
    "ansible_skip_tags": "Which tags were left out is no variable; a step's 'tags' decide whether it runs.",
    "ansible_python_interpreter": "Nothing is needed on the host but its SSH server: remove it.",
}

_CALL_HINT = "Write `lookup(…)`; `lookup('fileglob', …)` gives a list."

_NAME = r"(?:ansible_\w+|inventory_(?:hostname(?:_short)?|dir|file)|role_path|role_name|omit)"
_TOKEN = re.compile(
    rf"(?P<name>(?<![\w.]){_NAME}\b(?P<path>(?:\.\w+|\[\s*['\"]\w+['\"]\s*\])*))"
    r"|(?P<call>(?<![\w.])(?:query|q)(?=\s*\())"
    r"|'(?:\\.|[^'\\])*(?:'|\Z)|\"(?:\\.|[^\"\\])*(?:\"|\Z)",
)
_TEMPLATE = re.compile(rf"{TEMPLATE}|\{{%(?:(?!\{{%|%\}})[\s\S])*%\}}")


class Name(NamedTuple):
    """A name of Ansible's: as it is written, and what is written for it here, or why nothing is."""

    written: str
    name: str
    expression: str | None
    # The variable that a reader has to set where there is no expression.
    variable: str
    hint: str


def explain_name(name: str, text: str) -> str:
    """The hint for an undefined name in a template; empty for a name that is not Ansible's."""
    for found in find_names(text, is_expression=True):
        if found.name == name:
            return found.hint
    return _CALL_HINT if name in ("query", "q") else next((found.hint for found in _find_in(name)), "")


def find_names(text: str, *, is_expression: bool = False, own: Collection[str] = ()) -> Iterator[Name]:
    """Ansible's names in the templates of a text, or in an expression. Those of `own` are the playbook's variables."""
    for piece in split_templates(text, is_expression=is_expression):
        yield from (found for found in _find_in(piece) if found.name not in own)


def split_templates(text: str, *, is_expression: bool) -> list[str]:
    """The templates of a text; the whole of it if it is an expression without braces."""
    return [text] if is_expression and "{{" not in text else _TEMPLATE.findall(text)


def map_templates(text: str, change: Callable[[str], str], *, is_expression: bool) -> str:
    """The text with its templates changed; the whole of it if it is an expression without braces."""
    if is_expression and "{{" not in text:
        return change(text)
    return _TEMPLATE.sub(lambda piece: change(piece[0]), text)


def replace_names(text: str, own: Collection[str] = (), *, is_expression: bool = False) -> str:
    """The text with every name in its templates, or in an expression, that has a counterpart replaced by it."""

    def replace(found: re.Match[str]) -> str:
        meant = _read(found)
        if meant is None or meant.name in own:
            return found[0]
        return meant.expression or meant.variable or found[0]

    return map_templates(text, lambda piece: _TOKEN.sub(replace, piece), is_expression=is_expression)


def _find_in(expression: str) -> Iterator[Name]:
    for found in _TOKEN.finditer(expression):
        meant = _read(found)
        if meant is not None:
            yield meant


def _read(found: re.Match[str]) -> Name | None:
    if found["call"]:
        return Name(found[0], found[0], "lookup", "", _CALL_HINT)
    if not found["name"]:
        return None
    written, path = found["name"], re.findall(r"\w+", found["path"])
    name = written[: len(written) - len(found["path"])]
    meant, path = _out_of_facts(name, path)
    expression = _find_expression(meant, path)
    variable = ".".join([_variable_for(meant), *path]) if _variable_for(meant) else ""
    return Name(written, name, expression, variable, _explain(written, meant, path, expression))


def _variable_for(name: str) -> str:
    """What a fact is called as a variable of one's own."""
    has_answer = name in _NO_COUNTERPART or name in ("ansible_date_time", "ansible_env", "ansible_facts")
    return "" if has_answer or not name.startswith("ansible_") else name.removeprefix("ansible_")


def _out_of_facts(name: str, path: list[str]) -> tuple[str, list[str]]:
    if name == "ansible_facts" and path:
        return f"ansible_{path[0].removeprefix('ansible_')}", path[1:]
    return name, path


def _find_expression(name: str, path: list[str]) -> str | None:
    if name == "ansible_date_time":
        return _DATE_FORMATS.get(path[0]) if path else None
    if name == "ansible_env":
        return f"lookup('env', '{path[0]}')" if path else None
    if name == "ansible_failed_result" and path[:1] == ["msg"]:
        return "failed_step.error.message"
    if name in _BEGINNINGS:
        return ".".join([_BEGINNINGS[name], *path])
    return _SAME.get(name)


def _explain(written: str, name: str, path: list[str], expression: str | None) -> str:
    if expression is not None:
        more = ""
        if name == "ansible_env":
            more = " It is the environment of this machine; nothing is asked about the host's."
        if name == "ansible_loop":
            more = " It needs `loop_control: {extended: true}`."
        return f"Ansible's '{written}' is `{expression}` here.{more}"
    if name == "ansible_date_time":
        return f"Ansible's '{written}' is made with now(), such as `{_DATE_FORMATS['date']}`."
    if name == "ansible_env":
        return "Environment variables of this machine are `lookup('env', 'HOME')`; nothing is asked about the host's."
    if name in _NO_COUNTERPART:
        return _NO_COUNTERPART[name]
    fact = _variable_for(name)
    if not fact:
        return "No facts are gathered about hosts: what is known of one is a variable of its connection."
    return f"No facts are gathered about hosts. Set it in the connection: `vars: {{{fact}: …}}`, and write `{fact}`."
