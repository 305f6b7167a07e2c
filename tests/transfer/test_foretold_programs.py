"""Random short programs: what --check says of each step, of those behind it too, is what the play then does."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Runner, connection, require_sshd
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.openssh import OpenSSHServer
from tests.transfer.trees import picture

PROGRAMS_AT_ONCE = 20
STEPS = 9
WHEN = 1_500_000_000
NOT_CARRIED_OUT = "which --check does not carry out"
# Set to the seed of a program that fails, to play it alone.
ONLY = os.environ.get("FORETOLD_ONLY")

NAMES = ("a", "b", "c", "d/a", "d/b", "d/e/a", "f/a")
DIRECTORIES = ("d", "d/e", "f", "g", "t")
TARGETS = ("a", "b", "d", "../here", "d/a", "nowhere", ".")
CONTENTS = ("", "one", "two", "three words")


class Program:
    """A few steps in a directory of its own on each side."""

    def __init__(self, seed: str, there: Path, here: Path, root: str) -> None:
        """`root` is what the server calls `there`."""
        self._chance = random.Random(seed)
        self._there, self._here = there / seed, here / seed
        self._seed, self._root = seed, root
        for directory in (self._there, self._here):
            self._furnish(directory)
        self.steps = [{"mode": self._choose_mode(), "ignore_errors": True} for _ in range(STEPS)]

    def _furnish(self, root: Path) -> None:
        chance = self._chance
        root.mkdir()
        for name in chance.sample(NAMES, chance.randint(1, 5)):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(chance.choice(CONTENTS))
            path.chmod(chance.choice([0o600, 0o644]))
            when = WHEN + chance.randint(0, 2) * 1000
            os.utime(path, (when, when))
        if chance.random() < 0.5:
            (root / "l").symlink_to(chance.choice(["a", "d", "nowhere"]))
        for directory, _, _ in os.walk(root, topdown=False):
            os.utime(directory, (WHEN, WHEN))

    # Paths, in the many ways in which they can be written.

    def _remote(self, *names: str) -> str:
        name = self._chance.choice(names)
        way = self._chance.randrange(4)
        if way == 0:
            return f"{self._root}/{self._seed}/{name}"
        if way == 1:
            return f"{self._seed}/./{name}"
        return f"{self._seed}/{name}"

    def _local(self, *names: str) -> str:
        name = self._chance.choice(names)
        return f"{self._here}/{name}" if self._chance.random() < 0.3 else f"here/{self._seed}/{name}"

    # Steps.

    def _choose_mode(self) -> dict[str, Any]:
        kinds = {
            self._upload: 5, self._download: 3, self._upload_tree: 3, self._download_tree: 3, self._rename: 5,
            self._remove: 3, self._make_directory: 2, self._link: 2, self._write: 3, self._read: 2, self._list: 3,
            self._stats: 2, self._wait: 1,
        }  # fmt: skip
        kind = self._chance.choices([*kinds], [*kinds.values()])[0]
        return kind()

    def _some(self, **options: Any) -> dict[str, Any]:
        """A few of the options, each with one of its values."""
        chosen = [name for name in options if self._chance.random() < 0.2]
        if "atomic" in chosen and "backup" in chosen:
            chosen.remove("atomic")
        return {name: self._chance.choice(options[name]) for name in chosen}

    def _copy_options(self) -> dict[str, Any]:
        return self._some(
            preserve=[[], ["times"], ["permissions"]],
            permissions=["0640", "0600"],
            compare=["size", "checksum", "always"],
            if_exists=["skip", "fail"],
            atomic=[False],
            create_parents=[False],
            backup=[True],
        )

    def _tree_options(self) -> dict[str, Any]:
        deletes = {"delete": True} if self._chance.random() < 0.4 else {}
        return {**self._copy_options(), **deletes, **self._some(links=["skip", "follow"], exclude=[["b"]])}

    def _upload(self) -> dict[str, Any]:
        return _copy("copy_file_from_engine", self._local(*NAMES, "l"), self._remote(*NAMES, "l", "g/a")) | (
            self._copy_options()
        )

    def _download(self) -> dict[str, Any]:
        return _copy("copy_file_to_engine", self._remote(*NAMES, "l"), self._local(*NAMES, "g/a")) | (
            self._copy_options()
        )

    def _upload_tree(self) -> dict[str, Any]:
        return _copy("copy_directory_from_engine", self._local(*DIRECTORIES), self._remote(*DIRECTORIES, "l")) | (
            self._tree_options()
        )

    def _download_tree(self) -> dict[str, Any]:
        return _copy("copy_directory_to_engine", self._remote(*DIRECTORIES, "l"), self._local(*DIRECTORIES)) | (
            self._tree_options()
        )

    def _rename(self) -> dict[str, Any]:
        name = self._chance.choice([*NAMES, *DIRECTORIES, "l"])
        # That it lies inside of what is renamed is seen before the play, where it is written so.
        others = [other for other in (*NAMES, *DIRECTORIES, "l", "z", "l/a") if not f"{other}/".startswith(f"{name}/")]
        source, destination = self._remote(name), self._remote(*others)
        return {"mode_name": "rename", "source_path": source, "destination_path": destination} | (
            self._some(overwrite=[True])
        )

    def _remove(self) -> dict[str, Any]:
        path = self._remote(*NAMES, *DIRECTORIES, "l")
        return {"mode_name": "remove", "path": path} | self._some(recursive=[True], missing_ok=[False])

    def _make_directory(self) -> dict[str, Any]:
        path = self._remote(*DIRECTORIES, "l", "a")
        return {"mode_name": "create_directory", "path": path} | self._some(parents=[False], permissions=["0750"])

    def _link(self) -> dict[str, Any]:
        path = self._remote("l", "m", "d/l")
        options = self._some(overwrite=[False])
        return {"mode_name": "create_link", "path": path, "target": self._chance.choice(TARGETS)} | options

    def _write(self) -> dict[str, Any]:
        content = self._chance.choice(CONTENTS)
        mode = {"mode_name": "write_file", "destination_file_name": self._remote(*NAMES, "l"), "content": content}
        return mode | self._some(permissions=["0640"], atomic=[False])

    def _read(self) -> dict[str, Any]:
        return {"mode_name": "read_file", "source_file_name": self._remote(*NAMES, "l")}

    def _list(self) -> dict[str, Any]:
        path = self._remote(*DIRECTORIES, "l", ".")
        return {"mode_name": "list", "path": path, "recursive": self._chance.random() < 0.6}

    def _stats(self) -> dict[str, Any]:
        return {"mode_name": "stats", "path": self._remote(*NAMES, *DIRECTORIES, "l", "m")}

    def _wait(self) -> dict[str, Any]:
        path = self._remote(*NAMES, "*", "d/*", "**/a")
        state = self._chance.choice(["present", "absent"])
        return {"mode_name": "wait_for", "path": path, "state": state, "timeout": 0.01, "every": 0.1}


def _copy(name: str, source: str, destination: str) -> dict[str, Any]:
    kind = "directory" if "directory" in name else "file"
    return {"mode_name": name, f"source_{kind}_name": source, f"destination_{kind}_name": destination}


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    """Each begins in the directory `there`."""
    there = tmp_path / "there"
    there.mkdir()
    if request.param == "asyncssh":
        with AsyncsshServer(tmp_path / "server", root=there) as asyncssh_server:
            yield asyncssh_server
        return
    require_sshd()
    with OpenSSHServer(tmp_path / "server", login_folder=there) as sshd:
        yield sshd


@pytest.mark.parametrize(
    ("number", "server"), [*((number, "sshd") for number in range(6)), (6, "asyncssh")], indirect=["server"]
)
def test_what_is_foretold_is_what_is_done(runner: Runner, server: Endpoint, number: int) -> None:
    there, here = runner.folder / "there", runner.folder / "here"
    root = str(there)
    here.mkdir()
    seeds = [f"p{number * PROGRAMS_AT_ONCE + index}" for index in range(PROGRAMS_AT_ONCE)]
    programs = [Program(seed, there, here, root) for seed in seeds if ONLY in (None, seed)]
    if not programs:
        pytest.skip("another program is to be played")
    steps = [step for program in programs for step in program.steps]
    playbook = {"defaults": connection(server), "steps": steps}
    before = picture(there), picture(here)

    foretold = runner.play(playbook, "--check", "-v")
    assert (picture(there), picture(here)) == before
    assert foretold.exit_code == 0, foretold.output
    done = runner.play(playbook, "-v")

    pairs = list(zip(steps, foretold.report["steps"], done.report["steps"], strict=True))
    wrong = [
        (seeds[index // STEPS] if ONLY is None else ONLY, step["mode"], difference)
        for index, (step, said, came) in enumerate(pairs)
        if (difference := find_difference(said, came))
    ]
    assert not wrong, "\n".join(map(str, wrong[:10]))
    # Most of it can be known.
    unknown = [said for said in foretold.report["steps"] if NOT_CARRIED_OUT in said["message"]]
    assert len(unknown) < len(steps) / 6, [said["message"] for said in unknown]


def find_difference(said: dict[str, Any], came: dict[str, Any]) -> Any:
    """How a step ended otherwise than --check has said; None if it has not, or if --check has not said how it ends."""
    if said["status"] == "skipped" and NOT_CARRIED_OUT in said["message"]:
        return None
    if said["result"].get("met") is False:
        return None if came["status"] == "failed" else ("waits", came["message"])
    # A failure may be met before or behind the telling of what is about to be changed.
    parts = ("status", "error") if came["status"] == "failed" else ("status", "error", "changes", "result")
    for part in parts:
        first, second = _comparable(part, said), _comparable(part, came)
        if part == "result":
            first, second = _known(first, second)
        if first != second:
            return part, first, second, said["message"], came["message"]
    return None


def _comparable(part: str, step: dict[str, Any]) -> Any:
    value = step[part]
    if part == "error":
        return value and value["type"]
    if part == "changes":
        # In which order things are told that are asked at once is no matter.
        return sorted((one["action"], one["path"], str(one["size_bytes"])) for one in value or [] if not _is_open(one))
    return value


def _is_open(change: dict[str, Any]) -> bool:
    """Whether only the play knows: the name of a backup, and what a new directory is like until it gets its attributes."""
    is_directory = str(change["path"]).endswith("/")
    return change["action"] == "rename" or (change["action"] == "chmod" and is_directory)


# What only a play finds out.
ONLY_DONE = {
    *("verified", "sha256", "atomic", "bytes_transferred", "backup", "backups", "resumed_at_bytes", "waited_seconds"),
    *("durable", "warnings"),
}


def _known(said: Any, came: Any) -> tuple[Any, Any]:
    """Both without what --check leaves open."""
    if isinstance(said, dict) and isinstance(came, dict):
        keys = [key for key in said if said[key] is not None and key not in ONLY_DONE]
        pairs = {key: _known(said[key], came.get(key)) for key in keys}
        return {key: one for key, (one, _) in pairs.items()}, {key: other for key, (_, other) in pairs.items()}
    if isinstance(said, list) and isinstance(came, list) and len(said) == len(came):
        pairs_of_list = [_known(one, other) for one, other in zip(said, came, strict=True)]
        return [one for one, _ in pairs_of_list], [other for _, other in pairs_of_list]
    return said, came
