"""What copying needs of a server's file system. `sftp/` and `scp/` provide it, `transfer/` uses it.

The values that each of many small files needs several of are named tuples: they cost a third of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from runner.errors import StepError

Progress = Callable[[int], None]

# Set-uid, set-gid and sticky.
SPECIAL_BITS = 0o7000


class FileStatus(NamedTuple):
    """What a side says about one path. `permissions` are the nine bits; None for what it does not tell.

    `special_bits` are set-uid, set-gid and sticky of a directory, and 0 for anything else: only a directory keeps them.
    Without `is_kind_told` it may be anything: nothing is to be removed, replaced or moved then that could be a directory.
    """

    is_directory: bool
    is_regular: bool
    size_bytes: int | None
    permissions: int | None
    modified_at_seconds: int | None
    is_link: bool = False
    special_bits: int = 0
    is_kind_told: bool = True


class ForetoldStatus(FileStatus):
    """The status of something that an earlier step of a `--check` would have made or changed.

    None is not what a server keeps to itself here, but what only the play will show: the time at which a file is written.
    """

    __slots__ = ()


class WantedAttributes(NamedTuple):
    """What a written file should carry; None for what does not matter."""

    permissions: int | None
    modified_at_seconds: int | None


NOTHING_WANTED = WantedAttributes(None, None)


class AttributesSet(NamedTuple):
    """What came of a request to set attributes by path that was not refused as a whole.

    `refused_permissions` says in words why the server did not take them, empty if it took them; `are_times_refused` that it
    did not take the times. `found` is what it says there is now, None if it does not tell.
    """

    refused_permissions: str = ""
    are_times_refused: bool = False
    found: FileStatus | None = None


ATTRIBUTES_SET = AttributesSet()


class Source(NamedTuple):
    """The first `size_bytes` of an open local file, from `offset` on. What is sent goes through `hasher`, in order."""

    fd: int
    size_bytes: int
    hasher: Hasher | None = None
    offset: int = 0


class Written(NamedTuple):
    """A file written whole, every byte acknowledged.

    `size_bytes` is what the server says is there now, None if it does not tell. `refused_permissions` says in words why it
    did not take them, empty if it took them; `are_times_refused` that it did not take the times. `is_synced` says whether
    it is on the server's disk, and not only in its memory; None if nobody has asked for that. `found` is what the server
    says the file is like, where it does, and `needs_hash` says that its word for the size is not enough.
    """

    size_bytes: int | None
    refused_permissions: str = ""
    are_times_refused: bool = False
    is_synced: bool | None = None
    found: FileStatus | None = None
    needs_hash: bool = False


class Published(NamedTuple):
    """A file under its final name: whether what was there was replaced in one step, and where that is kept, if it is.

    `aside` is what it was called in between, where it was neither replaced in one step nor kept. `left` are names of ours
    that the server did not remove. `probes` are names with which it is tried out what the server does with links.
    """

    in_one_step: bool
    backup: str | None = None
    aside: str | None = None
    left: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()


UNPUBLISHED = Published(False)
REPLACED_IN_ONE_STEP = Published(True)

# Told what a publication will have been, before it is asked for.
Note = Callable[[Published], None]
# Takes bytes and their offset in the file. The view is valid during the call only. Raises `OSError`.
TakeBytes = Callable[[memoryview, int], None]
# Folders that were made or may have been, outermost first.
Made = dict[str, None]


class Digest(NamedTuple):
    """A remote file's SHA-256 in hexadecimal, and how it was got: worked out there, or by reading the file back."""

    sha256: str
    how: Literal["sha256", "readback"]


class Hasher(Protocol):
    """What `hashlib.sha256()` gives."""

    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class ReadFile(NamedTuple):
    """A file read to its end: where that is, and the source's status before and after, as far as the server tells.

    `is_gone` says that it was there no more when its last byte had come: some servers hand each file out once.
    """

    received_bytes: int
    before: FileStatus | None
    after: FileStatus | None
    is_gone: bool = False


# How far an upload had come: its publication may have been asked for, or was even confirmed.
SendingStage = Literal["writing", "publishing", "published"]


