"""The matcher's memory: pools of rows in numpy arrays, with free lists, that the kernel works on.

A *run* is a partial match. A *node* is an event taken for a stage, with its parent: the matches so far form a tree
whose branches share their beginnings. A *slot* is a buffered event. An *instance* is one pattern at work on one key;
a key on which only the start state waits has none. Free rows of a pool are chained through one of its columns.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]

# columns of runs: partial matches, and finished ones that a skip strategy holds back (their state is DONE)
RUN_NEXT, RUN_STATE, RUN_NODE, RUN_START_TIME, RUN_START_SEQ, RUN_LAST_TIME = range(6)
# nodes: events taken, a tree from the last event to the first; runs, children and results refer to them
NODE_PARENT, NODE_STAGE, NODE_SLOT, NODE_REFS = range(4)
# slots: buffered events; the row is that in the batch in hand, or -1 where the event is from an earlier one
SLOT_REFS, SLOT_ROW, SLOT_TIME, SLOT_SEQ = range(4)
# instances: patterns at work on keys. The generation changes when a row is freed, so that old timers are known. The
# pruned are partial matches that a skip strategy pruned while no event was in hand: Flink would still report those
# whose time is up before the key's next event, because its time moves from event to event; so do we, however often
# time moves in between.
(
    INSTANCE_NEXT, INSTANCE_KEY, INSTANCE_PATTERN, INSTANCE_HEAD, INSTANCE_TAIL, INSTANCE_DONE_HEAD,
    INSTANCE_DONE_TAIL, INSTANCE_PRUNED_HEAD, INSTANCE_COUNT, INSTANCE_GENERATION, INSTANCE_HELD_DEADLINE,
) = range(11)  # fmt: skip
# keys: their first instance (-1: none), how many runs they have, whether a sweep is due for them; their first seed (see
# `kernel`), the group of patterns their seeds stand for, and how many they are; whether anything may have changed since
# the last snapshot, and whether that one holds the key
KEY_FIRST, KEY_RUNS, KEY_SWEEP, KEY_SEED, KEY_SEED_GROUP, KEY_SEEDS, KEY_CHANGED, KEY_STORED = range(8)
# the heap of deadlines of precise patterns
HEAP_DEADLINE, HEAP_INSTANCE, HEAP_GENERATION = range(3)
# the ring of keys to sweep, in order of time
RING_TIME, RING_KEY = range(2)
# results: the kind is MATCH or TIMEOUT; the row that of the event that completed it, -1 where time did. Each holds a
# reference to its last node until it has been read.
(
    RESULT_PATTERN, RESULT_KEY, RESULT_KIND, RESULT_NODE, RESULT_ROW, RESULT_TIME, RESULT_START_TIME, RESULT_START_SEQ,
) = range(8)  # fmt: skip
# successors of the run in hand: state, node, and the stage taken (-1: none)
NEW_STATE, NEW_NODE, NEW_TAKEN = range(3)
# per pattern: the mark of the event that has reached it, and partial matches dropped by its cap
MARK_EVENT, MARK_DROPPED = range(2)


class Registers(NamedTuple):
    """Register rows of runs (row r for run r; the first rows are those of patterns without any event)."""

    ints: npt.NDArray[np.int64]
    doubles: npt.NDArray[np.float64]
    null: npt.NDArray[np.uint8]


class Machine(NamedTuple):
    """Programs of iterative conditions, and the columns of the batch in hand that they read."""

    code: npt.NDArray[np.int64]
    constants: Ints
    updates: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    doubles: npt.NDArray[np.float64]
    null: npt.NDArray[np.uint8]
    stack_i: Ints
    stack_f: Doubles
    stack_null: Flags


class Space(NamedTuple):
    """All pools: int64 tables whose columns are named above, `fresh` (slots given out for events of the batch in hand;
    one may stand there more than once), and `control`."""

    runs: Ints
    nodes: Ints
    slots: Ints
    instances: Ints
    keys: Ints
    heap: Ints
    ring: Ints
    results: Ints
    successors: Ints
    marks: Ints
    fresh: Ints
    registers: Registers
    control: Ints


# positions in `Space.control`
FREE_RUN, FREE_NODE, FREE_SLOT, FREE_INSTANCE = 0, 1, 2, 3
RUNS_LEFT, NODES_LEFT, SLOTS_LEFT, INSTANCES_LEFT = 4, 5, 6, 7
RESULTS, FRESH, HEAP, SWEEP_HEAD, SWEEP_COUNT = 8, 9, 10, 11, 12
STATUS, FAILED_PATTERN, FAILED_KEY, MARK, SWEEP_AFTER, NEXT_DEADLINE = 13, 14, 15, 16, 17, 18
WANTED, WAITING, LAST_WAITING = 19, 20, 21
CONTROL_SIZE = 24

_FREE_LINK = {"runs": RUN_NEXT, "nodes": NODE_PARENT, "slots": SLOT_ROW, "instances": INSTANCE_NEXT}
_FREE_HEAD = {"runs": FREE_RUN, "nodes": FREE_NODE, "slots": FREE_SLOT, "instances": FREE_INSTANCE}
_LEFT = {"runs": RUNS_LEFT, "nodes": NODES_LEFT, "slots": SLOTS_LEFT, "instances": INSTANCES_LEFT}


def _longer(table: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    longer = np.zeros((size, *table.shape[1:]), table.dtype)
    longer[: len(table)] = table
    return longer


def _with(space: Space, name: str, table: Any) -> Space:
    changed: Any = {name: table}
    return space._replace(**changed)


def make_space(patterns: int, widest: int, width: int) -> Space:
    """Empty pools for so many patterns; `widest` is the most successors of one run, `width` the most registers."""

    def table(rows: int, columns: int) -> Ints:
        return np.zeros((rows, columns), np.int64)

    control = np.zeros(CONTROL_SIZE, np.int64)
    for head in _FREE_HEAD.values():
        control[head] = -1
    control[NEXT_DEADLINE] = 2**63 - 1
    cells = table(patterns, max(1, width))
    # the first rows of the runs' pool stand for the patterns without any event: they are never free
    space = Space(
        runs=table(patterns, 6),
        nodes=table(0, 4),
        slots=table(0, 4),
        instances=table(0, 11),
        keys=table(1024, 8),
        heap=table(1024, 3),
        ring=table(1024, 2),
        results=table(1024, 8),
        successors=table(max(1, widest), 3),
        marks=table(patterns, 2),
        fresh=np.zeros(1024, np.int64),
        registers=Registers(cells, cells.view(np.float64), np.zeros(cells.shape, np.uint8)),
        control=control,
    )
    space.keys[:, KEY_FIRST] = -1
    for name in _FREE_LINK:
        space = grow(space, name, 1024)
    return space


def grow(space: Space, name: str, free: int) -> Space:
    """The space with at least `free` free rows in a pool (at least doubled, so that growth costs little)."""
    control = space.control
    if control[_LEFT[name]] >= free:
        return space
    pool = getattr(space, name)
    before = len(pool)
    size = max(2 * before, before + free, 1024)
    pool = _longer(pool, size)
    link = pool[:, _FREE_LINK[name]]
    link[before : size - 1] = np.arange(before + 1, size)
    link[size - 1] = control[_FREE_HEAD[name]]
    control[_FREE_HEAD[name]] = before
    control[_LEFT[name]] += size - before
    space = _with(space, name, pool)
    if name == "runs":
        cells = _longer(space.registers.ints, size)
        null = _longer(space.registers.null, size)
        space = space._replace(registers=Registers(cells, cells.view(np.float64), null))
    return space


def grow_list(space: Space, name: str, size: int) -> Space:
    """The space with a list (``keys``, ``results``, ``fresh``, ``heap``) of at least `size` rows."""
    table = getattr(space, name)
    before = len(table)
    if before >= size:
        return space
    table = _longer(table, max(2 * before, size))
    if name == "keys":
        table[before:, KEY_FIRST] = -1
    return _with(space, name, table)


def grow_ring(space: Space, sweeps: int) -> Space:
    """The space with room for so many more sweeps."""
    control, room = space.control, len(space.ring)
    if control[SWEEP_COUNT] + sweeps <= room:
        return space
    # unroll the ring, so that the new room lies behind its end
    order = (control[SWEEP_HEAD] + np.arange(control[SWEEP_COUNT])) % room
    control[SWEEP_HEAD] = 0
    return space._replace(ring=_longer(space.ring[order], max(2 * room, len(order) + sweeps)))
