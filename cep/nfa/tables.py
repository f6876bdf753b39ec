"""Pass 3: automata → the flat integer tables that the kernel steps through, for a set of patterns at once.

Every condition becomes a bit. Conditions on the event alone (*simple* ones) are evaluated once per batch for all
patterns and packed into words; conditions on the partial match (*iterative* ones) get a bit that the kernel sets for
the partial match in hand. A guard is a list of terms; a term holds when ``bits & care == want``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ostinato.cep.nfa.formula import Atom, Term
from ostinato.cep.nfa.ir import FINAL, Automaton, FlatState, Move, Step
from ostinato.patterns.ast import Cap, CapPolicy, Skip, SkipMode
from ostinato.patterns.errors import MalformedPatternError
from ostinato.patterns.typed import Apply, Constant, Opaque, Typed, is_iterative
from ostinato.patterns.types import BOOLEAN

Ints = npt.NDArray[np.int64]

WORD_BITS = 62
"""Conditions in one word; the sign bit and one more stay free."""

SKIP_MODES = {
    SkipMode.NO_SKIP: 0,
    SkipMode.TO_NEXT: 1,
    SkipMode.PAST_LAST: 2,
    SkipMode.TO_FIRST: 3,
    SkipMode.TO_LAST: 4,
}

NO_LIMIT = 2**62
"""A cap or a deadline that is never reached."""


# columns of `Tables`: first those of patterns
(
    P_START, P_WITHIN, P_SKIP, P_SKIP_STAGE, P_THROW, P_CAP, P_CAP_DROPS, P_WORD, P_PRECISE, P_REPORTS, P_GROUP,
) = range(11)  # fmt: skip
# groups of patterns that begin with the same events: word, first term, first member; where the states of their seeds
# begin in `Tables.seeds` (-1: no seeds for them), the bits that number what a seed does, and how long a seed may matter
# (ms; 0: for ever)
G_WORD, G_TERMS, G_MEMBERS, G_SEEDS, G_FACTS, G_WITHIN = range(6)
# states: first edge, is it pending, gap (ms), does a gap end it silently, first iterative condition, first timer, first
# action (-1: none are worked out), and the bits that number its actions
S_EDGES, S_PENDING, S_GAP, S_SILENT, S_CONDITIONS, S_TIMERS, S_ACTIONS, S_FACTS = range(8)
# edges: what it does, where to, for which stage, gap (ms), first term of its guard, first of its completion guard
E_MOVE, E_TARGET, E_STAGE, E_GAP, E_GUARD, E_COMPLETES = range(6)
# terms of guards
T_CARE, T_WANT = range(2)
# iterative conditions of states: their bit; simple bits without which they need not be looked at; where their program
# begins (-1: Python decides, as number C_HOOK) and ends
C_BIT, C_PRE, C_START, C_END, C_HOOK = range(5)
# stages: where the program that updates registers begins and ends
U_START, U_END = range(2)


class Tables(NamedTuple):
    """The patterns as the kernel sees them: int64 tables whose columns are named above.

    Patterns, states, edges, terms, stages are numbered over all patterns. Where a column is the position of the first
    row in another table, the next row tells where they end; such tables have one row more than they need.

    P_WITHIN is in milliseconds, 0 where there is no bound; P_PRECISE is 1 where the moment at which a partial match
    expires can be seen from outside, so that each start has a timer of its own.
    """

    patterns: Ints
    groups: Ints
    members: Ints
    states: Ints
    edges: Ints
    terms: Ints
    conditions: Ints
    timer_gap: Ints
    stages: Ints
    actions: Ints
    seeds: Ints
    """`actions`: what a state does for each combination of conditions: the number of the one edge that is taken, where
    that is all that happens; DIES, STAYS; or GENERAL, where the edges must be looked at one by one. `seeds`: the same
    for the states of all patterns of a group together (see `kernel`), with the place of the next such states."""


GENERAL, DIES, STAYS = -1, -2, -3

ACTION_BITS = 6
"""Actions are worked out where a word has at most so many simple conditions: 64 combinations for each state."""

MOST_SEED_STATES = 64
"""States of a group's patterns together that are worked out in advance."""

