"""Checks of brokers and of what is set for all topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostinato.server.doctor.findings import Check, Finding, error, note, ok, span, warning
from ostinato.server.doctor.job import METADATA_BYTES, Job
from ostinato.server.doctor.kafka_facts import OFFSETS_TOPIC, TRANSACTIONS_TOPIC, KafkaFacts

RELEASES: Final = {
    1: "3.0", 2: "3.1", 3: "3.2", 4: "3.3", 8: "3.4", 9: "3.5", 12: "3.6", 15: "3.7", 20: "3.8", 21: "3.9", 22: "4.0",
    26: "4.1", 28: "4.2",
}  # fmt: skip
"""The first ``metadata.version`` of each release of Kafka (``MetadataVersion.java``)."""
LEAST_EXPIRATION_MS: Final = 86_400_000
SLOW_POLL_MS: Final = 60_000


def reachable(facts: KafkaFacts) -> Iterator[Finding]:
    """Is there a broker that answers?"""
    if facts.unreachable:
        yield error(
            subject(facts),
            f"not reachable: {facts.unreachable}",
            "nothing can be read from it or written to it",
            f"start it, or correct bootstrap_servers and security_protocol (or --kafka); is {facts.servers} right?",
        )
    else:
        yield ok(subject(facts), f"reachable, {len(facts.brokers)} broker(s)")
    for server, reason in facts.silent.items():
        yield warning(
            subject(facts),
            f"bootstrap server {server} is not reachable: {reason}",
            "a worker that starts waits for it, and when the others are away as well, it does not start",
            "start it, or take it out of bootstrap_servers",
        )


def advertised(facts: KafkaFacts) -> Iterator[Finding]:
    """Can every broker be reached at the address by which it calls itself?"""
    for broker in facts.brokers:
        name = f"broker {broker.node}"
        if broker.unreachable:
            yield error(
                name,
                f"advertises itself as {broker.address}, which is not reachable from here: {broker.unreachable}",
                "clients go to that address for the partitions that it leads",
                "start it, or set advertised.listeners in its server.properties to an address that this machine knows",
            )
        else:
            yield ok(name, f"reachable at {broker.address}")


def version(facts: KafkaFacts) -> Iterator[Finding]:
    """Which Kafka is it?"""
    level = facts.features.get("metadata.version")
    if level is not None:
        release = RELEASES[max((first for first in RELEASES if first <= level), default=1)]
        yield ok(subject(facts), f"Kafka {release} or later (metadata.version {level})")
        return
    protocol = facts.broker_text("inter.broker.protocol.version")
    if protocol is not None:
        yield ok(subject(facts), f"Kafka with ZooKeeper, inter.broker.protocol.version {protocol}")
    elif not facts.features:
        yield note(
            subject(facts),
            "does not tell its version",
            "what it promises depends on that",
            f"look at it with: kafka-features.sh --bootstrap-server {facts.servers} describe",
        )


def transaction_version(facts: KafkaFacts) -> Iterator[Finding]:
    """Does the broker guard against transactions that hang, and end the wrong one?"""
    if facts.job.program is not None and not facts.job.transactional:
        return
    level = facts.features.get("transaction.version")
    if level is not None and level < 2:
        yield note(
            subject(facts),
            f"transaction.version is {level}",
            "clients that speak it (KIP-890) have a new epoch for each transaction; Ostinato's does not yet, and "
            "throws a producer away after every answer that did not come",
            f"kafka-features.sh --bootstrap-server {facts.servers} upgrade --feature transaction.version=2",
        )
    elif level is not None:
        yield ok(subject(facts), f"transaction.version is {level}")
    verified = facts.broker_text("transaction.partition.verification.enable")
    if verified is not None and "false" in verified:
        yield warning(
            subject(facts),
            "transaction.partition.verification.enable is false",
            "a late write of a client that has gone can open a transaction that nobody ends, and that holds up every "
            "reader of committed records",
            "kafka-configs.sh --bootstrap-server "
            f"{facts.servers} --alter --entity-type brokers --entity-default "
            "--add-config transaction.partition.verification.enable=true",
        )
    elif verified is not None:
        yield ok(subject(facts), "transaction.partition.verification.enable is true")


def transaction_timeout(facts: KafkaFacts) -> Iterator[Finding]:
    """May transactions last as long as the job asks for, and do they last long enough?"""
    most = facts.broker_number("transaction.max.timeout.ms")
    # if anything is written exactly once, everything is: all of it belongs to one transaction
    for target in facts.job.targets if facts.job.transactional else ():
        name, asked = f"output {target.stream}", target.kafka.transaction_timeout_ms
        if most is not None and asked > most:
            yield error(
                name,
                f"transaction_timeout_ms is {asked}, more than the brokers' transaction.max.timeout.ms {most}",
                "the brokers refuse its producer, and the job does not start",
                f"write transaction_timeout_ms = {most} or less in the program, or set transaction.max.timeout.ms="
                f"{asked} in server.properties of every broker",
            )
            continue
        pause = pause_ms(facts.job)
        needed = facts.job.interval_ms + pause
        if asked <= needed:
            yield error(
                name,
                f"transaction_timeout_ms is {asked}, and a commit may take {needed} ms: every "
                f"{span(facts.job.interval_ms)}, plus a pause of up to {span(pause)} (session_timeout_ms)",
                "the brokers abort a transaction that is open for longer and shut its producer out; all since the last "
                "commit is computed again",
                f"write transaction_timeout_ms = {max(60_000, 2 * needed)} in the program",
            )
        else:
            limit = "" if most is None else f", at most {span(most)} is allowed"
            yield ok(name, f"transaction_timeout_ms is {asked}: commits every {span(facts.job.interval_ms)}{limit}")


def transactional_ids(facts: KafkaFacts) -> Iterator[Finding]:
    """Does the broker remember the job's producers for as long as it may stand still?"""
    if facts.job.program is not None and not facts.job.transactional:
        return
    expires = facts.broker_number("transactional.id.expiration.ms")
    if expires is None:
        return
    if expires < max(facts.job.outage_ms, LEAST_EXPIRATION_MS):
        yield warning(
            subject(facts),
            f"transactional.id.expiration.ms is {expires} ({span(expires)})",
            "a producer that has not committed for so long is forgotten: with it goes what shuts out an older one, and "
            "a partition without events costs a new producer",
            "set transactional.id.expiration.ms=604800000 (7 d, the default) in server.properties of every broker",
        )
    else:
        yield ok(subject(facts), f"transactional.id.expiration.ms is {span(expires)}")