class Sending(Protocol):
    """One upload of a batch, as the batch sees it. Every method but `hold` and `finish` is called in the transport's thread.

    With a `temporary` name the bytes go there, and are published as `destination` once `prove` has agreed; without one they
    go straight to the destination. A new file is created with `opening_permissions`, or with the server's choice if that is
    None: then no permissions are sent at all. What `is_held` waits, written and proven so far, until `Batch.release` lets
    it go on.
    """

    temporary: str | None
    destination: str
    opening_permissions: int | None
    # Whether nothing is at the destination yet, as far as is known.
    is_new: bool
    is_held: bool
    # Whether it shall be synced to disk before it is published, where the server can do that.
    is_durable: bool
    # Whether nobody else comes to the temporary name.
    owns_temporary: bool
    # Whether the temporary file is there already, and is written on.
    continues: bool
    # Whether what has been written stays if the session ends or the play is interrupted, for a later attempt.
    is_kept: bool
    # Whether it gets its attributes only when it has been released: until then it is its owner's alone.
    sets_attributes_late: bool
    # How many channels it may use; None: as many as are known to help and to be safe.
    max_channels: int | None
    # The name that the old file shall be kept under.
    backup: str | None
    # What the old file is called for a moment, where it cannot be replaced in one step.
    aside: str
    # How it is being published; the batch keeps this true from before its first request for that.
    published: Published

    def rename_temporary(self) -> bool:
        """The temporary name is refused, and may be taken: choose another one. False if there is none."""
        ...

    def rename_backup(self) -> bool:
        """The name of the backup is taken: choose another one. False if there is none."""
        ...

    def open(self) -> tuple[Source, WantedAttributes]:
        """The source, opened, and what the copy shall carry. Raises a `StepError`. May be called again after `close`."""
        ...

    def close(self) -> None:
        """The source has been read, or is given up."""
        ...

    def prove(self, written: Written) -> None:
        """Raise a `StepError` unless what was written may be published, or held to be proven further."""
        ...

    def prove_attributes(self, refused_permissions: str, *, are_times_refused: bool) -> None:
        """Raise a `StepError` unless it may be published although permissions (in words why), or times, were refused."""
        ...

    def hold(self) -> None:
        """The upload is written, and waits to be released; in the thread that waits for the batch."""
        ...

    def finish(self, error: StepError | None) -> None:
        """The upload is over, in the thread that waits for the batch."""
        ...

    def lose(self, stage: SendingStage) -> None:
        """The batch was given up after this upload had begun, in place of `finish`."""
        ...


class Fetching(Protocol):
    """One download of a batch, as the batch sees it.

    Every method but `hold` and `finish` is called in the transport's thread. What `is_held` waits, when `prove` has agreed,
    until `Batch.release` lets it be published.
    """

    source: str
    # What the server announces, None if it does not tell; and from which byte on it is read.
    size_bytes: int | None
    offset: int
    is_held: bool
    # Whether the source is looked at once more when it is open, and read to its end whatever was announced.
    is_looked_at: bool
    # Whether what is announced counts. Otherwise the file ends where the server says that it ends.
    trusts_size: bool
    # Whether `publish` syncs the file to disk. Then it is called in a thread of its own, so that nothing waits for the disk.
    is_durable: bool

    def open(self) -> TakeBytes:
        """What takes the bytes as they come, in any order. Raises a `StepError`, or `OSError`."""
        ...

    def prove(self, read: ReadFile) -> None:
        """Raise a `StepError` unless what came may be published."""
        ...

    def hold(self) -> None:
        """All bytes are here, and wait to be released; in the thread that waits for the batch."""
        ...

    def publish(self) -> None:
        """Give the file its attributes and its final name. Raises a `StepError`."""
        ...

    def explain(self, error: OSError) -> StepError:
        """What an error of the local file means, met while it was written, read again or given its name."""
        ...

    def discard(self) -> None:
        """Close the local file, and remove it unless it was published."""
        ...

    def finish(self, error: StepError | None) -> None:
        """The download is over, in the thread that waits for the batch."""
        ...


class Listing(Protocol):
    """A folder to be listed by a batch."""

    path: str

    def take(self, name: str, status: FileStatus) -> None:
        """One entry, links not followed; neither a directory nor regular if no request tells what it is.

        Called in the transport's thread.
        """
        ...

    def amend(self, name: str, status: FileStatus | None) -> None:
        """What an entry is that has been given, by a closer look; None if it is gone. Called in the transport's thread."""
        ...

    def finish(self, error: StepError | None) -> None:
        """All entries have been given, in the thread that waits for the batch."""
        ...


RemoteRequestKind = Literal[
    "make folder",
    "set attributes",
    "remove",
    "remove folder",
    "rename",
    "replace",
    "make link",
    "learn links",
    "read link",
    "resolve",
    "look",
    "look closely",
    "sync folder",
]


