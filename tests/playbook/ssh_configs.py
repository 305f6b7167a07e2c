"""Generated ssh_config files, and what the real `ssh -G` says about a host in them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.playbook.ssh_config.settings import HostSettings, local_user

SSH_SECONDS = 60
COMPARED = ("hostname", "user", "port", "identityfile", "proxyjump", "userknownhostsfile", "hostkeyalias")
ALIASES = ("bank", "Bank", "db1", "db2.bank.example", "archive", "192.0.2.7", "none.example")


def find_ssh() -> str | None:
    """The real ssh, if there is one."""
    return shutil.which("ssh")


def ask_ssh(path: Path, alias: str, *options: str) -> dict[str, list[str]] | None:
    """What `ssh -G` says about a host, the values by keyword; None if it refuses the file."""
    ssh = find_ssh()
    assert ssh is not None
    result = subprocess.run(
        [ssh, "-G", "-F", str(path), *options, alias],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=SSH_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        return None
    told: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        told.setdefault(keyword, []).append(value)
    identities = [_fill_in(one, told) for one in told["identityfile"] if one != "none"]
    told["identityfile"] = [] if identities == DEFAULT_IDENTITIES else identities
    return told


def _fill_in(identity: str, told: dict[str, list[str]]) -> str:
    """`ssh -G` prints these as they are written. The generator writes no others than these tokens."""
    for token, value in (("~", home()), ("${HOME}", home()), ("%h", told["hostname"][0]), ("%r", told["user"][0])):
        identity = identity.replace(token, value)
    return identity


def describe(settings: HostSettings, alias: str) -> dict[str, list[str]]:
    """Our answer in the words of `ssh -G`, with the defaults that ssh adds and we do not, but for keys."""
    told: dict[str, list[str]] = {
        "hostname": [settings.host.value if settings.host else alias.lower()],
        "user": [settings.username.value if settings.username else local_user()],
        "port": [settings.port.value if settings.port else "22"],
    }
    told["identityfile"] = [one.value for one in settings.identity_files]
    if settings.proxy_jump:
        told["proxyjump"] = [settings.proxy_jump.value.removeprefix("ssh://")]
    if settings.user_known_hosts_files is not None:
        told["userknownhostsfile"] = [" ".join(one.value for one in settings.user_known_hosts_files)]
    else:
        told["userknownhostsfile"] = [f"{home()}/.ssh/known_hosts {home()}/.ssh/known_hosts2"]
    if settings.host_key_alias:
        told["hostkeyalias"] = [settings.host_key_alias.value.lower()]
    return told


@dataclass
class Generator:
    """Writes random configurations below a folder; the same seed writes the same ones."""

    folder: Path
    chance: random.Random
    file_count: int = 0
    blocks: list[Callable[[], str]] = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = [self.host, self.host, self.host, self.match, self.match]

    def write(self, depth: int = 0) -> Path:
        """A new file."""
        self.file_count += 1
        path = self.folder / f"{self.file_count}.conf"
        lines = list(self._options(depth)) if self.chance.random() < 0.4 else []
        for _ in range(self.chance.randint(1, 6 - depth)):
            lines.append(self.chance.choice(self.blocks)())
            lines += self._options(depth)
        ending = self.chance.choice(("\n", "\n", "\n", "\r\n"))
        path.write_bytes(ending.join((*lines, "")).encode())
        path.chmod(0o600)
        return path

    def host(self) -> str:
        patterns = [self._pattern() for _ in range(self.chance.randint(1, 3))]
        return self._line("Host", " ".join(patterns))

    def _pattern(self) -> str:
        pattern = self.chance.choice(
            ("*", "bank", "db?", "db*", "*.example", "archive", "d*.bank.*", "192.0.2.*", "Bank")
        )
        return "!" * (self.chance.random() < 0.15) + pattern

    def match(self) -> str:
        if self.chance.random() < 0.2:
            return self.chance.choice(("Match all", "Match final all", "match canonical all", "Match final"))
        chosen = [self._criterion() for _ in range(self.chance.randint(1, 2))]
        return self._line("Match", " ".join(chosen))

    def _criterion(self) -> str:
        patterns = ",".join(self._pattern() for _ in range(self.chance.randint(1, 2)))
        users = self.chance.choice(("acme", "a*", "bob,acme", "*,!acme", local_user()))
        criterion = self.chance.choice(
            (
                *(f"host {patterns}", f"originalhost {patterns}", f"user {users}", f"localuser {users}"),
                *(f"host={patterns}", f'Host "{patterns}"', f"localuser {local_user()}"),
            )
        )
        return "!" * (self.chance.random() < 0.2) + criterion

    def _options(self, depth: int) -> Iterator[str]:
        for _ in range(self.chance.randint(0, 4)):
            if depth < 2 and self.chance.random() < 0.1:
                yield f"Include {self.write(depth + 1)}"
            elif self.chance.random() < 0.1:
                yield self.chance.choice(("", "  # a comment", "\t", "  Compression yes", "SendEnv LANG LC_*"))
            else:
                yield "  " + self._option()

    def _option(self) -> str:
        keyword = self.chance.choice(
            (
                "HostName",
                "User",
                "Port",
                "IdentityFile",
                "ProxyJump",
                "UserKnownHostsFile",
                "HostKeyAlias",
                "ProxyCommand",
            )
        )
        keys = (
            "~/.ssh/id_a",
            "/keys/%h",
            '"/keys/a b"',
            "'/keys/c d'",
            "/keys/e\\ f",
            "keys/%r",
            "${HOME}/key",
            "none",
        )
        values = {
            "HostName": (
                "one.example",
                "%h.bank.example",
                "192.0.2.9",
                "UPPER.example",
                "db1",
                '"two.example"',
                "100%%",
            ),
            "User": ("acme", "bob", '"with space"', "Acme"),
            "Port": ("22", "2022", "0443", '"8022"'),
            "IdentityFile": keys,
            "ProxyJump": ("jump", "joe@jump:2200", "a,b", "none", "ssh://joe@jump:99", "[2001:db8::1]:22", "x@y@jump"),
            "UserKnownHostsFile": (
                "~/known /b",
                "/dev/null",
                "/hosts/%h/%k/%n/%p/%r/%u",
                '"/a b" /c',
                "/%d/%i/%%/${HOME}",
            ),
            "HostKeyAlias": ("alias", "Alias.Example"),
            "ProxyCommand": ("none",),
        }[keyword]
        return self._line(keyword, self.chance.choice(values))

    def _line(self, keyword: str, rest: str) -> str:
        """A line in one of the ways in which it can be written."""
        keyword = self.chance.choice((keyword, keyword, keyword.lower(), keyword.upper()))
        gap = self.chance.choice((" ", " ", "\t", " = ", "=", "  "))
        # What takes the whole line takes its comment as well.
        has_comment = self.chance.random() < 0.1 and not keyword.lower().startswith("proxy")
        return f"{keyword}{gap}{rest}{'  # why' if has_comment else ''}"


def home() -> str:
    """Where `~` leads for ssh, which does not ask HOME."""
    return os.path.expanduser(f"~{local_user()}")


DEFAULT_IDENTITIES = [
    f"{home()}/.ssh/id_{name}" for name in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "dsa")
]