def offsets_retention(facts: KafkaFacts) -> Iterator[Finding]:
    """Are committed offsets kept for as long as the job may stand still?"""
    minutes = facts.broker_number("offsets.retention.minutes")
    if minutes is None:
        return
    kept = minutes * 60_000
    if kept < facts.job.outage_ms:
        yield error(
            subject(facts),
            f"offsets.retention.minutes is {minutes} ({span(kept)}), less than the outage of "
            f"{span(facts.job.outage_ms)} that is to be survived",
            "a job that stands still for longer forgets where it was, and with it which snapshot is its own",
            f"set offsets.retention.minutes={max(10_080, -(-facts.job.outage_ms // 60_000))} in server.properties of "
            "every broker",
        )
    else:
        yield ok(subject(facts), f"offsets.retention.minutes is {minutes} ({span(kept)})")


def offset_metadata(facts: KafkaFacts) -> Iterator[Finding]:
    """Is there room beside an offset for the name of its snapshot?"""
    most = facts.broker_number("offset.metadata.max.bytes")
    if most is None:
        return
    if most < METADATA_BYTES:
        yield error(
            subject(facts),
            f"offset.metadata.max.bytes is {most}",
            f"the job keeps up to {METADATA_BYTES} bytes beside each offset: which snapshot belongs to it; its commits "
            "are refused",
            "set offset.metadata.max.bytes=4096 (the default) in server.properties of every broker",
        )
    else:
        yield ok(subject(facts), f"offset.metadata.max.bytes is {most}")


def sessions(facts: KafkaFacts) -> Iterator[Finding]:
    """Are the job's times as a member of a group allowed, and do they go together?"""
    timeouts = {source.stream: source.kafka.session_timeout_ms for source in facts.job.sources}
    if facts.job.partitioned and len(set(timeouts.values())) > 1:
        yield error(
            f"streams {', '.join(timeouts)}",
            f"session_timeout_ms differs: {', '.join(map(str, timeouts.values()))}",
            "a worker is one member of the group for all of them; the job refuses to start",
            f"write session_timeout_ms = {max(timeouts.values())} for each of them",
        )
    least = facts.broker_most("group.min.session.timeout.ms")
    most = facts.broker_number("group.max.session.timeout.ms")
    for source in facts.job.sources:
        name, kafka = f"stream {source.stream}", source.kafka
        session = kafka.session_timeout_ms
        wrong = False
        if least is not None and most is not None and not least <= session <= most:
            wrong = True
            yield error(
                name,
                f"session_timeout_ms is {session}, and the brokers allow {least} to {most}",
                "the brokers do not let it into its consumer group",
                f"write session_timeout_ms = {min(max(session, least), most)} in the program, or set "
                "group.min.session.timeout.ms and group.max.session.timeout.ms in server.properties of every broker",
            )
        if kafka.heartbeat_interval_ms * 3 > session:
            wrong = True
            yield warning(
                name,
                f"heartbeat_interval_ms is {kafka.heartbeat_interval_ms}, more than a third of session_timeout_ms "
                f"{session}",
                "a heartbeat that is lost costs the member its partitions",
                f"write heartbeat_interval_ms = {session // 3} in the program",
            )
        if kafka.max_poll_interval_ms < max(session, SLOW_POLL_MS):
            wrong = True
            yield warning(
                name,
                f"max_poll_interval_ms is {kafka.max_poll_interval_ms}",
                "so long may a member take to commit and hand its partitions over; one that takes longer is thrown out "
                "of the group, and its partitions are taken over while it still works on them",
                f"write max_poll_interval_ms = {max(300_000, session)} in the program",
            )
        if not wrong:
            yield ok(name, f"session_timeout_ms {session}, heartbeat_interval_ms {kafka.heartbeat_interval_ms}")


