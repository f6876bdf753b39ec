"""A client that costs little beside the server it measures: requests made beforehand, connections that stay open."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from measure import BenchError

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """Where requests go, and as whom."""

    host: str
    port: int
    token: str = ""

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "", *more: str) -> bytes:
        """The bytes of a request. `more`: headers."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *more]
        if self.token:
            lines.append(f"Authorization: Bearer {self.token}")
        if kind:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One request at a time over a connection that stays open."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._held = b""
        self._answered: Callable[[bytes], None] | None = None
        self._gone: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: BaseException | None) -> None:
        self._gone = exc or ConnectionError("the server closed a connection")
        if self._answered is not None:
            self._answer(b"")

    def ask(self, request: bytes, answered: Callable[[bytes], None]) -> None:
        """Send; `answered` is given head and body once they are there, nothing where the connection was lost."""
        if self._gone is not None:
            raise BenchError(f"a connection is gone: {self._gone}")
        self._answered = answered
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held = held = self._held + data if self._held else data
        end = held.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(held, 0, end + 2)
        if found is None or len(held) < end + 4 + int(found[1]):
            return
        self._held = b""
        self._answer(held)

    def _answer(self, answer: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(answer)

    def close(self) -> None:
        self._answered = None
        self._transport.close()


def succeeded(answer: bytes) -> bytes:
    """The body of an answer. Raises BenchError for any but 200 and 201."""
    if answer[:12] not in (b"HTTP/1.1 200", b"HTTP/1.1 201"):
        raise BenchError(f"a request failed: {answer[:2000].decode(errors='replace') or 'the connection was lost'}")
    return answer.partition(b"\r\n\r\n")[2]


async def connect(target: Target) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, target.host, target.port)
    return connection


async def ask(target: Target, method: str, path: str, body: bytes = b"", kind: str = "") -> bytes:
    """One request over a connection of its own; the body of the answer. Raises BenchError."""
    connection = await connect(target)
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connection.ask(target.request(method, path, body, kind), answered.set_result)
    try:
        return succeeded(await answered)
    finally:
        connection.close()


@dataclass
class Load:
    """What came of a load: seconds until each answer, in the order in which they came, and seconds in all."""

    delays: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.delays) / self.seconds


async def put_load(
    target: Target, requests: Sequence[bytes], connections: int, *, seconds: float = 0.0, expected: bytes = b""
) -> Load:
    """As many requests as are answered: each connection sends the next one when it has an answer.

    Args:
        target: whom.
        requests: one after the other; with `seconds` again and again until so many have passed, else each once.
        connections: how many.
        seconds: see there.
        expected: what each answer has to hold.

    Raises BenchError where an answer is not as it should be.
    """
    load = Load()
    waiting = deque(requests)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    opened = [await connect(target) for _ in range(connections)]
    busy = 0
    began = time.perf_counter()

    def begin(connection: Connection) -> None:
        nonlocal busy
        now = time.perf_counter()
        if done.done() or not waiting or (seconds and now - began >= seconds):
            if not busy and not done.done():
                load.seconds = now - began
                done.set_result(None)
            return
        request = waiting.popleft()
        if seconds:
            waiting.append(request)
        busy += 1

        def answered(answer: bytes) -> None:
            nonlocal busy
            busy -= 1
            load.delays.append(time.perf_counter() - now)
            try:
                if expected not in succeeded(answer):
                    raise BenchError(f"{expected!r} is not in the answer {answer[:2000]!r}")
            except BenchError as error:
                if not done.done():
                    done.set_exception(error)
                return
            begin(connection)

        connection.ask(request, answered)

    try:
        for connection in opened:
            begin(connection)
        await done
    finally:
        for connection in opened:
            connection.close()
    return load
