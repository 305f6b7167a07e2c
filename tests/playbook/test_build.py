"""A valid playbook becomes a `Play`: what is merged, what is relative to what, and what stays secret."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runner.plan import (
    CopyFileFromEngine,
    CopyFileToEngine,
    Endpoint,
    Fingerprints,
    KnownHosts,
    PinnedKeys,
    SshAgent,
    SshKey,
    SshKeyFile,
    UsernamePassword,
)
from runner.problems import Location
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import FINGERPRINT, HOST_KEY, OTHER_HOST_KEY, STEP, mode, play, step


def endpoint_of(load: Loader, **lines: str) -> Endpoint:
    return load(step(**lines)).calls[0].endpoint


class TestMerging:
    HEAD = """\
defaults:
  connect_timeout: 1
  stall_timeout: 11
  keepalive_interval: 21
  port: {port_mode: port_number, port_number: 1001}
connections:
  bank:
    stall_timeout: 12
    keepalive_interval: 22
    port: {port_mode: default_port}
"""

    def test_the_step_wins_over_the_connection_and_the_connection_over_the_defaults(self, load: Loader) -> None:
        merged = load(play(self.HEAD, step(connection="bank", keepalive_interval="23"))).calls[0]

        assert merged.connect_timeout_seconds == 1
        assert merged.stall_timeout_seconds == 12
        assert merged.endpoint.keepalive_interval_seconds == 23

    def test_a_value_replaces_a_value_whole(self, load: Loader) -> None:
        assert load(play(self.HEAD, step(connection="bank"))).calls[0].endpoint.port == 22
        assert load(play(self.HEAD)).calls[0].endpoint.port == 1001

    def test_every_input_may_come_from_anywhere(self, load: Loader) -> None:
        inputs = [line[2:] for line in STEP.splitlines()]
        head = f"defaults:\n  {inputs[1]}\n  {inputs[3]}\nconnections:\n  bank:\n    {inputs[0]}\n    {inputs[2]}\n"

        merged = load(f"{head}steps:\n- connection: bank\n").calls[0]

        inline = load(STEP).calls[0]
        place = Location(inline.location.file, 9, 3)
        assert merged == replace(inline, host_label="bank", location=place)

    def test_a_merged_value_is_blamed_where_it_is_written(self, load: Loader) -> None:
        head = "connections:\n  bank:\n    hostkey: {hostkey_mode: fingerprint, fingerprint: x}\n"
        without_key = STEP.replace(STEP.splitlines(keepends=True)[2], "")

        problem = load.find_problem(play(head, without_key + "  connection: bank\n"))

        assert tell(problem) == "3:55 'x' is not a SHA256 fingerprint"

    def test_a_value_taken_over_by_an_alias_is_blamed_where_it_is_written(self, load: Loader) -> None:
        text = "vars:\n  base: &base\n    port: 0\nsteps:\n" + STEP + "  <<: *base\n"

        assert tell(load.find_problem(text)) == "3:11 'port' must be at least 1, not 0"

    def test_what_nothing_says_is_the_default(self, load: Loader) -> None:
        made = load(STEP).calls[0]

        assert (made.connector_type, made.connect_timeout_seconds, made.stall_timeout_seconds) == ("SFTP", 30, 60)
        assert (made.endpoint.port, made.endpoint.keepalive_interval_seconds) == (22, 15)
        assert made.mode == CopyFileFromEngine(
            source=str(load.folder / "out/a.xml"),
            destination="/inbox/a.xml",
            compare="size_mtime",
            if_exists="replace",
            permissions=None,
            preserve=frozenset({"permissions", "times"}),
            verify="auto",
            atomic=True,
            create_parents=True,
        )


class TestNames:
    def test_a_step_without_a_name_is_called_after_its_mode(self, load: Loader) -> None:
        assert load(STEP).calls[0].name == f"copy_file_from_engine {load.folder}/out/a.xml"

    def test_names_are_templates(self, load: Loader) -> None:
        loaded = load(play("name: Play {{ day }}\nvars: {day: 1}\n", step(name="Step {{ day }} to {{ host }}")))

        assert (loaded.name, loaded.calls[0].name) == ("Play 1", "Step 1 to sftp.bank.example")

    def test_a_play_without_a_name_is_called_after_its_file(self, load: Loader) -> None:
        assert load(STEP).name == "play.yaml"

    def test_steps_are_numbered_and_know_their_lines(self, load: Loader) -> None:
        steps = load(STEP * 3).calls

        assert [one.index for one in steps] == [1, 2, 3]
        assert [one.location.line for one in steps] == [1, 5, 9]

    def test_a_step_is_labelled_with_its_connection_or_its_address(self, load: Loader) -> None:
        loaded = load(play("connections: {bank: {}}\n", step(connection="bank") + step(port="2022")))

        assert [one.host_label for one in loaded.calls] == ["bank", "sftp.bank.example:2022"]

    def test_the_connection_s_name_is_known_to_templates(self, load: Loader) -> None:
        named = step(connection="bank", name="'{{ connection_name }}'")

        assert load(play("connections: {bank: {}}\n", named)).calls[0].name == "bank"


class TestOwner:
    @pytest.mark.parametrize(
        ("head", "owner"),
        [
            ("", None),
            ("owner: nightly\n", "nightly"),
            ("vars: {job: 7}\nowner: 'job {{ job }}'\n", "job 7"),
        ],
    )
    def test_it_is_that_of_every_step(self, load: Loader, head: str, owner: str | None) -> None:
        loaded = load(play(head, step(mode=mode()) + step(mode=mode())))

        assert {one.owner for one in loaded.calls} == {owner}

    @pytest.mark.parametrize("value", ["''", "7", f"'{'x' * 201}'", "'{{ 1 + 1 }}'", "'{{ nothing }}'", "[a]"])
    def test_what_is_none_is_one_problem_of_the_playbook(self, load: Loader, value: str) -> None:
        problem = load.find_problem(play(f"owner: {value}\n", step(mode=mode())))

        assert problem.location.line == 1
        assert "owner" in problem.message or "nothing" in problem.message


class TestPaths:
    @pytest.mark.parametrize(
        ("head", "source", "path"),
        [
            ("", "a", "FOLDER/a"),
            ("", "/abs/a", "/abs/a"),
            ("", "~/a", "HOME/a"),
            ("", "./a", "FOLDER/./a"),
            ("workdir: data\n", "a", "FOLDER/data/a"),
            ("workdir: data\n", "~/a", "HOME/a"),
            ("workdir: ~/data\n", "a", "HOME/data/a"),
            ("workdir: /srv\n", "a", "/srv/a"),
            ("workdir: '{{ playbook_dir }}/x'\n", "a", "FOLDER/x/a"),
            ("vars: {d: data}\nworkdir: '{{ d }}'\n", "a", "FOLDER/data/a"),
            ("", '"{{ playbook_dir }}/a"', "FOLDER/a"),
            ("", "'~a'", "FOLDER/~a"),
        ],
    )
    def test_local_paths_are_relative_to_workdir_and_that_to_the_playbook(
        self, load: Loader, head: str, source: str, path: str
    ) -> None:
        text = play(head, step(mode=mode().replace("source_file_name: a", f"source_file_name: {source}")))

        expected = path.replace("FOLDER", str(load.folder)).replace("HOME", os.environ["HOME"])
        assert load(text).calls[0].mode.places[0].path == expected

    def test_the_option_replaces_workdir_and_is_relative_to_the_current_folder(
        self, load: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path.parent)

        loaded = load(play("workdir: data\n", step(mode=mode())), workdir="other")

        assert loaded.calls[0].mode.places[0].path == str(tmp_path.parent / "other/a")

    def test_remote_paths_are_left_to_the_server(self, load: Loader) -> None:
        remote = mode().replace("_name: b", "_name: ./in box/~/é '\"\\x")
        download = "{mode_name: copy_file_to_engine, source_file_name: r/../~r, destination_file_name: ~/l}"

        assert load(step(mode=remote)).calls[0].mode.places[1].path == "./in box/~/é '\"\\x"
        assert load(step(mode=download)).calls[0].mode == CopyFileToEngine("r/../~r", f"{os.environ['HOME']}/l")

    @pytest.mark.parametrize("name", ["~", "~/in/a"])
    def test_a_tilde_in_a_remote_path_is_refused_since_servers_do_not_expand_it(self, load: Loader, name: str) -> None:
        upload = mode().replace("_name: b", f"_name: '{name}'")
        download = f"{{mode_name: copy_file_to_engine, source_file_name: '{name}', destination_file_name: b}}"

        for problem in (load.find_problem(step(mode=upload)), load.find_problem(step(mode=download))):
            assert problem.message == f"'~' is not expanded in a remote path: '{name}'"
            assert f"'./{name}'" in problem.hint

    def test_a_name_that_is_not_utf_8_is_carried(self, load: Loader) -> None:
        named = mode().replace("_name: b", '_name: "caf\\udce9"')

        assert os.fsencode(load(step(mode=named)).calls[0].mode.places[1].path) == b"caf\xe9"


class TestAuthentication:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("username_password, username: u, password: pass-1", UsernamePassword("u", "pass-1")),
            ("ssh_key, username: u, ssh_key: KEY-TEXT", SshKey("u", "KEY-TEXT")),
            (
                "ssh_key, username: u, ssh_key: KEY-TEXT, passphrase: pass-1, password: pass-2",
                SshKey("u", "KEY-TEXT", "pass-1", "pass-2"),
            ),
            ("ssh_key_file, username: u, ssh_key_file: /k", SshKeyFile("u", "/k")),
            (
                "ssh_key_file, username: u, ssh_key_file: /k, certificate_file: /c, passphrase: pass-1, password: pass-2",
                SshKeyFile("u", "/k", "pass-1", "/c", "pass-2"),
            ),
            ("ssh_agent, username: u", SshAgent("u")),
            (f"ssh_agent, username: u, public_key: {HOST_KEY}", SshAgent("u", HOST_KEY)),
        ],
    )
    def test_every_variant_is_read(self, load: Loader, written: str, meant: object) -> None:
        assert endpoint_of(load, authentication=f"{{authentication_method: {written}}}").authentication == meant

    def test_key_files_are_local_paths(self, load: Loader) -> None:
        written = "{authentication_method: ssh_key_file, username: u, ssh_key_file: k, certificate_file: ~/c}"

        read = endpoint_of(load, authentication=written).authentication

        assert read == SshKeyFile("u", str(load.folder / "k"), None, f"{os.environ['HOME']}/c")


class TestHostKeys:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            (f"known_host, known_host: {HOST_KEY}", PinnedKeys((HOST_KEY,))),
            (f"known_host, known_host: {HOST_KEY} a comment", PinnedKeys((f"{HOST_KEY} a comment",))),
            (f"known_host, known_host: '[h]:22 {HOST_KEY}'", PinnedKeys((f"[h]:22 {HOST_KEY}",))),
            (f"known_host, known_host: [{HOST_KEY}, {OTHER_HOST_KEY}]", PinnedKeys((HOST_KEY, OTHER_HOST_KEY))),
            (
                f"known_host, known_host: '@cert-authority *.example {HOST_KEY}'",
                PinnedKeys((f"@cert-authority *.example {HOST_KEY}",)),
            ),
            (
                f'known_host, known_host: "# old\\r\\n{HOST_KEY}\\r\\n\\n# new\\n{OTHER_HOST_KEY}\\n"',
                PinnedKeys((HOST_KEY, OTHER_HOST_KEY)),
            ),
            (f"fingerprint, fingerprint: '{FINGERPRINT}'", Fingerprints((FINGERPRINT,))),
            (f'fingerprint, fingerprint: ["{FINGERPRINT}", " {FINGERPRINT} "]', Fingerprints((FINGERPRINT,) * 2)),
            ("known_hosts_file", KnownHosts()),
            ("known_hosts_file, known_hosts_file: /k", KnownHosts(("/k",))),
        ],
    )
    def test_every_variant_is_read(self, load: Loader, written: str, meant: object) -> None:
        assert endpoint_of(load, hostkey=f"{{hostkey_mode: {written}}}").host_key_policy == meant

    def test_an_alias_is_read_from_wherever_inputs_stand(self, load: Loader) -> None:
        assert endpoint_of(load).host_key_alias is None
        assert endpoint_of(load, host_key_alias="bank").host_key_alias == "bank"
        assert endpoint_of(load, host_key_alias='"{{ host }}.internal"').host_key_alias == "sftp.bank.example.internal"
        head = "defaults:\n  host_key_alias: a\nconnections:\n  bank:\n    host_key_alias: b\n"
        assert load(play(head)).calls[0].endpoint.host_key_alias == "a"
        assert load(play(head, step(connection="bank"))).calls[0].endpoint.host_key_alias == "b"

    @pytest.mark.parametrize("alias", ["a b", "a,b", '"a\\tb"', '"a\\e[1m"', '" "'])
    def test_an_alias_is_one_name(self, load: Loader, alias: str) -> None:
        problem = load.find_problem(step(host_key_alias=alias))

        assert "is not a host's name" in problem.message
        assert tell(problem).startswith("5:19 ")

    def test_without_hostkey_the_known_hosts_files_decide(self, load: Loader) -> None:
        text = STEP.replace(STEP.splitlines(keepends=True)[2], "")

        assert load(text).calls[0].endpoint.host_key_policy == KnownHosts()

    def test_a_known_hosts_file_is_a_local_path(self, load: Loader) -> None:
        written = "{hostkey_mode: known_hosts_file, known_hosts_file: ci/known_hosts}"

        assert endpoint_of(load, hostkey=written).host_key_policy == KnownHosts((str(load.folder / "ci/known_hosts"),))

    @pytest.mark.parametrize("switch", ["none", "insecure", "ignore", "auto_add", "off"])
    def test_nothing_turns_the_check_off(self, load: Loader, switch: str) -> None:
        assert "'hostkey_mode' must be" in load.find_problem(step(hostkey=f"{{hostkey_mode: '{switch}'}}")).message
        assert load.find_problem(step(strict_host_key_checking="false")).message.startswith("unknown key")


class TestPorts:
    @pytest.mark.parametrize(
        ("written", "port"),
        [
            ("2022", 2022),
            ("2022.0", 2022),
            ("{port_mode: port_number, port_number: 2022}", 2022),
            ("{port_mode: default_port}", 22),
            ('"{{ 2000 + 22 }}"', 2022),
        ],
    )
    def test_every_variant_is_read(self, load: Loader, written: str, port: int) -> None:
        read = endpoint_of(load, port=written).port

        assert (read, type(read)) == (port, int)

    @pytest.mark.parametrize(
        "host", ["h", "h.example.", "192.0.2.1", "2001:db8::1", "[2001:db8::1]", "::1", "fe80::1%eth0"]
    )
    def test_a_host_is_a_name_or_an_address(self, load: Loader, host: str) -> None:
        assert endpoint_of(load, host=f"'{host}'").host == host.strip("[]")


class TestKeywords:
    @pytest.mark.parametrize(
        ("written", "seconds"),
        [("90", 90), ("0.5", 0.5), ("'{{ 60 * 2 }}'", 120), ("'{{ slow }}'", 2.5), ("604800", 604800)],
    )
    def test_a_timeout_is_a_number_of_seconds(self, load: Loader, written: str, seconds: float) -> None:
        loaded = load(play("vars: {slow: '2.5'}\n", step(timeout=written)), extra_vars={"slow": "2.5"})

        assert loaded.calls[0].timeout_seconds == seconds

    def test_without_timeout_there_is_none(self, load: Loader) -> None:
        assert load(STEP).calls[0].timeout_seconds is None

    @pytest.mark.parametrize(
        ("written", "rate"),
        [
            ("10M", 10 * 1024**2),
            ("10m", 10 * 1024**2),
            ("1K", 1024),
            ("1.5M", 1536 * 1024),
            ("0.25g", 256 * 1024**2),
            ("1024G", 1024**4),
            ("500000", 500_000),
            ("'500000'", 500_000),
            ("5e5", 500_000),
            ("'{{ 3 * 1024 }}'", 3072),
            ("'{{ 2 }}M'", 2 * 1024**2),
            ("'{{ \"5M\\n\" }}'", 5 * 1024**2),
        ],
    )
    def test_a_bandwidth_limit_is_a_number_of_bytes_per_second(self, load: Loader, written: str, rate: int) -> None:
        assert endpoint_of(load, bandwidth_limit=written).bandwidth_limit_bytes_per_second == rate

    def test_a_bandwidth_limit_may_come_from_anywhere_and_makes_another_endpoint(self, load: Loader) -> None:
        head = "defaults: {bandwidth_limit: 1M}\nconnections: {bank: {bandwidth_limit: 2M}}\n"
        steps = load(play(head, STEP + step(connection="bank") + step(connection="bank", bandwidth_limit="1M"))).calls

        assert [one.endpoint.bandwidth_limit_bytes_per_second for one in steps] == [2**20, 2**21, 2**20]
        assert steps[0].endpoint == steps[2].endpoint != steps[1].endpoint
        assert load(STEP).calls[0].endpoint.bandwidth_limit_bytes_per_second is None

    @pytest.mark.parametrize(
        ("key", "written", "message"),
        [
            ("bandwidth_limit", "0", "must be at least 1024, not 0"),
            ("bandwidth_limit", "1023", "must be at least 1024, not 1023"),
            ("bandwidth_limit", "0.5K", "must be from 1K to 1024G bytes per second, not '0.5K'"),
            ("bandwidth_limit", "2000G", "must be from 1K to 1024G bytes per second, not '2000G'"),
            ("bandwidth_limit", "10MB", "must be a rate such as 10M or 1.5M, not '10MB'"),
            ("bandwidth_limit", "-1M", "must be a rate such as 10M or 1.5M, not '-1M'"),
            ("bandwidth_limit", "M", "must be a rate such as 10M or 1.5M, not 'M'"),
            ("bandwidth_limit", "fast", "must be a rate such as 10M or 1.5M, not 'fast'"),
            ("bandwidth_limit", "'{{ \"10 M\" }}'", "must be a rate such as 10M or 1.5M, not '10 M'"),
            ("bandwidth_limit", "1.5", "must be an integer or a string, not a number"),
            ("bandwidth_limit", "true", "must be an integer or a string, not a boolean"),
            ("timeout", "0", "must be more than 0, not 0"),
            ("timeout", "-1", "must be more than 0, not -1"),
            ("timeout", "604801", "must be at most 604800, not 604801"),
            ("timeout", "soon", "must be a number, not a string"),
            ("timeout", "true", "must be a number, not a boolean"),
            ("timeout", ".nan", "must be a number of seconds above 0 and at most 604,800, not NaN"),
            ("timeout", "'{{ 0 }}'", "must be a number of seconds above 0 and at most 604,800, not 0"),
            ("timeout", "'{{ 700000 }}'", "must be a number of seconds above 0 and at most 604,800, not 700000"),
            ("retries", "'{{ 1.5 }}'", "must be a whole number from 0 to 1,000, not 1.5"),
            ("retries", "'{{ 10**400 }}'", "must be a whole number from 0 to 1,000, not 1000"),
            ("delay", "'{{ 100000 }}'", "must be a number of seconds from 0 to 86,400, not 100000"),
        ],
    )
    def test_nonsense_is_told_once(self, load: Loader, key: str, written: str, message: str) -> None:
        assert tell(load.find_problem(step(**{key: written}))).startswith(f"5:{len(key) + 5} '{key}' {message}")


class TestSecrets:
    TEXT = step(
        authentication=(
            "{authentication_method: ssh_key, username: acme,"
            ' ssh_key: "-----BEGIN X-----\\nTOPSECRETKEYTEXT0123\\n-----END X-----",'
            " passphrase: topsecret-passphrase, password: \"{{ lookup('env', 'SECRET') }}\"}"
        )
    )

    def test_every_secret_is_known_to_the_redactor(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "topsecret-password")

        secrets = load(self.TEXT).secrets

        key_text = "-----BEGIN X-----\nTOPSECRETKEYTEXT0123\n-----END X-----"
        assert secrets == frozenset({key_text, "topsecret-passphrase", "topsecret-password"})

    def test_no_secret_shows_in_the_play_s_text(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "topsecret-password")

        text = repr(load(self.TEXT)) + str(load(self.TEXT))

        assert "topsecret" not in text.lower()
        assert "acme" in text

    def test_no_secret_shows_in_a_problem(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "topsecret-password")
        leaks = """\
