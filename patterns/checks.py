"""The rules a pattern has to keep, apart from its types: those by which Flink refuses one, and a few of our own.

Each rule looks at the whole syntax tree and gives what is wrong; `check_structure` asks them all. Where Flink has the
rule, its message is named (class `Pattern`, `Quantifier` or `NFACompiler` of flink-cep 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from ostinato.patterns.ast import (
    Alternation,
    Contiguity,
    Element,
    Group,
    Param,
    Pattern,
    Quantifier,
    SkipMode,
    Stage,
    stages_of,
    walk,
)
from ostinato.patterns.errors import MalformedPatternError, Problem, Span, did_you_mean

END_STATE = "$endState$"
"""The name that Flink's automaton uses itself."""


def check_structure(pattern: Pattern) -> None:
    """Raise MalformedPatternError with everything by which the pattern cannot be."""
    problems = structure_problems(pattern)
    if problems:
        raise MalformedPatternError(problems)


def structure_problems(pattern: Pattern) -> list[Problem]:
    """Everything that is wrong with the parts of a pattern and how they are put together."""
    if not pattern.items:
        return [Problem(f"pattern `{pattern.name}` has no stages", pattern.span, "add a clause `match …`")]
    return [problem for rule in _RULES for problem in rule(pattern)]


def _names(pattern: Pattern) -> Iterator[Problem]:
    """Flink: "Duplicate pattern name: a. Names must be unique."."""
    seen: set[str] = set()
    for stage in stages_of(pattern.items):
        if stage.name == END_STATE:
            yield Problem(f"a stage cannot be called `{END_STATE}`", stage.span, "choose another name")
        elif stage.name in seen:
            yield Problem(
                f"there are two stages `{stage.name}`",
                stage.span,
                "each stage has a name of its own; how often it comes is said by a quantifier",
            )
        seen.add(stage.name)


def _sequences(pattern: Pattern) -> Iterator[Problem]:
    """How elements follow one another."""
    for items, outermost in _all_sequences(pattern.items):
        if not items:
            yield Problem("there is nothing in this group", pattern.span, "name its stages")
            continue
        if items[0].contiguity is not None:
            negated = items[0].contiguity.negated
            message = "a sequence cannot begin with what must not happen" if negated else "nothing stands before this"
            yield Problem(message, items[0].span, "begin with a stage that takes an event")
        for before, item in pairwise(items):
            yield from _following(before, item)
        last = items[-1]
        if not outermost and last.contiguity is Contiguity.NOT_FOLLOW:
            # Flink ignores it there without a word.
            yield Problem(
                "a group cannot end with `!->`: until when should it not happen?",
                last.span,
                "take it out of the group, or name the stage before which it must not happen",
            )
        endless = pattern.within_ms is None and not isinstance(last, Alternation) and last.within_ms is None
        if outermost and last.contiguity is Contiguity.NOT_FOLLOW and endless:
            # Flink: "NotFollowedBy is not supported without windowTime as a last part of a Pattern!"
            yield Problem(
                f"`!-> {_label(last)}` at the end needs a time: until when should it not happen?",
                last.span,
                "add `within 10 min` to the pattern",
            )


def _following(before: Element, item: Element) -> Iterator[Problem]:
    """What may stand behind what."""
    if item.contiguity is None:
        yield Problem(f"it is not said how {_label(item)} follows {_label(before)}", item.span, "next, followed by, …?")
        return
    if item.contiguity.negated and not isinstance(item, Stage):
        yield Problem("only a single stage can be negated", item.span, "negate a stage whose condition says it all")
    previous, own = _quantifier(before), _quantifier(item)
    if item.contiguity.negated and (previous.optional or previous.min == 0):
        # Flink: "Specifying a pattern with an optional path to NOT condition is not supported yet."
        yield Problem(
            f"{_label(before)} is optional, so it is not sure after what {_label(item)} must not happen",
            item.span,
            "write two patterns, one with and one without the optional part",
        )
    if own.optional and previous.greedy:
        # Flink: "Optional pattern cannot be preceded by greedy pattern"; times(0, n) slips past it there, and here.
        yield Problem(
            f"{_label(item)} is optional and stands right behind {_label(before)}, which is greedy",
            item.span,
            "leave out `greedy`, or make it sure that the stage comes",
        )


