"""Hypothesis strategies for the language: syntax trees of everything that it can say."""

from __future__ import annotations

import decimal
import string
from typing import Any

from hypothesis import strategies as st

from ostinato.patterns import ast
from ostinato.patterns.ast import Contiguity, Quantifier
from ostinato.patterns.functions import DIFFERENCE_UNITS, EXTRACT_PARTS
from ostinato.patterns.lexer import RESERVED
from ostinato.patterns.literals import natural_decimal
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    NULL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

_YEAR_9999_MS = 253_402_300_799_999
_YEAR_1_MS = -62_135_596_800_000
_DAY_MS = 86_400_000
_SOFT_WORDS = "key time format first last count matches after end from to row date interval both cap fail every for s d"

plain_names = st.text(string.ascii_lowercase, min_size=1, max_size=4).filter(lambda name: name not in RESERVED)
names = st.one_of(
    plain_names,
    st.sampled_from(sorted(RESERVED)),
    st.sampled_from(_SOFT_WORDS.split()),
    st.sampled_from(["Größe", "a b", "5x", "`", 'q"q', "$endState$!", "a.b", "--", "it's"]),
)
"""Names of every kind, those that need quotes too."""

dotted_names = st.lists(names.filter(lambda name: "." not in name), min_size=1, max_size=3).map(".".join)
durations = st.one_of(st.integers(1, 10_000), st.integers(1, 10**12))
texts = st.one_of(st.text(max_size=8), st.sampled_from(["", "'", "FAILED", "a\nb", "\\", "\u2028", "%_", "\ud800"]))
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-999999, max_value=999999, places=3)

scalar_types: st.SearchStrategy[DataType] = st.one_of(
    st.sampled_from([BOOLEAN, BIGINT, DOUBLE, STRING, TIMESTAMP, DATE]),
    st.integers(1, 18).flatmap(lambda p: st.integers(0, p).map(lambda s: Decimal(p, s))),
)
types: st.SearchStrategy[DataType] = st.recursive(
    scalar_types,
    lambda inner: st.one_of(
        inner.map(Array),
        st.lists(st.tuples(names, inner), min_size=1, max_size=3, unique_by=lambda f: f[0]).map(
            lambda fields: Row(tuple(fields))
        ),
    ),
    max_leaves=3,
)


def _decimal_literal(value: decimal.Decimal, wider: tuple[int, int] | None) -> ast.Literal:
    natural = natural_decimal(value)
    if wider is None:
        return ast.Literal(value, natural)
    scale = natural.scale + wider[1]
    return ast.Literal(value, Decimal(natural.precision - natural.scale + wider[0] + scale, scale))


literals: st.SearchStrategy[ast.Literal] = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda v: ast.Literal(v, BIGINT)),
    st.floats(allow_nan=False).map(lambda v: ast.Literal(v, DOUBLE)),
    texts.map(lambda v: ast.Literal(v, STRING)),
    st.booleans().map(lambda v: ast.Literal(v, BOOLEAN)),
    st.integers(-(10**12), 10**12).map(lambda v: ast.Literal(v, INTERVAL)),
    st.integers(_YEAR_1_MS, _YEAR_9999_MS).map(lambda v: ast.Literal(v, TIMESTAMP)),
    st.integers(_YEAR_1_MS // _DAY_MS, _YEAR_9999_MS // _DAY_MS).map(lambda v: ast.Literal(v, DATE)),
    st.builds(_decimal_literal, decimals, st.none() | st.tuples(st.integers(0, 3), st.integers(0, 3))),
)
null = st.just(ast.Literal(None, NULL))
columns = st.builds(ast.Column, names, st.none() | names)
params = st.builds(ast.Param, names)
aggregates: st.SearchStrategy[ast.Expr] = st.one_of(
    names.map(lambda stage: ast.Aggregate("count", stage)),
    st.builds(ast.Aggregate, st.sampled_from(["count", "sum", "avg", "min", "max", "collect"]), names, names),
    st.builds(ast.Aggregate, st.sampled_from(["first", "last"]), names, names, st.integers(0, 3)),
)

