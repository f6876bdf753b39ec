"""The Kafka that tests run with: what it gives to read, and that it keeps its data."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.faults.driver import eventually
from tests.kafka_clients import Kafka, Record, answers
from tests.kafka_install import installed
from tests.kafka_services import KafkaBrokers, LocalKafka, shared_broker


def test_records_come_back_as_they_were_written(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("t"), 3)
    headers = (("a", b"1"), ("a", b"2"))
    kafka.produce(topic, [("k", "v", 2, headers, 1234), (None, b"\xff", 2), ("gone", None, 0)])
    gone, first, second = kafka.read(topic)
    assert first == Record(b"k", b"v", headers, partition=2, offset=0, timestamp=1234)
    assert (second.key, second.value, second.offset) == (None, b"\xff", 1)
    assert abs(second.timestamp / 1000 - time.time()) < 60
    assert (gone.partition, gone.key, gone.value) == (0, b"gone", None)
    assert kafka.end_offsets(topic) == {0: 1, 1: 0, 2: 2}
    assert kafka.read(topic, until={2: 1}) == [first]
    assert kafka.read(topic, start={0: 1, 2: 1}) == [second]


def test_keys_have_the_partitions_that_other_clients_give_them(kafka: Kafka) -> None:
    """As Java's DefaultPartitioner: values from Kafka's own UtilsTest of murmur2, positive, modulo."""
    topic = kafka.create_topic(kafka.unique("t"), 7)
    hashes = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107}
    kafka.produce(topic, [(key, "") for key in hashes])
    assert {(record.key or b"").decode(): record.partition for record in kafka.read(topic)} == {
        key: (value & 0x7FFFFFFF) % 7 for key, value in hashes.items()
    }


def test_many_records_are_written_in_order(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("t"), 2)
    kafka.produce(topic, ((f"k{n % 50}", f"{n:040d}") for n in range(40_000)))
    records = kafka.read(topic)
    assert len(records) == 40_000
    for p in (0, 1):
        values = [record.value or b"" for record in records if record.partition == p]
        assert values == sorted(values)


def test_transactions_are_read_by_isolation(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("t"))
    kafka.produce(topic, [("k", "plain")])
    kafka.produce(topic, [("k", "aborted")], transaction="abort")
    kafka.produce(topic, [("k", "committed")], transaction="commit")
    assert [record.value for record in kafka.read(topic)] == [b"plain", b"committed"]
    assert [record.value for record in kafka.read(topic, "read_uncommitted")] == [b"plain", b"aborted", b"committed"]
    # a marker stands behind each of the transactions
    assert kafka.end_offsets(topic) == {0: 5}


def test_what_a_group_has_committed_and_what_it_has_yet_to_read(kafka: Kafka) -> None:
    topic, group = kafka.create_topic(kafka.unique("t"), 2), kafka.unique("g")
    kafka.produce(topic, [("k", "v", n % 2) for n in range(10)])
    assert kafka.committed(group) == {}

    async def commit() -> None:
        options = {"bootstrap_servers": kafka.servers, "group_id": group, "enable_auto_commit": False}
        async with AIOKafkaConsumer(**options) as consumer:
            consumer.assign([TopicPartition(topic, 1)])
            await consumer.commit({TopicPartition(topic, 1): OffsetAndMetadata(3, "by hand")})

    asyncio.run(commit())
    assert kafka.committed(group) == {(topic, 1): (3, "by hand")}
    assert kafka.lag(group) == {(topic, 1): 2}


def test_deleted_records_and_topics_are_gone(kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("t"), config={"retention.ms": "-1"})
    kafka.produce(topic, [("k", str(n)) for n in range(5)])
    kafka.delete_records(topic, {0: 3})
    assert [record.offset for record in kafka.read(topic)] == [3, 4]
    kafka.delete_topic(topic)
    assert kafka.partitions(topic) == []
    with pytest.raises(AssertionError, match="there is no topic"):
        kafka.read(topic)


def test_data_outlive_the_broker(kafka_brokers: KafkaBrokers) -> None:
    """Killed, stopped and made to stand still; it has the settings that it was given."""
    broker = kafka_brokers({"num.partitions": "3"})
    broker.produce("made-by-use", [("k", "1", 2)])
    assert broker.partitions("made-by-use") == [0, 1, 2]
    with socket.create_connection(("127.0.0.1", broker.port), 10) as connection:
        broker.restart()
        with suppress(ConnectionError):
            assert connection.recv(1) == b""
    broker.produce("made-by-use", [("k", "2", 2)])
    broker.stop()
    broker.start()
    broker.pause()
    began = time.monotonic()
    waking = threading.Timer(0.5, broker.go_on)
    waking.start()
    assert [record.value for record in broker.read("made-by-use")] == [b"1", b"2"]
    assert time.monotonic() - began > 0.4
    waking.join()


USER = """
import sys
from pathlib import Path
from tests.kafka_services import shared_broker
with shared_broker(Path(sys.argv[1])) as kafka:
    print(kafka.servers, flush=True)
    sys.stdin.read()
"""


def test_a_shared_broker_ends_with_the_last_of_its_users(tmp_path: Path) -> None:
    """Whether they end or are killed, and though the first of them has started it."""
    root = Path(__file__).parents[2]
    users: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        for _ in range(3):
            user = subprocess.Popen(
                [sys.executable, "-c", USER, str(tmp_path)],
                cwd=root,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            users.append(stack.enter_context(user))
            stack.callback(user.kill)
        (address,) = {user.stdout.readline().strip() for user in users if user.stdout}
        port = int(address.rpartition(":")[2])
        assert len(keepers(tmp_path)) == 1
        for user in users:
            assert answers(port)
            user.kill()
            user.wait()
            time.sleep(0.1)
    eventually(lambda: not answers(port) and not keepers(tmp_path), "the broker to end", 20)
    # and who comes after that begins another one
    with shared_broker(tmp_path) as again:
        again.create_topic("new")


def test_a_local_broker_does_not_outlive_a_test_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "from tests.kafka_services import LocalKafka; b = LocalKafka(); b.start(); print(b.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
        assert alive(pid)
        process.kill()
    eventually(lambda: not alive(pid), "the broker to end", 20)


def test_a_broker_that_cannot_start_says_why() -> None:
    with closing(LocalKafka({"log.retention.ms": "soon"})) as broker, pytest.raises(AssertionError, match="soon"):
        broker.start()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install default-jre-headless maven"):
        installed.__wrapped__()


def test_a_class_archive_that_does_not_fit_costs_time_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of another JVM, say."""
    (tmp_path / "classes.jsa").write_bytes(b"of another JVM")
    monkeypatch.setattr(
        "tests.kafka_services.installed", lambda: replace(installed(), archive=tmp_path / "classes.jsa")
    )
    with closing(LocalKafka()) as broker:
        broker.start()
        assert broker.create_topic("t") == "t"


def keepers(folder: Path) -> list[int]:
    """Processes that keep a broker for the users of a folder."""
    wanted = [b"-m", b"tests.kafka_services", str(folder).encode(), b""]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().split(b"\0")[-4:] == wanted:
                found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
