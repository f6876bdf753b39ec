"""What the time of operators goes into."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import Chunk, Idle
from ostinato.cep.runtime.job import LocalJob
from ostinato.cep.runtime.occupation import (
    OUTPUT,
    SOURCES,
    HeldMeter,
    Meter,
    OperatorTimes,
    times_of,
    together,
)
from ostinato.cep.runtime.stopping import Stop
from tests.unit.runtime.supervising import START_MS, Given, login_lines
from tests.unit.runtime.test_job import Kept, cut, definition


def test_a_meter_can_be_read_while_it_runs() -> None:
    meter = Meter()
    with meter.running():
        time.sleep(0.02)
        assert meter.seconds >= 0.02
    spent = meter.seconds
    time.sleep(0.01)
    assert meter.seconds == spent


def test_what_a_thread_was_held_back_by() -> None:
    cause = Meter()
    held = HeldMeter(cause)
    with held.running():
        with cause.running():
            time.sleep(0.02)
            assert held.overlap >= 0.02
        time.sleep(0.02)
    with cause.running():
        time.sleep(0.02)
    assert 0.02 <= held.overlap < held.seconds
    assert held.overlap <= cause.seconds - 0.02


def test_the_parts_make_the_whole() -> None:
    times = times_of(10.0, {"a": 3.0, "b": 11.0, "c": 1.0}, {"a": 2.0, "c": 20.0})
    assert times["a"] == OperatorTimes(3.0, 5.0, 2.0)
    assert times["b"] == OperatorTimes(10.0, 0.0, 0.0)
    assert times["c"] == OperatorTimes(1.0, 0.0, 9.0)
    assert times["a"].fractions() == (0.3, 0.5, 0.2)
    assert together([times, times])["a"] == OperatorTimes(6.0, 10.0, 4.0)
    assert OperatorTimes(0.0, 0.0, 0.0).fractions() == (0.0, 0.0, 0.0)


class Slow(Kept):
    """Writing takes a while."""

    def deliver(self, batch: Batch) -> None:
        super().deliver(batch)
        time.sleep(0.02)


class Waiting(Given):
    """Has nothing for a while, before the end."""

    def read(self) -> Chunk | Idle | None:
        chunk = super().read()
        if chunk is None:
            time.sleep(0.2)
        return chunk


def run(outlet: Kept, reader: Any) -> dict[str, OperatorTimes]:
    job = LocalJob(definition(), [reader], outlet, clock=lambda: START_MS)
    job.run(Stop())
    return dict(job.statistics.measure().operators)


@pytest.fixture(scope="module")
def chunks() -> Sequence[Chunk]:
    lines = login_lines(400)
    run(Kept(), Given(cut(lines, [400])))  # kernels are loaded
    return cut(lines, [20] * 20)


def test_operators_before_a_slow_output_are_backpressured(chunks: Sequence[Chunk]) -> None:
    times = run(Slow(), Given(chunks))
    assert set(times) == {SOURCES, "logins.in", "logins", "burst", OUTPUT}
    assert times[OUTPUT].fractions()[0] > 0.5
    assert times[OUTPUT].backpressured == 0
    for name, each in times.items():
        assert name == OUTPUT or each.backpressured == pytest.approx(times[OUTPUT].busy, rel=0.05)
        assert each.total == pytest.approx(times[OUTPUT].total)


def test_a_job_that_waits_for_input_is_idle(chunks: Sequence[Chunk]) -> None:
    times = run(Kept(), Waiting(chunks[:1]))
    assert all(each.fractions()[1] > 0.5 for each in times.values())
    assert times[SOURCES].busy < 0.1, "waiting is not work"
