"""What `--restart` says: a strategy by Flink's name, and its settings behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ostinato.cep.runtime.restarts import ExponentialDelay, FailureRate, FixedDelay, NoRestart, RestartStrategy
from ostinato.patterns.errors import did_you_mean
from ostinato.server.options import DURATION

_Reader = Callable[[str], Any]


def _duration(text: str) -> int:
    return DURATION.convert(text, None, None)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _part(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def _factor(text: str) -> float:
    value = float(text)
    if not 1 <= value < float("inf"):
        raise ValueError
    return value


_EXPECTED: Mapping[_Reader, str] = {
    _count: "a whole number from 1",
    _part: "a number from 0 to 1",
    _factor: "a number from 1",
}
_STRATEGIES: Mapping[str, tuple[Callable[..., RestartStrategy], Mapping[str, tuple[str, _Reader]]]] = {
    "none": (NoRestart, {}),
    "fixed-delay": (FixedDelay, {"attempts": ("attempts", _count), "delay": ("delay_ms", _duration)}),
    "exponential-delay": (
        ExponentialDelay,
        {
            "initial": ("initial_ms", _duration),
            "max": ("max_ms", _duration),
            "multiplier": ("multiplier", _factor),
            "jitter": ("jitter", _part),
            "reset-after": ("reset_after_ms", _duration),
            "attempts": ("attempts", _count),
        },
    ),
    "failure-rate": (
        FailureRate,
        {"max": ("max_failures", _count), "interval": ("interval_ms", _duration), "delay": ("delay_ms", _duration)},
    ),
}


def restart_strategy(text: str) -> RestartStrategy:
    """The strategy that a text names: ``fixed-delay attempts=3 delay=1s``.

    Raises:
        click.UsageError: it names none, or a setting is not one of its own.
    """
    name, *settings = text.replace(",", " ").split() or [""]
    if name not in _STRATEGIES:
        hint = did_you_mean(name, _STRATEGIES) or f"they are {', '.join(_STRATEGIES)}"
        raise click.UsageError(f"--restart: there is no strategy `{name}`; {hint}")
    make, known = _STRATEGIES[name]
    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in known:
            hint = did_you_mean(key, known) or (f"it has {', '.join(known)}" if known else "it has none")
            raise click.UsageError(f"--restart {name}: there is no setting `{key}`; {hint}")
        if not equals or not value:
            raise click.UsageError(f"--restart {name}: write {key}=VALUE")
        field, read = known[key]
        try:
            given[field] = read(value)
        except ValueError:
            raise click.UsageError(f"--restart {name}: {key}={value}: expected {_EXPECTED[read]}") from None
        except click.BadParameter as error:
            raise click.UsageError(f"--restart {name}: {key}={value}: {error.message}") from None
    return make(**given)
