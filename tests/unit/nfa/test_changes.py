"""Patterns that change while events come: whatever is added, removed, renamed or drained, the others do not notice."""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ostinato.cep.batch import MAX_TIME, MIN_TIME, Batch
from ostinato.cep.nfa.compile import lowered
from ostinato.cep.nfa.header import Header, patterns_in, renamed, structure_of
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_program
from ostinato.state.errors import DroppedStateError
from ostinato.state.operator import HandedOver
from tests.support import KEY_GROUPS, batch_of, rows_of

STREAM = "stream events (k string key, ts timestamp(ms) time delay 1 s, v int, w string)\n"
TEXTS = {
    "pair": "match a -> b define a as v = 1, b as v = 2 within 40 s emit k, a.ts as began, b.w as w into out",
    "triple": "match a -> b -> c define a as v = 1, b as v = 2, c as v = 3 within 1 min emit k, b.w as w, c.w as u",
    "twin": "match a -> b -> c define a as v = 1, b as v = 2, c as v = 4 within 50 s emit k, a.w as w, c.ts as late",
    "rising": "match a+ -> b define a as v > 0 and v >= coalesce(last(a.v), 0), b as w = last(a.w) and v < avg(a.v) "
    "after match skip past last within 20 s emit k, first(a.ts) as began, first(a.w) as w into out",
    "ended": "match a -> b{2,} -> c define a as v = 1, b as v in (2, 3) until v = 5, c as v = 5 within 30 s "
    "after match skip to first b emit k, count(b) as n, a.ts as began",
    "silent": "match a -> b !-> c define a as v = 2, b as v = 3, c as v = 4 within 15 s "
    "emit k, a.ts as began, b.w as w into out "
    "timeouts into over",
    "timed": "match a -> b [within 8 s] -> c define a as v = 4, b as v = 1, c as v = 2 within 25 s "
    "emit k, a.ts as began, a.w as w into out "
    "timeouts into over",
    "counted": "match a -> b -> c define a as v = 1, b as v > 1, c as v = 5 within 30 s count matches into counts",
    "unbounded": "match a -> b define a as v = 1 and w = 'x', b as v = 5 count matches into counts",
    "skipping": "match a+ -> b define a as v = 1, b as v = 5 after match skip to next within 30 s count matches",
}


def checked_patterns() -> dict[str, CheckedPattern]:
    text = STREAM + "".join(f"pattern {name} on events {body}\n" for name, body in TEXTS.items())
    return {checked.pattern.name: checked for checked in check_program(parse_program(text)).patterns}


CHECKED = checked_patterns()


def under(name: str, checked: CheckedPattern) -> CheckedPattern:
    return replace(checked, pattern=replace(checked.pattern, name=name))


Rows = list[tuple[str, str, int, dict[str, Any]]]


def attributed(operator: MatchOperator, batches: Sequence[Batch], name: str | None = None) -> dict[str, Rows]:
    """What came out, by the pattern that made it (under the name `name`, where it is given)."""
    found: dict[str, Rows] = {}
    for batch in batches:
        assert batch.makers is not None
        for row, time, number in zip(rows_of(batch), batch.time.tolist(), batch.makers.tolist(), strict=True):
            maker = operator.makers[number]
            found.setdefault(name or maker.pattern, []).append((maker.kind, batch.stream, time, row))
    return found


@dataclass
class Alone:
    """A pattern that nobody touches, in an operator of its own."""

    name: str
    checked: CheckedPattern
    operator: MatchOperator = field(init=False)

    def __post_init__(self) -> None:
        self.operator = MatchOperator([self.checked], first_maker=0)

    def drain(self, name: str) -> None:
        state = self.operator.snapshot(None)
        self.name = name
        self.operator = MatchOperator([self.checked], draining={self.checked.pattern.name}, first_maker=0)
        self.operator.restore(HandedOver(state, range(KEY_GROUPS)))


