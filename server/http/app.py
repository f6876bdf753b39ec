"""The ASGI application: one dispatcher in front of the table of routes.

No middleware: every request passes the same steps here, in this order.
(1) the host it was meant for, (2) the route, (3) who asks, (4) whether he may, (5) how fast, (6) the query,
(7) the body, (8) the handler, (9) the audit log, (10) the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ostinato.server.catalog.database import CatalogError
from ostinato.server.http.auth import Authenticator, HostCheck
from ostinato.server.http.limits import Buckets
from ostinato.server.http.openapi import document
from ostinato.server.http.problems import CONTENT_TYPE, HttpError, invalid, problem_of
from ostinato.server.http.queries import read_query
from ostinato.server.http.reply import Receive, Reply, Scope, Send, Streamed, headers_of
from ostinato.server.http.request import ClientGoneError, Request
from ostinato.server.http.routing import WEBSOCKET, BoundRoute, Handler, Route, Router, SocketHandler
from ostinato.server.http.services import Services
from ostinato.server.http.sockets import DEFECT, POLICY, Socket

if TYPE_CHECKING:
    from ostinato.server.catalog.catalog import Catalog
    from ostinato.server.config import ServerConfig

Observe = Callable[[str, int, float], None]
"""Told of each answer: the route's name ("" where there was none), the status, the seconds it took."""

ABORT = "ostinato.abort"
"""What the protocol of `runner` puts into the scope: cuts the connection."""

_LONGEST_DETAIL = 2000
_log = logging.getLogger("ostinato.http")


