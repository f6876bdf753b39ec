"""Hands matches to those who follow them: many, of whom some read slowly or not at all.

One task reads the log forward, once for all. A follower that keeps up gets what comes from a queue of its own. When its
queue is full nothing more is put into it: once it has read what is there it reads the log itself, from its own cursor,
until it has come to where the others are. So nobody is waited for, and nothing is left out but what retention has
deleted, which is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ostinato.server.delivery.encoding import SSE, Encoding, match_json
from ostinato.server.matches import EVERYTHING, Filter, Match, MatchesGoneError, MatchLogError, MatchLogReader

_log = logging.getLogger(__name__)

_BATCH_ROWS: Final = 1_000
_BATCH_BYTES: Final = 256 << 10
_RETRY_SECONDS: Final = 1.0
_READERS: Final = 2
"""So many of those who are behind read the log at a time: they must not keep the others' matches waiting."""


@dataclass(frozen=True, slots=True)
class HubOptions:
    """
    Attributes:
        queue_bytes: what a follower may leave unread; one chunk more is possible.
        heartbeat_seconds: how long a follower gets nothing before it gets a heartbeat.
    """

    queue_bytes: int = 256 << 10
    heartbeat_seconds: float = 15.0


@dataclass(slots=True)
class HubCounts:
    """
    Attributes:
        followers: there are now.
        behind: of them, those that read the log themselves, or will once they read what they have.
        sent: matches that were put into queues or read by those behind.
        lost: matches that followers did not get, all together.
        error: why the log cannot be read now.
    """

    followers: int = 0
    behind: int = 0
    sent: int = 0
    lost: int = 0
    error: str | None = None


