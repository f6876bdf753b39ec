"""Conditions of the conformance cases, evaluated as their format defines them (for the naive matcher)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]
Condition = Mapping[str, Any]


def value_of(condition: Condition, event: Event, taken: Mapping[str, Sequence[Event]]) -> Any:
    """The value of a condition or a part of it for an event, given the events taken so far for each stage."""
    op = condition["op"]
    if op == "const":
        return condition["value"]
    if op == "field":
        return event.get(condition["name"])
    if op == "agg":
        return aggregate(condition, taken.get(condition["stage"], ()))
    args = [value_of(arg, event, taken) for arg in condition["args"]]
    if op == "and":
        return all(arg is True for arg in args)
    if op == "or":
        return any(arg is True for arg in args)
    if op == "not":
        return args[0] is not True
    left, right = args
    if op in ("add", "sub", "mul"):
        if not (is_number(left) and is_number(right)):
            return None
        return {"add": left + right, "sub": left - right, "mul": left * right}[op]
    return compares(op, left, right)


def compares(op: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    equal = kind(left) == kind(right) and left == right
    if op in ("eq", "ne"):
        return equal if op == "eq" else not equal
    if kind(left) != kind(right) or kind(left) == "boolean":
        return False
    if kind(left) == "text":
        left, right = left.encode("utf-16-be"), right.encode("utf-16-be")
    return bool({"lt": left < right, "le": left <= right, "gt": left > right, "ge": left >= right}[op])


def aggregate(condition: Condition, events: Sequence[Event]) -> Any:
    function = condition["fn"]
    if function == "count" and condition.get("field") is None:
        return len(events)
    values: list[Any] = [event.get(condition["field"]) for event in events]
    if function == "count":
        return sum(value is not None for value in values)
    if function in ("first", "last"):
        return values[0 if function == "first" else -1] if values else None
    numbers = [value for value in values if is_number(value)]
    if function == "sum":
        return sum(numbers)
    if not numbers:
        return None
    return {"avg": sum(numbers) / len(numbers), "min": min(numbers), "max": max(numbers)}[function]


def kind(value: Any) -> str:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def is_number(value: Any) -> bool:
    return value is not None and kind(value) == "number"
