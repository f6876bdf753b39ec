"""The rules by which a pattern is refused, as its writer meets them; Flink's own cases are in test_flink_refusals."""

from __future__ import annotations

import re

import pytest

from ostinato.patterns import MalformedPatternError, ast, check_pattern, check_structure, parse_program
from ostinato.patterns.ast import Contiguity, Quantifier, Stage
from ostinato.patterns.types import BIGINT, TIMESTAMP

STREAM = ast.Stream("s", (ast.FieldDecl("x", BIGINT), ast.FieldDecl("ts", TIMESTAMP)), ast.TimeDecl(column="ts"))


def pattern(rest: str) -> ast.Pattern:
    return parse_program(f"pattern p on s match {rest}").patterns[0]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("a b a", "there are two stages `a`"),
        ("a ( b -> a )+", "there are two stages `a`"),
        ("`$endState$`", "cannot be called"),
        ("a greedy", "is not repeated, so it cannot be greedy"),
        ("a? greedy", "is not repeated, so it cannot be greedy"),
        ("( a b )+ greedy", "a group cannot be greedy"),
        ("a+ combinations greedy", "exclude each other"),
        ("a relaxed", "is not repeated"),
        ("a? combinations", "is not repeated"),
        ("a [every 3 s]", "`every` says nothing"),
        ("a{3} b define a as x > 1 until x > 2", "nothing to stop"),
        ("a b define a as x > 1 until x > 2", "nothing to stop"),
        ("( a b ){2} until (x > 2)", "nothing to stop"),
        ("a !b? c", "must not happen, so it cannot be optional"),
        ("a !b+ c", "nothing can be said of how often"),
        ("a !-> b{2} within 1 s", "nothing can be said of how often"),
        ("a !b greedy c", "nothing can be said of how often"),
        ("a{0}", "a stage that comes 0 times is none"),
        ("a{0,0}", "a stage that comes 0 times is none"),
        ("a{0,}", "`{0,}` is written `*`"),
        ("a{3,2}", "at most 2 is less than at least 3"),
        ("a+ greedy b?", "stands right behind `a`, which is greedy"),
        ("a+ greedy -> b* -> c", "stands right behind `a`, which is greedy"),
        ("a+ greedy ( b c )?", "stands right behind `a`, which is greedy"),
        ("a? !b c", "`a` is optional, so it is not sure"),
        ("a b{0,2} !-> c d", "`b` is optional, so it is not sure"),
        ("a ( b c )* !d e", "the group is optional, so it is not sure"),
        ("a !-> b", "needs a time"),
        ("( a !-> b ) c", "a group cannot end with `!->`"),
        ("a ( b !-> c | d ) e", "a group cannot end with `!->`"),
        ("a -> b [within 10 s] within 5 s", "than the whole pattern may last"),
        ("a{3} [every 10 s] within 5 s", "than the whole pattern may last"),
        ("a -> b [within 0 s]", "`within` needs more than no time"),
        ("a b after match skip to first c", "there is no stage `c` to skip to"),
        ("a ( b c )+ after match skip to last b", "`b` is inside a group"),
        ("a b count matches timeouts into t within 1 s", "no timed-out ones"),
        ("a b cap 0 partial matches", "a cap is a number"),
        ("a b into t timeouts into t within 1 s", "matches and timeouts go into one stream"),
    ],
)
def test_refused(rest: str, message: str) -> None:
    with pytest.raises(MalformedPatternError, match=re.escape(message)):
        check_pattern(pattern(rest), STREAM)


@pytest.mark.parametrize(
    "rest",
    [
        "a",
        "a? b*",
        "a+ greedy b{0,2}",
        "a !b",
        "a !-> b within 1 s",
        "a !-> b [within 1 s]",
        "( a !b ) c",
        "a -> ( b | c d )+ relaxed e",
        "a !b c? d",
        "( a | b ) after match skip to first a",
        "a+ b define a as x > 1 until x > 2",
        "( a b )+ until (x > 2)",
        "( a -> b [within 10 s] ) c within 5 s",
    ],
)
def test_accepted(rest: str) -> None:
    check_pattern(pattern(rest), STREAM)


def test_all_that_is_wrong_is_said() -> None:
    with pytest.raises(MalformedPatternError) as caught:
        check_pattern(pattern("a greedy b? !c{2} after match skip to last z define a as nope = 1"), STREAM)
    assert len(caught.value.problems) == 6


def test_what_only_code_can_make() -> None:
    """The parser has no text for these."""
    for items in (
        (),
        (Stage("a", contiguity=Contiguity.STRICT),),
        (Stage("a"), Stage("b")),
        (ast.Alternation(((Stage("a"),),)),),
        (ast.Group(()),),
        (Stage("a"), ast.Group((Stage("b"),), Contiguity.NOT_NEXT)),
        (Stage("a", quantifier=Quantifier(-1, 2)),),
        (Stage("a", quantifier=Quantifier(0, 2, optional=True)),),
        (Stage("a", quantifier=Quantifier(2, 3, inner=Contiguity.NOT_NEXT)),),
    ):
        with pytest.raises(MalformedPatternError):
            check_structure(ast.Pattern("p", "s", items))
    with pytest.raises(MalformedPatternError, match="takes no stage"):
        check_structure(ast.Pattern("p", "s", (Stage("a"),), skip=ast.Skip(ast.SkipMode.TO_NEXT, "a")))
    with pytest.raises(MalformedPatternError, match="to which stage"):
        check_structure(ast.Pattern("p", "s", (Stage("a"),), skip=ast.Skip(ast.SkipMode.TO_LAST)))


def test_bounds_that_are_parameters_wait_for_their_values() -> None:
    check_structure(pattern("a{k}? b{0,k} c{k,j}"))
