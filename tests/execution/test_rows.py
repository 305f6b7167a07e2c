"""Single files of consecutive steps, or of a loop, are under way together, and it looks as if they were copied in turn."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from runner.execution.row import Rows
from runner.transfer import together
from tests.conftest import Outcome, Runner, connection, download, snapshot, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.cutting import Cuts
from tests.servers.raw_sftp import (
    FAILURE,
    PERMISSION_DENIED,
    Execute,
    Fields,
    Kind,
    RawSftpServer,
    Request,
    Script,
    status,
)

PROGRAMS = 24
# What a server says that it is decides whether requests are taken to be carried out in order.
SERVERS = {"in order": "OpenSSH_9.2p1", "in any order": "mod_sftp"}
_PUBLISHING = (b"posix-rename@openssh.com",)


class Moody(Script):
    """Refuses what names ask for: `noopen`, `nowrite`, `noread`, `norename`; and notes what is published, and looked at."""

    published: list[str]
    looks: list[str]
    most_open: list[int]

    def __init__(self) -> None:
        self._paths: dict[bytes, str] = {}

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        fields = Fields(request.body)
        match request.kind:
            case Kind.OPEN:
                path = fields.string().decode()
                if "signal" in path:
                    os.kill(os.getpid(), signal.SIGTERM)
                if "noopen" in path:
                    return [status(request.id, PERMISSION_DENIED, b"Permission denied")]
                packet = execute()
                if packet[4] == Kind.HANDLE:
                    self._paths[Fields(packet[9:]).string()] = path
                    self.most_open.append(len(self._paths))
                return [packet]
            case Kind.WRITE | Kind.READ:
                path = self._paths.get(fields.string(), "")
                if ("nowrite" if request.kind == Kind.WRITE else "noread") in path:
                    return [status(request.id, FAILURE, b"Failure")]
            case Kind.CLOSE:
                if "slow" in self._paths.get(fields.string(), ""):
                    time.sleep(0.8)
                fields = Fields(request.body)
                self._paths.pop(fields.string(), None)
            case Kind.STAT:
                self.looks.append(fields.string().decode())
            case Kind.EXTENDED if request.name in _PUBLISHING:
                fields.string(), fields.string()
                return self._publish(request, fields.string().decode(), execute)
            case Kind.RENAME:
                fields.string()
                return self._publish(request, fields.string().decode(), execute)
        return [execute()]

    def _publish(self, request: Request, path: str, execute: Execute) -> Iterable[bytes]:
        if "norename" in path:
            return [status(request.id, PERMISSION_DENIED, b"Permission denied")]
        self.published.append(Path(path).name)
        return [execute()]


class Site:
    """A moody server, and folders on both sides."""

    def __init__(self, runner: Runner, remote: Path, server: RawSftpServer, script: type[Moody]) -> None:
        self.runner, self.remote, self.server, self.script = runner, remote, server, script
        self.local = runner.folder / "local"
        self.local.mkdir()

    def play(self, *steps: dict[str, Any], **more: Any) -> Outcome:
        connections = {"bank": connection(self.server, **more.pop("inputs", {}))}
        steps = tuple({"connection": "bank", **one} if "mode" in one else one for one in steps)
        return self.runner.play({"connections": connections, "steps": list(steps), **more})

    def fill(self, *names: str, folder: Path | None = None) -> None:
        for name in names:
            ((folder or self.local) / name).write_text(f"this is {name}")

    def published(self) -> list[str]:
        found, self.script.published[:] = list(self.script.published), []
        return found


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path, remote: Path) -> Iterable[Site]:
    script = type("MoodyHere", (Moody,), {"published": [], "looks": [], "most_open": []})
    server = RawSftpServer(tmp_path / "server", root=remote, make_script=script)
    server.software = SERVERS[request.param]
    with server:
        yield Site(runner, remote, server, script)


def names(count: int, stem: str = "f") -> list[str]:
    return [f"{stem}{number:03d}.csv" for number in range(count)]


def up(name: str, **options: Any) -> dict[str, Any]:
    return {"mode": upload(f"local/{name}", name, **options)}


def down(name: str, **options: Any) -> dict[str, Any]:
    return {"mode": download(name, f"local/{name}", **options)}


def messages(outcome: Outcome) -> list[str]:
    return [step["message"] for step in outcome.report["steps"]]


# --- what is seen of it ---


@pytest.mark.parametrize("form", ["steps", "loop"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_they_are_under_way_together_and_published_in_order(site: Site, form: str, way: str) -> None:
    files = names(40)
    site.fill(*files, folder=site.local if way == "up" else site.remote)
    copy = up if way == "up" else down
    steps = [copy(name) for name in files] if form == "steps" else [{**copy("{{ item }}"), "loop": files}]

    outcome = site.play(*steps)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed"] * 40
    assert snapshot(site.remote) == snapshot(site.local)
    assert max(site.script.most_open) > 10
    if way == "up":
        assert site.published() == files
    else:
        times = [(site.local / name).stat().st_ctime_ns for name in files]
        assert times == sorted(times)
    if form == "loop":
        assert [step["item"] for step in outcome.report["steps"]] == files

    again = site.play(*steps)
    assert again.statuses == ["ok"] * 40 and set(messages(again)) == {"already right"}


def test_large_rows_are_taken_in_portions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What replaces a file takes its space twice until it is published."""
    monkeypatch.setattr(together, "MAX_BYTES_TOGETHER", 64)
    site.fill(*names(20))

    outcome = site.play({**up("{{ item }}"), "loop": [*names(9), "noopen", *names(20)], "ignore_errors": True})

    assert outcome.statuses == ["changed"] * 9 + ["failed"] + ["ok"] * 9 + ["changed"] * 11
    assert snapshot(site.remote) == snapshot(site.local)
    assert 1 < max(site.script.most_open) <= 5


