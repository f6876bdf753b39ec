"""Matches as columns: what the matcher hands over to be emitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ostinato.cep.batch import IntArray, Vector

Segment: TypeAlias = tuple[IntArray, IntArray]
"""Offsets, int64[matches + 1], and event positions: ``events[offsets[m] : offsets[m + 1]]`` is of match m."""


@dataclass(frozen=True, slots=True)
class MatchTable:
    """Some matches (or timed-out partial matches) of one pattern, one per row.

    Attributes:
        keys: the key columns, one row per match.
        start: time of the first event, int64[matches], epoch milliseconds.
        end: time of the last event, or the time at which a partial match timed out.
        events: the columns of the events that `segments` point into.
        segments: by stage the positions of its events, in match order; stages that took none may be absent.
    """

    keys: Mapping[str, Vector]
    start: IntArray
    end: IntArray
    events: Mapping[str, Vector]
    segments: Mapping[str, Segment] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.start)

    def segment(self, stage: str) -> Segment:
        """Offsets and event positions of a stage."""
        found = self.segments.get(stage)
        return found if found is not None else (np.zeros(self.rows + 1, np.int64), np.zeros(0, np.int64))
