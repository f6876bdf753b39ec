"""Finds suspicious logins in a Kafka topic, in a Faust agent; see README.md beside this.

``python app.py worker -l info``
"""

from __future__ import annotations

import os
from typing import Any

import faust

from ostinato import cep
from ostinato.cep.connectors.faust import matches

app = faust.App("suspicious-logins", broker="kafka://" + os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"))
logins = app.topic("faust-logins")
alerts = app.topic("faust-alerts")


class Login(cep.Event, key="user", time="ts", delay="2 s"):
    user: str
    ts: int
    status: str
    ip: str


@cep.pattern(
    "fail{3,} ok",
    on=Login,
    within="5 min",
    skip="past last",
    fail=lambda e: e.status == "FAILED",
    ok=lambda e: e.status == "SUCCESS",
)
def suspicious_login(match: cep.Match) -> dict[str, Any]:
    return {"user": match.key, "failures": len(match["fail"]), "ip": match["ok"].ip}


@app.agent(logins)
async def find(stream: Any) -> None:
    async for match in matches(stream, suspicious_login):
        await alerts.send(key=match["user"], value=match, headers={"match-id": match.id.encode()})


if __name__ == "__main__":
    app.main()
