"""Taking over a partition, in the one order in which nothing can be lost or come twice.

1. Begin the producer. That fences every earlier producer of the partition, a paused one that does not know that it is
   dead among them, and settles its open transaction: from here on the committed offset cannot change behind our back.
2. Read the committed offset and what is kept with it: the name of its snapshot.
3. Load that snapshot, and no other. Where it is gone or damaged: an older one, or none, and the input in between is
   played again with its output muted, which gives the same state because nothing in it but the input decides.
4. Go on reading where the offset says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, LostOffsetsError
from ostinato.cep.runtime.partitioned.outbox import Outbox
from ostinato.cep.runtime.partitioned.position import Position
from ostinato.cep.runtime.partitioned.rekey import Router
from ostinato.cep.runtime.partitioned.setup import KEY_GROUPS, Setup
from ostinato.cep.runtime.partitioned.snapshots import NoSnapshots, Snapshots, origins_of, rows_of
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.recovery import RestorePoint
from ostinato.cep.runtime.sources import wall_clock
from ostinato.state.errors import DroppedStateError, SnapshotError
from ostinato.state.steps import reached


@dataclass(frozen=True, slots=True)
class LogEnds:
    """Of one topic's partition. `start`: where the job begins where nothing was committed."""

    first: int
    end: int
    start: int


@dataclass(frozen=True, slots=True)
class Committed:
    """What Kafka knows of a partition number.

    Attributes:
        offsets: topic -> where reading goes on; topics of which nothing is committed are not there.
        position: what is kept with them; None where nothing is committed.
        logs: topic -> what there is to read.
        origins: of each source that is rekeyed, the partitions that records come from; else nothing.
        partitions: how many each topic of the job's own has.
    """

    offsets: Mapping[str, int]
    position: Position | None
    logs: Mapping[str, LogEnds]
    origins: Sequence[Sequence[str]] = ()
    partitions: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Loaded:
    """The state of a partition.

    Attributes:
        pipeline: its operators.
        next: topic -> where reading goes on.
        splits: for each source, topic -> the number of the split.
        origins: for each source that is rekeyed, place -> the number of the split; 0 is the job's own topic.
        muted_until: topic -> up to where what comes out has been written before; empty: nothing has.
        watermark: how far time has to have come by then; None: nobody knows.
        began: see `Position`.
        is_new: nothing was committed before.
    """

    pipeline: Pipeline | Router
    outbox: Outbox
    snapshots: Snapshots | NoSnapshots
    next: dict[str, int]
    splits: list[dict[str, int]]
    began: dict[str, int]
    origins: list[dict[str, int]] = field(default_factory=list)
    muted_until: dict[str, int] = field(default_factory=dict)
    watermark: int | None = None
    is_new: bool = False


class LostSnapshotError(SnapshotError):
    """The snapshot of a committed offset is gone, and nothing is left to make it from."""


def load(
    setup: Setup,
    number: int,
    topics: list[list[str]],
    committed: Committed,
    announce: Callable[[str], None],
    *,
    routing: bool,
    unchanged: Callable[[], bool] = lambda: True,
) -> Loaded:
    """Steps 3 and 4; blocks.

    Args:
        setup: the job.
        number: of the partition.
        routing: it is routed, and has no state; see `ostinato.cep.runtime.partitioned.rekey`.
        topics: of each source.
        committed: step 2.
        announce: is given what people should know.
        unchanged: asks whether step 2 would say the same again, and we are still a member of the group.

    Raises:
        LostSnapshotError, LostOffsetsError, SnapshotError, DroppedStateError, StoreError.
    """
    if routing:
        loaded = _route(setup, number, topics, committed)
        _check_logs(setup, number, loaded, committed, announce)
        return loaded
    position = committed.position
    snapshots = Snapshots(setup.stores, number, KEY_GROUPS)
    try:
        snapshots.take(position.snapshot if position is not None else None)
        if position is None:
            loaded = _begin(setup, number, topics, committed, snapshots)
            loaded.is_new = True
        else:
            loaded = _resume(setup, number, topics, committed, position, snapshots, announce, unchanged)
        _check_logs(setup, number, loaded, committed, announce)
    except BaseException:
        snapshots.close()
        raise
    return loaded


