"""A server that makes up the names in its directories, in a playbook that loops over them: nothing runs, nothing escapes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.conftest import Outcome, Runner, connection, download, snapshot
from tests.patience import ends_within
from tests.servers.raw_sftp import EOF, Execute, Kind, RawSftpServer, Request, Script, packet, status, string

# Of version 3: the size, the permissions and the times, so that nobody asks for more.
SIZE_MODE_TIMES = 1 | 4 | 8
REGULAR = 0o100644


class MadeUp(Script):
    """Every directory holds these names, as files."""

    names: ClassVar[tuple[bytes, ...]] = ()

    def __init__(self) -> None:
        self._left: list[bytes] = []

    def reply(self, request: Request, execute: Execute) -> Iterable[bytes]:
        """Names in the place of those that are there."""
        if request.kind == Kind.OPENDIR:
            self._left = list(self.names)
        if request.kind != Kind.READDIR:
            return [execute()]
        some, self._left = self._left[:400], self._left[400:]
        if not some:
            return [status(request.id, EOF)]
        attributes = struct.pack(">IQIII", SIZE_MODE_TIMES, 7, REGULAR, 1_500_000_000, 1_500_000_000)
        entries = b"".join(string(name) + string(name) + attributes for name in some)
        return [packet(Kind.NAME, request.id, struct.pack(">I", len(some)), entries)]


class Site:
    """Such a server, and a playbook that lists its directory `in`."""

    def __init__(self, runner: Runner, remote: Path, server: RawSftpServer) -> None:
        self.runner, self.remote, self.local = runner, remote, runner.folder
        self._connections = {"bank": connection(server)}

    def play(self, *steps: dict[str, Any], options: tuple[str, ...] = ()) -> Outcome:
        listing = {"connection": "bank", "mode": {"mode_name": "list", "path": "in"}, "register": "found"}
        return self.runner.play({"connections": self._connections, "steps": [listing, *steps]}, *options)


@pytest.fixture
def site(runner: Runner, remote: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with _making_up(runner, remote, tmp_path, request.param) as made:
        yield made


@contextmanager
def _making_up(runner: Runner, remote: Path, tmp_path: Path, made_up: tuple[bytes, ...]) -> Iterator[Site]:
    script = type("Script", (MadeUp,), {"names": made_up})
    (remote / "in").mkdir()
    with RawSftpServer(tmp_path / "server", root=remote, make_script=script) as server:
        yield Site(runner, remote, server)


def over_entries(**step: Any) -> dict[str, Any]:
    return {"loop": "{{ found.result.entries }}", **step}


CODE = (
    b"{{ lookup('pipe', 'touch ran') }}",
    b"{% set x = lookup('pipe', 'touch ran') %}",
    b"{# x #}",
    b"$(touch ran)",
    b"`touch ran`",
    b"'; touch ran; '",
    b"!vault |",
    b"*anchor",
    b"a\nb",
    b"-rf",
    b"7",
    b"true",
    b"null",
    b"~",
    b"\x1b]0;owned\x07",
    b"::error::x",
    b"caf\xe9",
)


@pytest.mark.parametrize("site", [CODE], indirect=True, ids=["code"])
def test_names_that_are_code_are_text_wherever_they_go(site: Site) -> None:
    seen = "{{ item.path is string }} {{ (item.path | split('/'))[-1] }}"
    outcome = site.play(
        over_entries(debug={"msg": seen}),
        over_entries(set_fact={"one": "{{ item.path }}"}, when="item.path | length > 0"),
        {"debug": {"msg": "{{ one }}", "var": "one"}} | {"debug": {"msg": "{{ one }}"}},
        over_entries(
            **{"assert": {"that": ["item.path in (found.result.entries | map(attribute='path') | list)"]}},
            loop_control={"label": "{{ item.path }}"},
        ),
        over_entries(debug={"msg": "{{ name }}"}, vars={"name": "{{ item.path }}"}),
    )

    assert outcome.exit_code == 0, outcome.output
    # Names come in the order of their bytes.
    expected = [f"True {name.decode('utf-8', 'surrogateescape')}" for name in sorted(CODE)]
    said = [one["message"] for one in outcome.report["steps"][1 : len(CODE) + 1]]
    assert [one.encode("utf-8", "backslashreplace").split(b" ")[0] for one in said] == [b"True"] * len(CODE)
    assert [one for one in said if "\udce9" not in one and "caf" not in one] == [
        one for one in expected if "\udce9" not in one
    ]
    assert "\x1b" not in outcome.output
    assert "\n::error" not in outcome.output
    assert not list(site.local.rglob("ran"))


@pytest.mark.parametrize(
    "site", [(b"{{ lookup('pipe', 'touch ran') }}", b"x; touch ran", b"$(touch ran)")], indirect=True
)
@pytest.mark.parametrize(
    "expression",
    [
        "lookup('pipe', 'ls ' ~ item.path)",
        "lookup('pipe', 'ls ' ~ (item.path | quote))",
        "lookup('file', item.path)",
        "lookup('env', item.path)",
        "lookup('template', item.path)",
        "lookup('first_found', [item.path])",
        "lookup('vars', item.path)",
        "lookup('fileglob', item.path)",
    ],
)
def test_names_are_no_argument_of_a_lookup(site: Site, expression: str) -> None:
    outcome = site.play(over_entries(debug={"msg": f"{{{{ {expression} }}}}"}))

    kind = expression.split("'")[1]
    assert outcome.statuses == ["ok", "failed", "failed", "failed"]
    for step in outcome.report["steps"][1:]:
        assert f"lookup('{kind}') takes nothing that comes from a server" in step["error"]["message"]
    assert not list(site.local.rglob("ran"))


@pytest.mark.parametrize(
    "site", [(b"..",), (b".",), (b"../up",), (b"/etc/passwd",), (b"a/../../up",), (b"",)], indirect=True
)
def test_names_that_lead_elsewhere_are_no_names(site: Site) -> None:
    """`.` and `..` are in each directory. Whatever else is no name ends the listing."""
    (site.remote / "up").write_text("up")
    outcome = site.play(over_entries(connection="bank", mode=download("{{ item.path }}", "got/{{ item.path }}")))

    if outcome.statuses[0] == "ok":
        assert len(outcome.report["steps"][0]["result"]["entries"]) == 0
    else:
        assert outcome.report["steps"][0]["error"]["type"] == "TreeIncomplete"
    assert not (site.local / "got").exists()
    assert not (site.local.parent / "up").exists()
    assert snapshot(site.remote) == {"in": None, "up": b"up"}


@pytest.mark.parametrize("site", [(b"a", b"..", b"b\n../../x", b"....", b"..\\..\\x", b" ")], indirect=True)
def test_names_stay_below_the_destination(site: Site) -> None:
    for name in ("a", "b\n..", "....", "..\\..\\x", " "):
        (site.remote / "in" / name).mkdir() if name == "b\n.." else (site.remote / "in" / name).write_text(name)
    outcome = site.play(over_entries(connection="bank", mode=download("{{ item.path }}", "got/{{ item.path }}")))

    # A name with a slash in it is that of no file: nothing of the directory is believed then.
    assert outcome.statuses[0] == "failed"
    assert outcome.report["steps"][0]["error"]["type"] == "TreeIncomplete"
    assert not (site.local / "got").exists()


@pytest.mark.parametrize("site", [(b"report.csv", b"7")], indirect=True)
@pytest.mark.parametrize(
    ("expression", "message", "hint"),
    [
        ("item.pth", "a mapping has no 'pth'", "Did you mean 'path'?"),
        ("item.size", "a mapping has no 'size'", "Did you mean 'size_bytes'?"),
        ("item['typ']", "a mapping has no 'typ'", "Did you mean 'type'?"),
        ("item.stat.size", "a mapping has no 'stat'", "Known: modified_at, path, permissions, size_bytes, type."),
        ("item.isdir", "a mapping has no 'isdir'", "Did you mean 'type'?"),
        ("item.target", "only a link has a 'target', and this is none", ""),
        ("item.path.name", "a string has no 'name'", ""),
        ("found.result.entries.path", "a list has no 'path'", "map(attribute='path')"),
        ("found.result.entries[7].path", "a list of 2 has no item 7", "counted from 0"),
    ],
)
def test_a_wrong_field_is_told_with_the_nearest_and_with_what_came(
    site: Site, expression: str, message: str, hint: str
) -> None:
    outcome = site.play(over_entries(debug={"msg": f"{{{{ {expression} }}}}"}))

    first = outcome.report["steps"][1]
    (problem,) = first["error"]["problems"]
    assert (first["status"], first["item"], first["error"]["type"]) == ("failed", "in/7", "InvalidInput")
    assert problem["message"].startswith(message)
    assert hint in problem["hint"]
    if message.startswith("a mapping"):
        assert '"path": "in/7"' in problem["message"]
    # It points to the value, and not to the step.
    lines = (site.local / "play.yaml").read_text().splitlines()
    place = problem["location"]
    assert lines[place["line"] - 1][place["column"] - 1 :].startswith(f'"{{{{ {expression}'[:8])
    assert f"play.yaml:{place['line']}:{place['column']}: {message}" in outcome.output
    assert "(in/7)" in outcome.output


@pytest.mark.parametrize("site", [(b"report.csv",)], indirect=True)
def test_what_came_is_shown_where_a_value_does_not_fit(site: Site) -> None:
    outcome = site.play(
        over_entries(connection="bank", mode={"mode_name": "list", "path": "in", "recursive": "{{ item.path }}"}),
        over_entries(pause={"seconds": "{{ item.path }}"}),
        over_entries(debug={"msg": "x"}, when="item.path"),
    )

    problems = [step["error"]["problems"] for step in outcome.report["steps"][1:] if step["error"]]
    told = [one["message"] for one in problems[0]]
    assert told == ["'recursive' must be true or false, not a string: 'in/report.csv'"]
    outcome = site.play(over_entries(pause={"seconds": "{{ item.path }}"}))
    assert "'seconds' must be a number of seconds from 0 to 604,800, not 'in/report.csv'" in outcome.output
    outcome = site.play(over_entries(debug={"msg": "x"}, when="item.path"))
    assert "the condition must be true or false, and is a string: 'in/report.csv'" in outcome.output


MANY = tuple(b"%05d {{ lookup('pipe', 'touch ran') }}" % number for number in range(20_000))


@pytest.mark.parametrize("site", [MANY], indirect=True, ids=["20,000"])
def test_very_many_of_them_take_no_time(site: Site) -> None:
    with ends_within(60):
        outcome = site.play(
            over_entries(
                connection="bank",
                mode=download("{{ item.path }}", "got/{{ item.path }}"),
                when="item.path.startswith('in/00007')",
            ),
            options=("-q",),
        )

    assert outcome.exit_code == 2
    statuses = outcome.statuses[1:]
    # The one that is chosen is not there.
    assert statuses.count("failed") == 1
    assert set(statuses) == {"skipped", "failed"}
    assert not list(site.local.rglob("ran"))
    assert not (site.local / "got").exists()
