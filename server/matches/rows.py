"""What the match log holds: rows as they are appended, and as they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Kind: TypeAlias = Literal["match", "timeout", "late", "dead letter"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of one stream, n of them.

    Attributes:
        stream: where they come out.
        kind: of all of them.
        patterns: (name, version), what `pattern_of` points into; empty for late events and dead letters.
        pattern_of: uint16[n].
        times: int64[n], event time, epoch ms.
        position: of the record in the journal that completed them.
        at_ms: wall clock when that record was written; never goes back.
        values: n JSON objects.
    """

    stream: str
    kind: Kind
    patterns: Sequence[tuple[str, int]]
    pattern_of: npt.NDArray[np.uint16]
    times: npt.NDArray[np.int64]
    position: int
    at_ms: int
    values: Sequence[bytes]

    def __post_init__(self) -> None:
        n = len(self.values)
        if len(self.times) != n or (self.patterns and len(self.pattern_of) != n):
            raise ValueError(
                f"{n} values, {len(self.times)} times, {len(self.pattern_of)} patterns: there is one of each for a row"
            )

    def part(self, begin: int, end: int) -> Rows:
        """Some of the rows."""
        return Rows(
            self.stream, self.kind, self.patterns, self.pattern_of[begin:end], self.times[begin:end], self.position,
            self.at_ms, self.values[begin:end],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Match:
    """A row of the log. `pattern` is empty, and `version` 0, for late events and dead letters; see `Rows`."""

    seq: int
    stream: str
    kind: str
    pattern: str
    version: int
    time: int
    position: int
    at_ms: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted: those of any of the streams, patterns and kinds that are named; none named: of all.

    >>> only = Filter(patterns=frozenset({"fraud"}), kinds=frozenset({"match"}))
    >>> only.block("alerts", "match", [("fraud", 1)]), only.block("alerts", "timeout", [("fraud", 1)])
    (True, False)
    """

    streams: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    @property
    def takes_all(self) -> bool:
        return not (self.streams or self.patterns or self.kinds)

    def block(self, stream: str, kind: str, patterns: Sequence[Sequence[Any]]) -> bool:
        """Can any of such rows be wanted?"""
        return (
            (not self.streams or stream in self.streams)
            and (not self.kinds or kind in self.kinds)
            and (not self.patterns or any(name in self.patterns for name, _ in patterns))
        )

    def admits(self, match: Match) -> bool:
        return (
            (not self.streams or match.stream in self.streams)
            and (not self.kinds or match.kind in self.kinds)
            and (not self.patterns or match.pattern in self.patterns)
        )


EVERYTHING = Filter()
