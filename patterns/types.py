"""The types of the expression language, and the rules that join them.

They are Flink SQL's: ``BOOLEAN``, ``BIGINT`` (``INT`` is accepted and means the same 64 bits),
``DOUBLE``, ``DECIMAL(p, s)``, ``STRING``, ``TIMESTAMP(3)``, ``DATE``, ``ARRAY<t>`` and
``ROW<name type, ...>``. Every type is nullable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MAX_DECIMAL_PRECISION = 18
"""Digits of a DECIMAL: its unscaled value is held in a 64-bit integer."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A type with nothing more to say than its name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Decimal:
    """Exact numbers of `precision` digits, `scale` of them behind the point."""

    precision: int
    scale: int

    def __str__(self) -> str:
        return f"DECIMAL({self.precision}, {self.scale})"


@dataclass(frozen=True, slots=True)
class Array:
    """A list of values of one type; ``a[1]`` is its first element, as in SQL."""

    element: DataType

    def __str__(self) -> str:
        return f"ARRAY<{self.element}>"


@dataclass(frozen=True, slots=True)
class Row:
    """Named fields; ``r.name`` is one of them."""

    fields: tuple[tuple[str, DataType], ...]

    def __str__(self) -> str:
        return "ROW<" + ", ".join(f"{name} {type_}" for name, type_ in self.fields) + ">"

    def field(self, name: str) -> DataType | None:
        return dict(self.fields).get(name)


DataType: TypeAlias = Scalar | Decimal | Array | Row

BOOLEAN = Scalar("BOOLEAN")
BIGINT = Scalar("BIGINT")
DOUBLE = Scalar("DOUBLE")
STRING = Scalar("STRING")
TIMESTAMP = Scalar("TIMESTAMP(3)")
DATE = Scalar("DATE")
INTERVAL = Scalar("INTERVAL")
"""A span of time in milliseconds: what a duration literal and a difference of timestamps have."""
NULL = Scalar("NULL")
"""The type of the literal NULL; it fits every other type."""


def is_numeric(type_: DataType) -> bool:
    """Can arithmetic be done with it?"""
    return type_ in (BIGINT, DOUBLE) or isinstance(type_, Decimal)


def common_type(left: DataType, right: DataType) -> DataType | None:
    """The type that values of both can be turned into without loss of meaning, or None.

    >>> str(common_type(BIGINT, DOUBLE)), common_type(BIGINT, STRING)
    ('DOUBLE', None)
    >>> str(common_type(Decimal(6, 2), Decimal(5, 3)))
    'DECIMAL(7, 3)'
    """
    if left == right or right == NULL:
        return left
    if left == NULL:
        return right
    if is_numeric(left) and is_numeric(right):
        if DOUBLE in (left, right):
            return DOUBLE
        return _common_decimal(_as_decimal(left), _as_decimal(right))
    if isinstance(left, Array) and isinstance(right, Array):
        element = common_type(left.element, right.element)
        return Array(element) if element is not None else None
    return None


def _as_decimal(type_: DataType) -> Decimal:
    return type_ if isinstance(type_, Decimal) else Decimal(MAX_DECIMAL_PRECISION, 0)


def _common_decimal(left: Decimal, right: Decimal) -> Decimal:
    scale = max(left.scale, right.scale)
    whole = max(left.precision - left.scale, right.precision - right.scale)
    return Decimal(min(whole + scale, MAX_DECIMAL_PRECISION), scale)
