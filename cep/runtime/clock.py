"""The clock of a job: the wall clock as it was when this process began, and the time that has gone by since.

Whoever sets the machine's clock, or a leap second, changes nothing in a job that runs: no timer fires early, none
waits for an hour, and time never goes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class AnchoredClock:
    """Epoch milliseconds. The wall is looked at once; from then on CLOCK_MONOTONIC counts."""

    def __init__(
        self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`wall` and `monotonic` give nanoseconds."""
        self._monotonic = monotonic
        self._anchor = wall() - monotonic()

    def __call__(self) -> int:
        return (self._anchor + self._monotonic()) // 1_000_000


class SteadyClock:
    """Another clock, made to go on from a moment that has been reached before.

    After a restart the machine's clock may stand before the snapshot's time. Then time goes on from the snapshot, at
    its usual pace, for as long as the job lives.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._ahead = 0
        self._latest = clock()

    def __call__(self) -> int:
        self._latest = max(self._latest, self._clock() + self._ahead)
        return self._latest

    def not_before(self, moment: int) -> None:
        """Let time be at `moment` now, in epoch ms, where it is not past that already."""
        self._ahead += max(0, moment - self())


wall_clock = AnchoredClock()
"""What a job takes for the time unless told otherwise; one for the process, whose workers are told the time."""
