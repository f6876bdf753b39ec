"""Drives the counting kernel for one pattern: classes of events, the keys' stacks, and room for both."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep.jit import kernels
from ostinato.cep.nfa import counting
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.formula import Atom, Formula, evaluate
from ostinato.cep.nfa.header import atoms_of
from ostinato.cep.nfa.input import Released
from ostinato.cep.nfa.ir import FINAL, FlatState, Move
from ostinato.cep.nfa.tables import WORD_BITS

Ints = npt.NDArray[np.int64]

BEGINS_NOTHING = 1 << WORD_BITS
"""Set in the facts of an event that came when the pattern was draining: it begins no match."""


class LinearCounter:
    """Counts the matches of a pattern in which nothing depends on the partial match."""

    def __init__(self, compiled: CompiledSet, number: int) -> None:
        self.number = number
        self._automaton = compiled.automata[number]
        self._bits = compiled.layout.bits[number]
        self._word = compiled.layout.word_of_pattern[number]
        self._mask = reduce(or_, self._bits.values(), 0)
        self._atoms = atoms_of(compiled, number)
        self._within = compiled.patterns[number].pattern.within_ms or 0
        self._mark = BEGINS_NOTHING if number in compiled.draining else 0
        self._states = max(1, len(self._automaton.states) - 1)
        self._classes: dict[int, int] = {}
        m = self._states
        self._moves = np.zeros((0, m, m), np.int64)
        self._starts = np.zeros((0, m), np.int64)
        self._completes = np.zeros((0, m), np.int64)
        self._alone = np.zeros(0, np.int64)
        self._idle = np.zeros(0, np.uint8)
        self._heads = np.zeros((0, 3), np.int32)
        self._key_times = np.zeros((0, 2), np.int64)
        self._vectors = np.zeros((0, m), np.int64)
        self._products = np.zeros((0, m, m), np.int64)
        self._free = np.array([-1], np.int64)
        self._chain = np.zeros(0, np.int32)
        self._at = np.zeros(0, np.int64)
        self._kind = np.zeros(0, np.int32)
        self._sums = np.zeros((0, m), np.int64)
        self._work = np.zeros((2 + 2 * m, m), np.int64)
        self.matches = 0

    def run(self, released: Released, keys: int) -> tuple[Ints, Ints]:
        """Count for the released events. Returns rows (positions in `released`) that complete matches, and how many."""
        return self._count(released, released.bits[:, self._word] & self._mask | self._mark, keys)

    def _count(self, released: Released, facts: Ints, keys: int) -> tuple[Ints, Ints]:
        self._grow_keys(keys)
        classes = self._classify(facts)
        size = len(released.order)
        rows, counts = np.zeros(size, np.int64), np.zeros(size, np.int64)
        position = done = 0
        with np.errstate(over="ignore"):
            while True:
                position, found = kernels(counting).count_events(
                    released.order, position, released.time, released.key, classes,
                    self._moves, self._starts, self._completes, self._alone, self._idle, self._within,
                    self._heads, self._key_times, self._vectors, self._products,
                    self._free, self._chain, self._at, self._kind, self._sums, self._work,
                    rows[done:], counts[done:],
                )  # fmt: skip
                done += found
                if position == size:
                    break
                self._make_room(int(released.time[released.order[position]]))
        self.matches = min(self.matches + int(counts[:done].sum(dtype=object) if done else 0), counting.MOST)
        return rows[:done], counts[:done]

    def live_keys(self) -> Ints:
        """Codes of keys that have partial matches."""
        if not self._within:
            return np.flatnonzero(self._vectors.any(axis=1))
        return np.flatnonzero(self._heads[:, counting.ELEMENTS] > 0)

    def now(self, key: int, watermark: int) -> tuple[list[int], int]:
        """Of a key, by its code: the number of partial matches in each state but the start, and of events in the
        window, 0 where there is none."""
        if key < 0 or key >= len(self._heads):
            return [0] * self._states, 0
        if not self._within:
            return self._vectors[key].tolist(), 0
        count = int(self._heads[key, counting.ELEMENTS])
        kinds, times = np.zeros(count, np.int32), np.zeros(count, np.int64)
        kernels(counting).elements_of_keys(
            np.array([key]), np.array([0, count]), self._heads, self._chain, self._kind, self._at, kinds, times
        )
        alive = kinds[times > watermark - self._within].tolist()
        vector = np.zeros(self._states, object)
        for kind in alive:
            vector = vector @ self._moves[kind].astype(object) + self._starts[kind]
        return [min(int(number), counting.MOST) for number in vector], len(alive)

    def in_all(self) -> list[int] | None:
        """The number of partial matches in each state but the start, of all keys; None where there is a window, which
        makes it dear to know."""
        if self._within:
            return None
        return [min(sum(column.tolist()), counting.MOST) for column in self._vectors.T]

    def renumber_keys(self, mapping: Ints) -> None:
        """Take over new codes of keys; only keys without state are gone."""
        old = np.flatnonzero(mapping[: len(self._heads)] >= 0)
        self._heads, self._key_times = self._heads[old], self._key_times[old]
        self._vectors, self._products = self._vectors[old], self._products[old]

    def forget(self, watermark: int) -> Ints:
        """Free what has left the window. Returns the codes of keys that have nothing now, and had."""
        before = self.live_keys()
        if self._within:
            kernels(counting).sweep(
                watermark - self._within,
                self._heads, self._key_times, self._vectors, self._products, self._free, self._chain,
            )  # fmt: skip
        return np.setdiff1d(before, self.live_keys(), assume_unique=True)

    def snapshot(self, keys: Ints) -> list[Any]:
        """Per key: the numbers of partial matches, or the classes and times of the window's events; None for nothing.

        A class is the conditions that hold, as bits in the order of `header.atoms_of`; the bit behind them is set where
        the event begins no match.
        """
        known = keys[keys < len(self._heads)]
        state: list[Any] = [None] * len(keys)
        if not self._within:
            vectors = self._vectors[known]
            rows = np.flatnonzero(vectors.any(axis=1)).tolist()
            places = np.flatnonzero(keys < len(self._heads))
            for row in rows:
                state[places[row]] = vectors[row].tolist()
            return state
        counts = np.zeros(len(keys), np.int64)
        counts[keys < len(self._heads)] = self._heads[known, counting.ELEMENTS]
        there = np.flatnonzero(counts)
        offsets = np.zeros(len(there) + 1, np.int64)
        np.cumsum(counts[there], out=offsets[1:])
        kinds, times = np.zeros(int(offsets[-1]), np.int32), np.zeros(int(offsets[-1]), np.int64)
        kernels(counting).elements_of_keys(
            keys[there], offsets, self._heads, self._chain, self._kind, self._at, kinds, times
        )
        bits_of = {event: self._by_atom(bits) for bits, event in self._classes.items()}
        bits, moments, ends = [bits_of[kind] for kind in kinds.tolist()], times.tolist(), offsets.tolist()
        for place, begin, end in zip(there.tolist(), ends, ends[1:], strict=False):
            state[place] = [bits[begin:end], moments[begin:end]]
        return state

    def restore(self, keys: Ints, state: list[Any]) -> None:
        """Take over what `snapshot` gave for keys that now have the codes `keys`."""
        self._grow_keys(int(keys.max(initial=-1)) + 1)
        held = [(key, each) for key, each in zip(keys.tolist(), state, strict=True) if each is not None]
        if not held:
            return
        if not self._within:
            self._vectors[[key for key, _ in held]] = [each for _, each in held]
            return
        kinds = {kind: self._by_layout(kind) for kind in {kind for _, each in held for kind in each[0]}}
        facts = np.array([kinds[kind] for _, each in held for kind in each[0]], np.int64)
        times = np.array([time for _, each in held for time in each[1]], np.int64)
        codes = np.repeat([key for key, _ in held], [len(each[1]) for _, each in held])
        rows = np.arange(len(times), dtype=np.int64)
        matches = self.matches
        empty = np.zeros((len(times), 1), np.int64)
        released = Released(rows, times, codes, empty, empty, empty, None)  # type: ignore[arg-type]
        self._count(released, facts, int(codes.max(initial=-1)) + 1)
        self.matches = matches

    def _by_atom(self, bits: int) -> int:
        known = sum(1 << place for place, atom in enumerate(self._atoms) if bits & self._bits[atom])
        return known | (1 << len(self._atoms) if bits & BEGINS_NOTHING else 0)

    def _by_layout(self, kind: int) -> int:
        known = reduce(or_, (self._bits[atom] for place, atom in enumerate(self._atoms) if kind >> place & 1), 0)
        return known | (BEGINS_NOTHING if kind >> len(self._atoms) & 1 else 0)

    # -- classes of events -------------------------------------------------------------------------

    def _classify(self, facts: Ints) -> npt.NDArray[np.int64]:
        """The class of each event. Two events are of one class when the pattern's conditions say the same of them."""
        values, inverse = np.unique(facts, return_inverse=True)
        for value in values.tolist():
            if value not in self._classes:
                self._add_class(value)
        known = np.array([self._classes[value] for value in values.tolist()], np.int64)
        return known[inverse]

    def _add_class(self, bits: int) -> None:
        def holds(formula: Formula) -> bool:
            return evaluate(formula, self._value(bits))

        m = self._states
        moves, completes = np.zeros((m, m), np.int64), np.zeros(m, np.int64)
        start, alone = np.zeros(m, np.int64), 0
        for index, state in enumerate(self._automaton.states):
            row, finished = self._row(state, holds)
            if index == 0:
                if not bits & BEGINS_NOTHING:
                    start, alone = row, finished
            else:
                moves[index - 1], completes[index - 1] = row, finished
        idle = (
            not start.any() and not completes.any() and not alone and np.array_equal(moves, np.eye(m, dtype=np.int64))
        )
        self._classes[bits] = len(self._alone)
        self._moves = np.concatenate([self._moves, moves[None]])
        self._starts = np.concatenate([self._starts, start[None]])
        self._completes = np.concatenate([self._completes, completes[None]])
        self._alone = np.append(self._alone, alone)
        self._idle = np.append(self._idle, np.uint8(idle))

    def _value(self, bits: int) -> Any:
        def value(atom: Atom) -> bool:
            return bits & self._bits[atom] != 0

        return value

    def _row(self, state: FlatState, holds: Any) -> tuple[Ints, int]:
        """What an event makes of one partial match in a state: how many in each state, and how many matches."""
        row, finished, killed = np.zeros(self._states, np.int64), 0, False
        for step in state.steps:
            if not holds(step.guard):
                continue
            if step.move is Move.KILL:
                killed = True
            elif step.target == FINAL:
                finished += 1
            else:
                row[step.target - 1] += 1
                if step.move is Move.TAKE and holds(step.completes):
                    finished += 1
        return (np.zeros_like(row) if killed else row), finished

    # -- room --------------------------------------------------------------------------------------

    def _grow_keys(self, keys: int) -> None:
        before = len(self._heads)
        if keys <= before:
            return
        size = max(keys, 2 * before, 1024)
        m = self._states
        heads = np.full((size, 3), -1, np.int32)
        heads[:, counting.ELEMENTS] = 0
        heads[:before] = self._heads
        products = np.zeros((size, m, m), np.int64)
        products[:] = np.eye(m, dtype=np.int64)
        products[:before] = self._products
        self._heads, self._products = heads, products
        self._key_times = np.concatenate([self._key_times, np.zeros((size - before, 2), np.int64)])
        self._vectors = np.concatenate([self._vectors, np.zeros((size - before, m), np.int64)])

    def _make_room(self, now: int) -> None:
        """Elements for more events: those that have left the window if they are many, else new ones."""
        freed = kernels(counting).sweep(
            now - self._within,
            self._heads, self._key_times, self._vectors, self._products, self._free, self._chain,
        )  # fmt: skip
        before = len(self._chain)
        if freed > before // 4:
            return
        size = max(2 * before, 4096)
        chain = np.zeros(size, np.int32)
        chain[:before] = self._chain
        chain[before : size - 1] = np.arange(before + 1, size)
        chain[size - 1] = self._free[0]
        self._free[0] = before
        self._chain = chain
        self._at = np.concatenate([self._at, np.zeros(size - before, np.int64)])
        self._kind = np.concatenate([self._kind, np.zeros(size - before, np.int32)])
        self._sums = np.concatenate([self._sums, np.zeros((size - before, self._states), np.int64)])
