"""What a process function is given: states when it is opened; then key, time and timers, for each call."""

from __future__ import annotations

from typing import Any

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.functions import TimeDomain
from ostinato.state.errors import StateError
from ostinato.state.keyed import KeyedStates
from ostinato.state.keyed_records import EVENT_TIME, PROCESSING_TIME


class Opening:
    """What `open` is given."""

    def __init__(self, name: str, states: KeyedStates) -> None:
        self._name = name
        self.get_state = states.declare
        self.get_list_state = states.declare
        self.get_map_state = states.declare
        self.get_reducing_state = states.declare
        self.get_aggregating_state = states.declare

    def get_task_name(self) -> str:
        return self._name


class Context:
    """What `process_element` and `on_timer` are given, and the timer service in one; the same object each time."""

    def __init__(self, states: KeyedStates) -> None:
        self._states = states
        self._time = 0
        self._key: Any = None
        self._timer: tuple[TimeDomain, str] | None = None
        self.ended = False

    def at(self, time: int, key: Any, timer: tuple[TimeDomain, str] | None) -> None:
        self._time, self._key, self._timer = time, key, timer

    def timestamp(self) -> int:
        return self._time

    def get_current_key(self) -> Any:
        return self._key

    def timer_service(self) -> Context:
        return self

    def time_domain(self) -> TimeDomain:
        if self._timer is None:
            raise StateError("it is an event that is processed, no timer")
        return self._timer[0]

    def namespace(self) -> str:
        return "" if self._timer is None else self._timer[1]

    def current_processing_time(self) -> int:
        return self._states.processing_time

    def current_watermark(self) -> int:
        if self.ended:
            return MAX_TIME
        # At an event, all before it have been dealt with; at a timer, all up to its time.
        return self._states.event_time - (self._timer is None)

    def register_event_time_timer(self, timestamp: int, namespace: str = "") -> None:
        if not self.ended:
            self._states.register(EVENT_TIME, _moment(timestamp), namespace)

    def register_processing_time_timer(self, timestamp: int, namespace: str = "") -> None:
        self._states.register(PROCESSING_TIME, _moment(timestamp), namespace)

    def delete_event_time_timer(self, timestamp: int, namespace: str = "") -> None:
        self._states.delete(EVENT_TIME, _moment(timestamp), namespace)

    def delete_processing_time_timer(self, timestamp: int, namespace: str = "") -> None:
        self._states.delete(PROCESSING_TIME, _moment(timestamp), namespace)


def _moment(timestamp: Any) -> int:
    if isinstance(timestamp, bool) or not isinstance(timestamp, int) or not -(2**62) <= timestamp <= MAX_TIME:
        raise StateError(f"a timer needs a time in whole milliseconds since 1970, not {timestamp!r}")
    return timestamp
