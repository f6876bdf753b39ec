"""Events at a steady rate into a server, and the matches that come out of it as server-sent events.

The streams have `processing time`: what comes is let through at once, so nothing waits for a watermark, that is for
later events. Each event carries the wall clock at which it was made, and each match that of its last event: how old a
match is when it is here is the whole way of the event, by one clock, for it is fed and read in one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

import orjson
from figures import due
from measure import BenchError
from wire import Connection, Target, connect, succeeded

STEP_SECONDS = 0.002
"""So often what is due is sent."""
KEYS = 1_000
_MOST_CONNECTIONS = 64
_BEHIND_SECONDS = 0.05

STREAM = """\
stream hits (
  key   string key,
  kind  string,
  sent  bigint
) processing time
"""


def pattern(name: str, limit: int = 0) -> str:
    """`a` strictly followed by `b`; `limit` makes another version of it with the same matches."""
    return f"""
pattern {name} on hits
  match  a b
  define a as kind = 'A' and sent > {limit},
         b as kind = 'B'
  within 1 min
  after match skip past last
  emit   key, b.sent as sent
  into   found
"""


class Feeder:
    """Sends `per_second` events until it is stopped. One in `every` is a `b` that makes a match."""

    def __init__(self, target: Target, per_second: float, every: int = 20) -> None:
        self._target = target
        self._per_second = per_second
        self._every = every
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._stopping = False
        self.sent = 0
        self.behind = 0
        """Events that were sent more than `_BEHIND_SECONDS` after they were due."""
        self.seconds = 0.0
        self.error: BenchError | None = None

    async def run(self) -> None:
        """Raises BenchError where an answer is not as it should be."""
        began = time.perf_counter()
        while not self._stopping:
            elapsed = time.perf_counter() - began
            count = due(self._per_second, elapsed, self.sent)
            if count > self._per_second * _BEHIND_SECONDS:
                self.behind += count
            if count:
                await self._send(count)
            if self.error is not None:
                raise self.error
            await asyncio.sleep(max(0.0, STEP_SECONDS - (time.perf_counter() - began - elapsed)))
        self.seconds = time.perf_counter() - began
        for connection in self._all:
            connection.close()

    def stop(self) -> None:
        self._stopping = True

    async def _send(self, count: int) -> None:
        connection = await self._connection()
        now = time.time_ns() // 1000
        body = b"".join(self._line(number, now) for number in range(self.sent, self.sent + count))
        self.sent += count

        def answered(answer: bytes) -> None:
            self._idle.append(connection)
            try:
                succeeded(answer)
            except BenchError as error:
                self.error = error

        connection.ask(self._target.request("POST", "/v1/streams/hits/events", body, "application/x-ndjson"), answered)

    def _line(self, number: int, now: int) -> bytes:
        # of `every` events one is an `a` and the next but one, of the same key, a `b`
        turn, at = divmod(number, self._every)
        kind = b"A" if at == 0 else b"B" if at == 2 else b"C"
        key = turn % KEYS if at in (0, 2) else number % KEYS + KEYS
        return b'{"key":"k%d","kind":"%b","sent":%d}\n' % (key, kind, now)

    async def _connection(self) -> Connection:
        while not self._idle:
            if len(self._all) < _MOST_CONNECTIONS:
                self._all.append(made := await connect(self._target))
                return made
            await asyncio.sleep(STEP_SECONDS)
        return self._idle.pop()


Seen = Callable[[dict[str, object], int], None]
"""Is given a match, and the wall clock in µs when it was here."""


class Follower(asyncio.Protocol):
    """Reads matches from `/v1/matches/stream`."""

    def __init__(self, target: Target, seen: Seen) -> None:
        self._target = target
        self._seen = seen
        self._held = b""
        self._transport: asyncio.Transport
        self.begun = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._target.request("GET", "/v1/matches/stream"))

    def data_received(self, data: bytes) -> None:
        now = time.time_ns() // 1000
        self.begun.set()
        # lines of a chunked body: what is not a whole line of data is the frame of a chunk, or of an event
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                self._seen(orjson.loads(line[6:]), now)

    def close(self) -> None:
        self._transport.close()


async def follow(target: Target, seen: Seen) -> Follower:
    """A follower whose answer has begun."""
    _, follower = await asyncio.get_running_loop().create_connection(
        lambda: Follower(target, seen), target.host, target.port
    )
    await follower.begun.wait()
    return follower
