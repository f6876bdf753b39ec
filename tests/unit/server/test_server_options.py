"""Durations, sizes and restart strategies as the command line gives them."""

from __future__ import annotations

import click
import pytest

from ostinato.cep.runtime.restarts import ExponentialDelay, FailureRate, FixedDelay, NoRestart
from ostinato.server.options import DURATION, SIZE
from ostinato.server.restart_option import restart_strategy


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("10s", 10_000), ("1min", 60_000), ("1 h 30 min", 5_400_000), ("1.5s", 1500)]
)
def test_durations(text: str, ms: int) -> None:
    assert DURATION.convert(text, None, None) == ms


@pytest.mark.parametrize(("text", "hint"), [("10", "10s, 10ms or 10min"), ("1.5", "1.5s"), ("soon", "500ms, 10s")])
def test_what_is_no_duration_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        DURATION.convert(text, None, None)
    assert hint in refused.value.message


@pytest.mark.parametrize(
    ("text", "size"), [("512MiB", 512 << 20), ("2GB", 2 * 10**9), ("1.5 gib", 3 << 29), ("100B", 100)]
)
def test_sizes(text: str, size: int) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["512", "much", "-1GB", "0B", "1 PB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        SIZE.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("none", NoRestart()),
        ("fixed-delay", FixedDelay()),
        ("fixed-delay attempts=5 delay=500ms", FixedDelay(5, 500)),
        ("fixed-delay attempts=5,delay=500ms", FixedDelay(5, 500)),
        ("failure-rate max=2 interval=1min delay=2s", FailureRate(2, 60_000, 2_000)),
    ],
)
def test_restart_strategies(text: str, strategy: object) -> None:
    assert restart_strategy(text) == strategy


def test_exponential_delay_with_all_its_settings() -> None:
    made = restart_strategy("exponential-delay initial=2s max=30s multiplier=2 jitter=0 reset-after=1h attempts=7")
    assert isinstance(made, ExponentialDelay)
    assert (made.initial_ms, made.max_ms, made.multiplier, made.jitter) == (2_000, 30_000, 2.0, 0.0)
    assert (made.reset_after_ms, made.attempts) == (3_600_000, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fixed", "fixed-delay"),
        ("", "exponential-delay"),
        ("none attempts=3", "it has none"),
        ("fixed-delay atempts=3", "attempts"),
        ("fixed-delay attempts", "write attempts=VALUE"),
        ("fixed-delay attempts=0", "a whole number from 1"),
        ("fixed-delay delay=5", "5s, 5ms or 5min"),
        ("exponential-delay jitter=2", "from 0 to 1"),
        ("exponential-delay multiplier=0.5", "a number from 1"),
    ],
)
def test_wrong_restart_strategies_are_refused_with_a_remedy(text: str, said: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        restart_strategy(text)
    assert said in refused.value.message
