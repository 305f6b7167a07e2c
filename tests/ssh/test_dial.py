"""A host name with several addresses, some of them dead: RFC 8305. Only the resolver is not real."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner.ssh.dial as dialling
from runner.cancellation import Cancellation, Deadline
from runner.errors import ConnectFailed, ConnectTimedOut, Interrupted
from runner.ssh.dial import Address, WorkingAddresses, dial, interleave
from tests.conftest import Runner, require_sshd, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.forwarding import ForwardingServer
from tests.servers.listeners import FullBacklog, Listener
from tests.servers.openssh import OpenSSHServer

NAME = "many.example"
DEAD, REFUSING, ALIVE = "127.0.0.2", "127.0.0.3", "127.0.0.1"
# For what must happen at once, on a loaded machine.
SOON_SECONDS = 2.5


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the test's host name resolves to."""
    known: list[str] = []
    resolve = socket.getaddrinfo

    def look_up(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != NAME:
            return resolve(host, port, *rest, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.fixture
def server(tmp_path: Path, remote: Path) -> Iterator[AsyncsshServer]:
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        yield server


@pytest.fixture
def listener() -> Iterator[Listener]:
    """For what goes no further than the TCP connection."""
    with Listener() as listener:
        yield listener


def named(server: Any, mode: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {**step(server, mode, **inputs), "host": NAME}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_dead_first_address_costs_a_moment(
    runner: Runner, server: AsyncsshServer, addresses: list[str], remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    addresses += [DEAD, ALIVE]
    with FullBacklog(DEAD, server.port):
        started = time.monotonic()
        outcome = runner.play([named(server, upload("file", "file"), connect_timeout=20)])
        seconds = time.monotonic() - started

    assert outcome.exit_code == 0, outcome.output
    assert dialling.ATTEMPT_DELAY_SECONDS <= seconds < dialling.ATTEMPT_DELAY_SECONDS + SOON_SECONDS
    assert (remote / "file").read_text() == "content"


def test_the_host_key_is_checked_by_the_name(
    runner: Runner, server: AsyncsshServer, addresses: list[str], remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    addresses += [REFUSING, ALIVE]
    by_name, by_address = runner.folder / "by_name", runner.folder / "by_address"
    by_name.write_text(f"[{NAME}]:{server.port} {server.known_host_line()}\n")
    by_address.write_text(f"[{ALIVE}]:{server.port} {server.known_host_line()}\n")

    def play(known_hosts: Path) -> int:
        policy = {"hostkey_mode": "known_hosts_file", "known_hosts_file": str(known_hosts)}
        return runner.play([{**named(server, upload("file", "file")), "hostkey": policy}]).exit_code

    assert (play(by_name), play(by_address)) == (0, 5)


def test_after_one_that_refuses_the_next_is_tried_at_once(
    listener: Listener, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "ATTEMPT_DELAY_SECONDS", 30)
    addresses += [REFUSING, "127.0.0.4", ALIVE]
    started = time.monotonic()
    with dial(NAME, listener.port, Deadline.after(300), Cancellation()) as sock:
        assert sock.getpeername() == (ALIVE, listener.port)
    assert time.monotonic() - started < SOON_SECONDS


def test_a_late_refusal_brings_the_next_one_forward(
    listener: Listener, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is silent, the second refuses: the third is not kept waiting for the whole delay."""
    monkeypatch.setattr(dialling, "ATTEMPT_DELAY_SECONDS", 1)
    addresses += [DEAD, REFUSING, ALIVE]
    with FullBacklog(DEAD, listener.port):
        started = time.monotonic()
        with dial(NAME, listener.port, Deadline.after(300), Cancellation()) as sock:
            assert sock.getpeername() == (ALIVE, listener.port)
    assert 1 <= time.monotonic() - started < 1.9


def test_the_others_are_closed_and_only_one_is_greeted(addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "ATTEMPT_DELAY_SECONDS", 0.05)
    heard: list[bytes] = []
    with Listener() as winner, socket.create_server((DEAD, winner.port), backlog=0) as slow:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((DEAD, winner.port))
        addresses += [DEAD, ALIVE]
        before = open_descriptors()
        sock = dial(NAME, winner.port, Deadline.after(10), Cancellation())
        assert sock.getpeername() == (ALIVE, winner.port)
        sock.close()
        assert open_descriptors() <= before + 1  # the listener's end
        for filler in fillers:
            filler.close()
        # Whoever comes now does not come from us.
        slow.settimeout(0.5)
        while True:
            try:
                late, _ = slow.accept()
            except TimeoutError:
                break
            late.settimeout(0.5)
            with late:
                heard.append(late.recv(100))
    assert not any(heard)


def test_many_dead_ones_leave_time_for_the_last(listener: Listener, addresses: list[str]) -> None:
    dead = [f"127.0.0.{number}" for number in range(10, 40)]
    addresses += [*dead, ALIVE]
    backlogs = [FullBacklog(address, listener.port) for address in dead]
    try:
        for backlog in backlogs:
            backlog.start()
        with dial(NAME, listener.port, Deadline.after(4), Cancellation()) as sock:
            assert sock.getpeername() == (ALIVE, listener.port)
    finally:
        for backlog in backlogs:
            backlog.stop()


def test_when_all_fail_every_address_is_listed_with_the_reason(listener: Listener, addresses: list[str]) -> None:
    addresses += [REFUSING, "127.0.0.4"]
    with pytest.raises(ConnectFailed) as refused:
        dial(NAME, listener.port, Deadline.after(10), Cancellation())
    assert refused.value.message == (
        f"cannot connect to {NAME}:{listener.port}: 127.0.0.3: Connection refused; 127.0.0.4: Connection refused"
    )

    addresses[:] = [DEAD, REFUSING]
    with FullBacklog(DEAD, listener.port), pytest.raises(ConnectTimedOut) as silent:
        dial(NAME, listener.port, Deadline.after(1), Cancellation())
    assert silent.value.message.endswith("(127.0.0.2: no answer; 127.0.0.3: Connection refused)")


def test_the_whole_takes_no_longer_than_connect_timeout_and_leaves_nothing_open(
    listener: Listener, addresses: list[str]
) -> None:
    addresses += [DEAD, "127.0.0.5"]
    with FullBacklog(DEAD, listener.port), FullBacklog("127.0.0.5", listener.port):
        before = open_descriptors()
        started = time.monotonic()
        with pytest.raises(ConnectTimedOut):
            dial(NAME, listener.port, Deadline.after(1), Cancellation())
        assert 1 <= time.monotonic() - started < 1 + SOON_SECONDS
        assert open_descriptors() <= before


def test_a_signal_ends_the_race(listener: Listener, addresses: list[str]) -> None:
    addresses += [DEAD, "127.0.0.5"]
    cancellation = Cancellation()
    with FullBacklog(DEAD, listener.port), FullBacklog("127.0.0.5", listener.port):
        before = open_descriptors()
        timer = threading.Timer(0.4, cancellation.cancel, (15,))
        timer.start()
        started = time.monotonic()
        with pytest.raises(Interrupted):
            dial(NAME, listener.port, Deadline.after(60), cancellation)
        timer.join()
        assert time.monotonic() - started < SOON_SECONDS
        assert open_descriptors() <= before


def test_what_answered_is_tried_first_by_further_steps_retries_and_endpoints(
    runner: Runner, server: AsyncsshServer, addresses: list[str], remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "ATTEMPT_DELAY_SECONDS", 1.5)
    (runner.folder / "file").write_text("content")
    addresses += [DEAD, ALIVE]
    # Another endpoint for each: nothing is shared but the name.
    steps = [
        named(server, upload("file", f"file-{number}"), keepalive_interval=number, connect_timeout=60)
        for number in (10, 20, 30, 40)
    ]
    with FullBacklog(DEAD, server.port):
        started = time.monotonic()
        outcome = runner.play(steps)
        seconds = time.monotonic() - started

    assert outcome.exit_code == 0, outcome.output
    assert server.connection_count == 4
    assert 1.5 <= seconds < 2 * 1.5 + SOON_SECONDS


def test_a_jump_host_with_a_dead_address_is_reached_as_fast(
    runner: Runner, tmp_path: Path, server: AsyncsshServer, addresses: list[str], remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    addresses += [DEAD, ALIVE]
    with ForwardingServer(tmp_path / "gateway") as gateway, FullBacklog(DEAD, gateway.port):
        hop = named(gateway, {}, connect_timeout=20)
        del hop["mode"]
        target = {**step(server, upload("file", "file")), "proxy_jump": ["gateway"]}
        started = time.monotonic()
        outcome = runner.play({"connections": {"gateway": hop}, "steps": [target]})

    assert outcome.exit_code == 0, outcome.output
    assert time.monotonic() - started < 1 + SOON_SECONDS


def test_host_keys_are_asked_for_at_the_address_that_answers(
    runner: Runner, tmp_path: Path, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection for each type of key: the delay is paid once."""
    require_sshd()
    monkeypatch.setattr(dialling, "ATTEMPT_DELAY_SECONDS", 1.5)
    addresses += [DEAD, ALIVE]
    with OpenSSHServer(tmp_path / "sshd") as sshd, FullBacklog(DEAD, sshd.port):
        started = time.monotonic()
        outcome = runner("hostkey", f"{NAME}:{sshd.port}", "--connect-timeout", "60")
        seconds = time.monotonic() - started

    assert outcome.exit_code == 0, outcome.output
    assert sshd.known_host_line().split()[1] in outcome.stdout
    assert seconds < 2 * 1.5 + SOON_SECONDS


def test_families_take_turns_and_no_address_is_tried_twice() -> None:
    def four(number: int) -> Address:
        return socket.AF_INET, (f"192.0.2.{number}", 22)

    def six(number: int) -> Address:
        return socket.AF_INET6, (f"2001:db8::{number}", 22, 0, 0)

    resolved = [six(1), six(2), six(1), six(3), four(1), four(2)]
    assert interleave(resolved) == [six(1), four(1), six(2), four(2), six(3)]
    assert interleave([]) == []


def test_what_let_nobody_in_is_not_preferred() -> None:
    working = WorkingAddresses()
    first: Address = socket.AF_INET, ("192.0.2.1", 22)
    second: Address = socket.AF_INET, ("192.0.2.2", 22)
    working.note("a", (socket.AF_INET, ("192.0.2.2", 2222)))
    assert working.put_first("a", [first, second]) == [second, first]
    assert working.put_first("b", [first, second]) == [first, second]
    working.forget("a")
    assert working.put_first("a", [first, second]) == [first, second]
