"""The fluent builder, with the names of Flink's and PyFlink's Pattern API.

``Pattern.begin("fail").where(lambda e: e.status == "FAILED").times_or_more(3).consecutive().next("ok")`` and so on.
As in Flink the methods that refine a stage (`where`, `times`, `optional`, ...) change that stage and return it, and the
methods that go on (`next`, `followed_by`, ...) return a new stage behind it. What Flink refuses is refused, when it is
called where that can be seen then, else by `to_ast`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from ostinato.patterns.ast import (
    DEFAULT_CAP,
    Alternation,
    Call,
    Cap,
    Contiguity,
    Element,
    Expr,
    Group,
    Output,
    Quantifier,
    Skip,
    Stage,
    Stream,
)
from ostinato.patterns.ast import Pattern as PatternNode
from ostinato.patterns.conditions import Condition, to_condition
from ostinato.patterns.durations import DurationLike, duration_ms
from ostinato.patterns.errors import MalformedPatternError, Problem
from ostinato.patterns.skipping import AfterMatchSkipStrategy
from ostinato.patterns.types import DataType


class WithinType(Enum):
    """What a `within` bounds: the whole match, or the time since the event matched before."""

    FIRST_AND_LAST = "first_and_last"
    PREVIOUS_AND_CURRENT = "previous_and_current"


class Alternatives:
    """One of several patterns, to stand where a group can: ``Pattern.begin(Pattern.alternatives(a, b))``."""

    __slots__ = ("branches",)

    def __init__(self, branches: tuple[Pattern, ...]) -> None:
        self.branches = branches


class _Repeat(Enum):
    """Flink's quantifier properties, of which one holds."""

    SINGLE = "once"
    TIMES = "times"
    LOOPING = "looping"


