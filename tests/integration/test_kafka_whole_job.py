"""`ostinato run` from a topic to files: the whole job is one process tree, and its own checkpoints say where it is."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.driver import Job, checkpoints_in
from tests.kafka_clients import Given, Kafka

PROGRAM = """
stream logins (
  user string key, ts timestamp(ms) time delay 50 ms, level bigint,
  place bigint from metadata 'partition', at bigint from metadata 'offset', trace string from metadata 'headers.trace'
) from kafka '{topic}' (bootstrap_servers = '{servers}', max_partition_fetch_bytes = 20000{more})
pattern thrice on logins match a{{3}} define a as level = 1 after match skip past last
  emit user, first(a.place) as place, first(a.at) as since, last(a.at) as till, last(a.trace) as trace into triples
output triples to file '{output}'
"""


def program(kafka: Kafka, topic: str, output: str = "triples.jsonl", more: str = "") -> str:
    return PROGRAM.format(servers=kafka.servers, topic=topic, output=output, more=more and f", {more}")


def events(count: int, first: int = 0) -> list[Given]:
    """By user in partitions, with keys of their own and times that are nearly in order."""
    chance = random.Random(first)
    made = []
    for n in range(first, first + count):
        user = f"u{chance.randrange(50)}"
        value = {"user": user, "ts": 1_700_000_000_000 + n * 10 - chance.randrange(50), "level": chance.randrange(2)}
        trace = (("trace", b"t%d" % n),) if n % 2 else ()
        made.append(Given(f"{n}", json.dumps(value), sum(user.encode()) % 3, trace))
    return made


def rows(path: Path) -> list[Any]:
    return sorted(path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    with closing(Job(tmp_path)) as made:
        yield made


def run(folder: Path, text: str, *arguments: str) -> tuple[list[Any], str]:
    """A run that nothing happens to: its rows and what it said."""
    folder.mkdir()
    (folder / "job.cep").write_text(text)
    with closing(Job(folder, *arguments)) as made:
        running = made.start()
        assert running.wait() == 0, running.said
        return rows(folder / "triples.jsonl"), running.said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_and_resumed_it_gives_exactly_the_rows(kafka: Kafka, tmp_path: Path, workers: str) -> None:
    topic = kafka.create_topic(kafka.unique("logins"), 3)
    folder = tmp_path / "job"
    folder.mkdir()
    with closing(Job(folder, *checkpoints_in("chk"), "-p", workers)) as job:
        (folder / "job.cep").write_text(program(kafka, topic))
        count = 0
        for life in range(3):
            running = job.start(*(["--resume"] if life else []))
            wanted = len(rows(folder / "triples.jsonl")) + 100
            for _ in range(3):
                kafka.produce(topic, events(1500, count))
                count += 1500
            running.wait_for(lambda goal=wanted: len(rows(folder / "triples.jsonl")) > goal, "rows of this life")  # type: ignore[misc]
            # not right behind a checkpoint: what was read and is in none must come again
            kafka.produce(topic, events(1500, count))
            count += 1500
            time.sleep(0.05 * life)
            running.kill()
        (folder / "job.cep").write_text(program(kafka, topic, more="until = 'latest'"))
        running = job.start("--resume")
        assert running.wait() == 0, running.said
    found = rows(folder / "triples.jsonl")
    expected, _ = run(tmp_path / "calm", program(kafka, topic, more="until = 'latest'"))
    assert found == expected
    assert len(expected) > count // 20
    assert not list(folder.glob("*dead-letters*")), "whole jobs do not ask for keys"


def test_bad_records_say_where_they_are(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.create_topic(kafka.unique("poison"), 3)
    good = events(30)
    kafka.produce(topic, [*good[:10], Given("k", "{", 1), Given("k", None, 0), *good[10:], Given("k", "x\ny", 1)])
    _, said = run(tmp_path / "job", program(kafka, topic, more="until = 'latest'"))
    letters = [json.loads(line) for line in (tmp_path / "job" / "job.dead-letters.jsonl").read_text().splitlines()]
    assert sorted((each["source"], each["raw"]) for each in letters) == [
        (f"{topic}/0", ""), (f"{topic}/1", "x\ny"), (f"{topic}/1", "{"),
    ]  # fmt: skip
    assert "3 bad" in said


def test_what_cannot_be_read_is_said_before_anything_is_done(kafka: Kafka, job: Job) -> None:
    (job.folder / "job.cep").write_text(program(kafka, "no-such-topic"))
    running = job.start()
    assert running.wait() == 3, running.said
    assert "there is no such topic, or it may not be seen; create it (kafka-topics.sh --create)" in running.said
    assert "Traceback" not in running.said
    assert not (job.folder / "triples.jsonl").exists()
