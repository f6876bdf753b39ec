"""Arithmetic of the expression language on single values: a kernel module.

Functions that can fail give ``(value, is_null)``: what has no answer (division by zero, a BIGINT that overflows,
the root of a negative number) is NULL, never an exception. Overflow is looked for before it happens, so that
the functions do the same on Python's numbers as compiled on 64-bit ones.
"""

from __future__ import annotations

import math

import numpy as np

MAX_BIGINT = 2**63 - 1
MIN_BIGINT = -(2**63)
TWO_63 = 9223372036854775808.0
MAX_EXPONENT = 709.782712893384
"""exp() of anything above is infinite."""
EARTH_RADIUS_KM = 6371.0088
MAX_DIGITS = 300
"""Rounding to more digits than a DOUBLE's exponent can reach changes nothing."""
POWERS_OF_TEN = np.array([10**exponent for exponent in range(19)], np.int64)
DOUBLE_POWERS_OF_TEN = np.array([float(f"1e{exponent}") for exponent in range(MAX_DIGITS + 1)], np.float64)


def add(x: int, y: int) -> tuple[int, bool]:
    if y > 0:
        if x > MAX_BIGINT - y:
            return 0, True
    elif x < MIN_BIGINT - y:
        return 0, True
    return x + y, False


def subtract(x: int, y: int) -> tuple[int, bool]:
    if y > 0:
        if x < MIN_BIGINT + y:
            return 0, True
    elif x > MAX_BIGINT + y:
        return 0, True
    return x - y, False


def multiply(x: int, y: int) -> tuple[int, bool]:
    estimate = float(x) * float(y)
    if abs(estimate) < 9.2e18:
        return x * y, False
    if abs(estimate) > 9.3e18:
        return 0, True
    # So close to the border a compiled product that overflows has the wrong sign.
    product = x * y
    if (product > 0) != (estimate > 0.0) or product > MAX_BIGINT or product < MIN_BIGINT:
        return 0, True
    return product, False


def divide(x: int, y: int) -> tuple[int, bool]:
    """The quotient cut off towards zero, as in Java and SQL."""
    if y == 0:
        return 0, True
    if y == -1:
        return negate(x)
    quotient = x // y
    if quotient < 0 and quotient * y != x:
        quotient += 1
    return quotient, False


def modulo(x: int, y: int) -> tuple[int, bool]:
    """The rest of `divide`: it has the sign of `x`."""
    if y == 0:
        return 0, True
    if y == -1:
        return 0, False
    rest = x % y
    if rest != 0 and (x < 0) != (y < 0):
        rest -= y
    return rest, False


def negate(x: int) -> tuple[int, bool]:
    if x == MIN_BIGINT:
        return 0, True
    return -x, False


def absolute(x: int) -> tuple[int, bool]:
    if x >= 0:
        return x, False
    return negate(x)


def sign(x: int) -> int:
    return 1 if x > 0 else (-1 if x < 0 else 0)


def rescale(x: int, digits: int) -> tuple[int, bool]:
    """A DECIMAL's unscaled value at a scale that has `digits` more (fewer: rounded half away from zero)."""
    if digits >= 0:
        if digits > 18:
            return 0, x != 0
        return multiply(x, int(POWERS_OF_TEN[digits]))
    if digits < -18:
        return 0, False
    unit = int(POWERS_OF_TEN[-digits])
    quotient, _ = divide(x, unit)
    rest = x - quotient * unit
    if abs(rest) >= unit - abs(rest):
        quotient += 1 if x > 0 else -1
    return quotient, False


def round_decimal(x: int, digits: int, scale: int) -> tuple[int, bool]:
    """An unscaled value rounded to `digits` behind the point, half away from zero, at the scale it had."""
    if digits >= scale:
        return x, False
    if digits < scale - 18:
        return 0, False
    rounded, _ = rescale(x, digits - scale)
    return rescale(rounded, scale - digits)


