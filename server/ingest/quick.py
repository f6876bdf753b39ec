"""Small bodies without the decoder's fixed cost: lines of which it is certain that the decoder takes them.

The decoder's kernel needs tens of microseconds for a call, however little there is to decode. Here msgspec reads a line
as a generated struct in about one. What it says counts only where it says yes to a plain line; everything else is left
to the decoder, which also says what is wrong. So the two can differ in one direction only, which a test looks for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from ostinato.cep.connectors.columns import Need, Schema
from ostinato.cep.connectors.values import BadValue
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, Array, Decimal, Row
from ostinato.state.typed import json_decoder

_PLAIN: Final = re.compile(rb"[ -\[\]-~]*")
"""Printable ASCII without a backslash: nothing that readers of JSON have ever been of two minds about."""
_HUGE: Final = re.compile(rb"[0-9]{40}|[0-9.][eE]\+?[0-9]{3}")
"""What may be a number beyond a double, which some readers refuse even where nobody asks for it."""
_MOST_BRACKETS: Final = 64
"""A line that opens more may be too deep for some readers, or for the stack."""
_SAFE_MS: Final = 1 << 45
"""Epoch milliseconds up to the year 3084; further ones are left to the decoder."""

_Check: TypeAlias = Callable[[Any], bool]


class QuickLines:
    """Takes lines of one stream. Thread-safe."""

    def __init__(self, schema: Schema) -> None:
        """Raises ValueError for a stream with columns that only the decoder can read."""
        fields: list[Any] = []
        names: dict[str, str] = {}
        self._checks: list[tuple[str, _Check]] = []
        for number, need in enumerate(schema.needs):
            if len(need.path) != 1 or need.path[0] in names.values():
                raise ValueError(f"column {need.name} is not a member of the record that is read once")
            name = f"f{number}"
            names[name] = need.path[0]
            read_as, check = _reading(schema, need)
            if need.role:
                fields.append((name, read_as))
            elif read_as is msgspec.Raw:
                fields.append((name, read_as, msgspec.Raw(b"null")))
            else:
                fields.append((name, read_as | None, None))
            if check is not None:
                self._checks.append((name, check))
        made = msgspec.defstruct("Line", fields, rename=names, gc=False)
        self._decoder = json_decoder(made)

    def takes(self, line: bytes) -> bool:
        """Is it certain that the line is a good one?"""
        if _PLAIN.fullmatch(line) is None or _HUGE.search(line) is not None:
            return False
        if line.count(b"[") + line.count(b"{") > _MOST_BRACKETS:
            return False
        try:
            found = self._decoder.decode(line)
        except msgspec.DecodeError:
            return False
        for name, check in self._checks:
            value = getattr(found, name)
            if value is not None and not check(value):
                return False
        return True


def _reading(schema: Schema, need: Need) -> tuple[Any, _Check | None]:
    """As what a column is read, and what must hold besides."""
    type_ = need.field.type
    if isinstance(type_, (Array, Row)):
        raise ValueError(f"column {need.name} has structure")
    if isinstance(type_, Decimal):
        return msgspec.Raw, _decimal_check(type_, may_be_null=not need.role)
    if type_ == TIMESTAMP:
        power = 0 if need.times is None else need.times.power
        if power == 0:
            return int, lambda value: -_SAFE_MS < value < _SAFE_MS
        return (str if power is None else int), _exactly(schema, need)
    if type_ == DATE:
        return str, _exactly(schema, need)
    if type_ == STRING:
        return str, _exactly(schema, need) if need.times is not None else None
    if type_ == DOUBLE:
        return float, _exactly(schema, need) if need.times is not None else math.isfinite
    if type_ == BOOLEAN:
        return bool, None
    if type_ in (BIGINT, INTERVAL):
        if need.times is not None:
            return int, _exactly(schema, need)
        return int, lambda value: -(1 << 63) <= value < 1 << 63
    raise ValueError(f"column {need.name} is of a type that only the decoder can read")


def _exactly(schema: Schema, need: Need) -> _Check:
    def check(value: Any) -> bool:
        try:
            schema.value(need, value)
        except BadValue:
            return False
        return True

    return check


def _decimal_check(type_: Decimal, *, may_be_null: bool) -> _Check:
    """Numbers with few enough digits before and behind the point; texts and exponents are left to the decoder."""
    whole = type_.precision - type_.scale
    before = f"(?:0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    behind = rf"(?:\.[0-9]{{1,{type_.scale}}})?" if type_.scale else ""
    null = "|null" if may_be_null else ""
    plain = re.compile(f"-?{before}{behind}{null}".encode())

    def check(value: Any) -> bool:
        return plain.fullmatch(bytes(value)) is not None

    return check
