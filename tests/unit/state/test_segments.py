"""Records as bytes, and together."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from ostinato.state import segments
from ostinato.state.envelope import seal
from ostinato.state.errors import DamagedError, SnapshotError
from ostinato.state.records import Records


def as_dict(records: Records) -> dict[bytes, bytes]:
    return dict(records.items())


@pytest.mark.parametrize(
    "items",
    [
        [],
        [(b"", b"")],
        [(b"ada", b"1"), (b"bob", b"")],
        [(b"k" * 300, b"v" * 70_000), (b"", b"x")],
        [(f"key-{number}".encode(), bytes([number % 256]) * (number % 40)) for number in range(5000)],
    ],
    ids=["none", "empty", "few", "long", "many"],
)
def test_what_is_decoded_is_what_was_encoded(items: list[tuple[bytes, bytes]]) -> None:
    records = segments.decode(segments.encode(Records.of(items)), "the segment")
    assert list(records.items()) == items


def test_a_part_of_larger_columns_is_encoded_alone() -> None:
    whole = Records.of([(b"a", b"1"), (b"bb", b"22"), (b"ccc", b"333")])
    part = whole.take(np.array([2, 0]))
    data = segments.encode(part)
    assert list(segments.decode(data, "the segment").items()) == [(b"ccc", b"333"), (b"a", b"1")]


def test_repetitive_state_is_stored_small() -> None:
    records = Records.of([(f"key-{number:06}".encode(), b"the same state everywhere") for number in range(10_000)])
    assert len(segments.encode(records)) < 60_000


@pytest.mark.parametrize("cut", [0, 1, 7, 19, 20, 60, -1])
def test_cut_short(cut: int) -> None:
    data = segments.encode(Records.of([(f"key-{number}".encode(), b"value") for number in range(100)]))
    with pytest.raises(DamagedError, match="key group 3 of match is damaged"):
        segments.decode(data[:cut], "key group 3 of match")


def test_every_flipped_bit_is_noticed() -> None:
    data = segments.encode(Records.of([(f"key-{number}".encode(), b"value") for number in range(20)]))
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError, match="the segment is damaged"):
            segments.decode(changed, "the segment")


def test_other_bytes_are_no_segment() -> None:
    for data in (b"", b"{}", seal(b"OMAN", 1, b"a manifest"), bytes(100)):
        with pytest.raises(DamagedError, match="the segment is damaged"):
            segments.decode(data, "the segment")


def test_a_sound_envelope_around_nonsense_is_damage() -> None:
    for content in (b"", b"\xff\xff\xff\xff", b"\x06\x00\x00\x00\x95\x03\x01\x01\x01\x01", bytes(64)):
        with pytest.raises(DamagedError, match="the segment is damaged"):
            segments.decode(seal(b"OSEG", 1, content), "the segment")


def test_a_segment_of_a_later_release_is_refused_by_its_format() -> None:
    with pytest.raises(SnapshotError, match="the segment has format 2; this release reads formats 1 to 1") as caught:
        segments.decode(seal(b"OSEG", 2, b"what will be"), "the segment")
    assert not isinstance(caught.value, DamagedError)


def test_later_values_win_and_empty_ones_vanish() -> None:
    merged = segments.merge(
        [
            Records.of([(b"ada", b"1"), (b"bob", b"1"), (b"cyd", b"1")]),
            Records.of([(b"bob", b"2"), (b"cyd", b""), (b"dan", b"")]),
            Records.of([(b"cyd", b"3"), (b"ada", b"")]),
        ]
    )
    assert as_dict(merged) == {b"bob": b"2", b"cyd": b"3"}


def test_merging_nothing_or_one() -> None:
    assert len(segments.merge([])) == 0
    one = Records.of([(b"ada", b"1")])
    assert segments.merge([one]) is one
    assert as_dict(segments.merge([Records.of([(b"ada", b""), (b"bob", b"2")])])) == {b"bob": b"2"}


def test_merging_is_what_a_dict_does() -> None:
    chance = random.Random(7)
    for _ in range(50):
        parts = [
            {bytes([chance.randrange(20)]): chance.choice([b"", b"x", b"yy"]) for _ in range(chance.randrange(15))}
            for _ in range(chance.randrange(6))
        ]
        expected: dict[bytes, bytes] = {}
        for part in parts:
            expected |= part
        merged = segments.merge([Records.of(part.items()) for part in parts])
        assert as_dict(merged) == {key: value for key, value in expected.items() if value}


def test_a_hundred_thousand_keys_a_second_are_easy() -> None:
    records = Records.of([(f"key-{number}".encode(), b"some state of this key") for number in range(100_000)])
    began = time.perf_counter()
    segments.merge([segments.decode(segments.encode(records), "all"), records.take(np.arange(0, 100_000, 7))])
    assert time.perf_counter() - began < 1
