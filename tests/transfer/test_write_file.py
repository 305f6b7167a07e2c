"""write_file: what a step says is what is there, whole; a second play is ok; nothing else is left, whatever goes wrong."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from runner.playbook.vault import encrypt
from tests.conftest import Runner, connection, snapshot
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.openssh import OpenSSHServer
from tests.transfer.operations import Operation
from tests.transfer.trees import picture

TEXT = "version: 1.4\nname: Bücher\n"


def writing(content: str, path: str = "VERSION", **options: Any) -> dict[str, Any]:
    return {"content": content, "destination_file_name": path, **options}


def foretold(play: Operation, *, again: str = "ok", **fields: Any) -> dict[str, Any]:
    """Play with --check, in earnest, and again: status for status as it must be. The result of the second."""
    before = picture(play.remote)
    said = play.well("write_file", "--check", **fields)
    assert picture(play.remote) == before
    done = play.well("write_file", **fields)
    assert said[0] == done[0] == "changed"
    assert (said[1]["size_bytes"], bool(said[1]["backup"])) == (done[1]["size_bytes"], bool(done[1]["backup"]))
    after = picture(play.remote)
    assert play.well("write_file", **fields)[0] == again
    if again == "ok":
        assert picture(play.remote) == after
    return done[1]


def test_text_is_written_as_it_stands_and_a_second_play_is_ok(play: Operation) -> None:
    result = foretold(play, **writing(TEXT, "releases/1.4/VERSION"))

    assert snapshot(play.remote) == {"releases": None, "releases/1.4": None, "releases/1.4/VERSION": TEXT.encode()}
    assert "source" not in result
    assert (result["destination"], result["size_bytes"]) == ("releases/1.4/VERSION", len(TEXT.encode()))
    done = play.well("write_file", **writing("other", "releases/1.4/VERSION"))[1]
    assert (done["verified"], done["atomic"], done["bytes_transferred"]) == ("size", True, 5)


def test_no_line_end_is_added_and_nothing_is_a_file_too(play: Operation) -> None:
    for content in ("no end", "", "\n", "a\0b", "\ufeffbom\r\n"):
        assert play.well("write_file", **writing(content))[0] == "changed"
        assert (play.remote / "VERSION").read_bytes() == content.encode()
        assert play.well("write_file", **writing(content))[0] == "ok"


def test_templates_are_filled_in_and_what_they_give_is_not_filled_in_again(play: Operation) -> None:
    step = {
        **connection(play.server),
        "vars": {"version": "1.4", "braces": "{{ '{{' }} x }}"},
        "mode": {
            "mode_name": "write_file",
            "content": "{{ version }} {{ braces }}\n",
            "destination_file_name": "{{ version }}",
        },
    }
    assert play.runner.play([step]).exit_code == 0
    assert (play.remote / "1.4").read_text() == "1.4 {{ x }}\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{{ version }}\n", "1.4\n"),
        ("\n  {{ version }}  \n\n", "\n  1.4  \n\n"),
        ("{{ version -}}\n", "1.4"),
        ("{{ count }}", "5"),
        ("{{ count }}\n", "5\n"),
        ("{{ version }}{{ count }}\n", "1.45\n"),
        ("{{ names | tojson }}\n", '["a", "b"]\n'),
        ("{% for name in names %}{{ name }}\n{% endfor %}", "a\nb\n"),
    ],
)
def test_white_space_around_a_template_stays(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, content: str, expected: str
) -> None:
    """And a number is text here."""
    mode = {"mode_name": "write_file", "content": content, "destination_file_name": "a"}
    variables = {"version": "1.4", "count": 5, "names": ["a", "b"]}

    outcome = runner.play([{**connection(asyncssh_server), "vars": variables, "mode": mode}])

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "a").read_bytes().decode() == expected


def test_content_alone_is_compared(play: Operation) -> None:
    """Whatever the time is; and a file of the same size is read."""
    path = play.remote / "VERSION"
    path.write_text("1.4")
    os.utime(path, (1_000_000_000, 1_000_000_000))

    assert play.well("write_file", **writing("1.4"))[0] == "ok"
    assert path.stat().st_mtime == 1_000_000_000
    assert play.well("write_file", **writing("1.5"))[0] == "changed"
    assert path.read_text() == "1.5"
    assert play.well("write_file", **writing("1.6", compare="size"))[0] == "ok"
    assert path.read_text() == "1.5"


def test_always_writes_anew(play: Operation) -> None:
    path = play.remote / "report.done"
    path.write_text("")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = path.stat().st_ino

    assert play.well("write_file", **writing("", "report.done", compare="always"))[0] == "changed"
    assert path.stat().st_mtime > 1_000_000_000
    assert path.stat().st_ino != before


def test_what_is_there_and_is_large_or_of_another_kind(play: Operation) -> None:
    (play.remote / "VERSION").write_bytes(b"x" * 3_000_000)
    (play.remote / "folder").mkdir()
    (play.remote / "link").symlink_to("VERSION")

    assert play.well("write_file", **writing("1.4"))[0] == "changed"
    # As with every copy, the link is replaced and not followed, unless it leads to what is right already.
    play.well("write_file", **writing("other", "link"))
    assert (play.remote / "VERSION").read_text() == "1.4"
    play.failed("DestinationIsDirectory", "NAME", name="write_file", **writing("1.4", "folder"))
    assert (play.remote / "folder").is_dir()


def test_permissions(play: Operation) -> None:
    path = play.remote / "VERSION"
    old = os.umask(0o022)
    try:
        foretold(play, **writing("1.4", permissions="0600"))
        assert path.stat().st_mode & 0o777 == 0o600
        foretold(play, **writing("1.4", permissions="0640"))
        assert path.stat().st_mode & 0o777 == 0o640
        # One that is replaced keeps its own, unless the step says otherwise.
        assert play.well("write_file", **writing("1.5"))[0] == "changed"
        assert path.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


def test_the_options_of_a_copy(play: Operation) -> None:
    (play.remote / "VERSION").write_text("1.3")

    foretold(play, **writing("1.4", backup=True, durable=True, verify="checksum"))
    kept = [path.read_text() for path in play.remote.iterdir() if path.name != "VERSION"]
    assert kept == ["1.3"]
    assert play.well("write_file", **writing("1.5", if_exists="skip"))[0] == "skipped"
    play.failed("DestinationExists", "if_exists", name="write_file", **writing("1.5", if_exists="fail"))
    play.failed("FileRefused", "create_parents", name="write_file", **writing("x", "new/VERSION", create_parents=False))
    assert (play.remote / "VERSION").read_text() == "1.4"
    play.well("write_file", **writing("1.6", atomic=False))
    assert (play.remote / "VERSION").read_text() == "1.6"
    play.well("write_file", **writing("1.7", temporary_name="{name}.filepart"))
    assert (play.remote / "VERSION").read_text() == "1.7"


def test_the_difference_is_shown(play: Operation) -> None:
    (play.remote / "VERSION").write_text("one\ntwo\n")

    for arguments in (["--check", "--diff"], ["--diff"]):
        outcome = play("write_file", *arguments, content="one\nthree\n", destination_file_name="VERSION")
        assert outcome.exit_code == 0, outcome.output
        assert "-two" in outcome.stdout and "+three" in outcome.stdout
        assert outcome.step["changes"][0] == {
            "action": "replace",
            "path": "VERSION",
            "why": "size 8 → 10",
            "size_bytes": 10,
        }
    outcome = play("write_file", "--diff", content="new\n", destination_file_name="NEW")
    assert "+new" in outcome.stdout


def test_a_secret_in_it_is_never_shown(play: Operation, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, over several lines, and in what was there before."""
    monkeypatch.setenv("TOKEN", "first-secret-line\nsecond-secret-line")
    step = {
        **connection(play.server),
        "authentication": {
            "authentication_method": "ssh_key_file",
            "username": play.server.username,
            "ssh_key_file": str(play.server.user_key_path),
            "passphrase": "{{ lookup('env', 'TOKEN') }}",
        },
        "mode": {
            "mode_name": "write_file",
            "content": "token: {{ lookup('env', 'TOKEN') }}\n",
            "destination_file_name": "config",
        },
    }
    (play.remote / "config").write_text("old: second-secret-line\n")

    for arguments in (["--check", "--diff", "-vvv"], ["--diff", "-v"]):
        outcome = play.runner.play([step], *arguments)
        assert outcome.exit_code == 0, outcome.output
        assert "+token: ********" in outcome.stdout
        assert "secret-line" not in outcome.output + str(outcome.report)
    assert (play.remote / "config").read_text() == "token: first-secret-line\nsecond-secret-line\n"


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({"destination_file_name": "a"}, "missing key 'content'"),
        ({"content": "x"}, "missing key 'destination_file_name'"),
        ({"content": 5, "destination_file_name": "a"}, "'content' must be a string"),
        ({"content": "x", "destination_file_name": "a/"}, "names a directory"),
        ({"content": "x", "destination_file_name": "~/a"}, "'~' is not expanded"),
        ({"content": "x", "destination_file_name": "a", "compare": "size_mtime"}, "'compare' must be checksum or size"),
        ({"content": "x", "destination_file_name": "a", "preserve": []}, "unknown key 'preserve'"),
        ({"content": "x", "destination_file_name": "a", "backup": True, "atomic": False}, "cannot be kept with"),
        ({"content": "\ud800", "destination_file_name": "a"}, "without its other half"),
        ({"content": "{{ ['a'] }}\n", "destination_file_name": "a"}, "'content' must be a string, not a list"),
        ({"content": "{{ 'x' * 3000000 }}", "destination_file_name": "a"}, ""),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_contacted(
    runner: Runner, sshd: OpenSSHServer, mode: dict[str, Any], words: str
) -> None:
    outcome = runner.play([{**connection(sshd), "mode": {"mode_name": "write_file", **mode}}])

    assert outcome.exit_code == 3, outcome.output
    assert words in outcome.stderr
    assert outcome.report["steps"] == []


