"""Symbolic links that a server sends: none leads out of its tree, and no step of the command line follows one."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.transfer.memory import Memory, ReceivedLinks
from tests.conftest import Outcome, Runner, connection, download, snapshot, upload
from tests.servers.asyncssh_server import AsyncsshServer
from tests.servers.endpoint import Endpoint
from tests.servers.file_session import FileServer

ROUNDS = 6
SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    if request.param == "sshd":
        yield request.getfixturevalue("sshd")
        return
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield server


def tree_mode(
    source: Path | str, destination: Path | str, *, is_upload: bool = False, **options: Any
) -> dict[str, Any]:
    return {
        "mode_name": f"copy_directory_{'from' if is_upload else 'to'}_engine",
        "source_directory_name": str(source),
        "destination_directory_name": str(destination),
        **options,
    }


class Site:
    """`remote` is the server's disk; its tree `remote/tree` comes to `copy` here, and steps of the same play follow."""

    def __init__(self, runner: Runner, server: Endpoint, remote: Path) -> None:
        self.runner, self.server, self.remote = runner, server, remote
        self.source, self.copy = remote / "tree", runner.folder / "copy"
        self.source.mkdir()

    def steps(self, *modes: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**connection(self.server), "mode": mode} for mode in modes]

    def fetch(self, *more: dict[str, Any], arguments: tuple[str, ...] = (), **options: Any) -> Outcome:
        return self.runner.play(self.steps(tree_mode(self.source, self.copy, **options), *more), *arguments)


@pytest.fixture
def site(runner: Runner, server: Endpoint, remote: Path) -> Site:
    return Site(runner, server, remote)


@pytest.fixture
def fast_site(runner: Runner, remote: Path, tmp_path: Path) -> Iterator[Site]:
    """The same with one server only."""
    with AsyncsshServer(tmp_path / "server", root=Path("/")) as server:
        yield Site(runner, server, remote)


# --- what a tree's download makes ---


LEADS_OUT = [
    ("l", "/etc/passwd"),
    ("l", "//etc/passwd"),
    ("l", "/"),
    ("l", ".."),
    ("l", "../victim"),
    ("l", "./../victim"),
    ("l", ".//.//../victim"),
    ("d/l", "../../victim"),
    ("d/e/l", "../.././../victim"),
    ("l", "d/../../victim"),
    # Inside by its letters; outside as soon as `d` is another link.
    ("l", "d/../victim"),
    ("d/l", "../d/../victim"),
    ("l", "d/.."),
]
STAYS_IN = [
    ("l", "a"),
    ("l", "."),
    ("l", "d//e/./f"),
    ("l", "..."),
    ("l", "..a/b"),
    ("l", "nowhere/at/all"),
    ("d/l", ".."),
    ("d/l", "../a"),
    ("d/e/l", "../../d/e"),
    ("d/e/l", "./.././../a"),
    ("l", "with\nnew line \x1b[31m"),
]


@pytest.mark.parametrize(("path", "target"), LEADS_OUT)
def test_a_link_that_may_lead_out_is_left_out(fast_site: Site, path: str, target: str) -> None:
    site = fast_site
    (site.remote.parent / "victim").write_text(SECRET)
    link = site.source / path
    (site.source / "d/e").mkdir(parents=True)
    link.symlink_to(target)
    results = []
    for arguments in ("--check",), ():
        outcome = site.fetch(upload("copy/" + path, site.remote / "stolen"), arguments=arguments)
        # The tree is copied; what the link would have led to is not there to be sent.
        assert outcome.statuses[0] == "changed" and outcome.step["error"] is None, outcome.output
        assert outcome.report["steps"][1]["error"]["type"] == "SourceMissing", outcome.output
        assert not os.path.lexists(site.copy / path)
        results.append(outcome.step["result"])
    foretold, result = results
    assert foretold["warnings"] == result["warnings"]
    assert result["links_changed"] == 0
    assert len(result["warnings"]) == 1
    assert repr(path) in result["warnings"][0] and repr(target) in result["warnings"][0]
    assert "left out 1 link" in outcome.step["message"]
    assert not (site.remote / "stolen").exists()


