"""`proxy_jump`: which jump hosts a step gets, in which order, with which inputs, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import PlaybookInvalid
from runner.plan import Endpoint, Fingerprints, Hop, SshAgent, UsernamePassword
from runner.playbook.build import check_play, load_play
from runner.playbook.jump_hosts import MAX_HOPS
from runner.playbook.vault_password import Vault
from runner.redaction import Redactor
from runner.resources import schema_text
from tests.playbook.conftest import Loader, tell
from tests.playbook.examples import FINGERPRINT, play, step

LOGIN = "{authentication_method: ssh_agent, username: jumper}"


def connections(**lines: str) -> str:
    """Connections to `NAME.example`, each with more inputs as YAML text; they begin on line 2."""
    rows = [f"  {name}: {{host: {name}.example, authentication: {LOGIN}{more}}}\n" for name, more in lines.items()]
    return "connections:\n" + "".join(rows)


def hops_of(load: Loader, head: str, **lines: str) -> tuple[Hop, ...]:
    return load(play(head, step(**lines))).calls[0].endpoint.proxy_jump


def route(load: Loader, head: str, **lines: str) -> list[str]:
    return [hop.endpoint.host.removesuffix(".example") for hop in hops_of(load, head, **lines)]


class TestTheWay:
    def test_hops_are_connections_in_the_order_of_travel(self, load: Loader) -> None:
        hops = hops_of(load, connections(a=", port: 2022, connect_timeout: 5", b=""), proxy_jump="[a, b]")

        assert [(hop.name, str(hop.endpoint), hop.connect_timeout_seconds) for hop in hops] == [
            ("a", "a.example:2022", 5),
            ("b", "b.example:22", 30),
        ]
        assert hops[0].endpoint.authentication == SshAgent("jumper")

    def test_one_alone_needs_no_list(self, load: Loader) -> None:
        assert route(load, connections(a=""), proxy_jump="a") == ["a"]
        inline = f"{{host: b.example, authentication: {LOGIN}}}"
        assert route(load, "", proxy_jump=inline) == ["b"]

    def test_an_inline_hop_has_its_inputs(self, load: Loader) -> None:
        inline = (
            f"{{host: b.example, port: 2022, authentication: {LOGIN}, host_key_alias: c, connect_timeout: 7, "
            f"keepalive_interval: 9, hostkey: {{hostkey_mode: fingerprint, fingerprint: '{FINGERPRINT}'}}}}"
        )

        assert hops_of(load, "", proxy_jump=f"[{inline}]") == (
            Hop(
                Endpoint("b.example", 2022, SshAgent("jumper"), Fingerprints((FINGERPRINT,)), 9, "c"),
                connect_timeout_seconds=7,
            ),
        )

    @pytest.mark.parametrize("where", ["defaults", "connection", "step"])
    def test_it_may_stand_wherever_inputs_may(self, load: Loader, where: str) -> None:
        head = "defaults: {proxy_jump: [a]}\n" if where == "defaults" else ""
        head += connections(a="", target=", proxy_jump: [a]" if where == "connection" else "")
        lines = {"proxy_jump": "[a]"} if where == "step" else {}

        assert route(load, head, connection="target", **lines) == ["a"]

    def test_a_later_place_replaces_the_list_whole_and_an_empty_one_means_none(self, load: Loader) -> None:
        head = "defaults: {proxy_jump: [a]}\n" + connections(a="", b="", target=", proxy_jump: [b]")

        assert route(load, head, connection="target") == ["b"]
        assert route(load, head, connection="target", proxy_jump="[]") == []

    def test_what_the_first_hop_needs_itself_comes_before_it(self, load: Loader) -> None:
        head = connections(a="", b=", proxy_jump: [a]", c=", proxy_jump: b")

        assert route(load, head, proxy_jump="[c]") == ["a", "b", "c"]

    def test_a_later_hop_is_reached_from_the_one_before_it(self, load: Loader) -> None:
        head = connections(a="", b=", proxy_jump: [a]")

        assert route(load, head, proxy_jump="[a, b]") == ["a", "b"]

    def test_hops_take_the_defaults_but_not_their_way(self, load: Loader) -> None:
        head = "defaults: {proxy_jump: [a], port: 2022, connect_timeout: 4}\n" + connections(a="", b=", port: 22")

        hops = hops_of(load, head, proxy_jump="[a, b]")

        assert [(str(hop.endpoint), hop.connect_timeout_seconds) for hop in hops] == [
            ("a.example:2022", 4),
            ("b.example:22", 4),
        ]
        assert all(hop.endpoint.proxy_jump == () for hop in hops)

    def test_what_a_connection_has_besides_is_left_aside(self, load: Loader) -> None:
        besides = ", bandwidth_limit: 1M, transfers: 3, connector_type: SCP, stall_timeout: 5, mode: {mode_name: x}"
        with pytest.raises(PlaybookInvalid):
            hops_of(load, connections(a=besides), proxy_jump="[a]")  # it must be right all the same

        (hop,) = hops_of(load, connections(a=besides.partition(", mode")[0]), proxy_jump="[a]")

        assert hop.endpoint.bandwidth_limit_bytes_per_second is None

    def test_equal_ways_are_equal_whatever_the_hops_are_called(self, load: Loader) -> None:
        head = f"vars: {{}}\nconnections:\n  a: &a {{host: h.example, authentication: {LOGIN}}}\n  b: *a\n  c: {{}}\n"
        text = step(proxy_jump="[a]") + step(proxy_jump="[b]") + step(proxy_jump="[]") + step()

        one, two, none, without = [one.endpoint for one in load(play(head, text)).calls]

        assert one == two and hash(one) == hash(two)
        assert none == without != one


class TestTemplates:
    def test_a_template_may_give_one_name_or_a_list_of_them(self, load: Loader) -> None:
        head = "vars: {one: a, both: [a, b]}\n" + connections(a="", b="")

        assert route(load, head, proxy_jump='"{{ one }}"') == ["a"]
        assert route(load, head, proxy_jump='"{{ both }}"') == ["a", "b"]
        assert route(load, head, proxy_jump='["{{ one }}", b]') == ["a", "b"]

    def test_a_hop_s_templates_see_its_own_connection_and_host(self, load: Loader) -> None:
        head = (
            "vars: {user: of the play}\nconnections:\n"
            "  a:\n    vars: {user: of a}\n    host: a.example\n    authentication:\n"
            '      {authentication_method: ssh_agent, username: "{{ user }} {{ connection_name }} {{ host }}"}\n'
        )
        inline = (
            '{host: b.example, authentication: {authentication_method: ssh_agent, username: "{{ user }} {{ host }}"}}'
        )

        hops = hops_of(load, head, proxy_jump=f"[a, {inline}]")

        names = [hop.endpoint.authentication.username for hop in hops]
        assert names == ["of a a a.example", "of the play b.example"]

    def test_a_number_that_a_template_gives_as_text_is_one(self, load: Loader) -> None:
        inline = (
            f'{{host: b.example, authentication: {LOGIN}, port: "{{{{ port }}}}", connect_timeout: "{{{{ port }}}}"}}'
        )

        (hop,) = hops_of(load, "vars: {port: '2022'}\n", proxy_jump=f"[{inline}]")

        assert (hop.endpoint.port, hop.connect_timeout_seconds) == (2022, 2022)

    def test_what_depends_on_a_command_is_checked_as_far_as_it_can_be(self, tmp_path: Path) -> None:
        unknown = "\"{{ lookup('pipe', 'exit 1') }}\""
        login = f"{{authentication_method: username_password, username: u, password: {unknown}}}"
        path = tmp_path / "play.yaml"
        path.write_text(step(proxy_jump=f"[{{host: b.example, authentication: {login}}}]") + step(proxy_jump=unknown))

        assert check_play(str(path)) == 2

        path.write_text(step(proxy_jump=f"[{{authentication: {login}}}]"))
        with pytest.raises(PlaybookInvalid) as caught:
            check_play(str(path))
        assert [tell(one) for one in caught.value.problems] == ["5:16 the jump host has no 'host'"]


class TestSecrets:
    def test_the_secrets_of_hops_are_masked(self, tmp_path: Path) -> None:
        inline = (
            "{host: b, authentication: {authentication_method: username_password, username: u, password: inline-x}}"
        )
        head = (
            "defaults: {proxy_jump: [a]}\nconnections:\n  a: {host: a, authentication: "
            "{authentication_method: username_password, username: u, password: '{{ \"named-x\" }}'}}\n"
        )
        path = tmp_path / "play.yaml"
        path.write_text(play(head, step(connection="a", proxy_jump="[]") + step(proxy_jump=f"[a, {inline}]")))
        redactor = Redactor()

        loaded = load_play(str(path), vault=Vault(None, redactor))

        assert {"named-x", "inline-x"} <= loaded.secrets
        assert redactor.redact("named-x inline-x") == "******** ********"
        passwords = [hop.endpoint.authentication for hop in loaded.calls[1].endpoint.proxy_jump]
        assert passwords == [UsernamePassword("u", "named-x"), UsernamePassword("u", "inline-x")]
        assert "inline-x" not in repr(loaded)

    def test_an_empty_secret_is_a_problem(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JUMP_PASSWORD", "")
        secret = "\"{{ lookup('env', 'JUMP_PASSWORD') }}\""
        login = f"{{authentication_method: username_password, username: u, password: {secret}}}"

        problem = load.find_problem(step(proxy_jump=f"[{{host: b, authentication: {login}}}]"))

        assert tell(problem).startswith("5:108 the secret 'password' is empty: the environment variable JUMP_PASSWORD")

    def test_a_mistake_in_a_hop_does_not_show_its_secret(self, load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("JUMP_PASSWORD", "correct horse")
        login = (
            "{authentication_method: username_password, username: u, "
            "password: \"{{ lookup('env', 'JUMP_PASSWORD') }}\", pasword: x}"
        )

        problems = load.find_problems(step(proxy_jump=f"[{{host: b, authentication: {login}}}]"))

        assert "correct" not in str(problems)


HEAD = connections(
    a="", b=", proxy_jump: [c]", c=", proxy_jump: b", d=", proxy_jump: d", bank=", proxy_jump: [e]", e=""
)
# `step()` begins on line 9, and its fifth line is 13.
MISTAKES = [
    ("[bastoin]", "13:16 no connection is called 'bastoin'", "Known: a, b, bank, c, d, e."),
    ("bnk", "13:15 no connection is called 'bnk'", "Did you mean 'bank'?"),
    ("[a, zz]", "13:19 no connection is called 'zz'", "Known: "),
    ("'{{ \"zz\" }}'", "13:15 no connection is called 'zz'", "Known: "),
    ("[b]", "4:106 the connection 'b' jumps through itself: b → c → b", "'proxy_jump: []'"),
    ("[d]", "5:106 the connection 'd' jumps through itself: d → d", ""),
    ("[a, e, a]", "13:22 the way leads through 'a' twice", "Remove"),
    ("[bank, e]", "13:22 the way leads through 'e' twice", "Remove"),
    ("7", "13:15 'proxy_jump' must be a string, a mapping or a list, not an integer", ""),
    ("[7]", "13:16 entry 1 of 'proxy_jump' must be a string or a mapping, not an integer", ""),
    ("", "13:3 'proxy_jump' must be a string, a mapping or a list, not null", "Nothing is written"),
    ("['']", "13:16 entry 1 of 'proxy_jump' must not be empty", ""),
    ("'{{ 7 }}'", "13:15 'proxy_jump' needs the names of connections, not an integer", "inline"),
    ('\'{{ {"host": "b"} }}\'', "13:15 'proxy_jump' needs the names of connections, not a mapping", "inline"),
    ("[{host: b}]", "13:16 the jump host has no 'authentication'", "the playbook's defaults"),
    (f"[{{authentication: {LOGIN}}}]", "13:16 the jump host has no 'host'", "the playbook's defaults"),
    (f"[{{host: 'b:22', authentication: {LOGIN}}}]", "13:23 'b:22' is not a host name or IP address", ""),
    (f"[{{host: b, port: 0, authentication: {LOGIN}}}]", "13:32 'port' must be at least 1, not 0", ""),
    (f"[{{host: b, authentication: {LOGIN}, prot: 1}}]", "13:96 unknown key 'prot'", "Did you mean 'port'?"),
    (
        f"[{{host: b, authentication: {LOGIN}, stall_timeout: 1}}]",
        "13:96 'stall_timeout' means nothing in a jump",
        "It",
    ),
    (f"[{{host: b, authentication: {LOGIN}, mode: 1}}]", "13:96 'mode' means nothing in a jump host", "Known: "),
    (f"[{{host: b, authentication: {LOGIN}, proxy_jump: a}}]", "13:96 'proxy_jump' means nothing in a", "The list is"),
    (f"[{', '.join('a' * 9)}]", "13:15 'proxy_jump' must have at most 8 entries", ""),
]


class TestMistakes:
    @pytest.mark.parametrize(("value", "message", "hint"), MISTAKES)
    def test_a_mistake_is_told_where_it_stands(self, load: Loader, value: str, message: str, hint: str) -> None:
        problems = load.find_problems(play(HEAD, step(proxy_jump=value)))

        found = [one for one in problems if tell(one).startswith(message)]
        assert len(found) == 1, problems
        assert hint in found[0].hint
        assert found == problems or len(value) > 60 or " a, a," in value

    def test_a_step_cannot_be_its_own_jump_host(self, load: Loader) -> None:
        found = load.find_problem(play(connections(bank=""), step(connection="bank", proxy_jump="[bank]")))

        assert tell(found) == "9:16 the connection 'bank' jumps through itself: bank → bank"

    def test_a_default_way_must_not_lead_to_its_own_first_host(self, load: Loader) -> None:
        """As in OpenSSH it is for the one who writes it to make the exception."""
        head = "defaults: {proxy_jump: [bank]}\n"

        found = load.find_problem(play(head + connections(bank=""), step(connection="bank")))
        assert tell(found) == "1:25 the connection 'bank' jumps through itself: bank → bank"
        assert "proxy_jump: []" in found.hint

        assert route(load, head + connections(bank=", proxy_jump: []"), connection="bank") == []

    def test_all_mistakes_of_a_list_are_told(self, load: Loader) -> None:
        problems = load.find_problems(play(HEAD, step(proxy_jump="[x, {host: b}, y]")))

        assert [one.location.column for one in problems] == [16, 19, 30]

    def test_more_hops_than_anybody_needs_are_refused(self, load: Loader) -> None:
        chain = {f"n{number}": f", proxy_jump: n{number + 1}" for number in range(9)}

        found = load.find_problem(play(connections(**chain, n9=""), step(proxy_jump="n0")))

        assert found.message == "the way leads through 10 jump hosts, and 8 are the most"
        assert len(route(load, connections(**chain, n9=""), proxy_jump="n2")) == 8

    def test_the_schema_and_the_code_agree_about_the_most(self) -> None:
        lists = json.loads(schema_text("connector"))["properties"]["proxy_jump"]["anyOf"]

        assert [one["maxItems"] for one in lists if "maxItems" in one] == [MAX_HOPS]

    def test_a_connection_that_is_wrong_is_blamed_where_it_is_written(self, load: Loader) -> None:
        head = connections(a=", hostkey: {hostkey_mode: fingerprint, fingerprint: x}")

        assert tell(load.find_problem(play(head, step(proxy_jump="[a]")))) == "2:144 'x' is not a SHA256 fingerprint"
