"""A retry is idempotent: wherever a reply is lost, the play ends as if it had come.

Each scenario is played undisturbed first, and then once for each request that changes something: that one is carried out,
and the connection is cut before its reply. What is on both disks and in the report must be the same. `RETRY_CUTS=all` cuts
after each of them; by default it is a few of each scenario, drawn by its name.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, require_sshd
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.cutting import Cuts, CuttingShellServer
from tests.servers.endpoint import Endpoint

POSIX_RENAME, HARDLINK = b"posix-rename@openssh.com", b"hardlink@openssh.com"
OLD, NEW = 1_500_000_000, 1_600_000_000
LARGE_BYTES = 9 * 1024 * 1024
CUTS_DRAWN = 2


@dataclass(frozen=True)
class Scenario:
    """One mode on one kind of server. `prepare` puts the files of both sides into their places."""

    name: str
    mode: dict[str, Any]
    prepare: Callable[[Path, Path], None]
    hides: tuple[bytes, ...] = ()
    connector_type: str = "SFTP"
    exit_code: int = 0
    inputs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def write(path: Path, content: bytes | str, when: int = NEW, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    os.utime(path, (when, when))


def one_file(*, old: str | None = None, size: int = 5) -> Callable[[Path, Path], None]:
    """A source on either side, and what is at the destination."""

    def prepare(local: Path, remote: Path) -> None:
        content = random.Random(size).randbytes(size)
        write(local / "source", content)
        write(remote / "source", content)
        if old is not None:
            write(local / "a", old, OLD)
            write(remote / "a", old, OLD)

    return prepare


def same_file_other_mode(local: Path, remote: Path) -> None:
    write(local / "source", "right", mode=0o640)
    write(remote / "a", "right", mode=0o600)


def tree(local: Path, remote: Path) -> None:
    """Both sides differ in every way that a copy can level out."""
    sides = ((local, remote), (remote, local))
    for source, destination in sides:
        for name in ("one", "two", "sub/three", "sub/deep/four", "new/five"):
            write(source / "tree" / name, f"new {name}")
        write(source / "tree/right", "right", mode=0o640)
        write(source / "tree/mode", "mode", mode=0o640)
        (source / "tree/link").symlink_to("one")
        (source / "tree/other-link").symlink_to("two")
        (source / "tree/quiet").mkdir()
        write(source / "tree/quiet/still", "still")
        write(destination / "copy/one", "older", OLD)
        write(destination / "copy/sub/three", "older", OLD)
        write(destination / "copy/right", "right", mode=0o640)
        write(destination / "copy/mode", "mode", mode=0o600)
        write(destination / "copy/quiet/still", "still")
        write(destination / "copy/extra", "extra", OLD)
        write(destination / "copy/gone/extra", "extra", OLD)
        write(destination / "copy/gone/more/extra", "extra", OLD)
        (destination / "copy/other-link").symlink_to("elsewhere")
        write(destination / "copy/file-or-link", "older", OLD)
        (source / "tree/file-or-link").symlink_to("sub")
        (destination / "copy/quiet").chmod(0o700)
    for side in sides[0]:
        for folder, _, _ in os.walk(side, topdown=False):
            os.utime(folder, (NEW, NEW))
        os.utime(side / "copy/quiet", (OLD, OLD))


def new_tree(local: Path, remote: Path) -> None:
    """Nothing is there yet; enough files for many to be under way at once."""
    for side in (local, remote):
        for number in range(12):
            write(side / "tree" / f"sub{number % 3}" / f"file{number}", f"new {number}")
        for folder, _, _ in os.walk(side / "tree", topdown=False):
            os.utime(folder, (NEW, NEW))


def large_tree(local: Path, remote: Path) -> None:
    content = random.Random(1).randbytes(LARGE_BYTES)
    for side in (local, remote):
        write(side / "tree/large", content)
        write(side / "tree/small", "small")
        write(side / "copy/small", "older", OLD)
        for folder, _, _ in os.walk(side, topdown=False):
            os.utime(folder, (NEW, NEW))


def to_remove(local: Path, remote: Path) -> None:
    for name in ("a", "folder/one", "folder/two", "folder/sub/three"):
        write(remote / name, name)
    (remote / "empty").mkdir()


def to_rename(local: Path, remote: Path) -> None:
    write(remote / "a", "the file")
    write(remote / "b", "what is there", OLD)
    write(remote / "folder/one", "one")
    (remote / "empty").mkdir()


def two_folders(local: Path, remote: Path) -> None:
    (remote / "there").mkdir(mode=0o755)
    write(remote / "there/one", "one")


def staged(prepare: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """As `prepare`, with a directory on the server for what is not whole yet."""

    def prepare_both(local: Path, remote: Path) -> None:
        (remote / "staging").mkdir()
        prepare(local, remote)

    return prepare_both


def to_link(local: Path, remote: Path) -> None:
    for release in ("1", "2"):
        write(remote / f"releases/{release}/file", release)
    (remote / "current").symlink_to("releases/1")


def text_mode(**options: Any) -> dict[str, Any]:
    return {"mode_name": "write_file", "destination_file_name": "a", "content": "hello", **options}


def link_mode(**options: Any) -> dict[str, Any]:
    return {"mode_name": "create_link", "path": "current", "target": "releases/2", **options}


def file_mode(way: str, **options: Any) -> dict[str, Any]:
    source, destination = ("local/", "") if way == "up" else ("", "local/")
    return {
        "mode_name": f"copy_file_{'from' if way == 'up' else 'to'}_engine",
        "source_file_name": f"{source}source",
        "destination_file_name": f"{destination}{options.pop('destination', 'a')}",
        **options,
    }


def tree_mode(way: str, **options: Any) -> dict[str, Any]:
    source, destination = ("local/", "") if way == "up" else ("", "local/")
    return {
        "mode_name": f"copy_directory_{'from' if way == 'up' else 'to'}_engine",
        "source_directory_name": f"{source}tree",
        "destination_directory_name": f"{destination}copy",
        **options,
    }


FILE_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "backup": {"backup": True},
    "in place": {"atomic": False},
    "always": {"compare": "always"},
    "checksum": {"compare": "checksum", "verify": "checksum"},
    "no times": {"preserve": []},
}
NEW_FILE_OPTIONS: dict[str, dict[str, Any]] = {
    "fail": {"if_exists": "fail"},
    "skip": {"if_exists": "skip"},
    "fail in place": {"if_exists": "fail", "atomic": False},
    "skip in place": {"if_exists": "skip", "atomic": False},
    "parents": {"destination": "x/y/a"},
    "backup of nothing": {"backup": True},
}
TREE_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "delete": {"delete": True},
    "backup": {"backup": True},
    "in place": {"atomic": False},
    "checksum": {"compare": "checksum", "verify": "checksum"},
    "always, no times": {"compare": "always", "preserve": ["permissions"]},
}
NEW_TREE_OPTIONS: dict[str, dict[str, Any]] = {
    "fail": {"if_exists": "fail"},
    "skip": {"if_exists": "skip"},
    "no modes": {"preserve": []},
    "in place, skip": {"if_exists": "skip", "atomic": False},
    "checksum": {"verify": "checksum"},
}
# With a `temporary_name` of the step's choice, what could not be created for certain may be another play's, and stays.
UPLOAD_OPTIONS: dict[str, dict[str, Any]] = {
    "a staging directory": {"temporary_directory": "staging"},
    "durable": {"durable": True},
    "permissions": {"permissions": "0600"},
    "permissions of the server": {"permissions": "server", "preserve": []},
}
TEXT_OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "backup": {"backup": True},
    "in place": {"atomic": False},
    "durable": {"durable": True},
    "permissions": {"permissions": "0600"},
}
SERVERS: dict[str, tuple[bytes, ...]] = {"": (), " without posix-rename": (POSIX_RENAME, HARDLINK)}
OPERATIONS: dict[str, tuple[dict[str, Any], Callable[[Path, Path], None]]] = {
    "remove a file": ({"mode_name": "remove", "path": "a", "missing_ok": False}, to_remove),
    "remove an empty directory": ({"mode_name": "remove", "path": "empty", "missing_ok": False}, to_remove),
    "remove all": ({"mode_name": "remove", "path": "folder", "recursive": True, "missing_ok": False}, to_remove),
    "rename": ({"mode_name": "rename", "source_path": "a", "destination_path": "c"}, to_rename),
    "rename over": (
        {"mode_name": "rename", "source_path": "a", "destination_path": "b", "overwrite": True},
        to_rename,
    ),
    "rename a directory over": (
        {"mode_name": "rename", "source_path": "folder", "destination_path": "empty", "overwrite": True},
        to_rename,
    ),
    "create": ({"mode_name": "create_directory", "path": "x"}, two_folders),
    "create with parents": (
        {"mode_name": "create_directory", "path": "there/x/y/z", "permissions": "0750"},
        two_folders,
    ),
    "change a directory": ({"mode_name": "create_directory", "path": "there", "permissions": "0700"}, two_folders),
}


def list_sftp_scenarios() -> Iterator[Scenario]:
    for server, hides in SERVERS.items():
        for way in ("up", "down") if not hides else ("up",):
            for name, options in FILE_OPTIONS.items():
                yield Scenario(f"{way} {name}{server}", file_mode(way, **options), one_file(old="older"), hides)
            for name, options in NEW_FILE_OPTIONS.items():
                yield Scenario(f"{way} new, {name}{server}", file_mode(way, **options), one_file(), hides)
            # Without posix-rename a link takes no file's place.
            links = {"links": "skip"} if hides else {}
            for name, options in TREE_OPTIONS.items():
                yield Scenario(f"tree {way} {name}{server}", tree_mode(way, **options, **links), tree, hides)
            for name, options in NEW_TREE_OPTIONS.items():
                yield Scenario(f"tree {way} new, {name}{server}", tree_mode(way, **options), new_tree, hides)
        for name, (mode, prepare) in OPERATIONS.items():
            yield Scenario(f"{name}{server}", mode, prepare, hides)
    yield Scenario("up permissions alone", file_mode("up"), same_file_other_mode)
    yield Scenario("up backup, no hard links", file_mode("up", backup=True), one_file(old="older"), (HARDLINK,))
    yield Scenario("tree up backup, no hard links", tree_mode("up", backup=True, links="skip"), tree, (HARDLINK,))
    for way in ("up", "down"):
        yield Scenario(f"tree {way} with a large file", tree_mode(way, backup=True), large_tree)
    yield Scenario("up large, fail", file_mode("up", if_exists="fail"), one_file(size=LARGE_BYTES))
    limit = {"delete": True, "max_delete": 5}
    yield Scenario("tree up delete, as many as may be", tree_mode("up", **limit), tree)
    for name in ("list", "stats"):
        yield Scenario(name, {"mode_name": name, "path": "folder"}, to_remove)


def list_further_scenarios() -> Iterator[Scenario]:
    for server, hides in SERVERS.items():
        for name, options in UPLOAD_OPTIONS.items():
            yield Scenario(f"up {name}{server}", file_mode("up", **options), staged(one_file(old="older")), hides)
            yield Scenario(f"tree up {name}{server}", tree_mode("up", **options, links="skip"), staged(tree), hides)
        for name, options in TEXT_OPTIONS.items():
            yield Scenario(f"text {name}{server}", text_mode(**options), one_file(old="older"), hides)
        for name in ("fail", "skip"):
            yield Scenario(f"text new, {name}{server}", text_mode(if_exists=name), one_file(), hides)
        yield Scenario(f"text, parents{server}", text_mode(destination_file_name="x/y/a"), one_file(), hides)
        yield Scenario(f"link switched{server}", link_mode(), to_link, hides)
        yield Scenario(f"link created{server}", link_mode(path="newest", overwrite=False), to_link, hides)
    for way in ("up", "down"):
        pruned = tree_mode(way, delete=True, include=["a*", "extra", "new*"], links="skip")
        yield Scenario(f"tree {way} delete what is included", pruned, tree)


def list_scp_scenarios(*, has_shell: bool) -> Iterator[Scenario]:
    # What is published here has nothing to do with the server's shell.
    for way in ("up",) if has_shell else ("up", "down"):
        for name, options in FILE_OPTIONS.items():
            if not (name == "backup" and not has_shell and way == "up"):
                mode = file_mode(way, **options)
                yield Scenario(f"SCP {way} {name}", mode, one_file(old="older"), connector_type="SCP")
        for name, options in NEW_FILE_OPTIONS.items():
            if has_shell or (name != "parents" and not (way == "up" and "backup" in name)):
                yield Scenario(f"SCP {way} new, {name}", file_mode(way, **options), one_file(), connector_type="SCP")


class Trial:
    """Plays scenarios, each time in the same fresh folder, and says how they ended."""

    def __init__(self, folder: Path, server: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder / "trial"
        self.local, self.remote = self.folder / "local", self.folder / "remote"
        self._server = server
        self._capsys = capsys

    def play(self, scenario: Scenario, *, retries: int = 1) -> tuple[Outcome, dict[str, Any]]:
        """The outcome, and all of it that must not depend on what was cut off."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for side in (self.local, self.remote):
            side.mkdir(parents=True)
        scenario.prepare(self.local, self.remote)
        step = {
            **connection(self._server),
            "connector_type": scenario.connector_type,
            "mode": self._place(scenario),
            "retries": retries,
            "delay": 0,
            **scenario.inputs,
        }
        outcome = Runner(self.folder, self._capsys).play([step], "-v")
        return outcome, self._describe(outcome)

    def _place(self, scenario: Scenario) -> dict[str, Any]:
        """The mode, with absolute paths on a server whose sessions start elsewhere."""
        if isinstance(self._server, AsyncsshServer):
            return scenario.mode
        mode = dict(scenario.mode)
        key = "destination_file_name" if "from_engine" in mode["mode_name"] else "source_file_name"
        mode[key] = str(self.remote / mode[key])
        return mode

    def _describe(self, outcome: Outcome) -> dict[str, Any]:
        step = outcome.report["steps"][0]
        found = {
            "exit code": outcome.exit_code,
            "status": step["status"],
            "message": step["message"],
            "error": step["error"],
            "result": step["result"],
            "changes": sorted(map(json.dumps, step["changes"])),
            "changes total": step["changes_total"],
            "local": picture(self.local),
            "remote": picture(self.remote),
        }
        for key in ("message", "result"):
            found[key] = _without_resumption(found[key])
        if found["result"] and "backups" in found["result"]:
            found["result"]["backups"].sort()
        text = json.dumps(found, sort_keys=True).replace(str(self.folder), "FOLDER")
        # The names of backups tell the moment.
        plain: dict[str, Any] = json.loads(re.sub(r"\d{4}-\d\d-\d\dT\d{6}Z", "MOMENT", text))
        return plain


