"""Answers of a server as people and programs read them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console


def as_json(value: Any) -> None:
    """Print an answer as JSON, indented."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def as_line(value: Any) -> None:
    """Print an answer as JSON in one line."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def show_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print rows as a table: a line each; on a terminal long cells are folded, and columns without anything left out.

    Args:
        head: names of the columns.
        rows: a cell for each.
        numbers: the columns whose cells stand to the right.
    """
    listed = [[_clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        kept = [place for place in range(len(head)) if any(row[place] for row in listed)]
        for place in kept:
            number = head[place] in numbers
            table.add_column(head[place], justify="right" if number else "left", overflow="fold", no_wrap=number)
        for row in listed:
            # cells are not markup: a pattern's text may have brackets
            table.add_row(*(_text(row[place]) for place in kept))
        console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *listed, strict=True)]
    for row in (list(head), *listed):
        cells = [
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def console() -> Console:
    """The terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def _text(cell: str) -> Any:
    from rich.text import Text

    return Text(cell)


def _clean(cell: str) -> str:
    """Without what would move the cursor: names and texts come from others."""
    return "".join(char if char.isprintable() else " " for char in cell)


def moment(ms: int | None) -> str:
    """A time of the wall clock, in this machine's zone; "" for none."""
    if ms is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))
    except (OverflowError, ValueError, OSError):
        return str(ms)


def event_time(ms: int | None) -> str:
    """Event time as the language writes it (UTC); "" for none."""
    if ms is None:
        return ""
    from ostinato.patterns.literals import format_timestamp

    try:
        return format_timestamp(ms)
    except ValueError:
        return str(ms)


def count(number: int | None) -> str:
    """``1,234``; "" for None."""
    return "" if number is None else f"{number:,}"


def value_text(value: Any) -> str:
    """A JSON value as text: strings as they are."""
    if isinstance(value, str):
        return value
    import msgspec

    return msgspec.json.encode(value).decode()