def _quantifiers(pattern: Pattern) -> Iterator[Problem]:
    """What a quantifier may say."""
    heads = {
        id(item.items[0])
        for item in _elements(pattern.items)
        if isinstance(item, Group) and item.items and item.quantifier.inner is Contiguity.ANY
    }
    for item in _elements(pattern.items):
        if isinstance(item, Alternation):
            yield from _alternation(item, pattern.span)
            continue
        quantifier = item.quantifier
        span = quantifier.span or item.span
        if item.contiguity is not None and item.contiguity.negated:
            yield from _negated(item, quantifier, span)
        else:
            yield from _bounds(quantifier, span)
            yield from _repetition(item, quantifier, span, heads_combinations=id(item) in heads)
        if item.until is not None and quantifier.max is not None:
            # Flink: "The until condition is only applicable to looping states."
            yield Problem(
                f"{_label(item)} is not repeated without end, so `until` has nothing to stop",
                item.until.span or item.span,
                "give it a quantifier without an upper end, such as `+`, `*` or `{2,}`",
            )


def _alternation(item: Alternation, span: Span | None) -> Iterator[Problem]:
    if len(item.branches) < 2:
        yield Problem("one thing alone is no choice", item.span or span, "separate two or more sequences with `|`")


def _negated(item: Stage | Group, quantifier: Quantifier, span: Span | None) -> Iterator[Problem]:
    """Flink: "Option not applicable to NOT pattern", "NOT pattern cannot be optional"."""
    if quantifier.optional:
        yield Problem(f"{_label(item)} must not happen, so it cannot be optional", span, "leave out the `?`")
    elif (quantifier.min, quantifier.max) != (1, 1) or quantifier.greedy or quantifier.inner is not Contiguity.STRICT:
        yield Problem(f"{_label(item)} must not happen at all, so nothing can be said of how often", span)
    if quantifier.gap_ms is not None:
        yield Problem(f"{_label(item)} must not happen, so it has no repetitions", span, "leave out `every`")


def _bounds(quantifier: Quantifier, span: Span | None) -> Iterator[Problem]:
    """Flink: "You should give a positive number greater than 0.", "The to should be …", "The from should be …"."""
    low, high = quantifier.min, quantifier.max
    if isinstance(low, Param) or isinstance(high, Param):
        return  # looked at again when the parameter has its value
    if low < 0:
        yield Problem(f"nothing happens {low} times", span, "say how often with whole numbers from 0 on")
    elif high is None and low == 0:
        yield Problem("`{0,}` is written `*`", span, "write `*`, or `+` if it must come once")
    elif high is not None and high < max(low, 1):
        if low == high:
            yield Problem("a stage that comes 0 times is none", span, "leave the stage out, or negate it with `!`")
        else:
            yield Problem(f"at most {high} is less than at least {max(low, 1)}", span, "write the smaller number first")
    elif low == 0 and quantifier.optional:
        # Flink: "Optional already applied!"
        yield Problem("it is optional already", span, "leave out one of `0` and `?`")


def _repetition(
    item: Stage | Group, quantifier: Quantifier, span: Span | None, *, heads_combinations: bool
) -> Iterator[Problem]:
    """Flink's Quantifier.greedy, consecutive and combinations. The first stage of a group of combinations may be greedy
    and of combinations: in Flink, and so from the builder, it has the latter from its group."""
    single = (quantifier.min, quantifier.max) == (1, 1)
    if single and quantifier.inner is not Contiguity.STRICT:
        word = "combinations" if quantifier.inner is Contiguity.ANY else "relaxed"
        yield Problem(
            f"`{word}` says how repetitions go on, but {_label(item)} is not repeated",
            span,
            "put a quantifier before it, such as `+` or `{2,}`",
        )
    if quantifier.inner.negated:
        yield Problem("repetitions are strict, relaxed or of any combination", span)
    if quantifier.greedy:
        if isinstance(item, Group):
            # "Option not applicable to group pattern"
            yield Problem("a group cannot be greedy", span, "make the stage in it greedy that is repeated")
        elif single:
            # "Option not applicable to singleton quantifier"
            yield Problem(f"{_label(item)} is not repeated, so it cannot be greedy", span, "leave out `greedy`")
        elif quantifier.inner is Contiguity.ANY and not heads_combinations:
            # "Option not applicable to FollowedByAny pattern"
            yield Problem("`greedy` and `combinations` exclude each other", span, "leave out one of them")
    if quantifier.gap_ms is not None and single:
        yield Problem(
            f"{_label(item)} is not repeated, so `every` says nothing",
            span,
            "the time since the event before is written `[within 3 s]`",
        )


def _times(pattern: Pattern) -> Iterator[Problem]:
    """Spans of time: more than nothing, and none longer than that of the whole."""
    if pattern.within_ms is not None and pattern.within_ms <= 0:
        yield Problem("`within` needs more than no time", pattern.span, "write a duration such as `5 min`")
    outermost = {id(item) for item in pattern.items}
    for item in _elements(pattern.items):
        if isinstance(item, Alternation):
            continue
        for word, ms in (("within", item.within_ms), ("every", item.quantifier.gap_ms)):
            if ms is None:
                continue
            if ms <= 0:
                yield Problem(f"`{word}` needs more than no time", item.span, "write a duration such as `5 s`")
            elif word == "within" and id(item) not in outermost:
                continue  # Flink lets it pass in groups
            elif pattern.within_ms is not None and ms > max(pattern.within_ms, 0):
                # Flink: "The window length between the previous and current event cannot be larger than …"
                yield Problem(
                    f"{_label(item)} may come later after the event before it than the whole pattern may last",
                    item.span,
                    "make this time shorter, or that of the pattern longer",
                )


