"""Each check of Kafka is silent where all is well, and speaks where one thing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ostinato.cep.connectors.kafka.options import Connection, KafkaSource, KafkaTarget
from ostinato.server.doctor.examine import every_check, examine_kafka
from ostinato.server.doctor.findings import Finding, Severity
from ostinato.server.doctor.job import Job, Source, Target
from ostinato.server.doctor.kafka_facts import Broker, KafkaFacts, OpenTransaction, Partition, Topic, operations_of

EVERY = {check.name for check in every_check() if check.name.startswith("kafka.")}
LOGGED = "LogAppendTime"
HOUR_MS = 3_600_000
NOW_MS = 1_795_000_000_000
CONNECTION = Connection("k:9092")
ALL = operations_of(0b110111111000)

BROKER = {
    "transaction.max.timeout.ms": "900000",
    "transaction.partition.verification.enable": "true",
    "transactional.id.expiration.ms": "604800000",
    "offsets.retention.minutes": "10080",
    "offset.metadata.max.bytes": "4096",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "default.replication.factor": "1",
}
TOPIC = {
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": "1048588",
}


def topic(name: str, count: int = 2, **partition: Any) -> Topic:
    given: dict[str, Any] = {"leader": 1, "replicas": (1, 2, 3), "isr": (1, 2, 3), "start": 0, "end": 10, "stable": 10}
    parts = tuple(Partition(number, **(given | {"newest_ms": NOW_MS - 5} | partition)) for number in range(count))
    return Topic(name, parts, TOPIC, ALL)


SOURCE = Source("logins", KafkaSource(CONNECTION, ("logins",)), delay_ms=2_000)
TARGET = Target("alerts", KafkaTarget(CONNECTION, "alerts"))
JOB = Job("fraud", "fraud.cep", (SOURCE,), (TARGET,), (), HOUR_MS, (), 100, 24 * HOUR_MS)
TOPICS = ("logins", "alerts", "fraud.dead-letters")
HEALTHY = KafkaFacts(
    JOB,
    "k:9092",
    NOW_MS,
    brokers=tuple(Broker(node, f"k{node}", 9092, configs=BROKER) for node in (1, 2, 3)),
    features={"metadata.version": 27, "transaction.version": 2},
    topics={name: topic(name) for name in (*TOPICS, "__consumer_offsets", "__transaction_state")},
    cluster_operations=ALL,
    group_error=25,
    transaction_errors={"ostinato.fraud.0": 49},
)


def with_broker(**settings: str) -> KafkaFacts:
    """With another setting of one of the brokers; dots are written as underlines."""
    changed = BROKER | {name.replace("_", "."): value for name, value in settings.items()}
    first, *others = HEALTHY.brokers
    return replace(HEALTHY, brokers=(replace(first, configs=changed), *others))


def with_topic(name: str, changed: Topic | None = None, **settings: str) -> KafkaFacts:
    configs = TOPIC | {key.replace("_", "."): value for key, value in settings.items()}
    return replace(HEALTHY, topics={**HEALTHY.topics, name: changed or replace(topic(name), configs=configs)})


def without_topic(name: str, facts: KafkaFacts = HEALTHY) -> KafkaFacts:
    return replace(facts, topics={key: value for key, value in facts.topics.items() if key != name})


def with_job(**changes: Any) -> KafkaFacts:
    return replace(HEALTHY, job=replace(JOB, **changes))


def with_source(**changes: Any) -> KafkaFacts:
    return with_job(sources=(replace(SOURCE, kafka=replace(SOURCE.kafka, **changes)),))


def with_target(**changes: Any) -> KafkaFacts:
    return with_job(targets=(replace(TARGET, kafka=replace(TARGET.kafka, **changes)),))


def with_second(cards: Topic, **changes: Any) -> KafkaFacts:
    """With a second input topic."""
    second = Source("cards", KafkaSource(CONNECTION, ("cards",), **changes))
    return replace(with_topic("cards", cards), job=replace(JOB, sources=(SOURCE, second)))


def rekeyed(partitions: int = 2) -> KafkaFacts:
    """With a stream that is rekeyed, and another one that is not."""
    facts, own = with_second(topic("cards")), topic("fraud.logins.rekey", partitions)
    first = replace(SOURCE, kafka=replace(SOURCE.kafka, keying="rekey"))
    topics = {**facts.topics, "logins": topic("logins", 7), own.name: own}
    return replace(facts, job=replace(facts.job, sources=(first, facts.job.sources[1])), topics=topics)


def wrong(facts: KafkaFacts) -> list[Finding]:
    return [each for each in examine_kafka(facts) if each.severity > Severity.OK]


def open_transaction(age_ms: int, timeout_ms: int | None = 60_000) -> KafkaFacts:
    known = {} if timeout_ms is None else {"id": "ostinato.fraud.1", "timeout_ms": timeout_ms, "state": "Ongoing"}
    started = None if timeout_ms is None else NOW_MS - age_ms
    found = OpenTransaction(17, 4, NOW_MS - age_ms, started_ms=started, **known)  # type: ignore[arg-type]
    return with_topic("alerts", topic("alerts", 1, stable=4, open=(found,)))


def test_a_healthy_cluster_is_left_in_peace_and_every_check_says_so() -> None:
    cards = Source("cards", KafkaSource(CONNECTION, ("cards",)))
    facts = replace(with_topic("logins", topic("logins", committed=3)), job=replace(JOB, sources=(SOURCE, cards)))
    found = list(examine_kafka(replace(facts, topics={**facts.topics, "cards": topic("cards")})))
    assert [each.line for each in found if each.severity > Severity.OK] == []
    # the one that says what could not be asked has nothing to say then
    assert {each.check for each in found} == EVERY - {"kafka.unanswered"}


E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE
CASES: list[tuple[str, Severity, Callable[[], KafkaFacts], str]] = [
    ("kafka.reachable", E, lambda: replace(HEALTHY, unreachable="no answer within 5 s"), "no answer within 5 s"),
    ("kafka.reachable", W, lambda: replace(HEALTHY, silent={"k2:9092": "no answer"}), "bootstrap server k2:9092"),
    (
        "kafka.advertised",
        E,
        lambda: replace(HEALTHY, brokers=(replace(HEALTHY.brokers[0], unreachable="unknown"), *HEALTHY.brokers[1:])),
        "advertised.listeners",
    ),
    ("kafka.version", N, lambda: replace(HEALTHY, features={}), "kafka-features.sh"),
    (
        "kafka.transaction_version",
        N,
        lambda: replace(HEALTHY, features={"metadata.version": 22, "transaction.version": 1}),
        "transaction.version=2",
    ),
    (
        "kafka.transaction_version",
        W,
        lambda: with_broker(transaction_partition_verification_enable="false"),
        "transaction.partition.verification.enable=true",
    ),
    ("kafka.transaction_timeout", E, lambda: with_broker(transaction_max_timeout_ms="30000"), "30000 or less"),
    (
        "kafka.transaction_timeout",
        E,
        lambda: with_target(transaction_timeout_ms=10_000),
        "transaction_timeout_ms = 60000",
    ),
    ("kafka.transactional_ids", W, lambda: with_broker(transactional_id_expiration_ms="3600000"), "604800000"),
    ("kafka.offsets_retention", E, lambda: with_broker(offsets_retention_minutes="60"), "offsets.retention.minutes="),
    ("kafka.offset_metadata", E, lambda: with_broker(offset_metadata_max_bytes="512"), "=4096"),
    ("kafka.sessions", E, lambda: with_broker(group_min_session_timeout_ms="20000"), "session_timeout_ms = 20000"),
    ("kafka.sessions", E, lambda: with_broker(group_max_session_timeout_ms="8000"), "session_timeout_ms = 8000"),
    (
        "kafka.sessions",
        E,
        lambda: with_second(topic("cards"), session_timeout_ms=20_000, heartbeat_interval_ms=3_000),
        "session_timeout_ms = 20000 for each",
    ),
    ("kafka.sessions", W, lambda: with_source(heartbeat_interval_ms=5_000), "heartbeat_interval_ms = 3333"),
    ("kafka.sessions", W, lambda: with_source(max_poll_interval_ms=9_000), "max_poll_interval_ms = 300000"),
    (
        "kafka.own_topics",
        W,
        lambda: with_topic("__consumer_offsets", topic("__consumer_offsets", replicas=(1,), isr=(1,))),
        "offsets.topic.replication.factor=3",
    ),
    (
        "kafka.own_topics",
        E,
        lambda: without_topic("__transaction_state", replace(HEALTHY, brokers=HEALTHY.brokers[:2])),
        "transaction.state.log.replication.factor=2 and transaction.state.log.min.isr=1",
    ),
    ("kafka.own_topics", W, lambda: with_broker(transaction_state_log_min_isr="1"), "min.insync.replicas=2"),
    ("kafka.unanswered", N, lambda: replace(HEALTHY, unanswered=("settings of topic x: no",)), "DescribeConfigs"),
    ("kafka.topics", E, lambda: without_topic("logins"), "--create --topic logins"),
    ("kafka.topics", E, lambda: without_topic("alerts"), "--create --topic alerts --partitions 2"),
    (
        "kafka.topics",
        W,
        lambda: without_topic("alerts", with_broker(auto_create_topics_enable="true")),
        "auto.create.topics.enable",
    ),
    (
        "kafka.topics",
        E,
        lambda: replace(without_topic("logins"), denied=frozenset({"logins"})),
        "--operation Describe --operation Read --topic logins",
    ),
    ("kafka.topics", W, lambda: replace(HEALTHY, patterns={"x.*": ()}), "topic_pattern"),
    ("kafka.leaders", E, lambda: with_topic("logins", topic("logins", leader=-1)), "--unavailable-partitions"),
    ("kafka.leaders", E, lambda: with_topic("alerts", topic("alerts", isr=(1,))), "--under-min-isr-partitions"),
    ("kafka.leaders", W, lambda: with_topic("logins", topic("logins", isr=(1, 2))), "--under-replicated-partitions"),
    (
        "kafka.partitions",
        E,
        lambda: with_second(topic("cards", 3)),
        "logins 2, cards 3",
    ),
    ("kafka.partitions", E, lambda: rekeyed(5), "--topic cards --partitions 5"),
    ("kafka.topics", N, lambda: without_topic("fraud.logins.rekey", rekeyed()), "retention.ms=90002000"),
    (
        "kafka.topics",
        E,
        lambda: replace(without_topic("fraud.logins.rekey", rekeyed()), cluster_operations=frozenset()),
        "--operation Create",
    ),
    ("kafka.topics", W, lambda: without_topic("fraud.dead-letters"), "--create --topic fraud.dead-letters"),
    ("kafka.copies", W, lambda: with_topic("alerts", topic("alerts", replicas=(1,), isr=(1,))), "3 replicas"),
    ("kafka.copies", W, lambda: with_topic("alerts", min_insync_replicas="1"), "min.insync.replicas=2"),
    ("kafka.copies", W, lambda: with_topic("alerts", min_insync_replicas="3"), "min.insync.replicas=2"),
    ("kafka.unclean", W, lambda: with_topic("logins", unclean_leader_election_enable="true"), "enable=false"),
    ("kafka.retention", E, lambda: with_topic("logins", retention_ms="60000"), "retention.ms=90002000"),
    ("kafka.retention", W, lambda: with_topic("logins", retention_bytes="1000000"), "retention.bytes=-1"),
    ("kafka.retention", N, lambda: with_job(unbounded=("pattern p",)), "`within`"),
    ("kafka.deleted", E, lambda: with_topic("logins", topic("logins", start=7, committed=3)), "8 records"),
    ("kafka.deleted", E, lambda: with_topic("logins", topic("logins", committed=11)), "ends before"),
    ("kafka.compaction", E, lambda: with_topic("logins", cleanup_policy="compact"), "cleanup.policy=delete"),
    ("kafka.compaction", E, lambda: with_topic("alerts", cleanup_policy="compact,delete"), "earlier matches"),
    ("kafka.timestamps", N, lambda: with_topic("logins", message_timestamp_type="LogAppendTime"), "CreateTime"),
    ("kafka.timestamps", N, lambda: with_topic("alerts", message_timestamp_type="LogAppendTime"), "CreateTime"),
    ("kafka.timestamps", W, lambda: with_topic("logins", topic("logins", newest_ms=NOW_MS + 86_400_000)), "1 d ahead"),
    ("kafka.sizes", W, lambda: with_topic("alerts", max_message_bytes="1000"), "max_request_size = 1000"),
    ("kafka.hanging", W, lambda: open_transaction(100_000, 900_000), "of ostinato.fraud.1 is open for 1 min 40 s"),
    ("kafka.hanging", E, lambda: open_transaction(200_000), "abort --topic alerts --partition 0 --start-offset 4"),
    ("kafka.hanging", E, lambda: open_transaction(2_000_000, None), "find-hanging --broker-id 1"),
    ("kafka.hanging", N, lambda: with_topic("alerts", topic("alerts", 1, stable=4)), "find-hanging"),
    (
        "kafka.allowed",
        E,
        lambda: with_topic("alerts", replace(topic("alerts"), operations=frozenset({"Describe"}))),
        "--operation Write --topic alerts",
    ),
    ("kafka.allowed", E, lambda: replace(HEALTHY, group_error=30), "--group fraud"),
    (
        "kafka.allowed",
        E,
        lambda: replace(HEALTHY, transaction_errors={"ostinato.fraud.0": 53}),
        "--transactional-id ostinato.fraud.",
    ),
    ("kafka.delivery", E, lambda: with_job(others=("prices",)), "prices"),
    ("kafka.delivery", E, lambda: with_job(elsewhere=("k2:9092",)), "k2:9092"),
    ("kafka.delivery", W, lambda: with_source(isolation="read_uncommitted"), "read_committed"),
]


@pytest.mark.parametrize(
    ("check", "severity", "facts", "words"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_one_thing_that_is_wrong_is_found_by_one_check(
    check: str, severity: Severity, facts: Callable[[], KafkaFacts], words: str
) -> None:
    found = wrong(facts())
    assert [(each.check, each.severity) for each in found if each.check == check] == [(check, severity)], found
    (it,) = (each for each in found if each.check == check)
    assert words in it.line
    assert it.why
    assert it.change
    # where a topic is in trouble, others may have something to say of it; nobody else speaks of other things
    assert {each.check for each in found} <= {check, "kafka.leaders", "kafka.copies", "kafka.own_topics"}, found


def test_every_check_is_seen_to_speak() -> None:
    assert {name for name, *_ in CASES} == EVERY


@pytest.mark.parametrize(
    "facts",
    [
        with_target(delivery="at_least_once", transaction_timeout_ms=1),
        with_topic("logins", retention_ms="-1"),
        with_topic("logins", retention_ms="90002000"),
        with_topic("logins", topic("logins", committed=10)),
        open_transaction(50_000),
        with_topic("logins", topic("logins", newest_ms=NOW_MS + 1_000)),
        rekeyed(),
        with_second(topic("cards")),
        # of another job, or of an earlier program
        with_topic("fraud.other.rekey", topic("fraud.other.rekey", 9)),
    ],
)
def test_what_is_just_good_enough_is_left_in_peace(facts: KafkaFacts) -> None:
    assert wrong(facts) == []


def test_the_clock_of_brokers_that_stamp_records_is_held_to_more() -> None:
    stamped = replace(topic("logins", newest_ms=NOW_MS + 5_000), configs=TOPIC | {"message.timestamp.type": LOGGED})
    (found,) = (each for each in wrong(with_topic("logins", stamped)) if each.severity is Severity.WARNING)
    assert "5 s ahead" in found.what
    assert "the brokers' clock" in found.why


def test_settings_that_nobody_may_see_are_not_made_up() -> None:
    brokers = tuple(replace(broker, configs=None) for broker in HEALTHY.brokers)
    topics = {name: replace(each, configs=None, operations=None) for name, each in HEALTHY.topics.items()}
    assert wrong(replace(HEALTHY, brokers=brokers, topics=topics, group_error=0)) == []


def test_a_cluster_without_a_program_is_asked_about_itself_only() -> None:
    facts = replace(HEALTHY, job=Job(), topics={}, transaction_errors={}, group_error=0)
    assert wrong(facts) == []
    assert {"kafka.offsets_retention", "kafka.own_topics"} <= {each.check for each in examine_kafka(facts)}
