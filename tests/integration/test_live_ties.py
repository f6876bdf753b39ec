"""Where rows could come in one order or another: times that many events share, timeouts, two sources of one stream.
A run that is interrupted by snapshots gives each row the number that it has without."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from ostinato.server.journal import Journal, JournalReader
from ostinato.server.live.generation import Activation, Generation, Member
from tests.integration.test_live_determinism import History, Interrupted, run

_WINDOWS = "define a as level > 60, b as level < 10 within 10 s emit sensor, a.n as a"
_PAIRS = "define a as level > 60, b as level < 20 emit sensor, a.n as n into both"
STREAMS = (
    "stream readings (sensor string key, at timestamp(ms) time delay 2 s idle 3 s, n bigint, level bigint)",
    "stream orders (sensor string key, at timestamp(ms) time delay 1 s, n bigint, level bigint)",
)
PATTERNS = {
    "timeouts": f"pattern timeouts on readings match a -> b {_WINDOWS} into found timeouts into slow",
    "absent": f"pattern absent on readings match a !-> b {_WINDOWS} into absences",
    "left": f"pattern left on readings match a -> b {_PAIRS}",
    "right": f"pattern right on orders match a -> b {_PAIRS}",
    "chained": "pattern chained on both match a b emit sensor, a.n as x, b.n as y",
}


def record(folder: Path, seed: int) -> History:
    """A journal with ticks, in which hundreds of sensors share whole seconds."""
    chance = random.Random(seed)
    now = [1_000_000]
    members = tuple(Member(name, 1, "live", text) for name, text in PATTERNS.items())
    generations = {0: Generation(0), 1: Generation(1, STREAMS, {}, members)}
    second, number = 0, 0
    with Journal(folder, clock=lambda: now[0]) as journal:
        journal.append_generation(msgspec.json.encode(Activation(1))).result()
        for _ in range(40):
            now[0] += chance.choice((50, 400, 4_000))
            if chance.random() < 0.15:
                journal.tick().result()
                continue
            lines = []
            for _ in range(chance.randrange(1, 200)):
                number += 1
                second += chance.random() < 0.05
                at = 1_000 * max(0, second - chance.choice((0, 0, 1)))
                event = {"sensor": f"s{chance.randrange(200)}", "at": at, "n": number, "level": chance.randrange(100)}
                lines.append(json.dumps(event) + "\n")
            stream = chance.choice(("readings", "readings", "orders"))
            journal.append(stream, "".join(lines).encode(), len(lines)).result()
        end = journal.durable
    with JournalReader(folder) as reader:
        return History(reader.read(end, 1 << 30), generations)


@pytest.mark.parametrize("seed", range(3))
def test_rows_have_the_numbers_that_they_would_have_had(seed: int, tmp_path: Path) -> None:
    history = record(tmp_path / "journal", seed)
    expected = run(tmp_path / "alone", history.entries, history.generations.__getitem__)
    assert {match.kind for match in expected} >= {"match", "timeout"}
    assert {match.pattern for match in expected} >= set(PATTERNS)
    for attempt in range(2):
        interrupted = Interrupted(tmp_path / f"interrupted-{attempt}", history)
        try:
            assert interrupted.run(random.Random(10 * seed + attempt)) == expected
        finally:
            interrupted.close()
