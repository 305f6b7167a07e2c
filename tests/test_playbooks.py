"""Every example in playbooks/ is played, twice, as it stands."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from runner.resources import playbook_path
from tests.conftest import Outcome, Runner, connection, snapshot
from tests.servers.asyncssh_server import AsyncsshServer

PASSWORD = "correct horse"


def make_file(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = os.urandom(300_000)
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    return content


def assert_same(path: Path, content: bytes, mode: int = 0o640) -> None:
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert path.stat().st_mode & 0o7777 == mode
    assert path.stat().st_mtime == 1_500_000_000


def play_twice(runner: Runner, name: str, steps: int, *arguments: str) -> Outcome:
    """First everything changes, then nothing does."""
    path = str(playbook_path(name))
    first = runner("play", path, "-v", *arguments)
    assert first.exit_code == 0, first.output
    assert f"changed={steps}" in first.stdout
    second = runner("play", path, "-v", *arguments)
    assert second.exit_code == 0, second.output
    assert f"ok={steps}  changed=0" in second.stdout
    return first


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: Any) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("server_kind", "connector_type"),
    [
        ("sshd", "SCP"),
        ("sshd", "SFTP"),
        ("sshd_with_password", "SCP"),
        ("sshd_with_password", "SFTP"),
        ("sshd_without_sftp", "SCP"),
        ("asyncssh_server", "SCP"),
        ("asyncssh_server", "SFTP"),
    ],
)
@pytest.mark.parametrize("is_upload", [True, False])
def test_the_seed_examples(
    runner: Runner,
    request: pytest.FixtureRequest,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    server_kind: str,
    connector_type: str,
    is_upload: bool,
) -> None:
    """Both, as SCP and as SFTP, against OpenSSH and asyncssh.

    The first one has no port, so the test adds one. The second one logs in by password; an sshd that knows none is given
    the key.
    """
    server = request.getfixturevalue(server_kind)
    local_path, remote_path = runner.folder / "local/a", remote / "a"
    content = make_file(local_path if is_upload else remote_path)
    text = playbook_path(f"seed-copy-{'from' if is_upload else 'to'}-engine.yaml").read_text(encoding="utf-8")
    text = text.replace("connector_type: SCP", f"connector_type: {connector_type}")
    if not is_upload:
        text = text.replace("  mode:", f"  port: {server.port}\n  mode:")
    elif server_kind in ("sshd", "sshd_without_sftp"):
        text = text.replace("username_password", "ssh_key").replace(
            "password: \"{{ lookup('env', 'SFTP_PASSWORD') }}\"", "ssh_key: \"{{ lookup('env', 'SFTP_KEY') }}\""
        )
    set_environment(
        monkeypatch,
        SFTP_USERNAME=server.username,
        SFTP_PASSWORD=PASSWORD,
        SFTP_KEY=server.user_key_text,
        SFTP_HOST=server.host,
        SFTP_PORT=server.port,
        SFTP_HOSTKEY=server.known_host_line(),
        LOCAL_FILE=local_path,
        REMOTE_FILE=remote_path,
    )

    first, second = runner.play(text), runner.play(text)

    assert (first.exit_code, first.statuses) == (0, ["changed"]), first.output
    assert (second.exit_code, second.statuses) == (0, ["ok"]), second.output
    assert first.step["connector_type"] == connector_type
    assert_same(remote_path if is_upload else local_path, content)
    assert PASSWORD not in first.output + second.output
    if server_kind == "sshd_with_password" and is_upload:
        assert server.wait_for_log("Accepted password")


@pytest.mark.parametrize("server_kind", ["sshd", "asyncssh_server"])
def test_the_newest_example(
    runner: Runner, request: pytest.FixtureRequest, remote: Path, monkeypatch: pytest.MonkeyPatch, server_kind: str
) -> None:
    """It has no port, so the test adds one. What is relative on the engine starts at workdir."""
    server = request.getfixturevalue(server_kind)
    content = make_file(remote / "a")
    text = playbook_path("newest-copy-to-engine.yaml").read_text(encoding="utf-8")
    set_environment(
        monkeypatch,
        SFTP_USERNAME=server.username,
        SFTP_KEY=server.user_key_text,
        SFTP_HOST=server.host,
        SFTP_HOSTKEY=server.known_host_line(),
        LOCAL_FILE="local/a",
        REMOTE_FILE=remote / "a",
    )
    text = text.replace("  mode:", f"  port: {server.port}\n  mode:")

    first, second = runner.play(text), runner.play(text)

    assert (first.exit_code, first.statuses) == (0, ["changed"]), first.output
    assert (second.exit_code, second.statuses) == (0, ["ok"]), second.output
    assert_same(runner.folder / "local/a", content)


def test_a_location_is_workdir_with_or_without_it(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    """In both directions, for files and for directories."""
    content, other = make_file(runner.folder / "files/a"), make_file(runner.folder / "files/tree/b")
    location = {"location_mode": "inherit_from_execution"}
    modes: list[dict[str, Any]] = [
        {
            "mode_name": f"copy_{what}_{way}_engine",
            f"source_{what}_name": source,
            f"destination_{what}_name": destination,
            ("source_location" if way == "from" else "destination_location"): location,
        }
        for what, way, source, destination in (
            ("file", "from", "a", "up"),
            ("file", "to", "up", "down"),
            ("directory", "from", "tree", "up-tree"),
            ("directory", "to", "up-tree", "down-tree"),
        )
    ]
    steps = [{**connection(asyncssh_server), "mode": mode} for mode in modes]

    outcome = runner.play({"workdir": "files", "steps": steps})

    assert (outcome.exit_code, outcome.statuses) == (0, ["changed"] * 4), outcome.output
    assert_same(runner.folder / "files/down", content)
    assert_same(runner.folder / "files/down-tree/b", other)
    for mode in modes:
        del mode["source_location" if "from" in mode["mode_name"] else "destination_location"]
    outcome = runner.play({"workdir": "files", "steps": steps})
    assert outcome.statuses == ["ok"] * 4, outcome.output


def test_release(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_file(runner.folder / "dist/app.js")
    (remote / "releases").mkdir()
    (remote / "current").symlink_to("releases/1.3")
    set_environment(
        monkeypatch,
        VERSION="1.4",
        BUILD_DIR=runner.folder / "dist",
        WEB_HOST=asyncssh_server.host,
        WEB_PORT=asyncssh_server.port,
        WEB_USER=asyncssh_server.username,
        WEB_KEY=asyncssh_server.user_key_text,
        WEB_HOSTKEY=asyncssh_server.known_host_line(),
    )
    path, report = str(playbook_path("release.yaml")), runner.folder / "report.json"

    first = runner("play", path, "--json", str(report))
    assert first.exit_code == 0, first.output
    assert os.readlink(remote / "current") == "releases/1.4"
    steps = json.loads(report.read_text())["steps"]
    assert [step["status"] for step in steps] == ["ok", "changed", "changed", "changed", "ok"]
    assert steps[-1]["result"]["content"] == "1.4\n"
    second = runner("play", path)
    assert "ok=5  changed=0" in second.stdout, second.output


@pytest.fixture
def bank(runner: Runner, asyncssh_server: AsyncsshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the playbooks that exchange files with a bank."""
    set_environment(
        monkeypatch,
        DAY="2026-11-24",
        DATA_DIR=runner.folder / "data",
        BANK_HOST=asyncssh_server.host,
        BANK_PORT=asyncssh_server.port,
        BANK_USER=asyncssh_server.username,
        BANK_KEY=asyncssh_server.user_key_text,
        BANK_HOSTKEY=asyncssh_server.known_host_line(),
    )


