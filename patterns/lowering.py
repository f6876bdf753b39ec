"""Python conditions as expressions of the language, read from their bytecode.

``lower(lambda e: e.status == "FAILED")`` gives ``status = 'FAILED'``: such a condition is evaluated for a whole batch
at once, and inside the matcher's kernel. Neither source text nor a file is needed, so that lambdas typed at a prompt,
several on one line, and made by other functions are all the same. What has no twin in the language is left to Python,
which is slower and still correct; `Lowered.why_not` says what it was.

What is promised:

* The expression and the function agree on every event for which the function gives an answer. Where the function would
  raise (``None < 3``, a division by zero) the condition does not hold.
* ``==`` and ``!=`` treat None as Python does: ``e.x != 3`` holds where `x` is missing.
* Times are whole milliseconds, as they are to the function; they may also be compared with a constant `datetime`, and
  the time between two of them with a `timedelta`.
* Constants are those at the time of lowering: captured variables and globals are read once.
* Whole numbers are 64 bits wide, as the language's are.

The reader is a symbolic interpreter: it runs the bytecode with expressions for values. At a branch it runs both ways
and joins what comes out; loops are refused, but for those over the events of a stage inside ``sum``, ``min``, ``max``.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

from ostinato.patterns.ast import Call, Expr, PythonCall, walk
from ostinato.patterns.bytecode import Kind, Operation, operations
from ostinato.patterns.python_calls import Columns, attribute, call_constant, call_method, construct, item
from ostinato.patterns.python_operators import (
    arithmetic,
    compare,
    contains,
    is_none,
    logical_not,
    negative,
    same,
    spread,
    truth,
)
from ostinato.patterns.symbolic import (
    FALSE,
    TRUE,
    Constant,
    Context,
    EachEvent,
    EachField,
    EachIsNotNone,
    Empty,
    EventInHand,
    Function,
    Generator,
    Items,
    Iterator,
    Known,
    Method,
    NotLoweredError,
    Symbol,
    Value,
    choice,
    relaxed,
)
from ostinato.patterns.types import BOOLEAN, DataType

_MOST_STEPS = 5_000
"""Both sides of every branch are run; a function that needs more steps than this is left to Python."""
_MOST_NODES = 1_500
"""A longer expression is left to Python."""
_DEEPEST_CALL = 8
"""Functions that call functions are read into each other down to here."""
_GENERATOR_FLAG = 0x20


@dataclass(frozen=True, slots=True)
class Lowered:
    """An expression, and where it is a `PythonCall`, why."""

    expr: Expr
    why_not: str | None = None


def lower(
    function: Callable[..., Any], *, columns: Mapping[str, DataType] | None = None, iterative: bool = False
) -> Lowered:
    """The condition as an expression.

    Args:
        function: of the event, or, where `iterative`, of the event and the context.
        columns: the stream's columns. Without them whatever depends on a type is left to Python.

    >>> lower(lambda e: 1 < e.x <= 3).expr.function
    'and'
    >>> lower(lambda e: open(e.x)).why_not
    '`open` is called'
    """
    try:
        arguments: list[Symbol] = [EventInHand(), Context()] if iterative else [EventInHand()]
        condition = relaxed(truth(run(function, arguments, columns)))
        if sum(1 for _ in walk(condition)) > _MOST_NODES:
            raise NotLoweredError("the condition is very long")
    except NotLoweredError as reason:
        return Lowered(PythonCall(function, iterative, BOOLEAN), str(reason))
    except RecursionError:
        return Lowered(PythonCall(function, iterative, BOOLEAN), "the function is nested too deeply")
    return Lowered(condition)


def why_not(
    function: Callable[..., Any], *, columns: Mapping[str, DataType] | None = None, iterative: bool = False
) -> str | None:
    """Why a condition is evaluated by Python, for ``ostinato explain``; None where it is not."""
    return lower(function, columns=columns, iterative=iterative).why_not


def run(function: Callable[..., Any], arguments: list[Symbol], columns: Columns) -> Symbol:
    """What the function gives for symbolic arguments.

    Raises:
        NotLoweredError: it does something that cannot be told symbolically.
    """
    return _Reader(columns).call_python(function, arguments, 0)


_Stack = tuple[Symbol, ...]
_Locals = tuple[tuple[str, Symbol], ...]


class _Reader:
    """Reads one condition and everything that it calls; counts the steps."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.steps = 0

    def call_python(self, function: Callable[..., Any], arguments: list[Symbol], depth: int) -> Symbol:
        """Read a function of Python's own into the result."""
        if isinstance(function, MethodType):
            arguments = [Constant(function.__self__), *arguments]
            function = function.__func__
        if not isinstance(function, FunctionType):
            raise NotLoweredError(f"{getattr(function, '__name__', repr(function))} is not a plain function")
        if depth > _DEEPEST_CALL:
            raise NotLoweredError("functions call each other too deeply")
        code = function.__code__
        captured = tuple(
            _cell(name, cell) for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
        )
        if code.co_flags & (_GENERATOR_FLAG | 0x0C) or code.co_kwonlyargcount:
            raise NotLoweredError("the function is a generator or has unusual parameters")
        if code.co_exceptiontable:
            raise NotLoweredError("exceptions are caught, or a list is made by a loop")
        defaults: list[Symbol] = [Constant(value) for value in function.__defaults__ or ()]
        missing = code.co_argcount - len(arguments)
        if missing < 0 or missing > len(defaults):
            raise NotLoweredError(f"`{function.__name__}` is called with {len(arguments)} arguments")
        arguments = arguments + defaults[len(defaults) - missing :]
        names = code.co_varnames[: code.co_argcount]
        frame = _Frame(self, code, captured, function.__globals__, depth)
        return frame.run(0, (), tuple(zip(names, arguments, strict=True)))


