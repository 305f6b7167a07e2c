"""Conditions, loops and results while a play runs, against real servers; and what is on disk behind each failure."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome, Runner, connection, download, snapshot, upload
from tests.patience import BUSY_SECONDS
from tests.servers.asyncssh_server import AsyncsshServer

NOBODY_LISTENS = 1


@pytest.fixture
def connections(asyncssh_server: AsyncsshServer) -> dict[str, Any]:
    return {"bank": connection(asyncssh_server), "gone": {**connection(asyncssh_server), "port": NOBODY_LISTENS}}


class Site:
    """A server, files on both sides, and a playbook's steps."""

    def __init__(self, runner: Runner, remote: Path, connections: dict[str, Any]) -> None:
        self.runner, self.remote, self.connections = runner, remote, connections
        self.local = runner.folder

    def play(self, *steps: dict[str, Any], options: tuple[str, ...] = (), **more: Any) -> Outcome:
        return self.runner.play({"connections": self.connections, "steps": list(steps), **more}, *options)

    def call(self, mode: dict[str, Any], **keywords: Any) -> dict[str, Any]:
        return {"connection": "bank", "mode": mode, **keywords}


@pytest.fixture
def site(runner: Runner, remote: Path, connections: dict[str, Any]) -> Site:
    return Site(runner, remote, connections)


def listing(path: str = ".", **keywords: Any) -> dict[str, Any]:
    return {"connection": "bank", "mode": {"mode_name": "list", "path": path}, "register": "found", **keywords}


def say(text: str, **keywords: Any) -> dict[str, Any]:
    return {"debug": {"msg": text}, **keywords}


def messages(outcome: Outcome) -> list[str]:
    return [step["message"] for step in outcome.report["steps"]]


# --- results ---


def test_what_is_registered(site: Site) -> None:
    (site.local / "a").write_text("four")
    show = "{{ r.status }} {{ r.changed }} {{ r.failed }} {{ r.skipped }} {{ r.attempts }} {{ r.result.size_bytes }}"
    outcome = site.play(
        site.call(upload("a", "b"), register="r"),
        say(show + " {{ r.error }} {{ r is changed }} {{ r is succeeded }} {{ r is skipped }}"),
        site.call(upload("nothing", "b"), register="r", ignore_errors=True),
        say("{{ r.status }} {{ r.error.type }} {{ r.error.message }} {{ r is failed }}"),
        say("{{ r.result }}"),
    )

    said = messages(outcome)
    assert said[1] == "changed True False False 1 4  True True False"
    assert said[3].startswith("failed SourceMissing the source '")
    assert said[3].endswith("True")
    assert "failed: it has no result" in said[4]
    assert outcome.exit_code == 2


def test_reading_the_result_of_a_skipped_step_says_which_one(site: Site) -> None:
    outcome = site.play(listing(when="not true"), say("{{ found.skipped }}"), say("{{ found.result.entries }}"))

    assert outcome.statuses == ["skipped", "ok", "failed"]
    error = outcome.report["steps"][2]["error"]
    skipped, failed = (outcome.report["steps"][index]["location"] for index in (0, 2))
    assert error["problems"][0]["location"]["line"] > failed["line"]
    assert error["type"] == "InvalidInput"
    assert f"step 1 (list), {skipped['file']}:{skipped['line']}:{skipped['column']}, was skipped" in error["message"]
    assert outcome.exit_code == 2


