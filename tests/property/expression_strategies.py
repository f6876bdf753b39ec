"""Random typed expressions, and events to evaluate them on."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from ostinato.patterns.typed import Apply, Constant, Current, Matched, Typed
from ostinato.patterns.types import BIGINT, BOOLEAN, DATE, DOUBLE, INTERVAL, STRING, TIMESTAMP, DataType, Decimal

MONEY = Decimal(10, 2)
PRODUCT = Decimal(18, 4)
SCHEMA: dict[str, DataType] = {
    "i": BIGINT, "j": BIGINT, "d": DOUBLE, "e": DOUBLE, "m": MONEY, "n": MONEY, "s": STRING, "t": STRING,
    "b": BOOLEAN, "c": BOOLEAN, "ts": TIMESTAMP, "u": TIMESTAMP, "day": DATE,
}  # fmt: skip

_LIMITS = [0, 1, -1, 2, 3, 7, 10, 2**31, 2**32, 3_037_000_500, 2**62, 2**63 - 1, -(2**63), -(2**62), 10**18]
_DOUBLES = [0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, 1e15 + 0.5, 1e300, -1e300, 5e-324, float("inf"), float("nan")]
_TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "abc",
    " a ",
    "12",
    "-7",
    "FAILED",
    "SUCCESS",
    "b%",
    "ä",
    "\uffff",
    "\U0001f600",
    "x" * 19,
]

VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    BIGINT: st.one_of(st.integers(-5, 20), st.sampled_from(_LIMITS), st.integers(-(2**63), 2**63 - 1)),
    DOUBLE: st.one_of(st.sampled_from(_DOUBLES), st.floats(-100, 100).map(lambda x: round(x, 2)), st.floats(-1e9, 1e9)),
    MONEY: st.one_of(st.integers(-300, 300), st.integers(-(10**10) + 1, 10**10 - 1)),
    STRING: st.one_of(st.sampled_from(_TEXTS), st.text("abAB %_12", max_size=8)),
    BOOLEAN: st.booleans(),
    TIMESTAMP: st.one_of(
        st.integers(-5, 5), st.integers(-(2**41), 2**42), st.sampled_from([951_782_400_000, -1, 1_709_164_800_000])
    ),
    DATE: st.integers(-200_000, 200_000),
    INTERVAL: st.one_of(st.integers(-10, 10), st.integers(-(10**12), 10**12), st.just(2**63 - 1)),
}


def rows(**overrides: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Events; every value may be null."""
    fields = {name: st.none() | overrides.get(name, VALUES[type_]) for name, type_ in SCHEMA.items()}
    return st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=12)


