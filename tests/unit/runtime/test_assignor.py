"""Partition numbers are dealt to members: every number to one, evenly, and to whom it was before where that is fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.protocol.metadata import MetadataResponse_v1
from hypothesis import given
from hypothesis import strategies as st

from ostinato.cep.runtime.partitioned.assignor import assign, make_assignor

before = st.dictionaries(
    st.sampled_from("abcde"), st.lists(st.integers(0, 14), max_size=8), min_size=1
)  # what members say of themselves need not be true: numbers twice, or of topics that are gone


@given(st.integers(0, 12), before)
def test_every_number_has_one_member_and_none_has_two_more_than_another(
    numbers: int, members: Mapping[str, Sequence[int]]
) -> None:
    dealt = assign(numbers, members)
    assert dealt.keys() == members.keys()
    assert sorted(number for own in dealt.values() for number in own) == list(range(numbers))
    counts = [len(own) for own in dealt.values()]
    assert max(counts) - min(counts) <= 1


@given(st.integers(0, 12), before)
def test_it_is_settled_when_everybody_has_got_what_was_dealt(
    numbers: int, members: Mapping[str, Sequence[int]]
) -> None:
    dealt = assign(numbers, members)
    assert assign(numbers, dealt) == dealt


@given(st.integers(1, 12), st.sets(st.sampled_from("abcd"), min_size=2))
def test_who_stays_loses_nothing_when_another_goes(numbers: int, names: set[str]) -> None:
    dealt = assign(numbers, dict.fromkeys(names, ()))
    gone = min(names)
    rest = {name: own for name, own in dealt.items() if name != gone}
    again = assign(numbers, rest)
    assert all(set(rest[name]) <= set(again[name]) for name in rest)


def test_who_comes_gets_no_more_than_its_share_and_takes_from_those_that_have_most() -> None:
    assert assign(6, {"a": [0, 1, 2], "b": [3, 4, 5], "c": []}) == {"a": [0, 1], "b": [3, 4], "c": [2, 5]}


def test_of_two_that_say_they_have_had_a_number_one_gets_it() -> None:
    """As after a member that was paused comes back, and does not know that it has an heir."""
    assert assign(3, {"a": [0, 1, 2], "b": [0, 1]}) == {"a": [0, 1], "b": [2]}


def cluster(**topics: int) -> ClusterMetadata:
    """What a broker says of topics with so many partitions."""
    found = ClusterMetadata()
    said = [(0, name, False, [(0, number, 1, [1], [1]) for number in range(count)]) for name, count in topics.items()]
    found.update_metadata(MetadataResponse_v1([(1, "127.0.0.1", 9092, None)], 1, said))
    return found


def dealt_to(
    members: Mapping[str, set[int]], topics: Sequence[str], known: ClusterMetadata
) -> dict[str, list[tuple[str, list[int]]]]:
    said = {name: make_assignor(owned).metadata(topics) for name, owned in members.items()}
    answer = make_assignor(set()).assign(known, said)
    return {name: sorted(each.assignment) for name, each in answer.items()}


def test_the_same_partition_of_all_topics_goes_to_the_same_member() -> None:
    """Protects patterns over more than one stream: events with one key are in the same partition of all of them.

    Seen to fail with aiokafka's range assignor in its place, where topics have unequal numbers of partitions, and with
    its round-robin one.
    """
    dealt = dealt_to({"x": set(), "y": set()}, ["logins", "trades"], cluster(logins=5, trades=3))
    owners = {(topic, number): name for name, own in dealt.items() for topic, numbers in own for number in numbers}
    assert sorted(owners) == [("logins", n) for n in range(5)] + [("trades", n) for n in range(3)]
    assert all(owners["logins", number] == owners["trades", number] for number in range(3))


def test_members_say_what_they_have_as_of_now() -> None:
    owned = {2}
    assignor = make_assignor(owned)
    owned |= {0}
    said = {"new": make_assignor(set()).metadata(["logins"]), "old": assignor.metadata(["logins"])}
    answer = assignor.assign(cluster(logins=3), said)
    assert answer["old"].assignment == [("logins", [0, 2])]
    assert answer["new"].assignment == [("logins", [1])]


def test_what_a_member_says_that_nobody_understands_is_nothing() -> None:
    said = {
        "a": ConsumerProtocolMemberMetadata(0, ["logins"], b"\xffwhat?"),
        "b": ConsumerProtocolMemberMetadata(0, ["logins"], b'{"x": 1}'),
        "c": ConsumerProtocolMemberMetadata(0, ["logins"], b""),
    }
    answer = make_assignor(set()).assign(cluster(logins=3), said)
    assert sorted(number for each in answer.values() for _, own in each.assignment for number in own) == [0, 1, 2]


def test_a_topic_that_is_not_there_yet_has_nothing_to_deal() -> None:
    assert dealt_to({"x": set()}, ["logins", "none"], cluster(logins=1)) == {"x": [("logins", [0])]}
    assert dealt_to({"x": set()}, ["none"], cluster()) == {"x": []}
