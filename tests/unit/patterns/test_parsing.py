"""What is written becomes the tree it says."""

from __future__ import annotations

import decimal

import pytest

from ostinato.patterns import (
    ast,
    parse_expression,
    parse_match,
    parse_program,
    parse_skip,
    parse_type,
    print_expression,
)
from ostinato.patterns.ast import (
    Aggregate,
    Call,
    Column,
    Contiguity,
    Group,
    Literal,
    Param,
    Quantifier,
    SkipMode,
    Stage,
)
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

STRICT, RELAXED, ANY = Contiguity.STRICT, Contiguity.RELAXED, Contiguity.ANY


@pytest.mark.parametrize(
    ("text", "quantifier"),
    [
        ("a", Quantifier()),
        ("a{1}", Quantifier()),
        ("a?", Quantifier(1, 1, optional=True)),
        ("a optional", Quantifier(1, 1, optional=True)),
        ("a+", Quantifier(1, None)),
        ("a*", Quantifier(1, None, optional=True)),
        ("a+?", Quantifier(1, None, optional=True)),
        ("a{3}", Quantifier(3, 3)),
        ("a{3,}", Quantifier(3, None)),
        ("a{3,}?", Quantifier(3, None, optional=True)),
        ("a{2,4}", Quantifier(2, 4)),
        ("a{0,4}", Quantifier(0, 4)),
        ("a{n}", Quantifier(Param("n"), Param("n"))),
        ("a{n,m}", Quantifier(Param("n"), Param("m"))),
        ("a{$n,}", Quantifier(Param("n"), None)),
        ("a+ relaxed", Quantifier(1, None, inner=RELAXED)),
        ("a+ combinations", Quantifier(1, None, inner=ANY)),
        ("a+ consecutive", Quantifier(1, None)),
        ("a+ relaxed greedy", Quantifier(1, None, inner=RELAXED, greedy=True)),
        ("a+ greedy relaxed", Quantifier(1, None, inner=RELAXED, greedy=True)),
        ("a+ reluctant", Quantifier(1, None)),
        ("a{3} [every 2 s]", Quantifier(3, 3, gap_ms=2000)),
        ("a{3} [required every 2 s]", Quantifier(3, 3, gap_ms=2000, gap_required_only=True)),
    ],
)
def test_quantifiers(text: str, quantifier: Quantifier) -> None:
    assert parse_match(text) == (Stage("a", quantifier=quantifier),)


def test_contiguity() -> None:
    items = parse_match("a b -> c ->> d !e !-> f")
    assert [item.contiguity for item in items] == [
        None,
        STRICT,
        RELAXED,
        ANY,
        Contiguity.NOT_NEXT,
        Contiguity.NOT_FOLLOW,
    ]


def test_links_need_no_spaces() -> None:
    assert parse_match("a->b->>c!d!->e") == parse_match("a -> b ->> c !d !-> e")


def test_groups_and_alternatives() -> None:
    a, b, c = Stage("a"), Stage("b"), Stage("c")
    strict_b = Stage("b", contiguity=STRICT)
    either = ast.Alternation(((a,), (b,)))
    assert parse_match("( a b )") == (Group((a, strict_b)),)
    assert parse_match("( a b )+") == (Group((a, strict_b), quantifier=Quantifier(1, None)),)
    assert parse_match("( a | b )") == (either,)
    assert parse_match("a | b") == (either,)
    assert parse_match("( a | b )+") == (Group((either,), quantifier=Quantifier(1, None)),)
    assert parse_match("( ( a | b ) )") == (Group((either,)),)
    assert parse_match("c -> ( a | b )") == (c, ast.Alternation(((a,), (b,)), RELAXED))


def test_time_between_events() -> None:
    assert parse_match("a -> b [within 10 s]")[1] == Stage("b", contiguity=RELAXED, within_ms=10_000)
    group = parse_match("( a b )+ [every 3 s] [within 1 min] until (true)")[0]
    assert group == Group(
        (Stage("a"), Stage("b", contiguity=STRICT)),
        quantifier=Quantifier(1, None, gap_ms=3000),
        until=Literal(True, BOOLEAN),
        within_ms=60_000,
    )


def test_words_that_are_no_keywords_where_they_stand() -> None:
    names = "first last count matches cap after end time key row partial timeouts date interval fail to from"
    assert [
        stage.name for stage in ast.stages_of(parse_match("start " + names.replace("count matches", "count x matches")))
    ] == [
        "start",
        *names.replace("count matches", "count x matches").split(),
    ]
    expr = parse_expression("time + key.date > count(first.end) and `from`.to = last(row.max)")
    assert Column("date", "key") in list(ast.walk(expr))
    assert Aggregate("count", "first", "end") in list(ast.walk(expr))


