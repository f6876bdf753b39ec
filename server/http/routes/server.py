"""Routes of the server itself: health, tokens, audit log, configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.reply import Reply
from ostinato.server.http.request import Request
from ostinato.server.http.routing import Route
from ostinato.server.http.schemas import server as schemas
from ostinato.server.http.schemas.common import Health, PageQuery

if TYPE_CHECKING:
    from ostinato.server.http.app import Api
    from ostinato.server.http.services import ServerService, TokenService


async def healthz(_: Request, service: ServerService) -> Reply:
    return _health(await service.health())


async def readyz(_: Request, service: ServerService) -> Reply:
    return _health(await service.ready())


def _health(health: Health) -> Reply:
    return Reply(health, 200 if health.status == "ok" else 503)


async def openapi(_: Request, api: Api) -> Reply:
    return Reply(api.document)


async def metrics(_: Request, service: ServerService) -> Reply:
    body, content_type = await service.metrics()
    return Reply(body, content_type=content_type)


async def info(request: Request, service: ServerService) -> Reply:
    return Reply(await service.info(request.caller))


async def config(_: Request, service: ServerService) -> Reply:
    return Reply(await service.config())


async def tokens(request: Request, service: TokenService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.tokens(query.limit, query.after))


async def create_token(request: Request, service: TokenService) -> Reply:
    wanted = request.data_as(schemas.TokenRequest)
    request.detail = {"target": wanted.name, "role": wanted.role, "expires_ms": wanted.expires_ms}
    return Reply(await service.create(wanted, request.caller), 201)


async def delete_token(request: Request, service: TokenService) -> Reply:
    await service.delete(request.names["name"], request.caller)
    return Reply(status=204)


async def audit(request: Request, service: TokenService) -> Reply:
    return Reply(await service.audit(request.query_as(schemas.AuditQuery)))


async def create_ticket(request: Request, api: Api) -> Reply:
    return Reply(schemas.Ticket(*api.authenticator.tickets.issue(request.caller)), 201)


def _row(method: str, path: str, name: str, summary: str, handler: Any, **more: Any) -> Route:
    return Route(method, path, name, summary, more.pop("service", "server"), handler, **more)


ROUTES = (
    _row("GET", "/healthz", "healthz", "Whether the process is well", healthz, role=None, answer=Health),
    _row("GET", "/readyz", "readyz", "Whether it takes events and computes", readyz, role=None, answer=Health),
    _row("GET", "/openapi.json", "openapi", "This document", openapi, service="api", role=None),
    _row("GET", "/metrics", "metrics", "Metrics for Prometheus", metrics, content_type="text/plain"),
    _row("GET", "/v1/server", "server", "The server, and who you are", info, answer=schemas.ServerInfo),
    _row(
        "GET",
        "/v1/config",
        "config",
        "All settings, secrets hidden",
        config,
        role=Role.OPERATOR,
        answer=schemas.ConfigView,
    ),
    _row(
        "GET",
        "/v1/tokens",
        "tokens",
        "The tokens",
        tokens,
        service="tokens",
        role=Role.OPERATOR,
        query=PageQuery,
        answer=schemas.TokenPage,
    ),
    _row(
        "POST",
        "/v1/tokens",
        "create_token",
        "Make a token; its text is shown this once",
        create_token,
        service="tokens",
        role=Role.OPERATOR,
        body=schemas.TokenRequest,
        answer=schemas.NewToken,
        status=201,
        errors=(409,),
        audited=True,
    ),
    _row(
        "DELETE",
        "/v1/tokens/{name}",
        "delete_token",
        "Take a token away",
        delete_token,
        service="tokens",
        role=Role.OPERATOR,
        status=204,
        errors=(409,),
        audited=True,
    ),
    _row(
        "GET",
        "/v1/audit",
        "audit",
        "Who changed what, the newest first",
        audit,
        service="tokens",
        role=Role.OPERATOR,
        query=schemas.AuditQuery,
        answer=schemas.AuditPage,
    ),
    _row(
        "POST",
        "/v1/tickets",
        "create_ticket",
        "A ticket that stands for your token in one SSE or WebSocket request",
        create_ticket,
        service="api",
        answer=schemas.Ticket,
        status=201,
    ),
)
