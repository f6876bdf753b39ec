"""What the time of a job goes into: per operator how long it was busy, idle, and backpressured.

All operators of a process take turns in one thread, so a second of it is spent in exactly one of them, in waiting for
input, or in handing output on. For each operator

- *busy* is the time in its own code: for ``NAME.in`` decoding and admitting events, for ``<sources>`` reading (as far
  as that takes a processor: waiting for a disk or a pipe is not work), for ``<exchange>`` handing rows over to other
  workers and to the job's own process, for ``<output>`` writing, blocked or not;
- *backpressured* is the time in which it could not go on because of what comes after it: while ``<output>`` was
  writing; for the ``<sources>`` of a parallel job, also while as many entries were under way as may be;
- *idle* is the rest: nothing was there for it to do, or another operator's turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

SOURCES = "<sources>"
"""No stream has such a name."""
OUTPUT = "<output>"
EXCHANGE = "<exchange>"
PARTITIONS = "<partitions>"
"""All of a worker between topics, whose partitions take turns."""


@dataclass(frozen=True, slots=True)
class OperatorTimes:
    """Seconds, of all workers together."""

    busy: float
    idle: float
    backpressured: float

    @property
    def total(self) -> float:
        return self.busy + self.idle + self.backpressured

    def fractions(self) -> tuple[float, float, float]:
        """Busy, idle and backpressured as parts of 1."""
        whole = self.total or 1.0
        return self.busy / whole, self.idle / whole, self.backpressured / whole

    def __add__(self, other: OperatorTimes) -> OperatorTimes:
        return OperatorTimes(self.busy + other.busy, self.idle + other.idle, self.backpressured + other.backpressured)


class Meter:
    """Adds up spans of time. Written by one thread, read by any, also within a span."""

    __slots__ = ("_began", "_spent")

    def __init__(self) -> None:
        self._spent = 0.0
        self._began: float | None = None

    def start(self) -> None:
        self._began = time.monotonic()

    def stop(self) -> None:
        if self._began is not None:
            self._spent += time.monotonic() - self._began
            self._began = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around what is measured."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def add(self, seconds: float) -> None:
        self._spent += seconds

    @property
    def seconds(self) -> float:
        began = self._began
        return self._spent if began is None else self._spent + time.monotonic() - began


class HeldMeter(Meter):
    """Adds up spans in which a thread was held back, and how much of them another meter was running."""

    __slots__ = ("_because", "_overlap", "_seen")

    def __init__(self, because: Meter) -> None:
        super().__init__()
        self._because = because
        self._overlap = 0.0
        self._seen: float | None = None

    def start(self) -> None:
        self._seen = self._because.seconds
        super().start()

    def stop(self) -> None:
        super().stop()
        if self._seen is not None:
            self._overlap += self._because.seconds - self._seen
            self._seen = None

    @property
    def overlap(self) -> float:
        seen = self._seen
        return self._overlap if seen is None else self._overlap + self._because.seconds - seen


class Occupation(NamedTuple):
    """What the time went into: of each operator, workers added up, and of the operators of each worker by its number,
    empty where the job runs in one process."""

    operators: Mapping[str, OperatorTimes] = MappingProxyType({})
    workers: Sequence[Mapping[str, OperatorTimes]] = ()


def unknown() -> Occupation:
    """Before a job runs."""
    return Occupation()


def times_of(seconds: float, busy: Mapping[str, float], held_up: Mapping[str, float]) -> dict[str, OperatorTimes]:
    """The times of a process's operators.

    Args:
        seconds: how long the process has run.
        busy: of each operator, seconds in its own code.
        held_up: of each operator, seconds in which what comes after it did not let it go on; 0 where it is not named.
    """
    times = {}
    for name, own in busy.items():
        # The clocks of the parts are not read at the same moments; no part may be negative for that.
        own = min(own, seconds)
        backpressured = min(held_up.get(name, 0.0), seconds - own)
        times[name] = OperatorTimes(own, seconds - own - backpressured, backpressured)
    return times


def together(workers: Iterable[Mapping[str, OperatorTimes]]) -> dict[str, OperatorTimes]:
    """The same operators of several workers, added up."""
    added: dict[str, OperatorTimes] = {}
    for worker in workers:
        for name, times in worker.items():
            added[name] = added[name] + times if name in added else times
    return added
