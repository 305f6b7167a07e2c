"""Jump hosts in whole plays: each is checked and logged in to like the host itself, and errors name the one they are of."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from tests.conftest import Outcome, Runner, connection, download, require_sshd, snapshot, step, upload
from tests.patience import BUSY_SECONDS, wait_for
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.forwarding import ForwardingServer
from tests.servers.keys import shared_key_pair
from tests.servers.listeners import FullBacklog, Listener, closed_port
from tests.servers.mute import MuteServer
from tests.servers.openssh import OpenSSHServer
from tests.servers.proxy import BlackHole, Cut, Fault, FaultProxy, RateLimit, Trigger
from tests.ssh.test_deadlines import assert_interrupted, start_play
from tests.transfer.trees import make_tree, picture, without_links_out

WRONG_KEY = {"hostkey_mode": "known_host", "known_host": shared_key_pair().public_line}
TIMEOUT_SECONDS = 2
# What clean-up takes, and what a busy machine may add.
GRACE_SECONDS = 2.5 + BUSY_SECONDS
CONTENT = os.urandom(5_000_000)


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("bastion"), sftp=False) as server:
        yield server


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSSHServer]:
    """A second jump host, which wants new keys all the time."""
    require_sshd()
    with OpenSSHServer(tmp_path_factory.mktemp("inner"), sftp=False, extra_config=("RekeyLimit 1M",)) as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[ForwardingServer]:
    with ForwardingServer(tmp_path / "gateway", password="correct horse") as server:
        yield server


def hop(server: Endpoint, **inputs: Any) -> dict[str, Any]:
    return connection(server, **inputs)


def play_timed(runner: Runner, playbook: Any, *arguments: str) -> tuple[Outcome, float]:
    started = time.monotonic()
    outcome = runner.play(playbook, *arguments)
    return outcome, time.monotonic() - started


def assert_unreachable(outcome: Outcome, kind: str, *words: str) -> None:
    assert outcome.exit_code == 4, outcome.output
    error = outcome.step["error"]
    assert error["type"] == kind, error
    assert error["hint"]
    for word in words:
        assert word in error["message"], error["message"]


def make_copy(runner: Runner, remote: Path, *, is_upload: bool) -> tuple[dict[str, Any], Path]:
    """A copy of CONTENT over an older file, and where it goes."""
    local = runner.folder / "local"
    local.mkdir(exist_ok=True)
    source, target = (runner.folder, remote) if is_upload else (remote, local)
    (source / "source").write_bytes(CONTENT)
    (target / "a").write_bytes(b"older")
    if is_upload:
        return upload("source", remote / "a", resume=False), target / "a"
    return download(remote / "source", "local/a", resume=False), target / "a"


# --- what works ---


def test_a_file_goes_both_ways_through_one_hop(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    connections = {"bastion": hop(bastion), "target": {**connection(sshd), "proxy_jump": ["bastion"]}}
    modes = [upload("source", remote / "a"), download(remote / "a", "copy"), upload("source", remote / "a")]

    outcome = runner.play(
        {"connections": connections, "steps": [{"connection": "target", "mode": mode} for mode in modes]}, "-v"
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "changed", "ok"]
    assert (remote / "a").read_bytes() == (runner.folder / "copy").read_bytes() == CONTENT
    name = f"jump host 1 of 1 (bastion, 127.0.0.1:{bastion.port})"
    told = [line for line in outcome.stdout.splitlines() if line.startswith("connected")]
    assert [line.split("connected", 1)[1].strip().rsplit(", ", 1)[0] for line in told] == [
        f"{name}  host key known by the playbook's hostkey",
        f"127.0.0.1:{sshd.port} [target]  host key known by the playbook's hostkey",
    ]


@pytest.mark.parametrize("connector_type", ["SFTP", "SCP"])
def test_a_file_goes_both_ways_through_three_hops_of_two_kinds(
    runner: Runner,
    sshd: OpenSSHServer,
    bastion: OpenSSHServer,
    inner: OpenSSHServer,
    gateway: ForwardingServer,
    remote: Path,
    connector_type: str,
) -> None:
    (runner.folder / "source").write_bytes(CONTENT)
    way = {"proxy_jump": [hop(bastion), hop(gateway), hop(inner)], "connector_type": connector_type}
    modes = [upload("source", remote / "a"), download(remote / "a", "copy")]

    outcome = runner.play([step(sshd, mode, **way) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes() == (runner.folder / "copy").read_bytes() == CONTENT
    assert gateway.connection_count == 1
    assert gateway.destinations == [("127.0.0.1", inner.port)]


def test_a_tree_goes_both_ways(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, gateway: ForwardingServer, remote: Path
) -> None:
    make_tree(runner.folder / "tree", "jump", entries=300)
    way = {"proxy_jump": [hop(gateway), hop(bastion)]}
    up = {"mode_name": "copy_directory_from_engine", "source_directory_name": "tree"}
    down = {"mode_name": "copy_directory_to_engine", "destination_directory_name": "back"}
    modes: list[dict[str, Any]] = [
        {**up, "destination_directory_name": str(remote / "tree")},
        {**down, "source_directory_name": str(remote / "tree")},
    ]

    outcome = runner.play([step(sshd, mode, **way) for mode in modes])

    assert outcome.exit_code == 0, outcome.output
    assert picture(remote / "tree") == picture(runner.folder / "tree")
    assert picture(runner.folder / "back") == without_links_out(picture(remote / "tree"))


def test_the_hop_looks_up_the_name_and_known_hosts_is_asked_for_it(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    known_hosts = runner.folder / "known_hosts"
    with ForwardingServer(tmp_path / "gate", names={"target.invalid": "127.0.0.1"}) as gate:
        lines = [
            f"[target.invalid]:{asyncssh_server.port} {asyncssh_server.known_host_line()}",
            f"gate {gate.known_host_line()}",
            "nonsense",
        ]
        known_hosts.write_text("\n".join(lines) + "\n")
        policy = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "known_hosts"}
        way = [hop(gate, hostkey=policy, host_key_alias="gate")]
        only = step(asyncssh_server, upload("file", "file"), host="target.invalid", hostkey=policy, proxy_jump=way)

        outcome = runner.play([only], "-v")

        assert outcome.exit_code == 0, outcome.output
        assert gate.destinations == [("target.invalid", asyncssh_server.port)]
    assert f"known by {known_hosts}:2" in outcome.stdout
    assert f"known by {known_hosts}:1" in outcome.stdout
    assert outcome.stdout.count(f"{known_hosts}:3: line skipped") == 2


def test_a_name_beyond_ascii_is_put_as_resolvers_know_it(
    runner: Runner, asyncssh_server: AsyncsshServer, tmp_path: Path, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with ForwardingServer(tmp_path / "gate", names={"xn--bcher-kva.invalid": "127.0.0.1"}) as gate:
        only = step(asyncssh_server, upload("file", "file"), host="bücher.invalid", proxy_jump=[hop(gate)])
        outcome = runner.play([only])

        assert outcome.exit_code == 0, outcome.output
        for host in ("bücher..invalid", "ü" * 70):
            outcome = runner.play([{**only, "host": host}])
            assert_unreachable(outcome, "ConnectFailed", "cannot be a host name")


@pytest.mark.parametrize("is_upload", [True, False])
def test_keys_are_renewed_on_every_connection_of_the_way(
    runner: Runner,
    sshd: OpenSSHServer,
    bastion: OpenSSHServer,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_upload: bool,
) -> None:
    monkeypatch.setattr("runner.ssh.packetizer.REKEY_BYTES", 500_000)
    mode, destination = make_copy(runner, remote, is_upload=is_upload)
    word = "ssh_set_newkeys: rekeying in"
    before = [server.log_text().count(word) for server in (sshd, bastion)]

    outcome = runner.play([step(sshd, mode, proxy_jump=[hop(bastion)])])

    assert outcome.exit_code == 0, outcome.output
    assert destination.read_bytes() == CONTENT
    for server, count in zip((sshd, bastion), before, strict=True):
        assert server.log_text().count(word) > count


def test_hops_may_log_in_by_other_means_and_their_secrets_are_masked(
    runner: Runner, asyncssh_server: AsyncsshServer, gateway: ForwardingServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    (runner.folder / "other").write_text("correct horse")
    login = {"authentication_method": "username_password", "username": gateway.username, "password": "correct horse"}
    names = ["file", "correct horse"]
    (runner.folder / "correct horse").write_text("content")
    steps = [
        step(asyncssh_server, upload(name, remote / name), proxy_jump=[hop(gateway, authentication=login)])
        for name in names
    ]

    outcome = runner.play(steps, "-vvv")

    assert outcome.exit_code == 0, outcome.output
    assert [event.method for event in gateway.login_events] == ["password"]
    assert [event.method for event in asyncssh_server.login_events] == ["publickey"]
    assert "correct horse" not in outcome.output + (runner.folder / "report.json").read_text()


def test_steps_with_the_same_way_share_it_and_others_do_not(
    runner: Runner, asyncssh_server: AsyncsshServer, gateway: ForwardingServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    ways: list[Any] = ["gate", ["gate"], [hop(gateway)], [], [hop(gateway, keepalive_interval=7)]]
    steps = [
        step(asyncssh_server, upload("file", remote / str(number)), proxy_jump=way) for number, way in enumerate(ways)
    ]

    outcome = runner.play({"connections": {"gate": hop(gateway)}, "steps": steps})

    assert outcome.exit_code == 0, outcome.output
    assert gateway.connection_count == 2
    assert asyncssh_server.connection_count == 3


def test_everybody_on_the_way_is_told_goodbye_and_nothing_is_left(
    runner: Runner, tmp_path: Path, bastion: OpenSSHServer, inner: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "target") as target:
        (runner.folder / "warm").write_text("x")
        runner.play([step(target, upload("warm", remote / "warm"))])
        threads, descriptors = set(threading.enumerate()), count_descriptors()
        before = [len(server.log_text()) for server in (target, inner, bastion)]

        only = step(target, upload("file", remote / "file"), proxy_jump=[hop(bastion), hop(inner)])
        outcome, seconds = play_timed(runner, [only])

        assert outcome.exit_code == 0, outcome.output
        assert seconds < GRACE_SECONDS
        for server, start in zip((target, inner, bastion), before, strict=True):
            wait_for(lambda server=server, start=start: "the runner is done" in server.log_text()[start:])  # type: ignore[misc]
            assert "Connection reset" not in server.log_text()[start:]
    wait_for(lambda: set(threading.enumerate()) <= threads)
    assert count_descriptors() == descriptors


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- what is refused ---


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_a_wrong_host_key_anywhere_on_the_way_is_refused_before_a_credential_is_sent(
    runner: Runner, tmp_path: Path, remote: Path, wrong: int
) -> None:
    (runner.folder / "file").write_text("content")
    with (
        ForwardingServer(tmp_path / "one") as one,
        ForwardingServer(tmp_path / "two") as two,
        AsyncsshServer(tmp_path / "target", root=remote) as target,
    ):
        servers: list[AsyncsshServer] = [one, two, target]
        inputs = [hop(server) for server in servers]
        inputs[wrong - 1]["hostkey"] = WRONG_KEY
        only = {**inputs[2], "mode": upload("file", remote / "file"), "proxy_jump": inputs[:2], "retries": 2}

        outcome = runner.play([only])

        assert outcome.exit_code == 5, outcome.output
        error = outcome.step["error"]
        assert error["type"] == "HostKeyRefused"
        assert "no credential was sent" in error["message"]
        refused = servers[wrong - 1]
        assert f"127.0.0.1:{refused.port}" in error["message"]
        place = f"jump host {wrong} of 2 (127.0.0.1:{refused.port}): the host key of"
        assert error["message"].startswith(place) == (wrong < 3)
        if wrong > 1:
            # From here the host cannot be asked.
            assert f"`ssh-keyscan -p {refused.port} 127.0.0.1` on jump host {wrong - 1} of 2" in error["hint"]
        else:
            assert f"`runner hostkey 127.0.0.1:{refused.port}`" in error["hint"]
        assert [len(server.login_events) for server in servers] == [int(number < wrong) for number in (1, 2, 3)]
        assert [server.connection_count for server in servers] == [int(number <= wrong) for number in (1, 2, 3)]
    assert list(remote.iterdir()) == []


def test_sshd_behind_a_hop_sees_no_login_before_its_key_is_accepted(
    runner: Runner, tmp_path: Path, bastion: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "target") as target:
        only = step(target, upload("file", remote / "file"), hostkey=WRONG_KEY, proxy_jump=[hop(bastion)])
        outcome = runner.play([only])

        assert outcome.exit_code == 5, outcome.output
        assert target.wait_for_log("Connection closed by")
        assert "userauth-request" not in target.log_text()


def test_a_fingerprint_behind_a_hop_is_looked_for_among_all_keys(
    runner: Runner, tmp_path: Path, bastion: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "target", host_key_types=("ed25519", "ecdsa", "rsa")) as target:
        policy = {"hostkey_mode": "fingerprint", "fingerprint": target.fingerprint("rsa")}
        outcome = runner.play(
            [step(target, upload("file", remote / "file"), hostkey=policy, proxy_jump=[hop(bastion)])]
        )

    assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize("number", [1, 2])
def test_a_refused_login_names_the_hop_and_nothing_behind_it_is_contacted(
    runner: Runner,
    tmp_path: Path,
    gateway: ForwardingServer,
    asyncssh_server: AsyncsshServer,
    remote: Path,
    number: int,
) -> None:
    (runner.folder / "file").write_text("content")
    wrong = {"authentication_method": "username_password", "username": gateway.username, "password": "wrong wrong"}
    with ForwardingServer(tmp_path / "first") as first:
        way = [hop(first), hop(gateway, authentication=wrong)][2 - number :]
        only = step(asyncssh_server, upload("file", remote / "file"), proxy_jump=way)
        outcome = runner.play([{**only, "retries": 3, "delay": 0.01}])

    name = f"jump host {number} of {number} (127.0.0.1:{gateway.port})"
    assert_unreachable(outcome, "AuthenticationRefused", f"{name}: {gateway.username}@", "the password was refused")
    assert outcome.step["attempts"] == 1
    assert len(gateway.login_events) == 1
    assert asyncssh_server.connection_count == 0
    assert "wrong wrong" not in outcome.output


@pytest.mark.parametrize(
    "config", ["AllowTcpForwarding no", "PermitOpen none", "PermitOpen 127.0.0.1:1", "DisableForwarding yes"]
)
def test_a_hop_that_forwards_nothing_says_so(
    runner: Runner, tmp_path: Path, asyncssh_server: AsyncsshServer, remote: Path, config: str
) -> None:
    require_sshd()
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "strict", extra_config=(config,)) as strict:
        only = step(asyncssh_server, upload("file", remote / "file"), proxy_jump=[hop(strict)])
        outcome = runner.play([{**only, "retries": 3, "delay": 0.01}])

    name = f"jump host 1 of 1 (127.0.0.1:{strict.port}) does not forward connections to it"
    assert_unreachable(outcome, "ForwardingRefused", f"cannot connect to 127.0.0.1:{asyncssh_server.port}: {name}")
    assert outcome.step["attempts"] == 1
    assert "AllowTcpForwarding" in outcome.step["error"]["hint"]
    assert asyncssh_server.connection_count == 0


def test_a_hop_in_the_middle_that_forwards_nothing_is_the_one_that_is_named(
    runner: Runner, tmp_path: Path, asyncssh_server: AsyncsshServer, bastion: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with OpenSSHServer(tmp_path / "strict", extra_config=("AllowTcpForwarding no",)) as strict:
        way = [hop(strict), hop(bastion)]
        outcome = runner.play([step(asyncssh_server, upload("file", remote / "file"), proxy_jump=way)])

    blamed = (
        f"jump host 2 of 2 (127.0.0.1:{bastion.port}): cannot connect to 127.0.0.1:{bastion.port}: jump host 1 of 2"
    )
    assert_unreachable(outcome, "ForwardingRefused", f"{blamed} (127.0.0.1:{strict.port}) does not forward")


@pytest.mark.parametrize("is_openssh", [True, False])
def test_a_host_that_the_hop_cannot_reach_is_told(
    runner: Runner,
    bastion: OpenSSHServer,
    gateway: ForwardingServer,
    asyncssh_server: AsyncsshServer,
    remote: Path,
    is_openssh: bool,
) -> None:
    (runner.folder / "file").write_text("content")
    server: Endpoint = bastion if is_openssh else gateway
    places = {"127.0.0.1": closed_port(), "no-such-host.invalid": 22}
    for host, port in places.items():
        only = step(asyncssh_server, upload("file", remote / "a"), host=host, port=port, proxy_jump=[hop(server)])
        outcome = runner.play([{**only, "retries": 1, "delay": 0.01}])

        name = f"jump host 1 of 1 (127.0.0.1:{server.port}) cannot reach it: "
        assert_unreachable(outcome, "ConnectFailed", f"cannot connect to {host}:{port}: {name}")
        assert outcome.step["attempts"] == 2
        if host == "127.0.0.1" and is_openssh:
            assert "refused" in outcome.step["error"]["message"]


def test_a_hop_that_is_no_ssh_server_is_named(
    runner: Runner, bastion: OpenSSHServer, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    port = closed_port()
    for way in ([hop(bastion, port=port)], [hop(bastion, port=port), hop(bastion)]):
        outcome = runner.play([step(asyncssh_server, upload("file", remote / "a"), proxy_jump=way)])

        name = f"jump host 1 of {len(way)} (127.0.0.1:{port})"
        assert_unreachable(outcome, "ConnectFailed", f"{name}: cannot connect to 127.0.0.1:{port}", "refused")


# --- time ---


@pytest.mark.parametrize("stage", ["tcp", "banner", "key_exchange", "authentication"])
@pytest.mark.parametrize("is_second", [False, True])
def test_a_silent_hop_ends_at_its_own_connect_timeout(
    runner: Runner,
    tmp_path: Path,
    gateway: ForwardingServer,
    asyncssh_server: AsyncsshServer,
    remote: Path,
    stage: Any,
    is_second: bool,
) -> None:
    (runner.folder / "file").write_text("content")
    with MuteServer(stage, tmp_path / "mute") as mute:
        way = [*([hop(gateway)] if is_second else []), hop(mute, connect_timeout=TIMEOUT_SECONDS)]
        outcome, seconds = play_timed(
            runner, [step(asyncssh_server, upload("file", remote / "file"), proxy_jump=way, connect_timeout=60)]
        )

    name = f"jump host {len(way)} of {len(way)} (127.0.0.1:{mute.port}): "
    assert_unreachable(outcome, "ConnectTimedOut", name, "connect_timeout")
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + GRACE_SECONDS


@pytest.mark.parametrize("stage", ["tcp", "banner", "authentication", "subsystem"])
def test_a_silent_host_behind_a_hop_ends_at_the_step_s_connect_timeout(
    runner: Runner, tmp_path: Path, gateway: ForwardingServer, remote: Path, stage: Any
) -> None:
    (runner.folder / "file").write_text("content")
    with MuteServer(stage, tmp_path / "mute", root=remote) as mute:
        only = step(mute, upload("file", remote / "file"), proxy_jump=[hop(gateway)], connect_timeout=TIMEOUT_SECONDS)
        outcome, seconds = play_timed(runner, [only])

    assert_unreachable(outcome, "ConnectTimedOut", f"127.0.0.1:{mute.port}", "connect_timeout")
    assert not outcome.step["error"]["message"].startswith("jump host")
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + GRACE_SECONDS


def test_a_hop_that_does_not_get_through_is_told(
    runner: Runner, bastion: OpenSSHServer, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    backlog = FullBacklog()
    backlog.start()
    try:
        only = step(asyncssh_server, upload("file", remote / "a"), port=backlog.port, proxy_jump=[hop(bastion)])
        outcome, seconds = play_timed(runner, [{**only, "connect_timeout": TIMEOUT_SECONDS}])
    finally:
        backlog.stop()

    name = f"jump host 1 of 1 (127.0.0.1:{bastion.port}) has not got through to it"
    assert_unreachable(outcome, "ConnectTimedOut", f"no answer from 127.0.0.1:{backlog.port}", name)
    assert TIMEOUT_SECONDS <= seconds < TIMEOUT_SECONDS + GRACE_SECONDS


def test_the_step_s_own_timeout_ends_the_wait_for_a_hop(
    runner: Runner, asyncssh_server: AsyncsshServer, bastion: OpenSSHServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    with Listener() as silent:
        only = step(asyncssh_server, upload("file", remote / "a"), proxy_jump=[hop(bastion, port=silent.port)])
        outcome, seconds = play_timed(runner, [{**only, "timeout": 1}])

    assert_unreachable(outcome, "StepTimedOut", "longer than its timeout of 1 s")
    assert seconds < 1 + GRACE_SECONDS


@pytest.mark.parametrize("is_upload", [True, False])
def test_the_step_s_own_timeout_ends_a_copy_through_a_hop_that_crawls(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, remote: Path, is_upload: bool
) -> None:
    mode, _ = make_copy(runner, remote, is_upload=is_upload)
    before = snapshot(remote)
    with FaultProxy(bastion.host, bastion.port, RateLimit(100_000)) as proxy:
        only = step(sshd, mode, proxy_jump=[hop(bastion, port=proxy.port)])
        outcome, seconds = play_timed(runner, [{**only, "timeout": 2}])

    assert_unreachable(outcome, "StepTimedOut")
    assert seconds < 2 + 3 + GRACE_SECONDS
    if not is_upload:
        assert snapshot(remote) == before
        assert snapshot(runner.folder / "local") == {"a": b"older"}


def test_bytes_that_crawl_through_a_hop_are_progress(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, remote: Path
) -> None:
    """What waits in the kernel below the jump host takes longer than `stall_timeout`."""
    (runner.folder / "source").write_bytes(os.urandom(600_000))
    with FaultProxy(bastion.host, bastion.port, RateLimit(150_000)) as proxy:
        only = step(sshd, upload("source", remote / "a"), proxy_jump=[hop(bastion, port=proxy.port)], stall_timeout=1)
        outcome, seconds = play_timed(runner, [only])

    assert outcome.exit_code == 0, outcome.output
    assert seconds > 3


def test_keepalives_to_everybody_on_the_way_are_no_progress(
    runner: Runner, tmp_path: Path, bastion: OpenSSHServer, gateway: ForwardingServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    way = [hop(server, keepalive_interval=1) for server in (gateway, bastion)]
    with MuteServer("sftp_stat", tmp_path / "mute", root=remote) as mute:
        only = step(mute, upload("file", remote / "a"), proxy_jump=way, stall_timeout=2, keepalive_interval=1)
        outcome, seconds = play_timed(runner, [only])

    assert_unreachable(outcome, "Stalled", f"127.0.0.1:{mute.port}")
    assert seconds < GRACE_SECONDS


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_hop_that_falls_silent_during_a_copy_ends_at_stall_timeout(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, remote: Path, is_upload: bool
) -> None:
    mode, destination = make_copy(runner, remote, is_upload=is_upload)
    with FaultProxy(bastion.host, bastion.port, BlackHole("up" if is_upload else "down", 2_000_000)) as proxy:
        way = [hop(bastion, port=proxy.port)]
        outcome, seconds = play_timed(runner, [step(sshd, mode, proxy_jump=way, stall_timeout=TIMEOUT_SECONDS)])

    assert_unreachable(outcome, outcome.step["error"]["type"])
    assert outcome.step["error"]["type"] in ("Stalled", "ConnectionLost")
    assert TIMEOUT_SECONDS <= seconds < 3 * TIMEOUT_SECONDS + GRACE_SECONDS
    assert destination.read_bytes() == b"older"


# --- what breaks ---


def break_after(size: int, *, is_upload: bool) -> Fault:
    return Cut("up" if is_upload else "down", size)


@pytest.mark.parametrize("is_upload", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_breaks_off_is_named_and_the_old_file_stays(
    runner: Runner,
    sshd: OpenSSHServer,
    bastion: OpenSSHServer,
    inner: OpenSSHServer,
    remote: Path,
    is_upload: bool,
    number: int,
) -> None:
    """The connection to the first hop, to the second one, or to the host itself."""
    mode, destination = make_copy(runner, remote, is_upload=is_upload)
    servers: list[Endpoint] = [bastion, inner, sshd]
    broken = servers[number - 1]
    with FaultProxy(broken.host, broken.port, break_after(2_000_000, is_upload=is_upload)) as proxy:
        inputs = [hop(server) for server in servers]
        inputs[number - 1]["port"] = proxy.port
        outcome = runner.play([{**inputs[2], "mode": mode, "proxy_jump": inputs[:2]}])

        message = outcome.step["error"]["message"]
        assert_unreachable(outcome, "ConnectionLost", f"the connection to 127.0.0.1:{inputs[2]['port']} broke off")
        if number < 3:
            assert f": the connection to jump host {number} of 2 (127.0.0.1:{proxy.port}) was lost" in message
        else:
            assert "jump host" not in message
    assert destination.read_bytes() == b"older"


def test_the_connection_that_broke_off_is_named_although_those_through_it_end_first(
    runner: Runner,
    sshd: OpenSSHServer,
    bastion: OpenSSHServer,
    inner: OpenSSHServer,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a busy machine: what ends the channels of a connection is held up before it ends the connection itself."""
    unlink = paramiko.Channel._unlink

    def unlink_slowly(channel: paramiko.Channel) -> None:
        unlink(channel)
        time.sleep(0.5)

    monkeypatch.setattr(paramiko.Channel, "_unlink", unlink_slowly)
    mode, _ = make_copy(runner, remote, is_upload=True)
    with FaultProxy(bastion.host, bastion.port, break_after(2_000_000, is_upload=True)) as proxy:
        way = [hop(bastion, port=proxy.port), hop(inner)]
        outcome = runner.play([step(sshd, mode, proxy_jump=way)])

    named = f"the connection to jump host 1 of 2 (127.0.0.1:{proxy.port}) was lost"
    assert_unreachable(outcome, "ConnectionLost", named)


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_hop_that_is_killed_during_a_copy_is_replaced_by_a_retry(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    require_sshd()
    mode, destination = make_copy(runner, remote, is_upload=is_upload)
    with OpenSSHServer(tmp_path / "mortal") as mortal:
        fault = Trigger("up" if is_upload else "down", 2_000_000, mortal.kill_sessions)
        with FaultProxy(mortal.host, mortal.port, fault, faulty_connections=1) as proxy:
            only = step(sshd, mode, proxy_jump=[hop(mortal, port=proxy.port)])
            outcome = runner.play([{**only, "retries": 2, "delay": 0.01}])

    assert outcome.exit_code == 0, outcome.output
    assert outcome.step["attempts"] == proxy.connection_count == 2, outcome.output
    assert f"the connection to jump host 1 of 1 (127.0.0.1:{proxy.port}) was lost" in outcome.stdout
    assert destination.read_bytes() == CONTENT


@pytest.mark.parametrize("after_bytes", [0, 30, 1500, 3000, 4500, 6000])
def test_a_hop_that_breaks_off_while_the_way_is_made_is_named(
    runner: Runner, asyncssh_server: AsyncsshServer, bastion: OpenSSHServer, remote: Path, after_bytes: int
) -> None:
    (runner.folder / "file").write_text("content")
    with FaultProxy(bastion.host, bastion.port, Cut("down", after_bytes)) as proxy:
        way = [hop(bastion, port=proxy.port)]
        outcome, seconds = play_timed(runner, [step(asyncssh_server, upload("file", remote / "file"), proxy_jump=way)])

    assert_unreachable(outcome, outcome.step["error"]["type"], f"jump host 1 of 1 (127.0.0.1:{proxy.port})")
    assert seconds < GRACE_SECONDS
    # How much a handshake takes depends on what is agreed on: the last cut may come when the copy has begun.
    if not asyncssh_server.requests:
        assert list(remote.iterdir()) == []
    assert not (remote / "file").exists()


# --- signals ---


@pytest.mark.parametrize("stage", ["tcp", "banner", "authentication"])
def test_a_signal_ends_the_wait_for_a_hop(
    tmp_path: Path, asyncssh_server: AsyncsshServer, gateway: ForwardingServer, remote: Path, stage: Any
) -> None:
    (tmp_path / "file").write_text("content")
    with MuteServer(stage, tmp_path / "mute") as mute:
        way = [hop(gateway), hop(mute)]
        process = start_play(tmp_path, step(asyncssh_server, upload("file", remote / "file"), proxy_jump=way))
        wait_for(lambda: len(gateway.destinations) > 0)
        time.sleep(0.2)
        assert_interrupted(process, tmp_path, signal.SIGTERM)
    assert asyncssh_server.connection_count == 0


@pytest.mark.parametrize("stage", ["banner", "sftp_init", "sftp_stat", "sftp_write"])
def test_a_signal_ends_the_wait_for_a_host_behind_hops(
    tmp_path: Path, bastion: OpenSSHServer, gateway: ForwardingServer, remote: Path, stage: Any
) -> None:
    (tmp_path / "file").write_text("content")
    with MuteServer(stage, tmp_path / "mute", root=remote) as mute:
        only = step(mute, upload("file", remote / "file"), proxy_jump=[hop(gateway), hop(bastion)])
        process = start_play(tmp_path, only)
        wait_for(lambda: mute.requests == ["sftp"] if stage.startswith("sftp") else mute.connection_count > 0)
        time.sleep(0.3)
        assert_interrupted(process, tmp_path, signal.SIGINT, within_seconds=4)
    assert not (remote / "file").exists()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_signal_ends_a_copy_through_a_hop_that_takes_nothing_any_more(
    runner: Runner, sshd: OpenSSHServer, bastion: OpenSSHServer, remote: Path, direction: Any
) -> None:
    (runner.folder / "source").write_bytes(b"x" * 40_000_000)
    (remote / "source").write_bytes(b"x" * 40_000_000)
    mode = upload("source", remote / "a") if direction == "up" else download(remote / "source", "a")
    with FaultProxy(bastion.host, bastion.port, BlackHole(direction, 3_000_000)) as proxy:
        process = start_play(runner.folder, step(sshd, mode, proxy_jump=[hop(bastion, port=proxy.port)]))
        wait_for(lambda: (proxy.bytes_up if direction == "up" else proxy.bytes_down) >= 3_000_000)
        time.sleep(0.3)
        assert_interrupted(process, runner.folder, signal.SIGTERM, within_seconds=5.5)
    assert not (remote / "a").exists()
    assert not (runner.folder / "a").exists()
