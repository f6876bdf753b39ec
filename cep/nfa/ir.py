"""The automaton of a pattern, twice: as Flink builds it, and flattened for the kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ostinato.cep.nfa.formula import Formula, Term, terms


class Action(Enum):
    """What an edge does with the event (Flink's StateTransitionAction)."""

    TAKE = "take"
    IGNORE = "ignore"
    PROCEED = "proceed"


class Kind(Enum):
    """What a state is (Flink's StateType)."""

    NORMAL = "normal"
    START = "start"
    FINAL = "final"
    PENDING = "pending"
    STOP = "stop"


@dataclass(eq=False, slots=True)
class Edge:
    """A transition of the graph; `guard` is narrowed while the graph is being built.

    `gap_ms` bounds the time since the event matched before, for a TAKE.
    """

    action: Action
    target: State
    guard: Formula
    gap_ms: int | None = None


@dataclass(eq=False, slots=True)
class State:
    """A state of the graph. TAKE edges out of it take the event for `stage`.

    `gives_up_silently`: what it waits for may as well not come, so that a partial match whose gap has passed here is
    no timeout: the same match without the extra event goes on, or is complete, elsewhere.
    """

    name: str
    kind: Kind
    stage: str
    edges: list[Edge] = field(default_factory=list)
    gap_ms: int | None = None
    gives_up_silently: bool = False

    def take(self, target: State, guard: Formula, gap_ms: int | None = None) -> None:
        self.edges.append(Edge(Action.TAKE, target, guard, gap_ms))

    def ignore(self, target: State, guard: Formula) -> None:
        self.edges.append(Edge(Action.IGNORE, target, guard))

    def proceed(self, target: State, guard: Formula = True) -> None:
        self.edges.append(Edge(Action.PROCEED, target, guard))


@dataclass(frozen=True, slots=True)
class Graph:
    """The automaton as built: its start and every state."""

    start: State
    states: tuple[State, ...]


class Move(Enum):
    """What a flattened edge does: take the event, leave it, or end the partial match (a negation was met)."""

    TAKE = 0
    IGNORE = 1
    KILL = 2


@dataclass(frozen=True, slots=True)
class Step:
    """A flattened edge. `target` is a state's number, FINAL for completion, -1 for KILL.

    `completes`: where a TAKE leads to a state that may be the last, the guard under which the match is complete
    with this event as well. `guard_terms` and `completes_terms` are the two worked out once and for all.
    """

    move: Move
    guard: Formula
    target: int
    stage: str | None = None
    completes: Formula = False
    gap_ms: int | None = None
    guard_terms: tuple[Term, ...] = field(init=False, compare=False, repr=False)
    completes_terms: tuple[Term, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "guard_terms", terms(self.guard))
        object.__setattr__(self, "completes_terms", terms(self.completes))


FINAL = -2
"""The number that stands for the final state in `Step.target`."""


@dataclass(frozen=True, slots=True)
class FlatState:
    """A state without PROCEED edges. `gap_ms` 0 where time since the last event does not end it; `silent`: where it
    does, no timeout is reported."""

    name: str
    pending: bool
    steps: tuple[Step, ...]
    gap_ms: int = 0
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Automaton:
    """The flattened automaton: state 0 is the start. Frozen and hashable: equal automata behave alike."""

    states: tuple[FlatState, ...]
    stages: tuple[str, ...]
