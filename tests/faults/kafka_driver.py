"""Runs jobs between topics while their input is being written, and measures how far they are behind.

The job is the installed command, in as many processes as the test starts: all of one `Between` are of one consumer
group and have one store of snapshots, whether they are workers of one command or commands of their own ("machines").
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostinato.cep.runtime.partitioned.position import Position
from ostinato.server import exits
from tests.faults.checker import Faults, Row, check
from tests.faults.driver import WAIT_SECONDS, Job, Running, eventually
from tests.faults.kafka_workload import KEYS, TopicFeeder, by_number, events_of, program, topic_of
from tests.faults.workload import Shape
from tests.kafka_clients import Kafka, Record

RECOVERY_SECONDS = 60.0
"""So long after the last fault everything has to be as it was before."""
SESSION_MS = 3_000
OUTPUT_PARTITIONS = 3
_CALM_LAG_SECONDS = 1.0
"""Who is less than this behind, when looked at several times one after the other, is not behind."""
_CALM_TIMES = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How a job between topics is set up.

    Attributes:
        partitions: of the input topic.
        per_second: events that are fed, until the test hurries.
        source, sink: options in the program.
        rekey: the input is partitioned by something else than the stream's key.
        store: a Redis; a directory in the job's folder where it says nothing.
        servers: where the job finds Kafka, if that is not where the test does.
        arguments: of `ostinato run`, in each start.
    """

    partitions: int = 4
    per_second: float = 400
    source: Mapping[str, Any] | None = None
    sink: Mapping[str, Any] | None = None
    rekey: bool = False
    store: str = ""
    servers: str = ""
    arguments: tuple[str, ...] = ()


