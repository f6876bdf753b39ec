"""Checkpoints in a Redis that is killed, wiped, slow, or full."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ostinato.server import exits
from ostinato.state.steps import SUPERVISOR, WORKER
from tests.faults.conftest import Live, MakeJob, StartLive, Trial
from tests.faults.driver import checkpoints_at
from tests.faults.test_kill_at_steps import cases, plan, run_through
from tests.faults.workload import Shape, lay_out
from tests.services import Proxy, RedisServer, RedisServers

pytestmark = [pytest.mark.timeout(400)]

SHAPE = Shape(events=6_000)
STEPS_OF_ITS_OWN = ("blob.written", "snapshot.durable", "checkpoint.commit", "checkpoint.committed", "retain.manifest")
"""Where it matters that the store is a Redis; the others are tried with a directory."""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("step", "victim"), [case for case in cases("redis", WORKER, SUPERVISOR) if str(case.values[0]) in STEPS_OF_ITS_OWN]
)
def test_kill_with_checkpoints_in_redis(
    tmp_path: Path, make_job: MakeJob, trial: Trial, redis: RedisServer, step: str, victim: str
) -> None:
    """Protects: blobs that are durable before the manifest names them, and a lease that a restarted supervisor gets
    over."""
    trial.on(f"SIGKILL of {victim}, Redis", step)
    folder = tmp_path / "job"
    lay_out(folder, SHAPE)
    job = make_job(folder, "-p", "2", *checkpoints_at(redis.address))
    run_through(job, plan(step, victim))
    trial.judge(folder, SHAPE)


def test_redis_killed_and_started_again(start_live: StartLive, trial: Trial, redis_servers: RedisServers) -> None:
    """Protects: a checkpoint that fails does not end the job; what Redis has taken is on its disk (appendfsync always,
    which is looked at when the job begins)."""
    trial.on("SIGKILL, then restart", "Redis")
    server = redis_servers()
    live = start_live(SHAPE, *checkpoints_at(server.address))
    live.wait_for_output()
    server.kill()
    said_to_fail(live)
    server.start()
    live.wait_for_output()
    live.running.kill()
    live.resume()
    live.finish()
    trial.judge(live.folder, SHAPE)


def test_redis_wiped_under_a_running_job(start_live: StartLive, trial: Trial, redis: RedisServer) -> None:
    """Protects: the owner's token is missed at the next write, and all of the state is written again, not only what
    has changed since a checkpoint that is gone.

    Seen to fail when the next checkpoint held changes only: each was refused for what it referred to, and nothing was
    published any more.
    """
    trial.on("wiped under a running job", "Redis")
    live = start_live(SHAPE, *checkpoints_at(redis.address))
    live.wait_for_output()
    redis.ask("FLUSHALL")
    live.wait_for_output(100)
    live.running.kill()
    live.resume()
    live.finish()
    trial.judge(live.folder, SHAPE)


def test_a_job_whose_redis_was_wiped_while_it_was_down_does_not_start_from_empty(
    start_live: StartLive, trial: Trial, redis: RedisServer
) -> None:
    """Protects: --resume without a checkpoint is refused, and what is published stays as it is.

    Seen to fail when it was not refused: the job ran from the beginning.
    """
    trial.on("wiped while the job was down", "Redis")
    live = start_live(SHAPE, *checkpoints_at(redis.address))
    live.wait_for_output()
    live.running.kill()
    redis.ask("FLUSHALL")
    published = live.published()
    live.resume()
    assert live.running.wait() == exits.STATE, live.running.said
    assert "there is no checkpoint in " in live.running.said
    assert live.published() == published
    trial.held()


@pytest.mark.faults
def test_redis_slow_by_two_seconds_for_each_request(start_live: StartLive, trial: Trial, redis_proxy: Proxy) -> None:
    """Protects: blobs are written behind the job's back; it does not wait for the store, nor is it taken for dead."""
    trial.on("slow by 2 s for each request", "Redis")
    live = start_live(SHAPE, *checkpoints_at(redis_proxy.address))
    live.wait_for_output()
    redis_proxy.delay_seconds = 2.0
    before = redis_proxy.requests
    live.wait_for_output(200)
    assert redis_proxy.requests > before + 1
    redis_proxy.delay_seconds = 0.0
    live.finish()
    trial.judge(live.folder, SHAPE)


def test_redis_out_of_memory(start_live: StartLive, trial: Trial, redis_servers: RedisServers) -> None:
    """Protects: writes that a full Redis refuses fail the checkpoint and not the job; nothing is published meanwhile;
    it is tried again until there is room.

    Seen to fail when a checkpoint that failed ended the job: it was given up after 11 failures.
    """
    trial.on("out of memory", "Redis")
    server = redis_servers()
    live = start_live(SHAPE, *checkpoints_at(server.address))
    live.wait_for_output()
    with full(server):
        said_to_fail(live)
        published = live.published()
        time.sleep(1.5)
        assert live.published() == published
        assert live.running.alive
    live.wait_for_output()
    live.finish()
    trial.judge(live.folder, SHAPE)


@contextmanager
def full(server: RedisServer) -> Iterator[None]:
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")


def said_to_fail(live: Live) -> None:
    live.running.wait_for(lambda: " failed: " in live.running.said, "a checkpoint that is said to have failed")


@pytest.mark.faults
def test_redis_stands_still_and_goes_on(start_live: StartLive, trial: Trial, redis_servers: RedisServers) -> None:
    """Protects: an answer that never comes is given up after a time; the connection is dropped with it, so that no
    later answer is taken for that of another request."""
    trial.on("SIGSTOP, then SIGCONT", "Redis")
    server = redis_servers()
    live = start_live(SHAPE, *checkpoints_at(server.address))
    live.wait_for_output()
    server.pause()
    time.sleep(8)
    server.go_on()
    live.wait_for_output()
    live.running.signal(signal.SIGKILL)
    live.running.wait()
    live.resume()
    live.finish()
    trial.judge(live.folder, SHAPE)


@pytest.mark.faults
def test_connections_cut_all_the_time(start_live: StartLive, trial: Trial, redis: RedisServer) -> None:
    """Protects: a command whose answer was lost is repeated only where that changes nothing; all writes are
    conditional."""
    trial.on("connections cut, 20 times", "Redis")
    with closing(Proxy(redis.port, delay_seconds=0.002)) as proxy:
        live = start_live(SHAPE, *checkpoints_at(proxy.address))
        live.wait_for_output()
        for _ in range(20):
            time.sleep(0.13)
            proxy.cut()
        live.finish()
    trial.judge(live.folder, SHAPE)
