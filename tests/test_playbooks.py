"""Every example in playbooks/ is played, twice, as it stands."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.resources import playbook_path
from tests.conftest import Outcome, Runner, connection, snapshot
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.forwarding import ForwardingServer

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


LANGUAGE_PLAYBOOKS = (
    *("publish-release.yaml", "keep-newest-releases.yaml", "fetch-newest.yaml", "fetch-and-archive.yaml"),
    *(
        "fetch-manifest.yaml",
        "guarded-upload.yaml",
        "daily-payments.yaml",
        "check-payments.yaml",
        "wait-for-receipt.yaml",
        "fetch-matching.yaml",
    ),
    *("fetch-logs.yaml", "host-logs.yaml", "mirror-site.yaml"),
)


def write_files(folder: Path, **files: str) -> None:
    for number, (name, text) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def play_example(runner: Runner, name: str, *arguments: str) -> Outcome:
    report = runner.folder / "report.json"
    outcome = runner("play", str(playbook_path(name)), "--json", str(report), *arguments)
    return Outcome(outcome.exit_code, outcome.stdout, outcome.stderr, json.loads(report.read_text()))


@pytest.mark.usefixtures("bank")
class TestTheLanguage:
    def test_publish_release(self, runner: Runner, remote: Path) -> None:
        write_files(runner.folder / "data/dist", **{"index.html": "new", "css/a.css": "a"})
        (remote / "releases/1.0.0").mkdir(parents=True)
        (remote / "current").symlink_to("releases/1.0.0")

        first = play_example(runner, "publish-release.yaml", "-e", "version=1.1.0")
        again = play_example(runner, "publish-release.yaml", "-e", "version=1.1.0")
        wrong = runner("play", str(playbook_path("publish-release.yaml")), "-e", "version=latest")

        assert (first.exit_code, first.statuses) == (0, ["changed"] * 3), first.output
        assert (again.exit_code, again.statuses) == (0, ["ok"] * 3), again.output
        assert os.readlink(remote / "current") == "releases/1.1.0"
        assert snapshot(remote / "current") == {
            "VERSION": b"1.1.0\n",
            "index.html": b"new",
            "css": None,
            "css/a.css": b"a",
        }
        assert wrong.exit_code == 3

    def test_keep_newest_releases(self, runner: Runner, remote: Path) -> None:
        for number in range(5):
            (remote / f"releases/{number}/files").mkdir(parents=True)
            os.utime(remote / f"releases/{number}", (1_700_000_000 + number,) * 2)

        checked = play_example(runner, "keep-newest-releases.yaml", "-e", "keep=2", "--check")
        assert len(list((remote / "releases").iterdir())) == 5
        played = play_example(runner, "keep-newest-releases.yaml", "-e", "keep=2")
        none = play_example(runner, "keep-newest-releases.yaml", "-e", "keep=0")

        assert checked.statuses == played.statuses == ["ok", "ok", "changed", "changed", "changed"]
        assert sorted(path.name for path in (remote / "releases").iterdir()) == ["3", "4"]
        assert none.exit_code == 2
        assert "at least one release stays" in none.stdout

    def test_fetch_newest(self, runner: Runner, remote: Path) -> None:
        missing = play_example(runner, "fetch-newest.yaml")
        (remote / "outbox").mkdir()
        empty = play_example(runner, "fetch-newest.yaml")
        write_files(remote / "outbox", **{"statement-9.csv": "old", "statement-10.csv": "new", "z.txt": "other"})
        found = play_example(runner, "fetch-newest.yaml")

        assert (missing.exit_code, empty.exit_code) == (2, 2)
        assert empty.step["error"]["type"] == "ConditionFailed"
        assert found.exit_code == 0, found.output
        assert snapshot(runner.folder / "data") == {"statement.csv": b"new"}

    def test_fetch_and_archive(self, runner: Runner, remote: Path) -> None:
        write_files(remote / "outbox", **{"report-1.csv": "1", "report-2.csv": "2", "other.csv": "x"})
        (remote / "archive").mkdir()
        (runner.folder / "data/reports/report-2.csv").mkdir(parents=True)

        failed = play_example(runner, "fetch-and-archive.yaml")
        assert failed.exit_code == 2
        assert sorted(snapshot(remote)) == sorted(
            ["archive", "archive/report-1.csv", "outbox", "outbox/other.csv", "outbox/report-2.csv"]
        )
        (runner.folder / "data/reports/report-2.csv").rmdir()
        again = play_example(runner, "fetch-and-archive.yaml")

        assert again.exit_code == 0, again.output
        assert snapshot(runner.folder / "data/reports") == {"report-1.csv": b"1", "report-2.csv": b"2"}
        assert sorted(os.listdir(remote / "outbox")) == ["other.csv"]

    def test_fetch_manifest(self, runner: Runner, remote: Path) -> None:
        files = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b")}
        manifest = {"files": [{"name": name, "sha256": sha256} for name, sha256 in files.items()]}
        write_files(remote / "outbox", **{"a": "a", "b": "b", "manifest.json": json.dumps(manifest)})

        first = play_example(runner, "fetch-manifest.yaml")
        again = play_example(runner, "fetch-manifest.yaml")
        (remote / "outbox/b").write_text("other")
        wrong = play_example(runner, "fetch-manifest.yaml")

        assert (first.exit_code, first.statuses) == (0, ["ok", "changed", "changed", "ok", "ok"]), first.output
        assert (again.exit_code, again.statuses) == (0, ["ok", "ok", "ok", "skipped", "skipped"]), again.output
        assert (wrong.exit_code, wrong.statuses) == (2, ["ok", "ok", "changed", "skipped", "failed"])
        assert "the manifest says another checksum" in wrong.stdout

    def test_guarded_upload(self, runner: Runner, remote: Path) -> None:
        (remote / "inbox").mkdir()
        failed = play_example(runner, "guarded-upload.yaml")
        assert failed.exit_code == 2
        assert sorted(os.listdir(remote / "inbox")) == ["ALERT"]
        assert "does not exist on this machine" in (remote / "inbox/ALERT").read_text()
        write_files(runner.folder / "data", **{"out/payments.xml": "payments"})
        (remote / "inbox/.lock").write_text("somebody else's")
        locked = play_example(runner, "guarded-upload.yaml")
        assert locked.exit_code == 2
        assert (remote / "inbox/.lock").read_text() == "somebody else's"
        assert not (remote / "inbox/payments.xml").exists()
        (remote / "inbox/.lock").unlink()
        done = play_example(runner, "guarded-upload.yaml")

        assert (done.exit_code, done.statuses) == (0, ["changed"] * 3), done.output
        assert (remote / "inbox/payments.xml").read_text() == "payments"
        assert not (remote / "inbox/.lock").exists()

    def test_daily_payments(self, runner: Runner, remote: Path) -> None:
        yesterday = (datetime.now().astimezone() - timedelta(days=1)).strftime("%Y%m%d")
        write_files(runner.folder / "data", **{f"out/payments-{yesterday}.xml": "payments"})

        outcome = play_example(runner, "daily-payments.yaml", "-e", "force=true")
        wrong = runner("play", str(playbook_path("daily-payments.yaml")), "-e", "stage=prod")

        assert outcome.exit_code == 0, outcome.output
        assert snapshot(remote) == {"test": None, f"test/payments-{yesterday}.xml": b"payments"}
        assert outcome.report["steps"][-1]["message"].endswith(": changed")
        assert (wrong.exit_code, "must be one of test, live" in wrong.stderr) == (3, True)

    def test_check_payments(self, runner: Runner) -> None:
        playbook = runner.folder / "other.yaml"
        path = playbook_path("check-payments.yaml")
        playbook.write_text(json.dumps([{"include_steps": str(path), "vars": {"file": "a.csv"}}]))

        outcome = runner("play", str(playbook))

        assert outcome.exit_code == 2
        assert "a.csv is none" in outcome.stdout

    def test_wait_for_receipt(self, runner: Runner, remote: Path) -> None:
        write_files(runner.folder / "data", **{"out/order.json": "{}"})
        write_files(remote / "outbox", **{"receipt.json": '{"accepted": true}'})
        accepted = play_example(runner, "wait-for-receipt.yaml")
        (remote / "outbox/receipt.json").write_text('{"accepted": false}')
        refused = play_example(runner, "wait-for-receipt.yaml")

        assert (accepted.exit_code, accepted.statuses) == (0, ["changed", "ok", "ok", "ok"]), accepted.output
        assert refused.exit_code == 2
        assert "the partner has refused the order" in refused.stdout

    def test_fetch_matching(self, runner: Runner, remote: Path) -> None:
        (remote / "outbox").mkdir()
        none = play_example(runner, "fetch-matching.yaml")
        write_files(remote / "outbox", **{"statement-1.csv": "1", "statement-2.csv": "2", "x.txt": "x"})
        found = play_example(runner, "fetch-matching.yaml")
        again = play_example(runner, "fetch-matching.yaml")

        assert (none.exit_code, none.step["error"]["type"]) == (2, "ConditionFailed"), none.output
        assert (found.exit_code, found.statuses) == (0, ["changed", "ok"]), found.output
        assert snapshot(runner.folder / "data/statements") == {"statement-1.csv": b"1", "statement-2.csv": b"2"}
        assert again.report["steps"][1]["message"] == "0 of 2 statements are new"


def test_fetch_logs(runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer keeps nothing from the other."""
    write_files(remote / "log", **{"access.log": "access", "other.txt": "x"})
    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        set_environment(
            monkeypatch,
            DATA_DIR=runner.folder / "data",
            WEB_USER=server.username,
            WEB_KEY=server.user_key_text,
            WEB1_HOST=server.host,
            WEB1_PORT=1,
            WEB1_HOSTKEY=server.known_host_line(),
            WEB2_HOST=server.host,
            WEB2_PORT=server.port,
            WEB2_HOSTKEY=server.known_host_line(),
        )
        outcome = play_example(runner, "fetch-logs.yaml")

    assert outcome.exit_code == 4, outcome.output
    assert outcome.statuses == ["unreachable", "changed", "ok"]
    assert [step["name"] for step in outcome.report["steps"][:2]] == [
        f"Fetch the logs of {name}" for name in ("web1", "web2")
    ]
    assert outcome.report["steps"][2]["message"] == "1 of 2 hosts"
    assert snapshot(runner.folder / "data/logs") == {"web2": None, "web2/access.log": b"access"}


