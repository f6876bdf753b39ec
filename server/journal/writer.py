"""The journal's writer: appends of many threads become durable with one write and one fsync."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ostinato.server.journal.errors import (
    JournalBusyError,
    JournalClosedError,
    JournalDamagedError,
    JournalError,
    JournalFailedError,
    JournalFullError,
    JournalLockedError,
)
from ostinato.server.journal.format import (
    FRAME_BYTES,
    KEY,
    MAX_RECORD_BYTES,
    EventsHeader,
    Kind,
    Lane,
    encode_header,
    encode_record,
    segment_name,
)
from ostinato.server.journal.index import SegmentIndex, index_path, read_index
from ostinato.server.journal.keys import KeyTable, Known, digest_of
from ostinato.server.journal.options import JournalOptions
from ostinato.server.journal.segments import Segment, begin_segment, find_segments, index_of, sync_folder, write_durably
from ostinato.state.steps import reached

logger = logging.getLogger(__name__)

_OVERHEAD_BYTES = 512
"""What an append costs in memory besides its data."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an append lies. With `duplicate` it is what an earlier append with the same key came to; `differs`: the
    lines of that one were not the same."""

    position: int
    next: int
    rows: int
    duplicate: bool
    differs: bool = False


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """Counters since the journal was opened, and where it stands."""

    first: int
    durable: int
    segments: int
    bytes: int
    waiting_bytes: int
    keys: int
    appends: int
    duplicates: int
    records: int
    rows: int
    groups: int
    sync_seconds: float
    refused_busy: int
    refused_full: int
    failure: str | None


class _Waiter:
    """Who is to be told: a future of `concurrent.futures`, or one of an event loop."""

    __slots__ = ("crc", "future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None, crc: int) -> None:
        self.loop = loop
        self.crc = crc
        self.future: Future[Appended] | asyncio.Future[Appended]
        if loop is None:
            self.future = Future()
            # it cannot be cancelled: the append is on its way
            self.future.set_running_or_notify_cancel()
        else:
            self.future = loop.create_future()


class _Append:
    """An append that waits, and who asked for it again while it waited."""

    __slots__ = ("data", "digest", "followers", "kind", "lane", "place", "rows", "stream", "waiter")

    def __init__(
        self, kind: Kind, stream: str, lane: str, data: bytes, rows: int, digest: bytes | None,
        place: dict[str, Any] | None, waiter: _Waiter,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.stream = stream
        self.lane = lane
        self.data = data
        self.rows = rows
        self.digest = digest
        self.place = place
        self.waiter = waiter
        self.followers: list[_Waiter] = []

    @property
    def size(self) -> int:
        return len(self.data) + _OVERHEAD_BYTES


@dataclass(slots=True)
class _Made:
    """A record that is being written, of one append or several."""

    position: int
    next: int
    kind: Kind
    header: EventsHeader
    appends: list[_Append]


@dataclass(slots=True)
class _Counters:
    appends: int = 0
    duplicates: int = 0
    records: int = 0
    rows: int = 0
    groups: int = 0
    sync_seconds: float = 0.0
    refused_busy: int = 0
    refused_full: int = 0


@dataclass(slots=True)
class _Outcomes:
    """Results by event loop, so that each loop is woken once for a group."""

    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Appended], Any]]] = field(default_factory=dict)

    def give(self, waiter: _Waiter, outcome: Appended | JournalError) -> None:
        future = waiter.future
        if isinstance(future, asyncio.Future):
            assert waiter.loop is not None
            self.by_loop.setdefault(waiter.loop, []).append((future, outcome))
        elif isinstance(outcome, Appended):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    def send(self) -> None:
        for loop, outcomes in self.by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, outcomes)
            except RuntimeError:
                logger.info("an event loop ended before %d of its appends were durable", len(outcomes))


def _resolve(outcomes: list[tuple[asyncio.Future[Appended], Any]]) -> None:
    for future, outcome in outcomes:
        if future.done():
            continue
        if isinstance(outcome, JournalError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Journal:
    """The writer of a journal; one for each folder, thread-safe.

    A group is what has come while the last one was being written: nobody waits for a timer. `on_durable` are called in
    the writer's thread with the position behind the last durable record, before the appends' futures are done; they
    must be quick and must not raise.
    """

    def __init__(
        self, folder: Path, options: JournalOptions | None = None, clock: Callable[[], int] = wall_clock_ms
    ) -> None:
        """Open or begin a journal. `clock` gives epoch ms.

        Raises:
            JournalLockedError: another process (or object) has it.
            JournalDamagedError: what was durable is not there any more.
            OSError: the folder cannot be used.
        """
        self.folder = folder
        self.options = options or JournalOptions()
        self.on_durable: list[Callable[[int], None]] = []
        self.mended: list[str] = []
        """What was mended when the journal was opened, as sentences."""
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._guard = _lock(folder)
        try:
            self._open()
        except BaseException:
            os.close(self._guard)
            raise
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._trimming = threading.Lock()
        self._queue: deque[_Append] = deque()
        self._waiting_bytes = 0
        self._idle = False
        self._closing = False
        self._failed: JournalFailedError | None = None
        self._under_way: dict[bytes, _Append] = {}
        self._count = _Counters()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        found = find_segments(self.folder, self._clock(), self._say)
        self._closed = found.closed
        self._kept = found.kept
        self._fd = found.fd
        self._header_bytes = found.header_bytes
        self._index = found.index
        self._time_ms = found.index.time_ms
        self._durable = found.index.end
        self._places: dict[Lane, Mapping[str, Any]] = dict(found.index.places)
        self._keys = KeyTable(self.options.key_window_ms, self.options.max_keys)
        for packed in found.packed_keys:
            self._keys.load(packed)
        self._keys.forget(self._clock())

    def _say(self, text: str) -> None:
        self.mended.append(text)
        logger.warning("%s", text)

    # what others ask

    @property
    def durable(self) -> int:
        """The position behind the last durable record."""
        return self._durable

    @property
    def first(self) -> int:
        """The position of the first record that is held."""
        with self._lock:
            return self._closed[0].base if self._closed else self._index.base

    def places(self) -> Mapping[Lane, Mapping[str, Any]]:
        """Where the feeder of each (stream, lane) stood at its last durable append."""
        with self._lock:
            return dict(self._places)

    def status(self) -> JournalStatus:
        with self._lock:
            first = self._closed[0].base if self._closed else self._index.base
            count = self._count
            return JournalStatus(
                first=first,
                durable=self._durable,
                segments=len(self._closed) + 1,
                bytes=self._durable - first,
                waiting_bytes=self._waiting_bytes,
                keys=len(self._keys),
                appends=count.appends,
                duplicates=count.duplicates,
                records=count.records,
                rows=count.rows,
                groups=count.groups,
                sync_seconds=count.sync_seconds,
                refused_busy=count.refused_busy,
                refused_full=count.refused_full,
                failure=str(self._failed) if self._failed else None,
            )

    # appending

    def append(
        self, stream: str, data: bytes, rows: int, *, key: bytes | None = None, lane: str = "",
        place: Mapping[str, Any] | None = None, wait: float = 0.0,
    ) -> Future[Appended]:  # fmt: skip
        """Append events: `rows` lines of NDJSON, each ended by a line feed. The future is done when they are durable.

        `key` makes it idempotent within the stream. `wait`: how many seconds to wait for room in the queue. No rows
        are in order: a feeder goes on behind records that could not be used.

        Raises:
            JournalBusyError: too much is waiting.
            JournalFailedError, JournalClosedError: nothing can be appended.
            ValueError: `data` is not ended by a line feed, or too large.
        The future's exceptions are JournalFullError (try again later) and JournalFailedError.
        """
        future = self._append(Kind.EVENTS, stream, lane, data, rows, key, place, None, wait)
        assert isinstance(future, Future)
        return future

    def append_async(
        self, stream: str, data: bytes, rows: int, *, key: bytes | None = None, lane: str = "",
        place: Mapping[str, Any] | None = None,
    ) -> asyncio.Future[Appended]:  # fmt: skip
        """`append` for the running event loop, which is woken once for a group and not once for an append."""
        loop = asyncio.get_running_loop()
        future = self._append(Kind.EVENTS, stream, lane, data, rows, key, place, loop, 0.0)
        assert isinstance(future, asyncio.Future)
        return future

    def append_generation(self, data: bytes) -> Future[Appended]:
        """Append what changes the patterns that run, as JSON: it takes effect at the record's position."""
        future = self._append(Kind.GENERATION, "", "", data, 0, None, None, None, 0.0)
        assert isinstance(future, Future)
        return future

    def tick(self) -> Future[Appended]:
        """Append that the clock went on."""
        future = self._append(Kind.TICK, "", "", b"", 0, None, None, None, 0.0)
        assert isinstance(future, Future)
        return future

    def _append(
        self, kind: Kind, stream: str, lane: str, data: bytes, rows: int, key: bytes | None,
        place: Mapping[str, Any] | None, loop: asyncio.AbstractEventLoop | None, wait: float,
    ) -> Future[Appended] | asyncio.Future[Appended]:  # fmt: skip
        if kind is Kind.EVENTS and data and not data.endswith(b"\n"):
            raise ValueError("the last line of events must end with a line feed")
        if len(data) > MAX_RECORD_BYTES - (1 << 20):
            raise ValueError(f"{len(data)} bytes are more than a record can hold")
        digest = crc = None
        if key is not None:
            digest, crc = digest_of(stream, key), zlib.crc32(data)
        waiter = _Waiter(loop, crc or 0)
        append = _Append(kind, stream, lane, data, rows, digest, None if place is None else dict(place), waiter)
        with self._lock:
            if digest is not None and self._is_known(digest, waiter):
                return waiter.future
            size = append.size
            if self._waiting_bytes and self._waiting_bytes + size > self.options.queue_bytes:
                self._wait_for_room(size, wait)
                # the same key may have come while we waited
                if digest is not None and self._is_known(digest, waiter):
                    return waiter.future
            if self._failed is not None:
                raise self._failed
            if self._closing:
                raise JournalClosedError(f"{self.folder}: the journal is closed")
            self._waiting_bytes += size
            self._queue.append(append)
            if digest is not None:
                self._under_way[digest] = append
            if self._idle:
                self._idle = False
                self._arrived.notify()
        return waiter.future

    def _is_known(self, digest: bytes, waiter: _Waiter) -> bool:
        """Has the key been seen? Then its waiter is told, now or when the first one is durable."""
        self._keys.forget(self._clock())
        known = self._keys.find(digest)
        if known is not None:
            self._count.duplicates += 1
            waiter.future.set_result(_again(known, waiter))
            return True
        first = self._under_way.get(digest)
        if first is not None:
            self._count.duplicates += 1
            first.followers.append(waiter)
            return True
        return False

    def _wait_for_room(self, size: int, wait: float) -> None:
        def has_room() -> bool:
            if self._failed is not None or self._closing or not self._waiting_bytes:
                return True
            return self._waiting_bytes + size <= self.options.queue_bytes

        if not (has_room() or (wait > 0 and self._room.wait_for(has_room, wait))):
            self._count.refused_busy += 1
            raise JournalBusyError(
                f"{self._waiting_bytes} bytes wait to be written, which is all that may "
                f"(queue_bytes: {self.options.queue_bytes}); try again in a second"
            )

    # the writer's thread

    def _run(self) -> None:
        while True:
            group = self._take()
            if not group:
                return
            try:
                self._commit(group)
            except JournalFullError as full:
                self._refuse(group, full)
            except Exception as error:
                # whatever it is, appends must not wait for ever
                logger.exception("the journal cannot be written any more")
                self._fail(group, error)

    def _take(self) -> list[_Append]:
        """All that waits, up to the size of a group; waits for something. Nothing when the journal is closed."""
        with self._lock:
            while not self._queue:
                if self._closing:
                    return []
                self._idle = True
                self._arrived.wait()
            self._idle = False
            queue = self._queue
            group = [queue.popleft()]
            size = len(group[0].data)
            while queue and size + len(queue[0].data) <= self.options.group_bytes:
                group.append(queue.popleft())
                size += len(group[-1].data)
            return group

    def _commit(self, group: list[_Append]) -> None:
        reached("journal.append")
        now = self._time_ms = max(self._time_ms, self._clock())
        if self._durable - self._index.base >= self.options.segment_bytes:
            self._roll()
        pieces, made = self._records(group, now)
        offset = self._header_bytes + self._durable - self._index.base
        began = time.perf_counter()
        try:
            write_durably(self._fd, b"".join(pieces), offset)
        except OSError as error:
            self._cut_back(offset, error)
        took = time.perf_counter() - began
        reached("journal.synced")
        self._settle(group, made, now, took)

    def _records(self, group: list[_Append], now: int) -> tuple[list[bytes], list[_Made]]:
        """The group as records: neighbours of one stream and lane are one."""
        pieces: list[bytes] = []
        made: list[_Made] = []
        position = self._durable
        most = self.options.record_bytes
        at = 0
        while at < len(group):
            first = group[at]
            end, size = at + 1, len(first.data)
            if first.kind is Kind.EVENTS:
                while (
                    end < len(group)
                    and (other := group[end]).kind is Kind.EVENTS
                    and other.stream == first.stream
                    and other.lane == first.lane
                    and size + len(other.data) <= most
                ):
                    size += len(other.data)
                    end += 1
            appends = group[at:end]
            at = end
            header, encoded = _header(appends) if first.kind is Kind.EVENTS else (_NO_HEADER, b"")
            pieces += encode_record(
                first.kind, position, self._durable, now, encoded, [append.data for append in appends]
            )
            following = position + FRAME_BYTES + len(encoded) + size
            made.append(_Made(position, following, first.kind, header, appends))
            position = following
        return pieces, made

    def _settle(self, group: list[_Append], made: list[_Made], now: int, took: float) -> None:
        """The group is durable: say so."""
        outcomes = _Outcomes()
        results: list[tuple[_Waiter, Appended]] = []
        with self._lock:
            count = self._count
            count.groups += 1
            count.sync_seconds += took
            count.records += len(made)
            count.appends += len(group)
            for record in made:
                header = record.header
                self._index.note(record.kind, record.position, record.next, now, header)
                if header.keys:
                    self._keys.add(now, record.position, record.next, KEY.iter_unpack(header.keys))
                if header.place is not None:
                    self._places[header.stream, header.lane] = header.place
                count.rows += header.rows
                for append in record.appends:
                    appended = Appended(record.position, record.next, append.rows, duplicate=False)
                    results.append((append.waiter, appended))
                    if append.digest is not None:
                        del self._under_way[append.digest]
                        for follower in append.followers:
                            differs = follower.crc != append.waiter.crc
                            results.append((follower, replace(appended, duplicate=True, differs=differs)))
            self._durable = made[-1].next
            self._leave(group)
            self._keys.forget(now)
        for hook in self.on_durable:
            try:
                hook(self._durable)
            except Exception:
                logger.exception("a hook of the journal failed")
        for waiter, appended in results:
            outcomes.give(waiter, appended)
        outcomes.send()

    def _leave(self, group: Iterable[_Append]) -> None:
        """These do not wait any more; the lock is held."""
        self._waiting_bytes -= sum(append.size for append in group)
        self._room.notify_all()

    def _roll(self) -> None:
        """Begin another segment. Raises JournalFullError where there is no room for it."""
        try:
            fd, size = begin_segment(self.folder, self._durable, self._time_ms, self._places)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._full(error) from error
            raise
        reached("journal.rolled")
        before = self._index
        with self._lock:
            os.close(self._fd)
            self._fd, self._header_bytes = fd, size
            self._closed.append(Segment(before.base, before.end, before.time_ms))
            self._index = SegmentIndex(self._durable, self._durable, self._time_ms, _copied(self._places))
        try:
            before.write(self.folder, durable=False)
        except OSError as error:
            logger.warning("the index of segment %d is not written, it will be made again: %s", before.base, error)

    def _cut_back(self, offset: int, error: OSError) -> None:
        """A write has failed: leave the file as it was. Raises what the appends are to be told."""
        os.ftruncate(self._fd, offset)
        if error.errno not in _NO_ROOM:
            # what the kernel did with the pages is not known: only reading the file again can tell
            raise error
        os.fsync(self._fd)
        raise self._full(error) from error

    def _full(self, error: OSError) -> JournalFullError:
        return JournalFullError(
            f"{self.folder / segment_name(self._index.base)}: {error.strerror}; nothing of this append is kept. "
            "Make room on the disk and send it again"
        )

    def _refuse(self, group: list[_Append], error: JournalError) -> None:
        with self._lock:
            if isinstance(error, JournalFullError):
                self._count.refused_full += len(group)
            waiters = []
            for append in group:
                if append.digest is not None:
                    self._under_way.pop(append.digest, None)
                waiters += [append.waiter, *append.followers]
            self._leave(group)
        logger.error("%d appends failed: %s", len(group), error)
        outcomes = _Outcomes()
        for waiter in waiters:
            outcomes.give(waiter, error)
        outcomes.send()

    def _fail(self, group: list[_Append], error: Exception) -> None:
        failed = JournalFailedError(
            f"{self.folder}: the journal could not be written ({error}); what was under way may or may not be kept. "
            "See to the disk and start the server again"
        )
        failed.__cause__ = error
        with self._lock:
            self._failed = failed
            group = [*group, *self._queue]
            self._queue.clear()
        self._refuse(group, failed)

    # retention

    def trim(self, position: int) -> int:
        """Drop the segments that lie before `position` as a whole; returns the first position that is held."""
        return self._drop(lambda segment, _: segment.end <= position)

    def retain(self, position: int) -> int:
        """Like `trim`, but drop only what the retention options do not ask to keep."""
        now, most, age = self._clock(), self.options.retain_bytes, self.options.retain_ms

        def goes(segment: Segment, behind: int) -> bool:
            old = age is not None and segment.time_ms < now - age
            much = most is not None and behind >= most
            return segment.end <= position and (old or much)

        return self._drop(goes)

    def _drop(self, goes: Callable[[Segment, int], bool]) -> int:
        """Drop segments from the first on while `goes(segment, bytes that are held behind it)`."""
        with self._trimming:
            with self._lock:
                closed, end = list(self._closed), self._durable
            dropped = 0
            for segment in closed:
                if not goes(segment, end - segment.end):
                    break
                self._drop_one(segment)
                dropped += 1
            if dropped:
                sync_folder(self.folder)
            bound = self._clock() - self.options.key_window_ms
            while self._kept and self._kept[0].time_ms < bound:
                index_path(self.folder, self._kept.pop(0).base).unlink(missing_ok=True)
            return self.first

    def _drop_one(self, segment: Segment) -> None:
        """Its keys may still be asked for, so its index stays."""
        path = index_path(self.folder, segment.base)
        try:
            index = read_index(self.folder, segment.base)
            if index is None or index.end != segment.end:
                index_of(self.folder, segment.base).write(self.folder, durable=True)
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            sync_folder(self.folder)
            self._kept.append(segment)
        except (OSError, JournalDamagedError) as error:
            logger.warning("idempotency keys of segment %d are forgotten at the next start: %s", segment.base, error)
        with self._lock:
            self._closed.remove(segment)
        (self.folder / segment_name(segment.base)).unlink()
        reached("journal.trimmed")

    def close(self) -> None:
        """Write what waits, and let go of the folder."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._arrived.notify()
            self._room.notify_all()
        self._thread.join()
        try:
            if self._failed is None:
                self._index.write(self.folder, durable=True)
                sync_folder(self.folder)
        except OSError as error:
            logger.warning("the index of segment %d is not written: %s", self._index.base, error)
        finally:
            os.close(self._fd)
            os.close(self._guard)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_NO_HEADER = EventsHeader("", "", 0)


def _header(appends: list[_Append]) -> tuple[EventsHeader, bytes]:
    first = appends[0]
    rows = 0
    keys = []
    place = None
    for append in appends:
        rows += append.rows
        if append.digest is not None:
            keys.append(KEY.pack(append.digest, append.rows, append.waiter.crc))
        if append.place is not None:
            place = append.place
    header = EventsHeader(first.stream, first.lane, rows, b"".join(keys), place)
    return header, encode_header(header)


def _again(known: Known, waiter: _Waiter) -> Appended:
    return Appended(known.position, known.next, known.rows, duplicate=True, differs=known.crc != waiter.crc)


def _copied(places: Mapping[Lane, Mapping[str, Any]]) -> dict[Lane, dict[str, Any]]:
    return {lane: dict(place) for lane, place in places.items()}


def _lock(folder: Path) -> int:
    """Only one may write; the lock goes with the process, whatever becomes of it."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise JournalLockedError(
            f"{folder}: process {holder} has the journal; end it, or give this server another data directory"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd
