"""One-time codes: RFC 6238 (TOTP), which is RFC 4226 (HOTP) with the time as its counter. Values only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

DEFAULT_DIGITS = 6
DEFAULT_PERIOD_SECONDS = 30
MIN_DIGITS, MAX_DIGITS = 6, 10
MAX_PERIOD_SECONDS = 3600
# RFC 4226 section 4 demands 16 bytes; secrets of 10 bytes are what many servers (google-authenticator's first) hand out.
MIN_SECRET_BYTES = 8

_HASHES = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}
_SEPARATORS = str.maketrans("", "", " -\t\r\n")


class CodeGenerator(NamedTuple):
    """What one-time codes are made from."""

    key: bytes
    digits: int = DEFAULT_DIGITS
    period_seconds: int = DEFAULT_PERIOD_SECONDS
    hash_name: str = "SHA1"

    def window_at(self, seconds: float) -> int:
        """The number of the time window that a moment (seconds since 1970) is in."""
        return int(seconds // self.period_seconds)

    def make_code(self, window: int) -> str:
        """The code that is good in a time window (RFC 4226 section 5.3)."""
        digest = hmac.new(self.key, window.to_bytes(8, "big"), _HASHES[self.hash_name]).digest()
        offset = digest[-1] & 0xF
        number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
        return str(number % 10**self.digits).zfill(self.digits)


def parse_totp_secret(text: str) -> CodeGenerator:
    """What makes the codes of a secret: base32, in groups and in either case as people copy it, or an otpauth:// address.

    Raises `ValueError` saying what is wrong, without a word of the secret.
    """
    text = text.strip()
    if text.lower().startswith("otpauth:"):
        return _parse_address(text)
    return CodeGenerator(_decode_base32(text))


def _decode_base32(text: str) -> bytes:
    letters = text.translate(_SEPARATORS).rstrip("=").upper()
    try:
        key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError) as error:
        raise ValueError("it is not base32: the letters A to Z and the digits 2 to 7") from error
    if len(key) < MIN_SECRET_BYTES:
        raise ValueError(f"it is too short for a secret: {len(key)} bytes (cut off while copying?)")
    return key


def _parse_address(text: str) -> CodeGenerator:
    """The key URI format that QR codes hold."""
    # Few playbooks have one.
    from urllib.parse import parse_qs, urlsplit

    try:
        parts = urlsplit(text)
        given = {key.lower(): values[0] for key, values in parse_qs(parts.query).items()}
    except ValueError as error:
        raise ValueError("the otpauth:// address cannot be read") from error
    if parts.netloc.lower() != "totp":
        raise ValueError("the otpauth:// address is not for codes by time (otpauth://totp/…)")
    if "secret" not in given:
        raise ValueError("the otpauth:// address has no 'secret'")
    hash_name = given.get("algorithm", "SHA1").upper().replace("-", "")
    digits, period = given.get("digits", str(DEFAULT_DIGITS)), given.get("period", str(DEFAULT_PERIOD_SECONDS))
    if hash_name not in _HASHES:
        raise ValueError("the otpauth:// address names an algorithm other than SHA1, SHA256 and SHA512")
    if not (digits.isdecimal() and len(digits) < 3 and MIN_DIGITS <= int(digits) <= MAX_DIGITS):
        raise ValueError(f"the otpauth:// address wants codes that have not {MIN_DIGITS} to {MAX_DIGITS} digits")
    if not (period.isdecimal() and len(period) < 5 and 1 <= int(period) <= MAX_PERIOD_SECONDS):
        raise ValueError(f"the otpauth:// address has a period that is not from 1 to {MAX_PERIOD_SECONDS} seconds")
    return CodeGenerator(_decode_base32(given["secret"]), int(digits), int(period), hash_name)
