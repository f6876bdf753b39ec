"""The table of routes. What is not in it does not exist: dispatch, roles, OpenAPI, docs and tests read it."""

from ostinato.server.http.routes import jobs, matches, patterns, server, streams
from ostinato.server.http.routing import Route

ROUTES: tuple[Route, ...] = (
    *server.ROUTES,
    *streams.ROUTES,
    *patterns.ROUTES,
    *matches.ROUTES,
    *jobs.ROUTES,
)

__all__ = ["ROUTES"]
