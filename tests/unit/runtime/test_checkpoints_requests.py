"""What others ask of a running job: savepoints, stops, cancelling, and what it has to say about itself."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.attempt import Ending
from ostinato.cep.runtime.checkpoints import CheckpointInfo, CheckpointOptions
from ostinato.cep.runtime.commands import CommandError, JobState
from ostinato.cep.runtime.job import LocalJob
from ostinato.cep.runtime.recovery import read_point
from ostinato.cep.runtime.restarts import FixedDelay
from ostinato.cep.runtime.stopping import Stop
from ostinato.cep.runtime.supervised import ResumeError, SupervisedJob
from ostinato.state.errors import DroppedStateError, OccupiedError, StoreError
from ostinato.state.stores import open_store
from tests.unit.runtime.supervising import PROGRAM, Rows, Run, TwoPhase, chunks_of, login_lines

SELDOM = CheckpointOptions(interval_ms=3_600_000)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return chunks_of(login_lines(240), 6)


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    run = Run(tmp_path_factory.mktemp("whole"), chunks, options=CheckpointOptions(interval_ms=None))
    run.job.run(Stop())
    return run.outlet.published


class Asked:
    """A run that is asked something before a certain chunk."""

    def __init__(self, folder: Path, chunks: list[Chunk], at: int, what: str, *arguments: Any, **options: Any) -> None:
        self.future: Future[Any] | None = None

        def before(number: int) -> None:
            time.sleep(0.002)
            if number == at and self.future is None:
                self.future = getattr(self.run.commands, what)(*arguments)

        self.run = Run(folder, chunks, before=before, **{"options": SELDOM, **options})
        self.run.job.run(Stop())

    @property
    def answer(self) -> Any:
        assert self.future is not None
        return self.future.result(5)


def test_a_savepoint_is_taken_while_the_job_goes_on(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    asked = Asked(tmp_path, chunks, 15, "savepoint", None)
    info: CheckpointInfo = asked.answer
    assert info.savepoint
    assert info.address == str(tmp_path)
    assert {"barrier", "snapshot", "write", "commit", "publish"} <= set(info.phases)
    assert info.bytes_written > 0
    assert asked.run.outlet.published == expected
    assert [entry.id for entry in open_store(str(tmp_path), job="test").entries()] == [info.id], "it outlives the job"
    later = Run(tmp_path, chunks, asked.run.outlet, resume="require")
    later.job.run(Stop())
    assert later.outlet.published == expected


def test_a_savepoint_in_another_store_holds_all_it_needs(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    asked = Asked(tmp_path / "own", chunks, 15, "savepoint", str(tmp_path / "other"))
    info: CheckpointInfo = asked.answer
    assert (info.id, info.address) == (1, str(tmp_path / "other"))
    assert asked.run.outlet.published == expected
    point = read_point(open_store(str(tmp_path / "other"), job="test"))
    later = Run(tmp_path / "third", chunks, asked.run.outlet, savepoint=point)
    later.job.run(Stop())
    assert later.outlet.published == expected
    assert later.attempts[0].point is point


@pytest.mark.parametrize("target", [None, "other"])
def test_a_job_stops_with_a_savepoint_and_goes_on_later(
    target: str | None, chunks: list[Chunk], expected: Rows, tmp_path: Path
) -> None:
    place = str(tmp_path / (target or "own"))
    asked = Asked(tmp_path / "own", chunks, 20, "stop", None if target is None else place, False)
    assert asked.answer.savepoint
    assert asked.run.job.ending == Ending.STOPPED
    assert asked.run.job.state == JobState.FINISHED
    published = asked.run.outlet.published
    assert published
    assert published == expected[: len(published)]
    assert published != expected
    later = Run(
        tmp_path / "own",
        chunks,
        asked.run.outlet,
        savepoint=read_point(open_store(place, job="test")),
        resume="require",
    )
    later.job.run(Stop())
    assert later.outlet.published == expected


def test_draining_lets_everything_come_out(chunks: list[Chunk], tmp_path: Path) -> None:
    asked = Asked(tmp_path / "a", chunks, 20, "stop", None, True)
    drained = Run(tmp_path / "b", chunks[:21], options=SELDOM)
    drained.job.run(Stop())
    assert asked.run.outlet.published == drained.outlet.published


def test_cancelling_publishes_nothing_more(chunks: list[Chunk], tmp_path: Path) -> None:
    asked = Asked(tmp_path, chunks, 30, "cancel")
    assert asked.answer is None
    assert asked.run.job.state == JobState.CANCELED
    assert asked.run.outlet.rows
    assert asked.run.outlet.published == []
    assert open_store(str(tmp_path), job="test").entries(), "checkpoints stay after cancelling, unless told otherwise"
    never = Asked(
        tmp_path / "never", chunks, 30, "cancel", options=CheckpointOptions(interval_ms=3_600_000, keep="never")
    )
    assert never.answer is None
    assert open_store(str(tmp_path / "never"), job="test").entries() == []


def test_a_job_without_checkpoints_says_that_it_cannot(chunks: list[Chunk]) -> None:
    outlet = TwoPhase()
    run = Run(Path("/nowhere"), chunks, outlet)
    futures: list[Future[Any]] = []

    def make(attempt: Any) -> Any:
        job: LocalJob = run.job._make(attempt)  # type: ignore[assignment]
        futures.append(run.commands.savepoint())
        return job

    job = SupervisedJob(make, outlet, commands=run.commands)
    job.run(Stop())
    with pytest.raises(CommandError, match="takes no checkpoints"):
        futures[0].result(5)
    with pytest.raises(CommandError, match="ended"):
        run.commands.savepoint().result(5)
    assert job.checkpoints is None
    with pytest.raises(ValueError, match="without checkpoints"):
        SupervisedJob(make, outlet, restarts=FixedDelay())


def test_the_status_is_known_at_any_moment(chunks: list[Chunk], tmp_path: Path) -> None:
    states = []

    def before(number: int) -> None:
        time.sleep(0.002)
        states.append(run.commands.status().result(0))

    run = Run(tmp_path, chunks, before=before)
    assert run.commands.status().result(0).state == JobState.CREATED
    run.job.run(Stop())
    states.append(run.commands.status().result(0))
    assert [states[0].state, states[-1].state] == [JobState.RUNNING, JobState.FINISHED]
    last = states[-1].checkpoints
    assert last is not None
    assert last.completed > 2
    assert last.failed == 0
    assert last.last is not None
    assert 0 <= (last.age_seconds or 0) < 60
    assert last.bytes_written > last.last.bytes_written > 0


def test_a_savepoint_that_fails_leaves_the_job_running(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for what, arguments in (("savepoint", ()), ("stop", (False,))):
        asked = Asked(tmp_path / what, chunks, 15, what, str(tmp_path / "file"), *arguments)
        assert asked.future is not None
        with pytest.raises(StoreError, match="file"):
            asked.future.result(5)
        assert asked.run.outlet.published == expected
        assert asked.run.job.ending == Ending.FINISHED


def test_a_job_does_not_begin_anew_over_checkpoints(chunks: list[Chunk], tmp_path: Path) -> None:
    Asked(tmp_path, chunks, 15, "savepoint", None)
    with pytest.raises(ResumeError, match="--resume"):
        Run(tmp_path, chunks).job.run(Stop())
    with pytest.raises(ResumeError, match="no checkpoint"):
        Run(tmp_path / "empty", chunks, resume="require").job.run(Stop())
    fresh = Run(tmp_path / "empty", chunks, resume="if_any")
    fresh.job.run(Stop())
    assert any("begins at the beginning" in line for line in fresh.said)


def test_a_second_job_on_the_same_checkpoints_is_refused(chunks: list[Chunk], tmp_path: Path) -> None:
    begun, done = threading.Event(), threading.Event()

    def before(number: int) -> None:
        if number == 3:
            begun.set()
            done.wait(10)

    first = Run(tmp_path, chunks, before=before)
    thread = threading.Thread(target=first.job.run, args=(Stop(),))
    thread.start()
    begun.wait(10)
    second = Run(tmp_path, chunks, resume="if_any")
    with pytest.raises(OccupiedError):
        second.job.run(Stop())
    done.set()
    thread.join(30)
    assert first.job.state == JobState.FINISHED


def test_state_without_a_place_is_dropped_only_when_allowed(chunks: list[Chunk], tmp_path: Path) -> None:
    asked = Asked(tmp_path, chunks, 20, "stop", None, False)
    text = PROGRAM[: PROGRAM.index("pattern again")]
    with pytest.raises(DroppedStateError, match=r"burst.*--allow-dropped-state"):
        Run(tmp_path, chunks, TwoPhase(), text=text, resume="require").job.run(Stop())
    allowed = CheckpointOptions(interval_ms=1, allow_dropped_state=True)
    outlet = asked.run.outlet
    run = Run(tmp_path, chunks, outlet, text=text, resume="require", options=allowed)
    run.job.run(Stop())
    assert outlet.published[-1][0] == "burst"
