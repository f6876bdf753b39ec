"""Are records partitioned by what the stream says is its key?

A job of one partition sees all events of a key only if the record's key was made of the stream's. Which bytes are made
of it nobody prescribes; known are the usual ways.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal as Number
from decimal import InvalidOperation
from typing import Any

import numpy as np
import orjson

from ostinato.cep.batch import Batch, IntArray
from ostinato.cep.connectors.kafka import decoding_kernel
from ostinato.cep.connectors.kafka.records import RecordBlock
from ostinato.cep.connectors.render import logical
from ostinato.cep.jit import kernels
from ostinato.cep.strings import parts
from ostinato.patterns.ast import FieldDecl
from ostinato.patterns.types import BIGINT, DOUBLE, INTERVAL, STRING, TIMESTAMP, DataType, Decimal

_SHOWN_BYTES = 60
_REMEDY = (
    "have it written with the key of the stream, or say keying = 'rekey' (it is written anew, to a topic of the job's "
    "own) or keying = 'trust' (records with the same key are in the same partition all the same)"
)


class KeyCheck:
    """Compares keys of records with rows.

    A key may be the text of any one of the stream's key columns: a text as it is or as JSON, a number in decimal. Or it
    is a JSON array of the values of all of them. Who partitions by one of several columns does well, too: events
    that agree in all of them agree in that one.
    """

    def __init__(self, keys: Sequence[FieldDecl]) -> None:
        """`keys`: the stream's key columns, in its order."""
        self._keys = list(keys)

    def wrong(self, block: RecordBlock, records: IntArray, batch: Batch) -> dict[int, str]:
        """The rows whose records have other keys, with what is to be said of each.

        `records`: the record that each row is of, by its number in the block.
        """
        matched = np.zeros(len(records), np.bool_)
        work = kernels(decoding_kernel)
        for field in self._keys:
            column = batch.columns[field.name]
            place = block.data, block.key_begin, block.key_length, records
            if field.type == STRING:
                work.match_texts(*place, *parts(column.strings), matched)
            elif field.type in (BIGINT, INTERVAL):
                work.match_numbers(*place, column.array, matched)
        # nulls have no bytes to be compared, and an empty text is not what they are
        matched &= block.key_length[records] >= 0
        others = np.flatnonzero(~matched)
        values = [batch.columns[field.name].take(others).to_list() for field in self._keys]
        found = {}
        for row, record, *held in zip(others.tolist(), records[others].tolist(), *values, strict=True):
            key = block.key(record)
            if key is None or not self._is_made_of(key, held):
                found[row] = self._reason(key, held)
        return found

    def _reason(self, key: bytes | None, values: list[Any]) -> str:
        named = ", ".join(
            f"{field.name} {_shown(value, field.type)}" for field, value in zip(self._keys, values, strict=True)
        )
        said = "null" if key is None else f'"{key[:_SHOWN_BYTES].decode("utf-8", "replace")}"'
        if key is not None and len(key) > _SHOWN_BYTES:
            said = said[:-1] + '..."'
        return f"the record's key is {said}, which is not made of {named}; {_REMEDY}"

    def _is_made_of(self, key: bytes, values: list[Any]) -> bool:
        types = [field.type for field in self._keys]
        try:
            read = json.loads(key, parse_float=Number)
        except (ValueError, RecursionError):
            read = None
        if isinstance(read, list):
            return len(read) == len(values) and all(map(_same, read, values, types))
        if any(_same(read, value, type_) for value, type_ in zip(values, types, strict=True)):
            return True
        try:
            text = key.decode()
        except UnicodeDecodeError:
            return False
        return any(_same(text, value, type_) for value, type_ in zip(values, types, strict=True))


def _same(read: Any, value: Any, type_: DataType) -> bool:
    """Does what was read from a key stand for a value of a column, given in its physical form?"""
    if isinstance(read, bool) or isinstance(value, bool):
        return read is value or read == str(value).lower()
    if isinstance(type_, Decimal):
        number = _number(read)
        return number is not None and number == Number(value).scaleb(-type_.scale)
    if type_ == DOUBLE:
        number = _number(read)
        return number is not None and float(number) == value
    if type_ == STRING:
        return isinstance(read, str) and read == value
    if isinstance(read, str) and read == logical(value, type_):
        return True
    # TIMESTAMP and INTERVAL in milliseconds, DATE in days
    return (isinstance(read, int) and read == value) or (isinstance(read, str) and read == str(value))


def _number(read: Any) -> Number | None:
    if not isinstance(read, (int, str, Number)):
        return None
    try:
        return Number(read)
    except InvalidOperation:
        return None


def _shown(value: Any, type_: DataType) -> str:
    if type_ == TIMESTAMP or isinstance(type_, Decimal):
        value = logical(value, type_)
    return orjson.dumps(value, default=str).decode()
