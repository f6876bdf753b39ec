"""From topics of a real broker to the journal: each record once, whatever happens in between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from ostinato.cep.connectors.base import BadRecord, ConnectorError
from ostinato.cep.connectors.kafka.decoding import BadKafkaRecord
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from ostinato.server.ingest.feeder import DeadLetters, Feeder
from ostinato.server.ingest.kafka_feeder import KafkaFeeder
from ostinato.server.journal import Entry, Journal, JournalReader
from tests.kafka_clients import Kafka
from tests.kafka_services import KafkaBrokers
from tests.services import free_port

MakeFeeder = Callable[..., Feeder]


def stream(servers: str, topic: str, options: str = "") -> Stream:
    columns = "user string key, n bigint"
    source = f"from kafka '{topic}' (bootstrap_servers = '{servers}'{options})"
    return parse_program(f"stream s ({columns}) processing time {source}").streams[0]


def value(number: int) -> bytes:
    return b'{"user":"u","n":%d}' % number


def entries(journal: Journal) -> list[Entry]:
    with JournalReader(journal.folder) as reader:
        found: list[Entry] = []
        while some := reader.read(journal.durable):
            found += some
        return found


def numbers(journal: Journal) -> list[int]:
    return [orjson.loads(line)["n"] for entry in entries(journal) for line in entry.data.splitlines()]


def rows(journal: Journal) -> int:
    return sum(entry.rows for entry in entries(journal))


def until(condition: Callable[[], bool], feeder: Feeder, within: float = 40) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, feeder.status()
        time.sleep(0.02)


def nobody(stream: str, bad: Sequence[BadRecord]) -> None:
    raise AssertionError(f"{stream}: {bad}")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeFeeder]:
    """Makes feeders, which end with the test."""
    made: list[Feeder] = []

    def feeder(declared: Stream, journal: Journal, letters: DeadLetters = nobody) -> Feeder:
        made.append(KafkaFeeder(declared, journal, letters))
        return made[-1]

    yield feeder
    assert all([each.stop() for each in made])  # noqa: C419 - all of them are to end


def test_partitions_are_lanes_and_what_cannot_be_used_is_a_dead_letter(
    tmp_path: Path, kafka: Kafka, make: MakeFeeder
) -> None:
    topic = kafka.create_topic(kafka.unique("feed"), 2)
    given = [
        (b"k", b'{"user":"u",\n "n":0}', 0),
        (b"k", None, 0),
        (b"k", b" \n", 0),
        (b"k", b'{"user":"u","n":"x"}', 0),
        (b"k", value(1), 0),
        (b"k", b"\xff", 1),
        (b"k", value(2), 1),
    ]
    kafka.produce(topic, given)
    letters: list[BadRecord] = []
    with Journal(tmp_path) as journal:
        feeder = make(stream(kafka.servers, topic), journal, lambda _, bad: letters.extend(bad))
        feeder.start()
        until(lambda: rows(journal) == 3 and feeder.status().bad == 4, feeder)
        until(lambda: feeder.status().lag == {f"kafka:{topic}/0": 0, f"kafka:{topic}/1": 0}, feeder)
        assert feeder.status().state == "reading"
        assert feeder.stop()
        by_lane = {
            lane: b"".join(entry.data for entry in entries(journal) if entry.lane == lane) for lane in lanes(topic)
        }
        assert by_lane == {
            f"kafka:{topic}/0": b'{"user":"u",\r "n":0}\n' + value(1) + b"\n",
            f"kafka:{topic}/1": value(2) + b"\n",
        }
        assert journal.places() == {
            ("s", f"kafka:{topic}/0"): {"offset": 5},
            ("s", f"kafka:{topic}/1"): {"offset": 2},
        }
    assert all(isinstance(each, BadKafkaRecord) for each in letters)
    found = sorted((each.source, each.offset, each.reason.split(" in ")[0]) for each in letters)
    assert [(source, offset) for source, offset, _ in found] == [
        (f"{topic}/0", 1),
        (f"{topic}/0", 2),
        (f"{topic}/0", 3),
        (f"{topic}/1", 0),
    ]
    assert "tombstone" in found[0][2]
    assert "empty" in found[1][2]
    assert "column n" in found[2][2]


def lanes(topic: str) -> list[str]:
    return [f"kafka:{topic}/0", f"kafka:{topic}/1"]


def test_restarts_in_the_middle_lose_and_repeat_nothing(tmp_path: Path, kafka: Kafka, make: MakeFeeder) -> None:
    topic = kafka.create_topic(kafka.unique("feed"), 3)
    total, batch = 3_000, 100
    failures: list[Exception] = []

    def feed() -> None:
        try:
            for begin in range(0, total, batch):
                kafka.produce(topic, [(b"k", value(n), n % 3) for n in range(begin, begin + batch)])
        except Exception as error:  # noqa: BLE001 - the test says it
            failures.append(error)

    producer = threading.Thread(target=feed)
    producer.start()
    for life in range(1, 5):
        with Journal(tmp_path) as journal:
            feeder = make(stream(kafka.servers, topic), journal)
            for _ in range(2):
                feeder.start()
                wanted = min(total, total * life // 5)
                until(lambda: rows(journal) >= wanted, feeder)  # noqa: B023
                assert feeder.stop()
    producer.join()
    assert failures == []
    with Journal(tmp_path) as journal:
        feeder = make(stream(kafka.servers, topic), journal)
        feeder.start()
        until(lambda: rows(journal) >= total, feeder)
        time.sleep(0.3)
        assert feeder.stop()
        found = numbers(journal)
    assert [n for n, count in Counter(found).items() if count > 1] == []
    assert sorted(found) == list(range(total))
    for partition in range(3):
        assert [n for n in found if n % 3 == partition] == list(range(partition, total, 3)), "in the topic's order"


def test_the_latest_records_only_also_after_a_restart_before_any_came(
    tmp_path: Path, kafka: Kafka, make: MakeFeeder
) -> None:
    topic = kafka.create_topic(kafka.unique("feed"))
    kafka.produce(topic, [(b"k", value(0), 0)])
    declared = stream(kafka.servers, topic, ", start = 'latest'")
    with Journal(tmp_path) as journal:
        feeder = make(declared, journal)
        feeder.start()
        until(lambda: journal.places() == {("s", f"kafka:{topic}/0"): {"offset": 1}}, feeder)
        assert feeder.stop()
        kafka.produce(topic, [(b"k", value(1), 0)])
        feeder.start()
        until(lambda: numbers(journal) == [1], feeder)
        assert feeder.stop()


def test_a_broker_that_goes_and_comes_back(tmp_path: Path, kafka_brokers: KafkaBrokers, make: MakeFeeder) -> None:
    broker = kafka_brokers()
    topic = broker.create_topic("feed")
    with Journal(tmp_path) as journal:
        feeder = make(stream(broker.servers, topic), journal)
        broker.produce(topic, [(b"k", value(n), 0) for n in range(50)])
        feeder.start()
        until(lambda: rows(journal) == 50, feeder)
        broker.restart()
        broker.produce(topic, [(b"k", value(n), 0) for n in range(50, 100)])
        until(lambda: rows(journal) >= 100, feeder)
        assert feeder.stop()
        assert numbers(journal) == list(range(100))


def test_a_cluster_that_does_not_answer_is_tried_again(tmp_path: Path, make: MakeFeeder) -> None:
    with Journal(tmp_path) as journal:
        feeder = make(stream(f"127.0.0.1:{free_port()}", "feed"), journal)
        feeder.start()
        until(lambda: feeder.status().failures > 1, feeder)
        assert "no answer" in str(feeder.status().error)
        assert feeder.stop()
        assert feeder.status().state == "stopped"


def test_streams_that_cannot_be_fed() -> None:
    columns = "user string key, part bigint from metadata 'partition'"
    declared = parse_program(f"stream s ({columns}) processing time from kafka 'feed'").streams[0]
    with pytest.raises(ConnectorError, match="column part comes `from metadata` of Kafka's records"):
        KafkaFeeder(declared, None, nobody)  # type: ignore[arg-type]
    declared = parse_program("stream s (user string key) processing time from file 'x.jsonl'").streams[0]
    with pytest.raises(ConnectorError, match="not declared `from kafka`"):
        KafkaFeeder(declared, None, nobody)  # type: ignore[arg-type]
