"""Records that are poison, partitions that are silent, events from the far future, and late ones."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from ostinato.server import exits
from tests.faults.conftest import MakeJob, StartBetween, Trial
from tests.faults.driver import Running
from tests.faults.kafka_driver import Between, Options
from tests.faults.workload import START_MS, Shape
from tests.kafka_clients import Given, Kafka, Record

pytestmark = [pytest.mark.timeout(240)]

SHAPE = Shape(events=3_000)
PARTITIONS = 2
DEEP = 100_000
GOOD = '{"user":"u1","city":"c1","ts":%s,"part":0,"seq":0,"kind":"other"}'
KEY = b'["u1","c1"]'
POISON: dict[str, tuple[bytes | None, bytes | None]] = {
    "bad JSON": (KEY, b'{"user": "u1", '),
    "an array": (KEY, b"[1, 2]"),
    "a number": (KEY, b"17"),
    "a text": (KEY, b'"u1"'),
    "null": (KEY, b"null"),
    "no value": (KEY, None),
    "an empty value": (KEY, b""),
    "blanks": (KEY, b" \n\t "),
    "no key": (None, (GOOD % START_MS).encode()),
    "another key": (b"u2", (GOOD % START_MS).encode()),
    "nested arrays": (KEY, b"[" * DEEP + b"]" * DEEP),
    "nested objects": (KEY, b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "nested without an end": (KEY, b'{"a":[' * DEEP),
    "NaN": (KEY, (GOOD % "NaN").encode()),
    "Infinity": (KEY, (GOOD % "-Infinity").encode()),
    "a huge number": (KEY, (GOOD % ("9" * 400)).encode()),
    "invalid UTF-8": (KEY, b'{"user":"\xff\xfe","city":"c1","ts":1}'),
    "no time": (KEY, b'{"user":"u1","city":"c1"}'),
}
LARGE = b'{"user":"' + b"x" * (50 << 20)
"""50 MB, and not even JSON."""
HEADERS = (("trace", b"7"), ("trace", b"8"))


def poison(job: Between, *more: tuple[bytes | None, bytes | None]) -> None:
    """One of each into every partition."""
    records = [
        Given(key, value, partition, HEADERS, 1_234)
        for partition in range(PARTITIONS)
        for key, value in (*POISON.values(), *more)
    ]
    job.kafka.produce(job.input, records)


@pytest.mark.faults
def test_poison_goes_to_the_dead_letters_once(between_topics: StartBetween, kafka: Kafka, trial: Trial) -> None:
    """Protects: a record that cannot be used stops nobody. It is written to the dead letters in the same transaction as
    the offset behind it, with where it came from, whatever is killed; what follows it is matched."""
    trial.on("poison of each kind, and kills", "one worker")
    job = between_topics(kafka, SHAPE, Options(partitions=PARTITIONS, per_second=120))
    process = job.start()
    job.wait_until_running()
    poison(job)
    job.wait_for_commits(30)
    process.kill()
    poison(job, (KEY, LARGE))
    process = job.start(1, "txn.commit:2=kill")
    job.wait_for(lambda: not process.alive or job.lag() < 1, "a kill")
    process.wait()
    poison(job)
    job.start()
    job.finish()
    written = {
        (record.partition, record.offset): record
        for record in kafka.read(job.input)
        if record.headers == HEADERS and record.timestamp == 1_234
    }
    assert len(written) == PARTITIONS * (3 * len(POISON) + 1)
    letters = job.dead_letters()
    found = [place_of(letter) for letter in letters]
    assert sorted(found) == sorted(written)
    for letter in letters:
        assert_can_be_written_again(job, letter, written[place_of(letter)])
    trial.judge_topics(job, dead_letters=len(written))
    assert "begun again" not in job.said


def place_of(letter: Record) -> tuple[int, int]:
    """Partition and offset that a dead letter says it is from."""
    headers = dict(letter.headers)
    return int(headers["source-partition"]), int(headers["source-offset"])


def assert_can_be_written_again(job: Between, letter: Record, original: Record) -> None:
    """A dead letter has all of the record: key, value, and headers; where it had to be cut it says so."""
    headers = dict(letter.headers)
    assert headers["source-topic"] == job.input.encode()
    assert headers["source-timestamp"] == b"1234"
    assert headers["job"] == job.name.encode()
    assert headers["reason"]
    assert letter.key == original.key
    value, held = original.value or b"", letter.value
    assert held is not None
    if held != value:
        assert headers["truncated-from"] == b"%d" % len(value)
        assert value.startswith(held)
        assert len(held) > 900_000
    else:
        assert [text for name, text in letter.headers if name == "source.trace"] == [b"7", b"8"]


SILENCE = """
stream events (user string key, ts timestamp(ms) time idle 2 s, kind string)
  from kafka '{name}.events' (bootstrap_servers = '{servers}', session_timeout_ms = 3000)
pattern silent on events
  match a !-> b define a as kind = 'a', b as kind = 'b' within 4 s
  emit user, a.ts as since into silences