def test_values_are_each_host_s_own(site: Site, asyncssh_server: AsyncsshServer) -> None:
    site.connections["shop"] = connection(asyncssh_server, host_key_alias=asyncssh_server.host)
    (site.remote / "one").mkdir()
    (site.remote / "one/file").write_text("")
    (site.remote / "two").mkdir()
    outcome = site.play(
        {**listing("one"), "connection": "bank"},
        {**listing("two"), "connection": "shop"},
        say("{{ found.result.path }}", connection="bank"),
        say("{{ found.result.path }}", connection="shop"),
        say(
            "{{ hostvars['bank'].found.result.entries | length }} {{ hostvars['shop'].found.result.entries | length }}"
        ),
        say("{{ found.result.path }}"),
        {"set_fact": {"mine": "bank's"}, "connection": "bank"},
        say("{{ mine }} {{ hostvars.bank.mine }}", connection="shop"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert messages(outcome)[2:6] == ["one", "two", "1 0", "two"]
    assert messages(outcome)[7] == "bank's bank's"


# --- loops ---


def test_items_are_carried_out_in_order_and_all_are_tried(site: Site) -> None:
    for name in ("a", "c"):
        (site.local / name).write_text(name)
    outcome = site.play(
        site.call(upload("{{ item }}", "x/{{ item }}"), loop=["a", "b", "c"], register="r"),
        say("after"),
        site.call(upload("a", "y")),
    )

    assert [(step["item"], step["status"]) for step in outcome.report["steps"]][:3] == [
        *(("a", "changed"), ("b", "failed"), ("c", "changed")),
    ]
    assert outcome.statuses[3:] == ["ok", "skipped"]
    assert snapshot(site.remote) == {"x": None, "x/a": b"a", "x/c": b"c"}
    assert outcome.exit_code == 2


def test_a_listing_is_looped_over(site: Site) -> None:
    for name in ("1.csv", "2.csv", "3.txt"):
        (site.remote / "in").mkdir(exist_ok=True)
        (site.remote / "in" / name).write_text(name)
    fetch = site.call(
        download("{{ item.path }}", "got/{{ item.path | replace('in/', '') }}"),
        loop="{{ found.result.entries }}",
        when="item.path.endswith('.csv')",
        register="copies",
    )
    outcome = site.play(
        listing("in"),
        fetch,
        say("{{ copies.results | map(attribute='status') | join(' ') }} {{ copies.results[0].item.path }}"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(site.local / "got") == {"1.csv": b"1.csv", "2.csv": b"2.csv"}
    assert messages(outcome)[-1] == "changed changed skipped in/1.csv"
    assert [step["item"] for step in outcome.report["steps"][1:4]] == ["in/1.csv", "in/2.csv", "in/3.txt"]


def test_an_absolute_listing_may_be_looped_over(site: Site) -> None:
    """What the playbook has written itself begins the path, the server adds a name."""
    (site.remote / "in").mkdir()
    (site.remote / "in/old").write_text("")
    outcome = site.play(
        listing(f"{site.remote}/in"),
        site.call({"mode_name": "remove", "path": "{{ item.path }}"}, loop="{{ found.result.entries }}"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert list((site.remote / "in").iterdir()) == []


HOSTILE = ["{{ lookup('pipe', 'touch ran') }}", "{% x %}", "a\nb", "-1", "7", "'; rm -rf x", "\x1b[31m", "##[command]"]


def test_hostile_names_are_data(site: Site) -> None:
    (site.remote / "in").mkdir()
    for name in HOSTILE:
        (site.remote / "in" / name).write_text(name)
    outcome = site.play(
        listing("in"),
        site.call(download("{{ item.path }}", "got/{{ item.path }}"), loop="{{ found.result.entries }}"),
        say("{{ item.path }}", loop="{{ found.result.entries }}"),
    )

    assert outcome.exit_code == 0, outcome.output
    assert snapshot(site.local / "got/in") == {name: name.encode() for name in sorted(HOSTILE)}
    assert not (site.local / "ran").exists()
    assert "\x1b" not in outcome.output
    assert "##[" not in outcome.output


def test_a_name_that_leaves_the_destination_is_refused_with_its_item(site: Site) -> None:
    (site.remote / "in").mkdir()
    (site.remote / "in/ok").write_text("")
    escape = site.call(
        download("in/ok", "got/{{ item.path | replace('in/ok', '../../escaped') }}"), loop="{{ found.result.entries }}"
    )
    outcome = site.play(listing("in"), escape)

    failed = outcome.report["steps"][1]
    assert (failed["status"], failed["item"], failed["error"]["type"]) == ("failed", "in/ok", "InvalidInput")
    assert "'destination_file_name'" in failed["error"]["message"]
    assert not (site.local.parent / "escaped").exists()
    assert not (site.local / "got").exists()


def test_what_a_loop_goes_over_must_be_a_list_at_run_time_as_well(site: Site) -> None:
    outcome = site.play(
        listing(),
        site.call({"mode_name": "stats", "path": "{{ item }}"}, loop="{{ found.result }}", register="r"),
        say("{{ r }}"),
    )

    assert outcome.statuses[1:] == ["failed", "ok"]
    message = outcome.report["steps"][1]["error"]["message"]
    assert "'loop' must be a list, not a mapping" in message
    assert "dict2items" in outcome.report["steps"][1]["error"]["hint"]


def test_a_value_that_is_wrong_at_run_time_points_to_itself(site: Site) -> None:
    step = site.call({"mode_name": "create_directory", "path": "x", "permissions": "{{ found.result.path }}"})
    outcome = site.play(listing(), step)

    error = outcome.report["steps"][1]["error"]
    text = (site.local / "play.yaml").read_text().splitlines()
    number = next(line for line, words in enumerate(text, 1) if "permissions" in words)
    column = text[number - 1].index('"{{') + 1
    assert error["message"].startswith("'permissions' must be three octal")
    place = {"file": str(site.local / "play.yaml"), "line": number, "column": column}
    assert error["problems"] == [{"location": place, "message": error["message"], "hint": error["hint"]}]
    assert f"{place['file']}:{number}:{column}: 'permissions'" in outcome.stdout
    assert "'.'" in error["message"]
    assert snapshot(site.remote) == {}


# --- until, failed_when, changed_when, ignore_errors ---


def test_until_waits_for_what_somebody_else_does(site: Site) -> None:
    def appear() -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        # The play is about to ask for the first time.
        while not (site.remote / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(2)
        (site.remote / "flag").write_text("")

    thread = threading.Thread(target=appear)
    thread.start()
    step = site.call(
        {"mode_name": "stats", "path": "flag"}, until="r.result.exists", register="r", retries=100, delay=0.1
    )
    begun = site.call({"mode_name": "create_directory", "path": "begun"})
    outcome = site.play(begun, step, say("{{ r.attempts > 1 }} {{ r.result.exists }}"))
    thread.join()

    assert outcome.exit_code == 0, outcome.output
    assert messages(outcome)[2] == "True True"


def test_until_fails_with_the_expression_and_what_it_saw(site: Site) -> None:
    step = site.call({"mode_name": "stats", "path": "flag"}, until="result.exists", delay=0)
    outcome = site.play(step)

    assert outcome.step["attempts"] == 4
    assert outcome.step["error"]["type"] == "ConditionFailed"
    assert outcome.step["error"]["message"] == "after 4 attempts not yet: result.exists (result.exists = false)"
    assert outcome.exit_code == 2


def test_until_tries_again_what_is_missing(site: Site) -> None:
    def appear() -> None:
        time.sleep(0.4)
        (site.remote / "file").write_text("there")

    thread = threading.Thread(target=appear)
    thread.start()
    outcome = site.play(
        site.call(download("file", "got"), until="r is succeeded", register="r", retries=100, delay=0.1)
    )
    thread.join()

    assert outcome.exit_code == 0, outcome.output
    assert (site.local / "got").read_text() == "there"


def test_until_that_means_nothing_is_no_bug_and_is_not_tried_again(site: Site) -> None:
    outcome = site.play(site.call({"mode_name": "list", "path": "."}, until="result.entries[0].path == 'x'", delay=0))

    assert outcome.step["attempts"] == 1
    assert outcome.step["error"]["type"] == "InvalidInput"
    assert outcome.exit_code == 2
    assert "bug" not in outcome.output


def test_a_name_that_waits_for_a_result_is_filled_in(site: Site) -> None:
    """Also where everything else of the step was known before."""
    outcome = site.play(listing(), site.call({"mode_name": "list", "path": "."}, name="{{ found.result.path }} again"))

    assert outcome.report["steps"][1]["name"] == ". again"


@pytest.mark.parametrize(
    ("keywords", "status", "error"),
    [
        ({"failed_when": "result.entries | length == 0"}, "failed", "ConditionFailed"),
        ({"failed_when": ["result.path == '.'", "false"]}, "ok", None),
        ({"failed_when": "result.path"}, "failed", "InvalidInput"),
        ({"changed_when": True}, "changed", None),
        ({"changed_when": "r.result.path == '.'", "register": "r"}, "changed", None),
        ({"changed_when": "result.path != '.'"}, "ok", None),
        ({"failed_when": True, "ignore_errors": True}, "failed", "ConditionFailed"),
    ],
)
def test_what_a_result_means(site: Site, keywords: dict[str, Any], status: str, error: str | None) -> None:
    outcome = site.play(site.call({"mode_name": "list", "path": "."}, **keywords), say("after"))

    assert outcome.step["status"] == status
    assert (outcome.step["error"] or {}).get("type") == error
    is_ignored = "ignore_errors" in keywords
    assert outcome.step.get("ignored", False) == is_ignored
    assert outcome.exit_code == (2 if error and not is_ignored else 0)


def test_a_failure_can_be_excused_but_not_every_one(site: Site, asyncssh_server: AsyncsshServer) -> None:
    site.connections["liar"] = {
        **connection(asyncssh_server),
        "hostkey": {"hostkey_mode": "fingerprint", "fingerprint": "SHA256:" + "A" * 43},
    }
    missing = site.call(download("nothing", "x"), failed_when="'does not exist' not in r.error.message", register="r")
    unreachable = {**site.call(download("nothing", "x"), failed_when=False), "connection": "gone"}
    refused = {**site.call(download("nothing", "x"), failed_when=False, ignore_unreachable=True), "connection": "liar"}
    outcome = site.play(missing, unreachable, refused)

    assert outcome.statuses == ["ok", "unreachable", "failed"]
    assert outcome.report["steps"][2]["error"]["type"] == "HostKeyRefused"
    assert not (site.local / "x").exists()


def test_an_unreachable_host_is_ignored_if_the_step_says_so(site: Site) -> None:
    step = {**site.call({"mode_name": "list", "path": "."}), "connection": "gone"}
    outcome = site.play({**step, "ignore_errors": True}, {**step, "ignore_unreachable": True}, say("after"))
    again = site.play({**step, "ignore_unreachable": True}, say("after"))

    assert outcome.statuses == ["unreachable", "skipped", "ok"]
    assert outcome.exit_code == 4
    assert again.statuses == ["unreachable", "ok"]
    assert (again.exit_code, again.step["ignored"]) == (0, True)
    assert again.report["recap"]["gone"]["ignored"] == 1


# --- blocks and hosts ---


def test_an_unreachable_host_is_not_rescued_and_always_runs_elsewhere(site: Site) -> None:
    gone = {**site.call({"mode_name": "list", "path": "."}), "connection": "gone"}
    (site.local / "a").write_text("a")
    block = {
        "block": [gone, site.call(upload("a", "never"))],
        "rescue": [site.call(upload("a", "rescued"))],
        "always": [site.call(upload("a", "always")), {**gone, "name": "not there"}],
    }
    outcome = site.play(block, site.call(upload("a", "after")))

    assert outcome.statuses == ["unreachable", "skipped", "changed", "skipped", "changed"]
    assert outcome.exit_code == 4
    assert sorted(snapshot(site.remote)) == ["after", "always"]


def test_a_step_without_a_host_that_fails_ends_the_play(site: Site) -> None:
    outcome = site.play({"fail": {"msg": "stop"}}, listing(), say("after"))

    assert outcome.statuses == ["failed", "skipped", "skipped"]
    assert outcome.report["steps"][1]["message"] == "step 1 (fail) failed"
    assert outcome.report["recap"]["(playbook)"]["failed"] == 1


def test_an_assertion_shows_what_it_saw(site: Site) -> None:
    outcome = site.play(
        listing(),
        {"assert": {"that": ["true", "found.result.entries | length > n"], "fail_msg": "too few"}, "vars": {"n": 3}},
    )

    error = outcome.report["steps"][1]["error"]
    assert error["type"] == "ConditionFailed"
    assert error["message"] == ("too few: found.result.entries | length > n (found.result.entries = [], n = 3)")
    assert outcome.exit_code == 2


def test_a_label_that_means_nothing_for_an_item_is_that_item_s_failure(site: Site) -> None:
    rows = {"set_fact": {"rows": [{"a": 1}, {"b": 2}, {"a": 3}], "wait": "soon"}}
    loop = {"loop": "{{ rows }}", "loop_control": {"label": "{{ item.a }}"}}

    outcome = site.play(rows, say("x", **loop, register="r"), say("after"))

    assert outcome.exit_code == 2
    assert outcome.statuses == ["ok", "ok", "failed", "ok", "skipped"]
    assert [step.get("item") for step in outcome.report["steps"]] == [None, "1", "item 2", "3", None]
    assert outcome.report["steps"][2]["error"]["problems"][0]["location"]["line"] > 1

    waiting = say("x", loop=[1, 2], loop_control={"pause": "{{ wait }}"})
    outcome = site.play(rows, waiting, {"block": [say("y")], "loop": [1, 2], "loop_control": {"pause": "{{ wait }}"}})
    assert outcome.exit_code == 2
    assert outcome.statuses == ["ok", "ok", "failed", "skipped"]
    assert "'pause' must be a number of seconds" in messages(outcome)[2]
    outcome = site.play(rows, {"block": [say("y")], "loop": [1, 2], "loop_control": {"pause": "{{ wait }}"}})
    assert outcome.statuses == ["ok", "ok", "failed"]


def test_a_signal_begins_no_further_step(site: Site) -> None:
    (site.local / "a").write_text("a")
    pause = {"pause": {"seconds": 30}, "loop": [1, 2]}

    def interrupt_when_begun() -> None:
        while not (site.remote / "begun").exists():
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt_when_begun, daemon=True).start()
    outcome = site.play(
        site.call(upload("a", "begun")),
        {"block": [pause], "always": [site.call(upload("a", "always"))]},
        say("after"),
    )

    assert outcome.exit_code == 143
    assert outcome.statuses == ["changed", "failed", "skipped", "skipped", "skipped"]
    assert outcome.report["status"] == "interrupted"
    assert sorted(snapshot(site.remote)) == ["begun"]


# --- no_log, check_mode ---


def test_no_log_shows_nothing_but_the_status(site: Site) -> None:
    (site.remote / "confidential").write_text("")
    outcome = site.play(
        listing(no_log=True, name="Look"),
        site.call(download("{{ item.path }}", "x/y/z"), no_log=True, loop="{{ found.result.entries }}", name="Fetch"),
        site.call(download("confidential-too", "x"), no_log=True, ignore_errors=True, name="Fail"),
        say("{{ found.result.entries | length }}"),
        options=("-vv", "--diff"),
    )

    assert outcome.exit_code == 0
    assert "confidential" not in outcome.output
    retried = site.call(download("confidential-too", "x"), no_log=True, until="false", retries=1, delay=0, name="Retry")
    assert "confidential" not in site.play(retried).output
    assert "confidential" not in str(outcome.report["steps"])
    assert outcome.statuses == ["ok", "changed", "failed", "ok"]
    assert messages(outcome)[-1] == "1"


def test_check_mode_of_a_step_beats_the_command_line(site: Site) -> None:
    (site.local / "a").write_text("a")
    steps = [site.call(upload("a", "always"), check_mode=False), site.call(upload("a", "never"), check_mode=True)]

    assert site.play(*steps, options=("--check",)).exit_code == 0
    assert sorted(snapshot(site.remote)) == ["always"]
    assert site.play(*steps).statuses == ["ok", "changed"]
    assert sorted(snapshot(site.remote)) == ["always"]


def test_check_says_what_it_cannot_know(site: Site) -> None:
    (site.local / "a").write_text("a")
    copy = site.call(upload("a", "b", verify="checksum"), register="r")
    show = [say("{{ r.result.size_bytes }}"), say("{{ r.result.sha256 }}"), say("x", when="r.result.sha256 != 'x'")]

    outcome = site.play(copy, *show, options=("--check",))

    assert outcome.statuses == ["changed", "ok", "skipped", "skipped"]
    assert "it needs the result of step 1, which --check does not carry out" in messages(outcome)[2]
    assert outcome.exit_code == 0
    assert site.play(copy, *show).statuses == ["changed", "ok", "ok", "ok"]


def test_a_limit_leaves_what_contacts_no_host(site: Site) -> None:
    (site.local / "a").write_text("a")
    facts = {"set_fact": {"name": "b"}}
    gone = {**site.call({"mode_name": "list", "path": "."}), "connection": "gone"}

    outcome = site.play(facts, gone, site.call(upload("a", "{{ name }}")), options=("--limit", "bank"))

    assert outcome.statuses == ["ok", "changed"]
    assert sorted(snapshot(site.remote)) == ["b"]


def test_a_play_begins_at_a_step_in_a_block(site: Site) -> None:
    block = {"block": [say("a", name="a"), say("b", name="b")], "always": [say("c", name="c")]}

    outcome = site.play(block, say("d", name="d"), options=("--start-at-step", "b"))

    assert [step["name"] for step in outcome.report["steps"]] == ["b", "c", "d"]
