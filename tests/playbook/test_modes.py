"""What a playbook may not ask for: `delete` where `remove` would refuse, and where the playbook itself is."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid
from runner.plan import CopyFile
from runner.program import Play
from tests.playbook.conftest import Loader
from tests.playbook.examples import mode, step


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


def options_of(play: Play) -> CopyFile:
    options = play.calls[0].mode
    assert isinstance(options, CopyFile)
    return options


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("2s", 2), ("10m", 600), ("1h", 3600), ("7d", 604_800), ("0s", 0), ("90", 90), ("2.0", 2), ('"1h\\n"', 3600)],
)
def test_a_window_is_a_length_of_time(load: Loader, written: str, seconds: int) -> None:
    assert options_of(load(step(mode=mode(modify_window=written)))).modify_window_seconds == seconds


@pytest.mark.parametrize(("value", "seconds"), [("1h", 3600), ("90", 90)])
def test_a_template_gives_a_window(load: Loader, value: str, seconds: int) -> None:
    text = step(mode=mode(modify_window='"{{ window }}"', channels='"{{ channels }}"', durable='"{{ durable }}"'))

    options = options_of(load(text, extra_vars={"window": value, "channels": "3", "durable": "true"}))

    assert (options.modify_window_seconds, options.most_channels, options.durable) == (seconds, 3, True)


def test_a_template_gives_no_nonsense(load: Loader) -> None:
    text = step(mode=mode(modify_window='"{{ window }}"'))

    assert "'modify_window' must be a length of time" in load.find_problem(text, extra_vars={"window": "long"}).message
