"""Sets attributes by path, and sees that they are set: some servers refuse one of two, and some say OK and set none."""

from __future__ import annotations

import functools

from runner.remote_files import AttributesSet, Errand, FileStatus, WantedAttributes
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch_file import BatchFile, Stages
from runner.sftp.packets import Reader, Type, encode_path
from runner.sftp.refusals import describe_refusal
from runner.sftp.session import Refusal

_DOING = "cannot set permissions or times of"


def set_attributes(file: BatchFile, job: Errand) -> Stages[None]:
    """Set what is wanted, one by one if both together are refused. `file.error` says that all of it was refused.

    The path is looked at behind that. OpenSSH's server carries both out in order, so that they share a round trip.
    """
    permissions, modified_at = job.wanted
    answers = _Answers(file, job.path)
    answers.ask("both", job.wanted)
    if not file.session.traits.is_sequential:
        yield
    answers.look()
    yield
    refused = answers.refused
    if "both" in refused and None not in job.wanted:
        # Servers that refuse times may take permissions, and the other way round.
        answers.ask("permissions", WantedAttributes(permissions, None))
        answers.ask("times", WantedAttributes(None, modified_at))
        yield
        answers.look()
        yield
        if {"permissions", "times"} <= refused.keys():
            file.fail(refused["both"], _DOING)
    elif "both" in refused:
        file.fail(refused["both"], _DOING)
    why = describe_refusal(refused["permissions"]) if "permissions" in refused else ""
    job.attributes_set = AttributesSet(why, "times" in refused, answers.found)


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
