"""A naive matcher: finds matches by enumerating, from the definitions alone.

It reads patterns in the JSON form of tests/conformance and shares no code with the engine. For every first event it
walks every way to go on, one branch for each choice (repeat the stage, or leave it for one that follows), and looks
at every event between two taken ones. Skip strategies are then a matter of which first events are alive when.

It covers stages with every contiguity and quantifier, negations, `until`, `within`, conditions on the partial match and
all skip strategies. `supports` names what it leaves out: groups, time bounds between two events, and combinations in
which Flink is at odds with the definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.property.naive_conditions import Condition, Event, value_of

Case = Mapping[str, Any]
Moment = tuple[int, int]
"""When something happens: (q, 0) is when time moves to that of event q, (q, 1) when event q has been processed;
(number of events, 0) is the end of input."""
Taken = tuple[tuple[int, int], ...]
"""The events of a partial match in their order, each as a pair of step and event."""
Negations = tuple[Mapping[str, Any], ...]

NEGATIONS = ("not_next", "not_follow")


class TooMuchError(Exception):
    """More partial matches than one wants to enumerate."""


class UndeterminedError(Exception):
    """The definitions leave the answer open: two finished matches share their first event and their moment, and a
    skip strategy lets only one of them out."""


@dataclass(frozen=True, eq=False)
class Step:
    """A stage that takes events, with the negations that stand between the stage before and it."""

    name: str
    where: Condition | None
    contiguity: str | None
    least: int
    most: int | None
    inner: str
    optional: bool
    greedy: bool
    until: Condition | None
    negations: Negations

    @property
    def once(self) -> bool:
        return self.least == self.most == 1 and not self.optional

    @property
    def holds_on(self) -> bool:
        """Is it greedy, with a choice between taking more and leaving?"""
        return self.greedy and self.most != self.least


@dataclass(frozen=True)
class Plan:
    """The steps of a pattern and the negations behind the last."""

    steps: tuple[Step, ...]
    last_negations: Negations
    within: int | None

    def after(self, index: int) -> Iterator[tuple[int, Negations]]:
        """The steps that can come next after leaving step `index`, each with all negations on the way to it;
        ``len(steps)`` stands for the end."""
        negations: Negations = ()
        for following in range(index + 1, len(self.steps)):
            negations += self.steps[following].negations
            yield following, negations
            if not self.steps[following].optional:
                return
        yield len(self.steps), negations + self.last_negations


def plan_of(pattern: Mapping[str, Any]) -> Plan:
    """The pattern as steps."""
    steps: list[Step] = []
    negations: list[Mapping[str, Any]] = []
    for stage in pattern["stages"]:
        if stage.get("contiguity") in NEGATIONS:
            negations.append(stage)
            continue
        quantifier = stage.get("quantifier") or {}
        least = quantifier.get("min", 1)
        steps.append(
            Step(
                stage["name"],
                stage.get("where"),
                stage.get("contiguity"),
                max(least, 1),
                quantifier.get("max", 1),
                quantifier.get("inner", "relaxed"),
                bool(quantifier.get("optional")) or least == 0,
                bool(quantifier.get("greedy")),
                stage.get("until"),
                tuple(negations),
            )
        )
        negations = []
    return Plan(tuple(steps), tuple(negations), pattern.get("within_ms"))


def supports(pattern: Mapping[str, Any]) -> bool:
    """Is it a pattern for which the definitions are clear and Flink keeps to them?"""
    stages = pattern["stages"]
    if any("group" in stage or "window_ms" in stage for stage in stages) or pattern["skip"].get("throw_on_miss"):
        return False
    if any("window_ms" in (stage.get("quantifier") or {}) for stage in stages):
        return False
    plan = plan_of(pattern)
    if any(len(negations) > 1 for negations in (plan.last_negations, *(step.negations for step in plan.steps))):
        return False  # the first of them is in force only if the second is of its kind
    for before, step in zip((None, *plan.steps), plan.steps, strict=False):
        if step.most == 0 or (step.greedy and step.until is not None):
            return False  # until lifts greediness in a way of its own
        if before is not None and before.greedy and step.optional:
            return False  # refused but for {0,n}, and then the end may not be reached
        if step.negations and (before is None or not before.once):
            return False  # a negation is in force between the repetitions before it already
        if step.negations and step.optional and step.most != 1:
            return False
        follows = any(negation["contiguity"] == "not_follow" for negation in step.negations)
        if follows and step.most not in (1, None):
            return False  # it stays in force between the repetitions behind it
    if plan.last_negations and not plan.steps[-1].once:
        return False
    # a negation with nothing but optional stages behind it can be left out altogether
    negated = [index for index, step in enumerate(plan.steps) if step.negations]
    return not any(all(step.optional for step in plan.steps[index:]) for index in negated)


@dataclass(frozen=True)
class Match:
    """Events taken, and when it was complete."""

    taken: Taken
    moment: Moment

    @property
    def first(self) -> int:
        return self.taken[0][1]

    @property
    def last(self) -> int:
        return self.taken[-1][1]


@dataclass
class Found:
    """What starts with one first event: its matches, and when partial matches of it are alive (from, until)."""

    matches: list[Match] = field(default_factory=list)
    alive: list[tuple[Moment, Moment]] = field(default_factory=list)

    def alive_at(self, moment: Moment) -> bool:
        return any(begin <= moment < end for begin, end in self.alive)


@dataclass(frozen=True)
class Branch:
    """One way to go on: take an event for step `target`, as its first (`repeats` 0) or a further one."""

    target: int
    repeats: int
    contiguity: str
    negations: Negations


class Naive:
    """Enumerates the matches of one pattern over one list of events (one key).

    Args:
        limit: partial matches after which it gives up with `TooMuchError`.
        begins_before: events from this position on, by time, begin no match; None: all may.
    """

    def __init__(
        self,
        pattern: Mapping[str, Any],
        events: Sequence[Event],
        flush: bool | int,
        limit: int,
        begins_before: int | None = None,
    ) -> None:
        self.plan = plan_of(pattern)
        self.skip = pattern["skip"]
        self.events = sorted(events, key=lambda event: event["ts"])
        self.flush = flush
        self.left = limit
        self.begins_before = len(self.events) if begins_before is None else begins_before

    def matches(self) -> list[Match]:
        """The matches that come out: by moment, those of one moment by first event."""
        found = [self._found(first) if first < self.begins_before else Found() for first in range(len(self.events))]
        everything = sorted(
            (match for each in found for match in each.matches), key=lambda match: (match.moment, match.first)
        )
        return everything if self.skip["strategy"] == "no_skip" else self._skipping(found, everything)

    def answer(self, match: Match) -> dict[str, list[int]]:
        """A match as the conformance files write it."""
        answer: dict[str, list[int]] = {}
        for index, event in match.taken:
            answer.setdefault(self.plan.steps[index].name, []).append(self.events[event]["i"])
        return answer

    # -- everything that starts with one event

    def _found(self, first: int) -> Found:
        found = Found()
        for target, _ in self.plan.after(-1):
            if target == len(self.plan.steps) or self._greedily_kept(Branch(target, 0, "any", ()), first, ()):
                continue
            if self._fits(target, first, ()) and not self._over(target, first, ()):
                self._go_on(((target, first),), 1, found)
        return found

    def _go_on(self, taken: Taken, repeats: int, found: Found, *, only_to_end: bool = False) -> None:
        """Follow every branch of a partial match whose last event was taken just now."""
        self.left -= 1
        if self.left < 0:
            raise TooMuchError
        index = taken[-1][0]
        step = self.plan.steps[index]
        branches: list[Branch] = []
        if step.most is None or repeats < step.most:
            branches.append(Branch(index, repeats, step.inner, ()))
        if repeats >= step.least:
            for target, negations in self.plan.after(index):
                if target < len(self.plan.steps):
                    branches.append(Branch(target, 0, str(self.plan.steps[target].contiguity), negations))
                elif not self.plan.last_negations:
                    found.matches.append(Match(taken, (taken[-1][1], 1)))
                elif not only_to_end:
                    self._wait_for_end(taken, negations, found)
        if not only_to_end:
            for branch in branches:
                found.alive.append(((taken[-1][1], 1), self._follow(taken, branch, found)))

    def _wait_for_end(self, taken: Taken, negations: Negations, found: Found) -> None:
        """All is there; it is a match if what must not come now does not come."""
        last = taken[-1][1]
        at_end = self.plan.last_negations[-1]["contiguity"]
        moment: Moment | None = None
        for position in range(last + 1, len(self.events)):
            if self._too_late(taken, position):
                break
            if any(self._forbidden(kind, negations, taken, position) for kind in NEGATIONS):
                found.alive.append(((last, 1), (position, 1)))
                return
            if at_end == "not_next":
                moment = (position, 1)
                break
        if at_end == "not_follow":
            moment = self._deadline(taken)
        if moment is not None:
            found.matches.append(Match(taken, moment))
        found.alive.append(((last, 1), moment or self._deadline(taken) or (len(self.events), 2)))

    def _follow(self, taken: Taken, branch: Branch, found: Found) -> Moment:
        """Look at one event after the other until the branch ends; when that is."""
        for position in range(taken[-1][1] + 1, len(self.events)):
            if self._too_late(taken, position):
                return (position, 0)
            if self._greedily_kept(branch, position, taken) or self._forbidden(
                "not_next", branch.negations, taken, position
            ):
                return (position, 1)
            fits = self._fits(branch.target, position, taken)
            over = self._over(branch.target, position, taken)
            # what must not follow ends the partial match even if it fits what we wait for, unless nothing
            # more is wanted then
            stopped = self._forbidden("not_follow", branch.negations, taken, position)
            if fits and not over:
                self._go_on((*taken, (branch.target, position)), branch.repeats + 1, found, only_to_end=stopped)
            kept_waiting = branch.contiguity == "any" or (branch.contiguity == "relaxed" and not fits)
            if stopped or not kept_waiting or (over and branch.repeats):
                return (position, 1)
        return self._deadline(taken) or (len(self.events), 2)

    # -- the definitions

    def _fits(self, index: int, position: int, taken: Taken) -> bool:
        return self._true(self.plan.steps[index].where, position, taken)

    def _over(self, index: int, position: int, taken: Taken) -> bool:
        """Is it the event before which the repetition ends (`until`)?"""
        until = self.plan.steps[index].until
        return until is not None and self._true(until, position, taken)

    def _forbidden(self, kind: str, negations: Negations, taken: Taken, position: int) -> bool:
        """Does a negation of that kind, on the way to where we go, forbid the event?"""
        if kind == "not_next" and position != taken[-1][1] + 1:
            return False
        return any(
            self._true(negation.get("where"), position, taken)
            for negation in negations
            if negation["contiguity"] == kind
        )

    def _greedily_kept(self, branch: Branch, position: int, taken: Taken) -> bool:
        """Is it an event that a greedy step would take, so that the step may not be left?

        Right behind the step (or where it could have stood) no such event may come, and none at all until the step
        behind it has its first event, unless that is optional.
        """
        if branch.repeats:
            return False
        index, last = taken[-1] if taken else (0, position - 1)
        for before in range(index, branch.target):
            behind = self.plan.steps[before + 1]
            waits = before + 1 == branch.target and not behind.optional
            holds_on = self.plan.steps[before].holds_on and (waits or position == last + 1)
            if holds_on and self._fits(before, position, taken):
                return True
        return False

    def _true(self, condition: Condition | None, position: int, taken: Taken) -> bool:
        if condition is None:
            return True
        stages: dict[str, list[Event]] = {}
        for index, event in taken:
            stages.setdefault(self.plan.steps[index].name, []).append(self.events[event])
        return value_of(condition, self.events[position], stages) is True

    def _too_late(self, taken: Taken, position: int) -> bool:
        """Has the time of the pattern run out at this event?"""
        start = self.events[taken[0][1]]["ts"]
        return self.plan.within is not None and bool(self.events[position]["ts"] - start >= self.plan.within)

    def _deadline(self, taken: Taken) -> Moment | None:
        """The moment at which the time of the pattern runs out, or None if it does not."""
        if self.plan.within is None:
            return None
        first = taken[0][1]
        for position in range(first + 1, len(self.events)):
            if self._too_late(taken, position):
                return (position, 0)
        end = self.events[first]["ts"] + self.plan.within
        if self.flush is True or (self.flush is not False and end <= self.flush):
            return (len(self.events), 0)
        return None

    # -- skip strategies

    def _skipping(self, found: list[Found], everything: list[Match]) -> list[Match]:
        """A finished match waits for partial matches that started before it, then removes what it skips."""
        out: list[Match] = []
        waiting: list[Match] = []
        removed: set[int] = set()
        for moment in ((position, phase) for position in range(len(self.events) + 1) for phase in (0, 1)):
            waiting += [match for match in everything if match.moment == moment and match.first not in removed]
            while waiting:
                first = min(match.first for match in waiting)
                if any(found[other].alive_at(moment) for other in range(first) if other not in removed):
                    break
                earliest = min(match.moment for match in waiting if match.first == first)
                candidates = [match for match in waiting if match.first == first and match.moment == earliest]
                if len(candidates) > 1:
                    raise UndeterminedError
                out += candidates
                waiting.remove(candidates[0])
                removed |= self._skipped(candidates[0])
                waiting = [match for match in waiting if match.first not in removed]
        return out

    def _skipped(self, match: Match) -> set[int]:
        """The first events of what a match removes."""
        strategy = self.skip["strategy"]
        if strategy == "skip_to_next":
            return set(range(match.first + 1))
        if strategy == "skip_past_last":
            return set(range(match.last + 1))
        named = [event for index, event in match.taken if self.plan.steps[index].name == self.skip["stage"]]
        if not named:
            return set()
        return set(range(named[0] if strategy == "skip_to_first" else named[-1]))
