"""State larger than memory: keys go to the disk and come back, and nobody can tell by what comes out."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa import residence
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.nfa.spill import Spill
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import CheckedPattern, check_program
from ostinato.state.rocks import Rocks
from tests.conformance.cases import read_cases, score
from tests.support import Kept, batch_of, reopened, rows_of

CASES = [
    case for case in read_cases(Path(__file__).parents[2] / "conformance" / "random_dev.jsonl.gz") if case["events"]
]

MANY = """
stream events (k string key, ts timestamp(ms) time, v int, w string)
pattern pair on events
  match a -> b
  define a as v = 1, b as v = 2 and w = first(a.w)
  within 100 ms
  emit k, a.w as w, first(a.ts) as since
  into pairs
  timeouts into missed
pattern three on events
  match a{3}
  define a as v = 1
  within 1 min
  emit k, count(a) as n, last(a.v) as v
  into threes
"""


@pytest.fixture(name="spill")
def _spill(tmp_path: Path) -> Iterator[Callable[..., Spill]]:
    """Makes places for state, which are gone after the test."""
    made: list[Spill] = []
    numbers = itertools.count()

    def make(memory_bytes: int = 0) -> Spill:
        made.append(Spill(Rocks(tmp_path / str(next(numbers)), 1 << 20, 1 << 20), memory_bytes))
        return made[-1]

    yield make
    for each in made:
        each.close()


def many() -> tuple[CheckedPattern, ...]:
    return check_program(parse_program(MANY)).patterns


def events(count: int, keys: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    time = 0
    made = []
    for _ in range(count):
        time += rng.choice((0, 1, 3))
        made.append({"k": f"k{rng.randrange(keys)}", "ts": time, "v": rng.choice((1, 1, 2, 3)), "w": rng.choice("xy")})
    return made


def run(
    operator: MatchOperator, given: list[dict[str, Any]], *, restart: Callable[[Kept], MatchOperator] | None
) -> Any:
    """All that comes out, by stream; with `restart`, there are snapshots of changes, and restarts, in between."""
    stream = operator.compiled.patterns[0].stream
    rng = random.Random(1)
    kept = Kept()
    found: dict[str, list[str]] = {}
    for begin in range(0, len(given), 50):
        part = given[begin : begin + 50]
        operator.process(batch_of(stream, part))
        last = begin + 50 >= len(given)
        for batch in operator.advance(MAX_TIME if last else part[-1]["ts"] - 1):
            found.setdefault(batch.stream, []).extend(str(row) for row in rows_of(batch))
        if restart is not None and not last:
            kept.add(operator.snapshot(() if kept.header else None))
            if rng.random() < 0.3:
                operator, kept = restart(kept), Kept()
    return {stream: sorted(rows) for stream, rows in found.items()}


@pytest.mark.parametrize("number", range(0, len(CASES), 40))
def test_the_answers_are_those_of_flink(number: int, spill: Callable[..., Spill]) -> None:
    verdict = score(CASES[number], cuts=number, restore=True, spill=spill)
    assert verdict.verdict != "failed", verdict.detail


@pytest.mark.parametrize("at_once", [7, 1 << 14])
@pytest.mark.parametrize("memory", [0, 30_000])
def test_many_keys(memory: int, at_once: int, spill: Callable[..., Spill], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residence, "_AT_ONCE", at_once)
    given = events(3000, 300, seed=memory)
    plain = MatchOperator(many())
    expected = run(plain, given, restart=None)
    assert len(expected["pairs"]) > 20
    assert len(expected["missed"]) > 20
    place = spill(memory)
    assert run(MatchOperator(plain.compiled, spill=place), given, restart=None) == expected
    restarted = run(
        MatchOperator(plain.compiled, spill=spill(memory)),
        given,
        restart=lambda kept: reopened(plain, kept, spill(memory)),
    )
    assert restarted == expected


def test_memory_and_disk_take_over_from_each_other(spill: Callable[..., Spill]) -> None:
    given = events(2000, 200, seed=5)
    plain = MatchOperator(many())
    expected = run(plain, given, restart=None)
    memory = itertools.cycle([None, 0, 20_000])

    def place() -> Spill | None:
        bound = next(memory)
        return None if bound is None else spill(bound)

    fresh = MatchOperator(plain.compiled)
    assert run(fresh, given, restart=lambda kept: reopened(plain, kept, place())) == expected


def test_what_is_over_leaves_the_disk(spill: Callable[..., Spill]) -> None:
    """Records whose time has passed are deleted, and told to the next snapshot."""
    place = spill(0)
    operator = MatchOperator(many(), spill=place)
    stream = operator.compiled.patterns[0].stream
    kept = Kept()
    operator.process(batch_of(stream, [{"k": f"k{n}", "ts": n, "v": 1, "w": "x"} for n in range(500)]))
    operator.advance(1000)
    assert sum(1 for group in range(128) for _ in place.view().of_group(group)) == 500
    kept.add(operator.snapshot(None))
    assert sum(len(keys) for keys in kept.groups.values()) == 500
    assert operator.stats["three"].partial_matches == 500
    operator.advance(10 * 60_000)
    assert operator.stats["three"].partial_matches == 0
    assert sum(1 for group in range(128) for _ in place.view().of_group(group)) == 0
    kept.add(operator.snapshot(()))
    assert sum(len(keys) for keys in kept.groups.values()) == 0


def test_only_changes_are_told(spill: Callable[..., Spill]) -> None:
    for place in (None, spill(0)):
        operator = MatchOperator(many(), spill=place)
        stream = operator.compiled.patterns[0].stream
        kept = Kept()
        operator.process(batch_of(stream, [{"k": f"k{n}", "ts": n, "v": 1, "w": "x"} for n in range(1000)]))
        operator.advance(1000)
        kept.add(operator.snapshot(None))
        everything = kept.written
        operator.process(batch_of(stream, [{"k": f"k{n}", "ts": 1001, "v": 1, "w": "y"} for n in range(500, 510)]))
        operator.advance(1001)
        kept.add(operator.snapshot(()))
        assert 0 < kept.written - everything < everything / 20
