"""`play -v` prints what each server was taken for, once for a connection, in the words of `runner doctor`."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, connection, download, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.misbehaving import OtherTimes, RefusedSetstat
from tests.servers.openssh import OpenSSHServer

LABELS = [
    "requests",
    "several handles",
    "links",
    "told links",
    "renamed links",
    "private files",
    "permissions",
    "times",
    "posix-rename",
    "hard links",
]


def blocks(output: str) -> list[tuple[str, dict[str, str]]]:
    """What was printed of servers: the line above, and the facts below it by label."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in output.splitlines():
        if line.startswith("server "):
            found.append((line, {}))
        elif (
            found
            and (fact := re.fullmatch(r" {13}(\w.{15}) (.+)", line))
            and fact[1].strip() in [*LABELS, "open files"]
        ):
            found[-1][1][fact[1].strip()] = fact[2]
    return found


def doctor_facts(runner: Runner, server: Endpoint) -> dict[str, str]:
    """What the doctor prints of it."""
    (runner.folder / "doctor.yaml").write_text(
        json.dumps({"steps": [{**connection(server), "mode": upload("a", "b")}]})
    )
    lines = runner("doctor", str(runner.folder / "doctor.yaml")).stdout.splitlines()
    return {line[2:18].strip(): line[19:] for line in lines if line[2:18].strip() in LABELS}


def test_a_server_is_described_once_as_the_doctor_does(
    runner: Runner, sshd: OpenSSHServer, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    (runner.folder / "file").write_text("content")
    modes = [upload("file", remote / name) for name in ("a", "b")]
    steps = [step(server, mode) for server in (sshd, asyncssh_server) for mode in modes]

    outcome = runner.play(steps, "-v")

    assert outcome.exit_code == 0, outcome.output
    found = blocks(outcome.stdout)
    assert [head for head, _ in found] == [
        f"server       {server.host}:{server.port} [{server.host}:{server.port}]  {version}"
        for server, version in zip((sshd, asyncssh_server), (head.split("  ")[-1] for head, _ in found), strict=True)
    ]
    assert "OpenSSH_" in found[0][0]
    for (_, facts), server in zip(found, (sshd, asyncssh_server), strict=True):
        assert facts == doctor_facts(runner, server)
        assert list(facts) == LABELS
    assert found[0][1]["requests"].startswith("carried out in order (the banner ")
    assert "server  " not in runner.play(steps).stdout
    # It is for people: the report has no such key.
    assert "traits" not in json.dumps(outcome.report)


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_step_that_fails_leaves_what_is_known(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, arguments: tuple[str, ...]
) -> None:
    (runner.folder / "file").write_text("content")
    (remote / "a").mkdir()

    outcome = runner.play([step(asyncssh_server, upload("file", remote / "a"))], "-v", *arguments)

    assert outcome.exit_code == 2, outcome.output
    assert len(blocks(outcome.stdout)) == 1


def test_what_was_seen_is_in_it_and_a_second_connection_repeats_nothing(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    """The first connection ends with its failed step, the second one has seen the same, and the third one more."""
    (runner.folder / "file").write_text("content")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=RefusedSetstat) as server:
        steps: list[dict[str, Any]] = [
            step(server, download(remote / "missing", "here"), ignore_errors=True),
            step(server, download(remote / "missing", "here"), ignore_errors=True),
            step(server, upload("file", remote / "b", compare="size")),
        ]
        outcome = runner.play(steps, "-v")

    assert outcome.exit_code == 0, outcome.output
    first, last = blocks(outcome.stdout)
    assert server.connection_count == 3
    assert first[1]["permissions"] == "set by handle"
    assert last[1]["permissions"].startswith("set by nothing ("), last


def test_a_reason_is_printed_with_what_was_seen(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (runner.folder / "file").write_text("content")
    with AsyncsshServer(
        tmp_path / "server", root=remote, sftp_factory=partial(OtherTimes, change=lambda time: time + 3600)
    ) as server:
        outcome = runner.play([step(server, upload("file", remote / "b", compare="size"))], "-v")

    ((_, facts),) = blocks(outcome.stdout)
    assert facts["times"].startswith("others than asked for ("), facts


def test_over_scp_there_is_nothing_to_say(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    (runner.folder / "file").write_text("content")

    outcome = runner.play([step(sshd, upload("file", remote / "b"), connector_type="SCP")], "-v")

    assert outcome.exit_code == 0, outcome.output
    assert blocks(outcome.stdout) == []
