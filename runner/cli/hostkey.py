"""`runner hostkey`: which keys does a server show? They are printed, not trusted."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

import click

from runner.cli.standard_streams import require_written
from runner.errors import UsageError
from runner.plan import Proxy, ProxyType
from runner.public_keys import AUTHORITY_MARKER, PublicKey
from runner.redaction import Redactor

if TYPE_CHECKING:
    from runner.ssh.scan import ShownKeys

DEFAULT_PORT = 22

_HOST = re.compile(r"[\w.][\w.-]*")
_PORT = re.compile(r"[0-9]{1,5}")
_PROXY = re.compile(
    r"(?P<type>socks5h?|http)://(?:(?P<user>[^@/]+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.][\w.-]*):(?P<port>[0-9]{1,5})/?"
)
PASSWORD_NAME = "RUNNER_PROXY_PASSWORD"


@click.command("hostkey", short_help="Print a server's host keys, ready to be checked and pinned.")
@click.argument("host", metavar="HOST[:PORT]")
@click.option("--host-key-alias", metavar="NAME", help="Print lines for this name instead of host and port.")
@click.option("--yaml", "is_yaml", is_flag=True, help="Print a 'hostkey:' block, ready to be pasted into a playbook.")
@click.option(
    "--proxy", "proxy_url", metavar="URL", help="Go through socks5://[USER@]HOST:PORT or http://[USER@]HOST:PORT."
)
@click.option("--connect-timeout", type=click.IntRange(1), default=30, show_default=True, help="Seconds for all of it.")
@click.option(
    "--legacy-algorithms", metavar="NAMES", default="", help="Offer these broken algorithms, too, separated by commas."
)
@click.pass_obj
def command(
    redactor: Redactor,
    host: str,
    host_key_alias: str | None,
    is_yaml: bool,
    proxy_url: str | None,
    connect_timeout: int,
    legacy_algorithms: str,
) -> int:
    """Print the host keys of a server as lines ready to be pinned.

    The lines are UNVERIFIED: whoever sits between here and the server could have made them up. Compare the
    fingerprints with what the server's operator tells you before you put a line into a playbook
    (hostkey_mode: known_host) or into a known_hosts file. In a playbook a line needs quotes, since it may begin with a
    bracket; --yaml prints the whole block.

    The password of a --proxy that wants one is taken from the environment: RUNNER_PROXY_PASSWORD.

    \b
    Examples:
      runner hostkey sftp.bank.example
      runner hostkey --yaml sftp.bank.example:2022
      runner hostkey sftp.bank.example:2022 >> ci/known_hosts
      runner hostkey '[2001:db8::10]:2022'
      runner hostkey --proxy socks5://proxy.example:1080 sftp.bank.example
    """
    name, port = parse_address(host)
    proxy = parse_proxy(proxy_url, redactor) if proxy_url is not None else None
    # fabric's import is only paid for here, where something is contacted.
    from runner.ssh.scan import scan_host_keys

    known_as = host_key_alias or (name if port == DEFAULT_PORT else f"[{name}]:{port}")
    legacy = tuple(word.strip() for word in legacy_algorithms.split(",") if word.strip())
    found = scan_host_keys(name, port, connect_timeout, legacy, proxy)
    for line in (_as_yaml if is_yaml else _as_known_hosts)(found, known_as):
        click.echo(line)
    require_written()
    if not sys.stdout.isatty():
        click.echo("warning: these keys are unverified; compare their fingerprints before you trust them", err=True)
    return 0


def _as_known_hosts(found: ShownKeys, known_as: str) -> Iterator[str]:
    yield f"# {known_as}: UNVERIFIED. Compare the fingerprints with the server's operator before you pin a line."
    for key in found.keys:
        yield f"# {key.type} {key.fingerprint}"
        yield f"{known_as} {key}"
    if found.authority is not None:
        # A comment, so that `>> known_hosts` trusts no authority that nobody has looked at.
        yield from _describe_authority(found.authority)
        yield f"# {AUTHORITY_MARKER} {known_as} {found.authority}"


def _as_yaml(found: ShownKeys, known_as: str) -> Iterator[str]:
    """The block of a connection or a step. JSON's strings are YAML's, whatever is in them."""
    yield f"# {known_as}: UNVERIFIED. Compare the fingerprints with the server's operator before you play with them."
    yield "hostkey:"
    yield "  hostkey_mode: known_host"
    yield "  known_host:"
    for key in found.keys:
        yield f"    # {key.type} {key.fingerprint}"
        yield f"    - {json.dumps(f'{known_as} {key}')}"
    if found.authority is not None:
        for line in _describe_authority(found.authority):
            yield f"    {line}"
        yield f"    # - {json.dumps(f'{AUTHORITY_MARKER} {known_as} {found.authority}')}"


def _describe_authority(authority: PublicKey) -> Iterator[str]:
    yield f"# certificate signed by {authority.type} {authority.fingerprint}; its authority is"


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST`, `HOST:PORT`, `[IPV6]:PORT` or a bare IPv6 address. Raises `UsageError`."""
    host, port = text, str(DEFAULT_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"{text!r} is not HOST[:PORT]", hint="For example '[2001:db8::10]:2022'.")
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    is_host = _HOST.fullmatch(host) or _is_ipv6(host)
    if not is_host or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise UsageError(f"{text!r} is not HOST[:PORT]", hint="For example sftp.bank.example:2022.")
    return host, int(port)


def parse_proxy(url: str, redactor: Redactor) -> Proxy:
    """The proxy of `socks5://[USER@]HOST:PORT` or `http://[USER@]HOST:PORT`; its password is the environment's.

    Raises `UsageError`, also for a password in the URL: every user of this machine could read it there.
    """
    found = _PROXY.fullmatch(url)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise UsageError(
            "--proxy is not socks5://[USER@]HOST:PORT or http://[USER@]HOST:PORT",
            hint="For example socks5://proxy.example:1080.",
        )
    username = unquote(found["user"]) if found["user"] else None
    if username is not None and ":" in username:
        raise UsageError(
            "--proxy holds a password, which the list of processes shows to everybody on this machine",
            hint=f"Write socks5://USER@HOST:PORT, and put the password into {PASSWORD_NAME}.",
        )
    password = os.environ.get(PASSWORD_NAME) if username is not None else None
    if password:
        redactor.add(password)
    kind: ProxyType = "http" if found["type"] == "http" else "socks5"
    return Proxy(kind, found["host"].strip("[]"), int(found["port"]), username, password)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(text), ipaddress.IPv6Address)
    except ValueError:
        return False
