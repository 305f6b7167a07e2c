"""ssh_config files are read as OpenSSH reads them (`ssh -G` is the judge), within bounds, and nothing is executed."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from runner.playbook.inputs import InputProblem
from runner.playbook.ssh_config.config import MAX_DEPTH, SshConfig
from runner.playbook.ssh_config.hops import WrittenHop, parse_jump
from runner.playbook.ssh_config.lines import MAX_FILE_BYTES
from runner.playbook.ssh_config.settings import HostSettings, Query, Setting
from runner.problems import Location
from tests.patience import BUSY_SECONDS
from tests.playbook.ssh_configs import ALIASES, COMPARED, Generator, ask_ssh, describe, find_ssh, home

PLAYBOOK = Location("play.yaml", 7, 5)
CHUNKS, CONFIGS_EACH = 10, 25


def look_up(path: Path, alias: str = "bank", **settled: object) -> HostSettings:
    return SshConfig(str(path), PLAYBOOK).look_up(Query(alias, **settled)).settings  # type: ignore[arg-type]


def write(folder: Path, text: str, name: str = "config") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def find_problem(path: Path, alias: str = "bank") -> InputProblem:
    with pytest.raises(InputProblem) as caught:
        look_up(path, alias)
    return caught.value


def warnings_of(path: Path, alias: str = "bank") -> list[str]:
    answer = SshConfig(str(path), PLAYBOOK).look_up(Query(alias))
    return [f"{one.location.line}: {one.message}" for one in answer.warnings]


@pytest.fixture
def _as_ssh_sees_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh takes the home folder from the list of users. It is only a text here: nothing below it is opened."""
    if find_ssh() is None:
        pytest.skip("no ssh on this machine")
    monkeypatch.setenv("HOME", home())


# --- the judge ---


@pytest.mark.usefixtures("_as_ssh_sees_home")
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_generated_configurations_mean_what_they_mean_to_ssh(tmp_path: Path, chunk: int) -> None:
    for seed in range(chunk * CONFIGS_EACH, (chunk + 1) * CONFIGS_EACH):
        folder = tmp_path / str(seed)
        folder.mkdir()
        generator = Generator(folder, random.Random(seed))
        path = generator.write()
        alias = generator.chance.choice(ALIASES)

        expected, found = ask_ssh(path, alias), describe(look_up(path, alias), alias)

        assert expected is not None
        assert {key: found.get(key) for key in COMPARED} == {key: expected.get(key) for key in COMPARED}, (seed, alias)


def test_the_generator_reaches_everything(tmp_path: Path) -> None:
    """Otherwise its agreement with ssh would prove little."""
    text, used, blocked = "", set(), 0
    for seed in range(CHUNKS * CONFIGS_EACH):
        path = Generator(tmp_path, random.Random(seed)).write()
        text += path.read_text()
        found = describe(look_up(path, "bank"), "bank")
        used |= {key for key in COMPARED if found.get(key) not in (None, [])}
        blocked += found["hostname"] == ["bank"]
    assert used == set(COMPARED)
    assert 0.2 < blocked / (CHUNKS * CONFIGS_EACH) < 0.9
    assert all(word in text.lower() for word in ("include", "match final", "originalhost", "localuser", "!host", "\t"))


