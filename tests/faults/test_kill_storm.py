"""A minute of load during which something is killed every few seconds."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.faults.conftest import StartLive, Trial
from tests.faults.driver import checkpoints_in, eventually, kill
from tests.faults.workload import Shape

SECONDS = 60.0
SHAPE = Shape(events=24_000, parts=4)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_minute_of_kills(start_live: StartLive, trial: Trial) -> None:
    """Protects: everything together. Of 3 workers and their supervisor one is killed every 2 to 5 seconds, the
    supervisor every fourth time, wherever it is at the moment; a supervisor that is gone is started again."""
    trial.on("SIGKILL every 2-5 s for 60 s", "3 workers and supervisor")
    live = start_live(SHAPE, "-p", "3", *checkpoints_in("checkpoints", attempts=1_000), per_second=400)
    chance = random.Random(3)
    ends = time.monotonic() + SECONDS
    kills = {"worker": 0, "supervisor": 0}
    while time.monotonic() < ends:
        time.sleep(chance.uniform(2, 5))
        if not live.running.alive:
            raise AssertionError(f"the job has ended by itself: {live.running.said}")
        workers = live.running.workers()
        if sum(kills.values()) % 4 == 3:
            live.running.kill()
            kills["supervisor"] += 1
            eventually(lambda: not live.job.processes(), "the workers to end", 20)
            # killed before the first checkpoint it begins anew
            live.resume("--resume-if-any")
        elif workers and kill(chance.choice(workers)):
            kills["worker"] += 1
    assert kills["worker"] >= 8, kills
    assert kills["supervisor"] >= 2, kills
    live.finish(150)
    trial.judge(live.folder, SHAPE)


@pytest.mark.timeout(300)
def test_no_worker_outlives_its_supervisor(start_live: StartLive, trial: Trial) -> None:
    """Protects: a worker ends when its supervisor does (the system kills it, and the closed connection ends it, and the
    missing heartbeats), whatever it is at.

    Seen to fail without all three: the workers were still there after 20 s.
    """
    trial.on("SIGKILL of supervisor", "any time, 3 workers")
    live = start_live(Shape(), "-p", "3", *checkpoints_in("checkpoints"))
    live.wait_for_output()
    workers = live.running.wait_for_workers(3)
    live.running.kill()
    eventually(lambda: not live.job.processes(), f"workers {workers} to end", 20)
    live.resume()
    live.finish()
    trial.judge(live.folder, Shape())


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_worker_that_stands_still_is_taken_for_dead(start_live: StartLive, trial: Trial) -> None:
    """Protects: heartbeats. A worker is stopped; the supervisor hears nothing of it, ends all workers and begins again;
    when the stopped one is told to go on, it is not there any more.

    Seen to fail when silence was not looked at: the job stood still for as long as one waited.
    """
    trial.on("SIGSTOP past the heartbeat, then SIGCONT", "worker")
    live = start_live(Shape(), "-p", "3", *checkpoints_in("checkpoints"))
    live.wait_for_output()
    victim = live.running.wait_for_workers(3)[1]
    kill(victim, signal.SIGSTOP)
    live.running.wait_for(lambda: "it is begun again" in live.running.said, "the worker to be missed")
    assert "worker 1" in live.running.said
    live.wait_for_output()
    assert not kill(victim, signal.SIGCONT), "the stopped worker is still there"
    live.finish()
    trial.judge(live.folder, Shape())
