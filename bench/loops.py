"""Loops that only consume, each a process of its own; what a job between topics is compared to.

    python bench/loops.py KIND SERVERS TOPIC ENDS

KIND is one of

``aiokafka``      a consumer without a group, `getmany` of as many records as there are; the length of each value is
                  added up, and that is all: nothing is decoded, nothing written, nothing committed
``bulk``          the same with Ostinato's own consumer: blocks of records, their lengths added up by numpy
``faust``         an agent with ``async for value in stream`` over raw bytes, which adds up lengths
``faust-take``    the same with ``stream.take``
``faust-pattern`` P1 in an agent (`ostinato.cep.connectors.faust`), whose state is in a table; no match is sent

ENDS are offsets with commas, one for each partition, or for Faust one number: how many records. Prints a JSON object:
`events` and `seconds` and `cpu_seconds` from the first records on, and how many came `first`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FETCH = {"fetch_max_bytes": 50 << 20, "max_partition_fetch_bytes": 4 << 20, "fetch_max_wait_ms": 100}
"""As Ostinato asks, which is best for the others too."""
TAKEN = 1_000
"""Values that `faust-take` takes at a time."""


class Watch:
    """Counts records from the first ones on."""

    def __init__(self, events: int) -> None:
        self._left = self._all = events
        self._first = 0
        self._began = (0.0, 0.0)

    def note(self, records: int) -> bool:
        """So many have been dealt with; were they the last?"""
        if not self._first:
            self._first, self._began = records, (time.perf_counter(), time.process_time())
        self._left -= records
        if self._left > 0:
            return False
        seconds, cpu_seconds = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        events = self._all - self._left
        said = {"events": events, "first": self._first, "seconds": seconds, "cpu_seconds": cpu_seconds}
        print(json.dumps(said), flush=True)
        return True


async def consume(
    make: Callable[..., Any], touch: Callable[[Any], tuple[int, int]], servers: str, topic: str, ends: list[int]
) -> None:
    """Read a topic to its ends. `touch` says how many records there are in what `getmany` gave, and how many bytes."""
    from aiokafka import TopicPartition

    consumer = make(bootstrap_servers=servers, group_id=None, enable_auto_commit=False, **FETCH)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(len(ends))]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        watch, size = Watch(sum(ends)), 0
        while True:
            records = 0
            for found in (await consumer.getmany(timeout_ms=1_000)).values():
                count, own = touch(found)
                records += count
                size += own
            if records and watch.note(records):
                return
    finally:
        await consumer.stop()


def touch_records(records: list[Any]) -> tuple[int, int]:
    size = 0
    for record in records:
        size += len(record.value)
    return len(records), size


def touch_blocks(blocks: list[Any]) -> tuple[int, int]:
    return sum(map(len, blocks)), sum(int(block.size) for block in blocks)


def agent(kind: str, servers: str, topic: str, events: int) -> None:
    """Run a Faust worker until so many values have come."""
    import faust

    folder = tempfile.mkdtemp(prefix="ostinato-faust-")
    app = faust.App(
        f"bench-{kind}-{os.getpid()}",
        broker=f"kafka://{servers}",
        datadir=folder,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        topic_partitions=2,
        stream_buffer_maxsize=1 << 16,
        stream_wait_empty=False,
        broker_commit_interval=1.0,
        consumer_max_fetch_size=FETCH["max_partition_fetch_bytes"],
        broker_max_poll_records=None,
    )
    watch = Watch(events)
    source = app.topic(topic, key_type=bytes, value_type=bytes)

    def done() -> None:
        # nothing is left that counts, and Faust takes seconds to end in good order
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    if kind == "faust":

        @app.agent(source)
        async def each(stream: Any) -> None:
            size = 0
            async for value in stream:
                size += len(value)
                if watch.note(1):
                    done()

    elif kind == "faust-take":

        @app.agent(source)
        async def many(stream: Any) -> None:
            size = 0
            async for values in stream.take(TAKEN, within=0.1):
                size += sum(map(len, values))
                if watch.note(len(values)):
                    done()

    else:
        from ostinato.cep.connectors.faust import matches

        text = (Path(__file__).resolve().parent / "p1_login.cep").read_text()

        @app.agent(source)
        async def find(stream: Any) -> None:
            found = matches(stream, text)
            seen = 0

            async def look() -> None:
                nonlocal seen
                while True:
                    counted = found.counts.events
                    if counted > seen and watch.note(counted - seen):
                        done()
                    seen = counted
                    await asyncio.sleep(0.02)

            looking = asyncio.ensure_future(look())
            try:
                async for _ in found:
                    pass
            finally:
                looking.cancel()

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


def main() -> None:
    kind, servers, topic, given = sys.argv[1:]
    ends = [int(each) for each in given.split(",")]
    if kind == "aiokafka":
        from aiokafka import AIOKafkaConsumer

        asyncio.run(consume(AIOKafkaConsumer, touch_records, servers, topic, ends))
    elif kind == "bulk":
        from ostinato.cep.connectors.kafka.consumer import BulkConsumer

        asyncio.run(consume(BulkConsumer, touch_blocks, servers, topic, ends))
    else:
        agent(kind, servers, topic, sum(ends))


if __name__ == "__main__":
    main()