class Api:
    """The HTTP API over services.

    Attributes:
        services: what the routes call; may be filled while the server starts.
        tickets: for `POST /v1/tickets`.
        events: how many events each token may still send; the events routes charge it.
    """

    def __init__(
        self,
        config: ServerConfig,
        routes: Sequence[Route],
        services: Services,
        catalog: Catalog | None,
        observe: Observe | None = None,
    ) -> None:
        """`catalog` has the tokens and the audit log; without one, nobody is asked and nothing is written down."""
        self.routes = tuple(routes)
        self.services = services
        self._router = Router(routes)
        self._catalog = catalog
        self.authenticator = Authenticator(catalog.tokens if catalog is not None and config.auth.enabled else None)
        self._hosts = HostCheck(config.server.host, config.server.allowed_hosts)
        self._limits = config.limits
        self._public_metrics = config.metrics.public
        self._requests = Buckets(config.limits.requests_per_second, "requests of one token")
        self.events = Buckets(config.limits.events_per_second, "events of one token")
        self._observe = observe
        self._pumps: set[asyncio.Future[None]] = set()

    @cached_property
    def document(self) -> bytes:
        """The OpenAPI document; made when it is first asked for."""
        return document(self.routes)

    def end_streams(self) -> None:
        """End the answers that have no end, each behind a whole frame, so that their connections can be closed."""
        for pump in self._pumps:
            pump.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(Request(scope, receive, self.events), send)
        elif kind == "websocket":
            await self._websocket(Request(scope, receive, self.events), receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)

    async def _http(self, request: Request, send: Send) -> None:
        began = time.perf_counter()
        name, status = "", 500
        try:
            self._hosts.check(request)
            if request.method not in ("GET", "HEAD", "OPTIONS"):
                self._hosts.check_origin(request)
            raw_path = request.scope.get("raw_path") or request.path.encode()
            bound, request.names = self._router.find(request.method, raw_path)
            name = bound.route.name
            reply = await self._answer(bound, request)
            if isinstance(reply, Streamed):
                status = 200
                await self._stream(request, reply, send)
                return
            status = reply.status
            await _send(request, reply, send)
        except ClientGoneError:
            status = 499
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a problem and no trace
            problem = problem_of(error, f"{request.method} {name or request.path}")
            status = problem.status
            await _send_problem(request, problem, send)
        finally:
            if self._observe is not None:
                self._observe(name, status, time.perf_counter() - began)

    async def _answer(self, bound: BoundRoute, request: Request) -> Reply | Streamed:
        route = bound.route
        query, ticket = None, None
        if route.ticket:
            query, ticket = read_query(bound, request.scope["query_string"])
        await self._let_in(route, request, ticket)
        if not route.ticket:
            query, _ = read_query(bound, request.scope["query_string"])
        request.query = query
        if route.body is not None or route.raw:
            await self._read_body(bound, request)
        if not route.audited:
            return await cast("Handler", route.handler)(request, self._service(route))
        try:
            reply = await cast("Handler", route.handler)(request, self._service(route))
        except Exception as error:
            await self._write_down(route, request, problem_of(error, f"{request.method} {route.name}").detail)
            raise
        await self._write_down(route, request, "ok")
        return reply

    async def _let_in(self, route: Route, request: Request, ticket: str | None) -> None:
        """Who asks, whether he may, and whether he asks too often."""
        if route.role is None or (route.name == "metrics" and self._public_metrics):
            return
        caller = request.caller = self.authenticator.caller(request, ticket)
        if caller.role < route.role:
            detail = f"`{caller.name}` is a {caller.role}; this takes the role {route.role}"
            if route.audited:
                await self._write_down(route, request, "forbidden")
            raise HttpError(403, detail)
        self._requests.take(caller.name)

    def _service(self, route: Route) -> Any:
        if route.service == "api":
            return self
        service = getattr(self.services, route.service)
        if service is None:
            raise HttpError(503, f"the server has no {route.service} just now", headers={"retry-after": "1"})
        return service

    async def _read_body(self, bound: BoundRoute, request: Request) -> None:
        route = bound.route
        accepted = route.raw or ("application/json",)
        content_type, _, parameters = (request.header(b"content-type") or "").partition(";")
        content_type = content_type.strip().lower()
        charset = parameters.partition("charset=")[2].strip(' "').lower()
        most_bytes = self._limits.body_bytes if route.large else self._limits.pattern_bytes
        empty_is_fine = route.optional_body and request.body_taken
        if (content_type or not empty_is_fine) and content_type not in accepted:
            wanted = " or ".join(accepted)
            given = f"is {content_type[:100]}" if content_type else "has no Content-Type"
            raise HttpError(415, f"the body {given}; send it as {wanted}", headers={"accept": ", ".join(accepted)})
        if charset not in ("", "utf-8", "utf8", "us-ascii"):
            raise HttpError(415, f"the body is in {charset[:40]}; send it in UTF-8")
        if not route.raw and request.headers.get(b"content-encoding", b"identity") != b"identity":
            raise HttpError(415, "send this body uncompressed")
        body = await request.read_body(most_bytes, self._limits.body_timeout)
        request.content_type = content_type
        if bound.decode_body is None:
            request.raw = body
            return
        try:
            request.data = bound.decode_body(b"{}" if route.optional_body and not body.strip() else body)
        except msgspec.ValidationError as error:
            fields = getattr(route.body, "__struct_encode_fields__", ())
            raise invalid(error, "the body", fields) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, f"the body is not JSON: {error}") from None

    async def _write_down(self, route: Route, request: Request, outcome: str) -> None:
        if self._catalog is None:
            return
        caller = request.caller
        target = "/".join(request.names.values()) or str(request.detail.pop("target", ""))
        try:
            await self._catalog.database.run(
                self._catalog.audit.add,
                caller.name,
                str(caller.role),
                caller.remote,
                route.name,
                target,
                {name: _short(value) for name, value in request.detail.items()},
                outcome[:1000],
            )
        except CatalogError as error:
            # what was done is done: the log says what the audit log could not
            _log.error(
                "the audit log cannot be written (%s): %s %s of %s by %s: %s",
                error, route.name, request.detail, target, caller.name, outcome,
            )  # fmt: skip

    async def _stream(self, request: Request, reply: Streamed, send: Send) -> None:
        """Send frames until they end or the client goes. A client that reads nothing is cut off."""
        seconds = self._limits.send_timeout / 1000
        async with reply.frames as frames:
            headers = [
                (b"content-type", reply.content_type.encode()),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),
                (b"x-content-type-options", b"nosniff"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            # the headers at once: a client wants to know that it is connected before anything matches
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            if request.method == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            pump = asyncio.ensure_future(_pump(frames, send, seconds))
            self._pumps.add(pump)
            gone = asyncio.ensure_future(request.until_gone())
            invalid = asyncio.ensure_future(self.authenticator.until_invalid(request.caller))
            tasks = (pump, gone, invalid)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if invalid.done() and not pump.done():
                    pump.cancel()
                    await asyncio.wait((pump,))
                if pump.done() and _ended_well(pump):
                    try:
                        async with asyncio.timeout(seconds):
                            await send({"type": "http.response.body", "body": b"", "more_body": False})
                    except TimeoutError:
                        _abort(request)
                elif pump.done():
                    _abort(request)
            finally:
                self._pumps.discard(pump)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _while_valid(self, socket: Socket, work: Awaitable[None]) -> None:
        """Do it for as long as the token of the request is one: then nothing is received any more, and what was is
        answered. Raises HttpError where that has ended."""
        working = asyncio.ensure_future(work)
        invalid = asyncio.ensure_future(self.authenticator.until_invalid(socket.request.caller))
        try:
            await asyncio.wait((working, invalid), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                socket.end()
                await asyncio.wait((working,), timeout=self._limits.send_timeout / 1000)
                raise HttpError(401, "the token was deleted, or has expired")
            await working
        finally:
            for task in (working, invalid):
                task.cancel()
            await asyncio.gather(working, invalid, return_exceptions=True)

    async def _websocket(self, request: Request, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        name, status = "", 101
        socket = Socket(request, receive, send, self._limits.send_timeout)
        try:
            self._hosts.check(request)
            self._hosts.check_origin(request)
            raw_path = request.scope.get("raw_path") or request.path.encode()
            bound, request.names = self._router.find(WEBSOCKET, raw_path)
            name = bound.route.name
            request.query, ticket = read_query(bound, request.scope["query_string"])
            await self._let_in(bound.route, request, ticket)
            handler = cast("SocketHandler", bound.route.handler)
            await self._while_valid(socket, handler(socket, self._service(bound.route)))
            await socket.close()
        except Exception as failure:  # noqa: BLE001 - as above
            error = _alone(failure)
            if isinstance(error, TimeoutError):
                await socket.close(POLICY, "you do not read")
                return
            problem = problem_of(error, f"WebSocket {name or request.path}")
            status = problem.status
            if socket.accepted:
                await socket.close(DEFECT if status >= 500 else POLICY, problem.detail)
            else:
                await socket.refuse(problem)
        finally:
            if self._observe is not None:
                self._observe(name, status, time.perf_counter() - began)


def _alone(error: Exception) -> Exception:
    """What failed in a group of tasks, where it was one of them."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _short(value: Any) -> Any:
    """What the audit log keeps of a value: texts of patterns are kept with their versions, whole."""
    if isinstance(value, str) and len(value) > _LONGEST_DETAIL:
        return f"{value[:_LONGEST_DETAIL]}… ({len(value):,} characters)"
    return value


async def _pump(frames: Any, send: Send, seconds: float) -> None:
    async for frame in frames:
        async with asyncio.timeout(seconds):
            await send({"type": "http.response.body", "body": frame, "more_body": True})


def _ended_well(pump: asyncio.Future[None]) -> bool:
    error = None if pump.cancelled() else pump.exception()
    if error is not None and not isinstance(error, TimeoutError):
        _log.error("following the matches failed", exc_info=error)
    return error is None


def _abort(request: Request) -> None:
    """Cut the connection: closing it would wait until the client has read all that was sent, which it does not."""
    if (abort := request.scope.get(ABORT)) is not None:
        abort()


async def _send(request: Request, reply: Reply, send: Send) -> None:
    body = reply.body()
    if reply.etag is not None and request.method in ("GET", "HEAD") and _same(request, reply.etag):
        reply, body = Reply(None, 304, etag=reply.etag), b""
    headers = headers_of(reply, len(body))
    if reply.status in (204, 304):
        headers = headers[1:]
    if not request.body_taken:
        # nobody will read what is still to come: the connection ends with the answer
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


def _same(request: Request, etag: str) -> bool:
    known = request.header(b"if-none-match")
    return known is not None and (known.strip() == "*" or f'"{etag}"' in (part.strip() for part in known.split(",")))


async def _send_problem(request: Request, problem: HttpError, send: Send) -> None:
    reply = Reply(problem.body(request.path), problem.status, CONTENT_TYPE.decode(), headers=problem.headers)
    # nothing can be sent where the answer has begun already or the client has gone
    with suppress(RuntimeError):
        await _send(request, reply, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
