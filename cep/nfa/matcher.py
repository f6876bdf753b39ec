"""Drives the kernel: gives it room, events and time, and keeps the events that partial matches still need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ostinato.cep.event import Event
from ostinato.cep.expressions.scalar import condition_function
from ostinato.cep.jit import Kernels, interpreted, kernels
from ostinato.cep.nfa import kernel
from ostinato.cep.nfa.compile import CompiledSet, schema_of
from ostinato.cep.nfa.events import EventStore
from ostinato.cep.nfa.hooks import HookContext
from ostinato.cep.nfa.input import Released
from ostinato.cep.nfa.pools import (
    FAILED_PATTERN,
    FRESH,
    HEAP,
    HEAP_DEADLINE,
    HEAP_GENERATION,
    HEAP_INSTANCE,
    INSTANCE_COUNT,
    INSTANCE_GENERATION,
    INSTANCE_PATTERN,
    INSTANCES_LEFT,
    KEY_CHANGED,
    KEY_FIRST,
    KEY_SEED_GROUP,
    KEY_SEEDS,
    KEY_SWEEP,
    MARK,
    NODE_PARENT,
    NODE_SLOT,
    NODE_STAGE,
    NODES_LEFT,
    RESULTS,
    RING_KEY,
    RUNS_LEFT,
    SLOT_REFS,
    SLOT_ROW,
    SLOTS_LEFT,
    STATUS,
    SWEEP_AFTER,
    SWEEP_COUNT,
    SWEEP_HEAD,
    WANTED,
    Ints,
    Machine,
    Space,
    grow,
    grow_list,
    grow_ring,
    make_space,
)
from ostinato.cep.nfa.renumber import renumber
from ostinato.cep.nfa.tables import G_MEMBERS, NO_LIMIT, P_PRECISE, P_WITHIN
from ostinato.cep.strings import Interner
from ostinato.patterns.types import STRING

_TEXT_BYTES, _KEY_BYTES = 72, 128
"""About what a text of a buffered event takes, and a key: its name, and its row here."""

_SWEEPS = 32
"""How often at most a key is looked at in the longest window, to find what has expired on it."""
_ROOMY_BYTES, _ROOMY_FACTOR = 16 << 20, 8
"""Pools larger than this, and so many times what is in them, are made anew."""


class MatchError(Exception):
    """Matching cannot go on: a cap was exceeded, or a skip strategy has nothing to skip to. `pattern`: whose."""

    def __init__(self, message: str, pattern: str = "") -> None:
        super().__init__(message)
        self.pattern = pattern


class Matcher:
    """Partial matches of patterns over one stream, for all keys."""

    def __init__(self, compiled: CompiledSet, texts: Interner, stored: tuple[str, ...]) -> None:
        self.compiled = compiled
        self._texts = texts
        schema = schema_of(compiled.patterns[0])
        self.space = self._make_space()
        self.store = EventStore({name: schema[name] for name in stored})
        self.seq = 0
        """The sequence number of the next event: events are numbered in the order in which they are matched."""
        plan = compiled.plan
        self._constants = plan.constants.copy()
        for index, text in plan.text_constants:
            self._constants[index] = texts.code(text)
        self._hooks = [condition_function(expr) for _, expr in compiled.hooks]
        self._kernel: Kernels = interpreted(kernel) if self._hooks else kernels(kernel)
        empty = np.zeros((0, max(1, len(plan.columns))), np.int64)
        self._machine = self._machine_for(empty, np.zeros(empty.shape, np.uint8))

    def _make_space(self) -> Space:
        compiled = self.compiled
        space = make_space(len(compiled.patterns), compiled.widest, compiled.width)
        plan = compiled.plan
        for number, (cells, null) in enumerate(zip(plan.initial_i, plan.initial_null, strict=True)):
            space.registers.ints[number, : len(cells)] = cells
            space.registers.null[number, : len(null)] = null
        table = compiled.tables.patterns
        windows = table[(table[:, P_PRECISE] == 0) & (table[:, P_WITHIN] > 0), P_WITHIN]
        if len(windows):
            # soon for short windows, but not so often that those who wait for long are looked at all the time
            space.control[SWEEP_AFTER] = max(windows.min(), windows.max() // _SWEEPS)
        else:
            space.control[SWEEP_AFTER] = NO_LIMIT
        return space

    def empty(self) -> None:
        """Forget all partial matches, and give back the room that they took."""
        marks, mark = self.space.marks, self.space.control[MARK]
        self.space, self.store = self._make_space(), EventStore(self.store.types)
        self.space.marks[:] = marks
        self.space.control[MARK] = mark

    def run(self, released: Released, keys: int) -> None:
        """Match events; `keys` is the number of key codes in use. Results are left in the space."""
        self._grow_keys(keys)
        machine = self._machine_for(released.cells, released.null)
        hook = self._hook(released) if self._hooks else None
        position = 0
        with np.errstate(over="ignore"):
            while True:
                position = self._kernel.run_events(
                    self.compiled.tables,
                    machine,
                    self.space,
                    released.order,
                    position,
                    released.time,
                    released.key,
                    released.bits,
                    self.seq,
                    hook,
                )
                if not self._stopped():
                    break
        self.seq += len(released.order)

    def advance(self, time: int) -> None:
        """Let time pass without an event."""
        while True:
            self._kernel.advance(self.compiled.tables, self.space, time)
            if not self._stopped():
                return

    def keep_events(self, released: Released) -> None:
        """Copy the events that partial matches or results refer to out of the batch in hand."""
        control, slots = self.space.control, self.space.slots
        fresh = self.space.fresh[: control[FRESH]]
        control[FRESH] = 0
        fresh = fresh[slots[fresh, SLOT_REFS] > 0]
        if not len(fresh):
            return
        rows = slots[fresh, SLOT_ROW]
        self.store.reserve(len(slots))
        for name in self.store.types:
            self.store.put(fresh, name, released.columns.take(name, rows))
        slots[fresh, SLOT_ROW] = -1

    def clear_results(self) -> None:
        """Forget the results; events that only they referred to are freed."""
        self._kernel.clear_results(self.space)

    def paths(self) -> tuple[Ints, Ints, Ints]:
        """Of each result the events taken: offsets int64[results + 1], and per event its stage's number and slot."""
        count = int(self.space.control[RESULTS])
        offsets = np.zeros(count + 1, np.int64)
        lengths = np.zeros(count, np.int64)
        self._kernel.path_lengths(self.space, lengths)
        np.cumsum(lengths, out=offsets[1:])
        stages = np.zeros(int(offsets[-1]), np.int64)
        slots = np.zeros(int(offsets[-1]), np.int64)
        self._kernel.read_paths(self.space, offsets, stages, slots)
        return offsets, stages, slots

    def live_keys(self) -> Ints:
        """Codes of keys that have partial matches, or are still to be swept."""
        keys = self.space.keys
        return np.flatnonzero((keys[:, KEY_FIRST] >= 0) | (keys[:, KEY_SEEDS] > 0) | (keys[:, KEY_SWEEP] != 0))

    def mark_changed(self, codes: Ints, keys: int) -> None:
        """Have the next snapshot look at these keys; `keys` is the number of codes in use."""
        self._grow_keys(keys)
        self.space.keys[codes, KEY_CHANGED] = 1

    def renumber_keys(self, mapping: Ints) -> None:
        """Take over new codes of keys; only keys without state are gone."""
        self.space = renumber(self.space, mapping)

    def partial_matches(self) -> Ints:
        """Per pattern the number of partial matches now."""
        instances, keys = self.space.instances, self.space.keys
        counts = np.zeros(len(self.compiled.patterns), np.int64)
        used = instances[instances[:, INSTANCE_COUNT] > 0]
        np.add.at(counts, used[:, INSTANCE_PATTERN], used[:, INSTANCE_COUNT])
        seeds = np.bincount(keys[:, KEY_SEED_GROUP], keys[:, KEY_SEEDS]).astype(np.int64)
        for group in np.flatnonzero(seeds).tolist():
            first, last = self.compiled.tables.groups[[group, group + 1], G_MEMBERS]
            counts[self.compiled.tables.members[first:last]] += seeds[group]
        return counts

    @property
    def keys_at_most(self) -> int:
        """No more keys than this have anything; cheap to know."""
        control = self.space.control
        return int(len(self.space.runs) - control[RUNS_LEFT] + control[SWEEP_COUNT])

    @property
    def is_roomy(self) -> bool:
        """Is there much more room than there are partial matches?"""
        held = sum(table.nbytes for table in self.space if isinstance(table, np.ndarray))
        return held > _ROOMY_BYTES and held > _ROOMY_FACTOR * self.bytes_in_use()

    def bytes_in_use(self) -> int:
        """About how much memory the partial matches take."""
        space, control = self.space, self.space.control
        width = space.registers.ints.shape[1]
        columns = sum(_TEXT_BYTES if type_ == STRING else 9 for type_ in self.store.types.values())
        return int(
            (len(space.runs) - control[RUNS_LEFT]) * (8 * space.runs.shape[1] + 9 * width)
            + (len(space.nodes) - control[NODES_LEFT]) * 8 * space.nodes.shape[1]
            + (len(space.slots) - control[SLOTS_LEFT]) * (8 * space.slots.shape[1] + columns)
            + (len(space.instances) - control[INSTANCES_LEFT]) * (8 * space.instances.shape[1] + _KEY_BYTES)
            + control[HEAP] * 8 * space.heap.shape[1]
            + control[SWEEP_COUNT] * 8 * space.ring.shape[1]
        )

    def forget_timers(self) -> None:
        """Take out the timers and sweeps of what is not there any more."""
        space, control = self.space, self.space.control
        heap = space.heap[: control[HEAP]]
        heap = heap[heap[:, HEAP_GENERATION] == space.instances[heap[:, HEAP_INSTANCE], INSTANCE_GENERATION]]
        heap = heap[np.argsort(heap[:, HEAP_DEADLINE], kind="stable")]  # what is in order is a heap
        space.heap[: len(heap)] = heap
        control[HEAP] = len(heap)
        ring = space.ring[(control[SWEEP_HEAD] + np.arange(control[SWEEP_COUNT])) % len(space.ring)]
        ring = ring[space.keys[ring[:, RING_KEY], KEY_SWEEP] != 0]
        space.ring[: len(ring)] = ring
        control[SWEEP_HEAD], control[SWEEP_COUNT] = 0, len(ring)

    def grow_seeds(self, keys: Ints, time: int) -> None:
        """Give the keys the partial matches that their seeds stand for."""
        done = 0
        while True:
            done += self._kernel.grow_seeds(self.compiled.tables, self.space, keys[done:], time)
            if not self._stopped():
                return

    def _machine_for(self, cells: Ints, null: npt.NDArray[np.uint8]) -> Machine:
        plan = self.compiled.plan
        size = max(1, plan.stack_size)
        stack = np.zeros(size, np.int64)
        cells = np.ascontiguousarray(cells)
        return Machine(
            plan.code,
            self._constants,
            plan.updates_code,
            cells,
            cells.view(np.float64),
            null,
            stack,
            stack.view(np.float64),
            np.zeros(size, np.uint8),
        )

    def _grow_keys(self, keys: int) -> None:
        self.space = grow_list(self.space, "keys", keys)

    def _stopped(self) -> bool:
        """Did the kernel stop before the end? Then what it lacked has been given, unless it cannot go on."""
        control = self.space.control
        status = int(control[STATUS])
        if status == kernel.RUNNING:
            return False
        control[STATUS] = kernel.RUNNING
        if status != kernel.FULL:
            failed = self.compiled.patterns[int(control[FAILED_PATTERN])].pattern.name
            raise MatchError(self._reason(status), failed)
        patterns = len(self.compiled.patterns)
        need = (int(control[WANTED]) + patterns) * len(self.space.successors) * 2 + 16
        space = self.space
        for name in ("runs", "nodes"):
            space = grow(space, name, need)
        space = grow(space, "slots", 16)
        space = grow(space, "instances", patterns + 16)
        space = grow_list(space, "results", int(control[RESULTS]) + need)
        space = grow_list(space, "heap", int(control[HEAP]) + need)
        space = grow_list(space, "fresh", int(control[FRESH]) + 16)
        self.space = grow_ring(space, 16)
        return True

    def _reason(self, status: int) -> str:
        control = self.space.control
        checked = self.compiled.patterns[int(control[FAILED_PATTERN])]
        name = checked.pattern.name
        if status == kernel.CAPPED:
            cap = checked.pattern.cap.runs
            return (
                f"pattern `{name}`: a key has more than {cap:,} partial matches. Bound it with `within`, a skip "
                f"strategy or narrower conditions, or say `cap {cap} partial matches drop oldest`"
            )
        stage = checked.pattern.skip.stage
        if status == kernel.MISSED_STAGE:
            return f"pattern `{name}`: a match has no event for `{stage}`, to which the skip strategy is to go"
        return f"pattern `{name}`: the skip strategy goes to `{stage}`, which is where the match began"

    def _hook(self, released: Released) -> Any:
        """What the uncompiled kernel calls for conditions that only Python decides."""
        stage_names, store, columns = self.compiled.stage_names, self.store, released.columns

        def event_of(slot: int) -> Event:
            row = int(self.space.slots[slot, SLOT_ROW])
            return columns.event(row) if row >= 0 else store.event(slot)

        def matched(node: int) -> Mapping[str, list[Event]]:
            nodes = self.space.nodes
            found: dict[str, list[Event]] = {}
            while node >= 0:
                events = found.setdefault(stage_names[nodes[node, NODE_STAGE]], [])
                events.append(event_of(int(nodes[node, NODE_SLOT])))
                node = int(nodes[node, NODE_PARENT])
            return {stage: events[::-1] for stage, events in found.items()}

        def decide(number: int, node: int, row: int) -> bool:
            context = HookContext(lambda: matched(int(node)), int(released.time[row]))
            return self._hooks[number](columns.event(int(row)), context)

        return decide
