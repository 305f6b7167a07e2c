"""Random trees over random trees, with every combination of the options, against a model of what must come out."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.transfer.test_tree import Tree, both_ways
from tests.transfer.tree_model import Expectation, Model
from tests.transfer.trees import Picture, make_tree, picture

LINKS = ("preserve", "follow", "skip", "error")
COMPARE = ("size_mtime", "size", "checksum", "always")
FILTERS: tuple[dict[str, list[str]], ...] = (
    {},
    {"exclude": ["*.csv", "/b", "a/"]},
    {"include": ["a", "*.csv", "with *"]},
    {"include": ["[a-r]*"], "exclude": ["report.csv", "-dash/"]},
)
COMBINATIONS = tuple(itertools.product(LINKS, COMPARE, (False, True), FILTERS))
# So many combinations for each server and direction; all of them in a long run.
TREE_TRIALS = int(os.environ.get("TREE_TRIALS", "3"))
BATCHES = max(8, TREE_TRIALS)


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


@both_ways
@pytest.mark.parametrize("batch", range(BATCHES))
def test_what_comes_out_is_what_the_options_say(runner: Runner, server: Endpoint, is_upload: bool, batch: int) -> None:
    """Every combination is in one of the batches, of each server and direction."""
    for number, (links, compare, delete, filters) in enumerate(COMBINATIONS):
        if number % 8 != batch % 8:
            continue
        options: dict[str, Any] = {"links": links, "compare": compare, "delete": delete, "max_delete": 1000, **filters}
        seed = f"{batch} {number}"
        tree = Tree(runner, server, is_upload=is_upload)
        for folder in (tree.source, tree.destination):
            shutil.rmtree(folder, ignore_errors=True)
        prepare(tree, seed)

        before = picture(tree.destination)
        expected = Model(tree.source, before, options, is_upload=is_upload).expect()
        foretold = tree.play("--check", **options)
        assert picture(tree.destination) == before, f"{seed}: {options}"
        outcome = tree.play("-v", **options)

        assert changes(foretold) == changes(outcome), f"{seed}: {options}"
        assert (outcome.exit_code != 0) == bool(expected.failures), f"{seed}: {options}\n{outcome.output}"
        assert told(picture(tree.destination), compare, expected) == told(expected.picture, compare, expected), (
            f"{seed}: {options}"
        )
        if not expected.failures:
            again = tree.play(**options)
            wanted = "changed" if compare == "always" and expected.picture.keys() != {"."} else "ok"
            assert again.exit_code == 0, again.output
            assert again.step["status"] in ("ok", wanted), f"{seed}: {options}\n{again.output}"
            assert told(picture(tree.destination), compare, expected) == told(expected.picture, compare, expected), (
                f"{seed}: {options}"
            )


def changes(outcome: Outcome) -> list[tuple[str, str, str]]:
    """What was changed or would be, without what depends on the moment."""
    return sorted((change["path"], change["action"], change["why"]) for change in outcome.step["changes"])


def prepare(tree: Tree, seed: str) -> None:
    """A source, and a destination with much of the same names: some alike, some other, some of another kind."""
    chance = random.Random(seed)
    make_tree(tree.source, f"source {seed}", entries=25)
    season(tree.source, chance)
    if chance.random() < 0.6:
        shutil.copytree(tree.source, tree.destination, symlinks=True)
        for path in sorted(tree.destination.rglob("*")):
            if os.path.lexists(path) and chance.random() < 0.3:
                spoil(path, chance)
    else:
        make_tree(tree.destination, f"destination {seed}", entries=25)
    season(tree.destination, chance)


def season(root: Path, chance: random.Random) -> None:
    """Give some folders special bits, or let everybody write into them, and leave their times as they are."""
    for folder in [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()]:
        if chance.random() < 0.4:
            times = folder.stat()
            folder.chmod(chance.choice([0o2775, 0o1777, 0o777, 0o3770]))
            os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))


def spoil(path: Path, chance: random.Random) -> None:
    """Make one entry another one."""
    if path.is_symlink() or not path.is_dir():
        if chance.random() < 0.5 or path.is_symlink():
            path.unlink()
        elif chance.random() < 0.5:
            path.chmod(chance.choice([0o600, 0o644]))
        else:
            size, times = path.stat().st_size, (path.stat().st_atime, int(path.stat().st_mtime))
            path.write_bytes(chance.randbytes(size))
            if chance.random() < 0.5:
                os.utime(path, times)
    elif chance.random() < 0.3:
        shutil.rmtree(path)
    else:
        (path / "of the destination").write_text("x")


def told(found: Picture, compare: str, expected: Expectation) -> Picture:
    """Without the times of folders where they depend on whether something in them was touched."""
    return {
        path: ("folder", entry[1], 0, b"")
        if entry[0] == "folder" and (compare in ("size", "checksum") or path in expected.restless)
        else entry
        for path, entry in found.items()
    }
