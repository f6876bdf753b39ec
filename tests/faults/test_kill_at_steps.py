"""A process is killed at each named step of a checkpoint, of publishing, of recovery and of the end of a job."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NamedTuple

import pytest

from ostinato.state.steps import STEPS, SUPERVISOR, WORKER
from tests.faults.conftest import MakeJob, Trial
from tests.faults.driver import Job, Running, checkpoints_in, eventually
from tests.faults.workload import KEYS, Shape, lay_out

pytestmark = [pytest.mark.timeout(180)]

SHAPE = Shape(events=6_000)
RECOVERY = ("restart.", "restore.", "sink.recovered")
ENDING = ("finish.",)

QUICK = {("checkpoint.committed", SUPERVISOR), ("snapshot.durable", WORKER), ("sink.publishing", SUPERVISOR)}
"""These run in `make test` too."""


class Plan(NamedTuple):
    """What strikes: in the first life of the supervisor, and in its second. `at`: which rule is for the step."""

    first: str
    second: str = ""
    at: int = 0


def plan(step: str, victim: str) -> Plan:
    """Let something strike at a step; where that is one of recovery, something has to fail before."""
    role = STEPS[step].role
    action = "kill" if role == victim else "kill-parent" if role == WORKER else "kill-child"
    process = "worker-0" if role == WORKER else SUPERVISOR
    if not step.startswith(RECOVERY):
        return Plan(f"{step}:{1 if step.startswith(ENDING) else 3}@{process}={action}")
    if step == "sink.recovered" and victim == WORKER:
        # each sink has come there once when the job began
        return Plan(f"snapshot.durable:3@worker-1=kill,{step}:{len(KEYS) + 3}@{process}={action}", at=1)
    if victim == WORKER or step.startswith("restart."):
        return Plan(f"snapshot.durable:3@worker-1=kill,{step}@{process}={action}", at=1)
    return Plan("checkpoint.committed:3@supervisor=kill", f"{step}@{process}={action}")


def cases(store: str) -> list[object]:
    """Every step of jobs with such a store, with every victim."""
    return [
        pytest.param(step, victim, id=f"{step}-{victim}", marks=() if (step, victim) in QUICK else pytest.mark.faults)
        for step, known in STEPS.items()
        if known.store in ("", store)
        for victim in (WORKER, SUPERVISOR)
    ]


@pytest.mark.parametrize(("step", "victim"), cases("directory"))
def test_kill_with_checkpoints_in_a_directory(
    tmp_path: Path, make_job: MakeJob, trial: Trial, step: str, victim: str
) -> None:
    """Protects: two-phase commit of the file sinks; manifests that appear whole or not at all; blobs that are durable
    before the manifest names them; recovery that can be repeated."""
    trial.on(f"SIGKILL of {victim}", step)
    folder = tmp_path / "job"
    lay_out(folder, SHAPE)
    job = make_job(folder, "-p", "2", *checkpoints_in("checkpoints"))
    run_through(job, plan(step, victim))
    trial.judge(folder, SHAPE)


def run_through(job: Job, planned: Plan) -> None:
    """Run a job to its end, resuming it as often as its supervisor dies."""
    running = job.start(fault=planned.first)
    struck = planned.first
    for fault in (planned.second, ""):
        code = running.wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"exit code {code}; the job said:\n{running.said}"
        leaves_no_orphan(running)
        struck = fault or struck
        running = job.start("--resume", fault=fault)
    assert running.wait() == 0, running.said
    assert job.struck(struck, planned.at), f"the step was never reached; the job said:\n{running.said}"


def leaves_no_orphan(running: Running) -> None:
    """Workers end when their supervisor is gone."""
    eventually(lambda: not running.job.processes(), "the workers to end", 10)
