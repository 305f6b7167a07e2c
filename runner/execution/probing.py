"""Tries out in a directory of a server what only a try can tell: `runner doctor --probe`. Nothing is left behind there."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from typing import Any

from runner.cancellation import Cancellation
from runner.errors import StepError, UnreachableError, VerificationFailed
from runner.findings import ProbeFacts, Trial
from runner.plan import CopyFileFromEngine
from runner.remote_files import Errand
from runner.results import CopyResult
from runner.sftp.files import SftpFiles
from runner.transfer.batch import running_batch
from runner.transfer.context import Surroundings
from runner.transfer.upload import upload_file
from runner.transfer.verification import find_window

# What is asked for first, and then less and less: the options, and the lines that stand for them in a mode.
_WAYS: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    ({}, ()),
    ({"leaves_permissions": True, "preserve": frozenset()}, ("permissions: server", "preserve: []")),
    ({"atomic": False}, ("atomic: false",)),
    (
        {"atomic": False, "leaves_permissions": True, "preserve": frozenset(), "verify": "none"},
        ("atomic: false", "permissions: server", "preserve: []", "verify: none", "compare: always"),
    ),
)
MODE = 0o640
# An odd second, so that rounding shows.
WRITTEN_AT_SECONDS = 1_500_000_001
CONTENT_BYTES = 3000


def probe(remote: SftpFiles, folder: str, peer: str, cancellation: Cancellation) -> ProbeFacts:
    """Write, replace, hash, list, link, rename and remove a file in a folder of the server, and say what came of each.

    Raises what ends the session; what the server refuses is one of the findings.
    """
    surroundings = Surroundings(remote, peer, False, lambda done, total: None, cancellation)
    return _Probe(remote, folder, surroundings).run()


class _Probe:
    def __init__(self, remote: SftpFiles, folder: str, around: Surroundings) -> None:
        self._remote = remote
        self._folder = folder
        self._around = around
        self._stem = f"runner-probe-{secrets.token_hex(6)}"
        above = folder if folder.endswith("/") else f"{folder}/"
        self._path, self._link, self._renamed = (f"{above}{self._stem}{end}" for end in (".txt", ".lnk", ".new"))
        self._trials: list[Trial] = []
        self._advice: list[str] = []
        self._options: dict[str, Any] = {}

    def run(self) -> ProbeFacts:
        with tempfile.TemporaryDirectory() as local:
            try:
                if self._write(local):
                    self._look()
                    self._try("replace", lambda: self._replace(local))
                    self._try("hash", self._hash)
                    self._try("list", self._list)
                    self._try("link", self._make_link)
                    self._try("rename", self._rename)
                    self._try("remove", self._remove)
            finally:
                self._tidy_up()
        return ProbeFacts(self._folder, tuple(self._trials), tuple(dict.fromkeys(self._advice)))

    def _try(self, name: str, work: Callable[[], str]) -> bool:
        try:
            self._trials.append(Trial(name, work(), is_well=True))
        except UnreachableError:
            raise
        except StepError as error:
            self._trials.append(Trial(name, error.message, is_well=False))
        return self._trials[-1].is_well

    def _write(self, local: str) -> bool:
        for options, lines in _WAYS:
            self._options = options
            if self._try("write", lambda: self._describe(self._copy(local, b"a"))):
                self._advice += lines
                return True
        return False

    def _copy(self, local: str, byte: bytes) -> CopyResult:
        source = os.path.join(local, "file")
        with open(source, "wb") as file:
            file.write(byte * CONTENT_BYTES)
        os.chmod(source, MODE)
        os.utime(source, (WRITTEN_AT_SECONDS, WRITTEN_AT_SECONDS))
        copy = CopyFileFromEngine(source, self._path, compare="always", create_parents=False, **self._options)
        return upload_file(copy, self._around)

    def _describe(self, result: CopyResult) -> str:
        verified = f"verified by {result.verified}" if result.verified else "not verified"
        return "; ".join((f"{result.message}, {verified}", *result.warnings))

    def _look(self) -> None:
        """What became of permissions and times, where they were asked for."""
        if self._options.get("leaves_permissions"):
            return
        found = self._remote.status(self._path)
        if found is None:
            return
        if found.permissions not in (None, MODE):
            self._advice.append("permissions: server")
            self._trials.append(Trial("permissions", f"{found.permissions:04o} in place of {MODE:04o}", is_well=False))
        if found.modified_at_seconds not in (None, WRITTEN_AT_SECONDS):
            window = find_window(WRITTEN_AT_SECONDS, found.modified_at_seconds or 0)
            self._advice.append(f"modify_window: {window}" if window else "compare: size")
            self._trials.append(Trial("times", "others than those that were set", is_well=False))

    def _replace(self, local: str) -> str:
        result = self._copy(local, b"b")
        return "in one step" if result.atomic else "; ".join(("in more than one step", *result.warnings))

    def _hash(self) -> str:
        digest = self._remote.sha256(self._path, CONTENT_BYTES)
        return "by a command there" if digest.how == "sha256" else "by reading the file back"

    def _list(self) -> str:
        names = list(self._remote.names_in(self._folder))
        if os.path.basename(self._path) not in names:
            raise VerificationFailed("the file is not in the list")
        return "the file is in the list"

    def _make_link(self) -> str:
        failures: list[StepError | None] = []

        def done(errand: Errand, error: StepError | None) -> None:
            failures.append(error)

        target = os.path.basename(self._path)
        with running_batch(self._around) as batch:
            batch.run(Errand("make link", self._link, done, target=target, temporary=f"{self._link}.tmp"))
        if failures and failures[0] is not None:
            raise failures[0]
        found = self._remote.read_link(self._link)
        return "as it was asked for" if found == target else f"it leads to {found!r}"

    def _rename(self) -> str:
        self._remote.rename(self._path, self._renamed)
        return "done"

    def _remove(self) -> str:
        for path in (self._renamed, self._link):
            self._remote.remove(path)
        return "done"

    def _tidy_up(self) -> None:
        """Remove what is left, and say what cannot be removed."""
        try:
            left = [name for name in self._remote.names_in(self._folder) if self._stem in name]
        except UnreachableError:
            raise
        except StepError:
            # Nobody may list: these are all that there can be.
            left = [os.path.basename(path) for path in (self._path, self._link, self._renamed)]
        above = self._path.removesuffix(os.path.basename(self._path))
        for name in left:
            try:
                self._remote.remove(above + name)
            except UnreachableError:
                raise
            except StepError as error:
                self._trials.append(Trial("left behind", f"{above}{name}: {error.message}", is_well=False))
