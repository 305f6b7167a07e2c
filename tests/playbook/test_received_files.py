"""What a step has received from a server is data for the rest of the command line: no lookup makes code of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, download
from tests.servers.asyncssh_server import AsyncsshServer

# Each would leave a file behind if it were filled in or run.
EVIL = "{{ lookup('pipe', 'touch owned') }}"


class Site:
    """A server with files that it has made up, and a playbook."""

    def __init__(self, runner: Runner, remote: Path, server: AsyncsshServer) -> None:
        self.runner, self.remote, self.local = runner, remote, runner.folder
        self.connections = {"bank": connection(server)}

    def fetch(self, source: str = "x.j2", destination: str = "got/x.j2", **keywords: Any) -> dict[str, Any]:
        return {"connection": "bank", "mode": download(source, destination), "register": "got", **keywords}

    def play(self, *steps: dict[str, Any], options: tuple[str, ...] = ()) -> Outcome:
        return self.runner.play({"connections": self.connections, "steps": list(steps)}, *options)

    def assert_nothing_ran(self) -> None:
        assert not list(self.local.rglob("owned"))


@pytest.fixture
def site(runner: Runner, remote: Path, asyncssh_server: AsyncsshServer) -> Site:
    (remote / "x.j2").write_text(EVIL)
    return Site(runner, remote, asyncssh_server)


def say(text: str, **keywords: Any) -> dict[str, Any]:
    # It has a part that only the play knows, so that it is filled in behind the step that has fetched something.
    return {"debug": {"msg": f"{text}{{{{ got.status[:0] }}}}"}, **keywords}


REFUSED = "lookup('template') does not fill in the file 'got/x.j2', which step 1 (copy_file_to_engine"


def test_a_received_file_is_no_template(site: Site) -> None:
    outcome = site.play(site.fetch(), say("{{ lookup('template', 'got/x.j2') }}"))

    assert outcome.statuses == ["changed", "failed"]
    (problem,) = outcome.report["steps"][1]["error"]["problems"]
    assert problem["message"].startswith(REFUSED)
    assert "has received from its server" in problem["message"]
    assert "use lookup('file', …)" in problem["hint"]
    assert problem["location"]["line"] > 1
    site.assert_nothing_ran()
    assert (site.local / "got/x.j2").read_text() == EVIL


def test_nor_is_one_that_was_there_before_and_is_replaced(site: Site) -> None:
    """While the playbook is loaded it is the playbook's own."""
    (site.local / "got").mkdir()
    (site.local / "got/x.j2").write_text("mine {{ 1 + 1 }}")
    outcome = site.play(
        {"debug": {"msg": "now"}, "register": "got"},
        say("{{ lookup('template', name) }}", vars={"name": "got/x.j2"}),
        site.fetch(),
        say("{{ lookup('template', name) }}", vars={"name": "got/x.j2"}),
    )

    assert outcome.statuses == ["ok", "ok", "changed", "failed"]
    assert outcome.report["steps"][1]["message"] == "mine 2"
    site.assert_nothing_ran()


@pytest.mark.parametrize("path", ["got/x.j2", "./got/../got/x.j2", "link.j2", "by link/x.j2"])
def test_by_whichever_path_it_is_named(site: Site, path: str) -> None:
    (site.local / "link.j2").symlink_to("got/x.j2")
    (site.local / "by link").symlink_to("got")
    outcome = site.play(site.fetch(), say(f"{{{{ lookup('template', '{path}') }}}}"))

    assert outcome.statuses == ["changed", "failed"]
    site.assert_nothing_ran()


def test_what_is_below_a_received_directory_is_none_either(site: Site) -> None:
    (site.remote / "tree/a").mkdir(parents=True)
    (site.remote / "tree/a/x.j2").write_text(EVIL)
    mode = {
        "mode_name": "copy_directory_to_engine",
        "source_directory_name": "tree",
        "destination_directory_name": "got",
    }
    outcome = site.play(
        {"connection": "bank", "mode": mode, "register": "got"},
        say("{{ lookup('template', 'got/a/x.j2') }}"),
    )

    assert outcome.statuses == ["changed", "failed"]
    site.assert_nothing_ran()


