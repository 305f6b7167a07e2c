"""One folder listed within a batch: OPENDIR; READDIR until the end, a few under way; CLOSE.

What the listing leaves out of its entries is asked for by LSTAT behind that, many at a time.
"""

from __future__ import annotations

from runner.errors import ConnectionLost
from runner.remote_files import FileStatus, Listing
from runner.sftp.attributes import to_status
from runner.sftp.batch.file import Batcher, BatchFile, Stages, ignore
from runner.sftp.batch.kinds import lacks_something, look_at_entries
from runner.sftp.packets import MalformedPacket, Reader, StatusCode, Type, encode_path
from runner.sftp.session import Refusal

# A server sends some hundred names at a time, so that on a long line a large folder would take long.
READDIRS_IN_FLIGHT = 4
# More than any folder that can be worked with; a server without an end is given up.
MAX_ENTRIES = 5_000_000
# Linux has 255 bytes for a name and 4096 for a whole path.
MAX_NAME_CHARACTERS = 4096


class FolderListing(BatchFile):
    """One listing. Every method runs under the batch's lock."""

    __slots__ = ("_count", "_is_at_end", "_unclear", "job")

    job: Listing
    is_urgent = is_listing = True

    def __init__(self, batcher: Batcher, job: Listing) -> None:
        super().__init__(batcher, job)
        self._is_at_end = False
        self._count = 0
        # Entries of which the listing does not tell enough.
        self._unclear: dict[str, FileStatus] = {}

    @property
    def path(self) -> str:
        return self.job.path

    def run(self) -> Stages[None]:
        self.ask(Type.OPENDIR, encode_path(self.job.path), self._take_handle)
        yield
        if not self._handle:
            self.miss("a handle")
            if self._batcher.retreat(self):
                yield from self.begin_again()
            return
        for _ in range(READDIRS_IN_FLIGHT):
            self.ask(Type.READDIR, self._handle, self._take_names)
        yield
        if not self._is_at_end:
            self.miss("a list of names")
        self.ask(Type.CLOSE, self._handle, ignore)
        yield
        self._handle = b""
        if self._unclear and self.error is None:
            found = yield from look_at_entries(self, self.job.path, self._unclear)
            for name in self._unclear:
                self.job.amend(name, _without_guess(found.get(name)))

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot list", kind, body)

    def _take_names(self, kind: int, body: memoryview) -> None:
        if kind != Type.NAME:
            self._take_end(kind, body)
            return
        for name, attributes in Reader(body).take_names():
            if name not in (".", ".."):
                self._count += 1
                if len(name) > MAX_NAME_CHARACTERS:
                    raise self._harm(f"a name of {len(name):,} characters")
                status = to_status(attributes)
                if lacks_something(status) and _can_be_name(name):
                    self._unclear[name] = status
                self.job.take(name, status)
        if self._count > MAX_ENTRIES:
            raise self._harm(f"more than {MAX_ENTRIES:,} entries")
        if not self._is_at_end and self.error is None:
            self.ask(Type.READDIR, self._handle, self._take_names)

    def _harm(self, what: str) -> ConnectionLost:
        return ConnectionLost(
            f"{self._batcher.session.peer} lists {what} in {self.path[:100]!r}",
            hint="The server is broken, or means harm.",
        )

    def _take_end(self, kind: int, body: memoryview) -> None:
        try:
            self._batcher.session.check_status(kind, body)
        except Refusal as refusal:
            self._is_at_end = True
            if refusal.code != StatusCode.EOF:
                self.fail(refusal, "cannot list")
            return
        raise MalformedPacket("the status OK where names are due")


def _without_guess(status: FileStatus | None) -> FileStatus | None:
    """What is only listed is not taken for a file where nothing tells what it is; what the playbook names is."""
    return status if status is None or status.is_kind_told else status._replace(is_regular=False)


def _can_be_name(name: str) -> bool:
    """Whether the server can be asked about a name: it may list anything."""
    return name != "" and "/" not in name and "\0" not in name
