"""Routes of patterns, parameters, and changes of what runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.caller import Caller, Precondition
from ostinato.server.http.reply import Reply
from ostinato.server.http.request import Request
from ostinato.server.http.routing import NUMBER, TEXT, Route
from ostinato.server.http.schemas import patterns as schemas
from ostinato.server.http.schemas.common import PageQuery

if TYPE_CHECKING:
    from ostinato.server.http.services import ParamService, PatternService


async def apply(request: Request, service: PatternService) -> Reply:
    text, query = request.text(), request.query_as(schemas.ApplyQuery)
    request.detail = {"dry_run": query.dry_run, "comment": query.comment, "text": text}
    return Reply(await service.apply(text, query, request.caller))


async def patterns(request: Request, service: PatternService) -> Reply:
    return Reply(await service.list(request.query_as(schemas.PatternsQuery)))


async def pattern(request: Request, service: PatternService) -> Reply:
    found = await service.get(request.names["name"])
    return Reply(found, etag=found.etag)


async def put_pattern(request: Request, service: PatternService) -> Reply:
    return await _put(request, service.put)


async def put_shadow(request: Request, service: PatternService) -> Reply:
    return await _put(request, service.put_shadow)


async def _put(
    request: Request,
    put: Callable[[str, str, schemas.ApplyQuery, Caller, Precondition], Awaitable[schemas.Applied]],
) -> Reply:
    text, query = request.text(), request.query_as(schemas.ApplyQuery)
    request.detail = {"dry_run": query.dry_run, "comment": query.comment, "text": text}
    return Reply(await put(request.names["name"], text, query, request.caller, request.precondition()))


async def delete_pattern(request: Request, service: PatternService) -> Reply:
    query = request.query_as(schemas.DeleteQuery)
    request.detail = {"dry_run": query.dry_run, "comment": query.comment}
    return Reply(await service.delete(request.names["name"], query, request.caller, request.precondition()))


async def delete_shadow(request: Request, service: PatternService) -> Reply:
    query = request.query_as(schemas.DeleteQuery)
    request.detail = {"dry_run": query.dry_run, "comment": query.comment}
    return Reply(await service.delete_shadow(request.names["name"], query, request.caller, request.precondition()))


async def versions(request: Request, service: PatternService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.versions(request.names["name"], query.limit, query.after))


async def version(request: Request, service: PatternService) -> Reply:
    return Reply(await service.version(request.names["name"], int(request.names["version"])))


async def diff(request: Request, service: PatternService) -> Reply:
    return Reply(await service.diff(request.names["name"], request.query_as(schemas.DiffQuery)))


async def rollback(request: Request, service: PatternService) -> Reply:
    wanted = request.data_as(schemas.RollbackRequest)
    request.detail = {"version": wanted.version, "dry_run": wanted.dry_run, "comment": wanted.comment}
    return Reply(await service.rollback(request.names["name"], wanted, request.caller, request.precondition()))


async def pause(request: Request, service: PatternService) -> Reply:
    wanted = request.data_as(schemas.PauseRequest)
    request.detail = {"dry_run": wanted.dry_run, "comment": wanted.comment}
    return Reply(await service.pause(request.names["name"], wanted, request.caller, request.precondition()))


async def resume(request: Request, service: PatternService) -> Reply:
    wanted = request.data_as(schemas.PauseRequest)
    request.detail = {"dry_run": wanted.dry_run, "comment": wanted.comment}
    return Reply(await service.resume(request.names["name"], wanted, request.caller, request.precondition()))


async def why(request: Request, service: PatternService) -> Reply:
    return Reply(await service.why(request.names["name"], request.query_as(schemas.WhyQuery)))


async def graph(request: Request, service: PatternService) -> Reply:
    return Reply(await service.graph(request.names["name"]))


async def changes(request: Request, service: PatternService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.changes(query.limit, query.after))


async def params(request: Request, service: ParamService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.list(query.limit, query.after))


async def param(request: Request, service: ParamService) -> Reply:
    found = await service.get(request.names["name"])
    return Reply(found, etag=found.etag)


async def put_param(request: Request, service: ParamService) -> Reply:
    value = request.data_as(schemas.ParamValue)
    request.detail = {"value": value.value, "comment": value.comment}
    made = await service.put(request.names["name"], value, request.caller, request.precondition())
    return Reply(made, etag=made.param.etag)


async def delete_param(request: Request, service: ParamService) -> Reply:
    made = await service.delete(request.names["name"], request.caller, request.precondition())
    return Reply(made, etag=made.param.etag)


def _read(path: str, name: str, summary: str, handler: Any, answer: Any, **more: Any) -> Route:
    return Route("GET", path, name, summary, more.pop("service", "patterns"), handler, answer=answer, **more)


def _change(method: str, path: str, name: str, summary: str, handler: Any, **more: Any) -> Route:
    """Changes are of authors, look at `If-Match`, can be refused for what there is, and are written down."""
    usual: dict[str, Any] = {"answer": schemas.Applied, "etag": True, "errors": (409,), "audited": True}
    usual |= {"role": Role.AUTHOR, "service": "patterns"} | more
    return Route(method, path, name, summary, usual.pop("service"), handler, **usual)


_ONE = "/v1/patterns/{name}"
ROUTES = (
    _change(
        "POST",
        "/v1/apply",
        "apply",
        "Apply the text of a file: streams, params and patterns",
        apply,
        raw=TEXT,
        query=schemas.ApplyQuery,
        etag=False,
    ),
    _read("/v1/patterns", "patterns", "The patterns", patterns, schemas.PatternPage, query=schemas.PatternsQuery),
    _read(_ONE, "pattern", "A pattern", pattern, schemas.PatternInfo, etag=True),
    _change(
        "PUT",
        _ONE,
        "put_pattern",
        "Make or change one pattern",
        put_pattern,
        raw=TEXT,
        query=schemas.ApplyQuery,
    ),
    _change("DELETE", _ONE, "delete_pattern", "Delete a pattern", delete_pattern, query=schemas.DeleteQuery),
    _read(
        f"{_ONE}/versions", "versions", "Its versions, the newest first", versions, schemas.VersionPage, query=PageQuery
    ),
    _read(
        f"{_ONE}/versions/{{version}}",
        "version",
        "One version",
        version,
        schemas.VersionInfo,
        patterns={"version": NUMBER},
    ),
    _read(f"{_ONE}/diff", "diff", "The difference of two versions", diff, schemas.Diff, query=schemas.DiffQuery),
    _change(
        "POST",
        f"{_ONE}/rollback",
        "rollback",
        "Make the text of an earlier version the next version",
        rollback,
        body=schemas.RollbackRequest,
    ),
    _change(
        "POST",
        f"{_ONE}/pause",
        "pause",
        "Pause a pattern; its partial matches end",
        pause,
        body=schemas.PauseRequest,
        optional_body=True,
    ),
    _change(
        "POST",
        f"{_ONE}/resume",
        "resume",
        "Resume a pattern; it begins anew",
        resume,
        body=schemas.PauseRequest,
        optional_body=True,
    ),
    _change(
        "PUT",
        f"{_ONE}/shadow",
        "put_shadow",
        "Run another version beside the live one; its matches go elsewhere",
        put_shadow,
        raw=TEXT,
        query=schemas.ApplyQuery,
    ),
    _change("DELETE", f"{_ONE}/shadow", "delete_shadow", "End the shadow", delete_shadow, query=schemas.DeleteQuery),
    _read(
        f"{_ONE}/why",
        "why",
        "The partial matches of a key, what its last events failed, and what holds the watermark back",
        why,
        schemas.Why,
        query=schemas.WhyQuery,
    ),
    _read(f"{_ONE}/graph", "graph", "The automaton", graph, schemas.Graph),
    _read("/v1/changes", "changes", "What was changed, the newest first", changes, schemas.ChangePage, query=PageQuery),
    _read("/v1/params", "params", "The parameters", params, schemas.ParamPage, query=PageQuery, service="params"),
    _read("/v1/params/{name}", "param", "A parameter", param, schemas.ParamInfo, etag=True, service="params"),
    _change(
        "PUT",
        "/v1/params/{name}",
        "put_param",
        "Set a parameter; in effect at once, nothing is compiled",
        put_param,
        service="params",
        body=schemas.ParamValue,
        answer=schemas.ParamChanged,
    ),
    _change(
        "DELETE",
        "/v1/params/{name}",
        "delete_param",
        "Set a parameter back to its declared value",
        delete_param,
        service="params",
        answer=schemas.ParamChanged,
    ),
)
