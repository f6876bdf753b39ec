"""Conditions that only Python decides: what they are given to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ostinato.cep.event import Event


class HookContext:
    """The partial match a condition is asked about; its events are looked up when they are asked for."""

    __slots__ = ("_events", "_load", "timestamp")

    def __init__(self, load: Callable[[], Mapping[str, list[Event]]], timestamp: int) -> None:
        self._load = load
        self._events: Mapping[str, list[Event]] | None = None
        self.timestamp = timestamp

    def get_events_for_pattern(self, stage: str) -> list[Event]:
        """The events matched so far for a stage, in match order."""
        if self._events is None:
            self._events = self._load()
        return self._events.get(stage, [])
