"""Checkpoints of jobs in several processes: any number of workers goes on where any other was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.attempt import Attempt
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.heartbeats import Heartbeats
from ostinato.cep.runtime.job import Definition
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.stopping import Stop
from ostinato.cep.runtime.supervised import RunningJob
from ostinato.cep.runtime.supervisor import ParallelJob
from tests.unit.runtime.supervising import PROGRAM, START_MS, Given, Rows, Run, TwoPhase, chunks_of, login_lines

Make = Callable[[Definition, list[Given], TwoPhase, Attempt], RunningJob]


def workers(count: int, heartbeats: Heartbeats | None = None, started: list[ParallelJob] | None = None) -> Make:
    def make(definition: Definition, readers: list[Given], outlet: TwoPhase, attempt: Attempt) -> ParallelJob:
        job = ParallelJob(
            {"program": msgspec.to_builtins(ProgramSpec("test.cep", PROGRAM))},
            definition.plan,
            readers,
            outlet,
            workers=count,
            clock=lambda: START_MS,
            attempt=attempt,
            heartbeats=heartbeats,
        )
        if started is not None:
            started.append(job)
        return job

    return make


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return chunks_of(login_lines(240), 6)


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    run = Run(tmp_path_factory.mktemp("whole"), chunks, options=CheckpointOptions(interval_ms=None))
    run.job.run(Stop())
    return run.outlet.published


def until(number: int, stop: Stop) -> Callable[[int], None]:
    def before(at: int) -> None:
        stop.requested = stop.requested or at >= number
        time.sleep(0.01)

    return before


@pytest.mark.parametrize(("first", "second"), [(3, 0), (2, 0), (1, 0), (3, 1), (1, 3), (0, 2)])
def test_another_number_of_workers_goes_on(
    first: int, second: int, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    """0: in this process."""
    outlet, stop = TwoPhase(), Stop()
    one: dict[str, Any] = {"make": workers(first)} if first else {}
    other: dict[str, Any] = {"make": workers(second)} if second else {}
    Run(tmp_path, chunks, outlet, before=until(20, stop), **one).job.run(stop)
    assert 0 < len(outlet.published) < len(expected)
    resumed = Run(tmp_path, chunks, outlet, resume="require", **other)
    resumed.job.run(Stop())
    assert outlet.published == expected
    assert resumed.job.statistics.events == 240
    assert resumed.job.statistics.patterns["again"].matches == len(expected)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_dies_or_stops_is_replaced(
    count: int, what: signal.Signals, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    struck: list[ParallelJob] = []
    started: list[ParallelJob] = []

    def before(number: int) -> None:
        time.sleep(0.01)
        if number == 20 and not struck:
            struck.append(started[-1])
            os.kill(started[-1].processes[-1], what)

    make = workers(count, Heartbeats(100, 1500), started)
    run = Run(tmp_path, chunks, before=before, make=make)
    run.job.run(Stop())
    assert run.outlet.published == expected
    assert run.job.restarts == 1
    assert ("SIGKILL" if what == signal.SIGKILL else "not been heard of") in (run.job.failure or "")
    for job in started:
        for process in job.processes:
            assert not Path(f"/proc/{process}").exists()
