"""Where a partition goes on from when it is taken over: by what Kafka says is committed, and by what is left of its
snapshots and of its topic."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ostinato.cep.batch import MIN_TIME
from ostinato.cep.connectors.base import Chunk
from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError, LostOffsetsError
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.partitioned.position import Position
from ostinato.cep.runtime.partitioned.setup import Setup
from ostinato.cep.runtime.partitioned.snapshots import Cut, Written
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec
from ostinato.cep.runtime.partitioned.takeover import Committed, Loaded, LogEnds, LostSnapshotError, load
from ostinato.cep.runtime.pipeline import Pipeline
from ostinato.cep.runtime.sources import ReadChunk
from ostinato.state.errors import DroppedStateError, FencedError
from ostinato.state.manifest import SourceState
from tests.kafka_batches import Record, block

PROGRAM = """
stream events (user string key, ts timestamp(ms) time idle 0 ms, n bigint) from kafka 'events' (OPTIONS)
pattern pair on events match a -> b define a as n = 1, b as n = 2 emit user, b.ts as at into pairs
output pairs to kafka 'pairs'
"""
NOW = 1_700_000_000_000
NUMBER = 3
END = 1_000


class Partition:
    """Partition 3 of a job, as its owners come and go. The time of a record is its offset behind `NOW`; what has the
    largest time waits for more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.program = PROGRAM
        self.offset = 0
        self.position: Position | None = None
        self.first = 0
        self.owner: Loaded | None = None

    def setup(self, options: str = "keying = 'trust'", **more: Any) -> Setup:
        spec = ProgramSpec("job.cep", self.program.replace("OPTIONS", options))
        return PartitionedSpec(program=spec, job="job", address=str(self.folder), **more).setup()

    def take(self, setup: Setup | None = None, *, end: int = END, start: int = 0, offset: int | None = None) -> Loaded:
        """A new owner comes."""
        offsets = {} if self.position is None else {"events": self.offset if offset is None else offset}
        logs = {"events": LogEnds(self.first, end, start)}
        committed = Committed(offsets, self.position, logs, [[]])
        self.owner = load(setup or self.setup(), NUMBER, [["events"]], committed, self.said.append, routing=False)
        return self.owner

    def read(self, *numbers: int) -> None:
        """The owner is given records with these numbers."""
        owner = self.owner
        assert owner is not None
        assert isinstance(owner.pipeline, Pipeline)
        base = owner.next["events"]
        records = [Record(b'{"user":"u","ts":%d,"n":%d}' % (NOW + at, n)) for at, n in enumerate(numbers, base)]
        found = block(*records, topic="events", partition=NUMBER, base=base)
        position = {"topic": "events", "offset": found.next_offset}
        owner.pipeline.step(ReadChunk(0, Chunk(found, found.size, position=position, source="events/3"), NOW))
        owner.next["events"] = found.next_offset

    def write(self) -> Written:
        """The owner writes a snapshot, which nothing names yet."""
        owner = self.owner
        assert owner is not None
        pipeline = owner.pipeline
        whole = owner.snapshots.wanted()
        (splits,) = owner.splits
        held = {split: {"topic": topic, "offset": owner.next[topic]} for topic, split in splits.items()}
        sources = [SourceState("events", held, pipeline.times()[0])]
        return owner.snapshots.write(Cut(pipeline.snapshot(0, whole), whole, sources, dict(owner.outbox.rows), {}, 0))

    def commit(self) -> Written:
        """The same, and it is committed."""
        written = self.write()
        assert self.owner is not None
        self.offset = self.owner.next["events"]
        time = self.owner.pipeline.intakes[0].time.watermark
        self.position = Position(snapshot=written.id, crc=written.crc, watermark=time, began=self.owner.began)
        self.owner.snapshots.tidy(written)
        return written

    def matches(self) -> list[tuple[bytes | None, bytes]]:
        """What the owner has put out since the last call: key and match id."""
        assert self.owner is not None
        return [(record.key, dict(record.headers)["match-id"]) for record in self.owner.outbox.take()]

    @property
    def snapshots(self) -> list[str]:
        return sorted(path.name for path in (self.folder / f"partition-{NUMBER}").glob("chk-*"))

    def lose(self, id_: int) -> None:
        shutil.rmtree(self.folder / f"partition-{NUMBER}" / f"chk-{id_}")

    def damage(self, id_: int) -> None:
        path = self.folder / f"partition-{NUMBER}" / f"chk-{id_}" / "manifest"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)

    def close(self) -> None:
        if self.owner is not None:
            self.owner.snapshots.close()


