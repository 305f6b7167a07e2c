"""One upload: open, write, set attributes, look, close; and once all is proven, publish. A single file is a batch of one.

OpenSSH carries out in order what it is sent: there everything behind the last WRITE goes out together. Other servers write
in workers, answer FSTAT before the bytes are there, or know a file's size only when it is closed: there each waits for the
one before, which costs a small file two round trips that hide behind the other files.
"""

from __future__ import annotations

import functools
import os
import posixpath
import stat
import struct
from contextlib import suppress

from runner.errors import FileRefused, SourceChanged, StepError
from runner.remote_files import (
    NOTHING_WANTED,
    REPLACED_IN_ONE_STEP,
    FileStatus,
    Published,
    Sending,
    Source,
    WantedAttributes,
    Written,
)
from runner.sftp import disk_space
from runner.sftp.attributes import encode_wanted, to_status
from runner.sftp.batch.deeds import add_remark, look_behind_rename, require_renamed
from runner.sftp.batch.file import Answer, Batcher, BatchFile, Stages, ignore
from runner.sftp.batch.privacy import PRIVATE_MODE, close_off, make_private
from runner.sftp.batch.publish import (
    Publication,
    ask_to_replace,
    can_replace,
    publish,
    remove_temporary,
    replace_otherwise,
)
from runner.sftp.lanes import Cursor, Lane, WriteSpace, close_lanes, open_lanes
from runner.sftp.packets import (
    FSYNC,
    Attributes,
    OpenFlag,
    Reader,
    StatusCode,
    Type,
    encode_path,
    encode_string,
    usual_attributes,
)
from runner.sftp.refusals import describe_refusal, knows_no_sync, name_temporary_options
from runner.sftp.session import Refusal

# A source of which so much is left is sent without being copied in memory once more.
STREAM_FROM_BYTES = 64 * 1024
# OpenSSH takes 2 MiB a channel before it acknowledges: 40 MiB/s at 50 ms. Each further channel adds as much.
MAX_CHANNELS = 6
ROUND_TRIP_PER_CHANNEL_SECONDS = 0.008
MANY_CHANNELS_BYTES = 16 * 1024 * 1024
# What is written once more where the server takes a file's mode with OPEN only.
WRITE_AGAIN_BYTES = 16 * 1024 * 1024

# TRUNCATE means nothing beside EXCLUSIVE; some servers know only combinations that C's fopen has (node's ssh2).
_NEW_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE | OpenFlag.EXCLUSIVE)
_ANY_FILE = struct.pack(">I", OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.TRUNCATE)
_OLD_FILE = struct.pack(">I", OpenFlag.READ | OpenFlag.WRITE)
_PRIVATE = Attributes(mode=PRIVATE_MODE).encode()
_NO_ATTRIBUTES = Attributes().encode()
_WRITE_START = struct.Struct(">QI").pack
_SAID_AND_NOT_DONE = "it says that they are set, and they are not"
FSYNC_START = encode_string(FSYNC.encode())


