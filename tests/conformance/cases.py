"""The plays whose every request is answered oddly: each mode, both directions, with the options that send other requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.oracle import Entry, Promise, look
from tests.conformance.plays import (
    DESTINATION,
    NAME,
    OLD_SECONDS,
    SOURCE,
    Direction,
    Stage,
    content_of,
    copy_file,
    copy_tree,
    write,
)
from tests.conformance.served import FSYNC, HARDLINK, POSIX_RENAME

MIB = 1024 * 1024
FILE_BYTES = 20_000
LARGE_BYTES = 9 * MIB
Asked = tuple[dict[str, Any], Promise]


@dataclass(frozen=True, slots=True)
class Case:
    """One play: `lay_out` makes both sides and says what is asked for.

    `hidden` are extensions that the server lacks; `weight` is how many trials it takes the place of.
    """

    name: str
    lay_out: Callable[[Stage], Asked]
    inputs: dict[str, Any] = field(default_factory=dict)
    hidden: frozenset[bytes] = frozenset()
    weight: int = 1
    is_roomy: bool = False


def _file(
    direction: Direction, *, old: str = "other", size: int = FILE_BYTES, **options: Any
) -> Callable[[Stage], Asked]:
    """One file over an older one: `none`, `other`, `same`, or `resized` for one of the same size."""

    def lay_out(stage: Stage) -> Asked:
        content = content_of("new", size)
        write(stage.source(direction) / NAME, content)
        olds = {"other": content_of("old", 5000), "resized": content_of("old", size), "same": content}
        if old in olds:
            seconds = {"same": {}}.get(old, {"seconds": OLD_SECONDS})
            write(stage.destination(direction) / NAME, olds[old], **seconds)
        else:
            stage.destination(direction).mkdir()
        return copy_file(stage, direction, **options)

    return lay_out


LOOPED = tuple(f"{number}.csv" for number in range(4))


def _loop(direction: Direction, *, has_old: bool = True, **options: Any) -> Callable[[Stage], Asked]:
    """Some files in a loop, over older ones, of which one is right already."""

    def lay_out(stage: Stage) -> Asked:
        wanted: dict[str, Entry | None] = {}
        stage.destination(direction).mkdir()
        for number, name in enumerate(LOOPED):
            content = content_of(f"file {number}", 3000 * number)
            write(stage.source(direction) / name, content, mode=0o640)
            if has_old and number == 1:
                write(stage.destination(direction) / name, content, mode=0o640)
            elif has_old:
                write(stage.destination(direction) / name, content_of("old", 5000), seconds=OLD_SECONDS)
            _, promise = copy_file(stage, direction, name=name, **options)
            wanted |= promise.wanted
        mode, promise = copy_file(stage, direction, name="{{ item }}", source_exists=False, **options)
        return mode, dataclasses.replace(promise, wanted=wanted)

    return lay_out


def _deep_file(direction: Direction, **options: Any) -> Callable[[Stage], Asked]:
    """One file into directories that are not there."""

    def lay_out(stage: Stage) -> Asked:
        name = f"one/two/{NAME}"
        write(stage.source(direction) / name, content_of("new", FILE_BYTES))
        mode, promise = copy_file(stage, direction, name=name, **options)
        made = {path: Entry("directory") for path in (f"{DESTINATION}/one", f"{DESTINATION}/one/two")}
        return mode, dataclasses.replace(promise, wanted={**made, **promise.wanted})

    return lay_out


def _tree(direction: Direction, *, has_old: bool = True, **options: Any) -> Callable[[Stage], Asked]:
    """A tree with directories, an empty one too, and a link, over an older one with other files and some of its own."""

    def lay_out(stage: Stage) -> Asked:
        source, destination = stage.source(direction), stage.destination(direction)
        write(source / NAME, content_of("new", FILE_BYTES))
        for number in range(4):
            write(source / f"sub/{number}.csv", content_of(f"file {number}", 3000 * number), mode=0o640)
        write(source / "sub/below/last.csv", content_of("last", 100))
        (source / "empty").mkdir()
        (source / "link").symlink_to(NAME)
        if has_old:
            write(destination / NAME, content_of("old", 5000), seconds=OLD_SECONDS)
            write(destination / "sub/0.csv", content_of("old 0", 300), seconds=OLD_SECONDS)
            write(destination / "sub/1.csv", content_of("file 1", 3000), mode=0o640)
            write(destination / "sub/extra.csv", content_of("extra", 300), seconds=OLD_SECONDS)
            (destination / "old").mkdir()
            (destination / "link").symlink_to("sub/0.csv")
        return copy_tree(stage, direction, **options)

    return lay_out


def _on_server(make: Callable[[Stage], dict[str, Any]], **promised: Any) -> Callable[[Stage], Asked]:
    """A mode that copies nothing, over a small tree in `out/`; `promised` says what becomes of it."""

    def lay_out(stage: Stage) -> Asked:
        folder = stage.remote / SOURCE
        write(folder / NAME, content_of("one", 3000))
        for number in range(4):
            write(folder / f"sub/{number}.csv", content_of(f"file {number}", 100))
        (folder / "sub/link").symlink_to("../report.csv")
        (folder / "sub/below").mkdir()
        before = look(stage.remote)
        wanted = promised.get("wanted", lambda found: {})(before)
        listed = promised.get("listed", lambda found: None)(before)
        return make(stage), Promise("remote", wanted, is_copy=False, listed=listed)

    return lay_out


def _gone(*paths: str) -> Callable[[dict[str, Entry]], dict[str, Entry | None]]:
    """These paths and what is below them."""
    return lambda found: {
        each: None for each in found if any(each == path or each.startswith(f"{path}/") for path in paths)
    }


def _below(folder: str, *, is_deep: bool) -> Callable[[dict[str, Entry]], tuple[str, ...]]:
    return lambda found: tuple(
        path
        for path in found
        if path.startswith(f"{folder}/") and (is_deep or "/" not in path.removeprefix(f"{folder}/"))
    )


def _rename(overwrite: bool) -> Callable[[Stage], Asked]:
    source, destination = f"{SOURCE}/{NAME}", f"{SOURCE}/sub/0.csv" if overwrite else f"{SOURCE}/sub/new.csv"
    return _on_server(
        lambda stage: {
            "mode_name": "rename",
            "source_path": str(stage.remote / source),
            "destination_path": str(stage.remote / destination),
            "overwrite": overwrite,
        },
        wanted=lambda found: {source: None, destination: found[source]},
    )


def _about(mode_name: str, path: str, **options: Any) -> Callable[[Stage], dict[str, Any]]:
    return lambda stage: {"mode_name": mode_name, "path": str(stage.remote / path), **options}


def _write(*, old: str = "other", **options: Any) -> Callable[[Stage], Asked]:
    """Text over an older file: `none`, `other`, `same`, or `resized` for one of the same size."""

    def lay_out(stage: Stage) -> Asked:
        # The other side has a file too, that nobody has asked for.
        write(stage.source("up") / NAME, content_of("one", 3000))
        content, path = content_of("new", FILE_BYTES), f"{DESTINATION}/{NAME}"
        olds = {"other": content_of("old", 5000), "resized": content_of("old", FILE_BYTES), "same": content}
        stage.destination("up").mkdir()
        if old in olds:
            write(stage.remote / path, olds[old], seconds=OLD_SECONDS)
        mode = {
            "mode_name": "write_file",
            "content": content.decode(),
            "destination_file_name": str(stage.remote / path),
            **options,
        }
        permissions = int(options["permissions"], 8) if "permissions" in options else None
        wanted = {DESTINATION: Entry("directory"), path: Entry("file", content, permissions)}
        return mode, Promise(
            "remote",
            wanted,
            demands_mode=permissions is not None,
            verify=options.get("verify", "auto"),
            backup=options.get("backup", False),
            atomic=options.get("atomic", True),
        )

    return lay_out


def _read(**options: Any) -> Callable[[Stage], Asked]:
    """A file's content into the result."""

    def lay_out(stage: Stage) -> Asked:
        content = content_of("one", 3000)
        write(stage.remote / SOURCE / NAME, content)
        mode = {"mode_name": "read_file", "source_file_name": str(stage.remote / SOURCE / NAME), **options}
        return mode, Promise("remote", {}, is_copy=False, read=content.decode())

    return lay_out


