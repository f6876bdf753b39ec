"""What comes out of the kernel → batches of a pattern's output columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import AnyArray, Batch, IntArray, Vector
from ostinato.cep.expressions.outputs import evaluate_outputs, match_columns
from ostinato.cep.match_table import MatchTable, Segment
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.events import EventStore
from ostinato.cep.nfa.input import KeyedInput
from ostinato.cep.nfa.kernel import MATCH, TIMEOUT
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import (
    RESULT_KEY,
    RESULT_KIND,
    RESULT_PATTERN,
    RESULT_ROW,
    RESULT_START_TIME,
    RESULT_TIME,
    RESULTS,
    SLOT_TIME,
)
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.patterns.types import BIGINT

Select = Callable[[MatchTable], Mapping[str, Vector]]
"""Makes output columns of matches, in place of ``emit``."""


class _Events(Mapping[str, Vector]):
    """Columns of the events of some matches, fetched when they are asked for."""

    def __init__(self, store: EventStore, slots: AnyArray) -> None:
        self._store = store
        self._slots = slots
        self._taken: dict[str, Vector] = {}

    def __getitem__(self, name: str) -> Vector:
        found = self._taken.get(name)
        if found is None:
            if name not in self._store.types:
                raise KeyError(name)
            found = self._taken[name] = self._store.take(name, self._slots)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._store.types)

    def __len__(self) -> int:
        return len(self._store.types)


def segments(stages: Sequence[str], stage_of: AnyArray, owners: IntArray, rows: int) -> dict[str, Segment]:
    """Where each match's events of each stage are, given the stage's number and the match of every event."""
    found = {}
    for number, stage in enumerate(stages):
        positions = np.flatnonzero(stage_of == number)
        offsets = np.zeros(rows + 1, np.int64)
        np.cumsum(np.bincount(owners[positions], minlength=rows), out=offsets[1:])
        found[stage] = (offsets, positions)
    return found


class ResultReader:
    """Reads results from the kernel's space into batches, pattern by pattern."""

    def __init__(
        self, compiled: CompiledSet, matcher: Matcher, keyed: KeyedInput, selects: Mapping[str, Select]
    ) -> None:
        self._compiled = compiled
        self._matcher = matcher
        self._input = keyed
        self._selects = selects
        self.matches = [0] * len(compiled.patterns)
        self.timeouts = [0] * len(compiled.patterns)

    def read(self) -> list[Batch]:
        """All results since the last call, as batches: matches and timeouts of each pattern that has any."""
        space = self._matcher.space
        count = int(space.control[RESULTS])
        if not count:
            return []
        results = space.results
        patterns, kinds = results[:count, RESULT_PATTERN], results[:count, RESULT_KIND]
        present = np.unique(patterns * 2 + kinds)
        if all(self._compiled.patterns[code // 2].pattern.count for code in present.tolist()):
            offsets, stages, slots = np.zeros(count + 1, np.int64), _NONE, _NONE
        else:
            offsets, stages, slots = self._matcher.paths()
        out = []
        for code in present.tolist():
            number, kind = code // 2, code % 2
            chosen = np.flatnonzero((patterns == number) & (kinds == kind))
            if kind == MATCH:
                self.matches[number] += len(chosen)
            else:
                self.timeouts[number] += len(chosen)
            batch = self._batch(number, kind, chosen, offsets, stages, slots)
            if batch is not None:
                out.append(batch)
        self._matcher.clear_results()
        return out

    def _batch(
        self, number: int, kind: int, chosen: IntArray, offsets: IntArray, stages: AnyArray, slots: AnyArray
    ) -> Batch | None:
        checked = self._compiled.patterns[number]
        results = self._matcher.space.results[chosen]
        time, keys = results[:, RESULT_TIME].copy(), results[:, RESULT_KEY]
        if checked.pattern.count:
            return None if kind == TIMEOUT else self._counted(checked, keys, time, results[:, RESULT_ROW])
        positions, owners = spread(offsets, chosen)
        first = self._compiled.first_stage[number]
        own = slots[positions]
        names = self._compiled.automata[number].stages
        slot_times = self._matcher.space.slots[:, SLOT_TIME]
        lengths = offsets[chosen + 1] - offsets[chosen]
        last = slot_times[slots[offsets[chosen + 1] - 1]] if lengths.all() else time
        matches = MatchTable(
            self._input.decode_keys(keys),
            results[:, RESULT_START_TIME].copy(),
            last if kind == MATCH else time,
            _Events(self._matcher.store, own),
            segments(names, stages[positions] - first, owners, len(chosen)),
        )
        name = checked.pattern.timeouts_into if kind == TIMEOUT else checked.output_stream.name
        assert name is not None
        return Batch(name, time, self._columns(checked, matches))

    def _columns(self, checked: CheckedPattern, matches: MatchTable) -> Mapping[str, Vector]:
        select = self._selects.get(checked.pattern.name)
        if select is not None:
            return select(matches)
        if checked.outputs:
            return evaluate_outputs(checked.outputs, matches)
        columns = dict(matches.keys)
        columns.update(match_columns(matches, tuple(matches.segments), tuple(matches.events)))
        return columns

    def _counted(self, checked: CheckedPattern, keys: IntArray, time: IntArray, rows: AnyArray) -> Batch:
        """How many matches came out at once on a key: results of one event and key stand together."""
        new = np.ones(len(keys), np.bool_)
        new[1:] = (keys[1:] != keys[:-1]) | (rows[1:] != rows[:-1]) | (time[1:] != time[:-1])
        firsts = np.flatnonzero(new)
        counts = np.diff(np.append(firsts, len(keys)))
        return count_batch(checked, self._input.decode_keys(keys[firsts]), time[firsts], counts)


_NONE = np.zeros(0, np.int64)


def spread(offsets: IntArray, chosen: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the elements of the chosen segments, and which of the chosen each belongs to."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    owners = np.repeat(np.arange(len(chosen)), lengths)
    before = np.cumsum(lengths) - lengths
    return np.arange(len(owners)) - before[owners] + offsets[chosen][owners], owners


def count_batch(checked: CheckedPattern, keys: Mapping[str, Vector], time: IntArray, counts: npt.NDArray[Any]) -> Batch:
    """A row for each event that completes matches: the key, and their number as `matches`."""
    columns = {**keys, "matches": Vector(BIGINT, counts.astype(np.int64))}
    return Batch(checked.output_stream.name, time, columns)
