"""The operator that runs a process function: keyed, with state and timers.

Events wait for the watermark and are dealt with in the order of their time, timers between them. What a function sees
then depends on the events alone: not on how the input was cut into chunks, nor on the number of workers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ostinato.cep.batch import MAX_TIME, MIN_TIME, Batch, Vector, concat_batches
from ostinato.cep.connectors.values import BadValue
from ostinato.cep.functions import TimeDomain
from ostinato.cep.nfa.keys import KeyCodec, key_group, of_bytes, to_bytes
from ostinato.cep.nfa.matcher import MatchError
from ostinato.cep.runtime.process_context import Context, Opening
from ostinato.cep.runtime.process_header import ProcessHeader, Waiting
from ostinato.cep.runtime.process_rows import RowWriter, rows_of
from ostinato.patterns.processes import CheckedProcess, OutputTag
from ostinato.patterns.types import TIMESTAMP
from ostinato.state.backends.base import Backend
from ostinato.state.errors import StateError
from ostinato.state.keyed import KeyedStates
from ostinato.state.keyed_records import EVENT_TIME, PROCESSING_TIME
from ostinato.state.operator import OperatorState, StoredState
from ostinato.state.timers import Due

_ROWS_AT_ONCE: Final = 8_192
"""So many events are unpacked, and the state of their keys fetched, at a time."""
_SWEPT_KEYS: Final = 4_096
"""Keys that are looked through for expired state with each step of time, and two for each event besides: faster than
events can bring new ones, and some milliseconds at most."""


class ProcessError(MatchError):
    """A process function failed; the message says which, for which key, and where in the user's code."""


