"""The front of the match operator: events get their key's code and their bits, and wait for the watermark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import MIN_TIME, Batch, IntArray, Strings, Vector, concat_vectors
from ostinato.cep.expressions.vector import evaluate, predicate
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import ordering
from ostinato.cep.nfa.compile import CompiledSet, needed_columns, schema_of, stored_columns
from ostinato.cep.nfa.events import Parts
from ostinato.cep.nfa.keys import KeyCodec
from ostinato.cep.strings import Interner
from ostinato.patterns.typed import Typed
from ostinato.patterns.types import STRING

Flags = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Pending:
    """Events that wait: per event its time, the code of its key, its condition bits (a word per column), the cells
    that iterative conditions read, and its columns: those that may be needed later, and those that a snapshot keeps."""

    time: IntArray
    key: IntArray
    bits: IntArray
    cells: IntArray
    null: Flags
    columns: Mapping[str, Vector]

    def __len__(self) -> int:
        return len(self.time)


class Waiting(NamedTuple):
    """Events that wait, as they came: enough to take them in again."""

    time: IntArray
    columns: Mapping[str, Vector]


class Released(NamedTuple):
    """Events whose time has come: `order` are their positions in the arrays, by time and arrival."""

    order: IntArray
    time: IntArray
    key: IntArray
    bits: IntArray
    cells: IntArray
    null: Flags
    columns: Parts


class KeyedInput:
    """Numbers keys, decides simple conditions, and holds events back until the watermark releases them."""

    def __init__(self, compiled: CompiledSet, *, keep_columns: bool = False) -> None:
        """`keep_columns`: events keep all columns while they wait, not only those that these patterns read."""
        self._compiled = compiled
        schema = schema_of(compiled.patterns[0])
        stream = compiled.patterns[0].stream
        self.stream = stream.name
        self.codec = KeyCodec([(name, schema[name]) for name in stream.keys])
        self.columns = needed_columns(compiled)
        stored = stored_columns(compiled)
        self.stored = tuple(name for name in schema if name in stored)
        self.kept = tuple(name for name in schema if keep_columns or name in self.columns)
        """The columns that events have while they wait."""
        self._types = schema
        self.keys = Interner()
        self.texts = Interner()
        self.watermark = MIN_TIME
        self._pending: list[Pending] = []

    @property
    def waiting(self) -> int:
        """Events that wait for the watermark."""
        return sum(len(part) for part in self._pending)

    def waiting_of(self, key: int) -> int:
        """How many events of a key wait, by its code."""
        return sum(int(np.count_nonzero(part.key == key)) for part in self._pending)

    def joined(self) -> Waiting | None:
        """The events that wait, in the order of arrival, in memory of their own; None where there are none."""
        if not self._pending:
            return None
        time = np.concatenate([part.time for part in self._pending])
        return Waiting(time, joined_columns([part.columns for part in self._pending], self.kept))

    def process(self, batch: Batch) -> None:
        """Take in a batch, in any order of time."""
        rows = len(batch)
        key = self.keys.intern(self.codec.encode(batch.columns, rows))
        memo: dict[Typed, Vector] = {}
        words = self._compiled.layout.words
        bits = np.zeros((rows, self.words), np.int64)
        for word, conditions in enumerate(words):
            for bit, condition in enumerate(conditions):
                holding = predicate(condition, batch.columns, rows, memo)
                bits[:, word] |= holding.astype(np.int64) << bit
        cells, null = self._cells(batch.columns, rows, memo)
        columns = {name: self._column(batch, name) for name in self.kept}
        self._pending.append(Pending(batch.time, key, bits, cells, null, columns))

    def _column(self, batch: Batch, name: str) -> Vector:
        """A column that these patterns may not read is null where whoever made the rows did not give it."""
        if name in self.columns or name in batch.columns:
            return batch.columns[name]
        return Vector.of(self._types[name], [None] * len(batch))

    @property
    def words(self) -> int:
        """Condition words per event."""
        return max(1, len(self._compiled.layout.words))

    def decode_keys(self, codes: IntArray) -> dict[str, Vector]:
        """The key columns of keys."""
        return self.codec.decode(self.keys.strings(codes))

    def release(self, watermark: int) -> Released | None:
        """The events at or before the watermark, in order; the others go on waiting. None where there are none."""
        self.watermark = max(self.watermark, watermark)
        parts, stays = self._pending, []
        # where time is the clock's, what came last waits as a whole and all before it does not: nothing is copied
        if parts and parts[-1].time.min() > self.watermark:
            parts, stays = parts[:-1], parts[-1:]
        if not parts:
            return None
        sort = kernels(ordering)
        time = _joined([part.time for part in parts])
        order = sort.released_in_order(time, self.watermark)
        columns = Parts([(len(part), part.columns) for part in parts])
        key = _joined([part.key for part in parts])
        bits = _joined([part.bits for part in parts])
        cells = _joined([part.cells for part in parts])
        null = _joined([part.null for part in parts])
        rest = sort.positions_after(time, self.watermark)
        if len(rest):
            left = Pending(time[rest], key[rest], bits[rest], cells[rest], null[rest], columns.rest(self.kept, rest))
            stays = [left, *stays]
        self._pending = stays
        if not len(order):
            return None
        return Released(order, time, key, bits, cells, null, columns)

    def renumber_keys(self, live: npt.NDArray[Any]) -> IntArray:
        """Forget keys without state. `live`: codes with state elsewhere. Returns the new code of each old one."""
        codes = np.concatenate([live.astype(np.int64), *[part.key for part in self._pending]])
        mapping = self.keys.retain(codes)
        for part in self._pending:
            part.key = mapping[part.key]
        return mapping

    def _cells(self, columns: Mapping[str, Vector], rows: int, memo: dict[Typed, Vector]) -> tuple[IntArray, Flags]:
        plan = self._compiled.plan
        cells = np.zeros((rows, max(1, len(plan.columns))), np.int64)
        null = np.zeros((rows, max(1, len(plan.columns))), np.uint8)
        for index, (name, type_) in enumerate(plan.columns):
            computed = plan.computed.get(name)
            vector = columns[name] if computed is None else evaluate(computed, columns, rows, memo)
            if type_ == STRING:
                cells[:, index] = self.texts.intern(vector.strings, vector.valid)
            elif vector.array.dtype == np.float64:
                cells[:, index] = vector.array.view(np.int64)
            else:
                cells[:, index] = vector.array
            if vector.valid is not None:
                null[:, index] = ~vector.valid
        return cells, null


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def joined_columns(parts: Sequence[Mapping[str, Vector]], names: Sequence[str]) -> dict[str, Vector]:
    """The columns of all parts, one after the other, in memory of their own."""
    joined = {}
    for name in names:
        vector = concat_vectors([part[name] for part in parts])
        if isinstance(vector.values, Strings):
            vector = Vector(vector.type, vector.values.compact(), vector.valid)
        joined[name] = vector
    return joined
