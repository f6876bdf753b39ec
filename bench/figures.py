"""What is made of single measurements: medians with what they lie between, ratios of one turn, percentiles, rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median of several, with the smallest and the largest."""

    median: float
    least: float
    most: float

    def said(self, form: str = ",.0f") -> str:
        """
        >>> Spread(2.0, 1.0, 3.5).said(".1f")
        '2.0 (1.0..3.5)'
        """
        if self.least == self.most:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.least:{form}}..{self.most:{form}})"


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True)
class Taken:
    """One run of one process over a topic.

    Attributes:
        events: between the first look at which there were any and the last; `seconds` and `cpu_seconds` are between
            these two.
        whole_events: all of them; `whole_seconds` are from the start of the process on.
        matches: that were found; None: none are looked for.
    """

    events: int
    seconds: float
    cpu_seconds: float
    whole_events: int
    whole_seconds: float
    matches: int | None = None

    @property
    def rates(self) -> tuple[float, float, float]:
        """Events/s, events per CPU second, events/s with start-up."""
        return self.events / self.seconds, self.events / self.cpu_seconds, self.whole_events / self.whole_seconds


@dataclass(frozen=True)
class Row:
    """One way to read a topic.

    Attributes:
        way: which.
        events: that it has read.
        rate: events/s from the first commit, or the first records, on.
        cpu_rate: events per CPU second of the process, likewise.
        whole_rate: events/s with start-up.
        ratio, cpu_ratio: `rate` and `cpu_rate` by those of the basis in the same turn.
        matches: see `Taken`.
    """

    way: str
    events: int
    rate: Spread
    cpu_rate: Spread
    whole_rate: Spread
    ratio: Spread
    cpu_ratio: Spread
    matches: int | None


def rows_of(taken: Mapping[str, Sequence[Taken]], basis: str) -> list[Row]:
    """What several turns have given, by way. A ratio is of two runs of one turn, which had the machine in common.

    Raises ValueError where one way has found other matches than another.
    """
    found = []
    bases = [each.rates for each in taken[basis]]
    for way, runs in taken.items():
        own = [each.rates for each in runs]
        rate, cpu_rate, whole_rate = (spread(column) for column in zip(*own, strict=True))
        ratio, cpu_ratio = (
            spread([mine[which] / theirs[which] for mine, theirs in zip(own, bases, strict=True)]) for which in (0, 1)
        )
        found.append(Row(way, runs[-1].whole_events, rate, cpu_rate, whole_rate, ratio, cpu_ratio, runs[-1].matches))
    counts = {each.matches for runs in taken.values() for each in runs if each.matches is not None}
    if len(counts) > 1:
        raise ValueError(f"matches differ between runs over the same records: {sorted(counts)}")
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that so large a part of all is not above. `values` in order, `part` in (0, 1].

    >>> percentile([1, 2, 3, 4], 0.5)
    2
    """
    return values[max(0, ceil(part * len(values)) - 1)]


@dataclass(frozen=True)
class Delays:
    """Milliseconds; `count`: how many."""

    count: int
    p50: float
    p90: float
    p99: float
    most: float


def delays_of(values: Sequence[float]) -> Delays:
    """Raises ValueError where there are none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    p50, p90, p99 = (percentile(ordered, part) for part in (0.5, 0.9, 0.99))
    return Delays(len(ordered), p50, p90, p99, ordered[-1])


def due(per_second: float, elapsed: float, sent: int) -> int:
    """How many events have to be sent now, so that `per_second` have been after `elapsed` seconds.

    >>> due(10_000, 0.002, 15)
    5
    """
    return max(0, int(per_second * elapsed) - sent)
