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


def flatten(graph: Graph, stages: Sequence[str]) -> Automaton:
    """The automaton of a graph; `stages` are the stage names in the order of the text."""
    numbers: dict[int, int] = {id(graph.start): 0}
    order = [graph.start]
    flat: list[FlatState] = []
    at = 0
    while at < len(order):
        state = order[at]
        at += 1
        steps = []
        for guard, source, edge in _reachable_edges(state):
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
                completes = _completion(edge.target)
                steps.append(Step(Move.TAKE, guard, target, source.stage, completes, edge.gap_ms))
            elif state is not graph.start:
                # the start is always there: an event that begins nothing leaves no trace
                steps.append(Step(Move.IGNORE, guard, target))
        flat.append(
            FlatState(state.name, state.kind is Kind.PENDING, tuple(steps), _gap(state, steps), state.gives_up_silently)
        )
    return Automaton(tuple(flat), tuple(stages))


def _reachable_edges(state: State) -> Iterator[tuple[Formula, State, Edge]]:
    """TAKE and IGNORE edges behind any number of PROCEED edges, with the conjunction of the guards on the way."""
    stack: list[tuple[State, Formula, tuple[int, ...]]] = [(state, True, (id(state),))]
    while stack:
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


def _completion(state: State) -> Formula:
    """Under which condition on the event just taken does the match end here as well?"""
    found: list[Formula] = []
    stack: list[tuple[State, Formula, tuple[int, ...]]] = [(state, True, (id(state),))]
    while stack:
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
