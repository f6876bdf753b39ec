"""How fast one token may ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from ostinato.server.failures import TooManyError

_BURST_SECONDS = 1.0
"""What was not used in the last second may be used at once."""


class Buckets:
    """A token bucket for each name, all of the same rate. Not for several threads."""

    __slots__ = ("_capacity", "_levels", "_monotonic", "_rate", "_what")

    def __init__(self, rate: int, what: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`rate` per second, 0 for no limit; `what` is counted, for the message."""
        self._rate = rate
        self._capacity = rate * _BURST_SECONDS
        self._what = what
        self._monotonic = monotonic
        self._levels: dict[str, tuple[float, float]] = {}

    def check(self, name: str) -> None:
        """Whether there is anything left; takes nothing.

        Raises:
            TooManyError: there is not.
        """
        if self._rate and (level := self._level(name, self._monotonic())) <= 0:
            self._refuse(level)

    def take(self, name: str, count: int = 1) -> None:
        """Take so many. The last that are let through may be more than were left: then later ones wait for it.

        Raises:
            TooManyError: there were none left.
        """
        if not self._rate:
            return
        now = self._monotonic()
        level = self._level(name, now)
        if level <= 0:
            self._refuse(level)
        self._levels[name] = (level - count, now)

    def charge(self, name: str, count: int) -> None:
        """Take so many of what was let through by `check`, whatever is left."""
        if self._rate:
            now = self._monotonic()
            self._levels[name] = (self._level(name, now) - count, now)

    def _level(self, name: str, now: float) -> float:
        level, at = self._levels.get(name, (self._capacity, now))
        return min(self._capacity, level + (now - at) * self._rate)

    def _refuse(self, level: float) -> None:
        wait = (1 - level) / self._rate
        raise TooManyError(f"more than {self._rate:,} {self._what} per second", wait)