@pytest.fixture
def partition(tmp_path: Path) -> Any:
    """A partition that nobody has had."""
    made = Partition(tmp_path / "checkpoints")
    yield made
    made.close()


@pytest.fixture
def twice(partition: Partition) -> Partition:
    """The same with two commits: at offset 3 after one match and half of another, at offset 5 after that."""
    partition.take()
    partition.read(1, 2, 1)
    partition.commit()
    partition.read(2, 0)
    partition.commit()
    assert partition.matches() == [(b"u", b"job.pairs.3.0"), (b"u", b"job.pairs.3.1")]
    assert partition.snapshots == ["chk-1", "chk-2"]
    return partition


def test_a_new_partition_begins_where_the_job_is_to_begin(partition: Partition) -> None:
    found = partition.take(start=40)
    assert (found.next, found.began, found.is_new) == ({"events": 40}, {"events": 40}, True)
    assert (found.muted_until, found.outbox.muted) == ({}, False)


def test_what_was_committed_goes_on_with_its_state_and_its_rows(partition: Partition) -> None:
    """The second half of a match comes to another owner than the first, and has the number behind what was counted."""
    partition.take()
    partition.read(1, 2, 1)
    partition.commit()
    found = partition.take()
    assert (found.next, found.is_new, found.muted_until) == ({"events": 3}, False, {})
    assert partition.matches() == []
    partition.read(2, 0)
    assert partition.matches() == [(b"u", b"job.pairs.3.1")]
    assert partition.said == []


def test_a_snapshot_whose_transaction_was_never_committed_has_not_happened(twice: Partition) -> None:
    """Protects: step 2 done, step 3 not. Seen to fail when the newest snapshot was loaded, whatever was committed."""
    twice.read(1, 1, 1)
    twice.write()
    assert twice.snapshots == ["chk-1", "chk-2", "chk-3"]
    assert twice.take().next == {"events": 5}
    # whoever comes late may think so of what another has committed: it stays until something of ours is
    assert twice.snapshots == ["chk-1", "chk-2", "chk-3"]
    # and its name is not used again for something else that is committed
    twice.read(1)
    assert twice.commit().id == 4
    assert twice.snapshots == ["chk-2", "chk-4"]


def test_the_former_owner_can_write_no_more(twice: Partition) -> None:
    """Protects the store from a zombie: Kafka refuses its commit, and its snapshot would be in the heir's way."""
    former = twice.owner
    twice.take()
    heir, twice.owner = twice.owner, former
    twice.read(1)
    with pytest.raises(FencedError):
        twice.write()
    assert former is not None
    former.snapshots.close()
    twice.owner = heir


Loss = Callable[[Partition, int], None]
LOSSES = [Partition.lose, Partition.damage]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_snapshot_is_made_again_from_the_one_before(twice: Partition, loss: Loss) -> None:
    """Protects: never from empty. Seen to fail when a missing snapshot was taken for none: the half match was lost."""
    loss(twice, 2)
    found = twice.take()
    assert (found.next, found.muted_until, found.outbox.muted) == ({"events": 3}, {"events": 5}, True)
    assert found.watermark == NOW + 3
    assert "the state is rebuilt from older input" in twice.said[0]
    twice.read(2, 0)
    assert twice.matches() == []
    assert found.outbox.rows == {"pairs": 2}


