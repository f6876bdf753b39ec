"""Running a file of the language over a few events, through the operator itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ostinato.cep.batch import MAX_TIME, Batch, Vector
from ostinato.cep.event import natural
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.nfa.spill import Spill
from ostinato.patterns.ast import Stream
from ostinato.patterns.parser import parse_program
from ostinato.patterns.schema import MATCH_TIME
from ostinato.patterns.typecheck import CheckedPattern, check_program
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records

KEY_GROUPS = 128


def batch_of(stream: Stream, events: Sequence[Mapping[str, Any]]) -> Batch:
    """Events as a batch; values are in their physical form (times in ms), a missing one is null."""
    columns = {
        column.name: Vector.of(column.type, [event.get(column.name) for event in events]) for column in stream.columns
    }
    time = [event[stream.time.column or "ts"] for event in events]
    return Batch(stream.name, np.array(time, np.int64), columns)


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """The rows of a batch as Python sees them."""
    columns = {name: [natural(value, v.type) for value in v.to_list()] for name, v in batch.columns.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def emitted(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what their pattern emits, without the time that is added to it."""
    return [{name: value for name, value in row.items() if name != MATCH_TIME} for row in rows]


def run_patterns(
    patterns: Sequence[CheckedPattern], events: Sequence[Mapping[str, Any]], *, end: int = MAX_TIME
) -> list[Batch]:
    """What patterns over one stream give for all the events, once time has moved to `end`."""
    operator = MatchOperator(patterns)
    operator.process(batch_of(patterns[0].stream, events))
    return operator.advance(end)


def run_cep(
    text: str,
    events: Iterable[Mapping[str, Any]],
    params: Mapping[str, Any] | None = None,
    *,
    output: str | None = None,
    end: int = MAX_TIME,
) -> list[dict[str, Any]]:
    """The rows that the patterns of a file give for some events.

    Args:
        text: with one stream that all patterns read.
        params: values of its parameters.
        output: only the rows of the stream of this name.
        end: where time stands after the last event; by default at the end of everything.
    """
    program = check_program(parse_program(text), params or {})
    batches = run_patterns(program.patterns, list(events), end=end)
    return [row for batch in batches if output in (None, batch.stream) for row in rows_of(batch)]


def as_json(rows: Any) -> Any:
    """Rows as they look after having been written as JSON."""
    return json.loads(json.dumps(rows, default=str))


@dataclass
class Kept:
    """The snapshots of one operator, or of its parts in several workers, kept as a store does: what is whole stands for
    all before it, what is not for changes. It is stored state itself: whoever restores gets what stands at the end.

    Attributes:
        owned, may_drop: what `StoredState` says to those who restore.
        written: bytes of records that were added, whole or changes.
    """

    owned: range = range(KEY_GROUPS)
    may_drop: bool = False
    header: bytes = b""
    shared: list[bytes] = field(default_factory=list)
    groups: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    written: int = 0

    def add(self, *states: OperatorState) -> None:
        """One checkpoint: the states of all workers."""
        self.shared = [state.shared for state in states if state.shared]
        for state in states:
            self.header = state.header
            for group, records in state.groups.items():
                if group in state.whole:
                    self.groups[group] = {}
                own = self.groups.setdefault(group, {})
                for key, value in records.items():
                    self.written += len(key) + len(value)
                    if value:
                        own[key] = value
                    else:
                        own.pop(key, None)

    def records(self) -> Iterator[tuple[int, Records]]:
        for group in self.owned:
            if self.groups.get(group):
                yield group, Records.of(self.groups[group].items())


def reopened(operator: MatchOperator, kept: Kept, spill: Spill | None = None) -> MatchOperator:
    """A new operator that goes on from what was kept; `spill` as of `MatchOperator`."""
    fresh = MatchOperator(operator.compiled, spill=spill)
    fresh.restore(kept)
    return fresh
