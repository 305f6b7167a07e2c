"""What a refused login means, in words: what was refused, what the server asked for, and what to add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import paramiko

from runner.errors import AuthenticationRefused
from runner.plan import Endpoint, SshAgent, UsernamePassword
from runner.ssh.answering import EXPIRED_HINT, NO_PASSWORD_HINT, Answering, LoginAbandoned, NotAnswered
from runner.ssh.prompts import clean_prompt
from runner.ssh.questions import PasswordExpired
from runner.ssh.user_certificates import explain_certificates

if TYPE_CHECKING:
    from runner.ssh.transport import NoSignatureInCommon, StrictTransport

# The methods as RFC 4252 and RFC 4256 call them.
PUBLIC_KEY, PASSWORD, INTERACTIVE = "publickey", "password", "keyboard-interactive"
MAX_KEYS_SHOWN = 3

PASSWORD_HINT = "Check 'username' and 'password'; after several refusals an account may be locked."
CODE_HINT = (
    "Is 'totp_secret' this account's, and the clock of this machine right? A server takes each code once: one that another "
    "login has used in the last 30 seconds is refused."
)
ANSWER_HINT = "Check 'answers' in the 'authentication'."
BESIDE_KEY_HINT = "Add 'password' beside the key."
KEY_HINT = "Check 'username'; is the key's public half in this user's authorized_keys on the server?"
AGENT_KEY_HINT = (
    "Is the key in the agent (ssh-add -l), and in the server's authorized_keys? Servers give up after a few keys: name "
    "the right one under 'public_key'."
)
SHA1_HINT = "A server that takes only SHA-1 signatures of RSA keys needs 'legacy_algorithms: [ssh-rsa]'."


class LoginRefusals:
    """The errors of one login. `passed` are the methods that the server has accepted so far; the login adds to them."""

    def __init__(self, endpoint: Endpoint, passed: Sequence[str], answering: Answering) -> None:
        self._endpoint = endpoint
        self._given = endpoint.authentication
        self._passed = passed
        self._answering = answering

    @property
    def _method(self) -> str:
        return "+".join(self._passed)

    @property
    def _who(self) -> str:
        return f"{self._given.username}@{self._endpoint}"

    @property
    def _after(self) -> str:
        return f"after {self._method} " if self._passed else ""

    def refusal(
        self, what: str, hint: str, transport: StrictTransport, told: str = "", *, is_ended_by_us: bool = False
    ) -> AuthenticationRefused:
        ending = "" if transport.is_active() or is_ended_by_us else "; then the server ended the connection"
        asked = f"; {told}" if told else ""
        return AuthenticationRefused(
            f"{self._who} was not let in: {self._after}{what} was refused{asked}{ending}", hint=hint
        )

    def refused_keys(self, keys: Sequence[paramiko.PKey], transport: StrictTransport) -> AuthenticationRefused:
        shown = ", ".join(f"{key.get_name()} {key.fingerprint}" for key in keys[:MAX_KEYS_SHOWN])
        more = len(keys) - MAX_KEYS_SHOWN
        what = f"the key {shown}{f' and {more} more' if more > 0 else ''}"
        fault = explain_certificates(keys, self._given.username)
        hint = f"{fault} {AGENT_KEY_HINT}".lstrip() if isinstance(self._given, SshAgent) else fault or KEY_HINT
        if any("rsa" in key.get_name() for key in keys) and transport.may_want_sha1:
            hint = f"{hint} {SHA1_HINT}"
        return self.refusal(what, hint, transport)

    def no_signature(self, key: paramiko.PKey, error: NoSignatureInCommon) -> AuthenticationRefused:
        """The server has said beforehand that it takes no signature which this key makes."""
        taken = ", ".join(clean_prompt(name) for name in error.taken)
        hint = SHA1_HINT if "ssh-rsa" in error.taken else "Use a key of another type: ed25519 is best."
        return AuthenticationRefused(
            f"{self._who} was not let in: the server takes no signature that the key {key.get_name()} {key.fingerprint} "
            f"makes here: it takes {taken}; the runner signs with {', '.join(error.ours)}",
            hint=hint,
        )

    def refused_answers(self, transport: StrictTransport, error: Exception) -> AuthenticationRefused:
        answering = self._answering
        if isinstance(error, PasswordExpired):
            return self.refusal("the password", EXPIRED_HINT, transport)
        hints = [PASSWORD_HINT] if answering.has_given_password else []
        hints += [CODE_HINT] if answering.has_given_code else []
        is_ours = isinstance(error, LoginAbandoned)
        again = f"{error}; " if is_ours else ""
        what = answering.given if answering.asked else "the login by keyboard-interactive"
        told = f"{again}{answering.asked}".removesuffix("; ")
        return self.refusal(what, " ".join(hints) or ANSWER_HINT, transport, told, is_ended_by_us=is_ours)

    def asked_for_more(self, error: NotAnswered) -> AuthenticationRefused:
        """The server asked a question that the step has no answer to."""
        wanted = f"after {self._method} the server also wants {INTERACTIVE}; " if self._passed else ""
        hint = BESIDE_KEY_HINT if error.hint == NO_PASSWORD_HINT else error.hint
        before = f"; before, {self._answering.asked}" if self._answering.asked else ""
        return AuthenticationRefused(
            f"{self._who} was asked for more than the step gives: {wanted}{error.reason}{before}", hint=hint
        )

    def nothing_left(self, methods: Sequence[str]) -> AuthenticationRefused:
        """The step has nothing for any method that can continue."""
        offered = " or ".join(clean_prompt(name) for name in methods) or "another method"
        wants_password = {PASSWORD, INTERACTIVE} & set(methods) and self._given.password is None
        hint = BESIDE_KEY_HINT if wants_password and not self._is_by_password else ""
        if self._passed:
            return AuthenticationRefused(
                f"{self._who} was asked for more than the step gives: after {self._method} the server also wants {offered}",
                hint=hint or self._hint_for(methods),
            )
        given = "a password" if self._is_by_password else "a key"
        return AuthenticationRefused(
            f"{self._who} was not let in: the server takes {offered.replace(' or ', ', ')}, and the step gives {given}",
            hint=f"{hint} This server wants it before the key, or instead of it." if hint else self._hint_for(methods),
        )

    @property
    def _is_by_password(self) -> bool:
        return isinstance(self._given, UsernamePassword)

    def _hint_for(self, methods: Sequence[str]) -> str:
        """What to give for methods that the step has nothing for."""
        if PUBLIC_KEY in methods and PUBLIC_KEY in self._passed:
            return "The server wants a second key: 'authentication_method: ssh_agent' offers all that the agent holds."
        if PUBLIC_KEY in methods:
            beside = "with 'password' beside it " if self._passed else ""
            return f"Use a key {beside}('authentication_method: ssh_key', 'ssh_key_file' or 'ssh_agent')."
        return (
            "The runner knows publickey, password and keyboard-interactive; ask the server's operator for one of these."
        )