def _begin(setup: Setup, number: int, topics: list[list[str]], committed: Committed, snapshots: Snapshots) -> Loaded:
    """From the very start: no state, and input from where the job is to begin, or once began."""
    pipeline, outbox = _make(setup, number)
    began = committed.position.began if committed.position is not None else {}
    splits = _splits(topics)
    origins = [{place: split for split, place in enumerate(places, 1)} for places in committed.origins]
    for intake, own, places in zip(pipeline.intakes, splits, origins, strict=True):
        for split in (places or own).values():
            intake.time.add_split(split, wall_clock())
    every = {topic for own in topics for topic in own}
    place = {topic: began.get(topic, committed.logs[topic].start) for topic in sorted(every)}
    return Loaded(pipeline, outbox, snapshots, dict(place), splits, dict(place), origins)


def _route(setup: Setup, number: int, topics: list[list[str]], committed: Committed) -> Loaded:
    """A router goes on where its offsets are."""
    outbox = Outbox(setup.job, number, {}, setup.dead_letters, strict=setup.strict)
    if not all(committed.partitions.values()):
        raise KafkaUnavailableError(f"partition {number}: the job's own topic is not known yet")
    splits = _splits(topics)
    router = Router(setup, number, outbox, splits, committed.partitions, wall_clock())
    place = {topic: log.start for topic, log in committed.logs.items()} | dict(committed.offsets)
    began = dict(committed.position.began) if committed.position is not None else dict(place)
    loaded = Loaded(router, outbox, NoSnapshots(), place, splits, began)
    loaded.is_new = committed.position is None
    return loaded


def _splits(topics: list[list[str]]) -> list[dict[str, int]]:
    return [dict(zip(own, range(len(own)), strict=True)) for own in topics]


def _resume(
    setup: Setup,
    number: int,
    topics: list[list[str]],
    committed: Committed,
    position: Position,
    snapshots: Snapshots,
    announce: Callable[[str], None],
    unchanged: Callable[[], bool],
) -> Loaded:
    what = f"partition {number}"
    try:
        point = snapshots.read(position.snapshot, position.crc)
        return _restore(setup, number, topics, committed, position, snapshots, point)
    except DroppedStateError:
        raise
    except SnapshotError as error:
        lost = error
    if not unchanged():
        # We stood still for so long that an heir has gone on, and let go of what we were looking for.
        raise KafkaUnavailableError(f"{what}: somebody else has gone on with it")
    if setup.on_lost_snapshot == "fail":
        raise LostSnapshotError(
            f"{what}: {lost}; allow with --on-lost-snapshot rebuild that the state is made again from older input"
        ) from lost
    announce(f"{what}: {lost}; the state is rebuilt from older input, whose matches were written before")
    for point_or_error in snapshots.older(position.snapshot):
        if isinstance(point_or_error, SnapshotError):
            announce(f"{what}: {point_or_error}")
            continue
        try:
            loaded = _restore(setup, number, topics, committed, position, snapshots, point_or_error)
        except DroppedStateError:
            raise
        except SnapshotError as error:
            announce(f"{what}: {error}")
            continue
        if any(loaded.next[topic] > offset for topic, offset in committed.offsets.items()):
            announce(f"{what}: {point_or_error.name} was never committed")
            continue
        if all(committed.logs[topic].first <= loaded.next[topic] for topic in committed.offsets):
            return _mute(loaded, committed, position)
        announce(f"{what}: {point_or_error.name}: the records behind it have been deleted")
    loaded = _begin(setup, number, topics, committed, snapshots)
    for topic in committed.offsets:
        first, began = committed.logs[topic].first, loaded.next[topic]
        if first > began:
            raise LostSnapshotError(
                f"{what}: {lost}; it cannot be made again either: topic {topic} begins at offset {first}, the job "
                f"began at {began}. Put {snapshots.address} back from a backup, or begin anew under another --name"
            ) from lost
    return _mute(loaded, committed, position)


