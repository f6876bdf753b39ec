"""Checks of the topics that a job reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostinato.server.doctor.findings import Check, Finding, error, note, ok, span, warning
from ostinato.server.doctor.kafka_facts import KafkaFacts, Topic

_CLOCK_MS: Final = 1_000
_FUTURE_MS: Final = 60_000
"""Records that are from so far in the future were not made by a clock that is only a bit fast."""


def there(facts: KafkaFacts) -> Iterator[Finding]:
    """Are all topics there?"""
    for name in dict.fromkeys([*facts.inputs, *facts.outputs]):
        subject = f"topic {name}"
        if name in facts.topics:
            yield ok(subject, f"there, {len(facts.topics[name].partitions)} partition(s)")
        elif name in facts.denied:
            yield error(
                subject,
                "may not be seen",
                "the job's user needs Describe, and Read or Write",
                acl(facts, f"--topic {name}", "Describe", "Read" if name in facts.inputs else "Write"),
            )
        else:
            yield from _missing(facts, name)
    for name in facts.job.own_topics:
        if name not in facts.topics:
            yield from _own_missing(facts, name)
    for pattern, names in facts.patterns.items():
        if not names:
            yield warning(
                f"topics like {pattern}",
                "there is none",
                "nothing is read until there is one",
                "correct topic_pattern, which has to match whole names; is the user allowed to Describe the topics?",
            )


def _missing(facts: KafkaFacts, name: str) -> Iterator[Finding]:
    subject = f"topic {name}"
    copies = min(3, len(facts.brokers))
    like = next((facts.topics[each] for each in facts.inputs if each in facts.topics), None)
    create = (
        f"kafka-topics.sh --bootstrap-server {facts.servers} --create --topic {name} --partitions "
        f"{len(like.partitions) if like else 8} --replication-factor {copies}"
    )
    made = facts.broker_text("auto.create.topics.enable")
    written = [target.kafka.topic for target in facts.job.targets]
    if name == facts.job.dead_letters and name not in written:
        yield warning(
            subject,
            "is not there",
            "records that cannot be used go there; whether the first of them makes it or stops the job is up to the "
            "broker",
            create,
        )
    elif name in facts.inputs:
        yield error(subject, "is not there", "there is nothing to read", f"{create}, or correct its name")
    elif made is not None and "true" in made:
        number, factor = facts.broker_number("num.partitions"), facts.broker_number("default.replication.factor")
        yield warning(
            subject,
            f"is not there; auto.create.topics.enable makes it with {number} partition(s) and {factor} replica(s)",
            "a name that is misspelt becomes a topic, and nobody has chosen how it keeps what is in it",
            f"{create} --config min.insync.replicas={max(1, copies - 1)}",
        )
    else:
        yield error(subject, "is not there", "nothing can be written", f"{create}, or correct its name")


def _own_missing(facts: KafkaFacts, name: str) -> Iterator[Finding]:
    """A topic of the job's own, which it makes itself."""
    copies = min(3, len(facts.brokers))
    create = f"kafka-topics.sh --bootstrap-server {facts.servers} --create --topic {name} --replication-factor {copies}"
    if facts.cluster_operations is not None and "Create" not in facts.cluster_operations:
        yield error(
            f"topic {name}",
            "is not there, and the user may not make it",
            "events are brought to the partition of their key through it; the job does not start",
            f"{acl(facts, f'--topic {name}', 'Create', 'Read', 'Write')}, or {create} --partitions NUMBER",
        )
        return
    factor = facts.broker_number("default.replication.factor")
    yield note(
        f"topic {name}",
        f"is not there; the job makes it, with {'as many' if factor is None else factor} replica(s) as by default",
        "events are brought to the partition of their key through it: it is to be kept as long, and as well, as input",
        f"{create} --partitions NUMBER --config retention.ms={facts.job.needed_ms} before the job starts, to choose",
    )


