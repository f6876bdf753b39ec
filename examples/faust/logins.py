"""Makes the topics of app.py, writes logins, and shows the alerts: ``python logins.py topics | send | alerts``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
PARTITIONS = 4
QUIET_MS = 3_000


async def make_topics() -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("faust-logins", PARTITIONS, 1), NewTopic("faust-alerts", 1, 1)])
    finally:
        await admin.close()


async def send_logins() -> None:
    now = int(time.time() * 1000)
    logins = [
        {"user": user, "ts": now + 100 * step, "status": status, "ip": "10.0.0.7"}
        for step, status in enumerate(("FAILED", "FAILED", "FAILED", "SUCCESS"))
        for user in ("ann", "bob", "cleo")
    ]
    producer = AIOKafkaProducer(bootstrap_servers=SERVERS)
    await producer.start()
    try:
        for login in logins:
            # by the key, so that all logins of a user are in one partition
            await producer.send("faust-logins", json.dumps(login).encode(), key=str(login["user"]).encode())
        for partition in range(PARTITIONS):
            nobody = {"user": "nobody", "ts": now + QUIET_MS, "status": "NONE", "ip": ""}
            await producer.send("faust-logins", json.dumps(nobody).encode(), partition=partition)
    finally:
        await producer.stop()
    print(f"sent {len(logins)} logins")


async def show_alerts() -> None:
    consumer = AIOKafkaConsumer("faust-alerts", bootstrap_servers=SERVERS, auto_offset_reset="earliest")
    await consumer.start()
    try:
        while found := await consumer.getmany(timeout_ms=QUIET_MS):
            for records in found.values():
                for record in records:
                    print((record.value or b"").decode())
    finally:
        await consumer.stop()


COMMANDS = {"topics": make_topics, "send": send_logins, "alerts": show_alerts}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    asyncio.run(COMMANDS[sys.argv[1]]())
