"""Which member of the group has which partitions.

Partition 3 of every topic goes to the same member (*co-partitioning*): events with one key are in the same partition of
all of them. A member keeps what it has, as far as that is fair: state that stays need not be read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from ostinato.state.typed import decode_json


def assign(numbers: int, members: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Deal the partition numbers 0 to `numbers` - 1.

    Args:
        numbers: how many.
        members: by the name of each, what it has had.

    >>> assign(5, {"a": [0, 1, 2, 3, 4], "b": []})
    {'a': [0, 1, 2], 'b': [3, 4]}
    """
    names = sorted(members, key=lambda name: (-len(members[name]), name))
    least, extra = divmod(numbers, len(names))
    quota = {name: least + (rank < extra) for rank, name in enumerate(names)}
    left = set(range(numbers))
    given: dict[str, list[int]] = {name: [] for name in names}
    for name in names:
        for number in sorted(members[name]):
            if number in left and len(given[name]) < quota[name]:
                left.remove(number)
                given[name].append(number)
    rest = sorted(left, reverse=True)
    for name in names:
        while len(given[name]) < quota[name]:
            given[name].append(rest.pop())
    return {name: sorted(given[name]) for name in sorted(members)}


def make_assignor(owned: set[int]) -> type[AbstractPartitionAssignor]:
    """An assignor for one consumer; `owned` are the numbers that it has, as of now. aiokafka wants a class."""

    class Copartitioned(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
        name = "ostinato-copartitioned"
        version = 0

        @classmethod
        def assign(
            cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            topics = sorted({topic for member in members.values() for topic in member.subscription})
            counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
            dealt = assign(max(counts.values(), default=0), {name: _had(each) for name, each in members.items()})
            return {
                name: ConsumerProtocolMemberAssignment(
                    cls.version,
                    [(topic, own) for topic in topics if (own := [n for n in numbers if n < counts[topic]])],
                    b"",
                )
                for name, numbers in dealt.items()
            }

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            return ConsumerProtocolMemberMetadata(cls.version, sorted(topics), msgspec.json.encode(sorted(owned)))

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            pass

    return Copartitioned


def _had(member: ConsumerProtocolMemberMetadata) -> list[int]:
    try:
        return decode_json(member.user_data or b"[]", list[int])
    except msgspec.MsgspecError:
        return []
