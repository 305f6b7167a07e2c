"""What a playbook may not ask for: `delete` where `remove` would refuse, and where the playbook itself is."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid
from tests.playbook.conftest import Loader
from tests.playbook.examples import step


def pruning(destination: str, *, is_upload: bool = True, delete: str = "true") -> str:
    name = f"copy_directory_{'from' if is_upload else 'to'}_engine"
    paths = f"source_directory_name: site, destination_directory_name: '{destination}'"
    return step(mode=f"{{mode_name: {name}, {paths}, delete: {delete}}}")


def refusal(load: Loader, text: str) -> str:
    with pytest.raises(PlaybookInvalid) as caught:
        load(text)
    (problem,) = caught.value.problems
    assert (problem.location.line, problem.hint != "") == (4, True)
    return problem.message


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    "destination",
    ["/", "//", ".", "./", "..", "../", "../..", "srv/..", "srv/../", "/srv/.", "srv//", "srv//site", "/srv//"],
)
def test_delete_refuses_what_remove_refuses(load: Loader, destination: str, is_upload: bool) -> None:
    text = pruning(destination, is_upload=is_upload)

    message = refusal(load, text)
    assert "'destination_directory_name'" in message
    removal = refusal(load, step(mode=f"{{mode_name: remove, path: '{destination}'}}"))
    assert message.split(" must ")[1:] == removal.split(" must ")[1:]

    load(pruning(destination, is_upload=is_upload, delete="false"))


@pytest.mark.parametrize("is_upload", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(
    "destination", ["srv/site", "srv/site/", "/srv/site", "../site", "./site", "srv/./site", "..site"]
)
def test_what_ends_in_a_name_may_be_pruned(load: Loader, destination: str, is_upload: bool) -> None:
    load(pruning(destination, is_upload=is_upload))


@pytest.mark.parametrize(
    ("destination", "what"),
    [
        ("~", "a home directory"),
        ("~/", "a home directory"),
        ("~root", "a home directory"),
        ("~/here/..", "must end in a name"),
        ("{home}", "the home directory"),
        ("{above_home}", "the home directory"),
        ("{work}", "workdir"),
        ("{work}/../work", "workdir"),
        ("{work}/link to work", "workdir"),
        ("{work}/link to home", "the home directory"),
        ("{above_work}", "workdir"),
    ],
)
def test_a_download_never_empties_what_is_the_users_own(
    load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str, what: str
) -> None:
    home, work = tmp_path / "homes/me", tmp_path / "jobs/work"
    for folder in (home, work):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    (work / "link to work").symlink_to(work)
    (work / "link to home").symlink_to(home)
    places = {"home": home, "above_home": home.parent, "work": work, "above_work": work.parent}

    mode = pruning(destination.format(**places), is_upload=False)
    assert what in refusal(load, f"#\n#\nworkdir: {work}\nsteps: {_flow(mode)}\n")
    load(f"workdir: {work}\nsteps: {_flow(pruning(f'{work}/mirror', is_upload=False))}\n")


def _flow(text: str) -> str:
    """A step on one line."""
    return "[{" + ", ".join(line[2:] for line in text.splitlines()) + "}]"


def test_a_download_never_empties_the_directory_that_the_playbook_is_in(
    load: Loader, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    steps = _flow(pruning(str(tmp_path), is_upload=False))

    assert "is the playbook's directory, or above it" in refusal(load, f"#\n#\nworkdir: {elsewhere}\nsteps: {steps}\n")
