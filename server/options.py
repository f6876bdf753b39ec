"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterable

import click


def param_values(given: Iterable[str]) -> dict[str, str]:
    """``name=value`` texts as a dict.

    Raises:
        click.UsageError: one of them is none.
    """
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--param {text}: write NAME=VALUE")
        values[name] = value
    return values