def leaders(facts: KafkaFacts) -> Iterator[Finding]:
    """Can every partition be read and written right now?"""
    for topic in _all(facts):
        gone = [part.number for part in topic.partitions if part.leader < 0]
        least = topic.number("min.insync.replicas") or 1
        few = [part.number for part in topic.partitions if part.leader >= 0 and len(part.isr) < least]
        behind = [part.number for part in topic.partitions if part.leader >= 0 and len(part.isr) < len(part.replicas)]
        subject = f"topic {topic.name}"
        if gone:
            yield error(
                subject,
                f"{_numbered(gone)} without a leader",
                "nothing can be read from there or written there",
                f"start the brokers that have it: kafka-topics.sh --bootstrap-server {facts.servers} --describe "
                "--unavailable-partitions",
            )
        if few and topic.name in facts.outputs:
            yield error(
                subject,
                f"{_numbered(few)} with fewer replicas in sync than min.insync.replicas {least}",
                "brokers refuse what is written there",
                f"start the brokers that are missing: kafka-topics.sh --bootstrap-server {facts.servers} --describe "
                "--under-min-isr-partitions",
            )
        elif behind:
            yield warning(
                subject,
                f"{_numbered(behind)} with a replica that is behind",
                "one more broker that fails may cost what is in it",
                f"look after the brokers: kafka-topics.sh --bootstrap-server {facts.servers} --describe "
                "--under-replicated-partitions",
            )
        if not gone and not few and not behind:
            yield ok(subject, "every partition has a leader and all of its replicas")


def partitions(facts: KafkaFacts) -> Iterator[Finding]:
    """Have the input topics, which are worked on partition by partition, the same number of them?"""
    rekeyed = {name for s in facts.job.sources if s.kafka.keying == "rekey" for name in facts.topics_of(s.stream)}
    if not facts.job.partitioned:
        return
    counts = {
        name: len(facts.topics[name].partitions)
        for name in [*facts.inputs, *facts.rekeyed]
        if name in facts.topics and name not in rekeyed
    }
    if len(counts) < 2:
        return
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    if len(set(counts.values())) > 1:
        most = max(counts.values())
        fewer = next(name for name, count in counts.items() if count < most)
        yield error(
            f"topics {', '.join(counts)}",
            f"numbers of partitions differ: {said}",
            "partition p of each of them is worked on together: the same key would be in different places",
            f"kafka-topics.sh --bootstrap-server {facts.servers} --alter --topic {fewer} --partitions {most}"
            ", for a topic whose records are written anew (keys move to other partitions); else keying = 'rekey'",
        )
    else:
        yield ok(f"topics {', '.join(counts)}", f"the same number of partitions: {said}")


def copies(facts: KafkaFacts) -> Iterator[Finding]:
    """Does what was acknowledged outlive the loss of a broker, and can be written while one is away?"""
    for topic in _all(facts):
        if not topic.partitions:
            continue
        subject, factor = f"topic {topic.name}", topic.replication
        least = topic.number("min.insync.replicas")
        what = "acknowledged matches" if topic.name in facts.outputs else "events that were not yet worked on"
        if factor < 2:
            yield warning(
                subject,
                "replication factor 1",
                f"a disk that is lost takes {what} with it, whatever is said about acks",
                "give it 3 replicas (kafka-reassign-partitions.sh) and min.insync.replicas=2; fine on a machine to try "
                "things out",
            )
        elif least is None:
            yield ok(subject, f"replication factor {factor}")
        elif least > factor:
            yield error(
                subject,
                f"min.insync.replicas is {least}, with {factor} replicas",
                "nothing can ever be written there",
                _config(facts, topic.name, f"min.insync.replicas={factor - 1}"),
            )
        elif least < 2:
            yield warning(
                subject,
                f"replication factor {factor}, but min.insync.replicas is 1",
                f"with acks=all one broker alone may acknowledge, and take {what} with it",
                _config(facts, topic.name, "min.insync.replicas=2"),
            )
        elif least == factor:
            yield warning(
                subject,
                f"min.insync.replicas is {least}, as many as there are replicas",
                "nothing can be written while a single broker is away: the job waits",
                "give it one more replica (kafka-reassign-partitions.sh), or "
                + _config(facts, topic.name, f"min.insync.replicas={factor - 1}"),
            )
        else:
            yield ok(subject, f"replication factor {factor}, min.insync.replicas {least}")


def unclean(facts: KafkaFacts) -> Iterator[Finding]:
    """May a broker that lacks the newest records become the leader?"""
    for topic in _all(facts):
        value = topic.text("unclean.leader.election.enable")
        if value == "true":
            yield warning(
                f"topic {topic.name}",
                "unclean.leader.election.enable is true",
                "a broker that lacks the newest records may become the leader: what was acknowledged is gone, offsets "
                "are given a second time, and snapshots no longer fit the input",
                _config(facts, topic.name, "unclean.leader.election.enable=false"),
            )
        elif value is not None:
            yield ok(f"topic {topic.name}", "unclean.leader.election.enable is false")


