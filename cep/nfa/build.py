"""Pass 1: a pattern's elements → the graph of states that Flink's NFACompiler makes of them.

The graph is built from the end of the pattern to its beginning: what an element leads to (its *sink*) exists before
the element itself. Behaviour follows Flink CEP 2.1.0 (org.apache.flink.cep.nfa.compiler.NFACompiler), to the letter
where the conformance cases can tell; alternatives and the time bounds between events are Ostinato's own.

Example: ``a b+ c`` becomes ``a -take-> b -take-> b:loop -proceed-> c -take-> final`` with the loop taking more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ostinato.cep.nfa.final_wait import wait_at_once
from ostinato.cep.nfa.formula import Atom, Formula, conjunction, disjunction, negation
from ostinato.cep.nfa.ir import Action, Edge, Graph, Kind, State
from ostinato.patterns.ast import Alternation, Contiguity, Element, Group, Pattern, Stage
from ostinato.patterns.errors import MalformedPatternError, Problem

MAX_STATES = 2_000
"""Of one pattern. A partial match of more events than this is better counted by a condition (``count(a) < 10000``) than
by states; to compile so many takes about a second, and what a state costs the kernel grows with their number."""

_MAX_BUILT = 5_000
"""While the graph is made there are states that no partial match rests in; most of them go again."""


def build(pattern: Pattern) -> Graph:
    """The graph of a pattern that has passed its checks.

    Raises:
        MalformedPatternError: it would have far more than `MAX_STATES`. They are not made to find out.
    """
    return wait_at_once(_Builder(pattern).build())


def too_many_states(pattern: Pattern, most: int) -> MalformedPatternError:
    """What is said of a pattern with more states than there may be."""
    return MalformedPatternError(
        Problem(
            f"pattern `{pattern.name}` needs more than {most:,} states",
            pattern.span,
            "a quantifier makes a state for each repetition, and those of groups within groups are multiplied; "
            "lower the numbers, or take `+` and a condition on `count`",
        )
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """An element and where it stands: its sequence, its index there, the group around it, and what follows that."""

    items: tuple[Element, ...]
    index: int
    group: Group | None
    behind_group: Element | None = None

    @property
    def element(self) -> Element:
        return self.items[self.index]

    @property
    def head_of_group(self) -> bool:
        return self.group is not None and self.index == 0

    @property
    def previous(self) -> _Place | None:
        return _Place(self.items, self.index - 1, self.group, self.behind_group) if self.index else None

    @property
    def following(self) -> Element | None:
        return self.items[self.index + 1] if self.index + 1 < len(self.items) else self.behind_group


class _Builder:
    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._states: list[State] = []
        self._names: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._stops: dict[str, State] = {}
        self._first_of_loop: dict[int, bool] = {}
        self._copied_sinks: dict[str, State] = {}

    def build(self) -> Graph:
        final = self._state("(end)", Kind.FINAL)
        start = self._sequence(self._pattern.items, None, final)
        start.kind = Kind.START
        return Graph(start, tuple(self._states))

    # -- sequences -----------------------------------------------------------------------------

    def _sequence(
        self, items: tuple[Element, ...], group: Group | None, sink: State, behind: Element | None = None
    ) -> State:
        for index in range(len(items) - 1, -1, -1):
            place = _Place(items, index, group, behind)
            element = place.element
            if isinstance(element, Stage) and element.contiguity is Contiguity.NOT_FOLLOW:
                sink = self._not_follow(place, element, sink)
            elif isinstance(element, Stage) and element.contiguity is Contiguity.NOT_NEXT:
                sink = self._not_next(place, element, sink)
            else:
                sink = self._element(place, sink)
        return sink

    def _not_follow(self, place: _Place, stage: Stage, sink: State) -> State:
        """A negation over a stretch of time lives in the guards of what comes after it; only as the last element
        it is a state of its own, whose partial matches are complete when their time is up."""
        bounded = stage.within_ms is not None or self._pattern.within_ms is not None
        if sink.kind is not Kind.FINAL or not bounded:
            if stage.within_ms is not None:
                raise MalformedPatternError(
                    f"`!-> {stage.name}` has a time of its own, which is possible only at the end of a pattern"
                )
            return sink
        condition = self._take_guard(place)
        pending = self._state(stage.name, Kind.PENDING, gap_ms=stage.within_ms)
        pending.proceed(self._stop(stage.name, condition), condition)
        pending.ignore(pending, negation(condition))
        return pending

    def _not_next(self, place: _Place, stage: Stage, sink: State) -> State:
        condition = self._take_guard(place)
        state = self._state(stage.name)
        if sink.kind is Kind.FINAL:
            # an edge that needs one more event: to proceed would complete the match without looking at it
            state.ignore(sink, negation(condition))
        else:
            state.proceed(sink, negation(condition))
        state.proceed(self._stop(stage.name, condition), condition)
        return state

    # -- elements ------------------------------------------------------------------------------

    def _element(self, place: _Place, sink: State) -> State:
        element = place.element
        if isinstance(element, Alternation):
            state = self._alternation(place, element, sink)
        else:
            low, high, looping, times = _repetition(element)
            if looping:
                self._mark(element, False)
                loop = self._loop(place, element, self._without_lifted_negations(place, sink))
                self._mark(element, True)
                state = self._times(place, element, loop, sink, low, low)
            elif times:
                state = self._times(place, element, sink, sink, low, high)
            else:
                state = self._single(
                    place,
                    sink,
                    sink,
                    self._take_guard(place),
                    self._ignore_guard(place),
                    _is_optional(element),
                    self._first_gap(place),
                )
        self._add_stops(place, state)
        return state

    def _alternation(self, place: _Place, element: Alternation, sink: State) -> State:
        """One state that waits for the first event of any branch and proceeds into each."""
        state = self._state("(" + "|".join(_names(element)) + ")")
        sink = self._without_lifted_negations(place, sink)
        for branch in element.branches:
            state.proceed(self._sequence(branch, None, sink, place.following), self._proceed_guard(place))
        ignoring = self._contiguity_guard(self._outer_contiguity(place), _first_conditions(element))
        if ignoring is not None:
            state.ignore(state, self._within_group_until(place, ignoring))
        return state

    def _times(self, place: _Place, element: Stage | Group, sink: State, proceed: State, low: int, high: int) -> State:
        """The states of a repetition, last first; those behind the first use the inner contiguity."""
        self._mark(element, False)
        until = _until(element)
        inner = self._unless(until, self._inner_guard(place))
        take = self._take_unless(until, self._take_guard(place))
        if element.quantifier.greedy and low != high:
            if until is not None:
                self._copied_sinks[sink.name] = self._copy(sink)
            _exclude(sink, take)
        last = sink
        for _ in range(low, high):
            last = self._single(place, last, proceed, take, inner, True, _extra_gap(element))
            self._add_stop_to_loop(place, last)
        for _ in range(low - 1):
            last = self._single(place, last, None, take, inner, False, element.quantifier.gap_ms)
            self._add_stop_to_loop(place, last)
        self._mark(element, True)
        return self._single(
            place, last, proceed, take, self._ignore_guard(place), _is_optional(element), self._first_gap(place)
        )

    def _single(
        self,
        place: _Place,
        sink: State,
        proceed: State | None,
        take: Formula,
        ignore: Formula | None,
        optional: bool,
        gap_ms: int | None,
    ) -> State:
        """The state that takes one event for the element and goes on to `sink`, or past it to `proceed`."""
        element = place.element
        if isinstance(element, Group):
            return self._group(place, element, sink, proceed, optional)
        assert isinstance(element, Stage)
        state = self._state(element.name)
        sink = self._without_lifted_negations(place, sink)
        state.take(sink, take, gap_ms)
        if optional:
            assert proceed is not None
            state.gives_up_silently = True
            until = _until(element)
            if element.quantifier.greedy and until is not None:
                copied = self._copied_sinks.get(proceed.name)
                if copied is not None:
                    state.proceed(copied, conjunction([self._proceed_guard(place), until]))
                state.proceed(proceed, conjunction([self._proceed_guard(place), negation(until)]))
            else:
                state.proceed(proceed, self._proceed_guard(place))
        if ignore is not None:
            waiting = state
            if optional or self._heads_optional_group(place):
                # a state of its own for having let an event pass: from there the element can no longer be skipped
                waiting = self._state(element.name)
                waiting.gives_up_silently = optional
                waiting.take(sink, take, gap_ms)
                waiting.ignore(waiting, ignore)
                self._add_stops(place, waiting)
            state.ignore(waiting, ignore)
        return state

    def _loop(self, place: _Place, element: Stage | Group, sink: State) -> State:
        if isinstance(element, Group):
            return self._group_loop(place, element, sink)
        until = _until(element)
        ignore = self._unless(until, self._inner_guard(place))
        take = self._take_unless(until, self._take_guard(place))
        state = self._state(element.name)
        if element.quantifier.greedy:
            if until is not None:
                copied = self._copy(sink)
                state.proceed(copied, conjunction([self._proceed_guard(place), until]))
                self._copied_sinks[sink.name] = copied
                state.proceed(sink, conjunction([self._proceed_guard(place), negation(until)]))
            else:
                state.proceed(sink, self._proceed_guard(place))
            _exclude(sink, self._take_guard(place))
        else:
            state.proceed(sink, self._proceed_guard(place))
        state.take(state, take, _extra_gap(element))
        state.gives_up_silently = True
        self._add_stop_to_loop(place, state)
        if ignore is not None:
            waiting = self._state(element.name)
            waiting.gives_up_silently = True
            waiting.take(state, take, _extra_gap(element))
            waiting.ignore(waiting, ignore)
            state.ignore(waiting, ignore)
            self._add_stop_to_loop(place, waiting)
        return state

    def _group(self, place: _Place, group: Group, sink: State, proceed: State | None, optional: bool) -> State:
        guard = self._proceed_guard(place)
        first = self._sequence(group.items, group, sink, place.following)
        if optional:
            assert proceed is not None
            first.proceed(proceed, guard)
        return first

    def _group_loop(self, place: _Place, group: Group, sink: State) -> State:
        guard = self._proceed_guard(place)
        back = self._state("(" + " ".join(_names(group)) + ")")
        first = self._sequence(group.items, group, back, place.following)
        first.proceed(sink, guard)
        back.proceed(first, guard)
        return back

    # -- guards --------------------------------------------------------------------------------

    def _take_guard(self, place: _Place) -> Formula:
        element = place.element
        condition = condition_of(element) if isinstance(element, Stage) else True
        return self._take_unless(_until(place.group), condition)

    def _proceed_guard(self, place: _Place) -> Formula:
        return self._take_unless(_until(place.group), True)

    def _ignore_guard(self, place: _Place) -> Formula | None:
        guard = self._contiguity_guard(self._outer_contiguity(place), _own_condition(place.element))
        return None if guard is None else self._within_group_until(place, guard)

    def _inner_guard(self, place: _Place) -> Formula | None:
        element = place.element
        assert isinstance(element, Stage | Group)
        guard = self._contiguity_guard(element.quantifier.inner, _own_condition(element))
        return None if guard is None else self._within_group_until(place, guard)

    def _outer_contiguity(self, place: _Place) -> Contiguity:
        """The head of a group follows what is before the group, or the round before."""
        if place.head_of_group:
            assert place.group is not None
            if self._is_first_of_loop(place.group):
                return place.group.contiguity or Contiguity.STRICT
            return place.group.quantifier.inner
        return place.element.contiguity or Contiguity.STRICT

    @staticmethod
    def _contiguity_guard(contiguity: Contiguity, condition: Formula) -> Formula | None:
        if contiguity is Contiguity.RELAXED:
            return negation(condition)
        return True if contiguity is Contiguity.ANY else None

    def _within_group_until(self, place: _Place, guard: Formula) -> Formula:
        until = _until(place.group)
        return guard if until is None else conjunction([negation(until), guard])

    @staticmethod
    def _unless(until: Formula | None, guard: Formula | None) -> Formula | None:
        if until is None or guard is None:
            return guard
        return conjunction([negation(until), guard])

    @staticmethod
    def _take_unless(until: Formula | None, guard: Formula) -> Formula:
        return guard if until is None else conjunction([negation(until), guard])

    def _first_gap(self, place: _Place) -> int | None:
        """The bound on the wait for an element's first event; a repetition's own bound holds for it too."""
        element = place.element
        gaps: list[int | None] = []
        if isinstance(element, Stage | Group):
            gaps = [element.within_ms, _extra_gap(element) if _is_optional(element) else element.quantifier.gap_ms]
        if place.head_of_group:
            assert place.group is not None
            first = self._is_first_of_loop(place.group)
            gaps += [place.group.quantifier.gap_ms, place.group.within_ms if first else None]
        return min((gap for gap in gaps if gap is not None), default=None)

    # -- negations -----------------------------------------------------------------------------

    def _negations_before(self, place: _Place) -> list[tuple[str, Formula]]:
        """The `!->` stages still in force at an element: directly before it, or before optional elements."""
        found = []
        before = place.previous
        while before is not None and (_is_optional(before.element) or _is_not_follow(before.element)):
            if isinstance(before.element, Stage) and before.element.contiguity is Contiguity.NOT_FOLLOW:
                found.append((before.element.name, self._take_guard(before)))
            before = before.previous
        return found

    def _stop(self, name: str, condition: Formula) -> State:
        stop = self._stops.get(name)
        if stop is None:
            stop = self._stops[name] = self._state(name, Kind.STOP)
            stop.take(stop, condition)
        return stop

    def _add_stops(self, place: _Place, state: State) -> None:
        for name, condition in self._negations_before(place):
            state.proceed(self._stop(name, condition), condition)

    def _add_stop_to_loop(self, place: _Place, state: State) -> None:
        following = place.following
        if isinstance(following, Stage) and following.contiguity is Contiguity.NOT_FOLLOW:
            if following.within_ms is not None:
                return  # it bounds the time behind the repetition, and has no say in it
            condition = self._take_unless(_until(place.group), condition_of(following))
            state.proceed(self._stop(following.name, condition), condition)

    def _without_lifted_negations(self, place: _Place, sink: State) -> State:
        """Taking an event for an optional element ends the negations before it (SEMANTICS 17), so the way on from
        there is a copy of the sink that does not look for them any more."""
        negations = {name for name, _ in self._negations_before(place)}
        if not negations or not _is_optional(place.element):
            return sink
        return self._copy_without(sink, negations, {})

    def _copy_without(self, state: State, negations: set[str], copies: dict[int, State]) -> State:
        if id(state) in copies:
            return copies[id(state)]
        copied = copies[id(state)] = self._state(state.stage, state.kind, state.gap_ms)
        copied.gives_up_silently = state.gives_up_silently
        for edge in state.edges:
            if edge.action is not Action.PROCEED:
                target = copied if edge.target is state else edge.target
                copied.edges.append(Edge(edge.action, target, edge.guard, edge.gap_ms))
            elif edge.target.kind is not Kind.STOP:
                copied.edges.append(Edge(edge.action, self._copy_without(edge.target, negations, copies), edge.guard))
            elif edge.target.stage not in negations:
                copied.edges.append(Edge(edge.action, edge.target, edge.guard))
        return copied

    # -- states --------------------------------------------------------------------------------

    def _state(self, stage: str, kind: Kind = Kind.NORMAL, gap_ms: int | None = None) -> State:
        if len(self._states) > _MAX_BUILT:
            raise too_many_states(self._pattern, MAX_STATES)
        name, count = stage, self._numbers.get(stage, 1)
        while name in self._names:
            count += 1
            name = f"{stage}:{count}"
        self._numbers[stage] = count
        self._names.add(name)
        state = State(name, kind, stage, gap_ms=gap_ms)
        self._states.append(state)
        return state

    def _copy(self, state: State) -> State:
        copied = self._state(state.stage, state.kind, state.gap_ms)
        copied.gives_up_silently = state.gives_up_silently
        for edge in state.edges:
            target = copied if edge.target is state else edge.target
            copied.edges.append(Edge(edge.action, target, edge.guard, edge.gap_ms))
        return copied

    def _mark(self, element: Element, first: bool) -> None:
        if isinstance(element, Group):
            self._first_of_loop[id(element)] = first

    def _is_first_of_loop(self, group: Group) -> bool:
        return self._first_of_loop.get(id(group), True)

    def _heads_optional_group(self, place: _Place) -> bool:
        if not place.head_of_group:
            return False
        assert place.group is not None
        return self._is_first_of_loop(place.group) and _is_optional(place.group)


def condition_of(stage: Stage) -> Formula:
    """A stage's condition; a stage without one fits every event."""
    return True if stage.condition is None else Atom("where", stage.name)


