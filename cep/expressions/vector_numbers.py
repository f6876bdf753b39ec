"""Numbers and times, a whole column at once.

Functions take operands (arrays, or the plain number of a constant) and give values and a mask of the rows where there
is no answer (None: there is one everywhere). Rows that are NULL already hold zeros and may give anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ostinato.cep.batch import AnyArray, BoolArray
from ostinato.cep.expressions import arithmetic, dates
from ostinato.cep.expressions.arithmetic import MAX_BIGINT, MIN_BIGINT, TWO_63

Operand = Any
"""An array of the column's physical type, or one number."""
Result = tuple[AnyArray, BoolArray | None]


def _range(x: Operand) -> tuple[int, int]:
    """The least and the greatest value of an operand."""
    if not isinstance(x, np.ndarray):
        return int(x), int(x)
    return (int(x.min()), int(x.max())) if x.size else (0, 0)


def _fits(*bounds: int) -> bool:
    """Can nothing between these overflow? Mostly so, and seen at once from the ranges of the operands."""
    return min(bounds) >= MIN_BIGINT and max(bounds) <= MAX_BIGINT


def _add(x: Operand, y: Operand) -> Result:
    total = x + y
    (least, most), (low, high) = _range(x), _range(y)
    if _fits(least + low, most + high):
        return total, None
    # A sum that overflowed has neither operand's sign.
    return total, ((x ^ total) & (y ^ total)) < 0


def _subtract(x: Operand, y: Operand) -> Result:
    rest = x - y
    (least, most), (low, high) = _range(x), _range(y)
    if _fits(least - high, most - low):
        return rest, None
    return rest, ((x ^ y) & (x ^ rest)) < 0


def _multiply(x: Operand, y: Operand) -> Result:
    product = x * y
    (least, most), (low, high) = _range(x), _range(y)
    if _fits(least * low, least * high, most * low, most * high):
        return product, None
    estimate = abs(np.multiply(x, y, dtype=np.float64))
    failed = estimate > 9.3e18
    for row in np.flatnonzero((estimate >= 9.2e18) & ~failed):
        exact = int(np.broadcast_to(x, estimate.shape)[row]) * int(np.broadcast_to(y, estimate.shape)[row])
        failed[row] = not MIN_BIGINT <= exact <= MAX_BIGINT
    return product, failed


def _divide(x: Operand, y: Operand) -> Result:
    failed = (y == 0) | ((y == -1) & (x == MIN_BIGINT))
    divisor = np.where(failed, 1, y)
    quotient = x // divisor
    # Floor division rounds down, SQL's cuts off.
    quotient += (quotient < 0) & (quotient * divisor != x)
    return quotient, failed


def _modulo(x: Operand, y: Operand) -> Result:
    failed = np.equal(y, 0)
    # The rest of a division by -1 is that of one by 1; on some machines the smallest number over -1 is a trap.
    return np.fmod(x, np.where(failed | np.equal(y, -1), 1, y)), failed


def _rescale(x: AnyArray, digits: int) -> Result:
    if digits >= 0:
        return _multiply(x, 10**digits) if digits <= 18 else (np.zeros_like(x), x != 0)
    if digits < -18:
        return np.zeros_like(x), None
    unit = 10**-digits
    quotient, _ = _divide(x, unit)
    rest = np.abs(x - quotient * unit)
    return quotient + np.where(rest >= unit - rest, np.sign(x), 0), None


def _round_decimal(x: AnyArray, packed: int) -> Result:
    digits, scale = packed // 32, packed % 32
    if digits >= scale:
        return x, None
    if digits < scale - 18:
        return np.zeros_like(x), None
    return _multiply(_rescale(x, digits - scale)[0], 10 ** (scale - digits))