class Server:
    """Patterns together in one operator that is made anew at each change, and each of them alone."""

    def __init__(self) -> None:
        self.alone: dict[str, Alone] = {}
        self.draining: set[str] = set()
        self.patterns: dict[str, CheckedPattern] = {}
        self.waiting: list[dict[str, Any]] = []
        self.watermark = MIN_TIME
        self.operator: MatchOperator | None = None
        self.rows: Counter[str] = Counter()

    def change(
        self, patterns: Mapping[str, CheckedPattern], names: Mapping[str, str | None], draining: set[str]
    ) -> None:
        """Run these patterns from now on; `names` says what becomes of those that do not go on as they are."""
        for old, new in names.items():
            gone = self.alone.pop(old)
            if new is not None:
                gone.drain(new)
                self.alone[new] = gone
        for name, checked in patterns.items():
            if name not in self.alone:
                self.alone[name] = Alone(name, checked)
                if self.waiting:  # they have not been dealt with, so that who comes now sees them
                    self.alone[name].operator.process(batch_of(checked.stream, self.waiting))
        state = self.operator.snapshot(None) if self.operator is not None else None
        compiled = [under(name, checked) for name, checked in patterns.items()]
        self.operator = MatchOperator(compiled, draining=draining, first_maker=0, keep_columns=True)
        if state is not None:
            self.operator.restore(HandedOver(renamed(state, names), range(KEY_GROUPS)))
        self.patterns, self.draining = dict(patterns), draining

    def step(self, events: Sequence[Mapping[str, Any]], watermark: int) -> None:
        assert self.operator is not None
        self.waiting = [dict(event) for event in (*self.waiting, *events) if event["ts"] > watermark]
        batch = batch_of(next(iter(self.patterns.values())).stream, events)
        self.operator.process(batch)
        together = attributed(self.operator, self.operator.advance(watermark))
        expected: dict[str, Rows] = {}
        for name, alone in self.alone.items():
            alone.operator.process(batch)
            expected |= attributed(alone.operator, alone.operator.advance(watermark), name)
        for name in expected.keys() | together.keys():
            assert in_order(together.get(name, [])) == in_order(expected.get(name, [])), name
        self.rows.update({name: len(found) for name, found in expected.items()})


def in_order(rows: Rows) -> list[str]:
    """Rows of one moment may be of several keys, which no order is promised of when timers are due at once."""
    return sorted(map(repr, rows))


def some_events(chance: random.Random, start: int, count: int) -> list[dict[str, Any]]:
    times = [start + chance.randint(0, 6_000) for _ in range(count)]
    return [
        {"k": f"k{chance.randint(0, 5)}", "ts": ts, "v": chance.randint(0, 5), "w": chance.choice("xyz")}
        for ts in times
    ]


@pytest.mark.parametrize("seed", range(6))
def test_twenty_changes_in_a_row(seed: int) -> None:
    chance = random.Random(seed)
    server = Server()
    chosen = chance.sample(list(CHECKED), 6)
    server.change({name: CHECKED[name] for name in chosen}, {}, set())
    now = 100_000
    for version in range(20):
        server.step(some_events(chance, now, 25), now + 5_000)
        now += 6_000
        names: dict[str, str | None] = {}
        patterns, draining = dict(server.patterns), set(server.draining)
        for _ in range(chance.randint(1, 3)):
            name = chance.choice(sorted(patterns))
            what = chance.choice(("remove", "drain", "add", "reorder"))
            if what == "remove" and len(patterns) > 2 and name in server.patterns and name not in names:
                del patterns[name]
                names[name] = None
                draining.discard(name)
            elif what == "drain" and name in CHECKED and name in server.patterns and name not in names:
                drained = f"{name}@{version}"
                names[name] = drained
                patterns[drained] = patterns[name]
                draining.add(drained)
            elif what == "add" and (absent := sorted(CHECKED.keys() - patterns.keys() - names.keys())):
                added = chance.choice(absent)
                patterns[added] = CHECKED[added]
            else:
                items = list(patterns.items())
                chance.shuffle(items)
                patterns = dict(items)
        server.change(patterns, names, draining)
    server.step(some_events(chance, now, 25), MAX_TIME)
    assert sum(server.rows.values()) > 100
    assert any("@" in name and count for name, count in server.rows.items())


