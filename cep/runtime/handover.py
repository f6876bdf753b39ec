"""The state of one pipeline for the next one in the same process, when what runs is changed between two entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ostinato.cep.runtime.plan import Plan
from ostinato.state.operator import OperatorState
from ostinato.state.records import Records


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """An operator's state in memory (`state.operator.StoredState`). What has no place any more may be dropped."""

    state: OperatorState
    owned: range
    may_drop: bool = True

    @property
    def header(self) -> bytes:
        return self.state.header

    @property
    def shared(self) -> Sequence[bytes]:
        return [self.state.shared] if self.state.shared else []

    def records(self) -> Iterator[tuple[int, Records]]:
        for group in sorted(self.state.groups):
            if group in self.owned and len(self.state.groups[group]):
                yield group, self.state.groups[group]


@dataclass(frozen=True, slots=True)
class Handover:
    """What a pipeline leaves to the next.

    Attributes:
        states: by operator, all there is.
        sources: the time of each source stream, by its name.
        counters: see `Manifest`.
    """

    states: Mapping[str, OperatorState]
    sources: Mapping[str, Mapping[str, Any]]
    counters: Mapping[str, int]

    def stored(self, operator: str, owned: range) -> _Held | None:
        """The state of an operator; None where there is none."""
        state = self.states.get(operator)
        return None if state is None else _Held(state, owned)

    def times(self, plan: Plan) -> list[Mapping[str, Any] | None]:
        """For each source of the plan its time, None where it is new."""
        return [self.sources.get(stream.name) for stream in plan.sources]