# --- servers -----------------------------------------------------------------------------------------------------------


def test_without_posix_rename_there_are_two_steps_and_a_warning(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "VERSION").write_text("1.3")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.PlainRenameOnly) as server:
        status, result = Operation(runner, server, remote).well("write_file", **writing("1.4"))

    assert (status, result["atomic"]) == ("changed", False)
    assert "two steps" in " ".join(result["warnings"])
    assert snapshot(remote) == {"VERSION": b"1.4"}


@pytest.mark.parametrize("kind", ["sshd_without_sftp", "asyncssh_server"])
def test_over_scp(runner: Runner, remote: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """With a shell in one step, without one in place; the result says which."""
    server = request.getfixturevalue(kind)
    path = remote / "VERSION"
    path.write_text("1.3")
    step = {
        **connection(server),
        "connector_type": "SCP",
        "mode": {"mode_name": "write_file", "content": "1.4", "destination_file_name": str(path)},
    }
    for arguments, status, now in ((["--check"], "changed", "1.3"), ([], "changed", "1.4"), ([], "ok", "1.4")):
        outcome = runner.play([step], *arguments)
        assert (outcome.exit_code, outcome.statuses) == (0, [status]), outcome.output
        assert snapshot(remote) == {"VERSION": now.encode()}


def test_a_server_that_lets_nobody_read_is_written_to(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "VERSION").write_text("1.4")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.RefusedStat) as server:
        status, _ = Operation(runner, server, remote).well("write_file", **writing("1.4", verify="size"))

    assert status == "changed"
    assert snapshot(remote) == {"VERSION": b"1.4"}