def test_mirror_site(runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, htdocs = runner.folder / "data/site", remote / "htdocs"
    write_files(site, **{"index.html": "new", "css/a.css": "a", "notes.tmp": "x"})
    write_files(htdocs, **{"index.html": "old site", "gone.html": "gone"})
    with (
        ForwardingServer(tmp_path / "bastion") as bastion,
        AsyncsshServer(tmp_path / "server", root=remote) as server,
    ):
        set_environment(monkeypatch, DATA_DIR=runner.folder / "data")
        for name, one in (("BASTION", bastion), ("WEB", server)):
            monkeypatch.setenv(f"{name}_HOST", one.host)
            monkeypatch.setenv(f"{name}_PORT", str(one.port))
            monkeypatch.setenv(f"{name}_USER", one.username)
            monkeypatch.setenv(f"{name}_KEY", one.user_key_text)
            monkeypatch.setenv(f"{name}_HOSTKEY", one.known_host_line())
        first, second = play_example(runner, "mirror-site.yaml"), play_example(runner, "mirror-site.yaml")
        mirrored = snapshot(htdocs)
        write_files(htdocs, **{f"many/{number}": "x" for number in range(30)})
        guarded = play_example(runner, "mirror-site.yaml")
        whole = snapshot(htdocs)
        for path in ("index.html", "css/a.css", "notes.tmp"):
            (site / path).unlink()
        (site / "css").rmdir()
        empty = play_example(runner, "mirror-site.yaml")

    assert (first.exit_code, first.statuses) == (0, ["changed"]), first.output
    assert (second.exit_code, second.statuses) == (0, ["ok"]), second.output
    assert mirrored == {"index.html": b"new", "css": None, "css/a.css": b"a"}
    assert (guarded.exit_code, empty.exit_code) == (6, 6), guarded.output + empty.output
    assert snapshot(htdocs) == whole


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
        *LANGUAGE_PLAYBOOKS,
    }

    assert {path.name for path in playbook_path("demo.yaml").parent.glob("*.yaml")} == tested
