"""What may be wrong with a tree's disk, its times and its server ends as an error that says so, and never as a bug."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepError
from runner.results import moment
from tests.cli.processes import ROOT, RUNNER, SECONDS, write_playbook
from tests.conftest import Outcome, Runner, download, snapshot, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.disk import NotAvailable, small_filesystem
from tests.servers.hostile_scp import HostileScp, header, say
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    Execute,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
)

# The first second of the year 10000, and one far beyond.
YEAR_10000 = 253_402_300_800
FAR_BEYOND = 10**12

Ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])


def tree(source: Path | str, destination: Path | str, *, is_upload: bool, **options: Any) -> dict[str, Any]:
    name = "copy_directory_from_engine" if is_upload else "copy_directory_to_engine"
    return {
        "mode_name": name,
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
        **options,
    }


def assert_no_bug(outcome: Outcome) -> None:
    assert outcome.exit_code != 1, outcome.output
    assert "Traceback" not in outcome.output
    assert "bug" not in outcome.output


class TestADiskThatIsFullHere:
    @pytest.fixture
    def source(self, remote: Path) -> Path:
        """A tree with a file that does not fit; what is under way beside it may meet the full disk as well."""
        (remote / "sub").mkdir()
        (remote / "small").write_bytes(b"small")
        (remote / "sub" / "large").write_bytes(os.urandom(2_500_000))
        (remote / "sub" / "other").write_bytes(b"other")
        return remote

    @pytest.mark.parametrize("options", [{}, {"atomic": False}, {"verify": "checksum"}], ids=str)
    def test_it_is_told_of_that_file_and_nothing_is_there_in_part(
        self, runner: Runner, sshd: OpenSSHServer, source: Path, options: dict[str, Any]
    ) -> None:
        try:
            with small_filesystem(1_000_000) as disk:
                outcome = runner.play([step(sshd, tree(source, disk / "copy", is_upload=False, **options))])
                left = snapshot(disk / "copy")
        except NotAvailable as error:
            pytest.skip(str(error))

        assert_no_bug(outcome)
        assert outcome.exit_code == 2
        message = outcome.step["error"]["message"]
        assert "sub/large" in message
        assert "No space left on device" in message
        assert "Make room" in outcome.step["error"]["hint"]
        whole = snapshot(source)
        assert "sub/large" not in left
        assert left == {path: whole[path] for path in left}

    def test_it_is_a_full_disk_in_the_type_of_the_file_s_error(
        self, runner: Runner, sshd: OpenSSHServer, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runner.transfer.tree.tally import Tally

        told: list[str] = []
        fail = Tally.fail

        def note(self: Tally, path: str, error: StepError) -> None:
            told.append(type(error).__name__)
            fail(self, path, error)

        monkeypatch.setattr(Tally, "fail", note)
        try:
            with small_filesystem(1_000_000) as disk:
                runner.play([step(sshd, tree(source, disk / "copy", is_upload=False))])
        except NotAvailable as error:
            pytest.skip(str(error))

        assert set(told) == {"DiskFull"}

    def test_a_limit_on_the_size_of_files_is_told_like_it(
        self, runner: Runner, sshd: OpenSSHServer, source: Path
    ) -> None:
        """`ulimit -f`: what an ordinary user can set."""
        playbook = write_playbook(runner.folder, [step(sshd, tree(source, "copy", is_upload=False))])

        done = subprocess.run(
            [*RUNNER, "play", str(playbook)],
            cwd=ROOT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr == ""
        assert "sub/large: cannot write" in done.stdout
        assert "File too large" in done.stdout
        assert "ulimit -f" in done.stdout
        assert snapshot(runner.folder / "copy") == {"small": b"small", "sub": None, "sub/other": b"other"}

    def test_where_files_are_read_back_to_it_only_the_comparison_is_lost(
        self, runner: Runner, asyncssh_server: AsyncsshServer, remote: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server has no shell, so that its checksum is worked out here, from a temporary file."""
        content = os.urandom(2_500_000)
        (remote / "a").write_bytes(content)
        here = runner.folder / "here"
        here.mkdir()
        (here / "a").write_bytes(content)
        try:
            with small_filesystem(1_000_000) as disk:
                monkeypatch.setattr(tempfile, "tempdir", str(disk))
                mode = tree(".", here, is_upload=False, compare="checksum")
                outcome = runner.play([step(asyncssh_server, mode)])
                left = snapshot(disk)
        except NotAvailable as error:
            pytest.skip(str(error))

        assert_no_bug(outcome)
        assert outcome.exit_code == 0, outcome.output
        assert snapshot(here) == {"a": content}
        assert left == {}


