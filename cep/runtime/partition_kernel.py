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


def find_owners(
    data: Bytes, start: Ints, length: Lengths, groups: int, workers: int, owner: Owners, counts: Ints
) -> None:
    """The owner of each key, and how many rows each of the workers owns.

    The group of a key is that of `ostinato.cep.nfa.groups.key_group`; contiguous ranges of groups have one owner.
    """
    many = np.uint64(groups)
    for i in range(len(start)):
        group = np.int64(mix(hash_one(data, start[i], np.int64(length[i]))) % many)
        found = group * workers // groups
        owner[i] = found
        counts[found] += 1


def count_bytes(length: Lengths, owner: Owners, counts: Ints) -> None:
    """How many bytes of text each of the workers gets."""
    for i in range(len(length)):
        counts[owner[i]] += length[i]


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
    data: Bytes,
    start: Ints,
    length: Lengths,
    owner: Owners,
    at: Ints,
    bytes_at: Ints,
    target: Bytes,
    target_start: Ints,
    target_length: Lengths,
    first_byte: Ints,
) -> None:
    """Texts, each worker's one behind the other.

    `bytes_at`: where each worker's next byte goes in `target`, moved on; starts are counted from `first_byte`. Eight
    bytes are copied at a time, whatever the length, so behind each worker's last text there must be room for eight
    more.
    """
    last = len(data) - 8
    for i in range(len(start)):
        own = np.uint64(owner[i])
        row = np.uint64(at[own])
        at[own] += 1
        begin = bytes_at[own]
        size = np.int64(length[i])
        target_start[row] = begin - first_byte[own]
        target_length[row] = length[i]
        bytes_at[own] = begin + size
        copied = 0
        while copied < size:
            source = start[i] + copied
            place = np.uint64(begin + copied)
            if source <= last:
                write_word(target, place, word(data, np.uint64(source)))
            else:
                write_bytes(target, place, data, np.uint64(source), size - copied)
            copied += 8


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


def write_bytes(target: Bytes, at: np.uint64, data: Bytes, source: np.uint64, count: np.int64) -> None:
    """At most eight bytes, at the end of the data."""
    for k in range(min(8, count)):
        target[at + np.uint64(k)] = data[source + np.uint64(k)]
