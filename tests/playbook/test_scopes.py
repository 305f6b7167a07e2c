"""The names that are there by themselves: what they are in each step, while a playbook is loaded and while it is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection
from tests.playbook.conftest import Loader
from tests.servers.asyncssh_server import AsyncsshServer

NOBODY_LISTENS = 1


@pytest.fixture
def connections(asyncssh_server: AsyncsshServer) -> dict[str, Any]:
    server = connection(asyncssh_server)
    return {"bank": server, "gone": {**server, "port": NOBODY_LISTENS}, "shop": server, "unused": server}


def play(runner: Runner, connections: dict[str, Any], *steps: dict[str, Any], options: tuple[str, ...] = ()) -> Outcome:
    return runner.play({"connections": connections, "steps": list(steps)}, *options)


def say(text: str, **keywords: Any) -> dict[str, Any]:
    return {"debug": {"msg": text}, **keywords}


def messages(outcome: Outcome) -> list[str]:
    return [step["message"] for step in outcome.report["steps"]]


def look(name: str, **keywords: Any) -> dict[str, Any]:
    return {"connection": name, "mode": {"mode_name": "stats", "path": "."}, **keywords}


def test_what_is_known_of_the_playbook_and_its_hosts(runner: Runner, connections: dict[str, Any]) -> None:
    outcome = play(
        runner,
        connections,
        say("{{ playbook_dir }}"),
        say("{{ groups['all'] | join(' ') }} {{ groups.all | length }}"),
        say("{{ group_names }} {{ connection_name }} {{ host }}", connection="bank"),
        say("{{ runner_version is version('0', '>') }} {{ (now() - timedelta(days=1)) < now() }}"),
    )

    server = connections["bank"]["host"]
    assert messages(outcome) == [str(runner.folder), "bank gone shop unused 4", f"[] bank {server}", "True True"]


@pytest.mark.parametrize(("options", "said"), [((), "False"), (("--check",), "True")])
def test_whether_it_is_a_check_is_known_before_the_play(
    runner: Runner, connections: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    outcome = play(
        runner,
        connections,
        say("{{ runner_check_mode }}"),
        # What is not done in a check contacts nobody, and needs no secret.
        look("gone", when="false and not runner_check_mode"),
        look("bank", when="not runner_check_mode"),
        options=options,
    )

    assert messages(outcome)[0] == said
    assert outcome.statuses[1:] == ["skipped", "skipped" if options else "ok"]


def test_validate_does_not_know_whether_it_is_a_check_and_says_nothing_wrong(load: Loader, runner: Runner) -> None:
    (load.folder / "play.yaml").write_text(
        "connections: {bank: {host: \"{{ 'a' if runner_check_mode else 'b' }}\", authentication: "
        "{authentication_method: ssh_agent, username: u}}}\nsteps:\n"
        "- {connection: bank, when: not runner_check_mode, mode: {mode_name: stats, path: '{{ runner_check_mode }}'}}\n"
        "- {debug: {msg: '{{ runner_chek_mode }}'}}\n"
    )

    outcome = runner("validate", str(load.folder / "play.yaml"))

    assert outcome.exit_code == 3
    assert "'runner_chek_mode' is undefined" in outcome.stderr
    assert "Did you mean 'runner_check_mode'?" in outcome.stderr
    assert "1 problem" in outcome.stderr


def test_hosts_that_have_failed_are_no_play_hosts_any_more(runner: Runner, connections: dict[str, Any]) -> None:
    outcome = play(
        runner,
        connections,
        say("{{ play_hosts | sort | join(' ') }}"),
        look("gone"),
        say("{{ play_hosts | join(' ') }}"),
        look("bank", loop="{{ play_hosts }}", when="item == connection_name", register="seen"),
        say("{{ seen.results | length }}"),
        look("shop", register="there"),
    )

    # Of the connections, no step uses the last one.
    assert messages(outcome)[0] == "bank gone shop"
    assert messages(outcome)[2] == "bank shop"
    assert outcome.statuses == ["ok", "unreachable", "ok", "ok", "skipped", "ok", "ok"]
    assert messages(outcome)[5] == "2"


def test_play_hosts_are_those_that_the_command_line_leaves(runner: Runner, connections: dict[str, Any]) -> None:
    steps = (look("bank"), look("shop"), say("{{ play_hosts | join(' ') }}"))

    assert messages(play(runner, connections, *steps, options=("--limit", "shop")))[-1] == "shop"


def test_which_hosts_have_failed_decides_no_server(load: Loader) -> None:
    text = (
        "connections: {bank: {host: h, authentication: {authentication_method: ssh_agent, username: u}}}\nsteps:\n"
        "- {connection: bank, host: '{{ play_hosts[0] }}', mode: {mode_name: stats, path: a}}\n"
    )

    assert "'host' must not depend on which hosts have failed until then" in load.find_problem(text).message


def test_hostvars_has_every_host_of_the_play_from_the_beginning(runner: Runner, connections: dict[str, Any]) -> None:
    outcome = play(
        runner,
        connections,
        say("{{ hostvars['shop'].there is defined }} {{ hostvars.bank | length }}"),
        look("bank"),
        look("shop", register="there"),
        say("{{ hostvars['shop'].there.result.exists }}"),
        say("{{ hostvars['shp'].there }}"),
    )

    assert messages(outcome)[0] == "False 0"
    assert messages(outcome)[3] == "True"
    (problem,) = outcome.report["steps"][4]["error"]["problems"]
    assert (problem["message"], problem["hint"]) == ("'hostvars' has no host 'shp'", "Did you mean 'shop'?")


@pytest.mark.parametrize(
    "name",
    ["groups", "group_names", "play_hosts", "hostvars", "runner_check_mode", "playbook_dir", "host", "connection_name"],
)
def test_a_variable_of_that_name_wins(runner: Runner, connections: dict[str, Any], name: str) -> None:
    outcome = play(runner, connections, say(f"{{{{ {name} }}}}", vars={name: "mine"}, connection="bank"))

    assert messages(outcome) == ["mine"]


def test_names_of_connections_are_data(runner: Runner, connections: dict[str, Any]) -> None:
    odd = {"a {{ 7 * 7 }}": connections["bank"]}
    outcome = play(runner, odd, say("{{ groups.all[0] }}"), look("a {{ 7 * 7 }}"), say("{{ play_hosts[0] }}"))

    assert messages(outcome)[0] == messages(outcome)[2] == "a {{ 7 * 7 }}"


def test_explain_says_what_waits(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "play.yaml").write_text("- debug: {msg: hello}\n")

    shown = runner("explain", str(tmp_path / "play.yaml"), "1").stdout

    assert "runner_check_mode = (waits for whether it is a --check)" in shown
    assert "play_hosts = (waits for which hosts have failed until then)" in shown
