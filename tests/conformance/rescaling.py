"""Cases run by several workers that are killed, and go on from a checkpoint as other numbers of workers.

Each event of a case comes once for each of some keys, so every key must have the answer that was recorded.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ostinato.cep.batch import MAX_TIME, MIN_TIME, Batch, Vector
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.runtime.partition import Partitioner, owned_groups
from ostinato.patterns import ast
from ostinato.patterns.typecheck import CheckedPattern, check_pattern
from ostinato.patterns.types import STRING
from tests.conformance.cases import Answer, Case, _Conditions, schema
from tests.conformance.cases import batch_of as unkeyed_batch_of
from tests.conformance.translate import build
from tests.support import Kept

KEY = "tenant"
KEYS = ("ada", "bob", "dan")
"""In three key groups; with three workers each belongs to another."""


def run_rescaled(case: Case, seed: int) -> Mapping[str, Answer]:
    """The answers of each key. Chance decides batches, checkpoints, kills, and how many workers go on.

    Raises:
        PatternError, MatchError: as `run_case`.
    """
    job = _Job(case, random.Random(seed))
    job.run()
    answers = {key: Answer() for key in KEYS}
    for batch in job.published:
        for key, answer in answers.items():
            rows = np.array([value == key for value in batch.columns[KEY].to_list()], bool)
            if rows.any():
                own = batch.take(rows)
                answer.add(replace(own, columns={n: v for n, v in own.columns.items() if n != KEY}))
    return answers


@dataclass
class _Checkpoint:
    """`at`: the first event that it does not know; `rows`: how much of the output belongs to it."""

    at: int
    rows: int
    kept: Kept


class _Job:
    def __init__(self, case: Case, chance: random.Random) -> None:
        self._case = case
        self._events = case["events"]
        self._chance = chance
        self._pattern = check_keyed(case)
        self._workers: list[MatchOperator] = []
        self._checkpoint: _Checkpoint | None = None
        self._at = 0
        self._goes_on = False
        self.kills = 0
        self.published: list[Batch] = []
        self._start(chance.randint(1, 3))

    def run(self) -> None:
        while self._at < len(self._events):
            self._step()
            what = self._chance.random()
            if what < 0.5:
                self._take_checkpoint()
            # not for ever: chance may strike before each checkpoint
            if (what < 0.2 or what > 0.75) and self.kills < 8:
                self._kill()
        self._finish()

    def _start(self, count: int) -> None:
        self._partitioner = Partitioner([(KEY, STRING)], count)
        self._workers = [MatchOperator([self._pattern]) for _ in range(count)]
        self._goes_on = False

    def _step(self) -> None:
        size = self._chance.randint(1, 4)
        batch = keyed_batch_of(self._case, self._events[self._at : self._at + size])
        for worker, share in zip(self._workers, self._partitioner.spread(batch), strict=True):
            worker.process(share)
        self._at += size
        if self._at < len(self._events):
            self._advance(min(event["ts"] for event in self._events[self._at :]) - 1)

    def _advance(self, watermark: int) -> None:
        for worker in self._workers:
            self.published += worker.advance(watermark)

    def _take_checkpoint(self) -> None:
        before = self._checkpoint
        # what changed since the last one, or everything, which workers that have just been started are always asked for
        changes = before is not None and self._goes_on and self._chance.random() < 0.7
        kept = Kept()
        if changes and before is not None:
            kept.groups = {group: dict(records) for group, records in before.kept.groups.items()}
        self._goes_on = True
        kept.add(*(worker.snapshot(() if changes else None) for worker in self._workers))
        self._checkpoint = _Checkpoint(self._at, len(self.published), kept)

    def _kill(self) -> None:
        """All that is not in the checkpoint is gone, and comes again."""
        self.kills += 1
        self._start(self._chance.randint(1, 4))
        if self._checkpoint is None:
            self._at = 0
            self.published.clear()
            return
        self._at = self._checkpoint.at
        del self.published[self._checkpoint.rows :]
        for number, worker in enumerate(self._workers):
            worker.restore(replace(self._checkpoint.kept, owned=owned_groups(number, len(self._workers))))

    def _finish(self) -> None:
        flush = self._case.get("flush", True)
        last = max((event["ts"] for event in self._events), default=MIN_TIME)
        end = MAX_TIME if flush is True else last if flush is False else flush
        for watermark in (last, end) if end > last else (last,):
            self._advance(watermark)


def check_keyed(case: Case) -> CheckedPattern:
    """A case's pattern over a stream with a key."""
    types = schema(case)
    columns = (ast.FieldDecl(KEY, STRING, key=True), *(ast.FieldDecl(name, type_) for name, type_ in types.items()))
    stream = ast.Stream("events", columns)
    bounded = re.search(r'"(within|window)_ms": \d', str(case["pattern"]).replace("'", '"')) is not None
    pattern = build(case["pattern"], _Conditions(types).expression).to_ast(
        "case", stream, timeouts_into="timed_out" if bounded else None, count=False
    )
    return check_pattern(pattern, stream)


def keyed_batch_of(case: Case, events: Sequence[Mapping[str, Any]]) -> Batch:
    """Each event once for each key, one after the other."""
    batch = unkeyed_batch_of(case, [event for event in events for _ in KEYS])
    return replace(batch, columns={KEY: Vector.of(STRING, list(KEYS) * len(events)), **batch.columns})
