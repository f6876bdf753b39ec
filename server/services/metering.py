"""What all parts of the server count, put together for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from ostinato.server import metrics
from ostinato.server.failures import ServiceError
from ostinato.server.measuring import journal_numbers, live_numbers, match_numbers, output_numbers

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
        with contextlib.suppress(ServiceError):
            # what it counts is missing where it does not answer; that it does not is in readyz
            jobs = (await self._live(core, now_ms), *jobs)
        first, last = await core.match_range()
        return metrics.Snapshot(
            now_ms=now_ms,
            uptime_seconds=time.monotonic() - self._began,
            release=version("ostinato"),
            jobs=jobs,
            journal=journal_numbers(core.journal.status(), core.live.position),
            matches=match_numbers(first, last, core.hub.counts),
            outputs=output_numbers(core.deliveries.statuses()),
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

    async def _live(self, core: Core, now_ms: int) -> metrics.JobNumbers:
        """The patterns that were deployed to the server. Raises ServiceError where their worker does not answer."""
        status = await core.live.ask("status", seconds=_STATUS_SECONDS)
        members = core.changes.body.generation.members
        lag = {
            (stream, lane): held["lag"]
            for stream in status["streams"]
            for lane, held in core.feeding.lanes(stream).items()
            if held["lag"] is not None
        }
        versions = {member.name: (member.pattern, member.version) for member in members}
        return live_numbers(status, versions, now_ms, restarts=core.live.restarts, lag=lag)