class Process:
    """A node of the graph."""

    def __init__(
        self,
        checked: CheckedProcess,
        backend: Backend,
        *,
        key_groups: int,
        store: Callable[[Batch], bytes],
        load: Callable[[bytes], Batch],
    ) -> None:
        """`store` and `load` turn events that wait into bytes and back."""
        self.name = f"{checked.name}.process"  # a stream may be called as the process is
        self._called = checked.name
        self._stream = checked.stream
        self._keys = [(column.name, column.type) for column in checked.stream.columns if column.key]
        self._codec = KeyCodec(self._keys)
        self._key_groups = key_groups
        self._store, self._load = store, load
        self._held: list[Batch] = []
        self._watermark = MIN_TIME
        self._writers = {stream.name: RowWriter(stream) for stream in checked.outputs}
        self._main = self._writers[checked.outputs[0].name]
        self._where = f"process `{checked.name}`"
        self.states = KeyedStates(self._where, key_groups, backend)
        self.states.event_time = MIN_TIME
        self._context = Context(self.states)
        self._function = checked.declared.make()
        self._call(self._function.open, Opening(checked.name, self.states))
        self.states.seal()

    # -- what the graph asks -----------------------------------------------------------------------

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        if len(batch):
            time = self._stream.time.column
            if time is not None and time not in batch.columns:
                batch = Batch(batch.stream, batch.time, {**batch.columns, time: Vector(TIMESTAMP, batch.time)})
            self._held.append(batch)
        return ()

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        rows = 0
        ready = self._release(watermark)
        if ready is not None:
            rows = len(ready)
            for low in range(0, rows, _ROWS_AT_ONCE):
                self._process(ready.take(np.arange(low, min(rows, low + _ROWS_AT_ONCE))))
        if watermark >= MAX_TIME:
            self._drain()
        else:
            self._ring(EVENT_TIME, watermark)
            self._move_to(watermark)
        self._watermark = watermark
        self.states.sweep(max(_SWEPT_KEYS, 2 * rows))
        return self._given()

    def on_clock(self, now: int) -> Sequence[Batch]:
        """The job's clock shows `now`, epoch ms."""
        if now <= self.states.processing_time:
            return ()
        self.states.processing_time = now
        if self._watermark < MAX_TIME:
            # What comes out must be newer than what has been said to be complete.
            self._move_to(self._watermark + 1)
            self._ring(PROCESSING_TIME, now)
        return self._given()

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:  # noqa: ARG002 - the protocol's
        return self.snapshot(whole)

    def on_end(self) -> Sequence[Batch]:
        self._call(self._function.close)
        return self._given()

    def close(self) -> None:
        """Give up what the state takes in memory and on disk."""
        self.states.close()

    # -- state -------------------------------------------------------------------------------------

    def snapshot(self, whole: Collection[int] | None) -> OperatorState:
        """See `ostinato.state.operator.Stateful`."""
        keys = [(name, str(type_)) for name, type_ in self._keys]
        header = ProcessHeader(self._called, self._stream.name, keys, self.states.notes()).encode()
        state = self.states.snapshot(header, whole)
        rows = self._store(concat_batches(self._held)) if self._held else b""
        waiting = Waiting(self._watermark, self.states.event_time, self.states.processing_time, rows)
        return OperatorState(state.header, state.groups, state.whole, waiting.encode())

    def restore(self, stored: StoredState) -> None:
        """See `ostinato.state.operator.Stateful`."""
        header = ProcessHeader.decode(stored.header, self._where)
        header.check_keys([(name, str(type_)) for name, type_ in self._keys], self._where)
        parts = [Waiting.decode(part, self._where) for part in stored.shared]
        self._watermark = max((part.watermark for part in parts), default=MIN_TIME)
        self.states.processing_time = max((part.processing_time for part in parts), default=0)
        for part in parts:
            if part.rows:
                batch = self._load(part.rows)
                mine = np.isin(self._groups(batch), np.arange(stored.owned.start, stored.owned.stop))
                if mine.any():
                    self._held.append(batch.take(mine))
        now = max((part.event_time for part in parts), default=MIN_TIME)
        self.states.restore(header.states, stored, event_time=now)

    # -- events and timers -------------------------------------------------------------------------

    def _release(self, watermark: int) -> Batch | None:
        """The events that wait no longer, by time and arrival."""
        if not self._held:
            return None
        held = concat_batches(self._held)
        due = held.time <= watermark
        if not due.any():
            self._held = [held]
            return None
        rest = held.take(~due)
        self._held = [rest] if len(rest) else []
        ready = held.take(due) if len(rest) else held
        return ready.take(np.argsort(ready.time, kind="stable"))

    def _process(self, batch: Batch) -> None:
        encoded = self._codec.encode(batch.columns, len(batch))
        names = to_bytes(encoded)
        groups = key_group(encoded, self._key_groups).tolist()
        self.states.prefetch(list(zip(groups, names, strict=True)))
        context, states, call = self._context, self.states, self._function.process_element
        for time, group, key, row in zip(batch.time.tolist(), groups, names, rows_of(batch), strict=True):
            self._ring(EVENT_TIME, time - 1)
            self._move_to(time)
            states.select(group, key)
            context.at(time, self._key_of(row), None)
            self._emit(key, time, call, row)
        states.deselect()

    def _ring(self, domain: int, until: int) -> None:
        """Call the timers up to a time; also those that are set meanwhile."""
        states = self.states
        while (time := states.next_timer(domain)) is not None and time <= until:
            due = states.ring(domain)
            if due is not None:
                self._call_timer(due, domain)
        states.deselect()

    def _drain(self) -> None:
        """The input has ended: every event-time timer rings, but not those that timers set now.

        Otherwise one that sets itself again would ring for ever.
        """
        self._context.ended = True
        self._ring(EVENT_TIME, MAX_TIME)

    def _call_timer(self, due: Due, domain: int) -> None:
        if domain == EVENT_TIME:
            self._move_to(due.time)
        self._context.at(due.time, self._key_in(due.key), (TimeDomain(domain), due.namespace))
        self._emit(due.key, due.time, self._function.on_timer, due.time)

    def _move_to(self, time: int) -> None:
        """Time never goes back, also where a timer was set in the past."""
        self.states.event_time = max(self.states.event_time, time)

    def _emit(self, key: bytes, time: int, function: Callable[..., Any], subject: Any) -> None:
        """Run user code, and keep the rows that it gives."""
        try:
            results = function(subject, self._context)
            if results is None:
                return
            if isinstance(results, Mapping):
                results = (results,)
            at = self.states.event_time
            for result in results:
                if type(result) is tuple and len(result) == 2 and isinstance(result[0], OutputTag):
                    self._writer(result[0]).add(at, result[1])
                elif isinstance(result, Mapping):
                    self._main.add(at, result)
                else:
                    raise BadValue(f"gave {type(result).__name__}; a row is a dict, or a tag and a dict")
        except Exception as error:
            what = f"{self._where}, key {self._key_in(key)!r}, at {time}"
            raise ProcessError(f"{what}: {_said(error)}") from error

    def _writer(self, tag: OutputTag) -> RowWriter:
        writer = self._writers.get(tag.tag_id)
        if writer is None:
            raise BadValue(f"gave a row for {tag!r}, which is not among its side_outputs")
        return writer

    def _given(self) -> list[Batch]:
        return [batch for writer in self._writers.values() if (batch := writer.take()) is not None]

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:
            raise ProcessError(f"{self._where}, {function.__name__}: {_said(error)}") from error

    def _groups(self, batch: Batch) -> Any:
        return key_group(self._codec.encode(batch.columns, len(batch)), self._key_groups)

    def _key_of(self, row: Mapping[str, Any]) -> Any:
        if len(self._keys) == 1:
            return row[self._keys[0][0]]
        return tuple(row[name] for name, _ in self._keys) or None

    def _key_in(self, key: bytes) -> Any:
        """The key's value, from its bytes."""
        columns = self._codec.decode(of_bytes([key]))
        return self._key_of(rows_of(Batch("", np.zeros(1, np.int64), columns))[0])


def _said(error: Exception) -> str:
    """What the error says, and the line of the user's code that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/cep/runtime/" not in frame.filename and "/state/" not in frame.filename]
    where = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    said = str(error) or "no message"
    named = said if isinstance(error, (StateError, BadValue)) else f"{type(error).__name__}: {said}"
    return named + where
