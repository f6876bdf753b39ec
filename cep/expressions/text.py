"""Functions of texts on single values, and what texts other types are written as."""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ostinato.cep.expressions import dates
from ostinato.cep.expressions.arithmetic import MAX_BIGINT, MIN_BIGINT
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

_TRUE = {"true", "t", "yes", "y", "1"}
_FALSE = {"false", "f", "no", "n", "0"}
_WHOLE = re.compile(r"[+-]?[0-9]{1,25}\Z")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?\Z")
_SPECIAL = {"nan": math.nan, "infinity": math.inf, "+infinity": math.inf, "-infinity": -math.inf}
_EPOCH = datetime.datetime(1970, 1, 1)
_MS = datetime.timedelta(milliseconds=1)


def order(text: str) -> bytes:
    """What texts are ordered by: their UTF-16 code units, as in Java."""
    return text.encode("utf-16-be", "surrogatepass")


@lru_cache(maxsize=1024)
def like_expression(pattern: str, escape: str | None) -> re.Pattern[str]:
    """The regular expression of a LIKE pattern: ``%`` any text, ``_`` any character."""
    parts = []
    at = 0
    while at < len(pattern):
        symbol = pattern[at]
        if symbol == escape and at + 1 < len(pattern):
            at += 1
            parts.append(re.escape(pattern[at]))
        else:
            parts.append(".*" if symbol == "%" else "." if symbol == "_" else re.escape(symbol))
        at += 1
    return re.compile("".join(parts), re.DOTALL)


@lru_cache(maxsize=1024)
def regular_expression(pattern: str) -> re.Pattern[str] | None:
    """The compiled expression, None where it is none."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


def like(text: str, pattern: str, escape: str | None = None) -> bool:
    return like_expression(pattern, escape).fullmatch(text) is not None


def regexp(text: str, pattern: str) -> bool | None:
    """Is the expression found anywhere in the text? NULL if it is no regular expression."""
    compiled = regular_expression(pattern)
    return None if compiled is None else compiled.search(text) is not None


def regexp_extract(text: str, pattern: str, group: int = 0) -> str | None:
    """What a group of the first place found holds; NULL if nothing is found or there is no such group."""
    compiled = regular_expression(pattern)
    found = compiled.search(text) if compiled is not None else None
    if found is None or not 0 <= group <= found.re.groups:
        return None
    held: str | None = found.group(group)
    return held


def substring(text: str, start: int, length: int | None = None) -> str | None:
    """From character `start` (1 is the first, -1 the last), as Flink's SUBSTRING; NULL for a negative length."""
    if length is not None and length < 0:
        return None
    begin = start - 1 if start > 0 else len(text) + start if start < 0 else 0
    if begin < 0:
        return ""
    return text[begin:] if length is None else text[begin : begin + length]


def replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new) if old else text


def to_text(value: Any, type_: DataType) -> str:
    """How CAST writes a physical value."""
    if type_ == STRING:
        return str(value)
    if type_ == BOOLEAN:
        return "TRUE" if value else "FALSE"
    if isinstance(type_, Decimal):
        return f"{decimal.Decimal(value).scaleb(-type_.scale):f}"
    if type_ == DATE:
        return _date_text(value)
    if type_ == TIMESTAMP:
        return f"{_date_text(value // dates.DAY_MS)} {_clock_text(value % dates.DAY_MS)}"
    if type_ == INTERVAL:
        size = abs(value)
        return f"{'-' if value < 0 else '+'}{size // dates.DAY_MS} {_clock_text(size % dates.DAY_MS)}"
    if isinstance(type_, Array):
        return "[" + ", ".join(_item_text(item, type_.element) for item in value) + "]"
    if isinstance(type_, Row):
        return "(" + ", ".join(_item_text(value.get(name), field) for name, field in type_.fields) + ")"
    return str(value)


def _item_text(value: Any, type_: DataType) -> str:
    return "NULL" if value is None else to_text(value, type_)


def _date_text(days: int) -> str:
    return f"{dates.year(days):04d}-{dates.month(days):02d}-{dates.day(days):02d}"


def _clock_text(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def from_text(text: str, type_: DataType) -> Any:
    """The physical value that CAST reads from a text; None where it is none of the type."""
    text = text.strip()
    if type_ == BOOLEAN:
        lower = text.lower()
        return True if lower in _TRUE else False if lower in _FALSE else None
    if type_ in (BIGINT, INTERVAL):
        value = int(text) if _WHOLE.match(text) else None
        return value if value is not None and MIN_BIGINT <= value <= MAX_BIGINT else None
    if type_ == DOUBLE:
        return float(text) if _NUMBER.match(text) else _SPECIAL.get(text.lower())
    if isinstance(type_, Decimal):
        return _decimal_from_text(text, type_)
    try:
        if type_ == TIMESTAMP:
            return _milliseconds(datetime.datetime.fromisoformat(text))
        if type_ == DATE:
            return datetime.date.fromisoformat(text).toordinal() - _EPOCH.toordinal()
    except ValueError:
        return None
    raise ValueError(f"no text can be cast to {type_}")


def _decimal_from_text(text: str, type_: Decimal) -> int | None:
    if not _NUMBER.match(text):
        return None
    with decimal.localcontext(prec=60):
        value = decimal.Decimal(text)
        if value and value.adjusted() > type_.precision:
            return None
        unscaled = int(value.scaleb(type_.scale).to_integral_value(decimal.ROUND_HALF_UP))
    return unscaled if abs(unscaled) < 10**type_.precision else None


def _milliseconds(time: datetime.datetime) -> int:
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return (time - _EPOCH) // _MS


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "like": like,
    "regexp": regexp,
    "regexp_extract": regexp_extract,
    "lower": str.lower,
    "upper": str.upper,
    "trim": lambda text, characters=" ": text.strip(characters),
    "ltrim": lambda text, characters=" ": text.lstrip(characters),
    "rtrim": lambda text, characters=" ": text.rstrip(characters),
    "substring": substring,
    "concat": lambda *texts: "".join(texts),
    "char_length": len,
    "position": lambda needle, text: text.find(needle) + 1,
    "replace": replace,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "text_lt": lambda left, right: order(left) < order(right),
    "text_le": lambda left, right: order(left) <= order(right),
    "text_greatest": lambda left, right: right if order(right) > order(left) else left,
    "text_least": lambda left, right: right if order(right) < order(left) else left,
}
"""The core functions of texts that are NULL where an argument is, on values that are not."""
