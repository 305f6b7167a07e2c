"""What an ssh_config says about one host: the values that were first, and what comes of them when all lines are read."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.playbook.document import shorten
from runner.playbook.inputs import InputProblem
from runner.playbook.ssh_config.keywords import ALIASES, GROWING, LISTS, SINGLE, WATCHED, WHOLE
from runner.playbook.ssh_config.lines import Line, expand, lower
from runner.problems import Location

DEFAULT_PORT = 22
MAX_IDENTITIES = 100

_NOWHERE = Location("", 1, 1)


@dataclass(frozen=True, slots=True)
class Query:
    """The host that is asked for, and what is settled already, as by options on ssh's command line."""

    alias: str
    username: str | None = None
    port: int | None = None
    host_key_alias: str | None = None
    has_jump: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and the place where it is written."""

    value: str
    location: Location


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the configuration says about one host; `~`, tokens and variables are filled in.

    Of what the query settles it repeats the query. Files are None where nothing is said about them. `others` are the
    options that are only looked at, by keyword in lower case.
    """

    host: Setting | None
    port: Setting | None
    username: Setting | None
    host_key_alias: Setting | None
    identity_files: tuple[Setting, ...]
    certificate_files: tuple[Setting, ...]
    user_known_hosts_files: tuple[Setting, ...] | None
    system_known_hosts_files: tuple[Setting, ...] | None
    proxy_jump: Setting | None
    proxy_command: Setting | None
    others: dict[str, Setting]