def _cell(name: str, cell: Any) -> Symbol:
    try:
        return Constant(cell.cell_contents)
    except ValueError:
        raise NotLoweredError(f"`{name}` has no value yet") from None


class _Frame:
    """One function being read."""

    def __init__(
        self,
        reader: _Reader,
        code: CodeType,
        captured: tuple[Symbol, ...],
        global_names: Mapping[str, Any],
        depth: int,
    ) -> None:
        self.reader = reader
        self.operations = operations(code)
        self.captured = dict(zip(code.co_freevars, captured, strict=True))
        self.globals = global_names
        self.depth = depth
        self.known: dict[tuple[int, _Stack, _Locals], Symbol] = {}

    def run(self, index: int, stack: _Stack, local: _Locals) -> Symbol:
        """What the function returns when it goes on from here."""
        key = (index, stack, local)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._run(index, list(stack), dict(local))
        return found

    def _run(self, index: int, stack: list[Symbol], local: dict[str, Symbol]) -> Symbol:
        keywords: tuple[str, ...] = ()
        while True:
            self.reader.steps += 1
            if self.reader.steps > _MOST_STEPS:
                raise NotLoweredError("the function branches too often")
            operation = self.operations[index]
            kind, value = operation.kind, operation.value
            index += 1
            if kind is Kind.RETURN:
                return stack.pop()
            if kind is Kind.KEYWORDS:
                keywords = value
            elif kind in (Kind.CALL, Kind.CALL_KEYWORDS):
                if kind is Kind.CALL_KEYWORDS:
                    names = stack.pop()
                    assert isinstance(names, Constant)
                    keywords = names.value
                stack.append(self._call(stack, value, keywords))
                keywords = ()
            elif kind is Kind.JUMP:
                if operation.target < index:
                    raise NotLoweredError("there is a loop")
                index = operation.target
            elif kind in (Kind.BRANCH, Kind.BRANCH_KEEP, Kind.BRANCH_NONE):
                return self._branch(operation, index, stack, local)
            elif kind is Kind.NEXT:
                raise NotLoweredError("there is a loop")
            else:
                self._step(kind, value, stack, local)

    # -- branches ----------------------------------------------------------------------------------

    def _branch(self, operation: Operation, index: int, stack: list[Symbol], local: dict[str, Symbol]) -> Symbol:
        if operation.target < index:
            raise NotLoweredError("there is a loop")
        tested = stack.pop()
        tail = tuple(local.items())
        if operation.kind is Kind.BRANCH_NONE:
            condition = truth(is_none(tested, negated=not operation.value))
            return self._join(
                condition,
                lambda: self.run(operation.target, tuple(stack), tail),
                lambda: self.run(index, tuple(stack), tail),
            )
        condition = truth(tested)

        def side(outcome: bool) -> Symbol:
            known = [_learn(each, tested, outcome) for each in stack]
            jumps = outcome is operation.value
            if jumps and operation.kind is Kind.BRANCH_KEEP:
                known.append(_learn(tested, tested, outcome))
            return self.run(operation.target if jumps else index, tuple(known), tail)

        return self._join(condition, lambda: side(True), lambda: side(False))

    @staticmethod
    def _join(condition: Expr, then: Callable[[], Symbol], other: Callable[[], Symbol]) -> Symbol:
        if condition == TRUE:
            return then()
        if condition == FALSE:
            return other()
        return choice(condition, then(), other())

    # -- straight on -------------------------------------------------------------------------------

    def _step(self, kind: Kind, value: Any, stack: list[Symbol], local: dict[str, Symbol]) -> None:
        columns = self.reader.columns
        match kind:
            case Kind.CONST:
                stack.append(Constant(value))
            case Kind.LOAD:
                stack.append(_named(local, value))
            case Kind.STORE:
                local[value] = stack.pop()
            case Kind.DEREF:
                stack.append(local[value] if value in local else _named(self.captured, value))
            case Kind.GLOBAL:
                stack.append(self._global(value))
            case Kind.NULL:
                stack.append(Empty())
            case Kind.ATTRIBUTE:
                stack.append(attribute(stack.pop(), value, columns))
            case Kind.METHOD:
                stack += [Empty(), Method(stack.pop(), value)]
            case Kind.SUBSCRIPT:
                index = stack.pop()
                stack.append(item(stack.pop(), index, columns))
            case Kind.UNARY:
                operand = stack.pop()
                stack.append(logical_not(operand) if value == "not" else negative(operand))
            case Kind.BINARY | Kind.COMPARE | Kind.IS | Kind.CONTAINS:
                right, left = stack.pop(), stack.pop()
                stack.append(_binary(kind, value, left, right))
            case Kind.BUILD:
                _build(stack, *value)
            case Kind.BUILD_KEYS:
                keys = stack.pop()
                assert isinstance(keys, Constant)
                values = _popped(stack, value)
                stack.append(Items("dict", values, keys.value))
            case Kind.COPY:
                stack.append(stack[-value])
            case Kind.SWAP:
                stack[-1], stack[-value] = stack[-value], stack[-1]
            case Kind.POP:
                stack.pop()
            case Kind.FUNCTION:
                code = stack.pop()
                captured = stack.pop() if value else Items("tuple", ())
                stack.append(_function(code, captured))
            case Kind.CAPTURE:
                code = stack.pop()
                stack.append(_function(code, stack.pop()))
            case Kind.ITERATE:
                stack.append(call_constant(iter, [stack.pop()]))
            case _:
                raise NotLoweredError(f"{value or kind.name} is beyond expressions")

    def _global(self, name: str) -> Symbol:
        if name in self.globals:
            return Constant(self.globals[name])
        if hasattr(builtins, name):
            return Constant(getattr(builtins, name))
        raise NotLoweredError(f"the global `{name}` has no value yet")

    # -- calls -------------------------------------------------------------------------------------

    def _call(self, stack: list[Symbol], count: int, keywords: tuple[str, ...]) -> Symbol:
        named = dict(zip(keywords, _popped(stack, len(keywords)), strict=True))
        arguments = list(_popped(stack, count - len(keywords)))
        second, first = stack.pop(), stack.pop()
        # two slots lie below the arguments: the callable beside an empty one, or a function and its first argument
        if isinstance(first, Empty):
            called = second
        else:
            called = first
            if not isinstance(second, Empty):
                arguments.insert(0, second)
        if isinstance(called, Constant):
            made = construct(called.value, arguments, named)
            if made is not None:
                return made
        if named:
            raise NotLoweredError("a function is called with named arguments")
        if isinstance(called, Method):
            method = called
            return spread(
                lambda owner: self._call_method(owner, method.name, arguments),
                method.owner,
            )
        if isinstance(called, Function):
            return self._call_made(called, arguments)
        if isinstance(called, Constant):
            return self._call_object(called.value, arguments)
        raise NotLoweredError("something that is computed is called")

    def _call_method(self, owner: Symbol, name: str, arguments: list[Symbol]) -> Symbol:
        if isinstance(owner, Constant):
            method = getattr(owner.value, name, None)
            if isinstance(method, (FunctionType, MethodType)):
                return self.reader.call_python(method, arguments, self.depth + 1)
        return call_method(owner, name, arguments, self.reader.columns)

    def _call_object(self, called: Any, arguments: list[Symbol]) -> Symbol:
        if isinstance(called, (FunctionType, MethodType)):
            return self.reader.call_python(called, arguments, self.depth + 1)
        return call_constant(called, arguments)

    def _call_made(self, made: Function, arguments: list[Symbol]) -> Symbol:
        code: CodeType = made.code
        frame = _Frame(self.reader, code, made.captured, self.globals, self.depth + 1)
        if not code.co_flags & _GENERATOR_FLAG:
            if len(arguments) != code.co_argcount or code.co_kwonlyargcount or code.co_exceptiontable:
                raise NotLoweredError("a function inside the function has unusual parameters")
            names = code.co_varnames[: code.co_argcount]
            return frame.run(0, (), tuple(zip(names, arguments, strict=True)))
        if len(arguments) == 1 and isinstance(arguments[0], Iterator):
            return frame.loop(arguments[0].stage)
        raise NotLoweredError("something other than the events of a stage is looped over")

    # -- loops over the events of a stage ------------------------------------------------------------

    def loop(self, stage: str) -> Symbol:
        """What a generator over the events of a stage yields for each of them."""
        starts = [at for at, operation in enumerate(self.operations) if operation.kind is Kind.NEXT]
        if len(starts) != 1:
            raise NotLoweredError("there is a loop in a loop")
        self.head = starts[0]
        yielded, condition = self._body(self.head + 1, [EachEvent(stage)], {})
        field = yielded.field if isinstance(yielded, EachField) else None
        if isinstance(yielded, EachField):
            # aggregates leave out NULL anyway
            if condition is None or (condition.field == field and not condition.negated):
                return Generator(stage, field, type=yielded.type)
        elif isinstance(yielded, EachEvent) or yielded == Constant(1):
            if condition is None:
                return Generator(stage, None)
            if not condition.negated:
                return Generator(stage, None, condition.field)
        raise NotLoweredError("a loop over events computes or chooses more than a field")

    def _body(self, index: int, stack: list[Symbol], local: dict[str, Symbol]) -> tuple[Symbol, EachIsNotNone | None]:
        """What one round yields, and the condition that it yields at all."""
        condition: EachIsNotNone | None = None
        while True:
            operation = self.operations[index]
            kind = operation.kind
            index += 1
            if kind is Kind.YIELD:
                return stack.pop(), condition
            if kind is Kind.JUMP and operation.target >= index:
                index = operation.target
            elif kind in (Kind.BRANCH_NONE, Kind.BRANCH):
                tested = stack.pop()
                if kind is Kind.BRANCH_NONE:
                    tested = is_none(tested, negated=not operation.value)
                if condition is not None or not isinstance(tested, EachIsNotNone):
                    raise NotLoweredError("a loop over events has a condition other than `is not None`")
                jumps_when = operation.value if kind is Kind.BRANCH else True
                skips = self._goes_back(operation.target)
                condition = EachIsNotNone(tested.stage, tested.field, tested.negated is not (jumps_when is skips))
                if not skips:
                    index = operation.target
            elif kind in (Kind.CALL, Kind.CALL_KEYWORDS, Kind.KEYWORDS, Kind.RETURN, Kind.NEXT, Kind.JUMP):
                raise NotLoweredError("a loop over events does more than read fields")
            else:
                self._step(kind, operation.value, stack, local)

    def _goes_back(self, index: int) -> bool:
        """Does the round end here, without having yielded?"""
        operation = self.operations[index]
        return index == self.head or (operation.kind is Kind.JUMP and operation.target == self.head)


