"""`lookup('pipe' | 'fileglob', …)`: what commands and patterns give, what they may cost, and when they are not run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid
from runner.playbook.build import check_play
from runner.playbook.commands import CommandFailed, run_command
from runner.problems import Problem
from tests.patience import BUSY_SECONDS
from tests.playbook.bounded_process import is_gone
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import HOST_KEY, mode, play, step
from tests.playbook.test_templating import password_login, quoted, render_destination


def pipe(command: str) -> str:
    return f"{{{{ lookup('pipe', {quoted(command)}) }}}}"


class TestPipe:
    @pytest.mark.parametrize(
        ("command", "text"),
        [
            ("echo monday", "monday"),
            ("printf 'a\\nb\\n \\n'", "a\nb"),
            ("echo $((1 + 1))", "2"),
            ("cat", ""),
            ('basename "$PWD"; pwd -P >&2', "FOLDER"),
            ("cat day.txt | tr a-z A-Z", "MONDAY"),
            ('echo "$DAY"', "tuesday"),
        ],
    )
    def test_a_command_gives_what_it_prints(
        self, load: Loader, command: str, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DAY", "tuesday")
        (load.folder / "day.txt").write_text("monday")

        shown = render_destination(load, "x" + pipe(command))

        assert shown == "x" + text.replace("FOLDER", load.folder.name)

    def test_a_password_manager_s_answer_is_a_secret(self, load: Loader) -> None:
        loaded = load(step(authentication=password_login(pipe("echo from-the-store"))))

        assert loaded.secrets == {"from-the-store"}

    def test_a_command_is_run_once(self, load: Loader) -> None:
        one = step(name=quoted(pipe("echo x >> runs; wc -l < runs")))

        assert [each.name for each in load(one * 3).steps] == ["1", "1", "1"]

    @pytest.mark.parametrize(
        ("command", "told"),
        [
            ("echo 'no such entry' >&2; exit 3", "it failed with status 3: no such entry"),
            ("exit 1", "it failed with status 1 and said nothing"),
            ("nonsuch-program", "it failed with status 127: "),
            ("kill -9 $$", "it was ended by signal 9 and said nothing"),
            ("printf '\\377'", "the output is not UTF-8 text"),
            ("yes", "it wrote more than 1 MiB"),
        ],
    )
    def test_a_command_that_fails_is_told_with_its_place(self, load: Loader, command: str, told: str) -> None:
        problem = load.find_problem(step(name=quoted(pipe(command))))

        assert tell(problem).startswith("5:9 lookup('pipe', ")
        assert told in problem.message

    def test_an_empty_command_is_told(self, load: Loader) -> None:
        assert load.find_problem(step(name=quoted(pipe("  ")))).message == "lookup('pipe') needs a command"

    def test_what_a_failed_command_says_is_masked_and_printable(self, load: Loader) -> None:
        text = step(
            authentication=password_login("hunter2-hunter2"), name=quoted(pipe("echo hunter2-$X; cat p >&2; exit 1"))
        )
        (load.folder / "p").write_text("hunter2-hunter2\n\x1b[2J\n")

        problem = load.find_problem(text)

        assert "hunter2-hunter2" not in repr(problem)
        assert "status 1: ******** \x1b[2J" in problem.message  # the console escapes it

    def test_an_answer_is_masked_in_the_error_that_quotes_it(self, load: Loader) -> None:
        for broken in ("{}[" + pipe("echo from-the-store")[3:-3] + "]", "{}[pw]"):
            head = f"vars: {{pw: {quoted(pipe('echo from-the-store'))}}}\n"
            problem = load.find_problem(play(head, step(authentication=password_login("{{ " + broken + " }}"))))

            assert "a mapping has no '********'" in problem.message

    def test_a_secret_on_the_command_line_is_refused(self, load: Loader) -> None:
        text = step(authentication=password_login("hunter2-hunter2"), name=quoted(pipe("echo hunter2-hunter2 > ran")))

        problem = load.find_problem(text)

        assert problem.message == "lookup('pipe'): the command holds a secret, which the process list would show"
        assert not (load.folder / "ran").exists()

    def test_a_command_does_not_get_a_secret_in_its_environment(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BANK_PASSWORD", "hunter2-hunter2")
        text = step(
            authentication=password_login("{{ lookup('env', 'BANK_PASSWORD') }}"),
            name=quoted(pipe("echo ${HOME+home} ${BANK_PASSWORD-none}")),
        )

        assert load(text).steps[0].name == "home none"

    def test_a_variable_can_be_quoted_for_the_shell(self, load: Loader) -> None:
        template = "{{ lookup('pipe', 'echo ' ~ (branch | quote)) }}"

        assert render_destination(load, template, extra_vars={"branch": "a; echo b $HOME"}) == "a; echo b $HOME"

    def test_a_command_may_take_the_memory_that_a_template_may_not(self, load: Loader) -> None:
        taken = "python3 -c 'print(len(bytearray(400 * 2**20)))'"

        assert render_destination(load, "x" + pipe(taken)) == f"x{400 * 2**20}"

    def test_a_command_that_takes_too_long_is_ended_with_all_it_started(self, tmp_path: Path) -> None:
        started = time.monotonic()
        with pytest.raises(CommandFailed, match=r"it did not end within 2 s"):
            run_command(["/bin/sh", "-c", "sleep 60 & echo $! > pid; wait"], folder=str(tmp_path), timeout_seconds=2)

        assert time.monotonic() - started < 5 + BUSY_SECONDS
        assert is_gone(int((tmp_path / "pid").read_text()))

    def test_what_a_command_leaves_running_is_not_waited_for(self, tmp_path: Path) -> None:
        started = time.monotonic()
        output = run_command(["/bin/sh", "-c", "sleep 60 & echo $! > pid; echo done"], folder=str(tmp_path))

        assert output == b"done\n"
        assert time.monotonic() - started < 5 + BUSY_SECONDS
        assert is_gone(int((tmp_path / "pid").read_text()))


class TestChecking:
    """`runner validate` runs no command, and says what can be said without one."""

    def check(self, folder: Path, text: str) -> int:
        path = folder / "play.yaml"
        path.write_text(text, encoding="utf-8")
        return check_play(str(path))

    def find_problems(self, folder: Path, text: str) -> list[Problem]:
        with pytest.raises(PlaybookInvalid) as caught:
            self.check(folder, text)
        return list(caught.value.problems)

    def test_nothing_is_run(self, tmp_path: Path) -> None:
        run = pipe("touch ran; echo x")
        text = play(
            f"name: {quoted(run)}\nworkdir: {quoted(run)}\nvars: {{a: {quoted(run)}}}\n",
            step(authentication=password_login(run))
            + step(port=quoted(run))
            + step(hostkey=quoted(run))
            + step(mode=mode(permissions=quoted(run)))
            + step(retries=quoted(run), delay=quoted(run))
            + step(name='"{{ a }}"'),
        )

        assert self.check(tmp_path, text) == 6
        assert not (tmp_path / "ran").exists()

    def test_what_does_not_depend_on_a_command_is_checked(self, tmp_path: Path) -> None:
        text = step(authentication=password_login(pipe("x")), port="0", connection="nope")

        assert [tell(one) for one in self.find_problems(tmp_path, step(port="0", name=quoted(pipe("x"))))] == [
            "5:9 'port' must be at least 1, not 0"
        ]
        assert len(self.find_problems(tmp_path, text)) == 2

    def test_a_misspelt_lookup_is_told(self, tmp_path: Path) -> None:
        [problem] = self.find_problems(tmp_path, step(name="\"{{ lookup('pipe', 'x', defualt=1) }}\""))

        assert tell(problem) == "5:9 lookup('pipe') has no option 'defualt'"


class TestTemplate:
    def render(self, load: Loader, text: str, template: str = "x.j2", **more: str) -> str:
        (load.folder / template).write_text(text)
        for name, other in more.items():
            (load.folder / name).write_text(other)
        return render_destination(
            load, f"{{{{ lookup('template', '{template}') }}}}", "vars: {day: monday, n: [1, 2]}\n"
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("to {{ day }}\n", "to monday\n"),
            ("{{ day }}\n", "monday\n"),
            ("{{ n }}", "[1, 2]"),
            ("no template", "no template"),
            ("{# nothing #}x", "x"),
            # As in Ansible, the line of a statement is no line of the text.
            ("{% for one in n %}\n{{ one }};\n{% endfor %}\nend", "1;\n2;\nend"),
            ("{{ lookup('vars', 'd' ~ 'ay') }}", "monday"),
            ("{{ lookup('template', 'y.j2') }}!", "inner monday!"),
        ],
    )
    def test_a_file_is_filled_in_with_the_variables_of_the_place(self, load: Loader, text: str, expected: str) -> None:
        assert self.render(load, text, **{"y.j2": "inner {{ day }}"}) == expected

    @pytest.mark.parametrize(
        ("text", "place", "message"),
        [
            ("a\nb {{ nope }}", "x.j2:2:1", "undefined in the template: 'nope' is undefined"),
            ("a\n{% for %}", "x.j2:2:1", "the template is not valid: "),
            ("a {{ day | nope }}", "x.j2:1:1", "the template is not valid: No filter named 'nope'."),
            ("{{ day | from_json }}", "x.j2:1:1", "'from_json': the text is not JSON"),
            (
                "{{ lookup('template', 'x.j2') }}",
                "x.j2:1:1",
                "lookup('template'): files look up each other in a circle: ",
            ),
            ("{{ lookup('template', 'nope') }}", "x.j2:1:1", "lookup('template') cannot read 'nope'"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                "play",
                "the template takes",
            ),
        ],
    )
    def test_a_mistake_in_it_is_told_with_its_line(self, load: Loader, text: str, place: str, message: str) -> None:
        (load.folder / "x.j2").write_text(text)

        problem = load.find_problem(play("vars: {day: x}\n", step(name="\"{{ lookup('template', 'x.j2') }}\"")))

        assert place in str(problem.location)
        assert problem.message.startswith(message)

    def test_what_stands_in_it_is_from_outside(self, load: Loader) -> None:
        (load.folder / "x.j2").write_text("../{{ day }}")
        text = play(
            "vars: {day: x}\n", step(mode=mode().replace("_name: b", "_name: \"srv/{{ lookup('template', 'x.j2') }}\""))
        )

        assert "the file 'x.j2' brings '..' into it" in load.find_problem(text).message

    def test_data_in_it_is_no_template(self, load: Loader) -> None:
        (load.folder / "x.j2").write_text("{{ given }}")

        found = render_destination(load, "{{ lookup('template', 'x.j2') }}", extra_vars={"given": "{{ 7 * 7 }}"})

        assert found == "{{ 7 * 7 }}"

    def test_it_is_one_of_the_files_that_are_read(self, load: Loader, tmp_path: Path) -> None:
        from tests.playbook.filters.evaluation import PLACE, make_templates

        (tmp_path / "x.j2").write_text("x")
        templates = make_templates(tmp_path)

        assert templates.render("{{ lookup('template', 'x.j2') }}", PLACE, {}) == "x"
        assert templates.files_read == {str(tmp_path / "x.j2")}

    def test_a_secret_that_it_may_look_up_is_not_given_to_a_command(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LATER_SECRET", "hunter2-hunter2")
        (load.folder / "pw.j2").write_text("{{ lookup('env', 'LATER_SECRET') }}")
        login = password_login("{{ lookup('template', 'pw.j2') }}")

        load(step(name=quoted(pipe("env > seen"))) + step(authentication=login))

        assert "LATER_SECRET" not in (load.folder / "seen").read_text()


class TestVars:
    HEAD = "vars: {name_live: web1, stage: live, n: [1], deep: '{{ stage }}'}\n"

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("lookup('vars', 'name_' ~ stage)", "web1"),
            ("lookup('vars', 'deep')", "live"),
            ("lookup('vars', 'nope', default='x')", "x"),
            ("lookup('vars', 'stage', 'name_live')", "live,web1"),
            ("lookup('vars', 'n') | first | string", "1"),
        ],
    )
    def test_a_variable_is_found_by_its_name(self, load: Loader, expression: str, expected: str) -> None:
        assert render_destination(load, f"{{{{ {expression} }}}}", self.HEAD) == expected

    def test_one_that_nothing_gives_is_told(self, load: Loader) -> None:
        problem = load.find_problem(play(self.HEAD, step(name="\"{{ lookup('vars', 'stge') }}\"")))

        assert tell(problem) == "7:9 lookup('vars'): nothing gives the variable 'stge'"
        assert problem.hint == "Did you mean 'stage'?"

    def test_a_circle_through_it_is_told(self, load: Loader) -> None:
        head = "vars: {a: \"{{ lookup('vars', 'b') }}\", b: '{{ a }}'}\n"

        problem = load.find_problem(play(head, step(name="'{{ a }}'")))

        assert "variables refer to each other in a circle: a → b → a" in problem.message

    @pytest.mark.parametrize("name", ["'pw'", "'p' ~ 'w'"])
    def test_a_secret_that_it_finds_is_not_given_to_a_command(
        self, load: Loader, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("LATER_SECRET", "hunter2-hunter2")
        secret = quoted("{{ lookup('env', 'LATER_SECRET') }}")
        login = password_login(f"{{{{ lookup('vars', {name}) }}}}")

        load(play(f"vars: {{pw: {secret}}}\n", step(name=quoted(pipe("env > seen"))) + step(authentication=login)))

        assert "LATER_SECRET" not in (load.folder / "seen").read_text()


class TestFirstFound:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ("['nope', 'b.txt', 'a.txt']", "b.txt"),
            ("'nope', 'a.txt'", "a.txt"),
            ("['a.txt'], paths=['sub', '.']", "sub/a.txt"),
            ("['b.txt'], paths=['sub', '.']", "b.txt"),
            ("files=['nope', 'b.txt']", "b.txt"),
            ("{'files': ['a.txt'], 'paths': ['sub']}", "sub/a.txt"),
            ("'nope', ['sub']", "sub"),
        ],
    )
    def test_the_first_that_is_there_is_given(self, load: Loader, arguments: str, expected: str) -> None:
        (load.folder / "sub").mkdir()
        for name in ("a.txt", "b.txt", "sub/a.txt"):
            (load.folder / name).touch()

        assert render_destination(load, f"{{{{ lookup('first_found', {arguments}) }}}}") == str(load.folder / expected)

    def test_none_is_told(self, load: Loader) -> None:
        problem = load.find_problem(step(name="\"{{ lookup('first_found', ['a', 'b'], paths=['x']) }}\""))

        assert tell(problem) == "5:9 lookup('first_found'): there is none of 'x/a', 'x/b'"
        assert str(load.folder) in problem.hint
        assert load(step(name="\"x{{ lookup('first_found', ['a'], skip=true) }}\"")).steps[0].name == "x"

    @pytest.mark.parametrize("arguments", ["5", "[5]", "[['a']]", "{'files': 5}"])
    def test_other_than_names_is_told(self, load: Loader, arguments: str) -> None:
        problem = load.find_problem(step(name=f"\"{{{{ lookup('first_found', {arguments}) }}}}\""))

        assert problem.message == "lookup('first_found') needs names of files, as text"


class TestFileglob:
    def names(self, load: Loader, template: str) -> list[str]:
        loaded = load(
            step(hostkey=f"{{hostkey_mode: known_host, known_host: {quoted(HOST_KEY)}}}", name=quoted(template))
        )
        return loaded.steps[0].name.replace(f"{load.folder}/", "").split(",")

    def test_files_are_listed_in_order(self, load: Loader) -> None:
        (load.folder / "out").mkdir()
        (load.folder / "out" / "folder.xml").mkdir()
        for name in ("b.xml", "a.xml", "c.txt", ".hidden.xml"):
            (load.folder / "out" / name).touch()

        assert self.names(load, "{{ lookup('fileglob', 'out/*.xml') | join(',') }}") == ["out/a.xml", "out/b.xml"]
        assert self.names(load, "{{ lookup('fileglob', 'out/*.xml', wantlist=true) | join(',') }}")[0] == "out/a.xml"
        assert self.names(load, "{{ lookup('fileglob', 'out/*.xml', wantlist=false) }}") == ["out/a.xml", "out/b.xml"]
        assert self.names(load, "{{ lookup('fileglob', 'out/*.txt', 'out/b*') | join(',') }}") == [
            "out/c.txt",
            "out/b.xml",
        ]
        assert self.names(load, f"{{{{ lookup('fileglob', '{load.folder}/out/a*')[0] }}}}") == ["out/a.xml"]
        assert self.names(load, "x{{ lookup('fileglob', 'nope/*') | length }}") == ["x0"]

    def test_a_folder_s_own_name_is_no_pattern(self, load: Loader) -> None:
        odd = load.folder / "[ab]*"
        odd.mkdir()
        (odd / "x").touch()

        assert Loader(odd)(step(name="\"{{ lookup('fileglob', '*')[1] }}\"")).steps[0].name == f"{odd}/x"

    def test_names_that_are_not_utf_8_are_kept(self, load: Loader) -> None:
        (load.folder / os.fsdecode(b"caf\xe9.xml")).touch()

        assert self.names(load, "{{ lookup('fileglob', '*.xml')[0] }}") == ["caf\udce9.xml"]

    def test_too_many_files_are_refused(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runner.playbook.lookups.MAX_FILE_NAMES", 2)
        for index in range(3):
            (load.folder / f"{index}.xml").touch()

        assert (
            "matches more than 2 files"
            in load.find_problem(step(name="\"{{ lookup('fileglob', '*.xml')[0] }}\"")).message
        )
