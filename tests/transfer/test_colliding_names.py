"""Names that some disks take for the same: none silently takes another one's place, and none is removed by its old name.

The server's disk is caseless in earnest. Where the engine's is not, the calls that a download makes are given a caseless
disk's answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner.transfer import local_files, local_folders, local_targets
from runner.transfer.tree import down as tree_down
from tests.conftest import Outcome, Runner, connection
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.file_session import FileServer
from tests.servers.misbehaving import CaselessDisk, fold_name

NFC, NFD = "caf\u00e9", "cafe\u0301"
GROUPS = [("A", "a"), ("README", "readme", "Readme"), (NFC, NFD), ("stra\u00dfe", "STRASSE")]


class CaselessOs(ModuleType):
    """The module `os`, for whom names in one folder are the same as on such a disk. Only names given with a `dir_fd`."""

    def __init__(self) -> None:
        super().__init__("os")

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return os.open(spell(path, dir_fd), flags, mode, dir_fd=dir_fd)

    def lstat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        return os.lstat(spell(path, dir_fd), dir_fd=dir_fd)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        os.mkdir(spell(path, dir_fd), mode, dir_fd=dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        os.unlink(spell(path, dir_fd), dir_fd=dir_fd)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        os.rmdir(spell(path, dir_fd), dir_fd=dir_fd)

    def replace(self, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        os.replace(spell(old, src_dir_fd), spell(new, dst_dir_fd), src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def spell(name: str, dir_fd: int | None) -> str:
    """The entry of an open folder that a caseless disk takes for `name`, or the name itself."""
    if dir_fd is None or "/" in name:
        return name
    wanted = fold_name(os.fsencode(name))
    return next((each for each in sorted(os.listdir(dir_fd)) if fold_name(os.fsencode(each)) == wanted), name)


@pytest.fixture(params=[True, False], ids=["caseless", "exact"])
def is_caseless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param:
        caseless = CaselessOs()
        for module in (local_files, local_folders, local_targets, tree_down):
            monkeypatch.setattr(module, "os", caseless)
    return bool(request.param)


class Copying:
    """Copies `source` to `destination`, which is on the disk in question."""

    def __init__(self, runner: Runner, server: AsyncsshServer, *, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        self.source, self.destination = runner.folder / "from", runner.folder / "to"
        self.source.mkdir()

    def play(self, *arguments: str, **options: Any) -> Outcome:
        mode = {
            "mode_name": f"copy_directory_{'from' if self.is_upload else 'to'}_engine",
            "source_directory_name": str(self.source),
            "destination_directory_name": str(self.destination),
            **options,
        }
        return self.runner.play([{**connection(self.server), "mode": mode}], *arguments)

    def copied(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.destination.iterdir() if path.is_file()}


@pytest.fixture(params=[True, False], ids=["up", "down"])
def copying(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path, is_caseless: bool) -> Iterator[Copying]:
    factory = CaselessDisk if is_caseless and request.param else FileServer
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        yield Copying(runner, server, is_upload=request.param)


def is_complaint_about(outcome: Outcome, name: str) -> bool:
    words = "would take the place of a file whose name differs in case or accents only"
    return f"{name!r} {words}" in outcome.step["error"]["message"]


@pytest.mark.parametrize("names", GROUPS, ids=ascii)
def test_no_file_takes_anothers_place(copying: Copying, is_caseless: bool, names: tuple[str, ...]) -> None:
    """Twice, since the first play leaves one of them."""
    # What tells the disk's kind, where the source is on it as well.
    contents = {name: f"content of {name}".encode() for name in names}
    for name, content in contents.items():
        (copying.source / name).write_bytes(content)
    (copying.source / "other").write_bytes(b"other")
    kept = sorted(names)[0]
    for _ in range(2):
        outcome = copying.play()
        if is_caseless:
            assert outcome.exit_code == 2, outcome.output
            assert all(is_complaint_about(outcome, name) for name in names if name != kept), outcome.output
            assert copying.copied() == {kept: contents[kept], "other": b"other"}
        else:
            assert outcome.exit_code == 0, outcome.output
            assert copying.copied() == {**contents, "other": b"other"}


def test_links_and_folders_collide_as_well(copying: Copying, is_caseless: bool) -> None:
    (copying.source / "File").write_bytes(b"content")
    (copying.source / "file").symlink_to("nowhere")
    (copying.source / "Folder").mkdir()
    (copying.source / "Folder/x").write_bytes(b"upper")
    (copying.source / "folder").mkdir()
    (copying.source / "folder/x").write_bytes(b"lower")

    outcome = copying.play()

    assert (copying.destination / "File").read_bytes() == b"content"
    assert (copying.destination / "Folder/x").read_bytes() == b"upper"
    assert outcome.exit_code == (2 if is_caseless else 0), outcome.output
    if not is_caseless:
        assert (copying.destination / "file").is_symlink()
        assert (copying.destination / "folder/x").read_bytes() == b"lower"


def test_a_link_leads_no_folder_of_another_spelling_outside(copying: Copying, is_caseless: bool) -> None:
    """What `git clone` once fell for: the link is made first, and the files of the folder go where it leads."""
    outside = copying.runner.folder / "outside"
    outside.mkdir()
    (copying.source / "A").symlink_to(outside)
    (copying.source / "a").mkdir()
    (copying.source / "a/planted").write_bytes(b"planted")
    for _ in range(2):
        copying.play()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("is_check", [False, True], ids=["play", "check"])
def test_with_delete_a_file_is_not_removed_by_its_old_name(copying: Copying, is_caseless: bool, is_check: bool) -> None:
    (copying.source / "README").write_bytes(b"new content")
    copying.destination.mkdir()
    (copying.destination / "readme").write_bytes(b"old")
    (copying.destination / "gone").write_bytes(b"old")

    outcome = copying.play(*(["--check"] if is_check else []), delete=True)

    assert outcome.exit_code == 0, outcome.output
    if is_check:
        assert copying.copied() == {"readme": b"old", "gone": b"old"}
    else:
        assert list(copying.copied().values()) == [b"new content"]
        assert fold_name(os.fsencode(next(iter(copying.copied())))) == "readme"
    expected = 1 if is_caseless and not is_check else 2
    assert outcome.step["result"]["removed"] == expected
