"""read_file: the result holds what the file holds, whole; what is too large, no text, or not there is an error."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, connection, snapshot
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.raw_sftp import Execute, Kind, RawSftpServer, Request, Script, packet, string
from tests.transfer.operations import Operation

MIB = 1024 * 1024


def test_text_comes_as_it_stands(play: Operation) -> None:
    for text in ('{"files": []}\n', "", "Bücher\r\n\ufeff", "{{ x }} {% y %}\n", "a\0b\x1b[31m"):
        (play.remote / "manifest").write_bytes(text.encode())
        before = snapshot(play.remote)
        for arguments in ([], ["--check"]):
            status, result = play.well("read_file", *arguments, source_file_name="manifest")
            assert status == "ok"
            assert result == {
                "source": "manifest",
                "content": text,
                "encoding": "utf-8",
                "size_bytes": len(text.encode()),
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "warnings": [],
            }
        assert snapshot(play.remote) == before


def test_bytes_come_as_base64(play: Operation) -> None:
    data = os.urandom(700_000)
    (play.remote / "a").write_bytes(data)

    result = play.well("read_file", source_file_name="a", encoding="base64")[1]

    assert base64.b64decode(result["content"]) == data
    assert (result["encoding"], result["size_bytes"]) == ("base64", len(data))
    play.failed("FileRefused", "no UTF-8 text: byte", "'encoding: base64'", name="read_file", source_file_name="a")


def test_a_file_that_is_too_large_is_an_error_that_says_how_large(play: Operation) -> None:
    (play.remote / "a").write_bytes(b"x" * (MIB + 1))
    (play.remote / "b").write_bytes(b"x" * MIB)

    play.failed("FileRefused", "1,048,577 bytes", "max_bytes", name="read_file", source_file_name="a")
    assert len(play.well("read_file", source_file_name="b")[1]["content"]) == MIB
    assert play.well("read_file", source_file_name="a", max_bytes=MIB + 1)[1]["size_bytes"] == MIB + 1
    play.failed("FileRefused", "(10)", name="read_file", source_file_name="b", max_bytes=10)


def test_links_are_followed_and_what_is_no_file_is_an_error(play: Operation) -> None:
    (play.remote / "a").write_text("text")
    (play.remote / "link").symlink_to("a")
    (play.remote / "folder").mkdir()
    (play.remote / "dangling").symlink_to("nowhere")

    assert play.well("read_file", source_file_name="link")[1]["content"] == "text"
    play.failed("NotARegularFile", "is a directory", name="read_file", source_file_name="folder")
    for missing in ("nowhere", "dangling", "no/where"):
        play.failed("SourceMissing", "does not exist", name="read_file", source_file_name=missing)


def test_what_a_server_gave_drives_no_console(play: Operation) -> None:
    (play.remote / "a").write_text("\x1b[2J\n::error::\n##vso[x]\n")

    outcome = play("read_file", "-vvv", "--diff", source_file_name="a")

    assert outcome.exit_code == 0
    assert "\x1b" not in outcome.output
    assert "::error" not in outcome.output and "##vso" not in outcome.output
    written = (play.runner.folder / "report.json").read_text()
    assert "\x1b" not in written


@pytest.mark.parametrize("encoding", ["utf-8", "base64"])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_a_secret_in_it_is_masked_in_the_report(
    play: Operation, monkeypatch: pytest.MonkeyPatch, encoding: str, before: str
) -> None:
    """In base64 too, wherever in it the secret begins."""
    monkeypatch.setenv("TOKEN", "correct-horse-battery")
    (play.remote / "a").write_text(f"{before}correct-horse-battery\n")
    login = {**connection(play.server)["authentication"], "passphrase": "{{ lookup('env', 'TOKEN') }}"}
    step = {
        **connection(play.server),
        "authentication": login,
        "mode": {"mode_name": "read_file", "source_file_name": "a", "encoding": encoding},
    }
    outcome = play.runner.play([step], "-vvv")

    assert outcome.exit_code == 0, outcome.output
    content = outcome.step["result"]["content"]
    assert "********" in content
    assert "correct-horse" not in outcome.output + str(outcome.report)
    assert base64.b64encode(b"correct-horse-battery")[4:-4].decode() not in content


@pytest.mark.parametrize("kind", ["sshd_without_sftp", "asyncssh_server"])
def test_over_scp(runner: Runner, remote: Path, request: pytest.FixtureRequest, kind: str) -> None:
    server = request.getfixturevalue(kind)
    (remote / "a").write_text("text\n")
    mode: dict[str, Any] = {"mode_name": "read_file", "source_file_name": str(remote / "a")}
    for arguments in ([], ["--check"]):
        outcome = runner.play([{**connection(server), "connector_type": "SCP", "mode": mode}], *arguments)
        assert (outcome.exit_code, outcome.step["result"]["content"]) == (0, "text\n"), outcome.output
    for options, error in (({"max_bytes": 4}, "FileRefused"), ({"source_file_name": "no"}, "SourceMissing")):
        step = {**connection(server), "connector_type": "SCP", "mode": {**mode, **options}}
        outcome = runner.play([step])
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, error), outcome.output


# --- servers -----------------------------------------------------------------------------------------------------------


def test_a_file_that_changes_while_it_is_read_is_no_result(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "a").write_bytes(b"x" * 600_000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.GrowingSource) as server:
        outcome = Operation(runner, server, remote)("read_file", source_file_name="a")

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "SourceChanged"), outcome.output
    assert outcome.step["result"] == {}


def test_a_server_that_ends_early_is_found_out(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "a").write_bytes(b"x" * 600_000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.EarlyEnd) as server:
        outcome = Operation(runner, server, remote)("read_file", source_file_name="a")

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "VerificationFailed"), outcome.output


def test_a_server_that_tells_nothing_beforehand_is_read_all_the_same(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    (remote / "a").write_text("text")
    (remote / "b").write_bytes(b"x" * 5000)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedStat) as server:
        play = Operation(runner, server, remote)
        assert play.well("read_file", source_file_name="a")[1]["content"] == "text"
        outcome = play("read_file", source_file_name="b", max_bytes=4000)

    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "FileRefused")
    assert "more than that" in outcome.step["error"]["message"]


class _Endless(Script):
    """Says that the file has four bytes, and has data for every read."""

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        if request.kind == Kind.READ:
            return [packet(103, request.id, string(b"x" * 4096))]
        return [execute()]


def test_a_server_without_an_end_is_bounded(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "a").write_text("text")
    with RawSftpServer(tmp_path / "server", root=remote, make_script=_Endless) as server:
        outcome = Operation(runner, server, remote)("read_file", source_file_name="a", max_bytes=100_000)

    assert outcome.exit_code != 0
    assert outcome.step["result"] == {}
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({}, "missing key 'source_file_name'"),
        ({"source_file_name": "a/"}, "names a directory"),
        ({"source_file_name": "~/a"}, "'~' is not expanded"),
        ({"source_file_name": "a", "max_bytes": -1}, "'max_bytes' must be at least 0"),
        ({"source_file_name": "a", "encoding": "latin-1"}, "'encoding' must be utf-8 or base64"),
        ({"source_file_name": "a", "path": "b"}, "unknown key 'path'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_contacted(
    runner: Runner, remote: Path, asyncssh_server: AsyncsshServer, mode: dict[str, Any], words: str
) -> None:
    outcome = runner.play([{**connection(asyncssh_server), "mode": {"mode_name": "read_file", **mode}}])

    assert outcome.exit_code == 3, outcome.output
    assert words in outcome.stderr
    assert outcome.report["steps"] == []
