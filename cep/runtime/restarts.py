"""Whether and when a failed job is begun again. The names and the defaults are Flink's."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol


class RestartStrategy(Protocol):
    """What to do about a failure."""

    def next_delay_ms(self, now_ms: int, ran_ms: int) -> int | None:
        """A failure has come at `now_ms` (a monotonic clock), after the job had run for `ran_ms`.

        Returns how long to wait before it is begun again, None to give up.
        """

    def __str__(self) -> str:
        """As it is configured, for messages."""


@dataclass(slots=True)
class NoRestart:
    """``none``: the first failure ends the job."""

    def next_delay_ms(self, now_ms: int, ran_ms: int) -> int | None:  # noqa: ARG002 - the protocol's
        return None

    def __str__(self) -> str:
        return "none"


@dataclass(slots=True)
class FixedDelay:
    """``fixed-delay``: so many attempts in all, the same pause before each."""

    attempts: int = 3
    delay_ms: int = 1_000
    _failures: int = 0

    def next_delay_ms(self, now_ms: int, ran_ms: int) -> int | None:  # noqa: ARG002 - the protocol's
        self._failures += 1
        return self.delay_ms if self._failures <= self.attempts else None

    def __str__(self) -> str:
        return f"fixed-delay(attempts={self.attempts}, delay={self.delay_ms}ms)"


@dataclass(slots=True)
class ExponentialDelay:
    """``exponential-delay``: the pause grows with each failure, and is short again after a good while.

    Attributes:
        initial_ms: the first pause.
        max_ms: the longest.
        multiplier: how much longer each is than the one before.
        jitter: the pause is longer or shorter by up to this part of it, so that many jobs do not begin at once.
        reset_after_ms: after a run of this length the pause is the first one again.
        attempts: so many failures in a row end the job; None: however many.
    """

    initial_ms: int = 1_000
    max_ms: int = 60_000
    multiplier: float = 1.5
    jitter: float = 0.1
    reset_after_ms: int = 3_600_000
    attempts: int | None = None
    _failures: int = 0
    _chance: random.Random = field(default_factory=random.Random, repr=False)

    def next_delay_ms(self, now_ms: int, ran_ms: int) -> int | None:  # noqa: ARG002 - the protocol's
        if ran_ms >= self.reset_after_ms:
            self._failures = 0
        self._failures += 1
        if self.attempts is not None and self._failures > self.attempts:
            return None
        delay: float = self.initial_ms
        for _ in range(self._failures - 1):  # not a power of it: that overflows after some thousand failures
            if delay >= self.max_ms:
                break
            delay *= self.multiplier
        delay = min(delay, self.max_ms)
        return round(delay * (1 + self.jitter * self._chance.uniform(-1, 1)))

    def __str__(self) -> str:
        attempts = "" if self.attempts is None else f", attempts={self.attempts}"
        return (
            f"exponential-delay(initial={self.initial_ms}ms, max={self.max_ms}ms, multiplier={self.multiplier:g}, "
            f"jitter={self.jitter:g}, reset after={self.reset_after_ms}ms{attempts})"
        )


@dataclass(slots=True)
class FailureRate:
    """``failure-rate``: the job is given up when more than `max_failures` come within `interval_ms`."""

    max_failures: int = 3
    interval_ms: int = 60_000
    delay_ms: int = 1_000
    _failed_at: deque[int] = field(default_factory=deque, repr=False)

    def next_delay_ms(self, now_ms: int, ran_ms: int) -> int | None:  # noqa: ARG002 - the protocol's
        while self._failed_at and now_ms - self._failed_at[0] >= self.interval_ms:
            self._failed_at.popleft()
        self._failed_at.append(now_ms)
        return self.delay_ms if len(self._failed_at) <= self.max_failures else None

    def __str__(self) -> str:
        return f"failure-rate(max={self.max_failures}, interval={self.interval_ms}ms, delay={self.delay_ms}ms)"
