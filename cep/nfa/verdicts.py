"""What the conditions of a pattern say of some events, condition by condition and part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ostinato.cep.batch import Batch, Vector
from ostinato.cep.event import Event, natural, physical, read
from ostinato.cep.expressions.scalar import aggregate, value_function
from ostinato.cep.expressions.vector import evaluate
from ostinato.cep.nfa.build import group_name
from ostinato.cep.nfa.formula import Atom
from ostinato.cep.nfa.hooks import HookContext
from ostinato.cep.nfa.partial import Partial, register_name
from ostinato.cep.nfa.tables import has_opaque
from ostinato.patterns import ast
from ostinato.patterns.printer import print_expression
from ostinato.patterns.typecheck import CheckedPattern, typed_part
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Typed, is_iterative, nodes
from ostinato.patterns.types import Decimal

Role = Literal["take", "until", "not"]
"""Whether the event has to hold it to be taken, ends a repetition by it, or ends the partial match by it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the parts of a condition that ``and`` joins.

    Attributes:
        text: as it is written.
        holds: None is NULL, which is not true.
        values: what it read: columns of the event, and what it says of the events matched before.
        error: why it could not be decided.
    """

    text: str
    holds: bool | None
    values: Mapping[str, Any]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition says of an event.

    Attributes:
        stage: whose condition it is.
        role: what it is for.
        partial_match: the position of the partial match that it was asked for, None where it is the same for all.
        text: as it is written; empty where there is none, which all events fit.
        holds: None is NULL.
        failed: where it does not hold, the parts that do not.
    """

    stage: str
    role: Role
    partial_match: int | None
    text: str
    holds: bool | None
    failed: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a pattern, as it is written and typed, whole and in parts; `whole` None: there is none."""

    atom: Atom
    role: Role
    text: str = ""
    whole: Typed | None = None
    parts: tuple[tuple[str, Typed], ...] = ()

    @property
    def iterative(self) -> bool:
        """Does it depend on the partial match?"""
        return self.whole is not None and is_iterative(self.whole)


def condition_of(checked: CheckedPattern, atom: Atom, role: Role) -> Condition:
    """The condition that an atom of the automaton's guards stands for."""
    if atom.kind == "where":
        stage = next(each for each in ast.stages_of(checked.pattern.items) if each.name == atom.owner)
        return _condition(checked, atom, role, stage.condition, checked.conditions.get(atom.owner), stage.name)
    for stage in ast.stages_of(checked.pattern.items):
        if stage.name == atom.owner and stage.until is not None:
            return _condition(checked, atom, role, stage.until, checked.untils.get(stage.name), stage.name)
    for group, typed in checked.group_untils.items():
        if group_name(group) == atom.owner:
            return _condition(checked, atom, role, group.until, typed, None)
    return Condition(atom, role)


def _condition(
    checked: CheckedPattern, atom: Atom, role: Role, expr: ast.Expr | None, typed: Typed | None, stage: str | None
) -> Condition:
    if expr is None or typed is None:
        return Condition(atom, role)
    parts = tuple((_text(part), typed_part(checked, part, stage)) for part in _conjuncts(expr))
    return Condition(atom, role, _text(expr), typed, parts)


def _conjuncts(expr: ast.Expr) -> Iterator[ast.Expr]:
    if isinstance(expr, ast.Call) and expr.function == "and":
        for arg in expr.args:
            yield from _conjuncts(arg)
    else:
        yield expr


def _text(expr: ast.Expr) -> str:
    return print_expression(expr, show_python=True)