def _link(*, old: str | None) -> Callable[[Stage], Asked]:
    """A link where nothing is, or where another one is."""

    def lay_out(stage: Stage) -> Asked:
        folder, target = stage.remote / SOURCE, "releases/1.4"
        write(folder / NAME, content_of("one", 3000))
        if old is not None:
            (folder / "current").symlink_to(old)
        mode = {"mode_name": "create_link", "path": str(folder / "current"), "target": target}
        return mode, Promise("remote", {f"{SOURCE}/current": Entry("link", target.encode())}, is_copy=False)

    return lay_out


_BARE = frozenset([POSIX_RENAME, HARDLINK, FSYNC])
_NO_HARDLINK = frozenset([HARDLINK])
_DIRECTIONS: tuple[Direction, ...] = ("up", "down")


def _copies(direction: Direction) -> list[Case]:
    """What both directions have."""
    return [
        Case(f"{direction}-file", _file(direction)),
        Case(f"{direction}-file-new", _file(direction, old="none")),
        Case(f"{direction}-file-same", _file(direction, old="same", permissions="0640")),
        Case(f"{direction}-file-parents", _deep_file(direction)),
        Case(f"{direction}-file-backup", _file(direction, backup=True)),
        Case(f"{direction}-file-skip", _file(direction, if_exists="skip")),
        Case(f"{direction}-file-checksum", _file(direction, old="resized", compare="checksum", verify="checksum")),
        Case(f"{direction}-file-permissions", _file(direction, permissions="0640", preserve=[])),
        Case(f"{direction}-file-durable", _file(direction, durable=True)),
        Case(f"{direction}-file-in-place", _file(direction, atomic=False)),
        Case(f"{direction}-file-retried", _file(direction), inputs={"retries": 1, "delay": 0}),
        Case(f"{direction}-loop", _loop(direction), inputs={"loop": LOOPED}),
        Case(f"{direction}-loop-new", _loop(direction, has_old=False), inputs={"loop": LOOPED}),
        Case(f"{direction}-loop-retried", _loop(direction), inputs={"loop": LOOPED, "retries": 1, "delay": 0}),
        Case(f"{direction}-file-large", _file(direction, size=LARGE_BYTES), weight=4, is_roomy=True),
        Case(f"{direction}-tree", _tree(direction)),
        Case(f"{direction}-tree-new", _tree(direction, has_old=False)),
        Case(f"{direction}-tree-always", _tree(direction, compare="always", links="follow", permissions="0640")),
        Case(f"{direction}-tree-backup", _tree(direction, backup=True, delete=True)),
        Case(f"{direction}-tree-skip", _tree(direction, if_exists="skip")),
        Case(f"{direction}-tree-checksum", _tree(direction, compare="checksum", verify="checksum")),
        Case(f"{direction}-tree-durable", _tree(direction, durable=True)),
        Case(f"{direction}-tree-in-place", _tree(direction, atomic=False)),
        Case(f"{direction}-tree-retried", _tree(direction, delete=True), inputs={"retries": 1, "delay": 0}),
    ]


