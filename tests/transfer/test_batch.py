"""Many files at once: each arrives whole, verified and under its final name, or not at all; one failure is one file's."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.cancellation import Cancellation
from runner.errors import ConnectionLost, Interrupted, TreeIncomplete
from runner.execution.sessions import Sessions
from runner.plan import CopyDirectoryFromEngine, CopyDirectoryToEngine, CopyFile, CopyFileFromEngine, KnownHosts, Step
from runner.problems import Location
from runner.remote_files import RemoteFiles
from runner.transfer.batch import (
    BatchSettings,
    Downloads,
    OnOutcome,
    Outcome,
    Pending,
    Uploads,
    running_batch,
)
from runner.transfer.changes import MAX_DIFF_BYTES, read_remote
from runner.transfer.context import CopyContext
from runner.transfer.local_files import look_at, permissions_by_umask
from runner.transfer.local_folders import LocalFolders, open_folder
from runner.transfer.tree.tree import copy_tree
from tests.conftest import snapshot
from tests.patience import BUSY_SECONDS
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint as Server
from tests.servers.openssh import OpenSSHServer
from tests.ssh.endpoints import make_endpoint

WHEN = 1_500_000_000


@contextmanager
def files_of(server: Server, folder: Path, cancellation: Cancellation | None = None) -> Iterator[CopyContext]:
    """The files of a server, as a step gets them."""
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(server.known_hosts_line() + "\n")
    cancellation = cancellation or Cancellation()
    endpoint = make_endpoint(server, KnownHosts((str(known_hosts),)))
    mode = CopyFileFromEngine("", "")
    step = Step(1, "batch", "host", "SFTP", endpoint, mode, 10, 10, Location("play.yaml", 1, 1))
    sessions = Sessions(cancellation, lambda step, connection: None)
    try:
        remote: RemoteFiles = sessions.open(step)
        yield CopyContext(remote, str(endpoint), False, lambda done, total: None, cancellation)
    finally:
        sessions.close()


def upload_many(files: Iterable[Pending], options: CopyFile, context: CopyContext, on_outcome: OnOutcome) -> None:
    """Upload all `files` as `options` say, as a tree does."""
    uploads = Uploads(BatchSettings(options, context, on_outcome, None), context.remote)
    with running_batch(context) as batch:
        for file in files:
            uploads.begin(file, batch)
        while batch.wait() or uploads.settle(batch):
            pass


def download_many(files: Iterable[Pending], options: CopyFile, context: CopyContext, on_outcome: OnOutcome) -> None:
    """Download all `files`, as a tree does."""
    folders = LocalFolders(lambda path: open_folder(path, path, create_parents=options.create_parents))
    downloads = Downloads(BatchSettings(options, context, on_outcome, permissions_by_umask()), context.remote, folders)
    try:
        with running_batch(context) as batch:
            for file in files:
                downloads.begin(file, batch)
            while batch.wait() or downloads.settle(batch):
                pass
    finally:
        folders.close()


def test_of_a_file_that_is_larger_than_was_said_no_more_is_kept_than_a_difference_needs(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote/large").write_bytes(os.urandom(3_000_000))
    with AsyncsshServer(tmp_path / "server", root=tmp_path / "remote") as server, files_of(server, tmp_path) as context:
        content = read_remote(context.remote, "large")

    assert content == (tmp_path / "remote/large").read_bytes()[: MAX_DIFF_BYTES + 1]


def make_files(folder: Path, count: int, largest: int = 20_000, seed: int = 1) -> None:
    """Files of many sizes, an empty one among them, with modes and times that are not the usual ones."""
    chance = random.Random(seed)
    for number in range(count):
        path = folder / f"{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(0 if number == 3 else chance.randint(1, largest)))
        path.chmod(chance.choice([0o600, 0o644, 0o755]))
        os.utime(path, (WHEN + number, WHEN + number))


def attributes(folder: Path) -> dict[str, tuple[int, float]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode & 0o777, path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


def pending(source: Path, destination: str | Path) -> list[Pending]:
    """Everything below `source`, on its way to `destination`."""
    return [
        Pending(str(path), f"{destination}/{name}", found, look_at(f"{destination}/{name}"))
        for path in sorted(source.rglob("*"))
        if (found := look_at(str(path))) is not None and found.is_regular
        for name in [path.relative_to(source)]
    ]


def run_many(
    is_upload: bool,
    files: list[Pending],
    context: CopyContext,
    options: CopyFile | None = None,
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    copy_many = upload_many if is_upload else download_many
    copy_many(files, options or CopyFile("", ""), context, outcomes.append)
    return outcomes


def make_folders(source: Path, destination: Path) -> None:
    for path in source.rglob("*"):
        if path.is_dir():
            (destination / path.relative_to(source)).mkdir(parents=True, exist_ok=True)


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


@pytest.mark.parametrize("is_upload", [True, False])
def test_all_arrive_with_modes_and_times_and_nothing_else(server: Server, tmp_path: Path, is_upload: bool) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 400)
    # More than one request each, and one that is larger than everything that may be under way.
    (source / "0/large").write_bytes(random.Random(2).randbytes(9_000_000))
    (source / "1/middle").write_bytes(random.Random(3).randbytes(700_000))
    make_folders(source, destination)
    with files_of(server, tmp_path) as context:
        outcomes = run_many(is_upload, pending(source, destination), context)

    assert [outcome.error for outcome in outcomes] == [None] * 402
    assert {outcome.verified for outcome in outcomes} == {"size"}
    assert (
        sum(outcome.size_bytes for outcome in outcomes)
        == sum(p.stat().st_size for p in source.rglob("file*")) + 9_700_000
    )
    assert snapshot(destination) == snapshot(source)
    left = attributes(source)
    assert {name: (mode, int(when)) for name, (mode, when) in attributes(destination).items()} == {
        name: (mode, int(when)) for name, (mode, when) in left.items()
    }


@pytest.mark.parametrize("is_upload", [True, False])
def test_files_are_replaced(server: Server, tmp_path: Path, is_upload: bool) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 50)
    make_files(destination, 50, seed=2)
    with files_of(server, tmp_path) as context:
        outcomes = run_many(is_upload, pending(source, destination), context)

    assert {outcome.error for outcome in outcomes} == {None}
    assert snapshot(destination) == snapshot(source)


def test_what_fails_for_one_file_is_told_and_the_rest_goes_on(server: Server, tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 60)
    make_folders(source, destination)
    (destination / "2").rmdir()
    (destination / "3/file 10").mkdir()
    files = pending(source, destination)
    (source / "0/file 0").unlink()
    with files_of(server, tmp_path) as context:
        outcomes = run_many(True, files, context)

    failed = {outcome.file.source_path[len(str(source)) + 1 :]: outcome.error for outcome in outcomes if outcome.error}
    in_missing_folder = {f"2/file {number}" for number in range(2, 60, 7)}
    assert failed.keys() == in_missing_folder | {"0/file 0", "3/file 10"}
    assert "does not exist on this machine" in str(failed["0/file 0"])
    assert "no such file or folder" in str(failed["2/file 9"])
    assert "refused to rename" in str(failed["3/file 10"])
    expected = {k: v for k, v in snapshot(source).items() if k not in failed and k != "2"}
    assert snapshot(destination) == {**expected, "3/file 10": None}


def test_a_source_on_the_server_that_vanishes_is_one_failure(server: Server, tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 30)
    files = pending(source, destination)
    (source / "0/file 0").unlink()
    (source / "1/file 1").write_bytes(b"longer" * 10_000)
    (source / "2/file 2").write_bytes(b"")
    with files_of(server, tmp_path) as context:
        outcomes = run_many(False, files, context)

    failed = {Path(outcome.file.source_path).name: str(outcome.error) for outcome in outcomes if outcome.error}
    assert failed.keys() == {"file 0", "file 1", "file 2"}
    assert "cannot read" in failed["file 0"]
    assert "written to while it was copied" in failed["file 1"]
    assert "written to while it was copied" in failed["file 2"]
    names = {"0/file 0", "1/file 1", "2/file 2"}
    assert snapshot(destination) == {k: v for k, v in snapshot(source).items() if k not in names}


@contextmanager
def faulty(tmp_path: Path, factory: Any) -> Iterator[Server]:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        yield server


def run_faulty(
    tmp_path: Path, factory: Any, *, is_upload: bool = True, is_new: bool = True, options: CopyFile | None = None
) -> tuple[list[Outcome], Path, Path]:
    """Ten files against a server with a fault."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 10)
    make_folders(source, destination)
    if not is_new:
        make_files(destination, 10, seed=2)
    with faulty(tmp_path, factory) as server, files_of(server, tmp_path) as context:
        outcomes = run_many(is_upload, pending(source, destination), context, options)
    return outcomes, source, destination


