"""What names mean where an expression stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ostinato.patterns.ast import Literal
from ostinato.patterns.types import DataType

_NOTHING: Mapping[str, Literal] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Scope:
    """The names an expression may use.

    Attributes:
        columns: those of an event.
        stages: the stages of the pattern, in its order; none for an expression that stands alone.
        current_stage: the stage being decided; its columns are those of the event in hand.
        params: values of the parameters that have not been put in yet.
        keys: columns that all events of a match share.
        output: is it a column of what is emitted, about a complete match? Then there is no event in hand: a bare
            column must be a key, and `match_start()` and `match_end()` have a meaning.
        negated: stages that take no event.
    """

    columns: Mapping[str, DataType]
    stages: tuple[str, ...] = ()
    current_stage: str | None = None
    params: Mapping[str, Literal] = field(default_factory=lambda: _NOTHING)
    keys: frozenset[str] = frozenset()
    output: bool = False
    negated: frozenset[str] = frozenset()