class Between:
    """A job between topics of its own, its input, and what it has written."""

    def __init__(
        self, folder: Path, kafka: Kafka, shape: Shape, expected: Mapping[str, Sequence[Row]], options: Options
    ) -> None:
        """Make its topics and its program; nothing is started."""
        self.folder = folder
        self.kafka = kafka
        self.shape = shape
        self.options = options
        self.expected = expected
        self.name = kafka.unique("job")
        self.input = topic_of(self.name, "events")
        self.ended = False
        """Was all input dealt with in time?"""
        self.recovered: float | None = None
        """How many seconds it was behind, or ended, after the last fault; None: nobody has asked, or it still is."""
        folder.mkdir(parents=True, exist_ok=True)
        source = {"session_timeout_ms": SESSION_MS, **(options.source or {})}
        if options.rekey:
            source["keying"] = "rekey"
        text = program(self.name, options.servers or kafka.servers, source, options.sink)
        (folder / "job.cep").write_text(text)
        kafka.create_topic(self.input, options.partitions)
        for stream in KEYS:
            kafka.create_topic(topic_of(self.name, stream), OUTPUT_PARTITIONS)
        where = ["--checkpoint-redis", options.store] if options.store else ["--checkpoint-dir", "checkpoints"]
        self.job = Job(
            folder,
            *("--name", self.name, *where),
            *("--restart", "fixed-delay attempts=10000 delay=100ms"),
            *options.arguments,
        )
        self.running: list[Running] = []
        self.feeder = TopicFeeder(
            kafka.servers,
            self.input,
            options.partitions,
            events_of(shape),
            options.per_second,
            *((by_number,) if options.rekey else ()),
        )

    def start(self, workers: int = 1, fault: str = "", *arguments: str) -> Running:
        """One more command of the job, with so many workers; 1: in the process itself."""
        self.running.append(self.job.start("-p", str(workers), *arguments, fault=fault))
        return self.running[-1]

    @property
    def said(self) -> str:
        """By all of them."""
        return "\n".join(running.said for running in self.running)

    def check_alive(self) -> None:
        """Raise where nothing of the job is left that could go on."""
        assert any(running.alive for running in self.running), f"nothing runs any more; it said:\n{self.said}"

    # How far it is

    def positions(self) -> dict[int, Position]:
        """Of each partition that patterns are matched in, what was committed last."""
        through = f"{self.name}.events.rekey" if self.options.rekey else self.input
        found = self.kafka.committed(self.name)
        return {
            partition: Position.decode(text, topic)
            for (topic, partition), (_, text) in found.items()
            if topic == through
        }

    def offsets(self) -> dict[int, int]:
        """Partition -> offset committed of the input."""
        return {p: at for (topic, p), (at, _) in self.kafka.committed(self.name).items() if topic == self.input}

    def lag(self) -> float:
        """Since how many seconds the oldest event waits that is not dealt with; infinite: nothing is committed yet."""
        held = self.positions()
        if len(held) < self.options.partitions:
            return float("inf")
        return max(self.feeder.behind(position.watermark) for position in held.values())

    def is_done(self) -> bool:
        """Is the whole input dealt with, and committed, with what a test has put behind the feeder's events?"""
        final, held = self.feeder.final_ms, self.positions()
        if final is None or len(held) < self.options.partitions:
            return False
        if any(position.watermark < final for position in held.values()):
            return False
        committed = self.offsets()
        return all(committed.get(n, 0) >= end for n, end in self.kafka.end_offsets(self.input).items())

    def members(self) -> int:
        """How many are in the group, once that is agreed on; 0 while it is being rebalanced."""
        return asyncio.run(_members(self.kafka.servers, self.name))

    def wait_for_members(self, count: int) -> None:
        self.wait_for(lambda: self.members() == count, f"{count} members")

    def wait_for(self, holds: Any, what: str, seconds: float = WAIT_SECONDS, every: float = 0.2) -> Any:
        """Wait for something while anything of the job runs."""
        try:
            return eventually(holds, what, seconds, every, unless=self.check_alive)
        except AssertionError as error:
            raise AssertionError(f"{error}; committed: {self.offsets()}; it said:\n{self.said}") from None

    def wait_until_running(self) -> None:
        """Wait until every partition has committed events."""
        self.wait_for(
            lambda: len(found := self.offsets()) == self.options.partitions and all(found.values()),
            "every partition to commit events",
        )

    def wait_for_each_to_move(self) -> None:
        """Wait until every partition has committed more than now."""
        before = self.offsets()

        def moved() -> bool:
            now = self.offsets()
            return len(now) == self.options.partitions and all(at > before.get(n, 0) for n, at in now.items())

        self.wait_for(lambda: moved() or self.is_done(), "every partition to move")

    def wait_for_commits(self, events: int = 200) -> None:
        """Wait until so many more events are committed, of all partitions together."""
        target = sum(self.offsets().values()) + events
        self.wait_for(
            lambda: sum(self.offsets().values()) >= target or self.is_done(), f"{events} more events to be committed"
        )

    def recover(self, seconds: float = RECOVERY_SECONDS) -> float:
        """The last fault is just over: wait until the job is not behind any more; returns after how many seconds."""
        began, held = time.monotonic(), 0
        while held < _CALM_TIMES:
            self.check_alive()
            held = held + 1 if self.lag() < _CALM_LAG_SECONDS else 0
            now = time.monotonic() - began
            assert now < seconds, f"behind by {self.lag():.1f} s after {seconds:g} s; it said:\n{self.said}"
            time.sleep(0.1)
        self.recovered = max(self.recovered or 0.0, now)
        return self.recovered

    def finish(self, seconds: float = 90.0) -> None:
        """Have the rest of the input written, wait until it is dealt with, and end all of the job that still runs."""
        if self.recovered is None:
            self.recover()
        self.feeder.hurry()
        self.feeder.join()
        with contextlib.suppress(AssertionError):  # what is lost never comes; then the verdict is the checker's
            self.wait_for(self.is_done, "everything to be committed", seconds)
            self.ended = True
        for running in self.running:
            if running.alive:
                code = running.stop()
                assert code in (0, exits.TERMINATED), f"exit code {code}; it said:\n{running.said}"

    def close(self) -> None:
        self.feeder.close()
        self.job.close()

    # What it has written

    def records(self, stream: str) -> list[Record]:
        """All of a stream that can be read with read_committed, by partition and offset."""
        topic = topic_of(self.name, stream)
        return self.kafka.read(topic, until=self.kafka.end_offsets(topic))

    def dead_letters(self) -> list[Record]:
        topic = f"{self.name}.dead-letters"
        return self.kafka.read(topic, until=self.kafka.end_offsets(topic)) if self.kafka.partitions(topic) else []

    def judge(self, *, dead_letters: int = 0) -> Faults:
        """Compare with what is expected; match ids that are there twice count as duplicated."""
        written = {stream: self.records(stream) for stream in KEYS}
        lines = {
            stream: b"".join((record.value or b"") + b"\n" for record in records) for stream, records in written.items()
        }
        faults = check(self.expected, lines, KEYS)
        for stream, records in written.items():
            ids = Counter(dict(record.headers)["match-id"].decode() for record in records)
            faults.duplicated += [f"{stream}: match-id {id_} is there {n} times" for id_, n in ids.items() if n > 1]
        found = self.dead_letters()
        if len(found) != dead_letters:
            reasons = {dict(record.headers).get("reason", b"").decode() for record in found}
            faults.phantom.append(f"{len(found)} dead letters, {dead_letters} expected: {sorted(reasons)[:3]}")
        return faults


async def _members(servers: str, group: str) -> int:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import GroupCoordinatorNotAvailableError

    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    try:
        await admin.start()
        answer = (await admin.describe_consumer_groups([group]))[0].groups[0]
        # error code, group, state, type, protocol, members
        return len(answer[5]) if answer[2] == "Stable" else 0
    except GroupCoordinatorNotAvailableError:
        return 0  # the first of all groups is just being made
    finally:
        await admin.close()
