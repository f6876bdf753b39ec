"""Many operators' state in few blobs, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from ostinato.state.blobs import BlobWriter, Packed, Stored, current
from ostinato.state.errors import DamagedError
from ostinato.state.manifest import Piece
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records
from ostinato.state.stores.base import CheckpointStore, Pieces


class Blobs:
    """The part of a store that holds blobs; counts what is asked for."""

    address = "here"

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.asked = 0
        self.bytes = 0

    def put(self, name: str, data: Pieces) -> None:
        self.held[name] = b"".join(data)

    def get(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        self.asked += 1
        self.bytes += length
        return self.held[name][offset : offset + length]


def state(groups: Mapping[int, Mapping[bytes, bytes]], shared: bytes = b"") -> OperatorState:
    return OperatorState(
        b"header", {group: Records.of(items.items()) for group, items in groups.items()}, groups.keys(), shared
    )


def stored(packed: Packed, blobs: Blobs, operator: str, owned: range = range(1000)) -> Stored:
    store: CheckpointStore = blobs  # type: ignore[assignment]
    return Stored(operator, packed.operators[operator], packed.blobs, store, owned)


def groups_of(found: Stored) -> dict[int, dict[bytes, bytes]]:
    return {group: dict(records.items()) for group, records in found.records()}


def test_each_operator_gets_back_its_own() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put)
    writer.add("first", state({7: {b"a": b"1"}, 2: {b"b": b"2"}}, b"events that wait"))
    writer.add("second", state({2: {b"a": b"3"}}))
    writer.add("third", state({}))
    packed = writer.finish()
    assert [blob.name for blob in packed.blobs] == list(blobs.held) == ["1-w0"]
    assert packed.size == len(blobs.held["1-w0"])
    first = stored(packed, blobs, "first")
    assert groups_of(first) == {2: {b"b": b"2"}, 7: {b"a": b"1"}}
    assert list(first.shared) == [b"events that wait"]
    assert first.header == b"header"
    assert groups_of(stored(packed, blobs, "second")) == {2: {b"a": b"3"}}
    assert groups_of(stored(packed, blobs, "third")) == {}
    assert list(stored(packed, blobs, "third").shared) == []


def test_nothing_to_write_is_no_blob() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put)
    writer.add("first", state({}))
    assert writer.finish().blobs == []
    assert blobs.held == {}


def test_an_operator_twice_is_an_error() -> None:
    writer = BlobWriter("1-w0", Blobs().put)
    writer.add("first", state({}))
    with pytest.raises(ValueError, match="first"):
        writer.add("first", state({}))


def test_a_large_state_becomes_several_blobs_and_is_never_held_in_whole() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put, blob_bytes=3_000)
    written: list[int] = []

    class Lazy(dict[int, Records]):
        def __getitem__(self, group: int) -> Records:
            written.append(len(blobs.held))
            return Records.of([(b"k", bytes([group * 7 % 256, group]) * 1500 + str(group).encode() * 700)])

        def __iter__(self) -> Iterator[int]:
            return iter(range(200))

    writer.add("first", OperatorState(b"", Lazy(), range(200)))
    packed = writer.finish()
    assert len(packed.blobs) > 2
    assert [blob.name for blob in packed.blobs] == list(blobs.held)
    assert max(blob.size for blob in packed.blobs) <= 3_000
    assert written != [0] * 200, "blobs are put while the state is asked for"
    assert sorted(groups_of(stored(packed, blobs, "first"))) == list(range(200))


def test_groups_that_lie_side_by_side_are_read_at_once() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put)
    writer.add("first", state({group: {b"k": str(group).encode() * 50} for group in range(500)}))
    packed = writer.finish()
    assert len(groups_of(stored(packed, blobs, "first"))) == 500
    assert blobs.asked == 1
    blobs.asked = blobs.bytes = 0
    assert len(groups_of(stored(packed, blobs, "first", range(250, 260)))) == 10
    assert blobs.asked == 1
    assert blobs.bytes < packed.size / 10, "what is others' is not read"


def test_groups_whose_keys_are_all_gone_are_left_out() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put)
    writer.add("first", state({1: {b"k": b""}, 2: {}, 3: {b"k": b"v"}}))
    assert groups_of(stored(writer.finish(), blobs, "first")) == {3: {b"k": b"v"}}


def test_a_chain_counts_from_its_last_whole_piece() -> None:
    old, whole, change = Piece(0, 0, 1, 1), Piece(1, 0, 1, 1), Piece(2, 0, 1, 1, whole=False)
    assert current([old, change, whole, change]) == [whole, change]
    assert current([change, change]) == [change, change]
    assert current([]) == []


def test_damage_is_said_with_operator_key_group_blob_and_place() -> None:
    blobs = Blobs()
    writer = BlobWriter("1-w0", blobs.put)
    writer.add("first", state({1: {b"k": b"v" * 40}, 2: {b"k": b"w" * 40}}, b"waiting"))
    packed = writer.finish()
    changed = bytearray(blobs.held["1-w0"])
    changed[-3] ^= 4
    blobs.held["1-w0"] = bytes(changed)
    reading = stored(packed, blobs, "first").records()
    assert next(reading)[0] == 1
    with pytest.raises(DamagedError, match=r"key group 2 of operator first \(blob 1-w0, from byte \d+, in here\)"):
        next(reading)
    changed[25] ^= 4
    blobs.held["1-w0"] = bytes(changed)
    with pytest.raises(DamagedError, match=r"what belongs to no key of operator first .*blob 1-w0"):
        _ = stored(packed, blobs, "first").shared
