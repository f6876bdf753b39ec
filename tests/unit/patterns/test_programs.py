"""Whole files: streams, what patterns emit, and how it all hangs together."""

from __future__ import annotations

import pytest

from ostinato.patterns import CheckedProgram, PatternError, check_program, parse_program
from ostinato.patterns.types import BIGINT, INTERVAL, STRING, TIMESTAMP, Array, DataType, Row

LOGINS = "stream logins (user string key, site string key, ts timestamp(ms) time, n bigint)\n"


def checked(text: str) -> CheckedProgram:
    return check_program(parse_program(LOGINS + text))


def columns(program: CheckedProgram, name: str) -> list[tuple[str, DataType, bool]]:
    return [(column.name, column.type, column.key) for column in program.streams[name].columns]


def test_emitted_keys_stay_keys() -> None:
    program = checked(
        "pattern p on logins match a emit user as who, a.n, null as nothing, match_end() - match_start() as took into t"
    )
    assert columns(program, "t") == [
        ("who", STRING, True),
        ("n", BIGINT, False),
        ("nothing", STRING, False),
        ("took", INTERVAL, False),
        ("match_time", TIMESTAMP, False),
    ]
    assert program.streams["t"].time.column == "match_time"


def test_without_emit_all_events_come_out() -> None:
    program = checked("pattern p on logins match a !b site?")
    row = Row((("user", STRING), ("site", STRING), ("ts", TIMESTAMP), ("n", BIGINT)))
    assert columns(program, "p") == [
        ("user", STRING, True),  # `site` is the name of a stage here
        ("a", Array(row), False),
        ("site", Array(row), False),
        ("match_time", TIMESTAMP, False),
    ]


def test_counting() -> None:
    program = checked("pattern p on logins match a ->> b count matches into busy")
    assert columns(program, "busy") == [
        ("user", STRING, True),
        ("site", STRING, True),
        ("matches", BIGINT, False),
        ("match_time", TIMESTAMP, False),
    ]


def test_timeouts_have_the_same_columns() -> None:
    program = checked("pattern p on logins match a b emit user, a.n within 1 s timeouts into late")
    assert columns(program, "late") == columns(program, "p")
    assert program.patterns[0].timeouts_stream == program.streams["late"]


def test_patterns_on_what_other_patterns_emit_in_any_order() -> None:
    program = checked(
        """
        pattern second on series match one -> two define two as failures > one.failures emit who, two.failures
        pattern first on logins match a+ emit user as who, count(a) as failures into series
        output second to stdout
        output series to file 'series.jsonl'
        """
    )
    assert [p.pattern.name for p in program.patterns] == ["second", "first"]
    assert program.patterns[0].stream == program.streams["series"]
    assert program.patterns[0].stream.keys == ("who",)
    assert len(program.outputs) == 2


def test_several_patterns_may_emit_alike() -> None:
    checked("pattern p on logins match a emit user into t\npattern q on logins match b emit user into t")
    with pytest.raises(PatternError, match="patterns `p` and `q` emit different columns into `t`"):
        checked("pattern p on logins match a emit user into t\npattern q on logins match b emit b.n into t")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pattern p on login match a", "there is no stream `login`"),
        ("pattern p on q match a pattern q on p match b", "reads what it emits itself"),
        ("pattern p on p match a", "reads what it emits itself"),
        ("pattern p on logins match a pattern p on logins match b", "there are two patterns `p`"),
        ("param k = 1 param k = 2", "there are two parameters `k`"),
        ("stream logins (ts timestamp(ms) time)", "there are two streams `logins`"),
        ("pattern logins on logins match a", "would emit into the input `logins`"),
        ("output alerts to stdout", "there is no stream `alerts` to put out"),
        ("pattern alerts on logins match a output alert to stdout", "did you mean `alerts`?"),
        ("output logins to stdout", "`logins` is an input"),
        ("stream t (x bigint)", "stream `t` has no time"),
        ("stream t (x bigint, x bigint, ts timestamp(ms) time)", "stream `t` has two columns `x`"),
        ("stream t (x array<string> key, ts timestamp(ms) time)", "a key is one value"),
        ("stream t (x string time)", "`x` is STRING, which is no time"),
        ("stream t (x bigint time format iso)", "is a BIGINT, so its time is not of the format 'iso'"),
        ("stream t (x timestamp(iso) time zone 'Europe/Berln')", "there is no time zone 'Europe/Berln'"),
        ("stream t (x timestamp(ms) time, y timestamp(ms) time)", "stream `t` has more than one time"),
        ("stream t (x timestamp(ms) time) processing time", "stream `t` has more than one time"),
        ("stream t (x timestamp(s), y timestamp(ms) time)", "`x` is not the time column"),
        ("stream t (x timestamp(millis) time)", "`millis` is no way to write a time"),
        ("stream t (x timestamp(ms) time key key)", "`key` is said twice"),
        ("stream t (x decimal(30, 2), ts timestamp(ms) time)", "there is no DECIMAL(30, 2)"),
        ("stream t (x string from metadata 'tpic') processing time", "did you mean `topic`?"),
        ("stream t (x string from metadata 'headers.') processing time", "there is no metadata 'headers.'"),
        ("stream t (x string from metadata 'lag') processing time", "timestamp, key and headers.NAME"),
        (
            "stream t (x string from metadata 'offset') processing time",
            "`x` is STRING, but metadata 'offset' is BIGINT",
        ),
        ("stream t (x bigint from metadata 'headers.a') processing time", "metadata 'headers.a' is STRING"),
        ("stream t (x boolean from metadata 'timestamp') processing time", "'timestamp' is TIMESTAMP(3) or BIGINT"),
        (
            "stream t (x string from metadata 'key') processing time from file 'x'",
            "a source of kind file does not have",
        ),
        ("stream t (x bigint from metadata 'offset' time)", "the time of a record is metadata 'timestamp'"),
        ("stream t (x timestamp(iso) from metadata 'timestamp' time)", "which is in milliseconds of UTC"),
        ("stream t (x string from a from metadata 'key') processing time", "`from` is said twice"),
        ("stream t (ts timestamp(ms) time) from file 'x' (a = 1, a = 2)", "option `a` is given twice"),
        ("stream t (ts timestamp(ms) time) from file 'x' (a = null)", "an option is a text, a number, true or false"),
    ],
)
def test_what_does_not_fit_together(text: str, message: str) -> None:
    with pytest.raises(PatternError) as caught:
        checked(text)
    assert message in str(caught.value)


def test_the_place_of_an_unknown_stream() -> None:
    with pytest.raises(PatternError) as caught:
        checked("pattern p on login match a")
    (problem,) = caught.value.problems
    assert problem.span is not None
    assert (problem.span.line, problem.span.column) == (2, 14)
    assert problem.hint == "did you mean `logins`?"


def test_processing_time_needs_no_column() -> None:
    program = checked("stream t (x bigint) processing time idle 1 min\npattern p on t match a")
    assert program.streams["t"].time.mode == "processing"
    assert program.streams["t"].time.idle_ms == 60_000
