"""The idempotency keys that the journal knows."""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

DIGEST_BYTES: Final = 16
_HELD: Final = struct.Struct("<qqII")
_STORED: Final = struct.Struct("<16sqqqII")
STORED_BYTES: Final = _STORED.size
_TAIL: Final = STORED_BYTES - _HELD.size
"""Where in a stored key that begins which is held: behind its digest and its time."""


def digest_of(stream: str, key: bytes) -> bytes:
    """What stands for a key of a stream."""
    return hashlib.blake2b(stream.encode() + b"\0" + key, digest_size=DIGEST_BYTES).digest()


class Known(NamedTuple):
    """What an append with a key came to."""

    position: int
    next: int
    rows: int
    crc: int
    """crc32 of its lines: the same key with other lines is a mistake of the caller."""


class KeyTable:
    """Digests and what their appends came to, the oldest first. Values are packed: there may be a million."""

    def __init__(self, window_ms: int, most: int) -> None:
        self._window_ms = window_ms
        self._most = most
        self._held: dict[bytes, bytes] = {}
        # a dict from whose front much is deleted is slow to say what is in front
        self._order: deque[tuple[int, tuple[bytes, ...]]] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, digest: bytes) -> Known | None:
        held = self._held.get(digest)
        return None if held is None else Known(*_HELD.unpack(held))

    def add(self, time_ms: int, position: int, next_: int, keys: Iterable[tuple[bytes, int, int]]) -> None:
        """Keys of one record: digest, rows, crc. Times must not go back."""
        digests = []
        for digest, rows, crc in keys:
            self._held[digest] = _HELD.pack(position, next_, rows, crc)
            digests.append(digest)
        if digests:
            self._order.append((time_ms, tuple(digests)))

    def load(self, packed: bytes) -> None:
        """Add what `pack_keys` made. Times must not go back."""
        held, began = self._held, b""
        digests: list[bytes] = []
        for at in range(0, len(packed), STORED_BYTES):
            time_ms = packed[at + DIGEST_BYTES : at + _TAIL]
            if time_ms != began:
                self._note(began, digests)
                began, digests = time_ms, []
            digest = packed[at : at + DIGEST_BYTES]
            # what is stored ends as what is held
            held[digest] = packed[at + _TAIL : at + STORED_BYTES]
            digests.append(digest)
        self._note(began, digests)

    def _note(self, time_ms: bytes, digests: list[bytes]) -> None:
        if digests:
            self._order.append((int.from_bytes(time_ms, "little", signed=True), tuple(digests)))

    def forget(self, now_ms: int) -> None:
        """Forget what is older than the window, and the oldest where there are too many."""
        bound = now_ms - self._window_ms
        while self._order and (self._order[0][0] < bound or len(self._held) > self._most):
            for digest in self._order.popleft()[1]:
                self._held.pop(digest, None)

    @property
    def oldest_ms(self) -> int | None:
        return self._order[0][0] if self._order else None


def pack_keys(time_ms: int, position: int, next_: int, keys: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Keys of one record for an index."""
    return b"".join(_STORED.pack(digest, time_ms, position, next_, rows, crc) for digest, rows, crc in keys)
