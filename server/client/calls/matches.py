"""Requests about matches, and where they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ostinato.server.client.call import JSON, Call, condition, path_of, read
from ostinato.server.http.schemas import matches as schemas

if TYPE_CHECKING:
    from ostinato.server.delivery.settings import OutputSettings


def matches(
    *,
    stream: str | None = None,
    pattern: str | None = None,
    kind: schemas.RowKind | None = None,
    limit: int = 100,
    after: int = 0,
) -> Call[schemas.MatchPage]:
    """Matches in the order of their numbers, a page of them.

    Args:
        stream, pattern, kind: only such.
        limit: most of them.
        after: those with a greater number.
    """
    query = {"stream": stream, "pattern": pattern, "kind": kind, "limit": limit, "after": after}
    return Call("GET", path_of("matches"), schemas.MatchPage, query, repeatable=True)


def follow_matches(
    *,
    stream: str | None = None,
    pattern: str | None = None,
    kind: schemas.RowKind | None = None,
    after: int = -1,
    last_event_id: int | None = None,
) -> Call[bytes]:
    """Server-sent events of matches for as long as the connection holds; `Client.follow` reads them."""
    query = {"stream": stream, "pattern": pattern, "kind": kind, "after": after}
    headers = {"accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = str(last_event_id)
    return Call("GET", path_of("matches", "stream"), bytes, query, headers=headers, repeatable=True)


def dead_letters(
    *, stream: str | None = None, limit: int = 100, after: str | None = None
) -> Call[schemas.DeadLetterPage]:
    """What came and could not be used, in the order in which it came."""
    return read(path_of("dead-letters"), schemas.DeadLetterPage, stream=stream, limit=limit, after=after)


def outputs(*, limit: int = 100, after: str | None = None) -> Call[schemas.OutputPage]:
    """Where matches are sent, by name."""
    return read(path_of("outputs"), schemas.OutputPage, limit=limit, after=after)


def output(name: str) -> Call[schemas.OutputInfo]:
    """An output, and how it fares."""
    return read(path_of("outputs", name), schemas.OutputInfo)


def put_output(
    name: str, settings: OutputSettings, *, if_match: str | None = None, absent: bool = False
) -> Call[schemas.OutputInfo]:
    """Make or change an output. For operators.

    Args:
        name: of the output.
        settings: a `WebhookOutput`, `KafkaOutput` or `FileOutput`.
        if_match: the ETag that it has to have; else `Stale`.
        absent: there must be none yet; else `Stale`.
    """
    headers = {"content-type": JSON, **condition(if_match, absent=absent)}
    body = msgspec.json.encode(settings)
    return Call("PUT", path_of("outputs", name), schemas.OutputInfo, body=body, headers=headers)


def delete_output(name: str, *, if_match: str | None = None) -> Call[None]:
    """Send matches there no more. For operators."""
    return Call("DELETE", path_of("outputs", name), None, headers=condition(if_match))