@pytest.mark.parametrize(("path", "target"), STAYS_IN)
def test_a_link_that_stays_inside_is_made(fast_site: Site, path: str, target: str) -> None:
    site = fast_site
    (site.source / "d/e").mkdir(parents=True)
    (site.source / path).symlink_to(target)
    assert site.fetch(arguments=("--check",)).step["result"]["links_changed"] == 1
    outcome = site.fetch()
    assert (outcome.exit_code, outcome.step["result"]["warnings"]) == (0, []), outcome.output
    assert os.readlink(site.copy / path) == target
    assert site.fetch().statuses == ["ok"]


def test_a_link_out_that_is_there_already_is_not_touched_nor_taken_for_right(fast_site: Site) -> None:
    site = fast_site
    (site.source / "old").symlink_to("/etc/passwd")
    (site.source / "file").symlink_to("../x")
    site.copy.mkdir()
    (site.copy / "old").symlink_to("/etc/passwd")
    (site.copy / "file").write_text("mine")
    for arguments in (("--check",), (), ()):
        outcome = site.fetch(arguments=arguments, delete=True)
        assert outcome.exit_code == 0, outcome.output
        assert len(outcome.step["result"]["warnings"]) == 2
        assert "2 links" in outcome.step["message"]
        assert os.readlink(site.copy / "old") == "/etc/passwd"
        assert (site.copy / "file").read_text() == "mine"


def test_with_links_error_each_of_them_fails(fast_site: Site) -> None:
    site = fast_site
    (site.source / "out").symlink_to("/etc/passwd")
    outcome = site.fetch(links="error")
    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete")
    assert not os.path.lexists(site.copy / "out")


def test_a_link_does_not_leave_through_one_of_the_users_own(fast_site: Site) -> None:
    """The destination had links before: some lead out, and the server knows their names."""
    site = fast_site
    (site.copy / "d").mkdir(parents=True)
    (site.copy / "mine").symlink_to(site.runner.folder)
    (site.copy / "d/up").symlink_to("../..")
    (site.copy / "good").symlink_to("d")
    (site.source / "d").mkdir(parents=True)
    for path, target in (
        ("a", "mine/play.yaml"),
        ("d/b", "../mine"),
        ("c", "d/up/x"),
        ("e", "good/up/x"),
        ("f", "good/x"),
    ):
        (site.source / path).symlink_to(target)
    for arguments in ("--check",), ():
        outcome = site.fetch(arguments=arguments)
        assert outcome.exit_code == 0, outcome.output
        assert (outcome.step["result"]["links_changed"], len(outcome.step["result"]["warnings"])) == (1, 4), (
            outcome.output
        )
    assert "'d/up', a link out of the tree" in outcome.output
    assert {name for name in ("a", "d/b", "c", "e", "f") if os.path.lexists(site.copy / name)} == {"f"}


class BadTarget(FileServer):
    target = b""

    def readlink(self, path: bytes) -> bytes:
        return self.target


@pytest.mark.parametrize("target", [b"", b"nul\0nul", b"\0", b"x/" * 4000], ids=["empty", "nul", "only nul", "long"])
@pytest.mark.parametrize("arguments", [("--check",), ()], ids=["check", "play"])
def test_a_target_that_no_link_can_have_fails(
    runner: Runner, remote: Path, tmp_path: Path, target: bytes, arguments: tuple[str, ...]
) -> None:
    factory: Any = type("Bad", (BadTarget,), {"target": target})
    with AsyncsshServer(tmp_path / "server", root=Path("/"), sftp_factory=factory) as server:
        site = Site(runner, server, remote)
        (site.source / "l").symlink_to("a")
        (site.source / "good").write_text("good")
        outcome = site.fetch(arguments=arguments)
    assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
    assert "the link 'l'" in outcome.step["error"]["message"] and len(outcome.step["error"]["message"]) < 600
    assert arguments or snapshot(site.copy) == {"good": b"good"}


