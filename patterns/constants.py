"""Python constants as literals of the language."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from enum import Enum
from typing import Any

from ostinato.patterns.ast import Literal
from ostinato.patterns.literals import BIGINT_MAX, BIGINT_MIN, EPOCH, natural_decimal, to_millis
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    MAX_DECIMAL_PRECISION,
    NULL,
    STRING,
    TIMESTAMP,
)


def literal_of(value: Any) -> Literal | None:
    """The literal for a Python constant, or None where the language has no such constant.

    Members of an enumeration stand for their values where they are a str, int or float themselves. A naive
    datetime is taken as UTC.

    >>> literal_of(3), literal_of("x").type
    (Literal(value=3, type=Scalar(name='BIGINT'), span=None), Scalar(name='STRING'))
    """
    if isinstance(value, Enum):
        if not isinstance(value, (str, int, float)):
            return None
        value = value.value
    if value is None:
        return Literal(None, NULL)
    if isinstance(value, bool):
        return Literal(value, BOOLEAN)
    if isinstance(value, int):
        return Literal(int(value), BIGINT) if BIGINT_MIN <= value <= BIGINT_MAX else None
    if isinstance(value, float):
        return Literal(float(value), DOUBLE) if math.isfinite(value) else None
    if isinstance(value, str):
        return Literal("".join(value), STRING)
    if isinstance(value, Decimal):
        if not value.is_finite() or natural_decimal(value).precision > MAX_DECIMAL_PRECISION:
            return None
        return Literal(value, natural_decimal(value))
    if isinstance(value, dt.datetime):
        return Literal(to_millis(value), TIMESTAMP)
    if isinstance(value, dt.date):
        return Literal(value.toordinal() - EPOCH.toordinal(), DATE)
    if isinstance(value, dt.timedelta):
        return Literal(value // dt.timedelta(milliseconds=1), INTERVAL)
    return None
