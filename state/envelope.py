"""What everything that is stored is wrapped in: a magic word, a checksum, a version, a size.

The checksum covers all that comes behind it, the version too: what cannot be trusted is never taken for something of
another release. This layout stays as it is; what is inside has versions of its own kind.
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import Final, TypeAlias

import zstandard

from ostinato.state.errors import DamagedError, SnapshotError

Buffer: TypeAlias = bytes | bytearray | memoryview

_START: Final = struct.Struct("<4sI")
"""Magic word, CRC-32 of what follows."""
_REST: Final = struct.Struct("<HHQ")
"""Version, codec, size of the content in bytes."""
_HEAD_BYTES: Final = _START.size + _REST.size

_PLAIN, _ZSTD = 0, 1
_LEVEL: Final = 1
"""State is written every few seconds and seldom read."""
_WORTHWHILE_BYTES: Final = 96
"""What is shorter gains nothing from compression."""

_local = threading.local()
"""Compressors are dear to make and belong to one thread at a time."""


def seal(magic: bytes, version: int, content: bytes) -> bytes:
    """Content in its envelope, compressed where that helps."""
    codec, payload = _PLAIN, content
    if len(content) >= _WORTHWHILE_BYTES:
        packed = _compressor().compress(content)
        if len(packed) < len(content):
            codec, payload = _ZSTD, packed
    rest = _REST.pack(version, codec, len(content))
    return b"".join((_START.pack(magic, zlib.crc32(payload, zlib.crc32(rest))), rest, payload))


def unseal(magic: bytes, newest: int, data: Buffer, what: str) -> tuple[int, bytes]:
    """The version and the content of an envelope; `newest` is the latest version that the caller can read.

    Raises:
        DamagedError: the bytes are cut short, were changed, or are no such envelope; `what` names them.
        SnapshotError: they are of a later version.
    """
    if len(data) < _HEAD_BYTES:
        raise DamagedError(f"{what} is damaged: {len(data)} bytes are too few")
    found, crc = _START.unpack_from(data)
    if found != magic:
        raise DamagedError(f"{what} is damaged: it begins with {found!r} instead of {magic!r}")
    if zlib.crc32(memoryview(data)[_START.size :]) != crc:
        raise DamagedError(f"{what} is damaged: its checksum does not fit")
    version, codec, size = _REST.unpack_from(data, _START.size)
    if not 1 <= version <= newest:
        raise SnapshotError(
            f"{what} has format {version}; this release reads formats 1 to {newest}: use the release that wrote it, "
            "or a later one"
        )
    payload = bytes(memoryview(data)[_HEAD_BYTES:])
    if codec == _PLAIN:
        content = payload
    elif codec == _ZSTD:
        content = _decompress(payload, size, what)
    else:
        raise SnapshotError(f"{what} is compressed by codec {codec}, which this release does not know")
    if len(content) != size:
        raise DamagedError(f"{what} is damaged: {len(content)} bytes instead of {size}")
    return version, content


def _compressor() -> zstandard.ZstdCompressor:
    found: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if found is None:
        found = _local.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return found


def _decompress(payload: bytes, size: int, what: str) -> bytes:
    found: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if found is None:
        found = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        # the frame says its size itself: it must not be larger than promised, whoever has made it
        if zstandard.frame_content_size(payload) != size:
            raise DamagedError(f"{what} is damaged: its compressed part does not have {size} bytes")
        return found.decompress(payload, max_output_size=size)
    except zstandard.ZstdError as error:
        raise DamagedError(f"{what} is damaged: {error}") from None
