"""`ssh_config` in a playbook: what it fills in, what it leaves alone, what it refuses, and where errors point."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid
from runner.plan import Endpoint, Hop, KnownHosts, PinnedKeys, SshAgent, SshKeyFile, UsernamePassword
from runner.playbook.build import check_play
from runner.problems import Problem
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import HOST_KEY, mode, play, step

CONFIG = """\
Host bank
  HostName sftp.bank.example
  Port 2022
  User acme
  IdentityFile /keys/acme
  CertificateFile /keys/acme-cert.pub
  HostKeyAlias Bank-Alias
  UserKnownHostsFile /known/one /known/two
"""


@pytest.fixture(autouse=True)
def _empty_system_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.playbook.ssh_config.config.SYSTEM_FILE", str(tmp_path / "etc/ssh_config"))


def open_step(config: str | None = "config", **lines: str) -> str:
    """A step that gives its host and its mode, and the inputs of `lines`."""
    given = {"host": "bank", "mode": mode(), **({"ssh_config": config} if config else {}), **lines}
    return "- " + "\n  ".join(f"{key}: {value}" for key, value in given.items()) + "\n"


def write_config(load: Loader, text: str, name: str = "config") -> Path:
    path = load.folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def endpoint_of(load: Loader, config: str, **lines: str) -> Endpoint:
    write_config(load, config)
    return load(open_step(**lines)).calls[0].endpoint


def find_problem(load: Loader, config: str, **lines: str) -> Problem:
    write_config(load, config)
    return load.find_problem(open_step(**lines))


class TestFillingIn:
    def test_everything_that_is_open_is_filled_in(self, load: Loader) -> None:
        assert endpoint_of(load, CONFIG) == Endpoint(
            host="sftp.bank.example",
            port=2022,
            authentication=SshKeyFile("acme", "/keys/acme", certificate_path="/keys/acme-cert.pub"),
            host_key_policy=KnownHosts(("/known/one", "/known/two")),
            host_key_alias="Bank-Alias",
        )

    def test_what_the_playbook_gives_is_left_alone(self, load: Loader) -> None:
        given = endpoint_of(
            load,
            CONFIG,
            port="22",
            authentication="{authentication_method: ssh_agent, username: other}",
            hostkey=f"{{hostkey_mode: known_host, known_host: {HOST_KEY}}}",
            host_key_alias="mine",
        )

        assert given == Endpoint(
            "sftp.bank.example", 22, SshAgent("other"), PinnedKeys((HOST_KEY,)), host_key_alias="mine"
        )

    @pytest.mark.parametrize("port", ["{port_mode: default_port}", "{port_mode: port_number, port_number: 22}", "22"])
    def test_a_port_is_given_in_any_form(self, load: Loader, port: str) -> None:
        assert endpoint_of(load, CONFIG, port=port).port == 22

    def test_only_the_user_may_be_open(self, load: Loader) -> None:
        login = "{authentication_method: username_password, password: correct-horse}"

        assert endpoint_of(load, CONFIG, authentication=login).authentication == UsernamePassword(
            "acme", "correct-horse"
        )

    def test_a_given_user_and_port_are_known_to_match_and_to_tokens(self, load: Loader) -> None:
        config = "Match user joe\n  HostName joe.example\nUserKnownHostsFile /known/%r-%p-%h-%n\n"
        found = endpoint_of(
            load, config, authentication="{authentication_method: ssh_agent, username: joe}", port="2022"
        )

        assert (found.host, found.host_key_policy) == ("joe.example", KnownHosts(("/known/joe-2022-joe.example-bank",)))

    def test_without_it_nothing_is_read(self, load: Loader) -> None:
        ssh = Path(os.environ["HOME"]) / ".ssh"
        ssh.mkdir()
        os.mkfifo(ssh / "config")
        login = "{authentication_method: ssh_agent, username: x}"

        for config in (None, "false"):
            endpoint = load(open_step(config, authentication=login)).calls[0].endpoint
            assert (endpoint.host, endpoint.port, endpoint.host_key_policy) == ("bank", 22, KnownHosts())

    def test_true_stands_for_the_user_s_file_and_then_the_system_s(self, load: Loader) -> None:
        ssh = Path(os.environ["HOME"]) / ".ssh"
        ssh.mkdir()
        (ssh / "config").write_text("User mine\nInclude more\n")
        (ssh / "more").write_text("IdentityFile ~/.ssh/%h\n")
        (load.folder / "etc").mkdir()
        (load.folder / "etc/ssh_config").write_text("User system\nPort 2022\n")
        for name in ("config", "more"):
            (ssh / name).chmod(0o600)

        endpoint = load(open_step("true")).calls[0].endpoint

        assert endpoint.authentication == SshKeyFile("mine", str(ssh / "bank"))
        assert endpoint.port == 2022

    def test_a_missing_file_of_the_user_is_fine(self, load: Loader) -> None:
        login = "{authentication_method: ssh_agent, username: x}"

        assert load(open_step("true", authentication=login)).calls[0].endpoint.host == "bank"

    @pytest.mark.parametrize("where", ["defaults", "connection", "step"])
    def test_it_may_stand_wherever_inputs_may(self, load: Loader, where: str) -> None:
        write_config(load, CONFIG)
        given = {place: ", ssh_config: config" if place == where else "" for place in ("defaults", "connection")}
        head = f"defaults: {{stall_timeout: 9{given['defaults']}}}\n"
        head += f"connections: {{c: {{host: bank{given['connection']}}}}}\n"
        text = open_step("config" if where == "step" else None, connection="c").replace("host: bank\n  ", "")

        assert load(play(head, text)).calls[0].endpoint.port == 2022

    def test_a_step_can_switch_it_off(self, load: Loader) -> None:
        write_config(load, CONFIG)
        login = "{authentication_method: ssh_agent, username: x}"

        text = play("defaults: {ssh_config: config}\n", open_step("false", authentication=login))

        assert load(text).calls[0].endpoint.port == 22

    def test_templates_are_filled_in_first_and_text_of_the_configuration_is_none(self, load: Loader) -> None:
        write_config(
            load, CONFIG + "Host tricky\n  HostName x.example\n  User \"{{ 7*7 }}\"\n  IdentityFile '/{{ k }}'\n"
        )
        head = "vars: {name: bank, file: config, on: 'true'}\n"

        (one, two) = load(
            play(
                head,
                open_step('"{{ file }}"', host='"{{ name }}"', name="to {{ host }}")
                + open_step('"{{ file }}"', host="tricky"),
            )
        ).calls

        assert (one.endpoint.host, one.name) == ("sftp.bank.example", "to bank")
        assert two.endpoint.authentication == SshKeyFile("{{ 7*7 }}", "/{{ k }}")

    def test_a_switch_may_come_from_a_template(self, load: Loader) -> None:
        login = "{authentication_method: ssh_agent, username: x}"
        text = play("vars: {on: 'false'}\n", open_step('"{{ on }}"', authentication=login))

        assert load(text).calls[0].endpoint.host == "bank"


class TestFiles:
    def test_the_file_is_relative_to_workdir_and_tilde_is_home(self, load: Loader) -> None:
        (load.folder / "data").mkdir()
        write_config(load, CONFIG, "data/config")
        home = Path(os.environ["HOME"])
        (home / "config").write_text(CONFIG)

        for config in ("config", "~/config"):
            assert load(play("workdir: data\n", open_step(config))).calls[0].endpoint.port == 2022

    def test_relative_names_in_it_are_relative_to_workdir(self, load: Loader) -> None:
        found = endpoint_of(load, "User x\nIdentityFile keys/a\nUserKnownHostsFile ci/known_hosts\n")

        assert found.authentication == SshKeyFile("x", f"{load.folder}/keys/a")
        assert found.host_key_policy == KnownHosts((f"{load.folder}/ci/known_hosts",))

    def test_the_first_key_and_certificate_that_exist_are_taken(self, load: Loader) -> None:
        for name in ("b", "c", "y"):
            (load.folder / name).touch()
        config = "User u\n" + "".join(f"IdentityFile {name}\n" for name in "nabc".replace("n", ""))
        config += "CertificateFile x\nCertificateFile y\n"

        assert endpoint_of(load, config).authentication == SshKeyFile(
            "u", f"{load.folder}/b", certificate_path=f"{load.folder}/y"
        )

    def test_a_known_hosts_file_that_is_missing_says_nothing(self, load: Loader, tmp_path: Path) -> None:
        (load.folder / "two").touch()
        config = f"User u\nIdentityFile k\nUserKnownHostsFile one two\nGlobalKnownHostsFile {tmp_path}/none\n"

        assert endpoint_of(load, config).host_key_policy == KnownHosts((f"{load.folder}/two",))

    def test_the_system_s_known_hosts_count_as_well(self, load: Loader) -> None:
        for name in ("one", "system"):
            (load.folder / name).touch()
        config = f"User u\nIdentityFile k\nUserKnownHostsFile one\nGlobalKnownHostsFile {load.folder}/system\n"

        assert endpoint_of(load, config).host_key_policy == KnownHosts((f"{load.folder}/one", f"{load.folder}/system"))

    def test_no_known_hosts_file_is_not_any(self, load: Loader) -> None:
        config = "User u\nIdentityFile k\nUserKnownHostsFile none\nGlobalKnownHostsFile none\n"

        assert endpoint_of(load, config).host_key_policy == KnownHosts((os.devnull,))

    def test_a_list_of_known_hosts_files_may_stand_in_a_playbook(self, load: Loader) -> None:
        given = "{hostkey_mode: known_hosts_file, known_hosts_file: [a, ~/b, /c]}"

        assert load(step(hostkey=given)).calls[0].endpoint.host_key_policy == KnownHosts(
            (f"{load.folder}/a", f"{os.environ['HOME']}/b", "/c")
        )
        problem = load.find_problem(step(hostkey="{hostkey_mode: known_hosts_file, known_hosts_file: []}"))
        assert tell(problem) == "3:63 'known_hosts_file' must not be empty"


class TestProblems:
    def test_a_missing_file_is_told_where_it_is_named(self, load: Loader) -> None:
        problem = load.find_problem(open_step("nope"))

        assert tell(problem) == f"3:15 there is no SSH configuration {load.folder}/nope"

    def test_no_key_is_told_with_the_files(self, load: Loader) -> None:
        problem = find_problem(load, "Host bank\n  User x\n")

        assert tell(problem) == "1:3 the step has no 'authentication'"
        assert problem.hint == (
            f"There is no IdentityFile for 'bank' in {load.folder}/config. "
            "Set one there, or 'authentication' in the playbook."
        )

    def test_no_user_is_told_where_the_key_stands(self, load: Loader) -> None:
        problem = find_problem(load, "Host bank\n  IdentityFile x\n")

        assert str(problem.location) == f"{load.folder}/config:2:3"
        assert (problem.message, problem.hint) == (
            "missing key 'username'",
            f"There is no User for 'bank' in {load.folder}/config. Set one there, or 'username' under 'authentication' in "
            "the playbook.",
        )

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("HostName a@b", "'a@b' is not a host name or IP address"),
            ("HostName -oProxyCommand=x", "'-oproxycommand=x' is not a host name or IP address"),
            ('HostKeyAlias "a b"', "'a b' is not a host's name"),
            ("Port 0", "'port' must be a number from 1 to 65535, not '0'"),
            (
                "User %x",
                "'User' cannot be filled in: %x means nothing here, only %% and %L, %d, %h, %i, %k, %l, %n, %p, %u do",
            ),
            (
                "IdentityFile ${NO_SUCH}",
                "'IdentityFile' cannot be filled in: the environment variable NO_SUCH is not set",
            ),
            ("IdentityFile %C", "'IdentityFile' cannot be filled in: %C means nothing here"),
            ('User "a', "a quote is not closed"),
            ("ProxyJump a b", "'ProxyJump' names no host: 'a b'"),
        ],
    )
    def test_a_wrong_value_is_told_with_the_configuration_s_line(self, load: Loader, line: str, told: str) -> None:
        problem = find_problem(load, f"Host bank\n  {line}\n  User u\n  IdentityFile k\n")

        assert str(problem.location) == f"{load.folder}/config:2:3"
        assert problem.message.startswith(told)

    def test_the_same_problem_of_many_steps_is_told_once_and_others_are_told_as_well(self, load: Loader) -> None:
        write_config(load, "Port 0\n")

        problems = load.find_problems(open_step() * 3 + open_step(connect_timeout="0"))

        assert [one.message for one in problems] == [
            "'port' must be a number from 1 to 65535, not '0'",
            "'connect_timeout' must be at least 1, not 0",
        ]

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("ProxyCommand nc %h %p", "'ProxyCommand' is not executed, and 'bank' is not reached without it"),
            ("RefuseConnection no!", "'RefuseConnection' forbids to connect to 'bank'"),
            ("RevokedHostKeys /x", "'RevokedHostKeys' is not read: a key of 'bank' that it revokes would be accepted"),
        ],
    )
    def test_what_would_lead_elsewhere_or_trust_more_is_refused(self, load: Loader, line: str, told: str) -> None:
        problem = find_problem(load, f"{CONFIG}  {line}\n")

        assert (problem.message, problem.location.line) == (told, 9)

    def test_what_applies_to_another_host_is_not_refused(self, load: Loader) -> None:
        assert endpoint_of(load, CONFIG + "Host other\n  ProxyCommand nc %h %p\n").port == 2022

    def test_revoked_keys_matter_only_where_the_configuration_decides_about_keys(self, load: Loader) -> None:
        pinned = f"{{hostkey_mode: known_host, known_host: {HOST_KEY}}}"

        assert endpoint_of(load, f"{CONFIG}  RevokedHostKeys /x\n", hostkey=pinned).port == 2022

    @pytest.mark.parametrize("config", ["5", "[a]", "''", "null"])
    def test_another_kind_of_value_is_the_schema_s_business(self, load: Loader, config: str) -> None:
        problem = load.find_problem(open_step(config))

        assert tell(problem).startswith("3:15 'ssh_config' must ")

    def test_without_it_everything_is_required_as_ever(self, load: Loader) -> None:
        login = "{authentication_method: ssh_agent}"
        told = "missing key 'username'"

        assert tell(load.find_problem(open_step(None))) == "1:3 the step has no 'authentication'"
        assert tell(load.find_problem(open_step(None, authentication=login))) == f"3:19 {told}"
        assert tell(load.find_problem(open_step("false", authentication=login))) == f"4:19 {told}"
        head = f"defaults: {{authentication: {login}}}\n"
        assert tell(load.find_problem(play(head, open_step(None)))) == f"1:28 {told}"

    def test_an_unused_connection_must_be_whole_where_nothing_could_fill_it_in(self, load: Loader) -> None:
        unused = "connections: {c: {authentication: {authentication_method: ssh_agent}}}\n"

        assert tell(load.find_problem(play(unused))) == "1:35 missing key 'username'"
        assert load(play(unused.replace("}}}", "}, ssh_config: true}}"))).calls

    def test_a_host_is_required(self, load: Loader) -> None:
        write_config(load, CONFIG)

        assert tell(load.find_problem(open_step().replace("host: bank\n  ", ""))) == "1:3 the step has no 'host'"


class TestWarnings:
    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("StrictHostKeyChecking no", "only known keys are accepted"),
            ("StrictHostKeyChecking accept-new", "only known keys are accepted"),
            ("VerifyHostKeyDNS yes", "keys are looked up in known_hosts files only"),
            ("KnownHostsCommand /bin/x %H", "nothing is executed"),
            ("NoHostAuthenticationForLocalhost yes", "every host's key is checked"),
            ("BindAddress 127.0.0.1", "the system chooses the address"),
            ("AddressFamily inet", "every address of the host is tried"),
            ("CanonicalizeHostname yes", "the name is taken as it is written"),
        ],
    )
    def test_what_has_no_effect_and_could_be_missed_is_warned_of(self, load: Loader, line: str, told: str) -> None:
        endpoint_of(load, f"{CONFIG}  {line}\n")

        assert [(one.location.line, one.message) for one in load.warnings] == [
            (9, f"'{line}' has no effect for 'bank': {told}")
        ]

    @pytest.mark.parametrize(
        "line",
        [
            *("StrictHostKeyChecking yes", "StrictHostKeyChecking ask", "AddressFamily any", "CanonicalizeHostname no"),
            *("IdentitiesOnly yes", "IdentityAgent /x", "ControlMaster auto", "Ciphers +3des-cbc", "ForwardAgent yes"),
            *("LocalCommand touch x", "PermitLocalCommand yes", "PKCS11Provider none", "ConnectTimeout 1"),
        ],
    )
    def test_what_makes_no_difference_is_not(self, load: Loader, line: str) -> None:
        endpoint_of(load, f"{CONFIG}  {line}\n")

        assert load.warnings == []

    def test_trust_that_the_playbook_settles_needs_no_warning(self, load: Loader) -> None:
        pinned = f"{{hostkey_mode: known_host, known_host: {HOST_KEY}}}"
        endpoint_of(load, f"{CONFIG}  StrictHostKeyChecking no\n", hostkey=pinned)

        assert load.warnings == []

    def test_an_agent_of_its_own_is_warned_of_where_an_agent_logs_in(self, load: Loader) -> None:
        endpoint_of(load, f"{CONFIG}  IdentityAgent /run/agent\n", authentication="{authentication_method: ssh_agent}")

        assert [one.message for one in load.warnings] == [
            "'IdentityAgent /run/agent' has no effect for 'bank': the agent is the one that SSH_AUTH_SOCK names"
        ]

    def test_each_is_told_once_and_also_when_the_playbook_is_wrong(self, load: Loader) -> None:
        write_config(load, "IdentityFile k\nMatch exec true\n  User x\n")

        problem = load.find_problem(open_step() * 2)

        assert problem.message == "missing key 'username'"
        assert len(load.warnings) == 1


class TestTheWay:
    CONFIG = """\
