"""The fluent builder: Flink's names, Flink's meaning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from ostinato import cep
from ostinato.cep import AfterMatchSkipStrategy, Duration, Pattern, Time, WithinType, col
from ostinato.patterns.ast import (
    Alternation,
    Call,
    Column,
    Contiguity,
    Group,
    Literal,
    PythonCall,
    Quantifier,
    Skip,
    SkipMode,
    Stage,
)
from ostinato.patterns.errors import MalformedPatternError, PatternError
from ostinato.patterns.parser import parse_expression, parse_match
from ostinato.patterns.types import BIGINT


def items(pattern: Pattern) -> Any:
    return pattern.to_ast("p", "s").items


def sole(pattern: Pattern) -> Any:
    (item,) = items(pattern)
    return item


def test_each_link_has_its_contiguity() -> None:
    chain = (
        Pattern.begin("a").next("b").followed_by("c").followed_by_any("d").not_next("e").not_followed_by("f").next("g")
    )
    assert [(stage.name, stage.contiguity) for stage in items(chain)] == [
        ("a", None),
        ("b", Contiguity.STRICT),
        ("c", Contiguity.RELAXED),
        ("d", Contiguity.ANY),
        ("e", Contiguity.NOT_NEXT),
        ("f", Contiguity.NOT_FOLLOW),
        ("g", Contiguity.STRICT),
    ]


relaxed = partial(Quantifier, inner=Contiguity.RELAXED)


@pytest.mark.parametrize(
    ("refine", "quantifier"),
    [
        (lambda p: p, Quantifier()),
        (lambda p: p.optional(), Quantifier(optional=True)),
        (lambda p: p.times(3), relaxed(3, 3)),
        (lambda p: p.times(2, 4), relaxed(2, 4)),
        (lambda p: p.times(0, 4), relaxed(0, 4)),
        (lambda p: p.times(1), Quantifier()),
        (lambda p: p.times(1).consecutive().greedy(), Quantifier()),
        (lambda p: p.one_or_more(), relaxed(1, None)),
        (lambda p: p.one_or_more().optional(), relaxed(1, None, True)),
        (lambda p: p.optional().one_or_more(), relaxed(1, None, True)),
        (lambda p: p.times_or_more(2).greedy(), relaxed(2, None, greedy=True)),
        (lambda p: p.times_or_more(2).consecutive(), Quantifier(2, None, inner=Contiguity.STRICT)),
        (lambda p: p.times(2).allow_combinations(), Quantifier(2, 2, inner=Contiguity.ANY)),
        (lambda p: p.times(3, window="5 s"), relaxed(3, 3, gap_ms=5000, gap_required_only=True)),
        (
            lambda p: p.one_or_more(timedelta(seconds=5)),
            relaxed(1, None, gap_ms=5000, gap_required_only=True),
        ),
        (lambda p: p.one_or_more().every("5 s"), relaxed(1, None, gap_ms=5000)),
    ],
)
def test_quantifiers(refine: Callable[[Pattern], Pattern], quantifier: Quantifier) -> None:
    assert sole(refine(Pattern.begin("a"))).quantifier == quantifier


def test_conditions_are_joined_from_left_to_right() -> None:
    built = Pattern.begin("a").where(col("x") > 1).or_("y = 2").where(lambda e: e.z < 3)
    assert sole(built).condition == parse_expression("(x > 1 or y = 2) and z < 3")


def test_a_condition_in_text_may_speak_of_the_match() -> None:
    built = Pattern.begin("a").followed_by("b").one_or_more().where("price > last(b.price)")
    assert items(built)[1].condition == parse_expression("price > last(b.price)")


def test_conditions_that_are_classes() -> None:
    class Big(cep.SimpleCondition):
        def filter(self, event: Any) -> bool:
            return bool(event.x > 100)

    class Rising(cep.IterativeCondition):
        def filter(self, event: Any, ctx: Any) -> bool:
            return bool(event.x > ctx.get_events_for_pattern("a")[-1].x)

    big, rising = items(Pattern.begin("a").where(Big()).next("b").where(Rising()))
    # bool(...) of a comparison is the comparison
    assert big.condition == parse_expression("x > 100")
    assert rising.condition == parse_expression("x > last(a.x)")


def test_what_cannot_be_lowered_is_kept_as_a_function() -> None:
    def odd(event: Any) -> bool:
        return bool(hash(event.x) % 2)

    condition = sole(Pattern.begin("a").where(odd)).condition
    assert isinstance(condition, PythonCall)
    assert (condition.function, condition.iterative) == (odd, False)


def test_a_function_of_three_arguments_is_no_condition() -> None:
    with pytest.raises(PatternError, match="the event, or the event and the context"):
        Pattern.begin("a").where(lambda a, b, c: True).to_ast("p", "s")


def test_until() -> None:
    built = Pattern.begin("a").one_or_more().until(lambda e: e.x < 0)
    assert sole(built).until == parse_expression("x < 0")


def test_groups_and_alternatives_are_those_of_the_text() -> None:
    inner = Pattern.begin("b").followed_by("c")
    built = (
        Pattern.begin("a")
        .followed_by(inner)
        .times(2)
        .consecutive()
        .next(Pattern.alternatives(Pattern.begin("d"), Pattern.begin("e").next("f")))
    )
    assert items(built) == parse_match("a -> (b -> c){2} (d | e f)")


def test_repeated_alternatives() -> None:
    choice = Pattern.alternatives(Pattern.begin("a"), Pattern.begin("b"))
    group = sole(Pattern.begin(choice).times(2))
    assert isinstance(group, Group)
    assert isinstance(group.items[0], Alternation)
    assert group.items == parse_match("( a | b )")
    assert items(Pattern.begin(choice).one_or_more().consecutive()) == parse_match("(( a | b ))+")


def test_the_head_of_a_group_repeats_as_the_group_does() -> None:
    """Flink takes the inner contiguity of a group's first stage from the group."""
    inner = Pattern.begin("b").one_or_more().consecutive().next("c").times(2).consecutive()
    (group,) = items(Pattern.begin(inner).times(2).allow_combinations())
    assert [stage.quantifier.inner for stage in group.items] == [Contiguity.ANY, Contiguity.STRICT]
    (plain,) = items(Pattern.begin(Pattern.begin("b").one_or_more().consecutive().next("c")))
    assert plain.items[0].quantifier.inner is Contiguity.RELAXED


