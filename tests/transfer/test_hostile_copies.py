"""What a hostile server, or somebody with access to a folder here, could plant: nothing gets outside, no bit is kept."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import asyncssh
import pytest

from runner.sftp.batch import listing as batch_listing
from runner.transfer.tree import names as tree_names
from runner.transfer.tree import walk as tree_walk
from tests.conftest import Runner, connection, download, require_sshd, snapshot, step, upload
from tests.playbook.bounded_process import run_bounded
from tests.privacy import find_open, find_open_folders, watching
from tests.servers import misbehaving
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.forced import ForcedServer
from tests.servers.openssh import OpenSSHServer
from tests.servers.raw_sftp import (
    OK,
    PERMISSION_DENIED,
    Execute,
    Kind,
    RawSftpServer,
    Request,
    Script,
    packet,
    status,
    string,
)

MIB = 1024 * 1024
LARGE = 9 * MIB  # what a tree copies one by one
SPECIAL_BITS = [stat.S_ISUID, stat.S_ISGID, stat.S_ISVTX, 0o7000]

both_kinds = pytest.mark.parametrize("kind", ["SFTP", "SCP"])
in_place_or_not = pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in place"])


def tree(
    server: Endpoint, source: Path, destination: Path, *, is_upload: bool = False, **options: Any
) -> dict[str, Any]:
    mode = {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
        **options,
    }
    return {**connection(server), "mode": mode}


# --- links planted where a download will write ---


@both_kinds
@in_place_or_not
@pytest.mark.parametrize("target", ["victim", "missing", "victim with the source's size and time"])
def test_a_link_planted_at_the_destination(
    runner: Runner, sshd: OpenSSHServer, remote: Path, kind: str, atomic: bool, target: str
) -> None:
    """The link is replaced, or refused; what it leads to keeps its content and its mode."""
    (remote / "source").write_text("evil")
    (remote / "source").chmod(0o666)
    victim = runner.folder / "victim"
    if "victim" in target:
        victim.write_text("dear")
        victim.chmod(0o600)
    if "time" in target:
        found = (remote / "source").stat()
        os.utime(victim, (found.st_atime, found.st_mtime))
    before = victim.stat() if victim.exists() else None
    (runner.folder / "to").mkdir()
    link = runner.folder / "to/link"
    link.symlink_to(victim)

    outcome = runner.play([step(sshd, download(remote / "source", "to/link", atomic=atomic), connector_type=kind)])

    if before is None:
        assert not victim.exists()
    else:
        assert (victim.read_text(), victim.stat().st_mode) == ("dear", before.st_mode)
    if atomic:
        assert outcome.exit_code == 0, outcome.output
        assert (link.is_symlink(), link.read_text()) == (False, "evil")
    else:
        assert outcome.exit_code == 2, outcome.output
        assert "is a symbolic link" in outcome.step["error"]["message"]
        assert link.is_symlink()
    assert os.listdir(runner.folder / "to") == ["link"]


@in_place_or_not
@pytest.mark.parametrize("size", [4, LARGE], ids=["small", "large"])
def test_links_planted_inside_of_a_tree(
    runner: Runner, sshd: OpenSSHServer, remote: Path, atomic: bool, size: int
) -> None:
    """In the place of a file, in that of a folder, and deeper."""
    outside = runner.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("dear")
    for path in ("file", "folder/file", "deep/folder/file"):
        (remote / path).parent.mkdir(parents=True, exist_ok=True)
        (remote / path).write_bytes(b"evil" * (size // 4))
    copy = runner.folder / "copy"
    (copy / "deep").mkdir(parents=True)
    (copy / "file").symlink_to(outside / "file")
    (copy / "folder").symlink_to(outside)
    (copy / "deep/folder").symlink_to(outside)

    outcome = runner.play([tree(sshd, remote, copy, atomic=atomic)])

    assert outcome.exit_code == 2, outcome.output
    assert snapshot(outside) == {"file": b"dear"}
    assert (copy / "folder").is_symlink() and (copy / "deep/folder").is_symlink()
    assert (copy / "file").is_symlink() != atomic


class SwappingFolder(FileServer):
    """While its files are fetched, somebody here puts a link in the place of the folder that they go into."""

    swap: Callable[[], None]

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if path.endswith(b"large"):
            type(self).swap()
        return super().open(path, pflags, attrs)


@pytest.mark.parametrize("verify", ["size", "checksum"])
def test_a_folder_that_is_swapped_for_a_link_while_it_is_written(
    runner: Runner, tmp_path: Path, remote: Path, verify: str
) -> None:
    """The large file of a tree comes long after its folder was looked at."""
    outside, copy = runner.folder / "outside", runner.folder / "copy"
    outside.mkdir()
    (remote / "folder").mkdir()
    (remote / "folder/large").write_bytes(os.urandom(LARGE))
    (remote / "folder/later large").write_bytes(os.urandom(LARGE))

    def swap() -> None:
        if not (copy / "folder").is_symlink():
            (copy / "folder").rename(copy / "moved")
            (copy / "folder").symlink_to(outside)

    factory: Any = type("Swapping", (SwappingFolder,), {"swap": staticmethod(swap)})
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        outcome = runner.play([tree(server, remote, copy, verify=verify)])

    assert outcome.exit_code == 2, outcome.output
    assert snapshot(outside) == {}


def test_a_link_that_an_earlier_play_brought_is_not_written_through(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    """First the server lists a link, and it is copied as one; in the next play it lists a file by that name."""
    victim = runner.folder / "victim"
    victim.write_text("dear")
    copy = runner.folder / "copy"
    (remote / "name").symlink_to(victim)
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        assert runner.play([tree(server, remote, copy)]).exit_code == 0
        (remote / "name").unlink()
        (remote / "name").write_text("evil")
        for atomic in (False, True):
            runner.play([tree(server, remote, copy, atomic=atomic)])
            assert victim.read_text() == "dear"
    assert (copy / "name").read_text() == "evil"


@both_kinds
def test_a_device_or_pipe_at_the_destination_is_not_written_to(
    runner: Runner, sshd: OpenSSHServer, remote: Path, kind: str
) -> None:
    (remote / "source").write_text("evil")
    os.mkfifo(runner.folder / "pipe")
    outcome = runner.play([step(sshd, download(remote / "source", "pipe", atomic=False), connector_type=kind)])
    assert outcome.exit_code == 2, outcome.output
    assert "device, pipe or socket" in outcome.step["error"]["message"]


# --- hostile listings ---


HOSTILE_NAMES = [
    b"../escaped",
    b"/escaped",
    b"..",
    b".",
    b"",
    b"a/../../escaped",
    b"nul\0",
    b"/",
    b"../../inside/copy/good",
]


@pytest.mark.parametrize("kind", [0o100644, 0o040755, 0o120777], ids=["files", "folders", "links"])
@pytest.mark.parametrize("delete", [False, True])
def test_no_name_leads_out_of_the_destination(
    runner: Runner, tmp_path: Path, remote: Path, kind: int, delete: bool
) -> None:
    """As whatever it is listed, and with `delete` as well: the server would give what it lists."""

    class Listing(FileServer):
        async def scandir(self, path: bytes) -> Any:
            for name in HOSTILE_NAMES:
                yield asyncssh.SFTPName(name, "", asyncssh.SFTPAttrs(size=4, permissions=kind, atime=1, mtime=1))
            yield asyncssh.SFTPName(b"good", "", asyncssh.SFTPAttrs(size=4, permissions=0o100644, atime=1, mtime=1))

    for path, text in ((remote / "good", "good"), (remote.parent / "escaped", "evil")):
        path.write_text(text)
        os.utime(path, (1, 1))
    copy = runner.folder / "inside/copy"
    copy.mkdir(parents=True)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Listing) as server:
        outcome = runner.play([tree(server, remote, copy, delete=delete)])
    assert outcome.exit_code == 2, outcome.output
    # All but the two that every listing has.
    assert f"{len(HOSTILE_NAMES) - 2} of what is in" in outcome.step["error"]["message"]
    assert snapshot(runner.folder / "inside") == {"copy": None, "copy/good": b"good"}
    assert (remote.parent / "escaped").read_text() == "evil"


@pytest.mark.parametrize("name", [b"../victim", b"/victim", b"..", b"victim/.."])
def test_a_server_cannot_have_its_own_files_removed_by_a_name(
    runner: Runner, tmp_path: Path, remote: Path, name: bytes
) -> None:
    """`delete` on the way up: the listing of the destination is hostile."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from/good").write_text("good")
    (tmp_path / "victim").write_text("dear")
    factory = partial(misbehaving.HostileListing, name=name)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        runner.play([tree(server, tmp_path / "from", remote, is_upload=True, delete=True)])
    assert (tmp_path / "victim").read_text() == "dear"
    assert (remote / "good").read_text() == "good"