CASES: tuple[Case, ...] = (
    *(case for direction in _DIRECTIONS for case in _copies(direction)),
    Case("up-file-bare", _file("up"), hidden=_BARE),
    Case("up-file-bare-backup", _file("up", backup=True), hidden=_BARE),
    Case("up-file-no-hardlink", _file("up", backup=True), hidden=_NO_HARDLINK),
    Case("up-tree-bare", _tree("up", delete=True), hidden=_BARE),
    Case("up-tree-bare-backup", _tree("up", backup=True), hidden=_BARE),
    Case("list", _on_server(_about("list", SOURCE), listed=_below(SOURCE, is_deep=False))),
    Case(
        "list-recursive",
        _on_server(_about("list", SOURCE, recursive=True), listed=_below(SOURCE, is_deep=True)),
    ),
    Case("stats", _on_server(_about("stats", f"{SOURCE}/{NAME}"))),
    Case("stats-link", _on_server(_about("stats", f"{SOURCE}/sub/link"))),
    Case("remove", _on_server(_about("remove", f"{SOURCE}/{NAME}"), wanted=_gone(f"{SOURCE}/{NAME}"))),
    Case(
        "remove-recursive",
        _on_server(_about("remove", f"{SOURCE}/sub", recursive=True), wanted=_gone(f"{SOURCE}/sub")),
    ),
    Case("rename", _rename(overwrite=False)),
    Case("rename-over", _rename(overwrite=True)),
    Case(
        "create-directory",
        _on_server(
            _about("create_directory", f"{SOURCE}/one/two/three", permissions="0750"),
            wanted=lambda found: {
                f"{SOURCE}/one": Entry("directory"),
                f"{SOURCE}/one/two": Entry("directory"),
                f"{SOURCE}/one/two/three": Entry("directory", mode=0o750),
            },
        ),
    ),
    Case("write", _write()),
    Case("write-new", _write(old="none")),
    Case("write-same", _write(old="same")),
    Case("write-resized", _write(old="resized", verify="checksum")),
    Case("write-backup", _write(permissions="0640", backup=True, durable=True)),
    Case("write-in-place", _write(atomic=False)),
    Case("write-bare", _write(), hidden=_BARE),
    Case("write-retried", _write(), inputs={"retries": 1, "delay": 0}),
    Case("read", _read()),
    Case("link", _link(old=None)),
    Case("link-switched", _link(old=NAME)),
    Case("link-bare", _link(old=NAME), hidden=_BARE),
    Case("link-retried", _link(old=NAME), inputs={"retries": 1, "delay": 0}),
    Case("wait", _on_server(_about("wait_for", f"{SOURCE}/{NAME}", timeout=0))),
    Case(
        "wait-glob",
        _on_server(
            _about("wait_for", f"{SOURCE}/*/*.csv", timeout=0, min_files=4),
            listed=lambda found: tuple(f"{SOURCE}/sub/{number}.csv" for number in range(4)),
        ),
    ),
)
CASES_BY_NAME = {case.name: case for case in CASES}
