"""Requests between a job and the broker that are delayed, lost, repeated, or answered with an error."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress

import pytest

from tests.faults.conftest import StartBetween, Trial
from tests.faults.kafka_driver import Between, Options
from tests.faults.workload import Shape
from tests.kafka_proxy import (
    AnswerWith,
    CloseAfter,
    CloseBefore,
    DelayAnswer,
    DelayRequest,
    DropAnswer,
    DropRequest,
    HoldBack,
    KafkaProxy,
    SendTwice,
    Strike,
)
from tests.kafka_services import KafkaBroker, kafka_broker
from tests.kafka_wire import Api

pytestmark = [pytest.mark.timeout(240)]

SHAPE = Shape(events=7_000)
REQUEST_MS = 2_000
"""How long the job waits for an answer."""
NAMES = {api: api.name.replace("_", " ").lower() for api in Api}

Proxied = tuple[KafkaBroker, KafkaProxy]


@pytest.fixture(scope="module")
def broker_and_proxy() -> Iterator[Proxied]:
    """One for all tests here: each has topics, a group and transactional ids of its own."""
    with closing(KafkaProxy()) as proxy, kafka_broker(advertised=proxy.port) as broker:
        proxy.target = broker.external_port
        yield broker, proxy


@pytest.fixture
def struck(broker_and_proxy: Proxied) -> Iterator[Proxied]:
    """The same, where nothing is struck yet."""
    yield broker_and_proxy
    broker_and_proxy[1].clear()
    broker_and_proxy[1].go_on()


def options(proxy: KafkaProxy, per_second: float = 150, partitions: int = 2, *arguments: str) -> Options:
    """Of a job that comes to its broker by the proxy, and gives up soon what is not answered."""
    timeout = {"request_timeout_ms": REQUEST_MS}
    return Options(
        partitions=partitions,
        per_second=per_second,
        source=timeout,
        sink=timeout,
        servers=proxy.servers,
        arguments=arguments,
    )


BEGINNING = (Api.JOIN_GROUP, Api.INIT_PRODUCER_ID, Api.OFFSET_FETCH)
"""What is asked when a job starts, or a partition is taken over."""
RUNNING = (
    Api.PRODUCE,
    Api.ADD_PARTITIONS_TO_TXN,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
    Api.FETCH,
    Api.HEARTBEAT,
)
STRIKES: Mapping[str, Strike] = {
    "request delayed": DelayRequest(REQUEST_MS / 1000 * 1.5),
    "answer delayed": DelayAnswer(REQUEST_MS / 1000 * 1.5),
    "request lost": DropRequest(),
    "answer lost": DropAnswer(),
    "sent twice": SendTwice(),
    "connection closed before": CloseBefore(),
    "connection closed behind": CloseAfter(),
}


@pytest.mark.faults
@pytest.mark.parametrize("how", STRIKES)
def test_each_request_is_struck(struck: Proxied, between_topics: StartBetween, trial: Trial, how: str) -> None:
    """Protects: what fails goes back to what is committed, with a new producer and in the same process; none of it is
    done by halves."""
    trial.on(how, "each request in turn")
    broker, proxy = struck
    for api in BEGINNING:
        proxy.on(api, STRIKES[how])
    job = between_topics(broker, SHAPE, options(proxy))
    job.start()
    job.wait_until_running()
    for rule in proxy.rules:
        rule.wait(seconds=1)
    for api in RUNNING:
        proxy.clear()
        rule = proxy.on(api, STRIKES[how])
        rule.wait()
        job.wait_for_commits(60)
    job.finish()
    assert_never_begun_again(job)
    trial.judge_topics(job)


CODES = {
    13: "network exception",
    45: "out of order sequence number",
    47: "invalid producer epoch",
    51: "concurrent transactions",
    59: "unknown producer id",
    90: "producer fenced",
    120: "transaction abortable",
    7_777: "a code that nobody knows",
}


@pytest.mark.faults
@pytest.mark.parametrize("code", CODES, ids=lambda code: f"{code}")
def test_each_request_is_answered_with_an_error(
    struck: Proxied, between_topics: StartBetween, trial: Trial, code: int
) -> None:
    """Protects: any error makes a producer disposable, and none a worker.

    Seen to fail with 13 and 45 when a producer did not remember that a record could not be written (lost matches); with
    each of the codes when aiokafka's word that there is no transaction any more was taken for a bug, and when an answer
    to a heartbeat that it does not know ended the reading (the worker was begun again).
    """
    trial.on(f"error {code}, {CODES[code]}", "each request in turn, once and three times")
    broker, proxy = struck
    rules = [proxy.on(Api.INIT_PRODUCER_ID, AnswerWith(code), times=3)]
    job = between_topics(broker, SHAPE, options(proxy))
    job.start()
    job.wait_until_running()
    for times in (1, 3):
        for api in RUNNING:
            if api == Api.FETCH:
                continue
            proxy.clear()
            rules.append(proxy.on(api, AnswerWith(code), times=times))
            rules[-1].wait(times)
            job.wait_for_commits(60)
    job.finish()
    assert_never_begun_again(job)
    trial.judge_topics(job)


def test_a_late_end_of_a_transaction_does_not_end_the_next_one(
    struck: Proxied, between_topics: StartBetween, trial: Trial
) -> None:
    """The Jepsen case: EndTxn gets no answer, is sent again, and the first copy comes when the next transaction runs.

    Protects: a producer of which nobody knows what became of its last request is thrown away (`_watch`, producers.py);
    the next one has another epoch, and what is late is refused.

    Seen to fail without: the broker took the late EndTxn for the next transaction's.
    """
    trial.on("EndTxn held back, delivered in the next transaction", "one partition")
    broker, proxy = struck
    job = between_topics(broker, SHAPE, options(proxy, 300, 1, "--interval", "500ms"))
    running = job.start()
    job.wait_until_running()
    for close in (True, False):
        held = proxy.on(Api.END_TXN, HoldBack(close=close))
        held.wait()
        # the one that was not held back, and then records of the transaction behind it
        ends = proxy.passed[Api.END_TXN]
        with suppress(AssertionError):
            wait_for_more(proxy, Api.END_TXN, ends, 5)
        wait_for_more(proxy, Api.PRODUCE, proxy.passed[Api.PRODUCE], 60)
        codes = held.deliver()
        running.kill()
        running = job.start()
        assert codes != [0], "the broker has taken the late EndTxn for the next transaction's"
        proxy.clear()
        job.wait_for_commits(100)
    assert "no answer to EndTxn" in job.said
    job.finish()
    trial.judge_topics(job)


@pytest.mark.faults
def test_a_coordinator_that_answers_late(struck: Proxied, between_topics: StartBetween, trial: Trial) -> None:
    """Protects: what asks a coordinator waits in the event loop, and hinders nobody; it is asked until it answers."""
    trial.on("answers after 10 s", "coordinators of the group and of transactions")
    broker, proxy = struck
    job = between_topics(broker, SHAPE, options(proxy, 150))
    job.start()
    job.wait_until_running()
    for api in (Api.FIND_COORDINATOR, Api.END_TXN, Api.HEARTBEAT, Api.TXN_OFFSET_COMMIT):
        proxy.on(api, DelayAnswer(10.0))
    proxy.cut()
    for rule in list(proxy.rules):
        rule.wait()
    time.sleep(10)
    job.recover()
    job.finish()
    assert_never_begun_again(job)
    trial.judge_topics(job)


def wait_for_more(proxy: KafkaProxy, api: Api, passed: int, seconds: float) -> None:
    """Wait until more of these requests have gone to the broker."""
    proxy.wait_for(lambda: proxy.passed[api] > passed, f"more {NAMES[api]}", seconds)


def assert_never_begun_again(job: Between) -> None:
    """No worker has ended, nor has it had to join the group anew from the start."""
    assert "begun again" not in job.said, job.said
