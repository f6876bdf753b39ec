"""The unit on every edge of a job graph: a columnar batch of events, or a control message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, DataType, Decimal

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
AnyArray: TypeAlias = npt.NDArray[Any]

MIN_TIME = -(2**62)
"""The watermark before anything was seen, in milliseconds."""
MAX_TIME = 2**62
"""The watermark at the end of input: every timer fires."""


def physical_dtype(type_: DataType) -> np.dtype[Any]:
    """How values of a type are held: BIGINT, TIMESTAMP, INTERVAL (ms), DATE (days) and DECIMAL (unscaled) as
    int64, DOUBLE as float64, BOOLEAN as bool, ARRAY and ROW as Python lists and dicts."""
    if type_ == BOOLEAN:
        return np.dtype(np.bool_)
    if type_ == DOUBLE:
        return np.dtype(np.float64)
    if type_ in (BIGINT, TIMESTAMP, DATE, INTERVAL) or isinstance(type_, Decimal):
        return np.dtype(np.int64)
    return np.dtype(object)


@dataclass(slots=True)
class Strings:
    """Text as views into a buffer: string i is ``data[start[i] : start[i] + length[i]]``, UTF-8.

    Several columns share one buffer (the chunk that was read), so that no byte is copied while decoding.
    """

    data: npt.NDArray[np.uint8]
    start: npt.NDArray[np.int64]
    length: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.start)

    @staticmethod
    def of(values: Iterable[str | None]) -> Strings:
        encoded = [value.encode("utf-8", "surrogatepass") if value else b"" for value in values]
        length = np.fromiter((len(value) for value in encoded), np.int32, len(encoded))
        start = np.zeros(len(encoded), np.int64)
        if len(encoded) > 1:
            np.cumsum(length[:-1], out=start[1:])
        return Strings(np.frombuffer(b"".join(encoded), np.uint8), start, length)

    def take(self, rows: AnyArray) -> Strings:
        return Strings(self.data, self.start[rows], self.length[rows])

    def compact(self) -> Strings:
        """The same strings in a buffer of their own, so that the chunk they came in can be freed."""
        from ostinato.cep.strings import gather

        return gather(self)

    def to_list(self) -> list[str]:
        data = self.data.tobytes() if self.data.size < 1 << 16 else self.data.data
        decode = str
        return [
            decode(data[begin : begin + size], "utf-8", "surrogatepass")
            for begin, size in zip(self.start.tolist(), self.length.tolist(), strict=True)
        ]


@dataclass(slots=True)
class Vector:
    """One column: values of a type, and which of them are not null (`valid` None: all).

    `values` is a numpy array of `physical_dtype(type)`, or `Strings` for STRING. Where `valid` is False the
    value is zero, empty or None, never garbage.
    """

    type: DataType
    values: AnyArray | Strings
    valid: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def array(self) -> AnyArray:
        """The values of a column that is not text."""
        assert not isinstance(self.values, Strings), "a text column has no array"
        return self.values

    @property
    def strings(self) -> Strings:
        """The values of a text column."""
        assert isinstance(self.values, Strings), f"a {self.type} column is not text"
        return self.values

    @staticmethod
    def of(type_: DataType, values: Sequence[Any]) -> Vector:
        """A column from Python values in their physical form (text as str); None is null."""
        valid = np.fromiter((value is not None for value in values), np.bool_, len(values))
        mask = None if valid.all() else valid
        if type_ == STRING:
            return Vector(type_, Strings.of(values), mask)
        dtype = physical_dtype(type_)
        if dtype.hasobject:
            held = np.empty(len(values), object)
            held[:] = values
            return Vector(type_, held, mask)
        return Vector(type_, np.array([0 if value is None else value for value in values], dtype), mask)

    def take(self, rows: AnyArray) -> Vector:
        """The given rows, by position or by a mask."""
        values = self.values.take(rows) if isinstance(self.values, Strings) else self.values[rows]
        return Vector(self.type, values, None if self.valid is None else self.valid[rows])

    def to_list(self) -> list[Any]:
        """Python values in their physical form, None where null."""
        values = self.values.to_list() if isinstance(self.values, Strings) else self.values.tolist()
        if self.valid is None:
            return values
        return [value if ok else None for value, ok in zip(values, self.valid.tolist(), strict=True)]


def concat_vectors(parts: Sequence[Vector]) -> Vector:
    """The parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    type_ = parts[0].type
    valid = None
    if any(part.valid is not None for part in parts):
        valid = np.concatenate([np.ones(len(part), np.bool_) if part.valid is None else part.valid for part in parts])
    if not isinstance(parts[0].values, Strings):
        return Vector(type_, np.concatenate([part.array for part in parts]), valid)
    offset = 0
    starts = []
    for part in parts:
        starts.append(part.strings.start + offset)
        offset += len(part.strings.data)
    return Vector(
        type_,
        Strings(
            np.concatenate([part.strings.data for part in parts]),
            np.concatenate(starts),
            np.concatenate([part.strings.length for part in parts]),
        ),
        valid,
    )


@dataclass(slots=True)
class Batch:
    """Events of one stream: `time` in epoch milliseconds and the columns, all of one length.

    `stream` names the stream. Rows are in order of arrival; they are not sorted by time. `makers` int64[rows]: what
    made each row, as a position in `Pipeline.makers`, where the job is to know that (`Definition.attributed`).
    """

    stream: str
    time: IntArray
    columns: Mapping[str, Vector]
    makers: IntArray | None = None

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: AnyArray) -> Batch:
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return Batch(self.stream, self.time[rows], columns, None if self.makers is None else self.makers[rows])

    def row(self, index: int) -> dict[str, Any]:
        """One event as a dict of physical Python values."""
        at = slice(index, index + 1)
        return {name: column.take(at).to_list()[0] for name, column in self.columns.items()}  # type: ignore[arg-type]


def concat_batches(parts: Sequence[Batch]) -> Batch:
    """The batches of one stream, one after the other. Who made the rows is known where it is of all parts."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    makers = [part.makers for part in parts if part.makers is not None]
    return Batch(
        first.stream,
        np.concatenate([part.time for part in parts]),
        {name: concat_vectors([part.columns[name] for part in parts]) for name in first.columns},
        np.concatenate(makers) if len(makers) == len(parts) else None,
    )


@dataclass(frozen=True, slots=True)
class Watermark:
    """No event with a time at or before `time` will come any more (save late ones)."""

    time: int


@dataclass(frozen=True, slots=True)
class Clock:
    """The job's clock has come to `now` (epoch ms). Sent only where somebody goes by it."""

    now: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """Everything before it belongs to checkpoint `id`, nothing after it does."""

    id: int


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Nothing comes any more; it follows a watermark of MAX_TIME."""


Message: TypeAlias = Batch | Watermark | Clock | Barrier | EndOfInput
