"""Jobs that are killed anywhere and go on elsewhere: whatever happens, each row is published once and none is lost."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostinato.cep.connectors.base import Chunk
from ostinato.cep.runtime.checkpoints import CheckpointOptions
from ostinato.cep.runtime.restarts import FixedDelay
from ostinato.cep.runtime.stopping import Stop
from tests.unit.runtime.supervising import Rows, Run, TwoPhase, chunks_of, login_lines
from tests.unit.runtime.test_checkpoints_parallel import workers


class KilledError(Exception):
    """The end of one life of a job, wherever it stood."""


class Fates:
    """Breaks a job before some chunks: in the same process or, as far as it can be told, in another."""

    def __init__(self, breaks: list[int], pause: float) -> None:
        self._left = sorted(breaks)
        self._pause = pause

    def __call__(self, number: int) -> None:
        time.sleep(self._pause)
        if self._left and number >= self._left[0]:
            self._left.pop(0)
            raise KilledError


def undisturbed(chunks: list[Chunk]) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), chunks, options=CheckpointOptions(interval_ms=None))
        run.job.run(Stop())
        return run.outlet.published


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(4, 40),
    lives=st.lists(st.lists(st.integers(0, 120), max_size=3), min_size=1, max_size=3),
    incremental=st.booleans(),
)
def test_a_job_killed_anywhere_publishes_each_row_once(
    seed: int, size: int, lives: list[list[int]], incremental: bool
) -> None:
    """Each life is broken a few times and begun again; at its end the whole process is lost."""
    count = 120
    chunks = chunks_of(login_lines(count, seed), size)
    outlet = TwoPhase()
    options = CheckpointOptions(interval_ms=1, retained=2, incremental=incremental, keep="always")
    with tempfile.TemporaryDirectory() as folder:
        for breaks in lives:
            # the last break is one too many for the strategy: the job fails, and a later one resumes it
            fates = Fates(breaks, 0.0005)
            job = Run(
                Path(folder),
                chunks,
                outlet,
                options=options,
                before=fates,
                restarts=FixedDelay(max(0, len(breaks) - 1), 0),
                resume="if_any",
            )
            try:
                job.job.run(Stop())
            except KilledError:
                continue
        Run(Path(folder), chunks, outlet, options=options, resume="if_any").job.run(Stop())
    assert outlet.published == undisturbed(chunks)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(2))
def test_a_job_moves_between_numbers_of_workers(seed: int, tmp_path: Path) -> None:
    """Real processes, so few examples: three lives with another parallelism each."""
    count = 240
    chunks = chunks_of(login_lines(count, seed), 5)
    outlet = TwoPhase()
    options = CheckpointOptions(interval_ms=20, keep="always")
    for at, parallelism in ((12, (3, 1)[seed]), (30, (0, 2)[seed]), (1_000, (2, 3)[seed])):
        make = workers(parallelism) if parallelism else None
        run = Run(
            tmp_path,
            chunks,
            outlet,
            options=options,
            before=Fates([at], 0.01),
            restarts=FixedDelay(0, 0),
            resume="if_any",
            make=make,
        )
        try:
            run.job.run(Stop())
        except KilledError:
            continue
    assert outlet.published == undisturbed(chunks)
