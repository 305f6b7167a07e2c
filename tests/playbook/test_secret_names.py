"""A command that a template runs is given no secret: none that is known, and none that is only looked up later."""

from __future__ import annotations

import base64

import pytest

from tests.playbook.conftest import Loader
from tests.playbook.examples import play, step
from tests.playbook.test_lookups import pipe
from tests.playbook.test_templating import password_login, quoted

SECRET = "a-secret-of-some-length"
ENV = "{{ lookup('env', 'LATER_SECRET') }}"
# The first step runs the command, before anything of the second one is filled in.
FIRST = step(name=quoted(pipe("env > seen")))
KEY_LOGIN = "{authentication_method: ssh_key_file, username: u, ssh_key_file: k, passphrase: " + quoted(ENV) + "}"

LATER = {
    "a later step": FIRST + step(authentication=password_login(ENV)),
    "a passphrase": FIRST + step(authentication=KEY_LOGIN),
    "a filter": FIRST + step(authentication=password_login("{{ lookup('env', 'LATER_SECRET') | trim }}")),
    "one of two": FIRST + step(authentication=password_login("{{ lookup('env', 'OTHER', 'LATER_SECRET') }}")),
    "a condition": FIRST
    + step(authentication=password_login("{{ lookup('env', 'LATER_SECRET') if now() else lookup('env', 'OTHER') }}")),
    "a statement": FIRST
    + step(authentication=password_login("{% if true %}{{ lookup('env', 'LATER_SECRET') }}{% endif %}")),
    "a variable": play(f"vars: {{pw: {quoted(ENV)}}}\n", FIRST + step(authentication=password_login("{{ pw }}"))),
    "a variable's variable": play(
        f"vars: {{a: '{{{{ b }}}}', b: {quoted(ENV)}}}\n", FIRST + step(authentication=password_login("{{ a }}"))
    ),
    "a variable of the step": FIRST + step(vars=f"{{pw: {quoted(ENV)}}}", authentication=password_login("{{ pw }}")),
    "a mapping": play(
        f"vars: {{logins: {{bank: {password_login(ENV)}}}}}\n", FIRST + step(authentication='"{{ logins.bank }}"')
    ),
    "a connection": play(
        f"connections: {{bank: {{authentication: {password_login(ENV)}}}}}\n",
        FIRST + step(authentication=password_login("x-y-z")) + step(connection="bank"),
    ),
    "the defaults": play(f"defaults: {{authentication: {password_login(ENV)}}}\n", FIRST),
    "a jump host": FIRST + step(proxy_jump=f"[{{host: hop, authentication: {password_login(ENV)}}}]"),
    "a name in a variable": play(
        "vars: {name: LATER_SECRET}\n", FIRST + step(authentication=password_login("{{ lookup('env', name) }}"))
    ),
    "a name that is put together": FIRST
    + step(authentication=password_login("{{ lookup('env', 'LATER' ~ '_SECRET') }}")),
    "a name of a variable that is put together": play(
        "vars: {name: \"LATER_{{ 'SECRET' }}\"}\n",
        FIRST + step(authentication=password_login("{{ lookup('env', name) }}")),
    ),
    "a kind that is put together": FIRST
    + step(authentication=password_login("{{ lookup('e' ~ 'nv', 'LATER_SECRET') }}")),
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATER_SECRET", SECRET)
    monkeypatch.setenv("OTHER", "another-secret-value")
    monkeypatch.setenv("ORDINARY", "nothing special")


@pytest.mark.parametrize("way", LATER)
def test_what_is_looked_up_later_is_not_given_to_a_command(load: Loader, way: str) -> None:
    load(LATER[way])

    seen = (load.folder / "seen").read_text()
    assert "PATH=" in seen
    assert "LATER_SECRET" not in seen and SECRET not in seen
    if "put together" not in way:
        assert "ORDINARY=nothing special" in seen


def test_where_a_secret_is_looked_up_under_any_name_only_the_usual_is_given(load: Loader) -> None:
    load(LATER["a name that is put together"])

    seen = (load.folder / "seen").read_text()
    assert "HOME=" in seen
    assert "ORDINARY" not in seen and "OTHER" not in seen


def test_what_is_looked_up_for_no_secret_is_given(load: Loader) -> None:
    load(FIRST + step(name=quoted("{{ lookup('env', 'ORDINARY') }}")))

    assert "ORDINARY=nothing special" in (load.folder / "seen").read_text()


@pytest.mark.parametrize(
    "value",
    [SECRET, f"postgres://u:{SECRET}@db/x", base64.b64encode(SECRET.encode()).decode(), SECRET.encode().hex()],
)
def test_a_secret_under_another_name_or_inside_of_a_value_is_not_given(
    load: Loader, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("A_COPY", value)

    load(LATER["a later step"])

    assert "A_COPY" not in (load.folder / "seen").read_text()


def test_a_short_secret_takes_nothing_along_that_happens_to_contain_it(
    load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATER_SECRET", "usr")
    monkeypatch.setenv("PATH_TO_IT", "/usr/bin")

    load(LATER["a later step"])

    seen = (load.folder / "seen").read_text()
    assert "PATH_TO_IT=/usr/bin" in seen
    assert "LATER_SECRET" not in seen


def test_the_way_to_the_vault_password_is_not_given(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNNER_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_PASSWORD_FILE"):
        monkeypatch.setenv(name, "/somewhere/password")

    load(FIRST)

    assert "VAULT_PASSWORD_FILE" not in (load.folder / "seen").read_text()


def test_a_playbook_of_many_secrets_does_not_take_the_time_of_a_template(load: Loader) -> None:
    steps = "".join(
        step(authentication=password_login(f"{{{{ lookup('env', 'OTHER') ~ {index} }}}}")) for index in range(300)
    )

    load(FIRST + steps)

    assert "OTHER" not in (load.folder / "seen").read_text()
