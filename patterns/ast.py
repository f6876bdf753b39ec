"""The abstract syntax: what a ``.cep`` file, the builder and the decorators all produce.

Nodes are frozen and compare by what they mean; their place in a source text (`span`) does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, TypeAlias

from ostinato.patterns.errors import Span
from ostinato.patterns.types import DataType

# ---------------------------------------------------------------------------------------------
# expressions


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. `value` is a bool, int, float, decimal.Decimal, str, None, or the milliseconds or
    days of a TIMESTAMP, INTERVAL or DATE; `type` tells which."""

    value: Any
    type: DataType
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Column:
    """A field of an event: of the event in hand (`stage` None, or the stage being decided), else of the
    last event matched for `stage`. `field` is a name of the stream's schema."""

    name: str
    stage: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Param:
    """A `param` of the file, set from outside."""

    name: str
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function, by its canonical lower-case name (see `functions.py`).

    Operators: ``+ - * / % neg = <> < <= > >= and or not || is_null is_not_null is_true is_false
    between in like case element field``; everything else is a function of that name.
    """

    function: str
    args: tuple[Expr, ...]
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``count/sum/avg/min/max/first/last`` over the events matched so far for `stage`, and in what is emitted
    ``collect/collect_distinct`` (an array).

    `operand` None is ``count(stage)``. `offset` is the n of ``first(x, n)`` and ``last(x, n)``:
    0 is the first (last) event, 1 the one after (before) it.
    """

    function: str
    stage: str
    operand: str | None = None
    offset: int = 0
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PythonCall:
    """A condition or a value that only Python can evaluate.

    Simple functions are called with the event; iterative ones with the event and a context whose
    ``get_events_for_pattern(stage)`` gives the events matched so far.
    """

    function: Callable[..., Any]
    iterative: bool = False
    type: DataType | None = None
    span: Span | None = field(default=None, compare=False)


Expr: TypeAlias = Literal | Column | Param | Call | Aggregate | PythonCall


# ---------------------------------------------------------------------------------------------
# patterns


class Contiguity(Enum):
    """How an element follows the one before it (Flink's consuming strategies)."""

    STRICT = "strict"
    RELAXED = "relaxed"
    ANY = "any"
    NOT_NEXT = "not_next"
    NOT_FOLLOW = "not_follow"

    @property
    def negated(self) -> bool:
        return self in (Contiguity.NOT_NEXT, Contiguity.NOT_FOLLOW)


IntOrParam: TypeAlias = int | Param
"""A number that may be a `param`, resolved before compilation."""


@dataclass(frozen=True, slots=True)
class Quantifier:
    """How often: `min` to `max` times (`max` None: no end).

    `inner` is the contiguity between the repetitions. `gap_ms` bounds the time between each event of the repetition
    and the event matched before it; with `gap_required_only` only of events that must come (up to `min`), which is
    what Flink's ``times(n, window)`` and ``one_or_more(window)`` come to.
    """

    min: IntOrParam = 1
    max: IntOrParam | None = 1
    optional: bool = False
    inner: Contiguity = Contiguity.STRICT
    greedy: bool = False
    gap_ms: int | None = None
    gap_required_only: bool = False
    span: Span | None = field(default=None, compare=False)

    @property
    def looping(self) -> bool:
        return self.max is None


ONCE = Quantifier(1, 1)


@dataclass(frozen=True, slots=True)
class Stage:
    """One named step. `condition` None accepts every event. `within_ms` bounds the time since the event
    matched before it. `contiguity` is None on the first element of a sequence."""

    name: str
    condition: Expr | None = None
    contiguity: Contiguity | None = None
    quantifier: Quantifier = ONCE
    until: Expr | None = None
    within_ms: int | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Elements taken together, so that a quantifier can stand behind them."""

    items: tuple[Element, ...]
    contiguity: Contiguity | None = None
    quantifier: Quantifier = ONCE
    until: Expr | None = None
    within_ms: int | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Alternation:
    """One of several sequences: ``( a | b c )``. Ostinato's own; Flink has no such construct."""

    branches: tuple[tuple[Element, ...], ...]
    contiguity: Contiguity | None = None
    span: Span | None = field(default=None, compare=False)


Element: TypeAlias = Stage | Group | Alternation


class SkipMode(Enum):
    """What happens to other partial matches when a match is found (Flink's AfterMatchSkipStrategy)."""

    NO_SKIP = "no_skip"
    TO_NEXT = "skip_to_next"
    PAST_LAST = "skip_past_last"
    TO_FIRST = "skip_to_first"
    TO_LAST = "skip_to_last"


