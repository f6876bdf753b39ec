"""CSV to batches: RFC 4180, with the delimiter, the quote, the header and the text of nulls to be chosen."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, BoolArray, IntArray, Strings
from ostinato.cep.connectors import cells_kernel
from ostinato.cep.connectors.base import BadRecord, Chunk, ConnectorError, SourceError
from ostinato.cep.connectors.cells import bytes_above_ascii, to_vector
from ostinato.cep.connectors.columns import Extra, Schema, bad_record
from ostinato.cep.jit import kernels
from ostinato.cep.strings import equals
from ostinato.patterns.ast import Stream
from ostinato.patterns.errors import did_you_mean


class CsvLines:
    """Decodes delimited text. A cell that is empty or `null`, and not quoted, is NULL."""

    def __init__(
        self,
        stream: Stream,
        columns: frozenset[str] | None = None,
        *,
        delimiter: str = ",",
        quote: str = '"',
        null: str = "",
        year: int | None = None,
    ) -> None:
        """`quote` empty: there are no quotes. Where chunks have no header, cells are the columns as declared."""
        if len(delimiter.encode()) != 1 or len(quote.encode()) > 1 or delimiter in ("\n", "\r", quote):
            raise ConnectorError("the delimiter and the quote of a CSV file must be different single ASCII characters")
        self._schema = Schema(stream, columns, year=year)
        self._delimiter, self._quote, self._null = delimiter, quote, null
        self._headers: dict[bytes | None, IntArray] = {}
        self._record_bytes = 32.0

    def decode(self, chunk: Chunk) -> tuple[Batch, list[BadRecord]]:
        slots = self._headers.get(chunk.header)
        if slots is None:
            slots = self._headers[chunk.header] = self._slots(chunk)
        needs = self._schema.needs
        table, rows = self._split(chunk, slots)
        extra = Extra(chunk.data)
        for slot in range(len(needs)):
            self._unquote(table, slot, rows, extra)
        data = extra.buffer()
        ascii_only = not bytes_above_ascii(data)
        counts = table.cells[:rows]
        wrong = {
            row: "a quote in the wrong place"
            if counts[row] < 0
            else f"expected {len(slots)} cells, found {int(counts[row])}"
            for row in np.flatnonzero(counts != len(slots)).tolist()
        }
        columns = {}
        for slot, need in enumerate(needs):
            strings = Strings(data, table.start[slot, :rows], table.length[slot, :rows])
            valid = self._valid(strings, table.form[slot, :rows])
            columns[need.name], problems = to_vector(need, strings, valid, ascii_only=ascii_only)
            wrong = problems | wrong
        batch, wrong = self._schema.assemble(columns, rows, wrong)
        bad = list(chunk.rejected)
        bad += [
            bad_record(chunk, int(table.begins[row]), int(table.ends[row]), reason) for row, reason in wrong.items()
        ]
        return batch, bad

    def _split(self, chunk: Chunk, slots: IntArray) -> tuple[_Table, int]:
        room = int(chunk.size / self._record_bytes * 1.05) + 16
        table, at, row = _Table(len(self._schema.needs), room), 0, 0
        kernel = kernels(cells_kernel).split_csv
        quote = ord(self._quote) if self._quote else 0
        while True:
            at, row = kernel(
                chunk.data, at, chunk.size, row, ord(self._delimiter), quote, slots,
                table.start, table.length, table.form, table.begins, table.ends, table.cells,
            )  # fmt: skip
            if at >= chunk.size:
                break
            table = table.larger(row)
        if row:
            self._record_bytes = max(2.0, 0.98 * chunk.size / row)
        return table, row

    def _unquote(self, table: _Table, slot: int, rows: int, extra: Extra) -> None:
        """Put the text of cells with doubled quotes behind the chunk."""
        quote = self._quote.encode()
        for row in np.flatnonzero(table.form[slot, :rows] == cells_kernel.DOUBLED).tolist():
            begin = int(table.start[slot, row])
            raw = extra.data[begin : begin + int(table.length[slot, row])].tobytes()
            table.start[slot, row], table.length[slot, row] = extra.add_bytes(raw.replace(quote * 2, quote))

    def _valid(self, strings: Strings, form: Any) -> BoolArray:
        valid: BoolArray = (form != cells_kernel.PLAIN) | (strings.length > 0)
        if self._null:
            valid &= ~(equals(strings, self._null) & (form == cells_kernel.PLAIN))
        return valid

    def _slots(self, chunk: Chunk) -> IntArray:
        """Which needed column each cell is, -1 for none."""
        needs = self._schema.needs
        if chunk.header is None:
            names = [column.name for column in self._schema.stream.columns]
            wanted = [need.name for need in needs]
        else:
            text = chunk.header.decode("utf-8", "replace")
            quoting: Any = {"quotechar": self._quote} if self._quote else {"quoting": csv.QUOTE_NONE}
            names = next(iter(csv.reader([text], delimiter=self._delimiter, **quoting)), [])
            wanted = [".".join(need.path) for need in needs]
        slots = np.full(len(names), -1, np.int64)
        for slot, name in enumerate(wanted):
            if name not in names:
                hint = did_you_mean(name, names) or f"it has {', '.join(names)}"
                raise SourceError(f"cannot read {chunk.source}: its header has no column {name!r}; {hint}")
            slots[names.index(name)] = slot
        return slots


class _Table:
    """Where the cells of the needed columns are: a row of each array for each column."""

    def __init__(self, columns: int, room: int) -> None:
        self.start = np.empty((columns, room), np.int64)
        self.length = np.empty((columns, room), np.int32)
        self.form = np.empty((columns, room), np.uint8)
        self.begins = np.empty(room, np.int64)
        self.ends = np.empty(room, np.int64)
        self.cells = np.empty(room, np.int64)

    def larger(self, rows: int) -> _Table:
        """Twice the room, with what is in the first `rows` rows."""
        made = _Table(len(self.start), 2 * len(self.begins))
        for name in ("start", "length", "form", "begins", "ends", "cells"):
            getattr(made, name)[..., :rows] = getattr(self, name)[..., :rows]
        return made
