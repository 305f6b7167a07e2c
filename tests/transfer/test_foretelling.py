"""--check knows what the steps before would have done: what it says of each is what the play then does."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runner.sftp.batch.batch import SftpBatch
from tests.conftest import Outcome, Runner, connection, download, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.misbehaving import RefusedStat
from tests.servers.openssh import OpenSSHServer
from tests.transfer.trees import Picture, picture

WHEN = 1_500_000_000
NOT_CARRIED_OUT = "which --check does not carry out"

Mode = dict[str, Any]
Steps = list[dict[str, Any]]


class Site:
    """A server whose login directory is `remote`, and a directory here."""

    def __init__(self, runner: Runner, server: Endpoint, remote: Path) -> None:
        self.runner, self.server, self.remote = runner, server, remote
        self.here = runner.folder / "here"
        self.here.mkdir()

    def play(self, *steps: dict[str, Any], options: tuple[str, ...] = (), **more: Any) -> Outcome:
        named = [one if is_control(one) else {"connection": "bank", **one} for one in steps]
        playbook = {"connections": {"bank": connection(self.server)}, "steps": named, **more}
        return self.runner.play(playbook, "-v", *options)

    def check(self, *steps: dict[str, Any], options: tuple[str, ...] = (), **more: Any) -> Outcome:
        """Check, which changes nothing on either side."""
        before = self.pictures()
        outcome = self.play(*steps, options=("--check", *options), **more)
        assert self.pictures() == before
        return outcome

    def agree(self, *modes: Mode, statuses: str = "", options: tuple[str, ...] = (), **more: Any) -> Outcome:
        """Check, and then play, which ends as was said: each step, what it changes, and what it fails with."""
        steps: Steps = [{"mode": mode} for mode in modes]
        foretold = self.check(*steps, options=options, **more)
        done = self.play(*steps, options=options, **more)
        assert foretold.statuses == done.statuses, foretold.output + done.output
        if statuses:
            assert done.statuses == statuses.split()
        assert changes(foretold) == changes(done)
        assert [one["error"] and one["error"]["type"] for one in foretold.report["steps"]] == [
            one["error"] and one["error"]["type"] for one in done.report["steps"]
        ]
        assert foretold.exit_code == done.exit_code
        return foretold

    def pictures(self) -> tuple[Picture, Picture]:
        return picture(self.remote), picture(self.here)

    def put(self, **files: str) -> None:
        """Files here, by names with `__` for a slash."""
        put(self.here, **files)

    def put_there(self, **files: str) -> None:
        put(self.remote, **files)


def put(root: Path, **files: str) -> None:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (WHEN, WHEN))
    for directory, _, _ in os.walk(root, topdown=False):
        os.utime(directory, (WHEN, WHEN))


def is_control(step: dict[str, Any]) -> bool:
    return any(key in step for key in ("debug", "assert", "block", "set_fact", "connection"))


def changes(outcome: Outcome) -> list[Any]:
    return [
        sorted((one["action"], one["path"], str(one["size_bytes"])) for one in step.get("changes") or [])
        for step in outcome.report["steps"]
        if step["status"] != "failed"
    ]


def results(outcome: Outcome) -> list[Any]:
    return [step["result"] for step in outcome.report["steps"]]


def messages(outcome: Outcome) -> list[str]:
    return [step["message"] for step in outcome.report["steps"]]


def rename(source: str, destination: str, **options: Any) -> Mode:
    return {"mode_name": "rename", "source_path": source, "destination_path": destination, **options}


def remove(path: str, **options: Any) -> Mode:
    return {"mode_name": "remove", "path": path, **options}


def stats(path: str) -> Mode:
    return {"mode_name": "stats", "path": path}


def listing(path: str, **options: Any) -> Mode:
    return {"mode_name": "list", "path": path, **options}


def make(path: str, **options: Any) -> Mode:
    return {"mode_name": "create_directory", "path": path, **options}


def link(path: str, target: str, **options: Any) -> Mode:
    return {"mode_name": "create_link", "path": path, "target": target, **options}


def write(path: str, content: str, **options: Any) -> Mode:
    return {"mode_name": "write_file", "destination_file_name": path, "content": content, **options}


def read(path: str, **options: Any) -> Mode:
    return {"mode_name": "read_file", "source_file_name": path, **options}


def up(source: str, destination: str, **options: Any) -> Mode:
    names = {"source_directory_name": source, "destination_directory_name": destination}
    return {"mode_name": "copy_directory_from_engine", **names, **options}


def down(source: str, destination: str, **options: Any) -> Mode:
    names = {"source_directory_name": source, "destination_directory_name": destination}
    return {"mode_name": "copy_directory_to_engine", **names, **options}


def wait(path: str, **options: Any) -> Mode:
    return {"mode_name": "wait_for", "path": path, "timeout": 0.1, "every": 0.1, **options}


@pytest.fixture
def site(runner: Runner, server: Endpoint, remote: Path) -> Site:
    return Site(runner, server, remote)


@pytest.fixture
def openssh(runner: Runner, tmp_path: Path, remote: Path) -> Any:
    with OpenSSHServer(tmp_path / "server", login_folder=remote) as server:
        yield Site(runner, server, remote)


# --- what a step makes, later steps find ---


def test_an_upload_is_renamed(site: Site) -> None:
    site.put(a="hello")

    site.agree(upload("here/a", "p.part"), rename("p.part", "p.xml"), stats("p.part"), statuses="changed changed ok")

    assert (site.remote / "p.xml").read_text() == "hello"


def test_what_is_renamed_is_found_by_its_new_name_only(site: Site) -> None:
    site.put_there(old="four", kept="x")

    foretold = site.agree(
        rename("old", "new"), stats("new"), stats("old"), download("new", "here/got"), download("old", "here/lost"),
        statuses="changed ok ok changed failed",
    )  # fmt: skip

    assert (results(foretold)[1]["exists"], results(foretold)[1]["size_bytes"]) == (True, 4)
    assert results(foretold)[2]["exists"] is False


def test_what_really_is_in_a_renamed_directory_goes_with_it(site: Site) -> None:
    site.put_there(d__a="a", d__sub__b="bb")
    (site.remote / "d/link").symlink_to("sub/b")

    foretold = site.agree(
        rename("d", "e"), listing("e", recursive=True), read("e/link"), rename("e/sub", "sub"), read("sub/b"),
        stats("e/sub/b"), stats("d/a"), listing("e"), up("here", "e/more"),
        statuses="changed ok ok changed ok ok ok ok changed",
    )  # fmt: skip

    assert [entry["path"] for entry in results(foretold)[1]["entries"]] == ["e/a", "e/link", "e/sub", "e/sub/b"]
    assert [results(foretold)[number]["content"] for number in (2, 4)] == ["bb", "bb"]
    assert [entry["path"] for entry in results(foretold)[7]["entries"]] == ["e/a", "e/link"]


def test_a_made_directory_is_there(site: Site) -> None:
    site.put(a="a")

    foretold = site.agree(
        make("x/y"), upload("here/a", "x/y/a", create_parents=False), listing("x", recursive=True), make("x/y"),
        rename("x/y", "z"), stats("x/y"), upload("here/a", "x/y/a", create_parents=False),
        statuses="changed changed ok ok changed ok failed",
    )  # fmt: skip

    assert [entry["path"] for entry in results(foretold)[2]["entries"]] == ["x/y", "x/y/a"]


def test_what_is_removed_is_gone(site: Site) -> None:
    site.put(a="a")
    site.put_there(a="other", d__a="x", d__e__b="x")

    site.agree(
        remove("a"), stats("a"), upload("here/a", "a", if_exists="fail"), remove("a", missing_ok=False),
        remove("d", recursive=True), make("d"), listing("d", recursive=True), remove("d"), stats("d/a"), listing("d"),
        statuses="changed ok changed changed changed changed ok changed ok failed",
    )  # fmt: skip


def test_what_a_copy_with_delete_removes_is_gone(site: Site) -> None:
    site.put(t__a="a")
    site.put_there(t__b="b", t__sub__c="c")

    foretold = site.agree(
        up("here/t", "t", delete=True), listing("t", recursive=True), stats("t/b"), up("here/t", "t", delete=True),
        read("t/sub/c"),
        statuses="changed ok ok ok failed",
    )  # fmt: skip

    assert [entry["path"] for entry in results(foretold)[1]["entries"]] == ["t/a"]


def test_what_is_downloaded_is_sent_on(site: Site) -> None:
    site.put_there(a="hello", t__b="b", t__sub__c="c")

    site.agree(
        download("a", "here/a"), upload("here/a", "b"), upload("here/a", "b"), read("b"),
        down("t", "here/t"), up("here/t", "u"), up("here/t", "u"), read("u/sub/c"), down("u", "here/t", delete=True),
        upload("here/t/nothing", "c"),
        statuses="changed changed ok ok changed changed ok ok ok failed",
    )  # fmt: skip


def test_a_deleting_download_empties_what_is_sent_on(site: Site) -> None:
    site.put_there(t__a="a")
    site.put(t__b="b", t__c="c")

    foretold = site.agree(
        down("t", "here/t", delete=True), up("here/t", "u"), listing("u"), upload("here/t/b", "b"),
        statuses="changed changed ok failed",
    )  # fmt: skip

    assert [entry["path"] for entry in results(foretold)[2]["entries"]] == ["u/a"]


def test_what_is_written_can_be_read(site: Site) -> None:
    foretold = site.agree(
        write("n", "1\n"), read("n"), write("n", "1\n"), write("n", "2\n"), rename("n", "m"), read("m"),
        statuses="changed ok ok changed changed ok",
    )  # fmt: skip

    assert [results(foretold)[number]["content"] for number in (1, 5)] == ["1\n", "2\n"]


def test_what_is_read_goes_into_later_steps(site: Site) -> None:
    steps: Steps = [
        {"mode": write("n", "seven")},
        {"mode": read("n"), "register": "n"},
        {"mode": write("{{ n.result.content }}", "x")},
        {"mode": listing("."), "register": "all"},
        {"mode": rename("{{ item.path }}", "{{ item.path }}.done"), "loop": "{{ all.result.entries }}"},
    ]

    foretold = site.check(*steps)
    assert foretold.statuses == site.play(*steps).statuses == ["changed", "ok", "changed", "ok", "changed", "changed"]
    assert sorted(os.listdir(site.remote)) == ["n.done", "seven.done"]


def test_a_link_leads_where_it_would(site: Site) -> None:
    site.put_there(r__1__a="one", r__2__a="two")
    (site.remote / "real").symlink_to("r/1")

    foretold = site.agree(
        link("now", "r/1"), read("now/a"), link("now", "r/2"), read("now/a"), listing("now"), stats("now"),
        read("real/../2/a"), link("real", "r/2"), read("real/a"), link("real", "r/2"), write("now/b", "b"), read("r/2/b"),
        remove("now"), stats("now/a"), link("gone", "nowhere"), read("gone"),
        statuses="changed ok changed ok ok ok ok changed ok ok changed ok changed ok changed failed",
    )  # fmt: skip

    contents = [result.get("content") for result in results(foretold)]
    assert [contents[number] for number in (1, 3, 6, 8, 11)] == ["one", "two", "two", "two", "b"]
    assert results(foretold)[5]["target"] == "r/2"


def test_names_are_read_as_the_server_reads_them(openssh: Site) -> None:
    site = openssh
    site.put(a="a")
    there = str(site.remote)

    site.agree(
        upload("here/a", f"{there}/x/a"), read("x/a"), read("./x//a"), read("x/../x/a"), remove(f"{there}/x/./a"),
        stats("x/a"), make("x/y"), rename("x/y/../y", "z"), stats(f"{there}/z"),
        statuses="changed ok ok ok changed ok changed changed ok",
    )  # fmt: skip


def test_what_an_earlier_step_makes_need_not_be_waited_for(site: Site) -> None:
    site.put(a="a")

    foretold = site.agree(
        upload("here/a", "in/a.csv"), wait("in/a.csv"), wait("in/*.csv", min_size=1), wait("in/b", state="absent"),
        remove("in/a.csv"), wait("in/a.csv", state="absent"),
        statuses="changed ok ok ok changed ok",
    )  # fmt: skip

    assert [results(foretold)[number]["met"] for number in (1, 2, 3, 5)] == [True] * 4


def test_permissions_and_times_that_are_known_are_kept(site: Site) -> None:
    site.put(a="a")

    foretold = site.agree(
        upload("here/a", "a", permissions="0640"), stats("a"), upload("here/a", "a", permissions="0640"),
        upload("here/a", "a", permissions="0600"), stats("a"), make("d", permissions="0750"), stats("d"),
        statuses="changed ok ok changed ok changed ok",
    )  # fmt: skip

    assert [results(foretold)[number]["permissions"] for number in (1, 4, 6)] == ["0640", "0600", "0750"]
    assert results(foretold)[1]["modified_at"].startswith("2017-07-14T02:40:00")


@pytest.mark.parametrize("compare", ["checksum", "size", "always"])
def test_contents_are_compared_before_they_are_there(site: Site, compare: str) -> None:
    site.put(a="one", t__x="x", t__y="yy")
    site.put_there(b="two", u__x="z", u__y="yy")

    site.agree(
        upload("here/a", "a", compare=compare), upload("here/a", "a", compare=compare),
        rename("b", "c"), upload("here/a", "c", compare=compare), download("c", "here/a", compare=compare),
        up("here/t", "t", compare=compare), rename("t", "v"), up("here/t", "v", compare=compare),
        rename("u", "w"), up("here/t", "w", compare=compare), down("w", "here/t", compare=compare),
    )  # fmt: skip


def test_differences_are_shown_of_what_is_not_there_yet(site: Site) -> None:
    site.put(a="old\n")

    steps: Steps = [{"mode": mode} for mode in (upload("here/a", "a"), write("a", "new\n"), download("a", "here/a"))]
    outcome = site.check(*steps, options=("--diff",))

    assert outcome.stdout.count("-old") == 2
    assert outcome.stdout.count("+new") == 2


def test_a_link_that_a_server_would_send_is_not_followed(site: Site) -> None:
    site.put_there(t__a="a")
    (site.remote / "t/link").symlink_to("a")

    foretold = site.agree(
        down("t", "here/t"), upload("here/t/link", "b"), up("here/t", "u", links="follow"), down("t", "here/t"),
        statuses="changed failed skipped skipped",
        defaults={"ignore_errors": True} if False else {},
    )  # fmt: skip

    assert "received from its server" in messages(foretold)[1]


def test_files_over_scp(runner: Runner, sshd: OpenSSHServer, remote: Path) -> None:
    site = Site(runner, sshd, remote)
    site.put(a="a", t__b="b")
    there = str(remote)
    site.agree(
        upload("here/a", f"{there}/x/a", create_parents=True), upload("here/a", f"{there}/x/a"),
        download(f"{there}/x/a", "here/x/a"), upload("here/x/a", f"{there}/y"),
        statuses="changed ok changed changed", defaults={"connector_type": "SCP"},
    )  # fmt: skip


class NobodyLooks(RefusedStat):
    """Tells of no file whether it is there, and lists nothing: a drop box."""

    def examine(self, path: bytes, *, follow_symlinks: bool) -> os.stat_result:
        if not Path(os.fsdecode(self.map_path(path))).is_dir():
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        return super().examine(path, follow_symlinks=follow_symlinks)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            if entry.filename:
                raise asyncssh.SFTPPermissionDenied("Permission denied")
            yield entry


def test_a_server_that_tells_nothing_tells_nothing_of_what_is_made(
    runner: Runner, remote: Path, tmp_path: Path
) -> None:
    with AsyncsshServer(tmp_path / "server", root=remote, sftp_factory=NobodyLooks) as server:
        site = Site(runner, server, remote)
        site.put(a="a")

        site.agree(
            upload("here/a", "a", verify="none"), upload("here/a", "a", verify="none"), stats("a"),
            statuses="changed changed failed",
        )  # fmt: skip


def test_files_over_scp_without_a_shell(runner: Runner, asyncssh_server: AsyncsshServer, remote: Path) -> None:
    site = Site(runner, asyncssh_server, remote)
    site.put(a="a")

    site.agree(
        upload("here/a", "a"), upload("here/a", "a"), download("a", "here/b"), upload("here/b", "c"),
        statuses="changed ok changed changed", defaults={"connector_type": "SCP"},
    )  # fmt: skip


# --- blocks, loops, failures ---


def test_a_failed_step_would_have_done_nothing(site: Site) -> None:
    site.put(a="a")
    site.put_there(file="x")
    rescued = {
        "block": [{"mode": upload("here/a", "file/b"), "connection": "bank"}],
        "rescue": [{"mode": read("file"), "connection": "bank"}, {"mode": write("b", "b"), "connection": "bank"}],
        "always": [{"mode": read("b"), "connection": "bank"}],
    }

    foretold, done = site.check(rescued), site.play(rescued)

    assert foretold.statuses == done.statuses == ["failed", "ok", "changed", "ok"]
    assert results(foretold)[1]["content"] == "x"


def test_the_rest_of_a_tree_that_fails_is_done(site: Site) -> None:
    site.put(t__a="a", t__b="b")
    site.put_there(t__a__x="x")
    steps: Steps = [
        {"mode": up("here/t", "t"), "ignore_errors": True},
        {"mode": read("t/b")},
        {"mode": stats("t/a/x")},
    ]

    assert site.check(*steps).statuses == site.play(*steps).statuses == ["failed", "ok", "ok"]


def test_items_of_a_loop_find_what_those_before_them_do(site: Site) -> None:
    site.put(a="a")
    steps: Steps = [
        {"mode": upload("here/a", "same"), "loop": [1, 2]},
        {"mode": rename("same", "{{ item }}"), "loop": ["x", "y"], "ignore_errors": True},
        {"mode": stats("{{ item }}"), "loop": ["x", "y"]},
    ]

    foretold, done = site.check(*steps), site.play(*steps)

    assert foretold.statuses == done.statuses
    assert [result.get("exists") for result in results(foretold)[-2:]] == [True, False]


def test_playbooks_of_one_command_line_follow_each_other(site: Site) -> None:
    site.put(a="a")
    folder = site.runner.folder
    site.play({"mode": upload("here/a", "p")}, options=("--list-steps",))
    (folder / "play.yaml").rename(folder / "first.yaml")
    site.play({"mode": rename("p", "q")}, options=("--list-steps",))

    outcome = site.runner("play", "--check", str(folder / "first.yaml"), str(folder / "play.yaml"))

    assert outcome.exit_code == 0, outcome.output
    assert os.listdir(site.remote) == []


# --- steps that run all the same, and steps that never do ---


def test_a_step_that_really_runs_is_not_contradicted(site: Site) -> None:
    site.put(a="newer")
    site.put_there(a="old", d__x="x")

    outcome = site.play(
        {"mode": remove("a")},
        {"mode": remove("d", recursive=True)},
        {"mode": write("new/foretold", "f")},
        {"mode": upload("here/a", "new/real"), "check_mode": False},
        {"mode": listing("new")},
        {"mode": upload("here/a", "a"), "check_mode": False},
        {"mode": write("d/y", "y"), "check_mode": False},
        {"mode": read("a")},
        {"mode": read("d/y")},
        options=("--check",),
    )

    assert outcome.statuses == ["changed", "changed", "changed", "changed", "ok", "changed", "changed", "ok", "ok"]
    assert [entry["path"] for entry in results(outcome)[4]["entries"]] == ["new/foretold", "new/real"]
    assert [results(outcome)[number]["content"] for number in (7, 8)] == ["newer", "y"]
    assert (site.remote / "a").read_text() == "newer"


def test_what_never_runs_is_nothing_to_later_steps(site: Site) -> None:
    site.put(a="a")

    outcome = site.play(
        {"mode": upload("here/a", "a"), "check_mode": True},
        {"mode": stats("a"), "check_mode": True},
        {"mode": rename("a", "b")},
    )

    assert outcome.statuses == ["changed", "ok", "failed"]
    assert results(outcome)[1]["exists"] is False


# --- what cannot be known ---


def test_what_another_host_would_have_sent_is_not_known(
    runner: Runner, remote: Path, sshd: OpenSSHServer, tmp_path: Path
) -> None:
    (remote / "a").write_text("a")
    with OpenSSHServer(tmp_path / "other", login_folder=tmp_path) as other:
        connections = {"one": connection(sshd), "two": connection(other)}
        steps: Steps = [
            {"connection": "one", "mode": download(remote / "a", "here/a")},
            {"connection": "two", "mode": upload("here/a", remote / "b")},
            {"connection": "two", "mode": stats(str(remote / "b"))},
            {"connection": "two", "mode": read(str(remote / "b")), "register": "r", "name": "Read"},
            {"connection": "two", "mode": write(str(remote / "c"), "{{ r.result.content }}")},
            {"debug": {"msg": "{{ r is changed }}"}},
            {"debug": {"msg": "x"}, "when": "r.status == 'ok'"},
            {"connection": "two", "mode": read(str(remote / "d" / "e"))},
        ]
        playbook = {"connections": connections, "steps": steps}
        before = picture(tmp_path / "remote")

        foretold = runner.play(playbook, "--check")

        assert picture(tmp_path / "remote") == before
        assert foretold.exit_code == 0, foretold.output
        assert foretold.statuses == ["changed", "changed", "ok", *["skipped"] * 5]
        assert all(NOT_CARRIED_OUT in message for message in messages(foretold)[3:])
        assert results(foretold)[2]["size_bytes"] == 1
        assert "step 5" in messages(foretold)[7]
        assert runner.play(playbook).statuses[:6] == ["changed", "changed", "ok", "ok", "changed", "ok"]


def test_what_a_step_would_have_made_that_is_not_known_is_not_known_either(site: Site) -> None:
    site.put(a="a")
    site.put_there(a="old")

    steps: Steps = [
        {"mode": upload("here/a", "a", backup=True)},
        {"mode": listing("."), "name": "List"},
        {"mode": remove("d", recursive=True)},
        {"mode": read("a")},
    ]
    outcome = site.check(*steps)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "skipped", "ok", "ok"]
    assert "step 1 would have kept an old file" in messages(outcome)[1]


def test_an_attribute_that_only_the_play_gives_is_not_guessed(site: Site) -> None:
    steps: Steps = [
        {"mode": write("a", "a")},
        {"mode": stats("a"), "register": "one"},
        {"mode": listing("."), "register": "all"},
        {"debug": {"msg": "{{ one.result.size_bytes }}"}},
        {"debug": {"msg": "{{ one.result.modified_at }}"}},
        {"debug": {"msg": "{{ all.result.entries[0].modified_at }}"}},
        {"mode": write("a", "a", permissions="0600")},
        {"mode": read("a")},
    ]

    outcome = site.check(*steps)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "ok", "ok", "ok", "skipped", "skipped", "skipped", "skipped"]
    assert all(NOT_CARRIED_OUT in message for message in messages(outcome)[4:])
    assert site.play(*steps).exit_code == 0


def test_conditions_of_a_step_that_is_not_known_are_not_asked(site: Site) -> None:
    site.put(a="a")
    site.put_there(a="old")
    unknown = {"mode": listing("."), "register": "r"}

    outcome = site.check(
        {"mode": upload("here/a", "a", backup=True)},
        {**unknown, "failed_when": "r.result.entries | length > 5"},
        {**unknown, "until": "r.result.entries | length > 5", "retries": 3, "delay": 0},
        {**unknown, "changed_when": "r.result.entries | length > 5"},
        {**unknown, "loop": [1, 2]},
        {"debug": {"msg": "{{ r.changed }}"}},
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", *["skipped"] * 6]


def test_what_is_made_of_an_unknown_result_is_unknown(site: Site) -> None:
    site.put(a="a")
    steps: Steps = [
        {"mode": upload("here/a", "a", verify="checksum"), "register": "r"},
        {"set_fact": {"x": "{{ r.result.sha256 }}"}, "connection": "bank"},
        {"debug": {"msg": "{{ x }}"}, "connection": "bank"},
        {"debug": {"msg": "x"}, "when": "x == 'x'", "connection": "bank"},
        {"mode": stats("{{ x }}"), "register": "s"},
        {"debug": {"msg": "{{ s.result.exists }}"}},
        {"debug": {"msg": "x"}, "when": "s is changed"},
        {"mode": stats("{{ item }}"), "loop": "{{ r.result.backups }}", "register": "t"},
        {"debug": {"msg": "{{ t is changed }}"}},
        {"mode": download("a", "here/{{ x }}")},
        {"mode": upload("here/b", "b"), "ignore_errors": True},
    ]

    outcome = site.check(*steps)

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", *["skipped"] * 10]
    assert all(NOT_CARRIED_OUT in message for message in messages(outcome)[1:])
    assert "unless step 10 makes it" in messages(outcome)[10]
    assert site.play(*steps).exit_code == 0


def test_nothing_else_is_doubted_for_a_step_that_only_looks(site: Site) -> None:
    site.put(a="a")
    steps: Steps = [
        {"mode": upload("here/a", "a"), "register": "r"},
        {"mode": stats("{{ r.result.sha256 }}")},
        {"mode": upload("here/b", "b")},
    ]

    assert site.check(*steps).statuses == ["changed", "skipped", "failed"]


@pytest.mark.parametrize("is_upload", [True, False])
def test_of_a_huge_tree_is_known_that_it_is_huge(
    openssh: Site, monkeypatch: pytest.MonkeyPatch, is_upload: bool
) -> None:
    site = openssh
    monkeypatch.setattr("runner.transfer.foretold.files.MAX_NODES", 5)
    names = {f"t__{number}": "x" for number in range(9)}
    (site.put if is_upload else site.put_there)(**names)
    copy = up("here/t", "u/v") if is_upload else down("t", "here/u/v")
    use = read("u/v/3") if is_upload else upload("here/u/v/3", "w")

    outcome = site.check({"mode": copy}, {"mode": use}, {"mode": stats("u/v/x")}, {"mode": copy})

    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses == ["changed", "skipped", "skipped" if is_upload else "ok", "skipped"]
    assert "it needs what step 1 would have made, which --check does not carry out" in messages(outcome)[1]


def count_requests(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many batches are waited for."""
    waits: list[SftpBatch] = []
    complete = SftpBatch.complete

    def count(batch: SftpBatch) -> None:
        waits.append(batch)
        complete(batch)

    monkeypatch.setattr(SftpBatch, "complete", count)
    return lambda: len(waits)


def test_a_tree_is_listed_in_waves(openssh: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = openssh
    put(site.here, **{f"t__{one}__{two}": "x" for one in range(10) for two in range(5)})
    put(site.remote, **{f"t__{one}__{two}": "y" for one in range(10) for two in range(5)})
    count = count_requests(site, monkeypatch)

    outcome = site.check({"mode": make("x")}, {"mode": up("here/t", "t", compare="checksum")})

    assert outcome.statuses == ["changed", "changed"]
    assert outcome.report["steps"][1]["result"]["files_changed"] == 50
    assert count() < 20
