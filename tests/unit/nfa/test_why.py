"""Why a key has matched, or not: the answer, and that asking changes nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.nfa.pools import KEY_SEEDS
from ostinato.cep.nfa.spill import Spill
from ostinato.cep.nfa.why import ON_DISK, KeyExplanation, explain_key, live_counts, parse_key
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_program
from ostinato.state.rocks import Rocks
from tests.support import batch_of, rows_of
from tests.unit.nfa.test_changes import CHECKED, some_events

STREAM = "stream events (k string key, ts timestamp(ms) time delay 1 s, v int, w string, f double, d decimal(6, 2))\n"
RISING = """pattern p on events
  match a+ -> b -> c
  define a as v > 0 and f >= coalesce(last(a.f), 0.0), b as v = 9 and f > avg(a.f) * 2 and w is not null,
    c as d > sum(a.d)
  after match skip to next
  within 10 min
  emit k, count(a) as n, c.w as w
"""


def checked(text: str, stream: str = STREAM) -> CheckedPattern:
    return check_program(parse_program(stream + text)).patterns[0]


def event(time: int, v: int, f: float = 1.0, w: str | None = "x", d: int = 100, k: str | None = "u1") -> dict[str, Any]:
    return {"k": k, "ts": time, "v": v, "f": f, "w": w, "d": d}


def run(pattern: CheckedPattern, events: Sequence[Mapping[str, Any]], watermark: int) -> MatchOperator:
    operator = MatchOperator([pattern])
    operator.process(batch_of(pattern.stream, events))
    operator.advance(watermark)
    return operator


def test_how_far_partial_matches_have_come_and_what_the_last_event_lacked() -> None:
    pattern = checked(RISING)
    events = [event(1_000, 1, 2.0), event(2_000, 1, 4.0), event(3_000, 9, 5.0), event(9_000, 9, 50.0)]
    operator = run(pattern, events, 5_000)
    found = explain_key(operator, "p", ["u1"], batch_of(pattern.stream, events[2:]))
    assert (found.key, found.watermark, found.waiting, found.draining, found.on_disk) == (
        {"k": "u1"}, 5_000, 1, False, False,
    )  # fmt: skip
    assert found.begins_with == ("a",)
    oldest = found.partial_matches[0]
    assert (oldest.kind, oldest.began, oldest.deadline) == ("open", 1_000, 601_000)
    assert oldest.taken["a"] >= 1
    assert [taken.time for taken in oldest.events] == sorted(taken.time for taken in oldest.events)
    assert {stage for partial in found.partial_matches for stage in partial.awaits} >= {"a", "b"}
    lacking, waiting = found.events
    assert (lacking.waiting, waiting.waiting) == (False, True)
    assert lacking.columns == {"k": "u1", "ts": 3_000, "v": 9, "w": "x", "f": 5.0, "d": "1.00"}
    for_b = [verdict for verdict in lacking.conditions if verdict.stage == "b" and verdict.holds is False]
    of_both = next(
        verdict
        for verdict in for_b
        if verdict.partial_match is not None and found.partial_matches[verdict.partial_match].taken == {"a": 2}
    )
    assert of_both.text == "v = 9 and f > avg(a.f) * 2 and w is not null"
    (part,) = of_both.failed
    assert (part.text, part.holds, part.values) == ("f > avg(a.f) * 2", False, {"f": 5.0, "avg(a.f)": 3.0})
    assert all(verdict.holds for verdict in waiting.conditions if verdict.stage == "b")


def test_null_is_not_true_and_decimals_are_texts() -> None:
    pattern = checked(RISING)
    events = [event(1_000, 1, 2.0, d=150), event(2_000, 9, 5.0), event(3_000, 1, 0.5, None, d=149)]
    operator = run(pattern, events, 5_000)
    found = explain_key(operator, "p", ["u1"], batch_of(pattern.stream, events))
    last = found.events[-1]
    whole = {number for number, each in enumerate(found.partial_matches) if each.taken == {"a": 1, "b": 1}}
    (for_c,) = [v for v in last.conditions if v.stage == "c" and v.partial_match in whole]
    assert (for_c.holds, for_c.failed[0].values) == (False, {"d": "1.49", "sum(a.d)": "1.50"})
    for_b = next(v for v in last.conditions if v.stage == "b")
    assert [part.text for part in for_b.failed] == ["v = 9", "f > avg(a.f) * 2", "w is not null"]
    begin = next(v for v in found.events[1].conditions if v.stage == "a" and v.partial_match is None)
    assert begin.holds is True
    nothing = explain_key(operator, "p", ["nobody"], batch_of(pattern.stream, [event(1, 1, w=None) | {"v": None}]))
    assert nothing.partial_matches == ()
    (verdict,) = nothing.events[0].conditions
    assert (verdict.stage, verdict.holds, [part.text for part in verdict.failed]) == ("a", None, ["v > 0"])


def test_negation_at_the_end_until_and_what_began_together() -> None:
    pattern = CHECKED["silent"]
    events = [{"k": "u", "ts": 1_000, "v": 2, "w": "x"}, {"k": "u", "ts": 2_000, "v": 3, "w": "y"}]
    operator = run(pattern, events, 3_000)
    found = explain_key(operator, "silent", ["u"], batch_of(pattern.stream, events))
    (partial,) = found.partial_matches
    assert (partial.completes_at_deadline, partial.deadline, partial.forbids) == (True, 16_000, ("c",))
    assert partial.events[-1].columns == {"w": "y"} | dict(partial.events[-1].columns)
    assert [v.role for v in found.events[-1].conditions if v.stage == "c"] == ["not"]
    ended = CHECKED["ended"]
    operator = run(ended, [{"k": "u", "ts": ts, "v": v, "w": "x"} for ts, v in ((1, 1), (2, 2), (3, 3))], 10)
    found = explain_key(operator, "ended", ["u"], batch_of(ended.stream, [{"k": "u", "ts": 9, "v": 5, "w": "x"}]))
    assert ("until", True) in {(v.role, v.holds) for v in found.events[0].conditions}


def test_seeds_are_shown_for_each_pattern() -> None:
    """One row stands for the partial matches of all patterns that begin alike; a chain of them for several events."""
    define = "define a as v > 0, b as v > 1, c as v > {last} within 1 h emit k"
    texts = [f"pattern p{last} on events match a -> b -> c {define.format(last=last)}\n" for last in (7, 8)]
    patterns = check_program(parse_program(STREAM + "".join(texts))).patterns
    operator = MatchOperator(patterns)
    operator.process(batch_of(patterns[0].stream, [event(1_000, 2), event(2_000, 3)]))
    operator.advance(3_000)
    for name in ("p7", "p8"):
        first, second = explain_key(operator, name, ["u1"]).partial_matches
        assert (first.taken, first.awaits, first.began, first.last_event) == ({"a": 1, "b": 1}, ("c",), 1_000, 2_000)
        assert (second.taken, second.awaits, second.deadline) == ({"a": 1}, ("b",), 3_602_000)
        assert live_counts(operator)[name] == {first.state: 1, second.state: 1}
    assert operator.parts.matcher.space.keys[0, KEY_SEEDS] == 2, "they are seeds still"


@pytest.mark.parametrize("name", ["counted", "unbounded"])
def test_what_is_only_counted(name: str) -> None:
    pattern = CHECKED[name]
    events = [{"k": "u", "ts": 1_000 + n, "v": v, "w": "x"} for n, v in enumerate((1, 1, 2))]
    operator = run(pattern, events, 3_000)
    found = explain_key(operator, name, ["u"], batch_of(pattern.stream, events[-1:]))
    assert found.counted is not None
    assert found.partial_matches == ()
    if name == "counted":
        assert sum(found.counted.partial_matches.values()) == 2
        assert found.counted.window_events == 3
    else:
        assert found.counted.partial_matches == {"b": 2}
        assert live_counts(operator)[name] == {"b": 2}
    assert {v.stage for v in found.events[0].conditions} >= {"a", "b"}


def test_draining_cap_and_an_unknown_pattern() -> None:
    pattern = checked(
        "pattern p on events match a -> b define a as v = 1, b as v = 2 cap 2 partial matches drop oldest\n"
    )
    operator = run(pattern, [event(time, 1) for time in (1, 2, 3, 4)], 10)
    found = explain_key(operator, "p", ["u1"])
    assert (found.total, found.cap, found.at_cap, found.dropped) == (2, 2, True, 2)
    assert [partial.began for partial in found.partial_matches] == [3, 4]
    assert len(explain_key(operator, "p", ["u1"], most=1).partial_matches) == 1
    draining = MatchOperator([pattern], draining={"p"})
    assert explain_key(draining, "p", ["u1"]).begins_with == ()
    with pytest.raises(LookupError, match="pattern `q` does not run on this stream; those that do are p"):
        explain_key(operator, "q", ["u1"])


def test_it_is_plain_data() -> None:
    pattern = checked(RISING)
    events = [event(1_000, 1, 2.0), event(2_000, 9, 1.0)]
    found = explain_key(run(pattern, events, 5_000), "p", ["u1"], batch_of(pattern.stream, events))
    again = msgspec.json.decode(msgspec.json.encode(found))
    assert again["partial_matches"][0]["taken"] == {"a": 1}


KEYED = "stream s (a string key, b int key, c decimal(4, 1) key, t date key, ts timestamp(ms) time, v int)\n"


def test_keys_of_several_columns_and_null() -> None:
    pattern = checked("pattern p on s match x -> y define x as v = 1, y as v = 2 emit a\n", KEYED)
    key = parse_key(pattern.stream, ["u1", "7", "1.5", "2024-01-02"])
    assert key == ("u1", 7, 15, 19_724)
    row = {"a": "u1", "b": 7, "c": 15, "t": 19_724, "ts": 5, "v": 1}
    operator = run(pattern, [row, row | {"a": None, "b": None}], 10)
    assert explain_key(operator, "p", key).total == 1
    assert explain_key(operator, "p", key).key == {"a": "u1", "b": 7, "c": "1.5", "t": 19_724}
    assert explain_key(operator, "p", parse_key(pattern.stream, [None, None, "1.5", "2024-01-02"])).total == 1
    assert explain_key(operator, "p", parse_key(pattern.stream, ["u1", "8", "1.5", "2024-01-02"])).total == 0
    with pytest.raises(ValueError, match="4 key columns"):
        parse_key(pattern.stream, ["u1"])
    with pytest.raises(ValueError, match="key column b: 'seven' is no BIGINT"):
        parse_key(pattern.stream, ["u1", "seven", "1", "2024-01-02"])
    with pytest.raises(ValueError, match=r"key column c: 'x' is no DECIMAL\(4, 1\)"):
        parse_key(pattern.stream, ["u1", "7", "x", "2024-01-02"])
    with pytest.raises(ValueError, match="too large"):
        parse_key(pattern.stream, ["u1", "9" * 30, "1", "2024-01-02"])
    with pytest.raises(ValueError, match="the key has 4 columns; 1 values"):
        explain_key(operator, "p", ["u1"])


@pytest.mark.parametrize("seed", range(4))
def test_asking_changes_nothing(seed: int, tmp_path: Path) -> None:
    """Everything is asked of every key between the batches, of an operator in memory and one that spills."""
    # keys of which something is counted stay in memory
    patterns = [CHECKED[name] for name in CHECKED if name not in ("counted", "unbounded")]
    names = [each.pattern.name for each in patterns]
    chance = random.Random(seed)
    plain, asked = MatchOperator(patterns), MatchOperator(patterns)
    rocks = Rocks(tmp_path / "rocks", 1 << 20, 1 << 20)
    spilling = MatchOperator(patterns, spill=Spill(rocks, 1))
    now, seen = 1_000, 0
    for _ in range(10):
        events = some_events(chance, now, 20)
        batch = batch_of(patterns[0].stream, events)
        answers = []
        for operator in (asked, spilling):
            operator.process(batch)
            answers.append([_shape(explain_key(operator, name, [f"k{n}"], batch)) for name in names for n in range(6)])
            counts = live_counts(operator)
            stats = operator.stats
            for name, of_states in counts.items():
                assert sum(of_states.values()) == stats[name].partial_matches, name
        assert answers[0] == answers[1]
        seen += sum(answer[0] for answer in answers[0])
        plain.process(batch)
        rows = [[rows_of(out) for out in each.advance(now + 4_000)] for each in (plain, asked, spilling)]
        assert rows[0] == rows[1] == rows[2]
        now += 6_000
    assert any(ON_DISK in of_states for of_states in live_counts(spilling).values())
    assert seen > 20
    ends = [[rows_of(out) for out in each.advance(MAX_TIME)] for each in (plain, asked, spilling)]
    assert ends[0] == ends[1] == ends[2]
    rocks.close()


def _shape(found: KeyExplanation) -> tuple[int, Any]:
    """What must be the same wherever the state is."""
    return found.total, msgspec.to_builtins(found.partial_matches)
