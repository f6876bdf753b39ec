"""Every way of evaluating an expression gives what it means: batches, the machine, single events, and emission."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Strings, Vector
from ostinato.cep.event import Event
from ostinato.cep.expressions import condition_function, evaluate, evaluate_outputs, lower, machine, value_function
from ostinato.cep.expressions.registers import RegisterPlan
from ostinato.cep.jit import interpreted, kernels
from ostinato.cep.match_table import MatchTable
from ostinato.cep.strings import Interner
from ostinato.patterns.typed import Matched, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, DataType
from tests.property.expression_reference import value_of
from tests.property.expression_strategies import MONEY, SCHEMA, aggregates, expressions, rows

Rows = list[dict[str, Any]]
quick = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def columns_of(events: Rows) -> dict[str, Vector]:
    return {name: Vector.of(type_, [event[name] for event in events]) for name, type_ in SCHEMA.items()}


def assert_same(found: Any, wanted: Any, what: object) -> None:
    if isinstance(wanted, float) and isinstance(found, float):
        assert found == wanted or math.isclose(found, wanted, rel_tol=1e-12) or (found != found and wanted != wanted), (
            what
        )
    else:
        assert (found, type(found)) == (wanted, type(wanted)), what


class Context:
    """A partial match, as conditions on single events see it."""

    timestamp = 0

    def __init__(self, columns: Mapping[str, Vector], taken: Mapping[str, Sequence[int]]) -> None:
        self._events = {stage: [Event(columns, row) for row in positions] for stage, positions in taken.items()}

    def get_events_for_pattern(self, stage: str) -> list[Event]:
        return self._events.get(stage, [])


class Machine:
    """The machine with the plan of one pattern, over a batch, with one partial match in register row 1."""

    def __init__(self, plan: RegisterPlan, columns: Mapping[str, Vector], rows: int, functions: Any) -> None:
        self.plan, self.functions = plan, functions
        interner = Interner()
        self.constants = plan.constants.copy()
        for index, text in plan.text_constants:
            self.constants[index] = interner.code(text)
        self.cells = np.zeros((rows, len(plan.columns)), np.int64)
        self.null = np.zeros((rows, len(plan.columns)), np.uint8)
        for at, (name, type_) in enumerate(plan.columns):
            column = evaluate(plan.computed[name], columns, rows) if name in plan.computed else columns[name]
            assert column.type == type_
            if column.valid is not None:
                self.null[:, at] = ~column.valid
            if type_ == DOUBLE:
                self.cells.view(np.float64)[:, at] = column.array
            else:
                self.cells[:, at] = interner.intern(column.strings) if type_ == STRING else column.array
        self.registers = np.zeros((2, plan.widths[0]), np.int64)
        self.registers_null = np.zeros((2, plan.widths[0]), np.uint8)
        self.registers[0], self.registers_null[0] = plan.initial_i[0], plan.initial_null[0]
        self.registers[1], self.registers_null[1] = self.registers[0], self.registers_null[0]
        # Temporaries may hold anything.
        self.stack, self.stack_null = np.full(plan.stack_size, 77, np.int64), np.ones(plan.stack_size, np.uint8)

    def take(self, stage: str, row: int) -> None:
        start, end = self.plan.updates[0].get(stage, (0, 0))
        registers = (self.registers, self.registers.view(np.float64), self.registers_null)
        events = (self.cells, self.cells.view(np.float64), self.null)
        self.functions.take(self.plan.updates_code, start, end, row, *events, 1, 1, *registers)

    def condition(self, row: int) -> bool:
        program = self.plan.conditions[0][0]
        assert program is not None
        registers = (self.registers, self.registers.view(np.float64), self.registers_null)
        events = (self.cells, self.cells.view(np.float64), self.null)
        stack = (self.stack, self.stack.view(np.float64), self.stack_null)
        return bool(
            self.functions.condition(self.plan.code, self.constants, *program, row, *events, 1, *registers, *stack)
        )


@pytest.mark.parametrize("type_", [BIGINT, DOUBLE, MONEY, STRING, BOOLEAN, TIMESTAMP, DATE, INTERVAL], ids=str)
@given(data=st.data())
@settings(quick, max_examples=200)
def test_batches_and_single_events(type_: DataType, data: st.DataObject) -> None:
    expr = data.draw(expressions(type_))
    events = data.draw(rows())
    columns = columns_of(events)
    vector = evaluate(expr, columns, len(events))
    alone = value_function(expr)
    assert len(vector) == len(events)
    for row, (event, found) in enumerate(zip(events, vector.to_list(), strict=True)):
        wanted = value_of(expr, event)
        assert_same(found, wanted, (expr, event))
        assert_same(alone(Event(columns, row), Context(columns, {})), wanted, (expr, event))
    check_nulls_are_zero(vector)


def check_nulls_are_zero(vector: Vector) -> None:
    if vector.valid is None:
        return
    held = vector.values.length if isinstance(vector.values, Strings) else vector.values
    assert not np.any(held[~vector.valid])


@given(data=st.data())
@settings(quick, max_examples=200)
def test_machine_on_the_event_in_hand(data: st.DataObject) -> None:
    expr = data.draw(expressions(BOOLEAN))
    events = data.draw(rows())
    columns = columns_of(events)
    plan = lower([[expr]], SCHEMA)
    for functions in (kernels(machine), interpreted(machine)):
        run = Machine(plan, columns, len(events), functions)
        for row, event in enumerate(events):
            assert run.condition(row) == (value_of(expr, event) is True), (expr, event)


@given(data=st.data())
@settings(quick, max_examples=200)
def test_conditions_on_the_partial_match(data: st.DataObject) -> None:
    expr = data.draw(expressions(BOOLEAN, 2, matched=True))
    events = data.draw(rows(d=st.integers(-100, 100).map(float), e=st.integers(-9, 9).map(float)))
    stages = data.draw(st.lists(st.sampled_from("ab"), min_size=len(events), max_size=len(events)))
    columns = columns_of(events)
    plan = lower([[expr]], SCHEMA)
    alone = condition_function(expr)
    runs = [Machine(plan, columns, len(events), functions) for functions in (kernels(machine), interpreted(machine))]
    taken: dict[str, list[int]] = {"a": [], "b": []}
    for row, (event, stage) in enumerate(zip(events, stages, strict=True)):
        matched = {name: [events[at] for at in positions] for name, positions in taken.items()}
        wanted = value_of(expr, event, matched) is True
        assert alone(Event(columns, row), Context(columns, taken)) == wanted, (expr, event, matched)
        for run in runs:
            if plan.conditions[0][0] is not None:
                assert run.condition(row) == wanted, (expr, event, matched)
            run.take(stage, row)
        taken[stage].append(row)


@st.composite
def emitted(draw: st.DrawFn) -> tuple[list[Typed], Rows, list[dict[str, list[int]]]]:
    type_: st.SearchStrategy[DataType] = st.sampled_from([BIGINT, DOUBLE, MONEY, STRING, TIMESTAMP, BOOLEAN])
    exprs = [
        draw(aggregates(each, [n for n, t in SCHEMA.items() if t == each]))
        for each in draw(st.lists(type_, max_size=3))
    ]
    exprs.append(draw(expressions(draw(type_), 1, matched=True)))
    events = draw(rows())
    positions = st.lists(st.integers(0, len(events) - 1), max_size=6)
    return exprs, events, draw(st.lists(st.fixed_dictionaries({"a": positions, "b": positions}), max_size=5))


@given(case=emitted())
@quick
def test_emission(case: tuple[list[Typed], Rows, list[dict[str, list[int]]]]) -> None:
    exprs, events, matches = case
    segments = {}
    for stage in "ab":
        offsets = np.cumsum([0, *(len(match[stage]) for match in matches)], dtype=np.int64)
        segments[stage] = (offsets, np.array([row for match in matches for row in match[stage]], np.int64))
    keys = [events[at % len(events)] for at in range(len(matches))]
    times = np.arange(len(matches), dtype=np.int64)
    table = MatchTable(columns_of(keys), times, times + 5, columns_of(events), segments)
    outputs = [(str(at), expr) for at, expr in enumerate(exprs)]
    outputs += [("start", Matched(TIMESTAMP, "start", "")), ("end", Matched(TIMESTAMP, "end", ""))]
    found = evaluate_outputs(outputs, table)
    assert found["start"].to_list() == times.tolist()
    assert found["end"].to_list() == (times + 5).tolist()
    for name, expr in outputs[:-2]:
        check_nulls_are_zero(found[name])
        values = found[name].to_list()
        assert len(values) == len(matches)
        for value, key, match in zip(values, keys, matches, strict=True):
            taken = {stage: [events[at] for at in match[stage]] for stage in "ab"}
            assert_same(value, value_of(expr, key, taken), (expr, key, taken))