class Upload(BatchFile):
    """One upload. Every method runs under the batch's lock."""

    __slots__ = (
        "_are_times_refused",
        "_cursor",
        "_found",
        "_has_begun_again",
        "_has_final_mode",
        "_is_publishing",
        "_is_right",
        "_is_synced",
        "_lane_refusal",
        "_lanes",
        "_must_add_channels",
        "_offset",
        "_opened_mode",
        "_refused",
        "_source",
        "_waits_for_lanes",
        "_wanted",
        "_wants_channels",
        "_written_path",
        "is_written",
        "job",
    )

    job: Sending

    def __init__(self, batcher: Batcher, job: Sending) -> None:
        super().__init__(batcher, job)
        self._written_path = encode_path(job.temporary or job.destination)
        self._lanes: list[Lane] = []
        self._lane_refusal: Exception | None = None
        self._wants_channels = self._waits_for_lanes = self._has_begun_again = False
        self._is_publishing = self.is_written = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._source: Source | None = None
        self._wanted = NOTHING_WANTED
        self._opened_mode: int | None = None
        # Whether it may have the mode that it is to have when it is published.
        self._has_final_mode = False
        self._cursor: Cursor | None = None
        self._must_add_channels = False
        self._offset = 0
        self._found: FileStatus | None = None
        # Whether size and attributes are what they shall be: then nothing else need be known of them.
        self._is_right = False
        self._refused = ""
        self._are_times_refused = False
        self._is_synced: bool | None = None

    @property
    def path(self) -> str:
        return self.job.destination

    def give_up(self) -> None:
        # Between two renames the destination would be missing: what has begun to be published is.
        if not self._is_publishing:
            super().give_up()
            self._stop_reading()

    def fail(self, error: Exception, doing: str = "") -> None:
        super().fail(error, doing)
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._cursor is not None:
            self._cursor.stop()

    def run(self) -> Stages[None]:
        self._ask_to_open()
        if self.error is None:
            yield
        if not self._handle:
            yield from self._give_way()
            return
        if self.error is None and not self.session.traits.is_sequential:
            yield from self._close_off()
        if self.error is None:
            self.wait_for_turn()
            yield
            if self._wants_channels:
                yield from self._write_on_channels()
        if self.error is not None or self.session.traits.is_sequential:
            self._ask_to_finish()
            yield
        else:
            yield from self._finish_in_turn()
        self._handle = b""
        if not self._is_right and self.error is None:
            yield from self._look_again()
            if self._can_begin_again:
                yield from self._begin_with_mode()
                return
        self._prove()
        if self.error is None and self.job.is_held:
            yield from self._wait_for_release()
        if self.error is None and self.job.temporary is not None:
            yield from self._publish(self.job.temporary)
        if self.error is not None:
            yield from self._clean_up()

    def _give_way(self) -> Stages[None]:
        """There is no handle: a failure, or too many files are open."""
        self.miss("a handle")
        self._close_source()
        if self._batcher.retreat(self):
            self._begin_anew()
            yield from self.begin_again()
        elif self._may_be_taken and self.job.rename_temporary():
            self._written_path = encode_path(self.job.temporary or self.job.destination)
            self._begin_anew()
            self.error = None
            yield from self.run()
        elif self.job.temporary is not None and self.job.owns_temporary and not self._is_certainly_uncreated:
            # Some servers refuse what they have done. Nobody else has the name.
            yield from remove_temporary(self, self.job.temporary)

    @property
    def _is_certainly_uncreated(self) -> bool:
        """Whether a refusal says that there is no directory to create a file in, and what says so can be believed."""
        is_for_want_of_parent = isinstance(self.error, Refusal) and self.error.code == StatusCode.NO_SUCH_FILE
        return self.session.traits.is_sequential and is_for_want_of_parent

    @property
    def _may_be_taken(self) -> bool:
        """Whether the temporary name may be refused because something has it."""
        return isinstance(self.error, Refusal) and self.error.code != StatusCode.NO_SUCH_FILE

    def _wait_for_release(self) -> Stages[None]:
        self._batcher.hold(self)
        yield
        if not self.has_failed and self.job.sets_attributes_late:
            yield from self._set_late()

    def _publish(self, temporary: str) -> Stages[None]:
        if self._batcher.must_end():
            # Nothing gets its name any more when the play is to end.
            self.give_up()
            return
        self._is_publishing = True
        traits = self.session.traits
        if self.job.backup is None and traits.is_sequential and traits.renames_links and can_replace(self.session):
            # What nearly every file comes to: `publish` would do the same, at a cost for each.
            self.job.published = REPLACED_IN_ONE_STEP
            answer = ask_to_replace(self, temporary, self.job.destination, self._written_path)
            found = look_behind_rename(self, temporary)
            self.part()
            yield
            if answer.refusal is not None:
                publication = self._describe(temporary)
                yield from replace_otherwise(self, publication, answer.refusal)
                found = publication.found
            if found is not None or not traits.is_sequential:
                yield from require_renamed(self, temporary, self.job.destination, found)
        else:
            yield from publish(self, self._describe(temporary))

    # Opening.

    def _ask_to_open(self) -> None:
        if self.session.traits.sets_permissions_by == "nothing":
            # Only the source tells the mode, which is to be had now or never.
            self._open_source()
        if self.error is not None:
            return
        flags = _ANY_FILE if self.job.temporary is None else _OLD_FILE if self.job.continues else _NEW_FILE
        self.ask(Type.OPEN, self._written_path + flags + self._first_attributes(), self._take_handle)

    def _first_attributes(self) -> bytes:
        if self.job.continues:
            return _NO_ATTRIBUTES
        if self.session.traits.sets_permissions_by == "nothing" and self._wanted.permissions is not None:
            self._opened_mode = self._wanted.permissions
            self._has_final_mode = True
            return Attributes(mode=self._opened_mode).encode()
        self._opened_mode = mode = self.job.opening_permissions
        return _PRIVATE if mode == PRIVATE_MODE else Attributes(mode=mode).encode()

    def _take_handle(self, kind: int, body: memoryview) -> None:
        self.take_handle("cannot create", kind, body)

    def refine(self, error: StepError) -> None:
        if self.doing == "cannot create" and self.job.temporary is not None and not self.session.traits.is_sequential:
            name_temporary_options(error)

    def _open_source(self) -> None:
        try:
            self._source, self._wanted = self.job.open()
            self._offset = self._source.offset
            if self._source.size_bytes - self._offset >= STREAM_FROM_BYTES:
                self._cursor = Cursor(self._source)
                self.may_stream = True
                self._must_add_channels = self._may_add_channels(self._source)
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self._fail_reading(error)

    def _close_source(self) -> None:
        try:
            self.job.close()
        except StepError as error:
            self.fail(error)

    def _fail_reading(self, error: OSError) -> None:
        self.fail(FileRefused(f"cannot read the source of {self.path!r} on this machine: {error.strerror}"))

    # Writing.

    def move_some(self) -> bool:
        if self._batcher.must_end():
            self.give_up()
        if self.error is None and self._source is None:
            self._open_source()
        if self.error is None and self._opened_mode is not None:
            self._restrict()
        if self.error is None and self._must_add_channels:
            self._must_add_channels, self._wants_channels = False, True
            return False
        try:
            if self.error is None and self._write_some():
                return True
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self._fail_reading(error)
        if not self._lanes:
            self._close_source()
        return False

    def _close_off(self) -> Stages[None]:
        """Before the first byte, and waited for, since what is written could overtake it: others may not read the file."""
        if self.job.temporary is not None:
            if self._opened_mode == PRIVATE_MODE and not self._has_final_mode:
                yield from make_private(self, self._handle, self._written_path)
            return
        # Only the source tells which mode it is to have.
        if self._source is None:
            self._open_source()
        wanted, self._opened_mode = self._wanted.permissions, None
        if self.error is None and wanted is not None and self.session.traits.sets_permissions_by != "nothing":
            yield from close_off(self, self._handle, self._written_path, wanted)

    def _restrict(self) -> None:
        """Before the first byte: the file that is written over may have been open to those who must not read the new one."""
        self._opened_mode = None
        if self.job.temporary is None and self._wanted.permissions is not None:
            permissions = WantedAttributes(self._wanted.permissions, None)
            self.ask(Type.FSETSTAT, self._handle + encode_wanted(permissions), ignore)

    def _write_some(self) -> bool:
        """Send the next piece. False when there is no more."""
        source = self._source
        if source is None:
            return False
        if self._cursor is not None:
            return self._write_rest(self._cursor)
        if self._offset >= source.size_bytes:
            return False
        wanted = min(self.session.write_bytes, source.size_bytes - self._offset)
        piece = os.pread(source.fd, wanted, self._offset)
        if not piece:
            raise SourceChanged(
                f"the source of {self.path!r} became shorter while it was read",
                hint="Something still writes to it. Play again when it is finished.",
            )
        if source.hasher is not None:
            source.hasher.update(memoryview(piece))
        self._count_in_flight(len(piece))
        self.ask(
            Type.WRITE, b"".join((self._handle, _WRITE_START(self._offset, len(piece)), piece)), self._refuse_write
        )
        self._offset += len(piece)
        return self._offset < source.size_bytes

    def _write_rest(self, cursor: Cursor) -> bool:
        if cursor.left_bytes >= STREAM_FROM_BYTES:
            # Nobody has asked yet whether it is streaming.
            return True
        space = memoryview(bytearray(min(self.session.write_bytes, STREAM_FROM_BYTES)))
        offset, count = cursor.take(space)
        if count:
            self._count_in_flight(count)
            body = b"".join((self._handle, _WRITE_START(offset, count), space[:count]))
            self.ask(Type.WRITE, body, self._refuse_write)
        return cursor.left_bytes > 0

    @property
    def is_streaming(self) -> bool:
        cursor = self._cursor
        if cursor is None or self.has_failed or not self._is_busy or self._must_add_channels:
            return False
        return cursor.left_bytes >= STREAM_FROM_BYTES

    def stream_piece(self, space: WriteSpace) -> memoryview:
        """The next WRITE, built in this space; empty if there is none after all."""
        cursor = self._cursor
        if cursor is None or self._batcher.must_end():
            self.give_up()
            return memoryview(b"")
        try:
            return space.build(self._handle, cursor, self._expect_streamed)
        except StepError as error:
            self.fail(error)
        except OSError as error:
            self._fail_reading(error)
        return memoryview(b"")

    def _expect_streamed(self, count: int) -> int:
        self._count_in_flight(count)
        return self.expect(self._refuse_write)

    def _count_in_flight(self, count: int) -> None:
        self._in_flight_bytes += count
        self._batcher.bytes_in_flight += count

    def _refuse_write(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot write to", kind, body)

    # Writing over several channels, each with a window of its own at the server.

    def _may_add_channels(self, source: Source) -> bool:
        is_large = source.size_bytes - source.offset >= MANY_CHANNELS_BYTES
        return is_large and self._count_channels() > 1 and self.session.traits.takes_more_channels

    def _count_channels(self) -> int:
        needed = 1 + int(self.session.round_trip_seconds / ROUND_TRIP_PER_CHANNEL_SECONDS)
        if self.job.max_channels is not None:
            return min(needed, self.job.max_channels)
        return min(needed, MAX_CHANNELS) if self.session.traits.shares_files else 1

    def _write_on_channels(self) -> Stages[None]:
        yield from self.work_aside(self._open_lanes)
        for lane in self._lanes:
            if self._cursor is not None:
                lane.start(self._cursor, self._note_written, self._note_lane_over)
        self.wait_for_turn()
        yield
        while not all(lane.is_over for lane in self._lanes):
            self._waits_for_lanes = self._is_busy = True
            yield
        self._waits_for_lanes = self._is_busy = False
        for lane in self._lanes:
            if lane.failure is not None:
                self.fail(lane.failure, "cannot write to")
        self._close_source()
        yield from self.work_aside(self._close_lanes)
        if self._lane_refusal is not None:
            self.fail(self._lane_refusal, "cannot finish")

    def _open_lanes(self) -> None:
        sessions = self._batcher.open_more_channels(self._count_channels() - 1)
        path = self.job.temporary or self.job.destination
        self._lanes = open_lanes(sessions, path)
        if not self._lanes:
            self.session.traits.saw("takes_more_channels", False, "it granted no further channel for a large file")

    def _close_lanes(self) -> None:
        try:
            close_lanes(self._lanes)
        except Refusal as refusal:
            self._lane_refusal = refusal

    def _note_written(self, count_bytes: int) -> None:
        self._batcher.done_bytes += count_bytes

    def _note_lane_over(self) -> None:
        self._batcher.rejoin(self._see_lanes)

    def _see_lanes(self) -> None:
        if any(lane.failure for lane in self._lanes):
            self._stop_reading()
        if self._waits_for_lanes and all(lane.is_over for lane in self._lanes):
            self.proceed()

    def look_after(self) -> None:
        for lane in self._lanes:
            lane.look_after()

    # Behind the last byte.

    def _ask_to_finish(self) -> None:
        """Everything at once, for a server that carries it out in order; after a failure only the end."""
        if self.error is not None:
            self.ask(Type.CLOSE, self._handle, ignore)
            return
        self._ask_to_set()
        self.ask(Type.FSTAT, self._handle, self._looked)
        self._ask_to_sync()
        # Servers with a quota or a write-behind cache report a lost write only at CLOSE.
        self.ask(Type.CLOSE, self._handle, self._refuse_close)

    def _finish_in_turn(self) -> Stages[None]:
        """One after the other, and the file's size when it is closed: nothing else is under way about it meanwhile."""
        traits = self.session.traits
        if self._awaited:
            yield
        if not self.has_failed and traits.sets_permissions_by == "handle":
            self._ask_to_set()
            if self._awaited:
                yield
        if not self.has_failed:
            self._ask_to_sync()
            if traits.tells_status is not True:
                # Where paths are not looked at, this is all that will be known.
                self.ask(Type.FSTAT, self._handle, self._looked)
            if self._awaited:
                yield
        self.ask(Type.CLOSE, self._handle, ignore if self.has_failed else self._refuse_close)
        yield
        if not self.has_failed and traits.tells_status is not False:
            self.ask(Type.STAT, self._written_path, self._looked_at_path)
            yield

    def _ask_to_set(self) -> None:
        wanted = self._wanted_of_handle
        if wanted != NOTHING_WANTED:
            self._has_final_mode = True
            self.ask(Type.FSETSTAT, self._handle + encode_wanted(wanted), self._set)

    @property
    def _wanted_of_handle(self) -> WantedAttributes:
        """What is set through the handle, as far as that has been seen to do."""
        wanted, traits = self._wanted, self.session.traits
        if self.job.sets_attributes_late:
            return NOTHING_WANTED
        if traits.is_sequential:
            return wanted
        return WantedAttributes(
            wanted.permissions if traits.sets_permissions_by == "handle" else None,
            wanted.modified_at_seconds if traits.sets_times_by == "handle" else None,
        )

    def _ask_to_sync(self) -> None:
        if self.job.is_durable:
            self._is_synced = FSYNC in self.session.extensions
            if self._is_synced:
                self.ask(Type.EXTENDED, FSYNC_START + self._handle, self._refuse_sync)

    def _refuse_sync(self, kind: int, body: memoryview) -> None:
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self._is_synced = False
            if not knows_no_sync(refusal):
                self.fail(refusal, "cannot sync to disk")

    def _refuse_close(self, kind: int, body: memoryview) -> None:
        self.take_status("cannot finish", kind, body)

    def _set(self, kind: int, body: memoryview) -> None:
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            self._refused = describe_refusal(refusal)

    def _looked(self, kind: int, body: memoryview) -> None:
        if kind == Type.ATTRS:
            usual = usual_attributes(body)
            self._is_right = usual is not None and self._are_as_wanted(*usual)
            if self._is_right and self._found is None:
                # All that need be known; nearly every file ends here.
                return
            self._found = to_status(Reader(body).take_attributes())
        else:
            # The server does not tell.
            self.find_refusal(kind, body)

    def _looked_at_path(self, kind: int, body: memoryview) -> None:
        traits = self.session.traits
        self._looked(kind, body)
        if kind == Type.ATTRS:
            traits.tells_status = True
        elif traits.tells_status is None:
            traits.saw("tells_status", False, "it did not tell what a file is like that was just written")

    # What is not as it shall be.

    def _are_as_wanted(self, size_bytes: int, mode: int, modified_at_seconds: int) -> bool:
        """Whether size and attributes are as they shall be. Quick, since every file comes by."""
        source, (permissions, modified) = self._source, self._wanted
        if source is None or self._refused or size_bytes != source.size_bytes or mode & 0o170000 != stat.S_IFREG:
            return False
        if self.job.sets_attributes_late:
            return True
        if permissions is not None and (mode ^ permissions) & 0o777:
            return False
        return modified is None or modified == modified_at_seconds

    def _find_lacking(self) -> list[str]:
        """Which attributes are not as they were wanted, as far as the server tells; all that it refused, if it does not."""
        if self.job.sets_attributes_late:
            return []
        return [
            name for name, is_set in self._compare().items() if is_set is False or (is_set is None and self._refused)
        ]

    def _compare(self) -> dict[str, bool | None]:
        """Of each attribute that is wanted, whether it is so; None if the server does not tell."""
        found, permissions, modified_at = self._found, self._wanted.permissions, self._wanted.modified_at_seconds
        compared: dict[str, bool | None] = {}
        if permissions is not None:
            seen = found.permissions if found is not None else None
            compared["permissions"] = None if seen is None else seen == permissions & 0o777
        if modified_at is not None:
            seen = found.modified_at_seconds if found is not None else None
            compared["times"] = None if seen is None else seen == modified_at
        return compared

    def _look_again(self) -> Stages[None]:
        """Set by path what the handle did not do for, and look: some servers look at names and not at handles."""
        tried = [name for name in self._find_lacking() if self._may_set(name)]
        refused: dict[str, str] = {}
        if tried:
            self._ask_to_set_one_by_one(tried, refused)
            yield
        if self.session.traits.tells_status is not False:
            self.ask(Type.STAT, self._written_path, self._looked_at_path)
            yield
        reason, self._refused = self._refused, ""
        lacking = [name for name, is_set in self._compare().items() if self._is_lacking(name, refused, is_set=is_set)]
        self._learn_setting(tried, lacking, refused, is_certain=bool(reason) or not self.session.traits.is_sequential)
        self._are_times_refused = "times" in lacking and ("times" in refused or self._set_by("times") == "nothing")
        if "permissions" in lacking:
            known = self.session.traits.reasons.get("sets_permissions_by", "")
            self._refused = f"permissions ({reason or refused.get('permissions') or known or _SAID_AND_NOT_DONE})"

    def _is_lacking(self, name: str, refused: dict[str, str], *, is_set: bool | None) -> bool:
        if is_set is not None:
            return not is_set
        return name in refused or self._set_by(name) == "nothing"

    def _may_set(self, name: str) -> bool:
        return self._set_by(name) != "nothing" and (name != "times" or self.session.traits.keeps_times)

    def _set_by(self, name: str) -> str:
        traits = self.session.traits
        return traits.sets_permissions_by if name == "permissions" else traits.sets_times_by

    def _learn_setting(
        self, tried: list[str], lacking: list[str], refused: dict[str, str], *, is_certain: bool
    ) -> None:
        for name in tried if is_certain else []:
            if name == "times" and name in lacking and name not in refused:
                # They are set, and rounded, or moved: what the first request did will do.
                self.session.traits.saw("keeps_times", False, "it set other times than it was asked for")
                continue
            by = "nothing" if name in lacking else "path"
            if self._set_by(name) != by:
                done = "neither FSETSTAT nor SETSTAT" if by == "nothing" else "SETSTAT, and not FSETSTAT,"
                self.session.traits.saw(f"sets_{name}_by", by, f"{done} set a file's {name}")

    def _ask_to_set_one_by_one(self, names: list[str], refused: dict[str, str]) -> None:
        """Servers that refuse times may take permissions, and the other way round."""
        self._has_final_mode = True
        for name in names:
            wanted = self._wanted
            single = (
                WantedAttributes(wanted.permissions, None)
                if name == "permissions"
                else WantedAttributes(None, wanted.modified_at_seconds)
            )
            take = functools.partial(self._set_single, name, refused)
            self.ask(Type.SETSTAT, self._written_path + encode_wanted(single), take)

    def _set_single(self, name: str, refused: dict[str, str], kind: int, body: memoryview) -> None:
        refusal = self.find_refusal(kind, body)
        if refusal is not None:
            refused[name] = describe_refusal(refusal)

    @property
    def _can_begin_again(self) -> bool:
        """Whether the mode may be had by opening the file with it, as this server sets none afterwards."""
        found, wanted, source = self._found, self._wanted, self._source
        if self.session.traits.sets_permissions_by != "nothing" or self.job.temporary is None or self.job.continues:
            return False
        if found is None or found.permissions != PRIVATE_MODE or wanted.permissions in (None, PRIVATE_MODE):
            return False
        return not self._has_begun_again and source is not None and source.size_bytes <= WRITE_AGAIN_BYTES

    def _begin_with_mode(self) -> Stages[None]:
        self._has_begun_again = True
        self.ask(Type.REMOVE, self._written_path, ignore)
        yield
        self._begin_anew()
        yield from self.run()

    def _set_late(self) -> Stages[None]:
        """The file is proven: now others may have it."""
        refused: dict[str, str] = {}
        names = [name for name, value in zip(("permissions", "times"), self._wanted, strict=True) if value is not None]
        self._ask_to_set_one_by_one(names, refused)
        if names:
            yield
        text = f"permissions ({refused['permissions']})" if "permissions" in refused else ""
        try:
            self.job.prove_attributes(text, are_times_refused="times" in refused)
        except StepError as error:
            self.fail(error)

    # In the end.

    def _prove(self) -> None:
        """Decide whether what is written may be published."""
        if not self.has_failed:
            found, source = self._found, self._source
            size_bytes = found.size_bytes if found is not None else None
            if self._is_right and source is not None:
                found, size_bytes = None, source.size_bytes
            needs_hash = bool(self._lanes) and not self.session.traits.shares_files
            refused, times = self._refused, self._are_times_refused
            try:
                self.job.prove(Written(size_bytes, refused, times, self._is_synced, found, needs_hash))
            except StepError as error:
                self.fail(error)
            self.is_written = True

    def _describe(self, temporary: str) -> Publication:
        job = self.job
        return Publication(temporary, job.destination, job.is_new, job.aside, self._note, job.backup, self._next_backup)

    def _note(self, published: Published) -> None:
        self.job.published = published

    def _next_backup(self) -> str | None:
        return self.job.backup if self.job.rename_backup() else None

    def _clean_up(self) -> Stages[None]:
        """The temporary file is removed, unless a later attempt is to go on with it. What was written in place is named."""
        self._is_publishing = False
        yield from self._see_whether_full()
        if self.job.temporary is None:
            add_remark(self, f"It was being written in place: {self.path!r} may be incomplete")
        elif not (self.job.is_kept and self.was_given_up and (yield from self._keep_private())):
            yield from remove_temporary(self, self.job.temporary)

    def _keep_private(self) -> Stages[bool]:
        """Give a partial file its private mode again, if it had its final one already. Whether it is private."""
        answer = Answer(self)
        if self._has_final_mode:
            private = WantedAttributes(PRIVATE_MODE, None)
            self.ask(Type.SETSTAT, self._written_path + encode_wanted(private), answer.take)
            yield
        return answer.refusal is None

    def _see_whether_full(self) -> Stages[None]:
        """A bare FAILURE may mean a full disk. Asked before room is made by removing what did not fit."""
        refusal = self.error
        if not isinstance(refusal, Refusal) or refusal.code != StatusCode.FAILURE:
            return
        if disk_space.EXTENSION in self.session.extensions:
            folder = posixpath.dirname(self.path) or "."
            take = functools.partial(_note_space, refusal)
            self.ask(Type.EXTENDED, disk_space.encode_question(folder), take)
            yield

    def forget(self) -> None:
        with suppress(StepError):
            self.job.close()
        self._stop_reading()
        self.job.lose("publishing" if self._is_publishing else "writing")

    def lose(self) -> None:
        if self.error is None:
            self.job.lose("published")
        elif self.job.temporary is None:
            self.job.lose("writing")


def _note_space(refusal: Refusal, kind: int, body: memoryview) -> None:
    if kind == Type.EXTENDED_REPLY:
        refusal.is_disk_full = disk_space.read_disk_space(Reader(body)).is_full
