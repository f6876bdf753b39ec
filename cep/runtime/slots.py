"""Memory that parent and workers share: chunks of text are handed over in it without being copied once more.

There is a slot for each entry that can be under way, and entry k has slot k mod their number: by the time it is dealt,
the entry that had the slot before has been written, so nobody looks at the slot any more. Pages of slots that were
never filled cost nothing.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np

from ostinato.cep.connectors.base import LARGE_CHUNK_BYTES, SLACK, Bytes, Chunk

_SLOT_BYTES = -(-(LARGE_CHUNK_BYTES + SLACK) // mmap.PAGESIZE) * mmap.PAGESIZE


class Slots:
    """The slots, as one of the processes sees them."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: an open file of the size that `make` gave it; it stays the caller's."""
        self._held = mmap.mmap(descriptor, 0)
        self._bytes: Bytes = np.frombuffer(self._held, np.uint8)
        self._count = len(self._bytes) // _SLOT_BYTES

    def put(self, entry: int, chunk: Chunk) -> bool:
        """Copy an entry's text to its slot; False where it is no text or does not fit."""
        size = chunk.size + SLACK
        if not isinstance(chunk.data, np.ndarray) or size > _SLOT_BYTES:
            return False
        self._slot(entry)[:size] = chunk.data[:size]
        return True

    def get(self, entry: int) -> Bytes:
        """The text of an entry, to be used only until the entry is admitted."""
        return self._slot(entry)

    def _slot(self, entry: int) -> Bytes:
        first = entry % self._count * _SLOT_BYTES
        return self._bytes[first : first + _SLOT_BYTES]


def make(count: int) -> int:
    """A file of so many slots that has no name and no place on a disk; the descriptor is to be closed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("ostinato-chunks")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, count * _SLOT_BYTES)
    return descriptor
