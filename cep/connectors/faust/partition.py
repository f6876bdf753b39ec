"""One partition of the topic: its events go through the pattern here, and its state comes and goes as journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.faust.events import ValueReader
from ostinato.cep.connectors.faust.found import Counts, Found, Naming
from ostinato.cep.connectors.faust.journal import Held, Journal, Restored, records_of
from ostinato.cep.connectors.faust.pattern import Ready
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.runtime.python_rows import expand
from ostinato.cep.runtime.time import WatermarkGenerator
from ostinato.state.errors import SnapshotError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of some events: rows, and what is wrong with which of the values, by its place."""

    matches: Sequence[Found] = ()
    timeouts: Sequence[Found] = ()
    late: Sequence[int] = ()
    bad: Sequence[tuple[int, str]] = field(default=())


class Partition:
    """The pattern's operator and the time of one partition.

    Events must come in the order of their offsets; those below `offset` are in the state and must not come again.
    """

    def __init__(self, ready: Ready, counts: Counts, topic: str, number: int, now: int) -> None:
        """`now`: the clock, epoch ms."""
        self.topic = topic
        self.number = number
        self.offset = 0
        self.epoch = 0
        self._ready = ready
        self._counts = counts
        self._operator = MatchOperator(ready.compiled, key_groups=1, selects=ready.selects)
        self._reader = ValueReader(ready.stream, self._operator.columns)
        self._time = WatermarkGenerator(ready.policy, now)
        self._time.add_split(0, now)
        self._whole = True
        self.changed = False

    @property
    def place(self) -> str:
        return f"pattern {self._ready.name}, topic {self.topic}, partition {self.number}"

    @property
    def waiting(self) -> int:
        """Events that wait for the watermark."""
        return self._operator.waiting

    def take(self, values: Sequence[Any], next_offset: int, now: int) -> Outcome:
        """Take in events; `next_offset` is that behind the last of them.

        Raises MatchError: the pattern's cap says to fail.
        """
        self.offset = next_offset
        self.changed = True
        read = self._reader.read(values)
        batch, places = read.batch, read.places
        judged = self._time.admit(0, batch.time, now)
        if judged.time is not batch.time:
            batch = Batch(batch.stream, judged.time, batch.columns)
        passed = np.ones(len(batch), np.bool_)
        late: list[int] = []
        bad = list(read.bad)
        if judged.late is not None:
            passed &= ~judged.late
            late = [places[row] for row in np.flatnonzero(judged.late).tolist()]
        if judged.ahead is not None:
            passed &= ~judged.ahead
            bad += [
                (places[row], f"time {batch.time[row]} lies too far in the future (`max ahead`)")
                for row in np.flatnonzero(judged.ahead).tolist()
            ]
        self._counts.events += len(values)
        self._counts.late += len(late)
        self._counts.bad += len(bad)
        self._operator.process(batch if passed.all() else batch.take(passed))
        return self._advance(late, sorted(bad))

    def tick(self, now: int) -> Outcome:
        """Let the clock go on, by which processing time moves."""
        self._time.tick(now)
        return self._advance([], [])

    def _advance(self, late: Sequence[int], bad: Sequence[tuple[int, str]]) -> Outcome:
        if self._time.watermark <= self._operator.watermark:
            return Outcome(late=late, bad=bad)
        matches: list[Found] = []
        timeouts: list[Found] = []
        naming = Naming(self._ready.name, self.topic, self.number)
        for given in self._operator.advance(self._time.watermark):
            batch = expand(given)
            (timeouts if batch.stream == self._ready.timeouts else matches).extend(naming.found(batch))
        self.changed = self.changed or bool(matches or timeouts)
        self._counts.matches += len(matches)
        self._counts.timeouts += len(timeouts)
        return Outcome(matches, timeouts, late, bad)

    # -- state -------------------------------------------------------------------------------------

    def journal(self) -> Journal:
        """What has changed since the last call; everything, where the table holds nothing that it could build on."""
        state = self._operator.snapshot(None if self._whole else ())
        self.epoch += 1
        made = Journal(
            self.epoch,
            self._whole,
            self.offset,
            self.topic,
            state.header,
            state.shared,
            self._time.state(),
            records_of(state),
        )
        self._whole = False
        self.changed = False
        return made

    def restore(self, held: Held, *, may_drop: bool, end: int | None) -> None:
        """Go on from what a table holds.

        Args:
            held: of this partition.
            may_drop: whether partial matches may be dropped that the pattern as it is now cannot go on with.
            end: where the partition ends now, if that is known.

        Raises:
            SnapshotError: the state is not of this pattern, or of another topic.
            DroppedStateError: partial matches would be dropped, and `may_drop` does not allow it.
        """
        journal = held.journal
        if journal.topic != self.topic:
            raise SnapshotError(f"{self.place}: the table holds state of topic {journal.topic}; give another name=")
        if end is not None and end < journal.offset:
            raise SnapshotError(
                f"{self.place}: the state has the events up to offset {journal.offset}, and the partition ends at "
                f"{end}: the topic was made anew, or has lost records. Begin anew: delete the table's changelog topic, "
                "and its files if it is in RocksDB"
            )
        self._operator.restore(Restored(held, may_drop))
        self._time.load(journal.time)
        self.offset, self.epoch = journal.offset, journal.epoch
        # what was just restored is in the table; it need be written again only if it is written otherwise now
        state = self._operator.snapshot(None)
        self._whole = state.header != journal.header
        self.changed = self._whole
