"""The states of a key: what each kind gives and takes, and that nothing leaks from one key or state into another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ostinato.state.backends.base import Backend
from ostinato.state.backends.memory import MemoryBackend
from ostinato.state.backends.rocksdb import RocksDBBackend
from ostinato.state.descriptors import (
    AggregateFunction,
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReduceFunction,
    ReducingStateDescriptor,
    StateDescriptor,
    ValueStateDescriptor,
)
from ostinato.state.errors import StateError
from ostinato.state.keyed import KeyedStates
from ostinato.state.serializers import StateValueError
from ostinato.state.typeinfo import Types


@pytest.fixture(params=["memory", "rocksdb", "rocksdb that holds one record"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    held = 0 if "one" in request.param else 1_000
    return RocksDBBackend(tmp_path, cache_bytes=1 << 20, write_buffer_bytes=1 << 20, held_records=held)


@pytest.fixture
def states(backend: Backend) -> KeyedStates:
    return KeyedStates("test", 4, backend)


def declare(states: KeyedStates, *descriptors: StateDescriptor) -> Any:
    found = [states.declare(descriptor) for descriptor in descriptors]
    states.seal()
    states.select(1, b"a")
    return found[0] if len(found) == 1 else found


def count(states: KeyedStates) -> int:
    """Keys that a snapshot holds; `len` is a guess where they are on disk."""
    return sum(map(len, states.snapshot(b"", None).groups.values()))


def test_a_value(states: KeyedStates) -> None:
    state = declare(states, ValueStateDescriptor("x"))
    assert state.value() is None
    state.update({"n": 1})
    states.select(1, b"b")
    assert state.value() is None
    states.select(1, b"a")
    assert state.value() == {"n": 1}
    state.update(None)
    assert state.value() is None
    assert count(states) == 0
    states.close()


def test_what_a_state_gives_is_the_callers_own(states: KeyedStates) -> None:
    value, listed, mapped = declare(
        states, ValueStateDescriptor("v"), ListStateDescriptor("l"), MapStateDescriptor("m")
    )
    given = [1]
    value.update(given)
    listed.add(given)
    mapped.put("k", given)
    given.append(2)
    for read in (value.value, lambda: listed.get()[0], lambda: mapped.get("k")):
        read().append(3)
        assert read() == [1]
    states.close()


def test_a_list(states: KeyedStates) -> None:
    state = declare(states, ListStateDescriptor("x", Types.INT()))
    assert state.get() == []
    state.add(1)
    state.add_all([2, 3])
    assert list(state) == [1, 2, 3]
    state.update([9])
    assert state.get() == [9]
    with pytest.raises(StateValueError, match="None cannot be in a list"):
        state.add(None)
    with pytest.raises(StateValueError, match="state `x`: Expected `int`"):
        state.add_all([4, "five"])
    assert state.get() == [9]
    state.update([])
    assert count(states) == 0
    states.close()


def test_a_map(states: KeyedStates) -> None:
    state = declare(states, MapStateDescriptor("x", Types.STRING(), Types.LONG()))
    assert state.is_empty()
    state.put_all({"a": 1, "b": 2})
    state["c"] = 3
    assert (state.get("a"), state.get("z"), state.contains("b"), "z" in state) == (1, None, True, False)
    assert (state.keys(), state.values(), list(state)) == (["a", "b", "c"], [1, 2, 3], ["a", "b", "c"])
    del state["a"]
    state.remove("nothing")
    assert state.items() == [("b", 2), ("c", 3)]
    with pytest.raises(KeyError):
        state["a"]
    with pytest.raises(StateValueError, match="state `x`, its key: Expected `str`, got `int`"):
        state.put(1, 1)
    state.clear()
    assert state.is_empty()
    assert count(states) == 0
    states.close()


class Longest(ReduceFunction):
    def reduce(self, value1: str, value2: str) -> str:
        return max(value1, value2, key=len)


class Distinct(AggregateFunction):
    def create_accumulator(self) -> list[str]:
        return []

    def add(self, value: str, accumulator: list[str]) -> list[str]:
        return sorted({*accumulator, value})

    def get_result(self, accumulator: list[str]) -> int:
        return len(accumulator)


def test_reducing_and_aggregating(states: KeyedStates) -> None:
    longest, distinct = declare(
        states, ReducingStateDescriptor("r", Longest()), AggregatingStateDescriptor("a", Distinct())
    )
    assert (longest.get(), distinct.get()) == (None, None)
    for word in ("a", "ccc", "bb", "a"):
        longest.add(word)
        distinct.add(word)
    assert (longest.get(), distinct.get()) == ("ccc", 3)
    longest.clear()
    assert (longest.get(), distinct.get()) == (None, 3)
    states.close()


def test_descriptors_say_what_is_wrong(states: KeyedStates) -> None:
    with pytest.raises(StateError, match="a state needs a name"):
        ValueStateDescriptor("")
    with pytest.raises(StateError, match="`x`: 5 is no ReduceFunction"):
        ReducingStateDescriptor("x", 5)  # type: ignore[arg-type]
    with pytest.raises(StateError, match="is no AggregateFunction: it has no create_accumulator"):
        AggregatingStateDescriptor("x", object())  # type: ignore[arg-type]
    first = states.declare(ValueStateDescriptor("x"))
    assert states.declare(ValueStateDescriptor("x")) is first
    with pytest.raises(StateError, match="there are two different states `x`; rename one"):
        states.declare(ListStateDescriptor("x"))
    states.seal()
    with pytest.raises(StateError, match=r"ask for it in open\(\)"):
        states.declare(ValueStateDescriptor("y"))
    with pytest.raises(StateError, match="there is no current key"):
        first.value()
    with pytest.raises(StateError, match="there is no current key"):
        first.update(1)
    states.close()


def test_timers_are_set_once(states: KeyedStates) -> None:
    declare(states)
    for _ in range(2):
        states.register(0, 10, "")
        states.register(0, 10, "other")
        states.register(1, 5, "")
    states.delete(0, 10, "other")
    states.delete(0, 11, "")
    states.deselect()
    assert (states.next_timer(0), states.next_timer(1)) == (10, 5)
    rung = [states.ring(0), states.ring(0)]
    assert [due.namespace for due in rung if due is not None] == [""]
    assert states.next_timer(0) is None
    assert count(states) == 1
    states.close()


def test_many_keys_do_not_stay_in_memory(tmp_path: Path) -> None:
    backend = RocksDBBackend(tmp_path, cache_bytes=1 << 20, write_buffer_bytes=1 << 20, held_records=100)
    states = KeyedStates("test", 4, backend)
    state = declare(states, ValueStateDescriptor("x"))
    for number in range(5_000):
        states.select(number % 4, b"%d" % number)
        state.update(number)
    assert len(backend._held) <= 201
    wanted = [(number % 4, b"%d" % number) for number in range(0, 5_000, 7)]
    states.prefetch(wanted)
    found = []
    for group, key in wanted:
        states.select(group, key)
        found.append(state.value())
    assert found == list(range(0, 5_000, 7))
    taken = states.snapshot(b"", None)
    assert sum(map(len, taken.groups.values())) == 5_000
    states.close()


def test_the_temporary_folder_is_deleted() -> None:
    backend = RocksDBBackend(cache_bytes=1 << 20, write_buffer_bytes=1 << 20)
    folder = backend.rocks.path.parent
    assert folder.exists()
    backend.close()
    assert not folder.exists()
