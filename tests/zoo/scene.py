"""One check on one server: a directory there, a directory here, the plays between them, and what must be so afterwards."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Outcome, Runner, connection
from tests.servers.endpoint import LOOPBACK
from tests.zoo.backends import Running
from tests.zoo.capabilities import Capability
from tests.zoo.lacks import Product

MODE, TIME = 0o640, 1_700_000_000
PERMISSION_WORDS, TIME_WORDS = ("permission",), ("time",)


@dataclass(frozen=True, slots=True)
class Copy:
    """A file as it must be on a disk."""

    data: bytes
    mode: int | None = MODE
    time: int | None = TIME


class Scene:
    """`there` is a directory on the server's disk, called `name` by the server; `here` is one of the engine's."""

    def __init__(self, runner: Runner, running: Running, product: Product, number: int) -> None:
        self.runner, self.running, self.product = runner, running, product
        self.there = running.disk / f"check {number}"
        self.name = f"{running.name}/check {number}"
        self.here = runner.folder / "here"
        self.there.mkdir()
        self.here.mkdir()
        for path in running.login.iterdir():
            path.unlink()  # what an earlier check left there is its own failure
        self.line: tuple[str, int] | None = None

    def has(self, capability: Capability) -> bool:
        return self.product.has(capability)

    def play(self, *modes: dict[str, Any], arguments: tuple[str, ...] = (), **inputs: Any) -> Outcome:
        """Play steps with these modes, over the line that is set."""
        return self.runner.play([{**self.make_step(mode), **inputs} for mode in modes], *arguments)

    def make_step(self, mode: dict[str, Any]) -> dict[str, Any]:
        """A step with this mode, over the line that is set."""
        host, port = self.line or (LOOPBACK, self.running.server.port)
        return {**connection(self.running.server, host=host, port=port), "mode": mode}

    def play_well(self, *modes: dict[str, Any], arguments: tuple[str, ...] = (), **inputs: Any) -> dict[str, Any]:
        """Play, which must succeed: the report on the last step."""
        outcome = self.play(*modes, arguments=arguments, **inputs)
        assert outcome.exit_code == 0, outcome.output
        step: dict[str, Any] = outcome.report["steps"][-1]
        return step

    def upload(self, name: str = "file", **options: Any) -> dict[str, Any]:
        """The mode that copies a file of `here` to `there` under the same name."""
        options = {**self.product.make_upload_options(), **options}
        return self._file("from", str(self.here / name), f"{self.name}/{name}", options)

    def download(self, name: str = "file", **options: Any) -> dict[str, Any]:
        return self._file("to", f"{self.name}/{name}", str(self.here / name), options)

    def upload_tree(self, name: str = "tree", **options: Any) -> dict[str, Any]:
        options = {**self.product.make_upload_options(), **options}
        return self._tree("from", str(self.here / name), f"{self.name}/{name}", options)

    def download_tree(self, name: str = "tree", **options: Any) -> dict[str, Any]:
        return self._tree("to", f"{self.name}/{name}", str(self.here / name), options)

    def copy(self, is_upload: bool, name: str = "file", **options: Any) -> dict[str, Any]:
        return self.upload(name, **options) if is_upload else self.download(name, **options)

    def copy_tree(self, is_upload: bool, name: str = "tree", **options: Any) -> dict[str, Any]:
        return self.upload_tree(name, **options) if is_upload else self.download_tree(name, **options)

    def ends(self, is_upload: bool) -> tuple[Path, Path]:
        """The directories of source and destination, on their disks."""
        return (self.here, self.there) if is_upload else (self.there, self.here)

    @staticmethod
    def _file(way: str, source: str, destination: str, options: dict[str, Any]) -> dict[str, Any]:
        names = {"source_file_name": source, "destination_file_name": destination}
        return {"mode_name": f"copy_file_{way}_engine", **names, **options}

    @staticmethod
    def _tree(way: str, source: str, destination: str, options: dict[str, Any]) -> dict[str, Any]:
        names = {"source_directory_name": source, "destination_directory_name": destination}
        return {"mode_name": f"copy_directory_{way}_engine", **names, **options}

    def assert_copied(self, step: dict[str, Any], path: Path, wanted: Copy, *, is_upload: bool) -> None:
        """What is on the disk is what it must be, as far as the server can keep it, and so says the report."""
        assert path.read_bytes() == wanted.data
        assert step["result"]["size_bytes"] == len(wanted.data)
        assert step["result"]["verified"] in ("size", "sha256", "readback")
        status = path.stat()
        if wanted.mode is not None and self.has(Capability.PERMISSIONS if is_upload else Capability.TELLS_PERMISSIONS):
            assert status.st_mode & 0o7777 == wanted.mode, oct(status.st_mode)
        if wanted.time is not None and (not is_upload or self.has(Capability.TIMES)):
            assert int(status.st_mtime) == wanted.time

    def assert_only(self, there: set[str], here: set[str]) -> None:
        """Nothing but these names is left in either directory, nor anything where sessions start."""
        assert set(os.listdir(self.there)) == there
        assert set(os.listdir(self.here)) == here
        assert os.listdir(self.running.login) == [], "something is left in the login directory"


def mentions(texts: list[str], words: tuple[str, ...]) -> bool:
    """Whether one of the texts has one of the words in it."""
    return any(word in text for text in texts for word in words)


def write(path: Path, data: bytes, *, mode: int = MODE, time: int = TIME) -> Copy:
    """Write a file with its mode and time: what its copy must be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, (time, time))
    return Copy(data, mode, time)


def make_bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)
