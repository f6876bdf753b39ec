"""Requests about jobs, backtests and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ostinato.server.client.call import JSON, Call, path_of, read
from ostinato.server.http.schemas import jobs as schemas

_BODY = {"content-type": JSON}


def jobs(*, state: schemas.JobState | None = None, limit: int = 100, after: str | None = None) -> Call[schemas.JobPage]:
    """The jobs of the server, the newest first."""
    return read(path_of("jobs"), schemas.JobPage, state=state, limit=limit, after=after)


def job(id: str) -> Call[schemas.JobInfo]:  # noqa: A002 - the API's name
    """A job."""
    return read(path_of("jobs", id), schemas.JobInfo)


def create_job(request: schemas.JobRequest) -> Call[schemas.JobInfo]:
    """Start a job. For operators."""
    body = msgspec.json.encode(request)
    return Call("POST", path_of("jobs"), schemas.JobInfo, body=body, headers=_BODY)


def cancel_job(id: str) -> Call[schemas.JobInfo]:  # noqa: A002
    """End a job at once. For operators."""
    return Call("DELETE", path_of("jobs", id), schemas.JobInfo)


def create_savepoint(id: str, *, name: str | None = None) -> Call[schemas.SavepointInfo]:  # noqa: A002
    """Take a savepoint of a job, which goes on. For operators."""
    body = msgspec.json.encode(schemas.SavepointRequest(name))
    return Call("POST", path_of("jobs", id, "savepoints"), schemas.SavepointInfo, body=body, headers=_BODY, seconds=0)


def stop_job(id: str, *, savepoint: str | None = None, drain: bool = False) -> Call[schemas.SavepointInfo]:  # noqa: A002
    """Stop a job with a savepoint. For operators."""
    body = msgspec.json.encode(schemas.StopRequest(savepoint, drain))
    return Call("POST", path_of("jobs", id, "stop"), schemas.SavepointInfo, body=body, headers=_BODY, seconds=0)


def backtests(*, limit: int = 100, after: str | None = None) -> Call[schemas.BacktestPage]:
    """The backtests, the newest first."""
    return read(path_of("backtests"), schemas.BacktestPage, limit=limit, after=after)


def create_backtest(
    text: str,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    source: schemas.BacktestSource | None = None,
    params: Mapping[str, str] | None = None,
    compare: bool = True,
    bucket_ms: int | None = None,
) -> Call[schemas.BacktestInfo]:
    """Begin to run patterns over stored events.

    Args:
        text: of a `.cep` file.
        from_ms, to_ms: times (epoch ms) between which events count; None: all. In the server's own log they are those
            when events came in, in files those of the events, in topics those of the records.
        source: where they come from; None: the server's own log.
        params: values of the text's parameters.
        compare: say what the live versions have found in the same time.
        bucket_ms: the width of the spans in which matches are counted.
    """
    wanted = schemas.BacktestRequest(
        text=text,
        from_ms=from_ms,
        to_ms=to_ms,
        source=source or schemas.BacktestSource(),
        params=dict(params or {}),
        compare=compare,
        bucket_ms=bucket_ms,
    )
    body = msgspec.json.encode(wanted)
    return Call("POST", path_of("backtests"), schemas.BacktestInfo, body=body, headers=_BODY)


def backtest(id: str) -> Call[schemas.BacktestInfo]:  # noqa: A002
    """A backtest, and what it has found so far."""
    return read(path_of("backtests", id), schemas.BacktestInfo)


def delete_backtest(id: str) -> Call[None]:  # noqa: A002
    """End a backtest where it runs, and forget it."""
    return Call("DELETE", path_of("backtests", id), None)


def checkpoints(*, limit: int = 100, after: str | None = None) -> Call[schemas.CheckpointPage]:
    """Snapshots of the state of the patterns, the newest first."""
    return read(path_of("checkpoints"), schemas.CheckpointPage, limit=limit, after=after)


def take_checkpoint() -> Call[schemas.CheckpointInfo]:
    """Take a snapshot now. For operators."""
    return Call("POST", path_of("checkpoints"), schemas.CheckpointInfo, seconds=0)
