"""What a server may ask during a login. paramiko's handler believes any number of questions that the server announces."""

from __future__ import annotations

import paramiko
from paramiko.auth_handler import AuthOnlyHandler

MAX_QUESTIONS = 100


class PasswordExpired(paramiko.AuthenticationException):
    """The server wants another password before it lets anybody in."""


class StrictAuthHandler(AuthOnlyHandler):
    """Answers a bounded number of questions."""

    def _parse_userauth_info_request(self, m: paramiko.Message) -> None:
        if self.auth_method == "password":
            # The same number means USERAUTH_PASSWD_CHANGEREQ there (RFC 4252 section 8).
            raise PasswordExpired("the server wants the password to be changed")
        # RFC 4256 section 3.2: name, instruction, language, number of prompts.
        ahead = paramiko.Message(m.asbytes())
        for _ in range(3):
            ahead.get_binary()
        count = ahead.get_int()
        if count > MAX_QUESTIONS:
            # They would be made up from nothing: paramiko reads on behind a message's end.
            raise paramiko.SSHException(f"the server asks {count:,} questions at once")
        super()._parse_userauth_info_request(m)
