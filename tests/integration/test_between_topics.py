"""Jobs from topics to topics, at a real broker, by the installed command: what can be read, written, and asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.runtime.partitioned.position import Position
from ostinato.server import exits
from tests.faults.driver import Job, Running
from tests.kafka_clients import Kafka
from tests.services import RedisServer

START = 1_700_000_000_000
STREAM = """
stream logins (
  user   string key,
  ts     timestamp(ms) time delay 1 s idle 0 ms,
  status string
) from kafka {source}
"""
PATTERN = """
pattern guessed on logins
  match  fail{2,} ok
  define fail as status = 'FAILED', ok as status = 'SUCCESS'
  within 1 min
  after match skip past last
  emit   user, count(fail) as failures
  into   alerts
"""
OUTPUT = "output alerts to kafka '{output}'"


class Case:
    """A job with topics of its own."""

    def __init__(self, folder: Path, kafka: Kafka, stack: ExitStack) -> None:
        self.folder = folder
        self.kafka = kafka
        self.name = kafka.unique("job")
        self.output = kafka.create_topic(kafka.unique("alerts"), 2)
        self._stack = stack
        self._job: Job | None = None
        self.at = START

    def topic(self, name: str = "logins", partitions: int = 2) -> str:
        return self.kafka.create_topic(self.kafka.unique(name), partitions)

    def write(self, text: str) -> None:
        (self.folder / "job.cep").write_text(text)

    def program(self, source: str, output_options: str = "", *, pattern: str = PATTERN) -> None:
        """A program with one stream; `source`: what stands behind ``from kafka``, up to its options."""
        servers = "session_timeout_ms = 3000, metadata_max_age_ms = 1000"
        if "bootstrap_servers" not in source:
            servers += f", bootstrap_servers = '{self.kafka.servers}'"
        given = source.replace("(", f"({servers}, ") if "(" in source else f"{source} ({servers})"
        output = OUTPUT.replace("{output}", self.output) + (f" ({output_options})" if output_options else "")
        self.write(STREAM.replace("{source}", given) + pattern + output)

    def start(self, *arguments: str, store: str = "") -> Running:
        where = ["--checkpoint-redis", store] if store else ["--checkpoint-dir", "checkpoints"]
        if self._job is None:
            self._job = self._stack.enter_context(closing(Job(self.folder, "--name", self.name, *where)))
        return self._job.start(*arguments)

    def guessing(self, user: str, failures: int = 2, partition: int | None = None) -> list[tuple[Any, ...]]:
        """The records of one match."""
        made = []
        for status in [*["FAILED"] * failures, "SUCCESS"]:
            self.at += 100
            made.append((user, json.dumps({"user": user, "ts": self.at, "status": status}), partition))
        return made

    def later(self, partitions: int) -> list[tuple[Any, ...]]:
        """Lets time go on in every partition."""
        self.at += 100_000
        end = json.dumps({"user": "clock", "ts": self.at, "status": "OTHER"})
        return [("clock", end, partition) for partition in range(partitions)]

    def rows(self, topic: str = "") -> list[dict[str, Any]]:
        return [json.loads(record.value or b"") for record in self.kafka.read(topic or self.output)]

    def users(self, count: int, running: Running) -> list[str]:
        """Whose matches there are, once there are so many; and no more come."""
        running.wait_for(lambda: len(self.rows()) >= count, f"{count} matches")
        found = [row["user"] for row in self.rows()]
        assert len(found) == count
        return sorted(found)


@pytest.fixture
def case(tmp_path: Path, kafka: Kafka) -> Iterator[Case]:
    with ExitStack() as stack:
        yield Case(tmp_path, kafka, stack)


def test_records_have_the_match_in_their_key_and_headers(case: Case) -> None:
    topic = case.topic()
    case.program(f"'{topic}'")
    case.kafka.produce(topic, [*case.guessing("ada"), *case.guessing("bob", 3), *case.later(2)])
    running = case.start()
    assert case.users(2, running) == ["ada", "bob"]
    records = case.kafka.read(case.output)
    assert sorted(record.key or b"" for record in records) == [b"ada", b"bob"]
    for record in records:
        headers = dict(record.headers)
        assert headers["pattern"] == b"guessed"
        assert len(headers["version"]) == 8
        assert int(headers["event-time"]) == START + (300 if record.key == b"ada" else 700)
    assert len({dict(record.headers)["match-id"] for record in records}) == 2
    assert running.stop() == exits.TERMINATED


def test_it_goes_on_where_it_was(case: Case) -> None:
    topic = case.topic()
    case.program(f"'{topic}'")
    begun, ended = case.guessing("ada")[:-1], case.guessing("ada", 0)
    case.kafka.produce(topic, [*begun, *case.guessing("bob")])
    running = case.start()
    running.wait_for(lambda: sum(at for at, _ in case.kafka.committed(case.name).values()) == 5, "all to be committed")
    running.stop()
    case.kafka.produce(topic, [*ended, *case.later(2)])
    assert case.users(2, case.start("-p", "2")) == ["ada", "bob"]
    positions = [Position.decode(text, "") for _, text in case.kafka.committed(case.name).values()]
    assert all(position.snapshot > 0 for position in positions)


def test_several_topics_are_one_stream(case: Case) -> None:
    """Failures come in one topic and the success in the other: partition n of both is one task's."""
    one, two = case.topic("one"), case.topic("two")
    case.program(f"'{one}, {two}'")
    fails, ok = case.guessing("ada")[:-1], case.guessing("ada", 0)
    case.kafka.produce(one, [*fails, *case.later(2)])
    case.kafka.produce(two, [*ok, *case.later(2)])
    assert case.users(1, case.start("-p", "2")) == ["ada"]


