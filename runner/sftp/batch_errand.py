"""One request of a batch that is no copy: a folder made, attributes set, something removed, a link made or read."""

from __future__ import annotations

from collections.abc import Iterator

from runner.remote_files import Errand
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch_file import BatchFile, Engine
from runner.sftp.batch_publish import Publication, publish, remove_temporary
from runner.sftp.packets import (
    Attributes,
    MalformedPacket,
    Reader,
    StatusCode,
    Type,
    encode_path,
)

_DOING = {
    "make folder": "cannot create the folder",
    "set attributes": "cannot set permissions or times of",
    "remove": "cannot remove",
    "remove folder": "cannot remove the folder",
    "rename": "cannot rename",
    "make link": "cannot create the link",
    "read link": "cannot read the link",
    "resolve": "cannot resolve",
    "look": "cannot look at",
    "look closely": "cannot look at",
}


class SingleRequest(BatchFile):
    """One request. Every method runs under the batch's lock."""

    __slots__ = ("job",)

    job: Errand
    is_urgent = True

    def __init__(self, engine: Engine, job: Errand) -> None:
        super().__init__(engine, job)

    @property
    def path(self) -> str:
        return self.job.path

    def run(self) -> Iterator[None]:
        self.ask(*self._make_request(), self._take_answer)
        yield
        if self.job.what == "make link":
            yield from self._publish_link()

    def _publish_link(self) -> Iterator[None]:
        """The link is there, under its temporary name."""
        job = self.job
        if not self.has_failed:
            link = Publication(job.temporary, job.path, job.is_new, job.backup)
            yield from publish(self, link, self.session.extensions)
        if self.has_failed:
            yield from remove_temporary(self, job.temporary)

    def _make_request(self) -> tuple[int, bytes]:
        path = encode_path(self.job.path)
        match self.job.what:
            case "make folder":
                return Type.MKDIR, path + Attributes(mode=self.job.wanted.permissions).encode()
            case "set attributes":
                return Type.SETSTAT, path + encode_wanted(self.job.wanted)
            case "remove":
                return Type.REMOVE, path
            case "remove folder":
                return Type.RMDIR, path
            case "rename":
                return Type.RENAME, path + encode_path(self.job.target)
            case "make link":
                # OpenSSH, and everybody after it, takes target and link in the other order than the draft.
                return Type.SYMLINK, encode_path(self.job.target) + encode_path(self.job.temporary)
            case "read link":
                return Type.READLINK, path
            case "resolve":
                return Type.REALPATH, path
            case "look":
                return Type.STAT, path
            case "look closely":
                return Type.LSTAT, path

    def _take_answer(self, kind: int, body: memoryview) -> None:
        if kind == Type.NAME:
            names = Reader(body).take_names()
            if self.job.what not in ("read link", "resolve") or len(names) != 1:
                raise MalformedPacket("names that were not asked for")
            self.job.answer = names[0][0]
            return
        if kind == Type.ATTRS and self.job.what.startswith("look"):
            self.job.status = to_status(Reader(body).take_attributes())
            return
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            is_gone = refusal.code == StatusCode.NO_SUCH_FILE and self.job.what.startswith("remove")
            if not is_gone:
                self.fail(refusal, _DOING[self.job.what])
