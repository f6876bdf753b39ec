"""Patterns in the agents of a real Faust worker, on a real Kafka."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ostinato import cep
from tests.kafka_clients import Kafka

APP = '''
"""A worker of a test: what it is told is in its environment."""
import asyncio, json, os
from typing import Any

import faust

from ostinato import cep
from ostinato.cep.connectors.faust import matches, state_table

SETTINGS = json.loads(os.environ["SETTINGS"])
app = faust.App(
    SETTINGS["id"], broker="kafka://" + SETTINGS["servers"], store=SETTINGS["store"], datadir=SETTINGS["datadir"],
    broker_session_timeout=6.0, broker_heartbeat_interval=0.5, broker_commit_interval=0.05,
    stream_wait_empty=SETTINGS["wait_empty"],
)
logins = app.topic(SETTINGS["logins"], value_serializer="raw")
alerts = app.topic(SETTINGS["alerts"])


class Login(cep.Event, key="user", time="ts", delay="1 s", name="logins"):
    user: str
    ts: int
    status: str


@cep.pattern("fail{3,} ok", on=Login, within="1 min", skip="past last", timeouts="given_up",
             fail=lambda e: e.status == "FAILED", ok=lambda e: e.status == "SUCCESS")
def suspicious(match):
    return {"user": match.key, "failures": len(match["fail"]), "since": match["fail"][0].ts, "until": match["ok"].ts}


def say(kind):
    async def told(value, *more):
        if isinstance(value, bytes):
            value = value.decode()
        await alerts.send(value={"kind": kind, "value": value, "more": more})
    return told


@app.agent(logins)
async def find(stream: Any) -> None:
    await_more = dict(on_timeout=say("timeout"), on_late=say("late"), on_bad=say("bad")) if SETTINGS["tell"] else {}
    found = matches(stream, suspicious, write_seconds=SETTINGS["write_seconds"], **await_more)
    async for match in found:
        if SETTINGS["fail_on"] == match["user"]:
            SETTINGS["fail_on"] = None
            raise RuntimeError("the agent fails")
        await asyncio.sleep(SETTINGS["seconds_a_match"])
        await alerts.send(value={"kind": "match", "value": match, "id": match.id, "worker": os.getpid()})
        if SETTINGS["tell"]:
            counts = found.counts
            await alerts.send(value={"kind": "counts", "late": counts.late, "bad": counts.bad})

app.main()
'''
PARTITIONS = 4
Login = tuple[str, int, str]


def kernels_are_compiled() -> None:
    """Have the pattern's kernels compiled, so that no worker has to."""
    expected([("u", 1, "FAILED")])


def logins(number: int, users: int, seed: int = 7) -> list[Login]:
    """User, time, status; in order of time."""
    dice = random.Random(seed)
    return [
        (f"user-{dice.randrange(users)}", 10 * step, dice.choices(("FAILED", "SUCCESS", "OTHER"), (8, 3, 1))[0])
        for step in range(number)
    ]


def partition_of(user: str) -> int:
    return zlib.crc32(user.encode()) % PARTITIONS


def expected(events: Sequence[Login]) -> Counter[tuple[str, int, int, int]]:
    """The matches in all of the events."""

    class Event(cep.Event, key="user", time="ts", delay="1 s", name="logins"):
        user: str
        ts: int
        status: str

    @cep.pattern(
        "fail{3,} ok",
        on=Event,
        within="1 min",
        skip="past last",
        fail=lambda e: e.status == "FAILED",
        ok=lambda e: e.status == "SUCCESS",
    )
    def suspicious(match: cep.Match) -> dict[str, Any]:
        first: Any = match["fail"][0]
        return {"user": match.key, "failures": len(match["fail"]), "since": first.ts, "until": match["ok"].ts}

    rows = cep.matches(suspicious, [{"user": user, "ts": ts, "status": status} for user, ts, status in events])
    return Counter((row["user"], row["failures"], row["since"], row["until"]) for row in rows)


class Workers:
    """Starts workers of one app; they end with the test."""

    def __init__(self, kafka: Kafka, folder: Path, stack: ExitStack) -> None:
        self.kafka = kafka
        self.id = kafka.unique("faust")
        self.logins = kafka.create_topic(f"{self.id}-logins", PARTITIONS)
        self.alerts = kafka.create_topic(f"{self.id}-alerts")
        self._folder = folder
        self._stack = stack
        (folder / "app.py").write_text(APP)
        self._started = 0

    def start(self, **settings: Any) -> subprocess.Popen[bytes]:
        """Another worker."""
        self._started += 1
        told = {
            "id": self.id,
            "servers": self.kafka.servers,
            "store": "memory://",
            "datadir": str(self._folder / "data"),
            "logins": self.logins,
            "alerts": self.alerts,
            "write_seconds": 0.25,
            "fail_on": None,
            "wait_empty": True,
            "tell": False,
            "seconds_a_match": 0.0,
            **settings,
        }
        with self.log(self._started).open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "app.py", "worker", "-l", "info", "--without-web"],
                cwd=self._folder,
                env={**os.environ, "SETTINGS": json.dumps(told)},
                stdout=log,
                stderr=log,
            )
        self._stack.callback(_end, worker)
        return worker

    def log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    def send(self, events: Sequence[Login]) -> None:
        self.kafka.produce(
            self.logins,
            [
                (user, json.dumps({"user": user, "ts": ts, "status": status}), partition_of(user))
                for user, ts, status in events
            ],
        )

    def send_end(self, ts: int) -> None:
        """Something in each partition that lets all before it go."""
        end = json.dumps({"user": "nobody", "ts": ts, "status": "OTHER"})
        self.kafka.produce(self.logins, [(None, end, number) for number in range(PARTITIONS)])

    def said(self, kind: str) -> list[dict[str, Any]]:
        records = [json.loads(record.value or b"") for record in self.kafka.read(self.alerts)]
        return [record for record in records if record["kind"] == kind]

    def matches(self) -> Counter[tuple[str, int, int, int]]:
        values = (said["value"] for said in self.said("match"))
        return Counter((each["user"], each["failures"], each["since"], each["until"]) for each in values)

    def wait(self, enough: Callable[[], bool], seconds: float = 40.0) -> None:
        until = time.monotonic() + seconds
        while not enough():
            if time.monotonic() > until:
                logs = [self.log(number).read_text()[-3000:] for number in range(1, self._started + 1)]
                raise AssertionError("\n======\n".join(["not in time", *logs]))
            time.sleep(0.1)


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.kill()
    worker.wait()


