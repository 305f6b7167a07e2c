"""Moves many files at once over one session: hundreds under way, their requests gathered into few large sends.

A small file costs six requests. Made one after the other, each waits for a round trip; here every file is a generator
(`batch/upload.py`, `batch/download.py`) that is resumed by the last reply it waits for, in the transport's thread.
What they want to send is gathered, and leaves together when all replies that have come so far have been taken.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from runner.errors import StepError, UnreachableError
from runner.remote_files import Fetching, Listing, Progress, RemoteRequest, Sending
from runner.sftp.batch.download import Download
from runner.sftp.batch.file import BatchFile
from runner.sftp.batch.listing import FolderListing
from runner.sftp.batch.request import SingleRequest
from runner.sftp.batch.sync import FolderSync
from runner.sftp.batch.upload import Upload
from runner.sftp.lanes import WRITES_IN_FLIGHT, WriteSpace
from runner.sftp.packets import StatusCode
from runner.sftp.refusals import explain_refusal
from runner.sftp.session import Refusal, SftpSession, TakeAnswer

# Payload that has been sent and not yet acknowledged.
MAX_BYTES_IN_FLIGHT = 8 * 1024 * 1024
# What is asked for and has not come yet: enough to keep the server busy, and beyond that what the line itself holds.
# All that does not fit the line piles up in OpenSSH's sftp-server, which moves the pile in memory again and again: with 16
# MiB of it on loopback a download of 1 GiB cost the server 1.3 to 3.0 s of CPU instead of 1.0.
READ_AHEAD_BYTES = 2 * 1024 * 1024
LINE_BYTES_PER_SECOND = 1024 * 1024 * 1024
MAX_READS_IN_FLIGHT = 64
GATHERED_BYTES = 256 * 1024
# How many files may wait for their turn, so that whoever finds them is not held up, nor runs far ahead.
MAX_QUEUED_FILES = 1024
# How many local files are synced side by side: a journal takes what comes at the same time in one go.
SYNCING_THREADS = 16

_REQUEST_START = struct.Struct(">IBI").pack
# Refusals that say why: what they say is not that too many files are open.
_CLEAR_CODES = frozenset((StatusCode.NO_SUCH_FILE, StatusCode.PERMISSION_DENIED, StatusCode.OP_UNSUPPORTED))


class SftpBatch:
    """A `Batch` over one SFTP session. While it lives, all requests of the session go through it."""

    def __init__(
        self,
        session: SftpSession,
        files_in_flight: int,
        open_more_channels: Callable[[int], list[SftpSession]] = lambda count: [],
        on_progress: Progress | None = None,
        must_end: Callable[[], bool] = lambda: False,
    ) -> None:
        self.session = session
        self.must_end = must_end
        self.open_more_channels = open_more_channels
        self._on_progress = on_progress
        self._max_bytes_in_flight = MAX_BYTES_IN_FLIGHT
        self._space: WriteSpace | None = None
        self._files_in_flight = self._most_files_in_flight = max(1, files_in_flight)
        self._knows_limit = session.traits.is_sequential or session.max_open_handles > 0
        self._has_retreated_in_vain = False
        # Held by whichever thread changes anything below; entered again by state machines that end at once.
        self._lock = threading.RLock()
        self._queue: deque[BatchFile] = deque()
        self._active: set[BatchFile] = set()
        self._parting_count = 0
        # Whether data has been asked for, and how many folders are being listed: the server may send ahead accordingly.
        self._is_fetching = False
        self._listing_count = 0
        self._moving: deque[BatchFile] = deque()
        self._finished: deque[tuple[BatchFile, Exception | None]] = deque()
        # What is written or read, and waits until somebody has looked at it more closely.
        self._held: dict[Sending | Fetching, BatchFile] = {}
        self._newly_held: deque[Sending | Fetching] = deque()
        self._gathered = bytearray()
        self._unsent = memoryview(b"")
        self._is_awaited: Callable[[], bool] | None = None
        self._has_news = False
        # What is told of its end may begin something new.
        self._is_handing_over = False
        self._failure: Exception | None = None
        self._aside: ThreadPoolExecutor | None = None
        self._aside_count = 0
        self.bytes_in_flight = 0
        self.done_bytes = 0
        session.channel.on_pause = self._after_replies
        session.channel.on_room = self._send_on
        session.share(self._post, self._lock)

    # What the thread that waits calls.

    def send(self, upload: Sending) -> None:
        self._add(Upload(self, upload))

    def release(self, copy: Sending | Fetching, error: StepError | None) -> None:
        with self._lock:
            file = self._held.pop(copy, None)
            if file is None:
                # It was given up while its hash was still being read back.
                return
            if error is not None:
                file.fail(error)
            # Nothing that is written waits for what is not begun.
            self._queue.appendleft(file)
        self._fill()

    def fetch(self, download: Fetching) -> None:
        if not self._is_fetching:
            with self._lock:
                self._is_fetching = True
                self.session.expect_data()
                reads = count_reads(self.session.round_trip_seconds, self.session.read_bytes)
                self._max_bytes_in_flight = reads * self.session.read_bytes
        self._add(Download(self, download))

    def list(self, folder: Listing) -> None:
        with self._lock:
            self._listing_count += 1
            if self._listing_count == 1 and not self._is_fetching:
                self.session.expect_names()
        self._add(FolderListing(self, folder))

    def run(self, request: RemoteRequest) -> None:
        self._add((FolderSync if request.what == "sync folder" else SingleRequest)(self, request))

    def complete(self) -> None:
        while self.wait() or self._active:
            self._wait_until(lambda: self._has_news or not (self._active or self._queue))
            self._hand_over()
        self._report()
        self._release()

    def wait(self) -> bool:
        self._fill()
        self._wait_until(lambda: self._has_news or not self._has_more)
        self._hand_over()
        return self._has_more or bool(self._finished or self._newly_held)

    @property
    def _has_more(self) -> bool:
        """Whether more is to be sent than what is asked for from now on."""
        return bool(self._queue) or len(self._active) > self._parting_count

    def abandon(self) -> None:
        with self._lock:
            # What has written something must go on, to remove it.
            self._queue = deque(file for file in (*self._queue, *self._held.values()) if file.is_written)
            self._held.clear()
            self._newly_held.clear()
            for file in (*self._active, *self._queue):
                file.give_up()
        try:
            self._fill()
            self._wait_until(lambda: not (self._active or self._queue))
        finally:
            # Nobody else may be at work on what is given up.
            if self._aside is not None:
                self._aside.shutdown(cancel_futures=True)
            for file, _ in self._finished:
                file.lose()
            for file in (*self._active, *self._queue):
                file.forget()
            self._finished.clear()
            self._release()

    def _add(self, file: BatchFile) -> None:
        self._queue.append(file)
        # Otherwise a reply will come, and make the transport's thread look at the queue.
        if not self._active:
            self._fill()
        if (self._finished or self._newly_held) and not self._is_handing_over:
            self._hand_over()
        if len(self._queue) >= MAX_QUEUED_FILES and not self._is_handing_over:
            self._wait_until(lambda: len(self._queue) <= MAX_QUEUED_FILES // 2)

    def _wait_until(self, is_ready: Callable[[], bool]) -> None:
        def is_over() -> bool:
            return self._failure is not None or is_ready()

        def tick() -> None:
            self._hand_over()
            self._report()
            for file in tuple(self._active):
                file.look_after()
            if self._aside_count:
                self.session.channel.note_progress()
            # While keys were exchanged nothing could be sent, and no reply may come that sets it going again.
            self._fill()

        self._is_awaited = is_over
        try:
            self.session.wait_for(is_over, on_tick=tick)
        finally:
            self._is_awaited = None
        if self._failure is not None:
            raise self._failure

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.done_bytes)

    def _hand_over(self) -> None:
        """Tell each finished file how it ended. Refusals are explained here: that may need requests of its own."""
        if self._is_handing_over:
            return
        self._is_handing_over = True
        try:
            self._hand_over_all()
        finally:
            self._is_handing_over = False

    def _hand_over_all(self) -> None:
        self._has_news = False
        while self._newly_held:
            self._newly_held.popleft().hold()
        while self._finished:
            file, error = self._finished.popleft()
            if isinstance(error, Refusal):
                explained = explain_refusal(error, file.doing, file.path, self.session)
                explained.__cause__ = error
                for remark in error.remarks:
                    explained.add(*remark)
                file.refine(explained)
                error = explained
            if isinstance(error, UnreachableError) or (error is not None and not isinstance(error, StepError)):
                # It is not this file's failure, but the session's.
                raise error
            file.job.finish(error)

    def _release(self) -> None:
        """Give the session back, with no request half sent."""
        with self._lock:
            rest = bytes(self._unsent) + bytes(self._gathered)
            self._unsent, self._gathered = memoryview(b""), bytearray()
        self.session.channel.on_pause = None
        self.session.channel.on_room = None
        self.session.take_back()
        if self._aside is not None:
            self._aside.shutdown()
        if rest:
            self.session.channel.send(rest, is_rest=True)

    # What the state machines call, holding the lock.

    def request(self, kind: int, body: bytes, file: BatchFile, take: TakeAnswer) -> None:
        """Have a request sent, whose reply is the file's."""
        request_id = self.session.expect_later((file, take))
        self._gathered += _REQUEST_START(5 + len(body), kind, request_id) + body

    def move(self, file: BatchFile) -> None:
        """A file has bytes to send or to ask for, in its turn."""
        self._moving.append(file)

    def run_aside(self, work: Callable[[], None], then: Callable[[StepError | None], None]) -> None:
        """Have something done that waits for the disk, in another thread, and then the file go on."""
        self._aside = self._aside or ThreadPoolExecutor(SYNCING_THREADS, "sync")
        self._aside_count += 1
        self._aside.submit(self._do_aside, work, then)

    def rejoin(self, work: Callable[[], None]) -> None:
        """Have something done under the lock, and send what came of it. May be called in any thread."""
        try:
            with self._lock:
                work()
        except Exception as error:
            self._failure = self._failure or error
        self._after_replies()

    def _do_aside(self, work: Callable[[], None], then: Callable[[StepError | None], None]) -> None:
        failure: StepError | None = None
        try:
            work()
        except StepError as error:
            failure = error
        except Exception as error:
            self._failure = self._failure or error
        self._aside_count -= 1
        self.rejoin(lambda: then(failure))

    def retreat(self, file: BatchFile) -> bool:
        """A handle was refused. If others are open, there may be too many: the file begins again when there are fewer."""
        refusal = file.error
        if self._knows_limit or not isinstance(refusal, Refusal) or refusal.code in _CLEAR_CODES:
            return False
        others = sum(other.holds_handle for other in self._active if other is not file)
        if not others:
            if file.has_retreated:
                # It was refused for a reason of its own.
                self._files_in_flight, self._has_retreated_in_vain = self._most_files_in_flight, True
            return False
        if self._has_retreated_in_vain and self.session.traits.max_open_files is None:
            return False
        self._files_in_flight = max(1, min(self._files_in_flight, others // 2))
        file.has_retreated = True
        self._active.discard(file)
        self._queue.append(file)
        return True

    def _learn_limit(self) -> None:
        """What was refused when many files were open was granted when there were fewer."""
        limit = self._files_in_flight
        if self.session.traits.max_open_files is None and not self._has_retreated_in_vain:
            self.session.traits.saw(
                "max_open_files", limit, f"it refused to open more than some {2 * limit} files at once"
            )

    def hold(self, file: BatchFile) -> None:
        """A file waits until it is released."""
        self._active.discard(file)
        self._held[file.job] = file
        self._newly_held.append(file.job)

    def part(self, file: BatchFile) -> None:
        """A file has sent its last request. Where requests are carried out in order, others may go behind it."""
        if self.session.traits.is_sequential and not file.is_parting:
            file.is_parting = True
            self._parting_count += 1

    def finish(self, file: BatchFile, error: Exception | None) -> None:
        """A file is over."""
        self._active.discard(file)
        self._parting_count -= file.is_parting
        if file.is_listing:
            self._listing_count -= 1
            if not self._listing_count and not self._is_fetching:
                self.session.expect_answers()
        if file.has_retreated and error is None:
            self._learn_limit()
        self._finished.append((file, error))
        self._has_news = self._has_news or file.is_urgent

    # What happens in the transport's thread.

    def _after_replies(self) -> None:
        self._fill()
        if self._is_awaited is not None and self._is_awaited():
            self.session.channel.wake()

    def _send_on(self) -> None:
        """The server has room: send on what waits for it. Nothing else is a reason to send less than can be gathered."""
        if self._unsent:
            self._fill()

    def _post(self, packet: bytes) -> None:
        """Send a request of somebody else's, behind what has been gathered."""
        with self._lock:
            self._gathered += packet
        self._fill()

    def _fill(self) -> None:
        """Send what can go now. What goes wrong is kept for the thread that waits."""
        try:
            with self._lock:
                while self._failure is None:
                    if not self._unsent:
                        self._gather()
                        if not self._unsent:
                            if not self._gathered:
                                return
                            self._unsent, self._gathered = memoryview(bytes(self._gathered)), bytearray()
                    sent_bytes = self.session.channel.send_some(self._unsent)
                    if sent_bytes == 0:
                        return
                    self._unsent = self._unsent[sent_bytes:]
        except Exception as error:
            self._failure = self._failure or error

    def _gather(self) -> None:
        """Put together the next send: what replies have set going, then bytes, then files not yet begun."""
        while len(self._gathered) < GATHERED_BYTES:
            if self._moving and self.bytes_in_flight < self._max_bytes_in_flight:
                file = self._moving[0]
                is_streaming = file.may_stream and file.is_streaming
                if is_streaming and self.bytes_in_flight >= WRITES_IN_FLIGHT * self.session.write_bytes:
                    return
                if is_streaming:
                    # By itself, behind what is gathered: nothing of it is copied.
                    if not self._gathered:
                        self._space = self._space or WriteSpace(self.session.write_bytes)
                        self._unsent = file.stream_piece(self._space)
                    if self._gathered or self._unsent:
                        return
                elif not file.take_turn():
                    self._moving.popleft()
            elif self._queue and len(self._active) < self._files_in_flight:
                file = self._queue.popleft()
                self._active.add(file)
                file.begin()
            else:
                return


def count_reads(round_trip_seconds: float, read_bytes: int) -> int:
    """How many reads of that size to keep under way."""
    wanted_bytes = READ_AHEAD_BYTES + LINE_BYTES_PER_SECOND * min(round_trip_seconds, 1.0)
    return min(MAX_READS_IN_FLIGHT, math.ceil(wanted_bytes / read_bytes))
