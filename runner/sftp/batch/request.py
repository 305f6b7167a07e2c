"""One request of a batch that is no copy: a folder made, attributes set, something removed, a link made or read."""

from __future__ import annotations

from runner.remote_files import Published, RemoteRequest, RemoteRequestKind
from runner.server_traits import Deed
from runner.sftp.attributes import to_status
from runner.sftp.batch.attributes import set_attributes
from runner.sftp.batch.deeds import add_remark, ask_to_look, is_done, look_again
from runner.sftp.batch.file import Batcher, BatchFile, Stages, look
from runner.sftp.batch.kinds import find_kind
from runner.sftp.batch.privacy import close_off_folder
from runner.sftp.batch.publish import Publication, give_name, publish, remove_temporary
from runner.sftp.batch.symlinks import ask_for_link, learn_links, make_link_directly, replace_by_link
from runner.sftp.packets import (
    Attributes,
    MalformedPacket,
    Reader,
    StatusCode,
    Type,
    encode_path,
)
from runner.sftp.refusals import not_done, not_removed, still_there

_DOING = {
    "make folder": "cannot create the folder",
    "set attributes": "cannot set permissions or times of",
    "remove": "cannot remove",
    "remove folder": "cannot remove the folder",
    "rename": "cannot rename",
    "replace": "cannot rename",
    "make link": "cannot create the link",
    "read link": "cannot read the link",
    "resolve": "cannot resolve",
    "look": "cannot look at",
    "look closely": "cannot look at",
}
# What a request is answered with, where the status OK would be no answer.
_ANSWERED = {"read link": "a name", "resolve": "a name", "look": "attributes", "look closely": "attributes"}

# What the status OK says that has been done.
_DEEDS: dict[RemoteRequestKind, Deed] = {
    "make folder": "made a directory",
    "remove": "removed",
    "remove folder": "removed",
    "rename": "renamed",
}


class SingleRequest(BatchFile):
    """One request. Every method runs under the batch's lock."""

    __slots__ = ("_has_answer", "job")

    job: RemoteRequest
    is_urgent = True

    def __init__(self, batcher: Batcher, job: RemoteRequest) -> None:
        super().__init__(batcher, job)
        self._has_answer = False

    @property
    def path(self) -> str:
        return self.job.path

    def give_up(self) -> None:
        # Between two renames the destination would be missing: what is begun is published.
        if self.job.what not in ("make link", "learn links", "replace"):
            super().give_up()

    def run(self) -> Stages[None]:
        if self.job.what == "make link":
            yield from self._make_link()
            if self.has_failed and self.job.left:
                add_remark(self, not_removed(self.job.left), *self.job.left)
        elif self.job.what == "learn links":
            yield from learn_links(self, self.job.temporary, self._leave)
        elif self.job.what == "replace":
            yield from give_name(self, self._describe())
        elif self.job.what == "set attributes":
            yield from set_attributes(self, self.job)
        else:
            self.ask(*self._make_request(), self._take_answer)
            if self.job.what in _DEEDS:
                yield from self._see_whether_done()
            else:
                yield
            if self.job.what in _ANSWERED and not self._has_answer:
                self.miss(_ANSWERED[self.job.what])
            if self.job.is_missing and self.job.what.startswith("remove"):
                yield from self._see_whether_gone()
            elif self.job.status is not None and not self.job.status.is_kind_told:
                follows_links = self.job.what == "look"
                self.job.status = yield from find_kind(
                    self, self.job.path, self.job.status, follows_links=follows_links
                )

    def _see_whether_gone(self) -> Stages[None]:
        """The server says that what is to be removed is not there. Somebody else may have removed it; or it is there."""
        if (yield from look(self, self.job.path)).mode is not None:
            self.job.is_missing = False
            self.fail(still_there(self.job.path, self.session.peer))

    def _see_whether_done(self) -> Stages[None]:
        """An OK is a claim: see what there is now, in the same flight if that is kept in order."""
        deed, traits, path = _DEEDS[self.job.what], self.session.traits, self.job.path
        found = None
        if traits.is_sequential and not traits.believes(deed):
            found = ask_to_look(self, path)
        yield
        if self.has_failed or self.job.is_missing or (found is None and traits.is_sequential):
            return
        found = (yield from look_again(self, deed, path, found)) if found else (yield from look(self, path))
        if not is_done(deed, found):
            traits.catch(deed)
            shows = "nothing is there" if found.is_missing else "it is still there"
            self.fail(not_done(deed, path, shows, self.session.peer))
        elif self.job.what == "make folder":
            yield from close_off_folder(self, path, found, self.job.wanted.permissions)

    def _make_link(self) -> Stages[None]:
        job, traits = self.job, self.session.traits
        if not (yield from learn_links(self, job.temporary, self._leave)):
            return
        if not traits.renames_links:
            if job.is_new:
                yield from make_link_directly(self, job.target, job.path)
            else:
                yield from replace_by_link(self, job, self._leave)
            return
        if traits.is_sequential:
            ask_for_link(self, job.target, job.temporary, self._take_answer)
            yield
        else:
            yield from make_link_directly(self, job.target, job.temporary)
        if not self.has_failed:
            yield from publish(self, self._describe())
        if self.has_failed:
            yield from remove_temporary(self, job.temporary)

    def _describe(self) -> Publication:
        job = self.job
        note = job.note or self._note_link
        return Publication(job.temporary, job.path, job.is_new, f"{job.temporary}.old", note, job.backup)

    def _leave(self, name: str) -> None:
        self.job.left = (*self.job.left, name)

    def _note_link(self, published: Published) -> None:
        """No one listens to how a link gets its name, but to what is left."""
        self.job.left = tuple(dict.fromkeys((*self.job.left, *published.left)))

    def _make_request(self) -> tuple[int, bytes]:
        path = encode_path(self.job.path)
        match self.job.what:
            case "make folder":
                return Type.MKDIR, path + Attributes(mode=self.job.wanted.permissions).encode()
            case "remove":
                return Type.REMOVE, path
            case "remove folder":
                return Type.RMDIR, path
            case "rename":
                return Type.RENAME, path + encode_path(self.job.target)
            case "read link":
                return Type.READLINK, path
            case "resolve":
                return Type.REALPATH, path
            case "look":
                return Type.STAT, path
            case "look closely":
                return Type.LSTAT, path
            case "make link" | "learn links" | "replace" | "set attributes" | "sync folder":
                raise AssertionError("this takes several requests")

    def _take_answer(self, kind: int, body: memoryview) -> None:
        self._has_answer = True
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
            self.job.is_missing = refusal.code == StatusCode.NO_SUCH_FILE
            if not (self.job.is_missing and self.job.what.startswith("remove")):
                self.fail(refusal, _DOING[self.job.what])
