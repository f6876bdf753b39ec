"""The proxy before a broker strikes what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from io import BytesIO
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced, RequestTimedOutError
from aiokafka.protocol.commit import OffsetCommitRequest_v2
from aiokafka.protocol.group import HeartbeatRequest_v1, JoinGroupRequest_v2, SyncGroupRequest_v1
from aiokafka.protocol.metadata import MetadataRequest_v1
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest_v0,
    AddPartitionsToTxnRequest_v0,
    EndTxnRequest_v0,
    InitProducerIdRequest_v0,
    TxnOffsetCommitRequest_v0,
)

from tests.kafka_clients import Kafka
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
from tests.kafka_services import KafkaBroker, KafkaBrokers
from tests.kafka_wire import TRANSACTIONAL, Api

CODES = (13, 45, 47, 51, 59, 90, 120, 9999)
"""NETWORK_EXCEPTION, OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, CONCURRENT_TRANSACTIONS,
UNKNOWN_PRODUCER_ID, PRODUCER_FENCED, TRANSACTION_ABORTABLE, and one that nobody knows."""


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[Kafka, KafkaProxy]]:
    """One broker for all tests here, as none of them strikes it."""
    with ExitStack() as stack:
        proxy = stack.enter_context(closing(KafkaProxy()))
        broker = KafkaBrokers(stack)(advertised=proxy.port)
        proxy.target = broker.external_port
        yield broker, proxy


@pytest.fixture
def broker(proxied: tuple[Kafka, KafkaProxy]) -> Kafka:
    return proxied[0]


@pytest.fixture
def proxy(proxied: tuple[Kafka, KafkaProxy]) -> Iterator[KafkaProxy]:
    proxy = proxied[1]
    proxy.passed.clear()
    proxy.struck.clear()
    yield proxy
    proxy.go_on()
    proxy.clear()


@pytest.fixture
def topic(broker: Kafka) -> str:
    return broker.create_topic(broker.unique("t"))


def with_producer(proxy: KafkaProxy, use: Callable[[Any], Awaitable[None]], **options: Any) -> None:
    """Use a producer that reaches the broker by the proxy, and waits a second for an answer."""

    async def run() -> None:
        given = {"request_timeout_ms": 1000, "retry_backoff_ms": 20, **options}
        producer = AIOKafkaProducer(bootstrap_servers=proxy.servers, **given)
        try:
            await producer.start()
            await use(producer)
        finally:
            await producer.stop()

    asyncio.run(run())


def transaction(topic: str, *values: str) -> Callable[[Any], Awaitable[None]]:
    """Each value in a transaction of its own."""

    async def use(producer: Any) -> None:
        for value in values:
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value.encode())
            await producer.commit_transaction()

    return use


def one(topic: str) -> Callable[[Any], Awaitable[None]]:
    async def use(producer: Any) -> None:
        await producer.send_and_wait(topic, b"v")

    return use


def values(broker: Kafka, topic: str) -> list[str]:
    return [(record.value or b"").decode() for record in broker.read(topic, until=broker.end_offsets(topic))]


def test_what_no_rule_is_about_passes(broker: Kafka, proxy: KafkaProxy, topic: str) -> None:
    with_producer(proxy, transaction(topic, "a", "b"), transactional_id=broker.unique("x"))
    assert values(broker, topic) == ["a", "b"]
    # the others are asked again where the broker is not ready yet
    assert proxy.passed[Api.END_TXN] == 2
    assert proxy.passed[Api.ADD_PARTITIONS_TO_TXN] >= 2
    assert proxy.passed[Api.INIT_PRODUCER_ID] >= 1
    assert not proxy.struck


@pytest.mark.parametrize(("strike", "done"), [(DelayRequest(0.6), False), (DelayAnswer(0.6), True)], ids=str)
def test_delayed(broker: Kafka, proxy: KafkaProxy, topic: str, strike: Strike, done: bool) -> None:
    """A delayed request is done later, one whose answer is delayed is done at once; others are not delayed by it."""
    rule = proxy.on(Api.END_TXN, strike)
    meanwhile: list[bool] = []

    def look() -> None:
        rule.wait()
        time.sleep(0.15)
        meanwhile.append(bool(broker.read(topic)))

    looking = threading.Thread(target=look)
    looking.start()
    began = time.monotonic()
    with_producer(proxy, transaction(topic, "a"), transactional_id=broker.unique("x"))
    assert time.monotonic() - began > 0.6
    looking.join()
    assert meanwhile == [done]
    assert values(broker, topic) == ["a"]
    assert proxy.struck == {Api.END_TXN: 1}


@pytest.mark.parametrize(("strike", "done"), [(CloseBefore(), False), (CloseAfter(), True)], ids=str)
def test_closed(broker: Kafka, proxy: KafkaProxy, topic: str, strike: Strike, done: bool) -> None:
    """The producer tries again, and what has no sequence number is there twice where only the answer was lost."""
    proxy.on(Api.PRODUCE, strike)
    with_producer(proxy, one(topic), enable_idempotence=False)
    assert len(values(broker, topic)) == 1 + done
    assert (proxy.passed[Api.PRODUCE], proxy.struck[Api.PRODUCE]) == (1 + done, 1)
    proxy.on(Api.HEARTBEAT, strike)
    with closing(RawClient(proxy.port)) as client:
        client.send(HeartbeatRequest_v1("g", 1, "m"))
        with pytest.raises(ConnectionError):
            client.receive(HeartbeatRequest_v1("g", 1, "m"))
    assert proxy.passed[Api.HEARTBEAT] == done


@pytest.mark.parametrize(("strike", "done"), [(DropRequest(), False), (DropAnswer(), True)], ids=str)
def test_dropped(broker: Kafka, proxy: KafkaProxy, topic: str, strike: Strike, done: bool) -> None:
    """The producer hears nothing for as long as it listens, and cannot tell one from the other."""
    proxy.on(Api.PRODUCE, strike)
    with pytest.raises(RequestTimedOutError):
        with_producer(proxy, one(topic))
    assert len(values(broker, topic)) == done
    assert (proxy.passed[Api.PRODUCE], proxy.struck[Api.PRODUCE]) == (done, 1)


@pytest.mark.parametrize("idempotent", [False, True])
def test_sent_twice(broker: Kafka, proxy: KafkaProxy, topic: str, idempotent: bool) -> None:
    """The broker sees it twice; it knows the sequence numbers of an idempotent producer."""
    proxy.on(Api.PRODUCE, SendTwice())

    async def use(producer: Any) -> None:
        for _ in range(3):
            await producer.send_and_wait(topic, b"v")

    with_producer(proxy, use, enable_idempotence=idempotent)
    assert proxy.passed[Api.PRODUCE] == 4
    assert len(values(broker, topic)) == (3 if idempotent else 4)


def test_a_producer_that_is_begun_twice_is_fenced(broker: Kafka, proxy: KafkaProxy, topic: str) -> None:
    """By its second beginning, which had another epoch and whose answer it did not get."""
    # before that, so that the first request of it is not refused as it comes to be
    broker.produce(topic, [("k", "v")], transaction="abort")
    proxy.on(Api.INIT_PRODUCER_ID, SendTwice())
    with pytest.raises(ProducerFenced):
        with_producer(proxy, transaction(topic, "a"), transactional_id=broker.unique("x"))
    assert values(broker, topic) == []


@pytest.mark.parametrize("api", TRANSACTIONAL[1:])
def test_each_transactional_request_sent_twice_gets_one_answer(
    broker: Kafka, proxy: KafkaProxy, topic: str, api: Api
) -> None:
    group = broker.unique("g")
    rule = proxy.on(api, SendTwice(), times=None)

    async def use(producer: Any) -> None:
        for n in range(3):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, str(n).encode())
            await producer.send_offsets_to_transaction({TopicPartition(topic, 0): n + 1}, group)
            await producer.commit_transaction()

    with_producer(proxy, use, transactional_id=broker.unique("x"))
    assert rule.struck >= 3
    assert proxy.passed[api] == 2 * rule.struck
    assert values(broker, topic) == ["0", "1", "2"]
    assert broker.committed(group) == {(topic, 0): (3, "")}


def requests() -> list[Any]:
    """One of each kind that an error can be said to."""
    offsets = [("t", [(0, 5, ""), (1, 6, "")])]
    return [
        InitProducerIdRequest_v0("x", 1000),
        AddPartitionsToTxnRequest_v0("x", 1, 0, [("t", [0, 1])]),
        AddOffsetsToTxnRequest_v0("x", 1, 0, "g"),
        EndTxnRequest_v0("x", 1, 0, True),
        TxnOffsetCommitRequest_v0("x", "g", 1, 0, offsets),
        OffsetCommitRequest_v2("g", 1, "m", -1, offsets),
        HeartbeatRequest_v1("g", 1, "m"),
        SyncGroupRequest_v1("g", 1, "m", []),
        JoinGroupRequest_v2("g", 6000, 6000, "", "consumer", []),
        ProduceRequest_v7(None, -1, 1000, [("t", [(0, b""), (1, b"")])]),
    ]


@pytest.mark.parametrize("code", CODES)
def test_answers_that_say_an_error(proxy: KafkaProxy, code: int) -> None:
    """As the client reads them: for all partitions of the request, without the broker."""
    with closing(RawClient(proxy.port)) as client:
        for request in requests():
            rule = proxy.on(request.API_KEY, AnswerWith(code))
            client.send(request)
            answer = client.receive(request).to_object()
            partitions = [
                each for topic in answer.get("errors", answer.get("topics", [])) for each in topic.popitem()[1]
            ]
            if partitions or "error_code" not in answer:
                assert [(each["partition"], each["error_code"]) for each in partitions] == [(0, code), (1, code)]
            else:
                assert answer["error_code"] == code
            rule.remove()
    assert sum(proxy.struck.values()) == len(requests())
    assert not proxy.passed


@pytest.mark.parametrize("done", [False, True])
def test_an_error_that_is_said_whether_the_broker_has_done_it(
    broker: Kafka, proxy: KafkaProxy, topic: str, done: bool
) -> None:
    proxy.on(Api.END_TXN, AnswerWith(47, done=done))
    with pytest.raises(ProducerFenced):
        with_producer(proxy, transaction(topic, "a"), transactional_id=broker.unique("x"))
    assert proxy.passed[Api.END_TXN] == done
    time.sleep(0.1)
    assert [record.value for record in broker.read(topic)] == [b"a"] * done


def test_an_error_that_the_client_does_not_know(broker: Kafka, proxy: KafkaProxy, topic: str) -> None:
    proxy.on(Api.INIT_PRODUCER_ID, AnswerWith(9999), times=None)
    with pytest.raises(KafkaError, match="UnknownError"):
        with_producer(proxy, transaction(topic, "a"), transactional_id=broker.unique("x"))


def test_answers_come_in_the_order_of_the_requests(proxy: KafkaProxy) -> None:
    """One that needs no broker waits for those before it, a delayed one holds those behind it; no other connection."""
    proxy.on(Api.METADATA, DelayAnswer(0.4), nth=2)
    proxy.on(Api.HEARTBEAT, AnswerWith(51), times=None)
    with closing(RawClient(proxy.port)) as client, closing(RawClient(proxy.port)) as other:
        sent = [
            MetadataRequest_v1([]),
            MetadataRequest_v1([]),
            HeartbeatRequest_v1("g", 1, "m"),
            MetadataRequest_v1([]),
        ]
        began = time.monotonic()
        for request in sent:
            client.send(request)
        client.receive(sent[0])
        assert time.monotonic() - began < 0.3
        other.send(sent[2])
        assert other.receive(sent[2]).error_code == 51
        assert time.monotonic() - began < 0.4
        client.receive(sent[1])
        assert time.monotonic() - began > 0.4
        assert client.receive(sent[2]).error_code == 51
        client.receive(sent[3])


def test_which_requests_a_rule_is_about(proxy: KafkaProxy) -> None:
    """The nth, then every so many, so many times; of a client; with the right fields."""
    beat = HeartbeatRequest_v1("g", 1, "m")
    with closing(RawClient(proxy.port, "one")) as client, closing(RawClient(proxy.port, "two")) as other:

        def struck(*requests: Any, by: RawClient = client) -> list[bool]:
            codes = []
            for request in requests:
                by.send(request)
                codes.append(by.receive(request).error_code)
            return [code == 51 for code in codes]

        rule = proxy.on(Api.HEARTBEAT, AnswerWith(51), nth=2, every=3, times=2, client="one")
        assert struck(*[beat] * 9) == [False, True, False, False, True, False, False, False, False]
        assert (rule.seen, rule.struck) == (9, 2)
        assert struck(beat, by=other) == [False]
        assert rule.seen == 9
        proxy.clear()
        proxy.on(Api.HEARTBEAT, AnswerWith(51), times=None, where=lambda fields: fields["group"] == "mine")
        mine = HeartbeatRequest_v1("mine", 1, "m")
        assert struck(mine, beat, mine) == [True, False, True]
        assert struck(mine, by=other) == [True]
    assert proxy.struck == {Api.HEARTBEAT: 5}


@pytest.mark.parametrize("close", [True, False])
def test_an_end_that_comes_late_ends_the_next_transaction(
    broker: Kafka, proxy: KafkaProxy, topic: str, close: bool
) -> None:
    """Jepsen's case: what was held back reaches the broker when the producer, which has tried again, is in the next
    transaction already: that is committed against the producer's will."""
    rule = proxy.on(Api.END_TXN, HoldBack(close=close))

    async def use(producer: Any) -> None:
        await transaction(topic, "first")(producer)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"second")
        # the first transaction was ended at the second try
        assert (proxy.passed[Api.END_TXN], proxy.struck[Api.END_TXN]) == (1, 1)
        assert await asyncio.to_thread(rule.deliver) == [0]
        assert await asyncio.to_thread(values, broker, topic) == ["first", "second"]

    with_producer(proxy, use, transactional_id=broker.unique("x"))
    assert rule.codes == [[0]]