@pytest.mark.parametrize(
    ("text", "value", "type_"),
    [
        ("42", 42, BIGINT),
        ("-42", -42, BIGINT),
        ("-9223372036854775808", -(2**63), BIGINT),
        ("4.5", 4.5, DOUBLE),
        (".5", 0.5, DOUBLE),
        ("1e3", 1000.0, DOUBLE),
        ("-1.5E-3", -0.0015, DOUBLE),
        ("double 'Infinity'", float("inf"), DOUBLE),
        ("decimal '1.50'", decimal.Decimal("1.50"), Decimal(3, 2)),
        ("DECIMAL(10, 2) '1.5'", decimal.Decimal("1.5"), Decimal(10, 2)),
        ("'it''s'", "it's", STRING),
        ("U&'a\\000ab\\\\'", "a\nb\\", STRING),
        ("U&'\\+01f600'", "😀", STRING),
        ("TRUE", True, BOOLEAN),
        ("null", None, NULL),
        ("5 min", 300_000, INTERVAL),
        ("-1 h 30 min", -5_400_000, INTERVAL),
        ("1.5 Seconds", 1500, INTERVAL),
        ("INTERVAL '5' MINUTE", 300_000, INTERVAL),
        ("interval '-1.5' second", -1500, INTERVAL),
        ("interval '1 02:03:04.5' day to second", 93_784_500, INTERVAL),
        ("timestamp '1970-01-01 00:00:01.5'", 1500, TIMESTAMP),
        ("timestamp '1970-01-01T01:00:00+01:00'", 0, TIMESTAMP),
        ("date '1970-01-11'", 10, DATE),
    ],
)
def test_literals(text: str, value: object, type_: DataType) -> None:
    assert parse_expression(text) == Literal(value, type_)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a or b and not c = d + e * -f", "a or (b and (not (c = (d + (e * (-f))))))"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c % d", "((a / b) * c) % d"),
        ("a = b = c", "(a = b) = c"),
        ("a != b", "a <> b"),
        ("x not in (1, 2)", "not (x in (1, 2))"),
        ("x not like 'a' escape '!'", "not (x like 'a' escape '!')"),
        ("x regexp 'a'", "x rlike 'a'"),
        ("regexp(x, 'a')", "x rlike 'a'"),
        ("x is not unknown", "x is not null"),
        ("x between a + 1 and b or c", "(x between (a + 1) and b) or c"),
        ("case x when 1 then 2 end", "case when x = 1 then 2 end"),
        ("substring(x from 2 for 3)", "substring(x, 2, 3)"),
        ("SUBSTR(x, 2)", "substring(x from 2)"),
        ("position('a' in x.y)", "position('a', x.y)"),
        ("position('a' in (x))", "position('a', x)"),
        ("trim(leading 'x' from y)", "ltrim(y, 'x')"),
        ("trim('x' from y)", "trim(y, 'x')"),
        ("extract(HOURS from t)", "hour(t)"),
        ("timestampdiff(MINUTES, a, b)", "timestampdiff(minute, a, b)"),
        ("+a", "a"),
        ("a.b.c[1].d", "((a.b.c)[1]).d"),
        ("first(a.geo.lat, 2)", "first(a.geo, 2).lat"),
        ("length(x)", "char_length(x)"),
    ],
)
def test_forms_of_one_meaning(text: str, same: str) -> None:
    assert parse_expression(text) == parse_expression(same)


def test_dots() -> None:
    assert parse_expression("a.b") == Column("b", "a")
    assert parse_expression("(a).b") == Call("field", (Column("a"), Literal("b", STRING)))
    assert parse_expression("a.b.c") == Call("field", (Column("b", "a"), Literal("c", STRING)))
    assert parse_expression("a[1]") == Call("element", (Column("a"), Literal(1, BIGINT)))
    assert parse_expression("a.select.match") == Call("field", (Column("select", "a"), Literal("match", STRING)))


def test_signs_belong_to_numbers_that_follow_them_directly() -> None:
    assert parse_expression("-5") == Literal(-5, BIGINT)
    assert parse_expression("-(5)") == Call("neg", (Literal(5, BIGINT),))
    assert parse_expression("a -5") == Call("-", (Column("a"), Literal(5, BIGINT)))
    assert parse_expression("--5\n5") == Literal(5, BIGINT)  # the first line is a comment


def test_a_bare_name_is_a_parameter_unless_the_stream_has_that_column() -> None:
    program = parse_program(
        """
        stream s (k bigint, ts timestamp(ms) time)
        pattern p on s match a define a as k = n and n > $k emit a.k as n into t
        pattern q on t match a define a as k = n
        param k = 1
        param n = 2
        """
    )
    p, q = program.patterns
    assert [node for node in ast.walk(p.items) if isinstance(node, Param)] == [Param("n"), Param("n"), Param("k")]
    assert [node for node in ast.walk(q.items) if isinstance(node, Param)] == [Param("k")]


