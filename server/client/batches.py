"""Events in batches, as they are sent."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ostinato.server.client.call import Call
from ostinato.server.client.calls.streams import Bad, append_events
from ostinato.server.http.schemas.streams import EventsReceipt

Event = Mapping[str, Any] | msgspec.Struct | bytes | str
"""An event: something that becomes a JSON object, or such an object as text already."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Sending:
    """How events are put into requests.

    Attributes:
        events: most of a request.
        size_bytes: no event is added to a request of this size.
        compressed: with gzip; worth it where the way is longer than this machine.
        bad: what becomes of events that do not fit the stream.
        key: with what the idempotency keys of the requests begin. Whoever sends the same events with the same key
            again, in the same batches, sends them once. None: a new one.
    """

    events: int = 1_000
    size_bytes: int = 4 << 20
    compressed: bool = False
    bad: Bad = "refuse"
    key: str | None = None


@dataclass(slots=True)
class Sent:
    """What has come of events that were sent.

    Attributes:
        accepted: events that are durable.
        dead_letters: of the others, those that are kept as dead letters.
        requests: that were answered.
        duplicates: of them, those whose events had been taken before.
        next: position in the journal behind the last of them.
    """

    accepted: int = 0
    dead_letters: int = 0
    requests: int = 0
    duplicates: int = 0
    next: int = 0

    def add(self, receipt: EventsReceipt) -> None:
        """Count one answer in."""
        self.accepted += receipt.accepted
        self.dead_letters += receipt.dead_letters
        self.requests += 1
        self.duplicates += receipt.duplicate
        self.next = max(self.next, receipt.next)


@dataclass(slots=True)
class Batcher:
    """Makes requests of events; whole batches come out of `add`, the rest out of `rest`."""

    stream: str
    options: Sending = Sending()
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0
    _number: int = 0
    _key: str = ""

    def __post_init__(self) -> None:
        self._key = self.options.key or secrets.token_hex(12)

    def add(self, event: Event) -> Call[EventsReceipt] | None:
        """Take an event in; the request that is full with it, if one is."""
        line = _line(event)
        if not line:
            return None
        self._lines.append(line)
        self._size += len(line) + 1
        if len(self._lines) >= self.options.events or self._size >= self.options.size_bytes:
            return self.rest()
        return None

    def rest(self) -> Call[EventsReceipt] | None:
        """The request of all events that are in none yet; None where there are no such."""
        if not self._lines:
            return None
        body = b"\n".join(self._lines) + b"\n"
        self._lines.clear()
        self._size = 0
        self._number += 1
        options = self.options
        if options.compressed:
            # the same bytes for the same events: no time of day in it
            body = gzip.compress(body, 1, mtime=0)
        return append_events(
            self.stream, body, key=f"{self._key}-{self._number}", bad=options.bad, gzip=options.compressed
        )


def requests_of(stream: str, events: Iterable[Event], options: Sending) -> Iterator[Call[EventsReceipt]]:
    r"""Events as the requests that send them.

    >>> calls = list(requests_of("s", [{"n": 1}, b'{"n":2}', {"n": 3}], Sending(events=2, key="k")))
    >>> [(call.body, call.headers["idempotency-key"]) for call in calls]
    [(b'{"n":1}\n{"n":2}\n', 'k-1'), (b'{"n":3}\n', 'k-2')]
    """
    batcher = Batcher(stream, options)
    for event in events:
        if (call := batcher.add(event)) is not None:
            yield call
    if (call := batcher.rest()) is not None:
        yield call


def _line(event: Event) -> bytes:
    if isinstance(event, str):
        event = event.encode()
    if not isinstance(event, bytes):
        return _encode(event)
    line = event.strip()
    # JSON over several lines is put into one: within strings, line ends are escaped
    return line.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in line or b"\r" in line else line
