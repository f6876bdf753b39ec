"""Reading a journal that grows, from any process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ostinato.server.journal.errors import JournalDamagedError, JournalTrimmedError
from ostinato.server.journal.format import Entry, Torn, decode_record, record_length, segment_name
from ostinato.server.journal.segments import bases, read_header

_LEAST_BYTES: Final = 64 << 10


class JournalReader:
    """Reads from a position on. It takes no lock and writes nothing."""

    def __init__(self, folder: Path, position: int = 0) -> None:
        self.folder = folder
        self._position = position
        self._fd = -1
        self._base = 0
        self._header_bytes = 0

    @property
    def position(self) -> int:
        """Where the next entry begins."""
        return self._position

    def seek(self, position: int) -> None:
        """Go on from another position, which must be that of a record or the end."""
        self.close()
        self._position = position

    def read(self, until: int, max_bytes: int = 4 << 20) -> list[Entry]:
        """Entries that begin before `until`, a position that the caller knows to be durable; [] when there is none.

        They are not much more than `max_bytes` together, and one at least.

        Raises:
            JournalTrimmedError: the position is not held any more.
            JournalDamagedError: what lies there is not what was written.
        """
        entries: list[Entry] = []
        size = 0
        while self._position < until and size < max_bytes:
            found = self._some(until, max_bytes - size)
            entries += found
            size += found[-1].next - found[0].position
        return entries

    def _some(self, until: int, most: int) -> list[Entry]:
        """One entry at least, from one segment."""
        data = self._bytes(min(max(most, _LEAST_BYTES), until - self._position))
        entries: list[Entry] = []
        offset = 0
        while self._position < until:
            length = record_length(data, offset)
            if entries and (not length or offset + length > len(data)):
                break
            if offset + length > len(data):
                data = self._bytes(length)
            try:
                record = decode_record(data, offset, self._position)
            except Torn as torn:
                path = self.folder / segment_name(self._base)
                at = self._header_bytes + self._position - self._base
                raise JournalDamagedError(
                    f"{path}: damaged at byte {at} (position {self._position}): {torn}; put the file back from a copy"
                ) from None
            entries.append(record.entry(data))
            offset = record.end
            self._position = record.next
        return entries

    def _bytes(self, size: int) -> bytes:
        """Bytes from the position on, one at least; goes on to the next segment."""
        if self._fd < 0:
            self._find()
        data = self._pread(size)
        if not data:
            # a segment ends where the next one begins
            self.close()
            self._find()
            data = self._pread(size)
        if not data:
            raise JournalDamagedError(
                f"{self.folder / segment_name(self._base)}: the records end at position {self._position}, though what "
                "follows was durable; put the file back from a copy"
            )
        return data

    def _pread(self, size: int) -> bytes:
        return os.pread(self._fd, size, self._header_bytes + self._position - self._base)

    def _find(self) -> None:
        """Open the segment that has the position."""
        while True:
            held = bases(self.folder)
            before = [base for base in held if base <= self._position]
            if not before:
                first = held[0] if held else 0
                raise JournalTrimmedError(
                    f"{self.folder}: position {self._position} is not held any more; the journal begins at {first}",
                    first,
                )
            try:
                fd = os.open(self.folder / segment_name(before[-1]), os.O_RDONLY)
            except FileNotFoundError:
                continue  # dropped since we looked
            try:
                header = read_header(self.folder, before[-1], fd)
            except BaseException:
                os.close(fd)
                raise
            self._fd, self._base, self._header_bytes = fd, header.base, header.size
            return

    def close(self) -> None:
        """Let go of the file; reading opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
