"""Functions over keyed streams, with state and timers, under PyFlink's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ostinato.patterns.processes import OutputTag
    from ostinato.state.descriptors import (
        AggregatingStateDescriptor,
        ListStateDescriptor,
        MapStateDescriptor,
        ReducingStateDescriptor,
        ValueStateDescriptor,
    )
    from ostinato.state.states import AggregatingState, ListState, MapState, ReducingState, ValueState

    Row = Mapping[str, Any]
    Results = Iterable[Row | tuple[OutputTag, Row]] | Row | None


class TimeDomain(Enum):
    """Which clock a timer goes by."""

    EVENT_TIME = 0
    PROCESSING_TIME = 1


class RuntimeContext(Protocol):
    """What `open` is given: the states of a function, each by its descriptor."""

    def get_task_name(self) -> str:
        """The name of the process."""

    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState: ...

    def get_list_state(self, state_descriptor: ListStateDescriptor) -> ListState: ...

    def get_map_state(self, state_descriptor: MapStateDescriptor) -> MapState: ...

    def get_reducing_state(self, state_descriptor: ReducingStateDescriptor) -> ReducingState: ...

    def get_aggregating_state(self, state_descriptor: AggregatingStateDescriptor) -> AggregatingState: ...


class TimerService(Protocol):
    """Time, and timers of the current key. All times are epoch milliseconds.

    A key has one timer for each time and namespace, however often it is set.
    """

    def current_processing_time(self) -> int:
        """The job's clock, which is never set back; the same for all events of a chunk."""

    def current_watermark(self) -> int:
        """All events up to here have been dealt with. `cep.batch.MAX_TIME` when the input has ended."""

    def register_event_time_timer(self, timestamp: int, namespace: str = "") -> None:
        """Call `on_timer` when all events up to `timestamp` have been dealt with."""

    def register_processing_time_timer(self, timestamp: int, namespace: str = "") -> None:
        """Call `on_timer` when the clock shows `timestamp`."""

    def delete_event_time_timer(self, timestamp: int, namespace: str = "") -> None: ...

    def delete_processing_time_timer(self, timestamp: int, namespace: str = "") -> None: ...


class Context(Protocol):
    """About the event in hand."""

    def timestamp(self) -> int:
        """The event's time, or the timer's; epoch milliseconds."""

    def get_current_key(self) -> Any:
        """The value of the key; a tuple of several, None without."""

    def timer_service(self) -> TimerService: ...


class OnTimerContext(Context, Protocol):
    """About the timer that rings."""

    def time_domain(self) -> TimeDomain: ...

    def namespace(self) -> str: ...


class KeyedProcessFunction:
    """Derive from it, and declare it with `cep.process`.

    A row is a dict with the columns of the output. `process_element` and `on_timer` yield rows, or ``TAG, row`` for a
    side output; they may also return one row, a list of them, or None. Events come in the order of their time, each
    key's at equal times in the order of arrival, and the timers between them: a timer rings behind all events up to
    its time. So the same events give the same rows, in however many workers and through however many restarts.
    """

    def open(self, runtime_context: RuntimeContext) -> None:
        """Before the first event: ask for the states here."""

    def process_element(self, value: Any, ctx: Context) -> Results:
        """An event: a dict whose items are attributes too. DECIMAL is `decimal.Decimal`, times are milliseconds."""
        raise NotImplementedError(f"{type(self).__name__} has no process_element")

    def on_timer(self, timestamp: int, ctx: OnTimerContext) -> Results:
        """A timer rings."""
        raise NotImplementedError(f"{type(self).__name__} sets a timer and has no on_timer")

    def close(self) -> None:
        """After the last event."""