_OF_RESUMPTION = ("resumed_at_bytes", "bytes_transferred", "verified", "sha256")


def _without_resumption(found: Any) -> Any:
    """Where a large file was gone on with depends on where it broke off, and that it is read back then on how much."""
    if isinstance(found, str):
        return re.sub(r", resumed at byte [\d,]+", "", found)
    if isinstance(found, dict) and found.get("size_bytes") == LARGE_BYTES:
        return {key: value for key, value in found.items() if key not in _OF_RESUMPTION}
    return found


def picture(root: Path) -> dict[str, list[Any]]:
    """Everything below a folder: kind, mode, content, and the time if it is not that of the play."""
    found: dict[str, list[Any]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        when = int(status.st_mtime) if status.st_mtime <= NEW else "now"
        if stat.S_ISLNK(status.st_mode):
            found[str(path.relative_to(root))] = ["link", os.readlink(path)]
        else:
            content = path.read_bytes() if path.is_file() else b""
            shown = content.decode("latin-1") if len(content) < 100 else hash(content)
            found[str(path.relative_to(root))] = [oct(status.st_mode), when, shown]
    return found


def draw(scenario: Scenario, count: int) -> list[int]:
    """The numbers of the requests to cut off: all, or a few of which the last is one."""
    numbers = list(range(1, count + 1))
    if os.environ.get("RETRY_CUTS") == "all" or count <= CUTS_DRAWN:
        return numbers
    return sorted({count, *random.Random(scenario.name).sample(numbers, CUTS_DRAWN)})


def assert_same(disturbed: dict[str, Any], undisturbed: dict[str, Any], cut: str) -> None:
    for key, expected in undisturbed.items():
        assert disturbed[key] == expected, f"{key} differs after {cut}: {disturbed['message']} {disturbed['error']}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsyncsshServer]:
    folder = tmp_path_factory.mktemp("cutting")
    with AsyncsshServer(folder, root=folder) as server:
        yield server


@pytest.mark.parametrize(
    "scenario", [*list_sftp_scenarios(), *list_further_scenarios(), *list_scp_scenarios(has_shell=False)], ids=str
)
def test_a_lost_reply_changes_nothing(
    scenario: Scenario, tmp_path: Path, server: AsyncsshServer, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(tmp_path, server, capsys)
    server.root = trial.remote
    cuts = Cuts()
    server.sftp_factory = cuts.serve(hides=scenario.hides)
    outcome, undisturbed = trial.play(scenario)
    assert outcome.exit_code == scenario.exit_code, outcome.output
    assert outcome.step["attempts"] == 1
    assert cuts.requests or scenario.name in ("list", "stats"), "nothing was asked for"

    for number in draw(scenario, len(cuts.requests)):
        cut = Cuts(number)
        server.sftp_factory = cut.serve(hides=scenario.hides)
        outcome, disturbed = trial.play(scenario)
        if number > len(cut.requests):
            # What is tried out is tried by one of several files, or by all, as it happens.
            continue
        what = f"request {number} of {len(cuts.requests)}: {cut.requests[number - 1]}"
        # A reply that nobody waits for may be lost without a trace.
        assert outcome.step["attempts"] == 2 or "read" in what, what
        assert_same(disturbed, undisturbed, what)


CUT_TWICE = (
    "up backup",
    "up new, skip in place",
    "up plain without posix-rename",
    "tree up backup",
    "tree up delete",
    "tree up backup, no hard links",
    "tree down backup",
    "remove all",
    "rename over without posix-rename",
    "create with parents",
)


@pytest.mark.parametrize("scenario", [one for one in list_sftp_scenarios() if one.name in CUT_TWICE], ids=str)
def test_nor_do_two_of_them(
    scenario: Scenario, tmp_path: Path, server: AsyncsshServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one may be that of a request that was to find out, or to put right, what became of the first."""
    trial = Trial(tmp_path, server, capsys)
    server.root = trial.remote
    cuts = Cuts()
    server.sftp_factory = cuts.serve(hides=scenario.hides)
    _, undisturbed = trial.play(scenario)

    for number in draw(scenario, len(cuts.requests)):
        for distance in (1, 2, 5):
            cut = Cuts(number, number + distance)
            server.sftp_factory = cut.serve(hides=scenario.hides)
            _, disturbed = trial.play(scenario, retries=2)
            # How many there are depends on how many links were tried out side by side.
            first, second = (
                [*cut.requests, *["nothing"] * (number + distance)][at - 1] for at in (number, number + distance)
            )
            assert_same(disturbed, undisturbed, f"{first}, then {second}")


@pytest.fixture(scope="module")
def shell_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuttingShellServer]:
    require_sshd()
    with CuttingShellServer(tmp_path_factory.mktemp("cutting-shell")) as server:
        yield server


@pytest.mark.parametrize(
    "scenario",
    [one for one in list_scp_scenarios(has_shell=True) if one.name.endswith(("up backup", "new, fail"))],
    ids=str,
)
def test_a_lost_exit_status_changes_nothing(
    scenario: Scenario, tmp_path: Path, shell_server: CuttingShellServer, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(tmp_path, shell_server, capsys)
    shell_server.cut()
    outcome, undisturbed = trial.play(scenario)
    assert outcome.exit_code == scenario.exit_code, outcome.output
    requests = shell_server.requests

    for number in draw(scenario, len(requests)):
        shell_server.cut(number)
        _, disturbed = trial.play(scenario)
        assert_same(disturbed, undisturbed, f"command {number} of {len(requests)}: {requests[number - 1]}")
