"""One request of a batch that is no copy: a folder made, attributes set, something removed, a link made or read."""

from __future__ import annotations

from runner.remote_files import Errand
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch_file import BatchFile, Engine, ignore
from runner.sftp.batch_upload import HARDLINK_START
from runner.sftp.packets import (
    HARDLINK,
    POSIX_RENAME,
    Attributes,
    MalformedPacket,
    Reader,
    StatusCode,
    Type,
    encode_path,
    encode_string,
)
from runner.sftp.session import Refusal

_DOING = {
    "make folder": "cannot create the folder",
    "set attributes": "cannot set permissions or times of",
    "remove": "cannot remove",
    "remove folder": "cannot remove the folder",
    "make link": "cannot create the link",
    "read link": "cannot read the link",
    "resolve": "cannot resolve",
    "look": "cannot look at",
    "look closely": "cannot look at",
}


class SingleRequest(BatchFile):
    """The state machine of one request. Every method runs under the batch's lock."""

    __slots__ = ("_is_kept", "job")

    job: Errand
    is_urgent = True

    def __init__(self, engine: Engine, job: Errand) -> None:
        super().__init__(engine, job)
        # Whether what a link replaces has its second name.
        self._is_kept = False

    @property
    def path(self) -> str:
        return self.job.path

    def begin(self) -> None:
        self._then = self._publish_link if self.job.what == "make link" else self.finish
        self.ask(*self._make_request(), self._take_answer)

    def _publish_link(self) -> None:
        """The link is there, under its temporary name."""
        if self.error is not None:
            self._remove_link()
        elif self.job.backup is not None:
            self._keep_old(self.job.backup)
        else:
            self._rename_link()

    def _keep_old(self, backup: str) -> None:
        """A second name for what the link replaces, so that there is something at every moment."""
        if HARDLINK not in self._engine.session.extensions:
            self.fail(Refusal(StatusCode.OP_UNSUPPORTED, "no hard links"), "cannot keep the old file of")
            self._remove_link()
            return
        self._then = self._after_keeping
        old_and_new = encode_path(self.job.path) + encode_path(backup)
        self.ask(Type.EXTENDED, HARDLINK_START + old_and_new, self._take_answer)

    def _after_keeping(self) -> None:
        self._is_kept = self.error is None
        self._rename_link()

    def _rename_link(self) -> None:
        if self.error is not None:
            self._remove_link()
            return
        self._then = self._after_rename
        temporary, path = encode_path(self.job.temporary), encode_path(self.job.path)
        if POSIX_RENAME in self._engine.session.extensions:
            self.ask(Type.EXTENDED, encode_string(POSIX_RENAME.encode()) + temporary + path, self._take_answer)
        else:
            self.ask(Type.RENAME, temporary + path, self._take_answer)

    def _after_rename(self) -> None:
        if self.error is not None:
            self._remove_link()
        else:
            self.finish()

    def _remove_link(self) -> None:
        self._then = self.finish
        if self._is_kept:
            self.ask(Type.REMOVE, encode_path(self.job.backup or ""), ignore)
        self.ask(Type.REMOVE, encode_path(self.job.temporary), ignore)

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
        try:
            self._engine.session.check_status(kind, body)
        except Refusal as refusal:
            is_gone = refusal.code == StatusCode.NO_SUCH_FILE and self.job.what.startswith("remove")
            if not is_gone:
                self.fail(refusal, _DOING[self.job.what])
