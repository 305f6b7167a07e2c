"""What `lookup(…)` in a template finds on this machine."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from runner.playbook.document import MAX_ENCRYPTED_FILE_BYTES, shorten
from runner.playbook.files import read_bytes
from runner.playbook.vault import VaultProblem, is_encrypted
from runner.playbook.vault_password import ENVIRONMENT_NAMES, Vault
from runner.redaction import Redactor

MAX_RESULT_LENGTH = 1024 * 1024
MAX_FILE_NAMES = 10_000


# A secret of this length is looked for inside of other variables, such as a URL with a password in it.
MIN_CONTAINED_LENGTH = 8

# What a command may have where it cannot be told which variables hold secrets.
_ORDINARY_NAMES = frozenset(
    ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "PWD", "SHELL", "SSH_AUTH_SOCK", "TERM", "TMPDIR", "TZ", "USER")
)


@dataclass(frozen=True, slots=True)
class HiddenNames:
    """The environment variables that hold a secret. Where not `are_all_known`, others may hold one as well."""

    names: frozenset[str] = frozenset()
    are_all_known: bool = True


class LookupFailed(Exception):
    """A lookup found nothing."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Sources:
    """Where lookups start, and what decrypts the files they find and knows what must not get out."""

    folder: Path
    vault: Vault
    files_read: set[str] = field(default_factory=set)


def read_environment(name: str, default: object = None) -> str:
    """The environment variable, or the default where it is not set. Raises `LookupFailed`."""
    value = os.environ.get(name)
    if value is None and default is not None:
        return default if isinstance(default, str) else str(default)
    if value is None:
        hint = f"Set it in the environment of this command (export {name}=…), or in the CI job's variables."
        raise LookupFailed(f"the environment variable {name} is not set", hint)
    return value


def read_file(name: str, sources: Sources, *, is_stripped: bool) -> str:
    """The text of a file, decrypted if it is a vault's. Raises `LookupFailed`."""
    path = sources.folder / os.path.expanduser(name)
    sources.files_read.add(str(path))
    try:
        raw = read_bytes(path, MAX_RESULT_LENGTH + 1)
        if was_encrypted := is_encrypted(raw):
            raw = read_bytes(path, MAX_ENCRYPTED_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise LookupFailed(
            f"lookup('file') cannot read {name!r}: {error.strerror}",
            f"The path is relative to the playbook's folder: {path}.",
        ) from error
    except UnicodeDecodeError as error:
        raise LookupFailed(f"lookup('file'): {name!r} is not UTF-8 text") from error
    if len(raw) > (MAX_ENCRYPTED_FILE_BYTES if was_encrypted else MAX_RESULT_LENGTH):
        raise LookupFailed(f"lookup('file'): {name!r} is larger than 1 MiB")
    if was_encrypted:
        try:
            text = sources.vault.decrypt(text)
        except VaultProblem as error:
            raise LookupFailed(f"lookup('file'): {name!r}: {error.message}", error.hint) from error
    return text.rstrip() if is_stripped else text


def find_files(pattern: str, folder: Path) -> list[str]:
    """The full paths of the files (not folders) that a pattern matches, sorted. Raises `LookupFailed`."""
    found = glob.iglob(os.path.expanduser(pattern), root_dir=folder)
    paths = (os.path.join(folder, name) for name in found)
    names = list(islice((path for path in paths if os.path.isfile(path)), MAX_FILE_NAMES + 1))
    if len(names) > MAX_FILE_NAMES:
        raise LookupFailed(f"lookup('fileglob'): {pattern!r} matches more than {MAX_FILE_NAMES:,} files")
    return sorted(names)


def read_command(command: str, sources: Sources, hidden: HiddenNames) -> str:
    """What a shell command prints, without the white space at its end. Raises `LookupFailed`.

    The command runs in the playbook's folder. It is not given what the process list would show: a command line with a
    secret in it is refused, and variables that hold one are left out of its environment.
    """
    # Starting programs takes a while to import, and few playbooks do it.
    from runner.playbook.commands import CommandFailed, run_command

    if "\0" in command or not command.strip():
        raise LookupFailed("lookup('pipe') needs a command")
    redactor = sources.vault.redactor
    # The command could look at our environment: what it holds, and what the command prints, may be secret.
    redactor.expect_secrets()
    if redactor.redact(command) != command:
        hint = "Let the command read it from a file or from its own store."
        raise LookupFailed("lookup('pipe'): the command holds a secret, which the process list would show", hint)
    environment = make_environment(os.environ, redactor.secrets, hidden)
    shown = f"lookup('pipe', {shorten(repr(command))})"
    try:
        output = run_command(["/bin/sh", "-c", command], folder=str(sources.folder), environment=environment)
        return output.decode("utf-8").rstrip()
    except CommandFailed as error:
        raise LookupFailed(f"{shown}: {error}", "It runs in /bin/sh, in the playbook's folder.") from error
    except UnicodeDecodeError as error:
        raise LookupFailed(f"{shown}: the output is not UTF-8 text") from error


def make_environment(given: Mapping[str, str], secrets: Collection[str], hidden: HiddenNames) -> dict[str, str]:
    """The environment of a command: what is `given`, but for what holds a secret.

    Left out are the variables that are hidden, those with the value of one, those that are or contain a known secret, and
    those that lead to the vault's password.
    """
    names = {*hidden.names, *ENVIRONMENT_NAMES}
    values = {given[name] for name in hidden.names if given.get(name, "").strip()} | set(secrets)
    # A short one may be a part of anything.
    redactor = Redactor(value for value in values if len(value) >= MIN_CONTAINED_LENGTH)
    return {
        name: value
        for name, value in given.items()
        if name not in names
        and value not in values
        and redactor.redact(value) == value
        and (hidden.are_all_known or _is_ordinary(name))
    }


def _is_ordinary(name: str) -> bool:
    return name in _ORDINARY_NAMES or name.startswith(("LC_", "XDG_"))
