"""Matches as people and programs read them, and the newest of them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import click

from ostinato.server.client import Client, calls
from ostinato.server.http.schemas.matches import MatchInfo, RowKind
from ostinato.server.remote import shown


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which matches."""

    stream: str | None
    pattern: str | None
    kind: RowKind | None


def newest(client: Client, wanted: Wanted, most: int) -> list[MatchInfo]:
    """The newest matches that are wanted, the oldest of them first.

    The log is read forwards only: from a place near its end, and from ever farther back until there are enough.
    """
    page = client.matches(limit=1)
    span = most
    while True:
        after = max(page.first_seq - 1, page.last_seq - span, 0)
        call = calls.matches.matches(
            stream=wanted.stream, pattern=wanted.pattern, kind=wanted.kind, after=after, limit=1000
        )
        found = deque(client.every(call), maxlen=most)
        if len(found) == most or after < page.first_seq:
            return list(found)
        span *= 8


def show_matches(matches: Sequence[MatchInfo], *, as_json: bool) -> None:
    """Print them: a table on a terminal, else an object a line."""
    if as_json or not sys.stdout.isatty():
        for match in matches:
            shown.as_line(match)
        return
    if not matches:
        click.echo("no matches", err=True)
        return
    columns = list(dict.fromkeys(name for match in matches for name in match.row))
    named = len(columns) <= 8
    head = ("#", "time", "pattern", *(columns if named else ["row"]))
    shown.show_table(
        head,
        (
            (
                str(match.seq),
                shown.event_time(match.time),
                _pattern(match),
                *(
                    [shown.value_text(match.row[name]) if name in match.row else "" for name in columns]
                    if named
                    else [_row(match)]
                ),
            )
            for match in matches
        ),
        numbers=("#",),
    )


def show_match(match: MatchInfo, *, as_json: bool) -> None:
    """Print one, as it comes."""
    if as_json or not sys.stdout.isatty():
        shown.as_line(match)
    else:
        click.echo(f"{match.seq}  {shown.event_time(match.time)}  {_pattern(match)}  {_row(match)}")
    sys.stdout.flush()


def _pattern(match: MatchInfo) -> str:
    name = f"{match.pattern} v{match.version}" if match.pattern else match.stream
    return name if match.kind == "match" else f"{name} ({match.kind})"


def _row(match: MatchInfo) -> str:
    return "  ".join(f"{name}={shown.value_text(value)}" for name, value in match.row.items())
