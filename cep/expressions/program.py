"""From core expressions to programs of the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

from ostinato.cep.batch import IntArray
from ostinato.cep.expressions import machine
from ostinato.cep.expressions.core import scale_of
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed, nodes
from ostinato.patterns.types import BIGINT, DOUBLE, STRING, Array, DataType, Row

Instruction = tuple[int, int, int, int]

_NAMES = (
    "EQ NE LT LE EQ_F NE_F LT_F LE_F AND OR NOT IS_NULL IS_TRUE IS_FALSE DISTINCT DISTINCT_F COALESCE"
    " GREATEST LEAST ADD SUBTRACT MULTIPLY DIVIDE MODULO NEGATE ABSOLUTE SIGN RESCALE FLOOR_DECIMAL CEIL_DECIMAL"
    " LIMIT TRUNCATE UNSCALE FLOOR_DIVIDE FLOOR_MODULO MONTHS_BETWEEN YEARS_BETWEEN YEAR MONTH DAY DAY_OF_WEEK"
    " DAY_OF_YEAR ROUND_DECIMAL TO_BOOLEAN ADD_F SUBTRACT_F MULTIPLY_F DIVIDE_F MODULO_F GREATEST_F LEAST_F POWER"
    " NEGATE_F ABSOLUTE_F SIGN_F FLOOR_F CEIL_F SQRT EXP LN ROUND_F TO_DOUBLE"
)
OPERATIONS: dict[str, int] = {name: getattr(machine, name) for name in _NAMES.split()}
"""The core functions that are operations of the machine as they stand."""
_ON_TEXT = {"EQ", "NE", "DISTINCT", "COALESCE", "IS_NULL", "CASE", "IN"}
"""What can be asked of texts that are known by their codes only."""


class Unsupported(Exception):  # noqa: N818 - a turn taken while compiling, never an error that anyone sees
    """The machine has no operation for this."""


class Registers(Protocol):
    """Where what is asked of the events matched so far can be read."""

    def register(self, wanted: Matched) -> int:
        """The register of a count, sum, minimum, maximum, first or last; Unsupported if it cannot be kept."""
        ...

    def mean(self, wanted: Matched) -> tuple[DataType, int, int]:
        """For an average: the column's type, and the registers of its sum and of the count of its values."""
        ...


