"""What is kept with a committed offset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostinato.cep.runtime.partitioned.position import Position
from ostinato.state.errors import SnapshotError

WHAT = "topic logins, partition 3, group job"
positions = st.builds(
    Position,
    snapshot=st.integers(0, 2**50),
    crc=st.integers(0, 2**32 - 1),
    watermark=st.integers(-(2**63), 2**63 - 1),
    began=st.dictionaries(st.text(max_size=20), st.integers(0, 2**62), max_size=3),
    idle=st.booleans(),
)


@given(positions)
def test_it_comes_back_as_it_was(position: Position) -> None:
    assert Position.decode(position.encode(), WHAT) == position


def test_it_is_short_enough_for_kafka_to_keep() -> None:
    """offset.metadata.max.bytes is 4096: with topics of the longest names there is still room for ten."""
    began = {f"{number}".rjust(249, "x"): 2**62 for number in range(10)}
    assert len(Position(snapshot=2**50, crc=2**32 - 1, watermark=-(2**62), began=began).encode()) < 4096


@pytest.mark.parametrize(
    "text",
    [None, "", "consumer-1-of-somebody", "ostinato", "ostinato{", "ostinato[]", 'ostinato{"snapshot":"x"}', "{}"],
)
def test_an_offset_that_somebody_else_committed_is_refused(text: str | None) -> None:
    """Protects: a group that another application uses. Its offsets name no snapshot, and going on from them without one
    would be a silent start from empty."""
    with pytest.raises(SnapshotError, match="give the job another --name") as told:
        Position.decode(text, WHAT)
    assert str(told.value).startswith(WHAT)


def test_one_of_a_later_release_is_refused() -> None:
    text = Position(snapshot=1, crc=2, watermark=3, began={}).encode().replace("{", '{"v":2,', 1)
    with pytest.raises(SnapshotError, match="committed by a later release"):
        Position.decode(text, WHAT)


def test_what_a_later_release_adds_is_passed_over() -> None:
    known = Position(snapshot=1, crc=2, watermark=3, began={"t": 4})
    assert Position.decode(known.encode().replace("{", '{"more":{"x":[1]},', 1), WHAT) == known
