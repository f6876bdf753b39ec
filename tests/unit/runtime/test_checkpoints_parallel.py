"""Checkpoints of jobs in several processes: any number of workers goes on where any other was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.attempt import Attempt, Ending
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.commands import JobState
from ostinato.cep.runtime.heartbeats import Heartbeats
from ostinato.cep.runtime.job import Definition
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.recovery import read_point
from ostinato.cep.runtime.stopping import Stop
from ostinato.cep.runtime.supervised import RunningJob
from ostinato.cep.runtime.supervisor import ParallelJob
from ostinato.state.errors import StoreError
from ostinato.state.stores import open_store
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


SELDOM = CheckpointOptions(interval_ms=3_600_000)


def asked(folder: Path, chunks: list[Chunk], what: str, *arguments: Any) -> tuple[Run, Future[Any]]:
    """A job in two workers that is asked something before chunk 20."""
    futures: list[Future[Any]] = []

    def before(number: int) -> None:
        time.sleep(0.01)
        if number >= 20 and not futures:
            futures.append(getattr(run.commands, what)(*arguments))

    run = Run(folder, chunks, options=SELDOM, before=before, make=workers(2))
    run.job.run(Stop())
    return run, futures[0]


@pytest.mark.parametrize("target", [None, "other"])
def test_workers_stop_with_a_savepoint(target: str | None, chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    place = str(tmp_path / (target or "own"))
    run, future = asked(tmp_path / "own", chunks, "stop", None if target is None else place, False)
    assert future.result(0).savepoint
    assert run.job.ending == Ending.STOPPED
    assert 0 < len(run.outlet.published) < len(expected)
    point = read_point(open_store(place, job="test"))
    assert point.manifest.parallelism == 2
    later = Run(tmp_path / "own", chunks, run.outlet, savepoint=point)
    later.job.run(Stop())
    assert later.outlet.published == expected


def test_workers_are_drained(chunks: list[Chunk], tmp_path: Path) -> None:
    run, future = asked(tmp_path / "a", chunks, "stop", None, True)
    assert future.result(0).savepoint
    read = read_point(open_store(str(tmp_path / "a"), job="test")).manifest.sources[0].positions[0]["chunk"]
    drained = Run(tmp_path / "b", chunks[:read], options=SELDOM)
    drained.job.run(Stop())
    assert run.outlet.published == drained.outlet.published


def test_workers_are_cancelled(chunks: list[Chunk], tmp_path: Path) -> None:
    run, future = asked(tmp_path, chunks, "cancel")
    assert future.result(0) is None
    assert run.job.state == JobState.CANCELED
    assert run.outlet.published == []


def test_a_savepoint_of_workers_that_cannot_be_written_leaves_them_running(
    chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    for what, arguments in (("savepoint", ()), ("stop", (False,))):
        run, future = asked(tmp_path / what, chunks, what, str(tmp_path / "file"), *arguments)
        with pytest.raises(StoreError, match="file"):
            future.result(0)
        assert run.outlet.published == expected
        assert run.job.ending == Ending.FINISHED


def test_what_a_worker_finds_damaged_gives_way_to_an_older_checkpoint(
    chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    outlet, stop = TwoPhase(), Stop()
    options = CheckpointOptions(interval_ms=30, keep="always", retained=3, incremental=False)
    Run(tmp_path, chunks, outlet, options=options, before=until(30, stop), make=workers(2)).job.run(stop)
    ids = sorted(int(path.name[4:]) for path in tmp_path.glob("chk-*"))
    for blob in (tmp_path / "blobs").glob(f"{ids[-1]}-*"):
        blob.write_bytes(b"x" * blob.stat().st_size)
    resumed = Run(tmp_path, chunks, outlet, resume="require", options=options, make=workers(3))
    resumed.job.run(Stop())
    assert outlet.published == expected
    point = resumed.attempts[-1].point
    assert point is not None
    assert point.manifest.id == ids[-2]
    assert resumed.job.restarts == 0


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """However it comes about: the parent has no time to say anything."""
    program = f"""
import time
from pathlib import Path
from ostinato.cep.runtime.recovery import read_point
from ostinato.cep.runtime.stopping import Stop
from tests.unit.runtime.supervising import Run, chunks_of, login_lines
from tests.unit.runtime.test_checkpoints_parallel import workers

started = []
def before(number):
    Path({str(tmp_path / "pids")!r}).write_text(" ".join(map(str, started[-1].processes)))
    time.sleep(1)

run = Run(Path({str(tmp_path / "checkpoints")!r}), chunks_of(login_lines(240), 1), before=before,
          make=workers(2, started=started))
run.job.run(Stop())
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    pids: list[str] = []
    deadline = time.monotonic() + 40
    while len(pids) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        if (tmp_path / "pids").exists():
            pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
