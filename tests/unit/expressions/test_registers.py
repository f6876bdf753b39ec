"""What becomes of conditions: which the machine takes, in how many steps, and what it keeps for them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ostinato.cep.expressions import lower, machine
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, Array, DataType, Decimal

SCHEMA: dict[str, DataType] = {
    "price": DOUBLE,
    "volume": BIGINT,
    "user": STRING,
    "tags": Array(STRING),
    "cost": Decimal(10, 2),
}
PRICE, VOLUME, USER = Current(DOUBLE, "price"), Current(BIGINT, "volume"), Current(STRING, "user")


def call(function: str, *args: Typed, type_: DataType = BOOLEAN) -> Typed:
    return Apply(type_, function, args)


def last(stage: str, offset: int = 0) -> Typed:
    return Matched(DOUBLE, "last", stage, "price", offset)


def steps(expr: Typed) -> list[Any]:
    plan = lower([[expr]], SCHEMA)
    assert plan.conditions == (((0, len(plan.code)),),)
    return [op for op, _, _, _ in plan.code.tolist()]


def test_common_conditions_take_few_steps() -> None:
    assert steps(call(">", PRICE, last("b"))) == [machine.LT_F]
    rising = call(">", PRICE, call("coalesce", last("b"), last("a"), type_=DOUBLE))
    assert steps(rising) == [machine.COALESCE, machine.LT_F]
    falling = call("<", PRICE, call("*", last("a"), Constant(DOUBLE, 0.99), type_=DOUBLE))
    assert steps(falling) == [machine.MULTIPLY_F, machine.LT_F]


def test_each_part_of_a_conjunction_can_end_it() -> None:
    plan = lower([[call("and", call(">", PRICE, last("b")), call("is_null", last("a")))]], SCHEMA)
    assert plan.code[:, 1].tolist() == [-1, -1]


def test_what_is_constant_is_computed_once() -> None:
    limit = call("*", Constant(BIGINT, 20), Constant(BIGINT, 50), type_=BIGINT)
    plan = lower([[call("<", Matched(BIGINT, "sum", "b", "volume"), limit)]], SCHEMA)
    assert plan.constants.tolist() == [1000]
    assert len(plan.code) == 1


def test_what_the_machine_cannot_do_is_left_to_python() -> None:
    conditions = [
        call("like", Matched(STRING, "last", "a", "user"), Constant(STRING, "%x")),
        call("<", USER, Matched(STRING, "min", "a", "user")),
        Opaque(BOOLEAN, lambda event: True),
        call("=", call("cardinality", Matched(Array(STRING), "last", "a", "tags"), type_=BIGINT), VOLUME),
        call(">", PRICE, last("a", 1000)),
        call(">", PRICE, last("b")),
    ]
    plan = lower([conditions], SCHEMA)
    assert plan.conditions[0] == (None, None, None, None, None, (0, 1))
    assert plan.widths == (1,), "registers of conditions that were given up are not kept"
    assert [name for name, _ in plan.columns] == ["price"]
    assert plan.constants.tolist() == []


def test_functions_of_the_event_in_hand_are_computed_for_the_batch() -> None:
    lowered = call("lower", USER, type_=STRING)
    expr = call(
        "and", call("=", lowered, Matched(STRING, "last", "a", "user")), call("like", USER, Constant(STRING, "x%"))
    )
    plan = lower([[expr]], SCHEMA)
    assert list(plan.computed) == ["#0", "#1"]
    assert plan.columns == (("#0", STRING), ("#1", BOOLEAN), ("user", STRING))
    assert plan.text_columns == (0, 2)
    assert plan.text_registers == ((0,),)


def test_texts_are_known_by_their_codes() -> None:
    expr = call("in", Matched(STRING, "last", "a", "user"), Constant(STRING, "x"), Constant(STRING, "y"))
    plan = lower([[expr]], SCHEMA)
    assert [text for _, text in plan.text_constants] == ["x", "y"]
    assert plan.text_registers == ((0,),)


def test_registers_are_shared() -> None:
    total, mean = Matched(DOUBLE, "sum", "b", "price"), Matched(DOUBLE, "avg", "b", "price")
    count = Matched(BIGINT, "count", "b", "price")
    plan = lower([[call("<", total, mean), call("<", count, VOLUME)]], SCHEMA)
    assert plan.widths == (2,)
    assert plan.initial_null[0].tolist() == [1, 0]


def test_patterns_have_their_own_registers_and_share_columns() -> None:
    plan = lower(
        [[call(">", PRICE, last("b"))], [call("<", PRICE, last("c")), call("<", PRICE, last("b", 2))], []], SCHEMA
    )
    assert plan.widths == (1, 4, 0)
    assert [sorted(each) for each in plan.updates] == [["b"], ["b", "c"], []]
    assert len(plan.columns) == 1


def test_older_values_are_shifted_before_they_are_overwritten() -> None:
    plan = lower([[call("<", PRICE, last("b", 2))]], SCHEMA)
    assert plan.updates_code[:, 0].tolist() == [machine.SHIFT, machine.SHIFT, machine.LAST]


def test_the_mean_of_decimals_and_of_a_sum_beyond_64_bits() -> None:
    plan = lower([[call("<", Matched(DOUBLE, "avg", "b", "cost"), PRICE)]], SCHEMA)
    assert plan.widths == (3,)
    cells = np.array([[2**62, 0], [2**62, 0], [2**62, 0]], np.int64)
    names = [name for name, _ in plan.columns]
    cells[:, names.index("price")] = np.array([2.0**62 / 100 * 1.001]).view(np.int64)
    cells[:, names.index("cost")] = 2**62
    null = np.zeros((3, 2), np.uint8)
    registers, flags = plan.initial_i[0][None, :].copy(), plan.initial_null[0][None, :].copy()
    stack = np.zeros(plan.stack_size, np.int64)
    start, end = plan.updates[0]["b"]
    for row in range(3):
        machine.take(
            plan.updates_code, start, end, row, cells, cells.view(np.float64), null,
            0, 0, registers, registers.view(np.float64), flags,
        )  # fmt: skip
    assert flags[0].tolist() == [0, 1, 0], "the count is known, the sum does not fit"
    assert machine.condition(
        plan.code, plan.constants, 0, len(plan.code), 0, cells, cells.view(np.float64), null,
        0, registers, registers.view(np.float64), flags, stack, stack.view(np.float64), np.zeros(len(stack), np.uint8),
    )  # fmt: skip


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("there is no function `frobnicate`")):
        lower([[call("frobnicate", PRICE)]], SCHEMA)
