"""Why a key has matched, or not: its partial matches, what they wait for, and what its last events lacked.

To look changes nothing: neither what is stored nor what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ostinato.cep.batch import MIN_TIME, Batch, Strings, Vector
from ostinato.cep.event import Event, natural
from ostinato.cep.jit import kernels
from ostinato.cep.nfa import transfer
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.counter import LinearCounter
from ostinato.cep.nfa.formula import Atom
from ostinato.cep.nfa.ir import FlatState, Move
from ostinato.cep.nfa.matcher import Matcher
from ostinato.cep.nfa.operator import MatchOperator
from ostinato.cep.nfa.partial import OPEN, Partial, partials_of, stages_taken
from ostinato.cep.nfa.pools import SLOT_TIME
from ostinato.cep.nfa.tables import P_START
from ostinato.cep.nfa.verdicts import Condition, Matches, Verdict, condition_of, plain, plain_of, verdicts
from ostinato.patterns.ast import Stream
from ostinato.patterns.literals import parse_date, parse_decimal, parse_timestamp, unscaled
from ostinato.patterns.types import BOOLEAN, DATE, DOUBLE, STRING, TIMESTAMP, DataType, Decimal

ON_DISK = "(on disk)"
"""In `live_counts`: partial matches that are not in memory, whose states nobody has looked up."""


@dataclass(frozen=True, slots=True)
class TakenEvent:
    """An event of a partial match: the columns that are kept of it."""

    stage: str
    time: int
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PartialMatch:
    """How far a partial match has come.

    Attributes:
        kind: ``open``, ``complete`` (earlier partial matches or time still hold it back) or ``skipped``.
        state: the name of the state it is in.
        taken: by stage, how many events it has; events: these, oldest first, at most as many as were asked for, the
            last ones.
        began, last_event: epoch ms; deadline: when its time is up, None: never.
        completes_at_deadline: it is complete if nothing forbidden comes until then.
        awaits: the stages that an event may be taken for next; forbids: those whose events end it.
    """

    kind: str
    state: str
    taken: Mapping[str, int]
    events: tuple[TakenEvent, ...]
    began: int
    last_event: int
    deadline: int | None
    completes_at_deadline: bool
    awaits: tuple[str, ...]
    forbids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """An event that has come, and what the conditions say of it for the partial matches as they are now.

    Attributes:
        time: epoch ms.
        columns: all that is known of it.
        waiting: the watermark has not come to it: nothing has been done with it yet.
        conditions: of the stages that are awaited, by a partial match or as the first of a match.
    """

    time: int
    columns: Mapping[str, Any]
    waiting: bool
    conditions: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """Of a pattern whose matches are counted without enumerating them: how many partial matches are in each state, and
    how many events of the key are within the window (0: there is none)."""

    partial_matches: Mapping[str, int]
    window_events: int


@dataclass(frozen=True, slots=True)
class KeyExplanation:
    """Why a key has matched, or not.

    Attributes:
        pattern: its name.
        key: by column.
        watermark: epoch ms; None: nothing has come.
        waiting: events of the key that the watermark has not come to.
        partial_matches: the oldest ones, as many as were asked for; total: how many there are.
        begins_with: the stages that may begin a match; none where the pattern drains.
        draining: it takes no new first events.
        on_disk: the state of the key was not in memory.
        cap: how many partial matches a key may have; at_cap: it has so many.
        dropped: partial matches of the pattern that its cap has dropped so far, of all keys.
        counted: what can be said of a pattern whose matches are only counted; None for the others.
        events: the recent ones, oldest first.
    """

    pattern: str
    key: Mapping[str, Any]
    watermark: int | None
    waiting: int
    partial_matches: tuple[PartialMatch, ...]
    total: int
    begins_with: tuple[str, ...]
    draining: bool
    on_disk: bool
    cap: int
    at_cap: bool
    dropped: int
    counted: Counted | None = None
    events: tuple[RecentEvent, ...] = field(default=())


def parse_key(stream: Stream, texts: Sequence[str | None]) -> tuple[Any, ...]:
    """A key from texts, one for each key column in the order in which they are declared; None is null.

    Raises:
        ValueError: a text is no value of its column's type, or there are more or fewer of them.
    """
    types = {column.name: column.type for column in stream.columns}
    names = list(stream.keys)
    if len(texts) != len(names):
        wanted = ", ".join(f"{name} {types[name]}" for name in names) or "none: all events have the same key"
        raise ValueError(f"stream {stream.name} has {len(names)} key columns ({wanted}); {len(texts)} values are given")
    return tuple(
        None if text is None else _parse(name, types[name], text) for name, text in zip(names, texts, strict=True)
    )


def _parse(name: str, type_: DataType, text: str) -> Any:
    try:
        value = _value(type_, text)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"key column {name}: {text!r} is no {type_}") from error
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"key column {name}: {text!r} is too large for {type_}")
    return value


def _value(type_: DataType, text: str) -> Any:
    if type_ == STRING:
        return text
    if type_ == BOOLEAN:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if type_ == DOUBLE:
        return float(text)
    if isinstance(type_, Decimal):
        number = unscaled(parse_decimal(text), type_.scale)
        if number is None:
            raise ValueError(text)
        return number
    try:
        return int(text)  # dates in days and times in ms are keys as they are stored
    except ValueError:
        if type_ == TIMESTAMP:
            return parse_timestamp(text)
        if type_ == DATE:
            return parse_date(text)
        raise


def explain_key(
    operator: MatchOperator,
    pattern: str,
    key: Sequence[Any],
    recent: Batch | None = None,
    *,
    most: int = 50,
) -> KeyExplanation:
    """What a pattern has of a key now, and what the conditions say of its recent events.

    Args:
        operator: that runs the pattern.
        pattern: its name there.
        key: the physical values of the key columns, as `parse_key` gives them.
        recent: events of this key, the newest last, with all their columns.
        most: how many partial matches are told of, and how many events of each.

    Raises:
        LookupError: the operator runs no such pattern.
        ValueError: the key has more or fewer columns.
    """
    compiled = operator.compiled
    number = _number_of(compiled, pattern)
    codec = operator.parts.input.codec
    if len(key) != len(codec.columns):
        raise ValueError(f"the key has {len(codec.columns)} columns; {len(key)} values are given")
    columns = {name: Vector.of(type_, [value]) for (name, type_), value in zip(codec.columns, key, strict=True)}
    encoded = codec.encode(columns, 1)
    here, on_disk = _whoever_has(operator, encoded)
    code = int(here.parts.input.keys.find(encoded)[0])
    matcher = here.parts.matcher
    partials = partials_of(matcher, here.parts.input.texts, number, code)
    automaton = compiled.automata[number]
    checked = compiled.patterns[number]
    draining = number in compiled.draining
    told = partials[:most]
    own_code = int(operator.parts.input.keys.find(encoded)[0])
    begins = () if draining else _awaited(automaton.states[0])
    stats = operator.stats[pattern]
    counter = next((each for each in operator.parts.counters if each.number == number), None)
    cap = checked.pattern.cap.runs
    return KeyExplanation(
        pattern=pattern,
        key={name: plain(natural(value, type_)) for (name, type_), value in zip(codec.columns, key, strict=True)},
        watermark=None if operator.watermark <= MIN_TIME else operator.watermark,
        waiting=operator.parts.input.waiting_of(own_code) if own_code >= 0 else 0,
        partial_matches=tuple(_described(compiled, matcher, number, partial, most) for partial in told),
        total=len(partials),
        begins_with=begins,
        draining=draining,
        on_disk=on_disk,
        cap=cap,
        at_cap=sum(partial.kind == OPEN for partial in partials) >= cap,
        dropped=stats.dropped,
        counted=None if counter is None else _counted(compiled, number, counter, own_code, operator.watermark),
        events=() if recent is None else _judged(compiled, matcher, number, told, recent, operator.watermark),
    )


def live_counts(operator: MatchOperator) -> dict[str, dict[str, int]]:
    """By pattern and state, how many partial matches there are now, of all keys.

    Of patterns that are only counted, within a window, nothing is said: to know it would take as long as to count anew.
    """
    compiled = operator.compiled
    counts = np.zeros(len(compiled.tables.states), np.int64)
    kernels(transfer).count_states(compiled.tables, operator.parts.matcher.space, counts)
    counters = {counter.number: counter for counter in operator.parts.counters}
    residence = operator.parts.state.residence
    found: dict[str, dict[str, int]] = {}
    for number, checked in enumerate(compiled.patterns):
        states = compiled.automata[number].states
        first = int(compiled.tables.patterns[number, P_START])
        of_states = counts[first : first + len(states)].tolist()
        if number in counters:
            of_states = [0, *(counters[number].in_all() or [])]
        own = {state.name: count for state, count in zip(states, of_states, strict=False) if count}
        if residence is not None and residence.partial_matches[number]:
            own[ON_DISK] = int(residence.partial_matches[number])
        found[checked.pattern.name] = own
    return found


def _number_of(compiled: CompiledSet, pattern: str) -> int:
    for number, checked in enumerate(compiled.patterns):
        if checked.pattern.name == pattern:
            return number
    known = ", ".join(checked.pattern.name for checked in compiled.patterns)
    raise LookupError(f"pattern `{pattern}` does not run on this stream; those that do are {known}")


def _whoever_has(operator: MatchOperator, key: Strings) -> tuple[MatchOperator, bool]:
    """The operator, or, where the key's state is on disk, another one that has it and nothing else."""
    residence = operator.parts.state.residence
    record = residence.peek(key) if residence is not None else None
    if record is None:
        return operator, False
    aside = MatchOperator(operator.compiled, key_groups=operator.key_groups)
    aside.parts.state.take_record(key, record)
    return aside, True