def _skip(pattern: Pattern) -> Iterator[Problem]:
    """Flink: "The pattern name specified in AfterMatchSkipStrategy can not be found in the given Pattern"."""
    skip = pattern.skip
    span = skip.span or pattern.span
    if skip.mode not in (SkipMode.TO_FIRST, SkipMode.TO_LAST):
        if skip.stage is not None or skip.throw_on_miss:
            yield Problem(f"skip mode {skip.mode.value} takes no stage", span)
        return
    if skip.stage is None:
        yield Problem("to which stage should be skipped?", span, "name it: `skip to first b`")
        return
    top = {stage.name for stage in _top_level(pattern.items)}
    if skip.stage not in top:
        inside = {stage.name for stage in stages_of(pattern.items)}
        if skip.stage in inside:
            yield Problem(f"`{skip.stage}` is inside a group, so it cannot be skipped to", span, _choice(top))
        else:
            yield Problem(
                f"there is no stage `{skip.stage}` to skip to", span, did_you_mean(skip.stage, top) or _choice(top)
            )


def _choice(names: set[str]) -> str | None:
    return f"stages to skip to: {', '.join(sorted(names))}" if names else None


def _clauses(pattern: Pattern) -> Iterator[Problem]:
    """What a pattern gives out, and its cap."""
    if pattern.count and pattern.emit:
        yield Problem(
            f"pattern `{pattern.name}` counts its matches, so there is nothing to emit of one",
            pattern.emit[0].span or pattern.span,
            "leave out `emit`: keys, the time and the number come out",
        )
    if pattern.count and pattern.timeouts_into is not None:
        yield Problem(
            f"pattern `{pattern.name}` counts its matches, so there are no timed-out ones to give out",
            pattern.span,
            "leave out `timeouts into`, or write a pattern of its own for them",
        )
    seen: set[str] = set()
    for output in pattern.emit:
        if output.name in seen:
            yield Problem(f"two columns `{output.name}` are emitted", output.span or pattern.span, "rename one: `… as`")
        seen.add(output.name)
    if pattern.cap.runs < 1:
        yield Problem("a cap is a number of partial matches from 1 on", pattern.span)
    if pattern.timeouts_into is not None:
        if pattern.timeouts_into == (pattern.into or pattern.name):
            yield Problem("matches and timeouts go into one stream", pattern.span, "give them different names")
        if pattern.within_ms is None and not any(_has_bound(node) for node in walk(pattern.items)):
            yield Problem(
                "without a time limit nothing times out", pattern.span, "add `within`, or leave out `timeouts into`"
            )


_RULES = (_names, _sequences, _quantifiers, _times, _skip, _clauses)


def _elements(items: tuple[Element, ...]) -> Iterator[Element]:
    """Every element, those inside groups and alternatives too."""
    for item in items:
        yield item
        if isinstance(item, Group):
            yield from _elements(item.items)
        elif isinstance(item, Alternation):
            for branch in item.branches:
                yield from _elements(branch)


def _all_sequences(items: tuple[Element, ...], *, outermost: bool = True) -> Iterator[tuple[tuple[Element, ...], bool]]:
    """Every sequence of elements, and whether it is the pattern itself."""
    yield items, outermost
    for item in items:
        if isinstance(item, Group):
            yield from _all_sequences(item.items, outermost=False)
        elif isinstance(item, Alternation):
            for branch in item.branches:
                yield from _all_sequences(branch, outermost=False)


def _top_level(items: tuple[Element, ...]) -> Iterator[Stage]:
    """Stages that every match passes through by itself: those not in a group."""
    for item in items:
        if isinstance(item, Stage):
            yield item
        elif isinstance(item, Alternation):
            for branch in item.branches:
                yield from _top_level(branch)


def _quantifier(item: Element) -> Quantifier:
    return Quantifier() if isinstance(item, Alternation) else item.quantifier


def _label(item: Element) -> str:
    return f"`{item.name}`" if isinstance(item, Stage) else "the group" if isinstance(item, Group) else "the choice"


def _has_bound(node: object) -> bool:
    """Is there a time limit of its own on an element?"""
    return isinstance(node, (Stage, Group)) and (node.within_ms is not None or node.quantifier.gap_ms is not None)
