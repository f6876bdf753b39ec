"""What records of partial matches mean: the patterns that wrote them, and how their numbers become those of today."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt

from ostinato.cep.batch import physical_dtype
from ostinato.cep.nfa.compile import CompiledSet
from ostinato.cep.nfa.formula import Atom
from ostinato.cep.nfa.record_kernel import FLOAT, NUMBER, TEXT
from ostinato.cep.nfa.tables import P_START
from ostinato.patterns.types import DOUBLE, STRING, DataType
from ostinato.state.errors import DroppedStateError, SnapshotError
from ostinato.state.operator import OperatorState
from ostinato.state.typed import convert

Ints = npt.NDArray[np.int64]

KIND = "match"
VERSION = 1


class StoredPattern(msgspec.Struct, frozen=True):
    """A pattern as it was when records were written.

    Attributes:
        name: of the pattern.
        structure: a digest of its states, without the conditions: records of patterns of one structure are alike.
        first_state, states: its states' numbers and names.
        first_stage, stages: the same of its stages.
        registers: what stands in them; kinds: how they are written.
        counted: its matches are counted without enumerating them.
        atoms: its conditions, in the order of the bits in which a counter keeps them.
    """

    name: str
    structure: str
    first_state: int
    states: Sequence[str]
    first_stage: int
    stages: Sequence[str]
    registers: Sequence[str]
    kinds: Sequence[int]
    counted: bool
    atoms: Sequence[str]


DROPPED = ""
"""The name of a stored pattern of which nothing is to be kept."""


class Header(msgspec.Struct, frozen=True):
    """What stands before the records of a match operator. `columns`: name, type and kind of each."""

    patterns: Sequence[StoredPattern]
    columns: Sequence[tuple[str, str, int]]
    keys: Sequence[tuple[str, str]]
    stream: str
    kind: str = KIND
    version: int = VERSION

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(data: bytes) -> Header:
        """Raises SnapshotError where this is no header that this release can read."""
        try:
            known = msgspec.msgpack.decode(data)
            if known["kind"] != KIND:
                raise SnapshotError(f"the state is of an operator of kind {known['kind']!r}, not of patterns")
            if known["version"] != VERSION:
                raise SnapshotError(f"the state has format {known['version']}; this release reads format {VERSION}")
            return convert(known, Header)
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
            raise SnapshotError(f"the state's header cannot be read: {error}") from error


def header_of(compiled: CompiledSet, columns: Mapping[str, DataType], keys: Sequence[tuple[str, DataType]]) -> Header:
    """The header of what the patterns write; `columns` are those of buffered events."""
    patterns = []
    for number, checked in enumerate(compiled.patterns):
        automaton = compiled.automata[number]
        patterns.append(
            StoredPattern(
                name=checked.pattern.name,
                structure=structure_of(compiled, number),
                first_state=int(compiled.tables.patterns[number, P_START]),
                states=[state.name for state in automaton.states],
                first_stage=compiled.first_stage[number],
                stages=list(automaton.stages),
                registers=list(compiled.plan.registers[number]),
                kinds=register_kinds(compiled, number),
                counted=number in compiled.linear,
                atoms=[str(atom) for atom in atoms_of(compiled, number)],
            )
        )
    return Header(
        patterns=patterns,
        columns=[(name, str(type_), kind_of(type_)) for name, type_ in columns.items()],
        keys=[(name, str(type_)) for name, type_ in keys],
        stream=compiled.patterns[0].stream.name,
    )


def renamed(state: OperatorState, names: Mapping[str, str | None]) -> OperatorState:
    """The same state of a match operator with patterns under other names; those that are not in `names` keep theirs.

    What patterns have whose new name is None is left out when the state is restored, whether or not it may be dropped
    there. So ``{"p": "p@3"}`` lets the partial matches of `p` go on under another name, and `p` begin anew.

    Raises:
        ValueError: two patterns would have the same name, or there is none of a name.
        SnapshotError: it is no state of a match operator.
    """
    header = Header.decode(state.header)
    if missing := names.keys() - {pattern.name for pattern in header.patterns}:
        raise ValueError(f"the state knows no pattern of the name {', '.join(sorted(missing))}")
    new = [names.get(pattern.name, pattern.name) or DROPPED for pattern in header.patterns]
    twice = sorted(name for name, times in Counter(new).items() if times > 1 and name != DROPPED)
    if twice:
        raise ValueError(f"two patterns would have the name {', '.join(twice)}")
    patterns = [msgspec.structs.replace(pattern, name=name) for pattern, name in zip(header.patterns, new, strict=True)]
    return replace(state, header=msgspec.structs.replace(header, patterns=patterns).encode())


def patterns_in(state: OperatorState) -> list[str]:
    """The names of the patterns of which a match operator's state may hold partial matches."""
    return [pattern.name for pattern in Header.decode(state.header).patterns]


