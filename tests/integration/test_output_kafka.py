"""Matches to a topic: read_committed sees each once, wherever the server was cut off."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from ostinato.cep.connectors.kafka.options import Connection
from ostinato.server.delivery.cursors import FileCursors
from ostinato.server.delivery.errors import OutputError
from ostinato.server.delivery.settings import check_settings, parse_settings
from ostinato.state.steps import VARIABLE
from tests.kafka_clients import Kafka, Record
from tests.kafka_services import KafkaBrokers
from tests.outputs import append, context, running, until


def settings(topic: str, **more: Any) -> Mapping[str, Any]:
    return {"type": "kafka", "topic": topic, **more}


def seqs(records: list[Record]) -> list[int]:
    return [orjson.loads(record.value or b"")["seq"] for record in records]


def all_of(kafka: Kafka, topic: str) -> list[Record]:
    return kafka.read(topic, until=kafka.end_offsets(topic))


async def deliver(folder: Path, kafka: Kafka, topic: str, last: int, **more: Any) -> None:
    server = more.pop("server", topic)
    async with running(folder, settings(topic, **more), kafka=Connection(kafka.servers), server=server) as output:
        await output.done(last)


def test_records(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("alerts"), 3)
    last = append(tmp_path, 30)
    asyncio.run(deliver(tmp_path, kafka, topic, last, key="k"))
    records = all_of(kafka, topic)
    assert sorted(seqs(records)) == list(range(1, 31))
    for partition in range(3):
        mine = seqs([record for record in records if record.partition == partition])
        assert mine == sorted(mine)
    record = next(record for record in records if orjson.loads(record.value or b"")["seq"] == 5)
    assert record.key == b"k2"
    assert dict(record.headers) == {
        "match-id": f"{topic}-5".encode(), "pattern": b"p", "version": b"1", "stream": b"alerts", "kind": b"match",
        "event-time": b"1005",
    }  # fmt: skip
    group = f"ostinato.{topic}.out"
    assert kafka.committed(group) == {(topic, 0): (30, topic)}
    # a store that knows nothing does not matter
    FileCursors(tmp_path / "cursors").put({"out": 3})
    asyncio.run(deliver(tmp_path, kafka, topic, append(tmp_path, 2), key="n"))
    records = all_of(kafka, topic)
    assert sorted(seqs(records)) == list(range(1, 33))
    assert {record.key for record in records if orjson.loads(record.value or b"")["seq"] > 30} == {b"31", b"32"}


KILLED = """
import asyncio, sys
from pathlib import Path
from ostinato.cep.connectors.kafka.options import Connection
from tests.outputs import *
folder, servers, topic, last = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
async def main():
    said = {"type": "kafka", "topic": topic}
    async with running(folder, said, kafka=Connection(servers), server=topic) as output:
        while output.status.cursor < last:
            seq = append(folder, 3)
            await output.done(seq)
asyncio.run(main())
"""


def test_kills_at_every_step_of_a_transaction(tmp_path: Path, kafka: Kafka) -> None:
    topic = kafka.create_topic(kafka.unique("alerts"), 2)
    codes = []
    faults = ("txn.offsets:2", "txn.commit:1", "output.sent:1", "txn.commit:2", "output.moved:1", "output.sent:2")
    for fault in [*(f"{step}=kill" for step in faults), ""]:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), kafka.servers, topic, "40"],
            cwd=Path(__file__).parents[2], env={**os.environ, VARIABLE: fault}, timeout=100, check=False,
            capture_output=True,
        )  # fmt: skip
        codes.append(done.returncode)
    assert codes == [-signal.SIGKILL] * 6 + [0], done.stderr.decode()
    found = sorted(seqs(all_of(kafka, topic)))
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= 40
    # the test is one only if something was undone
    assert len(kafka.read(topic, "read_uncommitted")) > len(found)


def test_a_broker_that_is_killed_and_comes_back(tmp_path: Path, kafka_brokers: KafkaBrokers) -> None:
    broker = kafka_brokers()
    topic = broker.create_topic("alerts")

    async def body() -> None:
        connection = Connection(broker.servers, request_timeout_ms=2_000)
        async with running(tmp_path, settings(topic), kafka=connection) as output:
            await output.done(append(tmp_path, 5))
            broker.kill()
            last = append(tmp_path, 5)
            output.deliveries.grown(last)
            await until(lambda: output.status.attempts > 0)
            assert output.status.state == "retrying"
            broker.start()  # here: it ends with the thread that began it
            await until(lambda: output.status.cursor >= last, 60)

    asyncio.run(body())
    assert seqs(all_of(broker, topic)) == list(range(1, 11))


def test_a_second_server_with_the_same_id_takes_over(tmp_path: Path, kafka: Kafka) -> None:
    """What the first one had not committed it does not commit any more; nothing comes twice."""
    topic = kafka.create_topic(kafka.unique("alerts"))

    async def body() -> None:
        async with running(tmp_path, settings(topic), kafka=Connection(kafka.servers)) as first:
            await first.done(append(tmp_path, 3))
            other = tmp_path / "other"
            other.mkdir()
            (other / "matches").symlink_to(tmp_path / "matches")
            async with running(other, settings(topic), kafka=Connection(kafka.servers)) as second:
                await second.done(append(tmp_path, 3))
                assert second.status.delivered == 3
            first.deliveries.grown(6)
            await first.done(6)
            assert first.status.delivered == 3

    asyncio.run(body())
    assert seqs(all_of(kafka, topic)) == [1, 2, 3, 4, 5, 6]


def test_a_match_that_is_too_large_for_the_topic(tmp_path: Path, kafka: Kafka) -> None:
    import numpy as np

    from ostinato.server.matches import MatchLogWriter, Rows

    topic = kafka.create_topic(kafka.unique("alerts"))
    last = append(tmp_path, 3)
    writer = MatchLogWriter(tmp_path / "matches")
    large = b'{"v":"%s"}' % (b"x" * 1_200_000)
    writer.append(Rows("alerts", "match", [("p", 1)], np.zeros(1, np.uint16), np.zeros(1, np.int64), 0, 0, [large]))
    writer.close()
    last = append(tmp_path, 3)
    asyncio.run(deliver(tmp_path, kafka, topic, last))
    assert seqs(all_of(kafka, topic)) == [1, 2, 3, 5, 6, 7]
    (line,) = (tmp_path / "outputs/out.dead-letters.ndjson").read_bytes().splitlines()
    assert orjson.loads(line)["match"]["seq"] == 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (settings("a b"), "topic"),
        (settings("a", bootstrap_servers="http://x"), "write HOST:PORT"),
        (settings("a"), "no Kafka is named"),
        (settings("a", compression_type="rar"), "compression_type"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(OutputError, match=said):
        check_settings("out", parse_settings(given), context(tmp_path))


def test_another_cluster_is_not_sent_this_ones_password(tmp_path: Path) -> None:
    from ostinato.server.delivery.settings import KafkaOutput, connection_of

    kafka = Connection("a:9092", "SASL_SSL", username="u", password="p")
    known = context(tmp_path, kafka=kafka)
    assert connection_of("out", KafkaOutput(topic="t", bootstrap_servers="b:9092"), known).password is None
    assert connection_of("out", KafkaOutput(topic="t", bootstrap_servers="a:9092"), known) is kafka
