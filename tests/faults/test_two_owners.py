"""Two supervisors of one job: at most one of them does anything."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path

import pytest

from ostinato.server import exits
from tests.faults.checker import check, read_outputs
from tests.faults.conftest import Live, MakeJob, Reference, StartLive, Trial
from tests.faults.driver import Job, Running, checkpoints_at, checkpoints_in
from tests.faults.workload import KEYS, Shape, lay_out
from tests.services import RedisServer

SHAPE = Shape(events=6_000)


@pytest.mark.timeout(180)
def test_a_second_supervisor_on_a_directory_refuses(start_live: StartLive, make_job: MakeJob, trial: Trial) -> None:
    """Protects: the lock on the directory. The second one says who has it, and touches nothing.

    Seen to fail without the lock (flock): the second one went on from the first one's checkpoint, and both ran.
    """
    trial.on("second supervisor", "the same directory")
    live = start_live(SHAPE, *checkpoints_in("checkpoints"))
    live.wait_for_output()
    second(live, make_job, checkpoints_in("checkpoints"))
    live.finish()
    trial.judge(live.folder, SHAPE)


@pytest.mark.timeout(180)
def test_a_second_supervisor_on_a_directory_refuses_also_while_the_first_stands_still(
    start_live: StartLive, make_job: MakeJob, trial: Trial
) -> None:
    """Protects: the lock is held by a process that is stopped, too, however long: a directory has no lease."""
    trial.on("SIGSTOP of the supervisor, second supervisor", "the same directory")
    live = start_live(SHAPE, *checkpoints_in("checkpoints"))
    live.wait_for_output()
    live.running.signal(signal.SIGSTOP)
    second(live, make_job, checkpoints_in("checkpoints"))
    live.running.signal(signal.SIGCONT)
    live.finish()
    trial.judge(live.folder, SHAPE)


@pytest.mark.timeout(180)
def test_a_second_supervisor_on_a_redis_refuses(
    start_live: StartLive, make_job: MakeJob, trial: Trial, redis: RedisServer
) -> None:
    """Protects: the lease in Redis, which the first one goes on to refresh."""
    trial.on("second supervisor", "the same Redis")
    live = start_live(SHAPE, *checkpoints_at(redis.address))
    live.wait_for_output()
    second(live, make_job, checkpoints_at(redis.address))
    live.finish()
    trial.judge(live.folder, SHAPE)


def second(live: Live, make_job: MakeJob, arguments: list[str]) -> None:
    """Start another one in the same folder; it refuses."""
    other = make_job(live.folder, *arguments)
    other.log_prefix = "second"
    running = other.start("--resume")
    assert running.wait() == exits.STATE, running.said
    assert "in use by" in running.said
    assert str(live.running.pid) in running.said


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("step", ["checkpoint.barrier", "checkpoint.commit", "sink.publish", "sink.publishing"])
def test_a_supervisor_that_wakes_up_when_another_has_taken_over_is_fenced_off(
    tmp_path: Path, make_job: MakeJob, reference: Reference, trial: Trial, redis: RedisServer, step: str
) -> None:
    """Protects: the fencing token that every write to Redis carries, and that is compared there; and that nothing is
    published which no checkpoint holds.

    Seen to fail when the scripts in Redis did not compare the token: the first one went on taking checkpoints over
    those of the second, and ended with exit code 0.

    The first supervisor stops at a step for longer than its lease lasts; a second one takes over, on what seems to be
    another machine with a copy of all files, and runs to the end; then the first one goes on.
    """
    trial.on("SIGSTOP past the lease, then SIGCONT", step)
    folder, copy = tmp_path / "job", tmp_path / "copy"
    lay_out(folder, SHAPE)
    job = make_job(folder, *checkpoints_at(redis.address))
    zombie = stopped_at(step, job)
    shutil.copytree(folder, copy)
    heir = taking_over(job, elsewhere=copy)
    assert heir.wait() == 0, heir.said
    zombie.signal(signal.SIGCONT)
    code = zombie.wait()
    assert code == exits.STATE, f"{code}: {zombie.said}"
    assert "belongs by now to" in zombie.said
    # what the first one has published is less, and nothing else
    faults = check(reference(SHAPE), read_outputs(folder / "out"), KEYS)
    assert faults.lost
    faults.lost.clear()
    assert not faults, str(faults)
    trial.judge(copy, SHAPE)


@pytest.mark.timeout(180)
def test_on_one_machine_nobody_takes_over_the_files_of_a_supervisor_that_stands_still(
    tmp_path: Path, make_job: MakeJob, trial: Trial, redis: RedisServer
) -> None:
    """Protects: the lock on each output file. The lease is over, and still the second one refuses, until the first
    one is dead.

    Seen to fail without the lock (flock): the second one wrote into the same files and ended with exit code 0.
    """
    trial.on("SIGSTOP past the lease, then SIGKILL", "sink.publishing")
    folder = tmp_path / "job"
    lay_out(folder, SHAPE)
    job = make_job(folder, *checkpoints_at(redis.address))
    zombie = stopped_at("sink.publishing", job)
    heir = taking_over(job)
    assert heir.wait() == exits.OUTPUT, heir.said
    assert "another process writes to it" in heir.said
    zombie.kill()
    heir = taking_over(job)
    assert heir.wait() == 0, heir.said
    trial.judge(folder, SHAPE)


def stopped_at(step: str, job: Job) -> Running:
    """Start a job, and wait until it has stopped at a step of its second checkpoint."""
    nth = len(KEYS) + 3 if step.startswith("sink.") else 2
    running = job.start(fault=f"{step}:{nth}@supervisor=stop")
    return running.wait_for(lambda: running if running.is_stopped else None, f"the stop at {step}")


def taking_over(job: Job, elsewhere: Path | None = None) -> Running:
    """Start a job, again and again as long as the lease of another supervisor lasts."""
    while True:
        running = job.start("--resume", elsewhere=elsewhere)
        # a refusal ends it at once
        with contextlib.suppress(AssertionError):
            if running.wait(5) == exits.STATE and "in use by" in running.said:
                continue
        return running