_BINARY = ["or", "and", "=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "||"]
_BINARY += ["is_distinct_from", "is_not_distinct_from", "regexp"]
_UNARY = ["not", "neg", "is_null", "is_not_null", "is_true", "is_not_true", "is_false", "is_not_false"]
_NAMED = ["lower", "coalesce", "distance_km", "if", "substring", "trim", "match_start", "position", "nullif"]


def _calls(inner: st.SearchStrategy[ast.Expr]) -> st.SearchStrategy[ast.Expr]:
    def call(function: str, *args: ast.Expr) -> ast.Call:
        return ast.Call(function, args)

    units = [f"extract_{part}" for part in EXTRACT_PARTS]
    differences = [f"timestampdiff_{unit}" for unit in DIFFERENCE_UNITS]
    branches = st.lists(st.tuples(inner, inner), min_size=1, max_size=2)
    return st.one_of(
        st.builds(call, st.sampled_from(_BINARY), inner, inner),
        st.builds(call, st.sampled_from(_UNARY + units), inner),
        st.builds(call, st.sampled_from(differences), inner, inner),
        st.builds(call, st.just("between"), inner, inner, inner),
        st.builds(call, st.just("like"), inner, inner),
        st.builds(call, st.just("like"), inner, inner, inner),
        st.builds(call, st.just("element"), inner, inner),
        st.builds(lambda x, name: ast.Call("field", (x, ast.Literal(name, STRING))), inner, names),
        st.builds(lambda x, type_: ast.Call("cast", (x, ast.Literal(None, type_))), inner, types),
        st.builds(lambda args: ast.Call("in", tuple(args)), st.lists(inner, min_size=2, max_size=4)),
        st.builds(
            lambda function, args: ast.Call(function, tuple(args)), st.sampled_from(_NAMED), st.lists(inner, max_size=3)
        ),
        st.builds(
            lambda pairs, last: ast.Call("case", (*(part for pair in pairs for part in pair), *last)),
            branches,
            st.just(()) | st.tuples(inner),
        ),
    )


def _sayable(expr: ast.Expr) -> bool:
    """Is it in the form that reading gives (and not in another one of the same meaning)?"""
    for node in ast.walk(expr):
        if not isinstance(node, ast.Call):
            continue
        base = node.args[0] if node.args else None
        if node.function == "position" and len(node.args) == 1:
            return False  # POSITION(a IN b) is that of two
        if node.function == "field" and isinstance(base, ast.Literal) and base.value is None:
            return False
    return True


expressions: st.SearchStrategy[ast.Expr] = st.recursive(
    st.one_of(literals, null, columns, columns, params, aggregates), _calls, max_leaves=12
).filter(_sayable)
"""Any expression, of no particular type."""

# ---------------------------------------------------------------------------------------------
# patterns


@st.composite
def quantifiers(draw: Any, *, group: bool = False) -> Quantifier:
    """Any legal quantifier of an element that is not negated."""
    low: ast.IntOrParam
    high: ast.IntOrParam | None
    if draw(st.booleans()):
        return Quantifier(1, 1, draw(st.booleans()))
    kind = draw(st.integers(0, 4))
    low = draw(st.integers(1, 4) | params)
    high = None
    if kind == 0:
        low, high = draw(st.integers(2, 4) | params), None
        high = low
    elif kind == 1:
        high = draw(params) if isinstance(low, ast.Param) else draw(st.integers(low + 1, 6))
    elif kind == 2:
        low, high = 0, draw(st.integers(1, 4) | params)
    elif kind == 3:
        low = 1
    inner = draw(st.sampled_from([Contiguity.STRICT, Contiguity.RELAXED, Contiguity.ANY]))
    greedy = not group and inner is not Contiguity.ANY and draw(st.booleans())
    gap = draw(st.none() | durations)
    optional = low != 0 and draw(st.booleans())
    return Quantifier(low, high, optional, inner, greedy, gap, gap is not None and draw(st.booleans()))


_POSITIVE = [Contiguity.STRICT, Contiguity.RELAXED, Contiguity.ANY]


@st.composite
def sequences(draw: Any, depth: int = 2, exprs: st.SearchStrategy[ast.Expr] = expressions) -> tuple[ast.Element, ...]:
    """A sequence of elements; stage names may repeat (see `patterns`)."""
    items: list[ast.Element] = []
    for index in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 5 if depth else 3))
        contiguity = None if index == 0 else draw(st.sampled_from(_POSITIVE))
        within = draw(st.none() | st.none() | durations)
        if kind <= 3:
            condition = draw(st.none() | exprs)
            if index and draw(st.integers(0, 5)) == 0:
                negation = draw(st.sampled_from([Contiguity.NOT_NEXT, Contiguity.NOT_FOLLOW]))
                items.append(ast.Stage(draw(names), condition, negation, within_ms=within))
                continue
            quantifier = draw(quantifiers())
            until = draw(st.none() | exprs) if quantifier.max is None else None
            items.append(ast.Stage(draw(names), condition, contiguity, quantifier, until, within))
        elif kind == 4:
            quantifier = draw(quantifiers(group=True))
            until = draw(st.none() | exprs) if quantifier.max is None else None
            items.append(ast.Group(draw(sequences(depth - 1, exprs)), contiguity, quantifier, until, within))
        else:
            branches = draw(st.lists(sequences(depth - 1, exprs), min_size=2, max_size=3))
            items.append(ast.Alternation(tuple(branches), contiguity))
    return tuple(items)


