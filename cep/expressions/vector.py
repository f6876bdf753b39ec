"""Expressions evaluated for a batch at once.

    evaluate(amount < 1, columns, rows) -> Vector of BOOLEAN

Rows that are NULL hold zero, an empty text or None, as everywhere. What has no function of whole columns here (arrays,
rows, conversions to text) goes through Python row by row, texts once per distinct value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ostinato.cep.batch import AnyArray, BoolArray, Vector, physical_dtype
from ostinato.cep.event import Event
from ostinato.cep.expressions import vector_logic, vector_numbers, vector_text
from ostinato.cep.expressions.core import to_core
from ostinato.cep.expressions.operations import from_python, function_of
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import BOOLEAN, STRING, Array, Row

Argument = Vector | Constant
Memo = dict[Typed, Vector]

_LOGIC: dict[str, Callable[..., Vector]] = {
    "AND": vector_logic.conjunction,
    "OR": vector_logic.disjunction,
    "NOT": vector_logic.negation,
    "IS_NULL": vector_logic.is_null,
    "IS_TRUE": vector_logic.is_true,
    "IS_FALSE": vector_logic.is_false,
    "COALESCE": vector_logic.coalesce,
}


def evaluate(expr: Typed, columns: Mapping[str, Vector], rows: int, memo: Memo | None = None) -> Vector:
    """The expression's value in each row.

    Args:
        expr: of the event in hand alone; a `Matched` must have its value in `memo`.
        columns: the columns by name, each of `rows` rows.
        memo: values of sub-expressions, used and filled; for one batch, shared by all expressions over it.

    A Python function's exceptions pass through.
    """
    with np.errstate(all="ignore"):
        value = _Evaluation(columns, rows, {} if memo is None else memo).of(to_core(expr))
    return value if isinstance(value, Vector) else vector_logic.constant(expr.type, value.value, rows)


def predicate(expr: Typed, columns: Mapping[str, Vector], rows: int, memo: Memo | None = None) -> BoolArray:
    """The rows where a BOOLEAN expression is TRUE (NULL counts as False). bool[rows], not to be written to."""
    return evaluate(expr, columns, rows, memo).array


class _Evaluation:
    """One batch: expressions in, vectors (or constants as they are) out."""

    def __init__(self, columns: Mapping[str, Vector], rows: int, memo: Memo) -> None:
        self._columns = columns
        self._rows = rows
        self._memo = memo

    def of(self, expr: Typed) -> Argument:
        if isinstance(expr, Constant):
            return expr
        if isinstance(expr, Current):
            return self._columns[expr.name]
        found = self._memo.get(expr)
        if found is None:
            if isinstance(expr, Matched):
                raise ValueError(f"{expr.function}({expr.stage}.{expr.name}) depends on a partial match")
            found = self._opaque(expr) if isinstance(expr, Opaque) else self._apply(expr)
            self._memo[expr] = found
        return found

    def _vector(self, argument: Argument) -> Vector:
        if isinstance(argument, Vector):
            return argument
        return vector_logic.constant(argument.type, argument.value, self._rows)

    def _opaque(self, expr: Opaque) -> Vector:
        if expr.iterative:
            raise ValueError("an iterative function depends on a partial match")
        function, type_, columns = expr.function, expr.type, self._columns
        return Vector.of(type_, [from_python(function(Event(columns, row)), type_) for row in range(self._rows)])

    def _apply(self, expr: Apply) -> Vector:
        name = expr.function
        args = [self.of(arg) for arg in expr.args]
        if name == "RETYPE":
            source = self._vector(args[0])
            return Vector(expr.type, source.values, source.valid)
        if name in _LOGIC:
            made = _LOGIC[name](*(self._vector(arg) for arg in args))
            return Vector(expr.type, made.values, made.valid)
        if name == "CASE":
            return self._case(expr, args)
        if name == "IN":
            return self._in(args)
        if name in ("DISTINCT", "DISTINCT_F"):
            left, right = (self._vector(arg) for arg in args)
            return vector_logic.distinct(left, right, self._strict("NE", expr, [left, right]))
        return self._strict(name, expr, args)

    def _strict(self, name: str, expr: Apply, args: Sequence[Argument]) -> Vector:
        """Functions that are NULL where an argument is."""
        if any(isinstance(arg, Constant) and arg.value is None for arg in args):
            return vector_logic.constant(expr.type, None, self._rows)
        types = [arg.type for arg in args]
        if STRING in types:
            return self._text(name, expr, args)
        numbers = vector_numbers.FUNCTIONS.get(name)
        if (
            numbers is None
            or any(isinstance(type_, (Array, Row)) for type_ in types)
            or (name in vector_numbers.CONSTANT_LAST and not isinstance(args[-1], Constant))
        ):
            return self._row_by_row(name, expr, args)
        values, failed = numbers(*(arg.array if isinstance(arg, Vector) else arg.value for arg in args))
        valid = None
        for arg in args:
            if isinstance(arg, Vector):
                valid = vector_logic.both(valid, arg.valid)
        return _finished(expr, values, failed, valid)

    def _text(self, name: str, expr: Apply, args: Sequence[Argument]) -> Vector:
        if name in ("EQ", "NE", "text_lt", "text_le"):
            return vector_text.compare(name, args)
        made = vector_text.fast(expr, args)
        if made is not None:
            return made
        columns = vector_text.text_columns(args)
        if len(columns) == 1:
            return vector_text.per_distinct(expr.type, function_of(expr), args, columns[0])
        return self._row_by_row(name, expr, args)

    def _row_by_row(self, name: str, expr: Apply, args: Sequence[Argument]) -> Vector:
        function = function_of(Apply(expr.type, name, expr.args))
        lists = [arg.to_list() if isinstance(arg, Vector) else [arg.value] * self._rows for arg in args]
        return Vector.of(expr.type, [function(*values) for values in zip(*lists, strict=True)])

    def _case(self, expr: Apply, args: Sequence[Argument]) -> Vector:
        vectors = [self._vector(arg) for arg in args]
        conditions = [condition.array for condition in vectors[:-1:2]]
        return vector_logic.choose(expr.type, conditions, vectors[1:-1:2], vectors[-1])

    def _in(self, args: Sequence[Argument]) -> Vector:
        vector = args[0]
        assert isinstance(vector, Vector), "IN of constants alone is folded"
        others = [arg.value for arg in args[1:] if isinstance(arg, Constant)]
        listed = [value for value in others if value is not None]
        if vector.type == STRING:
            found = vector_text.one_of(vector, listed)
        elif isinstance(vector.type, (Array, Row)):
            found = np.fromiter((value in listed for value in vector.array), np.bool_, self._rows)
        else:
            found = np.isin(vector.array, np.array(listed, physical_dtype(vector.type)))
        if vector.valid is not None:
            found = found & vector.valid
        # Not among them, but perhaps it is what the NULL among them stands for.
        return Vector(BOOLEAN, found, vector.valid if len(listed) == len(others) else found)


def _finished(expr: Apply, values: AnyArray, failed: BoolArray | None, valid: BoolArray | None) -> Vector:
    """The result with zeros where it is NULL."""
    dtype = physical_dtype(expr.type)
    if values.dtype != dtype:
        values = values.astype(dtype)
    if failed is not None and np.any(failed):
        # Of a constant alone it is one answer for all rows.
        answered = np.broadcast_to(~failed, values.shape)
        valid = answered.copy() if valid is None else valid & answered
    if valid is not None:
        values = np.where(valid, values, np.zeros((), dtype))
    return Vector(expr.type, values, valid)