def _described(compiled: CompiledSet, matcher: Matcher, number: int, partial: Partial, most: int) -> PartialMatch:
    states = compiled.automata[number].states
    state = states[partial.state] if partial.state >= 0 else None
    return PartialMatch(
        kind=partial.kind,
        state=state.name if state is not None else "(end)",
        taken=stages_taken(partial.path),
        events=tuple(_taken(matcher, stage, slot) for stage, slot in partial.path[-most:]),
        began=partial.began,
        last_event=partial.last,
        deadline=partial.deadline,
        completes_at_deadline=state is not None and state.pending,
        awaits=_awaited(state) if state is not None else (),
        forbids=_forbidden(state) if state is not None else (),
    )


def _taken(matcher: Matcher, stage: str, slot: int) -> TakenEvent:
    event = matcher.store.event(slot)
    columns = {name: plain(event[name]) for name in matcher.store.types}
    return TakenEvent(stage, int(matcher.space.slots[slot, SLOT_TIME]), columns)


def _awaited(state: FlatState) -> tuple[str, ...]:
    return tuple(dict.fromkeys(step.stage for step in state.steps if step.move is Move.TAKE and step.stage is not None))


def _forbidden(state: FlatState) -> tuple[str, ...]:
    found = (
        atom.owner
        for step in state.steps
        if step.move is Move.KILL
        for term in step.guard_terms
        for atom, wanted in term
        if wanted and atom.kind == "where"
    )
    return tuple(dict.fromkeys(found))