class Pattern:
    """The last stage (or group) of a pattern and, behind it, those before it."""

    __slots__ = (
        "_conditions",
        "_content",
        "_contiguity",
        "_gap",
        "_greedy",
        "_inner",
        "_max",
        "_min",
        "_name",
        "_optional",
        "_previous",
        "_repeat",
        "_skip",
        "_until",
        "_within",
        "_within_previous",
    )

    def __init__(
        self,
        content: str | Pattern | Alternatives,
        contiguity: Contiguity | None = None,
        previous: Pattern | None = None,
        skip: Skip | None = None,
    ) -> None:
        """Use `begin` and the methods that go on from there."""
        if isinstance(content, str) and not content:
            raise _malformed("a stage needs a name")
        self._content = content
        self._contiguity = contiguity
        self._previous = previous
        self._skip: Skip = skip if skip is not None else (previous._skip if previous else Skip())
        self._conditions: list[tuple[str, Condition]] = []
        self._until: Condition | None = None
        self._repeat = _Repeat.SINGLE
        self._min: int = 1
        self._max: int | None = 1
        self._optional = False
        self._greedy = False
        self._inner = Contiguity.RELAXED
        self._gap: tuple[int, bool] | None = None
        self._within: int | None = None
        self._within_previous: int | None = None

    # -- going on ----------------------------------------------------------------------------------

    @staticmethod
    def begin(start: str | Pattern | Alternatives, skip: AfterMatchSkipStrategy | Skip | None = None) -> Pattern:
        """A pattern that starts with the stage of that name, or with a pattern taken as a group."""
        return Pattern(start, skip=skip.skip if isinstance(skip, AfterMatchSkipStrategy) else skip)

    @staticmethod
    def alternatives(*branches: Pattern) -> Alternatives:
        """One of the patterns given. Ostinato's own; written ``( a | b c )`` in a file."""
        if len(branches) < 2:
            raise _malformed("alternatives need two patterns at least")
        return Alternatives(branches)

    def next(self, following: str | Pattern | Alternatives) -> Pattern:
        """Directly after: no event in between."""
        return Pattern(following, Contiguity.STRICT, self)

    def followed_by(self, following: str | Pattern | Alternatives) -> Pattern:
        """After it, events that do not fit in between being ignored: the first that fits."""
        return Pattern(following, Contiguity.RELAXED, self)

    def followed_by_any(self, following: str | Pattern | Alternatives) -> Pattern:
        """After it, any events in between being ignored: every one that fits."""
        return Pattern(following, Contiguity.ANY, self)

    def not_next(self, name: str) -> Pattern:
        """The event directly after must not fit."""
        return self._negation(name, Contiguity.NOT_NEXT)

    def not_followed_by(self, name: str) -> Pattern:
        """No event may fit before what follows, or, at the end, within the pattern's time."""
        return self._negation(name, Contiguity.NOT_FOLLOW)

    def _negation(self, name: str, contiguity: Contiguity) -> Pattern:
        if not isinstance(name, str):
            raise _malformed("a group cannot be negated", "negate single stages")
        if self._optional:
            raise _malformed(
                f"{self._label} is optional, and a NOT stage cannot stand behind an optional one",
                "write two patterns, one with and one without the optional part",
            )
        return Pattern(name, contiguity, self)

    # -- conditions --------------------------------------------------------------------------------

    def where(self, condition: Condition) -> Pattern:
        """The event must also fulfil this."""
        return self._condition("and", condition)

    def or_(self, condition: Condition) -> Pattern:
        """Or the event fulfils this, instead of all conditions given so far."""
        return self._condition("or", condition)

    def until(self, condition: Condition) -> Pattern:
        """The repetition ends before the event that fulfils this."""
        if self._until is not None:
            raise _malformed(f"{self._label} has an until condition already")
        if self._repeat is not _Repeat.LOOPING:
            raise _malformed(
                f"{self._label} does not loop, so it cannot have an until condition",
                "call one_or_more() or times_or_more(n) before until()",
            )
        self._until = condition
        return self

    def _condition(self, operator: str, condition: Condition) -> Pattern:
        if not isinstance(self._content, str):
            raise _malformed("a group cannot have a condition", "give the stages in the group their conditions")
        self._conditions.append((operator, condition))
        return self

    # -- quantifiers -------------------------------------------------------------------------------

    def times(self, from_: int, to: int | None = None, window: DurationLike | None = None) -> Pattern:
        """That many times, or between two numbers of times; from 0 also makes it optional.

        With `window` the events that must come do so within that time of the one before.
        """
        self._start_quantifier()
        if to is None:
            if from_ <= 0:
                raise _malformed(f"{self._label} cannot come {from_} times", "the number of times is 1 or more")
            return self._repeated(_Repeat.TIMES, from_, from_, window)
        least = max(from_, 1) if from_ == 0 else from_
        if least <= 0:
            raise _malformed(f"{self._label} cannot come from {from_} times", "the least number of times is 0 or more")
        if to < least:
            raise _malformed(
                f"{self._label} cannot come from {from_} to {to} times", f"the greatest number is {least} or more"
            )
        self._optional = self._optional or from_ == 0
        return self._repeated(_Repeat.TIMES, from_, to, window)

    def one_or_more(self, window: DurationLike | None = None) -> Pattern:
        """Once or more often."""
        self._start_quantifier()
        return self._repeated(_Repeat.LOOPING, 1, None, window)

    def times_or_more(self, times: int, window: DurationLike | None = None) -> Pattern:
        """That often or more often."""
        self._start_quantifier()
        if times <= 0:
            raise _malformed(f"{self._label} cannot come from {times} times", "the least number of times is 1 or more")
        return self._repeated(_Repeat.LOOPING, times, None, window)

    def _start_quantifier(self) -> None:
        self._refuse_negated("repeated")
        if self._repeat is not _Repeat.SINGLE:
            raise _malformed(f"{self._label} has a quantifier already", "call one of times, times_or_more, one_or_more")

    def _repeated(self, repeat: _Repeat, least: int, most: int | None, window: DurationLike | None) -> Pattern:
        self._repeat, self._min, self._max = repeat, least, most
        if window is not None:
            self._gap = (duration_ms(window), True)
        return self

    def every(self, gap: DurationLike) -> Pattern:
        """Each repetition comes within that time of the one before. Ostinato's own: the `window` of Flink's quantifiers
        leaves out those repetitions that need not come."""
        if self._repeat is _Repeat.SINGLE:
            raise _malformed(f"{self._label} is not repeated", "call times(n) or one_or_more() before every()")
        self._gap = (duration_ms(gap), False)
        return self

    def optional(self) -> Pattern:
        """It may be left out."""
        if self._previous is not None and self._previous._greedy:
            raise _malformed(
                f"{self._label} cannot be optional, because {self._previous._label} before it is greedy",
                "leave out greedy(), or write two patterns",
            )
        if self._optional:
            raise _malformed(f"{self._label} is optional already")
        if self._contiguity is not None and self._contiguity.negated:
            raise _malformed(f"{self._label} is a NOT stage and cannot be optional")
        self._optional = True
        return self

    def greedy(self) -> Pattern:
        """The repetition takes an event that fits it, even if it fits what follows."""
        self._refuse_negated("greedy")
        if not isinstance(self._content, str):
            raise _malformed("a group cannot be greedy", "make stages in the group greedy")
        if self._inner is Contiguity.ANY:
            raise _malformed(f"{self._label} allows combinations, so it cannot be greedy")
        self._refuse_single("greedy")
        self._greedy = True
        return self

    def allow_combinations(self) -> Pattern:
        """Between repetitions any events may be ignored, also those that fit."""
        self._refuse_single("given combinations")
        self._refuse_second_inner()
        if self._greedy:
            raise _malformed(f"{self._label} is greedy, so it cannot allow combinations")
        self._inner = Contiguity.ANY
        return self

    def consecutive(self) -> Pattern:
        """Between repetitions no event may be ignored."""
        self._refuse_single("consecutive")
        self._refuse_second_inner()
        self._inner = Contiguity.STRICT
        return self

    def _refuse_negated(self, what: str) -> None:
        if self._contiguity is not None and self._contiguity.negated:
            raise _malformed(f"{self._label} is a NOT stage and cannot be {what}")

    def _refuse_single(self, what: str) -> None:
        if self._repeat is _Repeat.SINGLE:
            raise _malformed(
                f"{self._label} is not repeated, so it cannot be {what}",
                "call times(n), times_or_more(n) or one_or_more() before",
            )

    def _refuse_second_inner(self) -> None:
        if self._inner is not Contiguity.RELAXED:
            raise _malformed(
                f"{self._label} is given {'combinations' if self._inner is Contiguity.ANY else 'consecutive'} already"
            )

    def within(self, duration: DurationLike | None, within_type: WithinType = WithinType.FIRST_AND_LAST) -> Pattern:
        """Bound the time from the first event of the match to the last, or since the event matched before this one.

        Of several bounds on the whole match the smallest counts.
        """
        if duration is None:
            return self
        if within_type is WithinType.PREVIOUS_AND_CURRENT:
            self._within_previous = duration_ms(duration)
        else:
            self._within = duration_ms(duration)
        return self

    # -- the result --------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """The name of this stage, None for a group."""
        return self._content if isinstance(self._content, str) else None

    @property
    def _label(self) -> str:
        return f"stage `{self._content}`" if isinstance(self._content, str) else "the group"

    def _chain(self) -> list[Pattern]:
        """The stages from the first to this one."""
        chain = [self]
        while chain[-1]._previous is not None:
            chain.append(chain[-1]._previous)
        return chain[::-1]

    def to_ast(
        self,
        name: str,
        on: Any,
        *,
        emit: Mapping[str, Condition] | None = None,
        into: str | None = None,
        timeouts_into: str | None = None,
        count: bool = False,
        cap: Cap = DEFAULT_CAP,
    ) -> PatternNode:
        """The pattern as a syntax tree.

        Args:
            name: the pattern's name.
            on: the stream it reads: its declaration (`ast.Stream`), a subclass of `cep.Event`, or its name. With only a
                name, Python conditions whose meaning depends on the columns' types are left to Python.
            emit: columns of the result and what they hold; none for every stage as an array of events.
            into, timeouts_into: streams that matches and timed-out partial matches become.
            count: give the number of matches per completing event instead of the matches.
            cap: the most partial matches of one key.

        Raises:
            MalformedPatternError: Flink would refuse it.
        """
        stream = on if isinstance(on, Stream) else getattr(on, "__stream__", None)
        columns = {column.name: column.type for column in stream.columns} if isinstance(stream, Stream) else None
        chain = self._chain()
        windows = [stage._within for stage in chain if stage._within is not None]
        pattern = PatternNode(
            name,
            stream.name if isinstance(stream, Stream) else str(on),
            tuple(stage._element(columns) for stage in chain),
            within_ms=min(windows, default=None),
            skip=self._skip,
            emit=tuple(Output(column, to_condition(value, columns)) for column, value in (emit or {}).items()),
            count=count,
            into=into,
            timeouts_into=timeouts_into,
            cap=cap,
        )
        from ostinato.patterns.checks import check_structure

        check_structure(pattern)
        return pattern

    def _element(self, columns: Mapping[str, DataType] | None) -> Element:
        quantifier = self._quantifier()
        until = None if self._until is None else to_condition(self._until, columns)
        within = self._within_previous
        if isinstance(self._content, str):
            condition = self._combined(columns)
            if (self._min, self._max) == (1, 1) and self._gap is not None:
                within = self._gap[0] if within is None else min(within, self._gap[0])
            return Stage(self._content, condition, self._contiguity, quantifier, until, within)
        if isinstance(self._content, Alternatives):
            branches = tuple(branch._items(columns) for branch in self._content.branches)
            if quantifier == Quantifier() and within is None:
                return Alternation(branches, self._contiguity)
            return Group((Alternation(branches),), self._contiguity, quantifier, until, within)
        items = self._content._items(columns)
        return Group((self._as_head(items[0]), *items[1:]), self._contiguity, quantifier, until, within)

    def _as_head(self, head: Element) -> Element:
        """The first stage of this group. In Flink it repeats with the group's inner contiguity, not with its own."""
        if not isinstance(head, Stage) or (head.quantifier.min, head.quantifier.max) == (1, 1):
            return head
        return replace(head, quantifier=replace(head.quantifier, inner=self._inner))

    def _items(self, columns: Mapping[str, DataType] | None) -> tuple[Element, ...]:
        """The elements of a pattern that is taken as a group."""
        chain = self._chain()
        if any(stage._within is not None for stage in chain):
            raise _malformed("a group cannot have a time of its own", "call within() on the whole pattern")
        return tuple(stage._element(columns) for stage in chain)

    def _combined(self, columns: Mapping[str, DataType] | None) -> Expr | None:
        combined: Expr | None = None
        for operator, condition in self._conditions:
            expr = to_condition(condition, columns)
            combined = expr if combined is None else Call(operator, (combined, expr))
        return combined

    def _quantifier(self) -> Quantifier:
        if (self._min, self._max) == (1, 1):
            # times(1) is once: what is between repetitions, and greed, have no meaning
            return Quantifier(optional=self._optional)
        base = Quantifier(
            self._min,
            self._max,
            optional=self._optional and self._min != 0,
            inner=self._inner,
            greedy=self._greedy,
        )
        return base if self._gap is None else replace(base, gap_ms=self._gap[0], gap_required_only=self._gap[1])

    def __repr__(self) -> str:
        return f"<Pattern {' '.join(stage._label for stage in self._chain())}>"


def _malformed(message: str, hint: str | None = None) -> MalformedPatternError:
    return MalformedPatternError(Problem(message, hint=hint))
