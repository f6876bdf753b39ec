"""Make the topics, fill one, read one: what Kafka's own command line tools do, for who has none at hand.

python topics.py make logins alerts --partitions 2
python topics.py write logins --key user < logins.jsonl
python topics.py read alerts
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError


async def make(servers: str, topics: Sequence[str], partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        for topic in topics:
            with contextlib.suppress(TopicAlreadyExistsError):
                await admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        await admin.close()


async def write(servers: str, topic: str, key: str) -> None:
    """Each line of standard input becomes a record, whose key is the text of one of its members."""
    async with AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5, enable_idempotence=True) as producer:
        sent = [
            await producer.send(topic, line.rstrip(b"\n"), str(orjson.loads(line)[key]).encode())
            for line in sys.stdin.buffer
        ]
        await asyncio.gather(*sent)
    print(f"{len(sent):,} records written to {topic}", file=sys.stderr)


async def read(servers: str, topic: str) -> None:
    """Print the records of committed transactions, those that are there and those that come, until Ctrl-C."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    async with consumer:
        async for record in consumer:
            print(record.value.decode(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="localhost:9092")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("topics", nargs="+")
    making.add_argument("--partitions", type=int, default=2)
    writing = commands.add_parser("write")
    writing.add_argument("topic")
    writing.add_argument("--key", required=True)
    reading = commands.add_parser("read")
    reading.add_argument("topic")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if given.command == "make":
            asyncio.run(make(given.servers, given.topics, given.partitions))
        elif given.command == "write":
            asyncio.run(write(given.servers, given.topic, given.key))
        else:
            asyncio.run(read(given.servers, given.topic))


if __name__ == "__main__":
    main()
