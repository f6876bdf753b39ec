"""Requests about the server itself: what it is, who may use it, what was done."""

from __future__ import annotations

import msgspec

from ostinato.server.client.call import JSON, Call, path_of, read
from ostinato.server.http.schemas import server as schemas
from ostinato.server.http.schemas.common import Health


def healthz() -> Call[Health]:
    """Whether the process is well. Needs no token."""
    return Call("GET", "/healthz", Health, repeatable=True, also=(503,))


def readyz() -> Call[Health]:
    """Whether it takes events and computes. Needs no token."""
    return Call("GET", "/readyz", Health, repeatable=True, also=(503,))


def openapi() -> Call[bytes]:
    """The OpenAPI document of the server, as JSON."""
    return Call("GET", "/openapi.json", bytes, repeatable=True)


def metrics() -> Call[bytes]:
    """The metrics in Prometheus' text form."""
    return Call("GET", "/metrics", bytes, repeatable=True)


def server() -> Call[schemas.ServerInfo]:
    """The server, and who the caller is for it."""
    return read(path_of("server"), schemas.ServerInfo)


def config() -> Call[schemas.ConfigView]:
    """All settings, secrets hidden. For operators."""
    return read(path_of("config"), schemas.ConfigView)


def tokens(*, limit: int = 100, after: str | None = None) -> Call[schemas.TokenPage]:
    """The tokens by name. For operators."""
    return read(path_of("tokens"), schemas.TokenPage, limit=limit, after=after)


def create_token(name: str, role: schemas.RoleName, *, expires_ms: int | None = None) -> Call[schemas.NewToken]:
    """Make a token: its text is in the answer, this once. For operators.

    Args:
        name: of the token.
        role: what it may do.
        expires_ms: until when (epoch ms); None: for ever.
    """
    wanted = schemas.TokenRequest(name=name, role=role, expires_ms=expires_ms)
    body = msgspec.json.encode(wanted)
    return Call("POST", path_of("tokens"), schemas.NewToken, body=body, headers={"content-type": JSON})


def delete_token(name: str) -> Call[None]:
    """Take a token away. For operators."""
    return Call("DELETE", path_of("tokens", name), None)


def create_ticket() -> Call[schemas.Ticket]:
    """A ticket that stands for the token in one SSE or WebSocket request, for half a minute."""
    return Call("POST", path_of("tickets"), schemas.Ticket)


def audit(
    *,
    who: str | None = None,
    action: str | None = None,
    target: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Call[schemas.AuditPage]:
    """Who changed what, the newest first. For operators."""
    return read(path_of("audit"), schemas.AuditPage, who=who, action=action, target=target, limit=limit, after=after)
