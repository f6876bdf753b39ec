"""Knowing a file again, to go on reading it where an earlier run had come to.

A position holds checksums of the first bytes of the file and of the last ones before it, after decompression. A file
that was moved, copied or compressed since is still known by them; one that was replaced, or cut back, is not taken for
it.
"""

from __future__ import annotations

import glob
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostinato.cep.connectors.base import Chunk, SourceError
from ostinato.cep.connectors.files import File

HEAD_BYTES = 1024
TAIL_BYTES = 1024
_ROTATED = re.compile(r"[-._]?\d[\d\-_.T:]*(\.(gz|zst|zstd))?|\.(old|bak|gz|zst|zstd)")
"""What log rotation puts behind a name."""


def tail_mark(chunk: Chunk) -> list[int]:
    """Size and CRC-32 of the last bytes of a chunk of text."""
    size = min(chunk.size, TAIL_BYTES)
    return [size, zlib.crc32(chunk.data[chunk.size - size : chunk.size])]


def head_mark(head: bytes | bytearray) -> list[int]:
    """Size and CRC-32 of the first bytes of a file."""
    return [len(head), zlib.crc32(head)]


def first_bytes(path: str, size: int) -> bytes:
    """The beginning of a file, decompressed."""
    file = File(path)
    try:
        return _read(file, size)
    finally:
        file.close()


def open_at(path: str, position: Mapping[str, Any]) -> File | str:
    """Open a file where reading goes on; what is wrong where it is not the one that was read."""
    offset = position["offset"]
    size, check = position["head"]
    if zlib.crc32(first_bytes(path, size)) != check:
        return "it begins with other bytes than the file that was read"
    size, check = position["tail"]
    file = File(path)
    try:
        there = file.skip(offset - size)
        tail = _read(file, size)
    except BaseException:
        file.close()
        raise
    if there + len(tail) < offset:
        wrong = f"it has {there + len(tail)} bytes, and had been read up to byte {offset}"
    elif zlib.crc32(tail) != check:
        wrong = f"what stands before byte {offset} is not what was read there"
    else:
        return file
    file.close()
    return wrong


def find_again(path: str, position: Mapping[str, Any]) -> tuple[str, File]:
    """Find a followed file, which may have been renamed since, and open it where reading goes on.

    Raises:
        SourceError: it is not there any more.
    """
    inode = (position["device"], position["inode"])
    nearby = [other for other in (path, *rotated(path)) if Path(other).exists()]
    wrong = "" if path in nearby else "it is gone"
    for other in sorted(nearby, key=lambda other: _inode(other) != inode):
        try:
            found = open_at(other, position)
        except SourceError as error:
            found = str(error)
        if isinstance(found, File):
            return other, found
        if other == path:
            wrong = found
    raise SourceError(f"cannot go on in {path}: {wrong}, and no rotated file beside it is the one; {_REMEDY}")


_REMEDY = "put back the file that was read, or start the job anew"


def refusal(path: str, wrong: str) -> SourceError:
    """What to say about a file that is not the one that was read."""
    return SourceError(f"cannot go on in {path}: {wrong}; {_REMEDY}")


def rotated(path: str) -> list[str]:
    """Files beside `path` that log rotation may have made of it."""
    beside = glob.glob(glob.escape(path) + "?*")  # noqa: PTH207
    return sorted(other for other in beside if _ROTATED.fullmatch(other[len(path) :]) and Path(other).is_file())


def rotated_since(path: str, other: str) -> list[str]:
    """The files that were rotated away after `other` was, the oldest first."""
    began = os.stat(other).st_mtime_ns  # noqa: PTH116
    times = {each: os.stat(each).st_mtime_ns for each in rotated(path)}  # noqa: PTH116
    return sorted((each for each in times if each != other and times[each] > began), key=times.__getitem__)


def are_regular(paths: Sequence[str]) -> bool:
    """Can the files be read a second time? Pipes and devices cannot; what is not there yet will be a file."""
    return all(Path(path).is_file() or not Path(path).exists() for path in paths)


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _read(file: File, size: int) -> bytes:
    held = bytearray(size)
    return bytes(held[: file.readinto(memoryview(held))])
