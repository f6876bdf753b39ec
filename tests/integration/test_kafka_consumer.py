"""The consumer that gives blocks, on a real broker: the same records and positions as aiokafka's own gives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ostinato.cep.connectors.base import ConnectorError, SourceError
from ostinato.cep.connectors.kafka import consumer as module
from ostinato.cep.connectors.kafka import records
from ostinato.cep.connectors.kafka.consumer import BulkConsumer
from ostinato.cep.connectors.kafka.records import RecordBlock
from tests.faults.driver import eventually
from tests.kafka_batches import CODECS
from tests.kafka_clients import Given, Isolation, Kafka
from tests.kafka_services import KafkaBrokers

Row = tuple[str, int, int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


def rows(block: RecordBlock) -> Iterator[Row]:
    for i in range(len(block)):
        place = block.topic, block.partition, int(block.offset[i])
        yield *place, int(block.timestamp[i]), block.key(i), block.value(i), block.headers(i)


def made(record: Any) -> Row:
    place = record.topic, record.partition, record.offset
    return *place, record.timestamp, record.key, record.value, list(record.headers)


async def read_all(kafka: Kafka, topic: str, bulk: bool, isolation: Isolation) -> tuple[list[Row], dict[int, int]]:
    """All records, and the positions behind them."""
    kind = BulkConsumer if bulk else AIOKafkaConsumer
    consumer = kind(
        bootstrap_servers=kafka.servers,
        group_id=None,
        enable_auto_commit=False,
        isolation_level=isolation,
        max_partition_fetch_bytes=30_000,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for partition in kafka_partitions[topic]]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, 0)
        found: list[Row] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for given in (await consumer.getmany(timeout_ms=100)).values():
                found += [row for each in given for row in rows(each)] if bulk else [made(each) for each in given]
        return sorted(found, key=lambda row: row[:3]), {
            each.partition: await consumer.position(each) for each in places
        }
    finally:
        await consumer.stop()


kafka_partitions: dict[str, range] = {}


@pytest.fixture(scope="module")
def topic(shared_kafka: Kafka) -> str:
    """Records of every kind: within transactions that were committed and aborted, and outside of any; of all codecs."""
    name = shared_kafka.create_topic(shared_kafka.unique("kinds"), 3)
    kafka_partitions[name] = range(3)
    began = int(time.time() * 1000)

    async def fill() -> None:
        for codec in CODECS:
            producer = AIOKafkaProducer(
                bootstrap_servers=shared_kafka.servers, compression_type=None if codec == "none" else codec
            )
            await producer.start()
            for n in range(300):
                headers = [("codec", codec.encode()), ("empty", b"")] if n % 3 == 0 else None
                key = None if n % 5 == 0 else b"k%d" % n
                value = None if n % 7 == 0 and key is not None else b"%d %s" % (n, b"x" * (n % 200))
                await producer.send(name, value, key=key, partition=n % 3, headers=headers, timestamp_ms=began + n)
            await producer.stop()

    asyncio.run(fill())
    for n in range(6):
        given = [Given(b"k", b"in %d, %d" % (n, i), i % 3, (("h", b"v"),)) for i in range(40)]
        shared_kafka.produce(name, given, transaction="commit" if n % 2 else "abort")
        shared_kafka.produce(name, given[:2])
    return name


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
def test_it_gives_what_aiokafka_gives(kafka: Kafka, topic: str, isolation: Isolation) -> None:
    ours, our_places = asyncio.run(read_all(kafka, topic, True, isolation))
    theirs, places = asyncio.run(read_all(kafka, topic, False, isolation))
    assert ours == theirs
    assert our_places == places
    assert len(ours) == 1500 + (3 if isolation == "read_committed" else 6) * 40 + 12


def test_a_transaction_that_was_aborted_moves_the_position(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("aborted"))
    kafka.produce(topic, [(None, b"gone")], transaction="abort")

    async def ask() -> list[RecordBlock]:
        consumer = BulkConsumer(bootstrap_servers=kafka.servers, group_id=None, isolation_level="read_committed")
        await consumer.start()
        try:
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            consumer.seek(place, 0)
            return (await consumer.getmany(timeout_ms=10_000))[place]
        finally:
            await consumer.stop()

    (block,) = asyncio.run(ask())
    assert (len(block), block.next_offset) == (0, 2)


def test_a_topic_that_was_compacted(kafka_brokers: KafkaBrokers) -> None:
    """Offsets have gaps within batches, between them, and at their ends."""
    broker = kafka_brokers({"log.cleaner.backoff.ms": "200", "log.segment.delete.delay.ms": "0"})
    config = {"cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    topic = broker.create_topic("compacted", config=config)
    kafka_partitions[topic] = range(1)
    for n in range(6):
        broker.produce(topic, [(b"k%d" % (i % (7 + n)), b"%d %d" % (n, i)) for i in range(30)])
        time.sleep(0.2)
    eventually(lambda: len(broker.read(topic)) < 100, "the topic to be compacted")
    ours, our_places = asyncio.run(read_all(broker, topic, True, "read_committed"))
    theirs, places = asyncio.run(read_all(broker, topic, False, "read_committed"))
    assert ours == theirs
    assert our_places == places == {0: 180}


def test_pauses_and_seeks(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("seeks"), 2)
    kafka.produce(topic, [(None, b"%d" % n, n % 2) for n in range(20)])
    one, other = TopicPartition(topic, 0), TopicPartition(topic, 1)

    async def run() -> None:
        consumer = BulkConsumer(bootstrap_servers=kafka.servers, group_id=None, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            consumer.assign([one, other])
            consumer.seek(one, 0)
            consumer.seek(other, 0)
            consumer.pause(other)
            found = await consumer.getmany(timeout_ms=10_000)
            assert list(found) == [one]
            assert [found[one][0].value(row) for row in (0, 9)] == [b"0", b"18"]
            assert await consumer.getmany(timeout_ms=200) == {}
            # what is in the buffer of a partition that is paused later is not given, and comes again
            consumer.seek(one, 5)
            await asyncio.sleep(0.3)
            consumer.pause(one)
            assert await consumer.getmany(timeout_ms=200) == {}
            assert await consumer.position(one) == 5
            consumer.resume(one)
            (block,) = (await consumer.getmany(timeout_ms=10_000))[one]
            assert block.offset.tolist() == [5, 6, 7, 8, 9]
            assert await consumer.position(one) == 10
            consumer.resume(other)
            (block,) = (await consumer.getmany(other, timeout_ms=10_000))[other]
            assert (block.partition, len(block)) == (1, 10)
        finally:
            await consumer.stop()

    asyncio.run(run())


def test_others_consumers_are_as_they_were(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("others"))
    kafka.produce(topic, [(b"k", b"v")])
    (record,) = kafka.read(topic)
    assert (record.key, record.value) == (b"k", b"v")
    assert BulkConsumer.__mro__[1] is AIOKafkaConsumer


def test_a_damaged_batch_is_an_error_of_the_source(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a broker with a bad disk: a byte of what it sends is another one."""
    topic = kafka.create_topic(kafka.unique("damaged"))
    kafka.produce(topic, [(None, b"first")])
    kafka.produce(topic, [(None, b"second")])

    def damaged(name: str, partition: int, data: bytes, *rest: Any) -> RecordBlock:
        return records.take_apart(name, partition, data.replace(b"second", b"Second"), *rest)

    monkeypatch.setattr(module, "take_apart", damaged)

    async def run() -> None:
        consumer = BulkConsumer(bootstrap_servers=kafka.servers, group_id=None)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            consumer.seek(TopicPartition(topic, 0), 0)
            with pytest.raises(SourceError, match=f"topic {topic}, partition 0: cannot read what is at offset 1: "):
                await consumer.getmany(timeout_ms=10_000)
        finally:
            await consumer.stop()

    asyncio.run(run())


def test_another_aiokafka_is_refused() -> None:
    """Where its fetcher were written otherwise, records would come as objects and nobody would know them."""

    def fetch() -> None: ...

    with pytest.raises(
        ConnectorError, match=r"aiokafka .* is not the one that this was made for \(.* has no PartitionR"
    ):
        module._over_again(fetch, PartitionRecords=object)
