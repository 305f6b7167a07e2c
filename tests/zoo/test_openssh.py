"""OpenSSH as administrators set it up: single requests denied or allowed, read-only, odd shells, and odd ways in."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner
from tests.servers.openssh import OpenSSHServer, find_sshd
from tests.zoo.backends import SFTP_SERVER, Running
from tests.zoo.denials import DENIABLE, DROP_BOX, FEW_REQUESTS, NEEDED, PLAYS, Play
from tests.zoo.lacks import find_product
from tests.zoo.scene import TIME, Scene, make_bytes, write

pytestmark = [pytest.mark.zoo, pytest.mark.xdist_group("openssh-odd")]


@contextmanager
def open_scene(runner: Runner, *lines: str) -> Iterator[Scene]:
    """A scene at an sshd with these lines. `{login}` is where its sessions start."""
    with start_sshd(runner.folder / "there", *lines) as running:
        yield Scene(runner, running, find_product("openssh"), 1)


@contextmanager
def start_sshd(folder: Path, *lines: str) -> Iterator[Running]:
    """An sshd with these lines, and no subsystem but what is in them."""
    if find_sshd() is None:
        pytest.skip("openssh-server is not installed")
    disk, login = folder / "disk", folder / "login"
    disk.mkdir(parents=True)
    login.mkdir()
    config = tuple(line.format(login=login) for line in lines)
    with OpenSSHServer(folder / "server", sftp=False, extra_config=config) as server:
        yield Running(server, disk, str(disk), login)


# --- single requests denied --------------------------------------------------------------------------------------------


def _upload_new(scene: Scene) -> dict[str, Any]:
    write(scene.here / "file", make_bytes(9_000))
    return scene.upload()


def _replace(scene: Scene) -> dict[str, Any]:
    write(scene.there / "file", b"old", time=TIME - 5)
    return _upload_new(scene)


def _download(scene: Scene) -> dict[str, Any]:
    write(scene.there / "file", make_bytes(9_000))
    return scene.download()


def _upload_tree(scene: Scene) -> dict[str, Any]:
    for number in range(5):
        write(scene.here / "tree" / "deep" / f"{number}", make_bytes(900, number))
    return scene.upload_tree()


def _download_tree(scene: Scene) -> dict[str, Any]:
    for number in range(5):
        write(scene.there / "tree" / "deep" / f"{number}", make_bytes(900, number))
    return scene.download_tree()


MAKERS: dict[Play, Callable[[Scene], dict[str, Any]]] = {
    Play.UPLOAD: _upload_new,
    Play.REPLACE: _replace,
    Play.DOWNLOAD: _download,
    Play.UPLOAD_TREE: _upload_tree,
    Play.DOWNLOAD_TREE: _download_tree,
}


def _read(root: Path) -> dict[str, bytes | None]:
    return {
        os.path.relpath(path, root): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if not stat.S_ISDIR(path.stat().st_mode)
    }


def assert_right_or_refused(scene: Scene, outcome: Outcome, play: Play, is_refusal_fine: bool) -> None:
    """Right bytes and nothing else, or a refusal that leaves everything as it was. Never a bug, never half a file."""
    is_upload = play in (Play.UPLOAD, Play.REPLACE, Play.UPLOAD_TREE)
    source, destination = scene.ends(is_upload)
    if outcome.exit_code == 0:
        assert _read(destination) == _read(source)
        return
    error = outcome.step["error"]
    assert error["type"] != "InternalError", outcome.output
    assert error["message"] and error["hint"], error
    assert _read(destination) == ({"file": b"old"} if play is Play.REPLACE else {}), outcome.output
    assert is_refusal_fine, f"refused, though it can be done: {error['message']} ({error['hint']})"


@dataclass(slots=True)
class Denier:
    """An sshd that denies one request."""

    request_name: str
    running: Running
    numbers: Iterator[int]


@pytest.fixture(scope="module", params=DENIABLE)
def denier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Denier]:
    """One after the other, each for all plays."""
    line = f"Subsystem sftp internal-sftp -d {{login}} -P {request.param}"
    with start_sshd(tmp_path_factory.mktemp("denier"), line) as running:
        yield Denier(request.param, running, itertools.count(1))


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.value)
def test_a_request_is_denied(runner: Runner, denier: Denier, play: Play) -> None:
    scene = Scene(runner, denier.running, find_product("openssh"), next(denier.numbers))

    outcome = scene.play(MAKERS[play](scene))

    assert_right_or_refused(scene, outcome, play, denier.request_name in NEEDED[play])
    assert os.listdir(scene.running.login) == []


@pytest.mark.parametrize("play", [Play.UPLOAD, Play.REPLACE, Play.UPLOAD_TREE], ids=lambda play: play.value)
def test_only_some_requests_are_allowed(runner: Runner, play: Play) -> None:
    with open_scene(runner, f"Subsystem sftp internal-sftp -d {{login}} -p {','.join(FEW_REQUESTS)}") as scene:
        outcome = scene.play(MAKERS[play](scene))

        assert_right_or_refused(scene, outcome, play, is_refusal_fine=False)


@pytest.mark.parametrize("play", [Play.UPLOAD, Play.UPLOAD_TREE], ids=lambda play: play.value)
def test_a_box_into_which_things_are_only_put(runner: Runner, play: Play) -> None:
    with open_scene(runner, f"Subsystem sftp internal-sftp -d {{login}} -p {','.join(DROP_BOX)}") as scene:
        mode = {**MAKERS[play](scene), "compare": "always", "verify": "size", "preserve": []}

        outcome = scene.play(mode)

        assert_right_or_refused(scene, outcome, play, is_refusal_fine=False)


# --- what an administrator sets ----------------------------------------------------------------------------------------


def test_a_read_only_server(runner: Runner) -> None:
    with open_scene(runner, "Subsystem sftp internal-sftp -d {login} -R") as scene:
        fetched = scene.play_well(_download(scene))
        write(scene.here / "new", b"not to be had there")
        refused = scene.play(scene.upload("new"))

        assert fetched["status"] == "changed"
        assert refused.step["error"]["type"] == "PermissionRefused", refused.output
        scene.assert_only({"file"}, {"file", "new"})


def test_a_umask_is_not_in_the_way_of_permissions(runner: Runner) -> None:
    with open_scene(runner, "Subsystem sftp internal-sftp -d {login} -u 077") as scene:
        wanted = write(scene.here / "file", make_bytes(500), mode=0o664)

        step = scene.play_well(scene.upload())

        scene.assert_copied(step, scene.there / "file", wanted, is_upload=True)
        scene.assert_only({"file"}, {"file"})


ODD_LINES: dict[str, tuple[str, ...]] = {
    "one session": ("Subsystem sftp internal-sftp -d {login}", "MaxSessions 1"),
    "forced": ("Subsystem sftp /nowhere", "ForceCommand internal-sftp -d {login}"),
    "no terminal": ("Subsystem sftp internal-sftp -d {login}", "PermitTTY no"),
    "banner": ("Subsystem sftp internal-sftp -d {login}", "Banner /etc/passwd"),
    "rekeys": ("Subsystem sftp internal-sftp -d {login}", "RekeyLimit 1M"),
    "nothing forwarded": ("Subsystem sftp internal-sftp -d {login}", "DisableForwarding yes"),
    "slow shell": (f"Subsystem sftp sleep 2; cd {{login}}; exec {SFTP_SERVER}",),
    "shell that warns": (f"Subsystem sftp echo 'no terminal' >&2; cd {{login}}; exec {SFTP_SERVER}",),
    "compressed": ("Subsystem sftp internal-sftp -d {login}", "Compression yes"),
    "chacha20 only": ("Subsystem sftp internal-sftp -d {login}", "Ciphers chacha20-poly1305@openssh.com"),
    "ctr only": ("Subsystem sftp internal-sftp -d {login}", "Ciphers aes128-ctr"),
    "old macs": ("Subsystem sftp internal-sftp -d {login}", "Ciphers aes256-ctr", "MACs hmac-sha2-512"),
    "nist curves": ("Subsystem sftp internal-sftp -d {login}", "KexAlgorithms ecdh-sha2-nistp256"),
    "finite field": ("Subsystem sftp internal-sftp -d {login}", "KexAlgorithms diffie-hellman-group14-sha256"),
}


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_configuration(runner: Runner, name: str) -> None:
    with open_scene(runner, *ODD_LINES[name]) as scene:
        sent = write(scene.here / "file", make_bytes(3_000_000))
        fetched = write(scene.there / "other", make_bytes(3_000_000, 2))

        report = scene.play(scene.upload(verify="checksum"), scene.download("other")).report

        assert [step["status"] for step in report["steps"]] == ["changed", "changed"], report["steps"][0]["error"]
        scene.assert_copied(report["steps"][0], scene.there / "file", sent, is_upload=True)
        scene.assert_copied(report["steps"][1], scene.here / "other", fetched, is_upload=False)
        scene.assert_only({"file", "other"}, {"file", "other"})


def test_a_shell_that_talks_before_sftp_is_quoted(runner: Runner) -> None:
    line = f"Subsystem sftp echo 'Welcome to the bank'; cd {{login}}; exec {SFTP_SERVER}"
    with open_scene(runner, line) as scene:
        write(scene.here / "file", b"content")

        outcome = scene.play(scene.upload())

        assert outcome.exit_code != 0
        assert "Welcome to the bank" in outcome.step["error"]["message"], outcome.output
        scene.assert_only(set(), {"file"})


def test_no_subsystem_at_all(runner: Runner) -> None:
    with open_scene(runner) as scene:
        write(scene.here / "file", b"content")

        outcome = scene.play(scene.upload())

        assert outcome.step["error"]["type"] == "ServerLacksFeature", outcome.output
        assert "SCP" in outcome.step["error"]["hint"]
        scene.assert_only(set(), {"file"})


@pytest.mark.parametrize("lines", [(), ("MaxSessions 1",)], ids=["plain", "one-session"])
@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
def test_scp(runner: Runner, lines: tuple[str, ...], is_upload: bool) -> None:
    with open_scene(runner, *lines) as scene:
        source, destination = scene.ends(is_upload)
        wanted = write(source / "file", make_bytes(700_000))

        step = scene.play_well(scene.copy(is_upload), connector_type="SCP")

        scene.assert_copied(step, destination / "file", wanted, is_upload=is_upload)
        scene.assert_only({"file"}, {"file"})


def test_a_subsystem_that_ends_at_once(runner: Runner) -> None:
    """As one whose path is misspelt does."""
    with open_scene(runner, "Subsystem sftp /nowhere/sftp-server") as scene:
        write(scene.here / "file", b"content")

        outcome = scene.play(scene.upload())

        assert outcome.exit_code != 0
        assert outcome.step["error"]["type"] != "InternalError", outcome.output
        assert outcome.step["error"]["hint"]
        scene.assert_only(set(), {"file"})
