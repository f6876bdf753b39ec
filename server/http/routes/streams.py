"""Routes of streams and of events that come in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.problems import HttpError, invalid, problem_of
from ostinato.server.http.reply import Reply, encode
from ostinato.server.http.request import Request
from ostinato.server.http.routing import TEXT, WEBSOCKET, Route
from ostinato.server.http.schemas.common import PageQuery
from ostinato.server.http.schemas.streams import (
    EventsAnswer,
    EventsFrame,
    EventsQuery,
    EventsReceipt,
    StreamInfo,
    StreamPage,
)
from ostinato.server.http.sockets import Socket
from ostinato.state.typed import json_decoder

if TYPE_CHECKING:
    from ostinato.server.http.services import EventService, StreamService

JSON, NDJSON = "application/json", "application/x-ndjson"
_LONGEST_KEY = 255
_FRAMES_UNDER_WAY = 64
"""Frames of one WebSocket that wait for the disk at the same time; a client that sends more waits."""

_frames = json_decoder(EventsFrame)


async def streams(request: Request, service: StreamService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.list(query.limit, query.after))


async def stream(request: Request, service: StreamService) -> Reply:
    found = await service.get(request.names["name"])
    return Reply(found, etag=found.etag)


async def put_stream(request: Request, service: StreamService) -> Reply:
    text = request.text()
    request.detail = {"text": text}
    made = await service.put(request.names["name"], text, request.caller, request.precondition())
    return Reply(made, etag=made.etag)


async def delete_stream(request: Request, service: StreamService) -> Reply:
    await service.delete(request.names["name"], request.caller, request.precondition())
    return Reply(status=204)


async def events(request: Request, service: EventService) -> Reply:
    """The way of most requests: nothing here that they do not all need."""
    encoding = request.headers.get(b"content-encoding", b"")
    if encoding not in (b"", b"gzip", b"identity"):
        raise HttpError(415, "send events uncompressed or with `Content-Encoding: gzip`")
    key = request.header(b"idempotency-key")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise HttpError(400, f"an `Idempotency-Key` has 1 to {_LONGEST_KEY} characters")
    request.events.check(request.caller.name)
    receipt = await service.append(
        request.names["name"],
        request.raw,
        content_type=cast("Literal['application/json', 'application/x-ndjson']", request.content_type),
        encoding="gzip" if encoding == b"gzip" else "",
        key=key,
        bad=request.query.bad,
        caller=request.caller,
    )
    _charge(request, receipt)
    return Reply(receipt)


def _charge(request: Request, receipt: EventsReceipt) -> None:
    """How many there were is known only now: a batch that is too large makes later ones wait."""
    if not receipt.duplicate:
        request.events.charge(request.caller.name, receipt.accepted + receipt.dead_letters)


async def events_socket(socket: Socket, service: EventService) -> None:
    """Frames are taken while earlier ones are on their way to the disk; answers come in the order of the frames."""
    await socket.accept()
    answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue(_FRAMES_UNDER_WAY)

    async def answer_all() -> None:
        while (task := await answers.get()) is not None:
            await socket.send(await task)

    async with asyncio.TaskGroup() as group:
        answering = group.create_task(answer_all())
        while (message := await socket.receive()) is not None and not answering.done():
            await answers.put(group.create_task(_take(message, socket, service)))
        if socket.closed:
            # nobody is there to hear the answers; what was taken is finished all the same
            answering.cancel()
        else:
            await answers.put(None)


async def _take(message: bytes, socket: Socket, service: EventService) -> bytes:
    frame: EventsFrame | None = None
    bad = cast("EventsQuery", socket.request.query).bad
    try:
        try:
            frame = _frames.decode(message)
        except msgspec.ValidationError as error:
            raise invalid(error, "the frame", EventsFrame.__struct_encode_fields__) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"the frame is not JSON: {error}") from None
        socket.request.events.check(socket.request.caller.name)
        receipt = await service.append(
            socket.request.names["name"],
            b"[" + b",".join(bytes(event) for event in frame.events) + b"]",
            content_type="application/json",
            encoding="",
            key=frame.key,
            bad=bad,
            caller=socket.request.caller,
        )
        _charge(socket.request, receipt)
        return encode(EventsAnswer(frame.id, receipt))
    except Exception as error:  # noqa: BLE001 - a frame is answered whatever it meets, as a request is
        problem = problem_of(error, "a frame of events").body(socket.request.path)
        return encode(EventsAnswer(frame.id if frame else None, None, msgspec.Raw(problem)))


def _row(method: str, path: str, name: str, summary: str, handler: Any, **more: Any) -> Route:
    return Route(method, path, name, summary, more.pop("service", "streams"), handler, **more)


ROUTES = (
    _row("GET", "/v1/streams", "streams", "The streams", streams, query=PageQuery, answer=StreamPage),
    _row("GET", "/v1/streams/{name}", "stream", "A stream", stream, answer=StreamInfo, etag=True),
    _row(
        "PUT",
        "/v1/streams/{name}",
        "put_stream",
        "Declare a stream, or change it: the text of a `stream` declaration",
        put_stream,
        role=Role.AUTHOR,
        raw=TEXT,
        answer=StreamInfo,
        etag=True,
        errors=(409,),
        audited=True,
    ),
    _row(
        "DELETE",
        "/v1/streams/{name}",
        "delete_stream",
        "Delete a stream that no pattern reads",
        delete_stream,
        role=Role.AUTHOR,
        status=204,
        etag=True,
        errors=(409,),
        audited=True,
    ),
    _row(
        "POST",
        "/v1/streams/{name}/events",
        "append_events",
        "Send events; the answer comes when they are durable",
        events,
        service="events",
        role=Role.AUTHOR,
        raw=(JSON, NDJSON),
        query=EventsQuery,
        answer=EventsReceipt,
        errors=(409,),
        headers={
            "Idempotency-Key": "events with a key that was seen before are not taken again; the first answer is",
            "Content-Encoding": "`gzip` where the body is",
        },
        large=True,
    ),
    _row(
        WEBSOCKET,
        "/v1/streams/{name}/events/ws",
        "events_socket",
        "Send events over a WebSocket",
        events_socket,
        service="events",
        role=Role.AUTHOR,
        query=EventsQuery,
        ticket=True,
    ),
)
