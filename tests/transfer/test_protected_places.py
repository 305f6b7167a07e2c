"""The login directory, those above it, and a destination that was there: never emptied, and never given another mode."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, require_sshd, snapshot
from tests.servers import misbehaving
from tests.servers.accounts import ACCOUNT, can_make_accounts, with_account
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.openssh import OpenSSHServer
from tests.transfer.trees import picture

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path, remote: Path) -> Iterator[Endpoint]:
    """Both start in the folder `remote`, which so is the login directory."""
    if request.param == "sshd":
        require_sshd()
        with OpenSSHServer(tmp_path / "server", login_folder=remote) as sshd:
            yield sshd
        return
    with AsyncsshServer(tmp_path / "server", root=remote) as asyncssh_server:
        yield asyncssh_server


def tree(source: Path | str, destination: Path | str, *, is_upload: bool = True, **options: Any) -> dict[str, Any]:
    return {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
        **options,
    }


def mode_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_mtime_ns


def refuse(runner: Runner, server: Endpoint, mode: dict[str, Any], remote: Path) -> None:
    """Play, with --check and in earnest: refused whole, and nothing has changed."""
    before = picture(remote), set(os.listdir(remote.parent)) - {"play.yaml", "report.json"}
    for arguments in (["--check"], []):
        outcome = runner.play([{**connection(server), "mode": mode}], *arguments)
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "SafetyLimitHeld"), outcome.output
        assert "login directory" in outcome.step["error"]["message"]
        assert (picture(remote), set(os.listdir(remote.parent)) - {"play.yaml", "report.json"}) == before


def test_no_way_leads_delete_to_the_login_directory(runner: Runner, server: Endpoint, remote: Path) -> None:
    (remote / ".ssh").mkdir()
    (remote / ".ssh/authorized_keys").write_text("the only key")
    (remote / "site").mkdir()
    (remote / "to above").symlink_to("..")
    (remote / "site/back").symlink_to(remote)
    (runner.folder / "from").mkdir()
    (runner.folder / "from/page").write_text("x")

    above, name = remote.parent, remote.name
    for path in (
        str(remote),
        f"../{name}",
        f"site/../../{name}",
        "site/back",
        f"to above/{name}",
        str(above),
        "to above",
    ):
        refuse(runner, server, tree("from", path, delete=True, max_delete=1000), remote)
        if not (remote / path).is_symlink():
            refuse(runner, server, {"mode_name": "remove", "path": path, "recursive": True}, remote)
            refuse(runner, server, {"mode_name": "rename", "source_path": path, "destination_path": "new"}, remote)

    mode = tree("from", "site", delete=True)
    assert runner.play([{**connection(server), "mode": mode}]).exit_code == 0
    assert os.listdir(remote / "site") == ["page"]
    assert (remote / ".ssh/authorized_keys").read_text() == "the only key"


def test_the_login_directory_is_not_replaced_by_a_renamed_one(runner: Runner, server: Endpoint, remote: Path) -> None:
    """An empty one would be."""
    (remote.parent / "other").mkdir()

    mode = {
        "mode_name": "rename",
        "source_path": "../other",
        "destination_path": f"../{remote.name}",
        "overwrite": True,
    }
    refuse(runner, server, mode, remote)

    assert (remote.parent / "other").is_dir()


def test_a_link_leads_no_download_to_the_home_directory(
    runner: Runner, server: Endpoint, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made between the moment at which the playbook is checked and the copy."""
    home = runner.folder / "homes/me"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_ed25519").write_text("key")
    (remote / "page").write_text("x")
    monkeypatch.setenv("HOME", str(home))
    (runner.folder / "mirror").symlink_to(home)
    monkeypatch.setattr("runner.playbook.modes._refuse_surroundings", lambda *arguments: None, raising=False)

    for place in ("mirror", str(home.parent)):
        mode = tree(remote, place, is_upload=False, delete=True)
        outcome = runner.play([{**connection(server), "mode": mode}])
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "SafetyLimitHeld"), outcome.output
        assert snapshot(home) == {".ssh": None, ".ssh/id_ed25519": b"key"}


