"""What becomes of a pattern: its automaton, its conditions, and how each of them is decided."""

from __future__ import annotations

from dataclasses import dataclass

from ostinato.cep.nfa.build import group_name
from ostinato.cep.nfa.compile import CompiledSet, compile_patterns
from ostinato.cep.nfa.formula import Atom, text
from ostinato.cep.nfa.ir import FINAL, Move, Step
from ostinato.cep.nfa.tables import has_opaque, split
from ostinato.patterns.ast import NO_SKIP, Group, SkipMode, stages_of, walk
from ostinato.patterns.literals import format_duration
from ostinato.patterns.printer import print_expression
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.patterns.typed import Typed

END = -1
"""The number of the state in which a match is complete."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: what the guards call it, its text, and how it is decided."""

    name: str
    text: str
    how: str


@dataclass(frozen=True, slots=True)
class Arc:
    """What an event can do to a partial match in a state: `move` is take, ignore or stop.

    `target` is a state's number or `END`; None where the partial match ends without a match. `completes`: the event
    also completes a match where the automaton goes on.
    """

    source: int
    target: int | None
    move: str
    stage: str | None
    guard: str
    completes: str | None = None
    gap_ms: int | None = None

    @property
    def label(self) -> str:
        """``take fail when fail``"""
        what = f"take {self.stage}" if self.move == "take" else self.move
        when = "" if self.guard == "true" else f" when {self.guard}"
        bound = f" within {format_duration(self.gap_ms)}" if self.gap_ms else ""
        return what + when + bound


@dataclass(frozen=True, slots=True)
class StateNote:
    """A state: a partial match rests in it between two events."""

    number: int
    name: str
    pending: bool
    gap_ms: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """All there is to show of a pattern."""

    name: str
    facts: tuple[tuple[str, str], ...]
    conditions: tuple[Condition, ...]
    states: tuple[StateNote, ...]
    arcs: tuple[Arc, ...]


def explain(checked: CheckedPattern) -> Explanation:
    """Compile a pattern by itself and say what came of it."""
    compiled = compile_patterns([checked])
    automaton = compiled.automata[0]
    arcs = []
    for number, state in enumerate(automaton.states):
        arcs += [_arc(number, step) for step in state.steps]
    states = [StateNote(n, state.name, state.pending, state.gap_ms) for n, state in enumerate(automaton.states)]
    return Explanation(
        checked.pattern.name, _facts(checked, compiled), _conditions(checked, compiled), tuple(states), tuple(arcs)
    )


def as_text(explanation: Explanation) -> str:
    """The explanation for a terminal."""
    lines = [f"pattern {explanation.name}"]
    width = max(len(name) for name, _ in explanation.facts)
    lines += [f"  {name:<{width}}  {value}" for name, value in explanation.facts]
    lines += ["", "conditions"]
    if explanation.conditions:
        names = max(len(condition.name) for condition in explanation.conditions)
        texts = min(60, max(len(condition.text) for condition in explanation.conditions))
        lines += [f"  {c.name:<{names}}  {c.text:<{texts}}  [{c.how}]" for c in explanation.conditions]
    else:
        lines.append("  none: every event fits every stage")
    lines += ["", "automaton"]
    labels = {state.number: f"{state.number} {state.name}" for state in explanation.states} | {END: "match"}
    for state in explanation.states:
        notes = []
        if state.number == 0:
            notes.append("start")
        if state.pending:
            notes.append("matches when its time has passed")
        if state.gap_ms:
            notes.append(f"given up {format_duration(state.gap_ms)} after the last event")
        lines.append(f"  {labels[state.number]}" + (f"  ({', '.join(notes)})" if notes else ""))
        for arc in explanation.arcs:
            if arc.source == state.number:
                target = "no match" if arc.target is None else labels[arc.target]
                also = f"; also a match when {arc.completes}" if arc.completes else ""
                also = "; also a match" if arc.completes == "true" else also
                lines.append(f"      {arc.label} -> {target}{also}")
    return "\n".join(lines)


def _arc(source: int, step: Step) -> Arc:
    move = {Move.TAKE: "take", Move.IGNORE: "ignore", Move.KILL: "stop"}[step.move]
    target = None if step.move is Move.KILL else END if step.target == FINAL else step.target
    completes = None if step.completes is False or target == END else text(step.completes)
    return Arc(source, target, move, step.stage, text(step.guard), completes, step.gap_ms)


def _facts(checked: CheckedPattern, compiled: CompiledSet) -> tuple[tuple[str, str], ...]:
    pattern, stream = checked.pattern, checked.stream
    facts = [("reads", stream.name), ("key", ", ".join(stream.keys) or "none: all events belong together")]
    facts.append(("within", "no bound" if pattern.within_ms is None else format_duration(pattern.within_ms)))
    if pattern.skip != NO_SKIP:
        words = pattern.skip.mode.value.replace("_", " ")
        facts.append(("after match", words + (f" {pattern.skip.stage}" if pattern.skip.stage else "")))
    elif pattern.skip.mode is SkipMode.NO_SKIP:
        facts.append(("after match", "no skip: every match is found"))
    facts.append(
        ("gives", checked.output_stream.name + (" and " + pattern.timeouts_into if pattern.timeouts_into else ""))
    )
    if pattern.count:
        how = "without enumerating them" if compiled.linear else "one by one"
        facts.append(("matches", f"counted {how}"))
    registers = compiled.plan.widths[0] if compiled.plan.widths else 0
    if registers:
        facts.append(("registers", f"{registers} for each partial match"))
    return tuple(facts)


def _conditions(checked: CheckedPattern, compiled: CompiledSet) -> tuple[Condition, ...]:
    hooks = {expr for _, expr in compiled.hooks}
    found = []
    for stage in stages_of(checked.pattern.items):
        if stage.condition is not None:
            typed = checked.conditions[stage.name]
            found.append(Condition(stage.name, print_expression(stage.condition), _how(typed, hooks)))
        if stage.until is not None:
            name = str(Atom("until", stage.name))
            found.append(Condition(name, print_expression(stage.until), _how(checked.untils[stage.name], hooks)))
    for node in walk(checked.pattern.items):
        if isinstance(node, Group) and node.until is not None:
            name = str(Atom("until", group_name(node)))
            found.append(Condition(name, print_expression(node.until), _how(checked.group_untils[node], hooks)))
    return tuple(found)


def _how(condition: Typed, hooks: set[Typed]) -> str:
    before, after = split(condition)
    ways = []
    if before is not None:
        ways.append("Python, row by row" if has_opaque(before) else "vectorised")
    if after is not None:
        ways.append("Python, per partial match" if after in hooks else "register machine")
    return " + ".join(ways)
