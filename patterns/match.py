"""What a result function is given: one match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Match(Mapping[str, Any]):
    """One match of a pattern, by the names of its stages.

    ``match["fail"]`` is a list of events where the pattern gives the stage a quantifier or puts it into a repeated
    group, and otherwise the event, or None where the stage took none (it was optional, or in another alternative).
    Stages that took nothing are absent from iteration and from ``in``.

    Attributes:
        name: the pattern's name.
        key: the value of the key column; a tuple where there are several, None where there is none.
        start, end: times of the first and the last event, in milliseconds; of a partial match that timed out `end` is
            the time when it did.
    """

    __slots__ = ("_single", "_stages", "_taken", "end", "key", "name", "start")

    def __init__(
        self,
        name: str,
        key: Any,
        start: int,
        end: int,
        taken: Mapping[str, Sequence[Any]],
        stages: frozenset[str],
        single: frozenset[str],
    ) -> None:
        """`taken`: the events of each stage; `stages`: all names; `single`: those that are given as one event."""
        self.name = name
        self.key = key
        self.start = start
        self.end = end
        self._taken = taken
        self._stages = stages
        self._single = single

    def __getitem__(self, stage: str) -> Any:
        if stage not in self._stages:
            raise KeyError(
                f"the pattern `{self.name}` has no stage `{stage}`; it has {', '.join(sorted(self._stages))}"
            )
        events = self._taken.get(stage) or ()
        if stage in self._single:
            return events[0] if events else None
        return list(events)

    def __iter__(self) -> Iterator[str]:
        return (stage for stage, events in self._taken.items() if len(events))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, stage: object) -> bool:
        return isinstance(stage, str) and len(self._taken.get(stage, ())) > 0

    def __repr__(self) -> str:
        taken = ", ".join(f"{stage}: {len(self._taken[stage])}" for stage in self)
        return f"<Match {self.name} of {self.key!r}, {taken}>"
