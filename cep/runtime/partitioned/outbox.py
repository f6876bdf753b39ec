"""What leaves the operators of one partition, as records for Kafka.

Rows have deterministic ids: the partition, the stream, and which row of it. Played again from a snapshot, the same rows
get the same ids, whoever plays them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord
from ostinato.cep.connectors.kafka.options import KafkaTarget
from ostinato.cep.connectors.kafka.producers import OutRecord
from ostinato.cep.connectors.kafka.rows import keys_of, values_of
from ostinato.cep.runtime.outputs import StrictError

_HEADER_BYTES: Final = 4096
"""What headers and the frame of a record take at most."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the rows of a stream are written.

    Attributes:
        target: where to.
        keys: the columns of the record's key.
        pattern: which patterns make the rows.
        version: of these patterns.
    """

    target: KafkaTarget
    keys: tuple[str, ...]
    pattern: str
    version: str


class Outbox:
    """The outlet of one partition's operators: rows wait here until they are sent."""

    def __init__(
        self, job: str, number: int, routes: Mapping[str, Sequence[Route]], dead_letters: KafkaTarget, *, strict: bool
    ) -> None:
        """`number`: of the partition; `dead_letters`: where records go that could not be used."""
        self.muted = False
        """What comes has been written before: it is counted, and dropped."""
        self.rows: dict[str, int] = {}
        """How many rows of each stream there have been."""
        self.written: dict[str, int] = {}
        self.bad = 0
        self._job = job
        self._number = number
        self._routes = routes
        self._dead_letters = dead_letters
        self._strict = strict
        self._records: list[OutRecord] = []

    def deliver(self, batch: Batch) -> None:
        first = self.rows.get(batch.stream, 0)
        self.rows[batch.stream] = first + len(batch)
        routes = self._routes.get(batch.stream, ())
        if self.muted or not routes or not len(batch):
            return
        self.written[batch.stream] = self.written.get(batch.stream, 0) + len(batch)
        values = values_of(batch)
        times = batch.time.tolist()
        name = f"{self._job}.{batch.stream}.{self._number}.".encode()
        for route in routes:
            fixed = (("pattern", route.pattern.encode()), ("version", route.version.encode()))
            keys = keys_of(batch, route.keys)
            topic = route.target.topic
            self._records += [
                OutRecord(
                    topic,
                    key,
                    value,
                    (("match-id", b"%b%d" % (name, number)), *fixed, ("event-time", b"%d" % time)),
                )
                for number, (key, value, time) in enumerate(zip(keys, values, times, strict=True), first)
            ]

    def reject(self, records: Sequence[BadRecord]) -> None:
        if self._strict:
            raise StrictError(f"{records[0].source}, offset {records[0].offset}: {records[0].reason}")
        if self.muted:
            return
        self.bad += len(records)
        self._records += [self._dead_letter(record) for record in records]

    def put(self, records: Sequence[OutRecord]) -> None:
        """Records as they are."""
        if not self.muted:
            self._records += records

    def breathe(self, *, idle: bool) -> None:
        """Do nothing: whoever drives the operators takes what there is."""

    @property
    def waiting(self) -> int:
        """How many records nobody has taken."""
        return len(self._records)

    def take(self) -> list[OutRecord]:
        """What has come since the last call."""
        taken, self._records = self._records, []
        return taken

    def _dead_letter(self, record: BadRecord) -> OutRecord:
        headers = [
            ("job", self._job.encode()),
            ("reason", record.reason.encode("utf-8", "replace")[: _HEADER_BYTES // 2]),
            ("source-topic", str(getattr(record, "topic", record.source)).encode()),
            ("source-partition", b"%d" % getattr(record, "partition", self._number)),
            ("source-offset", b"%d" % record.offset),
            ("source-timestamp", b"%d" % getattr(record, "timestamp", -1)),
        ]
        key: bytes | None = getattr(record, "key", None)
        value = record.raw
        # A record that is larger than may be written is cut: where it came from tells where the rest is.
        room = max(0, self._dead_letters.max_request_size - _HEADER_BYTES)
        if key is not None and len(key) > room:
            headers.append(("key-truncated-from", b"%d" % len(key)))
            key = key[:room]
        room -= len(key or b"")
        own: Sequence[tuple[str, bytes]] = getattr(record, "headers", ())
        if sum(len(name) + len(held or b"") + 10 for name, held in own) + len(value) < room:
            headers += [(f"source.{name}", held or b"") for name, held in own]
        if len(value) > room:
            headers.append(("truncated-from", b"%d" % len(value)))
            value = value[:room]
        return OutRecord(self._dead_letters.topic, key, value, tuple(headers))
