"""What comes out of the live patterns, into the match log: each row once, however often it is computed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from ostinato.cep.batch import Batch
from ostinato.cep.connectors.base import BadRecord
from ostinato.cep.connectors.kafka.rows import values_of
from ostinato.cep.runtime.plan import LATE
from ostinato.server.ingest.dead_letters import DEAD_LETTERS
from ostinato.server.live.generation import Generation
from ostinato.server.live.program import stream_of
from ostinato.server.matches import Kind, Rows
from ostinato.state.typed import json_decoder

if TYPE_CHECKING:
    from ostinato.cep.nfa.output import Maker


class _Letter(msgspec.Struct):
    stream: str


_letter = json_decoder(_Letter)


class RowLog(Protocol):
    """Where rows go; see `MatchLogWriter`."""

    @property
    def next_seq(self) -> int: ...

    def append(self, rows: Rows) -> int: ...


class MatchOutlet:
    """See `ostinato.cep.runtime.job.Outlet`. Rows are numbered from 1 on, in the order in which they come.

    What comes is a function of the journal, so after a restart the rows behind the snapshot come again with the numbers
    that they had; those that the log holds already are not written again. The rows of a record of the journal are held
    until it has been dealt with, see `commit`: a pattern that cannot go on in the middle of it is left out of all of
    it, and then what it gave must not have taken the numbers of others' rows.
    """

    def __init__(self, log: RowLog, written: Callable[[int, int], None] = lambda _count, _at_ms: None) -> None:
        """`written`: is told how many rows are new, and when the record was written that completed them (epoch ms)."""
        self.seq = 1
        """The number of the next row."""
        self.position = 0
        """Of the journal record that is being dealt with."""
        self.at_ms = 0
        """When that record was written."""
        self.late: Counter[str] = Counter()
        """Late events by stream, also those that the log had already."""
        self.dead_letters: Counter[str] = Counter()
        """By stream, likewise."""
        self._log = log
        self._written = written
        self._held: list[Rows] = []
        self._makers: Sequence[Maker] = ()
        self._versions: Mapping[str, tuple[str, int]] = {}

    def use(self, generation: Generation, makers: Sequence[Maker]) -> None:
        """Rows are of these patterns from now on; `makers`: what the numbers in a batch mean."""
        self._makers = tuple(makers)
        self._versions = {member.name: (member.pattern, member.version) for member in generation.members}

    def deliver(self, batch: Batch) -> None:
        count = len(batch)
        if not count:
            return
        if batch.stream.endswith(LATE):
            self.late[batch.stream.removesuffix(LATE)] += count
        first, self.seq = self.seq, self.seq + count
        skipped = max(0, min(count, self._log.next_seq - first))
        if skipped == count:
            return
        if skipped:
            batch = batch.take(np.arange(skipped, count))
        if batch.stream.endswith(LATE):
            self._append(batch.stream, "late", (), None, batch.time, values_of(batch))
            return
        assert batch.makers is not None
        used, pattern_of = np.unique(batch.makers, return_inverse=True)
        makers = [self._makers[number] for number in used.tolist()]
        patterns = [self._versions[maker.pattern] for maker in makers]
        stream, values = stream_of(batch.stream), values_of(batch)
        kinds = {maker.kind for maker in makers}
        if len(kinds) == 1:
            self._append(stream, kinds.pop(), patterns, pattern_of, batch.time, values)
            return
        # matches and timeouts into one stream: in the order in which they came, one after the other
        is_match = np.array([maker.kind == "match" for maker in makers])[pattern_of]
        cuts = [0, *(np.flatnonzero(np.diff(is_match)) + 1).tolist(), count - skipped]
        for begin, end in pairwise(cuts):
            part = slice(begin, end)
            kind: Kind = "match" if is_match[begin] else "timeout"
            self._append(stream, kind, patterns, pattern_of[part], batch.time[part], values[part])

    def reject(self, records: Sequence[BadRecord]) -> None:
        self.keep(
            [
                orjson.dumps({"stream": each.source, "reason": each.reason, "row": each.raw.decode("utf-8", "replace")})
                for each in records
            ]
        )

    def keep(self, letters: Sequence[bytes]) -> None:
        """Dead letters, a JSON object each."""
        for letter in letters:
            with contextlib.suppress(msgspec.MsgspecError):
                self.dead_letters[_letter.decode(letter).stream] += 1
        first, self.seq = self.seq, self.seq + len(letters)
        rest = list(letters[max(0, self._log.next_seq - first) :])
        if rest:
            times = np.full(len(rest), self.at_ms, np.int64)
            self._append(DEAD_LETTERS, "dead letter", (), None, times, rest)

    def commit(self) -> None:
        """The record has been dealt with: its rows go into the log."""
        held, self._held = self._held, []
        for rows in held:
            if rows.kind in ("match", "timeout"):
                self._written(len(rows.values), rows.at_ms)
            self._log.append(rows)

    def breathe(self, *, idle: bool) -> None:
        """Do nothing: rows go out with the end of their record."""

    def _append(
        self,
        stream: str,
        kind: Kind,
        patterns: Sequence[tuple[str, int]],
        pattern_of: npt.NDArray[Any] | None,
        times: npt.NDArray[Any],
        values: list[bytes],
    ) -> None:
        of = np.zeros(len(values), np.uint16) if pattern_of is None else pattern_of.astype(np.uint16)
        self._held.append(Rows(stream, kind, tuple(patterns), of, times, self.position, self.at_ms, values))