def retention(facts: KafkaFacts) -> Iterator[Finding]:
    """Is input kept for as long as a replay after an outage goes back?"""
    job = facts.job
    needed = job.needed_ms
    parts = f"within {span(job.span_ms)} + delay {span(job.delay_ms)} + outage {span(job.outage_ms)}"
    for topic in _read(facts):
        subject, kept, size = f"topic {topic.name}", topic.number("retention.ms"), topic.number("retention.bytes")
        if kept is not None and 0 <= kept < needed:
            yield error(
                subject,
                f"retention.ms is {kept} ({span(kept)}), less than {span(needed)} ({parts})",
                "after an outage events are gone before they were read, and a snapshot that is lost cannot be made "
                "again from them",
                f"{_config(facts, topic.name, f'retention.ms={needed}')}, or say with --outage that less will do",
            )
        elif kept is not None:
            said = "for ever" if kept < 0 else f"for {span(kept)}"
            yield ok(subject, f"keeps records {said}; {span(needed)} are needed")
        if size is not None and size >= 0:
            yield warning(
                subject,
                f"retention.bytes is {size}",
                f"a partition that has grown so large loses its oldest records, however young they are; {span(needed)} "
                "of them are needed",
                f"{_config(facts, topic.name, 'retention.bytes=-1')}, or make sure that so much is never written in "
                f"{span(needed)}",
            )
    if job.unbounded and facts.inputs:
        yield note(
            ", ".join(job.unbounded),
            "nothing says how long a match may take (no `within`)",
            "a snapshot that is lost cannot be made again by replay, however long input is kept",
            "give each pattern a `within`, and keep more than one snapshot",
        )


def deleted(facts: KafkaFacts) -> Iterator[Finding]:
    """Is what the job has to read next still there?"""
    for topic in _read(facts):
        lost = [
            part
            for part in topic.partitions
            if part.committed is not None and part.start is not None and part.committed < part.start
        ]
        ahead = [
            part
            for part in topic.partitions
            if part.committed is not None and part.end is not None and part.committed > part.end
        ]
        subject = f"topic {topic.name}"
        if lost:
            count = sum((part.start or 0) - (part.committed or 0) for part in lost)
            yield error(
                subject,
                f"{_numbered([part.number for part in lost])}: {count} records after the committed offset are deleted",
                "they were never worked on; unless on_lost_offsets says otherwise, the job refuses to start",
                "keep records for longer (see retention.ms), and choose on_lost_offsets = 'earliest' or 'latest' to go "
                "on without them",
            )
        if ahead:
            yield error(
                subject,
                f"{_numbered([part.number for part in ahead])}: ends before the committed offset",
                "the topic was made anew, or a broker has lost what it had: the job's state does not fit it",
                "begin under another --name, or take back what happened to the topic",
            )
        if not lost and not ahead and any(part.committed is not None for part in topic.partitions):
            yield ok(subject, "what comes after the committed offsets is there")


def compaction(facts: KafkaFacts) -> Iterator[Finding]:
    """Are records kept, of whatever key?"""
    for topic in _all(facts):
        policy = topic.text("cleanup.policy")
        if policy is not None and "compact" in policy:
            lost = "matches" if topic.name in facts.outputs else "events, which replay would need,"
            yield error(
                f"topic {topic.name}",
                f"cleanup.policy is {policy}",
                f"of each key only the last record is kept: earlier {lost} are deleted",
                _config(facts, topic.name, "cleanup.policy=delete"),
            )
        elif policy is not None:
            yield ok(f"topic {topic.name}", f"cleanup.policy is {policy}")


