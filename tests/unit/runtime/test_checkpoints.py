"""Checkpoints of a job in one process: what fails, is begun again from the last one, and nothing is lost or doubled."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.stopping import Stop
from ostinato.state.stores import open_store
from tests.unit.runtime.supervising import Rows, Run, TwoPhase, chunks_of, login_lines


class BrokenError(Exception):
    """Something that may pass."""


def breaking(*at: int, pause: float = 0.0) -> Callable[[int], None]:
    """Fail once before each of these chunks."""
    left = list(at)

    def before(number: int) -> None:
        time.sleep(pause)
        if left and number >= left[0]:
            left.pop(0)
            raise BrokenError("it broke")

    return before


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return chunks_of(login_lines(240), 6)


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk], tmp_path_factory: pytest.TempPathFactory) -> Rows:
    run = Run(tmp_path_factory.mktemp("whole"), chunks, options=CheckpointOptions(interval_ms=None))
    run.job.run(Stop())
    assert len(run.outlet.published) >= 20
    return run.outlet.published


@pytest.mark.parametrize("seed", range(4))
def test_failures_anywhere_change_nothing(seed: int, chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    chance = random.Random(seed)
    at = sorted(chance.sample(range(len(chunks)), 4))
    run = Run(tmp_path, chunks, before=breaking(*at, pause=0.003))
    run.job.run(Stop())
    assert run.outlet.published == expected
    assert run.job.restarts == 4
    assert any(attempt.point is not None for attempt in run.attempts[1:])
    assert run.job.statistics.events == 240
    assert run.job.statistics.patterns["again"].matches == len(expected)


def test_a_finished_job_leaves_no_checkpoints_unless_told_to(chunks: list[Chunk], tmp_path: Path) -> None:
    run = Run(tmp_path / "a", chunks)
    run.job.run(Stop())
    assert open_store(str(tmp_path / "a"), job="test").entries() == []
    assert list((tmp_path / "a" / "blobs").iterdir()) == []
    run = Run(tmp_path / "b", chunks, options=CheckpointOptions(interval_ms=1, keep="always", retained=3))
    run.job.run(Stop())
    assert 1 <= len(open_store(str(tmp_path / "b"), job="test").entries()) <= 3
    assert run.outlet.finished


def test_a_later_run_goes_on(chunks: list[Chunk], expected: Rows, tmp_path: Path) -> None:
    outlet, stop = TwoPhase(), Stop()

    def before(number: int) -> None:
        stop.requested = stop.requested or number == 20

    first = Run(tmp_path, chunks, outlet, before=before)
    first.job.run(stop)
    assert 0 < len(outlet.published) < len(expected)
    second = Run(tmp_path, chunks, outlet, resume="require")
    second.job.run(Stop())
    assert outlet.published == expected
    assert second.attempts[0].point is not None