def test_topics_by_a_pattern_and_one_that_comes_later(case: Case) -> None:
    prefix = case.kafka.unique("many")
    first = case.kafka.create_topic(f"{prefix}-a", 1)
    case.program(f"(topic_pattern = '{prefix}-.*')")
    case.kafka.produce(first, [*case.guessing("ada"), *case.later(1)])
    running = case.start()
    assert case.users(1, running) == ["ada"]
    second = case.kafka.create_topic(f"{prefix}-b", 1)
    case.kafka.produce(second, case.guessing("bob"))
    # Only what comes after it has been noticed is in time: until then nobody knew of it.
    running.wait_for(lambda: (second, 0) in case.kafka.committed(case.name), "the topic to be noticed")
    end = case.later(1)
    case.kafka.produce(second, end)
    case.kafka.produce(first, end)
    assert case.users(2, running) == ["ada", "bob"]


def test_two_streams_meet_in_a_pattern_over_their_matches(case: Case) -> None:
    logins, orders = case.topic(), case.topic("orders")
    servers = case.kafka.servers
    case.write(f"""
stream logins (user string key, ts timestamp(ms) time idle 0 ms, status string)
  from kafka '{logins}' (bootstrap_servers = '{servers}', session_timeout_ms = 3000)
stream orders (user string key, ts timestamp(ms) time idle 0 ms, amount bigint)
  from kafka '{orders}' (bootstrap_servers = '{servers}', session_timeout_ms = 3000)
pattern failed on logins match f define f as status = 'FAILED' emit user, 'failed' as what into steps
pattern large on orders match o define o as amount > 1000 emit user, 'order' as what into steps
pattern suspicious on steps match a -> b define a as what = 'failed', b as what = 'order' within 1 min
  emit user, a.match_time as since into alerts
output alerts to kafka '{case.output}'
""")
    order = json.dumps({"user": "ada", "ts": START + 5000, "amount": 2000})
    clock = json.dumps({"user": "clock", "ts": START + 200_000, "amount": 0})
    case.kafka.produce(logins, [*case.guessing("ada", 1)[:1], *case.later(2)])
    case.kafka.produce(orders, [("ada", order), ("clock", clock, 0), ("clock", clock, 1)])
    assert case.users(1, case.start()) == ["ada"]


def test_at_least_once_needs_no_transaction(case: Case) -> None:
    topic = case.topic()
    case.program(f"'{topic}'", "delivery = 'at_least_once'")
    case.kafka.produce(topic, [*case.guessing("ada"), *case.later(2)])
    running = case.start()
    assert case.users(1, running) == ["ada"]
    running.wait_for(
        lambda: sum(at for at, _ in case.kafka.committed(case.name).values()) == 5, "the offsets to be committed"
    )
    ends = case.kafka.end_offsets(case.output)
    assert sum(ends.values()) == 1, "a transaction would have left its mark"


def test_where_to_begin(case: Case) -> None:
    """Only where nothing is committed: later it goes on where it was, whatever is said."""
    topic = case.topic(partitions=1)
    old = [(key, value, 0, (), START) for key, value, _ in case.guessing("ada")]
    new = [(key, value, 0, (), START + 60_000) for key, value, _ in case.guessing("bob")]
    case.kafka.produce(topic, [*old, *new])
    case.program(f"'{topic}' (start = '2023-11-14T22:13:30Z')")  # START + 10 s
    running = case.start()
    case.kafka.produce(topic, case.later(1))
    assert case.users(1, running) == ["bob"]
    running.stop()
    case.kafka.produce(topic, [*case.guessing("eve"), *case.later(1)])
    case.program(f"'{topic}' (start = 'latest')")
    assert case.users(2, case.start()) == ["bob", "eve"]


