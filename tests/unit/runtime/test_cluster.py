"""What is believed of a group coordinator's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from ostinato.cep.connectors.kafka.errors import KafkaUnavailableError
from ostinato.cep.runtime.load import ProgramSpec
from ostinato.cep.runtime.partitioned.cluster import Cluster
from ostinato.cep.runtime.partitioned.spec import PartitionedSpec

PROGRAM = """
stream events (k string key, ts timestamp(ms) time) from kafka 'events'
pattern any_event on events match a define a as k <> '' emit k into found
output found to kafka 'found'
"""


class Client:
    """Stands for consumer and admin client: what aiokafka makes of an answer is given."""

    def __init__(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self.offsets = offsets
        self._client = self
        self.cluster = self

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0, 1}

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 9)

    async def list_consumer_group_offsets(
        self, _group: str, partitions: Any
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        return self.offsets


def cluster(tmp_path: Path, client: Client) -> Cluster:
    program = ProgramSpec(str(tmp_path / "job.cep"), PROGRAM)
    setup = PartitionedSpec(program=program, job="job", address=str(tmp_path)).setup()
    return Cluster(setup, client, client, lambda _: None)


def test_an_answer_without_the_partition_is_none(tmp_path: Path) -> None:
    """Protects: while a coordinator loads, aiokafka gives an answer without offsets for its error. Taken for "nothing
    was ever committed" the job would begin at the beginning and write everything once more.

    Seen to fail when it was not looked at: the partition began at the beginning.
    """
    asked = cluster(tmp_path, Client({}))
    with pytest.raises(KafkaUnavailableError, match="nobody said what is committed"):
        asyncio.run(asked.committed(1, routing=False))


def test_where_nothing_is_committed_the_answer_says_so(tmp_path: Path) -> None:
    place = TopicPartition("events", 1)
    found = asyncio.run(cluster(tmp_path, Client({place: OffsetAndMetadata(-1, "")})).committed(1, routing=False))
    assert (found.offsets, found.position) == ({}, None)
    assert (found.logs["events"].first, found.logs["events"].end, found.logs["events"].start) == (0, 9, 0)
