"""Checks of transactions that are open, and of what the job's user may do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostinato.server.doctor.findings import Check, Finding, error, note, ok, span, warning
from ostinato.server.doctor.kafka_facts import KafkaFacts, OpenTransaction, Partition, Topic
from ostinato.server.doctor.kafka_topics import acl

PATIENCE_MS: Final = 60_000
"""A transaction that is open for longer holds up readers for longer than any commit interval explains."""
MAX_TIMEOUT_MS: Final = 900_000
"""Kafka's own default of ``transaction.max.timeout.ms``."""
_GROUP_DENIED: Final = 30
_ID_DENIED: Final = 53
_PREFIXED: Final = "--resource-pattern-type prefixed"


def hanging(facts: KafkaFacts) -> Iterator[Finding]:
    """Does a transaction hold up those who read committed records?"""
    found = False
    for topic in facts.topics.values():
        for part in topic.partitions:
            for each in part.open:
                finding = _held_up(facts, topic, part, each)
                found = found or finding.severity > 0
                yield finding
            if not part.open and part.stable is not None and part.end is not None and part.stable < part.end:
                found = True
                yield note(
                    f"topic {topic.name}",
                    f"partition {part.number}: a transaction was open at offset {part.stable} when it was looked at",
                    "readers of committed records wait for its end; nobody could say how old it is",
                    f"kafka-transactions.sh --bootstrap-server {facts.servers} find-hanging --topic {topic.name}",
                )
    if not found:
        yield ok(f"kafka {facts.servers}", "no transaction holds up readers")


def _held_up(facts: KafkaFacts, topic: Topic, part: Partition, open_: OpenTransaction) -> Finding:
    subject = f"topic {topic.name}"
    age = max(0, facts.now_ms - (open_.last_ms if open_.started_ms is None else open_.started_ms))
    waiting = (part.end or 0) - (part.stable or 0)
    who = f"of {open_.id}" if open_.id is not None else f"of producer {open_.producer_id}, whose name is not known,"
    what = f"partition {part.number}: a transaction {who} is open for {span(age)}, {waiting} record(s) wait behind it"
    most = facts.broker_number("transaction.max.timeout.ms") or MAX_TIMEOUT_MS
    limit = open_.timeout_ms if open_.timeout_ms is not None else most
    if age <= PATIENCE_MS and age <= limit:
        return ok(subject, what)
    hung = age > limit + PATIENCE_MS
    find = (
        f"kafka-transactions.sh --bootstrap-server {facts.servers} find-hanging --broker-id {part.leader} "
        f"--max-transaction-timeout {max(1, most // 60_000)}"
    )
    abort = (
        f"kafka-transactions.sh --bootstrap-server {facts.servers} abort --topic {topic.name} --partition "
        f"{part.number} --start-offset {open_.start_offset}"
    )
    why = "readers of committed records wait for its end, and compaction with them"
    if hung:
        return error(subject, what + f", longer than its timeout of {span(limit)}", why, f"{find}, then {abort}")
    return warning(
        subject,
        what,
        f"{why}; the broker aborts it {span(limit)} after it began",
        f"look after its producer; if it is gone: {find}, then {abort}",
    )


def allowed(facts: KafkaFacts) -> Iterator[Finding]:
    """May the job do what it does?"""
    wanted: dict[str, dict[str, None]] = {}
    for name in facts.inputs:
        wanted.setdefault(name, {})["Read"] = None
    for name in facts.outputs:
        wanted.setdefault(name, {})["Write"] = None
    for name in facts.rekeyed:
        wanted.setdefault(name, {}).update(Read=None, Write=None)
    for name, operations in wanted.items():
        topic = facts.topics.get(name)
        if topic is None or topic.operations is None:
            continue
        missing = [each for each in operations if each not in topic.operations]
        if missing:
            yield error(
                f"topic {name}",
                f"the user may not {' and '.join(missing)}",
                "the job is refused there",
                acl(facts, f"--topic {name}", *missing),
            )
        else:
            yield ok(f"topic {name}", f"the user may {' and '.join(operations)}")
    if facts.job.sources:
        yield from _group(facts)
    for name, code in facts.transaction_errors.items():
        if code == _ID_DENIED:
            yield error(
                f"transactional id {name}",
                "the user may not Write",
                "its producers are refused, and nothing is delivered exactly once",
                acl(facts, f"{_PREFIXED} --transactional-id {facts.job.transactional_ids}", "Describe", "Write"),
            )
        else:
            yield ok(f"transactional id {name}", "the user may Write")


def _group(facts: KafkaFacts) -> Iterator[Finding]:
    group = facts.job.name
    if facts.group_error == _GROUP_DENIED:
        yield error(
            f"group {group}",
            "the user may not Read",
            "it may not be a member, nor commit offsets",
            acl(facts, f"--group {group}", "Describe", "Read"),
        )
    elif facts.group_error:
        yield ok(f"group {group}", "the user may Read")


def delivery(facts: KafkaFacts) -> Iterator[Finding]:
    """Can what says exactly once be delivered so?"""
    job, subject = facts.job, f"kafka {facts.servers}"
    if job.elsewhere and not job.others:
        yield error(
            subject,
            f"other topics of the job are at {', '.join(job.elsewhere)}",
            "offsets and matches belong to one transaction, which cannot reach over several clusters; the job refuses "
            "to start",
            "read and write in one cluster, and copy what has to be elsewhere (MirrorMaker)",
        )
    elif job.others and job.transactional:
        yield error(
            f"output {', '.join(target.stream for target in job.targets)}",
            f"delivery is exactly_once, and {', '.join(job.others)} is not in Kafka",
            "offsets and matches belong to one transaction, which knows of nothing outside of Kafka; the job refuses "
            "to start",
            "read and write Kafka only, or write delivery = 'at_least_once'",
        )
    elif job.transactional:
        yield ok(subject, "has both input and output of the job")
    for source in job.sources:
        if source.kafka.isolation != "read_committed":
            yield warning(
                f"stream {source.stream}",
                f"isolation_level is {source.kafka.isolation}",
                "events of transactions that are aborted later are matched, too",
                "write isolation_level = 'read_committed' (the default) in the program",
            )


CHECKS: Final[tuple[Check[KafkaFacts], ...]] = (
    Check(
        "kafka.hanging",
        "no transaction is open for long (last stable offset behind the high watermark); without a program: in all "
        "topics",
        hanging,
    ),
    Check("kafka.allowed", "the user may read, write, be in the group, and use the transactional ids", allowed),
    Check(
        "kafka.delivery",
        "what says `exactly_once` has all input and output in one cluster, and reads what is committed",
        delivery,
    ),
)
