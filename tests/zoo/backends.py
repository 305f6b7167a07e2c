"""The servers of the zoo: how each is started, and what it takes to have it here."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.accounts import can_make_accounts
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.conch import ConchServer, has_conch
from tests.servers.dropbear import DropbearServer, has_dropbear
from tests.servers.endpoint import Endpoint
from tests.servers.node_ssh2 import NodeServer, has_node_ssh2
from tests.servers.openssh import OpenSSHServer, find_sshd
from tests.servers.paramiko_server import ParamikoServer
from tests.servers.pkg_sftp import PkgSftpServer, has_pkg_sftp
from tests.servers.proftpd import ProftpdServer, has_proftpd
from tests.servers.rclone import Cache, RcloneServer

SFTP_SERVER = "/usr/lib/openssh/sftp-server"
GESFTPSERVER = "/usr/libexec/gesftpserver"
# sshd trusts a chroot only where nobody else may write into any directory above it: /tmp is none.
_TRUSTED_FOLDER = "/run"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens. `disk` is a directory of its own, which it calls `name`; `login` is where sessions start."""

    server: Endpoint
    disk: Path
    name: str
    login: Path


Start = Callable[[Path], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Backend:
    """One configuration of a product. `find_obstacle` says why it cannot be had here; nothing if it can."""

    name: str
    product: str
    start: Start
    find_obstacle: Callable[[], str]


def _disk_and_login(folder: Path) -> tuple[Path, Path]:
    disk, login = folder / "disk", folder / "login"
    disk.mkdir()
    login.mkdir()
    return disk, login


@contextmanager
def _start_here(make: Callable[[Path, Path], Endpoint], folder: Path) -> Iterator[Running]:
    """One that sees the whole file system."""
    disk, login = _disk_and_login(folder)
    with make(folder / "server", login) as server:
        yield Running(server, disk, str(disk), login)


@contextmanager
def _start_rclone(cache: Cache, folder: Path) -> Iterator[Running]:
    disk, login = _disk_and_login(folder)
    with RcloneServer(folder / "server", root=disk, cache=cache) as server:
        yield Running(server, disk, "", login)


@contextmanager
def _start_chroot(folder: Path) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="zoo-", dir=_TRUSTED_FOLDER) as name:
        root = Path(name)
        root.chmod(0o755)
        disk, login = _disk_and_login(root)
        lines = (f"ChrootDirectory {root}", "ForceCommand internal-sftp -d /login")
        with OpenSSHServer(folder / "server", extra_config=lines) as server:
            yield Running(server, disk, "/disk", login)


def _openssh(folder: Path, login: Path) -> Endpoint:
    return OpenSSHServer(folder, login_folder=login)


def _forced_openssh(folder: Path, login: Path) -> Endpoint:
    return OpenSSHServer(folder, extra_config=(f"ForceCommand internal-sftp -d {login}",))


def _gesftpserver(folder: Path, login: Path) -> Endpoint:
    # What it makes by mistake, it makes in the working directory: not in the home of this machine's user.
    line = f"Subsystem sftp cd {login} && exec {GESFTPSERVER}"
    return OpenSSHServer(folder, sftp=False, extra_config=(line,))


def _dropbear(folder: Path, login: Path) -> Endpoint:
    return DropbearServer(folder)


def _asyncssh(folder: Path, login: Path) -> Endpoint:
    return AsyncsshServer(folder, root=login)


def _node(folder: Path, login: Path) -> Endpoint:
    return NodeServer(folder, login_folder=login)


def _node_with_any_flags(folder: Path, login: Path) -> Endpoint:
    return NodeServer(folder, login_folder=login, any_flags=True)


def _unless(is_there: Callable[[], object], reason: str) -> Callable[[], str]:
    return lambda: "" if is_there() else reason


_WITH_SSHD = _unless(lambda: find_sshd() is not None, "openssh-server is not installed")


def _find_no_chroot() -> str:
    return _WITH_SSHD() or ("" if os.geteuid() == 0 else "only root can give sshd a chroot")


def _find_no_gesftpserver() -> str:
    return _WITH_SSHD() or ("" if os.access(GESFTPSERVER, os.X_OK) else "gesftpserver is not installed")


def _find_no_dropbear() -> str:
    if not can_make_accounts():
        return "only root can give dropbear an account"
    return "" if has_dropbear() and os.access(SFTP_SERVER, os.X_OK) else "dropbear is not installed"


_WITH_RCLONE = _unless(lambda: shutil.which("rclone"), "rclone is not installed")
_WITH_NODE = _unless(has_node_ssh2, "node's ssh2 is not installed")

BACKENDS = (
    Backend("openssh", "openssh", functools.partial(_start_here, _openssh), _WITH_SSHD),
    Backend("openssh-forced", "openssh-sftp-only", functools.partial(_start_here, _forced_openssh), _WITH_SSHD),
    Backend("openssh-chroot", "openssh-sftp-only", _start_chroot, _find_no_chroot),
    Backend("dropbear", "dropbear", functools.partial(_start_here, _dropbear), _find_no_dropbear),
    Backend(
        "proftpd", "proftpd",
        functools.partial(_start_here, lambda folder, login: ProftpdServer(folder, login_folder=login)),
        _unless(has_proftpd, "proftpd with mod_sftp is not installed"),
    ),
    Backend("rclone-off", "rclone", functools.partial(_start_rclone, "off"), _WITH_RCLONE),
    Backend("rclone-full", "rclone-cached", functools.partial(_start_rclone, "full"), _WITH_RCLONE),
    Backend(
        "pkg-sftp", "pkg-sftp",
        functools.partial(_start_here, lambda folder, login: PkgSftpServer(folder, login_folder=login)),
        _unless(has_pkg_sftp, "Go's pkg/sftp is not installed"),
    ),
    Backend("gesftpserver", "gesftpserver", functools.partial(_start_here, _gesftpserver), _find_no_gesftpserver),
    Backend(
        "conch", "conch", functools.partial(_start_here, lambda folder, login: ConchServer(folder, login_folder=login)),
        _unless(has_conch, "twisted[conch] is not installed"),
    ),
    Backend("node-ssh2", "node-ssh2", functools.partial(_start_here, _node), _WITH_NODE),
    Backend("node-any-flags", "node-ssh2", functools.partial(_start_here, _node_with_any_flags), _WITH_NODE),
    Backend(
        "paramiko", "paramiko",
        functools.partial(_start_here, lambda folder, login: ParamikoServer(folder, login_folder=login)), lambda: "",
    ),
    Backend("asyncssh", "asyncssh", functools.partial(_start_here, _asyncssh), lambda: ""),
)  # fmt: skip
