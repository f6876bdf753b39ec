"""What stands at the nodes of a job graph: one small protocol, and the operators that the runtime itself brings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ostinato.cep.batch import MIN_TIME, Barrier, Batch, Clock, EndOfInput, IntArray, Vector, Watermark, concat_batches
from ostinato.cep.runtime.python_rows import expand
from ostinato.patterns.types import TIMESTAMP
from ostinato.state.operator import OperatorState, Stateful, StoredState

NOTHING: Sequence[Batch] = ()
STATELESS = OperatorState()


class Operator(Protocol):
    """A node of the graph. It reads one stream; every batch it gives names the stream it belongs to.

    The graph aligns the inputs: by the time `on_watermark`, `on_barrier` or `on_end` is called, everything that
    comes before that message has been given to `on_batch`.
    """

    name: str

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        """Take events; give what can be said at once."""
        ...

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        """Time has come to `watermark` (ms): give everything that is due by then."""
        ...

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:
        """What has changed in the state since the last barrier; see `ostinato.state.operator.Stateful.snapshot`."""
        ...

    def on_end(self) -> Sequence[Batch]:
        """Nothing comes any more; the last watermark was MAX_TIME."""
        ...

    def restore(self, stored: StoredState) -> None:
        """Go on from stored state; see `ostinato.state.operator.Stateful.restore`."""
        ...


@runtime_checkable
class Clocked(Protocol):
    """An operator that goes by the job's clock."""

    def on_clock(self, now: int) -> Sequence[Batch]:
        """The clock shows `now` (epoch ms); it never goes back."""
        ...


class Matcher(Stateful, Protocol):
    """What the graph needs of `ostinato.cep.nfa.operator.MatchOperator`."""

    def process(self, batch: Batch) -> None: ...

    def advance(self, watermark: int) -> list[Batch]: ...


class Match:
    """All patterns of one stream, in one matcher."""

    def __init__(self, name: str, matcher: Matcher, time_column: str | None = None) -> None:
        """`time_column`: what the patterns call the event time, where the batches do not hold it as a column."""
        self.name = name
        self._matcher = matcher
        self._time_column = time_column

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        if self._time_column is not None and self._time_column not in batch.columns:
            time = Vector(TIMESTAMP, batch.time)
            batch = Batch(batch.stream, batch.time, {**batch.columns, self._time_column: time})
        self._matcher.process(batch)
        return NOTHING

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        return [expand(batch) for batch in self._matcher.advance(watermark)]

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:  # noqa: ARG002 - the protocol's
        return self._matcher.snapshot(whole)

    def on_end(self) -> Sequence[Batch]:
        return NOTHING

    def restore(self, stored: StoredState) -> None:
        self._matcher.restore(stored)


class Canonical:
    """Puts rows that come from several producers into the one order that no producer's pace can change.

    Rows are held until the watermark passes them, and then given by time and, at equal times, by content. Rows equal
    in everything are interchangeable, so any number of workers and any cut of the input give the same order.
    """

    def __init__(
        self,
        stream: str,
        restore: Callable[[bytes], Batch],
        store: Callable[[Batch], bytes],
        groups: Callable[[Batch], IntArray] | None = None,
    ) -> None:
        """`store` and `restore` turn the held rows into bytes and back; `groups` says the key group of each row, where
        not all of them are dealt with here."""
        self.name = f"{stream}.order"
        self._stream = stream
        self._restore = restore
        self._store = store
        self._groups = groups
        self._held: list[Batch] = []
        self._watermark = MIN_TIME

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        if len(batch):
            self._held.append(batch)
        return NOTHING

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        self._watermark = watermark
        if not self._held:
            return NOTHING
        held = concat_batches(self._held)
        due = held.time <= watermark
        if not due.any():
            self._held = [held]
            return NOTHING
        rest = held.take(~due)
        self._held = [rest] if len(rest) else []
        ready = held.take(due) if len(rest) else held
        return [ready.take(content_order(ready))]

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:  # noqa: ARG002
        # Not keyed: the rows that wait are few, and come and go as a whole.
        return OperatorState(shared=self._store(concat_batches(self._held))) if self._held else STATELESS

    def on_end(self) -> Sequence[Batch]:
        return NOTHING

    def restore(self, stored: StoredState) -> None:
        held = [self._restore(part) for part in stored.shared]
        if self._groups is not None:
            held = [batch.take(np.isin(self._groups(batch), stored.owned)) for batch in held]
        self._held = [batch for batch in held if len(batch)]


class Exchange:
    """Collects what goes to other workers: rows, and how far the control messages have come."""

    def __init__(self, stream: str) -> None:
        self.name = f"{stream}.exchange"
        self._batches: list[Batch] = []
        self._controls: list[Watermark | Clock | Barrier | EndOfInput] = []

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        self._batches.append(batch)
        return NOTHING

    def on_watermark(self, watermark: int) -> Sequence[Batch]:
        self._controls.append(Watermark(watermark))
        return NOTHING

    def on_clock(self, now: int) -> Sequence[Batch]:
        self._controls.append(Clock(now))
        return NOTHING

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:  # noqa: ARG002
        self._controls.append(Barrier(checkpoint))
        return STATELESS

    def on_end(self) -> Sequence[Batch]:
        self._controls.append(EndOfInput())
        return NOTHING

    def restore(self, stored: StoredState) -> None: ...

    def take(self) -> tuple[Batch | None, list[Watermark | Clock | Barrier | EndOfInput]]:
        """The rows since the last call, then the control messages that follow them."""
        batches, controls = self._batches, self._controls
        self._batches, self._controls = [], []
        return concat_batches(batches) if batches else None, controls


class Deliver:
    """The end of the graph: hands each batch of a stream to a function."""

    def __init__(self, stream: str, deliver: Callable[[Batch], None]) -> None:
        self.name = f"{stream}.out"
        self._deliver = deliver

    def on_batch(self, batch: Batch) -> Sequence[Batch]:
        self._deliver(batch)
        return NOTHING

    def on_watermark(self, watermark: int) -> Sequence[Batch]:  # noqa: ARG002 - the protocol's
        return NOTHING

    def on_barrier(self, checkpoint: int, whole: Collection[int] | None) -> OperatorState:  # noqa: ARG002
        return STATELESS

    def on_end(self) -> Sequence[Batch]:
        return NOTHING

    def restore(self, stored: StoredState) -> None: ...


def content_order(batch: Batch) -> Any:
    """The rows by time, and at equal times by their columns' values, nulls first. int64[rows]"""
    order = np.argsort(batch.time, kind="stable")
    time = batch.time[order]
    tied = np.flatnonzero(time[1:] == time[:-1])
    if not len(tied):
        return order
    # Only the rows at equal times are compared by content.
    runs = np.flatnonzero(np.diff(tied, prepend=-2) > 1)
    for first, last in zip(tied[runs], np.append(tied[runs[1:] - 1], tied[-1]) + 2, strict=True):
        rows = order[first:last]
        part = batch.take(rows)
        content = list(zip(*(map(_comparable, column.to_list()) for column in part.columns.values()), strict=True))
        if content:
            order[first:last] = rows[sorted(range(len(rows)), key=content.__getitem__)]
    return order


def _comparable(value: Any) -> tuple[bool, Any]:
    """Something that orders against every other value of the column, null included."""
    if isinstance(value, (list, dict)):
        return True, repr(value)
    if value != value:  # NaN, which has no order, before all numbers
        return True, float("-inf")
    return (False, 0) if value is None else (True, value)
