"""A partition that is assigned, has something to read and does not move is noticed, said, and taken over anew."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

from ostinato.cep.connectors.kafka.errors import quiet_clients
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
from ostinato.cep.runtime.partitioned.worker import Worker
from ostinato.cep.runtime.stopping import Stop
from tests.faults.driver import eventually
from tests.kafka_clients import Kafka

PROGRAM = """
stream events (k string key, ts timestamp(ms) time idle 0 ms) from kafka '{topic}' (bootstrap_servers = '{servers}')
pattern any_event on events match a define a as k <> '' emit k into found
output found to kafka '{output}'
"""


def test_a_partition_that_stands_still(tmp_path: Path, kafka: Kafka) -> None:
    """Protection: `Worker._watch`, with the ends that it asks for itself. Nobody else would notice."""
    quiet_clients()
    topic, output = (kafka.create_topic(kafka.unique(name), 1) for name in ("events", "found"))
    text = PROGRAM.format(topic=topic, output=output, servers=kafka.servers)
    spec = PartitionedSpec(
        program=ProgramSpec(str(tmp_path / "job.cep"), text),
        job=kafka.unique("job"),
        address=str(tmp_path / "snapshots"),
    )
    said: list[str] = []
    worker = Worker(replace(spec.setup(), watchdog_seconds=9.0), announce=said.append)
    stop = Stop()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        now = time.time_ns() // 1_000_000
        kafka.produce(topic, [("a", json.dumps({"k": "a", "ts": now}))])
        eventually(lambda: sum(at for at, _ in kafka.committed(spec.job).values()) == 1, "the first record")
        consumer = worker._member._consumer
        assert consumer is not None
        worker._member.loop.soon(lambda: consumer.pause(*consumer.assignment()))  # nobody knows why
        kafka.produce(
            topic, [("b", json.dumps({"k": "b", "ts": now + 1000})), ("c", json.dumps({"k": "c", "ts": now + 2000}))]
        )
        eventually(lambda: sum(at for at, _ in kafka.committed(spec.job).values()) == 3, "the records behind it")
    finally:
        stop.requested = True
        thread.join(60)
    assert any("has not moved for" in line for line in said), said
    assert [record.key for record in kafka.read(output)] == [b"a", b"b"]