def test_without_rows_they_are_not(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(Rows, "gather", lambda self, first, more: [first])
    site.fill(*names(12))

    assert site.play({**up("{{ item }}"), "loop": names(12)}).exit_code == 0
    assert max(site.script.most_open) == 1


def test_a_failed_step_leaves_nothing_of_the_later_ones(site: Site) -> None:
    for bad in ("noopen", "nowrite", "norename"):
        files = [*names(5, "a"), bad, *names(20, "z")]
        site.fill(*files)

        outcome = site.play(*(up(name) for name in files))

        assert outcome.exit_code == 2, outcome.output
        assert outcome.statuses == ["changed"] * 5 + ["failed"] + ["skipped"] * 20
        assert sorted(snapshot(site.remote)) == names(5, "a"), bad
        for name in names(5, "a"):
            (site.remote / name).unlink()


def test_what_replaces_a_file_is_not_published_before_the_steps_ahead_of_it(site: Site) -> None:
    files = ["norename", *names(10)]
    site.fill(*files)
    for name in names(10):
        (site.remote / name).write_text("the old one")
    before = snapshot(site.remote)

    outcome = site.play(*(up(name) for name in files))

    assert outcome.statuses == ["failed"] + ["skipped"] * 10
    assert snapshot(site.remote) == before


def test_all_items_of_a_loop_are_tried(site: Site) -> None:
    files = [*names(3, "a"), "noopen", "missing", "b", "norename", "nowrite", *names(3, "c")]
    site.fill(*(name for name in files if name != "missing"))

    outcome = site.play({**up("{{ item }}"), "loop": files, "register": "r", "ignore_errors": True})

    failed = [step["item"] for step in outcome.report["steps"] if step["status"] == "failed"]
    assert failed == ["noopen", "missing", "norename", "nowrite"]
    assert sorted(snapshot(site.remote)) == sorted([*names(3, "a"), "b", *names(3, "c")])


def test_the_second_copy_to_a_place_sees_what_the_first_has_done(site: Site) -> None:
    site.fill("one", "second", "three")
    steps = [
        {"mode": upload("local/one", "a")},
        {"mode": upload("local/second", "./a", if_exists="skip")},
        {"mode": upload("local/three", "b")},
    ]

    outcome = site.play(*steps)

    assert outcome.statuses == ["changed", "skipped", "changed"]
    assert (site.remote / "a").read_text() == "this is one"


def test_a_loop_whose_directory_is_missing_makes_it_once(site: Site) -> None:
    site.fill(*names(30))

    outcome = site.play({"mode": upload("local/{{ item }}", "new/below/{{ item }}"), "loop": names(30)})

    assert outcome.statuses == ["changed"] * 30
    assert max(site.script.most_open) > 10


def test_steps_that_wait_for_a_result_are_not_begun_before_it_is_there(site: Site) -> None:
    site.fill("a", "b")
    first = {**up("a"), "register": "r", "failed_when": "r.result.size_bytes == 9"}

    outcome = site.play(first, up("b"), {"mode": upload("local/b", "{{ r.status }}")})

    assert outcome.statuses == ["failed", "skipped", "skipped"]
    assert sorted(snapshot(site.remote)) == ["a"]


def test_conditions_and_labels_are_those_of_each_item(site: Site) -> None:
    site.fill(*names(6))
    loop = {
        **up("{{ item }}"),
        "loop": names(6),
        "when": "item != 'f002.csv'",
        "loop_control": {"label": "<{{ item }}>"},
    }

    outcome = site.play(loop)

    assert outcome.statuses == ["changed", "changed", "skipped", "changed", "changed", "changed"]
    assert [step["item"] for step in outcome.report["steps"]] == [f"<{name}>" for name in names(6)]
    assert "f002.csv" not in snapshot(site.remote)


def test_already_right_is_asked_for_all_at_once(site: Site) -> None:
    site.fill(*names(20))
    steps = [up(name) for name in names(20)]
    site.play(*steps)
    site.script.looks.clear()

    outcome = site.play(*steps)

    assert outcome.statuses == ["ok"] * 20
    assert len(site.script.looks) <= 22


@pytest.mark.parametrize("form", ["steps", "loop"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_signal_leaves_the_first_of_them_and_nothing_of_the_others(site: Site, form: str, way: str) -> None:
    files = [*names(8, "a"), "signal", *names(30, "z")]
    source, target = (site.local, site.remote) if way == "up" else (site.remote, site.local)
    site.fill(*files, folder=source)
    copy = up if way == "up" else down
    steps = [copy(name) for name in files] if form == "steps" else [{**copy("{{ item }}"), "loop": files}]

    outcome = site.play(*steps)

    assert outcome.exit_code == 128 + signal.SIGTERM
    done = outcome.statuses.count("changed")
    rest = outcome.statuses[done + 1 :]
    assert (
        outcome.statuses[done] == "failed"
        and set(rest) <= {"skipped"}
        and len(rest) == (38 - done if form == "steps" else 1)
    )
    assert sorted(snapshot(target)) == sorted(files[:done])


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_timeout_is_each_step_s_own(site: Site, way: str) -> None:
    """Together they may take longer, as one by one; the first is not blamed for those behind it."""
    files = [f"slow{number}" for number in range(4)]
    site.fill(*files, folder=site.local if way == "up" else site.remote)
    copy = up if way == "up" else down

    outcome = site.play({**copy("{{ item }}"), "loop": files, "timeout": 2.5})

    assert outcome.statuses == ["changed"] * 4, messages(outcome)
    assert sum(step["duration_seconds"] for step in outcome.report["steps"]) > 2.5
    assert snapshot(site.local) == snapshot(site.remote)


# --- as if one by one ---


def write_program(chance: random.Random) -> tuple[list[dict[str, Any]], bool]:
    """Steps and loops that copy files in one direction, some of which go wrong."""
    is_upload = chance.random() < 0.6
    copy = up if is_upload else down
    kinds = ["plain"] * 6 + ["noopen", "nowrite" if is_upload else "noread", "missing", "folder", "there", "right"]
    kinds += ["norename"] if is_upload else []

    def name() -> str:
        return f"{chance.choice(kinds)}{chance.randint(0, 12)}"

    def options() -> dict[str, Any]:
        plain: list[dict[str, Any]] = [{}] * 6
        return chance.choice(
            [
                *plain,
                {"if_exists": "skip"},
                {"if_exists": "fail"},
                {"permissions": "0640"},
                {"backup": True},
                {"atomic": False},
                {"compare": "checksum"},
                {"verify": "checksum"},
                {"preserve": []},
                {"create_parents": False},
            ]
        )

    def step() -> dict[str, Any]:
        keywords: list[dict[str, Any]] = [{}, {}, {}, {"ignore_errors": True}, {"when": "1 == 2"}, {"register": "r"}]
        more = chance.choice(keywords)
        if chance.random() < 0.4:
            return {**copy("{{ item }}", **options()), "loop": [name() for _ in range(chance.randint(0, 12))], **more}
        return {**copy(name(), **options()), **more}

    steps: list[dict[str, Any]] = []
    for _ in range(chance.randint(2, 6)):
        row = [step() for _ in range(chance.randint(1, 6))]
        if chance.random() < 0.3:
            steps.append({"block": row, "rescue": [{"debug": {"msg": "{{ failed_step.name }}"}}]})
        else:
            steps += row
    return steps, is_upload


def lay_out(site: Site, *, is_upload: bool) -> None:
    source, target = (site.local, site.remote) if is_upload else (site.remote, site.local)
    for folder in (source, target):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    for kind in ("plain", "noopen", "nowrite", "noread", "norename", "folder", "there", "right"):
        for number in range(13):
            name = f"{kind}{number}"
            (source / name).write_text(f"new {name}")
            if kind == "folder":
                (target / name).mkdir()
            elif kind in ("there", "right"):
                (target / name).write_text("old" if kind == "there" else f"new {name}")
            os.utime(source / name, (10**9, 10**9))
            if kind == "right":
                os.utime(target / name, (10**9, 10**9))


_CHANGING = re.compile(r"runner-[0-9a-f.]+(-[0-9a-f]+)?\.(tmp|part)|\d{8}T\d{6}Z?|\.\d{4}-\d\d-\d\dT[0-9.:-]+Z?")


def tell(outcome: Outcome) -> list[Any]:
    steps = outcome.report["steps"]
    return [
        (one["status"], one.get("item"), _CHANGING.sub("…", one["message"]), one.get("warnings"), one["attempts"])
        for one in steps
    ]


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_random_programs_end_as_if_copied_one_by_one(site: Site, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, is_upload = write_program(random.Random(seed))
    together: list[int] = []
    gather: Callable[..., list[Any]] = Rows.gather

    def count(self: Rows, first: Any, more: Any) -> list[Any]:
        row = gather(self, first, more)
        together.append(len(row))
        return row

    def play() -> tuple[int, list[Any], dict[str, Any]]:
        lay_out(site, is_upload=is_upload)
        outcome = site.play(*steps)
        sides = {_CHANGING.sub("…", name): content for name, content in snapshot(site.remote).items()}
        sides |= {f"local {_CHANGING.sub('…', name)}": content for name, content in snapshot(site.local).items()}
        return outcome.exit_code, tell(outcome), sides

    monkeypatch.setattr(Rows, "gather", count)
    found = play()
    monkeypatch.setattr(Rows, "gather", lambda self, first, more: [first])
    expected = play()

    assert found[1] == expected[1]
    assert found[2] == expected[2]
    assert found[0] == expected[0]


# --- lines that break ---


@pytest.mark.parametrize("form", ["steps", "loop"])
@pytest.mark.parametrize("cut", [1, 4, 9, 14, 20, 27, 35])
def test_a_cut_line_is_made_up_for_by_a_retry(
    runner: Runner, tmp_path: Path, remote: Path, form: str, cut: int
) -> None:
    files = names(6)
    (runner.folder / "local").mkdir()
    for name in files:
        (runner.folder / "local" / name).write_text(name)
    cuts = Cuts(cut)
    copies = [up(name) for name in files] if form == "steps" else [{**up("{{ item }}"), "loop": files}]
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=cuts.serve()) as server:
        steps = [{"connection": "bank", "retries": 1, "delay": 0.05, **one} for one in copies]
        outcome = runner.play({"connections": {"bank": connection(server)}, "steps": steps})

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed"] * 6, messages(outcome)
    assert snapshot(remote) == {name: name.encode() for name in files}


@pytest.mark.parametrize("cut", [1, 4, 9, 14, 20])
def test_a_cut_line_without_retries_fails_one_step_and_tells_what_may_be_left(
    runner: Runner, tmp_path: Path, remote: Path, cut: int
) -> None:
    files = names(6)
    (runner.folder / "local").mkdir()
    for name in files:
        (runner.folder / "local" / name).write_text(name)
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=Cuts(cut).serve()) as server:
        steps = [{"connection": "bank", **up(name)} for name in files]
        outcome = runner.play({"connections": {"bank": connection(server)}, "steps": steps})

    done = outcome.statuses.count("changed")
    assert outcome.statuses == ["changed"] * done + ["unreachable"] + ["skipped"] * (5 - done)
    assert {name: name.encode() for name in files[:done]}.items() <= snapshot(remote).items()
    told = " ".join(messages(outcome))
    for name in snapshot(remote):
        assert name in files[: done + 1] or name in told, (name, told)
