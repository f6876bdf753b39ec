"""Arithmetic on single values, compiled and not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ostinato.cep.expressions import arithmetic
from ostinato.cep.jit import interpreted, kernels

BIG, SMALL = 2**63 - 1, -(2**63)


@pytest.fixture(params=["compiled", "plain"])
def functions(request: pytest.FixtureRequest) -> Any:
    return kernels(arithmetic) if request.param == "compiled" else interpreted(arithmetic)


@pytest.mark.parametrize(
    ("name", "x", "y", "wanted"),
    [
        ("add", BIG, 1, None),
        ("add", SMALL, -1, None),
        ("add", BIG, SMALL, -1),
        ("subtract", SMALL, 1, None),
        ("subtract", 0, SMALL, None),
        ("subtract", -1, SMALL, BIG),
        ("multiply", 3_037_000_500, 3_037_000_500, None),
        ("multiply", 3_037_000_499, 3_037_000_499, 9_223_372_030_926_249_001),
        ("multiply", SMALL, -1, None),
        ("multiply", SMALL, 1, SMALL),
        ("multiply", 2**32, -(2**31), SMALL),
        ("divide", 7, -2, -3),
        ("divide", -7, 2, -3),
        ("divide", SMALL, -1, None),
        ("divide", 1, 0, None),
        ("modulo", -7, 2, -1),
        ("modulo", 7, -2, 1),
        ("modulo", SMALL, -1, 0),
        ("modulo", 1, 0, None),
        ("rescale", 125, -1, 13),
        ("rescale", -125, -1, -13),
        ("rescale", 124, -1, 12),
        ("rescale", BIG, -18, 9),
        ("rescale", BIG, -19, 0),
        ("rescale", 10, 18, None),
        ("rescale", 9, 18, 9 * 10**18),
        ("floor_decimal", -150, 2, -200),
        ("ceil_decimal", -150, 2, -100),
        ("ceil_decimal", 101, 2, 200),
    ],
)
def test_whole_numbers(functions: Any, name: str, x: int, y: int, wanted: int | None) -> None:
    value, null = getattr(functions, name)(x, y)
    assert (None if null else value) == wanted


@pytest.mark.parametrize(
    ("x", "y", "wanted"),
    [
        (2.0, 10.0, 1024.0),
        (-2.0, 3.0, -8.0),
        (-2.0, 0.5, None),
        (0.0, -1.0, None),
        (0.0, 0.0, 1.0),
        (1e200, 2.0, math.inf),
        (-1e200, 3.0, -math.inf),
        (-1e103, 2.0, 1e206),
        (1e-200, 2.0, 0.0),
        (2.0, 1023.99999, 2.0**1023.99999),
        (math.inf, 2.0, math.inf),
        (2.0, -math.inf, 0.0),
    ],
)
def test_power(functions: Any, x: float, y: float, wanted: float | None) -> None:
    value, null = functions.power(x, y)
    assert null == (wanted is None)
    assert wanted is None or value == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "digits", "wanted"),
    [
        (2.5, 0, 3.0),
        (-2.5, 0, -3.0),
        (0.49999999999999994, 0, 0.0),
        (4503599627370497.5, 0, 4503599627370498.0),
        (1e300, 2, 1e300),
        (1.25, 1, 1.3),
        (1250.0, -2, 1300.0),
        (5.0, -400, 0.0),
        (5.0, 400, 5.0),
        (math.inf, 1, math.inf),
    ],
)
def test_round(functions: Any, x: float, digits: int, wanted: float) -> None:
    assert functions.round_double(x, digits) == wanted


def test_roots_and_logarithms(functions: Any) -> None:
    assert functions.square_root(-1.0)[1]
    assert functions.square_root(9.0) == (3.0, False)
    assert functions.logarithm(-1.0)[1]
    assert functions.logarithm(0.0) == (-math.inf, False)
    assert functions.exponential(710.0) == math.inf
    assert functions.exponential(1.0) == pytest.approx(math.e)


def test_a_sum_may_leave_the_range_on_its_way(functions: Any) -> None:
    low, carry = functions.add_wide(BIG, 0, BIG)
    assert carry == 1
    low, carry = functions.add_wide(low, carry, -BIG)
    assert (low, carry) == (BIG, 0)
    low, carry = functions.add_wide(SMALL, 0, -1)
    assert functions.mean(low, carry, 1) == (float(SMALL), False)


def test_distance_on_the_globe(functions: Any) -> None:
    # Berlin to Tokyo, as measured by several atlases.
    assert functions.distance_km(52.52, 13.405, 35.6895, 139.6917) == pytest.approx(8918, abs=5)
    assert functions.distance_km(10.0, 20.0, 10.0, 20.0) == 0.0
    assert functions.distance_km(0.0, 0.0, 0.0, 180.0) == pytest.approx(math.pi * 6371.0088)
    assert math.isnan(functions.distance_km(math.inf, 0.0, 0.0, 0.0))