Host bank
  HostName sftp.bank.example
  ProxyJump one,joe@two:2222
Host one
  Port 2201
  ProxyJump zero
Host two
  HostName two.example
  User nobody
  ProxyJump nowhere
Host *
  User u
  IdentityFile /keys/%h-%r
  UserKnownHostsFile /known/%h
"""

    def route(self, load: Loader, config: str, **lines: str) -> list[str]:
        return [f"{hop.endpoint.authentication.username}@{hop}" for hop in self.hops(load, config, **lines)]

    def hops(self, load: Loader, config: str, **lines: str) -> tuple[Hop, ...]:
        return endpoint_of(load, config, **lines).proxy_jump

    def test_jump_hosts_are_looked_up_in_the_same_configuration(self, load: Loader) -> None:
        hops = self.hops(load, self.CONFIG, connect_timeout="7")

        assert [str(hop) for hop in hops] == ["zero, zero:22", "one, one:2201", "two, two.example:2222"]
        assert hops[2].endpoint == Endpoint(
            "two.example", 2222, SshKeyFile("joe", "/keys/two.example-joe"), KnownHosts(("/known/two.example",))
        )
        assert {hop.connect_timeout_seconds for hop in hops} == {7}

    @pytest.mark.parametrize(
        "given", ["[]", "[{host: x.example, authentication: {authentication_method: ssh_agent, username: y}}]"]
    )
    def test_the_playbook_s_own_way_wins_also_over_a_command(self, load: Loader, given: str) -> None:
        expected = [] if given == "[]" else ["y@x.example:22"]

        assert self.route(load, self.CONFIG, proxy_jump=given) == expected
        assert self.route(load, "User u\nIdentityFile k\nProxyCommand nc\n", proxy_jump=given) == expected

    def test_a_jump_host_of_the_playbook_may_be_filled_in(self, load: Loader) -> None:
        assert self.route(load, self.CONFIG, proxy_jump="[{host: two, ssh_config: config}]") == [
            *("u@nowhere, nowhere:22", "nobody@two.example:22"),
        ]
        inline = "[{host: zero, ssh_config: config}, {host: two, ssh_config: config}]"
        assert self.route(load, self.CONFIG, proxy_jump=inline) == ["u@zero:22", "nobody@two.example:22"]

    def test_a_connection_that_is_named_may_be_filled_in(self, load: Loader) -> None:
        write_config(load, self.CONFIG)
        head = "defaults: {ssh_config: config}\nconnections: {t: {host: two}, alone: {host: two, proxy_jump: []}}\n"

        def route(name: str) -> list[str]:
            text = play(head, open_step(None, proxy_jump=name))
            return [str(hop) for hop in load(text).calls[0].endpoint.proxy_jump]

        assert route("t") == ["nowhere, nowhere:22", "t, two.example:22"]
        assert route("alone") == ["alone, two.example:22"]

    def test_a_jump_host_without_ssh_config_is_not_looked_up(self, load: Loader) -> None:
        inline = "[{host: two, authentication: {authentication_method: ssh_agent, username: y}}]"

        assert self.route(load, self.CONFIG, proxy_jump=inline) == ["y@two:22"]

    def test_a_circle_is_told(self, load: Loader) -> None:
        problem = find_problem(load, "Host *\n  User u\n  IdentityFile k\n  ProxyJump one\n")

        assert str(problem.location) == f"{load.folder}/config:4:3"
        assert problem.message == "'ProxyJump' leads in a circle: one → one"

    def test_too_long_a_way_is_told(self, load: Loader) -> None:
        many = ",".join(f"h{index}" for index in range(9))

        problem = find_problem(load, f"User u\nIdentityFile k\nHost bank\n  ProxyJump {many}\n")

        assert problem.message == "'ProxyJump' leads through more than 8 jump hosts"

    def test_too_long_a_way_is_told_also_where_it_begins_in_the_playbook(self, load: Loader) -> None:
        many = ",".join(f"h{index}" for index in range(8))
        config = f"User u\nIdentityFile k\nHost gate\n  ProxyJump {many}\nHost bank\n"

        problem = find_problem(load, config, proxy_jump="[{host: gate, ssh_config: config}]")

        assert tell(problem) == "4:16 the way leads through 9 jump hosts, and 8 are the most"

    def test_a_jump_host_without_a_login_is_told(self, load: Loader) -> None:
        problem = find_problem(load, "Host bank\n  User u\n  IdentityFile k\n  ProxyJump one\n")

        assert problem.location.line == 4
        assert problem.message == f"the jump host 'one' has no IdentityFile in {load.folder}/config"

    def test_a_jump_host_behind_a_command_is_told(self, load: Loader) -> None:
        problem = find_problem(load, self.CONFIG + "Host zero\n  ProxyCommand nc\n")

        assert problem.message == "'ProxyCommand' is not executed, and 'zero' is not reached without it"

    def test_a_jump_host_of_the_playbook_that_lacks_a_login_is_told_with_the_file(self, load: Loader) -> None:
        problem = find_problem(
            load,
            "Host other\n",
            proxy_jump="[{host: x, ssh_config: config}]",
            authentication="{authentication_method: ssh_agent, username: x}",
        )

        assert problem.message == "the jump host has no 'authentication'"
        assert problem.hint.startswith(f"There is no IdentityFile for 'x' in {load.folder}/config.")

    def test_without_it_a_jump_host_must_say_as_whom(self, load: Loader) -> None:
        inline = "[{host: x, authentication: {authentication_method: ssh_agent}}]"

        assert tell(load.find_problem(step(proxy_jump=inline))) == "5:42 missing key 'username'"


class TestChecking:
    def check(self, load: Loader, text: str) -> int:
        path = load.folder / "play.yaml"
        path.write_text(text)
        return check_play(str(path), warn=load.warnings.append)

    def test_it_is_checked_without_running_a_command(self, load: Loader) -> None:
        write_config(load, CONFIG + "Match exec true\n")

        assert self.check(load, open_step()) == 1
        assert len(load.warnings) == 1

    def test_what_depends_on_a_command_s_output_is_taken_on_trust(self, load: Loader) -> None:
        run = "\"{{ lookup('pipe', 'touch ran; echo config') }}\""

        assert self.check(load, open_step(run)) == 1
        assert self.check(load, open_step("nope", host=run)) == 1
        with pytest.raises(PlaybookInvalid):
            self.check(load, open_step("nope", host=run, port="0"))
        assert not (load.folder / "ran").exists()
