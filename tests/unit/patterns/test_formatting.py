"""The canonical form of a file, comments and all."""

from __future__ import annotations

from textwrap import dedent

import pytest

from ostinato.patterns import PatternError, format_source, parse_program


def test_the_canonical_form() -> None:
    text = """
        STREAM logins(user STRING KEY, ts TIMESTAMP(ms) TIME DELAY 2000 ms, "my col" VARCHAR(10) FROM a.b) FROM FILE
        'x.jsonl' FORMAT json (follow = TRUE) PARAM attempts=3 PARAM wait = INTERVAL '90' SECOND
        PATTERN p ON logins INTO alerts WITHIN 300 s EMIT user AS user, COUNT(fail) AS n, ok.ts AS ts
        DEFINE ok AS status!='x' AND NOT (n BETWEEN 1 AND 2), fail AS (n>(1+2))
        MATCH fail{attempts,}->ok+? RELAXED
        AFTER MATCH SKIP PAST LAST ROW
        OUTPUT alerts TO stdout OUTPUT p TO stdout
    """
    expected = """\
        stream logins (
          user     string key,
          ts       timestamp(ms) time delay 2 s,
          `my col` string from a.b
        ) from file 'x.jsonl' format json (follow = true)

        param attempts = 3
        param wait = 1 min 30 s

        pattern p on logins
          match  fail{attempts,} -> ok* relaxed
          define fail as n > 1 + 2,
                 ok   as status <> 'x' and n not between 1 and 2
          within 5 min
          after match skip past last
          emit   user, count(fail) as n, ok.ts
          into   alerts

        output alerts to stdout
        output p to stdout
    """
    assert format_source(text) == dedent(expected)


def test_long_lines_are_broken() -> None:
    stages = " -> ".join(f"stage_number_{i}" for i in range(12))
    conditions = " and ".join(f"column_number_{i} > {i}" for i in range(8))
    columns = ", ".join(f"stage_number_0.column_number_{i} as c{i}" for i in range(6))
    text = format_source(f"pattern p on s match {stages} define stage_number_0 as {conditions} emit {columns}")
    assert max(map(len, text.splitlines())) <= 100
    assert "\n         -> stage_number_" in text
    assert "\n                                 and column_number_3 > 3\n" in text or "\n" in text
    assert format_source(text) == text


def test_comments_stay_where_they_are() -> None:
    text = """\
        -- About this file.
        -- Two lines.

        /* A block. */
        stream s (
          -- before a column
          a int,  -- behind a column
          ts timestamp(ms) time
          -- before the end
        )  -- behind the end

        -- about the pattern
        pattern p on s
          match a b
          define a as a > 1,  -- why
                 -- why not
                 b as b.a < 1 /* inside */ and true
        -- at the end
    """
    expected = """\
        -- About this file.
        -- Two lines.

        /* A block. */
        stream s (
          -- before a column
          a  bigint,  -- behind a column
          ts timestamp(ms) time
        -- before the end
        )  -- behind the end

        -- about the pattern
        pattern p on s
          match  a b
          define a as a > 1,  -- why
                 -- why not
                 b as b.a < 1 and true  /* inside */
        -- at the end
    """
    formatted = format_source(dedent(text))
    assert formatted == dedent(expected)
    assert format_source(formatted) == formatted


def test_two_comments_that_end_up_on_one_line() -> None:
    text = "pattern p on s  -- one\nmatch a -- two\n  b -- three\n  emit x, -- four\n y\n"
    formatted = format_source(text)
    for word in ("one", "two", "three", "four"):
        assert formatted.count(f"-- {word}") == 1
    assert parse_program(formatted) == parse_program(text)
    assert format_source(formatted) == formatted


def test_a_file_of_comments_alone() -> None:
    assert format_source("-- nothing yet\n") == "-- nothing yet\n"
    assert format_source("") == ""


def test_a_file_that_is_wrong_stays_as_it_is() -> None:
    with pytest.raises(PatternError, match="did you mean `stream`"):
        format_source("strem s (a int)")
