"""What a server asks for by keyboard-interactive (RFC 4256), told by the words of its question.

Servers say it in text only. A question is answered with a secret when its words say that this kind of secret is meant; a
wrong guess would hand a password to whatever reads codes, or use up a code.
"""

from __future__ import annotations

import enum
import re
from fnmatch import fnmatchcase

MAX_PROMPT_LENGTH = 200


class Wanted(enum.Enum):
    """The kind of answer that a question wants."""

    PASSWORD = "a password"
    CODE = "a one-time code"
    # Both words stand in it, or one that names a secret of another kind: what is meant, only its operator can tell.
    UNCLEAR = "a secret that is neither clearly a password nor clearly a one-time code"
    NEW_PASSWORD = "a new password"
    OTHER = "something else"


# Patterns are compiled by their first use, not here: few servers ask anything, and it would lengthen every start.

# pam_oath asks for a "One-time password (OATH)", FreeIPA for a "First Factor" and a "Second Factor".
_ONE_TIME_PASSWORD = (
    r"\b(one[- ]?time|single[- ]use|dynamic|einmal)[- ]?(password|passcode|passphrase|passwor[td]|kennwort|pin|code)?"
)
_CODE = (
    r"cod(e|igo|ice)\b|code|kode|\botp\b|\b[th]otp\b|token|verif|authenticator|\b[2m]fa\b|two[- ]?factor|2[- ]?(step|factor)"
    r"|two[- ]?step|second factor|yubikey|securid|código|код|验证码|驗證碼|認証コード"
)
_PASSWORD = (
    r"pass[- ]?(word|phrase|wd)|passwor[td]|kennwort|first factor|mot de passe|contrase|senha|wachtwoord|heslo|has[lł]o"
    r"|lösenord|salasana|adgangskode|пароль|密码|密碼|パスワード|비밀번호"
)
_ANOTHER_SECRET = r"\bpin\b|challenge|response|\bs/key\b|\botp-md5\b|\bmother|secret|memorable"
_NEW_PASSWORD = r"\b(new|retype|re-enter|change)\b.*\bpass[- ]?(word|phrase)|\bneues (passwort|kennwort)"
_ADDRESS = r"\S+@\S+"


def clean_prompt(text: str) -> str:
    """A server's question on one line, without control characters, bounded."""
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return shown if len(shown) <= MAX_PROMPT_LENGTH else shown[:MAX_PROMPT_LENGTH] + "…"


def find_wanted(prompt: str, username: str) -> Wanted:
    """The kind of answer that a cleaned question wants. What it says of the user's name and of hosts does not count."""
    text = re.sub(_ADDRESS, " ", prompt.lower())
    if username:
        text = re.sub(rf"\b(for|of|user) +[`'\"(]?{re.escape(username.lower())}(?!\w)", " ", text)
    if re.search(_NEW_PASSWORD, text):
        return Wanted.NEW_PASSWORD
    rest = re.sub(_ONE_TIME_PASSWORD, " ", text)
    is_code = rest != text or re.search(_CODE, rest) is not None
    is_password = re.search(_PASSWORD, rest) is not None
    if re.search(_ANOTHER_SECRET, rest) or (is_code and is_password):
        return Wanted.UNCLEAR
    if is_code:
        return Wanted.CODE
    return Wanted.PASSWORD if is_password else Wanted.OTHER


def matches(prompt: str, pattern: str) -> bool:
    """Whether a shell pattern fits a whole cleaned question, upper and lower case alike."""
    return fnmatchcase(prompt.casefold(), pattern.strip().casefold())
