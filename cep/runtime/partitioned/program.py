"""From a program to a job between topics: does it run by partitions, and with what?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ostinato.cep.connectors.base import ConnectorError
from ostinato.cep.connectors.factory import KAFKA
from ostinato.cep.connectors.kafka.options import KafkaTarget, source_options, target_options
from ostinato.cep.runtime.partitioned.rekey import Rekeyed
from ostinato.cep.runtime.partitioned.setup import INTERVAL_MS, KEY_GROUPS, LostSnapshot, Setup, routes_of
from ostinato.patterns.ast import Connector, OutputDecl, Stream

if TYPE_CHECKING:
    from ostinato.cep.runtime.job import Definition
    from ostinato.cep.runtime.partitioned.snapshots import Stores
    from ostinato.cep.runtime.plan import Plan


def has_topics(outputs: Sequence[OutputDecl]) -> bool:
    """Is anything written to a topic?"""
    return any(output.sink.kind == KAFKA for output in outputs)


def runs_by_partitions(plan: Plan, outputs: Sequence[OutputDecl]) -> bool:
    """Do all sources read topics, and does all that comes out go to topics?

    Raises ConnectorError where something is to be written exactly once to a topic, and not everything else is a topic.
    """
    reading = [stream.source is not None and stream.source.kind == KAFKA for stream in plan.sources]
    writing = [output.sink.kind == KAFKA for output in outputs]
    claimed = {output.stream for output in outputs}
    if all(reading) and all(writing) and claimed and set(plan.delivered) <= claimed:
        return True
    for output in outputs:
        if (
            output.sink.kind == KAFKA
            and target_options(output.sink, f"output {output.stream}").delivery == "exactly_once"
        ):
            raise ConnectorError(
                f"output {output.stream}: exactly once to a topic needs every source and every output of the program "
                "to be topics, since their offsets and records belong to one transaction; write the others to topics "
                "too, or say delivery = 'at_least_once'"
            )
    return False


def setup_of(
    job: str,
    definition: Definition,
    outputs: Sequence[OutputDecl],
    stores: Stores,
    *,
    dead_letters: str | None = None,
    interval_ms: int | None = None,
    strict: bool = False,
    on_lost_snapshot: LostSnapshot = "rebuild",
) -> Setup:
    """The job of a program for which `runs_by_partitions` holds.

    Args:
        job: its name, and that of its consumer group.
        definition: what it runs.
        outputs: of the program.
        stores: where snapshots go.
        dead_letters: the topic for records that cannot be used; None: ``JOB.dead-letters``.
        interval_ms: from one commit to the next.
        strict, on_lost_snapshot: see `Setup`.

    Raises:
        ConnectorError: what it says of topics does not go together.
    """
    sources = tuple(source_options(_connector(stream), f"stream {stream.name}") for stream in definition.plan.sources)
    servers = {source.connection for source in sources}
    targets: dict[str, list[tuple[Connector, KafkaTarget]]] = {}
    for output in outputs:
        target = target_options(output.sink, f"output {output.stream}")
        servers.add(target.connection)
        targets.setdefault(output.stream, []).append((output.sink, target))
    if len(servers) > 1:
        said = ", ".join(sorted(connection.servers for connection in servers))
        raise ConnectorError(
            f"all topics of a job must be in one cluster, reached in one way (here: {said}): a transaction cannot "
            "reach over several"
        )
    groups = {(each.session_timeout_ms, each.isolation) for each in sources}
    if len(groups) > 1:
        raise ConnectorError("session_timeout_ms and isolation_level must be the same for all sources of a job")
    _refuse_rekeyed_matches(definition.plan)
    for stream, source in zip(definition.plan.sources, sources, strict=True):
        if source.until is not None:
            raise ConnectorError(
                f"stream {stream.name}: until = '{source.until}' is for a job that ends, and one between topics runs "
                "until it is stopped; leave it out, or write to files"
            )
    originals, rekeyed, read = [], [], []
    for number, (stream, source) in enumerate(zip(definition.plan.sources, sources, strict=True)):
        if source.keying != "rekey":
            read.append(source)
            continue
        if source.pattern is not None:
            raise ConnectorError(f"stream {stream.name}: name the topics that are to be rekeyed, instead of a pattern")
        through = f"{job}.{stream.name}.rekey"
        rekeyed.append(Rekeyed(number, source.topics, through, stream.time.idle_ms))
        originals.append(source)
        read.append(replace(source, topics=(through,), keying="trust", start="earliest", on_lost_offsets="fail"))
    routed = [topic for each in rekeyed for topic in each.topics]
    twice = {topic for topic in routed if routed.count(topic) > 1} | set(routed) & {t for s in read for t in s.topics}
    if twice:
        raise ConnectorError(
            f"topic {', '.join(sorted(twice))}: where a topic is rekeyed, one stream only may read it; declare one "
            "stream with all the columns"
        )
    definition = replace(definition, key_groups=KEY_GROUPS, plan=_marked(definition.plan, {r.source for r in rekeyed}))
    first = next(iter(targets.values()))[0][1]
    letters = replace(first, topic=dead_letters or f"{job}.dead-letters", key=())
    return Setup(
        job,
        definition,
        tuple(read),
        routes_of(definition, targets),
        letters,
        stores,
        INTERVAL_MS if interval_ms is None else interval_ms,
        strict,
        on_lost_snapshot,
        tuple(rekeyed),
        tuple(originals),
    )


def _marked(plan: Plan, rekeyed: Collection[int]) -> Plan:
    """The plan, where streams that are rekeyed do not judge idleness themselves: their routers say."""
    sources = tuple(
        replace(stream, time=replace(stream.time, idle_ms=0)) if number in rekeyed else stream
        for number, stream in enumerate(plan.sources)
    )
    return replace(plan, sources=sources)


def _refuse_rekeyed_matches(plan: Plan) -> None:
    for matching in plan.matchings:
        if matching.rekeyed:
            name = matching.stream.name
            makers = matching.patterns[0].pattern.name if matching.patterns else matching.processes[0].name
            raise ConnectorError(
                f"{makers} reads the matches `{name}` by another key than they were found by, so they may be in "
                f"another partition: write {name} to a topic, and read that as a stream with keying = 'rekey'"
            )


def _connector(stream: Stream) -> Connector:
    assert stream.source is not None
    return stream.source
