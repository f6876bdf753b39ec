"""The registers of a partial match: which ones the conditions need, and how each event taken changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ostinato.cep.batch import IntArray
from ostinato.cep.expressions import machine
from ostinato.cep.expressions.core import to_core
from ostinato.cep.expressions.program import Compiler, Instruction, Pool, Unsupported, fits_a_cell
from ostinato.patterns.typed import Matched, Typed
from ostinato.patterns.types import DOUBLE, STRING, DataType

Range = tuple[int, int]
"""Rows from and up to (exclusive) of `RegisterPlan.code` or `RegisterPlan.updates_code`."""

MAX_OFFSET = 64
"""``last(x, n)`` keeps n + 1 values in each partial match; with more than this it is left to Python."""


@dataclass(frozen=True)
class RegisterPlan:
    """The programs of several patterns over one stream, and the registers they work on.

    Attributes:
        columns: what of the event in hand the machine reads, in the order of `cols_i`; text as interned codes.
        computed: the columns (named ``#0``, ``#1``, ...) that are no columns of the stream but expressions to be
            evaluated for a batch with `vector.evaluate`.
        code, constants: programs, int64[n, 4], and constants, int64[], of all patterns.
        text_constants: index in `constants` and text whose code is to be put there.
        conditions: for each pattern and each of its conditions the program, None where the machine cannot do it.
        updates_code, updates: int64[m, 4], and for each pattern the program of each stage that changes registers.
        widths: how many registers a partial match of each pattern has.
        registers: what stands in each of them, for telling whether stored ones still mean the same: function, stage,
            column, offset and type.
        initial_i, initial_null: those of the empty partial match, int64[width] and uint8[width].
        text_columns, text_registers: which columns, and which registers of each pattern, hold codes of texts.
        stack_size: how many temporaries a program needs at most.
    """

    columns: tuple[tuple[str, DataType], ...]
    computed: Mapping[str, Typed]
    code: IntArray
    constants: IntArray
    text_constants: tuple[tuple[int, str], ...]
    conditions: tuple[tuple[Range | None, ...], ...]
    updates_code: IntArray
    updates: tuple[Mapping[str, Range], ...]
    widths: tuple[int, ...]
    registers: tuple[tuple[str, ...], ...]
    initial_i: tuple[IntArray, ...]
    initial_null: tuple[machine.Flags, ...]
    text_columns: tuple[int, ...]
    text_registers: tuple[tuple[int, ...], ...]
    stack_size: int


def lower(patterns: Sequence[Sequence[Typed]], schema: Mapping[str, DataType]) -> RegisterPlan:
    """Compile the conditions of patterns that read one stream, whose columns `schema` gives.

    >>> from ostinato.patterns.typed import Apply, Current
    >>> from ostinato.patterns.types import BOOLEAN
    >>> rising = Apply(BOOLEAN, ">", (Current(DOUBLE, "price"), Matched(DOUBLE, "last", "b", "price")))
    >>> plan = lower([[rising]], {"price": DOUBLE})
    >>> plan.conditions, plan.widths, dict(plan.updates[0]), [name for name, _ in plan.columns]
    ((((0, 1),),), (1,), {'b': (0, 1)}, ['price'])
    """
    pool = Pool(dict(schema))
    updates_code: list[Instruction] = []
    conditions, updates, files = [], [], []
    for pattern in patterns:
        registers = _RegisterFile(pool)
        conditions.append(tuple(_compile(to_core(expr), pool, registers) for expr in pattern))
        ranges = {}
        for stage, rows in registers.updates().items():
            ranges[stage] = (len(updates_code), len(updates_code) + len(rows))
            updates_code.extend(rows)
        updates.append(ranges)
        files.append(registers)
    constants, text_constants = pool.constant_cells()
    columns = tuple((name, pool.schema[name]) for name in pool.columns)
    return RegisterPlan(
        columns=columns,
        computed={name: expr for expr, name in pool.computed.items() if name in pool.columns},
        code=np.array(pool.code, np.int64).reshape(-1, 4),
        constants=constants,
        text_constants=text_constants,
        conditions=tuple(conditions),
        updates_code=np.array(updates_code, np.int64).reshape(-1, 4),
        updates=tuple(updates),
        widths=tuple(len(file.types) for file in files),
        registers=tuple(file.described() for file in files),
        initial_i=tuple(np.zeros(len(file.types), np.int64) for file in files),
        initial_null=tuple(np.array(file.initially_null, np.uint8) for file in files),
        text_columns=tuple(at for at, (_, type_) in enumerate(columns) if type_ == STRING),
        text_registers=tuple(tuple(at for at, type_ in enumerate(file.types) if type_ == STRING) for file in files),
        stack_size=pool.stack_size,
    )


def _compile(expr: Typed, pool: Pool, registers: _RegisterFile) -> Range | None:
    """The program of one condition, or None, with nothing left behind."""
    before, kept = pool.copy(), registers.copy()
    try:
        Compiler(pool, registers).require(expr)
    except Unsupported:
        pool.put_back(before)
        registers.put_back(kept)
        return None
    return len(before.code), len(pool.code)


@dataclass
class _RegisterFile:
    """The registers of one pattern.

    `slots` says what stands in a register: ``(function, column, offset)`` of a stage.
    """

    pool: Pool
    slots: dict[tuple[str, str, str | None, int], int] = field(default_factory=dict)
    types: list[DataType | None] = field(default_factory=list)
    initially_null: list[bool] = field(default_factory=list)

    def copy(self) -> _RegisterFile:
        return _RegisterFile(self.pool, dict(self.slots), list(self.types), list(self.initially_null))

    def put_back(self, kept: _RegisterFile) -> None:
        self.slots, self.types, self.initially_null = kept.slots, kept.types, kept.initially_null

    def described(self) -> tuple[str, ...]:
        """What stands in each register, as a text."""
        return tuple(
            f"{function} {stage}.{name or '*'} {offset} {self.types[at] or 'count'}"
            for (function, stage, name, offset), at in sorted(self.slots.items(), key=lambda item: item[1])
        )

    def register(self, wanted: Matched) -> int:
        function, stage, name = wanted.function, wanted.stage, wanted.name
        if function == "count":
            return self._slot("count", stage, name, 0, None, null=False)
        if function not in ("sum", "min", "max", "first", "last") or name is None:
            raise Unsupported(function)
        type_ = self._column_type(name)
        if function == "sum":
            return self._sum(stage, name, type_)
        if function in ("min", "max"):
            if type_ == STRING:
                raise Unsupported("the order of texts")
            return self._slot(function, stage, name, 0, type_)
        if wanted.offset > MAX_OFFSET:
            raise Unsupported("many values of one column")
        if function == "first":
            self._slot("count", stage, None, 0, None, null=False)
            return self._slot("first", stage, name, wanted.offset, type_)
        return [self._slot("last", stage, name, offset, type_) for offset in range(wanted.offset + 1)][-1]

    def mean(self, wanted: Matched) -> tuple[DataType, int, int]:
        assert wanted.name is not None, "an average is one of a column"
        type_ = self._column_type(wanted.name)
        count = self._slot("count", wanted.stage, wanted.name, 0, None, null=False)
        return type_, self._sum(wanted.stage, wanted.name, type_), count

    def updates(self) -> dict[str, list[Instruction]]:
        """For each stage what taking an event for it does, in an order in which nothing is read too late."""
        rows: dict[str, list[Instruction]] = {}
        ordered = sorted(self.slots.items(), key=self._urgency)
        for (function, stage, name, offset), register in ordered:
            if function == "carry":
                continue
            column = self.pool.column(name) if name is not None else 0
            rows.setdefault(stage, []).append(self._update(function, stage, name, offset, register, column))
        return rows

    def _update(
        self, function: str, stage: str, name: str | None, offset: int, register: int, column: int
    ) -> Instruction:
        if function == "count":
            return (machine.COUNT if name is None else machine.COUNT_VALUES, register, column, 0)
        if function == "first":
            counted = self.slots["count", stage, None, 0]
            return machine.FIRST, register, column, offset << 16 | counted
        if function == "last":
            if offset == 0:
                return machine.LAST, register, column, 0
            return machine.SHIFT, register, self.slots["last", stage, name, offset - 1], 0
        double = self.types[register] == DOUBLE
        op = {
            "sum": (machine.SUM, machine.SUM_F),
            "min": (machine.MINIMUM, machine.MINIMUM_F),
            "max": (machine.MAXIMUM, machine.MAXIMUM_F),
        }[function][double]
        return op, register, column, 0

    @staticmethod
    def _urgency(slot: tuple[tuple[str, str, str | None, int], int]) -> tuple[int, int, int]:
        """Older values are shifted before newer ones overwrite them, and first() sees the count from before."""
        (function, _, name, offset), register = slot
        return function == "count" and name is None, -offset if function == "last" else 0, register

    def _column_type(self, name: str) -> DataType:
        type_ = self.pool.schema[name]
        if not fits_a_cell(type_):
            raise Unsupported(str(type_))
        return type_

    def _sum(self, stage: str, name: str, type_: DataType) -> int:
        register = self._slot("sum", stage, name, 0, type_)
        if type_ != DOUBLE:
            # What the sum carried over 64 bits stands in the register behind it.
            carry = self._slot("carry", stage, name, 0, None, null=False)
            assert carry == register + 1
        return register

    def _slot(
        self, function: str, stage: str, name: str | None, offset: int, type_: DataType | None, *, null: bool = True
    ) -> int:
        key = (function, stage, name, offset)
        if key not in self.slots:
            self.slots[key] = len(self.types)
            self.types.append(type_)
            self.initially_null.append(null)
        return self.slots[key]
