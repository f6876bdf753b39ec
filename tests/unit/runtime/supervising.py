"""Jobs with checkpoints, as tests run them: an outlet that publishes in two phases, readers that can be read again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Chunk, Idle
from ostinato.cep.runtime.attempt import Attempt
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.commands import Commands
from ostinato.cep.runtime.coordinator import Checkpointing
from ostinato.cep.runtime.job import Definition, LocalJob
from ostinato.cep.runtime.plan import plan
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.restarts import FixedDelay, RestartStrategy
from ostinato.cep.runtime.supervised import Resume, RunningJob, SupervisedJob
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from ostinato.state.stores import open_store
from ostinato.state.stores.base import CheckpointStore
from tests.support import rows_of

START_MS = 1_700_000_000_000

PROGRAM = """
stream logins (user string key, ts timestamp(ms) time delay 2 s, status string)

pattern burst on logins
  match  fail{2,} ok
  define fail as status = 'FAILED', ok as status = 'SUCCESS'
  within 1 min
  after match skip past last
  emit   user, count(fail) as failures

pattern again on burst
  match  a -> b
  define b as failures >= a.failures
  within 10 min
  emit   a.user as first_user, b.user as second_user
"""

Rows = list[tuple[str, dict[str, Any]]]


def login_lines(count: int, seed: int = 3) -> list[bytes]:
    chance = random.Random(seed)
    now = START_MS
    found = []
    for _ in range(count):
        now += chance.randint(0, 3000)
        status = "FAILED" if chance.random() < 0.6 else "SUCCESS"
        event = {"user": f"u{chance.randint(0, 4)}", "ts": now - chance.randint(0, 2500), "status": status}
        found.append(json.dumps(event).encode() + b"\n")
    return found


def chunks_of(lines: Sequence[bytes], size: int) -> list[Chunk]:
    return [
        Chunk.of(b"".join(lines[at : at + size]), source="given", first_line=at + 1)
        for at in range(0, len(lines), size)
    ]


class Given:
    """A reader of some chunks, which may be read again; `before` is called before each with its number."""

    splits = 1
    repeatable = True

    def __init__(self, chunks: Sequence[Chunk | Idle], before: Callable[[int], None] = lambda _: None) -> None:
        self._chunks = chunks
        self._before = before
        self._next = 0

    def read(self) -> Chunk | Idle | None:
        self._before(self._next)
        if self._next == len(self._chunks):
            return None
        chunk = self._chunks[self._next]
        self._next += 1
        if isinstance(chunk, Chunk):
            chunk.position = {"chunk": self._next}
        return chunk

    def seek(self, position: Mapping[str, Any]) -> None:
        self._next = position["chunk"]

    def close(self) -> None: ...


class TwoPhase:
    """An outlet that lives as long as the disk of a real one: `published` is what everybody sees.

    A failing job loses `rows`; what was prepared is kept by the checkpoint's number, as files would be.
    """

    def __init__(self) -> None:
        self.published: Rows = []
        self.rows: Rows = []
        self.bad: list[BadRecord] = []
        self.finished = False
        self._kept: dict[int, Rows] = {}

    def deliver(self, batch: Batch) -> None:
        self.rows += [(batch.stream, row) for row in rows_of(batch)]

    def reject(self, records: Sequence[BadRecord]) -> None:
        self.bad += records

    def breathe(self, *, idle: bool) -> None: ...

    def prepare(self, checkpoint: int) -> Mapping[str, Any]:
        self._kept[checkpoint] = list(self.rows)
        return {"rows": checkpoint, "length": len(self.rows)}

    def commit(self, state: Mapping[str, Any]) -> None:
        kept = self._kept[state["rows"]]
        assert kept[: len(self.published)] == self.published, "what was published stays"
        self.published = kept

    def recover(self, state: Mapping[str, Any] | None) -> None:
        self.rows = [] if state is None else list(self._kept[state["rows"]])
        # what was published after that checkpoint is taken back: a sink can do that as long as nobody else writes
        self.published = list(self.rows)

    def finish(self) -> None:
        self.finished = True


class Run:
    """A supervised job over a directory of checkpoints."""

    def __init__(
        self,
        folder: Path,
        chunks: Sequence[Chunk | Idle],
        outlet: TwoPhase | None = None,
        *,
        text: str = PROGRAM,
        options: CheckpointOptions | None = None,
        restarts: RestartStrategy | None = None,
        resume: Resume = "refuse",
        savepoint: RestorePoint | None = None,
        before: Callable[[int], None] = lambda _: None,
        store: CheckpointStore | None = None,
        make: Callable[[Definition, list[Given], TwoPhase, Attempt], RunningJob] | None = None,
    ) -> None:
        """`before` is called before each chunk; `make` makes another job than one in this process."""
        self.outlet = outlet or TwoPhase()
        self.said: list[str] = []
        self.commands = Commands()
        self.attempts: list[Attempt] = []
        self.store = store or open_store(str(folder), job="test")
        definition = Definition(plan(check_program(parse_program(text))))

        def begin(attempt: Attempt) -> RunningJob:
            self.attempts.append(attempt)
            readers = [Given(chunks, before)]
            if make is not None:
                return make(definition, readers, self.outlet, attempt)
            return LocalJob(definition, readers, self.outlet, clock=lambda: START_MS, attempt=attempt)

        self.job = SupervisedJob(
            begin,
            self.outlet,
            checkpointing=Checkpointing(
                self.store, "test", options or CheckpointOptions(interval_ms=1, min_pause_ms=0), text, "this test"
            ),
            restarts=restarts or FixedDelay(10, 1),
            commands=self.commands,
            resume=resume,
            savepoint=savepoint,
            announce=self.said.append,
        )
