"""What a server may say during a login. paramiko's handler believes any number of questions that the server announces."""

from __future__ import annotations

import paramiko
from paramiko.auth_handler import AuthOnlyHandler

from runner.ssh.answering import LoginAbandoned

MAX_QUESTIONS = 100


class PasswordExpired(LoginAbandoned):
    """The server wants another password before it lets anybody in."""


class StrictAuthHandler(AuthOnlyHandler):
    """Answers a bounded number of questions, and knows which methods can continue."""

    # The methods that the server's last refusal, or partial success, says can continue (RFC 4252 section 5.1).
    methods_left: tuple[str, ...] = ()

    def _parse_userauth_failure(self, m: paramiko.Message) -> None:
        # paramiko tells of them only where the method that was tried is not among them.
        self.methods_left = tuple(paramiko.Message(m.asbytes()).get_list())
        super()._parse_userauth_failure(m)

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
