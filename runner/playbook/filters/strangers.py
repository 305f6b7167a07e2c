"""What Ansible has and templates here have not, and what to write in its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runner.suggestions import find_meant, nearest

# An empty text: there is nothing here that does it.
_FILTERS = {
    **dict.fromkeys(("md5",), "… | hash('md5')"),
    **dict.fromkeys(("sha1", "checksum"), "… | hash('sha1')"),
    "to_nice_yaml": "… | to_yaml(default_flow_style=false)",
    "fileglob": "lookup('fileglob', PATTERN)",
    "extract": "list[index], or mapping[key]",
    "symmetric_difference": "(a | union(b)) | difference(a | intersect(b))",
    "pow": "x ** y",
    "root": "x ** 0.5",
    "product": "{% for … %} in another {% for … %}",
    "shuffle": "… | sort for an order that stays the same",
    "urldecode": "",
    "type_debug": "x is string, is mapping, is number, …",
    "win_basename": "(… | split('\\\\') | last)",
    "expandvars": "lookup('env', NAME)",
    "unvault": "lookup('file', PATH), which decrypts by itself",
    "json_query": "… | selectattr(…) | map(attribute='…')",
    **dict.fromkeys(
        (
            *("combinations", "comment", "commonpath", "expanduser", "from_yaml_all", "ipaddr", "log", "normpath"),
            *("password_hash", "permutations", "realpath", "rekey_on_member", "relpath", "to_uuid", "urlsplit"),
            *("vault", "win_dirname", "win_splitdrive", "zip_longest"),
        ),
        "",
    ),
}
_TESTS = {
    **dict.fromkeys(("failure",), "is failed"),
    "change": "is changed",
    "skip": "is skipped",
    "successful": "is succeeded",
    "reachable": "is not unreachable",
    "version_compare": "is version(…)",
    "is_dir": "is directory",
    "is_file": "is file",
    **dict.fromkeys(("subset", "issubset"), "(a | difference(b)) | length == 0"),
    **dict.fromkeys(("superset", "issuperset"), "(b | difference(a)) | length == 0"),
    "any": "(… | select | list) | length > 0",
    "all": "(… | reject | list) | length == 0",
    "truthy": "… | bool, or … | length > 0",
    "falsy": "not (… | bool), or … | length == 0",
    **dict.fromkeys(("abs", "is_abs"), "… is match('/')"),
    **dict.fromkeys(
        (
            *("finished", "is_link", "is_mount", "is_same_file", "isnan", "link", "link_exists", "mount", "nan"),
            *("same_file", "started", "timedout", "uri", "url", "urn", "vault_encrypted", "vaulted_file"),
        ),
        "",
    ),
}
_LOOKUPS = {
    "lines": "lookup('pipe', COMMAND) | split('\\n')",
    "list": "a list",
    "items": "a list",
    "dict": "… | dict2items",
    "sequence": "range(1, 10) | list",
    "subelements": "… | subelements(KEY)",
    "together": "… | zip(…)",
    "unvault": "lookup('file', PATH), which decrypts by itself",
    "varnames": "lookup('vars', NAME)",
    **dict.fromkeys(
        (
            *("config", "csvfile", "flattened", "indexed_items", "ini", "inventory_hostnames", "nested", "password"),
            *("random_choice", "url"),
        ),
        "",
    ),
}
KINDS = {"filter": _FILTERS, "test": _TESTS, "lookup": _LOOKUPS}


# What stands in templates of Ansible by itself.
_NAMES = {
    **dict.fromkeys(("query", "q"), "lookup(KIND, …)"),
    "omit": "… | default('…') with what holds otherwise, or leave the key out",
    **dict.fromkeys(("ansible_host", "ansible_ssh_host", "inventory_hostname"), "host, or connection_name"),
    **dict.fromkeys(("ansible_date_time",), "now(), as in now(fmt='%Y-%m-%d')"),
    "ansible_env": "lookup('env', NAME)",
    "ansible_version": "runner_version",
}


def find_hint(kind: str, name: str, known: Mapping[str, Collection[str]]) -> str:
    """What to do about the unknown `filter`, `test` or `lookup` of this name; empty if nothing can be said.

    `known` are the names of each kind that there are.
    """
    short = name.rpartition(".")[2]
    if short != name and short in known[kind]:
        return f"Write {_show(kind, short)}, without the name of a collection."
    if (instead := KINDS[kind].get(short)) is not None:
        does = f" Write {instead}." if instead else ""
        return f"Ansible has the {kind} '{short}', the runner has not.{does}"
    for other, names in known.items():
        if other != kind and name in names:
            return f"'{name}' is a {other}: write {_show(other, name)}."
    found = find_meant(name, (one for one in known[kind] if " " not in one), cutoff=0.7)
    return f"Did you mean '{found[0]}'?" if found else ""


def find_name_hint(name: str, given: Collection[str], known: Mapping[str, Collection[str]]) -> str:
    """What to write in place of a name that nothing gives. `given` are those that there are, `known` as for `find_hint`."""
    if name in _NAMES:
        return f"Ansible has the name '{name}', the runner has not. Write {_NAMES[name]}."
    kind = next((kind for kind, names in known.items() if name in names), "")
    return (
        f"'{name}' is a {kind}: write {_show(kind, name)}."
        if kind and not find_meant(name, given)
        else nearest(name, given)
    )


def _show(kind: str, name: str) -> str:
    return {"filter": f"… | {name}", "test": f"… is {name}"}.get(kind) or f"lookup('{name}', …)"
