"""Kernels that deal rows out to the workers that own them; see partition.py, which gives them their arrays.

Rows are read once, in their order, and written behind one another in the part of their owner: no sorting, and no
column is gone through in any other order than it lies in memory.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ostinato.cep.strings_kernel import hash_one, mix, word

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
Lengths: TypeAlias = npt.NDArray[np.int32]
Owners: TypeAlias = npt.NDArray[np.uint16]

ALLOCATES = False
ENTRIES = ("find_owners", "count_bytes", "deal_words", "deal_bytes", "deal_texts")

ROW, BYTE = 0, 1
"""Columns of where a worker's next text goes."""

_NONE = np.uint64(0)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_FOUR = np.uint64(4)
_FIVE = np.uint64(5)
_SIX = np.uint64(6)
_SEVEN = np.uint64(7)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_TWENTYFOUR = np.uint64(24)
_THIRTYTWO = np.uint64(32)
_FORTY = np.uint64(40)
_FORTYEIGHT = np.uint64(48)
_FIFTYSIX = np.uint64(56)
_BYTE = np.uint64(0xFF)


def find_owners(data: Bytes, start: Ints, length: Lengths, owners: Owners, owner: Owners, counts: Ints) -> None:
    """The owner of each key, and how many rows each of the workers owns.

    `owners`: that of each key group. The group of a key is that of `ostinato.cep.nfa.keys.key_group`.
    """
    groups = np.uint64(len(owners))
    mask = groups - _ONE
    # A division takes as long as all the rest.
    halving = groups & mask == _NONE
    for i in range(len(start)):
        value = mix(hash_one(data, start[i], np.int64(length[i])))
        own = owners[value & mask if halving else value % groups]
        owner[i] = own
        counts[np.uint64(own)] += 1


def count_bytes(length: Lengths, owner: Owners, counts: Ints) -> None:
    """How many bytes of text each of the workers gets."""
    for i in range(len(length)):
        counts[np.uint64(owner[i])] += length[i]


def deal_words(values: Ints, owner: Owners, at: Ints, target: Ints) -> None:
    """Values of eight bytes. `at`: where each worker's next one goes, moved on."""
    for i in range(len(values)):
        own = np.uint64(owner[i])
        target[np.uint64(at[own])] = values[i]
        at[own] += 1


def deal_bytes(values: Bytes, owner: Owners, at: Ints, target: Bytes) -> None:
    """Values of one byte, as `deal_words`."""
    for i in range(len(values)):
        own = np.uint64(owner[i])
        target[np.uint64(at[own])] = values[i]
        at[own] += 1


def deal_texts(
    data: Bytes, start: Ints, length: Lengths, owner: Owners, at: Ints, target: Bytes, target_length: Lengths
) -> None:
    """Texts, each worker's one behind the other.

    `at` int64[workers, 2]: the row and the byte where each worker's next one goes, moved on. Eight bytes are copied at
    a time, whatever the length, so behind each worker's last text there must be room for eight more.
    """
    last = len(data) - 8
    for i in range(len(start)):
        own = np.uint64(owner[i])
        row = np.uint64(at[own, ROW])
        place = np.uint64(at[own, BYTE])
        size = np.int64(length[i])
        begin = start[i]
        at[own, ROW] += 1
        at[own, BYTE] += size
        target_length[row] = length[i]
        if size <= 8 and begin <= last:
            write_word(target, place, word(data, np.uint64(begin)))
        else:
            copy_text(target, place, data, begin, size)


def copy_text(target: Bytes, at: np.uint64, data: Bytes, begin: np.int64, size: np.int64) -> None:
    """A text of any length."""
    last = begin + size - 8
    source = begin
    while source <= last:
        write_word(target, at, word(data, np.uint64(source)))
        source += 8
        at += _EIGHT
    while source < begin + size:
        target[at] = data[np.uint64(source)]
        source += 1
        at += _ONE


def write_word(target: Bytes, at: np.uint64, value: np.uint64) -> None:
    """Eight bytes, the lowest first (the compiler makes one store of it)."""
    target[at] = np.uint8(value & _BYTE)
    target[at + _ONE] = np.uint8((value >> _EIGHT) & _BYTE)
    target[at + _TWO] = np.uint8((value >> _SIXTEEN) & _BYTE)
    target[at + _THREE] = np.uint8((value >> _TWENTYFOUR) & _BYTE)
    target[at + _FOUR] = np.uint8((value >> _THIRTYTWO) & _BYTE)
    target[at + _FIVE] = np.uint8((value >> _FORTY) & _BYTE)
    target[at + _SIX] = np.uint8((value >> _FORTYEIGHT) & _BYTE)
    target[at + _SEVEN] = np.uint8((value >> _FIFTYSIX) & _BYTE)
