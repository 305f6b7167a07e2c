"""One-time codes are those of RFC 6238, and a secret is read as people copy it."""

from __future__ import annotations

import base64

import pytest

from runner.one_time_codes import parse_totp_secret

# RFC 6238 appendix B: the key of each hash, and the codes of eight digits.
KEYS = {"SHA1": b"1234567890" * 2, "SHA256": b"1234567890" * 3 + b"12", "SHA512": b"1234567890" * 6 + b"1234"}
VECTORS = [
    (59, "SHA1", "94287082"),
    (59, "SHA256", "46119246"),
    (59, "SHA512", "90693936"),
    (1111111109, "SHA1", "07081804"),
    (1111111111, "SHA256", "67062674"),
    (20000000000, "SHA512", "47863826"),
]


@pytest.mark.parametrize(("seconds", "name", "code"), VECTORS)
def test_the_vectors_of_the_rfc(seconds: int, name: str, code: str) -> None:
    secret = base64.b32encode(KEYS[name]).decode().rstrip("=")
    generator = parse_totp_secret(f"otpauth://totp/Bank:me?secret={secret}&algorithm={name}&digits=8&period=30")

    assert generator.make_code(generator.window_at(seconds)) == code


def test_a_secret_is_read_as_people_copy_it() -> None:
    expected = parse_totp_secret("JBSWY3DPEHPK3PXP")

    assert expected.key == b"Hello!\xde\xad\xbe\xef"
    for text in ("jbsw y3dp ehpk 3pxp", " JBSW-Y3DP-EHPK-3PXP\n", "JBSWY3DPEHPK3PXP======", "JBSWY3DPEHPK3PXP"):
        assert parse_totp_secret(text) == expected
    assert parse_totp_secret("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "JBSWY3DPEHPK3PX8",
        "JBSWY3D",
        "otpauth://totp/?digits=6",
        "otpauth://[totp/?secret=JBSWY3DPEHPK3PXP",
        "otpauth://totp/?secret=JBSWY3DPEHPK3PXP&period=0",
    ],
)
def test_what_is_no_secret_is_refused_without_a_word_of_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"otpauth|base32|too short") as caught:
        parse_totp_secret(text)
    assert "JBSW" not in str(caught.value)