@dataclass
class Pool:
    """What the programs of all patterns share: constants, columns of the event in hand, and the code.

    `computed` are columns that stand for expressions over the event in hand for which the machine has no
    operation: they are evaluated for whole batches before.
    """

    schema: dict[str, DataType]
    code: list[Instruction] = field(default_factory=list)
    constants: dict[tuple[str, int | str], int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    computed: dict[Typed, str] = field(default_factory=dict)
    stack_size: int = 1

    def copy(self) -> Pool:
        return Pool(
            dict(self.schema),
            list(self.code),
            dict(self.constants),
            dict(self.columns),
            dict(self.computed),
            self.stack_size,
        )

    def put_back(self, kept: Pool) -> None:
        """Make it what it was when `kept` was copied from it."""
        for each in fields(kept):
            setattr(self, each.name, getattr(kept, each.name))

    def column(self, name: str) -> int:
        return self.columns.setdefault(name, len(self.columns))

    def compute(self, expr: Typed) -> int:
        name = self.computed.setdefault(expr, f"#{len(self.computed)}")
        self.schema[name] = expr.type
        return self.column(name)

    def constant(self, constant: Constant) -> int:
        key: tuple[str, int | str]
        if constant.type == STRING:
            key = ("text", constant.value)
        elif constant.type == DOUBLE:
            key = ("cell", int(np.float64(constant.value).view(np.int64)))
        else:
            key = ("cell", int(constant.value))
        return self.constants.setdefault(key, len(self.constants))

    def constant_cells(self) -> tuple[IntArray, tuple[tuple[int, str], ...]]:
        """The constants as cells (0 for text), and the texts whose codes are to be put in."""
        cells = np.zeros(len(self.constants), np.int64)
        texts = []
        for (kind, value), index in self.constants.items():
            if kind == "text":
                texts.append((index, str(value)))
            else:
                cells[index] = value
        return cells, tuple(texts)


def fits_a_cell(type_: DataType) -> bool:
    return not isinstance(type_, (Array, Row))


def depends_on_match(expr: Typed) -> bool:
    return any(isinstance(node, (Matched, Opaque)) for node in nodes(expr))


class Compiler:
    """Compiles one condition into `pool.code`; Unsupported leaves the pool to be put back by the caller."""

    def __init__(self, pool: Pool, registers: Registers) -> None:
        self._pool = pool
        self._registers = registers
        self._depth = 0

    def require(self, expr: Typed) -> None:
        """Code that ends the program with False unless `expr` is TRUE."""
        if isinstance(expr, Apply) and expr.function == "AND":
            # Each part by itself, so that the first that does not hold ends it.
            for arg in expr.args:
                self.require(arg)
            return
        if isinstance(expr, Constant) and expr.value is True:
            return
        self._depth = 0
        operand = self._operand(expr)
        if operand & 3 == machine.TEMPORARY and self._pool.code[-1][0] != machine.SELECT:
            op, _, a, b = self._pool.code[-1]
            self._pool.code[-1] = (op, -1, a, b)
        else:
            self._emit(machine.MOVE, -1, operand, operand)

    def _emit(self, op: int, target: int, a: int, b: int) -> None:
        self._pool.code.append((op, target, a, b))

    def _temporary(self) -> int:
        self._depth += 1
        self._pool.stack_size = max(self._pool.stack_size, self._depth)
        return self._depth - 1

    def _operand(self, expr: Typed) -> int:
        if not fits_a_cell(expr.type):
            raise Unsupported(str(expr.type))
        if isinstance(expr, Constant):
            return self._constant(expr)
        if isinstance(expr, Current):
            return self._pool.column(expr.name) << 2 | machine.COLUMN
        if isinstance(expr, Matched):
            if expr.function == "avg":
                return self._average(expr)
            return self._registers.register(expr) << 2 | machine.REGISTER
        if isinstance(expr, Opaque):
            raise Unsupported("a Python function")
        if depends_on_match(expr):
            return self._apply(expr)
        before = len(self._pool.code), self._depth
        try:
            return self._apply(expr)
        except Unsupported:
            del self._pool.code[before[0] :]
            self._depth = before[1]
            return self._pool.compute(expr) << 2 | machine.COLUMN

    def _constant(self, constant: Constant) -> int:
        if constant.value is None:
            target = self._temporary()
            self._emit(machine.NULL_CELL, target, machine.CONSTANT, machine.CONSTANT)
            self._pool.constant(Constant(BIGINT, 0))
            return target << 2
        return self._pool.constant(constant) << 2 | machine.CONSTANT

    def _apply(self, expr: Apply) -> int:
        name, args = expr.function, expr.args
        if any(arg.type == STRING for arg in args) and name not in _ON_TEXT:
            raise Unsupported(f"{name} of text")
        if name in ("RETYPE", "FROM_BOOLEAN"):
            return self._operand(args[0])
        if name == "CASE":
            return self._case(args)
        if name == "IN":
            return self._in(args)
        if name == "DISTANCE":
            return self._distance(args)
        if name not in OPERATIONS:
            raise Unsupported(name)
        base = self._depth
        operands = [self._operand(arg) for arg in args]
        self._depth = base
        target = self._temporary()
        self._emit(OPERATIONS[name], target, operands[0], operands[-1])
        return target << 2

    def _case(self, args: tuple[Typed, ...]) -> int:
        target = self._temporary()
        inner = self._depth
        otherwise = self._operand(args[-1])
        self._emit(machine.MOVE, target, otherwise, otherwise)
        for at in range(len(args) - 3, -1, -2):
            self._depth = inner
            condition, value = self._operand(args[at]), self._operand(args[at + 1])
            self._emit(machine.SELECT, target, condition, value)
        self._depth = inner
        return target << 2

    def _in(self, args: tuple[Typed, ...]) -> int:
        base = self._depth
        value = self._operand(args[0])
        total = self._temporary()
        inner = self._depth
        equal = machine.EQ_F if args[0].type == DOUBLE else machine.EQ
        for at, arg in enumerate(args[1:]):
            self._depth = inner
            other = self._operand(arg)
            if at == 0:
                self._emit(equal, total, value, other)
                continue
            target = self._temporary()
            self._emit(equal, target, value, other)
            self._emit(machine.OR, total, total << 2, target << 2)
        # The result goes where a caller expects it: at the depth it was called at.
        self._depth = base
        target = self._temporary()
        if target != total:
            self._emit(machine.MOVE, target, total << 2, total << 2)
        return target << 2

    def _distance(self, args: tuple[Typed, ...]) -> int:
        first = self._depth
        for arg in args:
            base = self._depth
            operand = self._operand(arg)
            self._depth = base
            target = self._temporary()
            if operand != target << 2:
                self._emit(machine.MOVE, target, operand, operand)
        self._depth = first
        target = self._temporary()
        self._emit(machine.DISTANCE, target, first << 2, first << 2)
        return target << 2

    def _average(self, expr: Matched) -> int:
        type_, total, count = self._registers.mean(expr)
        target = self._temporary()
        if type_ == DOUBLE:
            self._emit(machine.TO_DOUBLE, target, count << 2 | machine.REGISTER, count << 2 | machine.REGISTER)
            self._emit(machine.DIVIDE_F, target, total << 2 | machine.REGISTER, target << 2)
            return target << 2
        self._emit(machine.MEAN, target, total << 2 | machine.REGISTER, count << 2 | machine.REGISTER)
        scale = scale_of(type_)
        if scale:
            unit = self._operand(Constant(DOUBLE, float(10**scale)))
            self._emit(machine.DIVIDE_F, target, target << 2, unit)
        return target << 2
