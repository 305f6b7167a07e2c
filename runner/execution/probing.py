"""Tries out in a directory of a server what only a try can tell: `runner doctor --probe`. Nothing is left behind there."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from typing import Any

from runner.cancellation import Cancellation
from runner.errors import FileRefused, StepError, UnreachableError, VerificationFailed
from runner.findings import ProbeFacts, Trial
from runner.plan import CopyFileFromEngine, CreateLink
from runner.results import CopyResult
from runner.sftp.files import SftpFiles
from runner.transfer.context import CopyContext
from runner.transfer.left_behind import name_some
from runner.transfer.link_creation import create_link
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

    What the server refuses is one of the findings. They have a failure if no file can be written there whatever a mode says,
    if what is read is not what was written, or if something stays behind. Raises what ends the session.
    """
    surroundings = CopyContext(remote, peer, False, lambda done, total: None, cancellation)
    return _Probe(remote, folder, surroundings).run()


class _Probe:
    def __init__(self, remote: SftpFiles, folder: str, context: CopyContext) -> None:
        self._remote = remote
        self._folder = folder
        self._around = context
        self._stem = f"runner-probe-{secrets.token_hex(6)}"
        above = folder if folder.endswith("/") else f"{folder}/"
        self._path, self._link, self._renamed = (f"{above}{self._stem}{end}" for end in (".txt", ".lnk", ".new"))
        self._trials: list[Trial] = []
        self._advice: list[str] = []
        self._options: dict[str, Any] = {}
        self._content = b""
        self._failure: StepError | None = None

    def run(self) -> ProbeFacts:
        with tempfile.TemporaryDirectory() as local:
            try:
                try:
                    self._try_all(local)
                finally:
                    self._tidy_up()
            except UnreachableError as error:
                error.add(f"What may be left: {name_some(self._list_paths())}")
                raise
        return ProbeFacts(self._folder, tuple(self._trials), tuple(dict.fromkeys(self._advice)), self._failure)

    def _try_all(self, local: str) -> None:
        self._failure = self._write(local)
        if self._failure is not None:
            return
        self._look()
        refusals = [self._try("replace", lambda: self._replace(local)), self._try("hash", self._hash)]
        self._failure = next((one for one in refusals if isinstance(one, VerificationFailed)), None)
        self._try("list", self._list)
        self._try("link", self._make_link)
        self._try("rename", self._rename)
        self._try("remove", self._remove)

    def _try(self, name: str, work: Callable[[], str]) -> StepError | None:
        """Carry out one trial: why it has failed, if it has."""
        try:
            self._trials.append(Trial(name, work(), is_well=True))
        except UnreachableError:
            raise
        except StepError as error:
            self._trials.append(Trial(name, error.message, is_well=False))
            return error
        return None

    def _write(self, local: str) -> StepError | None:
        """Write in the first way that works; where none does, why the plainest does not."""
        refusals: list[StepError] = []
        for options, lines in _WAYS:
            self._options = options
            refusal = self._try("write", lambda: self._describe(self._copy(local, b"a")))
            if refusal is None:
                self._advice += lines
                return None
            refusals.append(refusal)
        return refusals[0]

    def _copy(self, local: str, byte: bytes) -> CopyResult:
        source = os.path.join(local, "file")
        with open(source, "wb") as file:
            file.write(byte * CONTENT_BYTES)
        os.chmod(source, MODE)
        os.utime(source, (WRITTEN_AT_SECONDS, WRITTEN_AT_SECONDS))
        copy = CopyFileFromEngine(source, self._path, compare="always", create_parents=False, **self._options)
        result = upload_file(copy, self._around)
        self._content = byte * CONTENT_BYTES
        return result

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
        if digest.sha256 != hashlib.sha256(self._content).hexdigest():
            raise VerificationFailed(
                f"{self._path!r} is not what was written",
                hint="Copy with 'verify: checksum', or do not trust this server.",
            )
        return "by a command there" if digest.how == "sha256" else "by reading the file back"

    def _list(self) -> str:
        names = list(self._remote.names_in(self._folder))
        if os.path.basename(self._path) not in names:
            raise FileRefused("the file is not in the list")
        return "the file is in the list"

    def _make_link(self) -> str:
        target = os.path.basename(self._path)
        create_link(CreateLink(self._link, target), self._around)
        found = self._remote.read_link(self._link)
        return "as it was asked for" if found == target else f"it leads to {found!r}"

    def _rename(self) -> str:
        self._remote.rename(self._path, self._renamed)
        return "done"

    def _remove(self) -> str:
        for path in (self._renamed, self._link):
            self._remote.remove(path)
        return "done"

    def _list_paths(self) -> list[str]:
        """All that there can be of ours."""
        noted = self._around.left
        return list(dict.fromkeys((self._path, self._link, self._renamed, *noted.open_paths, *noted.stuck_paths)))

    def _tidy_up(self) -> None:
        """Remove what is left, and say what cannot be removed."""
        if not self._remote.is_open:
            return
        above = self._path.removesuffix(os.path.basename(self._path))
        try:
            left = [above + name for name in self._remote.names_in(self._folder) if self._stem in name]
        except UnreachableError:
            raise
        except StepError:
            # Nothing may be listed.
            left = self._list_paths()
        for path in left:
            try:
                self._remote.remove(path)
            except UnreachableError:
                raise
            except StepError as error:
                self._trials.append(Trial("left behind", f"{path}: {error.message}", is_well=False))
                self._failure = self._failure or FileRefused(
                    f"{path!r} could not be removed again: {error.message}", hint="Remove it by other means."
                )