def test_held_back_for_a_time(broker: Kafka, proxy: KafkaProxy, topic: str) -> None:
    rule = proxy.on(Api.END_TXN, HoldBack(seconds=0.5))
    began = time.monotonic()
    with_producer(proxy, transaction(topic, "a"), transactional_id=broker.unique("x"))
    assert time.monotonic() - began < 0.5
    rule.wait_delivered()
    assert time.monotonic() - began > 0.5
    # it is the same that has been done meanwhile
    assert rule.codes == [[0]]
    assert values(broker, topic) == ["a"]


def test_all_connections_stand_still_or_are_cut(proxy: KafkaProxy) -> None:
    request = MetadataRequest_v1([])
    with closing(RawClient(proxy.port)) as client:
        proxy.stall()
        client.send(request)
        with pytest.raises(TimeoutError):
            client.receive(request, seconds=0.3)
    with closing(RawClient(proxy.port)) as client:
        client.send(request)
        time.sleep(0.2)
        assert not proxy.passed
        proxy.go_on()
        client.receive(request)
        proxy.cut()
        with pytest.raises(ConnectionError):
            client.receive(request)
    with closing(RawClient(proxy.port)) as client:
        client.send(request)
        client.receive(request)


def test_a_broker_that_is_killed_behind_the_proxy(proxied_kafka: tuple[KafkaBroker, KafkaProxy]) -> None:
    """Its clients lose their connections, are refused while it is down, and come back to it."""
    broker, proxy = proxied_kafka
    topic, request = broker.create_topic("t"), MetadataRequest_v1([])
    with closing(RawClient(proxy.port)) as before:
        before.send(request)
        assert [node[2] for node in before.receive(request).brokers] == [proxy.port]
        broker.kill()
        with pytest.raises(ConnectionError):
            before.receive(request)
    with closing(RawClient(proxy.port)) as meanwhile, pytest.raises(ConnectionError):
        meanwhile.receive(request)
    broker.start()
    Kafka(proxy.servers).produce(topic, [("k", "v")])
    assert values(broker, topic) == ["v"]
    assert proxy.passed[Api.PRODUCE] == 1


class RawClient:
    """Sends requests without waiting for answers, and reads those one by one."""

    def __init__(self, port: int, name: str = "raw") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._name = name
        self._sent = 0
        self._received = 0

    def send(self, request: Any) -> None:
        self._sent += 1
        frame = request.build_request_header(self._sent, self._name).encode() + request.encode()
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self, request: Any, seconds: float = 10.0) -> Any:
        """The next answer, to this request."""
        self._socket.settimeout(seconds)
        (size,) = struct.unpack(">i", self._exactly(4))
        frame = BytesIO(self._exactly(size))
        self._received += 1
        assert request.parse_response_header(frame).correlation_id == self._received
        answer = request.RESPONSE_TYPE.decode(frame)
        assert not frame.read(), "more than the answer"
        return answer

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self._socket.recv(size - len(found))
            if not more:
                raise ConnectionError("closed")
            found += more
        return found
