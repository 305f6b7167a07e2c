"""`runner doctor`: what it finds out about real servers, that it changes nothing there, how it fails, and when it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.conftest import Outcome, Runner, connection, require_sshd, snapshot, upload
from tests.patience import BUSY_SECONDS, wait_for
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer, FileSession
from tests.servers.keys import generate_key_pair
from tests.servers.misbehaving import PlainRenameOnly, RefusedRename, RefusedSetstat
from tests.servers.mute import MuteServer, Stage, closed_port
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    HONEST_EXTENSIONS,
    PERMISSION_DENIED,
    Execute,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
    version,
)
from tests.ssh.certified import CertifiedServer, generate_authorities

ROOT = Path(__file__).resolve().parents[2]
STATVFS = (b"statvfs@openssh.com", b"2")


def doctor(runner: Runner, connections: dict[str, Any], *arguments: str, steps: Iterable[Any] = ()) -> Outcome:
    """A playbook whose steps go to every connection that has a host, unless they are given; and what the doctor says."""
    used = [name for name, inputs in connections.items() if "host" in inputs]
    given = list(steps) or [{"connection": name, "mode": upload("a", "b")} for name in used]
    (runner.folder / "play.yaml").write_text(json.dumps({"connections": connections, "steps": given}, indent=1))
    report_path = runner.folder / "doctor.json"
    report_path.unlink(missing_ok=True)
    outcome = runner("doctor", str(runner.folder / "play.yaml"), "--json", str(report_path), *arguments)
    report = json.loads(report_path.read_text()) if report_path.exists() else {}
    return Outcome(outcome.exit_code, outcome.stdout, outcome.stderr, report)


def facts(outcome: Outcome) -> dict[str, str]:
    """The lines about the first server that has been reached, by label."""
    lines = [line[2:] for line in outcome.stdout.splitlines() if line.startswith("  ")]
    return {line[:16].strip(): line[17:] for line in reversed(lines) if line[16:17] == " "}


def notes(outcome: Outcome) -> list[str]:
    """What is said to be weak, or lacking, of the first server."""
    return [note["message"] for note in outcome.report["connections"][0]["notes"]]


def at_known_hosts(server: Endpoint, path: Path, **inputs: Any) -> dict[str, Any]:
    """A connection whose key is known by a file."""
    path.write_text(f"# checked\n{server.known_hosts_line()}\n")
    return connection(server, hostkey={"hostkey_mode": "known_hosts_file", "known_hosts_file": str(path)}, **inputs)


# --- what is found out -----------------------------------------------------------------------------------------------


def test_a_server_with_everything(runner: Runner, sshd: OpenSSHServer) -> None:
    known_hosts = runner.folder / "known_hosts"

    outcome = doctor(runner, {"bank": at_known_hosts(sshd, known_hosts)})

    found = facts(outcome)
    assert outcome.exit_code == 0, outcome.output
    assert f"ok  bank  {sshd.host}:{sshd.port}  SFTP" in outcome.stdout
    assert found["address"].startswith(f"127.0.0.1:{sshd.port}, logged in after ")
    assert found["server"].startswith("SSH-2.0-OpenSSH_")
    assert found["host key"] == f"ssh-ed25519 {sshd.fingerprint()}, proven by ssh-ed25519"
    assert found["trusted by"] == f"{known_hosts}:2"
    assert found["key exchange"].endswith(", strict")
    assert found["cipher"] == "aes128-gcm@openssh.com"
    assert found["integrity"] == "by the cipher"
    assert found["compression"] == "none"
    assert found["login"] == f"{sshd.username} by publickey (ssh_key_file)"
    assert found["sftp"].startswith("version 3, answers in ")
    assert "posix-rename@openssh.com 1, statvfs@openssh.com 2" in found["extensions"]
    assert found["limits"].startswith("reads of 255.0 KiB, writes of 255.0 KiB, ")
    assert found["limits"].endswith("the runner reads 255.0 KiB and writes 255.0 KiB at a time")
    assert found["commands"] == "run by a POSIX shell"
    assert "sha256sum" in found["checksums"]
    assert notes(outcome) == []


def test_the_login_directory_and_the_room_there(runner: Runner, tmp_path: Path, remote: Path) -> None:
    require_sshd()
    with OpenSSHServer(tmp_path / "sshd", login_folder=remote) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    sftp = outcome.report["connections"][0]["sftp"]
    disk = os.statvfs(remote)
    assert facts(outcome)["login directory"] == str(remote)
    assert sftp["login_directory"] == str(remote)
    assert sftp["space"]["total_bytes"] == disk.f_blocks * disk.f_frsize
    assert abs(sftp["space"]["free_bytes"] - disk.f_bavail * disk.f_frsize) < 2**30
    assert " of " in facts(outcome)["free space"]


def test_a_pinned_key_is_told_with_its_place_in_the_playbook(runner: Runner, sshd: OpenSSHServer) -> None:
    pinned = {"hostkey_mode": "known_host", "known_host": ["ssh-ed25519 " + KEY, sshd.known_host_line()]}

    outcome = doctor(runner, {"bank": connection(sshd, hostkey=pinned)})

    lines = (runner.folder / "play.yaml").read_text().splitlines()
    number = next(i for i, line in enumerate(lines, start=1) if sshd.known_host_line() in line)
    assert facts(outcome)["trusted by"] == f"the playbook's hostkey, {runner.folder}/play.yaml:{number}:6"


KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIILe5Sj+eX9C1wOBNrq78dC7sHzcg2lZVclyZ+8uR42c"


def test_a_host_certificate(runner: Runner, tmp_path: Path) -> None:
    require_sshd()
    (tmp_path / "sshd").mkdir()
    with CertifiedServer(tmp_path / "sshd", "good", generate_authorities(tmp_path)) as server:
        file = tmp_path / "known_hosts"
        file.write_text(f"@cert-authority {server.host} {server.authority.public_line}\n")
        known = {"hostkey_mode": "known_hosts_file", "known_hosts_file": str(file)}
        outcome = doctor(runner, {"bank": connection(server, hostkey=known)})

    found = facts(outcome)
    assert outcome.exit_code == 0, outcome.output
    assert found["host key"].endswith("proven by ssh-ed25519-cert-v01@openssh.com")
    assert found["certificate"] == f"signed by ssh-ed25519 {server.authority.fingerprint}"
    assert found["trusted by"] == f"{file}:1"


def test_an_account_for_sftp_only(runner: Runner, tmp_path: Path) -> None:
    """That commands are not run is a fact, and no failure."""
    require_sshd()
    with OpenSSHServer(tmp_path / "sshd", extra_config=("ForceCommand internal-sftp",)) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    assert outcome.exit_code == 0, outcome.output
    assert facts(outcome)["commands"] == "answered by another program than a POSIX shell"
    assert "checksums" not in facts(outcome)
    assert "login directory" in facts(outcome)
    assert "computes no checksums" in notes(outcome)[0]
    assert "note: the server computes no checksums" in outcome.stdout


def test_an_account_for_scp(runner: Runner, sshd_without_sftp: OpenSSHServer) -> None:
    outcome = doctor(runner, {"bank": connection(sshd_without_sftp, connector_type="SCP")})

    found = facts(outcome)
    assert outcome.exit_code == 0, outcome.output
    assert "sftp" not in found
    assert (found["commands"], found["scp"]) == ("run by a POSIX shell", "answers")
    assert found["login directory"] == os.path.realpath(os.path.expanduser(f"~{sshd_without_sftp.username}"))
    assert found["free space"] == "unknown"
    assert notes(outcome) == []


def test_scp_without_a_shell(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = doctor(runner, {"bank": connection(asyncssh_server, connector_type="SCP")})

    assert outcome.exit_code == 0, outcome.output
    assert facts(outcome)["scp"] == "answers"
    assert facts(outcome)["commands"] == "a shell's are refused"
    assert "in place, not atomically" in notes(outcome)[0]


def test_a_program_that_is_not_scp(runner: Runner, tmp_path: Path) -> None:
    require_sshd()
    config = ("ForceCommand echo scp: command not found >&2; exit 127",)
    with OpenSSHServer(tmp_path / "sshd", extra_config=config) as server:
        outcome = doctor(runner, {"bank": connection(server, connector_type="SCP")})

    assert outcome.exit_code == 2
    assert outcome.report["connections"][0]["error"]["type"] == "ServerLacksFeature"
    assert facts(outcome)["scp"] == "does not answer"


def test_no_sftp_but_a_shell(runner: Runner, sshd_without_sftp: OpenSSHServer) -> None:
    """The failure is that of a play, and what helps is told all the same."""
    outcome = doctor(runner, {"bank": connection(sshd_without_sftp)})

    assert outcome.exit_code == 2
    assert "FAILED  bank" in outcome.stdout
    assert "has no sftp subsystem" in outcome.stdout
    assert "connector_type: SCP" in outcome.stdout
    assert facts(outcome)["commands"] == "run by a POSIX shell"


def test_a_server_of_few_extensions(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Sparse(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3)]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Sparse) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    found = facts(outcome)
    assert outcome.exit_code == 0, outcome.output
    assert found["extensions"] == "none"
    assert "posix-rename@openssh.com, limits@openssh.com, statvfs@openssh.com" in found["not offered"]
    assert found["limits"] == "not told; the runner reads 32.0 KiB and writes 32.0 KiB at a time"
    assert found["free space"] == "unknown"


# --- what is weak ----------------------------------------------------------------------------------------------------


def test_a_short_rsa_key_and_no_aes_gcm(runner: Runner, tmp_path: Path) -> None:
    require_sshd()
    config = ("Ciphers aes256-ctr", "MACs hmac-sha2-512")
    with OpenSSHServer(tmp_path / "sshd", host_key_types=("rsa",), extra_config=config) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    found = facts(outcome)
    assert outcome.exit_code == 0, outcome.output
    assert (found["cipher"], found["integrity"]) == ("aes256-ctr", "hmac-sha2-512")
    assert found["host key"] == f"ssh-rsa of 2048 bits {server.fingerprint()}, proven by rsa-sha2-512"
    assert ["RSA key of 2048 bits" in notes(outcome)[0], "no AES-GCM" in notes(outcome)[1]] == [True, True]
    assert "warning: the host key is an RSA key" in outcome.stdout


def test_a_password_and_a_fingerprint(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    login = {
        "authentication_method": "username_password",
        "username": asyncssh_server.username,
        "password": "correct horse",
    }
    hostkey = {"hostkey_mode": "fingerprint", "fingerprint": asyncssh_server.fingerprint()}

    outcome = doctor(runner, {"bank": connection(asyncssh_server, authentication=login, hostkey=hostkey)})

    assert outcome.exit_code == 0, outcome.output
    assert facts(outcome)["login"] == f"{asyncssh_server.username} by password (username_password)"
    assert "warning: the login is by password" in outcome.stdout
    assert f"known_host: {asyncssh_server.known_host_line()}" in outcome.stdout
    assert facts(outcome)["trusted by"].startswith(f"the playbook's hostkey, {runner.folder}/play.yaml:")


def test_a_known_hosts_file_that_everybody_may_write_to(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    path = runner.folder / "known_hosts"
    inputs = at_known_hosts(asyncssh_server, path)

    path.chmod(0o664)
    assert not any("may write" in note for note in notes(doctor(runner, {"bank": inputs})))
    path.chmod(0o666)
    assert notes(doctor(runner, {"bank": inputs}))[0] == f"everybody on this machine may write to {path}"


def test_a_refused_answer_is_no_failure(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Reticent(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3, *HONEST_EXTENSIONS, STATVFS)]

        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            return [status(request.id, PERMISSION_DENIED)]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Reticent) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    assert outcome.exit_code == 0, outcome.output
    found = facts(outcome)
    assert (found["login directory"], found["free space"]) == ("unknown", "unknown")
    assert found["limits"].startswith("not told")


def test_a_server_that_cannot_replace_files(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=PlainRenameOnly) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    assert outcome.exit_code == 0
    assert "cannot replace another one in one step" in notes(outcome)[0]


# --- nothing is changed ----------------------------------------------------------------------------------------------


def test_nothing_is_written_or_opened(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "a").write_text("here")
    before = snapshot(remote)
    asked: list[tuple[int, bytes]] = []

    class Listening(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3, *HONEST_EXTENSIONS, STATVFS)]

        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            asked.append((request.kind, request.name))
            return [execute()]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Listening) as server:
        outcome = doctor(runner, {"bank": connection(server)})
        requests = server.requests

    assert outcome.exit_code == 0, outcome.output
    assert asked == [
        (Kind.EXTENDED, b"limits@openssh.com"),
        (Kind.REALPATH, b""),
        (Kind.EXTENDED, b"statvfs@openssh.com"),
    ]
    assert requests == ["sftp", "echo runner-${runner_unset-$((40+2))}"]
    assert snapshot(remote) == before


def test_scp_is_only_asked_for_a_folder(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    (remote / "a").write_text("here")

    doctor(runner, {"bank": connection(asyncssh_server, connector_type="SCP")})

    assert asyncssh_server.requests == ["echo runner-${runner_unset-$((40+2))}", "scp -p -f ."]
    assert snapshot(remote) == {"a": b"here"}


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_wrong_host_key_is_refused_before_the_login(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    wrong = {"hostkey_mode": "known_host", "known_host": "ssh-ed25519 " + KEY}

    outcome = doctor(runner, {"bank": connection(asyncssh_server, hostkey=wrong)})

    assert outcome.exit_code == 5
    assert "FAILED  bank" in outcome.stdout
    assert "is not the expected one; no credential was sent" in outcome.stdout
    assert asyncssh_server.login_events == []
    assert outcome.report["connections"][0]["login"] is None


def test_a_refused_login(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    stranger = generate_key_pair(runner.folder / "stranger")
    login = {
        "authentication_method": "ssh_key_file",
        "username": asyncssh_server.username,
        "ssh_key_file": str(stranger.path),
    }

    outcome = doctor(runner, {"bank": connection(asyncssh_server, authentication=login)})

    assert outcome.exit_code == 4
    assert "UNREACHABLE  bank" in outcome.stdout
    assert outcome.report["connections"][0]["error"]["type"] == "AuthenticationRefused"


def test_a_failure_stops_no_other_and_several_kinds_give_2(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    wrong = {"hostkey_mode": "known_host", "known_host": "ssh-ed25519 " + KEY}
    connections = {
        "gone": connection(asyncssh_server, port=closed_port()),
        "wrong": connection(asyncssh_server, hostkey=wrong),
        "good": connection(asyncssh_server),
    }

    outcome = doctor(runner, connections)

    assert outcome.exit_code == outcome.report["exit_code"] == 2
    assert [one["status"] for one in outcome.report["connections"]] == ["unreachable", "failed", "ok"]
    assert doctor(runner, connections, "--limit", "gone,good").exit_code == 4


@pytest.mark.parametrize(
    ("stage", "awaited"),
    [
        ("tcp", "the TCP connection"),
        ("banner", "the server's SSH banner"),
        ("key_exchange", "the key exchange"),
        ("authentication", "the answer to the authentication request"),
        ("subsystem", "waited for the SFTP session"),
        ("sftp_init", "waited for the "),
    ],
)
def test_a_mute_server_is_left_within_connect_timeout(
    runner: Runner, tmp_path: Path, stage: Stage, awaited: str
) -> None:
    with MuteServer(stage, tmp_path / "server") as server:
        started = time.monotonic()
        outcome = doctor(runner, {"bank": connection(server, connect_timeout=1)})
        assert time.monotonic() - started < 1 + BUSY_SECONDS

    assert outcome.exit_code == 4, outcome.output
    assert "within connect_timeout" in outcome.stdout
    assert awaited in outcome.stdout
    assert ("host key" in facts(outcome)) == (stage in ("subsystem", "sftp_init"))


def withhold(*kinds: Kind) -> Callable[[], Script]:
    class Withholding(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3, *HONEST_EXTENSIONS, STATVFS)]

        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            is_withheld = request.kind in kinds and request.name != b"limits@openssh.com"
            return [] if is_withheld else [execute()]

    return Withholding


@pytest.mark.parametrize(
    ("kind", "awaited"), [(Kind.REALPATH, "the name of the login directory"), (Kind.EXTENDED, "the free space")]
)
def test_an_sftp_server_that_falls_silent(
    runner: Runner, tmp_path: Path, remote: Path, kind: Kind, awaited: str
) -> None:
    with RawSftpServer(tmp_path / "server", root=remote, make_script=withhold(kind)) as server:
        started = time.monotonic()
        outcome = doctor(runner, {"bank": connection(server, connect_timeout=1)})
        assert time.monotonic() - started < 1 + BUSY_SECONDS

    assert outcome.exit_code == 4
    assert f"did not answer within connect_timeout: waited for {awaited}" in outcome.stdout
    assert facts(outcome)["sftp"].startswith("version 3")


def test_a_command_that_is_never_answered(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Withholding(FileSession):
        def exec_requested(self, command: str) -> Any:
            return None  # to asyncssh: the answer comes later

    with AsyncsshServer(tmp_path / "server", root=remote) as server:
        server.session_class = Withholding
        started = time.monotonic()
        outcome = doctor(runner, {"bank": connection(server, connect_timeout=1)})
        assert time.monotonic() - started < 1 + BUSY_SECONDS

    assert outcome.exit_code == 4
    assert "waited for a command to" in outcome.stdout
    assert facts(outcome)["login directory"] == str(remote)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path: Path, runner: Runner, number: signal.Signals) -> None:
    with MuteServer("authentication", tmp_path / "server") as server:
        play = [{**connection(server, connect_timeout=60), "mode": upload("a", "b")}]
        (tmp_path / "play.yaml").write_text(json.dumps(play))
        command = [sys.executable, "-m", "runner", "doctor", str(tmp_path / "play.yaml"), "--json", "doctor.json"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        with process:
            wait_for(lambda: server.connection_count > 0)
            process.send_signal(number)
            output, _ = process.communicate(timeout=BUSY_SECONDS)

    assert process.returncode == 128 + number
    assert "interrupted in " in output
    assert json.loads((tmp_path / "doctor.json").read_text())["status"] == "interrupted"


# --- which connections -----------------------------------------------------------------------------------------------


def names(outcome: Outcome) -> list[tuple[list[str], str]]:
    return [(one["names"], one["connector_type"]) for one in outcome.report["connections"]]


def test_each_server_is_looked_at_once_in_the_order_of_the_file(
    runner: Runner, asyncssh_server: AsyncsshServer
) -> None:
    there = connection(asyncssh_server)
    connections = {
        "unused": {**there, "keepalive_interval": 1},
        "one": there,
        "two": there,
        "other": {**there, "keepalive_interval": 2},
        "empty": {"connect_timeout": 3},
    }
    steps = [
        {"connection": "other", "mode": upload("a", "b")},
        {"connection": "one", "mode": upload("a", "b")},
        {"connection": "two", "mode": upload("b", "c")},
        {"connection": "one", "connector_type": "SCP", "mode": upload("a", "b")},
        {**there, "keepalive_interval": 3, "mode": upload("a", "b")},
    ]

    outcome = doctor(runner, connections, steps=steps)

    assert outcome.exit_code == 0, outcome.output
    address = f"{asyncssh_server.host}:{asyncssh_server.port}"
    assert names(outcome) == [
        (["unused"], "SFTP"),
        (["one", "two"], "SFTP"),
        (["one"], "SCP"),
        (["other"], "SFTP"),
        ([address], "SFTP"),
    ]
    assert asyncssh_server.connection_count == 5
    assert "skipped  empty" in outcome.stdout
    assert "play.yaml:57:3: no step uses it, and it has no 'host' of its own" in outcome.stdout
    assert [one["name"] for one in outcome.report["left_out"]] == ["empty"]


def test_a_connection_that_takes_a_step_s_variables_is_left_out(
    runner: Runner, asyncssh_server: AsyncsshServer
) -> None:
    there = connection(asyncssh_server)
    connections = {"one": there, "by variable": {**there, "host": "{{ name }}"}}

    outcome = doctor(runner, connections, steps=[{"connection": "one", "mode": upload("a", "b")}])

    assert outcome.exit_code == 0, outcome.output
    assert [one["name"] for one in outcome.report["left_out"]] == ["by variable"]
    assert "'name'" in outcome.report["left_out"][0]["message"]

    outcome = doctor(
        runner,
        connections,
        "-e",
        f"name={asyncssh_server.host}",
        steps=[{"connection": "one", "mode": upload("a", "b")}],
    )
    assert names(outcome) == [(["one", "by variable"], "SFTP")]


def test_an_unused_connection_may_be_refused(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    """A password that is empty, say: only its own step would be invalid, and there is none."""
    there = connection(asyncssh_server)
    login = {"authentication_method": "username_password", "username": "u", "password": "{{ '' }}"}

    outcome = doctor(
        runner,
        {"one": there, "spare": {**there, "authentication": login}},
        steps=[{"connection": "one", "mode": upload("a", "b")}],
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.report["left_out"][0]["message"] == "the secret 'password' is empty"


def test_limit_must_name_a_connection(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = doctor(runner, {"one": connection(asyncssh_server)}, "--limit", "two")

    assert outcome.exit_code == 64
    assert "--limit two: there is no such connection" in outcome.stderr
    assert asyncssh_server.connection_count == 0


# --- output ----------------------------------------------------------------------------------------------------------


def test_an_invalid_playbook_contacts_nobody_and_is_reported(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = doctor(runner, {"one": {**connection(asyncssh_server), "prot": 1}})

    assert outcome.exit_code == outcome.report["exit_code"] == 3
    assert "unknown key 'prot'" in outcome.stderr
    assert outcome.report["error"]["problems"][0]["message"] == "unknown key 'prot'"
    assert asyncssh_server.connection_count == 0


def test_the_report_on_standard_output_is_alone_there(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    outcome = doctor(runner, {"one": connection(asyncssh_server)}, "--json", "-")

    assert json.loads(outcome.stdout)["connections"][0]["login"]["server_version"].startswith("SSH-2.0-AsyncSSH")
    assert "DOCTOR  play.yaml" in outcome.stderr


def test_quiet_prints_failures_only(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    good, gone = connection(asyncssh_server), connection(asyncssh_server, port=closed_port())

    assert doctor(runner, {"good": good}, "-q").output == ""
    outcome = doctor(runner, {"good": good, "gone": gone}, "-q")
    assert outcome.stdout.startswith("UNREACHABLE  gone")
    assert "good" not in outcome.stdout


def test_lines_of_known_hosts_that_were_skipped_are_told_by_v(runner: Runner, asyncssh_server: AsyncsshServer) -> None:
    path = runner.folder / "known_hosts"
    inputs = at_known_hosts(asyncssh_server, path)
    path.write_text(path.read_text() + "rubbish\n")

    assert "line skipped" not in doctor(runner, {"bank": inputs}).stdout
    assert f"warning: {path}:3: line skipped" in doctor(runner, {"bank": inputs}, "-v").stdout


def test_what_a_server_says_is_escaped_and_masked(runner: Runner, tmp_path: Path, remote: Path) -> None:
    secret = "correct horse battery"

    class Talkative(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3, (b"\x1b[2Jclear\n", b"1"), (secret.encode(), b"1"), (b"x", secret.encode()))]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Talkative) as server:
        login = {**connection(server)["authentication"], "password": secret}
        outcome = doctor(runner, {"bank": connection(server, authentication=login)}, "-vvv")

    assert outcome.exit_code == 0, outcome.output
    assert "\\x1b[2Jclear\\n 1, ******** 1" in outcome.stdout
    assert "\x1b" not in outcome.output
    assert secret not in outcome.output + json.dumps(outcome.report)
    assert "********" in outcome.report["connections"][0]["sftp"]["extensions"]


def test_a_server_that_says_very_much_is_cut_short(runner: Runner, tmp_path: Path, remote: Path) -> None:
    class Talkative(Script):
        def version(self) -> Iterable[bytes]:
            return [version(3, *((b"%05d" % number * 10, b"1") for number in range(3000)))]

    with RawSftpServer(tmp_path / "server", root=remote, make_script=Talkative) as server:
        outcome = doctor(runner, {"bank": connection(server)})

    assert outcome.exit_code == 0
    assert max(map(len, outcome.stdout.splitlines())) < 1200


def test_on_a_terminal_lines_fit(runner: Runner, sshd: OpenSSHServer) -> None:
    play = [{**connection(sshd), "mode": upload("a", "b")}]
    (runner.folder / "play.yaml").write_text(json.dumps(play))
    reader, writer = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "70", "TERM": "xterm", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "runner", "doctor", "play.yaml"]
    with subprocess.Popen(command, cwd=runner.folder, env=environment, stdout=writer) as process:
        os.close(writer)
        output = _read_all(reader)
        assert process.wait(10) == 0

    lines = output.decode().replace("\r\n", "\n").splitlines()
    assert max(len(line) for line in lines) <= 70
    assert any(line.startswith(" " * 19) and "@openssh.com" in line for line in lines)


def _read_all(descriptor: int) -> bytes:
    """Everything up to the end; on Linux that is an error."""
    output = b""
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        try:
            while data := stream.read(4096):
                output += data
        except OSError:
            pass
    return output


def test_the_doctor_takes_one_playbook(runner: Runner) -> None:
    assert runner("doctor").exit_code == 64
    assert runner("doctor", "a.yaml", "b.yaml").exit_code == 64
    assert runner("doctor", "missing.yaml").exit_code == 64
    assert runner("doctor", "missing.yaml", "-q", "-v").exit_code == 64


# What only a try can tell.


def probe(
    runner: Runner, server: Endpoint, folder: str, *arguments: str
) -> tuple[Outcome, dict[str, tuple[str, bool]]]:
    """What the doctor says of a directory that it may try things out in: each trial's outcome, and whether it went well."""
    outcome = doctor(runner, {"host": connection(server)}, "--probe", folder, *arguments)
    found = outcome.report["connections"][0]["probe"]
    return outcome, {one["name"]: (one["outcome"], one["ok"]) for one in found["trials"]} if found else {}


