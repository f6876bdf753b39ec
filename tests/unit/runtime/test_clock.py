"""The clock of a job: what happens to the machine's clock changes nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ostinato.cep.runtime
from ostinato.cep.connectors.base import Chunk, Idle
from ostinato.cep.runtime.clock import AnchoredClock, SteadyClock
from ostinato.cep.runtime.job import Definition, LocalJob
from ostinato.cep.runtime.plan import plan
from ostinato.cep.runtime.stopping import Stop
from ostinato.patterns.parser import parse_program
from ostinato.patterns.typecheck import check_program
from tests.unit.runtime.test_job import Kept

HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000


class Machine:
    """A machine's clocks; its wall clock may be set."""

    def __init__(self) -> None:
        self.passed_ms = 0
        self.set_by_ms = 0

    def wall(self) -> int:
        return (START_MS + self.passed_ms + self.set_by_ms) * 1_000_000

    def monotonic(self) -> int:
        return (77 + self.passed_ms) * 1_000_000

    def clock(self) -> AnchoredClock:
        return AnchoredClock(self.wall, self.monotonic)


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS])
def test_setting_the_clock_changes_nothing(step: int) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.passed_ms += 250
    assert clock() == START_MS + 250
    machine.set_by_ms += step
    assert clock() == START_MS + 250
    machine.passed_ms += 10
    assert clock() == START_MS + 260


def test_time_goes_on_from_a_snapshot_at_its_usual_pace() -> None:
    machine = Machine()
    clock = SteadyClock(machine.clock())
    clock.not_before(START_MS - HOUR_MS)
    assert clock() == START_MS
    clock.not_before(START_MS + HOUR_MS)
    assert clock() == START_MS + HOUR_MS
    machine.passed_ms += 5_000
    assert clock() == START_MS + HOUR_MS + 5_000


def test_time_never_goes_back_even_if_what_is_below_does() -> None:
    times = iter([100, 200, 150, 160, 300])
    clock = SteadyClock(lambda: next(times))
    assert [clock() for _ in range(4)] == [200, 200, 200, 300]


PROGRAM = """
stream beats (machine string key) processing time

pattern missing on beats
  match  a !-> b
  within 10 s
  emit   a.machine as machine
"""


class Beats:
    """One event, then silence; each read takes the machine a second, and its clock is set on the way."""

    splits = 1
    repeatable = True

    def __init__(self, machine: Machine, steps: Sequence[int]) -> None:
        self._machine = machine
        self._steps = list(steps)
        self._begun = False

    def read(self) -> Chunk | Idle | None:
        self._machine.passed_ms += 1_000
        if not self._begun:
            self._begun = True
            return Chunk.of(b'{"machine": "m1"}\n')
        if not self._steps:
            return None
        self._machine.set_by_ms += self._steps.pop(0)
        return Idle(0)

    def seek(self, position: Any) -> None: ...

    def close(self) -> None: ...


class Timed(Kept):
    """Keeps when each row came, ms since the start on the machine's monotonic clock."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.times: list[int] = []
        self._machine = machine

    def deliver(self, batch: Any) -> None:
        super().deliver(batch)
        self.times.append(self._machine.passed_ms)


def run(steps: Sequence[int], clock: Any = None) -> list[int]:
    """When the timeout of the one event was noticed."""
    machine = Machine()
    kept = Timed(machine)
    definition = Definition(plan(check_program(parse_program(PROGRAM))))
    job = LocalJob(definition, [Beats(machine, steps)], kept, clock=clock(machine) if clock else machine.clock())
    job.run(Stop())
    return kept.times


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS])
def test_timers_of_processing_time_do_not_see_a_step(step: int) -> None:
    still = run([0] * 20)
    assert still
    assert still[0] < 14_000
    assert run([0, 0, step, *[0] * 17]) == still
    # the same with a clock that is the machine's: the test can tell
    wall = lambda machine: lambda: machine.wall() // 1_000_000  # noqa: E731
    assert run([0, 0, step, *[0] * 17], wall) != still


def test_nothing_else_in_the_runtime_looks_at_the_wall() -> None:
    """Save where a time is only for people to read."""
    allowed = {"clock.py", "coordinator.py"}
    folder = Path(ostinato.cep.runtime.__file__).parent
    walls = re.compile(r"\btime\.time(_ns)?\b|datetime\.(now|utcnow|today)|\bCLOCK_REALTIME\b|from time import")
    found = {path.name for path in folder.rglob("*.py") if walls.search(path.read_text())}
    assert found <= allowed
    assert "clock.py" in found