def test_a_refused_write_fails_its_file_only(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(tmp_path, partial(misbehaving.FailingWrite, number=4))

    (failed,) = [outcome for outcome in outcomes if outcome.error]
    assert "cannot write to" in str(failed.error)
    name = os.path.relpath(failed.file.source_path, source)
    assert snapshot(destination) == {k: v for k, v in snapshot(source).items() if k != name}


@pytest.mark.parametrize("factory", [misbehaving.FailingClose, partial(misbehaving.DroppedWrites, capacity=10)])
@pytest.mark.parametrize("is_new", [True, False])
def test_what_the_server_did_not_keep_is_not_published(tmp_path: Path, factory: Any, is_new: bool) -> None:
    make_files(tmp_path / "old", 10, seed=2)
    outcomes, source, destination = run_faulty(tmp_path, factory, is_new=is_new)

    # Only the empty file comes through.
    assert [Path(o.file.source_path).name for o in outcomes if not o.error] == ["file 3"]
    old = snapshot(tmp_path / "old") if not is_new else {k: v for k, v in snapshot(source).items() if v is None}
    assert snapshot(destination) == {**old, "3/file 3": b""}


def test_refused_attributes_are_warned_of_or_fail_where_they_were_asked_for(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(tmp_path, misbehaving.RefusedSetstat)

    assert {outcome.error for outcome in outcomes} == {None}
    assert all("refused to preserve times" in outcome.warnings[0] for outcome in outcomes)
    assert snapshot(destination) == snapshot(source)


def test_permissions_are_given_when_the_file_is_opened_where_they_cannot_be_set(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(
        tmp_path, misbehaving.RefusedSetstat, options=CopyFile("", "", permissions=0o640)
    )

    assert {outcome.error for outcome in outcomes} == {None}
    assert snapshot(destination) == snapshot(source)
    assert {path.stat().st_mode & 0o777 for path in destination.rglob("*") if path.is_file()} == {0o640}


def test_permissions_of_the_step_are_not_optional(tmp_path: Path) -> None:
    # More than the server's umask leaves.
    outcomes, source, destination = run_faulty(
        tmp_path, misbehaving.RefusedSetstat, options=CopyFile("", "", permissions=0o666)
    )

    assert all("refused to set the permissions 0666" in str(outcome.error) for outcome in outcomes)
    assert snapshot(destination) == {k: v for k, v in snapshot(source).items() if v is None}


@pytest.mark.parametrize("verify", ["auto", "size"])
def test_a_server_that_tells_no_size_needs_leave(tmp_path: Path, verify: Any) -> None:
    outcomes, _, _ = run_faulty(tmp_path, misbehaving.RefusedStat, options=CopyFile("", "", verify=verify))

    if verify == "size":
        assert {outcome.error for outcome in outcomes} == {None}
        assert all("every byte was acknowledged" in outcome.warnings[0] for outcome in outcomes)
    else:
        assert all("cannot be verified" in str(outcome.error) for outcome in outcomes)


@pytest.mark.parametrize("is_new", [True, False])
def test_without_posix_rename_files_are_created_and_replaced_all_the_same(tmp_path: Path, is_new: bool) -> None:
    outcomes, source, destination = run_faulty(tmp_path, misbehaving.PlainRenameOnly, is_new=is_new)

    assert {outcome.error for outcome in outcomes} == {None}
    assert snapshot(destination) == snapshot(source)


def test_where_renaming_is_forbidden_old_files_stay(tmp_path: Path) -> None:
    make_files(tmp_path / "old", 10, seed=2)
    outcomes, _, destination = run_faulty(tmp_path, misbehaving.RefusedRename, is_new=False)

    assert all("'atomic: false'" in outcome.error.hint for outcome in outcomes if outcome.error)
    assert len([outcome for outcome in outcomes if outcome.error]) == 10
    assert snapshot(destination) == snapshot(tmp_path / "old")


def test_in_place_needs_no_rename(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(
        tmp_path, misbehaving.RefusedRename, is_new=False, options=CopyFile("", "", atomic=False)
    )

    assert {outcome.error for outcome in outcomes} == {None}
    assert snapshot(destination) == snapshot(source)


def test_short_reads_are_asked_for_again(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(tmp_path, misbehaving.ShortReads, is_upload=False)

    assert {outcome.error for outcome in outcomes} == {None}
    assert snapshot(destination) == snapshot(source)


def test_a_file_that_ends_early_is_not_published(tmp_path: Path) -> None:
    outcomes, source, destination = run_faulty(
        tmp_path, partial(misbehaving.EarlyEnd, length=100), is_upload=False, is_new=False
    )

    small = {Path(o.file.source_path).name for o in outcomes if not o.error}
    assert small == {path.name for path in source.rglob("file*") if path.stat().st_size <= 100}
    assert all("sent" in str(outcome.error) for outcome in outcomes if outcome.error)
    make_files(tmp_path / "old", 10, seed=2)
    for name, content in snapshot(destination).items():
        assert content in (snapshot(source)[name], snapshot(tmp_path / "old")[name])


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_broken_connection_is_raised_and_leaves_no_local_file(tmp_path: Path, is_upload: bool) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 200)
    make_folders(source, destination)
    with (
        faulty(tmp_path, misbehaving.SlowServer) as server,
        files_of(server, tmp_path) as context,
    ):
        timer = threading.Timer(0.5, server.kill_sessions)  # type: ignore[attr-defined]
        timer.start()
        with pytest.raises(ConnectionLost):
            run_many(is_upload, pending(source, destination), context)
        timer.join()

    if not is_upload:
        assert [name for name in snapshot(destination) if ".tmp" in name] == []
    for name, content in snapshot(destination).items():
        assert ".tmp" in name or content == snapshot(source)[name]


@pytest.mark.parametrize("is_upload", [True, False])
def test_a_signal_leaves_each_file_old_or_new_and_nothing_else(tmp_path: Path, is_upload: bool) -> None:
    source, destination, old = tmp_path / "source", tmp_path / "destination", tmp_path / "old"
    make_files(source, 300)
    for folder in (destination, old):
        make_files(folder, 300, seed=2)
    cancellation = Cancellation()
    outcomes: list[Outcome] = []

    def interrupt_in_the_middle(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 20:
            cancellation.cancel(signal.SIGTERM)

    copy_many = upload_many if is_upload else download_many
    factory = partial(misbehaving.SlowServer, seconds=0.0005)
    with faulty(tmp_path, factory) as server, files_of(server, tmp_path, cancellation) as context:
        started = time.monotonic()
        with pytest.raises(Interrupted):
            copy_many(pending(source, destination), CopyFile("", ""), context, interrupt_in_the_middle)
        assert time.monotonic() - started < 4 + BUSY_SECONDS

    new, before = snapshot(source), snapshot(old)
    found = snapshot(destination)
    assert found.keys() == new.keys()
    assert all(content in (new[name], before[name]) for name, content in found.items())
    assert found != before


def test_many_folders_do_not_use_up_descriptors(sshd: OpenSSHServer, tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    for number in range(1200):
        (source / f"{number}").mkdir(parents=True)
        (source / f"{number}/a").write_bytes(b"x")
    with files_of(sshd, tmp_path) as context:
        before = len(os.listdir("/proc/self/fd"))
        highest = 0

        def watch(outcome: Outcome) -> None:
            nonlocal highest
            assert outcome.error is None
            highest = max(highest, len(os.listdir("/proc/self/fd")))

        download_many(pending(source, destination), CopyFile("", ""), context, watch)
        after = len(os.listdir("/proc/self/fd"))

    assert snapshot(destination) == snapshot(source)
    assert highest - before <= 2 * 256 + 10
    assert after == before


def test_a_source_that_vanishes_while_its_folder_is_read_is_one_failure(
    sshd: OpenSSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the folder still lists, and that is gone when it is looked at."""
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 30)
    names = os.listdir
    monkeypatch.setattr("runner.transfer.tree.up.os.listdir", lambda path: [*names(path), "ghost"])
    with files_of(sshd, tmp_path) as context, pytest.raises(TreeIncomplete) as refused:
        copy_tree(CopyDirectoryFromEngine(str(source), str(destination), delete=True, include=("*",)), context)

    assert "8 of what is in" in refused.value.message
    assert re.search(rf"ghost: the source '{re.escape(str(source))}/.*ghost' vanished", refused.value.message)
    monkeypatch.undo()
    assert snapshot(destination) == snapshot(source)


def test_what_the_patterns_leave_out_may_vanish(
    sshd: OpenSSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 30)
    names = os.listdir
    monkeypatch.setattr("runner.transfer.tree.up.os.listdir", lambda path: [*names(path), "ghost.tmp"])
    for exclude, include in ((("*.tmp",), ()), ((), ("file *",))):
        copy = CopyDirectoryFromEngine(str(source), str(destination), exclude=exclude, include=include)
        with files_of(sshd, tmp_path) as context:
            copy_tree(copy, context)

    monkeypatch.undo()
    assert snapshot(destination) == snapshot(source)


def test_a_server_that_sends_nothing_but_whole_answers_is_not_held_up_by_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it calls itself OpenSSH, whose window is narrow, and no answer comes that would tell."""
    monkeypatch.setattr("runner.ssh.connection.SHORT_OPENING_SECONDS", 10.0)
    flush = asyncssh.channel.SSHChannel._flush_send_buf

    def flush_whole(channel: Any) -> None:
        waiting, channel._send_buf = channel._send_buf, []
        while waiting and len(waiting[0][0]) <= channel._send_window:
            channel._send_buf = [waiting.pop(0)]
            flush(channel)
        channel._send_buf = waiting
        if not waiting:
            flush(channel)

    monkeypatch.setattr(asyncssh.channel.SSHChannel, "_flush_send_buf", flush_whole)
    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 300, largest=100)
    server = AsyncsshServer(tmp_path / "server", root=Path("/"))
    server.software = "OpenSSH_9.9"
    with server, files_of(server, tmp_path) as context:
        copy_tree(CopyDirectoryFromEngine(str(source), str(destination)), context)

    assert snapshot(destination) == snapshot(source)


def test_what_vanishes_from_the_destination_while_it_is_read_is_not_there(
    sshd: OpenSSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ghost:
        name = "ghost"

        def stat(self, *, follow_symlinks: bool) -> os.stat_result:
            raise FileNotFoundError(2, "gone", self.name)

    source, destination = tmp_path / "source", tmp_path / "destination"
    make_files(source, 10)
    destination.mkdir()
    scan = os.scandir

    @contextmanager
    def scan_with_ghost(path: Any) -> Iterator[Any]:
        with scan(path) as entries:
            yield [*entries, Ghost()]

    monkeypatch.setattr("runner.transfer.tree.down.os.scandir", scan_with_ghost)
    with files_of(sshd, tmp_path) as context:
        copy_tree(CopyDirectoryToEngine(str(source), str(destination), delete=True), context)

    monkeypatch.undo()
    assert snapshot(destination) == snapshot(source)