@pytest.fixture
def far_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that holds any time; ext4 ends in 2446."""
    candidates: Iterable[str] = (str(tmp_path), "/dev/shm", "/run/shm")
    for place in candidates:
        if not os.access(place, os.W_OK):
            continue
        with tempfile.TemporaryDirectory(dir=place) as name:
            probe = Path(name, "probe")
            probe.touch()
            os.utime(probe, (YEAR_10000, YEAR_10000))
            if probe.stat().st_mtime == YEAR_10000:
                probe.unlink()
                yield Path(name)
                return
    pytest.skip("no disk here holds a time after the year 9999")


class TestADateThatNoCalendarHas:
    @Ways
    @pytest.mark.parametrize("arguments", [("--check", "--diff"), ("-v",)], ids=["check", "play"])
    @pytest.mark.parametrize("is_tree", [True, False], ids=["tree", "file"])
    def test_a_local_file_from_beyond_the_year_9999(
        self,
        runner: Runner,
        sshd: OpenSSHServer,
        remote: Path,
        far_folder: Path,
        is_upload: bool,
        arguments: tuple[str, ...],
        is_tree: bool,
    ) -> None:
        (far_folder / "a").write_text("12345" if is_upload else "old")
        (remote / "a").write_text("old" if is_upload else "12345")
        # Of the same size on both sides, so that it is the time by which they differ.
        (far_folder / "b").write_text("bbb")
        (remote / "b").write_text("BBB")
        for name in ("a", "b", "."):
            os.utime(far_folder / name, (YEAR_10000, YEAR_10000))
        source, target = (far_folder, remote) if is_upload else (remote, far_folder)
        make = upload if is_upload else download
        mode = tree(source, target, is_upload=is_upload) if is_tree else make(source / "b", target / "b")

        outcome = runner.play([step(sshd, mode)], *arguments)

        assert_no_bug(outcome)
        assert outcome.exit_code == 0, outcome.output
        why = [one["why"] for one in outcome.step["changes"] if one["path"].endswith("b")]
        assert f"{YEAR_10000:,} s after 1970" in why[0]
        if "-v" in arguments:
            assert (target / "b").read_bytes() == (source / "b").read_bytes()

    def test_a_server_that_tells_such_a_time(self, runner: Runner, tmp_path: Path) -> None:
        """SCP's times have as many digits as one likes."""
        local = runner.folder / "local"
        local.mkdir()
        (local / "a").write_text("older")
        far = header(5, time=FAR_BEYOND - 1)
        acts = [say(far), say(far + b"newer\0"), say(far)]
        with HostileScp(tmp_path / "server", acts) as server:
            mode = download("a", "local/a")
            outcome = runner.play([step(server, mode, connector_type="SCP")], "-v")

        assert_no_bug(outcome)
        assert outcome.exit_code == 0, outcome.output
        assert snapshot(local) == {"a": b"newer"}

    @pytest.mark.parametrize("seconds", [YEAR_10000, FAR_BEYOND, 2**63 - 1, -(2**63), -(10**12)])
    def test_what_is_not_on_the_calendar_is_not_told(self, seconds: int) -> None:
        assert moment(seconds) is None

    def test_what_is_on_it_is(self) -> None:
        last = moment(YEAR_10000 - 1)
        assert last is not None
        assert last.isoformat() == "9999-12-31T23:59:59+00:00"


def no_looks(code: int) -> type[Script]:
    """A server that says of no path what is there."""

    class NoLooks(Script):
        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            if request.kind in (Kind.STAT, Kind.LSTAT):
                return [status(request.id, code, b"nobody looks here")]
            return [execute()]

    return NoLooks


class TestAServerThatLetsNobodyLook:
    @Ways
    @pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["play", "check"])
    @pytest.mark.parametrize("code", [PERMISSION_DENIED, OP_UNSUPPORTED], ids=["denied", "unsupported"])
    @pytest.mark.parametrize("create_parents", [True, False], ids=["made", "not_made"])
    def test_a_tree_s_root_is_refused_with_the_way_out(
        self,
        runner: Runner,
        tmp_path: Path,
        remote: Path,
        is_upload: bool,
        arguments: tuple[str, ...],
        code: int,
        create_parents: bool,
    ) -> None:
        local = runner.folder / "local"
        for folder in (local, remote / "tree"):
            folder.mkdir()
            (folder / "a").write_text("older")
        before = snapshot(local), snapshot(remote)
        source, target = ("local", "tree") if is_upload else ("tree", "local")
        with RawSftpServer(tmp_path / "server", root=remote, make_script=no_looks(code)) as server:
            mode = tree(source, target, is_upload=is_upload, create_parents=create_parents)
            outcome = runner.play([step(server, mode)], *arguments)

        assert_no_bug(outcome)
        if not is_upload or (create_parents and not arguments):
            # Its entries tell: it is listed all the same.
            assert outcome.exit_code == 0, outcome.output
            is_same = snapshot(remote / "tree") == snapshot(local)
            assert is_same or arguments
            return
        assert outcome.exit_code == 2
        error = outcome.step["error"]
        assert error["type"] == "PermissionRefused"
        assert "does not tell what is at 'tree': nobody looks here" in error["message"]
        assert ("copy_file_from_engine" if is_upload else "copy_file_to_engine") in error["hint"]
        assert (snapshot(local), snapshot(remote)) == before
