"""Restart strategies: when a failed job is begun again, and when it is given up."""

from __future__ import annotations

import random

import pytest

from ostinato.cep.runtime.restarts import ExponentialDelay, FailureRate, FixedDelay, NoRestart, RestartStrategy


def delays(strategy: RestartStrategy, *failures: tuple[int, int]) -> list[int | None]:
    """What a strategy says to failures, each at a moment and after a run of some length, both in ms."""
    return [strategy.next_delay_ms(now, ran) for now, ran in failures]


def test_none_gives_up_at_once() -> None:
    assert delays(NoRestart(), (0, 0)) == [None]


def test_fixed_delay_has_so_many_attempts() -> None:
    assert delays(FixedDelay(2, 500), (0, 0), (10**9, 10**9), (2 * 10**9, 10**9)) == [500, 500, None]


def test_exponential_delay_grows_up_to_its_bound() -> None:
    strategy = ExponentialDelay(100, 1_000, 2.0, jitter=0.0)
    assert delays(strategy, *[(0, 0)] * 6) == [100, 200, 400, 800, 1_000, 1_000]


def test_exponential_delay_is_short_again_after_a_good_while() -> None:
    strategy = ExponentialDelay(100, 1_000, 2.0, jitter=0.0, reset_after_ms=5_000)
    assert delays(strategy, (0, 0), (1, 4_999), (2, 5_000), (3, 0)) == [100, 200, 100, 200]


def test_exponential_delay_may_have_an_end() -> None:
    strategy = ExponentialDelay(100, 1_000, 2.0, jitter=0.0, reset_after_ms=5_000, attempts=2)
    assert delays(strategy, (0, 0), (0, 0), (0, 6_000), (0, 0), (0, 0)) == [100, 200, 100, 200, None]


def test_jitter_spreads_the_delays() -> None:
    strategy = ExponentialDelay(1_000, 1_000, 1.5, jitter=0.1, _chance=random.Random(1))
    found = [strategy.next_delay_ms(0, 0) or 0 for _ in range(200)]
    assert 900 <= min(found) < 950
    assert 1_050 < max(found) <= 1_100


def test_exponential_delay_goes_on_for_ever() -> None:
    strategy = ExponentialDelay(1_000, 60_000, 1.5, jitter=0.0)
    assert [strategy.next_delay_ms(0, 0) for _ in range(10_000)][-1] == 60_000


def test_failure_rate_counts_within_its_interval() -> None:
    strategy = FailureRate(2, 1_000, 50)
    assert delays(strategy, (0, 0), (900, 0), (1_000, 0), (1_899, 0)) == [50, 50, 50, None]


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (NoRestart(), "none"),
        (FixedDelay(3, 10), "fixed-delay(attempts=3, delay=10ms)"),
        (FailureRate(3, 60, 10), "failure-rate(max=3, interval=60ms, delay=10ms)"),
    ],
)
def test_they_say_how_they_are_configured(strategy: RestartStrategy, said: str) -> None:
    assert str(strategy) == said
    assert "attempts=4" in str(ExponentialDelay(attempts=4))
