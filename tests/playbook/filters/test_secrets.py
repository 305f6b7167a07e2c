"""A secret that a filter writes in another way, or computes something of, is masked in that form as well."""

from __future__ import annotations

import hashlib

import pytest

from runner.errors import PlaybookInvalid
from runner.playbook.build import load_play
from runner.playbook.vault_password import Vault
from runner.redaction import MASK, Redactor
from tests.playbook.conftest import Loader
from tests.playbook.examples import play, step
from tests.playbook.test_templating import password_login, quoted

# It has what each of the filters writes in another way.
SECRET = "it's-a.Secret ü"

FORMS = {
    "b64encode": "pw | b64encode",
    "b64encode urlsafe": "pw | b64encode(urlsafe=true)",
    "b64encode for a shell of Windows": "pw | b64encode(encoding='utf-16-le')",
    "b64encode twice": "pw | b64encode | b64encode",
    "b64encode with a name before it": "('acme:' ~ pw) | b64encode",
    "hash": "pw | hash",
    "hash with sha256": "pw | hash('sha256')",
    "hash of it in base64": "pw | b64encode | hash('sha512')",
    "hash with a name before it": "('acme:' ~ pw) | hash('md5')",
    "to_json": "pw | to_json",
    "to_json of a mapping": "{'k': [pw]} | to_json",
    "to_nice_json": "{'k': [pw]} | to_nice_json(ensure_ascii=false)",
    "to_yaml": "pw | to_yaml(default_flow_style=true) | trim",
    "quote": "pw | quote",
    "regex_escape": "pw | regex_escape",
    "jinja's own": "pw | tojson",
    "urlencode": "pw | urlencode",
}


def load_names(load: Loader, text: str) -> tuple[list[str], Redactor]:
    """The names of a playbook's steps, and what masks its secrets."""
    path = load.folder / "play.yaml"
    path.write_text(text, encoding="utf-8")
    redactor = Redactor()
    loaded = load_play(str(path), vault=Vault(None, redactor))
    return [loaded_step.name for loaded_step in loaded.steps], redactor


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSWORD", SECRET)


HEAD = "vars: {pw: " + quoted("{{ lookup('env', 'PASSWORD') }}") + "}\n"
LOGIN = password_login("{{ pw }}")


@pytest.mark.parametrize("is_known_first", [True, False], ids=["known before", "known only later"])
@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_a_secret_is_masked(load: Loader, form: str, is_known_first: bool) -> None:
    shows = step(name=quoted(f"<{{{{ {FORMS[form]} }}}}>"))
    uses = step(authentication=LOGIN)

    names, redactor = load_names(load, play(HEAD, uses + shows if is_known_first else shows + uses))

    shown = names[1 if is_known_first else 0]
    made = shown.strip("<>")
    assert made
    masked = redactor.redact(shown)
    assert MASK in masked
    assert made not in masked and SECRET not in masked


@pytest.mark.parametrize(
    "login",
    [
        "{{ pw | hash('sha256') }}",
        "{{ pw | b64encode }}",
        "{{ pw | b64encode(encoding='utf-16-le') | b64encode }}",
        "{{ pw | quote }}",
        "{{ pw | to_json }}",
    ],
)
def test_what_a_secret_was_computed_of_is_masked(load: Loader, login: str) -> None:
    """Who knows it can compute the secret."""
    names, redactor = load_names(
        load, play(HEAD, step(name=quoted("<{{ pw }}>")) + step(authentication=password_login(login)))
    )

    assert SECRET in names[0]
    assert redactor.redact(names[0]) == f"<{MASK}>"


def test_what_is_computed_of_no_secret_is_shown(load: Loader) -> None:
    text = "{{ 'report' | hash('md5') }} {{ 'report' | b64encode }} {{ 'report' | to_json }}"
    names, redactor = load_names(load, play(HEAD, step(name=quoted(text)) + step(authentication=LOGIN)))

    assert redactor.redact(names[0]) == names[0]
    assert "e98d2f001da5678b39482efbdf5770dc" in names[0]


@pytest.mark.parametrize(
    "broken",
    [
        "{{ lookup('env', 'RAW') | b64decode | human_to_bytes }}",
        "{{ lookup('env', 'RAW') | b64decode | bool }}",
        "{{ lookup('env', 'RAW') | b64decode | to_datetime }}",
        "{{ lookup('env', 'RAW') | b64decode | from_json }}",
        "{{ lookup('env', 'RAW') | b64decode | from_yaml }}",
        "{{ lookup('env', 'PASSWORD') | hash | to_datetime }}",
    ],
)
def test_a_mistake_on_the_way_to_a_secret_does_not_tell_it(
    load: Loader, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    # "password: *hunter2-hunter2"
    monkeypatch.setenv("RAW", "cGFzc3dvcmQ6ICpodW50ZXIyLWh1bnRlcjI=")

    with pytest.raises(PlaybookInvalid) as caught:
        load_names(load, step(authentication=password_login(broken)))

    [problem] = caught.value.problems
    shown = f"{problem.message} {problem.hint}"
    assert "hunter2" not in shown and "cGFz" not in shown
    assert hashlib.sha1(SECRET.encode()).hexdigest()[:6] not in shown


def test_a_command_is_not_given_a_form_of_a_secret_on_its_line(load: Loader) -> None:
    text = "{{ lookup('pipe', 'echo ' ~ (pw | hash('md5'))) }}"

    problem = load.find_problem(play(HEAD, step(authentication=LOGIN) + step(name=quoted(text))))

    assert problem.message == "lookup('pipe'): the command holds a secret, which the process list would show"
