"""Columns of text to typed columns: what CSV, text lines and texts in Parquet have in common."""

from __future__ import annotations

import math
from decimal import Decimal as Number
from typing import Any

import numpy as np

from ostinato.cep.batch import AnyArray, BoolArray, Strings, Vector
from ostinato.cep.connectors import cells_kernel, json_kernel
from ostinato.cep.connectors.base import SLACK, Bytes
from ostinato.cep.connectors.columns import Need
from ostinato.cep.connectors.timestamps import TimeParser, parse_dates
from ostinato.cep.connectors.values import NUMBER, BadValue, show
from ostinato.cep.jit import kernels
from ostinato.cep.strings import equals, parts
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, Decimal

_ISO = TimeParser("iso")
_TRUE = frozenset(["true", "t", "yes", "1"])
_FALSE = frozenset(["false", "f", "no", "0"])


def padded(strings: Strings) -> Strings:
    """The same texts in a buffer with room behind it, as kernels need that read whole words."""
    data = np.zeros(len(strings.data) + SLACK, np.uint8)
    data[: len(strings.data)] = strings.data
    return Strings(data, strings.start, strings.length)


def to_vector(need: Need, strings: Strings, valid: BoolArray, *, ascii_only: bool) -> tuple[Vector, dict[int, str]]:
    """The typed column, and for each row that cannot be one what is wrong.

    `valid` says which texts are not null, `ascii_only` that none has a byte above 127. Kernels read up to 16 bytes
    behind the last text.
    """
    type_ = need.field.type
    wrong: dict[int, str] = {}
    if need.role:
        missing = f"column {need.name}: the {need.role} is missing or null"
        wrong = dict.fromkeys(np.flatnonzero(~valid).tolist(), missing)
    if not ascii_only:
        good = utf8(strings)
        for row in np.flatnonzero(~good & valid).tolist():
            wrong[row] = f"column {need.name}: invalid UTF-8"
        valid = valid & good
    mask = None if valid.all() else valid
    if type_ == STRING:
        return Vector(type_, _empty_where(strings, mask), mask), wrong
    values, done = _quick(need, strings, valid)
    for row in np.flatnonzero(~done).tolist():
        text = strings.take(np.array([row])).to_list()[0]
        try:
            values[row] = from_text(need, text)
        except BadValue as error:
            wrong[row] = f"column {need.name}: {error}"
    return Vector(type_, values, mask), wrong


def utf8(strings: Strings) -> BoolArray:
    """Which texts are valid UTF-8? bool[rows]"""
    ok = np.empty(len(strings), np.bool_)
    kernels(cells_kernel).check_utf8(*parts(strings), ok)
    return ok


def _empty_where(strings: Strings, valid: BoolArray | None) -> Strings:
    if valid is None:
        return strings
    return Strings(strings.data, np.where(valid, strings.start, 0), np.where(valid, strings.length, np.int32(0)))


def _quick(need: Need, strings: Strings, valid: BoolArray) -> tuple[AnyArray, BoolArray]:
    """What kernels can make of the texts, and in which rows they could (nulls among them)."""
    type_, rows = need.field.type, len(strings)
    if type_ == BOOLEAN:
        true, false = equals(strings, "true") & valid, equals(strings, "false")
        return true, true | false | ~valid
    if type_ == DATE or (type_ == TIMESTAMP and (need.times is None or need.times.power is None)):
        values, done = parse_dates(strings) if type_ == DATE else (need.times or _ISO).parse(strings)
        values[~valid] = 0
        return values, done | ~valid
    kinds: dict[Any, int] = {
        BIGINT: json_kernel.BIGINT,
        INTERVAL: json_kernel.BIGINT,
        DOUBLE: json_kernel.DOUBLE,
        TIMESTAMP: json_kernel.EPOCH,
    }
    kind = json_kernel.DECIMAL if isinstance(type_, Decimal) else kinds.get(type_, -1)
    if kind < 0:
        return np.full(rows, None, object), ~valid
    parameter = type_.scale if isinstance(type_, Decimal) else need.times.power if need.times is not None else 0
    precision = type_.precision if isinstance(type_, Decimal) else 0
    ints, done = np.empty(rows, np.int64), np.empty(rows, np.bool_)
    floats = ints.view(np.float64)
    with np.errstate(over="ignore"):
        kernels(cells_kernel).parse_numbers(*parts(strings), valid, kind, parameter or 0, precision, ints, floats, done)
    return (floats if type_ == DOUBLE else ints), done


def from_text(need: Need, text: str) -> Any:
    """One text, not null, as a value of the column; the exact way. Raises BadValue."""
    type_ = need.field.type
    stripped = text.strip()
    if type_ == BOOLEAN:
        word = stripped.lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise BadValue(f"expected BOOLEAN, found {show(text)}")
    if type_ == DATE or type_ == STRING:  # noqa: SIM109
        return need.convert(stripped if type_ == DATE else text)
    if type_ == TIMESTAMP:
        power = 0 if need.times is None else need.times.power
        if power is None or not NUMBER.fullmatch(stripped):
            return need.convert(stripped if need.times is None or power is None else text)
        return need.convert(Number(stripped))
    if type_ in (BIGINT, INTERVAL, DOUBLE) or isinstance(type_, Decimal):
        if not NUMBER.fullmatch(stripped):
            raise BadValue(f"expected {type_}, found {show(text)}")
        try:
            if type_ == DOUBLE and math.isfinite(float(stripped)):
                return float(stripped)
            return need.convert(Number(stripped))
        except BadValue as error:
            raise BadValue(str(error).replace("number ", "text ", 1)) from None
    raise BadValue(f"a column of type {type_} cannot be read from text")


def bytes_above_ascii(data: Bytes) -> bool:
    return bool((data >= 0x80).any())