_COLUMNS: dict[str, tuple[str, ...]] = {
    "patterns": (
        "start_state", "within", "skip", "skip_stage", "throw_on_miss", "cap", "cap_drops", "word", "precise",
        "reports_timeouts", "start_group",
    ),
    "groups": ("group_word", "group_terms", "group_patterns", "group_seeds", "group_facts", "group_within"),
    "states": ("edges", "pending", "gap", "silent", "conditions", "timers", "first_action", "facts"),
    "edges": ("move", "target", "stage", "edge_gap", "guard", "completes"),
    "terms": ("care", "want"),
    "conditions": ("condition_bit", "condition_pre", "condition_start", "condition_end", "condition_hook"),
    "stages": ("update_start", "update_end"),
}  # fmt: skip
"""The columns of each table, in order, by the names under which they are collected."""


@dataclass(frozen=True, slots=True)
class PatternIR:
    """What the passes before made of one pattern."""

    automaton: Automaton
    conditions: Mapping[Atom, Typed]
    simple: Mapping[Atom, Typed]
    """Of each condition the part that needs only the event, where it has one."""
    rest: Mapping[Atom, Typed]
    """Of iterative conditions what is left without that part."""
    within_ms: int
    skip: Skip
    cap: Cap
    reports_timeouts: bool


