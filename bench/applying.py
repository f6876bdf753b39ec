"""How long a change takes while events flow: from `apply` until it has its effect, and until the first match of the new
version is with whoever follows the matches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Delays, delays_of
from flowing import STREAM, Feeder, follow, pattern
from inputs import note
from measure import BenchError, load
from served import server

RATE = 10_000
CHANGES = {False: 20, True: 5}
OTHERS = (1, 100)
WARM_SECONDS = 5.0
_BETWEEN_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Applied:
    """With so many other patterns.

    Attributes:
        others, changes: how many.
        events_per_s: that flowed meanwhile.
        effect: milliseconds from the request until its answer, which says that the change has its effect.
        first_match: from the request until a match of the new version was here.
        between: from any match of the pattern to the next one, around the changes: for so long it stood still at most.
        load: at the end.
    """

    others: int
    changes: int
    events_per_s: float
    effect: Delays
    first_match: Delays
    between: Delays
    load: float


async def applying(
    folder: Path, *, quick: bool, others: Sequence[int] = OTHERS, changes: int | None = None, rate: float = RATE
) -> list[Applied]:
    return [await _with(folder, count, changes or CHANGES[quick], rate) for count in others]


async def _with(folder: Path, others: int, changes: int, rate: float) -> Applied:
    note(f"changes with {others} other patterns ...")
    first_of: dict[int, float] = {}
    """Version -> when its first match was here."""
    gaps: list[float] = []
    last = 0.0

    def seen(match: dict[str, Any], _: int) -> None:
        nonlocal last
        if match["pattern"] == "changing":
            now = time.perf_counter()
            first_of.setdefault(match["version"], now)
            gaps.append((now - last) * 1000)
            last = now

    with server(folder) as served:
        # the others find nothing of what flows, but look at all of it
        beside = "".join(pattern(f"other_{number}", 1 << 60) for number in range(others))
        await served.apply(STREAM + pattern("changing") + beside)
        follower = await follow(served.target, seen)
        feeder = Feeder(served.target, rate)
        feeding = asyncio.create_task(feeder.run())
        effects: list[float] = []
        firsts: list[float] = []
        slowest: list[float] = []
        try:
            await asyncio.sleep(WARM_SECONDS)
            for change in range(1, changes + 1):
                gaps.clear()
                began = time.perf_counter()
                await served.apply(pattern("changing", change))
                effects.append((time.perf_counter() - began) * 1000)
                firsts.append((await _first(first_of, change + 1) - began) * 1000)
                await asyncio.sleep(_BETWEEN_SECONDS)
                slowest.append(max(gaps))
        finally:
            feeder.stop()
            await feeding
        follower.close()
    return Applied(
        others,
        changes,
        feeder.sent / feeder.seconds,
        delays_of(effects),
        delays_of(firsts),
        delays_of(slowest),
        load(),
    )


async def _first(first_of: dict[int, float], version: int) -> float:
    until = time.perf_counter() + _PATIENCE_SECONDS
    while version not in first_of:
        if time.perf_counter() > until:
            raise BenchError(f"version {version} has found nothing in {_PATIENCE_SECONDS:g} s")
        await asyncio.sleep(0.001)
    return first_of[version]
