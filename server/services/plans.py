"""Plans of changes in the words of the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ostinato.server.changes.model import ChangeResult, Fate, Happens, PlanItem
from ostinato.server.http.schemas.patterns import (
    Action,
    Applied,
    OldPartials,
    ParamPlan,
    PatternPlan,
    Plan,
    StreamPlan,
)
from ostinato.state.typed import convert

_ACTIONS: Final[Mapping[Happens, Action]] = {
    "new": "new",
    "unchanged": "unchanged",
    "parameters only": "parameters",
    "same structure": "same structure",
    "changed structure": "changed structure",
    "rolled back": "rollback",
    "deleted": "delete",
    "paused": "pause",
    "resumed": "resume",
    "failed": "fail",
    "drained": "drained",
    "shadow begins": "shadow",
    "shadow ends": "end of shadow",
}
_OLD: Final[Mapping[Fate, OldPartials]] = {"kept": "keep", "drained": "drain", "dropped": "drop"}


def applied(result: ChangeResult, counts: Mapping[str, int], at_ms: int | None) -> Applied:
    """A change as it is answered. `counts`: partial matches by engine name, as far as they are known."""
    return Applied(
        plan_of(result.items, counts),
        result.dry_run,
        result.generation,
        next(iter(result.position.values()), None),
        at_ms if result.generation is not None else None,
        result.effective,
        result.carried,
        result.dropped,
    )


def plan_of(items: Iterable[PlanItem], counts: Mapping[str, int]) -> Plan:
    """The items by what they are of."""
    patterns: list[PatternPlan] = []
    streams: list[StreamPlan] = []
    params: list[ParamPlan] = []
    warnings: list[str] = []
    for item in items:
        if item.kind == "pattern":
            patterns.append(_pattern(item, counts))
        elif item.kind == "stream":
            action = "delete" if item.change == "deleted" else item.change
            assert action in ("new", "unchanged", "changed", "delete")
            streams.append(StreamPlan(item.name, action, item.detail))
        elif item.kind == "param":
            what = "delete" if item.change == "deleted" else item.change
            assert what in ("new", "unchanged", "changed", "delete")
            params.append(ParamPlan(item.name, what, item.value, item.value_before))
            if item.detail:
                warnings.append(f"param {item.name}: {item.detail}")
    return Plan(patterns, streams, params, warnings)


def _pattern(item: PlanItem, counts: Mapping[str, int]) -> PatternPlan:
    old = _OLD.get(item.partial_matches)
    held = counts.get(item.name) if item.before is not None else None
    loses = ""
    if old == "drop" and held != 0:
        loses = f"{'its' if held is None else held} partial matches end without a word"
    return PatternPlan(
        item.name,
        _ACTIONS[item.change],
        item.before,
        item.version,
        old,
        _choices(item),
        held,
        item.drained_after_ms,
        item.detail,
        loses,
    )


def _choices(item: PlanItem) -> list[OldPartials]:
    """What could be said instead."""
    choices: list[OldPartials] = []
    if item.change in ("same structure", "changed structure", "rolled back") and item.partial_matches != "none":
        if item.can_keep:
            choices.append("keep")
        if item.can_drain:
            choices.append("drain")
        choices.append("drop")
    return choices


def described(items: Sequence[Mapping[str, object]]) -> list[PlanItem]:
    """Items as the catalog has them."""
    return [convert(item, PlanItem) for item in items]