def test_draining_changes_neither_structure_nor_header() -> None:
    patterns = list(CHECKED.values())
    plain, draining = MatchOperator(patterns), MatchOperator(patterns, draining=set(CHECKED))
    for number in range(len(patterns)):
        assert structure_of(plain.compiled, number) == structure_of(draining.compiled, number)
    assert plain.snapshot(None).header == draining.snapshot(None).header


def test_a_draining_pattern_takes_nothing_new() -> None:
    operator = MatchOperator(list(CHECKED.values()), draining=set(CHECKED))
    chance = random.Random(7)
    operator.process(batch_of(CHECKED["pair"].stream, some_events(chance, 0, 500)))
    assert operator.advance(3_000) == []
    assert all(stats.partial_matches == 0 for stats in operator.stats.values())
    assert operator.advance(MAX_TIME) == []


def test_only_what_is_named_is_left_out() -> None:
    """What was renamed to None may go without asking; what simply is not there any more may not."""
    stream = CHECKED["pair"].stream
    operator = MatchOperator([CHECKED["pair"], CHECKED["timed"]])
    events = [{"k": "a", "ts": 1000, "v": 1, "w": "x"}, {"k": "a", "ts": 1001, "v": 4, "w": "x"}]
    operator.process(batch_of(stream, events))
    operator.advance(5_000)
    state = operator.snapshot(None)
    assert patterns_in(state) == ["pair", "timed"]
    owned = range(KEY_GROUPS)
    with pytest.raises(DroppedStateError, match="pattern `timed` is gone"):
        MatchOperator([CHECKED["pair"]]).restore(HandedOver(state, owned))
    fresh = MatchOperator([CHECKED["pair"]])
    fresh.restore(HandedOver(renamed(state, {"timed": None}), owned))
    assert fresh.stats["pair"].partial_matches == 1


def test_names_that_cannot_be() -> None:
    state = MatchOperator([CHECKED["pair"], CHECKED["timed"]]).snapshot(None)
    with pytest.raises(ValueError, match="two patterns would have the name timed"):
        renamed(state, {"pair": "timed"})
    with pytest.raises(ValueError, match="knows no pattern of the name nobody"):
        renamed(state, {"nobody": "timed"})
    swapped = Header.decode(renamed(state, {"pair": "timed", "timed": "pair"}).header)
    assert [pattern.name for pattern in swapped.patterns] == ["timed", "pair"]


def test_thousands_of_changes_leave_nothing_behind() -> None:
    """Each change brings another version of one pattern, beside one that stays and one that drains."""
    kept, stream = CHECKED["pair"], CHECKED["pair"].stream
    operator = MatchOperator([kept])
    blocks = []
    for number in range(2_200):
        version = replace(CHECKED["counted"], conditions=dict(CHECKED["counted"].conditions))
        state = operator.snapshot(None)
        names: dict[str, str | None] = {"counted": "counted@old", "counted@old": None}
        names = {name: names[name] for name in patterns_in(state) if name in names}
        drained = under("counted@old", version)
        operator = MatchOperator([kept, version, drained], draining={"counted@old"})
        operator.restore(HandedOver(renamed(state, names), range(KEY_GROUPS)))
        time = 1_000 * number
        operator.process(batch_of(stream, [{"k": "a", "ts": time, "v": 1 + number % 5, "w": "x"}]))
        operator.advance(time)
        if number in (200, 2_199):
            gc.collect()
            blocks.append((sys.getallocatedblocks(), len(lowered)))
    (before, lowered_before), (after, lowered_after) = blocks
    assert after < 1.01 * before
    assert lowered_after <= lowered_before
