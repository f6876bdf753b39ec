"""How long state lives: PyFlink's `StateTtlConfig`, with event time besides processing time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any, ClassVar


class TtlUpdateType(Enum):
    """What makes state live on."""

    Disabled = "disabled"
    OnCreateAndWrite = "on create and write"
    OnReadAndWrite = "on read and write"


class TtlVisibility(Enum):
    """What is seen of state that has expired and is still there."""

    ReturnExpiredIfNotCleanedUp = "return expired if not cleaned up"
    NeverReturnExpired = "never return expired"


class TtlTime(Enum):
    """Which time makes state older. Flink has processing time only."""

    ProcessingTime = "processing time"
    EventTime = "event time"


@dataclass(frozen=True, slots=True)
class StateTtlConfig:
    """State that was not written (or read) for `ttl_ms` milliseconds is forgotten. Make one with `new_builder`.

    >>> StateTtlConfig.new_builder(600_000).use_event_time().build().ttl_ms
    600000
    """

    UpdateType: ClassVar = TtlUpdateType
    StateVisibility: ClassVar = TtlVisibility
    TtlTimeCharacteristic: ClassVar = TtlTime

    ttl_ms: int
    update_type: TtlUpdateType = TtlUpdateType.OnCreateAndWrite
    state_visibility: TtlVisibility = TtlVisibility.NeverReturnExpired
    ttl_time_characteristic: TtlTime = TtlTime.ProcessingTime
    cleanup_in_background: bool = True

    @staticmethod
    def new_builder(ttl: Any) -> Builder:
        """`ttl`: a `Time` or `Duration`, a timedelta, or whole milliseconds."""
        return Builder(StateTtlConfig(_milliseconds(ttl)))

    def get_ttl(self) -> int:
        """Milliseconds."""
        return self.ttl_ms

    def get_update_type(self) -> TtlUpdateType:
        return self.update_type

    def get_state_visibility(self) -> TtlVisibility:
        return self.state_visibility

    def get_ttl_time_characteristic(self) -> TtlTime:
        return self.ttl_time_characteristic

    def is_enabled(self) -> bool:
        return self.update_type is not TtlUpdateType.Disabled


class Builder:
    """Of a `StateTtlConfig`; every method but `build` gives the builder."""

    def __init__(self, config: StateTtlConfig) -> None:
        self._config = config

    def _set(self, **changes: Any) -> Builder:
        self._config = replace(self._config, **changes)
        return self

    def set_ttl(self, ttl: Any) -> Builder:
        return self._set(ttl_ms=_milliseconds(ttl))

    def set_update_type(self, update_type: TtlUpdateType) -> Builder:
        return self._set(update_type=TtlUpdateType(update_type))

    def update_ttl_on_create_and_write(self) -> Builder:
        return self.set_update_type(TtlUpdateType.OnCreateAndWrite)

    def update_ttl_on_read_and_write(self) -> Builder:
        return self.set_update_type(TtlUpdateType.OnReadAndWrite)

    def set_state_visibility(self, state_visibility: TtlVisibility) -> Builder:
        return self._set(state_visibility=TtlVisibility(state_visibility))

    def return_expired_if_not_cleaned_up(self) -> Builder:
        return self.set_state_visibility(TtlVisibility.ReturnExpiredIfNotCleanedUp)

    def never_return_expired(self) -> Builder:
        return self.set_state_visibility(TtlVisibility.NeverReturnExpired)

    def set_ttl_time_characteristic(self, characteristic: TtlTime) -> Builder:
        return self._set(ttl_time_characteristic=TtlTime(characteristic))

    def use_processing_time(self) -> Builder:
        return self.set_ttl_time_characteristic(TtlTime.ProcessingTime)

    def use_event_time(self) -> Builder:
        return self.set_ttl_time_characteristic(TtlTime.EventTime)

    def cleanup_full_snapshot(self) -> Builder:
        """For Flink's sake, as `cleanup_incrementally`."""
        return self

    def cleanup_incrementally(self, cleanup_size: int, run_cleanup_for_every_record: bool = False) -> Builder:  # noqa: ARG002
        """For Flink's sake: state is always cleaned up bit by bit, as fast as the work at hand allows."""
        return self

    def cleanup_in_rocksdb_compact_filter(self, query_time_after_num_entries: int = 1000) -> Builder:  # noqa: ARG002
        """For Flink's sake, as `cleanup_incrementally`."""
        return self

    def disable_cleanup_in_background(self) -> Builder:
        """Remove expired state only when it is come across."""
        return self._set(cleanup_in_background=False)

    def build(self) -> StateTtlConfig:
        return self._config


def _milliseconds(ttl: Any) -> int:
    if isinstance(ttl, timedelta):
        span = ttl // timedelta(milliseconds=1)
    elif isinstance(ttl, int) and not isinstance(ttl, bool):
        span = ttl
    else:
        found = getattr(ttl, "milliseconds", None)
        if not isinstance(found, int):
            raise TypeError(f"{ttl!r} is no time to live; give Time.minutes(10), a timedelta or whole milliseconds")
        span = found
    if span <= 0:
        raise ValueError(f"the time to live must be longer than nothing, not {span} ms")
    return span
