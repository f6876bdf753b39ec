"""Pass 2: the graph → an automaton without PROCEED edges.

What Flink decides anew for every event by walking PROCEED edges is worked out once: each state gets, for every TAKE,
IGNORE or stop that can be reached from it, one step whose guard is the conjunction along the way. Only states in
which a partial match can rest are kept.

Steps are in the order in which Flink finds them, which is the order in which their results follow one another among
partial matches: first what the stage that a partial match is in does with the event (take it, then leave it), then
what the stages behind it do. With partial matches visited in the order in which they came to be, this is the
documented order of matches that share their first event; Flink's own differs only where a heap has shuffled it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ostinato.cep.nfa.formula import Formula, conjunction, disjunction, terms
from ostinato.cep.nfa.ir import FINAL, Action, Automaton, Edge, FlatState, Graph, Kind, Move, State, Step

MAX_STEPS = 5_000
"""Of one pattern. What can be skipped makes steps from each state to all behind it, and to find them takes time."""


MAX_EFFORT = 1_000_000
"""Moves along the graph in which ways are looked for: there may be very many that come to the same, and to follow so
many takes about a second."""


class TooManyStepsError(ValueError):
    """There are more ways from state to state than an automaton may have."""


class _Effort:
    """How much more may be done for one pattern."""

    def __init__(self) -> None:
        self._left = MAX_EFFORT

    def spend(self, moves: int) -> None:
        self._left -= moves
        if self._left < 0:
            raise TooManyStepsError("what may be left out leaves too many ways through it")


def flatten(graph: Graph, stages: Sequence[str]) -> Automaton:
    """The automaton of a graph; `stages` are the stage names in the order of the text.

    Raises TooManyStepsError.
    """
    effort = _Effort()
    left = MAX_STEPS
    completions: dict[int, Formula] = {}
    numbers: dict[int, int] = {id(graph.start): 0}
    order = [graph.start]
    flat: list[FlatState] = []
    at = 0
    while at < len(order):
        state = order[at]
        at += 1
        steps = []
        for guard, source, edge in _reachable_edges(state, effort):
            left -= 1
            if left < 0:
                raise TooManyStepsError(f"there are more than {MAX_STEPS:,} ways from state to state")
            if edge.target.kind is Kind.STOP:
                steps.append(Step(Move.KILL, guard, -1))
                continue
            if edge.target.kind is Kind.FINAL:
                target = FINAL
            else:
                if id(edge.target) not in numbers:
                    numbers[id(edge.target)] = len(order)
                    order.append(edge.target)
                target = numbers[id(edge.target)]
            if edge.action is Action.TAKE:
                if id(edge.target) not in completions:
                    completions[id(edge.target)] = _completion(edge.target, effort)
                completes = completions[id(edge.target)]
                steps.append(Step(Move.TAKE, guard, target, source.stage, completes, edge.gap_ms))
            elif state is not graph.start:
                # the start is always there: an event that begins nothing leaves no trace
                steps.append(Step(Move.IGNORE, guard, target))
        flat.append(
            FlatState(state.name, state.kind is Kind.PENDING, tuple(steps), _gap(state, steps), state.gives_up_silently)
        )
    return Automaton(tuple(flat), tuple(stages))


def _reachable_edges(state: State, effort: _Effort) -> Iterator[tuple[Formula, State, Edge]]:
    """TAKE and IGNORE edges behind any number of PROCEED edges, with the conjunction of the guards on the way."""
    stack: list[tuple[State, Formula, tuple[int, ...]]] = [(state, True, (id(state),))]
    while stack:
        effort.spend(len(stack[-1][2]))
        current, reached, path = stack.pop()
        for edge in current.edges:
            guard = conjunction([reached, edge.guard])
            if not terms(guard):
                continue
            if edge.action is not Action.PROCEED:
                yield guard, current, edge
            elif id(edge.target) not in path:
                # a looping group whose content may be empty closes a circle, which adds nothing
                stack.append((edge.target, guard, (*path, id(edge.target))))


def _completion(state: State, effort: _Effort) -> Formula:
    """Under which condition on the event just taken does the match end here as well?"""
    found: list[Formula] = []
    stack: list[tuple[State, Formula, tuple[int, ...]]] = [(state, True, (id(state),))]
    while stack:
        effort.spend(len(stack[-1][2]))
        current, reached, path = stack.pop()
        for edge in current.edges:
            if edge.action is not Action.PROCEED:
                continue
            guard = conjunction([reached, edge.guard])
            if edge.target.kind is Kind.FINAL:
                found.append(guard)
            elif id(edge.target) not in path:
                stack.append((edge.target, guard, (*path, id(edge.target))))
    return disjunction(found)


def _gap(state: State, steps: Sequence[Step]) -> int:
    """The time since its last event after which a partial match in this state can take nothing any more."""
    if state.gap_ms is not None:
        return state.gap_ms
    gaps = [step.gap_ms for step in steps if step.move is Move.TAKE]
    if not gaps or any(gap is None for gap in gaps):
        return 0
    return max(gap for gap in gaps if gap is not None)
