"""What comes out of the kernel → batches of a pattern's output columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import AnyArray, Batch, IntArray, Vector
from ostinato.cep.expressions.outputs import evaluate_outputs, match_columns
from ostinato.cep.match_table import MatchTable, Segment
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.emission import Emitted
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
    Ints,
)
from ostinato.patterns.schema import MATCH_TIME
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.patterns.typed import Constant
from ostinato.patterns.types import BIGINT, TIMESTAMP

Select = Callable[[MatchTable], Mapping[str, Vector]]
"""Makes output columns of matches, in place of ``emit``; timed-out partial matches are given as they are."""


class Maker(NamedTuple):
    """What makes rows: the matches of a pattern, or its partial matches whose time ran out."""

    pattern: str
    kind: Literal["match", "timeout"]


def makers_of(patterns: Iterable[CheckedPattern]) -> list[Maker]:
    """The makers of an operator, in the order of the numbers that `ResultReader` gives them from its first one on."""
    return [Maker(checked.pattern.name, kind) for checked in patterns for kind in _KINDS]


_KINDS: tuple[Literal["match"], Literal["timeout"]] = ("match", "timeout")


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


@dataclass(frozen=True)
class _Family:
    """Patterns whose results are made into rows together: they emit the same columns of the same stages into the same
    stream, and differ at most in constants. A hundred variants of a pattern cost little more than one."""

    stream: str
    kind: int
    members: tuple[int, ...]
    leader: CheckedPattern
    stages: tuple[str, ...]
    constants: Mapping[str, Vector]
    """Columns that are constant for each member: a row for each, in the order of `members`."""


class ResultReader:
    """Reads results from the kernel's space into batches."""

    def __init__(
        self,
        compiled: CompiledSet,
        matcher: Matcher,
        keyed: KeyedInput,
        selects: Mapping[str, Select],
        first_maker: int | None = None,
    ) -> None:
        """`first_maker`: rows are to say who made them; the first of `makers_of` has this number."""
        self._compiled = compiled
        self._first_maker = first_maker
        self._matcher = matcher
        self._input = keyed
        self._selects = selects
        self._families = [family for kind in (MATCH, TIMEOUT) for family in self._make_families(kind)]
        self._first_stage = np.array(compiled.first_stage, np.int64)
        self.matches = np.zeros(len(compiled.patterns), np.int64)
        self.timeouts = np.zeros(len(compiled.patterns), np.int64)

    def read(self) -> list[Emitted]:
        """All results since the last call, as they were found."""
        count = int(self._matcher.space.control[RESULTS])
        if not count:
            return []
        results = self._matcher.space.results[:count]
        patterns, kinds = results[:, RESULT_PATTERN], results[:, RESULT_KIND]
        size = len(self.matches)
        self.matches += np.bincount(patterns[kinds == MATCH], minlength=size)
        self.timeouts += np.bincount(patterns[kinds == TIMEOUT], minlength=size)
        present = set(np.unique(patterns * 2 + kinds).tolist())
        families = [
            family for family in self._families if any(member * 2 + family.kind in present for member in family.members)
        ]
        paths = (_NONE, _NONE, _NONE)
        if not all(family.leader.pattern.count for family in families):
            paths = self._matcher.paths()
        out = []
        for family in families:
            chosen = kinds == family.kind
            if len(families) > 1:
                chosen &= np.isin(patterns, family.members)
            out.append(self._batch(family, np.flatnonzero(chosen), results, *paths))
        self._matcher.clear_results()
        return out

    def _make_families(self, kind: int) -> list[_Family]:
        found: dict[Any, list[int]] = {}
        for number, checked in enumerate(self._compiled.patterns):
            pattern = checked.pattern
            stream = pattern.timeouts_into if kind == TIMEOUT else checked.output_stream.name
            if stream is None or number in self._compiled.linear or (pattern.count and kind == TIMEOUT):
                continue
            shape: Any = number
            if checked.outputs and not (kind == MATCH and pattern.name in self._selects):
                shape = tuple(
                    (name, expr.type if isinstance(expr, Constant) else expr) for name, expr in checked.outputs
                )
            found.setdefault((stream, self._compiled.automata[number].stages, shape), []).append(number)
        return [
            _Family(stream, kind, tuple(members), self._compiled.patterns[members[0]], stages, self._constants(members))
            for (stream, stages, _), members in found.items()
        ]

    def _constants(self, members: Sequence[int]) -> dict[str, Vector]:
        patterns = [self._compiled.patterns[member] for member in members]
        found = {}
        for index, (name, expr) in enumerate(patterns[0].outputs):
            if isinstance(expr, Constant):
                values = [checked.outputs[index][1] for checked in patterns]
                found[name] = Vector.of(expr.type, [each.value for each in values if isinstance(each, Constant)])
        return found

    def _batch(
        self, family: _Family, chosen: IntArray, results: Ints, offsets: Ints, stages: Ints, slots: Ints
    ) -> Emitted:
        checked = family.leader
        results = results[chosen]
        patterns, keys = results[:, RESULT_PATTERN], results[:, RESULT_KEY]
        time = results[:, RESULT_TIME].copy()
        if checked.pattern.count:
            return self._counted(family, keys, time, results)
        positions, owners = spread(offsets, chosen)
        own = slots[positions]
        end = time
        if family.kind == MATCH:
            end = self._matcher.space.slots[slots[offsets[chosen + 1] - 1], SLOT_TIME]
        matches = MatchTable(
            self._input.decode_keys(keys),
            results[:, RESULT_START_TIME].copy(),
            end,
            _Events(self._matcher.store, own),
            segments(family.stages, stages[positions] - self._first_stage[patterns][owners], owners, len(chosen)),
        )
        columns = self._columns(family, matches, np.searchsorted(family.members, patterns))
        batch = Batch(family.stream, time, with_time(columns, time), self._makers(family, patterns))
        return Emitted(batch, keys, patterns)

    def _makers(self, family: _Family, patterns: IntArray) -> IntArray | None:
        if self._first_maker is None:
            return None
        made: IntArray = self._first_maker + patterns * len(_KINDS) + family.kind
        return made

    def _columns(self, family: _Family, matches: MatchTable, member: IntArray) -> Mapping[str, Vector]:
        checked = family.leader
        select = self._selects.get(checked.pattern.name)
        if select is not None and family.kind == MATCH:
            return select(matches)
        if not checked.outputs:
            columns = dict(matches.keys)
            columns.update(match_columns(matches, tuple(matches.segments), tuple(matches.events)))
            return columns
        varying = [(name, expr) for name, expr in checked.outputs if name not in family.constants]
        made = evaluate_outputs(varying, matches)
        made |= {name: values.take(member) for name, values in family.constants.items()}
        return {name: made[name] for name, _ in checked.outputs}

    def _counted(self, family: _Family, keys: IntArray, time: IntArray, results: Ints) -> Emitted:
        """How many matches came out at once on a key: results of one event and key stand together."""
        rows = results[:, RESULT_ROW]
        new = np.ones(len(keys), np.bool_)
        new[1:] = (keys[1:] != keys[:-1]) | (rows[1:] != rows[:-1]) | (time[1:] != time[:-1])
        firsts = np.flatnonzero(new)
        counts = np.diff(np.append(firsts, len(keys)))
        keys = keys[firsts]
        patterns = results[firsts, RESULT_PATTERN]
        makers = self._makers(family, patterns)
        batch = count_batch(family.leader, self._input.decode_keys(keys), time[firsts], counts, makers)
        return Emitted(batch, keys, patterns)


_NONE = np.zeros(0, np.int64)


def spread(offsets: IntArray, chosen: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the elements of the chosen segments, and which of the chosen each belongs to."""
    lengths = offsets[chosen + 1] - offsets[chosen]
    owners = np.repeat(np.arange(len(chosen)), lengths)
    before = np.cumsum(lengths) - lengths
    return np.arange(len(owners)) - before[owners] + offsets[chosen][owners], owners


def with_time(columns: Mapping[str, Vector], time: IntArray) -> dict[str, Vector]:
    """The columns, and when the row came to be as `match_time`, which is the event time of a stream of matches."""
    return {**columns, MATCH_TIME: columns.get(MATCH_TIME, Vector(TIMESTAMP, time))}


def count_batch(
    checked: CheckedPattern,
    keys: Mapping[str, Vector],
    time: IntArray,
    counts: npt.NDArray[Any],
    makers: IntArray | None = None,
) -> Batch:
    """A row for each event that completes matches: the key, and their number as `matches`."""
    columns = {**keys, "matches": Vector(BIGINT, counts.astype(np.int64))}
    return Batch(checked.output_stream.name, time, with_time(columns, time), makers)