PARTS = ("..", "..", "..", ".", "", "a", "b", "c", "d", "/", "a/b", "b/a/c")


def plant(root: Path, chance: random.Random) -> None:
    """Directories, files and links, at names that are likely to be something else in the next round."""
    folders = [root]
    for _ in range(30):
        path = chance.choice(folders) / chance.choice("abcd")
        if os.path.lexists(path):
            continue
        kind = chance.choice("flldd")
        if kind == "d":
            path.mkdir()
            folders.append(path)
        elif kind == "f":
            path.write_text("theirs")
        else:
            target = "/".join(chance.choice(PARTS) for _ in range(chance.randint(1, 5)))
            path.symlink_to(target or "a")


@pytest.mark.parametrize("seed", range(4))
def test_no_sequence_of_trees_makes_a_link_that_leads_out(fast_site: Site, seed: int) -> None:
    """What is a directory in one round is a link in the next, and the other way round; roots lie in one another."""
    site, chance = fast_site, random.Random(f"links {seed}")
    (site.runner.folder / "victim").write_text(SECRET)
    before = snapshot(site.runner.folder / "victim")
    roots = [site.copy, site.copy / "a", site.copy / "a/b", site.copy / "c"]
    made = 0
    for number in range(ROUNDS):
        source = site.remote / f"{number}"
        source.mkdir()
        plant(source, chance)
        root = chance.choice(roots) if number else site.copy
        options: dict[str, Any] = {"delete": chance.random() < 0.5, "max_delete": 1000, "backup": chance.random() < 0.3}
        # Each round a play of its own: what an earlier one has received is not remembered.
        site.runner.play(site.steps(tree_mode(source, root, **options)))
        for path in site.copy.rglob("*"):
            if path.is_symlink():
                made += 1
                real = os.path.realpath(path)
                assert real == str(site.copy) or real.startswith(f"{site.copy}/"), (path, os.readlink(path))
    assert made
    assert snapshot(site.runner.folder / "victim") == before
    assert (site.runner.folder / "victim").read_text() == SECRET


# --- what follows a link that came ---


def make_inside(site: Site) -> None:
    """The server's tree: links to a file and to a directory that only this side has, both inside of the tree."""
    (site.copy / "private/deep").mkdir(parents=True)
    (site.copy / "private/key").write_text(SECRET)
    (site.copy / "private/deep/key").write_text(SECRET)
    for path, target in (
        ("ack.txt", "private/key"),
        ("out", "private"),
        ("again", "out/deep"),
        ("here", "."),
    ):
        (site.source / path).symlink_to(target)
    (site.source / "incoming").write_text("theirs")


FOLLOWERS: dict[str, dict[str, Any]] = {
    "a file": upload("copy/ack.txt", "{remote}/stolen"),
    "a file, compared by checksum": upload("copy/ack.txt", "{remote}/stolen", compare="checksum"),
    "a file behind a directory": upload("copy/out/key", "{remote}/stolen"),
    "a file behind two links": upload("copy/again/key", "{remote}/stolen"),
    "a file, by a detour": upload("copy/private/../here/private/key", "{remote}/stolen"),
    "a link of the user's own": upload("mine", "{remote}/stolen"),
    "a tree": tree_mode("copy/out", "{remote}/stolen", is_upload=True),
    "a tree with slash": tree_mode("copy/out/", "{remote}/stolen", is_upload=True),
    "a tree behind a link": tree_mode("copy/here/private", "{remote}/stolen", is_upload=True),
    "a tree whose links are followed": tree_mode("copy", "{remote}/stolen", is_upload=True, links="follow"),
    "a download": download("{remote}/tree/incoming", "copy/out/key"),
    "a download in place": download("{remote}/tree/incoming", "copy/out/key", atomic=False),
    "a download that makes directories": download("{remote}/tree/incoming", "copy/out/new/key"),
    "a downloaded tree": tree_mode("{remote}/small", "copy/out"),
    "a downloaded tree below": tree_mode("{remote}/small", "copy/out/deep"),
    "a downloaded tree that is made": tree_mode("{remote}/small", "copy/again/new/tree"),
}