@pytest.mark.parametrize("loss", LOSSES)
def test_where_all_are_lost_it_is_made_again_from_where_the_job_began(twice: Partition, loss: Loss) -> None:
    loss(twice, 1)
    loss(twice, 2)
    found = twice.take(start=500)  # where a job would begin now is another matter
    assert (found.next, found.muted_until, found.outbox.muted) == ({"events": 0}, {"events": 5}, True)
    assert not found.is_new
    twice.read(1, 2, 1, 2, 0)
    assert (twice.matches(), found.outbox.rows) == ([], {"pairs": 2})


def test_another_snapshot_by_the_same_name_is_not_the_one(twice: Partition) -> None:
    """Protects: a store that was rolled back, and written to since, may have the name and not the content.

    Seen to fail when the checksum in the offset's metadata was not looked at.
    """
    assert twice.position is not None
    twice.position = Position(
        snapshot=twice.position.snapshot, crc=twice.position.crc ^ 1, watermark=NOW - 1, began={"events": 0}
    )
    found = twice.take()
    assert (found.next, found.muted_until) == ({"events": 3}, {"events": 5})
    assert "is not the one that the committed offset names: its checksum differs" in twice.said[0]


def test_lost_with_the_input_that_it_was_made_of(twice: Partition) -> None:
    """Protects: what cannot be made again is refused by name.

    Seen to fail when the beginning of the topic was not looked at: the job went on with a hole in its state.
    """
    twice.lose(1)
    twice.lose(2)
    twice.first = 1
    with pytest.raises(LostSnapshotError) as told:
        twice.take()
    assert "partition 3: " in str(told.value)
    assert "topic events begins at offset 1, the job began at 0" in str(told.value)
    assert "another --name" in str(told.value)


def test_an_older_snapshot_whose_input_is_gone_is_passed_over(twice: Partition) -> None:
    twice.lose(2)
    twice.first = 5
    with pytest.raises(LostSnapshotError):
        twice.take()
    assert any("the records behind it have been deleted" in said for said in twice.said)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_job_may_ask_to_be_told_instead(twice: Partition, loss: Loss) -> None:
    """--on-lost-snapshot fail."""
    loss(twice, 2)
    with pytest.raises(LostSnapshotError, match="allow with --on-lost-snapshot rebuild"):
        twice.take(twice.setup(on_lost_snapshot="fail"))
    assert "chk-1" in twice.snapshots


def test_state_that_the_program_has_no_place_for_is_not_taken_for_lost(twice: Partition) -> None:
    """Protects: a changed program is somebody's decision to make, not a lost snapshot."""
    twice.program = PROGRAM.replace("events (", "others (").replace("on events", "on others")
    with pytest.raises(DroppedStateError, match="--allow-dropped-state"):
        twice.take()


@pytest.mark.parametrize(
    ("policy", "goes_on_at", "said"),
    [
        ("fail", None, ""),
        ("earliest", 10, "5 records, 5 to 9, have been deleted before the job could read them; going on at 10"),
        ("latest", END, "5 records, 5 to 9, have been deleted before the job could read them; going on at 1000"),
    ],
)
def test_records_that_retention_has_deleted(twice: Partition, policy: str, goes_on_at: int | None, said: str) -> None:
    """Protects: input that is gone is told, with how much and where, by default with the end of the job."""
    twice.first = 10
    setup = twice.setup(f"on_lost_offsets = '{policy}'")
    if goes_on_at is None:
        with pytest.raises(LostOffsetsError, match="topic events, partition 3: 5 records, 5 to 9") as told:
            twice.take(setup)
        assert "on_lost_offsets = 'earliest'" in str(told.value)
        return
    assert twice.take(setup).next == {"events": goes_on_at}
    assert said in twice.said[-1]


