"""Everything that is to be examined, one subject after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ostinato.server.doctor import directory, machine, redis_checks, redis_facts
from ostinato.server.doctor.findings import Check, Finding, error, run
from ostinato.server.doctor.job import Job

if TYPE_CHECKING:
    from pathlib import Path

    from ostinato.cep.connectors.kafka.options import Connection
    from ostinato.server.doctor.kafka_facts import KafkaFacts


def examine(
    job: Job, clusters: Iterable[Connection] = (), redis: str | None = None, folder: Path | None = None
) -> Iterator[Finding]:
    """What is found, in the order in which it is found.

    Args:
        job: the job.
        clusters: how the clusters of Kafka are reached that it has to do with.
        redis: the address of the Redis for checkpoints.
        folder: the directory for checkpoints.
    """
    clusters = tuple(clusters)
    partitions = brokers = 0
    for connection in clusters:
        if find_spec("aiokafka") is None:
            why = "Kafka cannot be asked anything"
            yield error(f"kafka {connection.servers}", "was not examined: aiokafka is not installed", why, _INSTALL)
            continue
        from ostinato.server.doctor import kafka_gather

        facts = kafka_gather.gather(job, connection)
        partitions, brokers = max(partitions, facts.partitions), max(brokers, len(facts.brokers))
        yield from examine_kafka(facts)
    if redis is not None:
        found = redis_facts.gather(job, redis, partitions)
        yield from run([redis_checks.REACHABLE], found)
        if not found.unreachable:
            yield from run(redis_checks.CHECKS, found)
    if folder is not None:
        yield from run(directory.CHECKS, directory.gather(job, folder))
    here = machine.gather(job, partitions=partitions, brokers=brokers, kafka=bool(clusters))
    yield from run(machine.CHECKS, here)


def examine_kafka(facts: KafkaFacts) -> Iterator[Finding]:
    """What the checks of Kafka find."""
    from ostinato.server.doctor import kafka_broker, kafka_topics, kafka_transactions

    yield from run([kafka_broker.REACHABLE], facts)
    if facts.unreachable:
        return
    if facts.brokers and all(broker.unreachable for broker in facts.brokers):
        # nothing could be asked, so there is nothing else to say
        yield from run([each for each in kafka_broker.CHECKS if each.look is kafka_broker.advertised], facts)
        return
    yield from run(kafka_broker.CHECKS, facts)
    yield from run(kafka_topics.CHECKS, facts)
    yield from run(kafka_transactions.CHECKS, facts)


def every_check() -> list[Check[Any]]:
    """All checks there are, for the documentation."""
    from ostinato.server.doctor import kafka_broker, kafka_topics, kafka_transactions

    return [
        kafka_broker.REACHABLE,
        *kafka_broker.CHECKS,
        *kafka_topics.CHECKS,
        *kafka_transactions.CHECKS,
        redis_checks.REACHABLE,
        *redis_checks.CHECKS,
        *directory.CHECKS,
        *machine.CHECKS,
    ]


_INSTALL = "pip install 'ostinato[kafka]'"
