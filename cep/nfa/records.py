"""A key's partial matches as bytes: out of the matcher's pools, and back into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import Strings, Vector, physical_dtype
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import record_kernel, transfer
from ostinato.cep.nfa.header import Header, Translation, header_of, kind_of
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import HEAP, NODES_LEFT, SLOT_SEQ, SLOT_TIME, SLOTS_LEFT, Ints, grow, grow_list, grow_ring
from ostinato.cep.nfa.record_kernel import EVENTS, INSTANCES, NODES, RUNS, TEXT, TEXT_BYTES
from ostinato.cep.strings import Interner, gather
from ostinato.patterns.types import STRING, DataType
from ostinato.state.errors import DamagedError
from ostinato.state.records import Blobs

NEVER = record_kernel.NEVER
"""Stands for a time that does not come."""
_NUMBER_BYTES = 11
"""A number of variable length, or a float, with the mark that it is not null."""


class RecordCodec:
    """Packs and unpacks what a matcher holds for some keys."""

    def __init__(self, matcher: Matcher, texts: Interner, keys: Any) -> None:
        """`texts` numbers the texts in registers; `keys` are the key columns, with their types."""
        self._matcher = matcher
        self._texts = texts
        self.header: Header = header_of(matcher.compiled, matcher.store.types, keys)
        self._same = Translation(self.header, self.header, may_drop=False)

    def pack(self, keys: Ints, watermark: int) -> Blobs:
        """A record for each key, by code; an empty one for keys without partial matches."""
        matcher = self._matcher
        matcher.grow_seeds(keys, watermark)
        space = matcher.space
        counts = np.zeros(4, np.int64)
        kernel = kernels(transfer)
        kernel.count_rows(space, keys, counts)
        instance_rows = np.zeros((int(counts[0]), 2 + transfer.LISTS), np.int64)
        run_rows = np.zeros((int(counts[1]), 6), np.int64)
        node_rows = np.zeros((_in_use(space.nodes, space.control[NODES_LEFT]), 3), np.int64)
        event_slots = np.zeros(_in_use(space.slots, space.control[SLOTS_LEFT]), np.int64)
        ends = np.zeros((len(keys), 4), np.int64)
        kernel.export_keys(
            space, keys, instance_rows, run_rows, node_rows, event_slots,
            *self._maps(len(space.nodes), len(space.slots)), counts, ends,
        )  # fmt: skip
        slots = event_slots[: counts[EVENTS]]
        texts = _Texts()
        cells, null, start, length = self._cells(slots, texts)
        registers = self._registers(run_rows[:, 5].copy(), instance_rows, texts)
        widths = self._same.widths
        sizes = _sizes(ends, length, registers[3], len(self.header.columns))
        out = np.empty(int(sizes.sum()), np.uint8)
        offset = np.zeros(len(keys) + 1, np.int64)
        kernels(record_kernel).pack(
            matcher.compiled.tables, ends, instance_rows, run_rows, node_rows,
            np.ascontiguousarray(space.slots[slots][:, [SLOT_TIME, SLOT_SEQ]]), cells, null, start, length,
            self._same.kinds, *registers, self._same.register_kinds, widths, texts.joined(), out, offset,
        )  # fmt: skip
        return Blobs(out[: offset[-1]].copy(), offset)

    def translation(self, header: Header, *, may_drop: bool) -> Translation:
        """How records with that header are to be read. Raises SnapshotError, DroppedStateError."""
        return Translation(header, self.header, may_drop=may_drop)

    def unpack(self, values: Blobs, keys: Ints, watermark: int, translation: Translation | None = None) -> Ints:
        """Take in the records of keys that have the codes `keys` now, and nothing yet.

        Returns int64[keys]: where in each record the partial matches end. Raises DamagedError.
        """
        how = translation or self._same
        kernel = kernels(record_kernel)
        counts = np.zeros((len(keys), 5), np.int64)
        data = values.data if len(values.data) else np.zeros(1, np.uint8)
        kernel.count(data, values.offset, counts)
        total = counts.sum(axis=0)
        if (counts < 0).any() or total[:TEXT_BYTES].max(initial=0) > len(data) or total[TEXT_BYTES] > len(data):
            raise DamagedError("a record of partial matches is damaged: it says that it is longer than it is")
        instance_rows = np.zeros((int(total[INSTANCES]), 2 + transfer.LISTS), np.int64)
        run_rows = np.zeros((int(total[RUNS]) + 1, 6), np.int64)
        node_rows = np.zeros((int(total[NODES]), 3), np.int64)
        events = np.zeros((int(total[EVENTS]), 2), np.int64)
        cells, null, start, length = _grids(len(events), len(how.kinds))
        register_kinds = how.register_kinds
        registers, register_null, register_start, register_length = _grids(len(run_rows), register_kinds.shape[1])
        text = np.zeros(int(total[TEXT_BYTES]) + 1, np.uint8)
        done = np.zeros(5, np.int64)
        ends = np.zeros(len(keys), np.int64)
        kernel.unpack(
            data, values.offset, how.pattern_of, how.stage_of, how.state_of, how.kinds, register_kinds, how.widths,
            instance_rows, run_rows, node_rows, events, cells, null, start, length,
            registers, register_null, register_start, register_length, text, done, ends,
        )  # fmt: skip
        instance_rows, run_rows = instance_rows[: done[INSTANCES]], run_rows[: done[RUNS]]
        kept = slice(None)
        if how.drops:
            node_rows, kept = _without_dropped(node_rows, run_rows)
        slots, rows = self._import(keys, instance_rows, run_rows, node_rows, events[kept], watermark)
        self._put_columns(slots, how, cells[kept], null[kept], _texts_in(text, start[kept], length[kept]))
        codes = slice(0, len(rows))
        self._put_registers(
            rows, instance_rows, registers[codes], register_null[codes],
            _texts_in(text, register_start[codes], register_length[codes]),
        )  # fmt: skip
        return ends

    def free(self, keys: Ints) -> None:
        """Let go of all that these keys have."""
        kernels(transfer).free_keys(self._matcher.space, keys)

    # -- packing -----------------------------------------------------------------------------------

    def _maps(self, nodes: int, slots: int) -> tuple[Ints, Ints]:
        """Two arrays full of -1, which the kernel leaves as it finds them."""
        known: tuple[Ints, Ints] | None = getattr(self, "_kept_maps", None)
        if known is None or len(known[0]) < nodes or len(known[1]) < slots:
            known = self._kept_maps = (np.full(nodes, -1, np.int64), np.full(slots, -1, np.int64))
        return known

    def _cells(self, slots: Ints, texts: _Texts) -> tuple[Ints, npt.NDArray[np.uint8], Ints, Ints]:
        store = self._matcher.store
        cells, null, start, length = _grids(len(slots), len(store.types))
        for column, (name, type_) in enumerate(store.types.items()):
            vector = store.take(name, slots)
            if vector.valid is not None:
                null[:, column] = ~vector.valid
            if kind_of(type_) == TEXT:
                start[:, column], length[:, column] = texts.add(_as_texts(vector))
            else:
                cells[:, column] = _as_numbers(vector.array)
        return cells, null, start, length

    def _registers(
        self, rows: Ints, instance_rows: Ints, texts: _Texts
    ) -> tuple[Ints, npt.NDArray[np.uint8], Ints, Ints]:
        held = self._matcher.space.registers
        registers, null = held.ints[rows], held.null[rows]
        start, length = np.zeros(registers.shape, np.int64), np.zeros(registers.shape, np.int64)
        for own, register in self._text_registers(instance_rows):
            codes = np.where(null[own, register] != 0, -1, registers[own, register])
            start[own, register], length[own, register] = texts.add(self._texts.strings(codes))
        return registers, null, start, length

    def _text_registers(self, instance_rows: Ints) -> list[tuple[npt.NDArray[np.bool_], int]]:
        plan = self._matcher.compiled.plan
        if not any(plan.text_registers):
            return []
        patterns = np.repeat(instance_rows[:, 1], instance_rows[:, 2:].sum(axis=1))
        return [
            (patterns == pattern, register)
            for pattern, registers in enumerate(plan.text_registers)
            for register in registers
        ]

    # -- unpacking ---------------------------------------------------------------------------------

    def _import(
        self, keys: Ints, instance_rows: Ints, run_rows: Ints, node_rows: Ints, events: Ints, watermark: int
    ) -> tuple[Ints, Ints]:
        matcher = self._matcher
        space = matcher.space
        for name, rows in (("runs", run_rows), ("nodes", node_rows), ("slots", events), ("instances", instance_rows)):
            space = grow(space, name, len(rows) + 16)
        space = grow_list(space, "keys", int(keys.max(initial=-1)) + 1)
        timers = len(run_rows) * (2 + len(matcher.compiled.tables.timer_gap)) + 16
        space = grow_list(space, "heap", int(space.control[HEAP]) + timers)
        space = grow_ring(space, len(keys) + 16)
        slots, rows = np.zeros(len(events), np.int64), np.zeros(len(run_rows), np.int64)
        kernels(transfer).import_keys(
            matcher.compiled.tables, space, keys, instance_rows, run_rows, node_rows, np.ascontiguousarray(events),
            slots, rows, watermark,
        )  # fmt: skip
        matcher.space = space
        matcher.store.reserve(len(space.slots))
        return slots, rows

    def _put_columns(
        self, slots: Ints, how: Translation, cells: Ints, null: npt.NDArray[np.uint8], texts: Strings
    ) -> None:
        stored = {name: number for number, (name, _, _) in enumerate(how.stored.columns)}
        store = self._matcher.store
        for name, type_ in store.types.items():
            number = stored.get(name)
            if number is None:  # a column that was not kept then
                store.put(slots, name, Vector.of(type_, [None] * len(slots)))
                continue
            missing = null[:, number] != 0
            valid = ~missing if missing.any() else None
            if kind_of(type_) == TEXT:
                own = Strings(texts.data, texts.start[:, number].copy(), texts.length[:, number].copy())
                store.put(slots, name, _from_texts(type_, own, valid))
            else:
                store.put(slots, name, Vector(type_, _from_numbers(type_, cells[:, number]), valid))

    def _put_registers(
        self, rows: Ints, instance_rows: Ints, cells: Ints, null: npt.NDArray[np.uint8], texts: Strings
    ) -> None:
        held = self._matcher.space.registers
        width = min(cells.shape[1], held.ints.shape[1])
        for own, register in self._text_registers(instance_rows):
            if not own.any():
                continue  # a pattern that was not there when the records were written may have more registers
            strings = Strings(texts.data, texts.start[own, register].copy(), texts.length[own, register].copy())
            cells[own, register] = self._texts.intern(strings, null[own, register] == 0)
        held.ints[rows, :width] = cells[:, :width]
        held.null[rows, :width] = null[:, :width]


class _Texts:
    """Gathers texts in one buffer."""

    def __init__(self) -> None:
        self._parts: list[npt.NDArray[np.uint8]] = []
        self._size = 0

    def add(self, texts: Strings) -> tuple[Ints, Ints]:
        """Where they are, once joined: starts and lengths."""
        own = gather(texts)
        self._parts.append(own.data)
        start = own.start + self._size
        self._size += len(own.data)
        return start, own.length.astype(np.int64)

    def joined(self) -> npt.NDArray[np.uint8]:
        return np.concatenate([*self._parts, np.zeros(1, np.uint8)])


def deadlines(values: Blobs) -> tuple[Ints, Ints]:
    """Of each record, when something is due, and after which time it means nothing any more; NEVER: at no time."""
    due, end = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    data = values.data if len(values.data) else np.zeros(1, np.uint8)
    kernels(record_kernel).read_deadlines(data, values.offset, due, end)
    return due, end


def tally(values: Blobs, open_runs: Ints) -> None:
    """Add to `open_runs` int64[patterns] how many partial matches of each pattern the records hold."""
    data = values.data if len(values.data) else np.zeros(1, np.uint8)
    kernels(record_kernel).tally(data, values.offset, open_runs)


def _in_use(table: Ints, left: Any) -> int:
    return len(table) - int(left)


def _grids(rows: int, columns: int) -> tuple[Ints, npt.NDArray[np.uint8], Ints, Ints]:
    """Cells, nulls, and starts and lengths of texts."""
    shape = (rows, columns)
    return np.zeros(shape, np.int64), np.zeros(shape, np.uint8), np.zeros(shape, np.int64), np.zeros(shape, np.int64)


def _sizes(ends: Ints, event_texts: Ints, register_texts: Ints, columns: int) -> Ints:
    """At most how many bytes the record of each key takes. int64[keys]"""
    rows = np.diff(ends, axis=0, prepend=0)
    width = register_texts.shape[1]
    sizes = 80 + rows @ np.array(
        [4 * _NUMBER_BYTES, (5 + width) * _NUMBER_BYTES, 3 * _NUMBER_BYTES, (2 + columns) * _NUMBER_BYTES]
    )
    for column, texts in ((EVENTS, event_texts), (RUNS, register_texts)):
        whole = np.concatenate([np.zeros(1, np.int64), np.cumsum(texts.sum(axis=1))])
        # a text's length takes as much as a number's value; its bytes come on top
        sizes += np.diff(whole[ends[:, column]], prepend=0) + rows[:, column] * texts.shape[1]
    return np.asarray(sizes, np.int64)


def _texts_in(text: npt.NDArray[np.uint8], start: Ints, length: Ints) -> Strings:
    """A grid of texts; its columns are text columns."""
    return Strings(text, start, length.astype(np.int32))


def _without_dropped(node_rows: Ints, run_rows: Ints) -> tuple[Ints, Any]:
    """The nodes of patterns that are still there, and the rows of the events that these need; runs point to them."""
    kept = node_rows[:, 1] >= 0
    new_node = np.cumsum(kept) - 1
    nodes = node_rows[kept]
    nodes[:, 0] = np.where(nodes[:, 0] < 0, -1, new_node[nodes[:, 0]])
    run_rows[:, 4] = new_node[run_rows[:, 4]]
    events, nodes[:, 2] = np.unique(nodes[:, 2], return_inverse=True)
    return nodes, events


def _as_texts(vector: Vector) -> Strings:
    if isinstance(vector.values, Strings):
        return vector.values
    values = vector.to_list()
    encoded = [b"" if value is None else msgspec.msgpack.encode(value) for value in values]
    length = np.fromiter(map(len, encoded), np.int32, len(encoded))
    start = np.cumsum(length, dtype=np.int64) - length
    return Strings(np.frombuffer(b"".join(encoded) or b"\0", np.uint8), start, length)


def _from_texts(type_: DataType, texts: Strings, valid: npt.NDArray[np.bool_] | None) -> Vector:
    if type_ == STRING:
        return Vector(type_, texts, valid)
    data = texts.data.tobytes()
    held = np.empty(len(texts), object)
    bounds = zip(texts.start.tolist(), texts.length.tolist(), strict=True)
    for row, (at, size) in enumerate(bounds):
        held[row] = msgspec.msgpack.decode(data[at : at + size]) if size else None
    return Vector(type_, held, valid)


def _as_numbers(values: Any) -> Ints:
    if values.dtype == np.float64:
        return np.ascontiguousarray(values).view(np.int64)
    return np.asarray(values, np.int64)


def _from_numbers(type_: DataType, cells: Ints) -> Any:
    dtype = physical_dtype(type_)
    if dtype == np.float64:
        return np.ascontiguousarray(cells).view(np.float64)
    return cells.astype(dtype)


def describe(header: bytes, key: bytes, value: bytes) -> Mapping[str, Any]:
    """One key's record, for people to read: its key, and of each partial match how far it has got and its events."""
    from ostinato.cep.nfa.description import describe_record

    return describe_record(Header.decode(header), key, value)
