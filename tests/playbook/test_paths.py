"""What comes from outside adds names to a path that the playbook has written, and leads nowhere else."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from runner.playbook.paths import PATH_KEYS
from runner.resources import schema_text
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import play, step
from tests.playbook.test_templating import quoted, render_destination

# Brought by somebody outside, behind what is written.
BAD = ["../../x", "..", ".", "", "/etc/x", "a/../b", "a//b", "a/", "a/..", "./a", "/", "//"]
# On a server that is Windows these are the same.
BAD_ON_WINDOWS = ["..\\..\\x", "a\\..\\..\\b", "a\\../b", " ", "\t", "...", ".. ", "a/ /b", "a/.../b", "a\\.. \\b"]
BAD += BAD_ON_WINDOWS
GOOD = [
    "main",
    "feature/new-login",
    "a/b/c",
    "..a",
    "a..",
    ".hidden",
    "a.b",
    "ä",
    "a b",
    " a",
    "~",
    "-rf",
    "a/.b",
    "a\\b",
]

WAYS = {
    "an expression": "srv/{{ branch }}/index",
    "at the end": "srv/{{ branch }}",
    "absolute": "/srv/{{ branch }}/index",
    "~": "{{ 'srv/' ~ branch ~ '/index' }}",
    "+": "{{ 'srv/' + branch + '/index' }}",
    "in a condition": "srv/{{ branch if true else 'x' }}/index",
    "with a default": "srv/{{ branch | default('main') }}/index",
    "a filter": "srv/{{ branch | lower }}/index",
    "two filters": "srv/{{ branch | lower | upper }}/index",
    "a method": "srv/{{ branch.lower() }}/index",
    "a method with arguments": "srv/{{ branch.replace('feature', 'f') }}/index",
    "a piece": "srv/{{ branch[:] }}/index",
    "a format": "srv/{{ '%s' | format(branch) }}/index",
    "a format of the whole": "{{ 'srv/%s/index' | format(branch) }}",
    "a method of the text": "{{ 'srv/{}/index'.format(branch) }}",
    "%": "{{ 'srv/%s/index' % branch }}",
    "a list": "{{ ['srv', branch, 'index'] | join('/') }}",
    "an item": "srv/{{ [branch] | first }}/index",
    "a statement": "srv/{% if true %}{{ branch }}{% endif %}/index",
    "a loop": "{% for one in ['srv', branch] %}{{ one }}/{% endfor %}index",
    "a set": "{% set b = branch %}srv/{{ b }}/index",
    "a variable": "srv/{{ through }}/index",
    "a variable with text": "{{ target }}/index",
    "a variable of a variable": "{{ twice }}/index",
    "a mapping": "srv/{{ names.one }}/index",
}
HEAD = (
    "vars: {through: '{{ branch }}', target: 'srv/{{ branch }}', twice: '{{ target }}', names: {one: '{{ branch }}'}}\n"
)


def copy_to(path: str) -> str:
    return f"{{mode_name: copy_file_from_engine, source_file_name: a, destination_file_name: {path}}}"


def playbook(path: str, head: str = HEAD) -> str:
    return play(head, step(mode=copy_to(quoted(path))))


def shown(load: Loader, path: str, branch: str) -> str | None:
    """The destination that comes of it; None if it is refused."""
    from runner.errors import PlaybookInvalid

    try:
        return load(playbook(path), extra_vars={"branch": branch}).steps[0].mode.destination  # type: ignore[union-attr]
    except PlaybookInvalid as error:
        assert len(error.problems) == 1, error.problems
        return None


class TestOutside:
    @pytest.mark.parametrize("way", WAYS)
    def test_names_are_added(self, load: Loader, way: str) -> None:
        for branch in GOOD:
            # A refusal is this test's failure, with its reason.
            assert load(playbook(WAYS[way]), extra_vars={"branch": branch}).steps[0].mode.destination, branch  # type: ignore[union-attr]

    @pytest.mark.parametrize("way", WAYS)
    def test_nothing_else_is(self, load: Loader, way: str) -> None:
        for branch in BAD:
            found = shown(load, WAYS[way], branch)
            if found is not None:
                # A piece that makes a file's name end in '/' is refused by its own rule, and here nothing is left of it.
                names = found.removeprefix("/").replace("\\", "/").split("/")
                assert all(name.replace(".", "").strip() for name in names), (branch, found)

    def test_the_right_path_comes_of_it(self, load: Loader) -> None:
        for way, path in WAYS.items():
            found = shown(load, path, "main")
            expected = {"at the end": "srv/main", "absolute": "/srv/main/index", "two filters": "srv/MAIN/index"}
            assert found == expected.get(way, "srv/main/index"), way

    def test_what_is_in_the_plan_is_plain_text(self, load: Loader) -> None:
        loaded = load(playbook("srv/{{ branch }}"), extra_vars={"branch": "x"}).steps[0]

        assert type(loaded.mode.destination) is str  # type: ignore[union-attr]
        assert type(loaded.name) is str

    @pytest.mark.parametrize(
        ("source", "head", "told"),
        [
            ("{{ branch }}", "", "the extra variable 'branch' brings '..' into it: 'srv/../x'"),
            ("{{ lookup('env', 'BRANCH') }}", "", "the environment variable BRANCH brings '..' into it: 'srv/../x'"),
            ("{{ lookup('file', 'branch.txt') }}", "", "the file 'branch.txt' brings '..' into it: 'srv/../x'"),
            ("{{ lookup('pipe', 'echo ../x') }}", "", "the command 'echo ../x' brings '..' into it: 'srv/../x'"),
            (
                "{{ lookup('env', 'BRANCH') | lower }}",
                "",
                "the environment variable BRANCH brings '..' into it: 'srv/../x'",
            ),
            (
                "{{ b }}",
                "vars: {b: \"{{ lookup('env', 'BRANCH') }}\"}\n",
                "the variable 'b', which is the environment variable BRANCH brings '..' into it: 'srv/../x'",
            ),
        ],
    )
    def test_the_error_says_who_and_where_and_what_to_do(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch, source: str, head: str, told: str
    ) -> None:
        monkeypatch.setenv("BRANCH", "../x")
        (load.folder / "branch.txt").write_text("../x\n")
        text = play(head, step(mode=copy_to(quoted("srv/" + source))))

        problem = load.find_problem(text, extra_vars={"branch": "../x"})

        line = text.splitlines()[problem.location.line - 1]
        assert line[problem.location.column - 1 :].startswith('"srv/')
        assert problem.message == f"'destination_file_name': {told}"
        assert "| trusted_path" in problem.hint

    def test_a_secret_in_a_path_is_masked(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PW", "../hunter22")
        login = "{authentication_method: username_password, username: u, password: \"{{ lookup('env', 'PW') }}\"}"

        problem = load.find_problem(step(authentication=login, mode=copy_to(quoted("srv/{{ lookup('env', 'PW') }}"))))

        assert "hunter22" not in problem.message + problem.hint

    def test_a_list_of_files_is_from_outside(self, load: Loader) -> None:
        (load.folder / "a.csv").touch()
        glob = "lookup('fileglob', '*.csv')"

        assert render_destination(load, f"{{{{ {glob} | first }}}}") == str(load.folder / "a.csv")
        assert "brings" in load.find_problem(playbook(f"srv/{{{{ {glob} | first }}}}")).message
        assert render_destination(load, f"srv/{{{{ ({glob} | first).rsplit('/', 1)[1] }}}}") == "srv/a.csv"

    def test_a_default_is_the_playbooks(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NOT_SET", raising=False)

        assert render_destination(load, "a/{{ lookup('env', 'NOT_SET', default='../b') }}") == "a/../b"

    def test_a_mapping_of_extra_vars_is_from_outside_as_a_whole(self, load: Loader) -> None:
        for path in (
            "srv/{{ app.name }}",
            "srv/{{ app['name'] }}",
            "srv/{{ app.parts[0] }}",
            "srv/{{ app.parts | last }}",
        ):
            extra_vars: dict[str, Any] = {"app": {"name": "../x", "parts": ["..", ".."]}}
            assert (
                "the extra variable 'app' brings '..'"
                in load.find_problem(playbook(path), extra_vars=extra_vars).message
            )


class TestTheBeginning:
    """Where nothing is written before it, a value may be any path that the playbook could have written."""

    @pytest.mark.parametrize(
        "path", ["{{ branch }}", "{{ branch }}/x", "{{ branch ~ '/x' }}", "{{ branch | lower }}/x"]
    )
    @pytest.mark.parametrize("branch", ["/srv", "../x", "..", "a/../b", "./a", "a//b"])
    def test_it_may_be_any_path(self, load: Loader, path: str, branch: str) -> None:
        assert shown(load, path, branch) == branch + ("/x" if "x" in path else "")

    @pytest.mark.parametrize(
        "path", ["{{ branch }}/x", "{{ branch ~ '/x' }}", "{{ branch + '/x' }}", "{{ '%s/x' % branch }}"]
    )
    def test_it_may_not_make_an_absolute_path_of_the_rest(self, load: Loader, path: str) -> None:
        problem = load.find_problem(playbook(path), extra_vars={"branch": ""})

        assert "the extra variable 'branch'" in problem.message
        assert "absolute" in problem.message or "'/' at its beginning" in problem.message

    def test_the_second_of_two_is_not_at_the_beginning(self, load: Loader) -> None:
        problem = load.find_problem(playbook("{{ a }}/{{ b }}"), extra_vars={"a": "..", "b": ".."})

        assert problem.message.startswith("'destination_file_name': the extra variable 'b' brings '..'")

    def test_behind_a_variable_of_the_playbook_it_is_not_either(self, load: Loader) -> None:
        head = "vars: {base: srv/}\n"

        assert (
            "'b' brings '..'" in load.find_problem(playbook("{{ base }}{{ b }}", head), extra_vars={"b": ".."}).message
        )


class TestEmpty:
    """Whoever leaves it empty: an empty name is what an empty variable leaves."""

    @pytest.mark.parametrize(
        "path", ["srv/{{ app }}", "srv/{{ app }}/x", "{{ app }}/x", "{{ 'srv/' ~ app ~ '/x' }}", "{{ at }}/x"]
    )
    def test_an_empty_variable_of_the_playbook_leaves_no_empty_name(self, load: Loader, path: str) -> None:
        problem = load.find_problem(playbook(path, "vars: {app: '', at: 'srv/{{ app }}'}\n"))

        assert "the variable 'app' is empty" in problem.message
        assert "default(" in problem.hint

    @pytest.mark.parametrize("path", ["srv/{{ app }}", "srv/{{ app }}/x", "{{ app }}/x", "{{ at }}/x"])
    @pytest.mark.parametrize("is_outside", [True, False])
    def test_null_is_as_empty(self, load: Loader, path: str, is_outside: bool) -> None:
        """`app:` with nothing behind it. `srv/None` is what nobody means."""
        head = f"vars: {{at: 'srv/{{{{ app }}}}'{'' if is_outside else ', app: null'}}}\n"

        problem = load.find_problem(playbook(path, head), extra_vars={"app": None} if is_outside else {})

        assert "is empty" in problem.message

    @pytest.mark.parametrize(
        "path", ["{{ app }}report.csv", "in/report{{ app }}.csv", "in/{{ app }}report.csv", "in/x{{ app }}"]
    )
    def test_an_empty_part_of_a_name_is_fine(self, load: Loader, path: str) -> None:
        assert render_destination(load, path, extra_vars={"app": ""}) == path.replace("{{ app }}", "")

    def test_a_slash_may_be_written_with_the_value(self, load: Loader) -> None:
        path = "srv/{{ app ~ '/' if app else '' }}x"

        assert render_destination(load, path, extra_vars={"app": ""}) == "srv/x"
        assert render_destination(load, path, extra_vars={"app": "a"}) == "srv/a/x"

    def test_what_the_playbook_writes_itself_is_its_own(self, load: Loader) -> None:
        for path in ("srv//x", "srv/../x", "./x", "srv/{{ app }}/../x", "srv/{{ app }}//x"):
            assert render_destination(load, path, extra_vars={"app": "a"}) == path.replace("{{ app }}", "a")


class TestTrust:
    @pytest.mark.parametrize(
        "path",
        [
            "srv/{{ branch | trusted_path }}/index",
            "{{ 'srv/' ~ (branch | trusted_path) ~ '/index' }}",
            "srv/{{ branch | lower | trusted_path }}/index",
            "srv/{{ branch | trusted_path | lower }}/index",
            "srv/{% if true %}{{ branch | trusted_path }}{% endif %}/index",
        ],
    )
    def test_one_filter_says_that_it_is_meant(self, load: Loader, path: str) -> None:
        assert shown(load, path, "../../x") == "srv/../../x/index"

    def test_it_is_about_one_value(self, load: Loader) -> None:
        text = playbook("srv/{{ a | trusted_path }}/{{ b }}")

        assert "'b' brings" in load.find_problem(text, extra_vars={"a": "..", "b": ".."}).message

    def test_what_is_empty_is_never_meant(self, load: Loader) -> None:
        assert "is empty" in load.find_problem(playbook("srv/{{ a | trusted_path }}"), extra_vars={"a": ""}).message


OPERATIONS = {
    "path": "{mode_name: remove, path: @}",
    "target": "{mode_name: create_link, path: current, target: @}",
    "source_path": "{mode_name: rename, source_path: @, destination_path: x}",
    "destination_path": "{mode_name: rename, source_path: x, destination_path: @}",
    "source_file_name": "{mode_name: copy_file_from_engine, source_file_name: @, destination_file_name: x}",
    "destination_file_name": "{mode_name: copy_file_to_engine, source_file_name: x, destination_file_name: @}",
    "source_directory_name": "{mode_name: copy_directory_to_engine, source_directory_name: @, "
    "destination_directory_name: x}",
    "destination_directory_name": "{mode_name: copy_directory_from_engine, source_directory_name: x, "
    "destination_directory_name: @}",
    "temporary_directory": "{mode_name: copy_file_from_engine, source_file_name: x, destination_file_name: x, "
    "temporary_directory: @}",
}
LOGINS = {
    "ssh_key_file": "{authentication_method: ssh_key_file, username: u, ssh_key_file: @}",
    "certificate_file": "{authentication_method: ssh_key_file, username: u, ssh_key_file: k, certificate_file: @}",
}


class TestEveryPath:
    @pytest.mark.parametrize("key", sorted(PATH_KEYS))
    def test_no_path_is_left(self, load: Loader, key: str) -> None:
        path = '"keep/{{ branch }}"'
        if key in OPERATIONS:
            text = step(mode=OPERATIONS[key].replace("@", path))
        elif key in LOGINS:
            text = step(authentication=LOGINS[key].replace("@", path))
        elif key == "known_hosts_file":
            text = step(hostkey=f"{{hostkey_mode: known_hosts_file, known_hosts_file: [x, {path}]}}")
        elif key in ("workdir", "vars_files"):
            text = play(f"{key}: {path}\n")
        elif key == "include_steps":
            text = f"- include_steps: {path}\n"
        else:
            text = step(ssh_config=path)

        problem = load.find_problem(text, extra_vars={"branch": "../../x"})

        assert f"'{key}': the extra variable 'branch' brings '..'" in problem.message

    def test_all_paths_of_the_schema_are_known(self) -> None:
        found: set[str] = set()

        def walk(schema: Any) -> None:
            if isinstance(schema, dict):
                for name, one in schema.get("properties", {}).items():
                    if (
                        name != "min_files"
                        and isinstance(one, dict)
                        and any(word in name for word in ("file", "directory", "path", "workdir", "config"))
                    ):
                        found.add(name)
                for one in schema.values():
                    walk(one)
            elif isinstance(schema, list):
                for one in schema:
                    walk(one)

        walk(json.loads(schema_text("connector")))
        walk(json.loads(schema_text("playbook")))
        assert found - PATH_KEYS == set()

    def test_a_whole_mode_from_a_variable_is_looked_at_as_well(self, load: Loader) -> None:
        head = f"vars:\n  m: {copy_to(quoted('srv/{{ b }}'))}\n"

        problem = load.find_problem(play(head, step(mode="'{{ m }}'")), extra_vars={"b": ".."})

        assert tell(problem).startswith("2:85 'destination_file_name': the extra variable 'b' brings '..'")

    @pytest.mark.parametrize("key", ["include", "exclude"])
    @pytest.mark.parametrize("pattern", ["{{ app }}/**", "/{{ app }}", "/{{ app }}/", "a/{{ app }}/b", "/{{ app }}/**"])
    def test_an_empty_variable_widens_no_pattern(self, load: Loader, key: str, pattern: str) -> None:
        """`delete` goes by it: all of the destination is included then, or nothing excluded."""
        tree = "mode_name: copy_directory_from_engine, source_directory_name: a, destination_directory_name: b"
        text = step(mode=f"{{{tree}, delete: true, {key}: ['*.log', {quoted(pattern)}]}}")

        assert load(text, extra_vars={"app": "x"}).steps
        for empty in ("", " "):
            problem = load.find_problem(text, extra_vars={"app": empty})
            assert problem.message.startswith(f"'{key}': the extra variable 'app' is empty"), problem.message
        assert load(text, extra_vars={"app": "*"}).steps

    @pytest.mark.parametrize("pattern", ["*{{ app }}", "{{ app }}*.log", "a{{ app }}/b", "{{ app }}**/b", "/a/**"])
    def test_an_empty_part_of_a_pattern_is_fine(self, load: Loader, pattern: str) -> None:
        tree = "mode_name: copy_directory_from_engine, source_directory_name: a, destination_directory_name: b"

        assert load(step(mode=f"{{{tree}, exclude: [{quoted(pattern)}]}}"), extra_vars={"app": ""}).steps

    def test_other_inputs_take_any_value(self, load: Loader) -> None:
        loaded = load(step(name="'a/{{ b }}/{{ c }}'"), extra_vars={"b": "..", "c": ""})

        assert loaded.steps[0].name == "a/../"


def test_every_path_that_gets_through_stays_where_it_was_written(load: Loader) -> None:
    """All short values from an alphabet of what could lead out: the result is below `srv` or refused."""
    from runner.playbook.paths import find_path_fault
    from runner.playbook.provenance import concatenate, mark_outside

    accepted = 0
    for length in range(6):
        for letters in itertools.product("./a" if length > 4 else "./a\\ ", repeat=length):
            value = "".join(letters)
            for before, after in itertools.product(("srv/", "srv", "srv/.", "srv/x"), ("", "/x", "x", ".", "./y")):
                whole = concatenate([before, mark_outside(value, "somebody"), after])
                assert whole == before + value + after
                if find_path_fault(whole) is None:
                    accepted += 1
                    names = whole.replace("\\", "/").split("/")
                    assert whole.startswith("srv"), (before, value, after)
                    assert not any(name.startswith("..") and not name.strip(". ") for name in names), (
                        before,
                        value,
                        after,
                    )
    assert accepted > 1000
