"""Secrets are masked by value, in every form in which they can turn up."""

from __future__ import annotations

import json

import pytest

from runner.redaction import MASK, Redactor

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAAsecretsecretsecretline1\nAAAAsecretsecretsecretline2\nshort\n-----END"


def test_a_secret_is_masked_wherever_it_stands() -> None:
    redact = Redactor(["hunter22"]).redact

    assert redact("hunter22") == MASK
    assert redact("a hunter22, hunter22hunter22.") == f"a {MASK}, {MASK}{MASK}."
    assert redact("Hunter22 hunter2") == "Hunter22 hunter2"


def test_without_secrets_nothing_changes() -> None:
    assert Redactor().redact("anything ********") == "anything ********"
    assert Redactor(["", " ", "\n"]).redact("a b\nc") == "a b\nc"


@pytest.mark.parametrize("secret", ['quo"te\\back', "tab\tnew\nline", "ümläut-secret", "it's", "a\x00b\x1bc", "🙂🙂🙂"])
def test_a_secret_is_masked_where_it_is_escaped(secret: str) -> None:
    redact = Redactor([secret]).redact

    for text in (secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), f"<{secret}>"):
        assert MASK in redact(text)
        assert secret not in redact(text)
        assert json.dumps(secret)[1:-1] not in redact(text)
        assert repr(secret)[1:-1] not in redact(text)


def test_a_secret_with_white_space_around_it_is_masked_without_it_too() -> None:
    assert Redactor(["  hunter22\n"]).redact("login with hunter22 failed") == f"login with {MASK} failed"


def test_every_line_of_a_key_is_masked_on_its_own() -> None:
    redact = Redactor([KEY]).redact

    for text in (KEY, json.dumps(KEY), repr(KEY), *KEY.splitlines()[1:3]):
        assert "secret" not in redact(f"x {text} y")


def test_a_key_s_frame_and_short_lines_say_nothing_and_stay() -> None:
    redact = Redactor([KEY]).redact

    assert redact("-----BEGIN OPENSSH PRIVATE KEY-----") == "-----BEGIN OPENSSH PRIVATE KEY-----"
    assert redact("a short word") == "a short word"


@pytest.mark.parametrize("secrets", [["pass", "password-1"], ["password-1", "pass"]])
def test_a_secret_that_contains_another_is_masked_whole(secrets: list[str]) -> None:
    assert Redactor(secrets).redact("password-1 pass") == f"{MASK} {MASK}"


def test_a_key_with_crlf_is_masked_however_its_lines_end() -> None:
    redact = Redactor([KEY.replace("\n", "\r\n")]).redact

    assert "secretsecret" not in redact(KEY)
    assert "secretsecret" not in redact(KEY.replace("\n", "\r\n"))


def test_masking_many_secrets_in_a_long_text_is_quick() -> None:
    secrets = [f"secret-number-{index:05}" for index in range(2000)]
    text = "x" * 100_000 + " ".join(secrets[:100])

    assert "secret-number" not in Redactor(secrets).redact(text)
