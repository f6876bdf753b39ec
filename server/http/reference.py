"""The table of docs/http-api.md, made of the table of routes."""

from __future__ import annotations

from collections.abc import Sequence

from ostinato.server.http.routing import WEBSOCKET, Route


def routes_table(routes: Sequence[Route]) -> str:
    """A line for each route: method and path, role, what it takes, what it does."""
    lines = ["| route | role | takes | what it does |", "| --- | --- | --- | --- |"]
    for route in routes:
        method = "WebSocket" if route.method == WEBSOCKET else route.method
        role = "-" if route.role is None else str(route.role)
        lines.append(f"| {method} `{route.path}` | {role} | {_takes(route)} | {route.summary} |")
    return "\n".join(lines)


def _takes(route: Route) -> str:
    parts = []
    if route.raw:
        parts.append(" or ".join(f"`{kind}`" for kind in route.raw))
    elif route.body is not None:
        name = getattr(route.body, "__name__", "Output")
        parts.append(f"[{name}]" if route.optional_body else name)
    if route.query is not None:
        parts.append(f"`?{'&'.join(f'{name}=' for name in route.query.__struct_encode_fields__)}`")
    return ", ".join(parts) or "-"
