"""Single values to the physical form of a column: the exact way, for records that kernels leave.

What is said of a value that does not fit is part of the interface: ``expected DOUBLE, found text "abc"``.
"""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal as Number
from typing import Any, TypeAlias

from ostinato.cep.connectors.json_kernel import MAX_MS, MIN_MS
from ostinato.cep.connectors.timestamps import TimeParser
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

Converter: TypeAlias = Callable[[Any], Any]
"""A value of JSON (numbers with a point may be `decimal.Decimal`), not None, to its physical form."""

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_SHOWN = 60
"""Characters of a wrong value that are shown."""


class BadValue(ValueError):  # noqa: N818 - it is a value, not an error of ours
    """A value that the type of its column cannot hold; the message says what was expected and found."""


def show(value: Any) -> str:
    """What is said of a wrong value: ``text "abc"``, ``number 5``, ``an object``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'text "{value}"' if len(value) <= _SHOWN else f'text "{value[:_SHOWN]}..."'
    if isinstance(value, (int, float, Number)):
        text = str(value)
        return f"number {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}"
    if isinstance(value, (list, tuple)):
        return "an array"
    if isinstance(value, Mapping):
        return "an object"
    return f"a {type(value).__name__}"


def converter(type_: DataType, times: TimeParser | None = None) -> Converter:
    """The conversion to a type; `times` tells how a TIMESTAMP is written (None: ISO 8601 or milliseconds)."""
    if isinstance(type_, Decimal):
        return _to_decimal(type_)
    if isinstance(type_, Array):
        return _to_array(type_)
    if isinstance(type_, Row):
        return _to_row(type_)
    if type_ == TIMESTAMP:
        return _to_timestamp(times)
    return _PLAIN[type_]


def _wrong(expected: object, value: Any) -> BadValue:
    return BadValue(f"expected {expected}, found {show(value)}")


def _to_bigint(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif isinstance(value, (float, Number)) and math.isfinite(value) and value == int(value):
        whole = int(value)
        if abs(whole) >= 2**63:
            raise BadValue(f"{show(value)} is beyond 64 bits")
    else:
        raise _wrong("BIGINT", value)
    if not -(2**63) <= whole < 2**63:
        raise BadValue(f"{show(value)} is beyond 64 bits")
    return whole


def _to_double(value: Any) -> float:
    if isinstance(value, (int, float, Number)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
        raise BadValue(f"expected DOUBLE, found {show(value)}, which is not finite")
    raise _wrong("DOUBLE", value)


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong("BOOLEAN", value)


def _to_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong("STRING", value)


_DATE_PARSER = TimeParser("%Y-%m-%d")
_ISO_PARSER = TimeParser("iso")


def _to_date(value: Any) -> int:
    parsed = _DATE_PARSER.parse_one(value) if isinstance(value, str) else None
    if parsed is None:
        raise _wrong("DATE", value)
    return parsed // 86_400_000


def _to_timestamp(times: TimeParser | None) -> Converter:
    power = 0 if times is None else times.power
    parser = times if times is not None and times.power is None else _ISO_PARSER
    takes_text = times is None or times.power is None
    expected = {3: "TIMESTAMP in seconds", 0: "TIMESTAMP in ms", -3: "TIMESTAMP in us", -6: "TIMESTAMP in ns"}
    if times is None:
        wanted = "TIMESTAMP"
    elif power is None:
        wanted = f"TIMESTAMP as {times.format}"
    else:
        wanted = expected[power]

    def convert(value: Any) -> int:
        if power is not None and isinstance(value, (int, float, Number)) and not isinstance(value, bool):
            return epoch(value, power)
        if takes_text and isinstance(value, str):
            parsed = parser.parse_one(value)
            if parsed is not None:
                return parsed
        raise _wrong(wanted, value)

    return convert


def epoch(value: int | float | Number, power: int) -> int:
    """A number of units of 10^power ms since 1970 as milliseconds, rounded down; floats count as they print."""
    if isinstance(value, int) and abs(value) < 1 << 80:
        found = value * 10**power if power >= 0 else value // 10**-power
        if MIN_MS <= found <= MAX_MS:
            return int(found)
    exact = Number(repr(value)) if isinstance(value, float) else Number(value)
    if not exact.is_finite() or exact.adjusted() + power > 18:
        raise BadValue(f"{show(value)} is not a time between the years 1 and 9999; is the unit right?")
    with decimal.localcontext() as context:
        context.prec = 400
        found = int((exact.scaleb(power)).to_integral_value(decimal.ROUND_FLOOR))
    if not MIN_MS <= found <= MAX_MS:
        raise BadValue(f"{show(value)} is not a time between the years 1 and 9999; is the unit right?")
    return found


def _to_decimal(type_: Decimal) -> Converter:
    def convert(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float, Number, str)):
            raise _wrong(type_, value)
        if isinstance(value, str) and not NUMBER.fullmatch(value):
            raise _wrong(type_, value)
        exact = Number(repr(value)) if isinstance(value, float) else Number(value)
        with decimal.localcontext() as context:
            context.prec = 2000
            scaled = exact.scaleb(type_.scale)
            if abs(scaled) < 10**type_.precision and scaled == scaled.to_integral_value():
                return int(scaled)
        raise BadValue(f"expected {type_}, found {show(value)}, which has too many digits")

    return convert


def _to_array(type_: Array) -> Converter:
    element = converter(type_.element)

    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong(type_, value)
        return [None if item is None else element(item) for item in value]

    return convert


def _to_row(type_: Row) -> Converter:
    fields = [(name, converter(of)) for name, of in type_.fields]

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _wrong(type_, value)
        made = {}
        for name, convert_field in fields:
            item = value.get(name)
            try:
                made[name] = None if item is None else convert_field(item)
            except BadValue as error:
                raise BadValue(f"in field {name}: {error}") from None
        return made

    return convert


_PLAIN: Mapping[DataType, Converter] = {
    BIGINT: _to_bigint,
    INTERVAL: _to_bigint,
    DOUBLE: _to_double,
    BOOLEAN: _to_boolean,
    STRING: _to_string,
    DATE: _to_date,
}
