"""What tests of outputs have in common: a match log, an output that runs on it, a receiver of webhooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from ostinato.server.delivery.cursors import FileCursors
from ostinato.server.delivery.deliveries import Deliveries
from ostinato.server.delivery.output import Backoff
from ostinato.server.delivery.settings import OutputContext, parse_settings
from ostinato.server.delivery.status import OutputStatus
from ostinato.server.matches import Kind, MatchLogOptions, MatchLogWriter, Rows

QUICK = Backoff(0.01, 0.05)
SECRETS = {"hook": "s3cret", "token": "Bearer abc"}


def context(folder: Path, **more: Any) -> OutputContext:
    """Everything in one folder; webhooks may go to this machine."""
    given: dict[str, Any] = {"allow_private": True, "write_folders": (folder / "out",), "secret": SECRETS.get, **more}
    return OutputContext(given.pop("server", "srv"), folder / "matches", folder / "outputs", **given)


def append(folder: Path, count: int, options: MatchLogOptions | None = None, each: int = 7) -> int:
    """Matches {"n": seq, "k": "k<seq mod 3>"}; the last number is returned."""
    writer = MatchLogWriter(folder / "matches", options)
    end = writer.next_seq + count
    while writer.next_seq < end:
        numbers = range(writer.next_seq, min(writer.next_seq + each, end))
        values = [b'{"n":%d,"k":"k%d"}' % (n, n % 3) for n in numbers]
        times = np.array([1_000 + n for n in numbers])
        kind: Kind = "match"
        writer.append(Rows("alerts", kind, [("p", 1)], np.zeros(len(values), np.uint16), times, 0, 5, values))
    writer.close()
    return end - 1


async def until(holds: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        await asyncio.sleep(0.005)


class Running:
    """One output named `out`."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries

    @property
    def status(self) -> OutputStatus:
        return self.deliveries.statuses()["out"]

    async def done(self, seq: int) -> None:
        """Wait until it has done with the log up to here."""
        self.deliveries.grown(seq)
        await until(lambda: self.status.cursor >= seq)


@asynccontextmanager
async def running(
    folder: Path, settings: Mapping[str, Any], backoff: Backoff = QUICK, **more: Any
) -> AsyncIterator[Running]:
    deliveries = Deliveries(context(folder, **more), FileCursors(folder / "cursors"), backoff)
    try:
        await deliveries.put("out", parse_settings({"start": "earliest", **settings}))
        yield Running(deliveries)
    finally:
        await deliveries.close()


@dataclass(slots=True)
class Request:
    """As it came; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return orjson.loads(self.body)

    @property
    def seqs(self) -> list[int]:
        found = self.document
        return [each["seq"] for each in (found if isinstance(found, list) else [found])]


Answer = tuple[int, Mapping[str, str]] | Literal["drop", "drop before", "hang", "drip"]


@dataclass(slots=True)
class Receiver:
    """A web server that does as it is told: `answer` says what becomes of a request.

    "drop" reads the request and ends the connection, "drop before" does not even read it, "hang" never answers, "drip"
    answers a byte at a time.
    """

    url: str = ""
    answer: Callable[[Request | None], Answer] = lambda _: (200, {})
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def seqs(self) -> list[int]:
        """Of all requests, in order."""
        return [seq for request in self.requests for seq in request.seqs]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.answer(None) == "drop before":
                return
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode().split("\r\n")[:-2]
                headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Request(line, headers, body)
                self.requests.append(request)
                what = self.answer(request)
                if what == "drop":
                    return
                if what == "hang":
                    await asyncio.sleep(60)
                if what == "drip":
                    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0.01)
                assert isinstance(what, tuple)
                status, more = what
                lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 2\r\n\r\nok".encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver(answer: Callable[[Request | None], Answer] | None = None) -> AsyncIterator[Receiver]:
    found = Receiver()
    if answer is not None:
        found.answer = answer
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(found.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1"
    try:
        yield found
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