def fill_in(mode: dict[str, Any], site: Site) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(mode).replace("{remote}", str(site.remote)))
    return filled


@pytest.mark.parametrize("name", FOLLOWERS)
@pytest.mark.parametrize("is_first", [True, False], ids=["made", "there already"])
def test_no_step_follows_a_link_that_the_play_received(fast_site: Site, name: str, is_first: bool) -> None:
    site = fast_site
    make_inside(site)
    (site.remote / "small").mkdir()
    (site.remote / "small/key").write_text("theirs")
    (site.runner.folder / "mine").symlink_to("copy/ack.txt")
    if not is_first:
        # In an earlier play: in this one it is found to be right.
        assert site.fetch().exit_code == 0
    private = snapshot(site.copy / "private")
    checks: list[tuple[str, ...]] = [()] if is_first else [("--check",), ()]
    for arguments in checks:
        outcome = site.fetch(fill_in(FOLLOWERS[name], site), arguments=arguments)
        assert outcome.exit_code == 2, outcome.output
        assert outcome.statuses == ["changed" if is_first else "ok", "failed"], outcome.output
        error = outcome.report["steps"][1]["error"]
        assert error["type"] == ("TreeIncomplete" if "followed" in name else "FileRefused"), error
        assert "leads through the symbolic link" in error["message"]
        assert f"step 1 (copy_directory_to_engine {site.source}" in error["message"]
        assert "play.yaml:2:3" in error["message"]
    assert snapshot(site.copy / "private") == private
    stolen = site.remote / "stolen"
    assert not stolen.is_file()
    assert not os.path.lexists(stolen / "ack.txt")


def test_another_playbook_of_the_same_command_line_knows_them_too(site: Site) -> None:
    make_inside(site)
    first, second = site.runner.folder / "a.yaml", site.runner.folder / "b.yaml"
    first.write_text(json.dumps(site.steps(tree_mode(site.source, site.copy))))
    second.write_text(json.dumps(site.steps(upload("copy/ack.txt", site.remote / "stolen"))))
    outcome = site.runner("play", str(first), str(second), "--json", str(site.runner.folder / "report.json"))
    assert outcome.exit_code == 2, outcome.output
    assert "copy/ack.txt" in outcome.output and "a.yaml:1:2" in outcome.output
    assert not (site.remote / "stolen").exists()


def test_a_workdir_behind_a_received_link_is_no_way_around(fast_site: Site) -> None:
    site = fast_site
    make_inside(site)
    assert site.fetch().exit_code == 0
    workdir = ("--workdir", str(site.copy / "out"))
    outcome = site.fetch(upload("key", site.remote / "stolen"), arguments=workdir)
    assert outcome.statuses == ["ok", "failed"], outcome.output
    assert "leads through the symbolic link" in outcome.report["steps"][1]["error"]["message"]
    assert not (site.remote / "stolen").exists()


def test_a_link_is_known_by_any_other_name(fast_site: Site) -> None:
    """A file takes the link's place, and the link is kept as a backup: it is the same one."""
    site = fast_site
    make_inside(site)
    other = site.remote / "other"
    other.mkdir()
    (other / "ack.txt").write_text("theirs")
    assert site.fetch(tree_mode(other, "copy", backup=True)).exit_code == 0
    (kept,) = site.copy.glob("ack.txt.*~")
    assert kept.is_symlink()
    memory = Memory()
    memory.links.note(kept.lstat(), "step 1")
    kept.rename(site.copy / "renamed")
    with pytest.raises(Exception, match="renamed"):
        memory.links.require_none_on(str(site.copy / "renamed"))
    memory.links.require_none_on(str(site.copy / "ack.txt"))


