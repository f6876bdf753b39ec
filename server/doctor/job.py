"""The job that is looked after: what of it services have to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ostinato.cep.connectors.kafka.options import (
    Connection,
    KafkaSource,
    KafkaTarget,
    source_options,
    target_options,
)

if TYPE_CHECKING:
    from ostinato.cep.runtime.load import Loaded

COMMIT_MS: Final = 100
"""How often a job from Kafka to Kafka commits, unless told otherwise."""
INTERVAL_MS: Final = 10_000
"""How often another job takes checkpoints, unless told otherwise."""
OUTAGE_MS: Final = 86_400_000
"""For how long nobody may notice that the job stands still, unless told otherwise."""
METADATA_BYTES: Final = 1024
"""What the job keeps at most beside a committed offset."""


@dataclass(frozen=True, slots=True)
class Source:
    """A stream that is read from Kafka. `delay_ms`: how far its events come out of order."""

    stream: str
    kafka: KafkaSource
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A stream that is written to Kafka."""

    stream: str
    kafka: KafkaTarget


@dataclass(frozen=True, slots=True)
class Job:
    """What there is to know of a job; without a program: next to nothing.

    Attributes:
        name: of the job: also its consumer group.
        program: the file; None: none was given, and only the services are looked at.
        sources, targets: what it reads from and writes to Kafka.
        others: the streams that come from or go to somewhere else.
        span_ms: the longest time between an event and the match that it is part of, over chains of patterns.
        unbounded: the patterns and functions for which nothing says how long that is.
        interval_ms: from one commit, or checkpoint, to the next.
        outage_ms: how long the job may stand still without losing anything.
        letters: the topic for records that cannot be used; None: what it is called by default.
        elsewhere: other clusters that the job has to do with, where this is as much of it as one has; see `at`.
    """

    name: str = "job"
    program: str | None = None
    sources: tuple[Source, ...] = ()
    targets: tuple[Target, ...] = ()
    others: tuple[str, ...] = ()
    span_ms: int = 0
    unbounded: tuple[str, ...] = ()
    interval_ms: int = INTERVAL_MS
    outage_ms: int = OUTAGE_MS
    letters: str | None = None
    elsewhere: tuple[str, ...] = ()

    @property
    def dead_letters(self) -> str | None:
        """The topic for records that cannot be used, where they go to a topic."""
        return self.letters or f"{self.name}.dead-letters" if self.partitioned else None

    @property
    def own_topics(self) -> tuple[str, ...]:
        """The topics through which it brings events to the partition of their key."""
        streams = [source.stream for source in self.sources if source.kafka.keying == "rekey"]
        return tuple(f"{self.name}.{stream}.rekey" for stream in streams) if self.partitioned else ()

    @property
    def partitioned(self) -> bool:
        """Does it read and write Kafka only, so that it commits within Kafka's transactions?"""
        return bool(self.sources) and bool(self.targets) and not self.others

    @property
    def transactional(self) -> bool:
        return any(target.kafka.delivery == "exactly_once" for target in self.targets)

    @property
    def transactional_ids(self) -> str:
        """What the transactional ids of its producers begin with; the number of a partition comes behind it."""
        return f"ostinato.{self.name}."

    @property
    def delay_ms(self) -> int:
        return max((source.delay_ms for source in self.sources), default=0)

    @property
    def needed_ms(self) -> int:
        """How far back input has to be kept: for replay after an outage without a usable snapshot."""
        return self.span_ms + self.delay_ms + self.outage_ms

    @property
    def connections(self) -> tuple[Connection, ...]:
        """One to each cluster."""
        every = [source.kafka.connection for source in self.sources]
        every += [target.kafka.connection for target in self.targets]
        return tuple({connection.servers: connection for connection in every}.values())

    def at(self, servers: str) -> Job:
        """As much of it as one cluster has to do with."""
        return replace(
            self,
            sources=tuple(each for each in self.sources if each.kafka.connection.servers == servers),
            targets=tuple(each for each in self.targets if each.kafka.connection.servers == servers),
            elsewhere=tuple(each.servers for each in self.connections if each.servers != servers),
        )

    def moved(self, servers: str) -> Job:
        """The same job on another cluster."""

        def there(connection: Connection) -> Connection:
            return replace(connection, servers=servers)

        return replace(
            self,
            sources=tuple(
                replace(each, kafka=replace(each.kafka, connection=there(each.kafka.connection)))
                for each in self.sources
            ),
            targets=tuple(
                replace(each, kafka=replace(each.kafka, connection=there(each.kafka.connection)))
                for each in self.targets
            ),
        )


def job_of(
    loaded: Loaded,
    path: str,
    name: str,
    *,
    interval_ms: int | None = None,
    outage_ms: int = OUTAGE_MS,
    letters: str | None = None,
) -> Job:
    """What a program says.

    Raises:
        ConnectorError: an option of a source or an output is wrong.
        PatternError: the program reads its own matches in a circle.
    """
    plan = loaded.plan
    sources, targets, others = [], [], []
    for stream in plan.sources:
        if stream.source is not None and stream.source.kind == "kafka":
            options = source_options(stream.source, f"stream {stream.name}")
            sources.append(Source(stream.name, options, stream.time.delay_ms))
        else:
            others.append(stream.name)
    for output in loaded.program.outputs:
        if output.sink.kind == "kafka":
            targets.append(Target(output.stream, target_options(output.sink, f"output {output.stream}")))
        else:
            others.append(output.stream)
    # what no output names goes to standard output
    others += [each for each in plan.delivered if each not in {output.stream for output in loaded.program.outputs}]
    longest, unbounded = _spans(loaded)
    job = Job(name, path, tuple(sources), tuple(targets), tuple(dict.fromkeys(others)), longest, unbounded)
    default = COMMIT_MS if job.partitioned else INTERVAL_MS
    interval = default if interval_ms is None else interval_ms
    return replace(job, interval_ms=interval, outage_ms=outage_ms, letters=letters)


def _spans(loaded: Loaded) -> tuple[int, tuple[str, ...]]:
    """The longest time from an event to a match, along chains of patterns, and what has no such bound."""
    spans: dict[str, int] = {}
    unbounded: list[str] = []
    longest = 0
    for matching in loaded.plan.matchings:
        before = spans.get(matching.stream.name, 0)
        for checked in matching.patterns:
            if checked.pattern.within_ms is None:
                unbounded.append(f"pattern {checked.pattern.name}")
            reach = before + (checked.pattern.within_ms or 0)
            longest = max(longest, reach)
            _lengthen(spans, {checked.output_stream.name: reach, checked.pattern.timeouts_into or "": reach})
        for process in matching.processes:
            unbounded.append(f"function {process.name}")
            _lengthen(spans, {stream.name: before for stream in process.outputs})
    return longest, tuple(unbounded)


def _lengthen(spans: dict[str, int], more: Mapping[str, int]) -> None:
    for name, reach in more.items():
        spans[name] = max(spans.get(name, 0), reach)
