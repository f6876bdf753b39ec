"""Where everything goes that leaves a job: sinks, dead letters, counts.

With checkpoints, `recover`, `prepare` and `commit` pass on to the sinks that can take part, which makes their output
exactly once. Others (standard output) are at least once: what was written since the last checkpoint comes again when
the job is resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord, Sink, TransactionalSink
from ostinato.cep.runtime.statistics import Statistics
from ostinato.cep.runtime.stopping import Stop

FLUSH_SECONDS = 0.2
"""How long output may wait in a buffer while input keeps coming."""


COUNTS = "counts"
"""Under which the state of all sinks holds how many rows have been delivered. A sink's name has an arrow in it."""


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
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """
        Args:
            sinks: by stream, late rows under ``NAME.late``; rows of streams that are not there are dropped.
            dead_letters: takes bad records.
            strict: a bad record ends the job.
            limit: after so many rows `stop` is requested; rows beyond are dropped.
            show: rows beyond so many are dropped, and the job goes on.
            stop: see `limit`.
            say: is given one line that people should read, about what happens to output when a job is resumed.
        """
        self.written: dict[str, int] = {}
        self._sinks = sinks
        self._dead_letters = dead_letters
        self._strict = strict
        self._most = limit if show is None else show if limit is None else min(limit, show)
        self._left = self._most
        self._limit = limit
        self._delivered = 0
        self._stop = stop
        self._say = say
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

    # checkpoints

    def prepare(self, checkpoint: int) -> Mapping[str, Any]:
        """Make all that was delivered durable, but do not let it be seen. Returns the state of each sink by its name.

        What cannot take part is written out.
        """
        self.flush()
        counts = {"written": dict(self.written), "delivered": self._delivered}
        return {COUNTS: counts} | {sink.name: sink.prepare(checkpoint) for sink in self._transactional()}

    def commit(self, state: Mapping[str, Any]) -> None:
        """The checkpoint with this state is complete: publish. Doing so again changes nothing."""
        for sink in self._transactional():
            if sink.name in state:
                sink.commit(state[sink.name])

    def recover(self, state: Mapping[str, Any] | None) -> None:
        """The job begins, from a checkpoint with this state, None: from the very start; before anything is delivered.

        An output that the checkpoint does not know begins empty. One that is not among the sinks any more stays as it
        is.
        """
        counts = (state or {}).get(COUNTS, {})
        self.written = dict(counts.get("written", {}))
        self._delivered = counts.get("delivered", 0)
        self._left = None if self._most is None else max(0, self._most - self._delivered)
        sinks = self._transactional()
        known = {sink.name for sink in sinks}
        for name in sorted(set(state or ()) - known - {COUNTS}):
            self._say(f"{name}: the job does not write there any more; what is there stays as it is")
        for sink in sinks:
            if state is not None and sink.name not in state:
                self._say(f"{sink.name}: the checkpoint does not know this output, so it begins empty")
            sink.recover(None if state is None else state.get(sink.name))

    def finish(self) -> None:
        """The job has ended, and its last checkpoint is committed: bring output into its final form."""
        for sink in self._transactional():
            sink.finish()

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

    def _transactional(self) -> list[TransactionalSink]:
        """The sinks that take part in checkpoints, the dead letters last."""
        every = (*self._all(), self._dead_letters)
        return [each for each in every if isinstance(each, TransactionalSink)]

    def _all(self) -> list[Sink]:
        return list({id(sink): sink for sinks in self._sinks.values() for sink in sinks}.values())
