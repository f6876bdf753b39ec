"""The match operator: patterns over one keyed stream, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, IntArray, Vector
from ostinato.cep.nfa.compile import (
    compile_patterns,
    is_linear,
)
from ostinato.cep.nfa.counting import LinearCounter
from ostinato.cep.nfa.output import Output
from ostinato.cep.nfa.snapshot import restore_groups, snapshot_groups
from ostinato.patterns.typecheck import CheckedPattern

KEYS_BEFORE_SWEEP = 1 << 16
"""Keys that must have been seen before those without state are forgotten."""


class MatchError(Exception):
    """Matching cannot go on: a cap was exceeded, or a skip strategy has nothing to skip to."""


@dataclass(frozen=True, slots=True)
class PatternStats:
    """What a pattern has done so far, and the partial matches it has now."""

    matches: int
    timeouts: int
    partial_matches: int
    dropped: int


@dataclass(slots=True)
class _Pending:
    """Events that wait for the watermark, in order of arrival."""

    time: IntArray
    key: IntArray
    bits: IntArray
    cells: IntArray
    null: np.ndarray[Any, np.dtype[np.uint8]]
    columns: Mapping[str, Vector]

    def __len__(self) -> int:
        return len(self.time)


class MatchOperator:
    """Runs patterns that read one stream with one key.

    Events may come in any order of time; `advance` releases those at or before the watermark by time and arrival,
    matches them, and gives what came out. Equal input gives equal output, however it is cut into batches.
    """

    def __init__(
        self,
        patterns: Sequence[CheckedPattern],
        *,
        key_groups: int = 128,
        outputs: Mapping[str, Output] | None = None,
    ) -> None:
        """Compile the patterns.

        Args:
            patterns: checked patterns over the same stream.
            key_groups: in how many groups keys are snapshotted.
            outputs: for patterns whose rows a Python function makes of each match, by the pattern's name.
        """
        if len({checked.stream for checked in patterns}) != 1:
            raise ValueError("a match operator runs patterns over one stream")
        self.key_groups = key_groups
        linear = [is_linear(checked, compile_patterns([checked]), 0) for checked in patterns]
        self._counters = [
            LinearCounter(compile_patterns([checked]), key_groups)
            for checked, fits in zip(patterns, linear, strict=True)
            if fits
        ]
        enumerated = [checked for checked, fits in zip(patterns, linear, strict=True) if not fits]
        self._matcher = _Matcher(enumerated, key_groups, outputs or {}) if enumerated else None
        self._parts: list[_Matcher | LinearCounter] = [*self._counters]
        if self._matcher is not None:
            self._parts.append(self._matcher)
        self.columns: frozenset[str] = frozenset().union(*(part.columns for part in self._parts))
        self.events = 0

    def process(self, batch: Batch) -> None:
        """Take in events; they wait for the watermark."""
        if len(batch) == 0:
            return
        self.events += len(batch)
        memo: dict[Any, Vector] = {}
        for part in self._parts:
            part.process(batch, memo)

    def advance(self, watermark: int) -> list[Batch]:
        """Match all events at or before `watermark` (ms) and move time there. Returns what came out, by output.

        Raises:
            MatchError: a pattern's cap says to fail, or ``after match skip to … or fail`` has nothing to skip to.
        """
        return [batch for part in self._parts for batch in part.advance(watermark)]

    @property
    def stats(self) -> dict[str, PatternStats]:
        """What each pattern did."""
        return {name: stats for part in self._parts for name, stats in part.stats().items()}

    @property
    def watermark(self) -> int:
        """How far time has moved."""
        return self._parts[0].watermark

    def snapshot(self) -> dict[int, bytes]:
        """The state of every key group that has any, as bytes of a versioned, checksummed format."""
        return snapshot_groups([part.snapshot() for part in self._parts], self.watermark)

    def restore(self, groups: Mapping[int, bytes]) -> None:
        """Take over the state of some key groups; the operator must be new.

        Raises:
            SnapshotError: the bytes are damaged, or of other patterns.
        """
        states, watermark = restore_groups(groups, len(self._parts))
        for part, state in zip(self._parts, states, strict=True):
            part.restore(state, watermark)
