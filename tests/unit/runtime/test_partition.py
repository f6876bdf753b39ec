"""Rows go to the workers that own their keys, whatever their columns hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostinato.cep.batch import Batch, Strings, Vector
from ostinato.cep.jit import interpreted, kernels
from ostinato.cep.runtime import partition_kernel
from ostinato.cep.runtime.frames import decode, encode
from ostinato.cep.runtime.partition import KEY_GROUPS, Partitioner, owned_groups
from ostinato.cep.strings import parts
from ostinato.patterns.types import BIGINT, BOOLEAN, DOUBLE, STRING, TIMESTAMP, Array, DataType

COLUMNS: Mapping[str, DataType] = {
    "user": STRING,
    "at": TIMESTAMP,
    "number": BIGINT,
    "real": DOUBLE,
    "flag": BOOLEAN,
    "note": STRING,
    "list": Array(BIGINT),
}

texts = st.one_of(st.none(), st.text(max_size=30))
numbers = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(
    st.tuples(
        texts,
        numbers,
        st.one_of(st.none(), numbers),
        st.one_of(st.none(), st.floats(allow_nan=False)),
        st.one_of(st.none(), st.booleans()),
        texts,
        st.one_of(st.none(), st.lists(numbers, max_size=3)),
    ),
    max_size=40,
)


def batch_of(made: list[tuple[object, ...]]) -> Batch:
    columns = {
        name: Vector.of(type_, [row[index] for row in made]) for index, (name, type_) in enumerate(COLUMNS.items())
    }
    return Batch("s", columns["at"].array, columns)


def listed(batch: Batch) -> list[dict[str, object]]:
    return [batch.row(index) for index in range(len(batch))]


def expected(batch: Batch, partitioner: Partitioner, workers: int, key_groups: int) -> list[list[dict[str, object]]]:
    groups = partitioner.key_groups(batch).tolist()
    content = listed(batch)
    return [
        [row for row, group in zip(content, groups, strict=True) if group in owned_groups(worker, workers, key_groups)]
        for worker in range(workers)
    ]


@settings(deadline=None)  # kernels may have to be compiled first
@given(
    rows,
    st.sampled_from([2, 3, 7]),
    st.sampled_from([("user",), ("number",), ("user", "flag"), ()]),
    st.sampled_from([KEY_GROUPS, 30]),
)
def test_every_row_goes_to_the_owner_of_its_key_in_order(
    made: list[tuple[object, ...]], workers: int, keys: tuple[str, ...], groups: int
) -> None:
    batch = batch_of(made)
    partitioner = Partitioner([(name, COLUMNS[name]) for name in keys], workers, groups)
    shares = partitioner.spread(batch)
    assert [listed(share) for share in shares] == expected(batch, partitioner, workers, groups)
    assert [share.time.tolist() for share in shares] == [[row["at"] for row in listed(share)] for share in shares]


@settings(deadline=None)  # kernels may have to be compiled first
@given(rows)
def test_shares_are_sent_without_being_copied_again(made: list[tuple[object, ...]]) -> None:
    for share in Partitioner([("user", STRING)], 3).spread(batch_of(made)):
        frame = bytearray(b"".join(bytes(piece) for piece in encode(share, compact=True)))
        back = decode(frame, {"s": COLUMNS})
        assert listed(back) == listed(share)
        assert back.columns["at"].array is back.time  # sent once


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_memory_of_a_chunk_may_be_filled_anew(workers: int) -> None:
    data = np.frombuffer(bytearray(b"u1u2ab" + bytes(64)), np.uint8)
    column = Vector(STRING, Strings(data, np.array([0, 2, 4]), np.array([2, 2, 2], np.int32)))
    shares = Partitioner([("user", STRING)], workers).spread(Batch("s", np.array([1, 2, 3]), {"user": column}))
    data[:] = 0
    found = {
        time: text for share in shares for time, text in zip(share.time, share.columns["user"].to_list(), strict=True)
    }
    assert found == {1: "u1", 2: "u2", 3: "ab"}


def test_texts_at_the_very_end_of_their_buffer() -> None:
    data = np.frombuffer(bytearray(b"0123456789abcdef" + "é".encode() * 9), np.uint8)
    starts, lengths = np.array([len(data) - 18, 16, 0, len(data)]), np.array([18, 4, 16, 0], np.int32)
    batch = Batch("s", np.arange(4), {"user": Vector(STRING, Strings(data, starts, lengths))})
    # without a key all rows have one owner
    (share,) = [share for share in Partitioner([], 2).spread(batch) if len(share)]
    assert share.columns["user"].to_list() == ["é" * 9, "éé", "0123456789abcdef", ""]


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 128, 200])
def test_every_key_group_has_one_owner(workers: int) -> None:
    owned = [group for worker in range(workers) for group in owned_groups(worker, workers)]
    assert owned == list(range(KEY_GROUPS))


@settings(deadline=None)  # kernels may have to be compiled first
@given(st.lists(st.binary(max_size=20), max_size=20), st.sampled_from([2, 3, 5]), st.sampled_from([128, 100]))
def test_the_kernel_compiled_is_the_kernel_interpreted(keys: list[bytes], workers: int, groups: int) -> None:
    length = np.array([len(key) for key in keys], np.int32)
    start = (np.cumsum(length, dtype=np.int64) - length).astype(np.int64)
    strings = Strings(np.frombuffer(b"".join(keys) + bytes(8), np.uint8), start, length)
    found = []
    with np.errstate(over="ignore"):
        for each in (kernels(partition_kernel), interpreted(partition_kernel)):
            owner, counts, sizes = np.zeros(len(keys), np.uint16), np.zeros(workers, np.int64), np.zeros(workers, int)
            each.find_owners(*parts(strings), np.arange(groups, dtype=np.uint16) % workers, owner, counts)
            each.count_bytes(length, owner, sizes)
            first, first_byte = np.cumsum(counts) - counts, np.cumsum(sizes + 8) - sizes - 8
            target, lengths = np.zeros(int(sizes.sum()) + 8 * workers, np.uint8), np.zeros(len(keys), np.int32)
            each.deal_texts(*parts(strings), owner, np.stack([first, first_byte], axis=1), target, lengths)
            words, octets = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.uint8)
            each.deal_words(start, owner, first.copy(), words)
            each.deal_bytes(length.astype(np.uint8), owner, first.copy(), octets)
            texts = [
                (lengths[begin : begin + count].tolist(), target[byte : byte + size].tobytes())
                for begin, count, byte, size in zip(first, counts, first_byte, sizes, strict=True)
            ]
            found.append((owner.tolist(), counts.tolist(), texts, words.tolist(), octets.tolist()))
    assert found[0] == found[1]


def test_without_a_compiler_rows_go_to_the_same_owners() -> None:
    program = (
        "import numpy as np\n"
        "from ostinato.cep.batch import Batch, Vector\n"
        "from ostinato.cep.runtime.partition import Partitioner\n"
        "from ostinato.patterns.types import STRING\n"
        "keys = [f'user{n}' for n in range(50)]\n"
        "batch = Batch('s', np.arange(50), {'user': Vector.of(STRING, keys)})\n"
        "print([share.columns['user'].to_list() for share in Partitioner([('user', STRING)], 3).spread(batch)])\n"
    )
    plain = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    keys = [f"user{n}" for n in range(50)]
    batch = Batch("s", np.arange(50), {"user": Vector.of(STRING, keys)})
    shares = Partitioner([("user", STRING)], 3).spread(batch)
    assert plain.stdout.strip() == str([share.columns["user"].to_list() for share in shares])
