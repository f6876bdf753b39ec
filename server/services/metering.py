"""What all parts of the server count, put together for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ostinato.server import metrics
from ostinato.server.failures import ServiceError
from ostinato.server.live.generation import Member

if TYPE_CHECKING:
    from ostinato.server.http.routing import Route
    from ostinato.server.services.core import Core

_BOUNDS_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_STATUS_SECONDS: Final = 2.0
_LAG_SECONDS: Final = 0.5
"""So often it is looked how late the event loop is."""


@dataclass(slots=True)
class _Answers:
    """Of one route."""

    codes: dict[int, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS_SECONDS) + 1))
    sum: float = 0.0


class Metering:
    """Counts what only the event loop sees, and asks the others."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._templates = {route.name: f"{route.method} {route.path}" for route in routes}
        self._answers: defaultdict[str, _Answers] = defaultdict(_Answers)
        self._began = time.monotonic()
        self._lag = 0.0
        self._metrics = metrics.Metrics()

    def observe(self, route: str, status: int, seconds: float) -> None:
        """An answer was given; see `ostinato.server.http.app.Observe`."""
        held = self._answers[route]
        held.codes[status] = held.codes.get(status, 0) + 1
        held.counts[bisect_left(_BOUNDS_SECONDS, seconds)] += 1
        held.sum += seconds

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self._lag = max(0.0, loop.time() - due)

    async def render(self, core: Core, jobs: tuple[metrics.JobNumbers, ...] = ()) -> tuple[bytes, str]:
        """The metrics as text, and its content type."""
        return self._metrics.render(await self._snapshot(core, jobs))

    async def _snapshot(self, core: Core, jobs: tuple[metrics.JobNumbers, ...]) -> metrics.Snapshot:
        now_ms = time.time_ns() // 1_000_000
        status: Mapping[str, Any] = {}
        with contextlib.suppress(ServiceError):
            # what it counts is missing where it does not answer; that it does not is in `restarts` and in readyz
            status = await core.live.ask("status", seconds=_STATUS_SECONDS)
        journal, hub = core.journal.status(), core.hub.counts
        first, last = await core.match_range()
        return metrics.Snapshot(
            now_ms=now_ms,
            uptime_seconds=time.monotonic() - self._began,
            release=version("ostinato"),
            jobs=(_live(core, status, now_ms), *jobs),
            journal=metrics.JournalNumbers(
                position=journal.durable,
                seen=core.live.position,
                bytes=journal.bytes,
                appends=journal.appends,
                duplicates=journal.duplicates,
                syncs=journal.groups,
                sync_seconds=journal.sync_seconds,
                refused_busy=journal.refused_busy,
                refused_full=journal.refused_full,
            ),
            matches=metrics.MatchNumbers(
                first_seq=first,
                last_seq=last,
                followers=hub.followers,
                behind=hub.behind,
                sent=hub.sent,
                lost=hub.lost,
            ),
            outputs=tuple(
                metrics.OutputNumbers(
                    output=name,
                    is_up=held.state in ("running", "paused"),
                    lag=held.lag,
                    delivered=held.delivered,
                    retries=held.retries,
                    dead_letters=held.dead_letters,
                    lost=held.lost,
                )
                for name, held in core.deliveries.statuses().items()
            ),
            routes=tuple(
                metrics.RouteNumbers(
                    route=self._templates.get(name, "none"),
                    codes=dict(held.codes),
                    seconds=metrics.Buckets(_BOUNDS_SECONDS, tuple(held.counts), held.sum),
                )
                for name, held in self._answers.items()
            ),
            loop_lag_seconds=self._lag,
        )


def _live(core: Core, status: Mapping[str, Any], now_ms: int) -> metrics.JobNumbers:
    """The patterns that were deployed to the server."""
    members = {member.name: member for member in core.changes.body.generation.members}
    snapshot = status.get("snapshot") or {}
    latency = status.get("latency")
    busy = status.get("busy_seconds", {})
    return metrics.JobNumbers(
        patterns=_patterns(members, status.get("patterns", {})),
        streams=tuple(
            metrics.StreamNumbers(
                stream=name,
                events=held["rows"],
                late=held["late"],
                dead_letters=held["dead_letters"],
                buffered=held["waiting"],
            )
            for name, held in status.get("streams", {}).items()
        ),
        splits=tuple(
            metrics.SplitNumbers(
                stream=name,
                partition=lane,
                watermark_lag_seconds=None if at["max_time"] is None else (now_ms - at["max_time"]) / 1000,
                consumer_lag=core.feeding.lanes(name).get(lane, {}).get("lag"),
            )
            for name, held in status.get("streams", {}).items()
            for lane, at in held["lanes"].items()
        ),
        partitions=(
            metrics.PartitionNumbers(
                partition="0",
                busy_seconds=sum(busy.values()),
                idle_seconds=status.get("idle_seconds"),
                backpressured_seconds=busy.get("<output>", 0.0),
            ),
        )
        if status
        else (),
        checkpoints=metrics.CheckpointNumbers(
            completed=status.get("snapshots", 0),
            failed=status.get("failed_snapshots", 0),
            seconds=snapshot.get("seconds"),
            bytes=snapshot.get("bytes"),
            at_ms=snapshot.get("at_ms"),
        ),
        latency=None
        if latency is None
        else metrics.Buckets(tuple(latency["bounds"]), tuple(latency["counts"]), latency["sum"]),
        state_bytes=status.get("state_bytes"),
        restarts=core.live.restarts,
        recovery_seconds=status.get("recovery_seconds"),
        uptime_seconds=status.get("uptime_seconds"),
    )


def _patterns(
    members: Mapping[str, Member], counted: Mapping[str, Mapping[str, int]]
) -> tuple[metrics.PatternNumbers, ...]:
    """By version: what drains counts with the version that it is."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for name, numbers in counted.items():
        member = members.get(name)
        if member is None:
            continue
        own = found.setdefault((member.pattern, member.version), {})
        for what, value in numbers.items():
            own[what] = own.get(what, 0) + value
    return tuple(
        metrics.PatternNumbers(
            pattern=pattern,
            version=number,
            matches=own.get("matches", 0),
            timeouts=own.get("timeouts", 0),
            partial_matches=own.get("partial_matches", 0),
            dropped=own.get("dropped", 0),
        )
        for (pattern, number), own in found.items()
    )
