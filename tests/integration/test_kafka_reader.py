"""Topics as the source of a whole job, on a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import pytest

from ostinato.cep.connectors.base import Chunk, Idle, SourceError
from ostinato.cep.connectors.factory import check_source, is_live, reader_for
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, LostOffsetsError
from ostinato.cep.connectors.kafka.reader import KafkaReader
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from tests.kafka_clients import Kafka
from tests.kafka_services import KafkaBrokers, LocalKafka
from tests.services import free_port


def stream(servers: str, topic: str, **options: Any) -> Stream:
    said = "".join(f", {name} = {value!r}" for name, value in options.items())
    target = f"'{topic}'" if topic else ""
    text = f"stream s (x bigint) processing time from kafka {target} (bootstrap_servers = '{servers}'{said})"
    return parse_program(text).streams[0]


@contextmanager
def opened(kafka: Kafka, topic: str, say: Any = None, **options: Any) -> Iterator[KafkaReader]:
    reader = reader_for(stream(kafka.servers, topic, **options), say=say)
    assert isinstance(reader, KafkaReader)
    with closing(reader):
        yield reader


def take(reader: KafkaReader, count: int | None = None, within: float = 30) -> list[tuple[int, str, int, bytes]]:
    """So many records, or all until the end: (split, topic, offset, value)."""
    found: list[tuple[int, str, int, bytes]] = []
    deadline = time.monotonic() + within
    while count is None or len(found) < count:
        assert time.monotonic() < deadline, found
        chunk = reader.read()
        if chunk is None:
            assert count is None, found
            break
        if isinstance(chunk, Chunk):
            block = chunk.data
            found += [
                (chunk.split, block.topic, int(block.offset[i]), block.value(i) or b"") for i in range(len(block))
            ]
    return found


def positions(reader: KafkaReader, count: int) -> tuple[list[Any], dict[int, Mapping[str, Any]]]:
    """So many records at least, and where reading goes on behind them, by split."""
    found: list[Any] = []
    where: dict[int, Mapping[str, Any]] = {}
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, found
        chunk = reader.read()
        if isinstance(chunk, Chunk):
            where[chunk.split] = chunk.position
            found += [chunk.data.value(i) for i in range(len(chunk.data))]
    return found, where


def test_all_partitions_are_splits_in_order(kafka: Kafka) -> None:
    one, other = sorted([kafka.unique("b"), kafka.unique("a")])
    kafka.create_topic(one, 2)
    kafka.create_topic(other, 3)
    for n in range(4):
        kafka.produce(one, [(None, b"%d" % n, n % 2)])
        kafka.produce(other, [(None, b"%d" % n, n % 3)])
    with opened(kafka, f"{other}, {one}", until="latest") as reader:
        assert reader.splits == 5
        found = take(reader)
        assert reader.read() is None
    assert sorted(found) == [
        (0, one, 0, b"0"), (0, one, 1, b"2"), (1, one, 0, b"1"), (1, one, 1, b"3"),
        (2, other, 0, b"0"), (2, other, 1, b"3"), (3, other, 0, b"1"), (4, other, 0, b"2"),
    ]  # fmt: skip


def test_until_latest_ends_where_the_topics_ended(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("until"), 2)
    kafka.produce(topic, [(None, b"before", 0)])
    kafka.produce(topic, [(None, b"aborted", 0)], transaction="abort")
    with opened(kafka, topic, until="latest") as reader:
        kafka.produce(topic, [(None, b"later", 0), (None, b"later", 1)])
        assert [row[3] for row in take(reader)] == [b"before"]


def test_without_until_it_is_idle_and_goes_on(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("idle"))
    with opened(kafka, topic) as reader:
        first = reader.read()
        assert isinstance(first, Chunk)
        assert (len(first.data), first.position["offset"]) == (0, 0)
        assert reader.read() == Idle()
        kafka.produce(topic, [(None, b"x")])
        began = time.monotonic()
        assert [row[3] for row in take(reader, 1)] == [b"x"]
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("start", ["earliest", "latest", "time", "future"])
def test_where_it_starts(kafka: Kafka, start: str) -> None:
    topic = kafka.create_topic(kafka.unique("start"))
    now = int(time.time()) * 1000
    kafka.produce(topic, [(None, b"%d" % n, 0, (), now - 60_000 + n * 10_000) for n in range(5)])
    moments = {"time": now - 40_000, "future": now + 86_400_000}
    said = start
    if start in moments:
        said = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moments[start] / 1000))
    with opened(kafka, topic, start=said) as reader:
        kafka.produce(topic, [(None, b"new")])
        old = {"earliest": [b"0", b"1", b"2", b"3", b"4"], "time": [b"2", b"3", b"4"]}.get(start, [])
        assert [row[3] for row in take(reader, len(old) + 1)] == [*old, b"new"]


def test_it_goes_on_behind_a_chunk(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("seek"), 2)
    kafka.produce(topic, [(None, b"%d" % n, n % 2) for n in range(10)])
    with opened(kafka, topic) as reader:
        found, where = positions(reader, 10)
        assert len(found) == 10
    kafka.produce(topic, [(None, b"%d" % n, n % 2) for n in range(10, 14)])
    with opened(kafka, topic, until="latest") as reader:
        for position in where.values():
            reader.seek(position)
        assert sorted(row[3] for row in take(reader)) == [b"10", b"11", b"12", b"13"]
    # also from a place in the middle, and anew after something was read
    with opened(kafka, topic) as reader:
        take(reader, 14)
        reader.seek({**where[0], "offset": 3})
        reader.seek({**where[1], "offset": 6})
        assert sorted(row[2:] for row in take(reader, 5)) == [(3, b"6"), (4, b"8"), (5, b"10"), (6, b"12"), (6, b"13")]


def test_what_came_before_the_first_record_of_a_job_that_is_resumed(kafka: Kafka) -> None:
    """`latest` is that of the first start. Without the chunks that have no records it would be that of the second."""
    topic = kafka.create_topic(kafka.unique("latest"), 2)
    kafka.produce(topic, [(None, b"old", 0), (None, b"old", 1)])
    where = {}
    with opened(kafka, topic, start="latest") as reader:
        for _ in range(2):
            chunk = reader.read()
            assert isinstance(chunk, Chunk)
            where[chunk.split] = chunk.position
    assert where == {n: {"split": n, "topic": topic, "partition": n, "offset": 1} for n in range(2)}
    kafka.produce(topic, [(None, b"meanwhile", 1)])
    with opened(kafka, topic, start="latest") as reader:
        for position in where.values():
            reader.seek(position)
        assert [row[3] for row in take(reader, 1)] == [b"meanwhile"]


def test_a_resumed_job_ends_where_it_would_have_ended(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("end"))
    kafka.produce(topic, [(None, b"1"), (None, b"2")])
    with opened(kafka, topic, until="latest") as reader:
        chunk = reader.read()
        assert isinstance(chunk, Chunk)
    kafka.produce(topic, [(None, b"3")])
    with opened(kafka, topic, until="latest") as reader:
        reader.seek(chunk.position)
        assert [row[3] for row in take(reader)] == [b"1", b"2"]


def test_partitions_and_topics_that_come_later(kafka: Kafka) -> None:
    """They are read from their beginning, whatever `start` says, and numbers of splits stay."""
    prefix = kafka.unique("many")
    kafka.create_topic(f"{prefix}.b")
    said: list[str] = []
    pattern = f"{prefix}[.].*"
    with opened(kafka, "", said.append, topic_pattern=pattern, start="latest", metadata_max_age_ms=300) as reader:
        assert reader.splits == 1
        reader.read()
        kafka.create_topic(f"{prefix}.a", 2)
        kafka.create_topic(f"{prefix}x.a")
        kafka.produce(f"{prefix}.a", [(None, b"new", 1)])
        kafka.produce(f"{prefix}x.a", [(None, b"other")])
        found, where = positions(reader, 1)
        assert found == [b"new"]
        kafka.produce(f"{prefix}.b", [(None, b"more")])
        assert take(reader, 1) == [(0, f"{prefix}.b", 0, b"more")]
        assert where[2] == {"split": 2, "topic": f"{prefix}.a", "partition": 1, "offset": 1}
    assert [text for text in said if "is new and is read from its beginning" in text]
    # and the job that is resumed has the same numbers, though the order would be another
    kafka.create_topic(f"{prefix}.0")
    kafka.produce(f"{prefix}.0", [(None, b"last")])
    with opened(kafka, "", topic_pattern=pattern, start="latest") as reader:
        reader.seek({"split": 0, "topic": f"{prefix}.b", "partition": 0, "offset": 1})
        reader.seek({"split": 2, "topic": f"{prefix}.a", "partition": 1, "offset": 1})
        assert reader.splits == 4
        assert take(reader, 1) == [(1, f"{prefix}.0", 0, b"last")]


def test_a_partition_of_a_checkpoint_that_is_gone(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("gone"))
    with (
        opened(kafka, topic) as reader,
        pytest.raises(SourceError, match=r"had read its partition 1, which is not there"),
    ):
        reader.seek({"split": 1, "topic": topic, "partition": 1, "offset": 5})


def test_a_topic_that_is_deleted_while_it_is_read(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("deleted"))
    kafka.produce(topic, [(None, b"x")])
    with opened(kafka, topic, metadata_max_age_ms=300) as reader:
        take(reader, 1)
        kafka.delete_topic(topic)
        # where brokers make topics that somebody asks for, it is there again
        with pytest.raises(SourceError, match=r"there is no such topic, or it may not be seen|was made anew"):
            take(reader, 1)


@pytest.mark.parametrize("policy", ["fail", "earliest", "latest"])
def test_records_that_were_deleted(kafka: Kafka, policy: str) -> None:
    topic = kafka.create_topic(kafka.unique("lost"))
    kafka.produce(topic, [(None, b"%d" % n) for n in range(10)])
    kafka.delete_records(topic, {0: 7})
    said: list[str] = []
    with opened(kafka, topic, said.append, on_lost_offsets=policy) as reader:
        reader.seek({"split": 0, "topic": topic, "partition": 0, "offset": 3})
        if policy == "fail":
            with pytest.raises(
                LostOffsetsError, match=rf"{topic}, partition 0 at .*: offsets 3 to 6 have been deleted"
            ):
                take(reader, 1)
            return
        where = {}
        deadline = time.monotonic() + 30
        while not said:
            assert time.monotonic() < deadline
            reader.read()
        kafka.produce(topic, [(None, b"new")])
        values = []
        while b"new" not in values:
            chunk = reader.read()
            if isinstance(chunk, Chunk):
                where[chunk.split] = chunk.position
                values += [chunk.data.value(i) for i in range(len(chunk.data))]
    assert values[-1:] == [b"new"]
    lost, there = (4, 7) if policy == "earliest" else (7, 10)
    assert f"reading goes on at {there}: up to {lost} records are lost" in said[0]
    assert values == ([b"7", b"8", b"9", b"new"] if policy == "earliest" else [b"new"])
    assert where[0]["offset"] == 11


def test_a_topic_that_was_made_anew(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("anew"))
    kafka.produce(topic, [(None, b"x")])
    with opened(kafka, topic) as reader:
        reader.seek({"split": 0, "topic": topic, "partition": 0, "offset": 100})
        with pytest.raises(LostOffsetsError, match="offset 100 is to be read next, but it ends at 1: it was made anew"):
            take(reader, 1)


def test_what_is_wrong_at_the_start(kafka: Kafka) -> None:
    with pytest.raises(
        SourceError, match=r"topic nowhere-to-be-found at .*: there is no such topic, or it may not be seen"
    ):
        reader_for(stream(kafka.servers, "nowhere-to-be-found"))
    assert not kafka.partitions("nowhere-to-be-found"), "it was made by asking for it"
    with pytest.raises(SourceError, match="there is no topic of such a name"):
        reader_for(stream(kafka.servers, "", topic_pattern="no such name"))
    servers = f"127.0.0.1:{free_port()}"
    with pytest.raises(KafkaUnavailableError, match=f"topic logins at {servers}: no answer .* bootstrap_servers"):
        reader_for(stream(servers, "logins"))
    assert not [thread for thread in threading.enumerate() if thread.name == "kafka-reader"]


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Kafka, str]]:
    """A broker, and the address at which it wants users: `reader` may read what there is, `nobody` nothing."""
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    broker = LocalKafka(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:reader",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.users.plain.sasl.jaas.config": f'{plain} user_reader="right" user_nobody="right";',
            "listener.security.protocol.map": "DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_PLAINTEXT",
        }
    )
    port = free_port()
    lines = broker._properties.read_text().splitlines()
    for name in ("listeners", "advertised.listeners"):
        (at,) = (n for n, line in enumerate(lines) if line.startswith(f"{name}="))
        lines[at] += f",USERS://127.0.0.1:{port}"
    broker._properties.write_text("\n".join(lines) + "\n")
    with closing(broker):
        broker.start()
        broker.create_topic("guarded")
        broker.produce("guarded", [(None, b"secret")])
        yield broker, f"127.0.0.1:{port}"


def test_users_and_what_they_may_read(guarded: tuple[Kafka, str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, servers = guarded
    monkeypatch.setenv("KAFKA_PASSWORD", "right")

    def as_user(name: str, password: str = "env:KAFKA_PASSWORD") -> Stream:
        said = {"sasl_plain_username": name, "sasl_plain_password": password}
        return stream(servers, "guarded", security_protocol="SASL_PLAINTEXT", until="latest", **said)

    with closing(reader_for(as_user("reader"))) as reader:
        assert isinstance(reader, KafkaReader)
        assert [row[3] for row in take(reader)] == [b"secret"]
    with pytest.raises(SourceError, match=r"topic guarded at .*: .* or it may not be seen; .* ACL"):
        reader_for(as_user("nobody"))
    with pytest.raises(KafkaUnavailableError, match="Invalid username or password"):
        reader_for(as_user("reader", "wrong"))


def test_nothing_is_left_when_it_is_closed(kafka: Kafka) -> None:
    """What is: an open socket or a loop would be a ResourceWarning, which is an error here."""
    topic = kafka.create_topic(kafka.unique("closed"))
    kafka.produce(topic, [(None, b"x" * 1000)] * 1000)
    with opened(kafka, topic) as reader:
        take(reader, 10)
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kafka-reader"]


def test_what_lies_between_the_threads_is_bounded(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = kafka.create_topic(kafka.unique("bounded"), 4)
    kafka.produce(topic, [(None, b"x" * 10_000, n % 4) for n in range(2000)])
    monkeypatch.setattr("ostinato.cep.connectors.kafka.reader._QUEUE_BYTES", 1 << 20)
    with opened(kafka, topic, max_partition_fetch_bytes=200_000, until="latest") as reader:
        reader.read()
        time.sleep(1.5)
        # of 20 MB; a block has at least one batch, which is of 1 MB here
        assert 1 << 20 <= reader._queued_bytes < (2 << 20) + 100_000
        assert len(take(reader)) == 2000


def test_a_broker_that_comes_back(kafka_brokers: KafkaBrokers) -> None:
    broker = kafka_brokers()
    topic = broker.create_topic("back")
    broker.produce(topic, [(None, b"before")])
    said: list[str] = []
    with opened(broker, topic, said.append, metadata_max_age_ms=500) as reader:
        assert [row[3] for row in take(reader, 1)] == [b"before"]
        broker.kill()
        deadline = time.monotonic() + 30
        while not said:
            assert time.monotonic() < deadline
            assert isinstance(reader.read(), Idle)
        assert "no answer; reading goes on as soon as there is one" in said[0]
        broker.start()
        broker.produce(topic, [(None, b"after")])
        assert [row[3] for row in take(reader, 1)] == [b"after"]


def test_events_of_topics_are_live() -> None:
    """A night without events must not make the next morning's a far future."""
    assert is_live(stream("localhost:9092", "logins"))
    assert is_live(stream("localhost:9092", "logins", until="latest"))


def test_sources_are_checked_without_a_broker() -> None:
    check_source(stream("127.0.0.1:1", "logins"))
