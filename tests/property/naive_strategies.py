"""Random patterns that the naive matcher supports, and events for them, in the format of the conformance cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests.property.naive import NEGATIONS, supports

KINDS = ("A", "B", "C")
LARGEST = 4

Json = dict[str, Any]


def _compare(op: str, left: Json, right: Json) -> Json:
    return {"op": op, "args": [left, right]}


def _field(name: str) -> Json:
    return {"op": "field", "name": name}


def _constant(value: Any) -> Json:
    return {"op": "const", "value": value}


def _simple() -> st.SearchStrategy[Json]:
    kind = st.builds(lambda value: _compare("eq", _field("t"), _constant(value)), st.sampled_from(KINDS))
    number = st.builds(
        lambda op, value: _compare(op, _field("x"), _constant(value)),
        st.sampled_from(("lt", "ge", "ne")),
        st.integers(0, LARGEST),
    )
    both = st.builds(
        lambda op, one, other: {"op": op, "args": [one, other]}, st.sampled_from(("and", "or")), kind, number
    )
    return st.one_of(kind, kind, number, both)


def _iterative(stages: list[str]) -> st.SearchStrategy[Json]:
    """A condition on what has been matched for one of the stages."""
    stage = st.sampled_from(stages)
    value = st.builds(
        lambda function, name: {"op": "agg", "fn": function, "stage": name, "field": "x"},
        st.sampled_from(("first", "last", "min", "max", "sum", "avg")),
        stage,
    )
    count = st.builds(lambda name: {"op": "agg", "fn": "count", "stage": name}, stage)
    compared = st.builds(
        lambda op, right: _compare(op, _field("x"), right), st.sampled_from(("lt", "ge", "eq", "ne")), value
    )
    few = st.builds(lambda left, most: _compare("lt", left, _constant(most)), count, st.integers(1, 3))
    return st.one_of(compared, few)


def _condition(stages: list[str]) -> st.SearchStrategy[Json | None]:
    simple = _simple()
    both = st.builds(lambda one, other: {"op": "and", "args": [one, other]}, simple, _iterative(stages))
    either = st.builds(lambda one, other: {"op": "or", "args": [one, other]}, simple, _iterative(stages))
    return st.one_of(simple, simple, simple, both, either, st.none())


@st.composite
def _quantifier(draw: st.DrawFn) -> Json | None:
    if draw(st.booleans()):
        return None
    least, most = draw(st.sampled_from(((1, 1), (1, None), (2, None), (2, 2), (3, 3), (1, 2), (1, 3), (2, 3), (0, 2))))
    looping = (least, most) != (1, 1)
    return {
        "min": least,
        "max": most,
        "optional": least > 0 and draw(st.booleans()),
        "inner": draw(st.sampled_from(("relaxed", "strict", "any"))) if looping else "relaxed",
        "greedy": looping and draw(st.integers(0, 3)) == 0,
    }


@st.composite
def patterns(draw: st.DrawFn) -> Json:
    """A pattern of one to four stages; Flink may still refuse it."""
    names = list("abcd"[: draw(st.integers(1, 4))])
    stages: list[Json] = []
    for index, name in enumerate(names):
        stage: Json = {"name": name, "where": draw(_condition(names[: index + 1]))}
        if index:
            stage["contiguity"] = draw(st.sampled_from(("strict", "relaxed", "any", "relaxed", "any", *NEGATIONS)))
        if stage.get("contiguity") not in NEGATIONS:
            stage["quantifier"] = draw(_quantifier())
            if (stage["quantifier"] or {"max": 1})["max"] is None and draw(st.integers(0, 2)) == 0:
                stage["until"] = draw(_condition(names[: index + 1]).filter(bool))
        stages.append(stage)
    taking = [stage["name"] for stage in stages if stage.get("contiguity") not in NEGATIONS]
    strategy = draw(
        st.sampled_from(("no_skip", "no_skip", "skip_to_next", "skip_past_last", "skip_to_first", "skip_to_last"))
    )
    named = strategy in ("skip_to_first", "skip_to_last")
    return {
        "stages": stages,
        "within_ms": draw(st.one_of(st.none(), st.integers(2, 15))),
        "skip": {"strategy": strategy, "stage": draw(st.sampled_from(taking)) if named else None},
    }


def supported_patterns() -> st.SearchStrategy[Json]:
    return patterns().filter(supports)


@st.composite
def events(draw: st.DrawFn) -> list[Json]:
    """Up to fourteen events in order of arrival, their times in another."""
    size = draw(st.integers(1, 14))
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(KINDS), st.integers(0, LARGEST)), min_size=size, max_size=size
        )
    )
    times: list[int] = []
    for gap, _, _ in rows:
        times.append((times[-1] if times else 0) + gap)
    if draw(st.integers(0, 3)) == 0:
        times = draw(st.permutations(times))
    return [
        {"i": index, "ts": ts, "t": kind, "x": number}
        for index, (ts, (_, kind, number)) in enumerate(zip(times, rows, strict=True))
    ]


_OPERATORS = {"eq": "=", "ne": "<>", "lt": "<", "ge": ">="}


def text_of(condition: Mapping[str, Any]) -> str:
    """A condition in the language."""
    op = condition["op"]
    if op == "const":
        value = condition["value"]
        return f"'{value}'" if isinstance(value, str) else str(value)
    if op == "field":
        return str(condition["name"])
    if op == "agg":
        if condition["fn"] == "count":
            return f"count({condition['stage']})"
        aggregate = f"{condition['fn']}({condition['stage']}.{condition['field']})"
        return f"coalesce({aggregate}, 0)" if condition["fn"] == "sum" else aggregate
    args = [text_of(arg) for arg in condition["args"]]
    if op in ("and", "or"):
        return "(" + f" {op} ".join(args) + ")"
    return f"{args[0]} {_OPERATORS[op]} {args[1]}"
