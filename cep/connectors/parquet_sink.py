"""Writing batches to a Parquet file, which appears under its name when it is whole."""

from __future__ import annotations

import contextlib
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.connectors.base import SinkError, advice
from ostinato.cep.strings import gather
from ostinato.patterns.types import BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, Array, DataType, Decimal, Row

GROUP_ROWS = 1 << 16
"""Rows that are gathered for one row group."""


class ParquetSink:
    """Gathers rows into row groups. Until `close` the file has the ending ``.part``: without its end it is none."""

    def __init__(self, path: str) -> None:
        if not Path(path).parent.is_dir():
            raise SinkError(f"cannot write {path}: there is no folder {Path(path).parent}; make it first")
        self._path = path
        self._part = path + ".part"
        self._writer: Any = None
        self._tables: list[Any] = []
        self._rows = 0
        self._failed = False
        self._closed = False

    def write(self, batch: Batch) -> None:
        if not batch.columns:
            return
        self._tables.append(table_of(batch))
        self._rows += len(batch)
        if self._rows >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._tables or self._failed:
            return
        table = pyarrow.concat_tables(self._tables)
        self._tables, self._rows = [], 0
        try:
            if self._writer is None:
                self._writer = pyarrow.parquet.ParquetWriter(self._part, table.schema, compression="zstd")
            self._writer.write_table(table)
        except OSError as error:
            self._give_up()
            raise SinkError(f"cannot write {self._path}: {advice(error)}") from error

    def _give_up(self) -> None:
        self._failed = True
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(OSError):
            Path(self._part).unlink()

    def flush(self) -> None:
        """Do nothing: rows of a Parquet file can be read only when it is whole."""

    def close(self) -> None:
        if self._closed or self._failed:
            return
        self._closed = True
        self._write_group()
        if self._writer is None:
            return
        try:
            self._writer.close()
            Path(self._part).replace(self._path)
        except OSError as error:
            self._give_up()
            raise SinkError(f"cannot write {self._path}: {advice(error)}") from error


def table_of(batch: Batch) -> Any:
    """A batch as an Arrow table."""
    import pyarrow

    fields = [pyarrow.field(name, arrow_type(column.type)) for name, column in batch.columns.items()]
    arrays = [to_arrow(column) for column in batch.columns.values()]
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))


def arrow_type(type_: DataType) -> Any:
    """Arrow's type for one of ours; INTERVAL is a number of milliseconds."""
    import pyarrow

    if isinstance(type_, Decimal):
        return pyarrow.decimal128(type_.precision, type_.scale)
    if isinstance(type_, Array):
        return pyarrow.list_(arrow_type(type_.element))
    if isinstance(type_, Row):
        return pyarrow.struct([(name, arrow_type(of)) for name, of in type_.fields])
    if type_ == STRING:
        return pyarrow.string()
    if type_ == DOUBLE:
        return pyarrow.float64()
    if type_ == BOOLEAN:
        return pyarrow.bool_()
    if type_ == TIMESTAMP:
        return pyarrow.timestamp("ms", "UTC")
    if type_ == DATE:
        return pyarrow.date32()
    return pyarrow.int64()


def to_arrow(vector: Vector) -> Any:
    """A column as an Arrow array."""
    import pyarrow
    import pyarrow.compute

    type_, null = arrow_type(vector.type), None if vector.valid is None else ~vector.valid
    if vector.type == STRING:
        texts = gather(vector.strings)
        if len(texts.data) >= 2**31:
            raise SinkError("more than 2 GiB of text in one batch cannot be written to Parquet")
        offsets = np.append(texts.start, len(texts.data)).astype(np.int32)
        held = pyarrow.StringArray.from_buffers(len(texts), pyarrow.py_buffer(offsets), pyarrow.py_buffer(texts.data))
        return held if null is None else pyarrow.compute.if_else(pyarrow.array(vector.valid), held, None)
    values = vector.array
    if isinstance(vector.type, (Decimal, Array, Row)):
        return pyarrow.array([_python(value, vector.type) for value in vector.to_list()], type_)
    if vector.type == DATE:
        values = values.astype(np.int32)
    if vector.type in (DATE, TIMESTAMP):
        whole = pyarrow.int32() if vector.type == DATE else pyarrow.int64()
        return pyarrow.array(values, whole, mask=null).cast(type_)
    return pyarrow.array(values, type_, mask=null)


def _python(value: Any, type_: DataType) -> Any:
    """A physical value as pyarrow takes it."""
    if value is None:
        return None
    if isinstance(type_, Decimal):
        return Number(value).scaleb(-type_.scale)
    if isinstance(type_, Array):
        return [_python(item, type_.element) for item in value]
    if isinstance(type_, Row):
        return {name: _python(value.get(name), of) for name, of in type_.fields}
    return value