class Nested(FileServer):
    """Every folder holds a folder, without end."""

    def map_path(self, path: bytes) -> bytes:
        return super().map_path(b"/")

    async def scandir(self, path: bytes) -> Any:
        yield asyncssh.SFTPName(b"x" * 200, "", asyncssh.SFTPAttrs(permissions=0o040755))


class AbsoluteNames(FileServer):
    """Lists every entry by its whole path, as no name can be."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            if entry.filename not in (b".", b".."):
                entry.filename = os.path.join(path, entry.filename)  # type: ignore[arg-type]
            yield entry


def test_nothing_is_deleted_for_a_listing_of_names_that_no_file_can_have(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    """The source has both files, and the server says so in words that cannot be copied."""
    for folder in (remote / "source", runner.folder / "copy"):
        (folder / "sub").mkdir(parents=True)
        (folder / "file").write_text("content")
        (folder / "sub/deep").write_text("deep")
    before = snapshot(runner.folder / "copy")
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=AbsoluteNames) as server:
        mode = {
            "mode_name": "copy_directory_to_engine",
            "source_directory_name": "source",
            "destination_directory_name": str(runner.folder / "copy"),
            "delete": True,
        }
        outcome = runner.play([step(server, mode)])

    assert outcome.exit_code == 2, outcome.output
    assert "cannot be that of a file" in outcome.step["error"]["message"]
    assert snapshot(runner.folder / "copy") == before


def test_folders_in_folders_without_end_are_given_up(runner: Runner, tmp_path: Path) -> None:
    copy = runner.folder / "copy"
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Nested) as server:
        outcome = runner.play([tree(server, Path("/endless"), copy)])
    assert outcome.exit_code == 2, outcome.output
    assert "characters is too long" in outcome.step["error"]["message"]
    assert len(outcome.step["error"]["message"]) < 1000
    deepest = max((folder for folder, _, _ in os.walk(copy)), key=len)
    assert tree_names.MAX_PATH_CHARACTERS - 201 <= len(deepest) < tree_names.MAX_PATH_CHARACTERS


class Spreading(Nested):
    """Every folder holds many."""

    async def scandir(self, path: bytes) -> Any:
        for number in range(50):
            yield asyncssh.SFTPName(b"%d" % number, "", asyncssh.SFTPAttrs(permissions=0o040755))


def test_more_folders_than_memory_are_given_up(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_walk, "MAX_FOLDERS", 300)
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Spreading) as server:
        outcome = runner.play([tree(server, Path("/endless"), runner.folder / "copy")], "--check")
    assert outcome.exit_code == 2, outcome.output
    assert "has more than 300 folders" in outcome.step["error"]["message"]


class Flooding(Script):
    """Lists the folder without end: names of this length."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.number = 0

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        if request.kind != Kind.READDIR:
            return [execute()]
        entries = []
        for _ in range(min(200, 200_000 // (self.length + 30))):
            self.number += 1
            name = b"%0*d" % (self.length, self.number)
            entries.append(string(name) + string(b"") + bytes(4))
        return [packet(Kind.NAME, request.id, len(entries).to_bytes(4, "big"), b"".join(entries))]


def test_a_listing_without_end_is_given_up(
    runner: Runner, tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_listing, "MAX_ENTRIES", 10_000)
    make_script = partial(Flooding, 20)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=make_script) as server:
        outcome = runner.play([tree(server, remote, runner.folder / "copy")])
    assert outcome.exit_code == 4, outcome.output
    assert "lists more than 10,000 entries" in outcome.step["error"]["message"]


def test_names_that_no_disk_could_hold_are_given_up_and_cost_nothing(
    runner: Runner, tmp_path: Path, remote: Path
) -> None:
    make_script = partial(Flooding, 150_000)
    with RawSftpServer(tmp_path / "server", root=remote, make_script=make_script) as server:
        playbook = runner.folder / "alone.yaml"
        playbook.write_text(json.dumps([tree(server, remote, runner.folder / "copy")]))
        ending = run_bounded(runner.folder, "play", str(playbook))
    assert ending.exit_code == 4, ending.output
    assert "a name of 150,000 characters" in ending.output
    assert ending.peak_bytes < 150 * MIB


# --- bits that must not be kept ---


@both_kinds
@in_place_or_not
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_no_special_bit_is_taken_over(
    runner: Runner, sshd: OpenSSHServer, remote: Path, kind: str, atomic: bool, is_upload: bool
) -> None:
    """Neither from the source nor from the file that is replaced."""
    source = runner.folder / "source" if is_upload else remote / "source"
    for number in (0, 1):
        source.write_text(f"content {number}")
        source.chmod(0o7755)
        target = (remote if is_upload else runner.folder) / "copy"
        if number:
            target.write_text("older, with bits of its own")
            target.chmod(0o7755)
        mode = upload(source, target, atomic=atomic) if is_upload else download(source, target, atomic=atomic)
        outcome = runner.play([step(sshd, mode, connector_type=kind)])
        assert outcome.exit_code == 0, outcome.output
        assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (f"content {number}", 0o755)


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_no_special_bit_is_taken_over_in_a_tree(
    runner: Runner, sshd: OpenSSHServer, remote: Path, is_upload: bool
) -> None:
    source, copy = (runner.folder / "from", remote) if is_upload else (remote, runner.folder / "copy")
    for number, bits in enumerate(SPECIAL_BITS):
        (source / f"{number}").mkdir(parents=True)
        (source / f"{number}/file").write_text("x")
        (source / f"{number}/file").chmod(0o755 | bits)
        (source / f"{number}").chmod(0o755 | bits)
    assert runner.play([tree(sshd, source, copy, is_upload=is_upload)]).exit_code == 0
    modes = {stat.S_IMODE(path.stat().st_mode) for path in copy.rglob("*")}
    assert modes == {0o755}


@pytest.mark.parametrize("line", ["C4755", "C2755", "C1755", "C7777", "C06755", "C10644"])
def test_no_special_bit_of_an_scp_header_is_taken_over(runner: Runner, tmp_path: Path, line: str) -> None:
    """OpenSSH's scp never sends them; a hostile one may."""
    require_sshd()
    program = f"""
if not is_source: run()
hear.read(1); send(b"{line} 4 a\\n"); hear.read(1); send(b"evil\\0"); hear.read(1)
"""
    with ForcedServer(tmp_path / "server", program) as server:
        runner.play([step(server, download("there", "here"), connector_type="SCP")])
    copy = runner.folder / "here"
    assert not copy.exists() or not stat.S_IMODE(copy.stat().st_mode) & 0o7000


# --- SCP servers that send something else ---

SENDS = {
    "another name": r"hear.read(1); send(b'C0644 4 ../../escaped\n'); hear.read(1); send(b'evil\0'); hear.read(1)",
    "an absolute name": r"hear.read(1); send(b'C0644 4 OUTSIDE/escaped\n'); hear.read(1); send(b'evil\0'); hear.read(1)",
    "a folder": r"hear.read(1); send(b'D0755 0 sub\n'); hear.read(1); send(b'C0644 4 x\n'); hear.read(1); send(b'evil\0')",
    "a second file": r"""hear.read(1)
for name in (b'a', b'escaped'):
    send(b'C0644 4 ' + name + b'\n'); hear.read(1); send(b'evil\0'); hear.read(1)""",
    "more than announced": r"hear.read(1); send(b'C0644 4 a\n'); hear.read(1); send(b'evil' * 100000)",
    "a size without end": r"hear.read(1); send(b'C0644 9999999999999999999 a\n'); hear.read(1); send(b'evil')",
    "a negative size": r"hear.read(1); send(b'C0644 -4 a\n'); hear.read(1); send(b'evil')",
    "an endless line": r"hear.read(1); send(b'C0644 4 ' + b'x' * 1000000)",
    "an end of a folder": r"hear.read(1); send(b'E\n')",
}


@pytest.mark.parametrize("name", SENDS)
def test_an_scp_server_that_sends_what_was_not_asked_for(
    runner: Runner, tmp_path: Path, remote: Path, name: str
) -> None:
    require_sshd()
    (runner.folder / "inside").mkdir()
    program = f"if not is_source: run()\n{SENDS[name].replace('OUTSIDE', str(runner.folder))}\n"
    with ForcedServer(tmp_path / "server", program) as server:
        one = step(server, download("there", "inside/here"), connector_type="SCP", stall_timeout=1)
        outcome = runner.play([one])
    found = snapshot(runner.folder / "inside")
    assert found in ({}, {"here": b"evil"}), outcome.output
    assert (outcome.exit_code == 0) == bool(found), outcome.output
    assert not list(runner.folder.rglob("escaped*"))


# --- private files ---


@pytest.fixture
def _open_umask() -> Iterator[None]:
    """What is not asked to be private is open to everybody."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@both_kinds
@in_place_or_not
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.usefixtures("_open_umask")
def test_a_private_file_is_private_all_the_time(
    runner: Runner, sshd: OpenSSHServer, remote: Path, tmp_path: Path, kind: str, atomic: bool, is_upload: bool
) -> None:
    """New, and over a file that was open to everybody, on a line slow enough to look often."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    source_folder, target_folder = (here, there) if is_upload else (there, here)
    source, target = source_folder / "secret", target_folder / "secret"
    for is_new in (True, False):
        source.write_bytes(os.urandom(2_000_000))
        source.chmod(0o600)
        if not is_new:
            target.write_bytes(b"")
            target.chmod(0o666)
        mode = upload(source, target, atomic=atomic) if is_upload else download(source, target, atomic=atomic)
        one = step(sshd, mode, connector_type=kind, bandwidth_limit="8M")
        with watching(here, there) as seen:
            outcome = runner.play([one])
        assert outcome.exit_code == 0, outcome.output
        assert target.read_bytes() == source.read_bytes()
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        assert not seen, seen[:3]


class Inspecting(Script):
    """Looks at both disks at every request."""

    folders: tuple[Path, ...] = ()
    seen: ClassVar[list[str]] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        before = [one for folder in self.folders for one in find_open(folder)]
        packets = [execute()]
        after = [one for folder in self.folders for one in find_open(folder)]
        self.seen.extend(f"{Kind(request.kind).name}: {one}" for one in (*before, *after))
        return packets


@in_place_or_not
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("is_tree", [True, False], ids=["tree", "file"])
@pytest.mark.usefixtures("_open_umask")
def test_a_private_file_is_private_after_every_request(
    runner: Runner, tmp_path: Path, atomic: bool, is_upload: bool, is_tree: bool
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    source_folder, target_folder = (here, there) if is_upload else (there, here)
    inspecting: Any = type("Watching", (Inspecting,), {"folders": (here, there), "seen": []})
    with RawSftpServer(tmp_path / "server", root=tmp_path, make_script=inspecting) as server:
        for is_new in (True, False):
            source, target = source_folder / "secret", target_folder / "secret"
            source.write_bytes(os.urandom(600_000))
            source.chmod(0o600)
            if not is_new:
                target.write_bytes(b"")
                target.chmod(0o666)
            if is_tree:
                one = tree(server, source_folder, target_folder, is_upload=is_upload, atomic=atomic)
            else:
                mode = upload(source, target, atomic=atomic) if is_upload else download(source, target, atomic=atomic)
                one = step(server, mode)
            outcome = runner.play([one])
            assert outcome.exit_code == 0, outcome.output
            assert target.read_bytes() == source.read_bytes()
    assert not inspecting.seen, inspecting.seen[:5]


class OpensOpenly(Inspecting):
    """Gives new files the mode 0644, whatever OPEN says (Go's pkg/sftp); what is in `undone` is `answer`ed, and not done."""

    undone: tuple[int, ...] = ()
    is_refused = False

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        def run_mode() -> bytes:
            if request.kind in self.undone:
                return status(request.id, PERMISSION_DENIED if self.is_refused else OK)
            paths = (
                {path for folder in self.folders for path in folder.iterdir()} if request.kind == Kind.OPEN else set()
            )
            reply = execute()
            for folder in self.folders if request.kind == Kind.OPEN else ():
                for path in set(folder.iterdir()) - paths:
                    path.chmod(0o644)
            return reply

        return super().reply(request, run_mode)


@in_place_or_not
@pytest.mark.parametrize("is_refused", [True, False], ids=["refused", "ignored"])
@pytest.mark.parametrize("undone", [(), (Kind.FSETSTAT,), (Kind.SETSTAT,)], ids=["", "fsetstat", "setstat"])
@pytest.mark.parametrize("is_tree", [True, False], ids=["tree", "file"])
def test_a_private_file_is_private_also_where_the_mode_of_open_is_not_kept(
    runner: Runner, tmp_path: Path, is_tree: bool, undone: tuple[int, ...], is_refused: bool, atomic: bool
) -> None:
    """Nothing is written before it is closed off, and what was seen of one file does for the others."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    script: Any = type(
        "Watching", (OpensOpenly,), {"folders": (there,), "seen": [], "undone": undone, "is_refused": is_refused}
    )
    for number in range(8):
        (here / f"{number}").write_bytes(os.urandom(60_000))
        (here / f"{number}").chmod(0o600)
    with RawSftpServer(tmp_path / "server", root=tmp_path, make_script=script) as server:
        for _ in range(2):
            if is_tree:
                steps = [tree(server, here, there, is_upload=True, atomic=atomic, compare="always")]
            else:
                steps = [step(server, upload(here / "0", there / name, atomic=atomic)) for name in ("a", "b")]
            outcome = runner.play(steps, "-v")
            assert outcome.exit_code == 0, outcome.output
            for path in there.iterdir():
                assert path.read_bytes() == (here / path.name if is_tree else here / "0").read_bytes()
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
                path.chmod(0o666)
                path.write_bytes(b"")
    assert not script.seen, script.seen[:5]
    by = "by path" if Kind.FSETSTAT in undone else "by handle"
    assert not atomic or f"closed off {by} before the first byte" in outcome.stdout


class MakesOpenly(Script):
    """Gives new directories the mode 0755, whatever MKDIR says (Go's pkg/sftp), and looks at them at every request."""

    folder: Path
    seen: ClassVar[list[str]] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        before = {path for path in self.folder.rglob("*") if path.is_dir()}
        reply = execute()
        if request.kind == Kind.MKDIR:
            for path in self.folder.rglob("*"):
                if path.is_dir() and path not in before:
                    path.chmod(0o2755)
        self.seen.extend(f"{Kind(request.kind).name}: {one}" for one in find_open_folders(self.folder))
        return [reply]


def test_a_private_directory_is_private_also_where_the_mode_of_mkdir_is_not_kept(
    runner: Runner, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    for number in range(4):
        folder = here / f"{number}"
        folder.mkdir(mode=0o700, parents=True)
        (folder / "file").write_text("content")
        (folder / "file").chmod(0o644)
    here.chmod(0o700)
    script: Any = type("Looking", (MakesOpenly,), {"folder": there, "seen": []})
    with RawSftpServer(tmp_path / "server", root=tmp_path, make_script=script) as server:
        outcome = runner.play([tree(server, here, there / "copy", is_upload=True)])

    assert outcome.exit_code == 0, outcome.output
    assert not script.seen, script.seen[:5]
    for path in (there / "copy", *(there / "copy").iterdir()):
        # What the server gives a directory by itself, it keeps.
        assert stat.S_IMODE(path.stat().st_mode) == 0o2700
        assert path.name == "copy" or (path / "file").read_text() == "content"


def test_a_server_without_modes_is_sent_no_more_than_once_what_would_close_files_off(
    runner: Runner, tmp_path: Path
) -> None:
    """It keeps none at all: that is seen with the first file, and the others take no request more for it."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    asked: list[int] = []

    class Counting(OpensOpenly):
        """Also notes what it is asked."""

        folders = (there,)
        undone = (Kind.FSETSTAT, Kind.SETSTAT)

        def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
            asked.append(request.kind)
            return super().reply(request, execute)

    (here / "file").write_bytes(b"x")
    with RawSftpServer(tmp_path / "server", root=tmp_path, make_script=Counting) as server:
        modes = [upload(here / "file", there / f"{number}", compare="size") for number in range(4)]
        outcome = runner.play([step(server, mode) for mode in modes], "-v")

    assert outcome.exit_code == 0, outcome.output
    assert "private files    are not to be had" in outcome.stdout
    # One before the first byte of the first file, and one behind the last of each.
    assert asked.count(Kind.FSETSTAT) == 1 + 4