@dataclass(eq=False, slots=True)
class _Follower:
    wanted: Filter
    encoding: Encoding
    cursor: int
    """What is wanted up to here has been sent or is in the queue."""
    live: bool = False
    queue: deque[bytes] = field(default_factory=deque)
    queued_bytes: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Hub:
    """Belongs to one event loop."""

    def __init__(self, folder: Path, server: str, options: HubOptions | None = None) -> None:
        """`folder`: of the match log; `server`: its id, with which those of matches begin."""
        self._folder = folder
        self._server = server
        self._options = options or HubOptions()
        self._tail = MatchLogReader(folder)
        self._readers = [MatchLogReader(folder) for _ in range(_READERS)]
        self._free = asyncio.Semaphore(_READERS)
        self._at = 0
        self._grown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._followers: set[_Follower] = set()
        self._groups: dict[tuple[Filter, Encoding], set[_Follower]] = {}
        self._counts = HubCounts()

    async def start(self) -> None:
        """Begin at the end of the log. Raises MatchLogError."""
        self._at = await asyncio.to_thread(lambda: self._tail.last_seq)
        self._task = asyncio.create_task(self._run(), name="matches-hub")

    async def close(self) -> None:
        """End all followers, and the task."""
        self._closed = True
        for follower in self._followers:
            follower.woken.set()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for reader in (self._tail, *self._readers):
            await asyncio.to_thread(reader.close)

    def grown(self, last_seq: int) -> None:
        """The log has rows up to this one by now."""
        if last_seq > self._at:
            self._grown.set()

    @property
    def counts(self) -> HubCounts:
        counts = self._counts
        counts.followers = len(self._followers)
        counts.behind = sum(not follower.live for follower in self._followers)
        return counts

    @property
    def at(self) -> int:
        """The last row that followers who keep up have been given."""
        return self._at

    async def follow(
        self, wanted: Filter = EVERYTHING, *, after: int | None = None, encoding: Encoding = SSE
    ) -> AsyncGenerator[bytes, None]:
        """What comes behind row `after` (None: from now on) and is wanted, in order, as chunks to be sent. Ends when
        the hub is closed.

        Whoever stops before that closes it (`contextlib.aclosing`). Raises MatchLogError where the log cannot be read.
        """
        follower = _Follower(wanted, encoding, self._at if after is None else after)
        self._followers.add(follower)
        try:
            while not self._closed:
                if follower.queue:
                    chunk = follower.queue.popleft()
                    follower.queued_bytes -= len(chunk)
                    yield chunk
                elif not follower.live and follower.cursor < self._at:
                    chunk = await self._catch_up(follower)
                    # before the chunk is sent: while that takes, what comes next is put into the queue
                    self._join(follower)
                    if chunk:
                        yield chunk
                else:
                    self._join(follower)
                    follower.woken.clear()
                    try:
                        async with asyncio.timeout(self._options.heartbeat_seconds):
                            await follower.woken.wait()
                    except TimeoutError:
                        yield encoding.heartbeat(follower.cursor)
        finally:
            self._followers.discard(follower)
            self._leave(follower)

    async def _catch_up(self, follower: _Follower) -> bytes:
        """The next chunk from the log for one that is behind; it may be empty."""
        async with self._free:
            reader = self._readers.pop()
            try:
                scan = await asyncio.to_thread(
                    reader.scan, follower.cursor, _BATCH_ROWS, follower.wanted, max_bytes=_BATCH_BYTES
                )
            except MatchesGoneError as gone:
                last = gone.first_seq - 1
                self._counts.lost += last - follower.cursor
                lost = follower.encoding.lost(follower.cursor + 1, last)
                follower.cursor = last
                return lost
            finally:
                self._readers.append(reader)
        # where the log has nothing more it has been cut meanwhile: the hub says so to all who wait
        follower.cursor = scan.behind if scan.behind > follower.cursor else self._at
        if not scan.matches:
            return b""
        self._counts.sent += len(scan.matches)
        encode = follower.encoding
        return encode.chunk([encode.one(match, match_json(self._server, match)) for match in scan.matches])

    def _join(self, follower: _Follower) -> None:
        """From here on it gets what comes from the queue, unless it is ahead of the hub: then it waits."""
        if not follower.live and follower.cursor == self._at:
            follower.live = True
            self._groups.setdefault((follower.wanted, follower.encoding), set()).add(follower)

    def _leave(self, follower: _Follower) -> None:
        follower.live = False
        key = follower.wanted, follower.encoding
        group = self._groups.get(key)
        if group is not None:
            group.discard(follower)
            if not group:
                del self._groups[key]

    async def _run(self) -> None:
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                while matches := await asyncio.to_thread(
                    self._tail.read, self._at, _BATCH_ROWS, max_bytes=_BATCH_BYTES
                ):
                    self._hand_out(matches)
            except MatchesGoneError as gone:
                self._hand_out_loss(gone.first_seq - 1)
                self._grown.set()
            except MatchLogError as error:
                if self._counts.error != str(error):
                    _log.error("matches cannot be handed out: %s", error)
                self._counts.error = str(error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._grown.set()
                continue
            self._counts.error = None

    def _hand_out(self, matches: Sequence[Match]) -> None:
        """One batch to all that are live: encoded once, joined once for all who want the same."""
        last = matches[-1].seq
        documents: list[bytes] | None = None
        encoded: dict[Encoding, list[bytes]] = {}
        for (wanted, encoding), group in list(self._groups.items()):
            if documents is None:
                documents = [match_json(self._server, match) for match in matches]
            if encoding not in encoded:
                encoded[encoding] = [
                    encoding.one(match, document) for match, document in zip(matches, documents, strict=True)
                ]
            all_of_them = encoded[encoding]
            chosen = (
                all_of_them
                if wanted.takes_all
                else [one for match, one in zip(matches, all_of_them, strict=True) if wanted.admits(match)]
            )
            chunk = encoding.chunk(chosen) if chosen else b""
            for follower in list(group):
                self._put(follower, chunk, last, len(chosen))
        self._move(last)

    def _hand_out_loss(self, last: int) -> None:
        _log.error("matches %d to %d are not in the log any more: followers do not get them", self._at + 1, last)
        for (_, encoding), group in list(self._groups.items()):
            chunk = encoding.lost(self._at + 1, last)
            for follower in list(group):
                self._put(follower, chunk, last, 0)
                self._counts.lost += last - self._at
        self._move(last)

    def _put(self, follower: _Follower, chunk: bytes, last: int, count: int) -> None:
        if chunk:
            if follower.queue and follower.queued_bytes + len(chunk) > self._options.queue_bytes:
                self._leave(follower)
                return
            follower.queue.append(chunk)
            follower.queued_bytes += len(chunk)
            self._counts.sent += count
            follower.woken.set()
        follower.cursor = last

    def _move(self, last: int) -> None:
        self._at = last
        for follower in self._followers:
            if not follower.live:
                follower.woken.set()
