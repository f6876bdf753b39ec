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
Ints32 = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.uint8]


class Runs(NamedTuple):
    """Partial matches; finished ones that a skip strategy holds back have `state` DONE."""

    next: Ints32
    state: Ints32
    node: Ints32
    start_time: Ints
    start_seq: Ints
    last_time: Ints


class Nodes(NamedTuple):
    """Events taken: a tree from the last event to the first. `refs` counts runs, children and results."""

    parent: Ints32
    stage: Ints32
    slot: Ints32
    refs: Ints32


class Slots(NamedTuple):
    """Buffered events. `row` is the event's row in the batch in hand, or -1 where it is from an earlier one."""

    refs: Ints32
    row: Ints32
    time: Ints
    seq: Ints


class Instances(NamedTuple):
    """Patterns at work on keys. `generation` changes when a row is freed, so that old timers are known.

    `pruned_head`: partial matches that a skip strategy pruned while no event was in hand. Flink would still report those
    whose time is up before the key's next event, because its time moves from event to event; so do we, however often
    time moves in between.
    """

    next: Ints32
    key: Ints32
    pattern: Ints32
    head: Ints32
    tail: Ints32
    done_head: Ints32
    done_tail: Ints32
    pruned_head: Ints32
    count: Ints32
    generation: Ints32
    held_deadline: Ints


class Keys(NamedTuple):
    """Per key: its first instance (-1: none), its runs, and whether a sweep is due for it."""

    first: Ints32
    runs: Ints32
    sweep: Flags


class Timers(NamedTuple):
    """A binary heap of deadlines (`precise` patterns), and a ring of keys to sweep, in order of time."""

    deadline: Ints
    instance: Ints32
    generation: Ints32
    sweep_time: Ints
    sweep_key: Ints32


class Results(NamedTuple):
    """What came out: `kind` 0 is a match, 1 a timed-out partial match; `row` the event that completed it, -1 where
    time did. Each row holds a reference to its last node until it has been read."""

    pattern: Ints32
    key: Ints32
    kind: Ints32
    node: Ints32
    row: Ints32
    time: Ints
    start_time: Ints
    start_seq: Ints


class Scratch(NamedTuple):
    """Working space: successors of one run, and per pattern the mark of the event that has reached it."""

    state: Ints32
    node: Ints32
    taken: Ints32
    mark: Ints
    fresh: Ints32
    """Slots given out for events of the batch in hand; one may stand here more than once."""
    dropped: Ints
    """Per pattern: partial matches dropped by its cap."""


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
    """All pools together."""

    runs: Runs
    nodes: Nodes
    slots: Slots
    instances: Instances
    keys: Keys
    timers: Timers
    results: Results
    scratch: Scratch
    registers: Registers
    control: Ints


# positions in `Space.control`
FREE_RUN, FREE_NODE, FREE_SLOT, FREE_INSTANCE = 0, 1, 2, 3
RUNS_LEFT, NODES_LEFT, SLOTS_LEFT, INSTANCES_LEFT = 4, 5, 6, 7
RESULTS, FRESH, HEAP, SWEEP_HEAD, SWEEP_COUNT = 8, 9, 10, 11, 12
STATUS, FAILED_PATTERN, FAILED_KEY, MARK, SWEEP_AFTER, NEXT_DEADLINE = 13, 14, 15, 16, 17, 18
WANTED, WAITING, LAST_WAITING = 19, 20, 21
CONTROL_SIZE = 24

_FREE_LINK = {"runs": "next", "nodes": "parent", "slots": "row", "instances": "next"}
_FREE_HEAD = {"runs": FREE_RUN, "nodes": FREE_NODE, "slots": FREE_SLOT, "instances": FREE_INSTANCE}
_LEFT = {"runs": RUNS_LEFT, "nodes": NODES_LEFT, "slots": SLOTS_LEFT, "instances": INSTANCES_LEFT}

_TYPES: dict[type, dict[str, Any]] = {
    Runs: {"start_time": np.int64, "start_seq": np.int64, "last_time": np.int64},
    Nodes: {},
    Slots: {"time": np.int64, "seq": np.int64},
    Instances: {"held_deadline": np.int64},
    Keys: {"sweep": np.uint8},
    Timers: {"deadline": np.int64, "sweep_time": np.int64},
    Results: {"time": np.int64, "start_time": np.int64, "start_seq": np.int64},
}