@pytest.mark.parametrize(
    "duration", ["5 min", 300_000, timedelta(minutes=5), Duration.of_minutes(5), Time.minutes(5), "300 s", "4 min 60 s"]
)
def test_durations(duration: Any) -> None:
    assert Pattern.begin("a").within(duration).to_ast("p", "s").within_ms == 300_000


@pytest.mark.parametrize("duration", ["five minutes", "5", -1, timedelta(seconds=-1), 1.5, True, ""])
def test_what_is_no_duration(duration: Any) -> None:
    with pytest.raises(PatternError):
        Pattern.begin("a").within(duration)


def test_the_smallest_of_several_times_counts() -> None:
    built = Pattern.begin("a").within("5 s").next("b").within("3 s").next("c").within("9 s")
    assert built.to_ast("p", "s").within_ms == 3_000


def test_time_since_the_event_before() -> None:
    built = Pattern.begin("a").next("b").within("3 s", WithinType.PREVIOUS_AND_CURRENT)
    tree = built.to_ast("p", "s")
    second = tree.items[1]
    assert isinstance(second, Stage)
    assert (tree.within_ms, second.within_ms) == (None, 3_000)


@pytest.mark.parametrize(
    ("strategy", "skip"),
    [
        (AfterMatchSkipStrategy.no_skip(), Skip()),
        (AfterMatchSkipStrategy.skip_to_next(), Skip(SkipMode.TO_NEXT)),
        (AfterMatchSkipStrategy.skip_past_last_event(), Skip(SkipMode.PAST_LAST)),
        (AfterMatchSkipStrategy.skip_to_first("b"), Skip(SkipMode.TO_FIRST, "b")),
        (AfterMatchSkipStrategy.skip_to_last("b").throw_exception_on_miss(), Skip(SkipMode.TO_LAST, "b", True)),
    ],
)
def test_skip_strategies(strategy: AfterMatchSkipStrategy, skip: Skip) -> None:
    assert Pattern.begin("a", strategy).next("b").to_ast("p", "s").skip == skip


