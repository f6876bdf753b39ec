"""What a pattern emits: aggregates over the stages of all matches at once, then expressions over these."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ostinato.cep import strings
from ostinato.cep.batch import AnyArray, BoolArray, IntArray, Strings, Vector
from ostinato.cep.expressions import segments, text
from ostinato.cep.expressions.core import scale_of
from ostinato.cep.expressions.vector import Memo, evaluate
from ostinato.cep.jit import kernels
from ostinato.cep.match_table import MatchTable
from ostinato.patterns.typed import Matched, Typed, nodes
from ostinato.patterns.types import BIGINT, DOUBLE, STRING, TIMESTAMP, Array, Row


def evaluate_outputs(outputs: Sequence[tuple[str, Typed]], matches: MatchTable) -> dict[str, Vector]:
    """The emitted columns by name, one row per match.

    Columns of the event in hand are read from the keys of the match; aggregates run over the whole match. Those of
    nothing are NULL, a count is 0.
    """
    memo: Memo = {}
    for _, expr in outputs:
        for node in nodes(expr):
            if isinstance(node, Matched) and node not in memo:
                memo[node] = aggregate(node, matches)
    return {name: evaluate(expr, matches.keys, matches.rows, memo) for name, expr in outputs}


def match_columns(matches: MatchTable, stages: Sequence[str], columns: Sequence[str]) -> dict[str, Vector]:
    """For ``emit *``: for each stage its events as ARRAY<ROW<columns>> of physical values, one row per match."""
    row_type = Row(tuple((name, matches.events[name].type) for name in columns))
    made = {}
    for stage in stages:
        offsets, positions = matches.segment(stage)
        lists = [matches.events[name].take(positions).to_list() for name in columns]
        if columns:
            events = [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]
        else:
            events = [{} for _ in positions]
        arrays = np.empty(matches.rows, object)
        bounds = offsets.tolist()
        for match in range(matches.rows):
            arrays[match] = events[bounds[match] : bounds[match + 1]]
        made[stage] = Vector(Array(row_type), arrays)
    return made


def aggregate(wanted: Matched, matches: MatchTable) -> Vector:
    """The value of one aggregate for every match."""
    if wanted.function == "start":
        return Vector(TIMESTAMP, matches.start)
    if wanted.function == "end":
        return Vector(TIMESTAMP, matches.end)
    offsets, positions = matches.segment(wanted.stage)
    if wanted.name is None:
        assert wanted.function == "count", f"{wanted.function}({wanted.stage}) needs a column"
        return Vector(BIGINT, np.diff(offsets))
    offsets = strings.plain(offsets)
    column = matches.events[wanted.name]
    if wanted.function in ("first", "last"):
        return _event_at(wanted, column, offsets, positions)
    taken = column.take(positions)
    valid = np.ones(len(positions), np.bool_) if taken.valid is None else taken.valid
    if wanted.function == "count":
        counted = np.empty(matches.rows, np.int64)
        kernels(segments).counts(valid, offsets, counted)
        return Vector(BIGINT, counted)
    if wanted.function in ("collect", "collect_distinct"):
        return _collected(wanted, taken, offsets)
    if wanted.function in ("min", "max"):
        return _extremes(taken, valid, offsets, greatest=wanted.function == "max")
    return _sums(wanted, taken, valid, offsets)


def _collected(wanted: Matched, taken: Vector, offsets: IntArray) -> Vector:
    """The values that are not NULL of each match as an array, in match order; or each once, where it comes first."""
    values = taken.to_list()
    bounds = offsets.tolist()
    arrays = np.empty(len(bounds) - 1, object)
    for match, (start, end) in enumerate(pairwise(bounds)):
        held = [value for value in values[start:end] if value is not None]
        if wanted.function == "collect_distinct":
            distinct: dict[str, Any] = {}
            for value in held:
                # Arrays and rows have no hash; what is written alike is alike.
                distinct.setdefault(repr(value), value)
            held = list(distinct.values())
        arrays[match] = held
    return Vector(wanted.type, arrays)


def _event_at(wanted: Matched, column: Vector, offsets: IntArray, positions: IntArray) -> Vector:
    """The column of the first or last event, or one so many after or before it."""
    starts, ends = offsets[:-1], offsets[1:]
    at = starts + wanted.offset if wanted.function == "first" else ends - 1 - wanted.offset
    found = (at >= starts) & (at < ends)
    if found.all():
        return column.take(positions[at])
    # A row that is NULL holds zero: that of a NULL put behind the others.
    rows = np.full(len(at), len(positions), np.int64)
    rows[found] = at[found]
    values = column.take(positions)
    valid = np.append(np.ones(len(values), np.bool_) if values.valid is None else values.valid, np.False_)
    return _with_null(values, valid).take(rows)


def _with_null(values: Vector, valid: BoolArray) -> Vector:
    """The column with one more row, which is NULL."""
    if values.type == STRING:
        texts = values.strings
        longer = Strings(texts.data, np.append(texts.start, np.int64(0)), np.append(texts.length, np.int32(0)))
        return Vector(STRING, longer, valid)
    held = values.array
    longer_array = np.zeros(len(held) + 1, held.dtype)
    longer_array[:-1] = held
    if held.dtype.hasobject:
        longer_array[-1] = None
    return Vector(values.type, longer_array, valid)


def _sums(wanted: Matched, taken: Vector, valid: BoolArray, offsets: IntArray) -> Vector:
    rows = len(offsets) - 1
    out_valid = np.empty(rows, np.bool_)
    mean = wanted.function == "avg"
    kernel = kernels(segments)
    if taken.type == DOUBLE or mean:
        doubles = np.empty(rows, np.float64)
        if taken.type == DOUBLE:
            kernel.double_sums(taken.array, valid, offsets, mean, doubles, out_valid)
        else:
            unit = float(10 ** scale_of(taken.type))
            kernel.whole_means(taken.array, valid, offsets, unit, doubles, out_valid)
        return _result(Vector(DOUBLE, doubles, out_valid))
    whole = np.empty(rows, np.int64)
    kernel.whole_sums(taken.array, valid, offsets, whole, out_valid)
    return _result(Vector(wanted.type, whole, out_valid))


def _extremes(taken: Vector, valid: BoolArray, offsets: IntArray, *, greatest: bool) -> Vector:
    out_valid = np.empty(len(offsets) - 1, np.bool_)

    def of(values: AnyArray) -> AnyArray:
        out = np.empty(len(offsets) - 1, values.dtype)
        kernels(segments).extremes(values, valid, offsets, greatest, out, out_valid)
        return out

    if taken.type == STRING:
        ranks, texts = _ranked(taken)
        best = of(ranks)
        # Where there is nothing, the rank behind all others is that of an empty text.
        best[~out_valid] = len(texts) - 1
        return _result(Vector(STRING, texts.take(best), out_valid))
    values = taken.array
    best = of(values.astype(np.int64) if values.dtype == np.bool_ else values)
    return _result(Vector(taken.type, best.astype(values.dtype), out_valid))


def _ranked(column: Vector) -> tuple[IntArray, Strings]:
    """Each text's rank among the distinct ones, and these in their order with an empty text behind them."""
    interner = strings.Interner()
    codes = interner.intern(column.strings, column.valid)
    distinct = interner.strings().to_list()
    ordered = sorted(range(len(distinct)), key=[text.order(each) for each in distinct].__getitem__)
    ranks = np.empty(len(distinct) + 1, np.int64)
    ranks[ordered] = np.arange(len(distinct))
    ranks[-1] = len(distinct)
    return ranks[codes], Strings.of([*(distinct[code] for code in ordered), ""])


def _result(vector: Vector) -> Vector:
    """Without a mask where nothing is null."""
    return Vector(vector.type, vector.values) if vector.valid is not None and vector.valid.all() else vector
