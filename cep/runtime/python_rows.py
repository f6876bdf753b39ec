"""Rows that a Python function makes of each match, as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.event import Event, natural, read
from ostinato.cep.match_table import MatchTable
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, DataType, Scalar

if TYPE_CHECKING:
    from ostinato.patterns.decorators import DeclaredPattern

ROWS = "<rows of a function>"
"""The column in which `select_for` leaves each match's rows, a list of dicts, until `expand` lays them out."""

OBJECT = Scalar("OBJECT")
"""The type of values that are no plain ones: they are held, and written, as the Python objects they are."""

_PLAIN: dict[type, DataType] = {bool: BOOLEAN, int: BIGINT, float: DOUBLE, str: STRING}


def select_for(pattern: DeclaredPattern) -> Callable[[MatchTable], Mapping[str, Vector]]:
    """What the matcher calls to have the pattern's function make rows of matches."""

    def select(matches: MatchTable) -> Mapping[str, Vector]:
        segments = {stage: matches.segment(stage) for stage in matches.segments}
        rows = np.empty(matches.rows, object)
        for match in range(matches.rows):
            taken = {
                stage: [Event(matches.events, int(at)) for at in positions[offsets[match] : offsets[match + 1]]]
                for stage, (offsets, positions) in segments.items()
            }
            key = tuple(natural(read(column, match), column.type) for column in matches.keys.values())
            found = pattern.match(
                key[0] if len(key) == 1 else key or None, int(matches.start[match]), int(matches.end[match]), taken
            )
            rows[match] = [{name: _plain(value) for name, value in row.items()} for row in pattern.rows(found)]
        return {ROWS: Vector(OBJECT, rows)}

    return select


def expand(batch: Batch) -> Batch:
    """The batch with the rows that functions made in place of the lists of them."""
    held = batch.columns.get(ROWS)
    if held is None:
        return batch
    lists = held.to_list()
    rows = [row for made in lists for row in made]
    sizes = [len(made) for made in lists]
    time = np.repeat(batch.time, sizes)
    makers = None if batch.makers is None else np.repeat(batch.makers, sizes)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: column_of([row.get(name) for row in rows]) for name in names}
    return Batch(batch.stream, time, columns, makers)


def column_of(values: Sequence[Any]) -> Vector:
    """A column of whatever type fits all values."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        values, kinds = [None if value is None else float(value) for value in values], {float}
    type_ = _PLAIN.get(kinds.pop(), OBJECT) if len(kinds) == 1 else OBJECT
    if type_ == BIGINT and any(value is not None and not -(2**63) <= value < 2**63 for value in values):
        type_ = OBJECT
    return Vector.of(type_, values)


def _plain(value: Any) -> Any:
    """Events as dicts, wherever they stand in what the function gave; numpy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
