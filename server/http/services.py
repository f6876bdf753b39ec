"""What the routes call. No HTTP here: services take and give the Structs of `schemas`, and raise `failures`.

Every service is asynchronous and must not block the loop. Changes take the `Caller` (for authors and comments) and,
where there is an ETag, the `Precondition`, which the service checks in the same transaction as it changes.
Lists take `limit` and `after` (the opaque `next` of the page before) and give a page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from ostinato.server.delivery.settings import OutputSettings
from ostinato.server.http.caller import Caller, Precondition
from ostinato.server.http.schemas import jobs, matches, patterns, streams
from ostinato.server.http.schemas import server as server_schemas
from ostinato.server.http.schemas.common import Health


class ServerService(Protocol):
    """The server as a whole."""

    async def health(self) -> Health:
        """Whether the process is well: `status` is ``ok``, or the route answers 503."""
        ...

    async def ready(self) -> Health:
        """Whether it takes events and computes: `status` is ``ok``, or the route answers 503."""
        ...

    async def info(self, caller: Caller) -> server_schemas.ServerInfo: ...

    async def config(self) -> server_schemas.ConfigView: ...

    async def metrics(self) -> tuple[bytes, str]:
        """The metrics in Prometheus' text form, and their content type."""
        ...


class TokenService(Protocol):
    """Tokens and the audit log."""

    async def tokens(self, limit: int, after: str | None) -> server_schemas.TokenPage: ...

    async def create(self, request: server_schemas.TokenRequest, caller: Caller) -> server_schemas.NewToken: ...

    async def delete(self, name: str, caller: Caller) -> None: ...

    async def audit(self, query: server_schemas.AuditQuery) -> server_schemas.AuditPage: ...


class StreamService(Protocol):
    """The declared streams."""

    async def list(self, limit: int, after: str | None) -> streams.StreamPage: ...

    async def get(self, name: str) -> streams.StreamInfo: ...

    async def put(self, name: str, text: str, caller: Caller, condition: Precondition) -> streams.StreamInfo: ...

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> None: ...


class EventService(Protocol):
    """Events that come in by HTTP and WebSocket."""

    async def append(
        self,
        stream: str,
        body: bytes,
        *,
        content_type: Literal["application/json", "application/x-ndjson"],
        encoding: Literal["", "gzip"],
        key: str | None,
        bad: Literal["refuse", "dead-letter"],
        caller: Caller,
    ) -> streams.EventsReceipt:
        """Check the events and make them durable.

        Args:
            stream: its name.
            body: as it came; compressed where `encoding` says so.
            content_type: `application/json` is an array of objects, or one.
            encoding: how the body is compressed.
            key: the idempotency key.
            bad: what is done with events that do not fit.
            caller: whose they are.
        """
        ...


class PatternService(Protocol):
    """Patterns, their versions, and changes of what runs."""

    async def apply(self, text: str, query: patterns.ApplyQuery, caller: Caller) -> patterns.Applied:
        """Apply the text of a file: streams, params and patterns. What it does not name stays as it is."""
        ...

    async def list(self, query: patterns.PatternsQuery) -> patterns.PatternPage: ...

    async def get(self, name: str) -> patterns.PatternInfo: ...

    async def put(
        self, name: str, text: str, query: patterns.ApplyQuery, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def delete(
        self, name: str, query: patterns.DeleteQuery, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def versions(self, name: str, limit: int, after: str | None) -> patterns.VersionPage: ...

    async def version(self, name: str, version: int) -> patterns.VersionInfo: ...

    async def diff(self, name: str, query: patterns.DiffQuery) -> patterns.Diff: ...

    async def rollback(
        self, name: str, request: patterns.RollbackRequest, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def pause(
        self, name: str, request: patterns.PauseRequest, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def resume(
        self, name: str, request: patterns.PauseRequest, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def put_shadow(
        self, name: str, text: str, query: patterns.ApplyQuery, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def delete_shadow(
        self, name: str, query: patterns.DeleteQuery, caller: Caller, condition: Precondition
    ) -> patterns.Applied: ...

    async def why(self, name: str, query: patterns.WhyQuery) -> patterns.Why: ...

    async def graph(self, name: str) -> patterns.Graph: ...

    async def changes(self, limit: int, after: str | None) -> patterns.ChangePage: ...


class ParamService(Protocol):
    """Values of parameters."""

    async def list(self, limit: int, after: str | None) -> patterns.ParamPage: ...

    async def get(self, name: str) -> patterns.ParamInfo: ...

    async def put(
        self, name: str, value: patterns.ParamValue, caller: Caller, condition: Precondition
    ) -> patterns.ParamChanged: ...

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> patterns.ParamChanged:
        """Back to the declared value."""
        ...


class MatchService(Protocol):
    """The match log and those who follow it."""

    async def page(self, query: matches.MatchesQuery) -> matches.MatchPage: ...

    async def dead_letters(self, query: matches.DeadLettersQuery) -> matches.DeadLetterPage: ...

    def follow(
        self, which: matches.MatchFilter, framing: Literal["sse", "json"]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Follow the log from a place on, for as long as the context is open.

        Entering it raises what the caller is to be told before the first byte: no more clients, no such stream. The
        iterator gives whole frames: with ``sse`` (``id: SEQ``, ``event: KIND``, ``data: JSON``, an empty line;
        comments keep quiet connections open), with ``json`` a JSON object each. It ends when the server does.
        """
        ...


class OutputService(Protocol):
    """Outputs: where matches are sent."""

    async def list(self, limit: int, after: str | None) -> matches.OutputPage: ...

    async def get(self, name: str) -> matches.OutputInfo: ...

    async def put(
        self, name: str, settings: OutputSettings, caller: Caller, condition: Precondition
    ) -> matches.OutputInfo: ...

    async def delete(self, name: str, caller: Caller, condition: Precondition) -> None: ...


class JobService(Protocol):
    """Jobs in processes of their own."""

    async def list(self, query: jobs.JobsQuery) -> jobs.JobPage: ...

    async def create(self, request: jobs.JobRequest, caller: Caller) -> jobs.JobInfo: ...

    async def get(self, job: str) -> jobs.JobInfo: ...

    async def cancel(self, job: str, caller: Caller) -> jobs.JobInfo: ...

    async def savepoint(self, job: str, request: jobs.SavepointRequest, caller: Caller) -> jobs.SavepointInfo: ...

    async def stop(self, job: str, request: jobs.StopRequest, caller: Caller) -> jobs.SavepointInfo: ...


class BacktestService(Protocol):
    """Patterns over stored events."""

    async def list(self, limit: int, after: str | None) -> jobs.BacktestPage: ...

    async def create(self, request: jobs.BacktestRequest, caller: Caller) -> jobs.BacktestInfo: ...

    async def get(self, backtest: str) -> jobs.BacktestInfo: ...

    async def delete(self, backtest: str, caller: Caller) -> None:
        """End it if it runs, and forget it."""
        ...


class CheckpointService(Protocol):
    """Snapshots of the live worker."""

    async def list(self, limit: int, after: str | None) -> jobs.CheckpointPage: ...

    async def take(self, caller: Caller) -> jobs.CheckpointInfo: ...


@dataclass(slots=True)
class Services:
    """What the application offers. Routes of a service that is None answer 503."""

    server: ServerService | None = None
    tokens: TokenService | None = None
    streams: StreamService | None = None
    events: EventService | None = None
    patterns: PatternService | None = None
    params: ParamService | None = None
    matches: MatchService | None = None
    outputs: OutputService | None = None
    jobs: JobService | None = None
    backtests: BacktestService | None = None
    checkpoints: CheckpointService | None = None