def _ceil_decimal(x: AnyArray, scale: int) -> Result:
    unit = 10**scale
    return _multiply(x // unit + (x % unit != 0), unit)


def _whole_number(x: AnyArray) -> Result:
    fits = (x >= -TWO_63) & (x < TWO_63)
    return np.where(fits, x, 0.0).astype(np.int64), ~fits


def _round_double(x: AnyArray, digits: int) -> AnyArray:
    if digits > arithmetic.MAX_DIGITS:
        return x
    if digits < -arithmetic.MAX_DIGITS:
        return np.where(abs(x) < TWO_63 * 2.0**960, np.copysign(0.0, x), x)
    unit = float(arithmetic.DOUBLE_POWERS_OF_TEN[abs(digits)])
    scaled = x * unit if digits >= 0 else x / unit
    whole = np.trunc(scaled)
    whole += np.where(np.abs(scaled - whole) >= 0.5, np.copysign(1.0, scaled), 0.0)
    rounded = whole / unit if digits >= 0 else whole * unit
    kept: AnyArray = np.where((abs(scaled) < TWO_63) & (abs(x) < TWO_63 * 2.0**960), rounded, x)
    return kept


def _power(x: Operand, y: Operand) -> Result:
    fraction = np.isfinite(y) & (y != np.floor(y))
    return np.power(x, y), ((x == 0.0) & (y < 0.0)) | ((x < 0.0) & fraction)


def _divide_double(x: Operand, y: Operand) -> Result:
    failed = np.equal(y, 0.0)
    return x / np.where(failed, 1.0, y), failed


def _modulo_double(x: Operand, y: Operand) -> Result:
    failed = np.equal(y, 0.0)
    return np.fmod(x, np.where(failed, 1.0, y)), failed


def _distance(latitude: Operand, longitude: Operand, to_latitude: Operand, to_longitude: Operand) -> AnyArray:
    half_angle = np.radians(to_latitude - latitude) * 0.5
    half_turn = np.radians(to_longitude - longitude) * 0.5
    across = np.cos(np.radians(latitude)) * np.cos(np.radians(to_latitude)) * np.sin(half_turn) ** 2
    chord = np.sin(half_angle) ** 2 + across
    angle: AnyArray = 2.0 * np.arcsin(np.sqrt(np.minimum(1.0, chord)))
    return arithmetic.EARTH_RADIUS_KM * angle


def _either(condition: BoolArray, x: AnyArray, y: AnyArray) -> Result:
    chosen: AnyArray = np.where(condition, x, y)
    return chosen, None


def _total(function: Callable[..., AnyArray]) -> Callable[..., Result]:
    return lambda *operands: (function(*operands), None)


FUNCTIONS: dict[str, Callable[..., Result]] = {
    "ADD": _add,
    "SUBTRACT": _subtract,
    "MULTIPLY": _multiply,
    "DIVIDE": _divide,
    "MODULO": _modulo,
    "NEGATE": lambda x: (-x, x == MIN_BIGINT),
    "ABSOLUTE": lambda x: (np.abs(x), x == MIN_BIGINT),
    "SIGN": _total(np.sign),
    "GREATEST": _total(np.maximum),
    "LEAST": _total(np.minimum),
    "RESCALE": _rescale,
    "ROUND_DECIMAL": _round_decimal,
    "FLOOR_DECIMAL": lambda x, scale: _multiply(x // 10**scale, 10**scale),
    "CEIL_DECIMAL": _ceil_decimal,
    "LIMIT": lambda x, limit: (x, (x <= -limit) | (x >= limit)),
    "TRUNCATE": _whole_number,
    "UNSCALE": lambda x, scale: _whole_number(_round_double(x * float(10**scale), 0)),
    "FLOOR_DIVIDE": _total(np.floor_divide),
    "FLOOR_MODULO": _total(np.mod),
    "MONTHS_BETWEEN": _total(dates.months_between),
    "YEARS_BETWEEN": _total(dates.years_between),
    "YEAR": _total(dates.year),
    "MONTH": _total(dates.month),
    "DAY": _total(dates.day),
    "DAY_OF_WEEK": _total(dates.day_of_week),
    "DAY_OF_YEAR": _total(dates.day_of_year),
    "TO_BOOLEAN": lambda x: (x != 0, None),
    "FROM_BOOLEAN": lambda x: (x.astype(np.int64), None),
    "TO_DOUBLE": lambda x: (x.astype(np.float64), None),
    "ADD_F": _total(np.add),
    "SUBTRACT_F": _total(np.subtract),
    "MULTIPLY_F": _total(np.multiply),
    "DIVIDE_F": _divide_double,
    "MODULO_F": _modulo_double,
    "GREATEST_F": lambda x, y: _either(y > x, y, x),
    "LEAST_F": lambda x, y: _either(y < x, y, x),
    "POWER": _power,
    "NEGATE_F": _total(np.negative),
    "ABSOLUTE_F": _total(np.abs),
    "SIGN_F": _total(np.sign),
    "FLOOR_F": _total(np.floor),
    "CEIL_F": _total(np.ceil),
    "SQRT": lambda x: (np.sqrt(x), x < 0.0),
    "EXP": _total(np.exp),
    "LN": lambda x: (np.log(x), x < 0.0),
    "ROUND_F": _total(_round_double),
    "DISTANCE": _total(_distance),
    "EQ": _total(np.equal),
    "NE": _total(np.not_equal),
    "LT": _total(np.less),
    "LE": _total(np.less_equal),
    "EQ_F": _total(np.equal),
    "NE_F": _total(np.not_equal),
    "LT_F": _total(np.less),
    "LE_F": _total(np.less_equal),
}
"""The core functions of numbers and times. They are NULL where an operand is."""
CONSTANT_LAST = {"RESCALE", "ROUND_DECIMAL", "ROUND_F"}
"""Those that are done a column at once only where their last operand is constant."""
