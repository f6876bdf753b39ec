"""A signal at any moment: what was read is dealt with or read again, and nothing torn is taken for a checkpoint."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.attempt import Attempt, Ending
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.job import Definition, LocalJob
from ostinato.cep.runtime.stopping import Stop
from ostinato.cep.runtime.supervisor import ParallelJob
from tests.unit.runtime.supervising import START_MS, Given, Rows, Run, TwoPhase, chunks_of, login_lines
from tests.unit.runtime.test_checkpoints_parallel import workers

RARELY = CheckpointOptions(interval_ms=3_600_000)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return chunks_of(login_lines(240), 6)


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    run = Run(tmp_path_factory.mktemp("whole"), chunks, options=RARELY)
    run.job.run(Stop())
    return run.outlet.published


def test_a_signal_when_a_chunk_has_just_been_read(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    """The source stands behind the chunk by then: it must not be dropped."""
    outlet, stop = TwoPhase(), Stop()
    read = [0]

    def clock() -> int:
        read[0] += 1
        if read[0] == 25:  # asked for the time of a chunk that was read
            stop.request(signal.SIGTERM)
        return START_MS

    def make(definition: Definition, readers: list[Given], outlet: TwoPhase, attempt: Attempt) -> LocalJob:
        return LocalJob(definition, readers, outlet, clock=clock, attempt=attempt)

    first = Run(tmp_path, chunks, outlet, options=RARELY, make=make)
    first.job.run(stop)
    assert first.job.ending == Ending.SUSPENDED
    assert first.job.statistics.events < 240
    assert outlet.published, "a last checkpoint was taken"
    second = Run(tmp_path, chunks, outlet, resume="require")
    second.job.run(Stop())
    assert outlet.published == expected


class Twice(TwoPhase):
    """Two signals come in the middle of a delivery."""

    def __init__(self, stop: Stop, after: int) -> None:
        super().__init__()
        self._stop = stop
        self._left = after

    def deliver(self, batch: Batch) -> None:
        self._left -= 1
        if self._left == 0:
            self._stop.request(signal.SIGTERM)
            self._stop.request(signal.SIGTERM)
        super().deliver(batch)


@pytest.mark.parametrize("count", [0, 2])
def test_a_second_signal_in_the_middle_of_an_entry(
    count: int, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    """Half of the entry is done: there must be no last checkpoint of that. `count` 0: in this process."""
    stop = Stop()
    outlet = Twice(stop, 8)
    own: dict[str, Any] = {"make": workers(count)} if count else {}
    often = CheckpointOptions(interval_ms=1, keep="never")
    # slow enough for some checkpoints to be complete by then
    first = Run(tmp_path, chunks, outlet, options=often, before=lambda _: time.sleep(0.01), **own)
    first.job.run(stop)
    assert first.job.ending == Ending.SUSPENDED
    second = Run(tmp_path, chunks, outlet, resume="require")
    second.job.run(Stop())
    assert outlet.published == expected


class Striking:
    """The queue of a job; a signal comes when a message has just been taken from it."""

    def __init__(self, inner: Any, stop: Stop, after: int) -> None:
        self._inner = inner
        self._stop = stop
        self._left = after

    def get(self, timeout: float | None = None) -> Any:
        got = self._inner.get(timeout=timeout)
        self._left -= 1
        if self._left == 0:
            self._stop.request(signal.SIGTERM)
        return got

    def put(self, item: Any) -> None:
        self._inner.put(item)


def test_a_signal_when_a_message_of_a_worker_has_just_come(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    """Without that message its entry would never be complete, and the last checkpoint be waited for in vain."""
    outlet, stop = TwoPhase(), Stop()
    start = workers(2)

    def make(definition: Definition, readers: list[Given], outlet: TwoPhase, attempt: Attempt) -> ParallelJob:
        job = start(definition, readers, outlet, attempt)
        assert isinstance(job, ParallelJob)
        inner = job._inbox
        job._inbox = Striking(inner, stop, 40)  # type: ignore[assignment]
        return job

    first = Run(tmp_path, chunks, outlet, options=RARELY, make=make)
    first.job.run(stop)
    assert first.job.ending == Ending.SUSPENDED
    second = Run(tmp_path, chunks, outlet, resume="require")
    second.job.run(Stop())
    assert outlet.published == expected