def test_links_of_the_users_own_are_followed_as_ever(site: Site) -> None:
    """Above a destination, and at a source."""
    make_inside(site)
    real = site.runner.folder / "real"
    real.mkdir()
    (site.runner.folder / "link").symlink_to("real")
    (real / "own").write_text("mine")
    (site.runner.folder / "own link").symlink_to("link/own")
    outcome = site.fetch(
        upload("own link", site.remote / "sent"),
        download(site.source / "incoming", "link/came"),
        tree_mode(site.source, "link", links="skip"),
    )
    assert outcome.exit_code == 0, outcome.output
    assert (site.remote / "sent").read_text() == "mine"
    assert snapshot(real) == {"own": b"mine", "came": b"theirs", "incoming": b"theirs"}


def test_what_was_received_can_be_sent_on_as_it_is(site: Site) -> None:
    """Links are copied as links, which follows none."""
    make_inside(site)
    outcome = site.fetch(tree_mode("copy", site.remote / "mirror", is_upload=True))
    assert outcome.exit_code == 0, outcome.output
    assert os.readlink(site.remote / "mirror/ack.txt") == "private/key"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    received = ReceivedLinks()
    (tmp_path / "other").symlink_to("nowhere")
    received.note((tmp_path / "other").lstat(), "step 1")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a/x")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for path in ("a", "a/b", "missing/x", "a/../b", ""):
        received.require_none_on(str(tmp_path / path))
    assert before in (0, len(os.listdir("/proc/self/fd")))


# --- what the command itself rests on ---


def test_a_tree_does_not_replace_what_the_play_itself_rests_on(site: Site) -> None:
    """Its playbook, which could run anything the next time; the keys and known hosts; what is looked up."""
    here = site.runner.folder
    (here / "keys").mkdir()
    (here / "keys/key").write_bytes(site.server.user_key_path.read_bytes())
    (here / "keys/key").chmod(0o600)
    (here / "known_hosts").write_text(site.server.known_hosts_line() + "\n")
    (here / "value").write_text("5")
    one = site.steps(tree_mode(site.source, ".", exclude=["/remote/", "/server/", "/report.json"]))[0]
    one["authentication"]["ssh_key_file"] = "keys/key"
    one["hostkey"] = {"hostkey_mode": "known_hosts_file", "known_hosts_file": "known_hosts"}
    play = {"steps": [{**one, "stall_timeout": "{{ lookup('file', 'value') }}"}]}

    (site.source / "keys").mkdir()
    for name in ("play.yaml", "keys/key", "value"):
        (site.source / name).write_text("theirs")
    (site.source / "known_hosts").symlink_to("theirs")
    (site.source / "theirs").write_text("theirs")
    kept = {name: (here / name).read_bytes() for name in ("keys/key", "known_hosts", "value")}

    for arguments in ("--check",), ():
        outcome = site.runner.play(play, *arguments)
        assert (outcome.exit_code, outcome.step["error"]["type"]) == (2, "TreeIncomplete"), outcome.output
        assert "4 of what is in" in outcome.step["error"]["message"]
        assert "rests on" in outcome.step["error"]["message"]
        assert json.loads((here / "play.yaml").read_text()) == play
        assert {name: (here / name).read_bytes() for name in kept} == kept
        assert not (here / "known_hosts").is_symlink()
    assert (here / "theirs").read_text() == "theirs"

    for name in ("play.yaml", "keys/key", "value", "known_hosts"):
        (site.source / name).unlink()
    (site.source / "keys").rmdir()
    outcome = site.runner.play(play)
    # Nor does `delete` take them away.
    assert outcome.exit_code == 0, outcome.output
    assert {name: (here / name).read_bytes() for name in kept} == kept


def test_what_is_the_same_already_is_no_reason_to_refuse(fast_site: Site) -> None:
    """A repository that is mirrored with the playbook in it."""
    site = fast_site
    play = site.steps(tree_mode(site.source, ".", compare="checksum"))
    (site.source / "play.yaml").write_text(json.dumps(play, indent=2))
    (site.source / "new").write_text("new")
    outcome = site.runner.play(play)
    assert outcome.exit_code == 0, outcome.output
    assert (site.runner.folder / "new").read_text() == "new"
