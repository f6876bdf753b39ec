"""The broker dies, stands still and comes back; transactions outlive what it lets them."""

from __future__ import annotations

import time

import pytest

from tests.faults.conftest import StartBetween, Trial
from tests.faults.kafka_driver import Options
from tests.faults.workload import Shape
from tests.kafka_clients import Kafka
from tests.kafka_services import KafkaBrokers

pytestmark = [pytest.mark.timeout(300)]

SHAPE = Shape(events=8_000)


@pytest.mark.faults
@pytest.mark.parametrize(("times", "down"), [(1, 3.0), (3, 0.5)])
def test_the_broker_is_killed_and_comes_back(
    between_topics: StartBetween, kafka_brokers: KafkaBrokers, trial: Trial, times: int, down: float
) -> None:
    """Protects: a producer that does not know what became of a request is thrown away, and its partition taken over
    anew from what is committed; whoever cannot reach the broker waits for it.

    Seen to fail when a partition went on where it had been, instead of where the committed offset is: 224 lost.
    """
    trial.on("SIGKILL of the broker", f"{times} times, down for {down:g} s")
    broker = kafka_brokers()
    job = between_topics(broker, SHAPE)
    job.start(2)
    job.wait_until_running()
    for _ in range(times):
        broker.kill()
        time.sleep(down)
        broker.start()
        job.recover()
    job.finish()
    trial.judge_topics(job)


@pytest.mark.faults
@pytest.mark.parametrize("patience", [40_000, 5_000])
def test_the_broker_answers_late(
    between_topics: StartBetween, kafka_brokers: KafkaBrokers, trial: Trial, patience: int
) -> None:
    """Protects: the same, where the answer comes after all: before the client has given it up, and after (seen to fail
    in the same way: 35 lost)."""
    trial.on("SIGSTOP of the broker for 20 s", f"request_timeout_ms = {patience}")
    broker = kafka_brokers()
    given = {"request_timeout_ms": patience}
    job = between_topics(broker, SHAPE, Options(source=given, sink=given))
    job.start(2)
    job.wait_until_running()
    broker.pause()
    time.sleep(20)
    broker.go_on()
    job.recover()
    job.finish()
    trial.judge_topics(job)


@pytest.mark.faults
def test_a_transaction_that_outlives_its_timeout(between_topics: StartBetween, kafka: Kafka, trial: Trial) -> None:
    """Protects: what the broker has aborted is done again from what is committed, and it is said. Seen to fail when the
    partition went on where it had been: 34 lost."""
    trial.on("a transaction outlives its timeout", "txn.drained, 8 s of 3 s")
    options = Options(per_second=200, source={"session_timeout_ms": 20_000}, sink={"transaction_timeout_ms": 3_000})
    job = between_topics(kafka, SHAPE, options)
    running = job.start(1, "txn.drained:12=sleep 8")
    job.wait_for(lambda: job.job.struck("txn.drained:12=sleep 8"), "the step to be reached")
    job.wait_for(lambda: "taken over anew" in running.said, "the abort to be noticed")
    job.recover()
    job.finish()
    trial.judge_topics(job)