def _with_distinct_names(items: tuple[ast.Element, ...], seen: set[str]) -> tuple[ast.Element, ...]:
    from dataclasses import replace

    result: list[ast.Element] = []
    for item in items:
        if isinstance(item, ast.Stage):
            name = item.name
            while name in seen:
                name += "x"
            seen.add(name)
            result.append(replace(item, name=name))
        elif isinstance(item, ast.Group):
            result.append(replace(item, items=_with_distinct_names(item.items, seen)))
        else:
            result.append(replace(item, branches=tuple(_with_distinct_names(b, seen) for b in item.branches)))
    return tuple(result)


@st.composite
def patterns(draw: Any, exprs: st.SearchStrategy[ast.Expr] = expressions) -> ast.Pattern:
    """A pattern with everything that can be said of one."""
    items = _with_distinct_names(draw(sequences(exprs=exprs)), set())
    stages = [stage.name for stage in ast.stages_of(items)]
    mode = draw(st.sampled_from(list(ast.SkipMode)))
    skip = ast.Skip(mode)
    if mode in (ast.SkipMode.TO_FIRST, ast.SkipMode.TO_LAST):
        skip = ast.Skip(mode, draw(st.sampled_from(stages)), draw(st.booleans()))
    count = draw(st.booleans())
    outputs = draw(st.lists(st.builds(ast.Output, names, exprs), max_size=3, unique_by=lambda o: o.name))
    return ast.Pattern(
        name=draw(names),
        on=draw(names),
        items=items,
        within_ms=draw(st.none() | durations),
        skip=skip,
        emit=() if count else tuple(outputs),
        count=count,
        into=draw(st.none() | names),
        timeouts_into=draw(st.none() | names),
        cap=draw(st.builds(ast.Cap, st.integers(1, 10**6), st.sampled_from(list(ast.CapPolicy)))),
    )


# ---------------------------------------------------------------------------------------------
# files

_time_options = st.fixed_dictionaries(
    {
        "delay_ms": st.just(0) | durations,
        "idle_ms": st.none() | durations,
        "max_ahead_ms": st.none() | durations,
    }
)
connectors = st.builds(
    ast.Connector,
    names,
    st.none() | texts,
    st.none() | names,
    st.lists(
        st.tuples(
            dotted_names,
            st.one_of(
                texts, st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False)
            ),
        ),
        max_size=3,
        unique_by=lambda option: option[0],
    ).map(tuple),
)


@st.composite
def streams(draw: Any) -> ast.Stream:
    """A stream's declaration."""
    paths = st.none() | st.lists(names, min_size=1, max_size=3).map(tuple)
    fields = draw(
        st.lists(
            st.builds(ast.FieldDecl, names, types, st.booleans(), paths)
            | st.builds(ast.FieldDecl, names, types, st.booleans(), st.none(), texts),
            min_size=1,
            max_size=4,
            unique_by=lambda f: f.name,
        )
    )
    options = draw(_time_options)
    mode = draw(st.sampled_from(["event", "event", "processing", "ingestion"]))
    if mode != "event":
        time = ast.TimeDecl(mode=mode, **options)
    else:
        column = draw(st.sampled_from(fields))
        format_ = draw(st.sampled_from(["ms", "s", "iso", "%b %d %H:%M:%S", "it's"]))
        time = ast.TimeDecl(column.name, format_, draw(st.none() | texts), **options)
    return ast.Stream(draw(names), tuple(fields), time, draw(st.none() | connectors))


param_declarations = st.builds(ast.ParamDecl, names, literals)
output_declarations = st.builds(ast.OutputDecl, names, connectors)


@st.composite
def programs(draw: Any) -> ast.Program:
    """A file whose names need not fit together. Bare names in it are columns: parameters have names of their own."""
    declarations = draw(st.lists(st.one_of(streams(), param_declarations, patterns(), output_declarations), max_size=4))
    return ast.Program(tuple(declarations))
