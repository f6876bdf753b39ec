"""Requests about streams and the events that come in."""

from __future__ import annotations

from typing import Literal

from ostinato.server.client.call import NDJSON, TEXT, Call, condition, path_of, read
from ostinato.server.http.schemas.streams import EventsReceipt, StreamInfo, StreamPage

Bad = Literal["refuse", "dead-letter"]
"""What becomes of events that do not fit: the request is refused, or they are kept as dead letters."""


def streams(*, limit: int = 100, after: str | None = None) -> Call[StreamPage]:
    """The streams by name, a page of them."""
    return read(path_of("streams"), StreamPage, limit=limit, after=after)


def stream(name: str) -> Call[StreamInfo]:
    """A stream: its fields, its clock, what has come in."""
    return read(path_of("streams", name), StreamInfo)


def put_stream(name: str, text: str, *, if_match: str | None = None, absent: bool = False) -> Call[StreamInfo]:
    """Declare a stream, or change it.

    Args:
        name: of the stream.
        text: a `stream` declaration.
        if_match: the ETag that it has to have; else `Stale`.
        absent: there must be none yet; else `Stale`.
    """
    headers = {"content-type": TEXT, **condition(if_match, absent=absent)}
    return Call("PUT", path_of("streams", name), StreamInfo, body=text.encode(), headers=headers)


def delete_stream(name: str, *, if_match: str | None = None) -> Call[None]:
    """Delete a stream that no pattern reads."""
    return Call("DELETE", path_of("streams", name), None, headers=condition(if_match))


def append_events(
    stream: str,
    body: bytes,
    *,
    key: str | None = None,
    bad: Bad = "refuse",
    content_type: str = NDJSON,
    gzip: bool = False,
) -> Call[EventsReceipt]:
    """Send one request of events. The answer comes when they are durable.

    Args:
        stream: its name.
        body: the events: NDJSON, or (`content_type` JSON) an array of objects or one object.
        key: the idempotency key: events with a key that the server has seen are not taken again, so that a request with
            one is repeated after a lost connection, and one without is not.
        bad: what becomes of events that do not fit the stream.
        content_type: how they are written.
        gzip: `body` is compressed.
    """
    headers = {"content-type": content_type}
    if key is not None:
        headers["idempotency-key"] = key
    if gzip:
        headers["content-encoding"] = "gzip"
    path = path_of("streams", stream, "events")
    query = {} if bad == "refuse" else {"bad": bad}
    return Call("POST", path, EventsReceipt, query, body, headers, repeatable=key is not None)
