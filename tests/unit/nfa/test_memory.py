"""Memory after a flood: what it took is given back, and those who were there before it go on."""

from __future__ import annotations

import pytest

from ostinato.cep.batch import MAX_TIME
from ostinato.cep.nfa import matcher
from ostinato.cep.nfa import operator as operators
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.support import Kept, batch_of, reopened, rows_of

PROGRAM = """
stream events (k string key, ts timestamp(ms) time, v int)
pattern long on events match a -> b define a as v = 5, b as v = 6 within 1 min emit k, a.ts as since into long
pattern short on events match a -> b define a as v = 1, b as v = 2 within 1 s emit k into short
"""


def held(operator: MatchOperator) -> int:
    """Bytes of the pools, and of the keys' names."""
    space = operator._matcher.space
    tables = (space.runs, space.nodes, space.slots, space.instances, space.keys, space.ring)
    return sum(table.nbytes for table in tables) + operator._input.keys.memory


@pytest.mark.parametrize("snapshots", [False, True])
def test_a_flood_passes(snapshots: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "ADVANCES_BEFORE_TIDYING", 4)
    monkeypatch.setattr(matcher, "_ROOMY_BYTES", 1 << 20)
    operator = MatchOperator(check_program(parse_program(PROGRAM)).patterns)
    stream = operator.compiled.patterns[0].stream
    kept = Kept()
    operator.process(batch_of(stream, [{"k": f"old{n}", "ts": n, "v": 5} for n in range(100)]))
    for wave in range(2):
        start = 10_000 * (wave + 1)
        flood = [{"k": f"w{wave}k{n}", "ts": start, "v": 1} for n in range(100_000)]
        operator.process(batch_of(stream, flood))
        operator.advance(start + 500)
        high = held(operator)
        assert operator.stats["short"].partial_matches == 100_000
        for step in range(12):
            if snapshots:
                kept.add(operator.snapshot(() if kept.header else None))
            operator.advance(start + 4000 + step)
        assert operator.stats["short"].partial_matches == 0
        assert operator.stats["long"].partial_matches == 100
        assert held(operator) < high / 10
    if snapshots:
        assert sum(len(records) for _, records in kept.records()) == 100
        operator = reopened(operator, kept)
    operator.process(batch_of(stream, [{"k": f"old{n}", "ts": 40_000 + n, "v": 6} for n in range(100)]))
    rows = [row for batch in operator.advance(MAX_TIME) for row in rows_of(batch)]
    assert [(row["k"], row["since"]) for row in rows] == [(f"old{n}", n) for n in range(100)]
