"""How soon a match is with whoever follows the matches, from the time at which the event was made that completes it."""

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

RATES = (1_000, 10_000)
SECONDS = {False: 20.0, True: 5.0}
WARM_SECONDS = 5.0
_AFTER_SECONDS = 1.0
"""For the last matches to arrive."""


@dataclass(frozen=True)
class Arrival:
    """At one rate.

    Attributes:
        events_per_s: that were sent.
        stored: milliseconds from the event to its record in the journal.
        delays: from the event to its match on the connection.
        cpu_part: CPU seconds of the server's processes by seconds.
        behind: events that the feeder was late with.
        load: at the end.
    """

    events_per_s: float
    stored: Delays
    delays: Delays
    cpu_part: float
    behind: int
    load: float


async def arriving(
    folder: Path, *, quick: bool, rates: Sequence[int] = RATES, seconds: float | None = None
) -> list[Arrival]:
    found = []
    with server(folder) as served:
        await served.apply(STREAM + pattern("found_at_once"))
        for rate in rates:
            note(f"matches at {rate:,} events/s ...")
            long = seconds or SECONDS[quick]
            ages: list[tuple[int, float, float]] = []

            def seen(match: dict[str, Any], now: int, ages: list[tuple[int, float, float]] = ages) -> None:
                sent = match["row"]["sent"]
                ages.append((sent, match["at"] - sent / 1000, (now - sent) / 1000))

            follower = await follow(served.target, seen)
            feeder = Feeder(served.target, rate)
            feeding = asyncio.create_task(feeder.run())
            try:
                await asyncio.sleep(min(WARM_SECONDS, long))
                began, cpu_s = time.time(), served.cpu_seconds()
                feeder.behind = 0
                await asyncio.sleep(long)
                ended, cpu_s = time.time(), served.cpu_seconds() - cpu_s
            finally:
                feeder.stop()
                await feeding
            await asyncio.sleep(_AFTER_SECONDS)
            follower.close()
            own = [age for age in ages if began <= age[0] / 1e6 < ended]
            if not own:
                raise BenchError(f"no match came\n{served.said.read_text()}")
            found.append(
                Arrival(
                    feeder.sent / feeder.seconds,
                    delays_of([max(0.0, age[1]) for age in own]),
                    delays_of([age[2] for age in own]),
                    cpu_s / (ended - began),
                    feeder.behind,
                    load(),
                )
            )
    return found