def test_late_rows_and_dead_letters_have_topics(case: Case) -> None:
    topic = case.topic(partitions=1)
    late, letters = case.topic("late", 1), case.topic("letters", 1)
    case.program(f"'{topic}'")
    early = json.dumps({"user": "ada", "ts": START - 50_000, "status": "FAILED"})
    bad = [("ada", "{"), ("eve", json.dumps({"user": "ada", "ts": START, "status": "OK"}))]
    case.kafka.produce(topic, [*case.guessing("ada"), ("ada", early), *bad, *case.later(1)])
    running = case.start("--late", f"kafka:{late}", "--dead-letters", letters)
    assert case.users(1, running) == ["ada"]
    assert running.wait_for(lambda: case.rows(late), "the late row")[0]["status"] == "FAILED"
    dead = running.wait_for(lambda: case.kafka.read(letters), "the dead letters")
    assert [record.value for record in dead] == [value.encode() for _, value in bad]
    assert [int(dict(record.headers)["source-offset"]) for record in dead] == [4, 5]
    assert b"keying" in dict(dead[1].headers)["reason"]


def test_snapshots_in_redis(case: Case, redis: RedisServer) -> None:
    topic = case.topic()
    case.program(f"'{topic}'")
    begun, ended = case.guessing("ada")[:-1], case.guessing("ada", 0)
    case.kafka.produce(topic, begun)
    running = case.start(store=redis.address)
    running.wait_for(lambda: sum(at for at, _ in case.kafka.committed(case.name).values()) == 2, "a commit")
    running.kill()
    case.kafka.produce(topic, [*ended, *case.later(2)])
    assert case.users(1, case.start(store=redis.address)) == ["ada"]


def test_it_is_listed_and_can_be_cancelled(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTINATO_RUNTIME_DIR", str(tmp_path / "jobs"))
    topic = case.topic()
    case.program(f"'{topic}'")
    running = case.start("-p", "2")
    running.wait_for(lambda: case.kafka.committed(case.name), "a commit")

    def ask(*command: str) -> str:
        said = subprocess.run(
            [sys.executable, "-m", "ostinato.server.cli", *command], capture_output=True, text=True, check=False
        )
        return said.stdout + said.stderr

    (listed,) = json.loads(ask("list", "--json"))["jobs"]
    assert (listed["name"], listed["state"], len(listed["processes"])) == (case.name, "RUNNING", 2)
    assert "takes no savepoints" in ask("savepoint", case.name)
    ask("cancel", case.name)
    assert running.wait() == exits.CANCELED
    assert "cancelled" in running.said


REFUSED: Sequence[tuple[str, str, int, str]] = (
    ("'nowhere'", "", exits.INPUT, "there is no such topic"),
    ("'{topic}'", "delivery = 'twice'", exits.USAGE, "delivery"),
    ("'{topic}' (start = 'yesterday')", "", exits.USAGE, "start"),
    ("'{topic}' (topic_pattern = 'a.*')", "", exits.USAGE, "not both"),
    ("'{topic}' (sesion_timeout = 3)", "", exits.USAGE, "session_timeout_ms"),
    ("'{topic}, {narrow}'", "", exits.USAGE, "equally many partitions"),
    ("'{topic}' (bootstrap_servers = '127.0.0.1:1')", "", exits.INPUT, "check that Kafka runs there"),
)


@pytest.mark.parametrize(("source", "output", "code", "said"), REFUSED, ids=[each[3] for each in REFUSED])
def test_what_cannot_be_is_refused_with_a_word_about_it(
    case: Case, source: str, output: str, code: int, said: str
) -> None:
    source = source.replace("{topic}", case.topic()).replace("{narrow}", case.topic("narrow", 1))
    case.program(source, output)
    running = case.start("--restart", "none")
    found = running.wait(60)
    assert said in running.said
    assert found == code or (code == exits.USAGE and found in (exits.PROBLEMS, exits.USAGE, exits.INPUT, exits.OUTPUT))


def test_what_goes_elsewhere_cannot_be_exactly_once(case: Case) -> None:
    topic = case.topic()
    case.program(f"'{topic}'")
    (case.folder / "job.cep").write_text(
        (case.folder / "job.cep").read_text() + "\noutput alerts to file 'alerts.jsonl'"
    )
    running = case.start()
    assert running.wait(60) != 0
    assert "at_least_once" in running.said


def test_a_match_that_is_too_large_ends_the_job(case: Case) -> None:
    """It would be too large at every attempt; nothing is committed that does not have it."""
    topic = case.topic(partitions=1)
    case.program(f"'{topic}'", "max_request_size = 1000")
    case.kafka.produce(topic, [*case.guessing("ada" * 1000), *case.later(1)])
    running = case.start("--restart", "fixed-delay attempts=3 delay=100ms")
    assert running.wait(60) == exits.OUTPUT
    assert "raise max_request_size" in running.said
    assert sum(at for at, _ in case.kafka.committed(case.name).values()) < 4