def _named(names: Mapping[str, Symbol], name: str) -> Symbol:
    if name not in names:
        raise NotLoweredError(f"`{name}` has no value yet")
    return names[name]


def _popped(stack: list[Symbol], count: int) -> tuple[Symbol, ...]:
    if count == 0:
        return ()
    values = tuple(stack[-count:])
    del stack[-count:]
    return values


def _build(stack: list[Symbol], kind: str, count: int) -> None:
    if kind == "dict":
        pairs = _popped(stack, 2 * count)
        keys = pairs[::2]
        if not all(isinstance(key, Constant) for key in keys):
            raise NotLoweredError("the keys of a dict are computed")
        stack.append(Items(kind, pairs[1::2], tuple(key.value for key in keys if isinstance(key, Constant))))
        return
    values = _popped(stack, count)
    if kind == "tuple" and values and all(isinstance(value, Constant) for value in values):
        stack.append(Constant(tuple(value.value for value in values if isinstance(value, Constant))))
    else:
        stack.append(Items(kind, values))


def _function(code: Symbol, captured: Symbol) -> Function:
    if isinstance(code, Function):
        code = Constant(code.code)
    assert isinstance(code, Constant)
    if isinstance(captured, Constant):
        return Function(code.value, tuple(Constant(value) for value in captured.value))
    assert isinstance(captured, Items)
    return Function(code.value, captured.values)


def _binary(kind: Kind, value: Any, left: Symbol, right: Symbol) -> Symbol:
    if kind is Kind.BINARY:
        return arithmetic(value, left, right)
    if kind is Kind.COMPARE:
        return compare(value, left, right)
    if kind is Kind.IS:
        return same(left, right, value)
    return contains(left, right, value)


def _learn(symbol: Symbol, tested: Symbol, outcome: bool) -> Symbol:
    """The symbol on a side of a branch, where the truth of what was tested is known."""
    if symbol != tested:
        return symbol
    if isinstance(symbol, Value) and symbol.type == BOOLEAN and isinstance(symbol.expr, Call):
        return Constant(outcome)
    return Known(symbol, outcome) if not isinstance(symbol, (Constant, Known)) else symbol
