"""A case's pattern (see FORMAT.md) as calls on the builder, in the order in which Flink was called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ostinato.patterns.builder import Pattern, WithinType
from ostinato.patterns.conditions import Condition
from ostinato.patterns.skipping import AfterMatchSkipStrategy

ToCondition = Callable[[Mapping[str, Any]], Condition]

SKIPS = {
    "no_skip": lambda stage: AfterMatchSkipStrategy.no_skip(),
    "skip_to_next": lambda stage: AfterMatchSkipStrategy.skip_to_next(),
    "skip_past_last": lambda stage: AfterMatchSkipStrategy.skip_past_last_event(),
    "skip_to_first": AfterMatchSkipStrategy.skip_to_first,
    "skip_to_last": AfterMatchSkipStrategy.skip_to_last,
}
LINKS: dict[str, Callable[[Pattern, Any], Pattern]] = {
    "strict": Pattern.next,
    "relaxed": Pattern.followed_by,
    "any": Pattern.followed_by_any,
    "not_next": Pattern.not_next,
    "not_follow": Pattern.not_followed_by,
}


def build(pattern: Mapping[str, Any], to_condition: ToCondition) -> Pattern:
    """The pattern, its conditions made by `to_condition`; raises where the builder refuses it."""
    skip = SKIPS[pattern["skip"]["strategy"]](pattern["skip"].get("stage"))
    if pattern["skip"].get("throw_on_miss"):
        skip = skip.throw_exception_on_miss()
    built = _sequence(pattern["stages"], to_condition, skip)
    return built if pattern["within_ms"] is None else built.within(pattern["within_ms"])


def _sequence(
    stages: list[Mapping[str, Any]], to_condition: ToCondition, skip: AfterMatchSkipStrategy | None = None
) -> Pattern:
    built: Pattern | None = None
    for stage in stages:
        content = _sequence(stage["group"]["stages"], to_condition) if "group" in stage else stage["name"]
        built = Pattern.begin(content, skip) if built is None else LINKS[stage["contiguity"]](built, content)
        if stage.get("where") is not None:
            built = built.where(to_condition(stage["where"]))
        if stage.get("quantifier") is not None:
            _repeat(built, stage["quantifier"])
        if stage.get("until") is not None:
            built = built.until(to_condition(stage["until"]))
        if stage.get("window_ms") is not None:
            built = built.within(stage["window_ms"], WithinType.PREVIOUS_AND_CURRENT)
    assert built is not None
    return built


def _repeat(stage: Pattern, quantifier: Mapping[str, Any]) -> None:
    least, most, window = quantifier["min"], quantifier["max"], quantifier.get("window_ms")
    if most is None:
        stage.one_or_more(window) if least == 1 else stage.times_or_more(least, window)
    elif (least, most) == (0, 0):
        stage.times(0, 0, window)
    elif least == most and least != 1:
        stage.times(least, window=window)
    elif (least, most) != (1, 1):
        stage.times(least, most, window)
    if quantifier["inner"] == "strict":
        stage.consecutive()
    elif quantifier["inner"] == "any":
        stage.allow_combinations()
    if quantifier["optional"]:
        stage.optional()
    if quantifier["greedy"]:
        stage.greedy()
