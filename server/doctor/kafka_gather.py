"""Asks a Kafka cluster what the checks want to know. Nothing is changed by it, and nothing waits for long."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.kafka.options import Connection
from ostinato.server.doctor import kafka_wire as wire
from ostinato.server.doctor.job import Job
from ostinato.server.doctor.kafka_facts import (
    OFFSETS_TOPIC,
    TRANSACTIONS_TOPIC,
    Broker,
    KafkaFacts,
    OpenTransaction,
    Partition,
    Topic,
    operations_of,
)
from ostinato.server.doctor.reach import TIMEOUT_SECONDS, hosts_of, unreachable_of

_TOTAL_SECONDS: Final = 30.0
"""A cluster that answers each question just in time is not asked for longer."""
_PARTITIONS: Final = 2_000
"""Without a program, no more partitions are searched for hanging transactions."""
_DENIED: Final = 29
"""TOPIC_AUTHORIZATION_FAILED"""
_BROKER_RESOURCE: Final = 4
_TOPIC_RESOURCE: Final = 2
_NOBODY: Final = (1 << 62) + 1
"""A producer id that no broker gives away for the next aeons."""


def gather(job: Job, connection: Connection) -> KafkaFacts:
    """The facts of the cluster that is reached so; `job` is all of it."""
    facts = KafkaFacts(job.at(connection.servers), connection.servers, round(time.time() * 1000))
    reached = unreachable_of(hosts_of(connection.servers))
    if all(reached.values()):
        return replace(facts, unreachable="; ".join(dict.fromkeys(reached.values())))
    silent = {f"{host}:{port}": reason for (host, port), reason in reached.items() if reason}
    facts = replace(facts, silent=silent)
    try:
        settings = connection.settings()
    except ConnectorError as error:
        return replace(facts, unreachable=str(error))
    # the client would wait for those that do not answer, one after the other
    settings["bootstrap_servers"] = [_joined(host, port) for (host, port), reason in reached.items() if not reason]
    settings["request_timeout_ms"] = round(TIMEOUT_SECONDS * 1000)
    return asyncio.run(_gather(facts, settings))


async def _gather(facts: KafkaFacts, settings: Mapping[str, Any]) -> KafkaFacts:
    with _heard() as said:
        try:
            client = AIOKafkaClient(**settings)
            try:
                await client.bootstrap()
                async with asyncio.timeout(_TOTAL_SECONDS):
                    return await _Cluster(client, facts).examine()
            finally:
                await client.close()
        except TimeoutError:
            return replace(facts, unreachable=f"it answered, and then nothing more within {_TOTAL_SECONDS:g} s")
        except NotImplementedError:
            return replace(facts, unreachable="it is older than Kafka 2.3, and cannot be examined")
        except (KafkaError, OSError, AssertionError, ValueError) as error:
            # the client keeps the reason to itself, and tells only its log
            reason = next((line for line in reversed(said) if line), "") or str(error) or type(error).__name__
            return replace(facts, unreachable=_plainer(reason))


class _Cluster:
    """Asks one question after the other."""

    def __init__(self, client: Any, facts: KafkaFacts) -> None:
        self._client = client
        self._facts = facts
        self._unanswered: list[str] = []
        self._nodes: list[int] = []

    async def examine(self) -> KafkaFacts:
        found = [Broker(each.nodeId, each.host, each.port) for each in self._client.cluster.brokers()]
        found.sort(key=lambda broker: broker.node)
        reached = unreachable_of((broker.host, broker.port) for broker in found)
        found = [replace(each, unreachable=reached[each.host, each.port]) for each in found]
        self._nodes = [each.node for each in found if not each.unreachable]
        if not self._nodes:
            # said by the check of brokers; nothing else can be asked
            return replace(self._facts, brokers=tuple(found))
        metadata = await self._client.send(self._nodes[0], wire.TopicsRequest(None))
        there = {topic[1]: topic for topic in metadata.topics if not topic[0]}
        patterns = self._patterns(there)
        facts = replace(self._facts, patterns=patterns)
        own = (*facts.job.own_topics, OFFSETS_TOPIC, TRANSACTIONS_TOPIC)
        wanted = list(dict.fromkeys([*facts.inputs, *facts.outputs, *own]))
        denied = await self._denied([name for name in wanted if name not in there])
        configs = await self._configs(found, [name for name in wanted if name in there])
        topics = {name: _topic(there[name], configs.get((_TOPIC_RESOURCE, name))) for name in wanted if name in there}
        if facts.job.program is None:
            topics |= {name: _topic(there[name], None) for name in _some(there) if name not in topics}
        topics = await self._with_offsets(topics)
        topics = await self._with_open(topics)
        group_error, topics = await self._with_group(facts.job.name, topics)
        return replace(
            facts,
            brokers=tuple(replace(b, configs=configs.get((_BROKER_RESOURCE, str(b.node)))) for b in found),
            features=await self._features(),
            topics=topics,
            denied=frozenset(denied),
            cluster_operations=operations_of(metadata.operations),
            group_error=group_error,
            transaction_errors=await self._transactional(facts),
            unanswered=tuple(dict.fromkeys(self._unanswered)),
        )

    async def _ask(self, node: int, request: Any, what: str) -> Any:
        """An answer, or None; then what could not be asked is noted."""
        if node not in self._nodes:
            self._unanswered.append(f"{what}: broker {node} cannot be reached")
            return None
        try:
            return await self._client.send(node, request)
        except NotImplementedError:
            self._unanswered.append(f"{what}: broker {node} is too old to say")
        except (KafkaError, TimeoutError, OSError) as error:
            self._unanswered.append(f"{what}: broker {node}: {error or type(error).__name__}")
        return None

    def _patterns(self, there: Iterable[str]) -> dict[str, tuple[str, ...]]:
        patterns = {s.kafka.pattern for s in self._facts.job.sources if s.kafka.pattern is not None}
        return {
            each: tuple(sorted(name for name in there if re.fullmatch(each, name) and not name.startswith("__")))
            for each in patterns
        }

    async def _features(self) -> dict[str, int]:
        answer = await self._ask(self._nodes[0], wire.FeaturesRequest(), "features")
        return {} if answer is None or answer.error_code else wire.finalized_features(answer)

    async def _denied(self, names: list[str]) -> list[str]:
        """Those of the topics that are not listed because we may not see them."""
        if not names:
            return []
        answer = await self._ask(self._nodes[0], wire.TopicsRequest(names), "topics")
        return [] if answer is None else [topic[1] for topic in answer.topics if topic[0] == _DENIED]

    async def _configs(self, brokers: Sequence[Broker], topics: Sequence[str]) -> dict[tuple[int, str], dict[str, str]]:
        """Settings by kind and name; not of those that we may not see."""
        asked = [(broker.node, [(_BROKER_RESOURCE, str(broker.node), None)]) for broker in brokers]
        if topics:
            asked.append((self._nodes[0], [(_TOPIC_RESOURCE, name, None) for name in topics]))
        found = {}
        for node, resources in asked:
            answer = await self._ask(node, DescribeConfigsRequest(resources, False), "settings")
            for code, message, kind, name, entries in answer.resources if answer is not None else ():
                if code:
                    what = "broker" if kind == _BROKER_RESOURCE else "topic"
                    self._unanswered.append(f"settings of {what} {name}: {message or f'error {code}'}")
                else:
                    # what is secret comes as null
                    found[kind, name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        return found

    async def _with_offsets(self, topics: Mapping[str, Topic]) -> dict[str, Topic]:
        starts: dict[tuple[str, int], int] = {}
        ends, stables, newest = dict(starts), dict(starts), dict(starts)
        for node, numbers in _by_leader(topics).items():
            for found, isolation, position in (
                (starts, 0, wire.EARLIEST),
                (stables, 1, wire.LATEST),
                (ends, 0, wire.LATEST),
            ):
                asked = [(name, [(number, position) for number in each]) for name, each in numbers.items()]
                answer = await self._ask(node, OffsetRequest(-1, isolation, asked), "offsets")
                for name, partitions in answer.topics if answer is not None else ():
                    found |= {(name, number): offset for number, code, _, offset in partitions if not code}
            answer = await self._ask(node, wire.NewestRequest(numbers), "newest records")
            for name, partitions, _ in answer.topics if answer is not None else ():
                newest |= {(name, part[0]): part[2] for part in partitions if not part[1] and part[2] >= 0}
        return _with(
            topics,
            lambda name, part: replace(
                part,
                start=starts.get((name, part.number)),
                end=ends.get((name, part.number)),
                stable=stables.get((name, part.number)),
                newest_ms=newest.get((name, part.number)),
            ),
        )

    async def _with_open(self, topics: Mapping[str, Topic]) -> dict[str, Topic]:
        """With the transactions that hold up readers."""
        behind = _with(topics, lambda _, part: part if _is_behind(part) else None)
        open_: dict[tuple[str, int], list[OpenTransaction]] = {}
        for node, numbers in _by_leader(behind).items():
            answer = await self._ask(node, wire.ProducersRequest(numbers), "producers")
            for name, partitions, _ in answer.topics if answer is not None else ():
                for number, code, message, producers, _ in partitions:
                    if code:
                        self._unanswered.append(f"producers of {name}: {message or f'error {code}'}")
                    for producer, _, _, last_ms, _, start, _ in producers:
                        if start >= 0:
                            open_.setdefault((name, number), []).append(OpenTransaction(producer, start, last_ms))
        known = await self._transactions({each.producer_id for found in open_.values() for each in found})
        return _with(
            topics,
            lambda name, part: replace(
                part,
                open=tuple(
                    _completed(each, known.get(each.producer_id), name, part.number)
                    for each in open_.get((name, part.number), ())
                ),
            ),
        )

    async def _transactions(self, producers: set[int]) -> dict[int, Any]:
        """What coordinators know of the transactions of producers."""
        found: dict[int, Any] = {}
        for node in self._nodes if producers else ():
            listed = await self._ask(node, wire.ListedRequest(sorted(producers)), "transactions")
            names = [each[0] for each in listed.transactions] if listed is not None else []
            answer = await self._ask(node, wire.TransactionsRequest(names), "transactions") if names else None
            for each in answer.transactions if answer is not None else ():
                if not each[0]:
                    found[each[5]] = each
        return found

    async def _with_group(self, group: str, topics: Mapping[str, Topic]) -> tuple[int, dict[str, Topic]]:
        """What comes of a heartbeat of a member that the job's group does not have, and where the job goes on.

        The broker looks first whether we may be in the group. Asking for the group's coordinator would make Kafka's own
        topic of offsets, so where there is none, nothing else is asked.
        """
        node = self._nodes[0]
        committed: dict[tuple[str, int], int] = {}
        beat = await self._ask(node, HeartbeatRequest(group, 0, "ostinato-doctor"), "the group")
        if OFFSETS_TOPIC in topics:
            found = await self._ask(node, FindCoordinatorRequest(group, 0), "the group's coordinator")
            if found is not None and not found.error_code:
                offsets = await self._ask(found.coordinator_id, OffsetFetchRequest(group, None), "committed offsets")
                for name, partitions in offsets.topics if offsets is not None else ():
                    committed |= {(name, number): at for number, at, _, code in partitions if not code and at >= 0}
        with_committed = _with(topics, lambda name, part: replace(part, committed=committed.get((name, part.number))))
        return 0 if beat is None else beat.error_code, with_committed

    async def _transactional(self, facts: KafkaFacts) -> dict[str, int]:
        """Whether the job's transactional ids may be used: adding to a transaction of a producer that cannot exist.

        The broker looks first whether we may, and then finds that there is no such transaction.
        """
        if not facts.job.transactional:
            return {}
        name = f"{facts.job.transactional_ids}0"
        request = AddPartitionsToTxnRequest(name, _NOBODY, 0, [(facts.outputs[0], [0])])
        answer = await self._ask(self._nodes[0], request, "transactional ids")
        codes = [code for _, partitions in answer.errors for _, code in partitions] if answer is not None else []
        return {name: codes[0]} if codes else {}


def _topic(found: Any, configs: Mapping[str, str] | None) -> Topic:
    _, name, _, partitions, operations = found
    parts = (Partition(part[1], part[2], tuple(part[4]), tuple(part[5])) for part in partitions)
    return Topic(name, tuple(sorted(parts, key=lambda part: part.number)), configs, operations_of(operations))


def _some(there: Mapping[str, Any]) -> Iterator[str]:
    """Topics that are not Kafka's own, up to so many partitions."""
    room = _PARTITIONS
    for name, found in sorted(there.items()):
        room -= len(found[3])
        if not name.startswith("__") and room >= 0:
            yield name