@pytest.mark.parametrize(("policy", "goes_on_at"), [("fail", None), ("earliest", 0), ("latest", 2)])
def test_a_topic_that_was_made_anew_ends_before_the_offset(
    twice: Partition, policy: str, goes_on_at: int | None
) -> None:
    setup = twice.setup(f"on_lost_offsets = '{policy}'")
    if goes_on_at is None:
        with pytest.raises(LostOffsetsError, match="has read up to offset 5, the topic ends at 2: was it deleted"):
            twice.take(setup, end=2)
        return
    assert twice.take(setup, end=2).next == {"events": goes_on_at}


def test_the_watermark_comes_with_the_state(twice: Partition) -> None:
    before = twice.owner
    assert before is not None
    found = twice.take()
    assert found.pipeline.intakes[0].time.watermark == before.pipeline.intakes[0].time.watermark > MIN_TIME


def test_two_topics_are_read_from_where_each_was(tmp_path: Path) -> None:
    """A topic that is new to the job begins where the job would begin; one that was read goes on."""
    partition = Partition(tmp_path)
    setup = partition.setup()
    partition.take(setup)
    partition.read(1)
    partition.commit()
    both = replace(setup, sources=(replace(setup.sources[0], topics=("events", "more")),))
    logs = {"events": LogEnds(0, END, 0), "more": LogEnds(5, END, 7)}
    committed = Committed({"events": 1}, partition.position, logs, [[]])
    topics: Sequence[Sequence[str]] = [["events", "more"]]
    found = load(both, NUMBER, [list(each) for each in topics], committed, partition.said.append, routing=False)
    assert (found.next, found.began) == ({"events": 1, "more": 7}, {"events": 0, "more": 7})
    assert found.splits == [{"events": 0, "more": 1}]
    found.snapshots.close()
    partition.close()


def test_a_snapshot_from_behind_the_committed_offset_is_not_an_older_one(partition: Partition) -> None:
    """Protects: its number is smaller than that of the one that was committed, and it has seen more of the input.

    The first owner writes it and dies before its commit; the second one begins before it, commits under a larger
    number, and dies before it has deleted it. Going on from it, what lies between would not be written by anybody. Seen
    to fail when its place was not compared with the committed offset: reading went on at 4.
    """
    partition.take()
    partition.read(1)
    partition.commit()
    partition.read(2, 0, 0)
    assert partition.write().id == 2  # at offset 4, never committed
    partition.take()
    partition.read(2)
    written = partition.write()  # at offset 2
    assert partition.owner is not None
    partition.offset = partition.owner.next["events"]
    partition.position = Position(snapshot=written.id, crc=written.crc, watermark=NOW, began=partition.owner.began)
    assert partition.snapshots == ["chk-1", "chk-2", "chk-3"]
    partition.lose(3)
    found = partition.take()
    assert (found.next, found.muted_until) == ({"events": 1}, {"events": 2})
    assert any("was never committed" in said for said in partition.said)


def test_what_has_to_be_read_again_is_not_there_at_all(twice: Partition) -> None:
    """Protects: of a topic that was made anew one would wait for ever for the records up to the committed offset."""
    twice.lose(2)
    with pytest.raises(LostOffsetsError, match="the topic ends at 4: was it deleted and made anew"):
        twice.take(end=4)


@pytest.mark.parametrize("policy", ["rebuild", "fail"])
def test_who_stood_still_does_not_take_what_its_heir_has_deleted_for_lost(twice: Partition, policy: Any) -> None:
    """Protects: a process that is stopped between steps 2 and 3 looks for a snapshot that is too old by now. It has
    nothing to rebuild, and nothing to refuse.

    Seen to fail when Kafka was not asked again: it rebuilt, or ended with what it took for lost.
    """
    twice.lose(2)
    committed = Committed({"events": twice.offset}, twice.position, {"events": LogEnds(0, END, 0)}, [[]])
    setup = twice.setup(on_lost_snapshot=policy)
    with pytest.raises(KafkaUnavailableError, match="somebody else has gone on"):
        load(setup, NUMBER, [["events"]], committed, twice.said.append, routing=False, unchanged=lambda: False)
    assert twice.said == []
