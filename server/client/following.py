"""Matches as they come, over connections that break: where to go on, and what the frames say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ostinato.server.client.call import Call
from ostinato.server.client.calls.matches import follow_matches, matches
from ostinato.server.client.errors import ApiError, BadAnswerError, ClientError, TooFast, Unavailable
from ostinato.server.client.retries import Retries
from ostinato.server.http.schemas.matches import MatchInfo, MatchPage, RowKind
from ostinato.state.typed import json_decoder

QUIET_SECONDS = 45.0
"""A connection from which nothing comes for so long is broken: the server sends something every 15 s."""


class Lost(msgspec.Struct, frozen=True, rename={"first": "from", "last": "to"}):
    """Matches that the server has deleted (retention) before they were read, by their numbers."""

    first: int
    last: int


class MatchesLostError(ClientError):
    """Matches were deleted before they were read; `lost` says which. Going on is `follow(after=error.lost.last)`."""

    def __init__(self, lost: Lost) -> None:
        super().__init__(
            f"matches {lost.first} to {lost.last} were deleted before they were read; they are older than "
            "`matches.retention` of the server"
        )
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Following:
    """Which matches are wanted."""

    stream: str | None = None
    pattern: str | None = None
    kind: RowKind | None = None
    after: int | None = None
    """Those with a greater number; None: those that come from now on."""


@dataclass(frozen=True, slots=True)
class _Event:
    id: str
    kind: str
    data: bytes


class EventStream:
    r"""The event stream format of HTML, as bytes come in.

    >>> EventStream().feed(b"id: 7\nevent: match\ndata: {}\n\n:\nid: 9\n")
    [_Event(id='7', kind='match', data=b'{}')]
    """

    def __init__(self) -> None:
        self._rest = b""
        self._clear()

    def _clear(self) -> None:
        self._id = ""
        self._kind = "message"
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[_Event]:
        """The events that are whole with these bytes; one without data only moves the id on."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = []
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if name == b"id":
                self._id = value.decode()
            elif name == b"event":
                self._kind = value.decode()
            elif name == b"data":
                self._data.append(value)
            elif not name and not value and not line.startswith(b":"):
                if self._data or self._id:
                    found.append(_Event(self._id, self._kind, b"\n".join(self._data)))
                self._clear()
        return found


_match = json_decoder(MatchInfo)
_lost = json_decoder(Lost)


class Follower:
    """Where somebody is who follows matches; knows nothing of connections.

    Attributes:
        at: the number of the last match that he has, or that he does not want; None before the first connection.
    """

    def __init__(
        self,
        wanted: Following,
        retries: Retries,
        on_lost: Callable[[Lost], None] | None,
        on_break: Callable[[ClientError], None] | None,
    ) -> None:
        """`on_lost` is told of matches that are gone, which without it are an error; `on_break` of each connection that
        broke."""
        self._wanted = wanted
        self._retries = retries
        self._on_lost = on_lost
        self._on_break = on_break
        self._events = EventStream()
        self._failed = 0
        self._connected = False
        self.at = wanted.after

    def where(self) -> Call[MatchPage] | None:
        """What has to be asked before the first connection, for `begin`; None: nothing.

        Who wants what comes from now on, and is cut off before anything has come, must know what "now" was.
        """
        return matches(limit=1, after=0) if self.at is None else None

    def begin(self, page: MatchPage) -> None:
        """Begin behind the last match that there is."""
        self.at = page.last_seq

    def connect(self) -> Call[bytes]:
        """The request of the next connection."""
        assert self.at is not None
        self._events = EventStream()
        wanted = self._wanted
        return follow_matches(stream=wanted.stream, pattern=wanted.pattern, kind=wanted.kind, after=self.at)

    def connected(self) -> None:
        """The server has answered that it will tell."""
        self._connected = True
        self._failed = 0

    def broke(self, error: ClientError) -> float:
        """Seconds to wait until the next connection.

        Raises:
            ClientError: there is none: the server says no, or could not be reached in the first place.
        """
        self._failed += 1
        if isinstance(error, ApiError) and not isinstance(error, TooFast | Unavailable):
            raise error
        if not self._connected and self._failed > self._retries.attempts:
            raise error
        if self._connected and self._on_break is not None:
            self._on_break(error)
        return self._retries.backoff(self._failed)

    def feed(self, chunk: bytes) -> list[MatchInfo | Lost]:
        """What is whole with these bytes, no match twice.

        Raises:
            BadAnswerError: it is not what it should be.
        """
        found: list[MatchInfo | Lost] = []
        for event in self._events.feed(chunk):
            try:
                number = int(event.id) if event.id else None
                if event.kind == "lost":
                    found.append(_lost.decode(event.data))
                elif event.data:
                    match = _match.decode(event.data)
                    if match.seq > (self.at or 0):
                        found.append(match)
            except (ValueError, msgspec.DecodeError) as error:
                raise BadAnswerError(f"the server sent an event that this release does not know: {error}") from None
            if number is not None:
                self.at = max(number, self.at or 0)
        return found

    def admit(self, item: MatchInfo | Lost) -> MatchInfo | None:
        """The match; None where it is none, and that is known by now.

        Raises:
            MatchesLostError: matches are gone, and nobody wants to be told.
        """
        if not isinstance(item, Lost):
            return item
        if self._on_lost is None:
            raise MatchesLostError(item)
        self._on_lost(item)
        return None
