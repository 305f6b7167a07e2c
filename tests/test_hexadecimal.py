"""A secret in hexadecimal is masked in whatever groups and lines it is written, and what is no secret stays."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from runner.redaction import MASK, Redactor

SECRETS = ["correct horse battery staple of forty bytes", "p&ss<w>ör?d/+=%", "hunter22", "six666", "pw42"]


def group(digits: str, size: int, between: str, before: str = "") -> str:
    return between.join(before + digits[at : at + size] for at in range(0, len(digits), size))


WAYS: dict[str, Callable[[str], str]] = {
    "plain": lambda digits: digits,
    "upper case": lambda digits: digits.upper(),
    "a number": lambda digits: f"0x{digits}",
    "colons": lambda digits: group(digits, 2, ":"),
    "spaces": lambda digits: group(digits, 2, " "),
    "xxd's groups": lambda digits: group(digits, 4, " "),
    "a list in C": lambda digits: group(digits, 2, ", ", "0x"),
    "a string in C": lambda digits: group(digits, 2, "", "\\x"),
    "lines": lambda digits: group(digits, 14, "\n"),
    "lines of openssl": lambda digits: group(group(digits, 2, ":"), 45, "\n    "),
    "lines in JSON": lambda digits: group(digits, 14, "\\n"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(("before", "after"), [("", ""), ("00000010: ", "  |text|"), ("dead", "beef"), ("a", "f")])
def test_a_secret_in_hexadecimal_is_masked(secret: str, way: str, before: str, after: str) -> None:
    written = WAYS[way](secret.encode().hex())

    redacted = Redactor([secret]).redact(f"<{before}{written}{after}>")

    assert MASK in redacted
    left = redacted.replace(MASK, "").removeprefix(f"<{before}").removesuffix(f"{after}>")
    # A prefix of the first digit may be left.
    assert len(left) <= 2, left


@pytest.mark.parametrize(
    "tool", [["xxd"], ["xxd", "-p"], ["xxd", "-i"], ["od", "-An", "-tx1"], ["od", "-Ax", "-tx1"], ["hexdump", "-C"]]
)
def test_a_dump_by_a_program_shows_at_most_the_last_bytes(tool: list[str]) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    secret = "".join(hashlib.sha256(bytes([index])).hexdigest()[:8] for index in range(12))
    dumped = subprocess.run(tool, input=secret.encode(), capture_output=True, check=True).stdout.decode()

    redacted = Redactor([secret]).redact(f"before\n{dumped}after")

    assert MASK in redacted
    digits = secret.encode().hex()
    shown = "".join(character for character in redacted if character in "0123456789abcdef")
    assert not any(digits[at : at + 16] in shown for at in range(0, len(digits) - 15, 2))
    assert not any(secret[at : at + 8] in redacted for at in range(len(secret) - 7))


def test_what_is_no_secret_stays() -> None:
    redact = Redactor(["hunter22", "correct horse battery staple"]).redact

    for text in (hashlib.sha256(b"x").hexdigest(), "2024-05-01 12:30:00", "dead beef", "0x1234, 0x5678", "1" * 100):
        assert redact(text) == text


def test_a_secret_too_short_to_tell_from_a_number_is_not_looked_for() -> None:
    assert Redactor(["123"]).redact("313233") == "313233"


def test_looking_for_secrets_in_hexadecimal_is_cheap() -> None:
    redact = Redactor([f"secret-number-{index:05}-of-some-length" for index in range(500)]).redact
    lines = [f"copied out/{index}: sha256 {hashlib.sha256(bytes([index])).hexdigest()}" for index in range(200)]
    redact(lines[0])

    started = time.process_time()
    for line in lines:
        redact(line)
    # The other forms take most of it.
    assert time.process_time() - started < 5


def test_a_long_text_of_digits_takes_no_time_out_of_proportion() -> None:
    redact = Redactor(["correct horse battery staple"]).redact
    redact("ab" * 8)

    for text in ("0x" * 250_000, "ab" * 250_000, "a b " * 125_000, "0" * 500_000):
        started = time.process_time()
        redact(text)
        assert time.process_time() - started < 5
