"""Backtests: waiting for one, and what it has found, as people read it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ostinato.server.client import Client
from ostinato.server.console import Progress
from ostinato.server.http.schemas.jobs import BacktestBucket, BacktestInfo, BacktestPattern, BacktestSource
from ostinato.server.remote import shown

_FIRST_PAUSE, _MOST_PAUSE = 0.05, 1.0
_MOST_BUCKETS = 40
_BAR = 40
_OVER = frozenset({"FINISHED", "CANCELED", "FAILED"})


def source_of(given: Sequence[str]) -> BacktestSource:
    """What `--source` says.

    Raises:
        click.UsageError: it says two things.
    """
    if not given or tuple(given) == ("journal",):
        return BacktestSource()
    kafka = [text for text in given if text == "kafka" or text.startswith("kafka:")]
    if kafka:
        if len(given) > 1:
            raise click.UsageError("--source: kafka stands alone")
        return BacktestSource(kind="kafka", bootstrap_servers=kafka[0].partition(":")[2] or None)
    paths = {}
    for text in given:
        stream, equals, path = text.partition("=")
        if not equals or not stream or not path:
            raise click.UsageError(f"--source {text}: write journal, kafka, kafka:HOST:PORT or STREAM=FILE")
        paths[stream] = path
    return BacktestSource(kind="files", paths=paths)


def finished(client: Client, begun: BacktestInfo, progress: Progress) -> BacktestInfo:
    """Wait until it is over."""
    found, pause = begun, _FIRST_PAUSE
    while found.state not in _OVER:
        rate = f"{found.events:,} events  {found.events_per_second:,} events/s"
        progress.status(f"{found.state.lower()} {found.progress:4.0%}  {rate}")
        time.sleep(pause)
        pause = min(pause * 1.5, _MOST_PAUSE)
        found = client.backtest(found.id)
    progress.clear()
    return found


def report_lines(found: BacktestInfo) -> Iterator[str]:
    """What it has found, by pattern."""
    for number, pattern in enumerate(found.patterns):
        if number:
            yield ""
        yield _heading(pattern)
        yield from _bars(pattern.buckets)
        yield from _difference(pattern)


def _heading(pattern: BacktestPattern) -> str:
    text = f"{pattern.pattern}: {pattern.matches:,} match{'es' * (pattern.matches != 1)}"
    if pattern.timeouts:
        text += f", {pattern.timeouts:,} timeout{'s' * (pattern.timeouts != 1)}"
    if pattern.live is not None:
        text += f"; live: {pattern.live:,}"
    return text


def _bars(buckets: Sequence[BacktestBucket]) -> Iterator[str]:
    """A row for each span of time, neighbours put together where there are many."""
    rows = _merged(buckets)
    most = max((max(here, live or 0) for _, here, live in rows), default=0)
    for at, here, live in rows:
        bar = "█" * _length(here, most)
        beside = "" if live is None else f"  live {live:>8,} {'░' * _length(live, most)}"
        yield f"  {shown.event_time(at):23}  {here:>8,} {bar.ljust(_BAR if beside else 0)}{beside}".rstrip()


def _length(number: int, most: int) -> int:
    return max(1, round(number / most * _BAR)) if number else 0


def _merged(buckets: Sequence[BacktestBucket]) -> list[tuple[int, int, int | None]]:
    together = -(-len(buckets) // _MOST_BUCKETS) or 1
    found = []
    for first in range(0, len(buckets), together):
        part = buckets[first : first + together]
        lives = [each.live for each in part if each.live is not None]
        found.append((part[0].at_ms, sum(each.matches for each in part), sum(lives) if lives else None))
    return found


def _difference(pattern: BacktestPattern) -> Iterator[str]:
    if pattern.live is None:
        return
    if not pattern.only_here and not pattern.only_live:
        yield "  the live version has found the same"
        return
    if pattern.common is not None:
        yield f"  both have {pattern.common:,}"
    yield from _examples("only this one has", pattern.only_here, pattern.examples_here)
    yield from _examples("only the live version has", pattern.only_live, pattern.examples_live)


def _examples(what: str, number: int | None, examples: Sequence[Any]) -> Iterator[str]:
    if not number:
        return
    yield f"  {what} {number:,}" + (", as" if examples else "")
    for example in examples:
        yield f"    {shown.value_text(example)}"
