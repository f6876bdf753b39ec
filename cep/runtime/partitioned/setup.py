"""What all partitions of a job have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ostinato.cep.connectors.kafka.options import KafkaSource, KafkaTarget
from ostinato.cep.connectors.kafka.producers import ProducerSettings
from ostinato.cep.runtime.partitioned.outbox import Route
from ostinato.cep.runtime.partitioned.rekey import Rekeyed
from ostinato.cep.runtime.plan import streams_made
from ostinato.patterns.ast import Connector, Stream
from ostinato.patterns.printer import print_pattern
from ostinato.patterns.typecheck import CheckedPattern

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import Definition
    from ostinato.cep.runtime.partitioned.snapshots import Stores

KEY_GROUPS: Final = 16
"""Of one partition. It is the partition that moves between workers, never a part of it."""
INTERVAL_MS: Final = 100

LostSnapshot: TypeAlias = Literal["rebuild", "fail"]


@dataclass(frozen=True, slots=True)
class Setup:
    """A job whose sources and targets are topics.

    Attributes:
        job: its name, which is also that of the consumer group.
        definition: what it runs.
        sources: of each source stream of the plan, in its order.
        routes: where the rows of each stream go.
        dead_letters: where records go that cannot be used.
        stores: where snapshots are.
        interval_ms: from one commit to the next.
        strict: a record that cannot be used ends the job.
        on_lost_snapshot: rebuild the state by playing input again, or fail.
        rekeyed: sources that are read through a topic of the job's own.
        originals: of these, what the program says of their topics.
        watchdog_seconds: a partition that has work and does not move for so long is taken over anew.
    """

    job: str
    definition: Definition
    sources: tuple[KafkaSource, ...]
    routes: Mapping[str, Sequence[Route]]
    dead_letters: KafkaTarget
    stores: Stores
    interval_ms: int = INTERVAL_MS
    strict: bool = False
    on_lost_snapshot: LostSnapshot = "rebuild"
    rekeyed: tuple[Rekeyed, ...] = ()
    originals: tuple[KafkaSource, ...] = ()
    watchdog_seconds: float = 60.0

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Of each source."""
        return self.definition.plan.sources

    def through(self, source: int) -> Rekeyed | None:
        """How a source is rekeyed; None where it is not."""
        return next((each for each in self.rekeyed if each.source == source), None)

    @property
    def routed_topics(self) -> frozenset[str]:
        """The topics that routers read."""
        return frozenset(topic for each in self.rekeyed for topic in each.topics)

    @property
    def is_exact(self) -> bool:
        """Does anything want to be written exactly once? Then everything is: a transaction holds all or nothing."""
        return any(route.target.delivery == "exactly_once" for own in self.routes.values() for route in own)

    @property
    def producers(self) -> ProducerSettings:
        """Of all of the job's producers: the strictest of what its targets say."""
        targets = [route.target for own in self.routes.values() for route in own] or [self.dead_letters]
        first = targets[0]
        return ProducerSettings(
            first.connection,
            first.compression,
            min(target.transaction_timeout_ms for target in targets),
            min(target.linger_ms for target in targets),
            max(target.max_request_size for target in targets),
        )

    def transactional_id(self, number: int, *, routing: bool) -> str:
        """Of the producer for a partition number: whoever has it fences everybody who had it before."""
        return f"ostinato.{self.job}.route.{number}" if routing else f"ostinato.{self.job}.{number}"


def routes_of(
    definition: Definition, targets: Mapping[str, Sequence[tuple[Connector, KafkaTarget]]]
) -> dict[str, list[Route]]:
    """How each stream is written that has a target."""
    patterns: list[CheckedPattern] = [each for matching in definition.plan.matchings for each in matching.patterns]
    routes: dict[str, list[Route]] = {}
    for name, own in targets.items():
        stream: Stream | None = definition.plan.streams.get(name)
        makers = [each.pattern for each in patterns if name in set(streams_made(each))]
        said = ",".join(maker.name for maker in makers) or name
        text = "\n".join(print_pattern(maker, show_python=True) for maker in makers)
        version = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
        for _, target in own:
            keys = target.key or (stream.keys if stream is not None else ())
            routes.setdefault(name, []).append(Route(target, tuple(keys), said, version))
    return routes
