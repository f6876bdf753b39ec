"""The sources of a job as one sequence of entries: chunks, ticks of the clock, ends of streams.

The sequence is the order of the whole job: whatever processes it, in whatever number of workers, deals with its
entries as if one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostinato.cep.connectors.base import Chunk, Idle, Reader

TICK_SECONDS = 0.01
"""How often time moves on while nothing comes: the grain of processing time."""
BUSY_TICK_SECONDS = 0.1
"""How often it does so while something comes: idle splits are noticed to that."""
_NAPS = (0.0005, 0.001, 0.002, 0.005, 0.01)
"""Sleeps between looks at silent sources, in seconds: short after the last event, then longer."""


def wall_clock() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """A chunk of the source with that number, and the wall clock when it was read."""

    source: int
    chunk: Chunk
    now: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing came; the clock goes on. `idle`: no source has anything at the moment."""

    now: int
    idle: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """A source has come to its end."""

    source: int
    now: int


Entry: TypeAlias = ReadChunk | Tick | Ended


class Sources:
    """Reads all sources in turn."""

    def __init__(self, readers: Sequence[Reader], clock: Callable[[], int] = wall_clock) -> None:
        self._readers = readers
        self._clock = clock
        self._open = list(range(len(readers)))
        self._turn = 0
        self._silent = 0
        self._ticked = time.monotonic()
        self.positions: list[dict[int, Mapping[str, Any]]] = [{} for _ in readers]
        """For each source, where reading goes on, by split."""

    def next(self) -> Entry | None:
        """The next entry, None after the last. Sleeps while there is nothing to read. Raises SourceError."""
        while self._open:
            if time.monotonic() - self._ticked >= BUSY_TICK_SECONDS:
                return self._tick(idle=False)
            for _ in range(len(self._open)):
                number = self._open[self._turn % len(self._open)]
                got = self._readers[number].read()
                self._turn += 1
                if isinstance(got, Chunk):
                    self._silent = 0
                    self.positions[number][got.split] = got.position
                    return ReadChunk(number, got, self._clock())
                if not isinstance(got, Idle):
                    self._open.remove(number)
                    return Ended(number, self._clock())
            if self._silent == 0 or time.monotonic() - self._ticked >= TICK_SECONDS:
                self._silent += 1
                return self._tick(idle=True)
            time.sleep(_NAPS[min(self._silent, len(_NAPS)) - 1])
            self._silent += 1
        return None

    def _tick(self, *, idle: bool) -> Tick:
        self._ticked = time.monotonic()
        return Tick(self._clock(), idle)

    def seek(self, positions: Sequence[Mapping[int, Mapping[str, Any]]]) -> None:
        """Go on from the positions of an earlier run."""
        for number, splits in enumerate(positions):
            for split, position in splits.items():
                self._readers[number].seek(position)
                self.positions[number][split] = position

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
