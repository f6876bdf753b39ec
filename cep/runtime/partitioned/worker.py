"""A worker of a job between topics: one member of the consumer group, and the partitions that it is given."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from aiokafka import TopicPartition

from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError
from ostinato.cep.runtime.occupation import PARTITIONS, Meter, Occupation, OperatorTimes
from ostinato.cep.runtime.partitioned.member import Assigned, Failed, Fetched, Gone, Member, News, Revoked
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.cep.runtime.partitioned.task import Phase, Task
from ostinato.cep.runtime.statistics import PartitionNumbers, Statistics
from ostinato.cep.runtime.stopping import Stop

_NAP_SECONDS: Final = 0.02
"""How long the inbox is waited for where nothing is due."""
_STEPS: Final = 4
"""So many blocks go through before the inbox is looked at again."""
_LOOK_SECONDS: Final = 1.0
"""How often time of idle partitions, and partitions that do not move, are looked after."""
_STOP_SECONDS: Final = 30.0
_STATISTICS_SECONDS: Final = 0.2
_MEASURE_SECONDS: Final = 5.0
"""How often it is asked where partitions end."""
_WARNINGS: Final = 2
"""A partition that does not move is said so many times before it is taken over anew."""


class TaskId(NamedTuple):
    """A partition number, and whether its records are routed or matched."""

    number: int
    routing: bool = False

    @property
    def label(self) -> str:
        """In metrics."""
        return f"route {self.number}" if self.routing else str(self.number)


class Worker:
    """Runs until it is asked to stop, or until something fails that no other attempt could mend."""

    def __init__(
        self,
        setup: Setup,
        *,
        announce: Callable[[str], None] = lambda _: None,
        observer: Callable[[Statistics], None] | None = None,
        instance: str | None = None,
    ) -> None:
        """
        Args:
            setup: the job.
            announce: is given what people should know, from any thread.
            observer: is given the numbers, now and then.
            instance: see `Member`.
        """
        self.tasks: dict[TaskId, Task] = {}
        self.statistics = Statistics()
        self._setup = setup
        self._announce = announce
        self._observer = observer
        self._member = Member(setup, announce, instance)
        self._leaving: list[Task] = []
        self._revoking: Callable[[], None] | None = None
        self._looked = 0.0
        self._told = 0.0
        self._measured = 0.0
        self._turn = 0
        self._waiting: set[TaskId] = set()
        self._taken: dict[tuple[int, str], int] = {}
        self._stuck: dict[TaskId, int] = {}
        self._measuring: Future[None] | None = None
        self._asking: Future[tuple[int, dict[TopicPartition, int]] | None] | None = None
        self._running = Meter()
        self._idle = Meter()
        self._held = Meter()
        self.statistics.measure = self._measure
        self._gone = Statistics()
        """What partitions have done here that were taken away since."""

    def run(self, stop: Stop) -> None:
        """Raises ConnectorError, StateError, MatchError and what user code raises."""
        began = time.monotonic()
        try:
            self._member.start(self._queued)
            with self._running.running():
                while not stop.requested:
                    self._turn_over()
                    now = time.monotonic()
                    if self._observer is not None and now - self._told >= _STATISTICS_SECONDS:
                        self._told = now
                        self._count(now - began)
                        self._observer(self.statistics)
                self._finish()
        except BaseException:
            self._close(leave=True)
            raise
        self._count(time.monotonic() - began)
        self._close(leave=True)

    # One turn

    def _turn_over(self) -> None:
        busy = self._compute()
        self._read_inbox(0.0 if busy else _NAP_SECONDS)
        now = time.monotonic()
        for task in list(self.tasks.values()):
            task.poll(now)
        self._answer_revocation()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._lift_idle()
            self._watch(now)

    def _compute(self) -> bool:
        """Let blocks go through, those of each partition in turn; was there one?"""
        ready = [task for task in self.tasks.values() if task.has_work]
        for _ in range(_STEPS):
            ready = [task for task in ready if task.has_work]
            if not ready:
                break
            self._turn += 1
            ready[self._turn % len(ready)].step()
        return any(task.has_work for task in ready)

    def _read_inbox(self, wait: float) -> None:
        for news in self._news(wait):
            match news:
                case Fetched(number, topic, block, epoch):
                    self._taken[number, topic] = self._taken.get((number, topic), 0) + block.size
                    if (task := self.tasks.get(self._task_of(number, topic))) is not None:
                        task.take(topic, block, epoch)
                case Assigned(numbers):
                    self.statistics.rebalances += 1
                    self._assign(numbers)
                case Revoked(done):
                    for task in self.tasks.values():
                        task.suspend()
                    self._revoking = done
                case Gone(number, topic, offset):
                    task = self.tasks.get(self._task_of(number, topic))
                    if task is not None and task.phase == Phase.RUNNING:
                        task.fail(KafkaUnavailableError(f"topic {topic}: offset {offset} is not there any more"))
                case Failed(error):
                    raise error

    def _news(self, wait: float) -> Iterator[News]:
        with suppress(queue.Empty):
            held = any(task.is_choked for task in self.tasks.values())
            with (self._held if held else self._idle).running():
                first = self._member.inbox.get(wait)
            yield first
            while True:
                yield self._member.inbox.get()

    def _assign(self, numbers: frozenset[int]) -> None:
        self._revoking = None
        wanted = {
            TaskId(number, routing)
            for number in numbers
            for routing in (False, True)
            if any(self._member.cluster.topics_of(number, routing=routing))
        }
        for place in sorted(self.tasks.keys() - wanted):
            self._let_go(place, self.tasks.pop(place))
        for place in sorted(wanted):
            before = self.tasks.get(place)
            if before is None or before.phase == Phase.CLOSED:
                if before is not None:
                    self._let_go(place, before)
                self.tasks[place] = Task(self._setup, place.number, self._member, self._announce, routing=place.routing)
            else:
                before.resume()

    def _task_of(self, number: int, topic: str) -> TaskId:
        return TaskId(number, topic in self._setup.routed_topics)

    def _answer_revocation(self) -> None:
        if self._revoking is not None and all(task.is_settled for task in self.tasks.values()):
            done, self._revoking = self._revoking, None
            done()

    def _finish(self) -> None:
        """Commit what there is, and go."""
        for task in self.tasks.values():
            task.suspend()
        until = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < until and not all(task.is_settled for task in self.tasks.values()):
            self._read_inbox(_NAP_SECONDS)
            for task in list(self.tasks.values()):
                task.poll(time.monotonic())
            self._answer_revocation()

    def _close(self, *, leave: bool) -> None:
        for task in self.tasks.values():
            task.close()
        self._member.close(leave=leave)

    def _queued(self, number: int, topic: str) -> tuple[int, int]:
        """How many bytes of a partition wait here, and how many have been taken from the inbox, ever."""
        task = self.tasks.get(self._task_of(number, topic))
        return 0 if task is None else task.queued_bytes, self._taken.get((number, topic), 0)

    # Looking after

    def _lift_idle(self) -> None:
        """Let time go on in idle partitions, as far as it has come in all others."""
        running = {
            place.number: task for place, task in self.tasks.items() if task.watermark is not None and not place.routing
        }
        if self._asking is not None and self._asking.done():
            asking, self._asking = self._asking, None
            with suppress(Exception):  # it is asked again in a moment
                found = asking.result()
                if found is not None:
                    for task in running.values():
                        task.lift(*found)
        if self._asking is None and any(task.is_idle and task.phase == Phase.RUNNING for task in running.values()):
            own = {number: (task.watermark or 0, task.is_idle) for number, task in running.items()}
            self._asking = self._member.loop.submit(self._member.cluster.job_watermark(own, self._member.reading))

    def _watch(self, now: float) -> None:
        """Notice partitions that are ours, have work, and do not move."""
        if self._measuring is None or (self._measuring.done() and now - self._measured >= _MEASURE_SECONDS):
            self._measured = now
            self._measuring = self._member.loop.submit(self._member.look_at_ends())
        for place, task in self.tasks.items():
            loaded, number = task.loaded, place.number
            self._watch_phase(place, task, now)
            if task.phase != Phase.RUNNING or loaded is None or not self._member.lag(number, loaded.next):
                task.progressed = now if task.phase == Phase.RUNNING else task.progressed
                self._stuck.pop(place, None)
                continue
            still = now - task.progressed
            warned = self._stuck.get(place, 0)
            if still < self._setup.watchdog_seconds * (warned + 1) / (_WARNINGS + 1):
                if still < self._setup.watchdog_seconds / (_WARNINGS + 1):
                    self._stuck.pop(place, None)
                continue
            self._stuck[place] = warned + 1
            lag = self._member.lag(number, loaded.next)
            if warned < _WARNINGS:
                self._announce(f"{task.name} has {lag} records to read and has not moved for {still:.0f} s")
            else:
                self._stuck.pop(place)
                task.fail(KafkaUnavailableError(f"it has {lag} records to read and has not moved for {still:.0f} s"))

    def _watch_phase(self, place: TaskId, task: Task, now: float) -> None:
        """Say of a partition that nobody works on, once, that it waits."""
        if task.phase == Phase.RUNNING:
            self._waiting.discard(place)
        elif place not in self._waiting and now - task.progressed > self._setup.watchdog_seconds / (_WARNINGS + 1):
            self._waiting.add(place)
            self._announce(f"{task.name} is {task.phase.value} for {now - task.progressed:.0f} s now")

    def _count(self, seconds: float) -> None:
        total = self.statistics
        tasks = sorted(self.tasks.items())
        loaded = [task.loaded for _, task in tasks if task.loaded is not None]
        parts = [self._gone, *(each.pipeline.statistics for each in loaded)]
        total.events = sum(part.events - part.resumed for part in parts)
        total.bad = sum(part.bad for part in parts)
        total.late = sum(part.late for part in parts)
        total.bytes = sum(part.bytes for part in parts)
        total.seconds = seconds
        for each in loaded:
            each.pipeline.count_patterns()
        total.set_patterns([part.patterns for part in parts])
        written: dict[str, int] = dict(self._gone.written)
        for each in loaded:
            for name, rows in each.outbox.written.items():
                written[name] = written.get(name, 0) + rows
        total.written = written
        total.set_partitions([self._gone.partitions, {place.label: self._stands(place, task) for place, task in tasks}])

    def _measure(self) -> Occupation:
        """What the time went into; any thread may ask."""
        seconds = self._running.seconds
        held = min(self._held.seconds, seconds)
        idle = min(self._idle.seconds, seconds - held)
        return Occupation({PARTITIONS: OperatorTimes(seconds - held - idle, idle, held)})

    def _stands(self, place: TaskId, task: Task) -> PartitionNumbers:
        """What a partition has done here, and where it is."""
        found = replace(task.numbers, lag={}, watermarks=task.watermarks())
        if task.loaded is not None:
            for stream, splits in zip(task.streams, task.loaded.splits, strict=True):
                own = {topic: offset for topic, offset in task.loaded.next.items() if topic in splits}
                found.lag[stream.name] = self._member.lag(place.number, own)
        return found

    def _let_go(self, place: TaskId, task: Task) -> None:
        """Close it; what the partition has done here stays counted."""
        self._keep_counts(task)
        task.close()  # which may give up a transaction
        self._gone.partitions.setdefault(place.label, PartitionNumbers()).add(task.numbers)

    def _keep_counts(self, task: Task) -> None:
        if task.loaded is not None:
            own, kept = task.loaded.pipeline.statistics, self._gone
            kept.events += own.events - own.resumed
            for name in ("bad", "late", "bytes"):
                setattr(kept, name, getattr(kept, name) + getattr(own, name))
            for name, rows in task.loaded.outbox.written.items():
                kept.written[name] = kept.written.get(name, 0) + rows