@dataclass(frozen=True, slots=True)
class Skip:
    """A skip mode, the stage it names, and whether a match without that stage is an error."""

    mode: SkipMode = SkipMode.NO_SKIP
    stage: str | None = None
    throw_on_miss: bool = False
    span: Span | None = field(default=None, compare=False)


NO_SKIP = Skip()


@dataclass(frozen=True, slots=True)
class Output:
    """One column of what a pattern emits."""

    name: str
    value: Expr
    span: Span | None = field(default=None, compare=False)


class CapPolicy(Enum):
    """What happens when a key has more partial matches than its cap."""

    FAIL = "fail"
    DROP_OLDEST = "drop oldest"


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `runs` partial matches for one key."""

    runs: int
    policy: CapPolicy = CapPolicy.FAIL


DEFAULT_CAP = Cap(1_000_000, CapPolicy.FAIL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A whole pattern.

    `emit` empty means every stage as an array of events. `count` asks for the number of matches that each
    completing event completes instead of the matches. `into` and `timeouts_into` name the streams that
    matches and timed-out partial matches become.
    """

    name: str
    on: str
    items: tuple[Element, ...]
    within_ms: int | None = None
    skip: Skip = NO_SKIP
    emit: tuple[Output, ...] = ()
    count: bool = False
    into: str | None = None
    timeouts_into: str | None = None
    cap: Cap = DEFAULT_CAP
    span: Span | None = field(default=None, compare=False)


# ---------------------------------------------------------------------------------------------
# files


@dataclass(frozen=True, slots=True)
class FieldDecl:
    """A column of a stream. `source` is the path in the input record where it is not the name itself
    (``login.user.id``). `metadata` names what is taken of what surrounds the record instead: see `schema.METADATA`.
    `key` and `time` mark the key columns and the event time."""

    name: str
    type: DataType
    key: bool = False
    source: tuple[str, ...] | None = None
    metadata: str | None = None
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TimeDecl:
    """Which column is the event time, how it is written, and how far out of order events come.

    `format`: ``s``, ``ms``, ``us``, ``iso`` or a strptime format. `mode` is ``event``, ``processing`` or
    ``ingestion``. `idle_ms` None means the default; `max_ahead_ms` is the far-future guard.
    """

    column: str | None = None
    format: str = "ms"
    zone: str | None = None
    delay_ms: int = 0
    idle_ms: int | None = None
    max_ahead_ms: int | None = None
    mode: str = "event"


@dataclass(frozen=True, slots=True)
class Connector:
    """Where events come from or go to: ``file 'x.jsonl' format json (option = value, ...)``."""

    kind: str
    target: str | None = None
    format: str | None = None
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """A declared stream: columns, time, and its source or None where a pattern or the user feeds it."""

    name: str
    columns: tuple[FieldDecl, ...]
    time: TimeDecl = TimeDecl()
    source: Connector | None = None
    span: Span | None = field(default=None, compare=False)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.key)

    def column(self, name: str) -> FieldDecl | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class ParamDecl:
    """A value that can be set without touching the pattern."""

    name: str
    value: Literal
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class OutputDecl:
    """Where a stream of matches goes: ``output alerts to file 'alerts.jsonl'``."""

    stream: str
    sink: Connector
    span: Span | None = field(default=None, compare=False)


Declaration: TypeAlias = Stream | ParamDecl | Pattern | OutputDecl


@dataclass(frozen=True, slots=True)
class Program:
    """A whole file: its declarations in the order of the text."""

    declarations: tuple[Declaration, ...]

    @property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(d for d in self.declarations if isinstance(d, Stream))

    @property
    def params(self) -> tuple[ParamDecl, ...]:
        return tuple(d for d in self.declarations if isinstance(d, ParamDecl))

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return tuple(d for d in self.declarations if isinstance(d, Pattern))

    @property
    def outputs(self) -> tuple[OutputDecl, ...]:
        return tuple(d for d in self.declarations if isinstance(d, OutputDecl))


def walk(node: Any) -> Iterator[Any]:
    """The node and everything below it, parents first."""
    yield node
    if is_dataclass(node) and not isinstance(node, (Span, type)):
        for each in fields(node):
            yield from walk(getattr(node, each.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from walk(item)


def params_of(node: Any) -> frozenset[str]:
    """The parameters that the node and everything below it name."""
    return frozenset(each.name for each in walk(node) if isinstance(each, Param))


def stages_of(items: tuple[Element, ...]) -> Iterator[Stage]:
    """Every stage of a sequence, groups and alternatives included, in the order of the text."""
    for node in walk(items):
        if isinstance(node, Stage):
            yield node
