"""Types of expressions, and the conversions that they make explicit."""

from __future__ import annotations

from typing import Any

import pytest

from ostinato.patterns import PatternError, Scope, ast, parse_expression, type_expr
from ostinato.patterns.typed import Apply, Constant, Current, Matched, Opaque, Typed
from ostinato.patterns.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTERVAL,
    STRING,
    TIMESTAMP,
    Array,
    DataType,
    Decimal,
    Row,
)

COLUMNS: dict[str, DataType] = {
    "n": BIGINT,
    "x": DOUBLE,
    "price": Decimal(10, 2),
    "s": STRING,
    "ok": BOOLEAN,
    "ts": TIMESTAMP,
    "day": DATE,
    "took": INTERVAL,
    "tags": Array(STRING),
    "geo": Row((("lat", DOUBLE), ("place", Row((("city", STRING),))))),
    "a": Row((("n", DOUBLE), ("only_here", DOUBLE))),
}
SCOPE = Scope(COLUMNS, stages=("a", "b", "c"), current_stage="b")


def typed(text: str, scope: Scope = SCOPE) -> Typed:
    return type_expr(parse_expression(text), scope)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("n + 1", BIGINT),
        ("n / 2", BIGINT),
        ("n + 1.5", DOUBLE),
        ("price + 1", Decimal(11, 2)),
        ("price + 1.255", Decimal(12, 3)),
        ("price * n", Decimal(18, 2)),
        ("price * 1.5", Decimal(12, 3)),
        ("price * price * price", Decimal(18, 6)),
        ("price / 2", DOUBLE),
        ("price % 3", Decimal(10, 2)),
        ("price + x", DOUBLE),
        ("-price", Decimal(10, 2)),
        ("ts - ts", INTERVAL),
        ("ts + 5 min", TIMESTAMP),
        ("5 min + ts", TIMESTAMP),
        ("day + 1 d", TIMESTAMP),
        ("ts - day", INTERVAL),
        ("2 * took", INTERVAL),
        ("took / 2", INTERVAL),
        ("-took", INTERVAL),
        ("null + 1", BIGINT),
        ("ts - null", TIMESTAMP),
        ("coalesce(n, x)", DOUBLE),
        ("coalesce(n, 2.0)", DOUBLE),
        ("case when ok then price else 1 end", Decimal(10, 2)),
        ("if(ok, null, s)", STRING),
        ("nullif(n, 0)", BIGINT),
        ("round(price, 1)", Decimal(10, 2)),
        ("sqrt(price)", DOUBLE),
        ("tags[n]", STRING),
        ("geo.place.city", STRING),
        ("(geo).lat", DOUBLE),
        ("a.n", BIGINT),
        ("(a).n", DOUBLE),
        ("c.geo.place.city", STRING),
        ("count(a)", BIGINT),
        ("sum(a.n)", BIGINT),
        ("sum(a.price)", Decimal(18, 2)),
        ("avg(a.n)", DOUBLE),
        ("max(a.ts)", TIMESTAMP),
        ("first(a.tags)[1]", STRING),
        ("year(day)", BIGINT),
        ("timestampdiff(day, day, ts)", BIGINT),
        ("cast(s as decimal(5, 1))", Decimal(5, 1)),
        ("regexp_extract(s, 'a')", STRING),
    ],
)
def test_types(text: str, type_: DataType) -> None:
    assert typed(text).type == type_


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("price > 9.95", Constant(Decimal(10, 2), 995)),
        ("price > 9", Constant(Decimal(10, 2), 900)),
        ("price = decimal '9.5'", Constant(Decimal(10, 2), 950)),
        ("price > 9.955", Constant(Decimal(11, 3), 9955)),
        ("x > 5", Constant(DOUBLE, 5.0)),
        ("n > 2.0", Constant(BIGINT, 2)),
        ("n > 2.5", Constant(DOUBLE, 2.5)),
        ("n = null", Constant(BIGINT, None)),
        ("ts > date '1970-01-02'", Constant(TIMESTAMP, 86_400_000)),
        ("price > 1e30", Constant(DOUBLE, 1e30)),
    ],
)
def test_constants_take_the_type_of_what_they_are_compared_with(text: str, right: Constant) -> None:
    comparison = typed(text)
    assert isinstance(comparison, Apply)
    assert comparison.args[1] == right
    assert comparison.args[0].type == right.type