def test_a_failure_leaves_what_was_there(runner: Runner, tmp_path: Path, remote: Path) -> None:
    (remote / "VERSION").write_text("1.3")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=misbehaving.FullDisk) as server:
        outcome = Operation(runner, server, remote)("write_file", **writing("1.4"))

    assert outcome.exit_code == 2, outcome.output
    assert snapshot(remote) == {"VERSION": b"1.3"}


@pytest.mark.parametrize("is_refused", [False, True])
def test_where_there_is_no_memory_to_hold_it_in(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """On other systems than Linux, or where a filter forbids it, it is held in a file that has no name."""
    temporary = runner.folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if is_refused:

        def refuse(*_: object) -> int:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)

    assert Operation(runner, asyncssh_server, remote).well("write_file", **writing(TEXT))[0] == "changed"

    assert snapshot(remote) == {"VERSION": TEXT.encode()}
    assert os.listdir(temporary) == []


def test_what_a_vault_holds_is_written_and_never_shown(
    runner: Runner, asyncssh_server: AsyncsshServer, remote: Path
) -> None:
    password, secret = runner.folder / "password", "db_password: horse-battery-staple\n"
    password.write_text("open sesame")
    encrypted = "".join(f"        {line}\n" for line in encrypt(secret.encode(), b"open sesame").splitlines())
    playbook = "- name: Write secrets\n"
    playbook += "".join(f"  {key}: {json.dumps(value)}\n" for key, value in connection(asyncssh_server).items())
    playbook += "  mode:\n    mode_name: write_file\n    destination_file_name: secrets.yaml\n    permissions: '0600'\n"
    playbook += f"    content: !vault |\n{encrypted}"

    outcome = runner.play(playbook, "--vault-password-file", str(password), "--diff", "-v")

    assert outcome.exit_code == 0, outcome.output
    assert (remote / "secrets.yaml").read_text() == secret
    assert (remote / "secrets.yaml").stat().st_mode & 0o777 == 0o600
    assert "horse-battery" not in outcome.output + str(outcome.report)
