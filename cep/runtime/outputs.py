"""Where everything goes that leaves a job: sinks, dead letters, counts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Sink
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop

FLUSH_SECONDS = 0.2
"""How long output may wait in a buffer while input keeps coming."""


class StrictError(Exception):
    """A bad record came, and the job was told to accept none."""


class RecordFile(Protocol):
    """Where bad records are kept."""

    def write(self, records: Sequence[BadRecord]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class Outputs:
    """The outlet of a job: hands each batch to the sinks of its stream.

    All methods but `deliver` of a stream without sinks raise SinkError where the outside fails.
    """

    def __init__(
        self,
        sinks: Mapping[str, Sequence[Sink]],
        dead_letters: RecordFile | None = None,
        *,
        strict: bool = False,
        limit: int | None = None,
        show: int | None = None,
        stop: Stop | None = None,
    ) -> None:
        """
        Args:
            sinks: by stream, late rows under ``NAME.late``; rows of streams that are not there are dropped.
            dead_letters: takes bad records.
            strict: a bad record ends the job.
            limit: after so many rows `stop` is requested; rows beyond are dropped.
            show: rows beyond so many are dropped, and the job goes on.
            stop: see `limit`.
        """
        self.written: dict[str, int] = {}
        self._sinks = sinks
        self._dead_letters = dead_letters
        self._strict = strict
        self._left = limit if show is None else show if limit is None else min(limit, show)
        self._limit = limit
        self._delivered = 0
        self._stop = stop
        self._flushed = time.monotonic()
        self._dirty = False

    def deliver(self, batch: Batch) -> None:
        sinks = self._sinks.get(batch.stream)
        if not sinks:
            return
        self._delivered += len(batch)
        if self._limit is not None and self._delivered >= self._limit and self._stop is not None:
            self._stop.requested = True
        if self._left is not None:
            if len(batch) > self._left:
                batch = batch.take(np.arange(self._left))
            self._left -= len(batch)
        if not len(batch):
            return
        self.written[batch.stream] = self.written.get(batch.stream, 0) + len(batch)
        self._dirty = True
        for sink in sinks:
            sink.write(batch)

    def reject(self, records: Sequence[BadRecord]) -> None:
        if self._dead_letters is not None:
            self._dead_letters.write(records)
            self._dirty = True
        if self._strict:
            first = records[0]
            line = f":{first.line}" if first.line >= 0 else ""
            raise StrictError(f"{first.source}{line}: {first.reason}")

    def breathe(self, *, idle: bool) -> None:
        now = time.monotonic()
        if self._dirty and (idle or now - self._flushed >= FLUSH_SECONDS):
            self.flush()
            self._flushed = now

    def flush(self) -> None:
        """Have everything that was delivered written."""
        self._dirty = False
        for sink in self._all():
            sink.flush()
        if self._dead_letters is not None:
            self._dead_letters.flush()

    def close(self) -> None:
        """Write what is left and close everything; the first failure is raised when all are closed."""
        failure: Exception | None = None
        for each in (*self._all(), *((self._dead_letters,) if self._dead_letters is not None else ())):
            try:
                each.close()
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
        if failure is not None:
            raise failure

    def report(self, statistics: Statistics) -> None:
        """Put the numbers of rows written into the statistics."""
        statistics.written = dict(self.written)

    def _all(self) -> list[Sink]:
        return list({id(sink): sink for sinks in self._sinks.values() for sink in sinks}.values())