class Matches:
    """What conditions may read of the events matched so far: those of a partial match, or none at all."""

    def __init__(self, partial: Partial | None, event_of: Callable[[int], Event]) -> None:
        self._partial = partial
        self._event_of = event_of

    def value(self, of: Matched) -> Any:
        """The physical value. Raises KeyError where the event's column is not kept."""
        if self._partial is None:
            return 0 if of.function == "count" else None
        registers = self._partial.registers
        found = register_name(of.function, of.stage, of.name, of.offset)
        if found in registers:
            return registers[found]
        if of.function == "avg" and register_name("sum", of.stage, of.name, 0) in registers:
            total = registers[register_name("sum", of.stage, of.name, 0)]
            count = registers[register_name("count", of.stage, of.name, 0)]
            if not count or total is None:
                return None
            return total / count / self._unit(of)
        events = self.events(of.stage)
        if of.name is None:
            return len(events)
        if of.function in ("first", "last"):
            at = of.offset if of.function == "first" else len(events) - 1 - of.offset
            return physical(events[at], of.name) if 0 <= at < len(events) else None
        values = [value for value in (physical(each, of.name) for each in events) if value is not None]
        return aggregate(of.function, values, events[0]._columns[of.name].type if values else of.type)

    def _unit(self, of: Matched) -> float:
        events = self.events(of.stage)
        known = of.name is not None and bool(events) and of.name in events[0]._columns
        type_ = events[0]._columns[of.name].type if known and of.name is not None else None
        return float(10**type_.scale) if isinstance(type_, Decimal) else 1.0

    def events(self, stage: str) -> list[Event]:
        """The events of a stage, with the columns that are kept of them."""
        if self._partial is None:
            return []
        return [self._event_of(slot) for own, slot in self._partial.path if own == stage]

    def context(self, stages: Sequence[str], time: int) -> HookContext:
        """What Python conditions are given."""
        return HookContext(lambda: {stage: self.events(stage) for stage in stages}, time)


def verdicts(
    condition: Condition, batch: Batch, matches: Matches, position: int | None, stages: Sequence[str]
) -> list[Verdict]:
    """What a condition says of each event, for one partial match. `position`: that of the partial match."""
    stage, role = condition.atom.owner, condition.role
    if condition.whole is None:
        return [Verdict(stage, role, position, "", True) for _ in range(len(batch))]
    held, error = _decide(condition.whole, batch, matches, stages)
    parts = [(text, typed, *_decide(typed, batch, matches, stages)) for text, typed in condition.parts]
    found = []
    for row in range(len(batch)):
        failed: tuple[Part, ...] = ()
        if held[row] is not True:
            failed = tuple(
                Part(text, own[row], _values(typed, batch, row, matches), wrong)
                for text, typed, own, wrong in parts
                if own[row] is not True or wrong
            )
        found.append(Verdict(stage, role, position, condition.text, held[row] if error is None else None, failed))
    return found


def _decide(expr: Typed, batch: Batch, matches: Matches, stages: Sequence[str]) -> tuple[list[bool | None], str | None]:
    """TRUE, FALSE or NULL for each event, or why that cannot be said."""
    rows = len(batch)
    try:
        if has_opaque(expr):
            decide = value_function(expr)
            return [
                decide(Event(batch.columns, row), matches.context(stages, int(batch.time[row]))) for row in range(rows)
            ], None
        return evaluate(_filled(expr, matches), batch.columns, rows).to_list(), None
    except KeyError as error:
        return [None] * rows, f"column {error.args[0]} is not kept of these events"
    except Exception as error:  # noqa: BLE001 - a Python function may raise anything
        return [None] * rows, f"{type(error).__name__}: {error}"


def _filled(expr: Typed, matches: Matches) -> Typed:
    """The expression with what it says of the events matched before in its place."""
    if isinstance(expr, Matched):
        return Constant(expr.type, matches.value(expr))
    if isinstance(expr, Apply):
        return replace(expr, args=tuple(_filled(arg, matches) for arg in expr.args))
    return expr


def _values(expr: Typed, batch: Batch, row: int, matches: Matches) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in nodes(expr):
        if isinstance(node, Current) and node.name in batch.columns:
            found[node.name] = plain_of(batch.columns[node.name], row)
        elif isinstance(node, Matched):
            try:
                found[_named(node)] = plain(natural(matches.value(node), node.type))
            except KeyError:
                continue
    return found


def _named(of: Matched) -> str:
    inside = of.stage if of.name is None else f"{of.stage}.{of.name}"
    return f"{of.function}({inside}{f', {of.offset}' if of.offset else ''})"


def plain_of(column: Vector, row: int) -> Any:
    """A value of a column as JSON can hold it: DECIMAL as text."""
    return plain(natural(read(column, row), column.type))


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
