"""Measure the long-running server: how fast events get in, how soon matches come out, what patterns and changes cost.

    python bench/server.py [--quick] [--part ingestion arriving many applying] [--repeats 3] [--json]

Each server is a process of its own with a data directory of its own; who sends, and who follows, is this process.
docs/performance.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop
from applying import Applied, applying
from arriving import Arrival, arriving
from ingestion import Row, ingestion
from inputs import note
from many import Many, many
from measure import BenchError, load, machine

PARTS = ("ingestion", "arriving", "many", "applying")


def ingestion_table(rows: list[Row]) -> str:
    """Ways to take events in, each with its ratio to the bare servers."""
    head = (
        "| what is sent | to | events/s | requests/s | of nothing stored | of an fsync each | p50, ms | p99, ms "
        "| server's CPU, µs an event |\n| --- | --- | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.workload} | {row.way} | {row.events_per_s.said()} | {row.requests_per_s.said()} "
        f"| {row.of_answer.said('.2f')} | {row.of_store.said('.2f')} | {row.p50_ms.said('.1f')} "
        f"| {row.p99_ms.said('.1f')} | {row.cpu_us.said('.1f')} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def arriving_table(rows: list[Arrival]) -> str:
    """From the event to its match."""
    head = (
        "| events/s | matches | event to journal, p50, ms | p99, ms | event to match, p50, ms | p90, ms | p99, ms "
        "| max, ms | server's CPU | load |\n| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.events_per_s:,.0f} | {row.delays.count:,} | {row.stored.p50:.1f} | {row.stored.p99:.1f} "
        f"| {row.delays.p50:.1f} | {row.delays.p90:.1f} | {row.delays.p99:.1f} | {row.delays.most:.1f} "
        f"| {row.cpu_part:.0%} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def many_table(rows: list[Many]) -> str:
    """Numbers of patterns."""
    head = (
        "| patterns | events | events/s computed | of one pattern | matches | apply, s | load |\n"
        "| --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.patterns:,} | {row.events:,} | {row.rate.said()} | {row.ratio.said('.3f')} | {row.matches:,} "
        f"| {row.apply_s:.2f} | {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def applying_table(rows: list[Applied]) -> str:
    """Changes while events flow."""
    head = (
        "| other patterns | events/s | changes | apply to effect, p50, ms | max, ms | apply to first match, p50, ms "
        "| max, ms | longest without a match, p50, ms | max, ms | load |\n"
        "| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    )
    lines = [
        f"| {row.others} | {row.events_per_s:,.0f} | {row.changes} | {row.effect.p50:.0f} | {row.effect.most:.0f} "
        f"| {row.first_match.p50:.0f} | {row.first_match.most:.0f} | {row.between.p50:.0f} | {row.between.most:.0f} "
        f"| {row.load:.1f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


Part = tuple[Callable[[Path], Awaitable[list[Any]]], Callable[[list[Any]], str]]


def parts(repeats: int, *, quick: bool) -> dict[str, Part]:
    """What each part measures, and its table."""
    return {
        "ingestion": (lambda folder: ingestion(folder, repeats, quick=quick), ingestion_table),
        "arriving": (lambda folder: arriving(folder, quick=quick), arriving_table),
        "many": (lambda folder: many(folder, repeats, quick=quick), many_table),
        "applying": (lambda folder: applying(folder, quick=quick), applying_table),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the long-running server.")
    parser.add_argument("--quick", action="store_true", help="less input, every turn once: rough figures")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--repeats", type=int, help="turns, of which the median counts (3; quick: 1)")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    repeats = chosen.repeats or (1 if chosen.quick else 3)
    report: dict[str, Any] = {"about": f"{machine()}; median of {repeats} (least..most)"}
    if not chosen.json:
        print(f"\n{report['about']}", flush=True)
    measured = parts(repeats, quick=chosen.quick)
    for part in chosen.part:
        note(f"{part} ...")
        before = load()
        measure, table = measured[part]
        with tempfile.TemporaryDirectory(prefix="ostinato-bench-") as name:
            rows = uvloop.run(_awaited(measure(Path(name))))
        report[part] = [asdict(row) for row in rows]
        report[f"{part}_load"] = before, load()
        if not chosen.json:
            print(f"\n{table(rows)}\n\nLoad before: {before:.1f}, at the end: {load():.1f}.", flush=True)
    if chosen.json:
        print(json.dumps(report, indent=2))
    return 0


async def _awaited(rows: Awaitable[list[Any]]) -> list[Any]:
    return await rows


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