# Modes and times.


class Strict(OpenSSHServer):
    """sshd with StrictModes, for an account whose home and key are in a folder of the test's own."""

    def __init__(self, folder: Path, home: Path) -> None:
        lines = ("StrictModes yes", f"AuthorizedKeysFile {home}/.ssh/authorized_keys")
        super().__init__(folder, extra_config=lines)
        self.home = home
        self.username = ACCOUNT
        (home / ".ssh").mkdir(mode=0o700, parents=True)
        (home / ".ssh/authorized_keys").write_text(self.user_key.public_line + "\n")
        (home / ".ssh/authorized_keys").chmod(0o600)
        home.chmod(0o755)

    def _command(self, command: list[str]) -> list[str]:
        return with_account(command, self.home)


def test_who_copies_a_checkout_into_the_login_directory_can_log_in_again(runner: Runner, tmp_path: Path) -> None:
    """In CI everything is 0777 and 0666. sshd refuses a key below a directory that others may write to."""
    require_sshd()
    if not can_make_accounts():
        pytest.skip("only root can give sshd an account with a home of its own")
    checkout, home = runner.folder / "checkout", tmp_path / "home"
    (checkout / ".ssh").mkdir(parents=True)
    (checkout / "page").write_text("x")
    for path in (checkout, checkout / ".ssh", checkout / "page"):
        path.chmod(0o777)

    with Strict(tmp_path / "server", home) as server:
        for permissions in (None, "0666", None):
            options: dict[str, Any] = {} if permissions is None else {"permissions": permissions}
            outcome = runner.play([{**connection(server), "mode": tree("checkout", ".", **options)}])
            assert outcome.exit_code == 0, outcome.output
            assert stat.S_IMODE(home.stat().st_mode) == 0o755
            assert stat.S_IMODE((home / ".ssh").stat().st_mode) & 0o002 == 0
            # This one is part of what is copied: that it is open to its group is the playbook's doing.
            (home / ".ssh").chmod(0o700)
    assert (home / "page").read_text() == "x"


@both_ways
@pytest.mark.parametrize("permissions", [None, "0640"])
def test_a_destination_that_was_there_keeps_its_mode_and_time(
    runner: Runner, server: Endpoint, remote: Path, is_upload: bool, permissions: str | None
) -> None:
    """But for `permissions`, which are asked for. What is in it has the source's."""
    source, copy = (runner.folder / "from", remote / "copy") if is_upload else (remote / "from", runner.folder / "copy")
    for folder in (source / "below", copy / "below"):
        folder.mkdir(parents=True)
    (source / "below").chmod(0o751)
    os.utime(source / "below", (10**9, 10**9))
    source.chmod(0o711)
    copy.chmod(0o705)
    before = mode_and_time(copy)
    options: dict[str, Any] = {} if permissions is None else {"permissions": permissions}
    mode = tree(source, copy, is_upload=is_upload, **options)

    foretold = runner.play([{**connection(server), "mode": mode}], "--check")
    outcome = runner.play([{**connection(server), "mode": mode}], "-v")
    again = runner.play([{**connection(server), "mode": mode}])

    assert (outcome.exit_code, again.exit_code, again.statuses) == (0, 0, ["ok"]), outcome.output + again.output
    assert foretold.step["changes"] == outcome.step["changes"]
    assert mode_and_time(copy) == (before if permissions is None else (0o750, before[1]))
    assert mode_and_time(copy / "below") == (0o751 if permissions is None else 0o750, 10**18)


