"""The vault password: where it comes from, and what is decrypted with it."""

from __future__ import annotations

import os

from runner.errors import UsageError
from runner.playbook.files import read_bytes
from runner.playbook.vault import VaultProblem, check_format, decrypt, is_encrypted
from runner.redaction import Redactor

# In the order in which they are asked, after the option.
ENVIRONMENT_NAMES = ("RUNNER_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_PASSWORD_FILE")
OPTION = "--vault-password-file"

MAX_PASSWORD_BYTES = 64 * 1024


class NoPassword(VaultProblem):
    """Something is encrypted, and no password file is named."""

    def __init__(self) -> None:
        super().__init__(
            "this is encrypted, and no vault password is given",
            f"Name a password file: {OPTION} FILE, or {ENVIRONMENT_NAMES[0]} in the environment.",
        )


class Vault:
    """Decrypts with one password, which is read when something encrypted is met, and not before.

    The password, and everything that is decrypted, is made known to the redactor before anybody else sees it.
    """

    def __init__(self, password_file: str | None, redactor: Redactor) -> None:
        self.password_file = password_file
        self.redactor = redactor
        self._password: bytes | None = None

    @property
    def has_password_file(self) -> bool:
        """Whether somebody has named one."""
        return self.password_file is not None

    @property
    def password(self) -> bytes:
        """The password. Raises `NoPassword`, or `UsageError` if the password file is of no use."""
        if self._password is None:
            if self.password_file is None:
                raise NoPassword
            self._password = read_password(self.password_file)
            self.redactor.add(self._password.decode("utf-8", "replace"))
        return self._password

    def decrypt(self, text: str) -> str:
        """The text that was encrypted. Raises `VaultProblem`, or `UsageError` if the password file is of no use."""
        plain = self.decrypt_quietly(text)
        self.redactor.add(plain)
        return plain

    def decrypt_quietly(self, text: str) -> str:
        """As `decrypt`, for a text of which only parts are secret: it is left to the caller to say which."""
        check_format(text)
        plain = decrypt(text, self.password)
        try:
            return plain.decode("utf-8")
        except UnicodeDecodeError as error:
            raise VaultProblem("what was encrypted is not UTF-8 text") from error


def read_password(path: str) -> bytes:
    """The password that the file holds or, if it is executable, prints.

    As in Ansible: white space around it belongs to the file, line ends around it to the program's output. Raises
    `UsageError`.
    """
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isfile(path) and os.access(path, os.X_OK):
        password = _ask_program(path).strip(b"\r\n")
    else:
        password = _read_file(path).strip()
    if is_encrypted(password):
        raise UsageError(
            f"the vault password file {path} is itself encrypted", hint="Name one that holds the password."
        )
    if not password:
        raise UsageError(f"the vault password file {path} gives an empty password")
    if len(password) > MAX_PASSWORD_BYTES:
        raise UsageError(f"the vault password file {path} gives more than {MAX_PASSWORD_BYTES // 1024} KiB")
    return password


def _read_file(path: str) -> bytes:
    try:
        return read_bytes(path, MAX_PASSWORD_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the vault password file {path}: {error.strerror}",
            hint=f"It is named by {OPTION} or, in this order, by {' and '.join(ENVIRONMENT_NAMES)}.",
        ) from error


def _ask_program(path: str) -> bytes:
    from runner.playbook.commands import CommandFailed, run_command

    try:
        return run_command([path])
    except CommandFailed as error:
        raise UsageError(
            f"the vault password program {path} gave no password: {error}",
            hint="A password file that is executable is run. If it is no program, take the right to execute it away.",
        ) from error
