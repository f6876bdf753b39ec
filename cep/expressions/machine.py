"""The machine that decides conditions on a partial match: a kernel module.

A program is rows of ``(opcode, target, a, b)``. An operand is ``index << 2 | place``, the place being a temporary,
a constant, a column of the event in hand or a register of the partial match. The result goes to temporary `target`;
a target of -1 asks for TRUE, and the program ends with False if it is not. Values are 64-bit cells: whole numbers
as they are (BOOLEAN as 0 and 1, text as its interned code), DOUBLE as its bits; null flags stand beside them.

Registers hold what conditions ask of the events matched so far, so that an answer costs the same however many
those are. An update is a row of ``(opcode, register, column, argument)``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ostinato.cep.expressions.arithmetic import (
    absolute,
    add,
    add_wide,
    ceil_decimal,
    distance_km,
    divide,
    divide_double,
    exponential,
    floor_decimal,
    logarithm,
    mean,
    modulo,
    modulo_double,
    multiply,
    negate,
    power,
    rescale,
    round_decimal,
    round_double,
    sign,
    sign_double,
    square_root,
    subtract,
    unscaled,
    whole_number,
)
from ostinato.cep.expressions.dates import day, day_of_week, day_of_year, month, months_between, year, years_between

INLINED = ("condition", "take")

TEMPORARY, CONSTANT, COLUMN, REGISTER = 0, 1, 2, 3

# Opcodes stand in groups, and `condition` finds the group first: what comparisons give is never NULL save where an
# operand is; the logical ones know about NULL themselves; whole-number ones may fail; then those that give a DOUBLE.
EQ, NE, LT, LE, EQ_F, NE_F, LT_F, LE_F = range(8)
AND, OR, NOT, IS_NULL, IS_TRUE, IS_FALSE, DISTINCT, DISTINCT_F, MOVE, COALESCE, SELECT, NULL_CELL = range(10, 22)
GREATEST, LEAST = 30, 31
ADD, SUBTRACT, MULTIPLY, DIVIDE, MODULO, NEGATE, ABSOLUTE, SIGN = range(32, 40)
RESCALE, FLOOR_DECIMAL, CEIL_DECIMAL, LIMIT, TRUNCATE, UNSCALE = range(40, 46)
FLOOR_DIVIDE, FLOOR_MODULO, MONTHS_BETWEEN, YEARS_BETWEEN = range(46, 50)
YEAR, MONTH, DAY, DAY_OF_WEEK, DAY_OF_YEAR, ROUND_DECIMAL, TO_BOOLEAN = range(50, 57)
ADD_F, SUBTRACT_F, MULTIPLY_F, DIVIDE_F, MODULO_F, GREATEST_F, LEAST_F, POWER = range(60, 68)
NEGATE_F, ABSOLUTE_F, SIGN_F, FLOOR_F, CEIL_F, SQRT, EXP, LN, ROUND_F = range(68, 77)
TO_DOUBLE, MEAN, DISTANCE = 77, 78, 79

COUNT, COUNT_VALUES, SUM, SUM_F, MINIMUM, MAXIMUM, MINIMUM_F, MAXIMUM_F, FIRST, LAST, SHIFT = range(11)

Cells = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]


def condition(
    code: Cells,
    constants_i: Cells,
    start: int,
    end: int,
    row: int,
    cols_i: Cells,
    cols_f: Doubles,  # noqa: ARG001 - so that both entry points take the same arrays
    colnull: Flags,
    run: int,
    regs_i: Cells,
    regs_f: Doubles,  # noqa: ARG001
    regnull: Flags,
    stack_i: Cells,
    stack_f: Doubles,
    stack_null: Flags,
) -> bool:
    """Is the condition ``code[start:end]`` TRUE for the event in `row` and the partial match in register row `run`?

    Shapes: code [n, 4]; cols_i, its float64 view cols_f and colnull [rows, columns]; regs_i, regs_f and regnull
    [capacity, width]; the stack arrays hold at least the plan's `stack_size` temporaries, of any content.
    """
    for at in range(start, end):
        op = code[at, 0]
        target = code[at, 1]
        a = code[at, 2]
        b = code[at, 3]

        place = a & 3
        index = a >> 2
        if place == REGISTER:
            x = regs_i[run, index]
            x_null = regnull[run, index] != 0
        elif place == COLUMN:
            x = cols_i[row, index]
            x_null = colnull[row, index] != 0
        elif place == CONSTANT:
            x = constants_i[index]
            x_null = False
        else:
            x = stack_i[index]
            x_null = stack_null[index] != 0

        place = b & 3
        index = b >> 2
        if place == REGISTER:
            y = regs_i[run, index]
            y_null = regnull[run, index] != 0
        elif place == COLUMN:
            y = cols_i[row, index]
            y_null = colnull[row, index] != 0
        elif place == CONSTANT:
            y = constants_i[index]
            y_null = False
        else:
            y = stack_i[index]
            y_null = stack_null[index] != 0

        null = x_null or y_null
        value = 0
        if op < AND:
            if op == EQ:
                truth = x == y
            elif op == NE:
                truth = x != y
            elif op == LT:
                truth = x < y
            elif op == LE:
                truth = x <= y
            else:
                p = float(np.int64(x).view(np.float64))
                q = float(np.int64(y).view(np.float64))
                if op == LT_F:
                    truth = p < q
                elif op == LE_F:
                    truth = p <= q
                elif op == EQ_F:
                    truth = p == q
                else:
                    truth = p != q
            if target < 0:
                if null or not truth:
                    return False
                continue
            value = 1 if truth else 0
        elif op < GREATEST:
            if op == SELECT:
                # CASE from its end: where the condition holds, its value replaces what later ones gave.
                if x_null or x == 0:
                    continue
                value, null = y, y_null
            elif op == COALESCE:
                value, null = (y, y_null) if x_null else (x, False)
            else:
                value, null = _logic(op, x, x_null, y, y_null)
        elif op < ADD_F:
            if not null:
                value, null = _whole(op, x, y)
        else:
            result = 0.0
            if op == MEAN:
                result, null = mean(x, regs_i[run, (a >> 2) + 1], y)
            elif op == DISTANCE:
                first = a >> 2
                null = stack_null[first] + stack_null[first + 1] + stack_null[first + 2] + stack_null[first + 3] != 0
                if not null:
                    result = distance_km(
                        float(stack_f[first]),
                        float(stack_f[first + 1]),
                        float(stack_f[first + 2]),
                        float(stack_f[first + 3]),
                    )
            elif not null:
                if op == TO_DOUBLE:
                    result = float(x)
                elif op == ROUND_F:
                    result = round_double(float(np.int64(x).view(np.float64)), y)
                else:
                    result, null = _double(op, float(np.int64(x).view(np.float64)), float(np.int64(y).view(np.float64)))
            stack_f[target] = 0.0 if null else result
            stack_null[target] = null
            continue
        if target < 0:
            if null or value == 0:
                return False
        else:
            stack_i[target] = value
            stack_null[target] = null
    return True


def _logic(op: int, x: int, x_null: bool, y: int, y_null: bool) -> tuple[int, bool]:
    """What deals with NULL itself."""
    if op == AND:
        if (x == 0 and not x_null) or (y == 0 and not y_null):
            return 0, False
        return 1 - (x_null or y_null), x_null or y_null
    if op == OR:
        if (x != 0 and not x_null) or (y != 0 and not y_null):
            return 1, False
        return 0, x_null or y_null
    if op == NOT:
        return (0, True) if x_null else (1 - x, False)
    if op == IS_NULL:
        return 1 * x_null, False
    if op == IS_TRUE:
        return 1 * (not x_null and x != 0), False
    if op == IS_FALSE:
        return 1 * (not x_null and x == 0), False
    if op == MOVE:
        return x, x_null
    if op == NULL_CELL:
        return 0, True
    if x_null or y_null:
        return 1 * (x_null != y_null), False
    if op == DISTINCT:
        return 1 * (x != y), False
    return 1 * (np.int64(x).view(np.float64) != np.int64(y).view(np.float64)), False


def _whole(op: int, left: int, right: int) -> tuple[int, bool]:
    """What gives a whole number from operands that are not null."""
    if op == TRUNCATE:
        return whole_number(float(np.int64(left).view(np.float64)))
    if op == UNSCALE:
        return unscaled(float(np.int64(left).view(np.float64)), right)
    x = int(left)
    y = int(right)
    if op < RESCALE:
        if op == ADD:
            return add(x, y)
        if op == SUBTRACT:
            return subtract(x, y)
        if op == MULTIPLY:
            return multiply(x, y)
        if op == DIVIDE:
            return divide(x, y)
        if op == MODULO:
            return modulo(x, y)
        if op == NEGATE:
            return negate(x)
        if op == ABSOLUTE:
            return absolute(x)
        if op == SIGN:
            return sign(x), False
        return (max(x, y) if op == GREATEST else min(x, y)), False
    if op < YEAR:
        if op == RESCALE:
            return rescale(x, y)
        if op == FLOOR_DECIMAL:
            return floor_decimal(x, y)
        if op == CEIL_DECIMAL:
            return ceil_decimal(x, y)
        if op == LIMIT:
            # More digits than the type has.
            return (x, False) if -y < x < y else (0, True)
        if op == FLOOR_DIVIDE:
            return x // y, False
        if op == FLOOR_MODULO:
            return x % y, False
        if op == MONTHS_BETWEEN:
            return months_between(x, y), False
        return years_between(x, y), False
    if op == YEAR:
        return year(x), False
    if op == MONTH:
        return month(x), False
    if op == DAY:
        return day(x), False
    if op == DAY_OF_WEEK:
        return day_of_week(x), False
    if op == DAY_OF_YEAR:
        return day_of_year(x), False
    if op == TO_BOOLEAN:
        return 1 * (x != 0), False
    # The scale stands in the lowest digits, above it how many digits to round to.
    return round_decimal(x, y // 32, y % 32)


def _double(op: int, x: float, y: float) -> tuple[float, bool]:
    """What gives a DOUBLE from DOUBLE operands that are not null."""
    if op == ADD_F:
        return x + y, False
    if op == SUBTRACT_F:
        return x - y, False
    if op == MULTIPLY_F:
        return x * y, False
    if op == DIVIDE_F:
        return divide_double(x, y)
    if op == MODULO_F:
        return modulo_double(x, y)
    if op == GREATEST_F:
        return (y if y > x else x), False
    if op == LEAST_F:
        return (y if y < x else x), False
    if op == POWER:
        return power(x, y)
    if op == NEGATE_F:
        return -x, False
    if op == ABSOLUTE_F:
        return abs(x), False
    if op == SIGN_F:
        return sign_double(x), False
    if op == FLOOR_F:
        return float(np.floor(x)), False
    if op == CEIL_F:
        return float(np.ceil(x)), False
    if op == SQRT:
        return square_root(x)
    if op == EXP:
        return exponential(x), False
    return logarithm(x)


def take(
    updates: Cells,
    start: int,
    end: int,
    row: int,
    cols_i: Cells,
    cols_f: Doubles,
    colnull: Flags,
    source: int,
    target: int,
    regs_i: Cells,
    regs_f: Doubles,
    regnull: Flags,
) -> None:
    """Make register row `target` what row `source` becomes when the event in `row` is taken for a stage.

    ``updates[start:end]`` is the stage's program (start == end: the stage has none). `source` and `target` may be
    the same row. Shapes as for `condition`.
    """
    if source != target:
        for register in range(regs_i.shape[1]):
            regs_i[target, register] = regs_i[source, register]
            regnull[target, register] = regnull[source, register]
    for at in range(start, end):
        op = updates[at, 0]
        register = updates[at, 1]
        column = updates[at, 2]
        argument = updates[at, 3]
        if op == COUNT:
            regs_i[target, register] += 1
        elif op == LAST:
            regs_i[target, register] = cols_i[row, column]
            regnull[target, register] = colnull[row, column]
        elif op == SHIFT:
            regs_i[target, register] = regs_i[target, column]
            regnull[target, register] = regnull[target, column]
        elif op == FIRST:
            # `argument` is which event it is to be, and the register that has counted the stage's events so far.
            if regs_i[target, argument & 0xFFFF] == argument >> 16:
                regs_i[target, register] = cols_i[row, column]
                regnull[target, register] = colnull[row, column]
        elif colnull[row, column] == 0:
            empty = regnull[target, register] != 0
            if op == COUNT_VALUES:
                regs_i[target, register] += 1
            elif op == SUM:
                low, carry = add_wide(
                    int(regs_i[target, register]), int(regs_i[target, register + 1]), int(cols_i[row, column])
                )
                regs_i[target, register] = low
                regs_i[target, register + 1] = carry
                regnull[target, register] = carry != 0
            elif op == SUM_F:
                regs_f[target, register] = float(regs_f[target, register]) + float(cols_f[row, column])
                regnull[target, register] = 0
            elif op == MINIMUM:
                if empty or cols_i[row, column] < regs_i[target, register]:
                    regs_i[target, register] = cols_i[row, column]
                    regnull[target, register] = 0
            elif op == MAXIMUM:
                if empty or cols_i[row, column] > regs_i[target, register]:
                    regs_i[target, register] = cols_i[row, column]
                    regnull[target, register] = 0
            elif op == MINIMUM_F:
                if empty or cols_f[row, column] < regs_f[target, register]:
                    regs_f[target, register] = cols_f[row, column]
                    regnull[target, register] = 0
            elif empty or cols_f[row, column] > regs_f[target, register]:
                regs_f[target, register] = cols_f[row, column]
                regnull[target, register] = 0
