"""State of process functions in the format of this release, committed as files: readable for ever.

To make the files of a new format: ``python tests/unit/runtime/test_process_snapshot.py`` (never for one that exists).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ostinato import cep
from ostinato.cep.batch import Batch, Vector
from ostinato.cep.runtime.frames import decode, encode, schemas_of
from ostinato.cep.runtime.process import Process
from ostinato.cep.runtime.process_description import describe
from ostinato.patterns.processes import CheckedProcess
from ostinato.patterns.types import BIGINT, STRING
from ostinato.state.backends.memory import MemoryBackend
from ostinato.state.errors import DroppedStateError, SnapshotError
from ostinato.state.records import Records

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "state"
GROUPS = 8


class Visit(cep.Event, key=("shop", "user"), time="ts", name="visits"):
    shop: int
    user: str
    ts: int


class Seen(cep.Event, key="user", time="at"):
    user: str
    at: int
    what: str


class Profile(msgspec.Struct):
    name: str
    visits: int
    tags: list[str] = []


class Total(cep.AggregateFunction):
    def create_accumulator(self) -> dict[str, int]:
        return {"sum": 0, "count": 0}

    def add(self, value: int, accumulator: dict[str, int]) -> dict[str, int]:
        return {"sum": accumulator["sum"] + value, "count": accumulator["count"] + 1}

    def get_result(self, accumulator: dict[str, int]) -> float:
        return accumulator["sum"] / accumulator["count"]


class Everything(cep.KeyedProcessFunction):
    """Uses every kind of state, time to live, and both kinds of timers."""

    profile: Any = Profile

    def open(self, runtime_context: cep.RuntimeContext) -> None:
        value = cep.ValueStateDescriptor("profile", self.profile)
        value.enable_time_to_live(cep.StateTtlConfig.new_builder(1_000_000).use_event_time().build())
        listed = cep.ListStateDescriptor("times", cep.Types.LONG())
        mapped = cep.MapStateDescriptor(
            "by hour", cep.Types.INT(), cep.Types.TUPLE([cep.Types.LONG(), cep.Types.STRING()])
        )
        mapped.enable_time_to_live(cep.StateTtlConfig.new_builder(2_000_000).update_ttl_on_read_and_write().build())
        self.value = runtime_context.get_state(value)
        self.list = runtime_context.get_list_state(listed)
        self.map = runtime_context.get_map_state(mapped)
        self.latest = runtime_context.get_reducing_state(cep.ReducingStateDescriptor("latest", max))
        self.mean = runtime_context.get_aggregating_state(cep.AggregatingStateDescriptor("mean", Total()))

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        before = self.value.value() or self.profile(value.user or "nobody", 0)
        before.visits += 1
        self.value.update(before)
        self.list.add(value.ts)
        self.map.put(value.ts // 3_600, (value.ts, "ü"))
        self.latest.add(value.ts)
        self.mean.add(value.ts)
        ctx.timer_service().register_event_time_timer(value.ts + 500)
        ctx.timer_service().register_processing_time_timer(77_000, "clock")
        yield from ()

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        state = [
            self.value.value(), self.list.get(), dict(self.map.items()), self.latest.get(), self.mean.get(),
        ]  # fmt: skip
        return {"user": ctx.get_current_key()[1], "what": f"{ctx.time_domain().name} {ctx.namespace()}: {state}"}


def operator(function: type = Everything) -> Process:
    declared = vars(cep.process(on=Visit, into="seen", output=Seen, name="everything")(function))["__process__"]
    schemas = schemas_of([declared.stream])
    return Process(
        CheckedProcess(declared, declared.stream),
        MemoryBackend(),
        key_groups=GROUPS,
        store=lambda batch: b"".join(bytes(piece) for piece in encode(batch)),
        load=lambda data: decode(data, schemas),
    )


def visits(*rows: tuple[int, str | None, int]) -> Batch:
    shops, users, times = zip(*rows, strict=True)
    columns = {"shop": Vector.of(BIGINT, shops), "user": Vector.of(STRING, users), "ts": Vector.of(BIGINT, times)}
    return Batch("visits", np.array(times, np.int64), columns)


class Stored:
    def __init__(self, path: Path, *, may_drop: bool = False) -> None:
        known = msgspec.msgpack.decode(path.read_bytes(), strict=False)
        self.header: bytes = known["header"]
        self.shared: list[bytes] = known["shared"]
        self.groups: dict[int, list[tuple[bytes, bytes]]] = known["groups"]
        self.owned = range(GROUPS)
        self.may_drop = may_drop

    def records(self) -> Iterator[tuple[int, Records]]:
        return ((group, Records.of([(key, value) for key, value in items])) for group, items in self.groups.items())


def rows_after(process: Process) -> list[dict[str, Any]]:
    """What comes of the state, and of the events that wait."""
    given = [*process.on_clock(80_000), *process.on_watermark(10_000)]
    return [batch.row(at) for batch in given for at in range(len(batch))]


SNAPSHOTS = sorted(FIXTURES.glob("process-v*.msgpack"))


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_stored_state_is_read_as_it_was(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    stored = Stored(path)
    process = operator()
    process.restore(stored)
    assert rows_after(process) == expected["rows"]


def test_there_is_one_of_this_format() -> None:
    assert [path.stem for path in SNAPSHOTS] == ["process-v1"]


class ProfileAdded(msgspec.Struct):
    name: str
    visits: int
    colour: str = "blue"


class ProfileChanged(msgspec.Struct):
    name: str
    visits: str


class ProfileRequired(msgspec.Struct):
    name: str
    visits: int
    colour: str


def test_fields_are_added_and_dropped() -> None:
    process = operator(type("Evolved", (Everything,), {"profile": ProfileAdded}))
    process.restore(Stored(SNAPSHOTS[0]))
    assert any("colour='blue'" in row["what"] for row in rows_after(process))
    state = process.snapshot(None)
    described = [
        describe(state.header, key, value) for records in state.groups.values() for key, value in records.items()
    ]
    # Written anew: a field that comes back one day must not meet what the dropped one held.
    assert described
    assert all("tags" not in each["states"]["profile"]["value"] for each in described)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (
            ProfileChanged,
            "state `profile`, field `visits`: stored as LONG, declared as STRING; fields may be added with",
        ),
        (
            ProfileRequired,
            "state `profile`, field `colour`: stored as nothing, declared as STRING; a field that is added",
        ),
        (str, r"state `profile`: stored as Profile\(.*\), declared as STRING; fields may be added"),
        (None, r"state `profile`: stored as Profile\(.*\), declared as ANY"),
    ],
)
def test_other_changes_are_refused_by_name(profile: Any, message: str) -> None:
    process = operator(type("Changed", (Everything,), {"profile": profile}))
    with pytest.raises(SnapshotError, match=f"^process `everything`: {message}"):
        process.restore(Stored(SNAPSHOTS[0]))


class Fewer(cep.KeyedProcessFunction):
    kind: Any = cep.ListStateDescriptor("times", cep.Types.LONG())

    def open(self, runtime_context: Any) -> None:
        runtime_context.get_state(self.kind)

    def process_element(self, value: Any, ctx: Any) -> None: ...

    def on_timer(self, timestamp: int, ctx: Any) -> None: ...


def test_states_that_are_gone_are_dropped_only_where_that_is_allowed() -> None:
    with pytest.raises(DroppedStateError, match="`profile`, `by hour`, `latest`, `mean` is not declared any more"):
        operator(Fewer).restore(Stored(SNAPSHOTS[0]))
    process = operator(Fewer)
    process.restore(Stored(SNAPSHOTS[0], may_drop=True))
    state = process.snapshot(None)
    described = [
        describe(state.header, key, value) for records in state.groups.values() for key, value in records.items()
    ]
    assert described
    assert all(set(each["states"]) == {"times"} for each in described)


def test_another_kind_of_state_is_refused() -> None:
    process = operator(type("Other", (Fewer,), {"kind": cep.ValueStateDescriptor("times", cep.Types.LONG())}))
    with pytest.raises(SnapshotError, match="`times` is stored as list state and declared as value state"):
        process.restore(Stored(SNAPSHOTS[0], may_drop=True))


def test_what_is_no_state_of_a_process_is_refused() -> None:
    for header, message in [
        (b"\xff\xfe", "cannot be read"),
        (msgspec.msgpack.encode({"kind": "match", "version": 1}), "of an operator of kind 'match'"),
        (msgspec.msgpack.encode({"kind": "process", "version": 99}), "has format 99; this release reads format 1"),
        (msgspec.msgpack.encode({"kind": "process", "version": 1}), "cannot be read"),
    ]:
        stored = Stored(SNAPSHOTS[0])
        stored.header = header
        with pytest.raises(SnapshotError, match=message):
            operator().restore(stored)


@pytest.mark.parametrize("change", [("", 0, -3), ("9302", 2, None), ("00", 0, None)])
def test_damaged_records_are_refused(change: tuple[str, int, int | None]) -> None:
    front, begin, end = change
    stored = Stored(SNAPSHOTS[0])
    stored.groups = {
        group: [(key, bytes.fromhex(front) + value[begin:end]) for key, value in items]
        for group, items in stored.groups.items()
    }
    with pytest.raises(SnapshotError, match=r"^process `everything`, key .*: keyed state "):
        operator().restore(stored)


def write(version: int) -> None:
    """Make the files of a format."""
    process = operator()
    process.on_clock(70_000)
    process.on_batch(
        visits((1, "ann", 1_000), (2, "bob", 1_200), (1, "ann", 1_300), (1, None, 1_350), (-7, "ü", 1_400))
    )
    process.on_watermark(1_450)
    process.on_batch(visits((1, "ann", 5_000), (2, "bob", 1_460)))
    state = process.snapshot(None)
    path = FIXTURES / f"process-v{version}.msgpack"
    assert not path.exists(), f"{path} is there for ever"
    groups = {group: list(records.items()) for group, records in state.groups.items()}
    path.write_bytes(msgspec.msgpack.encode({"header": state.header, "shared": [state.shared], "groups": groups}))
    stored = Stored(path)
    again = operator()
    again.restore(stored)
    expected = {"rows": rows_after(again)}
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write(int(sys.argv[1]))
