"""What the cluster knows of a job: its topics and where they end, what was committed, how far its time has come."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from ostinato.cep.connectors.base import ConnectorError, SourceError
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, explain
from ostinato.cep.connectors.kafka.options import KafkaSource
from ostinato.cep.runtime.partitioned.position import Position
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.cep.runtime.partitioned.takeover import Committed, LogEnds


class Cluster:
    """Asked by one member of the group, in its event loop. Raises ConnectorError."""

    def __init__(
        self, setup: Setup, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, announce: Callable[[str], None]
    ) -> None:
        """Both clients are the member's: it starts and closes them."""
        self._setup = setup
        self._consumer = consumer
        self._admin = admin
        self._announce = announce
        self._servers = setup.sources[0].connection.servers
        self._place = f"group {setup.job} at {self._servers}"

    async def check_topics(self) -> None:
        """Raise where topics are missing, or do not go together."""
        await self._make_own_topics()
        existing = set(await self._admin.list_topics())
        routed = self._setup.routed_topics
        if routed - existing:
            self._refuse_missing(sorted(routed - existing))
        named = sorted({topic for source in self._setup.sources for topic in source.topics})
        missing = [topic for topic in named if topic not in existing]
        if missing:
            self._refuse_missing(missing)
        if len(named) > 1:
            described = await self._admin.describe_topics(named)
            counts = {each["topic"]: len(each["partitions"]) for each in described}
            if len(set(counts.values())) > 1:
                said = ", ".join(f"{topic} has {count}" for topic, count in sorted(counts.items()))
                raise ConnectorError(
                    f"topics that are read together need equally many partitions, so that a key is in the same one of "
                    f"each: {said}. Add partitions, or let the smaller one be rekeyed (keying = 'rekey')"
                )

    def topics_of(self, number: int, *, routing: bool) -> list[list[str]]:
        """The topics of each source that have this partition, by name."""
        cluster = self._consumer._client.cluster
        found = []
        for source in self._sources(routing=routing):
            if source.pattern is not None:
                names = [topic for topic in cluster.topics() if re.fullmatch(source.pattern, topic)]
            else:
                names = list(source.topics)
            found.append(sorted(name for name in names if number in (cluster.partitions_for_topic(name) or ())))
        return found

    async def committed(self, number: int, *, routing: bool) -> Committed:
        """What Kafka knows of a partition number. Raises ConnectorError, SnapshotError."""
        own = self.topics_of(number, routing=routing)
        topics = sorted({topic for each in own for topic in each})
        places = [TopicPartition(topic, number) for topic in topics]
        try:
            found = await self._admin.list_consumer_group_offsets(self._setup.job, partitions=places)
            logs = await self._log_ends(number, own, self._sources(routing=routing))
        except Exception as error:
            raise explain(error, self._place) from error
        # aiokafka takes an error that is of the whole group for an answer without offsets, and begun at the beginning
        # everything would be written once more. A good answer has every partition that was asked for.
        if missing := set(places) - found.keys():
            raise KafkaUnavailableError(f"{self._place}: nobody said what is committed of {sorted(missing)}")
        offsets = {place.topic: held.offset for place, held in found.items() if held.offset >= 0}
        kept = []
        for place, held in found.items():
            if held.offset >= 0:
                what = f"topic {place.topic}, partition {number}, group {self._setup.job}"
                kept.append(Position.decode(held.metadata, what))
        position = max(kept, key=lambda each: each.snapshot, default=None)
        if position is not None:
            began = {topic: offset for each in kept for topic, offset in each.began.items()}
            position = msgspec.structs.replace(position, began=began)
        return Committed(offsets, position, logs, self._origins(), self._partitions())

    async def ends(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Where partitions end, up to where they are stable."""
        try:
            found: dict[TopicPartition, int] = await self._consumer.end_offsets(list(places))
        except Exception as error:
            raise explain(error, self._place) from error
        finally:
            self._follow_all()
        return found

    async def job_watermark(
        self, own: dict[int, tuple[int, bool]], reading: Collection[TopicPartition]
    ) -> tuple[int, dict[TopicPartition, int]] | None:
        """How far time has come in the job: the smallest watermark of all partitions that are not idle, as committed;
        where all are, the largest. With it comes where the idle ones of our own ended *after* that: what came into them
        before is not late. None where somebody has not committed yet.

        `own`: number -> watermark and idleness of those that are here; `reading`: their places.
        """
        try:
            found = await self._admin.list_consumer_group_offsets(self._setup.job)
        except Exception as error:
            raise explain(error, self._place) from error
        read = {
            TopicPartition(topic, number)
            for topic in self._consumer.subscription() - self._setup.routed_topics
            for number in self._consumer._client.cluster.partitions_for_topic(topic) or ()
        }
        newest: dict[int, Position] = {}
        for place, held in found.items():
            if place in read:  # the group may have offsets of topics that the program had once
                position = Position.decode(held.metadata, self._place)
                before = newest.get(place.partition)
                if before is None or before.snapshot < position.snapshot:
                    newest[place.partition] = position
        known = {number: (position.watermark, position.idle) for number, position in newest.items()} | own
        wanted = {place.partition for place in read}
        if wanted - known.keys():
            return None
        awake = [watermark for watermark, idle in known.values() if not idle]
        watermark = min(awake) if awake else max((watermark for watermark, _ in known.values()), default=None)
        if watermark is None:
            return None
        idle = [place for place in reading if place.partition in own and own[place.partition][1]]
        return watermark, await self.ends(idle)

    async def _log_ends(
        self, number: int, own: Sequence[Sequence[str]], sources: Sequence[KafkaSource]
    ) -> dict[str, LogEnds]:
        consumer = self._consumer
        places = sorted({TopicPartition(topic, number) for each in own for topic in each})
        try:
            first = await consumer.beginning_offsets(places)
            end = await consumer.end_offsets(places)
            starts: dict[str, int] = {}
            for source, topics in zip(sources, own, strict=True):
                for topic in topics:
                    place = TopicPartition(topic, number)
                    if isinstance(source.start, int):
                        found = (await consumer.offsets_for_times({place: source.start}))[place]
                        starts[topic] = end[place] if found is None else found.offset
                    else:
                        starts[topic] = first[place] if source.start == "earliest" else end[place]
        finally:
            self._follow_all()
        return {place.topic: LogEnds(first[place], end[place], starts[place.topic]) for place in places}

    async def _make_own_topics(self) -> None:
        """Make the topics of the job's own that are not there yet, with as many partitions as go with the others."""
        if not self._setup.rekeyed:
            return
        own = {each.through for each in self._setup.rekeyed}
        existing = set(await self._admin.list_topics())
        others = {topic for source in self._setup.sources for topic in source.topics} - own
        models = sorted((others or self._setup.routed_topics) & existing)
        if not models or own <= existing:
            return
        described = [each["partitions"] for each in await self._admin.describe_topics(models)]
        partitions = max(len(each) for each in described)
        copies = max(len(each["replicas"]) for topic in described for each in topic)
        for topic in sorted(own - existing):
            with suppress(TopicAlreadyExistsError):
                await self._admin.create_topics([NewTopic(topic, partitions, copies)])
            self._announce(f"topic {topic} is made: {partitions} partitions, {copies} copies of each")

    @property
    def all_sources(self) -> tuple[KafkaSource, ...]:
        return (*self._setup.sources, *self._setup.originals)

    def _sources(self, *, routing: bool) -> tuple[KafkaSource, ...]:
        return self._setup.originals if routing else self._setup.sources

    def _origins(self) -> list[list[str]]:
        """For each source that is rekeyed, the partitions that its records come from."""
        cluster = self._consumer._client.cluster
        found: list[list[str]] = [[] for _ in self._setup.sources]
        for each in self._setup.rekeyed:
            for topic in each.topics:
                numbers = sorted(cluster.partitions_for_topic(topic) or ())
                found[each.source] += [f"{topic}/{number}" for number in numbers]
        return found

    def _partitions(self) -> dict[str, int]:
        cluster = self._consumer._client.cluster
        return {each.through: len(cluster.partitions_for_topic(each.through) or ()) for each in self._setup.rekeyed}

    def _follow_all(self) -> None:
        """Whoever asks for offsets makes aiokafka follow these topics only; those that come later and fit a pattern
        would never be noticed."""
        if any(each.pattern is not None for each in self._setup.sources):
            self._consumer._client.set_topics([])

    def _refuse_missing(self, topics: Sequence[str]) -> NoReturn:
        raise SourceError(
            f"topic {', '.join(topics)} at {self._servers}: there is no such topic; create it "
            "(kafka-topics.sh --create), or check its name"
        )
