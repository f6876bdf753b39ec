"""Checking of patterns and whole files: what the engine compiles.

Everything that is wrong is found and raised together, each problem with its place in the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.checks import structure_problems
from ostinato.patterns.errors import MalformedPatternError, PatternError, Problem, Span
from ostinato.patterns.expressions_check import ExpressionChecker, type_condition, type_expr
from ostinato.patterns.program_check import ProgramProblems, order_of_patterns, sinks_problems
from ostinato.patterns.resolve import resolve_params, substitute
from ostinato.patterns.rewrite import depth_problem, expressions_of
from ostinato.patterns.schema import columns_of, output_problems, output_stream, stream_problems
from ostinato.patterns.scope import Scope
from ostinato.patterns.typed import Typed

__all__ = ["CheckedPattern", "CheckedProgram", "Scope", "check_pattern", "check_program", "type_expr"]


@dataclass(frozen=True)
class CheckedPattern:
    """A pattern that can be compiled.

    Attributes:
        pattern: its syntax tree, parameters put in.
        stream: what it reads.
        conditions: the typed condition of each stage that has one.
        untils: the typed `until` of each stage that has one.
        group_untils: likewise of groups.
        outputs: the columns it emits; empty for all events by stage, or for the number of matches.
        output_stream: the stream of its matches.
    """

    pattern: ast.Pattern
    stream: ast.Stream
    conditions: Mapping[str, Typed]
    untils: Mapping[str, Typed]
    group_untils: Mapping[ast.Group, Typed]
    outputs: tuple[tuple[str, Typed], ...]
    output_stream: ast.Stream

    @property
    def timeouts_stream(self) -> ast.Stream | None:
        """The stream of timed-out partial matches: the same columns, NULL or empty where nothing was matched."""
        name = self.pattern.timeouts_into
        return replace(self.output_stream, name=name) if name is not None else None


@dataclass(frozen=True)
class CheckedProgram:
    """A whole file that can be run.

    `streams` holds the declared streams and those that patterns emit, by name.
    """

    patterns: tuple[CheckedPattern, ...]
    streams: Mapping[str, ast.Stream]
    outputs: tuple[ast.OutputDecl, ...] = ()
    params: Mapping[str, ast.Literal] = field(default_factory=dict)


def check_pattern(
    pattern: ast.Pattern, stream: ast.Stream, params: Mapping[str, ast.Literal] | None = None
) -> CheckedPattern:
    """Check one pattern against the stream it reads.

    Raises:
        MalformedPatternError: its parts do not make a pattern (and whatever else is wrong).
        PatternError: something else is wrong, such as a type or a name.
    """
    checked, structure, rest = _check(pattern, stream, params or {})
    if structure:
        raise MalformedPatternError(_in_order([*structure, *rest]))
    if rest:
        raise PatternError(_in_order(rest))
    return checked


def check_program(program: ast.Program, param_values: Mapping[str, Any] | None = None) -> CheckedProgram:
    """Check a whole file, with values for its parameters as text or Python objects.

    Raises:
        PatternError: with everything that is wrong in it.
    """
    found = ProgramProblems(program)
    params = {param.name: param.value for param in program.params}
    params = resolve_params(params, param_values or {})
    streams = {stream.name: stream for stream in program.streams}
    for stream in program.streams:
        found.problems += stream_problems(stream)
    checked: dict[int, CheckedPattern] = {}
    for pattern in order_of_patterns(program, found):
        source = streams.get(pattern.on)
        if source is None:
            found.unknown_source(pattern, streams)
            continue
        result, structure, rest = _check(pattern, source, params)
        found.problems += structure
        found.problems += rest
        checked[id(pattern)] = result
        for emitted in (result.output_stream, result.timeouts_stream):
            if emitted is not None:
                found.add_emitted(pattern, emitted, streams)
    found.problems += sinks_problems(program, streams)
    if found.problems:
        raise PatternError(_in_order(found.problems))
    return CheckedProgram(tuple(checked[id(p)] for p in program.patterns), streams, program.outputs, params)


def _check(
    pattern: ast.Pattern, stream: ast.Stream, params: Mapping[str, ast.Literal]
) -> tuple[CheckedPattern, list[Problem], list[Problem]]:
    """The pattern, checked as far as it can be; what is wrong with its structure; what else is wrong."""
    problems: list[Problem] = []
    deep = [problem for expr in expressions_of(pattern) if (problem := depth_problem(expr)) is not None]
    if deep:
        raise PatternError(deep)
    pattern = substitute(pattern, params, problems)
    structure = structure_problems(pattern)
    stages = list(ast.stages_of(pattern.items))
    scope = Scope(
        columns=columns_of(stream),
        stages=tuple(stage.name for stage in stages),
        params=params,
        keys=frozenset(stream.keys),
        negated=frozenset(s.name for s in stages if s.contiguity is not None and s.contiguity.negated),
    )
    conditions: dict[str, Typed] = {}
    untils: dict[str, Typed] = {}
    for stage in stages:
        inside = replace(scope, current_stage=stage.name)
        _condition(stage.name, stage.condition, inside, conditions, problems)
        _condition(stage.name, stage.until, inside, untils, problems)
    group_untils: dict[ast.Group, Typed] = {}
    for node in ast.walk(pattern.items):
        if isinstance(node, ast.Group):
            _condition(node, node.until, scope, group_untils, problems)
    outputs = _outputs(pattern, replace(scope, output=True), problems)
    problems += output_problems(pattern, stream)
    checked = CheckedPattern(
        pattern, stream, conditions, untils, group_untils, outputs, output_stream(pattern, stream, outputs)
    )
    return checked, structure, problems


def typed_part(checked: CheckedPattern, expr: ast.Expr, stage: str | None) -> Typed:
    """A part of a condition of a checked pattern, typed as if it stood there alone; `stage` None: of a group.

    Raises PatternError where it is no part of one.
    """
    stages = list(ast.stages_of(checked.pattern.items))
    scope = Scope(
        columns=columns_of(checked.stream),
        stages=tuple(each.name for each in stages),
        params={},
        keys=frozenset(checked.stream.keys),
        negated=frozenset(s.name for s in stages if s.contiguity is not None and s.contiguity.negated),
    )
    problems: list[Problem] = []
    typed = type_condition(expr, scope if stage is None else replace(scope, current_stage=stage), problems)
    if typed is None:
        raise PatternError(problems)
    return typed


def _condition(key: Any, expr: ast.Expr | None, scope: Scope, into: dict[Any, Typed], problems: list[Problem]) -> None:
    if expr is None:
        return
    typed = type_condition(expr, scope, problems)
    if typed is not None:
        into[key] = typed


def _outputs(pattern: ast.Pattern, scope: Scope, problems: list[Problem]) -> tuple[tuple[str, Typed], ...]:
    checker = ExpressionChecker(scope)
    outputs = tuple((output.name, checker.check(output.value)) for output in pattern.emit)
    problems += checker.problems
    return outputs


def _in_order(problems: list[Problem]) -> list[Problem]:
    """In the order of the text, each said once."""
    nowhere = Span(0, 0, 0, 0)
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda p: ((p.span or nowhere).line, (p.span or nowhere).column))
