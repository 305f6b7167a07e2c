"""`runner vault`: encrypts and decrypts files and values, interchangeable with `ansible-vault`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from runner.cli.groups import CommandGroup
from runner.cli.options import vault_option
from runner.cli.output_file import write_file
from runner.cli.standard_streams import require_written
from runner.errors import UsageError
from runner.playbook.vault_password import ENVIRONMENT_NAMES, OPTION, Vault
from runner.redaction import Redactor

STANDARD = "-"
# As ansible-vault indents a value.
INDENT = " " * 10

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


@click.group("vault", cls=CommandGroup, short_help="Encrypt and decrypt secrets in Ansible Vault's format.")
def command() -> None:
    """Encrypt and decrypt files, and values of playbooks, in Ansible Vault's format.

    The password comes from --vault-password-file or the environment. On a terminal it is asked for if neither names a
    file.

    \b
    Examples:
      runner vault encrypt secrets.yaml
      runner vault view secrets.yaml
      runner vault encrypt-string --name bank_password < password.txt
    """


files_argument = click.argument("files", metavar="FILE...", nargs=-1, required=True)
output_option = click.option(
    "--output", metavar="FILE", help="Write there instead of into the file itself; '-' is standard output."
)
label_option = click.option(
    "--label", metavar="LABEL", default="", help="Name the password (Ansible's vault id) in the header: format 1.2."
)


@command.command("encrypt", short_help="Encrypt files in place.")
@files_argument
@output_option
@label_option
@vault_option
@click.pass_obj
def encrypt_command(redactor: Redactor, files: tuple[str, ...], output: str | None, label: str, vault: Vault) -> int:
    """Encrypt files in place, each in one step; '-' is standard input. A file keeps its permissions."""
    from runner.playbook.vault import encrypt, is_encrypted

    contents = _read_all(files, output)
    for name, content in zip(files, contents, strict=True):
        if is_encrypted(content):
            raise UsageError(f"{name} is encrypted already", hint="`runner vault view` shows what is in it.")
    password = _find_password(vault, redactor, is_new=True)
    encrypted = _convert(files, contents, lambda content: encrypt(content, password, label).encode("ascii"))
    _write_all(files, encrypted, output)
    return 0


@command.command("decrypt", short_help="Decrypt files in place.")
@files_argument
@output_option
@vault_option
@click.pass_obj
def decrypt_command(redactor: Redactor, files: tuple[str, ...], output: str | None, vault: Vault) -> int:
    """Decrypt files in place, each in one step; '-' is standard input. A file keeps its permissions.

    All of them are decrypted before the first one is written.
    """
    _write_all(files, _decrypt_all(files, output, vault, redactor), output)
    return 0


@command.command("view", short_help="Print what is in encrypted files.")
@files_argument
@vault_option
@click.pass_obj
def view_command(redactor: Redactor, files: tuple[str, ...], vault: Vault) -> int:
    """Print what is in encrypted files; the files stay as they are."""
    for content in _decrypt_all(files, None, vault, redactor):
        _write_out(content)
    return 0


@command.command("encrypt-string", short_help="Encrypt a value, ready to be pasted into a playbook.")
@click.argument("text", metavar="[STRING|-]", required=False)
@click.option("--name", metavar="NAME", default="", help="The key that the value is to have.")
@output_option
@label_option
@vault_option
@click.pass_obj
def encrypt_string_command(
    redactor: Redactor, text: str | None, name: str, output: str | None, label: str, vault: Vault
) -> int:
    """Encrypt a value and print it as YAML, ready to be pasted into a playbook.

    The value is read from standard input, without the line end that closes it; on a terminal it is asked for and not
    shown. A STRING on the command line shows in the process list of every user of the machine.

    \b
    Examples:
      runner vault encrypt-string --name bank_password < password.txt
      pass show bank | runner vault encrypt-string --name bank_password
    """
    from runner.playbook.vault import encrypt

    if name and not _NAME.fullmatch(name):
        raise UsageError(f"--name {name!r} cannot be a key", hint="Use letters, digits, '_', '.' and '-'.")
    value = _read_value(text)
    if not value:
        raise UsageError("there is nothing to encrypt: the value is empty")
    password = _find_password(vault, redactor, is_new=True)
    [encrypted] = _convert(("the value",), [value], lambda content: encrypt(content, password, label).encode("ascii"))
    lines = encrypted.decode("ascii").splitlines()
    yaml = "\n".join([f"{name}: !vault |" if name else "!vault |", *(INDENT + line for line in lines)]) + "\n"
    _write_all((STANDARD,), [yaml.encode("ascii")], output)
    return 0


def _find_password(vault: Vault, redactor: Redactor, *, is_new: bool) -> bytes:
    """From the password file; without one, from whoever sits at the terminal. A new one is asked for twice."""
    if vault.has_password_file:
        return vault.password
    if not sys.stdin.isatty():
        hint = f"Name a password file: {OPTION} FILE, or {ENVIRONMENT_NAMES[0]} in the environment."
        raise UsageError("no vault password is given, and standard input is no terminal to ask at", hint=hint)
    answer: str = click.prompt("Vault password", hide_input=True, confirmation_prompt=is_new, err=True)
    redactor.add(answer)
    return answer.strip().encode("utf-8", "surrogateescape")


def _read_value(text: str | None) -> bytes:
    if text is not None and text != STANDARD:
        return text.encode("utf-8", "surrogateescape")
    if sys.stdin.isatty():
        answer: str = click.prompt("Value to encrypt", hide_input=True, confirmation_prompt=True, err=True)
        return answer.encode("utf-8", "surrogateescape")
    [content] = _read_all((STANDARD,), None)
    return content.removesuffix(b"\n").removesuffix(b"\r")


def _decrypt_all(files: tuple[str, ...], output: str | None, vault: Vault, redactor: Redactor) -> list[bytes]:
    from runner.playbook.vault import check_format, decrypt

    contents = _read_all(files, output)
    # A file that is not encrypted is better told of before somebody types a password.
    for name, content in zip(files, contents, strict=True):
        with _naming(name):
            check_format(content.decode("ascii", "replace"))
    password = _find_password(vault, redactor, is_new=False)
    return _convert(files, contents, lambda content: decrypt(content.decode("ascii"), password))


def _convert(names: tuple[str, ...], contents: list[bytes], convert: Callable[[bytes], bytes]) -> list[bytes]:
    converted = []
    for name, content in zip(names, contents, strict=True):
        with _naming(name):
            converted.append(convert(content))
    return converted


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Inside the block, what is wrong with a text is told as a `UsageError` that names its file."""
    from runner.playbook.vault import VaultProblem

    try:
        yield
    except VaultProblem as error:
        raise UsageError(f"{name}: {error.message}", hint=error.hint) from error


def _read_all(files: tuple[str, ...], output: str | None) -> list[bytes]:
    from runner.playbook.files import read_bytes
    from runner.playbook.vault import MAX_ENCRYPTED_BYTES

    if output is not None and len(files) > 1:
        raise UsageError("--output takes the result of one file only")
    if len(set(files)) != len(files):
        raise UsageError("a file is named twice")
    contents = []
    for name in files:
        limit_bytes = MAX_ENCRYPTED_BYTES + 1
        try:
            content = sys.stdin.buffer.read(limit_bytes) if name == STANDARD else read_bytes(name, limit_bytes)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}") from error
        if len(content) == limit_bytes:
            raise UsageError(f"{name} is too large for a vault")
        contents.append(content)
    return contents


def _write_all(files: tuple[str, ...], contents: list[bytes], output: str | None) -> None:
    for name, content in zip(files, contents, strict=True):
        target = name if output is None else output
        if target == STANDARD:
            _write_out(content)
            continue
        try:
            write_file(target, content, new_permissions=0o600, is_synced=True)
        except OSError as error:
            raise UsageError(f"cannot write {target}: {error.strerror}") from error


def _write_out(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()
    require_written()
