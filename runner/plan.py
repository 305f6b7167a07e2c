"""A validated play: what `playbook/` makes and `execution/` carries out. Values only; nothing here knows anybody.

Local paths are strings of the local file system, absolute; remote paths are strings of the server, relative ones to its
login directory. Bytes that are not UTF-8 are carried as surrogate escapes in both.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal, NamedTuple

from runner.problems import Location
from runner.values import dataclass

ConnectorType = Literal["SFTP", "SCP"]
Compare = Literal["size_mtime", "size", "checksum", "always"]
IfExists = Literal["replace", "skip", "fail"]
Verify = Literal["auto", "checksum", "size", "none"]
Links = Literal["preserve", "follow", "skip", "error"]
Preserved = Literal["permissions", "times"]
Encoding = Literal["utf-8", "base64"]
WaitState = Literal["present", "absent", "settled"]
ProxyType = Literal["socks5", "http", "none"]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the questions of keyboard-interactive are answered with, besides the password.

    `totp_secret` is the base32 text that one-time codes are made from (RFC 6238); `patterns` are pairs of a shell pattern,
    which the whole question must match, and the answer to it.
    """

    totp_secret: str | None = field(default=None, repr=False)
    patterns: tuple[tuple[str, str], ...] = field(default=(), repr=False)


NO_ANSWERS = Answers()


@dataclass(frozen=True, slots=True)
class UsernamePassword:
    """Log in with a password, by the `password` method or by keyboard-interactive."""

    username: str
    password: str = field(repr=False)
    answers: Answers = NO_ANSWERS


