"""Event time: which rows are late, which lie too far in the future, and how far time has come.

A row's lateness depends on the rows before it alone, never on how the stream was cut into batches: a row is late
iff its time is at or before the watermark that held just before it. Everything is a function of the times and of
the clock that the caller passes in, so a run over the same input always gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ostinato.cep.batch import MAX_TIME, MIN_TIME, BoolArray, IntArray
from ostinato.patterns.ast import TimeDecl

DEFAULT_IDLE_MS = 10_000
"""A split from which nothing came for this long no longer holds the others up. Long enough for a slow producer's
pause, short enough that a dead partition is noticed only as a hiccup."""

DEFAULT_MAX_AHEAD_MS = 86_400_000
"""One day: no clock that is merely set to a wrong time zone is refused, every garbled timestamp is."""

_TOGETHER_MS = 60_000
"""Events whose time is this close to the clock when they come are taken for events of now."""

_REPAIRS = 8
"""Far-future rows of one batch that are found one vectorised pass each; with more, row by row is cheaper."""


@dataclass(frozen=True, slots=True)
class TimePolicy:
    """How a stream's time runs. Times and spans in milliseconds.

    Attributes:
        mode: ``event``, ``ingestion`` (the clock stamps rows) or ``processing`` (and moves time on without rows).
        delay_ms: how far out of order rows come.
        idle_ms: silence after which a split is idle; 0 means never.
        max_ahead_ms: how far a row may lie ahead; None is `DEFAULT_MAX_AHEAD_MS`, counted from the clock or the
            largest time so far, whichever is later.
        live: rows are produced now, so the clock alone says what is the future.
    """

    mode: str = "event"
    delay_ms: int = 0
    idle_ms: int = DEFAULT_IDLE_MS
    max_ahead_ms: int | None = None
    live: bool = False

    @staticmethod
    def of(time: TimeDecl, *, live: bool = False) -> TimePolicy:
        """The policy that a stream declares."""
        idle_ms = DEFAULT_IDLE_MS if time.idle_ms is None else time.idle_ms
        return TimePolicy(time.mode, time.delay_ms, idle_ms, time.max_ahead_ms, live)


@dataclass(slots=True)
class _Split:
    """One partition of a source: its largest time, when it last gave a row, and whether it counts."""

    max_time: int = MIN_TIME
    active_at: int = 0
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a batch's rows: their times, and masks of those that may not pass (None: all may)."""

    time: IntArray
    late: BoolArray | None = None
    ahead: BoolArray | None = None