def probe_names(temporary: str) -> tuple[str, str]:
    """Names of the same kind as a link's temporary one, under which it may be tried out what a server does with links."""
    stem, dot, ending = temporary.rpartition(".")
    joint = "" if "-" in stem.rpartition(".")[2] else "-"
    return f"{stem}{joint}fffff1{dot}{ending}", f"{stem}{joint}fffff2{dot}{ending}"


@dataclass(slots=True)
class RemoteRequest:
    """One request of a batch. `done` is told its failure, or None, in the thread that waits; `answer` is there by then.

    `learn links` finds out what the server does with links by way of the `temporary` name and those like it.
    A link is made under its `temporary` name and renamed over what is there (nothing, if it `is_new`), which is kept under
    the name `backup` if one is given. `rename` gives the name `target`, unless something has it. `replace` gives what is
    called `temporary` the name `path`, whatever has it: `note` is told how before that is asked for. `look` follows links,
    `look closely` does not. `is_missing` says that nothing is at `path`: for a removal no failure, for a look one. Of
    attributes `attributes_set` says which are not as they were wanted.
    """

    what: RemoteRequestKind
    path: str
    done: Callable[[RemoteRequest, StepError | None], None]
    wanted: WantedAttributes = NOTHING_WANTED
    target: str = ""
    temporary: str = ""
    is_new: bool = True
    backup: str | None = None
    answer: str = ""
    status: FileStatus | None = None
    is_missing: bool = False
    note: Note | None = None
    attributes_set: AttributesSet = ATTRIBUTES_SET
    # Names of ours that the server did not remove.
    left: tuple[str, ...] = ()

    def finish(self, error: StepError | None) -> None:
        """The request was answered."""
        self.done(self, error)


class Batch(Protocol):
    """Many copies under way at once. Ends with `complete`, or after a failure with `abandon`."""

    def send(self, upload: Sending) -> None:
        """Begin an upload as soon as there is room; returns at once unless many are waiting."""
        ...

    def release(self, copy: Sending | Fetching, error: StepError | None) -> None:
        """Publish a copy that is held, or remove what was written because of an error."""
        ...

    def fetch(self, download: Fetching) -> None:
        """Begin a download as soon as there is room."""
        ...

    def list(self, folder: Listing) -> None:
        """Begin to list a folder as soon as there is room."""
        ...

    def run(self, request: RemoteRequest) -> None:
        """Send a request as soon as there is room."""
        ...

    def wait(self) -> bool:
        """Wait until a listing or a request has ended, or everything has. False once there is nothing more to send.

        Then uploads may still wait for their last answer, if the server carries out in order what is asked for from now on.
        How they end is told by `complete` at the latest. Raises when the session ends; a single file's failure goes to its
        `finish`.
        """
        ...

    def complete(self) -> None:
        """Wait until everything is over, and give the session back. Raises as `wait` does."""
        ...

    @property
    def done_bytes(self) -> int:
        """How many bytes of content have been acknowledged or received."""
        ...

    def abandon(self) -> None:
        """Begin nothing more, and remove what has been written in part. For clean-up."""
        ...


class RemoteReader(Protocol):
    """What is asked of one server's files without changing them. Every method raises a `StepError` that names the path, or
    `Interrupted`. With `--check` there is nothing else.
    """

    @property
    def can_rename(self) -> bool:
        """Whether a file can be published by renaming it."""
        ...

    @property
    def can_replace(self) -> bool:
        """Whether a rename puts one thing into the place of another in one step."""
        ...

    @property
    def renames_links(self) -> bool:
        """Whether the rename of a link is known to rename the link itself, and not what it leads to."""
        ...

    @property
    def can_create_folders(self) -> bool:
        """Whether directories can be made."""
        ...

    @property
    def can_set_permissions(self) -> bool:
        """Whether the permissions of a file that is there can be set."""
        ...

    @property
    def can_resume(self) -> bool:
        """Whether a file can be written and read from its middle on."""
        ...

    @property
    def can_hash(self) -> bool:
        """Whether `sha256` costs no transfer: the server has a shell with a utility for it."""
        ...

    def status(self, path: str, *, follow: bool = True) -> FileStatus | None:
        """What is at `path`, links followed or not; None if nothing is. Raises `StatusRefused` if the server keeps it.

        Where the server tells no kind, other requests have found it out, or `is_kind_told` is false.
        """
        ...

    def names_in(self, folder: str) -> Generator[str, None, None]:
        """The names in a folder, without `.` and `..`, in the server's order."""
        ...

    def real_path(self, path: str) -> str:
        """A path with all links resolved."""
        ...

    def ask_real_paths(self, *paths: str) -> Callable[[], list[str]]:
        """Ask for several real paths without waiting; what is returned waits for them, and raises as `real_path` does."""
        ...

    def require_readable(self, path: str) -> None:
        """Raise what a download would raise if the server does not let `path` be opened."""
        ...

    def sha256(self, path: str, size_bytes: int | None = None) -> Digest:
        """The hash of `path`: by a utility there if the account has a shell, else by reading it.

        With the size that the file is expected to have, a server that works on it for long gives signs of life.
        """
        ...

    def sha256_many(self, files: Sequence[tuple[str, int]]) -> dict[str, str]:
        """The SHA-256 of many files, as far as the server has a shell and a utility for it; the others are missing.

        `files` are paths and sizes in bytes.
        """
        ...

    def read_link(self, path: str) -> str:
        """Where the link at `path` leads, as it is written there."""
        ...

    def start_batch(self, on_progress: Progress | None = None, must_end: Callable[[], bool] = lambda: False) -> Batch:
        """A batch of copies on this server; while it lives, nothing else may be asked of these files.

        `on_progress` is told now and then how many bytes of content are done, in the thread that waits. `must_end` is asked
        in any thread whether the play is to end: `Cancellation.make_alarm` gives it.
        """
        ...


