"""What a run did, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ostinato.cep.runtime.occupation import Occupation, unknown

if TYPE_CHECKING:
    from ostinato.cep.connectors.base import Chunk
    from ostinato.cep.nfa.operator import PatternStats
    from ostinato.cep.runtime.intake import Admitted


@dataclass(slots=True)
class PatternNumbers:
    """Of one pattern: `partial_matches` is now, the rest so far. `dropped` partial matches fell to the cap."""

    matches: int = 0
    timeouts: int = 0
    partial_matches: int = 0
    dropped: int = 0

    def add(self, stats: PatternStats | PatternNumbers) -> None:
        """Count what another worker has of the same pattern."""
        self.matches += stats.matches
        self.timeouts += stats.timeouts
        self.partial_matches += stats.partial_matches
        self.dropped += stats.dropped


@dataclass(slots=True)
class Statistics:
    """Of a job: `events` were read and understood, `late` of them came too late; `bad` could not be used.

    `resumed` of the events were read before the checkpoint that the job went on from, not in these `seconds`.
    `measure` says what the time has gone into by now; any thread may ask.
    """

    events: int = 0
    bad: int = 0
    late: int = 0
    bytes: int = 0
    seconds: float = 0.0
    compiling_seconds: float = 0.0
    matches: int = 0
    written: dict[str, int] = field(default_factory=dict)
    patterns: dict[str, PatternNumbers] = field(default_factory=dict)
    resumed: int = 0
    measure: Callable[[], Occupation] = field(default=unknown, repr=False, compare=False)

    @property
    def events_per_second(self) -> float:
        return (self.events - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    def count(self, chunk: Chunk, admitted: Admitted) -> None:
        """Count what came of a chunk."""
        self.events += admitted.events
        self.bad += len(admitted.bad)
        self.late += 0 if admitted.late is None else len(admitted.late)
        self.bytes += chunk.size

    def set_patterns(self, workers: Iterable[Mapping[str, PatternStats | PatternNumbers]]) -> None:
        """Take the patterns' numbers over from every worker."""
        patterns: dict[str, PatternNumbers] = {}
        for worker in workers:
            for name, stats in worker.items():
                patterns.setdefault(name, PatternNumbers()).add(stats)
        # Whole at once: other threads may be reading.
        self.patterns = patterns
        self.matches = sum(numbers.matches for numbers in patterns.values())