def _pool(kind: Any, size: int) -> Any:
    special = _TYPES[kind]
    return kind(*(np.zeros(size, special.get(name, np.int32)) for name in kind._fields))


def _grown(pool: Any, size: int) -> Any:
    return type(pool)(*(_longer(column, size) for column in pool))


def _longer(column: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    longer = np.zeros((size, *column.shape[1:]), column.dtype)
    longer[: len(column)] = column
    return longer


def make_space(patterns: int, widest: int, width: int, keys: int = 1024) -> Space:
    """Empty pools for so many patterns; `widest` is the most successors of one run, `width` the most registers."""
    control = np.zeros(CONTROL_SIZE, np.int64)
    for head in _FREE_HEAD.values():
        control[head] = -1
    control[NEXT_DEADLINE] = 2**63 - 1
    scratch = Scratch(
        *(np.zeros(max(1, widest), np.int32) for _ in range(3)),
        np.zeros(patterns, np.int64),
        np.zeros(1024, np.int32),
        np.zeros(patterns, np.int64),
    )
    cells = np.zeros((patterns, max(1, width)), np.int64)
    registers = Registers(cells, cells.view(np.float64), np.zeros((patterns, max(1, width)), np.uint8))
    space = Space(
        *(_pool(kind, 0) for kind in (Runs, Nodes, Slots, Instances)),
        _pool(Keys, keys),
        _pool(Timers, 1024),
        _pool(Results, 1024),
        scratch,
        registers,
        control,
    )
    space.keys.first[:] = -1
    # the first rows of the runs' pool stand for the patterns without any event: they are never free
    space = space._replace(runs=_pool(Runs, patterns))
    for name in _FREE_LINK:
        space = grow(space, name, 1024)
    return space


def grow(space: Space, name: str, free: int) -> Space:
    """The space with at least `free` free rows in a pool (at least doubled, so that growth costs little)."""
    control = space.control
    if control[_LEFT[name]] >= free:
        return space
    pool = getattr(space, name)
    before = len(pool[0])
    size = max(2 * before, before + free, 1024)
    pool = _grown(pool, size)
    link = getattr(pool, _FREE_LINK[name])
    link[before : size - 1] = np.arange(before + 1, size)
    link[size - 1] = control[_FREE_HEAD[name]]
    control[_FREE_HEAD[name]] = before
    control[_LEFT[name]] += size - before
    space = space._replace(**{name: pool})
    if name == "runs":
        cells = _longer(space.registers.ints, size)
        null = _longer(space.registers.null, size)
        space = space._replace(registers=Registers(cells, cells.view(np.float64), null))
    return space


def grow_list(space: Space, name: str, size: int) -> Space:
    """The space with a list (``keys``, ``results``) of at least `size` rows."""
    pool = getattr(space, name)
    before = len(pool[0])
    if before >= size:
        return space
    pool = _grown(pool, max(2 * before, size))
    if name == "keys":
        pool.first[before:] = -1
    return space._replace(**{name: pool})


def grow_fresh(space: Space, size: int) -> Space:
    """The space with room for `size` fresh slots."""
    if len(space.scratch.fresh) >= size:
        return space
    longer = _longer(space.scratch.fresh, max(2 * len(space.scratch.fresh), size))
    return space._replace(scratch=space.scratch._replace(fresh=longer))


def grow_timers(space: Space, deadlines: int, sweeps: int) -> Space:
    """The space with room for so many more deadlines and sweeps."""
    control, timers = space.control, space.timers
    if control[HEAP] + deadlines > len(timers.deadline):
        size = max(2 * len(timers.deadline), int(control[HEAP]) + deadlines)
        timers = timers._replace(
            deadline=_longer(timers.deadline, size),
            instance=_longer(timers.instance, size),
            generation=_longer(timers.generation, size),
        )
    room = len(timers.sweep_time)
    if control[SWEEP_COUNT] + sweeps > room:
        # unroll the ring, so that the new room lies behind its end
        order = (control[SWEEP_HEAD] + np.arange(control[SWEEP_COUNT])) % room
        size = max(2 * room, int(control[SWEEP_COUNT]) + sweeps)
        times, keys = np.zeros(size, np.int64), np.zeros(size, np.int32)
        times[: len(order)] = timers.sweep_time[order]
        keys[: len(order)] = timers.sweep_key[order]
        control[SWEEP_HEAD] = 0
        timers = timers._replace(sweep_time=times, sweep_key=keys)
    return space._replace(timers=timers)
