"""Records in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ostinato.state.keyed_records import KeyRecord, RecordFormat
from ostinato.state.rocks import Rocks


class MemoryBackend:
    """A dict for each key group."""

    rocks: Rocks | None = None

    def __init__(self) -> None:
        self._groups: dict[int, dict[bytes, KeyRecord]] = {}
        self._form = RecordFormat([], [])
        self._round: list[tuple[int, bytes]] = []
        self._pending: list[int] = []

    def bind(self, form: RecordFormat) -> None:
        self._form = form

    def prefetch(self, keys: Sequence[tuple[int, bytes]]) -> None: ...

    def get(self, group: int, key: bytes) -> KeyRecord | None:
        held = self._groups.get(group)
        return None if held is None else held.get(key)

    def put(self, group: int, key: bytes, record: KeyRecord) -> None:
        held = self._groups.get(group)
        if held is None:
            held = self._groups[group] = {}
        held[key] = record

    def remove(self, group: int, key: bytes) -> None:
        held = self._groups.get(group)
        if held is not None and held.pop(key, None) is not None and not held:
            del self._groups[group]  # and with it the room that the dict has grown to

    def packed(self, group: int) -> Iterator[tuple[bytes, bytes]]:
        pack = self._form.pack
        for key, record in self._groups.get(group, {}).items():
            yield key, pack(record)

    def some(self, budget: int) -> Sequence[tuple[int, bytes, KeyRecord]]:
        found: list[tuple[int, bytes, KeyRecord]] = []
        looked = 0
        while looked < budget:
            if not self._round:
                if not self._pending:
                    if looked or not self._groups:
                        break  # at most one round, however few there are
                    self._pending = list(self._groups)
                group = self._pending.pop()
                self._round = [(group, key) for key in self._groups.get(group, ())]
                continue
            taken, self._round = self._round[-(budget - looked) :], self._round[: -(budget - looked)]
            looked += len(taken)
            found += [(group, key, record) for group, key in taken if (record := self.get(group, key)) is not None]
        return found

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def close(self) -> None:
        self._groups.clear()