def timestamps(facts: KafkaFacts) -> Iterator[Finding]:
    """Whose clock is in the records, and does it go right?"""
    for topic in _read(facts):
        subject, kind = f"topic {topic.name}", topic.text("message.timestamp.type")
        if kind == "LogAppendTime":
            yield note(
                subject,
                "message.timestamp.type is LogAppendTime",
                "a column from metadata 'timestamp' is when the broker got the event, not when it happened",
                "take the time of events from a column of theirs, or "
                + _config(facts, topic.name, "message.timestamp.type=CreateTime"),
            )
        elif kind is not None:
            yield ok(subject, f"message.timestamp.type is {kind}")
        newest = [part.newest_ms for part in topic.partitions if part.newest_ms is not None]
        ahead = max(newest, default=0) - facts.now_ms
        # an append time is by the broker's clock, when it was appended: it cannot be in the future at all
        if ahead > (_CLOCK_MS if kind == "LogAppendTime" else _FUTURE_MS):
            who = "the brokers' clock" if kind == "LogAppendTime" else "a producer's clock"
            yield warning(
                subject,
                f"has a record that is {span(ahead)} ahead of this machine's clock",
                f"{who} or this one's goes wrong; where event time is made from it, all other events are late, and "
                "retention keeps it longer",
                "set the clocks (NTP), and give the stream a `max ahead`",
            )
    for name in facts.outputs:
        output = facts.topics.get(name)
        if output is not None and output.text("message.timestamp.type") == "LogAppendTime":
            yield note(
                f"topic {name}",
                "message.timestamp.type is LogAppendTime",
                "readers see when a match was written in place of when it happened, which is in its headers only",
                _config(facts, name, "message.timestamp.type=CreateTime"),
            )


def sizes(facts: KafkaFacts) -> Iterator[Finding]:
    """Does a topic take the largest match?"""
    for target in facts.job.targets:
        topic = facts.topics.get(target.kafka.topic)
        most = None if topic is None else topic.number("max.message.bytes")
        if most is None:
            continue
        subject, asked = f"topic {target.kafka.topic}", target.kafka.max_request_size
        if most < asked:
            yield warning(
                subject,
                f"max.message.bytes is {most}, less than max_request_size {asked} of output {target.stream}",
                "a match between the two is refused by the broker, and the job fails on it again and again",
                f"{_config(facts, topic.name if topic else '', f'max.message.bytes={asked + 76}')}, or write "
                f"max_request_size = {most} in the program",
            )
        else:
            yield ok(subject, f"max.message.bytes is {most}, max_request_size {asked}")


def _all(facts: KafkaFacts) -> list[Topic]:
    """All topics of the job that are there."""
    names = dict.fromkeys([*facts.inputs, *facts.rekeyed, *facts.outputs])
    return [facts.topics[name] for name in names if name in facts.topics]


def _read(facts: KafkaFacts) -> list[Topic]:
    """Those that are read, the job's own among them."""
    names = dict.fromkeys([*facts.inputs, *facts.rekeyed])
    return [facts.topics[name] for name in names if name in facts.topics]


def _numbered(numbers: list[int]) -> str:
    """``partition 3``, ``partitions 0, 1, 2 and 7 more``"""
    shown = ", ".join(map(str, numbers[:3])) + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")
    return f"partition{'s' * (len(numbers) > 1)} {shown}"


def _config(facts: KafkaFacts, topic: str, setting: str) -> str:
    """The command that changes a setting of a topic."""
    return (
        f"kafka-configs.sh --bootstrap-server {facts.servers} --alter --entity-type topics --entity-name {topic} "
        f"--add-config {setting}"
    )


def acl(facts: KafkaFacts, resource: str, *operations: str) -> str:
    """The command that allows something."""
    allowed = " ".join(f"--operation {each}" for each in operations)
    return f"kafka-acls.sh --bootstrap-server {facts.servers} --add --allow-principal User:NAME {allowed} {resource}"


CHECKS: Final[tuple[Check[KafkaFacts], ...]] = (
    Check("kafka.topics", "topics are there; what makes a missing one (`auto.create.topics.enable`)", there),
    Check("kafka.leaders", "every partition has a leader, and replicas enough to be written", leaders),
    Check("kafka.partitions", "input topics that are read together have the same number of partitions", partitions),
    Check("kafka.copies", "replication factor and `min.insync.replicas`", copies),
    Check("kafka.unclean", "`unclean.leader.election.enable` is false", unclean),
    Check(
        "kafka.retention",
        "`retention.ms` and `retention.bytes` of input topics, and of the job's own, against the longest `within` + "
        "delay + outage",
        retention,
    ),
    Check("kafka.deleted", "what the job has to read next has not been deleted", deleted),
    Check("kafka.compaction", "`cleanup.policy` is not compact", compaction),
    Check("kafka.timestamps", "`message.timestamp.type`, and no record from the future", timestamps),
    Check("kafka.sizes", "`max.message.bytes` takes what `max_request_size` allows", sizes),
)
