"""Jobs, backtests and checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ostinato.server.http.schemas.common import Name, PageQuery

JobState = Literal["CREATED", "RUNNING", "RESTARTING", "FINISHED", "STOPPED", "CANCELED", "FAILED"]
"""Flink's states of a job, as far as we have them."""


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job: either the text of a program, or the path of an `app.py` within `modules.paths`."""

    name: Name
    text: str | None = None
    module: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    params: dict[str, str] = {}
    parallelism: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    restart: str | None = None
    checkpoint_interval: str | None = None
    savepoint: str | None = None


class JobInfo(msgspec.Struct, frozen=True):
    """A job of the server. `restart` is its policy as text; `error` is why it failed or is being restarted.

    `folder` is where it lives on the server's machine; `log`, where one job is asked for, is the end of what it wrote.
    """

    id: str
    name: str
    state: JobState
    parallelism: int
    created_ms: int
    created_by: str
    started_ms: int | None = None
    ended_ms: int | None = None
    text: str | None = None
    module: str | None = None
    params: dict[str, str] = {}
    restart: str | None = None
    restarts: int = 0
    events: int = 0
    matches: int = 0
    events_per_second: int = 0
    last_checkpoint_ms: int | None = None
    error: str | None = None
    exit_code: int | None = None
    operators: dict[str, dict[str, float]] = {}
    folder: str = ""
    log: list[str] = []


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, the newest first."""

    items: list[JobInfo]
    next: str | None


class JobsQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which jobs."""

    state: JobState | None = None


class SavepointRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A savepoint to take: its name, or one is found."""

    name: Name | None = None


class StopRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job to stop with a savepoint; `drain` lets all timers fire and all windows end before."""

    savepoint: Name | None = None
    drain: bool = False


class SavepointInfo(msgspec.Struct, frozen=True):
    """A savepoint that was taken."""

    name: str
    path: str
    bytes: int
    duration_ms: int
    at_ms: int


class BacktestSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the past comes from: the server's own log, files of `files.read`, or topics."""

    kind: Literal["journal", "files", "kafka"] = "journal"
    paths: dict[str, str] = {}
    bootstrap_servers: str | None = None


class BacktestRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_ms": "from", "to_ms": "to"}
):
    """Patterns over stored events. `from` and `to` are times (epoch ms); `compare`: with the live version's."""

    text: Annotated[str, msgspec.Meta(min_length=1)]
    from_ms: int | None = None
    to_ms: int | None = None
    source: BacktestSource = BacktestSource()
    params: dict[str, str] = {}
    compare: bool = True
    bucket_ms: Annotated[int, msgspec.Meta(ge=1)] | None = None


class BacktestBucket(msgspec.Struct, frozen=True):
    """Matches of a pattern in a span of event time."""

    at_ms: int
    matches: int
    live: int | None = None


class BacktestPattern(msgspec.Struct, frozen=True):
    """What one pattern found. `live`: matches of the version that counts, over the same events.

    `common`, `only_here`, `only_live`: rows (matches and timeouts, by value and time) that both have, or one of them;
    null where nothing was compared. Examples of both follow: ``{"kind", "time", "row"}``.
    """

    pattern: str
    matches: int
    timeouts: int
    buckets: list[BacktestBucket]
    live: int | None = None
    common: int | None = None
    only_here: int | None = None
    only_live: int | None = None
    examples_here: list[Any] = []
    examples_live: list[Any] = []


class BacktestInfo(msgspec.Struct, frozen=True):
    """A backtest. `progress` goes from 0 to 1, `bucket_ms` is the width of the buckets, `notes` is what to know."""

    id: str
    state: Literal["QUEUED", "RUNNING", "FINISHED", "CANCELED", "FAILED"]
    created_ms: int
    created_by: str
    request: BacktestRequest
    progress: float
    events: int
    events_per_second: int
    started_ms: int | None = None
    ended_ms: int | None = None
    patterns: list[BacktestPattern] = []
    error: str | None = None
    bucket_ms: int | None = None
    late: int = 0
    bad: int = 0
    notes: list[str] = []


class BacktestPage(msgspec.Struct, frozen=True):
    """Backtests, the newest first."""

    items: list[BacktestInfo]
    next: str | None


class CheckpointInfo(msgspec.Struct, frozen=True):
    """A snapshot of the state of the patterns that run."""

    id: int
    at_ms: int
    position: int
    generation: int
    match_seq: int
    bytes: int
    duration_ms: int


class CheckpointPage(msgspec.Struct, frozen=True):
    """Snapshots, the newest first."""

    items: list[CheckpointInfo]
    next: str | None