class WatermarkGenerator:
    """The time of one stream that comes in splits.

    watermark = (smallest over the splits that are not idle of the largest time seen) - delay - 1: rows with the
    largest time itself may still come.
    """

    def __init__(self, policy: TimePolicy, now: int = 0) -> None:
        """Start with no splits; `now` is the clock in epoch milliseconds."""
        self.policy = policy
        self.watermark = MIN_TIME
        self._behind = policy.delay_ms + 1
        self.now = now
        """The latest the clock has said: a run that goes on from here must not fall behind it."""
        self._splits: dict[int, _Split] = {}

    def add_split(self, split: int, now: int) -> None:
        """Let a split hold time back from now on, before its first row comes."""
        self._splits.setdefault(split, _Split(active_at=now))

    def finish_split(self, split: int) -> None:
        """A split has ended: it holds nothing back any more."""
        done = self._splits.pop(split, None)
        if done is not None and self._splits:
            self._advance()
        elif done is not None:
            self.watermark = max(self.watermark, done.max_time - self._behind)

    def finish(self) -> None:
        """The stream has ended: every timer is due."""
        self.watermark = MAX_TIME

    def admit(self, split: int, time: IntArray, now: int) -> Admission:
        """Judge the rows of a batch, in their order of arrival, and move the watermark past them.

        Args:
            split: where they came from.
            time: epoch milliseconds, int64[rows].
            now: the job's clock, epoch milliseconds.
        """
        self.now = max(self.now, now)
        if self.policy.mode != "event":
            return self._stamp(split, len(time), now)
        state = self._splits.get(split)
        if state is None:
            state = self._splits[split] = _Split()
        state.active_at, state.idle = now, False
        if not len(time):
            return Admission(time)
        ahead = self._find_ahead(state.max_time, time, now)
        passed = time if ahead is None else np.where(ahead, MIN_TIME, time)
        others = min((s.max_time for s in self._splits.values() if s is not state and not s.idle), default=MAX_TIME)
        before = state.max_time
        state.max_time = max(before, int(passed.max()))
        final = max(self.watermark, min(state.max_time, others) - self._behind)
        late = None
        if passed.min() <= final:
            late = self._find_late(passed, before, others)
            if ahead is not None:
                late &= ~ahead
            if not late.any():
                late = None
        self.watermark = final
        return Admission(time, late, ahead)

    def tick(self, now: int) -> None:
        """Let the clock go on: splits become idle, processing time moves."""
        self.now = max(self.now, now)
        if self.policy.mode == "processing":
            # A row of this very millisecond may still come.
            self.watermark = max(self.watermark, now - 1)
        elif self.policy.idle_ms:
            for state in self._splits.values():
                state.idle = state.idle or now - state.active_at >= self.policy.idle_ms
            self._advance()

    @property
    def is_idle(self) -> bool:
        """Has every split been silent for so long that none holds time back?"""
        return all(state.idle for state in self._splits.values())

    def split(self, split: int) -> tuple[int, bool] | None:
        """A split's largest time, and whether it is idle; None where it is not known."""
        state = self._splits.get(split)
        return None if state is None else (state.max_time, state.idle)

    def mark(self, split: int, max_time: int, *, idle: bool, now: int) -> None:
        """Somebody who knows says how far a split has come, and whether it holds time back."""
        state = self._splits.setdefault(split, _Split())
        state.max_time, state.idle, state.active_at = max(state.max_time, max_time), idle, now
        self._advance()

    def lift(self, watermark: int) -> None:
        """Time has come so far elsewhere, and nothing here holds it back."""
        self.watermark = max(self.watermark, watermark)

    def settle(self, now: int) -> None:
        """All splits have been silent for so long that what has come is taken for complete: no event waits any longer
        for another to move time. Where event time and the clock went together, it goes on with the clock from then on,
        so that what is due comes out though nothing comes in.

        Flink moves event time by events alone; this is for streams that have no other end than silence.
        """
        if self.policy.mode != "event" or not self.policy.idle_ms or not self._splits or not self.is_idle:
            return
        last = max(self._splits.values(), key=lambda state: state.max_time)
        if last.max_time == MIN_TIME:
            return
        self.watermark = max(self.watermark, last.max_time)
        if abs(last.active_at - last.max_time) <= _TOGETHER_MS:
            self.watermark = max(self.watermark, now - self.policy.idle_ms - self.policy.delay_ms)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on elsewhere, as JSON values."""
        splits = [[number, s.max_time, s.active_at, s.idle] for number, s in self._splits.items()]
        return {"watermark": self.watermark, "splits": splits, "now": self.now}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.watermark = state["watermark"]
        self.now = max(self.now, state["now"])
        self._splits = {number: _Split(max_time, at, idle) for number, max_time, at, idle in state["splits"]}

    def _stamp(self, split: int, rows: int, now: int) -> Admission:
        """Ingestion and processing time: the clock's time, which never goes back."""
        state = self._splits.setdefault(split, _Split())
        state.active_at, state.idle = now, False
        moment = max(now, self.watermark + 1, max(s.max_time for s in self._splits.values()))
        state.max_time = moment
        self.watermark = max(self.watermark, moment - 1)
        return Admission(np.full(rows, moment, np.int64))

    def _advance(self) -> None:
        awake = [state.max_time for state in self._splits.values() if not state.idle]
        if awake:
            self.watermark = max(self.watermark, min(awake) - self._behind)
        elif self._splits:
            # All are silent: none can hold back what another has already said.
            self.watermark = max(self.watermark, max(s.max_time for s in self._splits.values()) - self._behind)

    def _find_late(self, time: IntArray, before: int, others: int) -> BoolArray:
        """Rows at or before the watermark that held just before each of them."""
        highest = np.empty(len(time), np.int64)
        highest[0] = before
        np.maximum(np.maximum.accumulate(time[:-1]), before, out=highest[1:])
        bound = np.maximum(np.minimum(highest, others) - self._behind, self.watermark)
        late: BoolArray = time <= bound
        return late

    def _find_ahead(self, before: int, time: IntArray, now: int) -> BoolArray | None:
        """Rows that lie too far in the future to be believed, or None."""
        declared = self.policy.max_ahead_ms
        reach = DEFAULT_MAX_AHEAD_MS if declared is None else declared
        if self.policy.live:
            ahead: BoolArray = time > now + reach
            return ahead if ahead.any() else None
        # Recorded events: the clock says nothing of their time, save that they were not made in the future.
        floor = now if declared is None else MIN_TIME
        first = 0
        if before == MIN_TIME:
            # There is nothing to measure the first row by; only what no calendar holds is refused.
            first = int(np.argmax(time < MAX_TIME // 2))
            if time[first] >= MAX_TIME // 2:
                return np.ones(len(time), np.bool_)
            before = int(time[first])
        if first == 0 and time.max() <= max(before, floor) + reach:
            return None
        ahead = _beyond(np.maximum(time, MIN_TIME), max(before, floor), reach, first)
        ahead[:first] = True
        return ahead if ahead.any() else None


def _beyond(time: IntArray, before: int, reach: int, first: int) -> BoolArray:
    """Rows from `first` on more than `reach` above the largest accepted time before them.

    A refused row does not raise that largest time, so each one found changes what is said of the rows after it.
    """
    ahead = np.zeros(len(time), np.bool_)
    at = first
    for _ in range(_REPAIRS):
        rest = time[at:]
        highest = np.empty(len(rest), np.int64)
        highest[:1] = before
        np.maximum(np.maximum.accumulate(rest[:-1]), before, out=highest[1:])
        beyond = rest > highest + reach
        hit = int(np.argmax(beyond)) if len(beyond) else 0
        if not len(beyond) or not beyond[hit]:
            return ahead
        ahead[at + hit] = True
        before = int(highest[hit])
        at += hit + 1
    for row, value in enumerate(time[at:].tolist(), at):
        if value > before + reach:
            ahead[row] = True
        elif value > before:
            before = value
    return ahead
