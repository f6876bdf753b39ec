"""Chunks are handed over in memory that parent and worker share."""

from __future__ import annotations

import os

import pytest

from ostinato.cep.connectors.base import LARGE_CHUNK_BYTES, SLACK, Chunk
from ostinato.cep.runtime import slots
from ostinato.cep.runtime.packing import describe_chunk, unpack_chunk
from ostinato.cep.runtime.slots import Slots


@pytest.fixture
def both() -> tuple[Slots, Slots]:
    """The same slots as two processes see them."""
    descriptor = slots.make(3)
    try:
        return Slots(descriptor), Slots(descriptor)
    finally:
        os.close(descriptor)


def test_what_one_puts_the_other_gets(both: tuple[Slots, Slots]) -> None:
    here, there = both
    chunks = [Chunk.of(f'{{"n": {n}}}\n' * (n + 1), source="f", first_line=n) for n in range(3)]
    assert all(here.put(entry, chunk) for entry, chunk in enumerate(chunks, 7))
    for entry, chunk in enumerate(chunks, 7):
        back = unpack_chunk(describe_chunk(chunk), there.get(entry))
        assert bytes(back.text) == bytes(chunk.text)
        assert (back.source, back.first_line) == (chunk.source, chunk.first_line)
        # what stands behind the last byte comes along
        assert back.data[back.size : back.size + SLACK].tolist() == [10] + [0] * (SLACK - 1)


def test_an_entry_has_the_slot_of_the_one_that_was_written_before_it(both: tuple[Slots, Slots]) -> None:
    here, there = both
    here.put(0, Chunk.of("first\n"))
    here.put(3, Chunk.of("fourth\n"))
    assert there.get(0)[:7].tobytes() == b"fourth\n"


def test_a_chunk_that_is_too_large_goes_another_way(both: tuple[Slots, Slots]) -> None:
    here, _ = both
    assert here.put(0, Chunk.of(bytes(LARGE_CHUNK_BYTES)))
    assert not here.put(0, Chunk.of(bytes(LARGE_CHUNK_BYTES + 8192)))


def test_what_is_no_text_goes_another_way(both: tuple[Slots, Slots]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    assert not both[0].put(0, Chunk(pyarrow.table({"n": [1]}), 1))
