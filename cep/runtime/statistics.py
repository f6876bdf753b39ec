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
class PartitionNumbers:
    """Of one partition of a job between topics.

    Attributes:
        commits, aborts: transactions that were committed, and that were begun and given up.
        commit_seconds: what commits took, from the cut to the broker's answer.
        lag: stream -> records that are still to be read, as far as that is known.
        watermarks: stream -> event time, epoch ms.
    """

    commits: int = 0
    aborts: int = 0
    commit_seconds: float = 0.0
    lag: dict[str, int] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)

    def add(self, other: PartitionNumbers) -> None:
        """Count what another worker has done for the same partition, and where it stands if that one has it."""
        self.commits += other.commits
        self.aborts += other.aborts
        self.commit_seconds += other.commit_seconds
        self.lag.update(other.lag)
        self.watermarks.update(other.watermarks)


@dataclass(slots=True)
class Statistics:
    """Of a job: `events` were read and understood, `late` of them came too late; `bad` could not be used.

    `resumed` of the events were read before the checkpoint that the job went on from, not in these `seconds`.
    `measure` says what the time has gone into by now; any thread may ask. `partitions` and `rebalances` of the consumer
    group are those of a job between topics.
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
    partitions: dict[str, PartitionNumbers] = field(default_factory=dict)
    rebalances: int = 0
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

    def set_partitions(self, workers: Iterable[Mapping[str, PartitionNumbers]]) -> None:
        """Take the partitions' numbers over from every worker, those that have them now last."""
        partitions: dict[str, PartitionNumbers] = {}
        for worker in workers:
            for name, numbers in worker.items():
                partitions.setdefault(name, PartitionNumbers()).add(numbers)
        self.partitions = partitions

    def set_patterns(self, workers: Iterable[Mapping[str, PatternStats | PatternNumbers]]) -> None:
        """Take the patterns' numbers over from every worker."""
        patterns: dict[str, PatternNumbers] = {}
        for worker in workers:
            for name, stats in worker.items():
                patterns.setdefault(name, PatternNumbers()).add(stats)
        # Whole at once: other threads may be reading.
        self.patterns = patterns
        self.matches = sum(numbers.matches for numbers in patterns.values())
