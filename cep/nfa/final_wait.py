"""Pass 1b: where a pattern ends in ``!-> n [within d]``, partial matches that may end wait for that time at once.

In Flink a partial match that is still in a repetition when its time runs out has not begun to wait for what must not
follow, so nothing but a further event could complete it (SEMANTICS 5). A bound of the negation's own says what is
meant: the match is complete when so much time has passed since its last event. So the event that brings a partial
match to where the negation could begin also brings a copy of it to the waiting state.

Example: ``a+ !-> n [within 1 min]``
    before: start -take-> loop, loop -take-> loop, loop -proceed-> pending
    after:  start -take-> loop and pending, loop -take-> loop and pending
"""

from __future__ import annotations

from ostinato.cep.nfa.ir import Action, Edge, Graph, Kind, State


def wait_at_once(graph: Graph) -> Graph:
    """Replace unconditional ways on to waiting states with a time of their own; changes the graph in place."""
    for state in graph.states:
        if state.kind is Kind.PENDING and state.gap_ms is not None:
            _wait_at_once(graph, state)
    return graph


def _wait_at_once(graph: Graph, pending: State) -> None:
    leading = _leading_to(graph, pending)
    for state in graph.states:
        edges: list[Edge] = []
        for edge in state.edges:
            if edge.action is Action.PROCEED and edge.target is pending and state in leading:
                continue
            edges.append(edge)
            if edge.action is Action.TAKE and edge.target in leading:
                edges.append(Edge(Action.TAKE, pending, edge.guard, edge.gap_ms))
        state.edges = edges


def _leading_to(graph: Graph, pending: State) -> set[State]:
    """The states from which one may always go on to `pending`; not the start, where nothing was taken yet."""
    found = {pending}
    while more := {
        state
        for state in graph.states
        if state not in found
        and state.kind is Kind.NORMAL
        and any(edge.action is Action.PROCEED and edge.guard is True and edge.target in found for edge in state.edges)
    }:
        found |= more
    return found - {pending}
