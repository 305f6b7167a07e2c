"""Secrets are masked by value, in every form in which they can turn up."""

from __future__ import annotations

import base64
import html
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from runner.redaction import MASK, Redactor
from runner.report.text import printable

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


def wrap(text: str, width: int, line_end: str = "\n") -> str:
    return line_end.join(text[start : start + width] for start in range(0, len(text), width))


SECRETS = ["correct horse", "p&ss<w>ör?d/+=%", "t0ken" * 20, KEY, "six666"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "x", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_secret_is_masked_in_base64_wherever_in_the_text_it_begins(
    secret: str, before: str, after: str, encode: Callable[[bytes], bytes]
) -> None:
    encoded = encode((before + secret + after).encode()).decode()

    redacted = Redactor([secret]).redact(f"Authorization: Basic {encoded}.")

    assert MASK in redacted
    # At most the characters that also depend on what stands beside the secret are left.
    left = redacted.removeprefix("Authorization: Basic ").removesuffix(".").replace(MASK, "")
    frame = KEY.splitlines()[0] if secret is KEY else ""
    assert len(left) <= 10 + len(base64.b64encode(frame.encode())) * 2


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_as_urls_and_html_and_bytes_write_it(secret: str) -> None:
    redact = Redactor([secret]).redact
    forms = [
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
        repr(secret.encode())[2:-1],
    ]
    forms += [re.sub("%..", lambda found: found[0].lower(), form) for form in forms[:3]]

    for form in forms:
        redacted = redact(f"sftp://u:{form}@host/")
        assert MASK in redacted
        assert form not in redacted
        assert "horse" not in redacted and "secretsecret" not in redacted and "t0ken" not in redacted


@pytest.mark.parametrize("secret", [SECRETS[2], "a-password-of-some-length", base64.b64encode(KEY.encode()).decode()])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "  \n    ", "\\n"])
@pytest.mark.parametrize("width", [5, 20])
def test_a_secret_that_is_split_over_lines_is_masked(secret: str, line_end: str, width: int) -> None:
    redact = Redactor([secret]).redact

    for text in (secret, base64.b64encode(secret.encode()).decode()):
        assert redact(f"before\n{wrap(text, width, line_end)}, after\nlast") == f"before\n{MASK}, after\nlast"


def test_base64_of_a_key_in_lines_is_masked() -> None:
    redacted = Redactor([KEY]).redact(wrap(base64.b64encode(KEY.encode()).decode(), 76))

    for line in KEY.splitlines()[1:3]:
        assert base64.b64encode(line.encode()).decode()[4:20] not in redacted.replace("\n", "")
    assert redacted == MASK


def test_what_was_cut_off_is_masked() -> None:
    secret = "t0ken-" * 30
    redact = Redactor([secret]).redact

    assert redact(f"not '{secret[:50]}…") == f"not '{MASK}…"
    assert redact(f"not '{secret[:50]}") == f"not '{secret[:50]}"  # nothing says that it goes on
    assert redact(f"{secret}…") == f"{MASK}…"
    assert redact("t0k…, known: a, b, …") == "t0k…, known: a, b, …"


def test_a_secret_of_one_or_two_characters_is_left_alone() -> None:
    """Its mask in the middle of a known word would tell it."""
    assert Redactor(["a", "ab", " b "]).redact("a label") == "a label"
    assert Redactor(["abc"]).redact("label abc") == f"label {MASK}"


def test_a_secret_may_become_known_later() -> None:
    redactor = Redactor()
    assert redactor.redact("hunter22") == "hunter22"

    redactor.add("hunter22")

    assert redactor.redact("hunter22") == MASK
    assert redactor.secrets == {"hunter22"}


def test_a_mask_is_not_masked_again() -> None:
    redact = Redactor(["***", "hunter22"]).redact

    assert redact(redact(redact("hunter22"))) == MASK


def test_a_key_on_one_line_is_masked_in_its_lines() -> None:
    """CI systems keep line ends as two characters; the key that is made of it has real ones."""
    assert "secretsecret" not in Redactor([KEY.replace("\n", "\\n")]).redact(KEY)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x\n" * 500_000, " " * 1_000_000, "…" * 20_000, "x …\n" * 20_000])
def test_long_output_is_quick(text: str) -> None:
    redactor = Redactor([KEY, *SECRETS])
    started = time.process_time()

    assert redactor.redact(text) == text
    assert time.process_time() - started < 3


def test_many_secrets_in_many_lines_are_masked_quickly() -> None:
    redactor = Redactor([*SECRETS, KEY])
    started = time.process_time()

    text = redactor.redact("the password is correct horse\n" * 10_000)

    assert text == f"the password is {MASK}\n" * 10_000
    assert time.process_time() - started < 3


@pytest.mark.parametrize("secret", ["pa##[add-mask]ss", "a\\b\x01\u00a0c", "tab\tand\u202eback\\slash", "x##vso[y]z"])
def test_a_secret_is_found_where_it_was_made_printable(secret: str) -> None:
    """What is printed is escaped first and masked then."""
    redact = Redactor([secret]).redact

    assert redact(f"user {printable(secret)}!") == f"user {MASK}!"


class TestEncoded:
    """What was computed of a text, so that neither can be found in the other."""

    def test_what_was_computed_of_a_secret_is_one(self) -> None:
        for is_known_first in (True, False):
            redactor = Redactor(["hunter22"] if is_known_first else [])
            redactor.note_encoded("acme:hunter22", "5f4dcc3b5aa765d6")
            redactor.note_encoded("5f4dcc3b5aa765d6", "deadbeefdeadbeef")
            redactor.add("hunter22")

            assert redactor.redact("<5f4dcc3b5aa765d6 deadbeefdeadbeef>") == f"<{MASK} {MASK}>"

    def test_so_is_what_a_secret_was_computed_of(self) -> None:
        for is_known_first in (True, False):
            redactor = Redactor(["5f4dcc3b5aa765d6"] if is_known_first else [])
            redactor.note_encoded("hunter22", "5f4dcc3b5aa765d6")
            redactor.add("5f4dcc3b5aa765d6")

            assert redactor.redact("<hunter22>") == f"<{MASK}>"

    def test_what_was_computed_of_something_else_is_none(self) -> None:
        redactor = Redactor(["hunter22"])
        redactor.note_encoded("report", "e98d2f001da5678b")
        # What is longer nobody guesses from it.
        redactor.note_encoded("hunter22" * 1000, "deadbeefdeadbeef")
        redactor.add("another-secret")

        assert redactor.redact("e98d2f001da5678b deadbeefdeadbeef report") == "e98d2f001da5678b deadbeefdeadbeef report"

    def test_many_are_noted_quickly(self) -> None:
        redactor = Redactor()
        started = time.process_time()
        for index in range(20_000):
            redactor.note_encoded(f"text {index}", f"made {index:08}")
        for index in range(100):
            redactor.add(f"secret-number-{index}")

        assert time.process_time() - started < 3