def own_topics(facts: KafkaFacts) -> Iterator[Finding]:
    """Do Kafka's own topics, of offsets and of transactions, outlive the loss of a broker?"""
    own: dict[str, tuple[str, str | None]] = {OFFSETS_TOPIC: ("offsets.topic.replication.factor", None)}
    if facts.job.program is None or facts.job.transactional:
        own[TRANSACTIONS_TOPIC] = ("transaction.state.log.replication.factor", "transaction.state.log.min.isr")
    for name, (setting, isr_setting) in own.items():
        topic = facts.topics.get(name)
        copies = facts.broker_number(setting) if topic is None else topic.replication
        if copies is None:
            continue
        what = f"{setting} is {copies}" if topic is None else f"has a replication factor of {copies}"
        acks = facts.broker_number(isr_setting) if isr_setting is not None else None
        if topic is None and copies > len(facts.brokers):
            yield error(
                f"topic {name}",
                f"is not there yet, and cannot be made: {what} with {len(facts.brokers)} broker(s)",
                "no transaction can begin and no offset be committed without it",
                f"start more brokers, or set {setting}={len(facts.brokers)}"
                + (f" and {isr_setting}={max(1, len(facts.brokers) - 1)}" if isr_setting else "")
                + " in server.properties",
            )
        elif copies < 2:
            yield warning(
                f"topic {name}",
                what,
                "with the disk of one broker goes the record of what was committed: matches come twice or not at all",
                f"set {setting}=3 before it is made; where it is there: kafka-reassign-partitions.sh",
            )
        elif acks is not None and acks < 2:
            yield warning(
                f"topic {name}",
                f"{isr_setting} is {acks}",
                "a commit that only one broker has may be lost with it",
                f"set {isr_setting}=2; where the topic is there: kafka-configs.sh --bootstrap-server {facts.servers} "
                f"--alter --entity-type topics --entity-name {name} --add-config min.insync.replicas=2",
            )
        else:
            yield ok(f"topic {name}", what)


def unanswered(facts: KafkaFacts) -> Iterator[Finding]:
    """What could not be looked at?"""
    for each in facts.unanswered:
        yield note(
            subject(facts),
            f"could not be asked for {each}",
            "what depends on it was not checked",
            "allow the user DescribeConfigs on the cluster and on its topics, and Describe on groups and transactional "
            "ids (kafka-acls.sh), or look at it yourself",
        )


def subject(facts: KafkaFacts) -> str:
    return f"kafka {facts.servers}"


def pause_ms(job: Job) -> int:
    """For how long a worker may stand still and keep its partitions: its transactions have to outlast that."""
    return max((source.kafka.session_timeout_ms for source in job.sources), default=10_000)


REACHABLE: Final = Check("kafka.reachable", "a broker answers, and every bootstrap server, within 5 s", reachable)
CHECKS: Final[tuple[Check[KafkaFacts], ...]] = (
    Check("kafka.advertised", "every broker is reachable at the address that it advertises", advertised),
    Check("kafka.version", "which Kafka it is", version),
    Check(
        "kafka.transaction_version",
        "`transaction.version`, `transaction.partition.verification.enable`",
        transaction_version,
    ),
    Check(
        "kafka.transaction_timeout",
        "`transaction_timeout_ms` is no more than `transaction.max.timeout.ms`, and more than the commit interval and "
        "the longest pause (`session_timeout_ms`) together",
        transaction_timeout,
    ),
    Check("kafka.transactional_ids", "`transactional.id.expiration.ms` is longer than the outage", transactional_ids),
    Check("kafka.offsets_retention", "`offsets.retention.minutes` is longer than the outage", offsets_retention),
    Check("kafka.offset_metadata", f"`offset.metadata.max.bytes` is {METADATA_BYTES} or more", offset_metadata),
    Check(
        "kafka.sessions",
        "`session_timeout_ms` is within `group.min/max.session.timeout.ms`, `heartbeat_interval_ms` a third of it or "
        "less, `max_poll_interval_ms` long enough to commit",
        sessions,
    ),
    Check(
        "kafka.own_topics",
        "`__consumer_offsets` and `__transaction_state` outlive the loss of a broker, and can be made",
        own_topics,
    ),
    Check("kafka.unanswered", "what could not be asked, and was not checked", unanswered),
)
