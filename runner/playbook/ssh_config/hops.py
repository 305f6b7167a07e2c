"""The hops of a ProxyJump: `[user@]host[:port]` or `ssh://[user@]host[:port]`, several between commas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from runner.playbook.document import shorten
from runner.playbook.inputs import InputProblem
from runner.playbook.ssh_config.settings import Setting

# misc.c, parse_user_host_port: the user may hold an '@', an IPv6 address stands in brackets.
_HOP = re.compile(
    r"(?:(?P<user>.+)@)?(?:\[(?P<address>[^\[\]]+)\]|(?P<host>[^\s\[\]:/@,]+))(?:[:/](?P<port>[0-9]{0,5}))?"
)
_SCHEME = "ssh://"
_HINT = "Expected [user@]host[:port], or several of them between commas, without spaces."


@dataclass(frozen=True, slots=True)
class WrittenHop:
    """A hop as it is written. Its name is looked up like any other."""

    alias: str
    username: str | None
    port: int | None


def parse_jump(setting: Setting) -> list[WrittenHop]:
    """The hops in the order of travel. Raises `InputProblem`."""
    return [_parse_hop(part, setting) for part in setting.value.partition("#")[0].strip().split(",")]


def _parse_hop(text: str, setting: Setting) -> WrittenHop:
    is_uri = text.startswith(_SCHEME)
    found = _HOP.fullmatch(text.removeprefix(_SCHEME).removesuffix("/") if is_uri else text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 1 <= port <= 65535):
        raise InputProblem(setting.location, f"'ProxyJump' names no host: {shorten(repr(text))}", _HINT)
    user = found["user"]
    if user and is_uri:
        # Connection parameters behind a ';' are left out, as by ssh.
        user = unquote(user.partition(";")[0])
    return WrittenHop(found["address"] or found["host"], user, port)