@dataclass(frozen=True, slots=True)
class Iterative:
    """An iterative condition: of which pattern, and what is left of it without its simple part."""

    pattern: int
    expr: Typed


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each condition is found: the simple ones by word and bit, the iterative ones in order."""

    words: tuple[tuple[Typed, ...], ...]
    word_of_pattern: tuple[int, ...]
    bits: tuple[Mapping[Atom, int], ...]
    iterative: tuple[Iterative, ...]
    iterative_of: tuple[Mapping[Atom, tuple[int, int]], ...]
    """Per pattern: atom → (number in `iterative`, mask of simple bits that must hold first)."""


def parted(conditions: Mapping[Atom, Typed]) -> tuple[dict[Atom, Typed], dict[Atom, Typed]]:
    """`PatternIR.simple` and `PatternIR.rest`."""
    simple: dict[Atom, Typed] = {}
    rest: dict[Atom, Typed] = {}
    for atom, expr in conditions.items():
        before, after = split(expr)
        if after is None:
            simple[atom] = before if before is not None else Constant(BOOLEAN, True)
        else:
            rest[atom] = after
            if before is not None:
                simple[atom] = before
    return simple, rest


def lay_out(patterns: Sequence[PatternIR]) -> Layout:
    """Give every condition its place. Patterns with the same simple conditions share a word."""
    words: list[dict[int, int]] = []
    conditions: dict[Typed, int] = {}
    word_of_pattern: list[int] = []
    bits: list[dict[Atom, int]] = []
    iterative: list[Iterative] = []
    iterative_of: list[dict[Atom, tuple[int, int]]] = []
    for number, pattern in enumerate(patterns):
        # by number, because to compare expressions takes long
        simple = {atom: conditions.setdefault(expr, len(conditions)) for atom, expr in pattern.simple.items()}
        rest = pattern.rest
        word = _place(words, dict.fromkeys(simple.values()), len(rest))
        position = words[word]
        own = {atom: 1 << position[simple[atom]] for atom in simple if atom not in rest}
        own_iterative: dict[Atom, tuple[int, int]] = {}
        for index, (atom, expr) in enumerate(rest.items()):
            # iterative bits are set per partial match, so that those of different patterns may share a place
            own[atom] = 1 << (WORD_BITS - 1 - index)
            before_mask = 1 << position[simple[atom]] if atom in simple else 0
            own_iterative[atom] = (len(iterative), before_mask)
            iterative.append(Iterative(number, expr))
        word_of_pattern.append(word)
        bits.append(own)
        iterative_of.append(own_iterative)
    known = list(conditions)
    return Layout(
        tuple(tuple(known[condition] for condition in word) for word in words),
        tuple(word_of_pattern),
        tuple(bits),
        tuple(iterative),
        tuple(iterative_of),
    )


def split(expr: Typed) -> tuple[Typed | None, Typed | None]:
    """The part of a condition that needs only the event, and the rest; either may be None. The condition is true
    exactly when both are."""
    if not is_iterative(expr):
        return expr, None
    if isinstance(expr, Apply) and expr.function == "and":
        simple = [arg for arg in expr.args if not is_iterative(arg)]
        rest = [arg for arg in expr.args if is_iterative(arg)]
        nested = [split(arg) for arg in rest]
        simple += [before for before, _ in nested if before is not None]
        return _all_of(simple), _all_of([after for _, after in nested if after is not None])
    return None, expr


def _all_of(parts: list[Typed]) -> Typed | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Apply(BOOLEAN, "and", tuple(parts))


def _place(words: list[dict[int, int]], wanted: Collection[int], iterative: int) -> int:
    """The word in which all of a pattern's simple conditions have a bit. `words`: condition -> bit."""
    room = WORD_BITS - iterative
    if len(wanted) > room:
        raise MalformedPatternError(
            f"a pattern has {len(wanted) + iterative} different conditions; {WORD_BITS} are possible"
        )
    for index, word in enumerate(words):
        missing = [condition for condition in wanted if condition not in word]
        if len(word) + len(missing) <= room:
            for condition in missing:
                word[condition] = len(word)
            return index
    words.append({condition: bit for bit, condition in enumerate(wanted)})
    return len(words) - 1


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the machine's programs are (see `expressions.registers`): per iterative condition its range, or None where
    Python decides; per pattern and stage the range of register updates."""

    conditions: Sequence[tuple[int, int] | None]
    updates: Sequence[Mapping[str, tuple[int, int]]]


def tabulate(
    patterns: Sequence[PatternIR], layout: Layout, programs: Programs, idle: frozenset[int] = frozenset()
) -> tuple[Tables, tuple[int, ...]]:
    """The tables, and the iterative conditions that Python decides, in the order of their hook numbers.

    Patterns in `idle` are numbered like the others, but no event begins them.
    """
    build = _Tabulation(layout, programs, idle)
    for number, pattern in enumerate(patterns):
        build.pattern(number, pattern)
    return build.tables(), tuple(build.hooks)


_Masks = tuple[int, int]
"""Of a term: the bits that it looks at, and what it wants of them."""
_StepMasks = tuple[Sequence[_Masks], Sequence[_Masks]]
"""Of a step: those of its guard, and of the guard under which it completes a match."""
_Group = tuple[int, frozenset[_Masks]]
"""What patterns that begin with the same events have in common: their word, and the terms of a beginning."""


class _Tabulation:
    def __init__(self, layout: Layout, programs: Programs, idle: frozenset[int]) -> None:
        self._idle = idle
        self._layout = layout
        self._programs = programs
        self._columns: dict[str, list[int]] = {"members": [], "timer_gap": [], "actions": [], "seeds": []}
        self._columns |= {column: [] for names in _COLUMNS.values() for column in names}
        for name in ("group_patterns", "edges", "conditions", "timers", "guard", "completes"):
            self._columns[name].append(0)
        self._second: dict[int, int] = {}
        self._groups: dict[_Group, list[int]] = {}
        self._group_numbers: dict[_Group, int] = {}
        self.hooks: list[int] = []
        self._hook_numbers: dict[int, int] = {}

    def tables(self) -> Tables:
        columns = self._columns
        for (word, guard), members in self._groups.items():
            columns["group_terms"].append(len(columns["care"]))
            for care, want in sorted(guard):
                self._add(care=care, want=want)
            columns["members"] += members
            bits = len(self._layout.words[word])
            self._add(
                group_word=word,
                group_patterns=len(columns["members"]),
                group_seeds=self._seeds(members, 1 << bits),
                group_facts=(1 << bits) - 1,
                group_within=self._longest(members),
            )
        columns["group_terms"].append(len(columns["care"]))
        tables = {name: _table([columns[column] for column in names]) for name, names in _COLUMNS.items()}
        lists = {name: np.array(columns[name], np.int64) for name in ("members", "timer_gap", "actions", "seeds")}
        return Tables(**tables, **lists)

    def pattern(self, number: int, pattern: PatternIR) -> None:
        automaton = pattern.automaton
        first_state = len(self._columns["pending"])
        first_stage = len(self._columns["update_start"])
        stage_numbers = {stage: first_stage + index for index, stage in enumerate(automaton.stages)}
        skip = pattern.skip
        self._add(
            start_state=first_state,
            within=pattern.within_ms,
            skip=SKIP_MODES[skip.mode],
            skip_stage=stage_numbers[skip.stage] if skip.stage is not None else -1,
            throw_on_miss=int(skip.throw_on_miss),
            cap=min(pattern.cap.runs, NO_LIMIT),
            cap_drops=int(pattern.cap.policy is CapPolicy.DROP_OLDEST),
            word=self._layout.word_of_pattern[number],
            precise=int(pattern.reports_timeouts or any(state.pending for state in automaton.states)),
            reports_timeouts=int(pattern.reports_timeouts),
            start_group=self._start_group(number, automaton),
        )
        self._second[number] = self._after_first(number, pattern, first_state)
        for stage in automaton.stages:
            start, end = self._programs.updates[number].get(stage, (0, 0))
            self._add(update_start=start, update_end=end)
        for index, state in enumerate(automaton.states):
            self._add(pending=int(state.pending), gap=state.gap_ms, silent=int(state.silent))
            masks = [
                (self._masks_of(number, step.guard_terms), self._masks_of(number, step.completes_terms))
                for step in state.steps
            ]
            for step, own in zip(state.steps, masks, strict=True):
                self._edge(step, own, first_state, stage_numbers)
            self._actions(number, index, automaton, masks)
            self._add(edges=len(self._columns["move"]))
            self._conditions(number, state)
            self._columns["timer_gap"] += sorted(_gaps_from(automaton, index))
            self._add(timers=len(self._columns["timer_gap"]))

    def _add(self, **values: int) -> None:
        for name, value in values.items():
            self._columns[name].append(value)

    def _edge(self, step: Step, masks: _StepMasks, first_state: int, stages: Mapping[str, int]) -> None:
        self._add(
            move=step.move.value,
            target=step.target if step.target < 0 else first_state + step.target,
            stage=stages[step.stage] if step.stage is not None else -1,
            edge_gap=step.gap_ms or 0,
        )
        # an edge's guard and its completion guard lie behind one another in the terms
        self._columns["guard"][-1] = len(self._columns["care"])
        self._terms(masks[0])
        self._columns["completes"][-1] = len(self._columns["care"])
        self._terms(masks[1])
        self._add(guard=len(self._columns["care"]), completes=len(self._columns["care"]))

    def _terms(self, masks: Sequence[_Masks]) -> None:
        for care, want in masks:
            self._add(care=care, want=want)

    def _masks_of(self, number: int, terms: Sequence[Term]) -> list[_Masks]:
        found = (self._masks(number, term) for term in terms)
        return [masks for masks in found if masks is not None]

    def _masks(self, number: int, term: Term) -> _Masks | None:
        """Which bits a term looks at and what it wants of them; None where that cannot be: two stages with the same
        condition have the same bit, and one of them was to be true, the other not."""
        bits = self._layout.bits[number]
        wanted = unwanted = 0
        for atom, positive in term:
            if positive:
                wanted |= bits[atom]
            else:
                unwanted |= bits[atom]
        return None if wanted & unwanted else (wanted | unwanted, wanted)

    def _actions(self, number: int, index: int, automaton: Automaton, masks: Sequence[_StepMasks]) -> None:
        """Work out what a state does for each combination of its word's conditions, where that is simple."""
        state = automaton.states[index]
        bits = len(self._layout.words[self._layout.word_of_pattern[number]])
        taken = [step.target for step in state.steps if step.move is Move.TAKE and step.target != FINAL]
        timed = any(step.gap_ms for step in state.steps) or any(_gaps_from(automaton, target) for target in taken)
        watched = state.gap_ms or timed or self._programs.updates[number]
        if bits > ACTION_BITS or self._layout.iterative_of[number] or watched:
            self._add(first_action=-1, facts=0)
            return
        self._add(first_action=len(self._columns["actions"]), facts=(1 << bits) - 1)
        first_edge = len(self._columns["move"]) - len(state.steps)
        for facts in range(1 << bits):
            possible = [
                edge for edge, (guard, _) in enumerate(masks) if any(facts & care == want for care, want in guard)
            ]
            action = GENERAL
            if not possible:
                action = DIES
            elif len(possible) == 1:
                step = state.steps[possible[0]]
                ends = any(facts & care == want for care, want in masks[possible[0]][1])
                if step.move is Move.IGNORE and step.target == index:
                    action = STAYS
                elif step.move is Move.TAKE and step.target != FINAL and not ends:
                    action = first_edge + possible[0]
            self._columns["actions"].append(action)

    def _conditions(self, number: int, state: FlatState) -> None:
        known = self._layout.iterative_of[number]
        atoms = dict.fromkeys(atom for step in state.steps for atom in _atoms(step)) if known else ()
        for atom in atoms:
            if atom not in known:
                continue
            index, before = known[atom]
            program = self._programs.conditions[index]
            hook = -1
            if program is None:
                if index not in self._hook_numbers:
                    self._hook_numbers[index] = len(self.hooks)
                    self.hooks.append(index)
                hook = self._hook_numbers[index]
            start, end = program if program is not None else (-1, -1)
            self._add(
                condition_bit=self._layout.bits[number][atom],
                condition_pre=before,
                condition_start=start,
                condition_end=end,
                condition_hook=hook,
            )
        self._add(conditions=len(self._columns["condition_bit"]))

    def _after_first(self, number: int, pattern: PatternIR, first_state: int) -> int:
        """The state that a pattern's first event leads to; -1 where it may do more than that, or where the pattern
        needs more than the events to be decided."""
        states = pattern.automaton.states
        begins = [step for step in states[0].steps if step.move is Move.TAKE]
        watched = pattern.reports_timeouts or any(state.pending or state.gap_ms for state in states)
        if len(begins) != 1 or begins[0].target == FINAL or begins[0].completes_terms or watched:
            return -1
        if self._layout.iterative_of[number] or self._programs.updates[number]:
            return -1
        return first_state + begins[0].target

    def _seeds(self, members: Sequence[int], combinations: int) -> int:
        """Work out what becomes of all patterns of a group together, from their first event on. Returns its place."""
        columns = self._columns
        first = tuple(self._second[member] for member in members)
        actions = columns["first_action"]
        if not members or min(first) < 0 or any(actions[state] < 0 for state in first):
            return -1
        base = len(columns["seeds"])
        known = {first: base}
        todo = [first]
        columns["seeds"] += [GENERAL] * combinations
        for states in todo:
            for facts in range(combinations):
                found = {columns["actions"][actions[state] + facts] for state in states}
                outcome = GENERAL
                if found in ({DIES}, {STAYS}):
                    outcome = next(iter(found))
                elif min(found) >= 0:
                    taken = tuple(columns["target"][columns["actions"][actions[state] + facts]] for state in states)
                    if taken not in known and len(known) < MOST_SEED_STATES:
                        known[taken] = len(columns["seeds"])
                        columns["seeds"] += [GENERAL] * combinations
                        todo.append(taken)
                    outcome = known.get(taken, GENERAL)
                columns["seeds"][known[states] + facts] = outcome
        return base

    def _longest(self, members: Sequence[int]) -> int:
        windows = [self._columns["within"][member] for member in members]
        return max(windows) if windows and min(windows) > 0 else 0

    def _start_group(self, number: int, automaton: Automaton) -> int:
        """The patterns that any event of some kind may begin; iterative conditions are left to the step itself."""
        if number in self._idle:
            return -1
        known = self._layout.iterative_of[number]
        guard = set()
        for step in automaton.states[0].steps:
            if step.move is not Move.TAKE:
                continue
            for term in step.guard_terms:
                masks = self._masks(number, frozenset(pair for pair in term if pair[0] not in known))
                if masks is None:
                    continue
                care, want = masks
                for atom, wanted in term:
                    if wanted and atom in known:
                        care |= known[atom][1]
                        want |= known[atom][1]
                guard.add((care, want))
        word = self._layout.word_of_pattern[number]
        group = (word, frozenset(guard))
        if group not in self._groups:
            self._groups[group] = []
            self._group_numbers[group] = len(self._group_numbers)
        self._groups[group].append(number)
        return self._group_numbers[group]


def _table(columns: Sequence[Sequence[int]]) -> Ints:
    """Columns side by side; those without a value for the last row get 0 there."""
    table = np.zeros((max(map(len, columns)), len(columns)), np.int64)
    for index, column in enumerate(columns):
        table[: len(column), index] = column
    return table


def _atoms(step: Step) -> list[Atom]:
    return [
        atom
        for alternatives in (step.guard_terms, step.completes_terms)
        for term in alternatives
        for atom, _ in sorted(term, key=lambda pair: (pair[0].kind, pair[0].owner))
    ]


def _gaps_from(automaton: Automaton, state: int) -> set[int]:
    """The gaps that may end a partial match in this state or in one it moves to without taking an event."""
    reached, frontier = {state}, [state]
    while frontier:
        for step in automaton.states[frontier.pop()].steps:
            if step.move is Move.IGNORE and step.target != FINAL and step.target not in reached:
                reached.add(step.target)
                frontier.append(step.target)
    return {automaton.states[index].gap_ms for index in reached if automaton.states[index].gap_ms}


def has_opaque(expr: Typed) -> bool:
    """Must Python see the event itself to decide it?"""
    return isinstance(expr, Opaque) or (isinstance(expr, Apply) and any(has_opaque(arg) for arg in expr.args))