def _atoms(state: FlatState) -> dict[Atom, str]:
    """The conditions that decide what happens to an event, each with its role."""
    found: dict[Atom, str] = {Atom("where", stage): "take" for stage in _awaited(state)}
    found |= {Atom("where", stage): "not" for stage in sorted(_forbidden(state))}
    for step in state.steps:
        for term in (*step.guard_terms, *step.completes_terms):
            for atom, _ in sorted(term, key=lambda pair: (pair[0].kind, pair[0].owner)):
                if atom.kind == "until":
                    found.setdefault(atom, "until")
    return found


def _judged(
    compiled: CompiledSet, matcher: Matcher, number: int, partials: Sequence[Partial], recent: Batch, watermark: int
) -> tuple[RecentEvent, ...]:
    checked, automaton = compiled.patterns[number], compiled.automata[number]
    conditions: dict[tuple[Atom, str], Condition] = {}
    asked: dict[tuple[Atom, str], list[int | None]] = {}

    def ask(state: FlatState, position: int | None) -> None:
        for atom, role in _atoms(state).items():
            if (atom, role) not in conditions:
                conditions[atom, role] = condition_of(checked, atom, role)  # type: ignore[arg-type]
            asked.setdefault((atom, role), []).append(position)

    if number in compiled.linear:
        for state in automaton.states:
            ask(state, None)
    elif number not in compiled.draining:
        ask(automaton.states[0], None)
    for index, partial in enumerate(partials):
        if partial.kind == OPEN and partial.state >= 0:
            ask(automaton.states[partial.state], index)

    def event_of(slot: int) -> Event:
        return matcher.store.event(slot)

    found: list[list[Verdict]] = [[] for _ in range(len(recent))]
    for which, condition in conditions.items():
        positions: list[int | None] = list(dict.fromkeys(asked[which])) if condition.iterative else [None]
        for position in positions:
            matches = Matches(None if position is None else partials[position], event_of)
            for row, verdict in enumerate(verdicts(condition, recent, matches, position, automaton.stages)):
                found[row].append(verdict)
    return tuple(
        RecentEvent(
            int(time),
            {name: plain_of(column, row) for name, column in recent.columns.items()},
            int(time) > watermark,
            tuple(found[row]),
        )
        for row, time in enumerate(recent.time.tolist())
    )


def _counted(compiled: CompiledSet, number: int, counter: LinearCounter, code: int, watermark: int) -> Counted:
    states, events = counter.now(code, watermark)
    names = [state.name for state in compiled.automata[number].states[1:]]
    return Counted({name: count for name, count in zip(names, states, strict=False) if count}, events)
