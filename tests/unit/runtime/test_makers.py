"""Who made each row that a job delivers: which pattern, and whether as a match or as a timeout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostinato.cep.batch import Batch, concat_batches
from ostinato.cep.connectors.base import BadRecord, Chunk
from ostinato.cep.runtime.job import Definition
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.plan import plan
from ostinato.cep.runtime.sources import Ended, ReadChunk
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.support import rows_of

PROGRAM = """
stream events (k string key, ts timestamp(ms) time delay 0 ms, v int) from file 'x'
pattern one on events match a -> b define a as v = 1, b as v = 2 within 10 s emit k, 'x' as what into out
  timeouts into over
pattern two on events match a -> b define a as v = 1, b as v = 3 within 10 s emit k, 'y' as what into out
pattern three on events match c define c as v = 3 emit k, 'z' as what into over
pattern many on events match a -> b define a as v = 1, b as v > 1 within 10 s count matches into counts
pattern skipped on events match a -> b define a as v = 1, b as v > 1 after match skip to next within 10 s
  count matches into counts
pattern outs on out match a define a as what = 'y' emit k into seen
output out to file 'y'
"""


class Rows:
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def deliver(self, batch: Batch) -> None:
        self.batches.append(batch)

    def reject(self, records: Sequence[BadRecord]) -> None:
        raise AssertionError(records)

    def breathe(self, *, idle: bool) -> None: ...


def run(events: Sequence[tuple[str, int, int]], **options: Any) -> tuple[Pipeline, list[Batch]]:
    rows = Rows()
    pipeline = Pipeline(Definition(plan(check_program(parse_program(PROGRAM))), **options), rows, [1], 0)
    text = "".join(f'{{"k":"{key}","ts":{time},"v":{value}}}\n' for key, time, value in events)
    pipeline.step(ReadChunk(0, Chunk.of(text.encode()), 0))
    pipeline.step(Ended(0, 0))
    return pipeline, rows.batches


def numbers_of(batch: Batch) -> list[int]:
    assert batch.makers is not None
    numbers: list[int] = batch.makers.tolist()
    return numbers


EVENTS = [("a", 0, 1), ("b", 1, 1), ("a", 2, 2), ("a", 3, 3), ("b", 4, 3), ("c", 5, 1)]


def test_each_row_says_who_made_it() -> None:
    pipeline, batches = run(EVENTS, attributed=True)
    found = []
    for batch in batches:
        assert batch.makers is not None
        for row, number in zip(rows_of(batch), batch.makers.tolist(), strict=True):
            maker = pipeline.makers[number]
            found.append((batch.stream, row["k"], row.get("what"), maker.pattern, maker.kind))
    out = sorted(row for row in found if row[0] == "out")
    assert out == [
        ("out", "a", "x", "one", "match"),
        ("out", "a", "y", "two", "match"),
        ("out", "b", "y", "two", "match"),
    ]
    over = sorted(row for row in found if row[0] == "over")
    assert over == [
        ("over", "a", "z", "three", "match"),
        ("over", "b", "x", "one", "timeout"),
        ("over", "b", "z", "three", "match"),
        ("over", "c", "x", "one", "timeout"),
    ]
    counts = sorted((key, pattern) for stream, key, _, pattern, _ in found if stream == "counts")
    assert counts == [("a", "many"), ("a", "skipped"), ("b", "many"), ("b", "skipped")]
    assert {row[3] for row in found if row[0] == "seen"} == {"outs"}


def test_rows_and_their_order_are_the_same_without() -> None:
    _, attributed = run(EVENTS, attributed=True)
    pipeline, plain = run(EVENTS)
    assert pipeline.makers == ()
    assert all(batch.makers is None for batch in plain)
    assert [(batch.stream, rows_of(batch)) for batch in plain] == [(b.stream, rows_of(b)) for b in attributed]


def test_makers_go_with_the_rows() -> None:
    _, batches = run(EVENTS, attributed=True)
    first = next(batch for batch in batches if len(batch) > 1)
    assert first.makers is not None
    taken = first.take(first.time.argsort()[::-1])
    assert taken.makers is not None
    assert taken.makers.tolist() == first.makers[first.time.argsort()[::-1]].tolist()
    both = concat_batches([first, taken])
    assert both.makers is not None
    assert both.makers.tolist() == [*first.makers.tolist(), *taken.makers.tolist()]
    bare = Batch(first.stream, first.time, first.columns)
    assert concat_batches([first, bare]).makers is None


def test_a_job_that_drains_a_pattern() -> None:
    pipeline, batches = run(EVENTS, attributed=True, draining=frozenset({"two", "many"}))
    makers = {pipeline.makers[number].pattern for batch in batches for number in numbers_of(batch)}
    assert makers == {"one", "three", "skipped"}
