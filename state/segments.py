"""Records as bytes: what a key group's piece of a blob consists of.

Inside its envelope a segment is a head (msgpack), then four columns: lengths of keys, lengths of values, keys, values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from ostinato.state.envelope import Buffer, seal, unseal
from ostinato.state.errors import DamagedError
from ostinato.state.records import Blobs, Bytes, Ints, Records
from ostinato.state.typed import decode_msgpack

FORMAT_VERSION: Final = 1
_MAGIC: Final = b"OSEG"
_SHARED_MAGIC: Final = b"OSSH"
_HEAD_LENGTH: Final = struct.Struct("<I")
_WIDTHS: Final = (1, 2, 4, 8)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """Rows; sizes of the columns of keys and of values; bytes per length in the columns of lengths."""

    rows: int
    key_bytes: int
    value_bytes: int
    key_width: int
    value_width: int


def encode(records: Records) -> bytes:
    """Records as a segment."""
    keys, key_offset = _tight(records.keys)
    values, value_offset = _tight(records.values)
    key_lengths, value_lengths = np.diff(key_offset), np.diff(value_offset)
    head = _Head(len(records), len(keys), len(values), _width(key_lengths), _width(value_lengths))
    packed = msgspec.msgpack.encode(head)
    content = b"".join(
        (
            _HEAD_LENGTH.pack(len(packed)),
            packed,
            key_lengths.astype(f"<u{head.key_width}").tobytes(),
            value_lengths.astype(f"<u{head.value_width}").tobytes(),
            keys.tobytes(),
            values.tobytes(),
        )
    )
    return seal(_MAGIC, FORMAT_VERSION, content)


def decode(data: Buffer, what: str) -> Records:
    """The records of a segment; `what` names it in errors.

    Raises:
        DamagedError: it is not whole.
        SnapshotError: it is of a later release.
    """
    _, content = unseal(_MAGIC, FORMAT_VERSION, data, what)
    head, at = _head(content, what)
    key_lengths, at = _lengths(content, at, head.rows, head.key_width)
    value_lengths, at = _lengths(content, at, head.rows, head.value_width)
    whole = np.frombuffer(content, np.uint8)
    keys = whole[at : at + head.key_bytes]
    values = whole[at + head.key_bytes :]
    return Records(_blobs(keys, key_lengths, what), _blobs(values, value_lengths, what))


def encode_shared(shared: bytes) -> bytes:
    """What belongs to no key, as a piece."""
    return seal(_SHARED_MAGIC, FORMAT_VERSION, shared)


def decode_shared(data: Buffer, what: str) -> bytes:
    """The reverse of `encode_shared`. Raises as `decode` does."""
    return unseal(_SHARED_MAGIC, FORMAT_VERSION, data, what)[1]


def merge(oldest_first: Iterable[Records]) -> Records:
    """One state of what was first and changes to it: later values win, keys whose value became empty are gone."""
    parts = list(oldest_first)
    if not parts:
        return Records.of([])
    first, *changes = parts
    kept = first.values.lengths > 0
    if not changes and bool(kept.all()):
        return first
    later: dict[bytes, bytes] = {}
    for part in changes:
        later.update(part.items())
    if later:
        # the first is the largest by far: only its keys are looked at one by one
        kept &= ~np.fromiter(map(later.__contains__, first.keys), np.bool_, len(first))
    old, new = first.take(np.flatnonzero(kept)), Records.of([item for item in later.items() if item[1]])
    return Records(_joined(old.keys, new.keys), _joined(old.values, new.values))


def _joined(first: Blobs, second: Blobs) -> Blobs:
    """Those of the one, which begin where its bytes do, then those of the other."""
    data = np.concatenate((first.data, second.data))
    return Blobs(data, np.concatenate((first.offset, second.offset[1:] + first.offset[-1])))


def _tight(blobs: Blobs) -> tuple[Bytes, Ints]:
    """The bytes that belong to the strings, and nothing around them."""
    begin, end = int(blobs.offset[0]), int(blobs.offset[-1])
    return blobs.data[begin:end], blobs.offset


def _width(lengths: Ints) -> int:
    largest = int(lengths.max(initial=0))
    return next(width for width in _WIDTHS if largest < 1 << 8 * width)


def _head(content: bytes, what: str) -> tuple[_Head, int]:
    """The head, and where the columns begin."""
    try:
        (length,) = _HEAD_LENGTH.unpack_from(content)
        at = _HEAD_LENGTH.size + length
        head = decode_msgpack(memoryview(content)[_HEAD_LENGTH.size : at], _Head)
    except (struct.error, msgspec.MsgspecError) as error:
        raise DamagedError(f"{what} is damaged: its head cannot be read ({error})") from None
    if head.key_width not in _WIDTHS or head.value_width not in _WIDTHS or head.rows < 0:
        raise DamagedError(f"{what} is damaged: its head says {head}")
    size = at + head.rows * (head.key_width + head.value_width) + head.key_bytes + head.value_bytes
    if size != len(content):
        raise DamagedError(f"{what} is damaged: {len(content)} bytes instead of {size}")
    return head, at


def _lengths(content: bytes, at: int, count: int, width: int) -> tuple[Ints, int]:
    lengths = np.frombuffer(content, f"<u{width}", count, at).astype(np.int64)
    return lengths, at + count * width


def _blobs(data: Bytes, lengths: Ints, what: str) -> Blobs:
    offset = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offset[1:])
    if offset[-1] != len(data) or bool((lengths < 0).any()):
        raise DamagedError(f"{what} is damaged: its lengths do not add up to its size")
    return Blobs(data, offset)
