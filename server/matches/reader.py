"""Reads the match log, from any process, while it grows."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostinato.server.matches.cursor import Cursor
from ostinato.server.matches.errors import MatchesGoneError, MatchLogError
from ostinato.server.matches.format import Block, bases
from ostinato.server.matches.rows import EVERYTHING, Filter, Match

_ANSWER_BYTES: Final = 4 << 20
_NEVER: Final = 1 << 62
_LOOKED_AT_BYTES: Final = 32 << 20
"""A filter that admits next to nothing must not keep whoever asks waiting for the end of the log."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one look at the log has found.

    Attributes:
        matches: those that are wanted, in order.
        behind: the last row that was looked at: the next look goes on behind it. What `after` was where there is
            nothing more.
    """

    matches: list[Match]
    behind: int


class MatchLogReader:
    """May be used by several threads, one at a time. What is not whole yet is not there yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()
        self._cursor = Cursor(folder)
        self._tail = Cursor(folder)
        self._block: Block | None = None
        """The last that was read: a next look often goes on within it."""

    def read(self, after: int, limit: int, *, max_bytes: int = _ANSWER_BYTES) -> list[Match]:
        """The matches behind `after`, up to `limit` of them or `max_bytes` of values, but one at least if there is one.

        Raises:
            MatchesGoneError: what comes first behind `after` is not there any more.
            MatchLogError: the log cannot be read.
        """
        return self.scan(after, limit, max_bytes=max_bytes).matches

    def scan(self, after: int, limit: int, wanted: Filter = EVERYTHING, *, max_bytes: int = _ANSWER_BYTES) -> Scan:
        """The same, of those that are wanted. It may find none although there are some further on: see `Scan.behind`.
        Raises as `read` does."""
        if limit < 1 or after < 0:
            raise ValueError(f"after {after}, limit {limit}: the one is 0 or more, the other 1 or more")
        with self._turn:
            return self._scan(after, limit, wanted, max_bytes)

    @property
    def first_seq(self) -> int:
        """The first row that there is; where there is none, the one that will be next, 1 in a new log."""
        known = bases(self._folder)
        return known[0] if known else 1

    @property
    def last_seq(self) -> int:
        """The last row that there is; 0 in a new log. Raises MatchLogError."""
        with self._turn:
            while True:
                try:
                    if self._tail.seq == 0 and not self._tail.seek(_NEVER):
                        known = bases(self._folder)
                        return known[-1] - 1 if known else 0
                    for _ in self._tail:
                        pass
                    return self._tail.seq - 1
                except MatchesGoneError:
                    self._tail.close()  # it was trimmed, or begins anew behind a gap

    def close(self) -> None:
        with self._turn:
            self._cursor.close()
            self._tail.close()
            self._block = None

    def _scan(self, after: int, limit: int, wanted: Filter, max_bytes: int) -> Scan:
        found: list[Match] = []
        looked_at = 0
        while True:
            try:
                block = self._block_with(after + 1)
            except MatchLogError:
                if found:
                    break  # these first; the next call says it
                raise
            if block is None:
                break
            matches, after, size = block.matches(after, wanted, limit - len(found), max_bytes)
            found += matches
            max_bytes -= size
            looked_at += block.size
            if len(found) >= limit or max_bytes <= 0 or after < block.next_seq - 1 or looked_at > _LOOKED_AT_BYTES:
                break
        return Scan(found, after)

    def _block_with(self, seq: int) -> Block | None:
        last = self._block
        if last is not None and last.seq <= seq < last.next_seq:
            return last
        cursor = self._cursor
        if cursor.seq != seq and not cursor.seek(seq):
            return None
        block = cursor.next()
        if block is None or block.next_seq <= seq:
            return None  # the log has not come so far
        self._block = block
        return block
