"""Sets attributes by path, and sees that they are set: some servers refuse one of two, and some say OK and set none."""

from __future__ import annotations

import functools
from typing import Final

from runner.remote_files import AttributesSet, FileStatus, RemoteRequest, WantedAttributes
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch.file import BatchFile, Stages
from runner.sftp.packets import Reader, Type, encode_path
from runner.sftp.refusals import describe_refusal
from runner.sftp.session import Refusal

_DOING = "cannot set permissions or times of"
_DEED: Final = "set attributes"
_TOGETHER = "together"


def set_attributes(file: BatchFile, job: RemoteRequest) -> Stages[None]:
    """Set what is wanted, one by one if both together are refused. `file.error` says that all of it was refused.

    The path is looked at behind that, and what is seen counts. OpenSSH's server carries both out in order, so that they
    share a round trip; the first few times only, if what is seen is right.
    """
    traits, answers = file.session.traits, _Answers(file, job.path)
    is_believed = traits.believes(_DEED)
    answers.ask(_TOGETHER, job.wanted)
    if not traits.is_sequential:
        yield
    if not is_believed:
        answers.look()
    yield
    whole = answers.refused.pop(_TOGETHER, None)
    wanted = _take_apart(job.wanted)
    if whole is not None and len(wanted) > 1:
        # Servers that refuse times may take permissions, and the other way round.
        for name, single in wanted.items():
            answers.ask(name, single)
        yield
    elif whole is not None:
        answers.refused.update(dict.fromkeys(wanted, whole))
    if whole is not None:
        answers.look()
        yield
    found = answers.found
    lacking = {name: refusal for name, refusal in answers.refused.items() if not _shows(found, wanted[name])}
    if whole is not None and lacking.keys() == wanted.keys():
        file.fail(whole, _DOING)
    if whole is None and found is not None and not _shows(found, job.wanted):
        traits.doubt(_DEED)
    why = describe_refusal(lacking["permissions"]) if "permissions" in lacking else ""
    job.attributes_set = AttributesSet(why, "times" in lacking, found)


def _take_apart(wanted: WantedAttributes) -> dict[str, WantedAttributes]:
    """What is wanted, each by itself."""
    each = {
        "permissions": WantedAttributes(wanted.permissions, None),
        "times": WantedAttributes(None, wanted.modified_at_seconds),
    }
    return {name: single for name, single in each.items() if single != (None, None)}


def _shows(found: FileStatus | None, wanted: WantedAttributes) -> bool:
    """Whether what is seen is as it was wanted."""
    permissions, modified_at = wanted
    if found is None or (modified_at is not None and found.modified_at_seconds != modified_at):
        return False
    return permissions is None or found.permissions == permissions & 0o777


class _Answers:
    """What the requests about one path are answered with."""

    __slots__ = ("_encoded_path", "_file", "found", "refused")

    def __init__(self, file: BatchFile, path: str) -> None:
        self._file = file
        self._encoded_path = encode_path(path)
        self.refused: dict[str, Refusal] = {}
        self.found: FileStatus | None = None

    def ask(self, name: str, wanted: WantedAttributes) -> None:
        """Have attributes set; a refusal is kept under the name."""
        take = functools.partial(self._set, name)
        self._file.ask(Type.SETSTAT, self._encoded_path + encode_wanted(wanted), take)

    def look(self) -> None:
        """See what is there now."""
        self._file.ask(Type.STAT, self._encoded_path, self._looked)

    def _set(self, name: str, kind: int, body: memoryview) -> None:
        refusal = self._file.find_refusal(kind, body)
        if refusal is not None:
            self.refused[name] = refusal

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            self.found = to_status(Reader(body).take_attributes())
        else:
            self._file.find_refusal(kind, body)