@pytest.mark.parametrize("permissions", [None, "0666"])
def test_no_mode_or_time_of_the_login_directory_or_above_is_changed(
    runner: Runner, tmp_path: Path, server: Endpoint, remote: Path, permissions: str | None
) -> None:
    """Not even where they are in the tree that is copied."""
    above, name = remote.parent, remote.name
    (runner.folder / "from" / name / "below").mkdir(parents=True)
    (runner.folder / "from" / name / "page").write_text("x")
    for path in (runner.folder / "from", *(runner.folder / "from").rglob("*")):
        path.chmod(0o777)
        os.utime(path, (10**9, 10**9))
    places = (above, remote)
    before = [mode_and_time(place)[0] for place in places]
    os.utime(remote, (10**8, 10**8))
    options: dict[str, Any] = {} if permissions is None else {"permissions": permissions}

    for destination in ("..", str(above)):
        mode = tree("from", destination, **options)
        outcome = runner.play([{**connection(server), "mode": mode}])
        assert outcome.exit_code == 0, outcome.output
        assert [mode_and_time(place)[0] for place in places] == before
        assert mode_and_time(remote)[1] != 10**18
    assert stat.S_IMODE((remote / "below").stat().st_mode) == 0o775
    assert mode_and_time(remote / "below")[1] == 10**18


@both_ways
def test_a_destination_of_an_earlier_attempt_gets_its_mode_and_time(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    source, copy = (runner.folder / "from", remote / "copy") if is_upload else (remote / "from", runner.folder / "copy")
    source.mkdir()
    for number in range(5):
        (source / f"{number}").write_text("x")
    source.chmod(0o750)
    os.utime(source, (10**9, 10**9))
    faulty: Any = partial(misbehaving.BrokenConnection, number=3) if is_upload else _BrokenRead
    factory = misbehaving.fail_first_sessions(1, faulty)

    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=factory) as server:
        one = {**connection(server), "mode": tree(source, copy, is_upload=is_upload), "retries": 1, "delay": 0.01}
        outcome = runner.play([one])

    assert (outcome.exit_code, outcome.step["attempts"]) == (0, 2), outcome.output
    assert mode_and_time(copy) == (0o750, 10**18)
    assert sorted(os.listdir(copy)) == ["0", "1", "2", "3", "4"]


class _BrokenRead(FileServer):
    """Cuts the connection at the first read."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        self.connection.abort()
        return b""


@both_ways
def test_a_new_destination_is_never_more_open_than_its_source(
    runner: Runner, tmp_path: Path, remote: Path, is_upload: bool
) -> None:
    """Also when the play dies before it has set the modes: nobody sets them later."""
    source, copy = (runner.folder / "from", remote / "copy") if is_upload else (remote / "from", runner.folder / "copy")
    source.mkdir()
    (source / "page").write_text("x")
    source.chmod(0o700)
    faulty: Any = partial(misbehaving.BrokenConnection, number=1) if is_upload else _BrokenRead

    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=faulty) as server:
        outcome = runner.play([{**connection(server), "mode": tree(source, copy, is_upload=is_upload)}])

    assert outcome.exit_code == 4, outcome.output
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


# A source that everybody may write to.


def warned(outcome: Outcome) -> list[str]:
    assert outcome.exit_code == 0, outcome.output
    return [warning for warning in outcome.step["result"]["warnings"] if "permissions:" in warning]


@both_ways
def test_a_source_that_is_open_throughout_is_warned_of_once(
    runner: Runner, server: Endpoint, remote: Path, is_upload: bool
) -> None:
    source, copy = (runner.folder / "from", remote / "copy") if is_upload else (remote / "from", runner.folder / "copy")
    (source / "below").mkdir(parents=True)
    for path in (source / "a", source / "below/b"):
        path.write_text("x")
        path.chmod(0o666)
    for path in (source, source / "below"):
        path.chmod(0o777)

    def play(**options: Any) -> Outcome:
        return runner.play([{**connection(server), "mode": tree(source, copy, is_upload=is_upload, **options)}])

    assert len(warned(play())) == 1
    assert warned(play(permissions="0644")) == []
    assert warned(play(preserve=["times"])) == []
    (source / "below/b").chmod(0o644)
    assert warned(play()) == []
    assert stat.S_IMODE((copy / "below").stat().st_mode) == 0o775