@pytest.mark.usefixtures("bank")
def test_wait_and_fetch(runner: Runner, remote: Path) -> None:
    path = str(playbook_path("wait-and-fetch.yaml"))
    (remote / "out").mkdir()
    # What is to be waited for comes before it is looked for again; with --check nobody waits for it.
    assert runner("play", path, "--check").exit_code == 2
    assert not (runner.folder / "data/report.csv").exists()
    content = make_file(remote / "out/report-2026-11-24.csv")

    first, second = runner("play", path), runner("play", path)

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert "unchanged for 1 s" in first.stdout
    assert "ok=1  changed=1" in first.stdout
    assert "ok=2  changed=0" in second.stdout
    assert_same(runner.folder / "data/report.csv", content)


@pytest.mark.usefixtures("bank")
def test_upload_with_marker(runner: Runner, remote: Path) -> None:
    path, inbox = str(playbook_path("upload-with-marker.yaml")), remote / "inbox"
    failed = runner("play", path)
    assert failed.exit_code == 2, failed.output
    assert not inbox.exists(), "there is a marker without its file"
    content = make_file(runner.folder / "data/out/payments-2026-11-24.xml")

    first = runner("play", path)
    assert first.exit_code == 0, first.output
    old = (inbox / "payments-2026-11-24.xml.done").stat().st_ino
    second = runner("play", path)

    assert "ok=0  changed=2" in first.stdout
    assert "ok=1  changed=1" in second.stdout, second.output
    assert_same(inbox / "payments-2026-11-24.xml", content)
    assert (inbox / "payments-2026-11-24.xml.done").read_bytes() == b""
    assert (inbox / "payments-2026-11-24.xml.done").stat().st_ino != old
    assert sorted(os.listdir(inbox)) == ["payments-2026-11-24.xml", "payments-2026-11-24.xml.done"]


