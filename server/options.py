"""Options that several commands have."""

from __future__ import annotations

import re
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


class Duration(click.ParamType):
    """A span of time, as ``500ms``, ``10s`` or ``1min 30s``; milliseconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ostinato.patterns.literals import parse_duration

        if isinstance(value, int):
            return value
        text = str(value)
        if text.strip().replace(".", "", 1).isdigit():
            self.fail(f"{text} of what? Write {text.strip()}s, {text.strip()}ms or {text.strip()}min", param, ctx)
        try:
            return parse_duration(text)
        except ValueError as error:
            self.fail(f"{error}; write 500ms, 10s, 1min or 2h", param, ctx)


class Size(click.ParamType):
    """A number of bytes, as ``512MiB`` or ``2GB``."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write 512MiB, 2GB or 100000B", param, ctx)
        number, unit = match.groups()
        size = int(float(number) * _UNITS[unit.lower()])
        if not size:
            self.fail(f"{value!r} is nothing at all", param, ctx)
        return size


_UNITS = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4} | {
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})", re.IGNORECASE)
DURATION = Duration()
SIZE = Size()