def test_clauses_in_any_order() -> None:
    head = "pattern p on s "
    clauses = [
        "match a b",
        "define a as x",
        "within 1 s",
        "after match skip to next row",
        "emit x",
        "into t",
        "cap 5 partial matches",
    ]
    assert parse_program(head + " ".join(clauses)) == parse_program(head + " ".join(reversed(clauses)))


@pytest.mark.parametrize(
    ("text", "skip"),
    [
        ("no skip", ast.NO_SKIP),
        ("no", ast.NO_SKIP),
        ("skip to next row", ast.Skip(SkipMode.TO_NEXT)),
        ("to next", ast.Skip(SkipMode.TO_NEXT)),
        ("past last", ast.Skip(SkipMode.PAST_LAST)),
        ("to first b", ast.Skip(SkipMode.TO_FIRST, "b")),
        ("skip to last fail or fail", ast.Skip(SkipMode.TO_LAST, "fail", throw_on_miss=True)),
    ],
)
def test_skips(text: str, skip: ast.Skip) -> None:
    assert parse_skip(text) == skip


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("INT", BIGINT),
        ("varchar(20)", STRING),
        ("timestamp(3)", TIMESTAMP),
        ("decimal(10)", Decimal(10, 0)),
        ("Array<Row<lat double, `my tag` array<string>>>", Array(Row((("lat", DOUBLE), ("my tag", Array(STRING)))))),
    ],
)
def test_types(text: str, type_: DataType) -> None:
    assert parse_type(text) == type_


def test_streams() -> None:
    (stream,) = parse_program(
        """
        stream orders (
          shop string from a.`b c` key,
          placed timestamp('%d.%m.%Y') time zone 'Europe/Berlin' delay 30 s idle 1 min max ahead 1 day,
          seen timestamp,
        ) from file '*.jsonl' format json (follow = true, `x y`.z = -1.5, pattern = 'p', null = 'NA')
        """
    ).streams
    assert stream == ast.Stream(
        "orders",
        (
            ast.FieldDecl("shop", STRING, key=True, source=("a", "b c")),
            ast.FieldDecl("placed", TIMESTAMP),
            ast.FieldDecl("seen", TIMESTAMP),
        ),
        ast.TimeDecl("placed", "%d.%m.%Y", "Europe/Berlin", 30_000, 60_000, 86_400_000),
        ast.Connector(
            "file",
            "*.jsonl",
            "json",
            (("follow", True), ("x y.z", -1.5), ("pattern", "p"), ("null", "NA")),
        ),
    )


def test_metadata_of_records() -> None:
    (stream,) = parse_program(
        """
        stream logins (
          user string from metadata 'key' key,
          ts timestamp(ms) from metadata 'timestamp' time delay 2 s,
          trace string from metadata 'headers.trace-id',
          metadata string from metadata
        ) from kafka 'logins'
        """
    ).streams
    assert stream.columns == (
        ast.FieldDecl("user", STRING, key=True, metadata="key"),
        ast.FieldDecl("ts", TIMESTAMP, metadata="timestamp"),
        ast.FieldDecl("trace", STRING, metadata="headers.trace-id"),
        ast.FieldDecl("metadata", STRING, source=("metadata",)),
    )


def test_places() -> None:
    program = parse_program("stream s (a int)\n\npattern p on s\n  match a{2} b\n  define b as a.x > 1\n")
    stage, other = program.patterns[0].items
    assert stage.span is not None
    assert (stage.span.line, stage.span.column, stage.span.end_column) == (4, 9, 13)
    assert isinstance(stage, Stage)
    assert stage.quantifier.span is not None
    assert stage.quantifier.span.column == 10
    assert isinstance(other, Stage)
    assert other.condition is not None
    assert other.condition.span is not None
    assert (other.condition.span.line, other.condition.span.column, other.condition.span.end_column) == (5, 15, 22)


def test_a_byte_order_mark_and_windows_line_ends() -> None:
    assert parse_program("\ufeffstream s (\r\n a int\r\n)\r\n") == parse_program("stream s (a int)")


def test_an_empty_file() -> None:
    assert parse_program("") == ast.Program(())
    assert parse_program("-- nothing\n") == ast.Program(())


def test_parameters_print_as_they_read() -> None:
    assert print_expression(Param("k")) == "$k"
    assert print_expression(Param("k"), frozenset({"k"})) == "k"
    assert parse_expression("k + $j", ["k"]) == Call("+", (Param("k"), Param("j")))