def apply(type_: DataType, function: str, *args: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    return st.tuples(*args).map(lambda drawn: Apply(type_, function, drawn))


def constants(type_: DataType) -> st.SearchStrategy[Typed]:
    return st.builds(lambda value: Constant(type_, value), st.none() | VALUES[type_])


def leaves(type_: DataType, matched: bool) -> st.SearchStrategy[Typed]:
    if type_ == PRODUCT:
        return st.builds(lambda value: Constant(PRODUCT, value), st.integers(-(10**12), 10**12))
    if type_ == INTERVAL:
        return constants(type_)
    names = [name for name, declared in SCHEMA.items() if declared == type_]
    columns: st.SearchStrategy[Typed] = st.sampled_from(names).map(lambda name: Current(type_, name))
    found = [columns, columns, constants(type_)]
    if matched:
        found += [aggregates(type_, names)] * 3
    return st.one_of(found)


def aggregates(type_: DataType, names: list[str]) -> st.SearchStrategy[Typed]:
    stages = st.sampled_from(["a", "b"])
    functions = ["first", "last"] if type_ == BOOLEAN else ["first", "last", "min", "max"]
    plain = st.builds(
        lambda function, stage, name, offset: Matched(
            type_, function, stage, name, offset if function in ("first", "last") else 0
        ),
        st.sampled_from(functions), stages, st.sampled_from(names), st.integers(0, 3),
    )  # fmt: skip
    found: list[st.SearchStrategy[Typed]] = [plain]
    if type_ in (BIGINT, DOUBLE):
        found.append(st.builds(lambda stage, name: Matched(type_, "sum", stage, name), stages, st.sampled_from(names)))
    if type_ == BIGINT:
        column = st.none() | st.sampled_from(sorted(SCHEMA))
        found.append(st.builds(lambda stage, name: Matched(BIGINT, "count", stage, name), stages, column))
    if type_ == DOUBLE:
        column = st.sampled_from(["i", "j", "d", "e", "m", "n"])
        found.append(st.builds(lambda stage, name: Matched(DOUBLE, "avg", stage, name), stages, column))
    return st.one_of(found)


@cache
def expressions(type_: DataType, depth: int = 3, *, matched: bool = False) -> st.SearchStrategy[Typed]:
    """Expressions of a type, at most so deep; with `matched` also of the events taken for stages a and b."""
    if depth == 0:
        return leaves(type_, matched)

    def of(inner: DataType) -> st.SearchStrategy[Typed]:
        return st.deferred(lambda: expressions(inner, depth - 1, matched=matched))

    same = of(type_)
    found = [leaves(type_, matched), *_calls(type_, of)]
    found += [
        apply(type_, "case", of(BOOLEAN), same, same),
        apply(type_, "case", of(BOOLEAN), same, of(BOOLEAN), same, same),
    ]
    found.append(apply(type_, "coalesce", same, same, same))
    return st.one_of(found)


def _calls(type_: DataType, of: Any) -> list[st.SearchStrategy[Typed]]:
    if type_ == BOOLEAN:
        return _conditions(of)
    if type_ == STRING:
        text, small = of(STRING), st.integers(-3, 5).map(lambda n: Constant(BIGINT, n))
        return [
            *(apply(STRING, name, text) for name in ("lower", "upper", "trim")),
            apply(STRING, "concat", text, text, text),
            apply(STRING, "||", text, text),
            apply(STRING, "substring", text, small),
            apply(STRING, "substring", text, small, small),
            apply(STRING, "replace", text, text, text),
            apply(STRING, "cast", of(BIGINT)),
            apply(STRING, "greatest", text, text),
            apply(STRING, "least", text, text, text),
        ]
    if type_ == TIMESTAMP:
        time, span = of(TIMESTAMP), of(INTERVAL)
        return [
            apply(TIMESTAMP, "+", time, span),
            apply(TIMESTAMP, "-", time, span),
            apply(TIMESTAMP, "cast", of(DATE)),
        ]
    if type_ == DATE:
        return [apply(DATE, "to_date", of(TIMESTAMP)), apply(DATE, "cast", of(TIMESTAMP))]
    if type_ == INTERVAL:
        span = of(INTERVAL)
        return [
            apply(INTERVAL, "-", of(TIMESTAMP), of(TIMESTAMP)),
            apply(INTERVAL, "+", span, span),
            apply(INTERVAL, "neg", span),
            apply(INTERVAL, "*", span, of(BIGINT)),
            apply(INTERVAL, "/", span, of(BIGINT)),
        ]
    return _numbers(type_, of)


def _numbers(type_: DataType, of: Any) -> list[st.SearchStrategy[Typed]]:
    same, text, time = of(type_), of(STRING), of(TIMESTAMP)
    if type_ == PRODUCT:
        return [apply(PRODUCT, "*", of(MONEY), of(MONEY)), apply(PRODUCT, "neg", same)]
    digits = st.integers(-3, 3).map(lambda n: Constant(BIGINT, n))
    found = [apply(type_, name, same, same) for name in ("+", "-", "%")]
    found += [apply(type_, name, same) for name in ("neg", "abs", "floor", "round")]
    found += [apply(type_, name, same, same, same) for name in ("greatest", "least")]
    if type_ == MONEY:
        found += [apply(MONEY, "cast", of(BIGINT)), apply(MONEY, "cast", of(DOUBLE)), apply(MONEY, "cast", of(PRODUCT))]
        return [*found, apply(MONEY, "round", same, digits)]
    found += [apply(type_, "*", same, same), apply(type_, "/", same, same), apply(type_, "sign", same)]
    if type_ == DOUBLE:
        found += [apply(DOUBLE, "cast", of(BIGINT)), apply(DOUBLE, "cast", of(MONEY)), apply(DOUBLE, "sqrt", same)]
        return [*found, apply(DOUBLE, "/", of(MONEY), of(MONEY)), apply(DOUBLE, "ceil", same)]
    parts = ["year", "month", "day", "hour", "minute", "second", "millisecond", "dow", "doy", "epoch"]
    found += [apply(BIGINT, f"extract_{part}", time) for part in parts]
    found += [apply(BIGINT, f"timestampdiff_{unit}", time, time) for unit in ("minute", "day", "month", "year")]
    found += [apply(BIGINT, "cast", of(kind)) for kind in (DOUBLE, MONEY, STRING, BOOLEAN)]
    found += [apply(BIGINT, "char_length", text), apply(BIGINT, "position", text, text)]
    return [*found, apply(BIGINT, "round", same, digits), apply(BIGINT, "to_millis", of(INTERVAL))]


def _conditions(of: Any) -> list[st.SearchStrategy[Typed]]:
    truth, text = of(BOOLEAN), of(STRING)
    found = [
        apply(BOOLEAN, name, of(kind), of(kind))
        for kind in (BIGINT, DOUBLE, MONEY, PRODUCT, STRING, TIMESTAMP, DATE, INTERVAL, BOOLEAN)
        for name in ("=", "<>", "<", "<=", ">", ">=", "is_distinct_from", "is_not_distinct_from")
    ]
    found += [apply(BOOLEAN, name, truth, truth) for name in ("and", "or")] * 12
    found += [apply(BOOLEAN, "and", truth, truth, truth), apply(BOOLEAN, "not", truth)] * 4
    found += [apply(BOOLEAN, f"is_{name}", truth) for name in ("true", "not_true", "false", "not_false")]
    for kind in (BIGINT, DOUBLE, STRING, TIMESTAMP):
        found += [apply(BOOLEAN, name, of(kind)) for name in ("is_null", "is_not_null")]
        found.append(apply(BOOLEAN, "in", of(kind), *[constants(kind)] * 3))
        found.append(apply(BOOLEAN, "in", of(kind), of(kind), constants(kind)))
    found.append(apply(BOOLEAN, "in", text, *[constants(STRING)] * 8))
    patterns = st.text("ab%_", max_size=4).map(lambda pattern: Constant(STRING, pattern))
    found += [apply(BOOLEAN, "like", text, patterns), apply(BOOLEAN, "like", text, text)]
    found.append(
        apply(BOOLEAN, "regexp", text, st.sampled_from(["a+b", "^$", "[0-9]"]).map(lambda p: Constant(STRING, p)))
    )
    found += [apply(BOOLEAN, name, text, text) for name in ("starts_with", "ends_with")]
    return [*found, apply(BOOLEAN, "cast", of(BIGINT))]
