"""The compiler: checked patterns of one stream → what the operator runs. Its passes are the modules beside it.

``build`` (Flink's graph) → ``flatten`` (no empty moves) → ``lay_out`` (conditions to bits) → ``registers.lower``
(iterative conditions to programs) → ``tabulate`` (flat tables).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ostinato.cep.expressions.registers import RegisterPlan, lower
from ostinato.cep.nfa.build import MAX_STATES, build, group_name, too_many_states
from ostinato.cep.nfa.flatten import TooManyStepsError, flatten
from ostinato.cep.nfa.formula import Atom, GuardTooComplexError
from ostinato.cep.nfa.identity import ByIdentity
from ostinato.cep.nfa.ir import Automaton
from ostinato.cep.nfa.tables import Layout, PatternIR, Programs, Tables, has_opaque, lay_out, parted, tabulate
from ostinato.patterns.ast import SkipMode, stages_of
from ostinato.patterns.errors import MalformedPatternError, Problem
from ostinato.patterns.typecheck import CheckedPattern
from ostinato.patterns.typed import Matched, Typed, columns_of, is_iterative, nodes
from ostinato.patterns.types import DataType


@dataclass(frozen=True)
class CompiledSet:
    """Patterns over one stream with one key, compiled together.

    `linear` are the patterns whose matches are counted without enumerating them; the tables leave them alone.
    `draining` are those that begin no match any more: those that they had when their state was taken over go on.
    `hooks` are the conditions that Python decides, in the order of their numbers in the tables, each with its pattern;
    `stage_names` are those of all patterns by their number in the tables, `first_stage` where each pattern's begin.
    """

    patterns: tuple[CheckedPattern, ...]
    automata: tuple[Automaton, ...]
    layout: Layout
    plan: RegisterPlan
    tables: Tables
    hooks: tuple[tuple[int, Typed], ...]
    stage_names: tuple[str, ...]
    first_stage: tuple[int, ...]
    linear: frozenset[int]
    draining: frozenset[int] = frozenset()

    @property
    def widest(self) -> int:
        """The most edges out of one state: the most successors that one event can make of a run."""
        return max(len(state.steps) for automaton in self.automata for state in automaton.states)

    @property
    def width(self) -> int:
        """Registers of a run."""
        return max(self.plan.widths, default=0)


def compile_patterns(
    patterns: Sequence[CheckedPattern], draining: Collection[str] = (), *, max_states: int = MAX_STATES
) -> CompiledSet:
    """Compile patterns that read the same stream.

    Args:
        patterns: what to compile.
        draining: names of patterns that no event begins any more; names of others do no harm. The partial matches that
            are restored go on to their end. What is stored of a pattern does not depend on whether it drains.
        max_states: a pattern with more is refused; at most `MAX_STATES`.

    Raises:
        MalformedPatternError: a pattern passes all checks but is beyond what the automaton can hold.
        ValueError: the patterns read different streams.
    """
    if len({checked.stream for checked in patterns}) != 1:
        raise ValueError("patterns that are compiled together read one stream")
    for checked in patterns:
        automaton_of(checked, max_states=max_states)
    irs = [lowered(checked) for checked in patterns]
    layout = lay_out(irs)
    per_pattern: list[list[Typed]] = [[] for _ in patterns]
    place: list[tuple[int, int]] = []
    for condition in layout.iterative:
        place.append((condition.pattern, len(per_pattern[condition.pattern])))
        per_pattern[condition.pattern].append(condition.expr)
    plan = lower(per_pattern, schema_of(patterns[0]))
    programs = Programs([plan.conditions[number][index] for number, index in place], plan.updates)
    linear = frozenset(
        number for number, (ir, checked) in enumerate(zip(irs, patterns, strict=True)) if is_linear(ir, checked)
    )
    drained = frozenset(number for number, checked in enumerate(patterns) if checked.pattern.name in draining)
    tables, hooks = tabulate(irs, layout, programs, linear | drained)
    first_stage: list[int] = []
    stage_names: list[str] = []
    for ir in irs:
        first_stage.append(len(stage_names))
        stage_names += ir.automaton.stages
    return CompiledSet(
        tuple(patterns),
        tuple(ir.automaton for ir in irs),
        layout,
        plan,
        tables,
        tuple((layout.iterative[index].pattern, layout.iterative[index].expr) for index in hooks),
        tuple(stage_names),
        tuple(first_stage),
        linear,
        drained,
    )


def automaton_of(checked: CheckedPattern, *, max_states: int = MAX_STATES) -> Automaton:
    """A pattern's automaton alone, for those who want to look at it, or to know before that it can be compiled.

    Raises:
        MalformedPatternError: it is beyond what an automaton can hold, or has more states than that.
    """
    automaton = lowered(checked).automaton
    if len(automaton.states) > max_states:
        raise too_many_states(checked.pattern, max_states)
    return automaton


def schema_of(checked: CheckedPattern) -> Mapping[str, DataType]:
    """The columns of the stream that a pattern reads."""
    return {column.name: column.type for column in checked.stream.columns}


def _lower_pattern(checked: CheckedPattern) -> PatternIR:
    pattern = checked.pattern
    stages = [stage.name for stage in stages_of(pattern.items)]
    conditions = {Atom("where", name): expr for name, expr in checked.conditions.items()}
    conditions |= {Atom("until", name): expr for name, expr in checked.untils.items()}
    conditions |= {Atom("until", group_name(group)): expr for group, expr in checked.group_untils.items()}
    try:
        automaton = flatten(build(pattern), stages)
    except (GuardTooComplexError, TooManyStepsError) as error:
        raise MalformedPatternError(
            Problem(f"pattern `{pattern.name}` is too entangled to compile: {error}", pattern.span)
        ) from error
    return PatternIR(
        automaton,
        conditions,
        *parted(conditions),
        pattern.within_ms or 0,
        pattern.skip,
        pattern.cap,
        pattern.timeouts_into is not None,
    )


lowered = ByIdentity(_lower_pattern)
"""What is compiled of a pattern alone. Those that run while others change are compiled once."""


def needed_columns(compiled: CompiledSet) -> frozenset[str]:
    """The columns of the stream that matching and output read."""
    names = set(compiled.patterns[0].stream.keys)
    for word in compiled.layout.words:
        for expr in word:
            names |= read_columns(expr, compiled)
    for condition in compiled.layout.iterative:
        names |= read_columns(condition.expr, compiled)
    return frozenset(names | stored_columns(compiled))


def stored_columns(compiled: CompiledSet) -> frozenset[str]:
    """The columns of buffered events that output, and conditions that Python decides, read later."""
    names: set[str] = set()
    for checked in compiled.patterns:
        if not checked.outputs and not checked.pattern.count:
            names |= set(schema_of(checked))
        for _, expr in checked.outputs:
            names |= {node.name for node in nodes(expr) if isinstance(node, Matched) and node.name}
            if has_opaque(expr):
                names |= set(schema_of(checked))
    for _, expr in compiled.hooks:
        names |= {node.name for node in nodes(expr) if isinstance(node, Matched) and node.name}
        if has_opaque(expr):
            names |= set(schema_of(compiled.patterns[0]))
    return frozenset(names)


def read_columns(expr: Typed, compiled: CompiledSet) -> set[str]:
    """The columns that an expression reads, of events matched or in hand; a Python function may read all."""
    if has_opaque(expr):
        return set(schema_of(compiled.patterns[0]))
    matched = {node.name for node in nodes(expr) if isinstance(node, Matched) and node.name}
    return columns_of(expr) | matched


def is_linear(ir: PatternIR, checked: CheckedPattern) -> bool:
    """Can its matches be counted without enumerating them? They can where nothing depends on the partial match: no
    iterative condition, no skip strategy, no negation at the end, no bound between two events."""
    states = ir.automaton.states
    return (
        checked.pattern.count
        and ir.skip.mode is SkipMode.NO_SKIP
        and not ir.reports_timeouts
        and not any(is_iterative(expr) for expr in ir.conditions.values())
        and not any(state.pending or state.gap_ms for state in states)
        and not any(step.gap_ms for state in states for step in state.steps)
    )