def test_ci_publish(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = runner.folder / "dist"
    archive, checksum = make_file(build / "app-1.2.tar.gz"), make_file(build / "app-1.2.tar.gz.sha256")
    set_environment(
        monkeypatch,
        VERSION="1.2",
        BUILD_DIR=build,
        PARTNER_HOST=asyncssh_server.host,
        PARTNER_PORT=asyncssh_server.port,
        PARTNER_USER=asyncssh_server.username,
        PARTNER_KEY=asyncssh_server.user_key_text,
        PARTNER_HOSTKEY=asyncssh_server.known_host_line(),
        PARTNER_INBOX=remote / "inbox",
    )

    play_twice(runner, "ci-publish.yaml", 2)

    assert_same(remote / "inbox/app-1.2.tar.gz", archive, 0o644)
    assert_same(remote / "inbox/app-1.2.tar.gz.sha256", checksum)
    make_file(build / "app-1.2.tar.gz")
    os.utime(build / "app-1.2.tar.gz")
    again = runner("play", str(playbook_path("ci-publish.yaml")))
    assert again.exit_code == 2
    assert_same(remote / "inbox/app-1.2.tar.gz", archive, 0o644)


def test_ci_fetch(runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_file(remote / "rates/2024-05-01.csv")
    with AsyncsshServer(tmp_path / "server", root=remote, chroot=True, password=PASSWORD) as server:
        known_hosts = runner.folder / "known_hosts"
        known_hosts.write_text(server.known_hosts_line() + "\n")
        set_environment(
            monkeypatch,
            RATES_DAY="2024-05-01",
            RATES_HOST=server.host,
            RATES_PORT=server.port,
            RATES_USER=server.username,
            RATES_PASSWORD=PASSWORD,
            RATES_KNOWN_HOSTS=known_hosts,
            DATA_DIR=runner.folder / "data",
        )

        first = play_twice(runner, "ci-fetch.yaml", 1)

    assert_same(runner.folder / "data/rates.csv", content, 0o600)
    assert PASSWORD not in first.output


def test_ci_housekeeping(runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_file(remote / "outbox/statement.csv")
    make_file(remote / "archive/2025-11/statement-2025-11-30.csv")
    with AsyncsshServer(tmp_path / "server", root=remote, chroot=True) as server:
        set_environment(
            monkeypatch,
            DAY="2026-11-24",
            OLD_MONTH="2025-11",
            BANK_HOST=server.host,
            BANK_PORT=server.port,
            BANK_USER=server.username,
            BANK_KEY=server.user_key_text,
            BANK_HOSTKEY=server.known_host_line(),
        )
        path = str(playbook_path("ci-housekeeping.yaml"))
        before = snapshot(remote)
        foretold = runner("play", path, "--check")
        assert snapshot(remote) == before
        first, second = runner("play", path, "-v"), runner("play", path)
        monkeypatch.setenv("OLD_MONTH", "")
        assert runner("play", path).exit_code == 3

    assert (foretold.exit_code, first.exit_code, second.exit_code) == (0, 0, 0), foretold.output + first.output
    # The folder that the third step needs is one that an earlier step would make.
    assert "ok=1  changed=3" in foretold.stdout
    assert "ok=1  changed=3" in first.stdout
    assert "ok=4  changed=0" in second.stdout
    assert "archive/2026-11/statement-2026-11-24.csv" in first.stdout
    assert_same(remote / "archive/2026-11/statement-2026-11-24.csv", content)
    assert snapshot(remote).keys() == {
        *("archive", "archive/2026-11", "archive/2026-11/statement-2026-11-24.csv", "outbox"),
    }


def test_demo(runner: Runner) -> None:
    outcome = runner("demo")

    assert outcome.exit_code == 0, outcome.output
    assert "changed=2" in outcome.stdout
    assert "ok=2  changed=0" in outcome.stdout
    assert "the host key of 127.0.0.1" in outcome.stdout
    assert "exit code 5, as it should be" in outcome.stdout
    assert outcome.stderr == ""


def test_every_example_has_a_test() -> None:
    tested = {
        "ci-housekeeping.yaml",
        "demo.yaml",
        "ci-publish.yaml",
        "ci-fetch.yaml",
        "seed-copy-from-engine.yaml",
        "seed-copy-to-engine.yaml",
        "newest-copy-to-engine.yaml",
        "release.yaml",
        "upload-with-marker.yaml",
        "wait-and-fetch.yaml",
    }

    assert {path.name for path in playbook_path("demo.yaml").parent.glob("*.yaml")} == tested
