"""Nothing of the user's configuration is run or read unasked, connections share nothing, and none outlives the play."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.cancellation import Cancellation, CleanUpAbandoned, Deadline
from runner.errors import Interrupted
from tests.conftest import Runner, connection, require_sshd, step, upload
from tests.patience import BUSY_SECONDS, EVENT_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileSession
from tests.servers.keys import shared_key_pair
from tests.servers.misbehaving import BrokenConnection, fail_first_sessions
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import connect_knowing


@pytest.fixture
def trapped_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME and an environment in which everything that could be read redirects, weakens or writes `trap`."""
    trap = home / "trap"
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh/config").write_text(
        f'Match exec "touch {trap}"\n  Port 1\nHost *\n  ProxyCommand touch {trap}\n  HostName 192.0.2.1\n  User nobody\n'
        "  StrictHostKeyChecking no\n  ConnectTimeout 1\n"
    )
    code = f"open({str(trap)!r}, 'w').close()\nuser = 'nobody'\nport = 1\n"
    for name in ("fabric", "invoke"):
        (home / f".{name}.py").write_text(code)
        (home / f".{name}.yaml").write_text(f"user: nobody\nport: 1\nssh_config_path: {home}/.ssh/config\n")
        (home / f".{name}.json").write_text('{"user": "nobody"}')
        prefix = name.upper()
        monkeypatch.setenv(f"{prefix}_USER", "nobody")
        monkeypatch.setenv(f"{prefix}_PORT", "1")
        monkeypatch.setenv(f"{prefix}_SSH_CONFIG_PATH", str(home / ".ssh/config"))
        monkeypatch.setenv(f"{prefix}_LOAD_SSH_CONFIGS", "1")
        monkeypatch.setenv(f"{prefix}_CONNECT_KWARGS", "{}")
        monkeypatch.setenv(f"{prefix}_TIMEOUTS_CONNECT", "1")
        monkeypatch.setenv(f"{prefix}_RUN_SHELL", f"touch {trap}")
    for name in ("SSH_ASKPASS", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, str(trap))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("ALL_PROXY", "socks5://192.0.2.1:1")
    monkeypatch.setenv("USER", "nobody")
    return home


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
def test_a_home_full_of_traps_changes_nothing(
    runner: Runner, sshd: OpenSSHServer, remote: Path, trapped_home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    before = snapshot(trapped_home)
    for name in ("fabric", "invoke"):  # they are looked for in the current folder, too
        (runner.folder / f"{name}.py").write_text((trapped_home / f".{name}.py").read_text())
        (runner.folder / f"{name}.yaml").write_text("user: nobody\n")
    monkeypatch.chdir(runner.folder)
    (runner.folder / "file").write_text("content")
    outcome = runner.play([step(sshd, upload("file", remote / "file"), connector_type=kind)])
    assert outcome.exit_code == 0, outcome.output
    assert (remote / "file").read_text() == "content"
    assert snapshot(trapped_home) == before


def test_a_refused_login_springs_no_trap_either(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, trapped_home: Path
) -> None:
    before = snapshot(trapped_home)
    (runner.folder / "file").write_text("content")
    login = {"authentication_method": "username_password", "username": "somebody", "password": "wrong wrong"}
    outcome = runner.play([step(asyncssh_server, upload("file", remote / "file"), authentication=login)])
    assert outcome.exit_code == 4
    assert [tuple(event) for event in asyncssh_server.login_events] == [("password", "somebody")]
    assert snapshot(trapped_home) == before


# --- connections side by side ---


def test_credentials_of_one_connection_do_not_reach_another(runner: Runner, tmp_path: Path, remote: Path) -> None:
    """Each server would accept what the other connection holds; each step may use only its own."""
    (runner.folder / "file").write_text("content")
    with (
        AsyncsshServer(tmp_path / "one", root=remote, password="correct horse") as one,
        AsyncsshServer(tmp_path / "two", root=remote, password="battery staple") as two,
    ):
        stranger = {
            "authentication_method": "ssh_key_file",
            "username": two.username,
            "ssh_key_file": str(shared_key_pair().path),
        }
        login = {"authentication_method": "username_password", "username": one.username, "password": "correct horse"}
        connections = {
            "key": connection(one),
            "password": connection(one, authentication=login),
            "other": connection(two, authentication=stranger),
            "mistaken": connection(two, authentication=login),
        }
        steps = [{"connection": name, "mode": upload("file", remote / name)} for name in connections]
        outcome = runner.play({"connections": connections, "steps": steps})
        assert outcome.statuses == ["changed", "changed", "unreachable", "unreachable"]
        assert [event.method for event in one.login_events] == ["publickey", "password"]
        assert [event.method for event in two.login_events] == ["publickey", "password"]
    assert sorted(path.name for path in remote.iterdir()) == ["key", "password"]


def test_the_same_host_under_another_host_key_policy_is_checked_anew(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    wrong = {"hostkey_mode": "known_host", "known_host": shared_key_pair().public_line}
    connections = {"right": connection(asyncssh_server), "wrong": connection(asyncssh_server, hostkey=wrong)}
    steps = [{"connection": name, "mode": upload("file", remote / name)} for name in connections]
    outcome = runner.play({"connections": connections, "steps": steps})
    assert outcome.statuses == ["changed", "failed"]
    assert outcome.exit_code == 5


@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
def test_all_steps_on_an_endpoint_share_one_connection(runner: Runner, tmp_path: Path, remote: Path, kind: str) -> None:
    require_sshd()
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "sshd") as server:
        steps = [step(server, upload("file", remote / f"{n}"), connector_type=kind) for n in range(4)]
        # Another name or another time limit makes no other server of it.
        steps[1] |= {"name": "another", "connect_timeout": 7, "stall_timeout": 9}
        outcome = runner.play(steps)
        assert outcome.statuses == ["changed"] * 4, outcome.output
        assert server.wait_for_log("11: the runner is done")
        assert server.log_text().count("Connection from") == 1
        assert server.log_text().count("Accepted publickey") == 1


def test_a_connection_that_broke_is_replaced_for_another_name_of_the_host(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    """What one connection name breaks off must not be handed to the next."""
    (runner.folder / "file").write_text("content")
    with AsyncsshServer(
        tmp_path / "server", root=remote, sftp_factory=fail_first_sessions(1, BrokenConnection)
    ) as server:
        connections = {"first": connection(server), "second": connection(server)}
        steps = [{"connection": name, "mode": upload("file", remote / name)} for name in connections]
        outcome = runner.play({"connections": connections, "steps": steps})
        assert outcome.statuses == ["unreachable", "changed"], outcome.output
        assert server.connection_count == 2


# --- the end ---


@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
@pytest.mark.parametrize("ending", ["good", "missing source", "wrong key"])
def test_nothing_is_left_running_in_the_end(
    runner: Runner, tmp_path: Path, remote: Path, kind: str, ending: str
) -> None:
    require_sshd()
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "sshd") as server:
        threads = set(threading.enumerate())
        sockets = count_sockets()
        inputs: dict[str, Any] = {"connector_type": kind}
        if ending == "wrong key":
            inputs["hostkey"] = {"hostkey_mode": "known_host", "known_host": shared_key_pair().public_line}
        name = "nothing" if ending == "missing source" else "file"
        exit_code = runner.play([step(server, upload(name, remote / "file"), **inputs)]).exit_code
        assert exit_code == {"good": 0, "missing source": 2, "wrong key": 5}[ending]
        wait_for_end(threads)
        assert count_sockets() == sockets
        ending_in_log = "[preauth]" if exit_code == 5 else "11: the runner is done"
        assert server.wait_for_log(ending_in_log)


def count_sockets() -> int:
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))