def group_name(group: Group) -> str:
    """A name for a group, which has none of its own: that of its stages, which are unique."""
    return "(" + " ".join(_names(group)) + ")"


def _until(element: Element | None) -> Formula | None:
    if element is None or isinstance(element, Alternation) or element.until is None:
        return None
    return Atom("until", element.name if isinstance(element, Stage) else group_name(element))


def _own_condition(element: Element) -> Formula:
    if isinstance(element, Stage):
        return condition_of(element)
    return _first_conditions(element) if isinstance(element, Alternation) else True


def _first_conditions(element: Element) -> Formula:
    """What an event must be to be the first of an element."""
    if isinstance(element, Stage):
        return condition_of(element)
    if isinstance(element, Alternation):
        return disjunction(_first_of_sequence(branch) for branch in element.branches)
    return _first_of_sequence(element.items)


def _first_of_sequence(items: Sequence[Element]) -> Formula:
    found = []
    for item in items:
        if isinstance(item, Stage) and item.contiguity is not None and item.contiguity.negated:
            break
        found.append(_first_conditions(item))
        if not _is_optional(item):
            break
    return disjunction(found)


def _repetition(element: Stage | Group) -> tuple[int, int, bool, bool]:
    """(least, most, endless, repeated at all) as Flink counts: from 0 means optional, from 1."""
    quantifier = element.quantifier
    assert isinstance(quantifier.min, int)
    assert quantifier.max is None or isinstance(quantifier.max, int)
    low = max(1, quantifier.min)
    if quantifier.max is None:
        return low, low, True, True
    return low, quantifier.max, False, (quantifier.min, quantifier.max) != (1, 1)


def _extra_gap(element: Stage | Group) -> int | None:
    """The bound on the wait for an event of a repetition that need not come."""
    return None if element.quantifier.gap_required_only else element.quantifier.gap_ms


def _is_optional(element: Element) -> bool:
    if isinstance(element, Alternation):
        return False
    return element.quantifier.optional or element.quantifier.min == 0


def _is_not_follow(element: Element) -> bool:
    return isinstance(element, Stage) and element.contiguity is Contiguity.NOT_FOLLOW


def _names(element: Element) -> list[str]:
    if isinstance(element, Stage):
        return [element.name]
    parts = element.items if isinstance(element, Group) else tuple(e for branch in element.branches for e in branch)
    return [name for part in parts for name in _names(part)]


def _exclude(state: State, condition: Formula) -> None:
    """Greediness: what the loop could take, the way out of it may not (SEMANTICS 14)."""
    for edge in state.edges:
        edge.guard = conjunction([edge.guard, negation(condition)])
