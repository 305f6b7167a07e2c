"""What `lookup(…)` in a template finds on this machine."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Mapping
from dataclasses import field
from itertools import islice
from pathlib import Path
from typing import Any

from runner.playbook.document import MAX_ENCRYPTED_FILE_BYTES, shorten
from runner.playbook.files import read_bytes
from runner.playbook.provenance import Origin, Source, choose_source, find_outside, find_parts, mark_outside, origin_of
from runner.playbook.vault import VaultProblem, is_encrypted
from runner.playbook.vault_password import ENVIRONMENT_NAMES, Vault
from runner.received_files import ReceivedFiles
from runner.redaction import Redactor
from runner.values import dataclass

MAX_RESULT_LENGTH = 1024 * 1024
MAX_FILE_NAMES = 10_000

# Every kind of lookup, and the options it takes.
LOOKUP_OPTIONS: dict[str, tuple[str, ...]] = {
    "env": ("default",),
    "file": ("rstrip",),
    "fileglob": ("wantlist",),
    "first_found": ("files", "paths", "skip"),
    "pipe": (),
    "template": (),
    "vars": ("default",),
}
# What reads or runs something is not led by extra vars, the others only look for a name.
_GUARDED = {
    "env": "Choose among names that the playbook writes: lookup('env', {'test': 'NAME', 'live': 'OTHER'}[stage]).",
    "file": "If it is meant, say so: lookup('file', NAME | trusted_path).",
    "template": "If it is meant, say so: lookup('template', NAME | trusted_path).",
    "pipe": "Make one word of it for the shell: lookup('pipe', 'git log -1 ' ~ (NAME | quote)).",
}

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
    received: ReceivedFiles = field(default_factory=ReceivedFiles)

    def find_server(self, name: str) -> Source | None:
        """Who has said what is in a file that a step of this play has received; None for any other file."""
        step = self.received.find_step(os.path.join(self.folder, os.path.expanduser(name)))
        return Source(f"the file {name!r}, which {step} has received from its server", Origin.SERVER) if step else None


def refuse_other_name(*terms: Any, **options: Any) -> Any:
    """What `lookup` is to everything but a call by its name. Raises `LookupFailed`."""
    raise LookupFailed("'lookup' is called under another name", "Write lookup(…) itself where it is needed.")


def refuse_outside(kind: str, term: Any) -> None:
    """Raise `LookupFailed` if what is to be looked up was said by a server, or by extra vars where these have no say.

    Extra vars may be a word in the command of a `pipe`, quoted. What a server has said is no part of any lookup.
    """
    sources = [
        part.source for part in find_parts(term) if part.source and not _may_be_word(kind, part.source, part.is_quoted)
    ]
    source = choose_source(sources)
    if origin_of(source) is Origin.SERVER:
        hint = "What a server says is data: choose with it among values that the playbook writes."
        raise LookupFailed(f"lookup('{kind}') takes nothing that comes from a server: {source}", hint)
    if origin_of(source) is Origin.EXTRA_VARS and kind in _GUARDED:
        raise LookupFailed(f"lookup('{kind}') takes nothing from outside: {source}", _GUARDED[kind])


def _may_be_word(kind: str, source: str, is_quoted: bool) -> bool:
    return kind == "pipe" and is_quoted and origin_of(source) is Origin.EXTRA_VARS


def read_environment(name: str, default: object = None) -> str:
    """The environment variable, or the default where it is not set. Raises `LookupFailed`."""
    value = os.environ.get(name)
    if value is None and default is not None:
        return default if isinstance(default, str) else str(default)
    if value is None:
        hint = f"Set it in the environment of this command (export {name}=…), or in the CI job's variables."
        raise LookupFailed(f"the environment variable {name} is not set", hint)
    return value


def read_file(name: str, sources: Sources, *, is_stripped: bool, kind: str = "file") -> str:
    """The text of a file, decrypted if it is a vault's. `kind` is the lookup, for messages. Raises `LookupFailed`."""
    path = sources.folder / os.path.expanduser(name)
    if kind == "template" and (server := sources.find_server(name)):
        hint = "A template is code, and what a server has sent is data: use lookup('file', …) for its text."
        raise LookupFailed(f"lookup('template') does not fill in {server}", hint)
    sources.files_read.add(str(path))
    try:
        raw = read_bytes(path, MAX_RESULT_LENGTH + 1)
        if was_encrypted := is_encrypted(raw):
            raw = read_bytes(path, MAX_ENCRYPTED_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise LookupFailed(
            f"lookup('{kind}') cannot read {name!r}: {error.strerror}",
            f"The path is relative to the playbook's folder: {path}.",
        ) from error
    except UnicodeDecodeError as error:
        raise LookupFailed(f"lookup('{kind}'): {name!r} is not UTF-8 text") from error
    if len(raw) > (MAX_ENCRYPTED_FILE_BYTES if was_encrypted else MAX_RESULT_LENGTH):
        raise LookupFailed(f"lookup('{kind}'): {name!r} is larger than 1 MiB")
    if was_encrypted:
        try:
            text = sources.vault.decrypt(text)
        except VaultProblem as error:
            raise LookupFailed(f"lookup('{kind}'): {name!r}: {error.message}", error.hint) from error
    return text.rstrip() if is_stripped else text


def find_matches(patterns: tuple[Any, ...], sources: Sources, *, is_list: bool) -> Any:
    """The full paths of the files (not folders) that the patterns match, in order; or one text with commas between them.

    Raises `LookupFailed`.
    """
    names = [name for pattern in patterns for name in _find_files(str(pattern), sources.folder)]
    # Who chose the pattern has a part in the names, and so has a server that chose them.
    origin = origin_of(find_outside(patterns))
    if any(sources.received.find_step(name) for name in names):
        origin = Origin.SERVER
    source = Source(f"a file that {', '.join(repr(str(pattern)) for pattern in patterns)} matches", origin)
    return mark_outside(names if is_list else ",".join(names), source)


def _find_files(pattern: str, folder: Path) -> list[str]:
    found = glob.iglob(os.path.expanduser(pattern), root_dir=folder)
    paths = (os.path.join(folder, name) for name in found)
    names = list(islice((path for path in paths if os.path.isfile(path)), MAX_FILE_NAMES + 1))
    if len(names) > MAX_FILE_NAMES:
        raise LookupFailed(f"lookup('fileglob'): {pattern!r} matches more than {MAX_FILE_NAMES:,} files")
    return sorted(names)


def find_first(terms: tuple[Any, ...], options: Mapping[str, Any], folder: Path) -> str:
    """The full path of the first file, or folder, that there is; empty if there is none and `skip` says so.

    A term is a name, a list of names, or a mapping with `files` and `paths`. Raises `LookupFailed`.
    """
    names = [name for term in terms or ([],) for name in _expand(term, options)]
    for name in names:
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))
        if "\0" not in path and os.path.exists(path):
            source = find_outside(name)
            found: str = mark_outside(path, source) if source else path
            return found
    if options.get("skip"):
        return ""
    shown = ", ".join(repr(str(name)) for name in names[:5]) + (", …" if len(names) > 5 else "")
    hint = f"Names are relative to the playbook's folder: {folder}. With skip=true the result is empty then."
    raise LookupFailed(f"lookup('first_found'): there is none of {shown or 'no names at all'}", hint)


def _expand(term: Any, options: Mapping[str, Any]) -> list[str]:
    """The names that one term stands for, below each of the paths if there are some."""
    if isinstance(term, Mapping):
        return _expand([], {**options, **term})
    names = _to_names([*_to_names(term), *_to_names(options.get("files"))])
    folders = _to_names(options.get("paths"))
    return [f"{folder}/{name}" for folder in folders for name in names] if folders else names


def _to_names(value: Any) -> list[str]:
    names = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str) for name in names):
        hint = "Write lookup('first_found', ['a.yaml', 'b.yaml'], paths=['x'])."
        raise LookupFailed("lookup('first_found') needs names of files, as text", hint)
    return names


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
