"""What two runs over the same events find, compared as multisets of rows while they run.

Both run side by side, so a row that both have is soon seen twice and forgotten: what is held grows with the difference,
not with the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import orjson

from ostinato.server.backtest.timeline import Timeline
from ostinato.server.http.schemas.jobs import BacktestBucket, BacktestPattern
from ostinato.server.matches import Rows

EXAMPLES: Final = 10
_CANDIDATES: Final = 200
"""Rows that are held as examples: some of them may turn up on the other side later."""
MOST_DIFFERENT: Final = 1_000_000
"""So many rows that only one side has are held, as digests of 16 bytes: about 200 MB. Beyond, nothing is compared."""
_PENDING_ROWS: Final = 20_000
_EXAMPLE_BYTES: Final = 8 << 10


@dataclass(slots=True)
class _Row:
    kind: str
    time: int
    value: bytes


@dataclass(slots=True)
class _Pattern:
    """One pattern's numbers; index 0 is here, 1 is live. `balance`: digest -> rows here that live has not, or -."""

    matches: list[int] = field(default_factory=lambda: [0, 0])
    timeouts: list[int] = field(default_factory=lambda: [0, 0])
    pending: tuple[list[tuple[bytes, _Row]], list[tuple[bytes, _Row]]] = field(default_factory=lambda: ([], []))
    balance: dict[bytes, int] = field(default_factory=dict)
    examples: tuple[dict[bytes, _Row], dict[bytes, _Row]] = field(default_factory=lambda: ({}, {}))


class Tally:
    """Takes the rows of both sides."""

    def __init__(
        self, patterns: tuple[str, ...], live: frozenset[str], timeline: Timeline, most: int = MOST_DIFFERENT
    ) -> None:
        """`patterns`: those under test; `live`: of them, those that the other side has."""
        self.late = 0
        self.bad = 0
        self.notes: list[str] = []
        self.sides = (Side(self, 0), Side(self, 1))
        self._live = live
        self._timeline = timeline
        self._most = most
        self._patterns = {name: _Pattern() for name in patterns}
        self._pending = 0
        self._is_full = False

    @property
    def bucket_ms(self) -> int:
        """How wide buckets are."""
        return self._timeline.bucket_ms

    def take(self, side: int, rows: Rows) -> None:
        """Rows of a side."""
        if not rows.patterns:
            if side == 0 and rows.kind == "late":
                self.late += len(rows.values)
            elif side == 0:
                self.bad += len(rows.values)
            return
        for number, (name, _) in enumerate(rows.patterns):
            found = self._patterns.get(name)
            if found is None:
                continue
            (chosen,) = np.nonzero(rows.pattern_of == number)
            if rows.kind == "match":
                found.matches[side] += len(chosen)
                self._timeline.count((name, side), rows.times[chosen])
            else:
                found.timeouts[side] += len(chosen)
            if name in self._live and not self._is_full:
                self._hold(found, side, rows, chosen.tolist())
        if self._pending > _PENDING_ROWS:
            self.settle()

    def _hold(self, found: _Pattern, side: int, rows: Rows, chosen: list[int]) -> None:
        pending, kind = found.pending[side], rows.kind
        times = rows.times
        for row in chosen:
            time, value = int(times[row]), rows.values[row]
            digest = blake2b(value, digest_size=16, salt=time.to_bytes(8, "little", signed=True), person=kind.encode())
            pending.append((digest.digest(), _Row(kind, time, value)))
        self._pending += len(chosen)

    def settle(self) -> None:
        """Both sides have come equally far: what is on both is no difference."""
        if not self._pending:
            return
        self._pending = 0
        for name in self._live:
            self._settle(self._patterns[name])
        if sum(len(each.balance) for each in self._patterns.values()) > self._most:
            self._is_full = True
            self.notes.append(
                f"more than {self._most} rows are on one side only: which, was not looked at any further; compare a "
                "shorter time"
            )
            for each in self._patterns.values():
                each.balance.clear()
                each.examples[0].clear()
                each.examples[1].clear()

    def _settle(self, found: _Pattern) -> None:
        balance, fresh = found.balance, dict[bytes, _Row]()
        for pending, step in zip(found.pending, (1, -1), strict=True):
            for digest, row in pending:
                left = balance.get(digest, 0) + step
                if left:
                    balance[digest] = left
                else:
                    del balance[digest]
                fresh.setdefault(digest, row)
            pending.clear()
        for digest, row in fresh.items():
            left = balance.get(digest, 0)
            for examples, is_there in zip(found.examples, (left > 0, left < 0), strict=True):
                if not is_there:
                    examples.pop(digest, None)
                elif len(examples) < _CANDIDATES:
                    examples.setdefault(digest, row)

    def finish(self) -> list[BacktestPattern]:
        """What has come of it, by pattern."""
        self.settle()
        self._timeline.finish()
        if self._timeline.is_coarser:
            self.notes.append(f"there were too many buckets: each is {self._timeline.bucket_ms} ms wide")
        return [self._summed(name, found) for name, found in self._patterns.items()]

    def _summed(self, name: str, found: _Pattern) -> BacktestPattern:
        is_live = name in self._live
        here, there = self._timeline.of((name, 0)), self._timeline.of((name, 1))
        buckets = [
            BacktestBucket(at, here.get(at, 0), there.get(at, 0) if is_live else None)
            for at in sorted(here.keys() | there.keys())
        ]
        compared: dict[str, Any] = {}
        if is_live and not self._is_full:
            only_here = sum(left for left in found.balance.values() if left > 0)
            only_live = -sum(left for left in found.balance.values() if left < 0)
            compared = {
                "common": found.matches[0] + found.timeouts[0] - only_here,
                "only_here": only_here,
                "only_live": only_live,
                "examples_here": _shown(found.examples[0]),
                "examples_live": _shown(found.examples[1]),
            }
        return BacktestPattern(
            name,
            found.matches[0],
            found.timeouts[0],
            buckets,
            live=found.matches[1] if is_live else None,
            **compared,
        )


class Side:
    """A side's log of rows; see `RowLog`."""

    def __init__(self, tally: Tally, number: int) -> None:
        self._tally = tally
        self._number = number

    @property
    def next_seq(self) -> int:
        """No row is there yet, whatever its number."""
        return 0

    def append(self, rows: Rows) -> int:
        self._tally.take(self._number, rows)
        return 0


def _shown(examples: dict[bytes, _Row]) -> list[dict[str, Any]]:
    shown = []
    for row in sorted(examples.values(), key=lambda row: row.time)[:EXAMPLES]:
        value: Any = orjson.loads(row.value) if len(row.value) <= _EXAMPLE_BYTES else {"bytes": len(row.value)}
        shown.append({"kind": row.kind, "time": row.time, "row": value})
    return shown