def _mute(loaded: Loaded, committed: Committed, position: Position) -> Loaded:
    loaded.muted_until = {
        topic: offset for topic, offset in committed.offsets.items() if loaded.next.get(topic, offset) < offset
    }
    loaded.watermark = position.watermark
    loaded.outbox.muted = bool(loaded.muted_until)
    return loaded


def _restore(
    setup: Setup,
    number: int,
    topics: list[list[str]],
    committed: Committed,
    position: Position,
    snapshots: Snapshots,
    point: RestorePoint,
) -> Loaded:
    pipeline, outbox = _make(setup, number)
    pipeline.check(point)
    plan = setup.definition.plan
    splits: list[dict[str, int]] = []
    origins: list[dict[str, int]] = []
    place: dict[str, int] = {}
    before = origins_of(point.manifest)
    for source, (intake, own, positions) in enumerate(
        zip(pipeline.intakes, topics, point.positions(plan), strict=True)
    ):
        known = {held["topic"]: split for split, held in positions.items()}
        place |= {held["topic"]: held["offset"] for held in positions.values()}
        for topic in own:
            known.setdefault(topic, max(known.values(), default=-1) + 1)
        splits.append(known)
        origins.append(before[source] if source < len(before) else {})
        for origin in committed.origins[source]:
            origins[-1].setdefault(origin, max(origins[-1].values(), default=0) + 1)
        for split in (origins[-1] or known).values():
            intake.time.add_split(split, wall_clock())
    pipeline.restore(point, wall_clock())
    outbox.rows = rows_of(point.manifest)
    began = dict(position.began)
    for topic in {topic for own in topics for topic in own}:
        place.setdefault(topic, committed.logs[topic].start)
        began.setdefault(topic, place[topic])
    reached("txn.restored")
    return Loaded(pipeline, outbox, snapshots, place, splits, began, origins)


def _check_logs(
    setup: Setup, number: int, loaded: Loaded, committed: Committed, announce: Callable[[str], None]
) -> None:
    """Is what comes next still there?"""
    for topic, until in loaded.muted_until.items():
        end = committed.logs[topic].end
        if until > end:
            raise LostOffsetsError(
                f"topic {topic}, partition {number}: what was read up to offset {until} has to be read again, but the "
                f"topic ends at {end}: was it deleted and made anew? Begin anew under another --name"
            )
    policies = {topic: each.on_lost_offsets for each in (*setup.sources, *setup.originals) for topic in each.topics}
    default = setup.sources[0].on_lost_offsets
    for topic, offset in loaded.next.items():
        log = committed.logs.get(topic)
        if log is None:
            continue
        if log.first <= offset <= log.end:
            continue
        policy = policies.get(topic, default)
        if offset > log.end:
            said = f"the job has read up to offset {offset}, the topic ends at {log.end}: was it deleted and made anew?"
        else:
            lost = log.first - offset
            said = f"{lost} records, {offset} to {log.first - 1}, have been deleted before the job could read them"
        if policy == "fail":
            raise LostOffsetsError(
                f"topic {topic}, partition {number}: {said}. To go on without them, say on_lost_offsets = 'earliest' "
                "or 'latest'; to lose none, raise retention.ms"
            )
        to = log.first if policy == "earliest" else log.end
        announce(f"topic {topic}, partition {number}: {said}; going on at {to}, as on_lost_offsets = '{policy}' says")
        loaded.next[topic] = to


def _make(setup: Setup, number: int) -> tuple[Pipeline, Outbox]:
    outbox = Outbox(setup.job, number, setup.routes, setup.dead_letters, strict=setup.strict)
    now = wall_clock()
    return Pipeline(setup.definition, outbox, [0] * len(setup.sources), now, by_partition=True), outbox
