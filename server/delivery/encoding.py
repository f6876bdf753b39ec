"""Matches as the outside sees them: a JSON object each, and that as server-sent events or in WebSocket messages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Protocol

import orjson

from ostinato.server.matches import Match


def match_id(server: str, seq: int) -> str:
    """What names a match for ever: it comes with the same one again, should it come again."""
    return f"{server}-{seq}"


def match_json(server: str, match: Match) -> bytes:
    """The JSON object of a match, in one line; times are epoch ms.

    >>> row = Match(7, "alerts", "match", "fraud", 2, 1000, 512, 1005, b'{"user":"u1"}')
    >>> orjson.loads(match_json("main", row))["id"]
    'main-7'
    """
    value = match.value
    if b"\n" in value or b"\r" in value:
        # outside of strings, where JSON allows them; within they are escaped
        value = value.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"id":%s,"seq":%d,"pattern":%s,"version":%d,"stream":%s,"kind":"%s","time":%d,"at":%d,"row":%s}' % (
        _quoted(match_id(server, match.seq)) if _odd(server) else b'"%s-%d"' % (server.encode(), match.seq),
        match.seq,
        _name(match.pattern),
        match.version,
        _name(match.stream),
        match.kind.encode(),
        match.time,
        match.at_ms,
        value,
    )


class Encoding(Protocol):
    """How followers get what they follow."""

    def one(self, match: Match, document: bytes, /) -> bytes:
        """A match, whose JSON object is `document`."""

    def chunk(self, encoded: Sequence[bytes]) -> bytes:
        """Several of them, one at least, as one thing to send."""

    def lost(self, first: int, last: int) -> bytes:
        """To be sent in place of matches that are not in the log any more."""

    def heartbeat(self, seq: int) -> bytes:
        """To be sent where nothing else is; all that is wanted up to `seq` has been sent."""


class ServerSentEvents:
    """The event stream format of HTML. Events are `match`, `timeout`, `late`, `dead-letter` and `lost`.

    A heartbeat is a comment with an id: it moves the client's last event id on, and is no event.
    """

    def one(self, match: Match, document: bytes, /) -> bytes:
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (match.seq, match.kind.replace(" ", "-").encode(), document)

    def chunk(self, encoded: Sequence[bytes]) -> bytes:
        return b"".join(encoded)

    def lost(self, first: int, last: int) -> bytes:
        return b'id: %d\nevent: lost\ndata: {"from":%d,"to":%d}\n\n' % (last, first, last)

    def heartbeat(self, seq: int) -> bytes:
        return b":\nid: %d\n\n" % seq


class WebSocketMessages:
    """Each message is a JSON array of objects; `kind` says what an object is: one of those of matches, ``lost`` with
    `from` and `to`, or ``heartbeat`` with `seq`."""

    def one(self, _match: Match, document: bytes, /) -> bytes:
        return document

    def chunk(self, encoded: Sequence[bytes]) -> bytes:
        return b"[%s]" % b",".join(encoded)

    def lost(self, first: int, last: int) -> bytes:
        return b'[{"kind":"lost","from":%d,"to":%d}]' % (first, last)

    def heartbeat(self, seq: int) -> bytes:
        return b'[{"kind":"heartbeat","seq":%d}]' % seq


SSE: Final[Encoding] = ServerSentEvents()
WEBSOCKET: Final[Encoding] = WebSocketMessages()


@lru_cache(maxsize=4096)
def _name(name: str) -> bytes:
    return _quoted(name)


@lru_cache(maxsize=16)
def _odd(server: str) -> bool:
    return _quoted(server) != b'"%s"' % server.encode()


def _quoted(text: str) -> bytes:
    return orjson.dumps(text)