def floor_decimal(x: int, scale: int) -> tuple[int, bool]:
    """The unscaled value of the whole number at or below, at the scale it had."""
    unit = int(POWERS_OF_TEN[scale])
    return multiply(x // unit, unit)


def ceil_decimal(x: int, scale: int) -> tuple[int, bool]:
    unit = int(POWERS_OF_TEN[scale])
    return multiply(x // unit + (1 if x % unit != 0 else 0), unit)


def divide_double(x: float, y: float) -> tuple[float, bool]:
    if y == 0.0:
        return 0.0, True
    return x / y, False


def modulo_double(x: float, y: float) -> tuple[float, bool]:
    if y == 0.0:
        return 0.0, True
    if math.isinf(x) or math.isnan(x) or math.isnan(y):
        return math.nan, False
    return float(np.fmod(x, y)), False


def sign_double(x: float) -> float:
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x)


def round_double(x: float, digits: int) -> float:
    """Rounded to `digits` behind the point (before it, if negative), half away from zero."""
    if digits > MAX_DIGITS or not abs(x) < TWO_63 * 2.0**960:
        return x
    if digits < -MAX_DIGITS:
        return math.copysign(0.0, x)
    unit = float(DOUBLE_POWERS_OF_TEN[abs(digits)])
    scaled = x * unit if digits >= 0 else x / unit
    if not abs(scaled) < TWO_63:
        return x
    whole = float(np.trunc(scaled))
    if abs(scaled - whole) >= 0.5:
        whole += math.copysign(1.0, scaled)
    return whole / unit if digits >= 0 else whole * unit


def power(x: float, y: float) -> tuple[float, bool]:
    """`x` to the power `y`; NULL where that is no real number, infinite where it is too large."""
    if x == 0.0 and y < 0.0:
        return 0.0, True
    if x < 0.0 and not math.isinf(y) and not math.isnan(y) and y != np.floor(y):
        return 0.0, True
    if x == 0.0 or math.isinf(x) or math.isinf(y) or math.isnan(x) or math.isnan(y):
        return math.pow(x, y), False
    exponent = y * math.log(abs(x))
    if exponent < 709.7:
        return math.pow(x, y), False
    # Python's pow raises where the result is infinite, so it is never asked for one.
    odd = x < 0.0 and np.fmod(y, 2.0) != 0.0
    root = math.pow(abs(x), y * 0.5) if exponent < 1000.0 else math.inf
    return (-(root * root) if odd else root * root), False


def square_root(x: float) -> tuple[float, bool]:
    if x < 0.0:
        return 0.0, True
    return math.sqrt(x), False


def exponential(x: float) -> float:
    return math.inf if x > MAX_EXPONENT else math.exp(x)


def logarithm(x: float) -> tuple[float, bool]:
    if x < 0.0:
        return 0.0, True
    if x == 0.0:
        return -math.inf, False
    return math.log(x), False


def whole_number(x: float) -> tuple[int, bool]:
    """DOUBLE to BIGINT: cut off towards zero; NULL if it does not fit."""
    if not -TWO_63 <= x < TWO_63:
        return 0, True
    return int(x), False


def unscaled(x: float, scale: int) -> tuple[int, bool]:
    """DOUBLE to the unscaled value of a DECIMAL: rounded half away from zero; NULL if it does not fit."""
    return whole_number(round_double(x * float(POWERS_OF_TEN[scale]), 0))


def mean(low: int, carry: int, count: int) -> tuple[float, bool]:
    """The mean of `count` integers whose sum is ``low + carry * 2**64``."""
    if count == 0:
        return 0.0, True
    return (float(low) + float(carry) * (2.0 * TWO_63)) / float(count), False


def add_wide(low: int, carry: int, x: int) -> tuple[int, int]:
    """Add to a sum kept as ``low + carry * 2**64``, so that only its end, not its way, can overflow."""
    if x > 0:
        if low > MAX_BIGINT - x:
            return (low + MIN_BIGINT) + (x + MIN_BIGINT), carry + 1
    elif low < MIN_BIGINT - x:
        return (low - MIN_BIGINT) + (x - MIN_BIGINT), carry - 1
    return low + x, carry


def distance_km(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """The way between two points on the globe along its surface (haversine), in kilometres; they are in degrees."""
    if not abs(latitude + longitude + to_latitude + to_longitude) < math.inf:
        return math.nan
    half_angle = math.radians(to_latitude - latitude) * 0.5
    half_turn = math.radians(to_longitude - longitude) * 0.5
    chord = math.sin(half_angle) ** 2 + (
        math.cos(math.radians(latitude)) * math.cos(math.radians(to_latitude)) * math.sin(half_turn) ** 2
    )
    return 2.0 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
