"""A request as handlers see it: checked parts, no HTTP besides headers."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.caller import ANY, Caller, Precondition
from ostinato.server.http.limits import Buckets
from ostinato.server.http.problems import HttpError
from ostinato.server.http.reply import Receive, Scope

S = TypeVar("S")
WHOLE = "ostinato.whole"
"""What the protocol of `runner` puts into the scope once all of the request is there."""

_NOBODY = Caller("", Role.VIEWER)


class ClientGoneError(Exception):
    """The client went before its request was there; nobody waits for an answer."""


class Request:
    """A request that was let through: route, role and limits were looked at before.

    Attributes:
        method, path: as they came.
        names: what stands in the places of the route's path, by name.
        caller: who asks.
        query: the route's query Struct.
        data: the route's body Struct, where it has one.
        raw: the body, where the route takes raw ones; `content_type` says which.
        detail: what the audit log shall say of it.
        events: how many events each token may still send.
    """

    __slots__ = (
        "_receive",
        "body_taken",
        "caller",
        "content_type",
        "data",
        "detail",
        "events",
        "headers",
        "method",
        "names",
        "path",
        "query",
        "raw",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, events: Buckets) -> None:
        self.scope = scope
        self._receive = receive
        self.events = events
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.names: dict[str, str] = {}
        self.caller: Caller = _NOBODY
        self.query: Any = None
        self.data: Any = None
        self.raw: bytes = b""
        self.content_type = ""
        self.detail: dict[str, Any] = {}
        self.body_taken = not (b"content-length" in self.headers or b"transfer-encoding" in self.headers)

    def header(self, name: bytes) -> str | None:
        """A header by its name in small letters."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def query_as(self, kind: type[S]) -> S:
        """The query; `kind` is the route's Struct."""
        assert isinstance(self.query, kind)
        return self.query

    def data_as(self, kind: type[S]) -> S:
        """The body; `kind` is the route's Struct."""
        assert isinstance(self.data, kind)
        return self.data

    def text(self) -> str:
        """A raw body as text.

        Raises:
            HttpError: it is not UTF-8.
        """
        try:
            return self.raw.decode()
        except UnicodeDecodeError as error:
            raise HttpError(400, f"the body is not UTF-8 text (byte {error.start})") from None

    def precondition(self) -> Precondition:
        """``If-Match`` and ``If-None-Match``.

        Raises:
            HttpError: they are not what they should be.
        """
        wanted, unwanted = self.header(b"if-match"), self.header(b"if-none-match")
        if wanted is None and unwanted is None:
            return ANY
        if unwanted is not None and unwanted.strip() != "*":
            raise HttpError(400, "`If-None-Match` of a change is `*`: only where there is nothing yet")
        if wanted is None:
            return Precondition(None, absent=True)
        tags = tuple(tag.strip() for tag in wanted.split(","))
        for tag in tags:
            if tag != "*" and not (len(tag) > 2 and tag[0] == tag[-1] == '"'):
                raise HttpError(400, f'`If-Match` is an ETag in quotes, as "3", not {tag[:60]}')
        return Precondition(tuple(tag.strip('"') for tag in tags), absent=unwanted is not None)

    async def read_body(self, most_bytes: int, timeout_ms: int) -> bytes:
        """The body, all of it.

        Raises:
            HttpError: it is larger than `most_bytes` or takes longer than `timeout_ms`.
            ClientGoneError: the client went.
        """
        length = self.headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length) > most_bytes:
            raise self._too_large(most_bytes)
        message = await self._first(timeout_ms)
        if message["type"] != "http.request":
            raise ClientGoneError
        body: bytes = message.get("body", b"")
        if len(body) > most_bytes:
            raise self._too_large(most_bytes)
        if message.get("more_body", False):
            body = await self._rest(body, most_bytes, timeout_ms)
        self.body_taken = True
        return body

    async def until_gone(self) -> None:
        """Wait until the client has gone; what it still sends is thrown away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _first(self, timeout_ms: int) -> Any:
        if WHOLE in self.scope:
            # a timer costs more than the rest: none where the body came with its head
            return await self._receive()
        if not self.headers.get(b"content-length", b"0").strip(b"0") and b"transfer-encoding" not in self.headers:
            return {"type": "http.request", "body": b""}
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._receive()
        except TimeoutError:
            raise self._too_slow(timeout_ms) from None

    async def _rest(self, begun: bytes, most_bytes: int, timeout_ms: int) -> bytes:
        parts, size = [begun], len(begun)
        # the time of all of it is limited, not that of a part: a byte now and then would go on for ever
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                more = True
                while more:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        raise ClientGoneError
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    if size > most_bytes:
                        raise self._too_large(most_bytes)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise self._too_slow(timeout_ms) from None
        return b"".join(parts)

    @staticmethod
    def _too_large(most_bytes: int) -> HttpError:
        return HttpError(413, f"the body has more than {most_bytes:,} bytes; send it in parts")

    @staticmethod
    def _too_slow(timeout_ms: int) -> HttpError:
        return HttpError(408, f"the body was not there after {timeout_ms / 1000:g} s")
