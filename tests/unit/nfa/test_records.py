"""Stored partial matches: read by patterns that have changed since, by other workers, and by people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.nfa.records import describe
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_program
from ostinato.state.errors import DamagedError, DroppedStateError, SnapshotError
from ostinato.state.operator import OperatorState
from tests.support import KEY_GROUPS, Kept, batch_of, rows_of

STREAM = """
stream events (k string key, ts timestamp(ms) time delay 1 s, v int, f double, w string, flags array<string>)
"""
RISE = """
pattern rise on events
  match a+ -> b
  define a as v > 0, b as v = {end} and w = last(a.w) and f > sum(a.f)
  within {within}
  emit k, first(a.w) as w, count(a) as n{more}
  into rises
"""
PAIR = """
pattern pair on events
  match c -> d
  define c as v = 1, d as v = 9
  emit k, c.v as v, d.flags as flags
  into pairs
"""
COUNTED = """
pattern counted on events
  match x -> y
  define x as v = {first}, y as v = 9
  within 1 h
  count matches
  into counts
"""


def rise(end: int = 9, within: str = "10 min", more: str = "") -> str:
    return RISE.format(end=end, within=within, more=more)


def patterns(*texts: str, stream: str = STREAM) -> tuple[CheckedPattern, ...]:
    return check_program(parse_program(stream + "".join(texts))).patterns


def event(key: str, time: int, v: int, w: str = "x", f: float = 1.0) -> dict[str, Any]:
    return {"k": key, "ts": time, "v": v, "f": f, "w": w, "flags": ["p", key] if v == 9 else None}


FIRST = [event(f"k{n}", 1000 + n, 1 + n % 2, f=0.5 * n) for n in range(40)]
SECOND = [event(f"k{n}", 5000 + n, 9, f=1000.0) for n in range(40)]


def half_way(*texts: str) -> OperatorState:
    """The state after the first events, the last of which still wait for the watermark."""
    operator = MatchOperator(patterns(*texts))
    operator.process(batch_of(operator.compiled.patterns[0].stream, FIRST))
    operator.advance(1020)
    return operator.snapshot(None)


def kept(*states: OperatorState, owned: range = range(KEY_GROUPS), may_drop: bool = False) -> Kept:
    whole = Kept(owned=owned, may_drop=may_drop)
    whole.add(*states)
    return whole


def go_on(stored: Kept, checked: Sequence[CheckedPattern]) -> dict[str, list[dict[str, Any]]]:
    operator = MatchOperator(checked)
    operator.restore(stored)
    operator.process(batch_of(checked[0].stream, SECOND))
    found: dict[str, list[dict[str, Any]]] = {}
    for batch in operator.advance(MAX_TIME):
        found.setdefault(batch.stream, []).extend(rows_of(batch))
    return found


def test_changed_parameters_go_on_with_what_there_is() -> None:
    stored = kept(half_way(rise()))
    assert len(go_on(stored, patterns(rise()))["rises"]) == 40
    assert go_on(stored, patterns(rise(end=8))) == {}
    assert go_on(stored, patterns(rise(within="4 s"))) == {}


def test_patterns_may_come_and_their_order_does_not_matter() -> None:
    stored = kept(half_way(rise(), PAIR))
    found = go_on(stored, patterns(COUNTED.format(first=1), PAIR, rise()))
    assert len(found["rises"]) == 40
    assert len(found["pairs"]) == 20
    assert found["pairs"][0]["flags"] == ["p", found["pairs"][0]["k"]]
    assert "counts" in found  # of the events that still waited


def test_a_pattern_that_is_gone_is_named() -> None:
    stored = kept(half_way(rise(), PAIR, COUNTED.format(first=1)))
    with pytest.raises(DroppedStateError, match=r"`pair` is gone.*`counted` is gone.*--allow-dropped-state"):
        go_on(stored, patterns(rise()))
    stored.may_drop = True
    found = go_on(stored, patterns(rise()))
    assert list(found) == ["rises"]
    assert len(found["rises"]) == 40


def test_dropping_leaves_nothing_behind() -> None:
    stored = kept(half_way(rise(), PAIR), may_drop=True)
    operator = MatchOperator(patterns(PAIR))
    operator.restore(stored)
    assert operator.stats["pair"].partial_matches == 11
    alone = MatchOperator(patterns(PAIR))
    alone.restore(kept(half_way(PAIR)))
    assert [len(r) for _, r in kept(operator.snapshot(None)).records()] == [
        len(r) for _, r in kept(alone.snapshot(None)).records()
    ]
    values = [b"".join(records.values) for _, records in kept(operator.snapshot(None)).records()]
    assert values == [b"".join(records.values) for _, records in kept(alone.snapshot(None)).records()]


def test_another_structure_is_refused() -> None:
    stored = kept(half_way(rise()))
    other = rise().replace("a+ -> b", "a -> b")
    with pytest.raises(DroppedStateError, match="`rise` has another structure"):
        go_on(stored, patterns(other))
    stored.may_drop = True
    # what waited for the watermark is still there
    assert len(go_on(stored, patterns(other))["rises"]) == 19


def test_counts_are_carried_over() -> None:
    stored = kept(half_way(COUNTED.format(first=1), rise()))
    expected = go_on(stored, patterns(COUNTED.format(first=1), rise()))["counts"]
    assert len(expected) == 20
    assert go_on(stored, patterns(rise(), COUNTED.format(first=1)))["counts"] == expected
    # events that were counted stay what they were under the condition of then; those that waited are judged anew
    assert len(go_on(stored, patterns(COUNTED.format(first=2), rise()))["counts"]) == 21


def test_columns_may_be_added_and_dropped() -> None:
    stored = kept(half_way(rise()))
    wider = STREAM.replace("w string,", "w string, extra int,")
    found = go_on(stored, patterns(rise(more=", last(a.extra) as extra, last(a.v) as v"), stream=wider))["rises"]
    assert len(found) == 40
    assert {row["extra"] for row in found} == {None}
    # `v` was not kept for events that had been matched; those that waited had it
    assert {row["v"] for row in found} == {None, 1, 2}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("w string,", "w int,", "column w was STRING"),
        ("k string key", "k int key", r"by the key \(k STRING\)"),
    ],
)
def test_other_types_are_refused(before: str, after: str, message: str) -> None:
    stored = kept(half_way(PAIR, rise()))
    changed = rise().replace("w = last(a.w) and ", "")
    with pytest.raises(SnapshotError, match=message):
        go_on(stored, patterns(PAIR, changed, stream=STREAM.replace(before, after)))


def test_other_workers_take_over() -> None:
    whole = half_way(rise(), PAIR, COUNTED.format(first=1))
    checked = patterns(rise(), PAIR, COUNTED.format(first=1))
    expected = go_on(kept(whole), checked)
    parts = []
    for owned in (range(50), range(50, KEY_GROUPS)):
        operator = MatchOperator(checked)
        operator.restore(kept(whole, owned=owned))
        parts.append(operator.snapshot(None))
    assert max(parts[0].groups) < 50 <= min(parts[1].groups)
    found = go_on(kept(*parts), checked)
    assert {stream: sorted(map(str, rows)) for stream, rows in found.items()} == {
        stream: sorted(map(str, rows)) for stream, rows in expected.items()
    }


def test_damage_is_noticed() -> None:
    state = half_way(rise())
    with pytest.raises(SnapshotError, match="header"):
        go_on(kept(OperatorState(b"\x00", state.groups, state.whole, state.shared)), patterns(rise()))
    with pytest.raises(DamagedError):
        go_on(kept(OperatorState(state.header, state.groups, state.whole, b"\xc1")), patterns(rise()))


def test_people_can_read_it() -> None:
    state = half_way(rise(), COUNTED.format(first=1))
    held = {key: value for records in state.groups.values() for key, value in records.items()}
    told = describe(state.header, b"k2", held[b"k2"])
    assert told["key"] == {"k": "k2"}
    (match,) = told["partial_matches"]
    assert match["pattern"] == "rise"
    assert match["began"] == match["last_event"] == 1002
    assert (
        match["registers"]
        == {"count a.* 0 count": 1}
        | {name: value for name, value in match["registers"].items() if name != "count a.* 0 count"}
        or "registers" in match
    )
    assert [(e["stage"], e["time"], e["columns"]["w"]) for e in match["events"]] == [("a", 1002, "x")]
    assert told["counted"]["counted"] == [{"time": 1002, "holds": ["x"]}]
    with pytest.raises(DamagedError):
        describe(state.header, b"k2", held[b"k2"][:9])
