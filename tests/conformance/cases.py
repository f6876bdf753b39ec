"""Cases in the format of FORMAT.md: read, run by the engine, and scored against the recorded answers."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ostinato.cep.batch import MAX_TIME, MIN_TIME, Batch, Vector
from ostinato.cep.nfa.operator import MatchError, MatchOperator
from ostinato.cep.nfa.spill import Spill
from ostinato.patterns import ast
from ostinato.patterns.errors import PatternError
from ostinato.patterns.typecheck import CheckedPattern, check_pattern
from ostinato.patterns.types import BOOLEAN, DOUBLE, STRING, DataType
from tests.conformance.translate import build
from tests.support import Kept, reopened

Case = Mapping[str, Any]

OWN_SEMANTICS = {"stage_window", "times_window"}
"""Features of cases in which a sensible behaviour is better than Flink's; they are counted apart."""

COMPARISONS = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*"}


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a ``.jsonl`` or ``.jsonl.gz`` file, in order."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


# -- a case as a checked pattern and events ---------------------------------------------------------


def schema(case: Case) -> dict[str, DataType]:
    """The fields of a case's events. All numbers are DOUBLE: that is how the cases compare them."""
    types: dict[str, DataType] = {}
    for event in case["events"]:
        for name, value in event.items():
            if value is None:
                types.setdefault(name, DOUBLE)
                continue
            found = BOOLEAN if isinstance(value, bool) else STRING if isinstance(value, str) else DOUBLE
            if types.get(name, found) != found and any(e.get(name) is not None for e in case["events"][: event["i"]]):
                raise ValueError(f"{case['name']}: field `{name}` holds values of two kinds")
            types[name] = found
    return types


class _Conditions:
    """Turns COND into expressions. NULL never counts as true in the cases, so that each comparison ``is_true``."""

    def __init__(self, types: Mapping[str, DataType]) -> None:
        self._types = types

    def expression(self, cond: Mapping[str, Any]) -> ast.Expr:
        op = cond["op"]
        if op == "const":
            value = cond["value"]
            if isinstance(value, (bool, str)):
                return ast.Literal(value, BOOLEAN if isinstance(value, bool) else STRING)
            return ast.Literal(None if value is None else float(value), DOUBLE)
        if op == "field":
            known = cond["name"] in self._types
            return ast.Column(cond["name"]) if known else ast.Literal(None, DOUBLE)
        if op == "agg":
            return self._aggregate(cond)
        if op in COMPARISONS:
            return self._comparison(op, cond["args"])
        args = tuple(self.expression(arg) for arg in cond["args"])
        if op in ARITHMETIC:
            return ast.Call(ARITHMETIC[op], args)
        truths = tuple(ast.Call("is_true", (arg,)) for arg in args)
        if op == "not":
            return ast.Call("not", truths)
        joined = truths[0]
        for truth in truths[1:]:
            joined = ast.Call(op, (joined, truth))
        return joined

    def _aggregate(self, cond: Mapping[str, Any]) -> ast.Expr:
        function, stage, name = cond["fn"], cond["stage"], cond.get("field")
        if name is not None and name not in self._types:
            return ast.Literal(0.0 if function in ("count", "sum") else None, DOUBLE)
        aggregate = ast.Aggregate(function, stage, name)
        if function == "sum":
            return ast.Call("coalesce", (aggregate, ast.Literal(0.0, DOUBLE)))
        return aggregate

    def _comparison(self, op: str, args: Sequence[Mapping[str, Any]]) -> ast.Expr:
        left, right = (self.expression(arg) for arg in args)
        kinds = {self._kind(arg) for arg in args}
        if len(kinds) == 2 and None not in kinds:
            if op != "ne":
                return ast.Literal(False, BOOLEAN)
            return ast.Call("and", (ast.Call("is_not_null", (left,)), ast.Call("is_not_null", (right,))))
        if kinds == {BOOLEAN} and op not in ("eq", "ne"):
            return ast.Literal(False, BOOLEAN)
        return ast.Call("is_true", (ast.Call(COMPARISONS[op], (left, right)),))

    def _kind(self, cond: Mapping[str, Any]) -> DataType | None:
        if cond["op"] == "const":
            value = cond["value"]
            return None if value is None else BOOLEAN if isinstance(value, bool) else self._text_or_number(value)
        if cond["op"] == "field" or (cond["op"] == "agg" and cond["fn"] in ("first", "last")):
            return self._types.get(cond["name"] if cond["op"] == "field" else cond["field"])
        return BOOLEAN if cond["op"] in {*COMPARISONS, "and", "or", "not"} else DOUBLE

    @staticmethod
    def _text_or_number(value: Any) -> DataType:
        return STRING if isinstance(value, str) else DOUBLE


