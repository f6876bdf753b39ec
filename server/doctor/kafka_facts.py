"""What there is to know of a Kafka cluster, as far as a job has to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ostinato.server.doctor.job import Job

OPERATIONS: Final = {
    3: "Read", 4: "Write", 5: "Create", 6: "Delete", 7: "Alter", 8: "Describe", 9: "ClusterAction",
    10: "DescribeConfigs", 11: "AlterConfigs", 12: "IdempotentWrite",
}  # fmt: skip
"""Kafka's numbers of what may be allowed (AclOperation)."""
OFFSETS_TOPIC: Final = "__consumer_offsets"
TRANSACTIONS_TOPIC: Final = "__transaction_state"


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that holds up a partition's readers.

    Attributes:
        producer_id: its producer.
        start_offset: where it begins in the partition.
        last_ms: when something was last written in it, epoch.
        id: the transactional id, None where nobody knows it: no coordinator does, or we may not see it.
        started_ms: when it began, epoch; None as above.
        timeout_ms: how long it may take; None as above.
        state: `Ongoing`, ...; empty as above.
    """

    producer_id: int
    start_offset: int
    last_ms: int
    id: str | None = None
    started_ms: int | None = None
    timeout_ms: int | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. Offsets are None where they cannot be had.

    Attributes:
        number: from 0.
        leader: the broker; -1: none.
        replicas, isr: brokers that are to have a copy, and that have all of it.
        start, end: the first offset that is still there, and the next one to be written (high watermark).
        stable: readers of committed records see what comes before (last stable offset).
        newest_ms: the largest timestamp, epoch; None also where it is empty.
        committed: where the job goes on.
        open: transactions that keep `stable` behind `end`.
    """

    number: int
    leader: int = 1
    replicas: tuple[int, ...] = (1,)
    isr: tuple[int, ...] = (1,)
    start: int | None = None
    end: int | None = None
    stable: int | None = None
    newest_ms: int | None = None
    committed: int | None = None
    open: tuple[OpenTransaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. `configs` and `operations` are None where we may not see them, or the broker is too old to tell."""

    name: str
    partitions: tuple[Partition, ...] = ()
    configs: Mapping[str, str] | None = None
    operations: frozenset[str] | None = None

    @property
    def replication(self) -> int:
        return min((len(partition.replicas) for partition in self.partitions), default=0)

    def number(self, setting: str) -> int | None:
        """A setting that is a number."""
        return number_of(self.configs, setting)

    def text(self, setting: str) -> str | None:
        return None if self.configs is None else self.configs.get(setting)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker. `unreachable`: why it cannot be reached at the address it advertises. `configs`: as of a topic."""

    node: int
    host: str
    port: int
    unreachable: str = ""
    configs: Mapping[str, str] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """A cluster.

    Attributes:
        job: as much of the job as it has to do with this cluster.
        servers: how it was asked for.
        now_ms: when, epoch, by this machine.
        unreachable: why nothing else is known; empty where it was reached.
        silent: the bootstrap servers that cannot be reached, though another one can, with the reason.
        brokers: all of them.
        features: those in force, with their level.
        topics: those that the job has to do with, and Kafka's own two, by name; missing ones are not in it.
        denied: topics that we may not even see.
        cluster_operations: what we may do with the cluster.
        group_error: Kafka's code of what came of a heartbeat of a member that the job's group does not have; 0: it was
            not sent.
        transaction_errors: Kafka's code of what came of using a transactional id of the job that nobody has, by id.
        patterns: the topics that a source's pattern matches, by pattern.
        unanswered: what could not be asked, and why.
    """

    job: Job
    servers: str
    now_ms: int = 0
    unreachable: str = ""
    silent: Mapping[str, str] = field(default_factory=dict)
    brokers: tuple[Broker, ...] = ()
    features: Mapping[str, int] = field(default_factory=dict)
    topics: Mapping[str, Topic] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    cluster_operations: frozenset[str] | None = None
    group_error: int = 0
    transaction_errors: Mapping[str, int] = field(default_factory=dict)
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unanswered: tuple[str, ...] = ()

    def topics_of(self, stream: str) -> list[str]:
        """The names of the topics that a stream is read from."""
        found: list[str] = []
        for source in self.job.sources:
            if source.stream == stream:
                found += source.kafka.topics
                found += self.patterns.get(source.kafka.pattern or "", ())
        return found

    @property
    def inputs(self) -> list[str]:
        """The names of the topics that are read, there or not."""
        return list(dict.fromkeys(name for source in self.job.sources for name in self.topics_of(source.stream)))

    @property
    def outputs(self) -> list[str]:
        """The names of the topics that are written, there or not; the one for dead letters is the last."""
        letters = [] if self.job.dead_letters is None else [self.job.dead_letters]
        return list(dict.fromkeys([*(target.kafka.topic for target in self.job.targets), *letters]))

    @property
    def rekeyed(self) -> list[str]:
        """The names of the job's own topics that are there."""
        return [name for name in self.job.own_topics if name in self.topics]

    @property
    def partitions(self) -> int:
        """How many tasks the job has: the partitions of the input topic that has most."""
        return max((len(self.topics[name].partitions) for name in self.inputs if name in self.topics), default=0)

    def broker_number(self, setting: str) -> int | None:
        """A setting of the brokers, the least where they differ; None where nobody may see it."""
        numbers = [number for broker in self.brokers if (number := number_of(broker.configs, setting)) is not None]
        return min(numbers, default=None)

    def broker_most(self, setting: str) -> int | None:
        """The same, the largest where they differ."""
        numbers = [number for broker in self.brokers if (number := number_of(broker.configs, setting)) is not None]
        return max(numbers, default=None)

    def broker_text(self, setting: str) -> str | None:
        """A setting of the brokers; where they differ, what they say with slashes between."""
        values = [broker.configs[setting] for broker in self.brokers if broker.configs and setting in broker.configs]
        return "/".join(dict.fromkeys(values)) if values else None


def number_of(configs: Mapping[str, str] | None, setting: str) -> int | None:
    try:
        return int((configs or {})[setting])
    except (KeyError, ValueError):
        return None


def operations_of(bits: int) -> frozenset[str] | None:
    """What a bit field of Kafka's allows; None where it does not say.

    >>> sorted(operations_of(1 << 3 | 1 << 8))
    ['Describe', 'Read']
    """
    if bits < 0:
        return None
    return frozenset(name for number, name in OPERATIONS.items() if bits >> number & 1)
