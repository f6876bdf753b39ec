"""The state of one pipeline for the next one in the same process, when what runs is changed between two entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ostinato.cep.runtime.plan import Plan
from ostinato.state.operator import HandedOver, OperatorState


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

    def without(self, operators: Collection[str]) -> Handover:
        """The same, but for what some operators leave."""
        left = {name: state for name, state in self.states.items() if name not in operators}
        return Handover(left, self.sources, self.counters)

    def stored(self, operator: str, owned: range) -> HandedOver | None:
        """The state of an operator; None where there is none. What has no place any more may be dropped."""
        state = self.states.get(operator)
        return None if state is None else HandedOver(state, owned, may_drop=True)

    def times(self, plan: Plan) -> list[Mapping[str, Any] | None]:
        """For each source of the plan its time, None where it is new."""
        return [self.sources.get(stream.name) for stream in plan.sources]
