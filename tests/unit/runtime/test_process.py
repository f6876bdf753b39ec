"""Process functions: events in the order of time, state by key, timers between them, through restores and rescaling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ostinato import cep
from ostinato.cep.batch import MAX_TIME, Batch, Vector
from ostinato.cep.runtime.frames import decode, encode, schemas_of
from ostinato.cep.runtime.partition import Partitioner, owned_groups
from ostinato.cep.runtime.process import Process, ProcessError
from ostinato.cep.runtime.process_description import describe
from ostinato.patterns.processes import CheckedProcess
from ostinato.patterns.types import BIGINT, STRING
from ostinato.state.backends.base import Backend
from ostinato.state.backends.memory import MemoryBackend
from ostinato.state.backends.rocksdb import RocksDBBackend
from ostinato.state.errors import SnapshotError
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records

GROUPS = 16
MINUTE = 60_000


class Click(cep.Event, key="user", time="ts", name="clicks"):
    user: str
    ts: int
    n: int


class Count(cep.Event, key="user", time="at"):
    user: str
    at: int
    what: str
    n: int


LOST = cep.OutputTag("lost")


@cep.process(on=Click, into="counts", output=Count, side_outputs=[LOST])
class Sessions(cep.KeyedProcessFunction):
    """Counts the clicks of a session, which ends when a user does nothing for a minute."""

    def open(self, runtime_context: cep.RuntimeContext) -> None:
        self.clicks = runtime_context.get_list_state(cep.ListStateDescriptor("clicks", cep.Types.LONG()))
        self.ends = runtime_context.get_state(cep.ValueStateDescriptor("ends", cep.Types.LONG()))

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        if value.n < 0:
            yield LOST, {"user": value.user, "what": "lost", "n": value.n}
            return
        if (before := self.ends.value()) is not None:
            ctx.timer_service().delete_event_time_timer(before)
        self.clicks.add(value.n)
        self.ends.update(ctx.timestamp() + MINUTE)
        ctx.timer_service().register_event_time_timer(ctx.timestamp() + MINUTE)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        row = {"user": ctx.get_current_key(), "what": "session", "n": sum(self.clicks.get())}
        self.clicks.clear()
        self.ends.clear()
        return row


class Rig:
    """A process function in some workers, as a job would run it."""

    def __init__(self, function: type, make: Callable[[], Backend] = MemoryBackend, workers: int = 1) -> None:
        declared = vars(function)["__process__"]
        self.checked = CheckedProcess(declared, declared.stream)
        self.make = make
        schemas = schemas_of([declared.stream])
        self.workers = [
            Process(
                self.checked,
                make(),
                key_groups=GROUPS,
                store=lambda batch: b"".join(bytes(piece) for piece in encode(batch)),
                load=lambda data: decode(data, schemas),
            )
            for _ in range(workers)
        ]
        keys = [(column.name, column.type) for column in declared.stream.columns if column.key]
        self.partitioner = Partitioner(keys, workers, GROUPS)
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def send(self, *events: tuple[str, int, int]) -> None:
        users, times, numbers = zip(*events, strict=True)
        columns = {"user": Vector.of(STRING, users), "ts": Vector.of(BIGINT, times), "n": Vector.of(BIGINT, numbers)}
        batch = Batch("clicks", np.array(times, np.int64), columns)
        for worker, part in zip(self.workers, self.partitioner.spread(batch), strict=True):
            self.keep(worker.on_batch(part))

    def advance(self, watermark: int) -> None:
        for worker in self.workers:
            self.keep(worker.on_watermark(watermark))

    def clock(self, now: int) -> None:
        for worker in self.workers:
            self.keep(worker.on_clock(now))

    def keep(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.rows += [(batch.stream, batch.row(at)) for at in range(len(batch))]

    def snapshot(self, whole: list[int] | None = None) -> list[OperatorState]:
        return [worker.on_barrier(1, whole) for worker in self.workers]

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


class Stored:
    """What workers have given, merged by key group."""

    may_drop = False

    def __init__(self, states: Sequence[OperatorState], owned: range) -> None:
        self.header = states[0].header
        self.shared = [state.shared for state in states]
        self.owned = owned
        self._groups = {group: records for state in states for group, records in state.groups.items()}

    def records(self) -> Iterator[tuple[int, Records]]:
        return ((group, self._groups[group]) for group in self.owned if group in self._groups)


def restored(states: Sequence[OperatorState], function: type, make: Callable[[], Backend], workers: int) -> Rig:
    rig = Rig(function, make, workers)
    for number, worker in enumerate(rig.workers):
        worker.restore(Stored(states, owned_groups(number, workers, GROUPS)))
    return rig


@pytest.fixture(params=["memory", "rocksdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Backend]:
    numbers = iter(range(100))
    if request.param == "memory":
        return MemoryBackend
    return lambda: RocksDBBackend(tmp_path / str(next(numbers)), cache_bytes=1 << 20, write_buffer_bytes=1 << 20)


def test_events_come_by_time_and_timers_between_them(make: Callable[[], Backend]) -> None:
    rig = Rig(Sessions, make)
    rig.send(("a", 30_000, 2), ("a", 10_000, 1), ("b", 10_000, 5), ("a", 95_000, 7), ("b", 20_000, -1))
    assert rig.rows == []
    rig.advance(MAX_TIME)
    assert rig.rows == [
        ("counts", {"user": "b", "at": 70_000, "what": "session", "n": 5}),
        ("counts", {"user": "a", "at": 90_000, "what": "session", "n": 3}),
        ("counts", {"user": "a", "at": 155_000, "what": "session", "n": 7}),
        ("lost", {"user": "b", "at": 20_000, "what": "lost", "n": -1}),
    ]
    rig.close()


def test_a_timer_rings_behind_all_events_of_its_time() -> None:
    rig = Rig(Sessions)
    rig.send(("a", 0, 1), ("a", MINUTE, 2))
    rig.advance(MINUTE)
    assert rig.rows == []  # the second click came at the very moment, and moved the end
    rig.advance(2 * MINUTE)
    assert [row["n"] for _, row in rig.rows] == [3]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8])
def test_a_restore_at_another_parallelism_changes_nothing(make: Callable[[], Backend], workers: int, cut: int) -> None:
    events = [(f"user{number % 5}", number * 7_000 % 300_000, number) for number in range(40)]
    whole = Rig(Sessions, make)
    whole.send(*events)
    whole.advance(MAX_TIME)
    first = Rig(Sessions, make, 2)
    parts = [events[at : at + 5] for at in range(0, 40, 5)]
    for part in parts[:cut]:
        first.send(*part)
    first.advance(-1)
    second = restored(first.snapshot(), Sessions, make, workers)
    for part in parts[cut:]:
        second.send(*part)
    second.advance(MAX_TIME)
    assert sorted(map(str, first.rows + second.rows)) == sorted(map(str, whole.rows))
    for rig in (whole, first, second):
        rig.close()


def test_only_what_changed_is_given(make: Callable[[], Backend]) -> None:
    rig = Rig(Sessions, make)
    rig.send(*[(f"user{number}", 0, number) for number in range(50)])
    rig.advance(1)
    (first,) = rig.snapshot()
    assert sum(map(len, first.groups.values())) == 50
    assert set(first.whole) == set(first.groups)
    (second,) = rig.snapshot([])
    assert second.groups == {}
    rig.send(("user7", 10, 1))
    rig.advance(MINUTE - 1)
    (third,) = rig.snapshot([])
    assert [list(records.keys) for records in third.groups.values()] == [[b"user7"]]
    rig.advance(MINUTE)
    (fourth,) = rig.snapshot([])
    ended = {key: value for records in fourth.groups.values() for key, value in records.items()}
    assert len(ended) == 49
    assert set(ended.values()) == {b""}
    rig.close()


def test_a_group_that_has_become_empty_is_given_when_asked_for(make: Callable[[], Backend]) -> None:
    rig = Rig(Sessions, make)
    rig.send(("a", 0, 1))
    rig.advance(1)
    (first,) = rig.snapshot()
    (group,) = first.groups
    rig.advance(MINUTE)
    (second,) = rig.snapshot([group])
    assert len(second.groups[group]) == 0
    assert list(second.whole) == [group]
    rig.close()


class Reminder(cep.KeyedProcessFunction):
    def open(self, runtime_context: cep.RuntimeContext) -> None: ...

    def process_element(self, value: Any, ctx: Any) -> None:
        service = ctx.timer_service()
        service.register_processing_time_timer(service.current_processing_time() + value.n)
        service.register_processing_time_timer(service.current_processing_time() + value.n, "other")

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        what = f"{ctx.time_domain().name} {timestamp} {ctx.namespace()}"
        return {"user": ctx.get_current_key(), "what": what, "n": ctx.timer_service().current_processing_time()}


def test_processing_time_timers_go_by_the_clock_they_are_told() -> None:
    function = cep.process(on=Click, into="out", output=Count)(Reminder)
    rig = Rig(function)
    rig.clock(1_000)
    rig.send(("a", 5, 100), ("b", 6, 50))
    rig.advance(10)
    rig.clock(1_049)
    rig.clock(900)  # a clock that is set back rings nothing and changes nothing
    assert rig.rows == []
    rig.clock(1_070)
    assert [(row["user"], row["what"], row["n"], row["at"]) for _, row in rig.rows] == [
        ("b", "PROCESSING_TIME 1050 ", 1_070, 11),
        ("b", "PROCESSING_TIME 1050 other", 1_070, 11),
    ]
    again = restored(rig.snapshot(), function, MemoryBackend, 2)
    again.clock(2_000)
    assert [row["what"] for _, row in again.rows] == ["PROCESSING_TIME 1100 ", "PROCESSING_TIME 1100 other"]


def test_at_the_end_timers_ring_but_not_those_that_they_set() -> None:
    @cep.process(on=Click, into="out", output=Count)
    class Heartbeat(cep.KeyedProcessFunction):
        def process_element(self, value: Any, ctx: Any) -> None:
            ctx.timer_service().register_event_time_timer(ctx.timestamp() + 10)

        def on_timer(self, timestamp: int, ctx: Any) -> Any:
            ctx.timer_service().register_event_time_timer(timestamp + 10)
            ended = ctx.timer_service().current_watermark() == MAX_TIME
            return {"what": "last" if ended else "beat"}

    rig = Rig(Heartbeat)
    rig.send(("a", 0, 1), ("b", 35, 1))
    rig.advance(MAX_TIME)
    assert [(row["what"], row["at"]) for _, row in rig.rows] == [
        ("beat", 10), ("beat", 20), ("beat", 30), ("last", 40), ("last", 45)
    ]  # fmt: skip


def test_time_to_live_lets_memory_return(make: Callable[[], Backend]) -> None:
    @cep.process(on=Click, into="out", output=Count)
    class Once(cep.KeyedProcessFunction):
        def open(self, runtime_context: cep.RuntimeContext) -> None:
            seen = cep.ValueStateDescriptor("seen", cep.Types.BOOLEAN())
            seen.enable_time_to_live(cep.StateTtlConfig.new_builder(cep.Time.minutes(1)).use_event_time().build())
            self.seen = runtime_context.get_state(seen)

        def process_element(self, value: Any, ctx: Any) -> Any:
            if self.seen.value() is None:
                self.seen.update(True)
                return {"what": "first"}
            return None

    rig = Rig(Once, make)
    held = []
    for second in range(0, 600, 10):
        rig.send(*[(f"{second}-{number}", second * 1_000, 1) for number in range(50)], ("same", second * 1_000, 1))
        rig.advance(second * 1_000)
        (state,) = rig.snapshot()
        held.append(sum(map(len, state.groups.values())))
    assert max(held) <= 50 * 7 + 1
    assert len([row for _, row in rig.rows if row["user"] is None]) == len(rig.rows) == 60 * 50 + 10
    rig.close()


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda: {"whatt": 1}, "`out` has no column `whatt`; did you mean `what`?"),
        (lambda: {"what": 5}, "column `what` of `out`: expected STRING, found number 5"),
        (lambda: 5, "'int' object is not iterable"),
        (lambda: [5], "gave int; a row is a dict, or a tag and a dict"),
        (lambda: [(LOST, {})], r"gave a row for OutputTag\('lost'\), which is not among its side_outputs"),
        (lambda: 1 / 0, r"ZeroDivisionError: division by zero \(.*test_process.py:\d+\)"),
    ],
)
def test_what_goes_wrong_says_where(give: Callable[[], Any], message: str) -> None:
    @cep.process(on=Click, into="out", output=Count, name="faulty")
    class Faulty(cep.KeyedProcessFunction):
        def process_element(self, value: Any, ctx: Any) -> Any:
            return give()

    rig = Rig(Faulty)
    rig.send(("ann", 5, 1))
    with pytest.raises(ProcessError, match=f"^process `faulty`, key 'ann', at 5: .*{message}"):
        rig.advance(10)


def test_state_is_for_open_and_of_a_key() -> None:
    @cep.process(on=Click, into="out", output=Count)
    class Late(cep.KeyedProcessFunction):
        def open(self, runtime_context: cep.RuntimeContext) -> None:
            self.context = runtime_context

        def process_element(self, value: Any, ctx: Any) -> None:
            self.context.get_state(cep.ValueStateDescriptor("x"))

    rig = Rig(Late)
    rig.send(("a", 0, 1))
    with pytest.raises(
        ProcessError, match=r"state `x` is asked for while events are processed; ask for it in open\(\)"
    ):
        rig.advance(1)

    @cep.process(on=Click, into="out", output=Count)
    class Early(cep.KeyedProcessFunction):
        def open(self, runtime_context: cep.RuntimeContext) -> None:
            runtime_context.get_state(cep.ValueStateDescriptor("x")).value()

        def process_element(self, value: Any, ctx: Any) -> None: ...

    with pytest.raises(ProcessError, match="there is no current key"):
        Rig(Early)


def test_a_record_can_be_read_by_people() -> None:
    rig = Rig(Sessions)
    rig.send(("a", 1_000, 1), ("a", 2_000, 7))
    rig.advance(5_000)
    (state,) = rig.snapshot()
    ((key, value),) = (item for records in state.groups.values() for item in records.items())
    assert describe(state.header, key, value) == {
        "key": {"user": "a"},
        "states": {"clicks": [{"value": 1}, {"value": 7}], "ends": {"value": 62_000}},
        "timers": [{"time": 62_000, "domain": "event time", "namespace": ""}],
    }


def test_state_of_another_key_is_refused() -> None:
    rig = Rig(Sessions)
    rig.send(("a", 0, 1))
    rig.advance(1)

    class ByNumber(cep.Event, key="n", time="ts", name="clicks"):
        user: str
        ts: int
        n: int

    again = Rig(cep.process(on=ByNumber, into="counts", output=Count, side_outputs=[LOST])(type("S", (Sessions,), {})))
    with pytest.raises(SnapshotError, match=r"stored by the key \(user STRING\) and cannot be kept by \(n BIGINT\)"):
        again.workers[0].restore(Stored(rig.snapshot(), range(GROUPS)))


def test_patterns_and_processes_read_one_another() -> None:
    @cep.process(on=Click, into="doubled", output=Count)
    class Doubled(cep.KeyedProcessFunction):
        def process_element(self, value: Any, ctx: Any) -> Any:
            return [{"user": value.user, "what": "x", "n": value.n * 2}] * 2

    @cep.pattern("a b", on=Doubled, a=lambda e: e.n > 2, b=lambda e: e.n > 2)
    def pairs(match: cep.Match) -> dict[str, Any]:
        return {"user": match.key, "n": match["a"].n}

    @cep.process(on=pairs, into="named", output=cep.stream("named_row", {"text": str}))
    class Named(cep.KeyedProcessFunction):
        def process_element(self, value: Any, ctx: Any) -> Any:
            yield {"text": f"{ctx.get_current_key()} {value['n']} {ctx.timestamp()}"}

    clicks = [{"user": "a", "ts": 1, "n": 1}, {"user": "a", "ts": 2, "n": 2}, {"user": "b", "ts": 3, "n": 3}]
    found = cep.run([Doubled, pairs, Named], clicks)
    assert [row["text"] for row in found["named"]] == ["a 4 2", "b 6 3"]


def test_rows_pass_through_without_an_output() -> None:
    @cep.process(on=Click, into="odd")
    class Odd(cep.KeyedProcessFunction):
        def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
            if value.n % 2:
                yield value

    found = cep.run(Odd, [{"user": "a", "ts": n, "n": n} for n in range(4)])
    assert [row["n"] for row in found["odd"]] == [1, 3]
