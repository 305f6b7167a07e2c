"""Hosts behind SOCKS5 and HTTP proxies: the way there, what the proxy may say, and what it never gets to see."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, download, step, upload
from tests.patience import ends_within
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import LOOPBACK, Endpoint
from tests.servers.forward_proxies import ForwardProxy, HttpProxy, SocksProxy
from tests.servers.forwarding import ForwardingServer
from tests.servers.keys import shared_key_pair
from tests.servers.listeners import FullBacklog, GarbageServer, Listener, closed_port
from tests.servers.openssh import OpenSSHServer
from tests.ssh.logins import assert_not_told

NAME = "sftp.bank.example"
SECRET = "p@ss:wörd-0815"
CONTENT = os.urandom(300_000)

MakeProxy = Callable[..., ForwardProxy]
both_kinds = pytest.mark.parametrize("make_proxy", [SocksProxy, HttpProxy], ids=["socks5", "http"])


def through(
    proxy: ForwardProxy | Listener | GarbageServer | FullBacklog, kind: str = "", **more: Any
) -> dict[str, Any]:
    """The `proxy` of a connection."""
    kind = kind or ("http" if isinstance(proxy, HttpProxy) else "socks5")
    return {"type": kind, "host": proxy.host, "port": proxy.port, **more}


def send(
    runner: Runner, server: Endpoint, remote: Path, proxy: dict[str, Any], *options: str, **inputs: Any
) -> Outcome:
    (runner.folder / "source").write_bytes(CONTENT)
    return runner.play([step(server, upload("source", remote / "a"), proxy=proxy, **inputs)], *options)


def assert_refused(outcome: Outcome, remote: Path, kind: str, *words: str) -> None:
    """Unreachable for this reason, the proxy is named, a way out is told, and nothing was written."""
    assert outcome.exit_code == 4, outcome.output
    error = outcome.step["error"]
    assert error["type"] == kind, error
    assert error["hint"]
    assert "proxy 127.0.0.1:" in error["message"]
    for word in words:
        assert word in f"{error['message']}\n{error['hint']}", error
    assert list(remote.iterdir()) == []


# --- what works ---


@both_kinds
@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_a_file_goes_both_ways_through_a_proxy(
    runner: Runner, sshd: OpenSSHServer, remote: Path, make_proxy: MakeProxy, connector_type: str
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    modes = [upload("source", remote / "a"), download(remote / "a", "copy")]
    with make_proxy() as proxy:
        inputs = {"connector_type": connector_type, "proxy": through(proxy)}
        outcome = runner.play([step(sshd, mode, **inputs) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == (runner.folder / "copy").read_bytes() == CONTENT
    # One connection for both steps.
    assert proxy.asked == [(LOOPBACK, sshd.port)]


@both_kinds
def test_the_proxy_looks_up_the_name_and_the_host_key_is_still_the_hosts(
    runner: Runner, sshd: OpenSSHServer, remote: Path, make_proxy: MakeProxy
) -> None:
    known_hosts = runner.folder / "known_hosts"
    known_hosts.write_text(f"{NAME} {sshd.known_host_line()}\n")
    hostkey = {"hostkey_mode": "known_hosts_file", "known_hosts_file": str(known_hosts)}
    with make_proxy(names={NAME: sshd.port}) as proxy:
        outcome = send(runner, sshd, remote, through(proxy), host=NAME, port=22, hostkey=hostkey)
        known_hosts.write_text(f"{NAME} {shared_key_pair().public_line}\n")
        (remote / "a").unlink()
        refused = send(runner, sshd, remote, through(proxy), host=NAME, port=22, hostkey=hostkey)

    assert outcome.exit_code == 0, outcome.output
    assert proxy.asked[0] == (NAME, 22)
    assert refused.exit_code == 5, refused.output
    assert list(remote.iterdir()) == []


def test_addresses_are_not_taken_for_names(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    with SocksProxy() as socks, HttpProxy() as http:
        send(runner, sshd, remote, through(socks))
        for proxy in (socks, http):
            send(runner, sshd, remote, through(proxy), host="2001:db8::10", port=2022, connect_timeout=20)
        send(runner, sshd, remote, through(socks), host="bücher.example")

    assert socks.kinds == [1, 4, 3]
    assert socks.asked == [(LOOPBACK, sshd.port), ("2001:db8::10", 2022), ("xn--bcher-kva.example", sshd.port)]
    assert http.heads[0].startswith("CONNECT [2001:db8::10]:2022 HTTP/1.1\r\nHost: [2001:db8::10]:2022\r\n")


@both_kinds
def test_a_login_is_given_and_the_password_is_told_nowhere(
    runner: Runner, sshd: OpenSSHServer, remote: Path, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXY_PASSWORD", SECRET)
    login = {"username": "ci", "password": "{{ lookup('env', 'PROXY_PASSWORD') }}"}
    with make_proxy(login=("ci", SECRET)) as proxy:
        outcome = send(runner, sshd, remote, through(proxy, **login), "-vvv")

    assert outcome.exit_code == 0, outcome.output
    assert proxy.logins == [("ci", SECRET)]
    assert_not_told(outcome, SECRET)


@both_kinds
def test_a_whole_proxy_may_be_a_template(
    runner: Runner, sshd: OpenSSHServer, remote: Path, make_proxy: MakeProxy
) -> None:
    with make_proxy(login=("ci", SECRET)) as proxy:
        given = json.dumps({"way": through(proxy, username="ci", password=SECRET)})
        (runner.folder / "source").write_bytes(CONTENT)
        outcome = runner.play([step(sshd, upload("source", remote / "a"), proxy="{{ way }}")], "-vvv", "-e", given)

    assert outcome.exit_code == 0, outcome.output
    assert_not_told(outcome, SECRET)


def test_a_port_and_a_host_may_come_from_the_environment(
    runner: Runner, sshd: OpenSSHServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SocksProxy() as proxy:
        monkeypatch.setenv("PROXY_PORT", str(proxy.port))
        given = {"type": "socks5", "host": "{{ 'localhost' }}", "port": "{{ lookup('env', 'PROXY_PORT') }}"}
        outcome = send(runner, sshd, remote, given)

    assert outcome.exit_code == 0, outcome.output
    assert proxy.connection_count == 1


@both_kinds
def test_an_answer_that_comes_byte_by_byte_is_waited_for(
    runner: Runner, sshd: OpenSSHServer, remote: Path, make_proxy: MakeProxy
) -> None:
    with make_proxy(one_byte_seconds=0.01) as proxy:
        outcome = send(runner, sshd, remote, through(proxy))

    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize(
    "bound", [b"\x04" + bytes(18), b"\x03\x09localhost\x00\x16", b"\x01" + bytes(6)], ids=["IPv6", "name", "IPv4"]
)
def test_whatever_address_a_socks_proxy_connects_from_the_servers_bytes_are_the_servers(
    runner: Runner, sshd: OpenSSHServer, remote: Path, bound: bytes
) -> None:
    with SocksProxy(bound=bound) as proxy:
        outcome = send(runner, sshd, remote, through(proxy))

    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize(
    "success",
    [
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nVia: x\r\n\r\n",
        b"HTTP/1.1 204 \xfc\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
    ids=["short", "with a length that means nothing", "bare line feeds", "long headers"],
)
def test_an_http_proxy_may_say_yes_in_its_own_way(
    runner: Runner, sshd: OpenSSHServer, remote: Path, success: bytes
) -> None:
    with HttpProxy(success=success) as proxy:
        outcome = send(runner, sshd, remote, through(proxy))

    assert outcome.exit_code == 0, outcome.output


@both_kinds
def test_the_proxy_leads_to_the_first_jump_host(
    runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path, make_proxy: MakeProxy
) -> None:
    with ForwardingServer(tmp_path / "gateway") as gateway, make_proxy() as proxy:
        outcome = send(runner, sshd, remote, through(proxy), proxy_jump=[connection(gateway)])

    assert outcome.exit_code == 0, outcome.output
    assert proxy.asked == [(LOOPBACK, gateway.port)]
    assert gateway.destinations == [(LOOPBACK, sshd.port)]


def test_a_jump_host_says_itself_how_it_is_reached(
    runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    with ForwardingServer(tmp_path / "gateway") as gateway, SocksProxy() as own, HttpProxy() as other:
        bastion = connection(gateway, proxy=through(own))
        direct = connection(gateway, proxy={"type": "none"})
        steps = [
            {**connection(sshd), "proxy_jump": [name], "mode": upload("source", remote / name)}
            for name in ("bastion", "direct")
        ]
        outcome = runner.play(
            {
                "defaults": {"proxy": through(other)},
                "connections": {"bastion": bastion, "direct": direct},
                "steps": [*steps, {**connection(sshd, proxy={"type": "none"}), "mode": upload("source", remote / "c")}],
            }
        )

    assert outcome.exit_code == 0, outcome.output
    assert own.asked == [(LOOPBACK, gateway.port)]
    assert other.asked == []
    assert gateway.connection_count == 2


def test_a_proxy_leads_to_the_jump_host_of_an_ssh_configuration_and_stands_for_its_proxy_command(
    runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path
) -> None:
    with ForwardingServer(tmp_path / "gateway") as gateway, SocksProxy() as proxy:
        known_hosts = runner.folder / "known_hosts"
        known_hosts.write_text(f"{sshd.known_hosts_line()}\n{gateway.known_hosts_line()}\n")
        config = runner.folder / "ssh_config"
        config.write_text(
            f"Host bank\n HostName {sshd.host}\n Port {sshd.port}\n ProxyJump gate\n User {sshd.username}\n"
            f" IdentityFile {sshd.user_key_path}\n UserKnownHostsFile {known_hosts}\n"
            f"Host gate\n HostName {gateway.host}\n Port {gateway.port}\n User {gateway.username}\n"
            f" IdentityFile {gateway.user_key_path}\n UserKnownHostsFile {known_hosts}\n ProxyCommand nc -X 5 %h %p\n"
        )
        (runner.folder / "source").write_bytes(CONTENT)
        inputs = {"host": "bank", "ssh_config": str(config), "mode": upload("source", remote / "a")}
        refused = runner.play([inputs])
        outcome = runner.play([{**inputs, "proxy": through(proxy)}])

    assert refused.exit_code == 3 and "'ProxyCommand' is not executed" in refused.output
    assert "'proxy'" in refused.output
    assert outcome.exit_code == 0, outcome.output
    assert proxy.asked == [(LOOPBACK, gateway.port)]
    assert gateway.destinations == [(LOOPBACK, sshd.port)]


def test_steps_share_a_connection_only_where_the_proxy_is_the_same(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    with SocksProxy() as one, HttpProxy() as other:
        ways: list[dict[str, Any]] = [{"proxy": through(one)}, {"proxy": through(other)}, {}, {"proxy": through(one)}]
        outcome = runner.play([step(sshd, upload("source", remote / str(at)), **way) for at, way in enumerate(ways)])

    assert outcome.exit_code == 0, outcome.output
    assert (one.connection_count, other.connection_count) == (1, 1)


# --- what does not ---

NO = {
    "general": (SocksProxy(reply=1), "ConnectFailed", "general failure"),
    "rules": (SocksProxy(reply=2), "ForwardingRefused", "its rules do not allow it"),
    "network": (SocksProxy(reply=3), "ConnectFailed", "network unreachable"),
    "host": (SocksProxy(reply=4), "ConnectFailed", "host unreachable"),
    "refused": (SocksProxy(reply=5), "ConnectFailed", "connection refused"),
    "command": (SocksProxy(reply=7), "ForwardingRefused", "does not know CONNECT"),
    "odd": (SocksProxy(reply=77), "ConnectFailed", "(reply 77)"),
    "403": (HttpProxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n<html>"), "ForwardingRefused", "403 'Forbidden'"),
    "405": (HttpProxy(answer=b"HTTP/1.1 405 Not Allowed\r\n\r\n"), "ForwardingRefused", "knows CONNECT"),
    "502": (HttpProxy(answer=b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + b"x" * 99), "ConnectFailed", "502 'Bad Gateway'"),
    "407": (HttpProxy(login=("a", "b")), "ForwardingRefused", "Set 'username' and 'password'"),
    "407 ntlm": (
        HttpProxy(answer=b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: Negotiate\r\n\r\n"),
        "ForwardingRefused",
        "a login by NTLM, Negotiate",
    ),
    "login": (SocksProxy(login=("a", "b")), "ForwardingRefused", "Set 'username' and 'password'"),
    "escapes": (HttpProxy(answer=b"HTTP/1.1 403 \x1b[2J\x07no\r\n\r\n"), "ForwardingRefused", "403 '[2J no'"),
    "endless": (HttpProxy(answer=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000), "ConnectFailed", "bytes of headers"),
    "ends": (HttpProxy(answer=b"HTTP/1.1 200 OK\r\nX:"), "ConnectFailed", "closed the connection"),
    "ends at once": (HttpProxy(answer=b""), "ConnectFailed", "said nothing"),
    "ssh": (HttpProxy(answer=b"SSH-2.0-x\r\n"), "ConnectFailed", "it said 'SSH-2.0-x'"),
}


@pytest.mark.parametrize("name", NO)
def test_what_a_proxy_says_no_with_is_told(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, name: str
) -> None:
    proxy, kind, words = NO[name]
    with proxy:
        outcome = send(runner, asyncssh_server, remote, through(proxy))

    assert_refused(outcome, remote, kind, words)
    assert "\x1b" not in outcome.output and "\x1b" not in outcome.step["error"]["message"]
    assert asyncssh_server.connection_count == 0


def test_an_answer_that_makes_no_sense_is_none(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    with SocksProxy(bound=b"\x09\x00") as proxy:
        outcome = send(runner, asyncssh_server, remote, through(proxy))

    assert_refused(outcome, remote, "ConnectFailed", "an address of the unknown kind 9")
    assert asyncssh_server.login_events == []


@both_kinds
def test_a_wrong_password_is_tried_once_and_told_nowhere(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, make_proxy: MakeProxy
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    with make_proxy(login=("ci", "right")) as proxy:
        given = through(proxy, username="ci", password=SECRET)
        inputs = step(asyncssh_server, upload("source", remote / "a"), proxy=given)
        outcome = runner.play([{**inputs, "retries": 3, "delay": 0}], "-vvv")

    assert_refused(outcome, remote, "ForwardingRefused", "does not accept the login of 'ci'")
    assert proxy.logins == [("ci", SECRET)]
    assert_not_told(outcome, SECRET)


def test_a_proxy_that_says_the_password_back_does_not_have_it_printed(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    with HttpProxy(answer=f"HTTP/1.1 403 no {SECRET} here\r\n\r\n".encode()) as proxy:
        outcome = send(runner, asyncssh_server, remote, through(proxy, username="ci", password=SECRET), "-vvv")

    assert_refused(outcome, remote, "ForwardingRefused")
    assert_not_told(outcome, SECRET)


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_a_silent_proxy_has_connect_timeout(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, kind: str
) -> None:
    with Listener() as proxy, ends_within(1 + 3):
        outcome = send(runner, asyncssh_server, remote, through(proxy, kind), connect_timeout=1)

    assert_refused(outcome, remote, "ConnectTimedOut", "said nothing", "connect_timeout", "'type: ")


@both_kinds
def test_an_answer_without_end_has_connect_timeout(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, make_proxy: MakeProxy
) -> None:
    with make_proxy(one_byte_seconds=0.9) as proxy, ends_within(2 + 3):
        outcome = send(runner, asyncssh_server, remote, through(proxy), connect_timeout=2)

    assert_refused(outcome, remote, "ConnectTimedOut", "it has only said")


@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_something_else_at_the_port_is_quoted(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, kind: str
) -> None:
    with GarbageServer(b"220 mail.example ESMTP\r\n") as proxy:
        outcome = send(runner, asyncssh_server, remote, through(proxy, kind))

    assert_refused(outcome, remote, "ConnectFailed", "it said '220 mail.example ESMTP'", "Check 'type' and 'port'")


def test_one_kind_of_proxy_is_told_from_the_other(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    with GarbageServer() as web:
        outcome = send(runner, asyncssh_server, remote, through(web, "socks5"))
    assert_refused(outcome, remote, "ConnectFailed", "'type: http' may be right")

    with GarbageServer(b"\x05\xff") as socks:
        outcome = send(runner, asyncssh_server, remote, through(socks, "http"))
    assert_refused(outcome, remote, "ConnectFailed", "'type: socks5'")


def test_a_proxy_that_is_not_there_is_named(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    proxy = {"type": "http", "host": LOOPBACK, "port": closed_port()}

    outcome = send(runner, asyncssh_server, remote, proxy)

    assert_refused(outcome, remote, "ConnectFailed", "the HTTP proxy 127.0.0.1:", "Connection refused", "under 'proxy'")


def test_a_proxy_whose_port_does_not_answer_has_connect_timeout(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    with FullBacklog() as proxy, ends_within(1 + 3):
        outcome = send(runner, asyncssh_server, remote, through(proxy, "socks5"), connect_timeout=1)

    assert_refused(outcome, remote, "ConnectTimedOut", "under 'proxy'")


def test_what_is_wrong_behind_the_proxy_names_it_as_well(runner: Runner, remote: Path, tmp_path: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote) as server, GarbageServer() as web, HttpProxy() as proxy:
        outcome = send(runner, server, remote, through(proxy), port=web.port)

    assert_refused(outcome, remote, "ConnectFailed", "does not speak SSH", "The connection goes through the HTTP proxy")


def test_a_signal_ends_the_wait_for_a_proxy(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    with Listener() as proxy, ends_within(5):
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        outcome = send(runner, asyncssh_server, remote, through(proxy, "http"), connect_timeout=30)
        timer.join()

    assert outcome.exit_code == 130, outcome.output
    assert list(remote.iterdir()) == []


# --- what the playbook may say ---


def check(runner: Runner, server: Endpoint, proxy: Any, **inputs: Any) -> Outcome:
    path = runner.folder / "play.yaml"
    path.write_text(json.dumps([step(server, upload("source", "a"), proxy=proxy, **inputs)]))
    return runner("validate", str(path))


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ({"type": "socks4", "host": "p", "port": 1}, "'type' must be socks5, http or none, not 'socks4'"),
        ({"host": "p", "port": 1}, "missing key 'type'"),
        ({"type": "http", "host": "p"}, "missing key 'port'"),
        ({"type": "http", "host": "p", "port": 0}, "'port' must be at least 1"),
        ({"type": "http", "host": "http://p", "port": 80}, "'http://p' is not a host name or IP address"),
        ({"type": "http", "host": "p", "port": 80, "user": "x"}, "unknown key 'user'"),
        ({"type": "http", "host": "p", "port": 80, "password": "xyz"}, "a 'password' and no 'username'"),
        ({"type": "http", "host": "p", "port": 80, "username": "a:b"}, "a username with a ':'"),
        ({"type": "socks5", "host": "p", "port": 80, "username": "a" * 256}, "longer than the 255 bytes"),
        ({"type": "none", "host": "p"}, "unknown key 'host'"),
        ("socks5://p:1080", "'proxy' must be a mapping with 'type', not a string"),
    ],
)
def test_what_cannot_be_a_proxy_is_a_problem_of_the_playbook(
    runner: Runner, asyncssh_server: AsyncsshServer, proxy: Any, words: str
) -> None:
    outcome = check(runner, asyncssh_server, proxy)

    assert outcome.exit_code == 3, outcome.output
    assert words in outcome.output


def test_only_the_first_jump_host_has_a_proxy(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    proxy = {"type": "socks5", "host": "p", "port": 1080}
    hops = [connection(asyncssh_server), connection(asyncssh_server, proxy=proxy)]

    outcome = check(runner, asyncssh_server, {"type": "none"}, proxy_jump=hops)

    assert outcome.exit_code == 3, outcome.output
    assert "is reached from the one before it, and not through a proxy" in outcome.output


# --- the other commands ---


@both_kinds
def test_doctor_shows_the_way(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, make_proxy: MakeProxy
) -> None:
    path = runner.folder / "play.yaml"
    report = runner.folder / "doctor.json"
    with make_proxy(login=("ci", SECRET)) as proxy:
        given = through(proxy, username="ci", password=SECRET)
        path.write_text(json.dumps([step(asyncssh_server, upload("source", "a"), proxy=given)]))
        outcome = runner("doctor", str(path), "--json", str(report))

    assert outcome.exit_code == 0, outcome.output
    name = "HTTP" if make_proxy is HttpProxy else "SOCKS5"
    assert f"through          {name} proxy 127.0.0.1:{proxy.port} as ci\n" in outcome.stdout
    assert f"address          127.0.0.1:{asyncssh_server.port}," in outcome.stdout
    assert json.loads(report.read_text())["connections"][0]["proxy"] == f"{name} proxy 127.0.0.1:{proxy.port}"
    assert SECRET not in outcome.output + report.read_text()


@both_kinds
def test_hostkey_goes_through_a_proxy(
    runner: Runner, asyncssh_server: AsyncsshServer, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_PROXY_PASSWORD", SECRET)
    with make_proxy(names={NAME: asyncssh_server.port}, login=("c i", SECRET)) as proxy:
        scheme = "http" if make_proxy is HttpProxy else "socks5"
        outcome = runner("hostkey", "--proxy", f"{scheme}://c%20i@{proxy.host}:{proxy.port}", NAME)

    assert outcome.exit_code == 0, outcome.output
    assert f"{NAME} {asyncssh_server.known_host_line()}" in outcome.stdout
    assert set(proxy.asked) == {(NAME, 22)}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("socks5://ci:correct-horse@p:1080", "holds a password"),
        ("socks4://p:1080", "is not socks5://"),
        ("http://p", "is not socks5://"),
        ("http://p:99999", "is not socks5://"),
    ],
)
def test_a_proxy_of_the_command_line_that_cannot_be_is_refused(runner: Runner, url: str, words: str) -> None:
    outcome = runner("hostkey", "--proxy", url, NAME)

    assert outcome.exit_code == 64, outcome.output
    assert words in outcome.stderr
    assert "correct-horse" not in outcome.output


def test_the_proxies_of_these_tests_do_pass_bytes_on() -> None:
    with GarbageServer(b"hello") as server, SocksProxy() as proxy:
        sock = socket.create_connection((proxy.host, proxy.port), timeout=10)
        with sock:
            sock.sendall(b"\x05\x01\x00")
            assert sock.recv(2) == b"\x05\x00"
            sock.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + server.port.to_bytes(2, "big"))
            answer = b""
            while len(answer) < 15:
                answer += sock.recv(100)
    assert answer == b"\x05\x00\x00\x01" + bytes(6) + b"hello"