@dataclass(slots=True)
class Settings:
    """The values that have been met so far. Only the first one of a keyword counts, but for lists of keys, which grow."""

    query: Query
    single: dict[str, Setting] = field(default_factory=dict)
    lists: dict[str, list[Setting]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settled = {
            "user": self.query.username,
            "port": self.query.port,
            "hostkeyalias": self.query.host_key_alias,
            "proxyjump": "none" if self.query.has_jump else None,
        }
        self.single |= {key: Setting(str(value), _NOWHERE) for key, value in settled.items() if value is not None}

    # --- taking values ---

    def take(self, line: Line) -> None:
        """A line of a block that applies. Raises `InputProblem`."""
        keyword = ALIASES.get(line.keyword, line.keyword)
        if keyword in SINGLE:
            value = _only_argument(line)
            if keyword == "port":
                value = _read_port(line, value)
            self.single.setdefault(keyword, Setting(value, line.location))
        elif keyword in GROWING:
            self._add(keyword, Setting(_only_argument(line), line.location), line)
        elif keyword in LISTS and keyword not in self.lists:
            self.lists[keyword] = _read_list(line)
        elif keyword in WHOLE:
            self._take_whole(keyword, line)
        elif keyword in WATCHED:
            self.single.setdefault(keyword, Setting(next(iter(line.words), ""), line.location))

    def _add(self, keyword: str, setting: Setting, line: Line) -> None:
        values = self.lists.setdefault(keyword, [])
        if all(one.value != setting.value for one in values):
            if len(values) >= MAX_IDENTITIES:
                raise line.problem(f"more than {MAX_IDENTITIES} times '{line.keyword}' for one host")
            values.append(setting)

    def _take_whole(self, keyword: str, line: Line) -> None:
        """What takes the rest of the line. Of ProxyJump and ProxyCommand the first one counts, whichever it is."""
        if not line.rest:
            raise line.problem(f"'{line.keyword}' needs an argument")
        is_settled = keyword != "knownhostscommand" and {"proxyjump", "proxycommand"} & self.single.keys()
        if not is_settled:
            self.single.setdefault(keyword, Setting(line.rest, line.location))

    # --- what is known while lines are still being read ---

    def says_yes(self, keyword: str) -> bool:
        return keyword in self.single and self.single[keyword].value.lower() not in ("no", "false")

    @property
    def tag(self) -> str:
        return self.single["tag"].value if "tag" in self.single else ""

    @property
    def remote_user(self) -> str:
        return self.single["user"].value if "user" in self.single else local_user()

    @property
    def remote_name(self) -> str:
        """The host's name as far as it is known: HostName, or what was asked for. Raises `InputProblem`."""
        written = self.single.get("hostname")
        if written is None:
            return _normalise(self.query.alias)
        try:
            return _normalise(expand(written.value, {"h": lambda: self.query.alias}, with_environment=False))
        except ValueError as error:
            raise InputProblem(written.location, f"'HostName' cannot be filled in: {error}") from error

    def settle_name(self) -> str:
        """The host's name from now on: a HostName that is met later comes too late. Raises `InputProblem`."""
        written, name = self.single.get("hostname"), self.remote_name
        self.single["hostname"] = Setting(name.replace("%", "%%"), written.location if written else _NOWHERE)
        return name

    def expand(self, setting: Setting, keyword: str, *, without: str = "") -> str:
        """A value with its tokens and variables filled in. Raises `InputProblem`."""
        tokens = {name: get for name, get in self._tokens().items() if name not in without}
        try:
            return expand(setting.value, tokens, with_environment=True)
        except ValueError as error:
            raise InputProblem(setting.location, f"'{keyword}' cannot be filled in: {error}") from error

    def _tokens(self) -> dict[str, Callable[[], str]]:
        """ssh_config(5), TOKENS, without %C and %j, which mean something else in each version."""
        alias, port = self.single.get("hostkeyalias"), self.single.get("port")
        return {
            "L": lambda: os.uname().nodename.partition(".")[0],
            "d": lambda: os.path.expanduser("~"),
            "h": lambda: self.remote_name,
            "i": lambda: str(os.getuid()),
            "k": lambda: lower(alias.value) if alias else self.query.alias,
            "l": lambda: os.uname().nodename,
            "n": lambda: self.query.alias,
            "p": lambda: port.value if port else str(DEFAULT_PORT),
            "r": lambda: self.remote_user,
            "u": local_user,
        }

    # --- what comes of it ---

    def settle(self) -> HostSettings:
        """All values, now that the last line has been read. Raises `InputProblem`."""
        username, host = self.single.get("user"), self.single.get("hostname")
        if username and self.query.username is None:
            username = Setting(self.expand(username, "User", without="r"), username.location)
            self.single["user"] = username
        jump, command = self.single.get("proxyjump"), self.single.get("proxycommand")
        return HostSettings(
            host=Setting(self.remote_name, host.location) if host and host.location != _NOWHERE else None,
            port=self.single.get("port"),
            username=username,
            host_key_alias=self.single.get("hostkeyalias"),
            identity_files=self._find_files("identityfile", "IdentityFile") or (),
            certificate_files=self._find_files("certificatefile", "CertificateFile") or (),
            user_known_hosts_files=self._find_files("userknownhostsfile", "UserKnownHostsFile"),
            # ssh fills in nothing here.
            system_known_hosts_files=_but_none(self.lists.get("globalknownhostsfile")),
            proxy_jump=None if jump is None or is_none(jump.value) else jump,
            proxy_command=None if command is None or is_none(command.value) else command,
            others={keyword: one for keyword, one in self.single.items() if keyword in WATCHED | WHOLE},
        )

    def _find_files(self, keyword: str, shown_as: str) -> tuple[Setting, ...] | None:
        files = _but_none(self.lists.get(keyword))
        if files is None:
            return None
        at_home = (Setting(os.path.expanduser(one.value), one.location) for one in files)
        return tuple(Setting(self.expand(one, shown_as), one.location) for one in at_home)


def read_arguments(line: Line) -> list[str]:
    """The words of a line, of which there is at least one and none is empty. Raises `InputProblem`."""
    words = line.words
    if not words:
        raise line.problem(f"'{line.keyword}' needs an argument")
    if "" in words:
        raise line.problem(f"an argument of '{line.keyword}' is empty")
    return words


def local_user() -> str:
    """The name of the user who runs this, as the system knows it; a container may know none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def is_none(text: str) -> bool:
    """Whether the rest of a line, a comment left out, is the word for nothing."""
    return text.partition("#")[0].strip().lower() == "none"


def _normalise(name: str) -> str:
    """A host's name in lower case, an IPv6 address in its one normal form (ssh.c, main)."""
    if ":" not in name:
        return lower(name)
    # Few hosts are written as addresses of this kind.
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(name))
    except ValueError:
        return lower(name)


def _only_argument(line: Line) -> str:
    words = read_arguments(line)
    if len(words) > 1:
        raise line.problem(
            f"'{line.keyword}' takes one argument, not {len(words)}", "Put it in quotes if it has spaces in it."
        )
    return words[0]


def _read_port(line: Line, value: str) -> str:
    value = value.removeprefix("+")
    if not (value.isascii() and value.isdecimal() and len(value) <= 10 and 1 <= int(value) <= 65535):
        raise line.problem(f"'port' must be a number from 1 to 65535, not {shorten(repr(value))}")
    return str(int(value))


def _read_list(line: Line) -> list[Setting]:
    words = read_arguments(line)
    if len(words) > 1 and any(word.lower() == "none" for word in words):
        raise line.problem(f"'none' must stand alone behind '{line.keyword}'")
    return [Setting(word, line.location) for word in words]


def _but_none(files: list[Setting] | None) -> tuple[Setting, ...] | None:
    """The files that are named; `none` names none."""
    return None if files is None else tuple(one for one in files if one.value.lower() != "none")