def test_a_template_that_looks_it_up_does_not_fill_it_in(site: Site) -> None:
    (site.local / "own.j2").write_text("{{ lookup('template', 'got/x.j2') }}")
    outcome = site.play(site.fetch(), say("{{ lookup('template', 'own.j2') }}"))

    assert outcome.statuses == ["changed", "failed"]
    site.assert_nothing_ran()


def test_a_loop_is_no_way_round(site: Site) -> None:
    outcome = site.play(site.fetch(loop=["x.j2"]), say("{{ lookup('template', item) }}", loop=["got/x.j2", "own.j2"]))

    assert outcome.statuses[0] == "changed"
    assert outcome.statuses[1] == "failed"
    site.assert_nothing_ran()


def test_another_playbook_of_the_same_command_line_knows_it(site: Site) -> None:
    later = {
        "connections": site.connections,
        "steps": [{"debug": {"msg": "x"}, "register": "got"}, say("{{ lookup('template', 'got/x.j2') }}")],
    }
    (site.local / "later.yaml").write_text(json.dumps(later))
    outcome = site.play(site.fetch(), options=(str(site.local / "later.yaml"),))

    assert outcome.exit_code == 2
    assert "lookup('template') does not fill in the file 'got/x.j2'" in outcome.output
    site.assert_nothing_ran()


def test_its_text_is_data(site: Site) -> None:
    """It is never filled in again, runs nothing, and is the argument of no lookup."""
    read = "lookup('file', 'got/x.j2')"
    outcome = site.play(
        site.fetch(),
        say(f"{{{{ {read} }}}}"),
        say("{{ text }}", vars={"text": f"{{{{ {read} }}}}{{{{ got.status[:0] }}}}"}),
        {"set_fact": {"fact": f"{{{{ {read} }}}}{{{{ got.status[:0] }}}}"}},
        say("{{ fact }}"),
        say(f"{{{{ lookup('pipe', 'echo ' ~ ({read} | quote)) }}}}"),
    )

    assert outcome.statuses == ["changed", "ok", "ok", "ok", "ok", "failed"]
    assert [outcome.report["steps"][index]["message"] for index in (1, 2, 4)] == [EVIL] * 3
    message = outcome.report["steps"][5]["message"]
    assert "lookup('pipe') takes nothing that comes from a server" in message
    assert "which step 1" in message
    site.assert_nothing_ran()


def test_names_of_received_files_are_no_commands(site: Site) -> None:
    (site.remote / "tree").mkdir()
    (site.remote / "tree/x; touch owned").write_text("")
    mode = {
        "mode_name": "copy_directory_to_engine",
        "source_directory_name": "tree",
        "destination_directory_name": "got",
    }
    outcome = site.play(
        {"connection": "bank", "mode": mode, "register": "got"},
        say("{{ lookup('pipe', 'cd got; ls ' ~ lookup('fileglob', 'got/*')[0]) }}"),
    )

    assert outcome.statuses == ["changed", "failed"]
    assert "lookup('pipe') takes nothing that comes from a server" in outcome.report["steps"][1]["message"]
    site.assert_nothing_ran()


def test_other_files_are_what_they_were(site: Site) -> None:
    (site.local / "own.j2").write_text("own {{ 1 + 1 }}")
    (site.local / "got").mkdir()
    (site.local / "got/own.j2").write_text("own {{ 1 + 2 }}")
    outcome = site.play(
        site.fetch(),
        say("{{ lookup('template', 'own.j2') }} {{ lookup('template', 'got/own.j2') }}"),
        say("{{ lookup('pipe', 'echo ' ~ (lookup('file', 'own.j2') | quote)) }}"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert outcome.report["steps"][1]["message"] == "own 2 own 3"


def test_a_check_foretells_the_refusal(site: Site) -> None:
    (site.local / "got").mkdir()
    (site.local / "got/x.j2").write_text("mine")
    outcome = site.play(site.fetch(), say("{{ lookup('template', 'got/x.j2') }}"), options=("--check",))

    assert outcome.report["steps"][1]["message"].startswith(REFUSED)