class RemoteFiles(RemoteReader, Protocol):
    """One server's files, to be read and changed."""

    @property
    def is_open(self) -> bool:
        """Whether more can be asked, as far as is known: the server has not closed the session."""
        ...

    @property
    def is_untouched(self) -> bool:
        """Whether since `begin_step` the server has answered nothing, and has been asked for nothing that changes it."""
        ...

    def begin_step(self) -> None:
        """The first request of another step follows, on a session that has been idle."""
        ...

    def close(self) -> None:
        """Close what these files hold open on the connection; never raises."""
        ...

    @property
    def tells_made_folders(self) -> bool:
        """Whether `create_parents` tells what it has made."""
        ...

    @property
    def keeps_order(self) -> bool:
        """Whether what is asked for is carried out in the order in which it is asked for."""
        ...

    @property
    def keeps_what_is_there(self) -> bool:
        """Whether a file that is opened again is known to keep its bytes. Object stores may begin a new object."""
        ...

    def create_parents(self, path: str, made: Made | None = None) -> list[str]:
        """Make the missing folders above `path`. Returns those it knows it made, outermost first.

        In `made` each is noted before it is asked for, and taken out again when that is refused.
        """
        ...

    def claim_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> FileStatus | None:
        """What is at `path`, as `status` tells it; where nothing is, a folder is made, with those above it that are missing.

        The folder itself never has more than `permissions`. Notes in `made` what it makes, as `create_parents` does.
        Raises a `StepError` when it can be neither seen nor made.
        """
        ...

    def create_folder(self, path: str, permissions: int | None = None, made: Made | None = None) -> list[str]:
        """Make a folder that is not there, and those above it that are missing. Notes and returns as `create_parents`.

        The folder itself never has more than `permissions`, and may have fewer.
        """
        ...

    def remove_folders(self, folders: list[str]) -> None:
        """Remove folders that `create_parents` made, as far as they are still empty."""
        ...

    def create_empty(self, path: str, permissions: int | None) -> None:
        """Create an empty file at `path`, which must not exist, with these permissions; None: the server's own choice."""
        ...

    def sha256_pieces(self, path: str, sizes: Sequence[int]) -> Iterator[str]:
        """The hash of each piece of `path` from its beginning, in order; fewer if there are fewer. Close it when done."""
        ...

    def set_attributes(self, path: str, wanted: WantedAttributes) -> None:
        """Set the attributes that are not None."""
        ...

    def replace(self, source: str, path: str, note: Note) -> Published:
        """Rename `source` over the file at `path`.

        `note` is told what will be returned before the first request goes out, and again when another way is taken. If it
        fails, the old file is where it was, or the error says where it is.
        """
        ...

    def sync_folder(self, folder: str) -> bool:
        """Sync a folder to disk, and so the names that were given in it. False where the server does not do that."""
        ...

    def rename(self, source: str, destination: str) -> None:
        """Rename what is at `source`. Raises if something is at `destination`."""
        ...

    def remove_folder(self, path: str) -> None:
        """Remove the empty folder at `path`; it is no error if there is none."""
        ...

    def remove(self, path: str) -> bool:
        """Remove the file at `path`; whether there was one."""
        ...


class StatusRefused(Exception):
    """The server does not tell whether the path exists: some drop boxes let nobody look."""
