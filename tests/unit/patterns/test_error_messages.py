"""What people read when a file is wrong: place, line, caret, and what to do."""

from __future__ import annotations

from textwrap import dedent

import pytest

from ostinato.patterns import PatternError, check_program, parse_expression, parse_match, parse_program

HEAD = """\
stream logins (
  user string key,
  ts timestamp(ms) time,
  status string,
  amount decimal(10, 2),
  geo row<lat double, lon double>,
  tags array<string>,
  n bigint
)

pattern p on logins
  match a+ b
"""


def errors(text: str) -> str:
    with pytest.raises(PatternError) as caught:
        check_program(parse_program(text, "f.cep"))
    return str(caught.value.located(text, "f.cep"))


def test_a_misspelt_column() -> None:
    expected = """\
        f.cep:13:15: there is no column `statsu`
              define a as statsu = 'FAILED'
                          ^^^^^^
          did you mean `status`?"""
    assert errors(HEAD + "  define a as statsu = 'FAILED'\n") == dedent(expected)


def test_several_errors_of_several_declarations_at_once() -> None:
    text = dedent(
        """\
        strem logins (user string key)
        param attempts 3
        pattern p on logins mach a b withn 5 min
        pattern q on logins
          match  ( a b
          within 5 min
        output p to file alerts.jsonl
        """
    )
    expected = """\
        f.cep:1:1: unexpected `strem`
            strem logins (user string key)
            ^^^^^
          did you mean `stream`?
        f.cep:2:16: unexpected `3`
            param attempts 3
                           ^
          expected `=`
        f.cep:3:21: unexpected `mach`
            pattern p on logins mach a b withn 5 min
                                ^^^^
          did you mean `match`?
        f.cep:3:30: unexpected `withn`
            pattern p on logins mach a b withn 5 min
                                         ^^^^^
          did you mean `within`?
        f.cep:5:10: `(` is not closed before `within`
              match  ( a b
                     ^
          close it with `)`
        f.cep:7:18: unexpected `alerts`
            output p to file alerts.jsonl"""
    found = errors(text)
    assert found.startswith(dedent(expected))


def test_several_errors_of_types_at_once() -> None:
    found = errors(
        HEAD + "  define a as status = 5 and lenght(user) > 1,\n         b as n + 1\n  emit count(b) as user, nope\n"
    )
    assert [line for line in found.splitlines() if line.startswith("f.cep")] == [
        "f.cep:13:15: STRING cannot be compared with BIGINT",
        "f.cep:13:30: there is no function `lenght`",
        "f.cep:14:15: a condition is true or false, but this is a BIGINT",
        "f.cep:15:26: there is no column `nope`",
    ]


