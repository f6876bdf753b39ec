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
from ostinato.cep.runtime.clock import SteadyClock, wall_clock
from ostinato.cep.runtime.occupation import Meter

__all__ = ["Ended", "Entry", "ReadChunk", "Sources", "Tick", "wall_clock"]

BUSY_TICK_SECONDS = 0.1
"""How often time moves on while something comes: idle splits are noticed to that."""
_QUIET_SECONDS = 0.25
"""So long a silent source is left alone while another has something: looking at it means waiting for it."""
_LULL_BYTES = 1 << 16
"""A chunk shorter than this was all that there was: readers take what they get, up to a megabyte and more."""
_NAP_SECONDS = 0.002
"""The least time between two ticks of an idle job, for readers that do not wait themselves."""


@dataclass(frozen=True, slots=True)
class ReadChunk:
    """A chunk of the source with that number, and the job's clock when it was read."""

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


def is_lull(entry: Entry) -> bool:
    """Was there nothing more to read behind it? Then what it brings should be seen at once."""
    if isinstance(entry, ReadChunk):
        return entry.chunk.size < _LULL_BYTES
    return isinstance(entry, Tick) and entry.idle


class Sources:
    """Reads all sources in turn."""

    def __init__(self, readers: Sequence[Reader], clock: Callable[[], int] = wall_clock) -> None:
        self._readers = readers
        self._clock = SteadyClock(clock)
        self.reading = Meter()
        """How long reading has taken a processor; waiting for a disk or a pipe is not work."""
        self._open = list(range(len(readers)))
        self._turn = 0
        self._quiet_until = [0.0] * len(readers)
        self._ticked = time.monotonic()
        self.positions: list[dict[int, Mapping[str, Any]]] = [{} for _ in readers]
        """For each source, where reading goes on, by split."""

    def next(self) -> Entry | None:
        """The next entry, None after the last. Returns soon also when there is nothing to read. Raises SourceError."""
        if not self._open:
            return None
        now = time.monotonic()
        if now - self._ticked >= BUSY_TICK_SECONDS:
            return self._tick(idle=False)
        awake = [number for number in self._open if self._quiet_until[number] <= now] or list(self._open)
        self._turn += 1
        for step in range(len(awake)):
            number = awake[(self._turn + step) % len(awake)]
            working = time.thread_time()
            got = self._readers[number].read()
            self.reading.add(time.thread_time() - working)
            if isinstance(got, Chunk):
                self._quiet_until[number] = 0.0
                self.positions[number][got.split] = got.position
                return ReadChunk(number, got, self._clock())
            if not isinstance(got, Idle):
                self._open.remove(number)
                return Ended(number, self._clock())
            self._quiet_until[number] = time.monotonic() + _QUIET_SECONDS
        if len(awake) == len(self._open):
            time.sleep(max(0.0, _NAP_SECONDS - (time.monotonic() - self._ticked)))
            return self._tick(idle=True)
        return self._tick(idle=False)

    def _tick(self, *, idle: bool) -> Tick:
        self._ticked = time.monotonic()
        return Tick(self._clock(), idle)

    def seek(self, positions: Sequence[Mapping[int, Mapping[str, Any]]]) -> None:
        """Go on from the positions of an earlier run."""
        for number, splits in enumerate(positions):
            for split, position in splits.items():
                self._readers[number].seek(position)
                self.positions[number][split] = position

    def not_before(self, moment: int) -> None:
        """Let the clock go on from `moment` (epoch ms) at least, the time that an earlier run had reached."""
        self._clock.not_before(moment)

    def drain(self) -> list[Ended]:
        """Take every source for ended."""
        ended = [Ended(number, self._clock()) for number in self._open]
        self._open = []
        return ended

    @property
    def repeatable(self) -> bool:
        """Can all of them be read a second time?"""
        return all(getattr(reader, "repeatable", True) for reader in self._readers)

    def now(self) -> int:
        """The job's clock, epoch ms."""
        return self._clock()

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