@pytest.mark.usefixtures("_as_ssh_sees_home")
@pytest.mark.parametrize(
    "line",
    [
        *("User a", "user=a", "USER = a", 'User "a b"', "User 'a b'", r"User a\ b", r'User "a\"b"', r"User a\\b"),
        *(r"User a\b", "User a # why", "User a#b", "User a #b", '"User" a', "User\ta", "  User   a  "),
        *('User a"b c"d', 'User \'a"b\'', "User", "User=", 'User ""', "User a b", 'User "a', "User 'a"),
        *("User = = a", 'User = "a=b"', "User a\x0c", "User\x0ba", "Port 22", "Port 0", "Port 65536", "Port -1"),
        *("Port 22 23", "Port 0022", "Port +22", "HostName %h", "HostName x%hx", "HostName %%", "HostName %n"),
        *("HostName %", "HostName ${HOME}", "HostName ÄB", "HostName 2001:DB8:0::1", "HostName LOUD"),
        *("HostKeyAlias LOUD", "HostKeyAlias %h", "UserKnownHostsFile /%d/%i/%k/%l/%L/%n/%p/%r/%u/%h"),
        *("UserKnownHostsFile ~/x ~/y", "UserKnownHostsFile /x none", "UserKnownHostsFile ${HOME}/x"),
        *("UserKnownHostsFile ${HOME", "UserKnownHostsFile ${}", "UserKnownHostsFile /%x"),
        *("UserKnownHostsFile ${NO_SUCH_VARIABLE}", "UserKnownHostsFile $HOME", "UserKnownHostsFile /x%"),
        *('UserKnownHostsFile ""', "Host", "Host bank\nUser a", "Host !bank *\nUser a", "Host * !bank\nUser a"),
        *('Host "ba nk" bank\nUser a', "Host BANK\nUser a", "Host ban?\nUser a", "Host b*k\nUser a"),
        *("Host b[ab]nk\nUser a", "Host bank#x\nUser a", "Match", "Match all\nUser a", "Match !all\nUser a"),
        *("Match all host bank\nUser a", "Match host bank all\nUser a", "Match host BANK\nUser a"),
        *("Match originalhost b*,x\nUser a", "Match host !bank,*\nUser a", "Match host\nUser a"),
        *("Match host bank user x\nUser a", "User b\nMatch user b\nPort 2", "Match !host x,y !user x\nUser a"),
        *("HostName x\nMatch host x\nUser a", "HostName x\nMatch originalhost x\nUser a"),
        *("HostName X\nMatch host x\nUser a", "HostName x\nHost x\nUser a\nMatch final\nPort 2"),
        *("Match final\nHostName x", "Match canonical\nUser a", "User a\nUser b"),
        *("IdentityFile a\nIdentityFile b\nIdentityFile a", "IdentityFile none", "ProxyCommand none\nProxyJump x"),
        *("ProxyJump none\nProxyJump x", "ProxyJump x\nProxyJump y", "ProxyJump a,b"),
        *("ProxyJump", "Hsot bank\nUser a", "IgnoreUnknown hsot\nHsot bank\nUser a"),
        *("IgnoreUnknown x*,Hs?t\nHsot bank\nUser a", "Include", 'Include ""', "Include /no/such/file"),
        *("Include /no/such/*\nUser a", "", "# User a", "   ", "\r", "User a\r\nPort 2\r"),
        "CanonicalizeHostname no\nUser a",
    ],
)  # fmt: skip
def test_a_line_means_what_it_means_to_ssh(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(f"{line}\n".encode())
    expected = ask_ssh(path, "bank")
    if expected is None:
        with pytest.raises(InputProblem):
            look_up(path)
        return
    found = describe(look_up(path), "bank")
    assert {key: found.get(key) for key in COMPARED} == {key: expected.get(key) for key in COMPARED}


@pytest.mark.usefixtures("_as_ssh_sees_home")
def test_what_is_settled_counts_as_an_option_of_the_command_line(tmp_path: Path) -> None:
    text = "Match user joe\n  Port 99\n  User x\n  UserKnownHostsFile /%r/%p/%k\nHostKeyAlias y\n"
    path = write(tmp_path, text)

    expected = ask_ssh(path, "bank", "-l", "joe", "-p", "2", "-o", "HostKeyAlias=Z")
    found = describe(look_up(path, username="joe", port=2, host_key_alias="Z"), "bank")

    assert expected is not None
    assert {key: found.get(key) for key in COMPARED} == {key: expected.get(key) for key in COMPARED}
    assert found["userknownhostsfile"] == ["/joe/2/z"]


# --- Match ---


@pytest.mark.parametrize(
    ("criteria", "fits"),
    [
        ("tagged t", True),
        ("tagged x", False),
        ("tagged t*,!tx", True),
        ('!tagged ""', True),
        ("host bank tagged t", True),
        ("host x tagged t", False),
    ],
)
def test_a_tag_can_be_asked_for(tmp_path: Path, criteria: str, fits: bool) -> None:
    path = write(tmp_path, f"Tag t\nMatch {criteria}\n  Port 2\n")

    assert (look_up(path).port is not None) == fits


@pytest.mark.parametrize(
    ("criteria", "warning"),
    [
        ('exec "touch TRAP"', "exec"),
        ('!exec "touch TRAP"', "exec"),
        ("host bank exec touch", "exec"),
        ("exec=true host bank", "exec"),
        ("localnetwork 127.0.0.0/8", "localnetwork"),
        ("version OpenSSH_*", "version"),
        ("sessiontype subsystem", "sessiontype"),
        ('command ""', "command"),
        ("phase-of-the-moon full", "phase-of-the-moon"),
        ('host other exec "touch TRAP"', None),
        ('exec "touch TRAP" host other', None),
        ("!host bank localnetwork 127.0.0.0/8", None),
    ],
)
def test_what_cannot_be_told_does_not_apply_and_is_warned_of_where_it_would_matter(
    tmp_path: Path, criteria: str, warning: str | None
) -> None:
    path = write(tmp_path, f"Match {criteria.replace('TRAP', str(tmp_path / 'trap'))}\n  Port 2\n")

    assert look_up(path).port is None
    reason = "nothing is executed" if warning == "exec" else "the runner cannot tell whether it holds"
    expected = [f"1: the block 'Match {warning}' for 'bank' does not apply: {reason}"] if warning else []
    assert warnings_of(path) == expected
    assert not (tmp_path / "trap").exists()


def test_nothing_is_executed_whatever_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap"
    path = write(
        tmp_path,
        f'Match exec "touch {trap}"\n  Port 1\nMatch final exec "touch {trap}"\nHost *\n'
        f"ProxyCommand touch {trap}\nKnownHostsCommand /usr/bin/touch {trap}\nLocalCommand touch {trap}\n"
        f"PermitLocalCommand yes\nHostName $(touch {trap})\n".replace("$(touch", '"$(touch').replace(")\n", ')"\n')
        + f"IdentityFile `touch${{IFS}}{trap}`\nInclude `touch {trap}`\nInclude |touch\n",
    )
    monkeypatch.setenv("IFS", " ")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"executed: {arguments}")

    for module, name in ((os, "system"), (os, "posix_spawn"), (os, "fork"), (subprocess, "Popen")):
        monkeypatch.setattr(module, name, refuse)
    settings = look_up(path)

    assert settings.proxy_command is not None
    assert settings.host is not None and settings.host.value == f"$(touch {trap})"
    assert not trap.exists()