- name: "{{ nope[lookup('env', 'SECRET')] }}"
  host: "{{ lookup('env', 'SECRET') }} x"
  connection: topsecret-password
  mode: {mode_name: "{{ lookup('env', 'SECRET') }}"}
- host: "{{ {}[lookup('env', 'SECRET')] }}"
- host: "{{ lookup('file', lookup('env', 'SECRET')) }}"
- mode: {mode_name: topsecret-passphrase}
"""

        problems = load.find_problems(self.TEXT + leaks)

        assert len(problems) > 5
        assert "topsecret" not in repr(problems).lower()
        assert "********" in repr(problems)

    def test_a_secret_of_the_wrong_type_is_not_shown(self, load: Loader) -> None:
        written = "{authentication_method: username_password, username: u, password: [31337]}"

        problem = load.find_problem(step(authentication=written))

        assert tell(problem) == "2:85 'password' must be a string, not a list"
        assert "31337" not in repr(problem)


class TestOnePass:
    """What is wrong with one value as YAML hides nothing else, and nothing is made up for it."""

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ({"port": "1" * 50}, "a number of 50 digits"),
            ({"connect_timeout": "1" * 50}, "a number of 50 digits"),
            ({"host": "!vault x"}, "not an encrypted text"),
            ({"connection": "!vault x"}, "not an encrypted text"),
            ({"authentication": "!vault x"}, "not an encrypted text"),
            (
                {"authentication": "{authentication_method: username_password, username: u, password: !vault x}"},
                "not an encrypted text",
            ),
            ({"mode": "!vault x"}, "not an encrypted text"),
            ({"name": "!vault x"}, "not an encrypted text"),
            ({"retries": "!vault x"}, "not an encrypted text"),
            ({"proxy_jump": "[!vault x]"}, "not an encrypted text"),
            ({"vars": "{pw: !vault x}", "name": "'{{ pw }}'"}, "not an encrypted text"),
            ({"vars": "!vault x", "name": "'{{ pw }}'"}, "not an encrypted text"),
            ({"transfers": "4\n  transfers: 5"}, "duplicate key 'transfers'"),
        ],
    )
    def test_a_value_that_cannot_be_read(self, load: Loader, line: dict[str, str], told: str) -> None:
        problems = load.find_problems(step(**line) + step(delay="-1"))

        assert len(problems) == 2, problems
        assert problems[0].message.startswith(told)
        assert problems[1].message.startswith("'delay' must be")

    def test_what_ends_the_parse_is_alone(self, load: Loader) -> None:
        assert len(load.find_problems(step(port="[1") + step(delay="-1"))) == 1