def test_a_probe_of_openssh_needs_no_lines_and_leaves_nothing(
    runner: Runner, sshd: OpenSSHServer, remote: Path
) -> None:
    outcome, trials = probe(runner, sshd, str(remote))

    assert outcome.exit_code == 0, outcome.output
    assert list(trials) == ["write", "replace", "hash", "list", "link", "rename", "remove"]
    assert all(is_well for _, is_well in trials.values()), trials
    assert trials["replace"] == ("in one step", True)
    assert outcome.report["connections"][0]["probe"]["lines"] == []
    assert facts(outcome)["lines to paste"] == "none are needed"
    assert snapshot(remote) == {}


class NamesNothingAnew(RefusedRename):
    """Neither renames, nor gives a second name."""

    def link(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")


@pytest.mark.parametrize(
    ("factory", "line", "options"),
    [
        (RefusedSetstat, "compare: size", {"compare": "size"}),
        (NamesNothingAnew, "atomic: false", {"atomic": False}),
    ],
)
def test_a_probe_names_the_lines_that_help(
    runner: Runner, tmp_path: Path, remote: Path, factory: Any, line: str, options: dict[str, Any]
) -> None:
    (runner.folder / "source").write_text("content")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome, trials = probe(runner, server, ".")
        assert trials["write"][1], trials
        assert line in outcome.report["connections"][0]["probe"]["lines"]
        assert line in facts(outcome)["lines to paste"]
        assert snapshot(remote) == {}
        assert runner.play([{**connection(server), "mode": upload("source", "a", **options)}]).exit_code == 0


@pytest.mark.parametrize("number", [1, 2])
def test_a_probe_of_a_directory_that_is_not_there_is_a_failure(
    runner: Runner, sshd: OpenSSHServer, asyncssh_server: AsyncsshServer, remote: Path, number: int
) -> None:
    """Of one server, or of the first of two: the other one is looked at all the same."""
    connections = {name: connection(server) for name, server in (("one", sshd), ("two", asyncssh_server))[:number]}
    outcome = doctor(runner, connections, "--probe", str(remote / "missing"))

    assert outcome.exit_code == outcome.report["exit_code"] == 2, outcome.output
    assert outcome.report["status"] == "failed"
    for found in outcome.report["connections"]:
        assert [(one["name"], one["ok"]) for one in found["probe"]["trials"]] == [("write", False)] * 4
        assert found["status"] == "failed"
        assert "does not exist" in found["error"]["message"]
        assert found["error"]["hint"]
        assert found["error"]["message"] in outcome.stdout
    assert snapshot(remote) == {}


class KeepsEverything(FileServer):
    """Files are not removed."""

    def remove(self, path: bytes) -> None:
        raise asyncssh.SFTPPermissionDenied("Permission denied")


class KeepsAndHidesEverything(KeepsEverything):
    """Nor are they listed."""

    def scandir(self, path: bytes) -> Any:
        raise asyncssh.SFTPPermissionDenied("Permission denied")


@pytest.mark.parametrize("factory", [KeepsEverything, KeepsAndHidesEverything])
def test_what_a_probe_must_leave_behind_is_a_failure_and_named(
    runner: Runner, tmp_path: Path, remote: Path, factory: Any
) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome = doctor(runner, {"host": connection(server)}, "--probe", ".")

    found = outcome.report["connections"][0]
    assert outcome.exit_code == 2, outcome.output
    names = {one["outcome"].partition(":")[0] for one in found["probe"]["trials"] if one["name"] == "left behind"}
    assert {f"./{name}" for name in snapshot(remote)} <= names != set()
    assert "could not be removed again" in found["error"]["message"]
    assert found["error"]["hint"] == "Remove it by other means."


class ReadsOthers(FileServer):
    """What is read is not what was written; a size is all that a play looks at by itself."""

    def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        read = super().read(file_obj, offset, size)
        assert isinstance(read, bytes)
        return b"x" * len(read)


def test_a_probe_that_reads_what_it_has_not_written_is_not_verified(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=ReadsOthers) as server:
        outcome, trials = probe(runner, server, ".")

    assert outcome.exit_code == 6, outcome.output
    assert [name for name, (_, is_well) in trials.items() if not is_well] == ["hash"]
    assert outcome.report["connections"][0]["error"]["type"] == "VerificationFailed"
    assert snapshot(remote) == {}


class EndsAtLinks(FileServer):
    """A link is answered by the end of the connection."""

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        self.channel.get_connection().abort()


def test_a_probe_that_is_cut_off_says_what_may_be_left(runner: Runner, tmp_path: Path, remote: Path) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=EndsAtLinks) as server:
        outcome, trials = probe(runner, server, ".")

    assert (outcome.exit_code, trials) == (4, {}), outcome.output
    (left,) = snapshot(remote)
    assert f"What may be left: '{left}', " in outcome.report["connections"][0]["error"]["message"].replace("./", "")


class NoLinks(FileServer):
    """Links are not made."""

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("Unsupported")


@pytest.mark.parametrize("factory", [NoLinks, RefusedSetstat, PlainRenameOnly])
def test_what_a_server_merely_lacks_is_no_failure_of_a_probe(
    runner: Runner, tmp_path: Path, remote: Path, factory: Any
) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        outcome, _ = probe(runner, server, ".")

    assert outcome.exit_code == 0, outcome.output
    assert outcome.report["connections"][0]["error"] is None
    assert snapshot(remote) == {}


def test_what_is_held_to_be_true_of_a_server_is_told_with_the_reason(
    runner: Runner, sshd: OpenSSHServer, asyncssh_server: AsyncsshServer
) -> None:
    outcome = doctor(runner, {"one": connection(sshd), "two": connection(asyncssh_server)})

    one, two = (
        {trait["about"]: (trait["value"], trait["reason"]) for trait in found["sftp"]["traits"]}
        for found in outcome.report["connections"]
    )
    assert one["requests"][0] == "carried out in order"
    assert "OpenSSH_" in one["requests"][1]
    assert two["requests"][0] == "may be mixed up: each waits"
    assert facts(outcome)["requests"].startswith("carried out in order (the banner")