# --- Include ---


def test_files_are_included_in_order_and_a_block_in_them_ends_with_them(tmp_path: Path) -> None:
    for name, port in (("b", 2), ("a", 1), (".hidden", 9)):
        write(tmp_path, f"User {name}\nHost other\n  Port {port}\n", f"{name}.conf")
    path = write(tmp_path, f"Host bank\n  Include {tmp_path}/*.conf\n  Port 3\n")

    settings = look_up(path)

    assert settings.username == Setting("a", Location(f"{tmp_path}/a.conf", 1, 1))
    assert settings.port == Setting("3", Location(str(path), 3, 3))


def test_relative_names_start_in_the_users_ssh_folder(tmp_path: Path) -> None:
    folder = Path(os.environ["HOME"]) / ".ssh"
    (folder / "more").mkdir(parents=True)
    write(folder, "Port 1\n", "one")
    write(folder, "User x\n", "more/two")
    path = write(tmp_path, "Include one\nInclude ~/.ssh/more/*\nInclude ${HOME}/.ssh/%n\n")
    write(folder, "HostName x\n", "bank")

    settings = look_up(path)

    assert [one and one.value for one in (settings.port, settings.username, settings.host)] == ["1", "x", "x"]


def test_a_file_that_includes_itself_is_a_kind_error(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    path.write_text(f"Port 1\nInclude {path}\n")

    problem = find_problem(path).problem

    assert (problem.location.line, problem.message) == (2, f"'Include' is nested deeper than {MAX_DEPTH} levels")


def test_files_that_multiply_are_refused_in_time(tmp_path: Path) -> None:
    for depth in range(14):
        write(tmp_path, f"Include {tmp_path}/{depth + 1}\n" * 2, str(depth))
    started = time.monotonic()

    assert "more than 500 files are included" in str(find_problem(tmp_path / "0"))
    assert time.monotonic() - started < BUSY_SECONDS


def test_lines_that_multiply_are_refused_in_time(tmp_path: Path) -> None:
    included = write(tmp_path, "Host *a*a*a\n" * 1000, "included")
    started = time.monotonic()

    problem = find_problem(write(tmp_path, f"Include {included}\n" * 200))

    assert "more than 100,000 lines" in str(problem)
    assert time.monotonic() - started < BUSY_SECONDS


def test_deep_includes_work_up_to_ssh_s_limit(tmp_path: Path) -> None:
    for depth in range(1, MAX_DEPTH + 1):
        write(tmp_path, f"Include {tmp_path}/{depth + 1}\n" if depth < MAX_DEPTH else "Port 7\n", str(depth))

    assert look_up(write(tmp_path, f"Include {tmp_path}/1\n")).port == Setting(
        "7", Location(f"{tmp_path}/{MAX_DEPTH}", 1, 1)
    )


# --- files ---


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "there is no SSH configuration PATH"),
        (lambda path: path.mkdir(), "cannot read the SSH configuration PATH: Is a directory"),
        (lambda path: os.mkfifo(path), "cannot read the SSH configuration PATH: it is a pipe or a device, not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot read the SSH configuration PATH: it is a pipe or a device, "
         "not a file"),
        (lambda path: path.symlink_to(path), "cannot read the SSH configuration PATH: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "the SSH configuration PATH is larger than 1 MiB"),
        (lambda path: path.write_bytes(b"\x7fELF\0\1"), "the SSH configuration PATH is not a text file: it holds a NUL"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_where_it_is_named(tmp_path: Path, make: object, told: str) -> None:
    path = tmp_path / "config"
    make(path)  # type: ignore[operator]

    problem = find_problem(path).problem

    assert (problem.location, problem.message) == (PLAYBOOK, told.replace("PATH", str(path)))


def test_an_included_pipe_is_told_at_the_include(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    problem = find_problem(write(tmp_path, f"Host other\n\n  Include {tmp_path}/pipe\n")).problem

    assert (problem.location.line, problem.location.column) == (3, 3)
    assert problem.message.endswith("it is a pipe or a device, not a file")


@pytest.mark.parametrize(("mode", "is_refused"), [(0o600, False), (0o644, False), (0o660, True), (0o602, True)])
def test_what_others_may_write_to_is_refused_as_by_ssh(tmp_path: Path, mode: int, is_refused: bool) -> None:
    included = write(tmp_path, "Port 1\n", "included")
    included.chmod(mode)
    path = write(tmp_path, f"Include {included}\n")
    if is_refused:
        assert str(find_problem(path)) == f"bad owner or permissions on {included}: ssh refuses such a file, too"
    else:
        assert look_up(path).port is not None


def test_the_file_that_a_playbook_names_may_be_anybody_s(tmp_path: Path) -> None:
    """A checkout is often writable for a group. ssh -F does not look either."""
    path = write(tmp_path, "Port 1\n")
    path.chmod(0o666)

    assert look_up(path).port is not None


def test_the_user_s_file_is_read_before_the_system_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = write(tmp_path, "User system\nPort 1\nIdentityFile /system\nInclude more\n", "ssh_config")
    write(tmp_path, "HostName more.example\n", "more")
    monkeypatch.setattr("runner.playbook.ssh_config.config.SYSTEM_FILE", str(system))
    folder = Path(os.environ["HOME"]) / ".ssh"

    def ask() -> HostSettings:
        return SshConfig(None, PLAYBOOK).look_up(Query("bank")).settings

    assert ask().username == Setting("system", Location(str(system), 1, 1))
    folder.mkdir()
    user = write(folder, "User me\nIdentityFile /mine\n")
    assert ask().username == Setting("me", Location(str(user), 1, 1))
    assert [one.value for one in ask().identity_files] == ["/mine", "/system"]
    assert (ask().port, ask().host) == (
        Setting("1", Location(str(system), 2, 1)),
        Setting("more.example", Location(f"{tmp_path}/more", 1, 1)),
    )
    user.chmod(0o622)
    with pytest.raises(InputProblem, match="bad owner or permissions"):
        ask()


def test_odd_texts_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"\xef\xbb\xbfHost bank\r\n  User caf\xe9\r\n\xff\xfe 1\r\nPort 2")

    settings = look_up(path)

    assert settings.username is not None and os.fsencode(settings.username.value) == b"caf\xe9"
    assert settings.port == Setting("2", Location(str(path), 4, 1))
    assert warnings_of(path) == ["3: the unknown keyword '\\udcff\\udcfe' is ignored"]


def test_a_misspelt_keyword_is_an_error_and_a_new_one_a_warning(tmp_path: Path) -> None:
    problem = find_problem(write(tmp_path, "Host other\n  HostNmae x\n")).problem
    assert (problem.message, problem.hint) == (
        "unknown keyword 'hostnmae'",
        "Did you mean 'hostname'? ssh refuses it, too.",
    )

    path = write(tmp_path, "Host bank\n  Quantum entangled\nHost other\n  Quantum entangled\n")
    assert warnings_of(path) == ["2: the unknown keyword 'quantum' is ignored"]


def test_a_pattern_that_could_take_for_ever_does_not(tmp_path: Path) -> None:
    pattern = "*a" * 300 + "b"
    path = write(tmp_path, f"Host {pattern}\n  Port 1\nMatch host {pattern}\n  Port 2\n")
    started = time.monotonic()

    assert look_up(path, "a" * 2000).port is None
    assert time.monotonic() - started < BUSY_SECONDS


# --- ProxyJump ---


@pytest.mark.parametrize(
    ("text", "hops"),
    [
        ("jump", [WrittenHop("jump", None, None)]),
        ("a,b", [WrittenHop("a", None, None), WrittenHop("b", None, None)]),
        ("joe@jump:2200 # why", [WrittenHop("jump", "joe", 2200)]),
        ("x@y@jump", [WrittenHop("jump", "x@y", None)]),
        ("[2001:db8::1]:22,[::1]", [WrittenHop("2001:db8::1", None, 22), WrittenHop("::1", None, None)]),
        ("ssh://a%20b@jump:99/", [WrittenHop("jump", "a b", 99)]),
        ("ssh://joe;x=y@jump", [WrittenHop("jump", "joe", None)]),
        ("jump:", [WrittenHop("jump", None, None)]),
    ],
)
def test_a_way_is_read(text: str, hops: list[WrittenHop]) -> None:
    assert parse_jump(Setting(text, PLAYBOOK)) == hops


@pytest.mark.parametrize(
    "text", ["a,", "a, b", "a b", "@a", "a:0", "a:65536", "a:x", "::1", "[::1", "", "ssh://", "ssh://a/b"]
)
def test_a_way_that_leads_nowhere_is_told(text: str) -> None:
    with pytest.raises(InputProblem, match="'ProxyJump' names no host") as caught:
        parse_jump(Setting(text, PLAYBOOK))
    assert caught.value.problem.location == PLAYBOOK