def test_columns_are_converted_where_a_constant_cannot_be() -> None:
    n = Current(BIGINT, "n")
    assert typed("n > x") == Apply(BOOLEAN, ">", (Apply(DOUBLE, "cast", (n,)), Current(DOUBLE, "x")))
    assert typed("n / 2.0") == Apply(DOUBLE, "/", (Apply(DOUBLE, "cast", (n,)), Constant(DOUBLE, 2.0)))


def test_sugar_is_gone() -> None:
    n = Current(BIGINT, "n")
    low, high = Constant(BIGINT, 1), Constant(BIGINT, 2)
    between = Apply(BOOLEAN, "and", (Apply(BOOLEAN, ">=", (n, low)), Apply(BOOLEAN, "<=", (n, high))))
    assert typed("n between 1 and 2") == between
    assert typed("n not between 1 and 2") == Apply(BOOLEAN, "not", (between,))
    assert typed("if(ok, 1, 2)") == Apply(BIGINT, "case", (Current(BOOLEAN, "ok"), low, high))
    assert typed("case when ok then 1 end") == Apply(
        BIGINT, "case", (Current(BOOLEAN, "ok"), low, Constant(BIGINT, None))
    )
    assert typed("nullif(n, 2)") == Apply(BIGINT, "case", (Apply(BOOLEAN, "=", (n, high)), Constant(BIGINT, None), n))


def test_what_columns_mean() -> None:
    assert typed("n") == Current(BIGINT, "n")
    assert typed("b.n") == Current(BIGINT, "n")
    assert typed("c.n") == Matched(BIGINT, "last", "c", "n")
    assert typed("last(b.n)") == Matched(BIGINT, "last", "b", "n")
    assert typed("first(c.n, 2)") == Matched(BIGINT, "first", "c", "n", 2)
    assert typed("count(c)") == Matched(BIGINT, "count", "c")
    # a stage goes before a column of its name
    assert typed("a.n") == Matched(BIGINT, "last", "a", "n")
    with pytest.raises(PatternError, match="there is no column `only_here`"):
        typed("a.only_here")


def test_parameters_of_a_scope() -> None:
    scope = Scope(COLUMNS, params={"k": ast.Literal(5, BIGINT)})
    assert typed("$k + 1", scope) == Apply(BIGINT, "+", (Constant(BIGINT, 5), Constant(BIGINT, 1)))


def test_aggregates_need_a_pattern() -> None:
    with pytest.raises(PatternError, match="`count` is over the events of a stage, and here is none"):
        typed("count(a) > 1", Scope(COLUMNS))


OUTPUT = Scope(COLUMNS, stages=("a", "b"), keys=frozenset({"n"}), output=True, negated=frozenset({"b"}))


def test_in_outputs() -> None:
    assert typed("n", OUTPUT) == Current(BIGINT, "n")
    assert typed("a.s", OUTPUT) == Matched(STRING, "last", "a", "s")
    assert typed("match_end() - match_start()", OUTPUT) == Apply(
        INTERVAL, "-", (Matched(TIMESTAMP, "end", ""), Matched(TIMESTAMP, "start", ""))
    )
    assert typed("collect(a.s)", OUTPUT) == Matched(Array(STRING), "collect", "a", "s")
    for text, message in [("s", "of which event"), ("b.s", "must not happen"), ("count(b)", "must not happen")]:
        with pytest.raises(PatternError, match=message):
            typed(text, OUTPUT)


def test_conditions_may_look_at_a_negated_stage_and_see_nothing() -> None:
    scope = Scope(COLUMNS, stages=("a", "b"), negated=frozenset({"b"}))
    assert typed("last(b.n) is null", scope) == Apply(BOOLEAN, "is_null", (Matched(BIGINT, "last", "b", "n"),))


def check(event: Any) -> bool:
    return bool(event)


def test_python_functions() -> None:
    call = ast.PythonCall(check)
    anded = type_expr(ast.Call("and", (call, ast.Column("ok"))), SCOPE)
    assert anded == Apply(BOOLEAN, "and", (Opaque(BOOLEAN, check), Current(BOOLEAN, "ok")))
    assert type_expr(ast.PythonCall(check, iterative=True, type=BIGINT), SCOPE) == Opaque(BIGINT, check, True)
    with pytest.raises(PatternError, match="does not say what type it gives"):
        type_expr(ast.Call("+", (call, ast.Literal(1, BIGINT))), SCOPE)


def test_one_mistake_is_reported_once() -> None:
    with pytest.raises(PatternError) as caught:
        typed("(nope + 1) * 2 > 3 and lower(nope2) = 'x'")
    assert [problem.message for problem in caught.value.problems] == [
        "there is no column `nope`",
        "there is no column `nope2`",
    ]
