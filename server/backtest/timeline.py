"""How many matches there were when, in buckets that are merged when there are too many."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

LEAST_MS = 1_000
BUCKETS = 60
"""Of a span, where nothing is said about their width."""
_MOST = 4_096


class Timeline:
    """Counts by name and time. All names have the same buckets."""

    def __init__(self, bucket_ms: int | None = None, span_ms: int | None = None) -> None:
        """
        Args:
            bucket_ms: how wide buckets are; None: a `BUCKETS`-th of the span, `LEAST_MS` at least.
            span_ms: from beginning to end; None: it is seen when all is counted.
        """
        self._given = bucket_ms
        self._span_ms = span_ms
        self._counts: dict[Hashable, dict[int, int]] = {}
        self.bucket_ms = bucket_ms or LEAST_MS

    @property
    def is_coarser(self) -> bool:
        """Are buckets wider than was asked for, because there were too many?"""
        return self._given is not None and self.bucket_ms != self._given

    def count(self, name: Hashable, times: npt.NDArray[np.int64]) -> None:
        """Matches of a name; times in epoch ms."""
        counts = self._counts.setdefault(name, {})
        found, number = np.unique(times // self.bucket_ms, return_counts=True)
        for bucket, more in zip(found.tolist(), number.tolist(), strict=True):
            counts[bucket] = counts.get(bucket, 0) + more
        while len(counts) > _MOST:
            self._widen(2)
            counts = self._counts[name]

    def finish(self) -> None:
        """All is counted: take the width that the span wants."""
        if self._given is not None:
            return
        buckets = [bucket for counts in self._counts.values() for bucket in counts]
        if not buckets:
            return
        span = self._span_ms
        if span is None:
            span = (max(buckets) - min(buckets) + 1) * self.bucket_ms
        wanted = max(LEAST_MS, -(-span // BUCKETS))
        if wanted > self.bucket_ms:
            self._widen(-(-wanted // self.bucket_ms))

    def of(self, name: Hashable) -> dict[int, int]:
        """Beginning of a bucket (epoch ms) -> matches in it; only those that have any, in order."""
        counts = self._counts.get(name, {})
        return {bucket * self.bucket_ms: counts[bucket] for bucket in sorted(counts)}

    def _widen(self, factor: int) -> None:
        self.bucket_ms *= factor
        for name, counts in self._counts.items():
            merged: dict[int, int] = {}
            for bucket, number in counts.items():
                merged[bucket // factor] = merged.get(bucket // factor, 0) + number
            self._counts[name] = merged
