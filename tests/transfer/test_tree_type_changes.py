"""A file where the source has a directory, and the other way round: carried out with `delete`, counted, foretold."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import asyncssh
import pytest
from asyncssh.misc import MaybeAwait

from tests.conftest import Outcome, Runner, connection
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.servers.misbehaving import PlainRenameOnly
from tests.servers.openssh import OpenSSHServer
from tests.transfer.trees import Picture, below, make_tree, picture, stays_inside

both_ways = pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
COUNTS = ("files_total", "files_changed", "folders_changed", "links_changed", "removed", "backups_total")
TREE_TRIALS = int(os.environ.get("TREE_TRIALS", "2"))


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=PlainRenameOnly) as server:
        yield server


class Tree:
    """A source, and a copy of it that is there already."""

    def __init__(self, runner: Runner, server: Endpoint, *, is_upload: bool) -> None:
        self.runner, self.server, self.is_upload = runner, server, is_upload
        self.source, self.copy = runner.folder / "from", runner.folder / "copy"
        self.source.mkdir(exist_ok=True)
        self.copy.mkdir(exist_ok=True)

    def play(self, *arguments: str, **options: Any) -> Outcome:
        mode = {
            "mode_name": f"copy_directory_{'from' if self.is_upload else 'to'}_engine",
            "source_directory_name": str(self.source),
            "destination_directory_name": str(self.copy),
            "delete": True,
            **options,
        }
        return self.runner.play([{**connection(self.server), "mode": mode}], *arguments)

    def foretold(self, **options: Any) -> dict[str, int]:
        """Play as --check says; then again, for nothing. Returns the counts."""
        before = picture(self.copy)
        said = self.play("--check", "--diff", **options)
        assert picture(self.copy) == before
        done = self.play("-v", **options)
        assert (said.exit_code, done.exit_code) == (0, 0), said.output + done.output
        assert changes(said) == changes(done)
        assert counts(said) == counts(done)
        again = self.play(**options)
        assert again.statuses == ["ok"], again.output
        assert not [path for path in self.copy.rglob("*") if ".runner-" in path.name]
        return counts(done)


def changes(outcome: Outcome) -> list[tuple[str, str]]:
    return sorted((change["path"], change["action"]) for change in outcome.step["changes"])


def counts(outcome: Outcome) -> dict[str, int]:
    return {name: outcome.step["result"][name] for name in COUNTS}


def make(root: Path, *names: str) -> None:
    """Entries by their names: `a/` is a directory, `a -> b` a link, `a|` a pipe, `a` a file."""
    for name in names:
        path = root / name.partition(" -> ")[0].rstrip("|")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif " -> " in name:
            path.symlink_to(name.partition(" -> ")[2])
        elif name.endswith("|"):
            os.mkfifo(path)
        else:
            path.write_text(f"{root.name} {name}")


# What the source has, what the destination has, and how much of that goes.
CASES: list[tuple[list[str], list[str], int]] = [
    (["thing/"], ["thing"], 1),
    (["thing/a", "thing/b/c"], ["thing"], 1),
    (["thing/a"], ["thing -> elsewhere", "elsewhere/precious"], 3),
    (["thing/a"], ["thing|"], 1),
    (["thing"], ["thing/"], 1),
    (["thing"], ["thing/a", "thing/b/c", "thing/d -> a"], 5),
    (["thing -> a", "a"], ["thing/a", "thing/b"], 3),
    (["thing", "other/"], ["thing/a", "other", "extra"], 4),
    (["d/thing/x", "d/y"], ["d/thing", "d/y/z"], 3),
]


@both_ways
def test_one_takes_the_place_of_the_other(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    for number, (source, copy, _) in enumerate(CASES):
        make(tree.source / f"{number}", *source)
        make(tree.copy / f"{number}", *copy)

    told = changes(tree.play("--check"))
    counted = tree.foretold()

    assert below(picture(tree.copy)) == below(picture(tree.source))
    assert counted["removed"] == sum(removed for _, _, removed in CASES)
    for number, (_, _, removed) in enumerate(CASES):
        gone = [path for path, action in told if action == "delete" and path.startswith(f"{number}/")]
        assert len(gone) == removed, (number, gone)


@both_ways
def test_without_delete_it_fails_and_nothing_is_lost(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b/x", "c -> a", "fine")
    make(tree.copy, "a/precious", "b", "c/precious")
    before = picture(tree.copy)

    for options in ({"delete": False}, {"if_exists": "skip"}, {"if_exists": "fail"}):
        outcome = tree.play(**options)
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
        assert "3 of what is in" in outcome.step["error"]["message"]
        assert "'delete: true'" in outcome.step["error"]["hint"]
        after = picture(tree.copy)
        assert {path: entry for path, entry in after.items() if path not in (".", "fine")} == {
            path: entry for path, entry in before.items() if path != "."
        }


@both_ways
@pytest.mark.parametrize("limit", [5, 6])
def test_every_entry_that_goes_counts_and_too_many_are_refused_whole(
    runner: Runner, server: Endpoint, is_upload: bool, limit: int
) -> None:
    """The directory with three entries, a file that a directory replaces, and what the source lacks: six."""
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b/x")
    make(tree.copy, "a/1", "a/2", "a/3", "b", "extra")
    before = below(picture(tree.copy))

    for arguments in (["--check"], []):
        outcome = tree.play(*arguments, max_delete=limit)
        if limit < 6:
            assert (outcome.exit_code, outcome.step["error"]["type"]) == (6, "SafetyLimitHeld"), outcome.output
            assert below(picture(tree.copy)) == before
        else:
            assert (outcome.exit_code, outcome.step["result"]["removed"]) == (0, 6), outcome.output
    assert (below(picture(tree.copy)) == below(picture(tree.source))) == (limit == 6)


@both_ways
@pytest.mark.parametrize("patterns", [{"exclude": ["*.key"]}, {"include": ["*", "!*.key"]}], ids=["excluded", "not"])
def test_what_is_excluded_in_a_directory_keeps_it(
    runner: Runner, server: Endpoint, is_upload: bool, patterns: dict[str, list[str]]
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b")
    make(tree.copy, "a/deep/precious.key", "a/other", "b/other")

    for arguments in (["--check"], []):
        outcome = tree.play(*arguments, **patterns)
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
        assert "is excluded, or not included, or kept by an earlier play" in outcome.step["error"]["message"]
        assert "removed 1" not in outcome.step["error"]["message"]

    assert sorted(below(picture(tree.copy))) == ["a", "a/deep", "a/deep/precious.key", "a/other", "b"]
    assert (tree.copy / "b").read_text() == "from b"


@both_ways
def test_what_is_excluded_itself_is_neither_replaced_nor_in_the_way(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b/x", "c/y.txt", "d/z.bin")
    make(tree.copy, "a/precious", "b", "c", "d")

    counted = tree.foretold(exclude=["/a", "/b"], include=["*.txt"])

    # A directory is made only for what is copied into it, so that nothing takes the place of 'd'.
    assert sorted(below(picture(tree.copy))) == ["a", "a/precious", "b", "c", "c/y.txt", "d"]
    assert (tree.copy / "d").read_text() == "copy d"
    assert counted["removed"] == 1


@both_ways
def test_with_backup_what_is_replaced_is_kept(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    """Nothing is removed, so that nothing counts."""
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b/x", "c -> a")
    make(tree.copy, "a/1", "a/2", "b", "c/3")
    b_before = picture(tree.copy)["b"]

    counted = tree.foretold(backup=True, max_delete=0)

    assert (counted["removed"], counted["backups_total"]) == (0, 3)
    found = picture(tree.copy)
    kept = {path.split(".")[0]: path for path in found if path.endswith("Z~")}
    assert sorted(kept) == ["a", "b", "c"]
    assert found[kept["b"]] == b_before
    assert [(tree.copy / kept["a"] / name).read_text() for name in "12"] == ["copy a/1", "copy a/2"]
    assert (tree.copy / kept["c"] / "3").read_text() == "copy c/3"
    assert {path: entry for path, entry in below(found).items() if ".20" not in path} == below(picture(tree.source))


@both_ways
def test_a_large_file_and_a_checked_one_take_the_place_of_directories(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "large", "deep/large", "small")
    for name in ("large", "deep/large"):
        (tree.source / name).write_bytes(os.urandom(9_000_000))
    make(tree.copy, "large/1", "deep", "small/2")

    counted = tree.foretold(verify="checksum")

    assert (counted["files_changed"], counted["removed"]) == (3, 5)
    assert below(picture(tree.copy)) == below(picture(tree.source))


@both_ways
def test_a_link_that_is_followed_replaces_as_what_it_leads_to(
    runner: Runner, server: Endpoint, is_upload: bool
) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "real/x", "file", "a -> file", "b -> real")
    make(tree.copy, "a/1", "b")

    assert tree.foretold(links="follow")["removed"] == 3

    assert ((tree.copy / "a").read_text(), (tree.copy / "b/x").read_text()) == ("from file", "from real/x")
    assert not (tree.copy / "a").is_symlink() and not (tree.copy / "b").is_symlink()


# What goes wrong on the way.


@both_ways
def test_written_in_place_a_file_cannot_replace_a_directory(runner: Runner, server: Endpoint, is_upload: bool) -> None:
    tree = Tree(runner, server, is_upload=is_upload)
    make(tree.source, "a", "b/x")
    make(tree.copy, "a/precious", "b")

    outcome = tree.play(atomic=False)

    assert outcome.exit_code == 2, outcome.output
    assert (tree.copy / "a/precious").exists()
    assert (tree.copy / "b/x").read_text() == "from b/x"


class Refusing(FileServer):
    """Refuses one operation for what has a certain name."""

    operation: ClassVar[str]
    name: ClassVar[bytes]

    def _refuse(self, operation: str, path: bytes) -> None:
        if operation == self.operation and path.rpartition(b"/")[2] == self.name:
            raise asyncssh.SFTPFailure("refused")

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> MaybeAwait[None]:
        self._refuse("mkdir", path)
        return super().mkdir(path, attrs)

    def rmdir(self, path: bytes) -> MaybeAwait[None]:
        self._refuse("rmdir", path)
        return super().rmdir(path)

    def rename(self, oldpath: bytes, newpath: bytes) -> MaybeAwait[None]:
        self._refuse("rename", newpath)
        return super().rename(oldpath, newpath)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> MaybeAwait[object]:
        if path.rpartition(b"/")[2].startswith((self.name, b"." + self.name)):
            self._refuse("open", self.name)
        return super().open(path, pflags, attrs)


def play_refused(runner: Runner, tmp_path: Path, tree: Tree, operation: str, name: bytes, **options: Any) -> Outcome:
    """Play against a server that refuses something, which must fail and leave nothing of ours."""
    factory = type("Refuses", (Refusing,), {"operation": operation, "name": name})
    with AsyncsshServer(tmp_path / "refusing", root=Path("/"), sftp_factory=factory) as server:
        tree.server = server
        outcome = tree.play(**options)
    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
    assert not [path for path in tree.copy.rglob("*") if ".runner-" in path.name]
    return outcome


@pytest.mark.parametrize("backup", [False, True], ids=["", "backup"])
def test_a_directory_that_cannot_be_made_gives_the_file_back(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, backup: bool
) -> None:
    tree = Tree(runner, sshd, is_upload=True)
    make(tree.source, "thing/x", "fine/y")
    make(tree.copy, "thing")
    before = picture(tree.copy)["thing"]

    outcome = play_refused(runner, tmp_path, tree, "mkdir", b"thing", backup=backup)

    assert "1 of what is in" in outcome.step["error"]["message"]
    assert sorted(below(picture(tree.copy))) == ["fine", "fine/y", "thing"]
    assert picture(tree.copy)["thing"] == before


@both_ways
def test_a_file_that_cannot_be_written_or_read_leaves_the_directory(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, is_upload: bool
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make(tree.source, "thing", "other")
    make(tree.copy, "thing/precious", "other/x", "extra")
    before = picture(tree.copy)

    play_refused(runner, tmp_path, tree, "open", b".thing" if is_upload else b"thing")

    after = picture(tree.copy)
    assert {path: after[path] for path in ("thing", "thing/precious")} == {
        path: before[path] for path in ("thing", "thing/precious")
    }
    assert sorted(below(after)) == ["other", "thing", "thing/precious"]


def test_a_directory_that_cannot_be_removed_is_told_once(runner: Runner, sshd: OpenSSHServer, tmp_path: Path) -> None:
    tree = Tree(runner, sshd, is_upload=True)
    make(tree.source, "thing", "other")
    make(tree.copy, "thing/", "other/x")

    outcome = play_refused(runner, tmp_path, tree, "rmdir", b"thing")

    assert "1 of what is in" in outcome.step["error"]["message"]
    assert ((tree.copy / "thing").is_dir(), (tree.copy / "other").read_text()) == (True, "from other")


def test_with_backup_a_directory_comes_back_if_the_file_cannot_take_its_name(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = Tree(runner, sshd, is_upload=True)
    make(tree.source, "thing")
    make(tree.copy, "thing/precious")

    class RefusesFiles(Refusing):
        operation, name = "rename", b"thing"

        def _refuse(self, operation: str, path: bytes) -> None:
            # The directory itself may come back.
            if operation != "rename" or b".runner-" in self.renamed:
                super()._refuse(operation, path)

        def rename(self, oldpath: bytes, newpath: bytes) -> MaybeAwait[None]:
            self.renamed = oldpath
            return super().rename(oldpath, newpath)

    with AsyncsshServer(tmp_path / "refusing", root=Path("/"), sftp_factory=RefusesFiles) as server:
        tree.server = server
        outcome = tree.play(backup=True)

    assert outcome.exit_code == 2, outcome.output
    assert sorted(below(picture(tree.copy))) == ["thing", "thing/precious"]


@both_ways
@pytest.mark.parametrize("after", [1, 3, 4, 6])
def test_a_line_that_breaks_anywhere_is_made_up_for_by_the_next_play(
    runner: Runner, sshd: OpenSSHServer, tmp_path: Path, is_upload: bool, after: int
) -> None:
    tree = Tree(runner, sshd, is_upload=is_upload)
    make(tree.source, "a", "b/x", "c -> a")
    make(tree.copy, "a/1", "a/2", "b", "c/3")

    class Breaking(FileServer):
        left = after

        def _count(self) -> None:
            self.left -= 1
            if self.left == 0:
                self.connection.abort()
                raise asyncssh.SFTPFailure("unheard")

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> MaybeAwait[object]:
            self._count()
            return super().open(path, pflags, attrs)

        def rename(self, oldpath: bytes, newpath: bytes) -> MaybeAwait[None]:
            self._count()
            return super().rename(oldpath, newpath)

        def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> MaybeAwait[None]:
            self._count()
            return super().mkdir(path, attrs)

        def remove(self, path: bytes) -> MaybeAwait[None]:
            self._count()
            return super().remove(path)

    with AsyncsshServer(tmp_path / "breaking", root=Path("/"), sftp_factory=Breaking) as server:
        tree.server = server
        broken = tree.play()
    assert broken.exit_code in (0, 4), broken.output
    for name in "abc":
        # Old, new, or (while a directory makes way) under a name of ours.
        assert os.path.lexists(tree.copy / name) or [path for path in tree.copy.iterdir() if ".runner-" in path.name]

    tree.server = sshd
    assert tree.play().exit_code == 0
    assert below(picture(tree.copy)) == below(picture(tree.source))


# Judged by rsync.


def disguise(root: Path, chance: random.Random) -> None:
    """Make some directories files or links, and some files directories."""
    for path in sorted(root.rglob("*"), reverse=True):
        if chance.random() < 0.7 or not os.path.lexists(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
            path.symlink_to("nowhere") if chance.random() < 0.4 else path.write_text("was a directory")
        else:
            path.unlink()
            make_tree(path, f"{chance.random()}", entries=chance.choice([0, 3]))


@both_ways
@pytest.mark.parametrize("seed", range(TREE_TRIALS))
def test_random_trees_become_what_rsync_makes_of_them(
    runner: Runner, server: Endpoint, is_upload: bool, seed: int
) -> None:
    rsync = shutil.which("rsync")
    if rsync is None:
        pytest.skip("rsync is not installed")
    tree = Tree(runner, server, is_upload=is_upload)
    chance = random.Random(seed)
    make_tree(tree.source, f"types {seed}", entries=30)
    shutil.copytree(tree.source, tree.copy, symlinks=True, dirs_exist_ok=True)
    disguise(tree.source, chance)
    disguise(tree.copy, chance)
    # A download makes no link that leads out, and rsync has no option that leaves what is in its place alone.
    for path, entry in picture(tree.source).items():
        if entry[0] == "link" and not stays_inside(path, os.fsdecode(entry[3])):
            (tree.source / path).unlink()
    theirs = runner.folder / "theirs"
    shutil.copytree(tree.copy, theirs, symlinks=True)
    subprocess.run([rsync, "-a", "--delete", f"{tree.source}/", f"{theirs}/"], check=True, timeout=60)

    before = below(picture(tree.copy))
    counted = tree.foretold(max_delete=1000)

    after = below(picture(tree.copy))
    assert shown(after) == shown(picture(theirs)) == shown(picture(tree.source))
    # A file in a link's place is a file replaced.
    gone = [path for path in before if path not in after or is_folder(before, path) != is_folder(after, path)]
    assert counted["removed"] == len(gone)


def is_folder(found: Picture, path: str) -> bool:
    return found[path][0] == "folder"


def shown(found: Picture) -> Picture:
    """rsync carries times beyond SFTP's; and the destination itself keeps its own mode and time here."""
    return {path: (kind, mode, 0, content) for path, (kind, mode, _, content) in below(found).items()}
