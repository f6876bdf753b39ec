"""The match operator: patterns over one keyed stream, batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ostinato.cep.batch import MIN_TIME, Batch, IntArray
from ostinato.cep.nfa.compile import CompiledSet, compile_patterns, schema_of
from ostinato.cep.nfa.counter import LinearCounter
from ostinato.cep.nfa.emission import Emitted, in_order
from ostinato.cep.nfa.groups import GroupedState
from ostinato.cep.nfa.input import KeyedInput, Released
from ostinato.cep.nfa.keys import key_group
from ostinato.cep.nfa.matcher import Matcher, MatchError
from ostinato.cep.nfa.output import Maker, ResultReader, Select, count_batch, makers_of
from ostinato.cep.nfa.pools import KEY_STORED, MARK_DROPPED
from ostinato.cep.nfa.spill import Spill
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.state.operator import OperatorState, StoredState

__all__ = ["MatchError", "MatchOperator", "PatternStats"]

KEYS_BEFORE_SWEEP = 1 << 16
"""Keys that must have come since the last time before those without state are looked for and forgotten."""

ADVANCES_BEFORE_TIDYING = 64
"""How often it is looked whether memory is held that nothing needs any more."""


@dataclass(frozen=True, slots=True)
class PatternStats:
    """What a pattern has done so far, and the partial matches it has now.

    `partial_matches` of a pattern whose matches are counted without enumerating them is 0: it has none one by one.
    """

    matches: int
    timeouts: int
    partial_matches: int
    dropped: int


class Parts(NamedTuple):
    """See `MatchOperator.parts`."""

    input: KeyedInput
    matcher: Matcher
    counters: Sequence[LinearCounter]
    state: GroupedState


class MatchOperator:
    """Runs patterns that read one stream with one key.

    Events may come in any order of time; `advance` releases those at or before the watermark by time and arrival,
    matches them, and gives what came out. Equal input gives equal output, however it is cut into batches.
    """

    def __init__(
        self,
        patterns: Sequence[CheckedPattern] | CompiledSet,
        *,
        key_groups: int = 128,
        selects: Mapping[str, Select] | None = None,
        spill: Spill | None = None,
        draining: Collection[str] = (),
        first_maker: int | None = None,
        keep_columns: bool = False,
    ) -> None:
        """Compile the patterns.

        Args:
            patterns: checked patterns over the same stream, or what was compiled of them.
            key_groups: in how many groups keys are snapshotted; fixed for the life of a job.
            selects: by the pattern's name, Python functions that make the output row of each match.
            spill: where the state of keys goes that memory does not hold.
            draining: patterns that begin no match any more; see `compile_patterns`.
            first_maker: rows say who made them (`Batch.makers`): the first of `makers` has this number. None: they
                do not.
            keep_columns: events keep all their columns while they wait, so that other patterns may take over.
        """
        self.compiled = patterns if isinstance(patterns, CompiledSet) else compile_patterns(patterns, draining)
        self.key_groups = key_groups
        self.events = 0
        self._input = KeyedInput(self.compiled, keep_columns=keep_columns)
        self._counters = [LinearCounter(self.compiled, number) for number in sorted(self.compiled.linear)]
        self._matcher = Matcher(self.compiled, self._input.texts, self._input.stored)
        self._reader = ResultReader(self.compiled, self._matcher, self._input, selects or {}, first_maker)
        self._first_maker = first_maker
        self._state = GroupedState(
            key_groups, schema_of(self.compiled.patterns[0]), self._input, self._matcher, self._counters, spill
        )
        self._keys_after_sweep = 0
        self._advances = 0

    @property
    def columns(self) -> frozenset[str]:
        """The columns of its stream that it reads."""
        return self._input.columns

    @cached_property
    def makers(self) -> list[Maker]:
        """What makes the rows that come out: for each pattern its matches and its timeouts."""
        return makers_of(self.compiled.patterns)

    @property
    def watermark(self) -> int:
        """How far time has moved."""
        return self._input.watermark

    @property
    def waiting(self) -> int:
        """Events that wait for the watermark."""
        return self._input.waiting

    @property
    def bytes_in_use(self) -> int:
        """About how much memory the partial matches take."""
        return self._matcher.bytes_in_use()

    @property
    def keys_known(self) -> int:
        """Keys that have state, or have had it since those without were last forgotten."""
        return len(self._input.keys)

    def process(self, batch: Batch) -> None:
        """Take in events; they wait for the watermark."""
        if len(batch):
            self.events += len(batch)
            self._input.process(batch)

    def advance(self, watermark: int) -> list[Batch]:
        """Match all events at or before `watermark` (ms) and move time there. Returns what came out: a batch for each
        stream, in the order that `ostinato.cep.nfa.emission` gives it.

        Raises:
            MatchError: a pattern's cap says to fail, or ``after match skip to … or fail`` has nothing to skip to.
        """
        released = self._input.release(watermark)
        found = self._count(released) if released is not None else []
        if len(self._counters) < len(self.compiled.patterns):
            found += self._match(released)
        out = in_order(found, self._groups_of, self._input.keys.strings, self.key_groups)
        self._advances += 1
        if self._advances % ADVANCES_BEFORE_TIDYING == 0:
            self._tidy()
        elif len(self._input.keys) > 2 * self._keys_after_sweep + KEYS_BEFORE_SWEEP:
            self._forget_keys()
        return out

    def _tidy(self) -> None:
        """Give memory back after a flood has passed."""
        if len(self._input.keys) > KEYS_BEFORE_SWEEP + 4 * self._matcher.keys_at_most:
            self._forget_keys()
        if self._matcher.is_roomy:
            self._state.rebuild()

    def _groups_of(self, keys: IntArray) -> IntArray:
        return key_group(self._input.keys.strings(keys), self.key_groups)

    def _match(self, released: Released | None) -> list[Emitted]:
        out: list[Emitted] = []
        for part, upto in self._in_memory(released):
            if part is not None:
                self._matcher.run(part, len(self._input.keys))
            if upto > MIN_TIME:
                self._matcher.advance(upto)
            if part is not None:
                self._matcher.keep_events(part)
            out += self._reader.read()
        return out

    def _in_memory(self, released: Released | None) -> Iterator[tuple[Released | None, int]]:
        """The events with the time to move to after them: all at once, or, where state is larger than memory, as much
        as can be dealt with by what is in memory then."""
        watermark, residence = self._input.watermark, self._state.residence
        if residence is None:
            yield released, watermark
            return
        upto: int | None = MIN_TIME
        while upto is not None:
            if released is not None:
                # first, so that nothing is taken for over that an event in hand comes in time for
                residence.use(released.key[released.order])
            upto = residence.wake(watermark)
            if upto is None:
                residence.clean(watermark)
            part = released
            if released is not None and upto is not None:
                ends = int(np.searchsorted(released.time[released.order], upto, side="right"))
                part = released._replace(order=released.order[:ends])
                released = released._replace(order=released.order[ends:])
            yield part, watermark if upto is None else upto
            residence.make_room()

    @property
    def stats(self) -> dict[str, PatternStats]:
        """What each pattern did, by its name."""
        partial = self._matcher.partial_matches()
        if self._state.residence is not None:
            partial = partial + self._state.residence.partial_matches
        dropped = self._matcher.space.marks[:, MARK_DROPPED]
        counted = {counter.number: counter.matches for counter in self._counters}
        return {
            checked.pattern.name: PatternStats(
                counted.get(number, int(self._reader.matches[number])),
                int(self._reader.timeouts[number]),
                int(partial[number]),
                int(dropped[number]),
            )
            for number, checked in enumerate(self.compiled.patterns)
        }

    @property
    def parts(self) -> Parts:
        """What it is made of, for those who look at it without changing it."""
        return Parts(self._input, self._matcher, self._counters, self._state)

    def snapshot(self, whole: Collection[int] | None = None) -> OperatorState:
        """See `ostinato.state.operator.Stateful`."""
        return self._state.snapshot(whole)

    def restore(self, stored: StoredState) -> None:
        """See `ostinato.state.operator.Stateful`."""
        self._state.restore(stored)

    def _count(self, released: Released) -> list[Emitted]:
        out = []
        for counter in self._counters:
            rows, counts = counter.run(released, len(self._input.keys))
            self._matcher.mark_changed(released.key[released.order], len(self._input.keys))
            if len(rows):
                checked = self.compiled.patterns[counter.number]
                keys = released.key[rows]
                makers = None
                if self._first_maker is not None:
                    maker = self._first_maker + self.makers.index(Maker(checked.pattern.name, "match"))
                    makers = np.full(len(rows), maker, np.int64)
                batch = count_batch(checked, self._input.decode_keys(keys), released.time[rows], counts, makers)
                out.append(Emitted(batch, keys, np.full(len(keys), counter.number)))
        return out

    def _forget_keys(self) -> None:
        """Keys without state cost memory for nothing: their codes are given to others."""
        for counter in self._counters:
            self._matcher.mark_changed(counter.forget(self._input.watermark), len(self._input.keys))
        if self._state.residence is not None:
            self._state.residence.drop_gone()
        # a key that the last snapshot holds is kept until the next one has said what became of it
        stored = np.flatnonzero(self._matcher.space.keys[:, KEY_STORED])
        live = [self._matcher.live_keys(), stored, *[counter.live_keys() for counter in self._counters]]
        mapping = self._input.renumber_keys(np.concatenate(live))
        self._matcher.renumber_keys(mapping)
        if self._state.residence is not None:
            self._state.residence.renumber_keys(mapping)
        for counter in self._counters:
            counter.renumber_keys(mapping)
        self._keys_after_sweep = len(self._input.keys)
