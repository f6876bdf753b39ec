"""Appends logins at a steady rate, with the wall clock in them; or reads matches and says how old they are.

    python bench/feed.py append SERVERS TOPIC PARTITIONS PER_SECOND SECONDS
    python bench/feed.py read SERVERS TOPIC PARTITIONS

`append` looks at the clock every `STEP_SECONDS` and sends what is due; `ts` (ms) and `sent` (µs) of these events are
the time at which they are handed to the client. It prints a line when it begins, and at its end a JSON object: how many
`events` in how many `seconds`, and how many of them were `behind` their time by more than `_BEHIND_SECONDS`.

`read` prints a line when it has begun, then reads with read_committed until its standard input is closed, and prints a
JSON list of [sent, µs from then until the match was in Python].
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from cluster import KEY_AT, partition_of
from figures import due
from streams import login

STEP_SECONDS = 0.002
USERS = 2_000
_BEHIND_SECONDS = 0.05


async def append(servers: str, topic: str, partitions: int, per_second: float, seconds: float) -> None:
    planned: list[tuple[int, bytes, bytes]] = []
    for line in login(int(per_second * seconds), USERS):
        user = line[KEY_AT : line.index('"', KEY_AT)].encode()
        status = b"FAILED" if '"FAILED"' in line else b"SUCCESS"
        planned.append((partition_of(user, partitions), user, b'{"user":"%b","status":"%b","ts":' % (user, status)))
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    async with producer:
        await producer.partitions_for(topic)
        sent, behind = 0, 0
        waiting: set[Any] = set()
        print("appending", flush=True)
        began = time.perf_counter()
        while sent < len(planned):
            elapsed = time.perf_counter() - began
            count = min(due(per_second, elapsed, sent), len(planned) - sent)
            if count > per_second * _BEHIND_SECONDS:
                behind += count
            now = time.time_ns() // 1000
            when = b'%d,"sent":%d}' % (now // 1000, now)
            batches = [producer.create_batch() for _ in range(partitions)]
            for number, key, value in planned[sent : sent + count]:
                batches[number].append(key=key, value=value + when, timestamp=None)
            sent += count
            for number, batch in enumerate(batches):
                if batch.record_count():
                    acknowledged = await producer.send_batch(batch, topic, partition=number)
                    waiting.add(acknowledged)
                    acknowledged.add_done_callback(waiting.discard)
            await asyncio.sleep(max(0.0, STEP_SECONDS - (time.perf_counter() - began - elapsed)))
        await asyncio.gather(*waiting)
    print(json.dumps({"events": sent, "behind": behind, "seconds": time.perf_counter() - began}), flush=True)


async def read(servers: str, topic: str, partitions: int) -> None:
    loop = asyncio.get_running_loop()
    over = loop.run_in_executor(None, sys.stdin.read)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    found: list[tuple[int, int]] = []
    async with consumer:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)
        print("reading", flush=True)
        while not over.done():
            records = await consumer.getmany(timeout_ms=200)
            now = time.time_ns() // 1000
            for own in records.values():
                for record in own:
                    sent = json.loads(record.value)["sent"]
                    found.append((sent, now - sent))
    print(json.dumps(found), flush=True)


def main() -> None:
    what, servers, topic, partitions, *more = sys.argv[1:]
    if what == "append":
        asyncio.run(append(servers, topic, int(partitions), *map(float, more)))
    else:
        asyncio.run(read(servers, topic, int(partitions)))


if __name__ == "__main__":
    main()
