"""Timers of keys: each (key, time, namespace) rings once, in the order of time.

The timers themselves are part of their key's record; here is only who comes next. A timer that was deleted is noticed
when its turn comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from ostinato.state.rocks import Rocks

_SPILL_ABOVE: Final = 65_536
"""Timers in memory, where there is a database for the others: some ten megabytes."""
_REFILL: Final = 8_192
_FOREVER: Final = 2**63 - 1


class Due(NamedTuple):
    """A timer; ordered by time, then key, then namespace, so that no two workers would ring in different orders."""

    time: int
    key: bytes
    namespace: str
    group: int


class TimerQueue:
    """The timers of one time domain (event or processing time), soonest first."""

    def __init__(self, domain: int, rocks: Rocks | None = None) -> None:
        """`rocks`: where those far ahead are kept, when there are many."""
        self._heap: list[Due] = []
        self._rocks = rocks
        self._prefix = b"t" + bytes([domain])
        self._horizon = _FOREVER
        """In memory are all timers up to here, in the database all behind."""
        self._unwritten: list[tuple[bytes, bytes]] = []

    def add(self, timer: Due) -> None:
        if timer.time > self._horizon:
            self._unwritten.append((self._name(timer), b""))
            if len(self._unwritten) >= _REFILL:
                self._flush()
            return
        heapq.heappush(self._heap, timer)
        if self._rocks is not None and len(self._heap) > _SPILL_ABOVE:
            self._spill()

    def peek(self) -> int | None:
        """When the next one is due; None where there is none."""
        if not self._heap and self._horizon != _FOREVER:
            self._refill()
        return self._heap[0].time if self._heap else None

    def pop(self) -> Due:
        """The next one. What was added twice comes twice."""
        if not self._heap and self._horizon != _FOREVER:
            self._refill()
        return heapq.heappop(self._heap)

    def due(self, until: int) -> Iterator[Due]:
        """Those up to a time, also such as are added meanwhile."""
        while (time := self.peek()) is not None and time <= until:
            yield heapq.heappop(self._heap)

    def _spill(self) -> None:
        """Keep the sooner half; equal times stay together."""
        self._heap.sort()
        at = len(self._heap) // 2
        horizon = self._heap[at].time
        keep = at
        while keep < len(self._heap) and self._heap[keep].time == horizon:
            keep += 1
        if keep == len(self._heap):
            return
        self._unwritten += [(self._name(timer), b"") for timer in self._heap[keep:]]
        del self._heap[keep:]
        self._horizon = horizon
        self._flush()

    def _refill(self) -> None:
        assert self._rocks is not None
        self._flush()
        taken: list[bytes] = []
        last = None
        for name, _ in self._rocks.scan(self._prefix):
            timer = self._timer(name)
            if len(taken) >= _REFILL and timer.time != last:
                break
            last = timer.time
            taken.append(name)
            self._heap.append(timer)
        else:
            last = None
        heapq.heapify(self._heap)  # the database does not order equal times as tuples are ordered
        self._horizon = _FOREVER if last is None else last
        self._rocks.write((), taken)

    def _flush(self) -> None:
        assert self._rocks is not None
        self._rocks.write(self._unwritten)
        self._unwritten = []

    def _name(self, timer: Due) -> bytes:
        """In the database: bytes that are ordered as the timers are, save for the ends of keys."""
        time, group = (timer.time + 2**63).to_bytes(8), timer.group.to_bytes(2)
        return b"".join((self._prefix, time, group, len(timer.key).to_bytes(4), timer.key, timer.namespace.encode()))

    def _timer(self, name: bytes) -> Due:
        at = len(self._prefix)
        end = at + 14 + int.from_bytes(name[at + 10 : at + 14])
        time, group = int.from_bytes(name[at : at + 8]) - 2**63, int.from_bytes(name[at + 8 : at + 10])
        return Due(time, name[at + 14 : end], name[end:].decode(), group)
