"""How long it takes from an event that is durable to the match that it completes."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Latency:
    """Counts in buckets, as Prometheus has them."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, count: int, seconds: float) -> None:
        """So many matches took so long."""
        self._counts[bisect_left(BOUNDS_SECONDS, seconds)] += count
        self._sum += count * seconds

    def buckets(self) -> dict[str, object]:
        """`bounds` in seconds, `counts` for each and one for what took longer, and the `sum` of all."""
        return {"bounds": list(BOUNDS_SECONDS), "counts": list(self._counts), "sum": self._sum}
