"""A key's partial matches, read where they are: nothing is changed by looking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ostinato.cep.batch import AnyArray
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.kernel import DONE, TAKE
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.pools import (
    INSTANCE_DONE_HEAD,
    INSTANCE_HEAD,
    INSTANCE_NEXT,
    INSTANCE_PATTERN,
    INSTANCE_PRUNED_HEAD,
    KEY_FIRST,
    KEY_SEED,
    KEY_SEED_GROUP,
    KEY_SEEDS,
    NODE_PARENT,
    NODE_SLOT,
    NODE_STAGE,
    RUN_LAST_TIME,
    RUN_NEXT,
    RUN_NODE,
    RUN_START_TIME,
    RUN_STATE,
    SLOT_TIME,
)
from ostinato.cep.nfa.tables import (
    E_MOVE,
    E_STAGE,
    E_TARGET,
    G_MEMBERS,
    P_START,
    P_WITHIN,
    S_ACTIONS,
    S_EDGES,
    S_FACTS,
    S_GAP,
)
from ostinato.cep.strings import Interner
from ostinato.patterns.types import DOUBLE, STRING

OPEN, COMPLETE, SKIPPED = "open", "complete", "skipped"
"""Waits for events; waits until earlier partial matches let it out; was pruned by the skip strategy, and is over with
the key's next event."""

_REGISTER = re.compile(r"(.* \d+) (.+)", re.DOTALL)
"""How `RegisterPlan.registers` describes them: function, stage, column, offset; and the type, which may have spaces."""

Path = tuple[tuple[str, int], ...]
"""The events of a partial match, oldest first: stage and slot."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial match.

    Attributes:
        kind: OPEN, COMPLETE or SKIPPED.
        state: its state's number in the pattern's automaton; -1 where it is complete.
        began, last: times of its first and last event, ms.
        deadline: the time (ms) at which it is over, or complete where it only waits for that; None: never.
        path: its events.
        registers: what conditions read of the events matched, by function, stage, column and offset; the values are
            physical, None is null.
    """

    kind: str
    state: int
    began: int
    last: int
    deadline: int | None
    path: Path
    registers: Mapping[str, Any]


def partials_of(matcher: Matcher, texts: Interner, number: int, key: int) -> list[Partial]:
    """Those of pattern `number` on the key with this code that are in memory, in the order in which they began."""
    space = matcher.space
    if key < 0 or key >= len(space.keys):
        return []
    if space.keys[key, KEY_SEEDS] > 0:
        return _of_seeds(matcher, number, key)
    found = []
    instance = int(space.keys[key, KEY_FIRST])
    while instance >= 0:
        row = space.instances[instance]
        if row[INSTANCE_PATTERN] == number:
            lists = ((INSTANCE_HEAD, OPEN), (INSTANCE_DONE_HEAD, COMPLETE), (INSTANCE_PRUNED_HEAD, SKIPPED))
            for column, kind in lists:
                run = int(row[column])
                while run >= 0:
                    found.append(_of_run(matcher, texts, number, run, kind))
                    run = int(space.runs[run, RUN_NEXT])
        instance = int(row[INSTANCE_NEXT])
    return found


def _of_run(matcher: Matcher, texts: Interner, number: int, run: int, kind: str) -> Partial:
    compiled, space = matcher.compiled, matcher.space
    row = space.runs[run]
    path = []
    node = int(row[RUN_NODE])
    while node >= 0:
        path.append((compiled.stage_names[space.nodes[node, NODE_STAGE]], int(space.nodes[node, NODE_SLOT])))
        node = int(space.nodes[node, NODE_PARENT])
    state, began = int(row[RUN_STATE]), int(row[RUN_START_TIME])
    last = int(space.slots[path[0][1], SLOT_TIME]) if state == DONE else int(row[RUN_LAST_TIME])
    return Partial(
        kind,
        -1 if state == DONE else state - int(compiled.tables.patterns[number, P_START]),
        began,
        last,
        None if state == DONE else deadline(compiled, number, state, began, last),
        tuple(path[::-1]),
        _registers(compiled, number, space.registers.ints[run], space.registers.null[run], texts),
    )


def _of_seeds(matcher: Matcher, number: int, key: int) -> list[Partial]:
    """What a key's seeds stand for; see `kernel.grow_seed`."""
    compiled, space = matcher.compiled, matcher.space
    tables = compiled.tables
    group = space.keys[key, KEY_SEED_GROUP]
    first, last = tables.groups[[group, group + 1], G_MEMBERS]
    if number not in tables.members[first:last]:
        return []
    chain = []
    seed = int(space.keys[key, KEY_SEED])
    while seed >= 0:
        chain.append(seed)
        seed = int(space.runs[seed, RUN_NEXT])
    begin = int(tables.states[tables.patterns[number, P_START], S_EDGES])
    while tables.edges[begin, E_MOVE] != TAKE:
        begin += 1
    found = []
    for index, seed in enumerate(chain):
        edge = begin
        path = [(compiled.stage_names[tables.edges[edge, E_STAGE]], int(space.runs[seed, RUN_NODE]))]
        for later in chain[index + 1 :]:
            state = int(tables.edges[edge, E_TARGET])
            facts = space.runs[later, RUN_LAST_TIME] & tables.states[state, S_FACTS]
            edge = int(tables.actions[tables.states[state, S_ACTIONS] + facts])
            path.append((compiled.stage_names[tables.edges[edge, E_STAGE]], int(space.runs[later, RUN_NODE])))
        state = int(tables.edges[edge, E_TARGET])
        began, ended = (int(space.slots[slot, SLOT_TIME]) for slot in (path[0][1], path[-1][1]))
        over = deadline(compiled, number, state, began, ended)
        found.append(Partial(OPEN, state - int(tables.patterns[number, P_START]), began, ended, over, tuple(path), {}))
    return found


def deadline(compiled: CompiledSet, number: int, state: int, began: int, last: int) -> int | None:
    """When a partial match in a state (numbered over all patterns) is over: by the pattern's bound, or a gap's."""
    within = int(compiled.tables.patterns[number, P_WITHIN])
    gap = int(compiled.tables.states[state, S_GAP])
    bounds = [began + within] * (within > 0) + [last + gap] * (gap > 0)
    return min(bounds, default=None)


def _registers(compiled: CompiledSet, number: int, cells: AnyArray, null: AnyArray, texts: Interner) -> dict[str, Any]:
    names = compiled.plan.registers[number]
    found: dict[str, Any] = {}
    for at, name in enumerate(names):
        described = _REGISTER.fullmatch(name)
        assert described is not None, f"a register is described as {name!r}"
        what, type_ = described.groups()
        value: Any = None
        if not null[at]:
            value = int(cells[at])
            if type_ == str(DOUBLE):
                value = float(cells[at : at + 1].view(np.float64)[0])
            elif type_ == str(STRING):
                value = texts.strings(np.array([value])).to_list()[0]
        if what.startswith("carry "):
            whole = what.replace("carry ", "sum ", 1)
            if found.get(whole) is not None and value:
                found[whole] = None  # beyond 64 bits, which is null to conditions
            continue
        found[what] = value
    return found


def register_name(function: str, stage: str, column: str | None, offset: int) -> str:
    """Under which name `Partial.registers` has a value."""
    return f"{function} {stage}.{column or '*'} {offset}"


def stages_taken(path: Sequence[tuple[str, int]]) -> dict[str, int]:
    """How many events each stage has."""
    counts: dict[str, int] = {}
    for stage, _ in path:
        counts[stage] = counts.get(stage, 0) + 1
    return counts
