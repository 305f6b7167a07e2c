"""The servers that copies go to: sshd for all cases that name no other, and others where a case needs one."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cases import Case, Server
from tests.servers.endpoint import Endpoint
from tests.servers.latency import LatencyProxy
from tests.servers.openssh import OpenSSHServer
from tests.servers.pkg_sftp import PkgSftpServer, has_pkg_sftp
from tests.servers.rclone import RcloneServer

ROUND_TRIP_MS = 50
# As a server in use is set, not as one under test: a debug log takes time.
_SSHD_CONFIG = ("LogLevel INFO",)


@dataclass(frozen=True, slots=True)
class Address:
    """A server that listens: who it lets in, its host key, and its port on loopback for each round trip in milliseconds."""

    username: str
    key_path: Path
    host_key: str
    ports: Mapping[int, int]

    @property
    def known_hosts(self) -> str:
        """Its lines of a known_hosts file."""
        return "".join(f"[{Endpoint.host}]:{port} {self.host_key}\n" for port in self.ports.values())


# Both others serve the whole file system, so that a path means the same on either side.
_MAKERS: Mapping[Server, Callable[[Path], Endpoint]] = {
    "sshd": lambda folder: OpenSSHServer(folder, extra_config=_SSHD_CONFIG),
    "rclone": lambda folder: RcloneServer(folder, root=Path("/"), is_listed_once=True),
    "pkg-sftp": lambda folder: PkgSftpServer(folder, login_folder=folder),
}


def find_missing(server: Server) -> str:
    """Why a server cannot be had here, or nothing."""
    if server == "rclone" and shutil.which("rclone") is None:
        return "rclone is not installed"
    if server == "pkg-sftp" and not has_pkg_sftp():
        return "a server on Go's pkg/sftp is not built; `make test-zoo` does"
    return ""


@contextmanager
def start_servers(folder: Path, cases: Iterable[Case]) -> Iterator[dict[Server, Address]]:
    """sshd, and the others that cases need and that can be had, each behind a proxy for each round trip. Ends them after."""
    wanted: dict[Server, set[int]] = defaultdict(set, {"sshd": {ROUND_TRIP_MS}})
    for case in cases:
        wanted[case.server].add(case.round_trip_ms)
    with ExitStack() as stack:
        found: dict[Server, Address] = {}
        for name, round_trips in wanted.items():
            if find_missing(name):
                continue
            place = folder / name
            place.mkdir()
            server = stack.enter_context(_MAKERS[name](place))
            ports = {0: server.port}
            for milliseconds in sorted(round_trips - {0}):
                proxy = LatencyProxy(server.host, server.port, round_trip_seconds=milliseconds / 1000)
                ports[milliseconds] = stack.enter_context(proxy).port
            found[name] = Address(server.username, server.user_key_path, server.known_host_line(), ports)
        yield found
