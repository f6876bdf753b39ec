"""Times on the command line."""

from __future__ import annotations

import re
import time

import click


class Moment(click.ParamType):
    """A point in time as epoch ms: ``2026-01-02 03:04``, ``2026-01-02T03:04:05+01:00``, epoch ms, ``now``, ``-2h``."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ostinato.patterns.literals import parse_duration, parse_timestamp

        if isinstance(value, int):
            return value
        text = str(value).strip()
        now = time.time_ns() // 1_000_000
        try:
            if text == "now":
                return now
            if re.fullmatch(r"\d{11,}", text):
                return int(text)
            if text.startswith("-"):
                return now - parse_duration(text[1:])
            return parse_timestamp(text)
        except ValueError:
            self.fail(
                f"`{text}` is no time: write 2026-01-02 03:04:05 (UTC, or with an offset), epoch ms, or -2h for two "
                "hours ago",
                param,
                ctx,
            )


MOMENT = Moment()
