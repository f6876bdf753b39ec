"""Routes of jobs, backtests and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ostinato.server.catalog.tokens import Role
from ostinato.server.http.reply import Reply
from ostinato.server.http.request import Request
from ostinato.server.http.routing import Route
from ostinato.server.http.schemas import jobs as schemas
from ostinato.server.http.schemas.common import PageQuery

if TYPE_CHECKING:
    from ostinato.server.http.services import BacktestService, CheckpointService, JobService


async def jobs(request: Request, service: JobService) -> Reply:
    return Reply(await service.list(request.query_as(schemas.JobsQuery)))


async def create_job(request: Request, service: JobService) -> Reply:
    wanted = request.data_as(schemas.JobRequest)
    request.detail = {"target": wanted.name, "module": wanted.module, "text": wanted.text, "params": wanted.params}
    return Reply(await service.create(wanted, request.caller), 201)


async def job(request: Request, service: JobService) -> Reply:
    return Reply(await service.get(request.names["id"]))


async def cancel_job(request: Request, service: JobService) -> Reply:
    return Reply(await service.cancel(request.names["id"], request.caller))


async def savepoint(request: Request, service: JobService) -> Reply:
    wanted = request.data_as(schemas.SavepointRequest)
    return Reply(await service.savepoint(request.names["id"], wanted, request.caller), 201)


async def stop_job(request: Request, service: JobService) -> Reply:
    wanted = request.data_as(schemas.StopRequest)
    request.detail = {"savepoint": wanted.savepoint, "drain": wanted.drain}
    return Reply(await service.stop(request.names["id"], wanted, request.caller))


async def backtests(request: Request, service: BacktestService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.list(query.limit, query.after))


async def create_backtest(request: Request, service: BacktestService) -> Reply:
    wanted = request.data_as(schemas.BacktestRequest)
    request.detail = {"text": wanted.text, "from": wanted.from_ms, "to": wanted.to_ms, "source": wanted.source.kind}
    return Reply(await service.create(wanted, request.caller), 201)


async def backtest(request: Request, service: BacktestService) -> Reply:
    return Reply(await service.get(request.names["id"]))


async def delete_backtest(request: Request, service: BacktestService) -> Reply:
    await service.delete(request.names["id"], request.caller)
    return Reply(status=204)


async def checkpoints(request: Request, service: CheckpointService) -> Reply:
    query = request.query_as(PageQuery)
    return Reply(await service.list(query.limit, query.after))


async def take_checkpoint(request: Request, service: CheckpointService) -> Reply:
    return Reply(await service.take(request.caller), 201)


_ID = {"id": r"[A-Za-z0-9_-]{1,64}"}


def _row(method: str, path: str, name: str, summary: str, handler: Any, **more: Any) -> Route:
    """Changes are written down; those of jobs are the operator's."""
    if method != "GET":
        more = {"role": Role.OPERATOR, "audited": True, "errors": (409,)} | more
    if "{id}" in path:
        more["patterns"] = _ID
    return Route(method, path, name, summary, more.pop("service", "jobs"), handler, **more)


ROUTES = (
    _row("GET", "/v1/jobs", "jobs", "The jobs", jobs, query=schemas.JobsQuery, answer=schemas.JobPage),
    _row(
        "POST",
        "/v1/jobs",
        "create_job",
        "Start a job",
        create_job,
        body=schemas.JobRequest,
        answer=schemas.JobInfo,
        status=201,
    ),
    _row("GET", "/v1/jobs/{id}", "job", "A job", job, answer=schemas.JobInfo),
    _row("DELETE", "/v1/jobs/{id}", "cancel_job", "Cancel a job: end it at once", cancel_job, answer=schemas.JobInfo),
    _row(
        "POST",
        "/v1/jobs/{id}/savepoints",
        "create_savepoint",
        "Take a savepoint of a job",
        savepoint,
        body=schemas.SavepointRequest,
        optional_body=True,
        answer=schemas.SavepointInfo,
        status=201,
    ),
    _row(
        "POST",
        "/v1/jobs/{id}/stop",
        "stop_job",
        "Stop a job with a savepoint",
        stop_job,
        body=schemas.StopRequest,
        optional_body=True,
        answer=schemas.SavepointInfo,
    ),
    _row(
        "GET",
        "/v1/backtests",
        "backtests",
        "The backtests",
        backtests,
        service="backtests",
        query=PageQuery,
        answer=schemas.BacktestPage,
    ),
    _row(
        "POST",
        "/v1/backtests",
        "create_backtest",
        "Run patterns over stored events",
        create_backtest,
        service="backtests",
        role=Role.AUTHOR,
        body=schemas.BacktestRequest,
        answer=schemas.BacktestInfo,
        status=201,
    ),
    _row(
        "GET",
        "/v1/backtests/{id}",
        "backtest",
        "A backtest and what it has found so far",
        backtest,
        service="backtests",
        answer=schemas.BacktestInfo,
    ),
    _row(
        "DELETE",
        "/v1/backtests/{id}",
        "delete_backtest",
        "End a backtest and forget it",
        delete_backtest,
        service="backtests",
        role=Role.AUTHOR,
        status=204,
    ),
    _row(
        "GET",
        "/v1/checkpoints",
        "checkpoints",
        "Snapshots of the state of the patterns",
        checkpoints,
        service="checkpoints",
        query=PageQuery,
        answer=schemas.CheckpointPage,
    ),
    _row(
        "POST",
        "/v1/checkpoints",
        "take_checkpoint",
        "Take a snapshot now",
        take_checkpoint,
        service="checkpoints",
        answer=schemas.CheckpointInfo,
        status=201,
    ),
)
