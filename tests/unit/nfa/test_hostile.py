"""Patterns made to do harm: refused with a message, or compiled, and never with much work."""

from __future__ import annotations

from unittest import mock

import pytest

from ostinato.cep.nfa import flatten, ir
from ostinato.cep.nfa.build import MAX_STATES, _Builder
from ostinato.cep.nfa.compile import automaton_of, compile_patterns
from ostinato.cep.nfa.identity import ByIdentity
from ostinato.patterns.errors import PatternError
from ostinato.patterns.lexer import MAX_CHARACTERS, MAX_PROBLEMS, MAX_TOKENS
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_program

STREAM = "stream events (k string key, ts timestamp(ms) time, v int, w string, f double)\n"


def program(match: str, define: str = "a as v = 1", rest: str = "within 1 h") -> str:
    return f"{STREAM}pattern p on events match {match} define {define} {rest} emit k\n"


def checked(text: str) -> CheckedPattern:
    return check_program(parse_program(text)).patterns[0]


def alternatives(count: int) -> str:
    return "(" + "|".join(f"a{number}" for number in range(count)) + ")"


def skippable(count: int) -> str:
    return "z " + " ".join(f"(a{number}? | b{number})?" for number in range(count)) + " y"


UNREAD = {
    "10 MB of nothing": " " * 10_000_000,
    "10 MB of signs": "@" * 10_000_000,
    "10 MB of quotes": "'" * 10_000_000,
    "10 MB in a text": program("a", "a as w = '" + "x" * 10_000_000 + "'"),
    "10 MB of patterns": STREAM + "pattern p on events match a define a as v = 1 emit k\n" * 190_000,
    "10 MB of digits": program("a", "a as v = " + "9" * 10_000_000),
}
TOO_MANY_WORDS = {
    "alternatives": program(alternatives(10_000), "a0 as v = 1"),
    "stages": program(" -> ".join(f"a{number}" for number in range(10_000)), "a0 as v = 1"),
    "an in list": program("a", "a as v in (" + ", ".join(map(str, range(100_000))) + ")"),
    "a condition": program("a", "a as " + " and ".join(f"v <> {number}" for number in range(20_000))),
    "columns": program("a").replace("emit k", "emit " + ", ".join(f"a.v as c{number}" for number in range(10_000))),
}
REFUSED = {
    "parentheses in a condition": (program("a", "a as " + "(" * 4_000 + "v = 1" + ")" * 4_000), "nested too deeply"),
    "parentheses in a match": (program("(" * 4_000 + "a" + ")" * 4_000), "nested too deeply"),
    "parentheses left open": (program("(" * 9_000 + "a"), "nested too deeply"),
    "negations": (program("a", "a as " + "not " * 9_000 + "v = 1"), "nested more than 100 deep"),
    "negations of conjunctions": (
        program("a", "a as " + "not (v = 1 and " * 90 + "v = 2" + ")" * 90),
        "nested more than 100 deep",
    ),
    "a regular expression": (program("a", "a as w rlike '" + "(" * 9_000 + ")" * 9_000 + "'"), "recursion"),
    "a number without end": (program("a{" + "9" * 5_000 + "}"), "a number has 5,000 digits"),
    "too many conditions": (
        program(" ".join(f"a{n}" for n in range(90)), ", ".join(f"a{n} as v = {n}" for n in range(90))),
        "90 different conditions; 62 are possible",
    ),
}
TOO_MANY_STATES = [
    "a{1000000000}",
    "a{1,1000000000}",
    "a{1000000000,}",
    "a{0,1000000000}",
    "((((a{99}){99}){99}){99}){99}",
]


@pytest.mark.parametrize("name", UNREAD)
def test_a_text_that_is_too_long_is_not_read(name: str) -> None:
    with (
        mock.patch("ostinato.patterns.lexer._value", side_effect=AssertionError("a word was read")),
        pytest.raises(PatternError, match=f"{MAX_CHARACTERS:,} are possible"),
    ):
        parse_program(UNREAD[name])


@pytest.mark.parametrize("name", TOO_MANY_WORDS)
def test_a_declaration_with_too_many_words_is_not_parsed(name: str) -> None:
    with (
        mock.patch("ostinato.patterns.parser.read", side_effect=AssertionError("it was parsed")),
        pytest.raises(PatternError, match=f"more than {MAX_TOKENS:,} words"),
    ):
        parse_program(TOO_MANY_WORDS[name])


def test_many_declarations_may_have_more_words_together() -> None:
    text = STREAM + "".join(f"pattern p{n} on events match a define a as v = {n} emit k " for n in range(1_000))
    assert len(parse_program(text).patterns) == 1_000


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, message = REFUSED[name]
    with pytest.raises(PatternError, match=message):
        compile_patterns([checked(text)])


@pytest.mark.parametrize("text", ["@" * 500_000, "param x int = 1\n" * 5_000, '"" ' * 100_000])
def test_no_more_is_said_than_somebody_reads(text: str) -> None:
    with pytest.raises(PatternError) as raised:
        parse_program(text)
    assert MAX_PROBLEMS <= len(raised.value.problems) <= MAX_PROBLEMS + 2


@pytest.mark.parametrize("match", TOO_MANY_STATES)
def test_states_are_not_made_to_find_out_that_there_are_too_many(match: str) -> None:
    pattern = checked(program(match))
    builder = _Builder(pattern.pattern)
    with pytest.raises(PatternError, match="pattern `p` needs more than 2,000 states"):
        builder.build()
    assert len(builder._states) <= 5_001
    with pytest.raises(PatternError, match="lower the numbers"):
        compile_patterns([pattern])


def test_the_most_states_may_be_fewer() -> None:
    pattern = checked(program("a{500}"))
    assert len(automaton_of(pattern).states) == 500
    with pytest.raises(PatternError, match="needs more than 100 states"):
        compile_patterns([pattern], max_states=100)
    assert len(automaton_of(checked(program(f"a{{{MAX_STATES}}}"))).states) == MAX_STATES


MANY_WAYS = [
    skippable(30),
    "z " + " ".join(f"(a{n}? b{n}*)*" for n in range(20)) + " y",
    " ".join(f"a{n}?" for n in range(200)) + " z",
]


@pytest.mark.parametrize("match", MANY_WAYS)
def test_ways_that_come_to_the_same_are_not_followed_for_ever(match: str) -> None:
    pattern = checked(program(match, "z as v = 1"))
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    with (
        mock.patch.object(ir.Step, "__post_init__", count),
        pytest.raises(PatternError, match="is too entangled to compile"),
    ):
        compile_patterns([pattern])
    assert steps <= flatten.MAX_STEPS


def test_a_cap_beyond_all_numbers() -> None:
    text = program("a -> b", rest="cap 99999999999999999999999 partial matches drop oldest")
    assert compile_patterns([checked(text)]).linear == frozenset()


def test_what_is_kept_of_an_object_goes_with_it() -> None:
    class Thing:
        pass

    made: ByIdentity[Thing, list[str]] = ByIdentity(lambda thing: [type(thing).__name__])
    one, other = Thing(), Thing()
    assert made(one) is made(one)
    assert made(one) is not made(other)
    assert len(made) == 2
    del other
    assert len(made) == 1
    for _ in range(100):
        made(Thing())
    assert len(made) == 1