def structure_of(compiled: CompiledSet, number: int) -> str:
    """A digest of what the meaning of a pattern's partial matches depends on: states and the ways between them.

    Conditions, parameters, bounds of time and what is emitted may change: partial matches go on under the new ones.
    """
    automaton = compiled.automata[number]
    states = [
        (state.name, state.pending, [(step.move.name, step.target, step.stage) for step in state.steps])
        for state in automaton.states
    ]
    what = repr((states, automaton.stages, compiled.plan.registers[number], number in compiled.linear))
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def kind_of(type_: DataType) -> int:
    """How a column of a type is written."""
    dtype = physical_dtype(type_)
    if type_ == STRING or dtype.hasobject:
        return TEXT
    return FLOAT if dtype == np.float64 else NUMBER


def register_kinds(compiled: CompiledSet, number: int) -> list[int]:
    """How each register of a pattern is written."""
    texts = compiled.plan.text_registers[number]
    return [
        TEXT if at in texts else FLOAT if described.endswith(f" {DOUBLE}") else NUMBER
        for at, described in enumerate(compiled.plan.registers[number])
    ]


def atoms_of(compiled: CompiledSet, number: int) -> list[Atom]:
    """A pattern's conditions, in an order that does not depend on the other patterns."""
    return sorted(compiled.layout.bits[number], key=str)


class Translation:
    """From the numbers in records to those of the patterns of today; -1: dropped."""

    def __init__(self, stored: Header, now: Header, *, may_drop: bool) -> None:
        """
        Raises:
            DroppedStateError: a pattern is gone or has another structure, and its state may not be dropped.
            SnapshotError: the key or a column has another type than it had.
        """
        self.stored = stored
        self._check_types(stored, now)
        here = {pattern.name: (number, pattern) for number, pattern in enumerate(now.patterns)}
        dropped = []
        self.drops = False
        self.pattern_of = np.full(len(stored.patterns), -1, np.int64)
        self.state_of = np.full(1 + max((p.first_state + len(p.states) for p in stored.patterns), default=0), -1)
        self.stage_of = np.full(1 + max((p.first_stage + len(p.stages) for p in stored.patterns), default=0), -1)
        for old, before in enumerate(stored.patterns):
            number, after = here.get(before.name, (-1, before))
            if before.name == DROPPED:
                self.drops = True
            elif number < 0:
                dropped.append(f"pattern `{before.name}` is gone")
            elif after.structure != before.structure or (before.counted and after.atoms != before.atoms):
                dropped.append(f"pattern `{before.name}` has another structure")
            else:
                self.pattern_of[old] = number
                self.state_of[before.first_state :][: len(before.states)] = after.first_state + np.arange(
                    len(before.states)
                )
                self.stage_of[before.first_stage :][: len(before.stages)] = after.first_stage + np.arange(
                    len(before.stages)
                )
        self.drops = self.drops or bool(dropped)
        if dropped and not may_drop:
            raise DroppedStateError(
                f"partial matches cannot be carried over: {'; '.join(dropped)}. Bring it back, or allow that they are "
                "dropped (--allow-dropped-state)"
            )
        self.same = not self.drops and stored == now

    @property
    def kinds(self) -> Ints:
        """How the columns of events were written. int64[columns]"""
        return np.array([kind for _, _, kind in self.stored.columns], np.int64)

    @property
    def widths(self) -> Ints:
        """How many registers each stored pattern has. int64[patterns]"""
        return np.array([len(pattern.registers) for pattern in self.stored.patterns], np.int64)

    @property
    def register_kinds(self) -> Ints:
        """How they were written. int64[patterns, width]"""
        kinds = np.zeros((len(self.stored.patterns), max(1, int(self.widths.max(initial=0)))), np.int64)
        for number, pattern in enumerate(self.stored.patterns):
            kinds[number, : len(pattern.kinds)] = pattern.kinds
        return kinds

    @staticmethod
    def _check_types(stored: Header, now: Header) -> None:
        if list(stored.keys) != list(now.keys):
            before, after = (", ".join(f"{name} {type_}" for name, type_ in each.keys) for each in (stored, now))
            raise SnapshotError(
                f"stream {now.stream}: its state is kept by the key ({before}); it cannot go on with ({after})"
            )
        types = {name: type_ for name, type_, _ in now.columns}
        for name, type_, _ in stored.columns:
            if name in types and types[name] != type_:
                raise SnapshotError(
                    f"stream {now.stream}: column {name} was {type_} when its events were stored and is {types[name]} "
                    "now; only new columns, and columns that are not stored any more, can be dealt with"
                )
