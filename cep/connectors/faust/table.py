"""State in a Faust table: rows go to its store and, confirmed, to its changelog topic.

The table's own ``table[key] = value`` tells nobody whether Kafka has taken the change, and Faust commits offsets
although it has not (a change that failed is only logged; a full buffer is given up after 0.1 s). So rows are put into
the store and sent by the two calls that ``table[key] = value`` consists of, and what was sent is waited for.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ostinato.cep.connectors.faust.journal import Held, Journal, PartitionRows, Row, partition_of, prefixes
from ostinato.state.errors import StoreError

_ROWS_AT_ONCE = 2_000
"""Rows that are sent before the event loop has a turn."""


class _Message:
    def __init__(self, partition: int) -> None:
        self.partition = partition


class Place:
    """Stands for an event where a store asks which partition it is to write to."""

    def __init__(self, partition: int) -> None:
        self.message = _Message(partition)


def make_current(event: Any) -> None:
    """Let this be Faust's current event, which tables ask for that the agent writes to."""
    from faust.streams import _current_event

    _current_event.set(weakref.ref(event))


@contextmanager
def at(event: Any) -> Iterator[None]:
    """Let this be Faust's current event."""
    from faust.streams import _current_event

    token = _current_event.set(weakref.ref(event))
    try:
        yield
    finally:
        _current_event.reset(token)


class StateTable:
    """Writes and reads the rows of partitions."""

    def __init__(self, table: Any) -> None:
        """`table`: of bytes, by bytes (`state_table` makes one)."""
        self.table = table
        self._partitions: dict[int, PartitionRows] = {}

    @property
    def name(self) -> str:
        return str(self.table.name)

    def load(self, partition: int, where: str) -> Held | None:
        """What is there of a partition. Raises DamagedError, SnapshotError."""
        rows = self._partitions[partition] = PartitionRows(partition, self._rows(partition), where)
        return rows.held

    async def write(self, journals: Sequence[tuple[int, Journal]]) -> Sequence[Awaitable[Any]]:
        """Write the journals of partitions, and wait until Kafka has them; then their rows, for which the caller has to
        wait before it calls again.

        Raises StoreError where Kafka does not take them.
        """
        steps = [(partition, self._partitions[partition].steps(journal)) for partition, journal in journals]
        sent: list[Awaitable[Any]] = []
        for step in range(3):
            await confirmed(sent, self.name)
            sent = []
            for partition, rows in steps:
                for row in rows[step]:
                    sent.append(self._send(partition, row))
                    if len(sent) % _ROWS_AT_ONCE == 0:
                        await asyncio.sleep(0)
        return sent

    def drop(self, assigned: Iterable[int]) -> None:
        """Forget rows in memory of partitions that are not among those assigned; their changelogs have them."""
        from faust.stores.memory import Store
        from faust.types import TP

        kept = set(assigned)
        store = self.table.data
        if isinstance(store, Store):
            gone = [row for row in store.data if partition_of(row) not in kept]
            for row in gone:
                store.data.pop(row, None)
                store._key_partition.pop(row, None)
            # when they come back their changelog has to be read from its beginning, also where two rebalances were so
            # close that Faust passed over the first
            for number in {partition_of(row) for row in gone} | (self._partitions.keys() - kept):
                self.table.app.tables.recovery.revoke(TP(self.table.changelog_topic_name, number))
        for number in self._partitions.keys() - kept:
            self._partitions.pop(number)

    def _send(self, partition: int, row: Row) -> Awaitable[Any]:
        key, value = row
        store = self.table.data
        with at(place := Place(partition)):
            assert place.message.partition == partition
            if value is not None:
                store[key] = value
            elif key in store:
                del store[key]
        # a tombstone is no value that a codec knows
        sent: Awaitable[Any] = self.table.send_changelog(partition, key, value, "raw", "raw")
        return sent

    def _rows(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        own = prefixes(partition)
        store = self.table.data
        of_partition = getattr(store, "_db_for_partition", None)
        items = store.items() if of_partition is None else store._visible_items(of_partition(partition))
        return ((bytes(key), bytes(value)) for key, value in items if bytes(key).startswith(own))


async def confirmed(sent: Sequence[Awaitable[Any]], name: str) -> None:
    """Wait until Kafka has taken what was sent. Raises StoreError."""
    if not sent:
        return
    for answer in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise StoreError(
                f"table {name}: its changelog topic did not take a change: {answer!r}; is a key's state larger than "
                "producer_max_request_size or the topic's max.message.bytes?"
            ) from answer