def wait_for_end(threads: set[threading.Thread]) -> None:
    """No thread but these is left, after a moment."""
    deadline = time.monotonic() + EVENT_SECONDS
    while (left := set(threading.enumerate()) - threads) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


# --- signals and clean-up ---


class SlowSession(FileSession):
    """Takes its time to grant a command."""

    def exec_requested(self, command: str) -> bool:
        time.sleep(0.5)
        return super().exec_requested(command)


def test_a_signal_does_not_cut_the_connection_that_clean_up_needs(tmp_path: Path, remote: Path) -> None:
    cancellation = Cancellation()
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        server.session_class = SlowSession
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts_line() + "\n")
        connected = connect_knowing(server, known, cancellation)
        try:
            cancellation.cancel(signal.SIGTERM)
            with cancellation.shield(5):
                channel = connected.open_channel(5, Deadline.after(5), cancellation)
                connected.start_command(channel, b"scp -f nothing", Deadline.after(5), cancellation)
                channel.close()
            with pytest.raises(Interrupted):
                connected.open_channel(5, Deadline.after(5), cancellation)
        finally:
            connected.close()


def test_clean_up_on_a_connection_ends_when_its_time_is_over(tmp_path: Path, remote: Path) -> None:
    cancellation = Cancellation()
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        server.session_class = SlowSession
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts_line() + "\n")
        connected = connect_knowing(server, known, cancellation)
        started = time.monotonic()
        try:
            cancellation.cancel(signal.SIGTERM)
            with pytest.raises(CleanUpAbandoned), cancellation.shield(0.2):
                channel = connected.open_channel(5, Deadline.after(5), cancellation)
                connected.start_command(channel, b"scp -f nothing", Deadline.after(5), cancellation)
        finally:
            connected.close()
        assert time.monotonic() - started < 2 + BUSY_SECONDS


def test_a_name_with_two_addresses_is_reached_at_the_one_that_listens(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    """`localhost` is ::1 and 127.0.0.1 on most machines; the server listens on the second only."""
    (runner.folder / "file").write_text("content")
    found = socket.getaddrinfo("localhost", sshd.port, type=socket.SOCK_STREAM)
    assert any(address[4][0] == "127.0.0.1" for address in found)
    outcome = runner.play([step(sshd, upload("file", remote / "file"), host="localhost")])
    assert outcome.exit_code == 0, outcome.output
