"""Random programs of state operations do what plain dicts do, through checkpoints, restores and other parallelisms."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.state.backends.base import Backend
from ostinato.state.backends.memory import MemoryBackend
from ostinato.state.backends.rocksdb import RocksDBBackend
from ostinato.state.descriptors import (
    AggregateFunction,
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    ValueStateDescriptor,
)
from ostinato.state.evolution import StateNote
from ostinato.state.keyed import KeyedStates
from ostinato.state.keyed_records import EVENT_TIME, PROCESSING_TIME
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.ttl import StateTtlConfig
from ostinato.state.typeinfo import Types

GROUPS = 4
TTL = 10


class Mean(AggregateFunction):
    def create_accumulator(self) -> list[int]:
        return [0, 0]

    def add(self, value: int, accumulator: list[int]) -> list[int]:
        accumulator[0] += value
        accumulator[1] += 1
        return accumulator

    def get_result(self, accumulator: list[int]) -> float:
        return accumulator[0] / accumulator[1]


class Worker:
    """Keyed states as an operator has them."""

    def __init__(self, backend: Backend) -> None:
        self.states = KeyedStates("test", GROUPS, backend)
        value = ValueStateDescriptor("value")
        value.enable_time_to_live(StateTtlConfig.new_builder(TTL).use_event_time().build())
        listed = ListStateDescriptor("list", Types.INT())
        listed.enable_time_to_live(
            StateTtlConfig.new_builder(TTL).use_event_time().update_ttl_on_read_and_write().build()
        )
        mapped = MapStateDescriptor("map", Types.STRING(), Types.LIST(Types.INT()))
        mapped.enable_time_to_live(StateTtlConfig.new_builder(TTL).build())
        self.value = self.states.declare(value)
        self.list = self.states.declare(listed)
        self.map = self.states.declare(mapped)
        self.sum = self.states.declare(ReducingStateDescriptor("sum", lambda a, b: a + b, Types.LONG()))
        self.mean = self.states.declare(AggregatingStateDescriptor("mean", Mean(), Types.LIST(Types.LONG())))
        self.states.seal()


@dataclass
class Model:
    """The same in plain dicts: stamped values by key."""

    now: int = 0
    value: dict[str, tuple[int, Any]] = field(default_factory=dict)
    lists: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    map: dict[str, dict[str, tuple[int, Any]]] = field(default_factory=dict)
    sum: dict[str, int] = field(default_factory=dict)
    mean: dict[str, list[int]] = field(default_factory=dict)
    timers: set[tuple[int, int, str, str]] = field(default_factory=set)

    def read(self, key: str) -> tuple[Any, ...]:
        held = self.value.get(key)
        value = held[1] if held and held[0] + TTL > self.now else None
        listed = [item for stamp, item in self.lists.get(key, []) if stamp + TTL > self.now]
        self.lists[key] = [(self.now, item) for item in listed]
        mapped = {name: item for name, (stamp, item) in self.map.get(key, {}).items() if stamp + TTL > self.now}
        mean = self.mean.get(key)
        return value, listed, mapped, self.sum.get(key), mean[0] / mean[1] if mean else None


class Store:
    """What has been written: for each group its records as of the last checkpoint."""

    def __init__(self) -> None:
        self.groups: dict[int, dict[bytes, bytes]] = {}
        self.notes: list[StateNote] = []
        self.may_drop = False
        self.header = b""
        self.shared: tuple[bytes, ...] = ()
        self.owned = range(GROUPS)

    def take(self, state: OperatorState) -> None:
        for group, records in state.groups.items():
            held = {} if group in state.whole else dict(self.groups.get(group, {}))
            for key, value in records.items():
                if value:
                    held[key] = value
                else:
                    held.pop(key, None)
            self.groups[group] = held

    def of(self, owned: range) -> Store:
        part = Store()
        part.groups, part.owned = self.groups, owned
        return part

    def records(self) -> Iterator[tuple[int, Records]]:
        for group in self.owned:
            if self.groups.get(group):
                yield group, Records.of(self.groups[group].items())


class Job:
    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self.store = Store()
        self.saved = Model()
        self.model = Model()
        self.workers: list[Worker] = []
        self.start(1)

    def start(self, parallelism: int) -> None:
        """As after a crash: what was not checkpointed is gone."""
        self.close()
        self.workers = [Worker(self._make()) for _ in range(parallelism)]
        self.model = copy.deepcopy(self.saved)
        for number, worker in enumerate(self.workers):
            owned = range(-(-number * GROUPS // parallelism), -(-(number + 1) * GROUPS // parallelism))
            states = worker.states
            states.processing_time = self.model.now
            states.restore(states.notes(), self.store.of(owned), event_time=self.model.now)

    def checkpoint(self, whole: list[int] | None) -> None:
        taken = [worker.states.snapshot(b"h", whole) for worker in self.workers]
        if whole is None:
            self.store.groups.clear()
        for number, state in enumerate(taken):
            owner = {group for group in range(GROUPS) if group * len(self.workers) // GROUPS == number}
            assert set(state.groups) <= owner or not any(
                len(state.groups[group]) for group in set(state.groups) - owner
            )
            state = OperatorState(b"h", {g: r for g, r in state.groups.items() if g in owner}, state.whole)
            self.store.take(state)
        self.saved = copy.deepcopy(self.model)

    def advance(self, by: int) -> None:
        self.model.now += by
        for worker in self.workers:
            worker.states.event_time = worker.states.processing_time = self.model.now

    def at(self, key: str) -> Worker:
        group = ord(key[-1]) % GROUPS
        worker = self.workers[group * len(self.workers) // GROUPS]
        worker.states.select(group, key.encode())
        return worker

    def ring(self) -> None:
        rung = set()
        for worker in self.workers:
            for domain in (EVENT_TIME, PROCESSING_TIME):
                times = []
                while (time := worker.states.next_timer(domain)) is not None and time <= self.model.now:
                    due = worker.states.ring(domain)
                    if due is not None:
                        times.append(due[:3])
                        rung.add((domain, due.time, due.namespace, due.key.decode()))
                assert times == sorted(times)
        expected = {timer for timer in self.model.timers if timer[1] <= self.model.now}
        assert rung == expected
        self.model.timers -= expected

    def check(self, key: str) -> None:
        worker = self.at(key)
        found = (worker.value.value(), worker.list.get(), dict(worker.map.items()), worker.sum.get(), worker.mean.get())
        assert found == self.model.read(key)

    def close(self) -> None:
        for worker in self.workers:
            worker.states.close()


KEYS = st.sampled_from(["a", "b", "c", "long key d"])
NUMBERS = st.integers(-100, 100)
VALUES = st.one_of(
    NUMBERS, st.text(max_size=3), st.lists(NUMBERS, max_size=2), st.dictionaries(st.text(max_size=2), NUMBERS)
)
STEPS = st.one_of(
    st.tuples(st.just("update"), KEYS, VALUES),
    st.tuples(st.just("add"), KEYS, NUMBERS),
    st.tuples(st.just("replace"), KEYS, st.lists(NUMBERS, max_size=3)),
    st.tuples(st.just("put"), KEYS, st.sampled_from("xyz"), st.lists(NUMBERS, max_size=2)),
    st.tuples(st.just("remove"), KEYS, st.sampled_from("xyz")),
    st.tuples(st.just("gather"), KEYS, NUMBERS),
    st.tuples(st.just("clear"), KEYS, st.sampled_from(["value", "list", "map", "sum", "mean"])),
    st.tuples(st.just("timer"), KEYS, st.integers(0, 60), st.sampled_from([EVENT_TIME, PROCESSING_TIME])),
    st.tuples(st.just("no timer"), KEYS, st.integers(0, 60), st.sampled_from([EVENT_TIME, PROCESSING_TIME])),
    st.tuples(st.just("check"), KEYS),
    st.tuples(st.just("advance"), st.integers(1, 6)),
    st.tuples(st.just("ring")),
    st.tuples(st.just("sweep"), st.integers(1, 5)),
    st.tuples(st.just("checkpoint"), st.one_of(st.none(), st.lists(st.integers(0, GROUPS - 1), max_size=2))),
    st.tuples(st.just("crash"), st.integers(1, GROUPS)),
)


def run(make: Callable[[], Backend], steps: list[tuple[Any, ...]]) -> None:
    job = Job(make)
    try:
        for step in steps:
            perform(job, *step)
        for key in ["a", "b", "c", "long key d"]:
            job.check(key)
        job.advance(100)
        job.ring()
    finally:
        job.close()


def perform(job: Job, what: str, *args: Any) -> None:
    model = job.model
    match what, args:
        case "update", (key, value):
            job.at(key).value.update(value)
            model.value[key] = (model.now, value)
        case "add", (key, number):
            job.at(key).list.add(number)
            model.lists.setdefault(key, []).append((model.now, number))
        case "replace", (key, numbers):
            job.at(key).list.update(numbers)
            model.lists[key] = [(model.now, number) for number in numbers]
        case "put", (key, name, numbers):
            job.at(key).map.put(name, numbers)
            model.map.setdefault(key, {})[name] = (model.now, numbers)
        case "remove", (key, name):
            job.at(key).map.remove(name)
            model.map.get(key, {}).pop(name, None)
        case "gather", (key, number):
            job.at(key).sum.add(number)
            job.at(key).mean.add(number)
            model.sum[key] = model.sum.get(key, 0) + number
            total, count = model.mean.get(key, [0, 0])
            model.mean[key] = [total + number, count + 1]
        case "clear", (key, state):
            getattr(job.at(key), state).clear()
            getattr(model, "lists" if state == "list" else state).pop(key, None)
        case "timer", (key, time, domain):
            job.at(key).states.register(domain, time, "")
            model.timers.add((domain, time, "", key))
        case "no timer", (key, time, domain):
            job.at(key).states.delete(domain, time, "")
            model.timers.discard((domain, time, "", key))
        case "check", (key,):
            job.check(key)
        case "advance", (by,):
            job.advance(by)
        case "ring", ():
            job.ring()
        case "sweep", (budget,):
            for worker in job.workers:
                worker.states.sweep(budget)
        case "checkpoint", (whole,):
            job.checkpoint(whole)
        case "crash", (parallelism,):
            job.start(parallelism)


# Long programs: what goes wrong takes a write, a checkpoint, another write, a crash, and a look.
PROGRAMS = st.lists(STEPS, min_size=60, max_size=120)
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(SETTINGS, max_examples=120)
@given(PROGRAMS)
def test_in_memory(steps: list[tuple[Any, ...]]) -> None:
    run(MemoryBackend, steps)


@settings(SETTINGS, max_examples=25)
@given(PROGRAMS, st.sampled_from([0, 1, 100]))
def test_in_rocksdb(steps: list[tuple[Any, ...]], held: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(10_000))

        def make() -> Backend:
            path = Path(folder) / str(next(numbers))
            return RocksDBBackend(path, cache_bytes=1 << 20, write_buffer_bytes=1 << 20, held_records=held)

        run(make, steps)
