"""From the rules of the grammar to the parts of a pattern: stages, groups, quantifiers, clauses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ostinato.patterns import ast
from ostinato.patterns.ast import Contiguity, Quantifier
from ostinato.patterns.build_expressions import ExpressionBuilder, cover
from ostinato.patterns.errors import Span, did_you_mean
from ostinato.patterns.lexer import Token
from ostinato.patterns.rewrite import with_conditions

_LINKS = {
    "FOLLOWED": Contiguity.RELAXED,
    "FOLLOWED_ANY": Contiguity.ANY,
    "BANG": Contiguity.NOT_NEXT,
    "NOT_FOLLOWED": Contiguity.NOT_FOLLOW,
}
_INNER = {"relaxed": Contiguity.RELAXED, "combinations": Contiguity.ANY, "consecutive": Contiguity.STRICT}


@dataclass(slots=True)
class Suffix:
    """Something behind a stage or a group: how often, within what time, until when."""

    kind: str
    span: Span | None
    value: Any = None


@dataclass(slots=True)
class Definition:
    """One entry of ``define``."""

    stage: Token
    condition: ast.Expr | None
    until: ast.Expr | None
    span: Span | None


@dataclass(slots=True)
class Clause:
    """One clause of a pattern, by its name."""

    kind: str
    span: Span | None
    value: Any = None


@dataclass(slots=True)
class _Suffixes:
    """What the suffixes of one element come to."""

    min: ast.IntOrParam = 1
    max: ast.IntOrParam | None = 1
    optional: bool = False
    inner: Contiguity = Contiguity.STRICT
    greedy: bool = False
    gap_ms: int | None = None
    gap_required_only: bool = False
    within_ms: int | None = None
    until: ast.Expr | None = None
    spans: list[Span | None] = field(default_factory=list)

    def quantifier(self) -> Quantifier:
        return Quantifier(
            self.min,
            self.max,
            self.optional,
            self.inner,
            self.greedy,
            self.gap_ms,
            self.gap_required_only,
            cover([Suffix("", span) for span in self.spans]),
        )


class PatternBuilder(ExpressionBuilder):
    """Builds sequences of stages and the clauses of a pattern."""

    # --------------------------------------------------------------------------------- sequences

    def alternatives(self, parts: list[Any]) -> tuple[ast.Element, ...]:
        branches: list[tuple[ast.Element, ...]] = parts[::2]
        if len(branches) == 1:
            return branches[0]
        return (ast.Alternation(tuple(branches), None, cover([list(branch) for branch in branches])),)

    def branch(self, parts: list[Any]) -> tuple[ast.Element, ...]:
        return tuple(
            self._linked(element, link, first=index == 0, span=cover([link, element]))
            for index, (link, element) in enumerate(parts)
        )

    def _linked(self, element: ast.Element, link: Token | None, *, first: bool, span: Span | None) -> ast.Element:
        if first:
            if link is not None:
                negated = _LINKS[link.type].negated
                message = (
                    "a sequence cannot begin with what must not happen" if negated else "nothing stands before this"
                )
                self.problem(message, link, "begin with a stage that takes an event")
            return element
        contiguity = Contiguity.STRICT if link is None else _LINKS[link.type]
        if contiguity.negated and not isinstance(element, ast.Stage):
            self.problem("only a single stage can be negated", span, "negate a stage whose condition says it all")
            return element
        return replace(element, contiguity=contiguity, span=span)

    def step(self, parts: list[Any]) -> tuple[Token | None, ast.Element]:
        return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])

    def stage(self, parts: list[Any]) -> ast.Stage:
        name: Token = parts[0]
        suffixes = self._suffixes(parts[1:], group=False)
        return ast.Stage(name.value, quantifier=suffixes.quantifier(), within_ms=suffixes.within_ms, span=cover(parts))

    def group(self, parts: list[Any]) -> ast.Element:
        items: tuple[ast.Element, ...] = parts[1]
        span = cover(parts)
        if len(parts) == 3 and len(items) == 1 and isinstance(items[0], ast.Alternation):
            closing = items[0].span
            if closing is not None and not self._wrapped(items[0]):
                self._parenthesised.add(id(items[0]))
                result = replace(items[0], span=span)
                self._parenthesised.add(id(result))
                self._kept += (items[0], result)
                return result
        suffixes = self._suffixes(parts[3:], group=True)
        return ast.Group(items, None, suffixes.quantifier(), suffixes.until, suffixes.within_ms, span)

    def _wrapped(self, alternation: ast.Alternation) -> bool:
        """Are there parentheses around it already, so that further ones are a group?"""
        return id(alternation) in self._parenthesised

    def _suffixes(self, parts: list[Suffix], *, group: bool) -> _Suffixes:
        result = _Suffixes()
        for suffix in parts:
            getattr(self, f"_suffix_{suffix.kind}")(suffix, result)
            if suffix.kind not in ("within", "until"):
                result.spans.append(suffix.span)
        repeated = (result.min, result.max) != (1, 1)
        for suffix in parts:
            if suffix.kind == "modifier" and suffix.value in ("consecutive", "reluctant") and not repeated:
                self.problem(
                    f"`{suffix.value}` says how repetitions go on, but nothing is repeated",
                    suffix.span,
                    "put a quantifier before it, such as `+` or `{2,}`",
                )
            if suffix.kind == "until" and not group:
                self.problem("the `until` of a stage stands in `define`", suffix.span, "write `define b as … until …`")
        return result

    def _suffix_repeat(self, suffix: Suffix, result: _Suffixes) -> None:
        low, high, optional = suffix.value
        if (low, high, optional) == (1, 1, True):
            self._make_optional(suffix, result)
            return
        if (result.min, result.max) != (1, 1):
            self.problem("there is a quantifier already", suffix.span, "say how often once: `{2,3}`, `+`, `*`, `?`")
            return
        if optional:
            self._make_optional(suffix, result)
        result.min, result.max = low, high

    def _make_optional(self, suffix: Suffix, result: _Suffixes) -> None:
        if result.optional or result.min == 0:
            self.problem("it is optional already", suffix.span, "leave this out")
        result.optional = True

    def _suffix_modifier(self, suffix: Suffix, result: _Suffixes) -> None:
        word = suffix.value
        if word == "optional":
            self._make_optional(suffix, result)
        elif word in _INNER:
            result.inner = _INNER[word]
        else:
            result.greedy = word == "greedy"

    def _suffix_gap(self, suffix: Suffix, result: _Suffixes) -> None:
        result.gap_ms, result.gap_required_only = suffix.value

    def _suffix_within(self, suffix: Suffix, result: _Suffixes) -> None:
        result.within_ms = suffix.value

    def _suffix_until(self, suffix: Suffix, result: _Suffixes) -> None:
        result.until = suffix.value

    def repeat(self, parts: list[Any]) -> Suffix:
        bounds: dict[str, tuple[ast.IntOrParam, ast.IntOrParam | None, bool]] = {
            "?": (1, 1, True),
            "*": (1, None, True),
            "+": (1, None, False),
        }
        value = bounds[parts[0].text] if len(parts) == 1 else parts[1]
        return Suffix("repeat", cover(parts), value)

    def exactly(self, parts: list[Any]) -> tuple[ast.IntOrParam, ast.IntOrParam | None, bool]:
        return parts[0], parts[0], False

    def at_least(self, parts: list[Any]) -> tuple[ast.IntOrParam, ast.IntOrParam | None, bool]:
        return parts[0], None, False

    def from_to(self, parts: list[Any]) -> tuple[ast.IntOrParam, ast.IntOrParam | None, bool]:
        return parts[0], parts[2], False

    def bound(self, parts: list[Any]) -> ast.IntOrParam:
        token: Token = parts[0]
        if token.type == "INTEGER":
            return int(token.value)
        return ast.Param(token.value, token.span)

    def modifier(self, parts: list[Any]) -> Suffix:
        return Suffix("modifier", parts[0].span, parts[0].text.lower())

    def gap(self, parts: list[Any]) -> Suffix:
        return Suffix("gap", cover(parts), (self.duration(parts[-2]), len(parts) > 4))

    def stage_within(self, parts: list[Any]) -> Suffix:
        return Suffix("within", cover(parts), self.duration(parts[2]))

    def group_until(self, parts: list[Any]) -> Suffix:
        return Suffix("until", cover(parts), parts[2])

    # ----------------------------------------------------------------------------------- clauses

    def match(self, parts: list[Any]) -> Clause:
        return Clause("match", cover(parts), parts[1])

    def define(self, parts: list[Any]) -> Clause:
        return Clause("define", cover(parts), [part for part in parts if isinstance(part, Definition)])

    def definition(self, parts: list[Any]) -> Definition:
        condition = until = None
        for index in range(1, len(parts), 2):
            if parts[index].type == "AS":
                condition = parts[index + 1]
            else:
                until = parts[index + 1]
        return Definition(parts[0], condition, until, cover(parts))

    def within(self, parts: list[Any]) -> Clause:
        return Clause("within", cover(parts), self.duration(parts[1]))

    def after_match(self, parts: list[Any]) -> Clause:
        return Clause("after match", cover(parts), replace(parts[2], span=cover(parts)))

    def skip_none(self, parts: list[Any]) -> ast.Skip:
        return ast.Skip(ast.SkipMode.NO_SKIP, span=cover(parts))

    def skip_to_next(self, parts: list[Any]) -> ast.Skip:
        return ast.Skip(ast.SkipMode.TO_NEXT, span=cover(parts))

    def skip_past_last(self, parts: list[Any]) -> ast.Skip:
        return ast.Skip(ast.SkipMode.PAST_LAST, span=cover(parts))

    def skip_to_stage(self, parts: list[Any]) -> ast.Skip:
        mode = ast.SkipMode.TO_FIRST if parts[2].type == "FIRST" else ast.SkipMode.TO_LAST
        return ast.Skip(mode, parts[3].value, len(parts) > 4, cover(parts))

    def emit_all(self, parts: list[Any]) -> Clause:
        return Clause("emit", cover(parts), ())

    def emit(self, parts: list[Any]) -> Clause:
        return Clause("emit", cover(parts), tuple(part for part in parts if isinstance(part, ast.Output)))

    def emitted(self, parts: list[Any]) -> ast.Output:
        value: ast.Expr = parts[0]
        span = cover(parts)
        if len(parts) == 3:
            return ast.Output(parts[2].value, value, span)
        if isinstance(value, (ast.Column, ast.Param)):
            return ast.Output(value.name, value, span)
        self.problem("this column has no name", span, "give it one: `… as name`")
        return ast.Output("", value, span)

    def into(self, parts: list[Any]) -> Clause:
        return Clause("into", cover(parts), parts[1].value)

    def timeouts(self, parts: list[Any]) -> Clause:
        return Clause("timeouts into", cover(parts), parts[2].value)

    def count_matches(self, parts: list[Any]) -> Clause:
        return Clause("count matches", cover(parts), True)

    def cap(self, parts: list[Any]) -> Clause:
        policy = ast.CapPolicy.DROP_OLDEST if parts[-1].type == "OLDEST" else ast.CapPolicy.FAIL
        return Clause("cap", cover(parts), ast.Cap(int(parts[1].value), policy))

    def pattern(self, parts: list[Any]) -> ast.Pattern:
        name, stream = parts[1], parts[3]
        span = cover(parts[:4])
        clauses: dict[str, Any] = {}
        for clause in parts[4:]:
            if clause.kind in clauses:
                self.problem(f"pattern `{name.value}` has two `{clause.kind}` clauses", clause.span, "keep one")
            clauses.setdefault(clause.kind, clause.value)
        if "match" not in clauses:
            self.problem(f"pattern `{name.value}` does not say what to match", span, "add a clause `match …`")
        return ast.Pattern(
            name=name.value,
            on=stream.value,
            items=self._defined(clauses.get("match", ()), clauses.get("define", [])),
            within_ms=clauses.get("within"),
            skip=clauses.get("after match", ast.NO_SKIP),
            emit=clauses.get("emit", ()),
            count=clauses.get("count matches", False),
            into=clauses.get("into"),
            timeouts_into=clauses.get("timeouts into"),
            cap=clauses.get("cap", ast.DEFAULT_CAP),
            span=span,
        )

    def _defined(self, items: tuple[ast.Element, ...], definitions: list[Definition]) -> tuple[ast.Element, ...]:
        """The elements, their stages with the conditions that `define` gives them."""
        by_name: dict[str, Definition] = {}
        stages = {stage.name for stage in ast.stages_of(items)}
        for definition in definitions:
            name = definition.stage.value
            if name in by_name:
                self.problem(f"stage `{name}` is defined twice", definition.stage, "join the conditions with `and`")
            elif items and name not in stages:
                self.problem(
                    f"`{name}` is defined but is no stage of the pattern",
                    definition.stage,
                    did_you_mean(name, stages) or f"the stages are {', '.join(sorted(stages))}",
                )
            by_name.setdefault(name, definition)
        return with_conditions(items, {n: (d.condition, d.until) for n, d in by_name.items()})