def test_going_on_twice_from_one_pattern_gives_two_patterns() -> None:
    start = Pattern.begin("a")
    one, two = start.next("b"), start.followed_by("c")
    assert [item.name for item in items(one)] == ["a", "b"]
    assert [item.name for item in items(two)] == ["a", "c"]


def not_stage() -> Pattern:
    return Pattern.begin("a").not_next("n")


def group() -> Pattern:
    return Pattern.begin(Pattern.begin("a").next("b"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pattern.begin("a").next("a").to_ast("p", "s"), "two stages `a`"),
        (lambda: Pattern.begin("$endState$").to_ast("p", "s"), "endState"),
        (lambda: Pattern.begin("a").times(2).one_or_more(), "quantifier already"),
        (lambda: not_stage().times(2), "NOT stage"),
        (lambda: not_stage().greedy(), "NOT stage"),
        (lambda: not_stage().optional(), "NOT stage and cannot be optional"),
        (lambda: Pattern.begin("a").optional().optional(), "optional already"),
        (lambda: Pattern.begin("a").times(0, 2).optional(), "optional already"),
        (lambda: Pattern.begin("a").one_or_more().greedy().next("b").optional(), "greedy"),
        (lambda: Pattern.begin("a").optional().not_next("n"), "is optional"),
        (lambda: Pattern.begin("a").times(0, 2).not_followed_by("n"), "is optional"),
        (lambda: Pattern.begin("a").greedy(), "not repeated"),
        (lambda: Pattern.begin("a").one_or_more().allow_combinations().greedy(), "combinations"),
        (lambda: Pattern.begin("a").one_or_more().greedy().allow_combinations(), "combinations"),
        (lambda: group().one_or_more().greedy(), "group"),
        (lambda: Pattern.begin("a").consecutive(), "not repeated"),
        (lambda: Pattern.begin("a").allow_combinations(), "not repeated"),
        (lambda: Pattern.begin("a").times(2).consecutive().allow_combinations(), "consecutive already"),
        (lambda: Pattern.begin("a").times(2).allow_combinations().allow_combinations(), "combinations already"),
        (lambda: Pattern.begin("a").until("x > 1"), "does not loop"),
        (lambda: Pattern.begin("a").times(2).until("x > 1"), "does not loop"),
        (lambda: Pattern.begin("a").one_or_more().until("x > 1").until("x > 2"), "until condition already"),
        (lambda: Pattern.begin("a").times(0), "0 times"),
        (lambda: Pattern.begin("a").times(-2), "-2 times"),
        (lambda: Pattern.begin("a").times(0, 0), "to 0"),
        (lambda: Pattern.begin("a").times(3, 2), "3 to 2"),
        (lambda: Pattern.begin("a").times(-1, 2), "-1"),
        (lambda: Pattern.begin("a").times_or_more(0), "0 times"),
        (lambda: group().where("x > 1"), "group"),
        (lambda: group().or_("x > 1"), "group"),
        (lambda: Pattern.begin("a").not_next(Pattern.begin("b")), "group"),  # type: ignore[arg-type]
        (lambda: Pattern.begin("a", AfterMatchSkipStrategy.skip_to_first("z")).to_ast("p", "s"), "`z`"),
        (
            lambda: Pattern.begin(Pattern.begin("a"), AfterMatchSkipStrategy.skip_to_first("a")).to_ast("p", "s"),
            "inside a group",
        ),
        (lambda: Pattern.begin("a").not_followed_by("n").to_ast("p", "s"), "needs a time"),
        (
            lambda: Pattern.begin("a").next("b").within(9, WithinType.PREVIOUS_AND_CURRENT).within(8).to_ast("p", "s"),
            "may last",
        ),
        (lambda: Pattern.begin(Pattern.begin("a").within(5)).to_ast("p", "s"), "time of its own"),
        (lambda: Pattern.begin(""), "name"),
        (lambda: Pattern.alternatives(Pattern.begin("a")), "two"),
        (lambda: Pattern.begin("a").every("3 s"), "not repeated"),
    ],
)
def test_refusals(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(MalformedPatternError, match=message.replace("$", "[$]")):
        build()


def test_times_from_zero_slips_past_the_rule_on_greed() -> None:
    built = Pattern.begin("a").one_or_more().greedy().next("b").times(0, 2)
    assert items(built)[1].quantifier.min == 0


class TestExpressions:
    """Conditions made of `col` and the aggregates are those of the text."""

    @pytest.mark.parametrize(
        ("built", "text"),
        [
            (lambda: (col("x") > 3) & (col("y") == "a") | ~(col("z") != 1.5), "x > 3 and y = 'a' or not z <> 1.5"),
            (lambda: col("x") + 1 - 2 * col("y") / 3 % 4, "x + 1 - 2 * y / 3 % 4"),
            (lambda: -col("x") < 3 - col("y"), "-x < 3 - y"),
            (lambda: col("x") == None, "x is null"),  # noqa: E711
            (lambda: col("x") != None, "x is not null"),  # noqa: E711
            (lambda: col("a.x") <= cep.last("a.x"), "a.x <= last(a.x)"),
            (lambda: cep.count("a") >= cep.count("a", "x"), "count(a) >= count(a.x)"),
            (lambda: cep.first("a", "x", 2) > cep.last("a", "x", 1), "first(a.x, 2) > last(a.x, 1)"),
            (
                lambda: cep.sum_("a.x") + cep.avg("a.x") + cep.min_("a.x") + cep.max_("a.x") > 0,
                "sum(a.x) + avg(a.x) + min(a.x) + max(a.x) > 0",
            ),
            (lambda: col("x").in_(1, 2, 3), "x in (1, 2, 3)"),
            (lambda: col("x").between(1, 2), "x between 1 and 2"),
            (lambda: col("x").like("a%"), "x like 'a%'"),
            (lambda: cep.F.lower(col("x")) == "a", "lower(x) = 'a'"),
            (lambda: cep.F.distance_km(1.0, 2.0, col("x"), col("y")) > 3, "distance_km(1.0, 2.0, x, y) > 3"),
            (lambda: col("tags")[1] == "a", "tags[1] = 'a'"),
            (lambda: col("x") > timedelta(minutes=5), "x > 5 min"),
        ],
    )
    def test_same_as_text(self, built: Callable[[], cep.Expression], text: str) -> None:
        assert built().expr == parse_expression(text)

    def test_a_parameter(self) -> None:
        assert (col("x") > cep.param("limit")).expr == parse_expression("x > limit", ["limit"])

    def test_constants_keep_their_type(self) -> None:
        assert (col("x") == 1).expr == Call("=", (Column("x"), Literal(1, BIGINT)))

    def test_an_expression_has_no_truth(self) -> None:
        with pytest.raises(TypeError, match="has no truth yet"):
            bool(1 < col("x") < 3)

    def test_what_is_no_constant(self) -> None:
        with pytest.raises(PatternError, match="no constant"):
            col("x").in_(object())

    def test_an_aggregate_needs_a_field(self) -> None:
        with pytest.raises(PatternError, match="needs a field"):
            cep.sum_("a")
