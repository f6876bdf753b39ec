"""Records in RocksDB, for state that is larger than memory; those in use are held unpacked.

The folder is scratch space: it is wiped at the start, and deleted at the end. What lasts are checkpoints.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ostinato.state import rocks
from ostinato.state.keyed_records import KeyRecord, RecordFormat

_HELD_RECORDS: Final = 32_768
"""Unpacked records at most (save those of the batch in hand): some ten megabytes, and what a batch brings."""
_RECORD: Final = b"r"


class RocksDBBackend:
    """Writes records back in batches; reads those of a batch at once."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        cache_bytes: int = rocks.CACHE_BYTES,
        write_buffer_bytes: int = rocks.WRITE_BUFFER_BYTES,
        held_records: int = _HELD_RECORDS,
    ) -> None:
        """`folder`: for the database; by default a new one among the system's temporary files."""
        self._own = None if folder is not None else Path(tempfile.mkdtemp(prefix="ostinato-state-"))
        where = folder if folder is not None else self._own
        assert where is not None
        self.rocks = rocks.Rocks(where / "rocksdb", cache_bytes, write_buffer_bytes)
        self._limit = held_records
        self._held: dict[bytes, KeyRecord | None] = {}
        self._changed: set[bytes] = set()
        self._form = RecordFormat([], [])
        self._at = b""

    def bind(self, form: RecordFormat) -> None:
        self._form = form

    def prefetch(self, keys: Sequence[tuple[int, bytes]]) -> None:
        wanted = {_name(group, key) for group, key in keys}
        if len(self._held) + len(wanted) > self._limit:
            self._write()
            self._held = {name: record for name, record in self._held.items() if name in wanted}
        missing = sorted(wanted - self._held.keys())
        for name, data in zip(missing, self.rocks.get_many(missing), strict=True):
            self._held[name] = None if data is None else self._form.unpack(data)

    def get(self, group: int, key: bytes) -> KeyRecord | None:
        name = _name(group, key)
        if name not in self._held:
            self._make_room()
            data = self.rocks.get(name)
            self._held[name] = None if data is None else self._form.unpack(data)
        return self._held[name]

    def put(self, group: int, key: bytes, record: KeyRecord) -> None:
        self._make_room()
        name = _name(group, key)
        self._held[name] = record
        self._changed.add(name)

    def remove(self, group: int, key: bytes) -> None:
        name = _name(group, key)
        self._held[name] = None
        self._changed.add(name)

    def packed(self, group: int) -> Iterator[tuple[bytes, bytes]]:
        self._write()
        for name, data in self.rocks.scan(_name(group, b"")):
            yield name[3:], data

    def some(self, budget: int) -> Sequence[tuple[int, bytes, KeyRecord]]:
        self._write()
        found: list[tuple[int, bytes, KeyRecord]] = []
        for name, data in self.rocks.scan(_RECORD, self._at):
            if len(found) == budget:
                self._at = name
                return found
            held = self._held.get(name)
            found.append((int.from_bytes(name[1:3]), name[3:], held if held is not None else self._form.unpack(data)))
        self._at = b""
        return found

    def __len__(self) -> int:
        self._write()
        return self.rocks.count()

    def close(self) -> None:
        self.rocks.destroy()
        self._held.clear()
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)

    def _write(self) -> None:
        if not self._changed:
            return
        pack, held = self._form.pack, self._held
        puts = [(name, pack(record)) for name in sorted(self._changed) if (record := held[name]) is not None]
        self.rocks.write(puts, [name for name in self._changed if held[name] is None])
        self._changed.clear()

    def _make_room(self) -> None:
        # What a batch has brought may stay until it is done.
        if len(self._held) > 2 * self._limit:
            self._write()
            self._held.clear()


def _name(group: int, key: bytes) -> bytes:
    """What a record is called in the database: those of a key group stand together."""
    return _RECORD + group.to_bytes(2) + key
