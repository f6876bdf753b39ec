"""Events of a file or a pipe, on their way to a server."""

from __future__ import annotations

import gzip
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ostinato.server.client import Call, Client, Refused, Sending, Sent
from ostinato.server.client.batches import Batcher
from ostinato.server.console import Progress
from ostinato.server.http.schemas.streams import EventsReceipt
from ostinato.server.programs import UnreadableError

_CHUNK_BYTES = 1 << 20
_QUIET_SECONDS = 0.05
"""What has come by a pipe is sent when nothing more comes for so long."""
_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file of events, decompressed where it is gzip; ``-`` is standard input.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        if path == "-":
            yield sys.stdin.buffer
            return
        with Path(path).open("rb") as file:
            if file.peek(2)[:2] == _GZIP:
                with gzip.open(file) as plain:
                    yield plain  # type: ignore[misc]
            else:
                yield file
    except (OSError, EOFError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"{path}: {said.lower()}") from error


def lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a file; None where it is a pipe in which nothing more stands just now."""
    if isinstance(file, gzip.GzipFile):
        yield from file
        return
    descriptor = file.fileno()
    rest = b""
    while True:
        if not select.select([descriptor], [], [], _QUIET_SECONDS)[0]:
            yield None
        # what was peeked at stands in the file's buffer, which is empty after this
        chunk = file.read1(_CHUNK_BYTES)  # type: ignore[attr-defined]
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
    if rest:
        yield rest


class NotTakenError(Exception):
    """The server refused a batch. `places`: of each thing that is wrong the line of the file, and what is wrong."""

    def __init__(self, error: Refused, places: list[tuple[int, str]], sent: Sent) -> None:
        super().__init__(str(error))
        self.error = error
        self.places = places
        self.sent = sent


@dataclass(slots=True)
class Sender:
    """Sends lines to a stream and says how far it is."""

    client: Client
    stream: str
    options: Sending
    progress: Progress
    sent: Sent = field(default_factory=Sent)
    _numbers: list[int] = field(default_factory=list)
    """The line of the file in which each event of the batch stands."""
    _began: float = field(default_factory=time.monotonic)

    def send(self, source: Iterator[bytes | None]) -> None:
        """Send all lines.

        Raises:
            NotTakenError: the server refused a batch; those before were taken.
            ClientError: see `Client.do`.
        """
        batcher = Batcher(self.stream, self.options)
        number = 0
        for line in source:
            if line is None:
                self._do(batcher.rest())
                continue
            number += 1
            if line.strip():
                self._numbers.append(number)
            self._do(batcher.add(line))
        self._do(batcher.rest())
        self.progress.clear()

    def _do(self, call: Call[EventsReceipt] | None) -> None:
        if call is None:
            return
        try:
            self.sent.add(self.client.do(call))
        except Refused as error:
            self.progress.clear()
            places = [
                (self._numbers[each.line - 1], each.message)
                for each in error.errors
                if each.line and each.line <= len(self._numbers)
            ]
            raise NotTakenError(error, places, self.sent) from error
        self._numbers.clear()
        seconds = max(time.monotonic() - self._began, 1e-6)
        self.progress.status(f"{self.sent.accepted:,} events  {self.sent.accepted / seconds:,.0f} events/s")
