"""What a route is, and which one a request is for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args
from urllib.parse import unquote_to_bytes

import msgspec

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.problems import HttpError
from ostinato.server.http.reply import Reply, Streamed
from ostinato.server.http.request import Request
from ostinato.state.typed import json_decoder

NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,127}"
"""What may stand in the places of a path, unless the route says otherwise."""

NUMBER = r"[1-9][0-9]{0,8}"
Handler = Callable[[Request, Any], Awaitable[Reply | Streamed]]
"""Gets the request and the service that the route names."""

SocketHandler = Callable[[Any, Any], Awaitable[None]]
"""The same for WebSockets: gets a `sockets.Socket`."""

TEXT = ("text/plain",)
WEBSOCKET = "WS"


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table of routes: what is dispatched, checked, documented and tested.

    Attributes:
        method: of HTTP, or `WEBSOCKET`.
        path: with `{names}`.
        name: the operation; also the action in the audit log.
        summary: one line.
        service: which of `Services` it is handled with.
        handler: what does it.
        role: who may; None for everyone, without a token.
        body: the Struct of a JSON body; `optional_body` where there may be none.
        raw: the content types of a body that the handler reads itself.
        query: the Struct of the query.
        answer: the Struct of the answer; None where there is none, or of `content_type`.
        status: of the answer when all went well.
        content_type: of the answer.
        etag: whether the answer has one, or (of a change) whether `If-Match` is looked at.
        errors: statuses of problems besides those that every route has.
        headers: further request headers and what they mean.
        patterns: what may stand in the places of the path, where it is not `NAME`.
        large: the body may be as large as `limits.body_bytes`, not only `limits.pattern_bytes`.
        audited: it stands in the audit log; all changes do.
        ticket: `?ticket=` is taken in place of a token.
    """

    method: str
    path: str
    name: str
    summary: str
    service: str
    handler: Handler | SocketHandler
    role: Role | None = Role.VIEWER
    body: type[msgspec.Struct] | Any | None = None
    optional_body: bool = False
    raw: tuple[str, ...] = ()
    query: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    content_type: str = "application/json"
    etag: bool = False
    errors: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    large: bool = False
    audited: bool = False
    ticket: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    @property
    def statuses(self) -> tuple[int, ...]:
        """Statuses of the problems that it may answer with."""
        found = {500, 503, 421, *self.errors}
        if self.role is not None:
            found |= {401, 403, 429}
        if self.names:
            found.add(404)
        if self.names or self.query or self.body or self.raw:
            found |= {400, 422}
        if self.body or self.raw:
            found |= {408, 413, 415}
        if self.etag and self.method in ("PUT", "POST", "DELETE"):
            found.add(412)
        return tuple(sorted(found))


class _Node:
    """A part of the paths: further parts by their text, and one for any name."""

    __slots__ = ("any", "methods", "parts")

    def __init__(self) -> None:
        self.parts: dict[bytes, _Node] = {}
        self.any: _Node | None = None
        self.methods: dict[str, BoundRoute] = {}


class BoundRoute:
    """A route with what every request of it needs, worked out once."""

    __slots__ = ("decode_body", "default_query", "lists", "names", "query_names", "route", "texts")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.names = [(name, re.compile(route.patterns.get(name, NAME))) for name in route.names]
        self.decode_body = None if route.body is None else json_decoder(route.body).decode
        self.query_names: tuple[str, ...] = ()
        self.lists: frozenset[str] = frozenset()
        self.texts: frozenset[str] = frozenset()
        self.default_query: msgspec.Struct | None = None
        if route.query is not None:
            fields = msgspec.structs.fields(route.query)
            self.query_names = tuple(item.encode_name for item in fields)
            self.lists = frozenset(item.encode_name for item in fields if _is_list(item.type))
            self.texts = frozenset(item.encode_name for item in fields if _is_text(item.type))
            self.default_query = route.query()


def _is_list(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is list


def _is_text(kind: Any) -> bool:
    return kind is str or str in get_args(kind) or any(_is_text(part) for part in get_args(kind))


class Router:
    """Finds the route of a request by its path's parts."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._root = _Node()
        self.bound: dict[str, BoundRoute] = {}
        for route in routes:
            assert route.name not in self.bound, f"two routes are called {route.name}"
            self.bound[route.name] = self._add(route)

    def _add(self, route: Route) -> BoundRoute:
        node = self._root
        for part in route.path.encode().split(b"/")[1:]:
            if part.startswith(b"{"):
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.parts.setdefault(part, _Node())
        assert route.method not in node.methods, f"two routes for {route.method} {route.path}"
        bound = node.methods[route.method] = BoundRoute(route)
        return bound

    def find(self, method: str, raw_path: bytes) -> tuple[BoundRoute, dict[str, str]]:
        """The route, and what stands in the places of its path.

        Raises:
            HttpError: 404, 405 with what is allowed, or 422 where a name cannot be one.
        """
        node: _Node | None = self._root
        values: list[bytes] = []
        for part in raw_path.split(b"/")[1:]:
            assert node is not None
            below = node.parts.get(part)
            if below is None:
                below = node.any
                values.append(part)
            node = below
            if node is None:
                break
        if node is None or not node.methods:
            raise HttpError(404, "there is nothing under this path; /openapi.json says what there is")
        bound = node.methods.get("GET" if method == "HEAD" else method)
        if bound is None:
            raise self._not_so(method, node)
        names = {}
        for (name, pattern), value in zip(bound.names, values, strict=True):
            try:
                text = unquote_to_bytes(value).decode()
            except UnicodeDecodeError:
                text = ""
            if not pattern.fullmatch(text):
                raise HttpError(422, f"`{value.decode('latin-1')[:100]}` cannot be a {name}: it is {pattern.pattern}")
            names[name] = text
        return bound, names

    @staticmethod
    def _not_so(method: str, node: _Node) -> HttpError:
        allowed = sorted(name for name in node.methods if name != WEBSOCKET)
        if "GET" in allowed:
            allowed.append("HEAD")
        if not allowed:
            return HttpError(426, "this is for WebSocket connections", headers={"upgrade": "websocket"})
        if method == WEBSOCKET:
            return HttpError(404, "no WebSocket is served under this path")
        return HttpError(405, f"{method} is not possible here", headers={"allow": ", ".join(allowed)})


Frames = AsyncIterator[bytes]
