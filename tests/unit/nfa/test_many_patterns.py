"""Patterns that run together give what each gives alone, however much they share."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.patterns import ast
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_pattern, check_program
from tests.conformance.cases import OWN_SEMANTICS, Case, batch_of, read_cases, schema
from tests.conformance.cases import check_case as check
from tests.support import Kept, reopened, rows_of, run_patterns
from tests.support import batch_of as events_as_batch

CASES = [
    case
    for case in read_cases(Path(__file__).parents[2] / "conformance" / "random_dev.jsonl.gz")
    if "error" not in case and not OWN_SEMANTICS & set(case["features"]) and "missing_fields" not in case["features"]
]


def renamed(case: Case, number: int, *, timeouts: bool) -> CheckedPattern:
    checked = check(case, timeouts=timeouts)
    stream = ast.Stream("events", tuple(ast.FieldDecl(name, type_) for name, type_ in schema(CASES[0]).items()))
    pattern = checked.pattern
    timed_out = f"late{number}" if pattern.timeouts_into else None
    return check_pattern(
        ast.Pattern(
            f"p{number}",
            pattern.on,
            pattern.items,
            pattern.within_ms,
            pattern.skip,
            into=f"p{number}",
            timeouts_into=timed_out,
        ),
        stream,
    )


def results(operator: MatchOperator, case: Case, cuts: random.Random | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    events = sorted(case["events"], key=lambda event: event["ts"])
    kept = Kept()
    at = 0
    while at < len(events):
        size = cuts.randint(1, 5) if cuts else len(events)
        operator.process(batch_of(case, events[at : at + size]))
        at += size
        for batch in operator.advance(events[at]["ts"] - 1 if at < len(events) else MAX_TIME):
            found[batch.stream] += [repr(row) for row in rows_of(batch)]
        if cuts and at < len(events):
            kept.add(operator.snapshot(() if kept.header else None))
            if cuts.random() < 0.5:
                operator, kept = reopened(operator, kept), Kept()
    return dict(found)


@pytest.mark.parametrize("timeouts", [False, True], ids=["matches", "timeouts"])
@pytest.mark.parametrize("seed", range(6))
def test_together_as_alone(seed: int, timeouts: bool) -> None:
    rng = random.Random(seed)
    chosen = rng.sample(CASES, 15)
    patterns = [renamed(case, number, timeouts=timeouts) for number, case in enumerate(chosen)]
    together = MatchOperator(patterns)
    alone = [MatchOperator([pattern]) for pattern in patterns]
    for case in rng.sample(CASES, 4):
        found = results(MatchOperator(together.compiled), case, None)
        cut = results(MatchOperator(together.compiled), case, rng)
        expected: dict[str, list[str]] = {}
        for operator in alone:
            expected |= results(MatchOperator(operator.compiled), case, None)
        assert found == expected
        assert cut == expected


STREAM = "stream s (k string key, ts timestamp(ms) time, v bigint)\n"


def variants(match: str, define: str, skip: str, windows: list[int]) -> list[CheckedPattern]:
    text = STREAM + "\n".join(
        f"pattern p{n} on s match {match.format(n=2 + n % 3)} define {define} within {w} ms after match {skip} "
        f"emit k, first(a.ts) as since, count(a) as many, {n} as n into out{n}"
        for n, w in enumerate(windows)
    )
    return list(check_program(parse_program(text)).patterns)


@pytest.mark.parametrize("skip", ["no skip", "skip past last", "skip to next"])
@pytest.mark.parametrize("match", ["a{{{n},}} b", "a{{{n}}} -> b", "a -> a2 b", "a ->> b", "a b"])
def test_variants_of_a_pattern_share_what_they_begin(match: str, skip: str) -> None:
    define = "a as v > 0, b as v = 0" + (", a2 as v > 1" if "a2" in match else "")
    patterns = variants(match, define, skip, [3, 5, 8, 13, 100, 100])
    rng = random.Random(match + skip)
    events = [
        {"k": f"k{rng.randrange(3)}", "ts": i // 2 + rng.randrange(3), "v": rng.choice([0, 1, 1, 2, 3])}
        for i in range(400)
    ]
    together = {b.stream: rows_of(b) for b in run_patterns(patterns, events)}
    assert len(together) >= 3
    for pattern in patterns:
        name = pattern.output_stream.name
        assert together.get(name, []) == [row for b in run_patterns([pattern], events) for row in rows_of(b)]


def test_keys_without_state_are_forgotten() -> None:
    patterns = list(check_program(parse_program(
        STREAM + "pattern p on s match a b define a as v > 0, b as v = 0 within 5 ms emit k into out"
    )).patterns)  # fmt: skip
    operator = MatchOperator(patterns)
    matches = 0
    for start in range(0, 600_000, 30_000):
        key, last = f"key{start + 29_999}", (start + 29_999) // 10 + 1
        events = [{"k": f"key{start + i}", "ts": (start + i) // 10, "v": 1 - i % 2} for i in range(30_000)]
        events += [{"k": key, "ts": last, "v": v} for v in (1, 0)]
        operator.process(events_as_batch(patterns[0].stream, events))
        matches += sum(len(batch) for batch in operator.advance(last))
    assert matches == 20
    assert operator.keys_known < 200_000


def test_partial_matches_are_numbered() -> None:
    patterns = variants("a b", "a as v > 0, b as v = 0", "no skip", [3, 5, 8])
    counted = list(check_program(parse_program(
        STREAM + "pattern c on s match a -> b define a as v > 0, b as v = 0 within 5 ms count matches into many"
    )).patterns)  # fmt: skip
    for operator, expected in ((MatchOperator(patterns), 2), (MatchOperator(counted), 0)):
        events = [{"k": key, "ts": 1, "v": 1} for key in ("x", "y")]
        operator.process(events_as_batch(patterns[0].stream, events))
        operator.advance(2)
        assert [stats.partial_matches for stats in operator.stats.values()] == [expected] * len(operator.stats)
