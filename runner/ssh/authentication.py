"""Logs in exactly the way a step says, with no fallback to any other credential.

One method may be split in two by the server: a password may be asked for by keyboard-interactive, and a key may be
followed by a password when the server wants both. A line that breaks meanwhile is no refusal: it may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import paramiko

from runner.errors import AuthenticationRefused, ConnectionLost
from runner.plan import Endpoint, SshAgent, UsernamePassword
from runner.ssh.login_keys import make_login_key
from runner.ssh.questions import PasswordExpired
from runner.ssh.transport import StrictTransport
from runner.ssh.user_certificates import explain_certificates

if TYPE_CHECKING:
    from runner.ssh.credentials import Credential

# A password prompt may follow others ("Verification code:"); a server that keeps asking is not given answers for ever.
MAX_PROMPT_ROUNDS = 5

PASSWORD_HINT = "Check 'username' and 'password'; after several refusals an account may be locked."
EXPIRED_HINT = "Log in once by hand (ssh USER@HOST), give it a new password, and put that into 'password'."
KEY_HINT = "Check 'username'; is the key's public half in this user's authorized_keys on the server?"
AGENT_KEY_HINT = (
    "Is the key in the agent (ssh-add -l), and in the server's authorized_keys? Servers give up after a few keys: name "
    "the right one under 'public_key'."
)


class AskedAgain(paramiko.AuthenticationException):
    """We ended a login in which the server kept asking."""


class ExplicitAuthentication(paramiko.AuthStrategy):
    """Authenticates as one endpoint's `authentication` says. `method` tells afterwards how."""

    def __init__(self, endpoint: Endpoint, credentials: Iterable[Credential]) -> None:
        super().__init__(ssh_config=paramiko.SSHConfig())
        self._endpoint = endpoint
        self._given = endpoint.authentication
        self.method = ""
        self._keys = [make_login_key(credential) for credential in credentials]

    def authenticate(self, transport: StrictTransport) -> Any:
        """Called by the client once the host key is accepted. Raises `AuthenticationRefused`, `ConnectionLost`."""
        # Nothing is tried twice: a wrong password must not lock an account.
        if isinstance(self._given, UsernamePassword):
            remaining = self._try_password(transport, self._given.password)
        else:
            remaining = self._try_keys(transport)
        if not transport.is_authenticated():
            self._finish(transport, remaining)
        return paramiko.AuthResult(self)

    def _try_keys(self, transport: StrictTransport) -> list[str]:
        allowed: list[str] = []
        for key in self._keys:
            try:
                remaining = self._ask(transport, partial(transport.auth_publickey, self._given.username, key))
                self.method = "publickey"
                return remaining
            except paramiko.BadAuthenticationType as error:
                allowed = list(error.allowed_types)
                break
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    break
        shown = ", ".join(f"{key.get_name()} {key.fingerprint}" for key in self._keys[:3])
        more = f" and {len(self._keys) - 3} more" if len(self._keys) > 3 else ""
        fault = explain_certificates(self._keys, self._given.username)
        hint = f"{fault} {AGENT_KEY_HINT}".lstrip() if isinstance(self._given, SshAgent) else fault or KEY_HINT
        raise self._refusal(f"the key {shown}{more}", hint, transport, allowed)

    def _try_password(self, transport: StrictTransport, password: str) -> list[str]:
        username = self._given.username
        try:
            remaining = self._ask(transport, partial(transport.auth_password, username, password, fallback=False))
            self.method = (self.method + "+" if self.method else "") + "password"
            return remaining
        except paramiko.BadAuthenticationType as error:
            if "keyboard-interactive" not in error.allowed_types:
                raise self._refusal("the password", PASSWORD_HINT, transport, list(error.allowed_types)) from error
        except PasswordExpired as error:
            raise self._refusal(
                "the password, which the server wants to be changed first,", EXPIRED_HINT, transport
            ) from error
        except paramiko.AuthenticationException as error:
            raise self._refusal("the password", PASSWORD_HINT, transport) from error
        try:
            answer = answer_password_prompts(password)
            remaining = self._ask(transport, partial(transport.auth_interactive, username, answer))
            self.method = (self.method + "+" if self.method else "") + "keyboard-interactive"
            return remaining
        except paramiko.AuthenticationException as error:
            raise self._refusal("the password", PASSWORD_HINT, transport) from error

    def _finish(self, transport: StrictTransport, remaining: list[str]) -> None:
        """The server accepted the first factor and wants another one."""
        password = getattr(self._given, "password", None)
        wants_password = {"password", "keyboard-interactive"} & set(remaining)
        if isinstance(self._given, UsernamePassword) or not wants_password or password is None:
            hint = "Add 'password' beside the key." if wants_password else ""
            raise AuthenticationRefused(
                f"{self._who} was asked for more than the step gives: after {self.method} the server also wants "
                f"{' or '.join(remaining) or 'another method'}",
                hint=hint or "Only a key followed by a password is supported.",
            )
        self._try_password(transport, password)
        if not transport.is_authenticated():
            raise self._refusal("a key and a password", "The server wants yet another factor.", transport)

    def _ask(self, transport: StrictTransport, log_in: Callable[[], Any]) -> list[str]:
        """Try one login; the methods the server wants besides. Raises paramiko's refusals, and `ConnectionLost`."""
        transport.ask_for_verdict()
        try:
            return list(log_in())
        except paramiko.AuthenticationException as error:
            if transport.was_cut and not isinstance(error, AskedAgain | PasswordExpired):
                lost = transport.find_lost_hop()
                raise ConnectionLost(
                    f"the connection to {self._endpoint} broke off during the login of {self._given.username}"
                    f"{f': {lost}' if lost else ''}",
                    hint="The network failed, or the server ended the session without saying why; its log may tell.",
                ) from error
            raise

    @property
    def _who(self) -> str:
        return f"{self._given.username}@{self._endpoint}"

    def _refusal(
        self, what: str, hint: str, transport: StrictTransport, allowed: list[str] | None = None
    ) -> AuthenticationRefused:
        offers = f"; the server takes {', '.join(allowed)}" if allowed else ""
        ending = "" if transport.is_active() else "; then the server ended the connection"
        return AuthenticationRefused(f"{self._who} was not let in: {what} was refused{offers}{ending}", hint=hint)


def answer_password_prompts(password: str) -> Callable[[str, str, list[tuple[str, bool]]], list[str]]:
    """A handler for keyboard-interactive that answers hidden prompts with the password, in one round only."""
    rounds = 0
    is_given = False

    def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        nonlocal rounds, is_given
        rounds += bool(prompts)
        wants_password = any(not is_echoed for _, is_echoed in prompts)
        # Asked again, the password was wrong or something else is wanted; to repeat it could lock the account.
        if rounds > MAX_PROMPT_ROUNDS or (wants_password and is_given):
            raise AskedAgain("the server asked again")
        is_given = is_given or wants_password
        # What is echoed is no password prompt: the password must not end up on a screen or in a log.
        return ["" if is_echoed else password for _, is_echoed in prompts]

    return answer