def _with(topics: Mapping[str, Topic], change: Any) -> dict[str, Topic]:
    """The topics with other partitions; those for which `change` gives None are left out."""
    return {
        name: replace(
            topic, partitions=tuple(new for part in topic.partitions if (new := change(name, part)) is not None)
        )
        for name, topic in topics.items()
    }


def _by_leader(topics: Mapping[str, Topic]) -> dict[int, dict[str, list[int]]]:
    """The partitions of each leader by topic; Kafka's own topics are nobody's business."""
    found: dict[int, dict[str, list[int]]] = {}
    for name, topic in topics.items():
        for part in topic.partitions if not name.startswith("__") else ():
            if part.leader >= 0:
                found.setdefault(part.leader, {}).setdefault(name, []).append(part.number)
    return found


def _is_behind(part: Partition) -> bool:
    return part.stable is not None and part.end is not None and part.stable < part.end


def _completed(found: OpenTransaction, known: Any, name: str, number: int) -> OpenTransaction:
    """With what its coordinator knows, where the transaction that it knows is this one."""
    if known is None:
        return found
    _, id_, state, timeout_ms, started_ms, _, _, topics, _ = known
    if not any(topic == name and number in numbers for topic, numbers, _ in topics):
        return replace(found, id=id_, state=f"{state} without this partition")
    return replace(found, id=id_, state=state, timeout_ms=timeout_ms, started_ms=started_ms)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _plainer(reason: str) -> str:
    """What the client says, without where it says it."""
    reason = re.sub(r'^Unable connect to "[^"]*": ', "", reason)
    if reason.endswith(" closed"):
        return "it closes the connection: is it a Kafka, and is security_protocol that of its listener?"
    if not reason or "TimeoutError" in reason or "RequestTimedOut" in reason:
        return f"it takes the connection, and does not answer within {TIMEOUT_SECONDS:g} s"
    return reason


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the client says in its log; it is not shown."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listener = logging.getLogger("aiokafka"), Listener(logging.WARNING)
    before = logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(listener)
        logger.propagate = before
