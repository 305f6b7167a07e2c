"""What a play fails with, --check says beforehand: every situation, each way of copying, against the same two disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Outcome, Runner, connection, download, step, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer
from tests.transfer.trees import Picture, picture

CONTENT, OTHER = "content", "other content"
WHEN = 1_600_000_000

Options = dict[str, Any]


class Verdict(NamedTuple):
    """How a step ends: its status and its whole error."""

    status: str
    error: str
    message: str
    hint: str


# Where a file or a tree is to be made, and what is there: see `furnish`.
MISSING = ("missing/new", "missing/deeper/new")
IN_THE_WAY = ("file/new", "file/deeper/new", "dangling/new", "folder/file/new")
THERE = ("same", "differs", "same but open", "link", "dangling", "folder", "link to folder")
PLACES = ("new", "folder/new", "link to folder/new", *MISSING, *IN_THE_WAY, *THERE)

FILE_OPTIONS: list[tuple[Options, tuple[str, ...]]] = [
    ({}, PLACES),
    ({"create_parents": False}, ("new", *MISSING, *IN_THE_WAY, "differs")),
    ({"atomic": False}, ("new", "missing/new", "file/new", *THERE)),
    ({"atomic": False, "create_parents": False}, ("missing/new", "link")),
    ({"backup": True}, ("new", "same", "differs", "link", "missing/new")),
    ({"permissions": "0600"}, ("new", "same", "differs", "same but open")),
    ({"if_exists": "fail"}, ("new", "same", "differs", "missing/new")),
    ({"if_exists": "skip", "backup": True}, ("differs",)),
]
FILE_CASES = [(options, place) for options, places in FILE_OPTIONS for place in places]
# Over SCP with a shell each look is a program on the server: those of them that ask for something else there.
SHELL_PLACES = ("new", "missing/new", "file/new", "dangling/new", "differs", "same but open", "dangling")
SHELL_CASES: list[tuple[Options, str]] = [
    *(({}, place) for place in SHELL_PLACES),
    *(({"create_parents": False}, place) for place in ("missing/new", "file/new")),
    *(({"atomic": False}, place) for place in ("link", "missing/new")),
    *(({"backup": True}, place) for place in ("new", "differs")),
    *(({"permissions": "0600"}, place) for place in ("same", "differs")),
]
TREE_OPTIONS: list[tuple[Options, tuple[str, ...]]] = [
    ({}, (*PLACES, "tree")),
    ({"create_parents": False}, ("new", *MISSING, *IN_THE_WAY, "dangling", "tree")),
    ({"atomic": False}, ("new", "tree")),
    ({"backup": True}, ("tree",)),
]
TREE_CASES = [(options, place) for options, places in TREE_OPTIONS for place in places]


def furnish(root: Path, *, has_pipes: bool) -> None:
    """Something of every kind, for a file or a tree to be copied to."""
    root.mkdir(parents=True)
    for name, text, mode in (
        ("file", OTHER, 0o644),
        ("same", CONTENT, 0o640),
        ("same but open", CONTENT, 0o644),
        ("differs", OTHER, 0o644),
    ):
        write(root / name, text, mode)
    (root / "folder").mkdir()
    write(root / "folder/file", OTHER)
    (root / "link").symlink_to("same")
    (root / "dangling").symlink_to("nowhere")
    (root / "link to folder").symlink_to("folder")
    tree = root / "tree"
    tree.mkdir()
    # Against `make_source`: a file where a directory is, and the other way round; links; pipes.
    (tree / "a").mkdir()
    write(tree / "below", OTHER)
    (tree / "linked").symlink_to("../same")
    write(tree / "right", CONTENT, 0o640)
    if has_pipes:
        os.mkfifo(root / "pipe")
        os.mkfifo(tree / "pipe")


def make_source(root: Path) -> None:
    write(root / "source", CONTENT, 0o640)
    for name in ("a", "below/b", "linked", "pipe", "right", "sub/c"):
        path = root / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, CONTENT, 0o640)
    (root / "from/to a").symlink_to("a")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.write_text(text)
    path.chmod(mode)
    os.utime(path, (WHEN, WHEN))


class Case:
    """Two disks, and a step that is checked first and then played; or many, each with a pair of folders of its own."""

    def __init__(self, runner: Runner, server: Endpoint, kind: str) -> None:
        self.runner, self.server, self.kind = runner, server, kind
        self.server_has_shell = not isinstance(server, AsyncsshServer)
        self.here, self.there = runner.folder / "here", runner.folder / "there"

    def furnish(self, name: str = ".", *, is_upload: bool) -> tuple[Path, Path]:
        """The folders here and there of one step."""
        here, there = self.here / name, self.there / name
        source, destination = (here, there) if is_upload else (there, here)
        furnish(destination, has_pipes=not is_upload)
        source.mkdir(parents=True)
        make_source(source)
        return here, there

    def play(self, *modes: dict[str, Any], arguments: tuple[str, ...] = ()) -> Outcome:
        """Each step has a connection by a name of its own, so that a failure does not hold up the others."""
        host = connection(self.server, connector_type=self.kind)
        names = [f"host {number}" for number in range(len(modes))]
        steps = [{"connection": name, "mode": mode} for name, mode in zip(names, modes, strict=True)]
        return self.runner.play({"connections": dict.fromkeys(names, host), "steps": steps}, *arguments)

    def compare(self, *modes: dict[str, Any]) -> list[Verdict]:
        """Check, which changes nothing; then play, which must end as was said."""
        before = self.pictures()
        foretold = self.play(*modes, arguments=("--check",))
        assert self.pictures() == before
        outcome = self.play(*modes)
        assert foretold.exit_code == outcome.exit_code
        pairs = zip(modes, verdicts(foretold), verdicts(outcome), strict=True)
        wrong = [(mode, said, done) for mode, said, done in pairs if said != done]
        assert not wrong, wrong[:3]
        return verdicts(outcome)

    def pictures(self) -> list[Picture]:
        return [picture(root) for root in (self.here, self.there) if root.exists()]


def verdicts(outcome: Outcome) -> list[Verdict]:
    """How each step ended."""
    told = []
    for one in outcome.report["steps"]:
        error = one["error"] or {"type": "", "message": "", "hint": ""}
        # What a tree had done by then is told in another tense.
        message = error["message"].partition(". The rest is done:")[0]
        told.append(Verdict(one["status"], error["type"], message, error["hint"]))
    return told


@pytest.fixture(params=["SFTP", "SCP", "SCP without a shell"])
def case(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path) -> Iterator[Case]:
    kind = request.param.partition(" ")[0]
    if "without" not in request.param:
        yield Case(runner, request.getfixturevalue("sshd"), kind)
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield Case(runner, server, kind)


@pytest.fixture
def sftp_case(runner: Runner, sshd: Endpoint) -> Case:
    return Case(runner, sshd, "SFTP")


def tree_mode(source: Path, destination: Path, *, is_upload: bool, **options: Any) -> dict[str, Any]:
    return {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
        **options,
    }


def name_case(case: tuple[Options, str]) -> str:
    options, place = case
    return ", ".join([*(f"{name}: {option}" for name, option in options.items()), place])


def must_fail(options: Options, place: str) -> bool:
    """So that the table is not right by saying nothing both times."""
    return place in IN_THE_WAY or (place in MISSING and options.get("create_parents") is False)


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_files(case: Case, is_upload: bool) -> None:
    modes = []
    cases = SHELL_CASES if case.kind == "SCP" and case.server_has_shell else FILE_CASES
    for number, (options, place) in enumerate(cases):
        here, there = case.furnish(f"{number}", is_upload=is_upload)
        mode = upload(here / "source", there / place, **options)
        modes.append(mode if is_upload else download(there / "source", here / place, **options))
    ended = dict(zip(map(name_case, cases), case.compare(*modes), strict=True))
    for one in cases:
        assert ended[name_case(one)].status == "failed" or not must_fail(*one), one
    assert ended[name_case(({}, "new"))].status == "changed"
    if not is_upload:
        assert "to be written in place" in ended[name_case(({"atomic": False}, "link"))].message
    elif not case.server_has_shell:
        assert ended[name_case(({"backup": True}, "differs"))].error == "ServerLacksFeature"
        assert ended[name_case(({"permissions": "0600"}, "same"))].error == "ServerLacksFeature"


def test_files_over_pipes_and_sources_that_are_none(case: Case) -> None:
    modes = []
    for number, atomic in enumerate([True, False]):
        here, there = case.furnish(f"pipe {number}", is_upload=False)
        modes.append(download(there / "source", here / "pipe", atomic=atomic))
    for source in ("missing", "empty", "source/x"):
        here, there = case.furnish(f"up {source.replace('/', ' ')}", is_upload=True)
        modes.append(upload(here / source, there / "new"))
        here, there = case.furnish(f"down {source.replace('/', ' ')}", is_upload=False)
        modes.append(download(there / source, here / "new"))
    assert [one.status for one in case.compare(*modes)] == 8 * ["failed"]


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_trees(sftp_case: Case, is_upload: bool) -> None:
    modes = []
    for number, (options, place) in enumerate(TREE_CASES):
        here, there = sftp_case.furnish(f"{number}", is_upload=is_upload)
        source, destination = (here, there) if is_upload else (there, here)
        modes.append(tree_mode(source / "from", destination / place, is_upload=is_upload, **options))
    ended = dict(zip(map(name_case, TREE_CASES), sftp_case.compare(*modes), strict=True))
    for one in TREE_CASES:
        assert ended[name_case(one)].status == "failed" or not must_fail(*one), one
    if not is_upload:
        # A link, a pipe, and the two that are of another kind.
        assert "4 of what is in" in ended[name_case(({"atomic": False}, "tree"))].message


def test_operations(sftp_case: Case) -> None:
    modes: list[dict[str, Any]] = []

    def add(name: str, **paths: str) -> Path:
        modes.append({"mode_name": name})
        there = sftp_case.furnish(f"{len(modes)}", is_upload=True)[1]
        modes[-1] |= {key: str(there / path) for key, path in paths.items()}
        return there

    for place in PLACES:
        for parents in (True, False):
            add("create_directory", path=place)
            modes[-1]["parents"] = parents
        for options in {}, {"recursive": True}, {"missing_ok": False}:
            add("remove", path=place)
            modes[-1] |= options
        for source in ("file", "folder", "link", "missing"):
            # Onto itself, or into itself by its letters, is no valid playbook.
            if not f"{place}/".startswith(f"{source}/"):
                add("rename", source_path=source, destination_path=place)
                modes[-1]["overwrite"] = len(modes) % 2 == 0
    ended = sftp_case.compare(*modes)
    assert {one.status for one in ended} == {"ok", "changed", "failed"}


# --- what only some accounts meet ---


@pytest.mark.skipif(os.geteuid() == 0, reason="only an ordinary user is kept out: root may write everywhere")
@pytest.mark.parametrize("options", [{}, {"atomic": False}], ids=str)
@pytest.mark.parametrize("is_tree", [True, False], ids=["tree", "file"])
@pytest.mark.parametrize("place", ["new", "differs", "deeper/new"])
def test_a_directory_here_that_may_not_be_written_to(
    sftp_case: Case, options: Options, is_tree: bool, place: str
) -> None:
    case = sftp_case
    case.furnish(is_upload=False)
    (case.here / "tree/sub").mkdir()
    for folder in (case.here / "tree/sub", case.here):
        folder.chmod(0o555)
    (case.here / "differs").chmod(0o444)
    try:
        if is_tree:
            destination = case.here / ("tree" if place == "differs" else place)
            case.compare(tree_mode(case.there / "from", destination, is_upload=False, **options))
        else:
            assert case.compare(download(case.there / "source", case.here / place, **options))[0].status == "failed"
    finally:
        for folder in (case.here, case.here / "tree/sub"):
            folder.chmod(0o755)


class Closed(FileServer):
    """Tells what a file is like, but lets nobody read it."""

    def open(self, path: bytes, pflags: int, attrs: Any) -> object:
        if path.endswith(b"source"):
            raise PermissionError(13, "Permission denied")
        return super().open(path, pflags, attrs)


@pytest.mark.parametrize("kind", ["SFTP", "SCP"])
def test_a_source_that_may_not_be_read_there(runner: Runner, tmp_path: Path, kind: str) -> None:
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=Closed) as server:
        case = Case(runner, server, kind)
        case.furnish(is_upload=False)
        (ended,) = case.compare(download(case.there / "source", case.here / "new"))
    assert (ended.status, ended.error) == ("failed", "PermissionRefused"), ended


# --- what an earlier step would have made ---


def test_directories_that_earlier_steps_would_make_are_not_missed(sftp_case: Case) -> None:
    case = sftp_case
    case.furnish(is_upload=True)
    (case.there / "old").mkdir()
    here, there = case.here, case.there
    strict = {"create_parents": False}
    ended = case.compare(
        {"mode_name": "create_directory", "path": str(there / "made/deep")},
        upload(here / "source", there / "made/deep/a", **strict),
        upload(here / "source", there / "made/b", **strict),
        {"mode_name": "create_directory", "path": f"{there}/made/c/", "parents": False},
        upload(here / "source", there / "made/c/a", **strict),
        upload(here / "source", there / "by a file/a"),
        upload(here / "source", there / "by a file/b", **strict),
        tree_mode(here / "from", there / "by a tree", is_upload=True),
        upload(here / "source", there / "by a tree/sub/new", **strict),
        tree_mode(here / "from", there / "by a tree/below/other", is_upload=True, **strict),
        {"mode_name": "rename", "source_path": str(there / "old"), "destination_path": str(there / "renamed")},
        upload(here / "source", there / "renamed/a", **strict),
        {"mode_name": "rename", "source_path": str(there / "differs"), "destination_path": str(there / "made/deep/d")},
        download(there / "same", here / "new here/a"),
        download(there / "same", here / "new here/b", **strict),
        tree_mode(there / "folder", here / "new here/tree", is_upload=False, **strict),
        download(there / "same", here / "new here/tree/c", **strict),
    )
    assert {one.status for one in ended} == {"changed"}


def test_of_another_server_they_do_not_count(sftp_case: Case, tmp_path: Path) -> None:
    case = sftp_case
    case.furnish(is_upload=True)
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as other:
        one = step(other, {"mode_name": "create_directory", "path": str(case.there / "made")})
        two = {
            **connection(case.server),
            "mode": upload(case.here / "source", case.there / "made/a", create_parents=False),
        }
        outcome = case.runner.play([one, two], "--check")
    assert (outcome.exit_code, outcome.statuses) == (2, ["changed", "failed"]), outcome.output
