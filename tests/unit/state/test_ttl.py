"""StateTtlConfig: how it is made, and what it does to each kind of state."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ostinato.patterns.durations import Duration, Time
from ostinato.state.backends.memory import MemoryBackend
from ostinato.state.descriptors import (
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    ValueStateDescriptor,
)
from ostinato.state.errors import StateError
from ostinato.state.keyed import KeyedStates
from ostinato.state.ttl import StateTtlConfig, TtlUpdateType, TtlVisibility


def made(descriptor: StateDescriptor, config: StateTtlConfig) -> tuple[KeyedStates, Any]:
    states = KeyedStates("test", 4, MemoryBackend())
    descriptor.enable_time_to_live(config)
    state = states.declare(descriptor)
    states.seal()
    states.select(0, b"key")
    return states, state


@pytest.mark.parametrize("ttl", [Time.seconds(2), Duration.of_seconds(2), dt.timedelta(seconds=2), 2_000])
def test_the_time_can_be_written_in_any_way(ttl: Any) -> None:
    assert StateTtlConfig.new_builder(ttl).build().get_ttl() == 2_000


@pytest.mark.parametrize(("ttl", "error"), [(0, ValueError), (-5, ValueError), ("2 s", TypeError), (True, TypeError)])
def test_what_is_no_time_is_refused(ttl: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="time to live"):
        StateTtlConfig.new_builder(ttl)


def test_the_builder_has_flinks_names() -> None:
    config = (
        StateTtlConfig.new_builder(Time.minutes(1))
        .set_update_type(StateTtlConfig.UpdateType.OnReadAndWrite)
        .set_state_visibility(StateTtlConfig.StateVisibility.ReturnExpiredIfNotCleanedUp)
        .set_ttl_time_characteristic(StateTtlConfig.TtlTimeCharacteristic.EventTime)
        .cleanup_full_snapshot()
        .cleanup_incrementally(10, True)
        .cleanup_in_rocksdb_compact_filter(1000)
        .build()
    )
    assert config.update_type is TtlUpdateType.OnReadAndWrite
    assert config.state_visibility is TtlVisibility.ReturnExpiredIfNotCleanedUp
    assert config.ttl_ms == 60_000


def test_a_forgotten_build_is_noticed() -> None:
    with pytest.raises(StateError, match=r"is `.build\(\)` missing"):
        ValueStateDescriptor("x").enable_time_to_live(StateTtlConfig.new_builder(5))  # type: ignore[arg-type]


def test_processing_and_event_time_are_told_apart() -> None:
    for event_time in (True, False):
        builder = StateTtlConfig.new_builder(10)
        config = (builder.use_event_time() if event_time else builder.use_processing_time()).build()
        states, state = made(ValueStateDescriptor("x"), config)
        state.update(1)
        states.event_time, states.processing_time = (9, 100) if event_time else (100, 9)
        assert state.value() == 1
        states.event_time, states.processing_time = (10, 0) if event_time else (0, 10)
        assert state.value() is None


def test_reading_prolongs_only_where_that_is_asked_for() -> None:
    for on_read in (True, False):
        builder = StateTtlConfig.new_builder(10)
        config = (builder.update_ttl_on_read_and_write() if on_read else builder).build()
        states, state = made(MapStateDescriptor("x"), config)
        state.put("a", 1)
        state.put("b", 2)
        for now in (6, 12, 18):
            states.processing_time = now
            seen = state.get("a")
        assert seen == (1 if on_read else None)
        assert state.get("b") is None


def test_expired_state_is_seen_once_where_that_is_asked_for() -> None:
    config = StateTtlConfig.new_builder(10).return_expired_if_not_cleaned_up().build()
    states, state = made(ValueStateDescriptor("x"), config)
    state.update(1)
    states.processing_time = 50
    assert state.value() == 1  # and with that it is cleaned up
    assert state.value() is None
    state.update(2)
    states.processing_time = 100
    assert states.sweep(10) == 1
    states.select(0, b"key")
    assert state.value() is None


def test_elements_and_entries_expire_by_themselves() -> None:
    config = StateTtlConfig.new_builder(10).build()
    states, listed = made(ListStateDescriptor("x"), config)
    listed.add(1)
    states.processing_time = 6
    listed.add_all([2, 3])
    states.processing_time = 12
    assert listed.get() == [2, 3]
    states, mapped = made(MapStateDescriptor("x"), config)
    mapped.put("a", 1)
    states.processing_time = 6
    mapped.put("b", 2)
    states.processing_time = 12
    assert mapped.items() == [("b", 2)]
    assert "a" not in mapped
    states.processing_time = 20
    assert mapped.is_empty()


def test_reducing_begins_anew() -> None:
    states, state = made(ReducingStateDescriptor("x", max), StateTtlConfig.new_builder(10).build())
    state.add(5)
    states.processing_time = 20
    state.add(3)
    assert state.get() == 3


def test_cleaning_up_bit_by_bit_finds_every_key() -> None:
    for background in (True, False):
        builder = StateTtlConfig.new_builder(10)
        config = (builder if background else builder.disable_cleanup_in_background()).build()
        states, state = made(ValueStateDescriptor("x"), config)
        for number in range(100):
            states.select(number % 4, b"%d" % number)
            state.update(number)
        assert len(states) == 100
        assert states.sweep(1_000) == 0
        states.processing_time = 10
        found = [states.sweep(7) for _ in range(20)]
        assert sum(found) == (100 if background else 0)
        assert max(found) <= 7
        assert len(states) == (0 if background else 100)