@dataclass(frozen=True, slots=True)
class SshKey:
    """Log in with a private key given as text; `password` is for servers that ask for it as well."""

    username: str
    ssh_key: str = field(repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    answers: Answers = NO_ANSWERS


@dataclass(frozen=True, slots=True)
class SshKeyFile:
    """Log in with a private key kept in a local file."""

    username: str
    key_path: str
    passphrase: str | None = field(default=None, repr=False)
    certificate_path: str | None = None
    password: str | None = field(default=None, repr=False)
    answers: Answers = NO_ANSWERS


@dataclass(frozen=True, slots=True)
class SshAgent:
    """Log in with a key that the user's SSH agent holds; with `public_key`, offer only that one."""

    username: str
    public_key: str | None = None
    password: str | None = field(default=None, repr=False)
    answers: Answers = NO_ANSWERS


Authentication = UsernamePassword | SshKey | SshKeyFile | SshAgent


@dataclass(frozen=True, slots=True)
class PinnedKeys:
    """The host must show one of these public keys, given as `<type> <base64>` lines or known_hosts lines.

    A line that begins with `@cert-authority` allows the host's certificates of that authority. `places` tells where each
    line stands in the playbook.
    """

    lines: tuple[str, ...]
    places: tuple[Location, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The host must show a key with one of these `SHA256:…` fingerprints; `places` tells where each one stands."""

    fingerprints: tuple[str, ...]
    places: tuple[Location, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The host must be in one of these known_hosts files. No paths: the user's and the system's files.

    `places` tells where each path stands in the playbook.
    """

    paths: tuple[str, ...] = ()
    places: tuple[Location, ...] = field(default=(), compare=False)


HostKeyPolicy = PinnedKeys | Fingerprints | KnownHosts


def format_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """What a connection is made through, before its first hop: a SOCKS5 proxy, or an HTTP proxy that knows CONNECT."""

    type: ProxyType
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{'SOCKS5' if self.type == 'socks5' else 'HTTP'} proxy {format_address(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, the way to it, how to become its user, and how fast. Steps with equal endpoints share one connection.

    `host_key_alias` is the name that is looked up in known_hosts and in host certificates, instead of host and port.
    `legacy_algorithms` are offered behind all others. `proxy_jump` are the jump hosts in the order of travel. `proxy` is
    what this host itself is reached through: one behind jump hosts has none, the first of them may have one. Without
    `runs_commands` no command is ever started there.
    """

    host: str
    port: int
    authentication: Authentication
    host_key_policy: HostKeyPolicy
    keepalive_interval_seconds: int = 15
    host_key_alias: str | None = None
    bandwidth_limit_bytes_per_second: int | None = None
    proxy_jump: tuple[Hop, ...] = ()
    legacy_algorithms: tuple[str, ...] = ()
    proxy: Proxy | None = None
    runs_commands: bool = True

    @property
    def first_proxy(self) -> Proxy | None:
        """The proxy that the way begins with, whether it leads to the host or to its first jump host."""
        return self.proxy_jump[0].endpoint.proxy if self.proxy_jump else self.proxy

    def __str__(self) -> str:
        return format_address(self.host, self.port)


class Place(NamedTuple):
    """A path that a mode is about, and on which side it is."""

    path: str
    is_local: bool


@dataclass(frozen=True, slots=True)
class Hop:
    """A jump host. Its endpoint has no jump hosts itself: it is reached through the hops before it.

    `name` is the connection's that it was written as, for messages.
    """

    endpoint: Endpoint
    connect_timeout_seconds: int
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.name}, {self.endpoint}" if self.name else str(self.endpoint)


@dataclass(frozen=True, slots=True)
class CopyFile:
    """Copy one file, from the engine (this machine) to the server or the other way.

    Modification times that differ by no more than `modify_window_seconds` are equal. With `leaves_permissions` the server
    decides about them: none are ever sent. Until it is published, an upload is called `temporary_name`, with `{name}` for
    its own name, and is in the `temporary_directory`; None for names of our own, beside the destination. `most_channels`
    is how many channels one file may use; None lets the runner choose.
    """

    source: str
    destination: str
    compare: Compare = "size_mtime"
    modify_window_seconds: int = 0
    if_exists: IfExists = "replace"
    permissions: int | None = None
    leaves_permissions: bool = False
    preserve: frozenset[Preserved] = frozenset({"permissions", "times"})
    verify: Verify = "auto"
    atomic: bool = True
    temporary_name: str | None = None
    temporary_directory: str | None = None
    resume: bool = True
    create_parents: bool = True
    backup: bool = False
    durable: bool = False
    most_channels: int | None = None

    @property
    def subject(self) -> str:
        """The path that a step is named after."""
        return self.source


class CopyFileFromEngine(CopyFile):
    """Upload: `source` is a local path, `destination` a remote one."""

    __slots__ = ()

    mode_name = "copy_file_from_engine"

    @property
    def places(self) -> tuple[Place, ...]:
        return Place(self.source, True), Place(self.destination, False)


@dataclass(frozen=True, slots=True)
class WriteContent(CopyFileFromEngine):
    """Upload what the step itself says: `destination` is a remote path, and there is no `source`.

    The content alone is compared: it has no permissions and no time of its own.
    """

    mode_name = "write_file"
    content: bytes = field(default=b"", repr=False)
    compare: Compare = "checksum"
    preserve: frozenset[Preserved] = frozenset()
    resume: bool = False

    @property
    def subject(self) -> str:
        """The path that a step is named after."""
        return self.destination

    @property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.destination, False),)


class CopyFileToEngine(CopyFile):
    """Download: `source` is a remote path, `destination` a local one."""

    __slots__ = ()

    mode_name = "copy_file_to_engine"

    @property
    def places(self) -> tuple[Place, ...]:
        return Place(self.source, False), Place(self.destination, True)


@dataclass(frozen=True, slots=True)
class CopyDirectory(CopyFile):
    """Copy what is below one folder into another one. `include` and `exclude` are patterns as in .gitignore."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    links: Links = "preserve"
    delete: bool = False
    max_delete: int = 100


class CopyDirectoryFromEngine(CopyDirectory):
    """Upload: `source` is a local folder, `destination` a remote one."""

    __slots__ = ()

    mode_name = "copy_directory_from_engine"

    @property
    def places(self) -> tuple[Place, ...]:
        return Place(self.source, True), Place(self.destination, False)


class CopyDirectoryToEngine(CopyDirectory):
    """Download: `source` is a remote folder, `destination` a local one."""

    __slots__ = ()

    mode_name = "copy_directory_to_engine"

    @property
    def places(self) -> tuple[Place, ...]:
        return Place(self.source, False), Place(self.destination, True)


Copy = CopyFileFromEngine | CopyFileToEngine | CopyDirectoryFromEngine | CopyDirectoryToEngine


@dataclass(frozen=True, slots=True)
class RemoteOperation:
    """Something to do to one remote path."""

    path: str

    @property
    def subject(self) -> str:
        """The path that a step is named after."""
        return self.path

    @property
    def places(self) -> tuple[Place, ...]:
        return (Place(self.path, False),)


@dataclass(frozen=True, slots=True)
class ListFolder(RemoteOperation):
    """Tell what is in a remote folder; with `recursive`, also in the folders below it."""

    mode_name = "list"
    recursive: bool = False


class LookAtPath(RemoteOperation):
    """Tell what is at a remote path, a link itself and not what it leads to."""

    __slots__ = ()

    mode_name = "stats"


@dataclass(frozen=True, slots=True)
class RemovePath(RemoteOperation):
    """Remove a remote file, link or empty folder; with `recursive`, a folder with all that is in it."""

    mode_name = "remove"
    recursive: bool = False
    missing_ok: bool = True


@dataclass(frozen=True, slots=True)
class CreateFolder(RemoteOperation):
    """Make a remote folder; with `parents`, also those above it that are missing."""

    mode_name = "create_directory"
    permissions: int | None = None
    parents: bool = True


@dataclass(frozen=True, slots=True)
class RenamePath:
    """Give what is at a remote path another one."""

    mode_name = "rename"
    source: str
    destination: str
    overwrite: bool = False

    @property
    def subject(self) -> str:
        """The path that a step is named after."""
        return self.source

    @property
    def places(self) -> tuple[Place, ...]:
        return Place(self.source, False), Place(self.destination, False)


@dataclass(frozen=True, slots=True)
class ReadContent(RemoteOperation):
    """Read a remote file of at most `max_bytes` into the result; what is no text comes as `base64`."""

    mode_name = "read_file"
    max_bytes: int = 1024 * 1024
    encoding: Encoding = "utf-8"


@dataclass(frozen=True, slots=True)
class CreateLink(RemoteOperation):
    """Make a remote path a symbolic link that leads to `target`; with `overwrite`, also where another link is."""

    mode_name = "create_link"
    target: str
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class WaitForPath(RemoteOperation):
    """Wait until there is, or is no more, what a remote path names, which may be a shell pattern.

    At least `min_files` must be there, of which each file has `min_size_bytes`; settled are those of which none has
    changed its size or time, been added or gone, for `settle_seconds`.
    """

    mode_name = "wait_for"
    state: WaitState = "present"
    timeout_seconds: float = 300
    every_seconds: float = 5
    settle_seconds: float = 5
    min_files: int = 1
    min_size_bytes: int | None = None


Operation = ListFolder | LookAtPath | RemovePath | CreateFolder | RenamePath | ReadContent | CreateLink | WaitForPath
Mode = Copy | Operation


@dataclass(frozen=True, slots=True)
class LaterMode:
    """What a step is to do on its host, where only the play will know with which paths."""

    mode_name: str
    subject: str = ""

    @property
    def places(self) -> tuple[Place, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do on one host."""

    index: int
    name: str
    host_label: str
    connector_type: ConnectorType
    endpoint: Endpoint
    mode: Mode | LaterMode
    connect_timeout_seconds: int
    stall_timeout_seconds: int
    location: Location
    transfers: int = 256
    retries: int = 0
    delay_seconds: float = 5
    timeout_seconds: float | None = None
    # Whose its temporary files are; None for the user who plays it.
    owner: str | None = None

    @property
    def kind(self) -> str:
        """What it does: its mode's name."""
        return self.mode.mode_name


# What `ControlStep`s without a host are listed under.
NO_HOST = "(playbook)"


@dataclass(frozen=True, slots=True)
class ControlStep:
    """A step that contacts no host: it decides or says something. Or one that never came to be more than its name.

    `kind` is the key that says what it does, or its mode.
    """

    index: int
    name: str
    host_label: str
    kind: str
    location: Location

    endpoint = None
    connector_type = None


@dataclass(frozen=True, slots=True)
class Target:
    """A server that a playbook names, under all the names that lead to it, and what it is to speak."""

    names: tuple[str, ...]
    connector_type: ConnectorType
    endpoint: Endpoint
    connect_timeout_seconds: int
    stall_timeout_seconds: int
    location: Location


@dataclass(frozen=True, slots=True)
class PlayOptions:
    """How a play is carried out: only compared (`is_check`), with every change told, with the differences of small texts."""

    is_check: bool = False
    tells_changes: bool = False
    is_diff: bool = False