@pytest.fixture
def workers(kafka: Kafka, tmp_path: Path) -> Iterator[Workers]:
    with ExitStack() as stack:
        kernels_are_compiled()
        yield Workers(kafka, tmp_path, stack)


@pytest.mark.parametrize(("store", "lives"), [("memory://", 2), ("rocksdb://", 1)])
def test_no_match_is_lost_when_a_worker_is_killed(workers: Workers, store: str, lives: int) -> None:
    """With events acknowledged before their state is written, matches are lost; with the offset in the journal not
    minded, there are matches of events that were counted twice."""
    events = logins(6_000, users=40)
    wanted = expected(events)
    workers.send(events)
    workers.send_end(61_000)
    for life in range(lives):
        before = len(workers.matches())
        worker = workers.start(store=store, seconds_a_match=0.01)
        workers.wait(lambda: len(workers.matches()) > before + 60)  # noqa: B023 - called at once
        worker.kill()
        worker.wait()
        assert wanted - workers.matches(), f"worker {life} had done everything before it was killed"
    workers.start(store=store)
    workers.wait(lambda: not wanted - workers.matches())
    found = workers.matches()
    assert found.keys() == wanted.keys()
    print("matches that came twice:", (found - wanted).total(), "of", wanted.total())
    assert len({said["id"] for said in workers.said("match")}) == wanted.total()


def test_partitions_move_between_workers_with_their_state(workers: Workers) -> None:
    events = logins(6_000, users=40, seed=8)
    wanted = expected(events)
    first = workers.start()
    workers.send(events[:2_000])
    workers.wait(lambda: len(workers.matches()) > 20)
    workers.start()
    workers.wait(lambda: "Worker ready" in workers.log(2).read_text())
    workers.send(events[2_000:4_000])
    workers.wait(lambda: len({said["worker"] for said in workers.said("match")}) == 2)
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    workers.send(events[4_000:])
    workers.send_end(61_000)
    workers.wait(lambda: not wanted - workers.matches())
    assert workers.matches() == wanted


def test_what_is_no_match_is_told_too(workers: Workers) -> None:
    """Late events, bad values, timeouts, and an agent that fails."""
    workers.start(tell=True, fail_on="second")
    rows = [("first", n, "FAILED") for n in range(3)] + [("first", 10, "SUCCESS")]
    rows += [("second", 20 + n, "FAILED") for n in range(3)] + [("second", 30, "SUCCESS")]
    rows += [("third", 40 + n, "FAILED") for n in range(3)] + [("third", 50, "SUCCESS")]
    rows += [("fourth", 5_000, "FAILED"), ("late", 10, "SUCCESS")]
    rows += [("fifth", 6_000 + n, "FAILED") for n in range(3)] + [("fifth", 6_010, "SUCCESS"), ("x", 70_000, "OTHER")]
    values: list[bytes | None] = [
        json.dumps({"user": user, "ts": ts, "status": status}).encode() for user, ts, status in rows
    ]
    values[5:5] = [b'{"user": "second", "ts": "soon"}', None]
    workers.kafka.produce(workers.logins, [(None, value, 0) for value in values])
    workers.wait(lambda: len(workers.said("timeout")) == 1)
    assert [said["value"]["user"] for said in workers.said("match")] == ["first", "third", "fifth"]
    assert [json.loads(said["value"])["user"] for said in workers.said("late")] == ["late"]
    bad = workers.said("bad")
    assert [said["value"] for said in bad] == ['{"user": "second", "ts": "soon"}', None]
    assert bad[0]["more"] == ['column ts: expected TIMESTAMP in ms, found text "soon"']
    assert bad[1]["more"] == ["the value is null"]
    assert workers.said("timeout")[0]["value"]["user"] == "fourth"
    assert workers.said("counts")[-1] == {"kind": "counts", "late": 1, "bad": 2}


def test_the_example(kafka: Kafka, tmp_path: Path) -> None:
    """As its README says."""
    folder = Path(__file__).parents[2] / "examples" / "faust"
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.servers}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("logins.py", "topics")
    command = [sys.executable, "app.py", "--datadir", str(tmp_path / "data"), "worker", "-l", "info", "--without-web"]
    with (tmp_path / "log").open("wb") as log, ExitStack() as stack:
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        stack.callback(_end, worker)
        assert run("logins.py", "send") == "sent 12 logins\n"
        until = time.monotonic() + 30
        while len(alerts := kafka.read("faust-alerts")) < 3 and time.monotonic() < until:
            time.sleep(0.1)
        assert {record.key for record in alerts} == {b"ann", b"bob", b"cleo"}, (tmp_path / "log").read_text()
        assert all(dict(record.headers)["match-id"] for record in alerts)
        shown = [json.loads(line) for line in run("logins.py", "alerts").splitlines()]
        assert sorted((each["user"], each["failures"], each["ip"]) for each in shown) == [
            (user, 3, "10.0.0.7") for user in ("ann", "bob", "cleo")
        ]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