CASES = [
    ('define a as status = "FAILED"', "there is no column `FAILED`", "a text is written in single quotes"),
    ("define a as n == 3", "there is no `==` in the language", "write `=`"),
    ("define a as n = 3 && true", "there is no `&&` in the language", "write `and`"),
    ("define c as true", "`c` is defined but is no stage of the pattern", "the stages are a, b"),
    ("define a as true, a as false", "stage `a` is defined twice", "join the conditions"),
    ("define a as n", "a condition is true or false, but this is a BIGINT", "compare it"),
    ("define a as b.x = 1", "there is no column `x`", "the columns are user, ts"),
    ("define a as bb.n = 1", "there is no stage `bb`", "did you mean `b`?"),
    ("define a as a", "`a` is a stage; of its columns, which?", "such as `a.column`"),
    ("define a as sum(n) > 1", "`sum` of which stage's events?", "such as `sum(a.n)`"),
    ("define a as sum(n + 1) > 1", "`sum` takes a column of a stage", "such as `sum(b.price)`"),
    ("define a as sum(a) > 1", "`sum` of which column?", "such as `sum(a.user)`"),
    ("define a as sum(a.status) > 1", "there is no `sum` of a STRING", ""),
    ("define a as count > 3", "there is no column `count`", "of a stage's events"),
    ("define a as count(*) > 3", "`count(*)` does not say of which stage", "write `count(stage)`"),
    ("define a as collect(a.n)[1] = 1", "`collect` grows with the match", ""),
    ("define a as first(a.n, n) = 1", "the second argument of `first` is a number", "counts events from the first on"),
    ("define a as ts > 1000", "TIMESTAMP(3) cannot be compared with BIGINT", "`to_millis(…)`"),
    ("define a as ts > '2026-01-01'", "TIMESTAMP(3) cannot be compared with STRING", "timestamp '2026-01-02"),
    ("define a as ts - a.ts > 5", "INTERVAL cannot be compared with BIGINT", "a duration has a unit"),
    ("define a as ts + 5 > ts", "TIMESTAMP(3) cannot be added to BIGINT", ""),
    ("define a as status + 'x' = 'yx'", "STRING cannot be added to STRING", "joined with `||`"),
    ("define a as status || n = 'x'", "`||` joins texts, but this is a BIGINT", "cast(… as string)"),
    ("define a as geo.alt > 1", "there is no field `alt`", "did you mean `lat`?"),
    ("define a as n.x > 1", "a BIGINT has no fields", ""),
    ("define a as n[1] > 1", "a BIGINT has no elements", ""),
    ("define a as tags[0] = 'x'", "the first element is [1]", "as in SQL"),
    ("define a as tags = tags", "ARRAY<STRING> cannot be compared", "take an element"),
    ("define a as round(1, 2, 3) = 1", "`round` takes 1 to 2 arguments, not 3", ""),
    ("define a as sqrt(status) = 1", "`sqrt` takes a DOUBLE here, not a STRING", ""),
    ("define a as status rlike '('", "this regular expression is wrong: missing )", ""),
    ("define a as regexp_extract(status, 'a', 2) = ''", "this regular expression has no group 2", ""),
    ("define a as status in 'x'", "`in` takes a list in parentheses", "write `in (…, …)`"),
    ("define a as case when n = 1 then 1 else 'x' end = 1", "the branches of `case` give BIGINT and STRING", ""),
    ("define a as cast(tags as bigint) = 1", "an ARRAY<STRING> cannot be cast to BIGINT", ""),
    ("define a as cast(n as bigin) = 1", "there is no type `bigin`", "did you mean `bigint`?"),
    ("define a as n > $k", "there is no parameter `k`", "declare it"),
    ("define a as match_start() = ts", "`match_start` is known only of a complete match", ""),
    ("define a as n > 9223372036854775808", "9223372036854775808 is too large for BIGINT", ""),
    ("define a as extract(weak from ts) = 1", "here stands a unit of time", ""),
    ("define a as timestamp '2026-13-01' = ts", "'2026-13-01' is not a time", ""),
    ("define a as status = 'x", "this text is not closed", "a text ends with `'`"),
    ("define a as n > /* 3", "this comment is not closed", "ends with `*/`"),
    ("define a as n > ", "the text ends too early", "expected a value"),
    ("define a as (n > 3", "`(` is not closed before the end", "close it with `)`"),
    ("define a as n > 3;", "`;` has no meaning in the language", "follow one another without"),
    ("emit status", "of which event should `status` be emitted?", "`a.status` (its last event)"),
    ("emit count(a)", "this column has no name", "`… as name`"),
    ("emit a.n, b.n", "two columns `n` are emitted", "rename one"),
    ("emit 1 as match_time", "every stream of matches has a column `match_time`", ""),
    ("within 5", "unexpected `5`", "`5 s`, `5 min`"),
    ("within 0 s", "`within` needs more than no time", ""),
    ("within 5 min within 6 min", "pattern `p` has two `within` clauses", "keep one"),
    ("after match skip to last c", "there is no stage `c` to skip to", "stages to skip to: a, b"),
    ("after match skip past lst", "unexpected `lst`", "did you mean `last`?"),
    ("emit user match", "the text ends too early", "expected a stage"),
    ("into logins", "pattern `p` would emit into the input `logins`", "choose another name"),
    ("timeouts into missed", "without a time limit nothing times out", "add `within`"),
    ("count matches emit user", "pattern `p` counts its matches", "leave out `emit`"),
]


@pytest.mark.parametrize(("body", "message", "hint"), CASES, ids=[case[0] for case in CASES])
def test_what_is_said(body: str, message: str, hint: str) -> None:
    found = errors(f"{HEAD}  {body}\n")
    assert message in found
    assert hint in found
    assert "f.cep:" in found
    assert "^" in found


@pytest.mark.parametrize(("body", "message", "hint"), CASES, ids=[case[0] for case in CASES])
def test_no_message_speaks_of_the_machinery(body: str, message: str, hint: str) -> None:
    found = errors(f"{HEAD}  {body}\n")
    for word in ("Token", "LPAR", "RPAR", "COMMA", "$END", "NAME", "lark", "Traceback", "rule", "terminal"):
        assert word not in found.replace(body, "")


SEQUENCES = [
    ("!a b", "a sequence cannot begin with what must not happen", "begin with a stage"),
    ("-> a", "nothing stands before this", "begin with a stage"),
    ("a !( b c )", "only a single stage can be negated", ""),
    ("a{2", "`{` is not closed before the end", "close it with `}`"),
    ("a{2}{3}", "there is a quantifier already", "say how often once"),
    ("a??", "it is optional already", ""),
    (
        "a consecutive",
        "`consecutive` says how repetitions go on, but nothing is repeated",
        "put a quantifier before it",
    ),
    ("a reluctant b", "`reluctant` says how repetitions go on", ""),
    ("a+ until (true)", "the `until` of a stage stands in `define`", "define b as … until …"),
    ("a --> b", "`-->` begins a comment", "followed by is written `->`"),
]


@pytest.mark.parametrize(("text", "message", "hint"), SEQUENCES, ids=[case[0] for case in SEQUENCES])
def test_sequences(text: str, message: str, hint: str) -> None:
    with pytest.raises(PatternError) as caught:
        parse_match(text)
    assert message in str(caught.value)
    assert hint in str(caught.value)


def test_nesting_has_an_end() -> None:
    with pytest.raises(PatternError, match="nested more than 100 deep"):
        parse_expression(" and ".join(["a = 1"] * 500))
    with pytest.raises(PatternError, match="nested too deeply"):
        parse_expression("(" * 500 + "a" + ")" * 500)


def test_a_tab_counts_as_one_column() -> None:
    text = HEAD + "\tdefine\ta as statsu = 1\n"
    assert "f.cep:13:14: there is no column" in errors(text)