pattern pair on events
  match a -> b define a as kind = 'a', b as kind = 'b' within 1 min
  emit user, a.ts as since into pairs
output silences to kafka '{name}.silences' (bootstrap_servers = '{servers}')
output pairs to kafka '{name}.pairs' (bootstrap_servers = '{servers}')
"""


class Silent:
    """A job over three partitions with one user each, u0, u1, u2; times are seconds behind `START_MS`."""

    def __init__(self, folder: Path, kafka: Kafka, make_job: MakeJob) -> None:
        self.kafka = kafka
        self.name = kafka.unique("silent")
        kafka.create_topic(f"{self.name}.events", 3)
        for output in ("silences", "pairs"):
            kafka.create_topic(f"{self.name}.{output}")
        folder.mkdir()
        (folder / "job.cep").write_text(SILENCE.format(name=self.name, servers=kafka.servers))
        self._job = make_job(folder, "--name", self.name, "--checkpoint-dir", "checkpoints")
        self.running: list[Running] = []

    def start(self, workers: int) -> None:
        self.running.append(self._job.start("-p", str(workers)))

    def put(self, partition: int, *events: tuple[float, str]) -> None:
        records = [
            Given(
                f"u{partition}",
                json.dumps({"user": f"u{partition}", "ts": round(START_MS + 1000 * at), "kind": kind}),
                partition,
            )
            for at, kind in events
        ]
        self.kafka.produce(f"{self.name}.events", records)

    def rows(self, output: str) -> list[tuple[str, float]]:
        """User and the time of its first event."""
        found = [json.loads(record.value or b"") for record in self.kafka.read(f"{self.name}.{output}")]
        return sorted((row["user"], seconds(row["since"])) for row in found)

    def wait_for(self, output: str, *rows: tuple[str, float]) -> None:
        self.running[-1].wait_for(lambda: self.rows(output) == sorted(rows), f"{output} {rows}", 40)

    def stop(self) -> str:
        """What it said."""
        for running in self.running:
            if running.alive:
                assert running.stop() in (0, exits.TERMINATED), running.said
        return "\n".join(running.said for running in self.running)

    def letters(self) -> list[Record]:
        topic = f"{self.name}.dead-letters"
        return self.kafka.read(topic, until=self.kafka.end_offsets(topic)) if self.kafka.partitions(topic) else []


def seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() - START_MS / 1000


@pytest.fixture
def silent(tmp_path: Path, kafka: Kafka, make_job: MakeJob) -> Silent:
    return Silent(tmp_path / "job", kafka, make_job)


@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.faults)])
def test_time_goes_on_in_a_silent_partition(silent: Silent, trial: Trial, workers: int) -> None:
    """Protects: a partition that nothing comes to does not keep its timeouts back, wherever the others are; one that
    never had a record is in nobody's way. When events come again they are judged by how far time has come."""
    trial.on("a silent partition, and one that never had a record", f"{workers} worker(s)")
    silent.start(workers)
    silent.put(0, (0, "a"))
    silent.put(1, *((at, "x") for at in range(20)))
    # its own events say that 0 s have passed; partition 1 says 19 s
    silent.wait_for("silences", ("u0", 0))
    silent.put(0, (10, "a"), (19.5, "a"), (30, "b"))
    silent.put(1, (60, "x"), (61, "x"))
    silent.wait_for("pairs", ("u0", 0), ("u0", 19.5))
    time.sleep(3)
    assert silent.rows("silences") == [("u0", 0), ("u0", 19.5)]
    silent.put(2, (59, "b"), (62, "a"), (63, "b"))
    silent.put(1, (90, "x"), (91, "x"))
    silent.wait_for("pairs", ("u0", 0), ("u0", 19.5), ("u2", 62))
    said = silent.stop()
    assert sum(map(int, re.findall(r"(\d+) late events", said))) == 2, said
    assert silent.letters() == []
    trial.held()


def test_an_event_from_the_far_future(silent: Silent, trial: Trial) -> None:
    """Protects: one garbled clock does not move time, which would make all that follows late; the event is a dead
    letter."""
    trial.on("an event from the far future", "one partition of three")
    silent.start(1)
    ahead = (time.time() - START_MS / 1000) + 40 * 86_400
    silent.put(0, (0, "x"), (1, "a"), (ahead, "b"), (2, "x"))
    silent.put(0, (3, "b"), (ahead + 1, "a"), (4, "x"), (5, "x"))
    silent.wait_for("pairs", ("u0", 1))
    said = silent.stop()
    assert " 0 late events" in said
    letters = silent.letters()
    assert [dict(letter.headers)["source-offset"] for letter in letters] == [b"2", b"5"]
    for letter in letters:
        assert b"too far in the future" in dict(letter.headers)["reason"]
        assert dict(letter.headers)["source-topic"] == f"{silent.name}.events".encode()
        assert json.loads(letter.value or b"")["user"] == "u0"
    trial.held()
