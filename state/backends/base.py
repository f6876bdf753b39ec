"""What keyed state needs of a backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ostinato.state.keyed_records import KeyRecord, RecordFormat
from ostinato.state.rocks import Rocks


class Backend(Protocol):
    """Records by key group and key."""

    @property
    def rocks(self) -> Rocks | None:
        """The local database, for what else may outgrow memory; keys that begin with ``t`` are for timers."""

    def bind(self, form: RecordFormat) -> None:
        """Say how records are packed; before anything else."""

    def prefetch(self, keys: Sequence[tuple[int, bytes]]) -> None:
        """These are asked for next."""

    def get(self, group: int, key: bytes) -> KeyRecord | None:
        """The record, which may be changed in place; a change counts when the record is put."""

    def put(self, group: int, key: bytes, record: KeyRecord) -> None: ...

    def remove(self, group: int, key: bytes) -> None: ...

    def packed(self, group: int) -> Iterator[tuple[bytes, bytes]]:
        """The records of a key group as bytes; nothing may be put or removed meanwhile."""

    def some(self, budget: int) -> Sequence[tuple[int, bytes, KeyRecord]]:
        """About `budget` records, from where the last call stopped, all of them in turn."""

    def __len__(self) -> int:
        """How many records there are, about."""

    def close(self) -> None: ...
