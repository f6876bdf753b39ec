"""The doctor at a real Kafka: what is set wrongly there is found, and nothing is changed by looking."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import pytest

from ostinato.cep.connectors.kafka.options import Connection, KafkaSource, KafkaTarget
from ostinato.server.doctor.examine import examine_kafka
from ostinato.server.doctor.findings import Finding, Severity
from ostinato.server.doctor.job import Job, Source, Target
from ostinato.server.doctor.kafka_facts import KafkaFacts
from ostinato.server.doctor.kafka_gather import gather
from tests.kafka_clients import Kafka
from tests.kafka_services import KafkaBroker, KafkaBrokers, kafka_broker
from tests.services import free_port

HOUR_MS = 3_600_000
WRONG = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "transaction.max.timeout.ms": "30000",
    "transaction.partition.verification.enable": "false",
    "transactional.id.expiration.ms": "3600000",
    "offsets.retention.minutes": "60",
    "offset.metadata.max.bytes": "512",
    "group.min.session.timeout.ms": "20000",
    "transaction.state.log.replication.factor": "3",
    "auto.create.topics.enable": "true",
}
"""Everything of a broker that there is a check for, set wrongly."""


def job_at(kafka: Kafka, inputs: Iterable[str], output: str, name: str = "fraud") -> Job:
    to = Connection(kafka.servers)
    sources = tuple(Source(each, KafkaSource(to, (each,))) for each in inputs)
    target = Target("alerts", KafkaTarget(to, output))
    return Job(name, "fraud.cep", sources, (target,), (), HOUR_MS, (), 100, letters=output)


def facts_of(job: Job) -> KafkaFacts:
    return gather(job, job.connections[0])


def found_in(facts: KafkaFacts, check: str = "") -> list[Finding]:
    return [each for each in examine_kafka(facts) if each.severity > Severity.OK and each.check.startswith(check)]


def said(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(each.check, each.severity.word) for each in findings}


# A broker that is set up for trying things out


def test_topics_that_are_as_they_should_be_are_left_in_peace(kafka: Kafka) -> None:
    logins, alerts = (kafka.create_topic(kafka.unique(name), 2) for name in ("logins", "alerts"))
    kafka.produce(logins, [("k", "v")])
    facts = facts_of(job_at(kafka, [logins], alerts))
    # one broker has no second copy of anything
    assert said(found_in(facts)) == {("kafka.copies", "warning"), ("kafka.own_topics", "warning")}
    assert facts.unanswered == ()
    assert facts.features["metadata.version"] >= 1
    assert [len(facts.topics[name].partitions) for name in (logins, alerts)] == [2, 2]
    ends = {part.number: (part.start, part.end, part.stable) for part in facts.topics[logins].partitions}
    assert sorted(ends.values()) == [(0, 0, 0), (0, 1, 1)]
    assert max(part.newest_ms or 0 for part in facts.topics[logins].partitions) > time.time() * 1000 - 60_000


def test_looking_makes_no_topics(kafka: Kafka) -> None:
    names = [kafka.unique(name) for name in ("logins", "alerts")]
    facts = facts_of(job_at(kafka, [names[0]], names[1]))
    assert said(found_in(facts, "kafka.topics")) == {("kafka.topics", "error"), ("kafka.topics", "warning")}
    assert [kafka.partitions(name) for name in names] == [[], []]


def test_settings_of_topics_are_found(kafka: Kafka) -> None:
    unlimited = {"message.timestamp.after.max.ms": str(1 << 62)}
    short = kafka.create_topic(kafka.unique("short"), 1, {"retention.ms": "60000", "retention.bytes": "1000000"})
    compact = kafka.create_topic(kafka.unique("compact"), 3, {"cleanup.policy": "compact"})
    ahead = kafka.create_topic(kafka.unique("ahead"), 1, unlimited)
    kafka.produce(ahead, [("k", "v", 0, (), round(time.time() * 1000) + 2 * 86_400_000)])
    alerts = kafka.create_topic(
        kafka.unique("alerts"),
        1,
        {
            "max.message.bytes": "1000",
            "unclean.leader.election.enable": "true",
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": "2",
        },
    )
    facts = facts_of(job_at(kafka, [short, compact, ahead], alerts))
    found = found_in(facts)
    assert said(found) >= {
        ("kafka.retention", "error"),
        ("kafka.retention", "warning"),
        ("kafka.compaction", "error"),
        ("kafka.timestamps", "warning"),
        ("kafka.timestamps", "note"),
        ("kafka.sizes", "warning"),
        ("kafka.unclean", "warning"),
        ("kafka.partitions", "error"),
        ("kafka.leaders", "error"),
    }
    (retention,) = (each for each in found if each.check == "kafka.retention" and each.severity is Severity.ERROR)
    assert f"--entity-name {short} --add-config retention.ms=90000000" in retention.change


def test_records_that_were_deleted_before_they_were_read_are_found(kafka: Kafka) -> None:
    logins, group = kafka.create_topic(kafka.unique("logins")), kafka.unique("group")
    kafka.produce(logins, [("k", str(number)) for number in range(10)])
    asyncio.run(commit(kafka, group, logins, 2))
    job = job_at(kafka, [logins], kafka.create_topic(kafka.unique("alerts")), group)
    assert found_in(facts_of(job), "kafka.deleted") == []
    kafka.delete_records(logins, {0: 7})
    (found,) = found_in(facts_of(job), "kafka.deleted")
    assert "partition 0: 5 records" in found.what


def test_a_transaction_that_hangs_is_found(kafka: Kafka) -> None:
    logins, alerts = (kafka.create_topic(kafka.unique(name)) for name in ("logins", "alerts"))
    job = job_at(kafka, [logins], alerts)
    name = kafka.unique("ostinato.fraud")

    async def look() -> KafkaFacts:
        async with transaction(kafka, name, alerts):
            return await asyncio.to_thread(facts_of, job)

    facts = asyncio.run(look())
    (opened,) = facts.topics[alerts].partitions[0].open
    assert (opened.id, opened.start_offset, opened.timeout_ms, opened.state) == (name, 0, 60_000, "Ongoing")
    assert found_in(facts, "kafka.hanging") == []
    # the same a while later
    (found,) = found_in(replace(facts, now_ms=facts.now_ms + 61_000), "kafka.hanging")
    assert name in found.what
    assert found.severity is Severity.WARNING
    (found,) = found_in(replace(facts, now_ms=facts.now_ms + 600_000), "kafka.hanging")
    assert found.severity is Severity.ERROR
    assert f"abort --topic {alerts} --partition 0 --start-offset 0" in found.change
    # without a program every topic is looked through
    everywhere = replace(facts, job=Job(), now_ms=facts.now_ms + 600_000)
    assert said(found_in(everywhere, "kafka.hanging")) == {("kafka.hanging", "error")}
    assert found_in(facts_of(job), "kafka.hanging") == []


def test_a_job_that_runs_is_not_disturbed(kafka: Kafka) -> None:
    """It is asked for its own transactional id and group, while it has a transaction open and is a member."""
    logins, alerts = (kafka.create_topic(kafka.unique(name)) for name in ("logins", "alerts"))
    group = kafka.unique("group")
    kafka.produce(logins, [("k", "v")])
    job = job_at(kafka, [logins], alerts, group)

    async def look() -> tuple[KafkaFacts, set[int]]:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

        consumer = AIOKafkaConsumer(
            logins,
            bootstrap_servers=kafka.servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=f"ostinato.{group}.0")
        await consumer.start()
        try:
            await producer.start()
            try:
                await consumer.getone()
                generations = {consumer._coordinator.generation}
                await producer.begin_transaction()
                await producer.send_and_wait(alerts, b"match", partition=0)
                facts = await asyncio.to_thread(facts_of, job)
                await producer.send_offsets_to_transaction({TopicPartition(logins, 0): 1}, group)
                await producer.commit_transaction()
                await asyncio.to_thread(facts_of, job)
                generations.add(consumer._coordinator.generation)
                return facts, generations
            finally:
                await producer.stop()
        finally:
            await consumer.stop()

    facts, generations = asyncio.run(look())
    assert [each.id for each in facts.topics[alerts].partitions[0].open] == [f"ostinato.{group}.0"]
    assert found_in(facts, "kafka.allowed") == []
    assert len(generations) == 1
    assert [record.value for record in kafka.read(alerts, until=kafka.end_offsets(alerts))] == [b"match"]
    assert kafka.committed(group)[logins, 0][0] == 1
    assert [part.committed for part in facts_of(job).topics[logins].partitions] == [1]


def test_without_a_program_all_topics_are_searched_for_transactions(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("any"))
    facts = gather(Job(), Connection(kafka.servers))
    assert topic in facts.topics
    assert not facts.inputs
    assert found_in(facts, "kafka.retention") == []


def test_topics_are_found_by_their_pattern(kafka: Kafka) -> None:
    stem = kafka.unique("p")
    for number in (1, 2):
        kafka.create_topic(f"{stem}-{number}")
    to = Connection(kafka.servers)
    job = Job("fraud", "fraud.cep", (Source("logins", KafkaSource(to, (), f"{stem}-.*")),))
    facts = gather(job, to)
    assert facts.inputs == [f"{stem}-1", f"{stem}-2"]
    assert set(facts.inputs) <= set(facts.topics)


# A broker that is set up wrongly


@pytest.fixture(scope="module")
def wrong() -> Iterator[KafkaBroker]:
    with kafka_broker(WRONG) as broker:
        yield broker


def test_settings_of_brokers_are_found(wrong: KafkaBroker) -> None:
    logins, alerts = (wrong.create_topic(wrong.unique(name)) for name in ("logins", "alerts"))
    found = found_in(facts_of(job_at(wrong, [logins], alerts)))
    assert said(found) >= {
        ("kafka.transaction_timeout", "error"),
        ("kafka.transaction_version", "warning"),
        ("kafka.transactional_ids", "warning"),
        ("kafka.offsets_retention", "error"),
        ("kafka.offset_metadata", "error"),
        ("kafka.sessions", "error"),
        ("kafka.own_topics", "error"),
    }
    # the same broker as seen by a job that asks for less
    job = job_at(wrong, [logins], alerts)
    source = replace(job.sources[0], kafka=replace(job.sources[0].kafka, session_timeout_ms=20_000))
    target = replace(job.targets[0], kafka=replace(job.targets[0].kafka, transaction_timeout_ms=25_000))
    modest = said(found_in(facts_of(replace(job, sources=(source,), targets=(target,), outage_ms=HOUR_MS))))
    assert modest.isdisjoint({("kafka.transaction_timeout", "error"), ("kafka.sessions", "error")})
    assert ("kafka.offsets_retention", "error") not in modest


def test_what_is_not_allowed_is_found(wrong: KafkaBroker) -> None:
    logins, hidden, alerts = (wrong.create_topic(wrong.unique(name)) for name in ("logins", "hidden", "alerts"))
    group = wrong.unique("group")
    job = job_at(wrong, [logins, hidden], alerts, group)
    assert found_in(facts_of(job), "kafka.allowed") == []
    rules = [
        (_TOPIC, alerts, _WRITE),
        (_TOPIC, hidden, _DESCRIBE),
        (_GROUP, group, _READ),
        (_ID, f"ostinato.{group}.0", _WRITE),
    ]
    asyncio.run(deny(wrong, rules))
    found = eventually(lambda: found_in(facts_of(job)), lambda all_of_them: len(denied(all_of_them)) == 4)
    assert denied(found) == {
        f"topic {alerts}": f"--operation Write --topic {alerts}",
        f"topic {hidden}": f"--operation Describe --operation Read --topic {hidden}",
        f"group {group}": f"--operation Describe --operation Read --group {group}",
        f"transactional id ostinato.{group}.0": "--operation Describe --operation Write "
        f"--resource-pattern-type prefixed --transactional-id ostinato.{group}.",
    }


def test_settings_that_may_not_be_seen_are_noted(wrong: KafkaBroker) -> None:
    logins, alerts = (wrong.create_topic(wrong.unique(name)) for name in ("logins", "alerts"))
    asyncio.run(deny(wrong, [(_TOPIC, logins, _DESCRIBE_CONFIGS)]))
    job = job_at(wrong, [logins], alerts)
    (found,) = eventually(lambda: found_in(facts_of(job), "kafka.unanswered"), bool)
    assert f"settings of topic {logins}" in found.what
    assert facts_of(job).topics[logins].configs is None


# A broker that is out of reach


def test_a_broker_behind_an_address_that_nobody_reaches_is_found(kafka_brokers: KafkaBrokers) -> None:
    broker = kafka_brokers(advertised=free_port())
    facts = gather(Job(), Connection(f"127.0.0.1:{broker.external_port}"))
    assert not facts.unreachable
    found = found_in(facts)
    assert said(found) == {("kafka.advertised", "error")}
    assert "advertised.listeners" in found[0].change


def test_nobody_at_home_is_found_at_once() -> None:
    began = time.monotonic()
    (found,) = found_in(gather(Job(), Connection(f"127.0.0.1:{free_port()}")))
    assert found.check == "kafka.reachable"
    assert "nobody listens" in found.what
    assert time.monotonic() - began < 2


def test_a_bootstrap_server_that_is_away_is_found_beside_one_that_is_not(kafka: Kafka) -> None:
    away = f"127.0.0.1:{free_port()}"
    facts = gather(Job(), Connection(f"{away}, {kafka.servers}"))
    assert facts.brokers
    (found,) = found_in(facts, "kafka.reachable")
    assert found.severity is Severity.WARNING
    assert away in found.what


def test_a_certificate_that_cannot_be_read_is_told(kafka: Kafka) -> None:
    (found,) = found_in(gather(Job(), Connection(kafka.servers, "SSL", cafile="/no/such.pem")))
    assert found.check == "kafka.reachable"
    assert "/no/such.pem" in found.what


def test_a_listener_of_another_protocol_is_told(kafka: Kafka) -> None:
    (found,) = found_in(gather(Job(), Connection(kafka.servers, "SSL")))
    assert "security_protocol" in found.line
    password = Connection(kafka.servers, "SASL_PLAINTEXT", username="ada", password="topsecret")
    (found,) = found_in(gather(Job(), password))
    assert found.check == "kafka.reachable"
    assert "topsecret" not in found.line


def test_one_that_does_not_answer_is_given_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        began = time.monotonic()
        (found,) = found_in(gather(Job(), Connection(f"127.0.0.1:{silent.getsockname()[1]}")))
    assert "does not answer within 5 s" in found.what
    assert time.monotonic() - began < 9


def test_a_broker_that_is_stopped_in_the_middle_is_given_up(kafka_brokers: KafkaBrokers) -> None:
    broker = kafka_brokers()
    broker.pause()
    try:
        began = time.monotonic()
        assert said(found_in(gather(Job(), Connection(broker.servers)))) == {("kafka.reachable", "error")}
        assert time.monotonic() - began < 9
    finally:
        broker.go_on()


def test_what_is_no_kafka_is_told(redis: Any) -> None:
    (found,) = found_in(gather(Job(), Connection(f"127.0.0.1:{redis.port}")))
    assert found.check == "kafka.reachable"


# Helpers

_READ, _WRITE, _DESCRIBE, _DESCRIBE_CONFIGS = 3, 4, 8, 10
_TOPIC, _GROUP, _ID = 2, 3, 5


def denied(findings: Iterable[Finding]) -> dict[str, str]:
    """What is not allowed, with what would allow it."""
    return {
        each.subject: each.change.partition("--allow-principal User:NAME ")[2]
        for each in findings
        if "kafka-acls.sh" in each.change and each.check in ("kafka.allowed", "kafka.topics")
    }


def eventually(ask: Any, holds: Any) -> Any:
    """What is asked for, once it is so: rules reach a broker a moment after they were made."""
    until = time.monotonic() + 15
    while not holds(found := ask()) and time.monotonic() < until:
        time.sleep(0.2)
    return found


async def commit(kafka: Kafka, group: str, topic: str, offset: int) -> None:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
    finally:
        await consumer.stop()


@asynccontextmanager
async def transaction(kafka: Kafka, name: str, topic: str) -> AsyncIterator[None]:
    """A transaction that is open."""
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=kafka.servers, transactional_id=name)
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"match", partition=0)
        try:
            yield
        finally:
            await producer.abort_transaction()
    finally:
        await producer.stop()


async def deny(kafka: Kafka, rules: Iterable[tuple[int, str, int]]) -> None:
    """Forbid everybody operations on resources: kind, name, operation, in Kafka's numbers."""
    from aiokafka.client import AIOKafkaClient
    from aiokafka.protocol.api import Request, RequestStruct, Response
    from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

    class Answer(Response):  # type: ignore[misc]
        API_KEY = 30
        API_VERSION = 1
        SCHEMA = Schema(("throttle_ms", Int32), ("results", Array(("code", Int16), ("message", String("utf-8")))))

    class Struct(RequestStruct):  # type: ignore[misc]
        API_KEY = 30
        API_VERSION = 1
        RESPONSE_TYPE = Answer
        SCHEMA = Schema(
            (
                "creations",
                Array(
                    ("kind", Int8),
                    ("name", String("utf-8")),
                    ("literal", Int8),
                    ("principal", String("utf-8")),
                    ("host", String("utf-8")),
                    ("operation", Int8),
                    ("permission", Int8),
                ),
            )
        )

    class CreateAcls(Request[Struct]):  # type: ignore[misc]
        API_KEY = 30

        def build(self, request_struct_class: type[Struct]) -> Struct:
            # pattern 3: literal; permission 2: deny, 3: allow. Whoever is named by a rule may nothing else by default
            denials = [(kind, name, 3, "User:*", "*", operation, 2) for kind, name, operation in rules]
            allowances = [(kind, name, 3, "User:*", "*", 2, 3) for kind, name, _ in rules]
            return request_struct_class([*denials, *allowances])

    client = AIOKafkaClient(bootstrap_servers=kafka.servers)
    await client.bootstrap()
    try:
        answer = await client.send(client.get_random_node(), CreateAcls())
        assert all(code == 0 for code, _ in answer.results), answer
    finally:
        await client.close()
