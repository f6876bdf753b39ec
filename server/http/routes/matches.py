"""Routes of matches and outputs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ostinato.server.catalog.tokens import Role
from ostinato.server.delivery.settings import SECRET, OutputSettings, WebhookOutput
from ostinato.server.http.problems import HttpError
from ostinato.server.http.reply import Reply, Streamed
from ostinato.server.http.request import Request
from ostinato.server.http.routing import WEBSOCKET, Route
from ostinato.server.http.schemas import matches as schemas
from ostinato.server.http.schemas.common import PageQuery
from ostinato.server.http.sockets import Socket

if TYPE_CHECKING:
    from ostinato.server.http.services import MatchService, OutputService


async def matches(request: Request, service: MatchService) -> Reply:
    return Reply(await service.page(request.query_as(schemas.MatchesQuery)))


async def dead_letters(request: Request, service: MatchService) -> Reply:
    return Reply(await service.dead_letters(request.query_as(schemas.DeadLettersQuery)))


async def follow(request: Request, service: MatchService) -> Streamed:
    which = request.query_as(schemas.MatchFilter)
    last = request.header(b"last-event-id")
    if last:
        # a browser that connects again sends it; it knows better than the URL where it was
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise HttpError(400, f"`Last-Event-ID: {last[:60]}` is no number of a match")
        which = msgspec.structs.replace(which, after=int(last))
    return Streamed(service.follow(which, "sse"))


async def follow_socket(socket: Socket, service: MatchService) -> None:
    async with service.follow(cast("schemas.MatchFilter", socket.request.query), "json") as frames:
        await socket.accept()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_send_all(socket, frames))
            listening = group.create_task(_until_gone(socket))
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            sending.cancel()
            listening.cancel()
    if sending.done() and not sending.cancelled() and (error := sending.exception()):
        raise error


async def _send_all(socket: Socket, frames: AsyncIterator[bytes]) -> None:
    async for frame in frames:
        await socket.send(frame)


async def _until_gone(socket: Socket) -> None:
    while await socket.receive() is not None:
        pass


async def outputs(request: Request, service: OutputService) -> Reply:
    query = request.query_as(PageQuery)
    page = await service.list(query.limit, query.after)
    return Reply(msgspec.structs.replace(page, items=[_shown(each, request) for each in page.items]))


async def output(request: Request, service: OutputService) -> Reply:
    found = await service.get(request.names["name"])
    return Reply(_shown(found, request), etag=found.etag)


def _shown(output: schemas.OutputInfo, request: Request) -> schemas.OutputInfo:
    """Values of headers are for those who may set them; names of secrets are for all."""
    settings = output.settings
    if request.caller.role >= Role.OPERATOR or not isinstance(settings, WebhookOutput):
        return output
    headers = {name: value if value.startswith(SECRET) else "***" for name, value in settings.headers.items()}
    return msgspec.structs.replace(output, settings=msgspec.structs.replace(settings, headers=headers))


async def put_output(request: Request, service: OutputService) -> Reply:
    settings = cast("OutputSettings", request.data)
    request.detail = (
        {"settings": msgspec.structs.replace(settings, headers=list(settings.headers))}
        if isinstance(settings, WebhookOutput)
        else {"settings": settings}
    )
    made = await service.put(request.names["name"], settings, request.caller, request.precondition())
    return Reply(made, etag=made.etag)


async def delete_output(request: Request, service: OutputService) -> Reply:
    await service.delete(request.names["name"], request.caller, request.precondition())
    return Reply(status=204)


def _row(method: str, path: str, name: str, summary: str, handler: Any, **more: Any) -> Route:
    return Route(method, path, name, summary, more.pop("service", "matches"), handler, **more)


ROUTES = (
    _row(
        "GET",
        "/v1/matches",
        "matches",
        "Matches in the order of their numbers",
        matches,
        query=schemas.MatchesQuery,
        answer=schemas.MatchPage,
    ),
    _row(
        "GET",
        "/v1/matches/stream",
        "follow_matches",
        "Follow the matches (server-sent events)",
        follow,
        query=schemas.MatchFilter,
        content_type="text/event-stream",
        headers={"Last-Event-ID": "the number of the last match you have: go on behind it"},
        ticket=True,
    ),
    _row(
        WEBSOCKET,
        "/v1/matches/ws",
        "matches_socket",
        "Follow the matches over a WebSocket",
        follow_socket,
        query=schemas.MatchFilter,
        ticket=True,
    ),
    _row(
        "GET",
        "/v1/dead-letters",
        "dead_letters",
        "What came and could not be used",
        dead_letters,
        query=schemas.DeadLettersQuery,
        answer=schemas.DeadLetterPage,
    ),
    _row(
        "GET",
        "/v1/outputs",
        "outputs",
        "Where matches are sent",
        outputs,
        service="outputs",
        query=PageQuery,
        answer=schemas.OutputPage,
    ),
    _row(
        "GET",
        "/v1/outputs/{name}",
        "output",
        "An output and how it fares",
        output,
        service="outputs",
        answer=schemas.OutputInfo,
        etag=True,
    ),
    _row(
        "PUT",
        "/v1/outputs/{name}",
        "put_output",
        "Make or change an output: a webhook, a topic, a file",
        put_output,
        service="outputs",
        role=Role.OPERATOR,
        body=OutputSettings,
        answer=schemas.OutputInfo,
        etag=True,
        errors=(409,),
        audited=True,
    ),
    _row(
        "DELETE",
        "/v1/outputs/{name}",
        "delete_output",
        "Send matches there no more",
        delete_output,
        service="outputs",
        role=Role.OPERATOR,
        status=204,
        etag=True,
        audited=True,
    ),
)