def check_case(case: Case, *, timeouts: bool = True, count: bool = False) -> CheckedPattern:
    """A case's pattern, through the builder and all checks.

    Raises:
        PatternError: it is refused.
    """
    types = schema(case)
    stream = ast.Stream("events", tuple(ast.FieldDecl(name, type_) for name, type_ in types.items()))
    bounded = re.search(r'"(within|window)_ms": \d', json.dumps(case["pattern"])) is not None
    pattern = build(case["pattern"], _Conditions(types).expression).to_ast(
        "case", stream, timeouts_into="timed_out" if timeouts and bounded else None, count=count
    )
    return check_pattern(pattern, stream)


def batch_of(case: Case, events: Sequence[Mapping[str, Any]]) -> Batch:
    """Events of a case, in order of arrival."""
    columns = {}
    for name, type_ in schema(case).items():
        values = [event.get(name) for event in events]
        if type_ == DOUBLE:
            values = [None if value is None else float(value) for value in values]
        columns[name] = Vector.of(type_, values)
    return Batch("events", np.array([event["ts"] for event in events], np.int64), columns)


# -- running ----------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What came out of a case."""

    matches: list[dict[str, list[int]]] = field(default_factory=list)
    timeouts: list[dict[str, Any]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        if "matches" in batch.columns and len(batch.columns) <= 2:
            self.counts += batch.columns["matches"].to_list()
            return
        stages = {name: v.to_list() for name, v in batch.columns.items() if name != "match_time"}
        for row, time in enumerate(batch.time.tolist()):
            events = {name: [int(e["i"]) for e in column[row]] for name, column in stages.items() if column[row]}
            if batch.stream == "timed_out":
                self.timeouts.append({"match": events, "ts": time})
            else:
                self.matches.append(events)


def run_case(
    case: Case,
    *,
    cuts: int | None = None,
    restore: bool = False,
    timeouts: bool = True,
    count: bool = False,
    spill: Callable[[], Spill] | None = None,
) -> Answer:
    """Run a case.

    Args:
        cuts: a seed; the events then come in batches of random sizes, with a watermark after each as far as the events
            to come allow.
        restore: after every batch a snapshot is taken, of everything or of what has changed since the one before, and
            now and then a new operator goes on from what was kept.
        timeouts: report timed-out partial matches.
        count: give numbers of matches instead of matches.
        spill: makes a place for state that memory does not hold.

    Raises:
        PatternError, MatchError: the pattern is refused, or matching fails.
    """
    checked = check_case(case, timeouts=timeouts, count=count)
    operator = MatchOperator([checked], spill=spill() if spill is not None else None)
    answer = Answer()
    events = case["events"]
    flush = case.get("flush", True)
    end = MAX_TIME if flush is True else max((e["ts"] for e in events), default=MIN_TIME) if flush is False else flush
    rng = random.Random(cuts)
    kept = Kept()
    at = 0
    while at < len(events):
        size = len(events) if cuts is None else rng.randint(1, 4)
        operator.process(batch_of(case, events[at : at + size]))
        at += size
        if at < len(events):
            for batch in operator.advance(min(event["ts"] for event in events[at:]) - 1):
                answer.add(batch)
        if restore:
            if rng.random() < 0.2:
                kept = Kept()
            kept.add(operator.snapshot(() if kept.header else None))
            if rng.random() < 0.5:
                operator, kept = reopened(operator, kept, spill() if spill is not None else None), Kept()
    last = max((event["ts"] for event in events), default=MIN_TIME)
    for watermark in (last, end) if end > last else (last,):
        for batch in operator.advance(watermark):
            answer.add(batch)
    return answer


# -- scoring ----------------------------------------------------------------------------------------


def canonical(answer: Sequence[Any]) -> list[str]:
    return [json.dumps(item, sort_keys=True) for item in answer]


@dataclass(frozen=True)
class Score:
    """`verdict`: passed, failed, undetermined or own; `detail` says what differs."""

    verdict: str
    detail: str = ""


def score(case: Case, **way: Any) -> Score:
    """Run a case in some way (see `run_case`) and compare."""
    expected = case.get("error", {}).get("kind")
    own = bool(OWN_SEMANTICS & set(case.get("features", ())))
    try:
        answer = run_case(case, **way)
    except PatternError as error:
        return Score(
            "own" if own and expected is None else "passed" if expected == "illegal_pattern" else "failed", str(error)
        )
    except MatchError as error:
        return Score("passed" if expected == "runtime" else "failed", str(error))
    if expected in ("illegal_pattern", "runtime"):
        return Score("failed", f"not refused; Flink says: {case['error']['message']}")
    if expected is not None:
        return Score("undetermined")
    if own:
        return Score("own")
    undetermined = False
    for what, got in (("matches", answer.matches), ("timeouts", answer.timeouts)):
        ties = case["ties"][what]
        if ties == "set":
            undetermined = True
            continue
        found, wanted = canonical(got), canonical(case[what])
        if found != wanted if ties == "none" else Counter(found) != Counter(wanted):
            return Score("failed", f"{what}\n  expected {case[what]}\n  found    {got}")
    return Score("undetermined" if undetermined else "passed")
